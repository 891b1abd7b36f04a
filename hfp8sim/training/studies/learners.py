"""HFP8's distributed update with 1 to 8 learners: accuracy, bits and bytes."""

from __future__ import annotations

import functools

import torch

from hfp8sim.training.distributed.runs import ManyLearners
from hfp8sim.training.runs import Settings
from hfp8sim.training.studies import runs
from hfp8sim.training.studies.frame import Case, Check, Metric, Study, StudyRecord, Values

_EIGHT = {"update.format": "hfp8-143", "update.overflow": "saturate"}
RECIPES = {
    "binary32 weights": runs.changed({"rule": "master"}),
    "residual, wide": runs.changed({"rule": "residual-wide"}),
    "residual, naive": runs.changed({"rule": "residual-naive"}),
    "8 bits, no residual": runs.changed(
        {"rule": "axpy", **_EIGHT, "update.rounding": "nearest-away"}
    ),
}
LOSS, OTHER, SENT = "training loss", "weights unlike N = 1", "bytes per weight"


@functools.lru_cache(64)
def trained(arm: str, seed: int, learners: int, steps: int) -> ManyLearners:
    """A run of one arm."""
    run = ManyLearners(
        Settings(
            runs.MLP, recipe=RECIPES[arm], seed=seed, rate=0.01, decay=1e-4, batch=64, steps=steps,
            learners=learners,
        ),
        threads=1,
    )  # fmt: skip
    run.train()
    return run


def measure(case: Case) -> Values:
    """The same batches for every number of learners."""
    steps = 6 if case.quick else 150
    run, one = (trained(case.arm, case.seed, n, steps) for n in (int(case.at), 1))
    weights = [torch.cat([p.detach().flatten() for p in r.model.parameters()]) for r in (run, one)]
    sent = sum(t.total("reduce-scatter") + t.total("all-gather") for t in run.optimiser.traffic)
    values = runs.chosen(runs.metrics(run), LOSS, "accuracy")
    values[OTHER] = 100 * float((weights[0] != weights[1]).float().mean())
    values[SENT] = sent / run.settings.learners / steps / weights[0].numel()
    return values


def judge(record: StudyRecord) -> list[Check]:
    """With the residual any number of learners trains as binary32; without it none does."""
    most = max(record.points)
    control, wide, _, none = RECIPES
    loss = record.difference(LOSS, wide, control, most)
    lost = record.difference(LOSS, none, control, most)
    sent = record.mean(SENT, wide, most) / record.mean(SENT, control, most)
    other = record.mean(OTHER, wide, most)
    return [
        Check(
            f"With {most:g} learners, residual weights end {loss.mean:+.4f} nats from binary32 weights;"
            f" wanted: at most a tenth of what 8 bits without residual lose ({lost.mean:+.3f})",
            abs(loss.mean) <= abs(lost.mean) / 10,
        ),
        Check(
            f"8-bit weights without residual end {lost.mean:+.3f} nats higher (95 % margin {lost.margin:.3f});"
            " wanted: beyond the margin",
            lost.mean > 0 and lost.differs,
        ),
        Check(
            f"{other:.1f} % of the weights differ from those of one learner: the number of learners is part of the"
            " bits; wanted: some",
            other > 0,
        ),
        Check(
            f"Residual weights send {sent:.2f} of the bytes of binary32 weights and gradients; wanted: 3/8, and a little for biases",
            3 / 8 <= sent < 1 / 2,
        ),
    ]


STUDY = Study(
    "learners",
    "Learners that each update a share of 8-bit weights train like one",
    "Gradients can be summed in 16 bits over learners, each of which updates its share of the weights with a residual"
    " and sends them in 8 bits.",
    "Sun et al., NeurIPS 2019, section 4; ring order and roundings are a choice of this project",
    "A network of four linear layers on digits, HFP8 products, SGD with momentum, 150 steps of 64 images shared by N"
    " learners in one process. Sums over learners in 1-6-9, first and last layer in 16 bits.",
    {
        "binary32 weights": "rule master: weights are gathered in 4 bytes",
        "residual, wide": "rule residual-wide",
        "residual, naive": "rule residual-naive",
        "8 bits, no residual": "1-4-3 weights without residual, to nearest",
    },
    (
        Metric(LOSS, "nats", log=True), Metric("accuracy", "%", 2), Metric(OTHER, "%", 1),
        Metric(SENT, "", 2),
    ),
    measure,
    judge,
    Metric("learners", log=True),
    (1, 2, 4, 8),
    quick_points=(1, 4),
    seeds=3,
    quick_seeds=1,
)  # fmt: skip
