"""How many random bits an update needs: with few, stochastic rounding shrinks weights."""

import itertools
from typing import Any

import torch

from hfp8sim.training.studies import runs
from hfp8sim.training.studies.frame import Case, Check, Metric, Study, StudyRecord, Values

BITS = {f"{bits} bits": bits for bits in (24, 16, 13, 10, 8, 6)}
MASTER = "binary32 weights"
NORM, LOSS = "weight norm", "training loss"


def measure(case: Case) -> Values:
    """A run at a small rate, and the norm of all weights of emulated layers at its end."""
    changes: dict[str, Any] = {"rule": "master"}
    if case.arm != MASTER:
        changes = {"rule": "axpy", "update.random_bits": BITS[case.arm]}
    run = runs.train(
        runs.MLP, runs.changed(changes), case.seed, rate=0.001, momentum=0.0, decay=0.0, batch=32,
        steps=25 if case.quick else 400,
    )  # fmt: skip
    weights = [p for p in run.model.parameters() if p.ndim > 1]
    norm = torch.cat([w.detach().flatten().double() for w in weights]).norm().item()
    return {NORM: norm} | runs.chosen(runs.metrics(run), LOSS, "stuck")


def judge(record: StudyRecord) -> list[Check]:
    """Enough bits leave the norm alone; few shrink it."""
    most, fewest = "24 bits", "6 bits"
    kept, lost = (record.difference(NORM, arm, MASTER) for arm in (most, fewest))
    order = [record.mean(NORM, arm) for arm in BITS]
    return [
        Check(
            f"With {fewest} the norm ends {lost.mean:+.3f} from that of binary32 weights"
            f" (95 % margin {lost.margin:.3f}); wanted: lower beyond the margin",
            lost.mean < 0 and lost.differs,
        ),
        Check(
            f"With {most} it ends {kept.mean:+.4f} from it; wanted: at most a tenth of that",
            abs(kept.mean) <= abs(lost.mean) / 10,
        ),
        Check(
            "The norm falls with every step from 24 to 6 bits: "
            + ", ".join(f"{norm:.3f}" for norm in order),
            all(a >= b - 5e-4 for a, b in itertools.pairwise(order)),
        ),
    ]


STUDY = Study(
    "random-bits",
    "Too few random bits act as weight decay",
    "Hardware adds r random bits below the last place and truncates. Updates below 2^−r of a step then never"
    " raise a magnitude but still lower it, so weights shrink.",
    "follows from the rounding of numerics.md, section 2; no paper states a number of bits",
    "A network of four linear layers on digits, HFP8 products, SGD without momentum or weight decay, rate 0.001,"
    " 400 steps of 32 images. Weights in 1-6-9, stochastic with r random bits.",
    {MASTER: "rule master"} | {arm: f"rule axpy, r = {bits}" for arm, bits in BITS.items()},
    (Metric(NORM, digits=3), Metric(LOSS, "nats"), Metric("stuck", "%", 1)),
    measure,
    judge,
    seeds=5,
)
