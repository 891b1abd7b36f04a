"""The window of loss scales in which training works, for errors in 1-5-2 and in 1-4-3."""

from hfp8sim.training.studies import runs
from hfp8sim.training.studies.frame import Case, Check, Metric, Study, StudyRecord, Values

FORMATS = {"errors 1-5-2": "hfp8-152", "errors 1-4-3": "hfp8-143"}
LOSS, LOST, CLAMPED = "training loss", "weights without gradient", "errors saturated"
#: A scale works if every seed's training loss is at most so many times that seed's lowest, over the scales of its arm.
_FACTOR = 1.5
#: Powers of two by which the window of 1-5-2 must be wider.
_WIDER = 10


def measure(case: Case) -> Values:
    """A deep network with a static scale."""
    recipe = runs.changed(
        {
            "error.format": FORMATS[case.arm], "rule": "master", "policy": "",
            "loss_scale.kind": "static", "loss_scale.start": 2.0**case.at,
        }
    )  # fmt: skip
    run = runs.train(
        runs.DEEP_MLP, recipe, case.seed, rate=0.01, momentum=0.9, decay=1e-4, batch=32,
        steps=25 if case.quick else 160,
    )  # fmt: skip
    return runs.chosen(runs.metrics(run), LOSS) | {
        LOST: runs.without_gradient(run.model),
        CLAMPED: runs.saturated(run.model),
    }


def window(record: StudyRecord, arm: str) -> list[int]:
    """The powers of two at which every seed works."""
    losses = {at: record.values(LOSS, arm, at) for at in record.points}
    best = [min(of_seed) for of_seed in zip(*losses.values(), strict=True)]
    return [
        at
        for at, values in losses.items()
        if all(value <= _FACTOR * least for value, least in zip(values, best, strict=True))
    ]


def judge(record: StudyRecord) -> list[Check]:
    """1-5-2 works at more scales than 1-4-3, which is as good at its best one."""
    windows = {arm: window(record, arm) for arm in FORMATS}
    wide, narrow = (max(w) - min(w) if w else 0 for w in windows.values())
    texts = [f"2^{min(w)} … 2^{max(w)}" if w else "none" for w in windows.values()]
    lowest = [min(record.mean(LOSS, arm, at) for at in record.points) for arm in FORMATS]
    return [
        Check(
            f"Scales that work: {texts[0]} with errors in 1-5-2, {texts[1]} in 1-4-3; wanted: {_WIDER} powers of two more"
            " with 1-5-2",
            wide - narrow >= _WIDER,
        ),
        Check(
            f"At its best scale 1-4-3 ends at {lowest[1]:.4f} nats, 1-5-2 at {lowest[0]:.4f}; wanted: no higher than"
            f" {_FACTOR:g} times, since errors need range and not the third fraction bit",
            lowest[1] <= _FACTOR * lowest[0],
        ),
    ]


STUDY = Study(
    "hybrid",
    "Errors need range: the window of loss scales",
    "The backward pass needs the range of five exponent bits, and the forward pass the third fraction bit: so two"
    " 8-bit formats.",
    "Sun et al., NeurIPS 2019",
    "Ten linear layers on digits without normalisation, so that errors shrink from layer to layer; static loss"
    " scales, binary32 weights, HFP8 products in every layer, 160 steps of 32 images, SGD with momentum from rate"
    " 0.01. A scale works if every seed's training loss is at most 1.5 times that seed's lowest over the scales.",
    {
        "errors 1-5-2": "errors in hfp8-152",
        "errors 1-4-3": "errors in hfp8-143, as activations and weights",
    },
    (Metric(LOSS, "nats", log=True), Metric(LOST, "%", 1), Metric(CLAMPED, "%", 2)),
    measure,
    judge,
    Metric("loss scale", "power of two", 0),
    (-8, -2, 4, 10, 16, 20, 24),
    (-8, 10, 24),
    seeds=3,
)
