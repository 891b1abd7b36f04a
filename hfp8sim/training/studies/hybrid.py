"""The window of loss scales in which training works, for errors in 1-5-2 and in 1-4-3."""

import math

from hfp8sim.training.studies import runs
from hfp8sim.training.studies.frame import Case, Check, Metric, Study, StudyRecord, Values

FORMATS = {"errors 1-5-2": "hfp8-152", "errors 1-4-3": "hfp8-143"}
LOSS, LOST, CLAMPED = "training loss", "weights without gradient", "errors saturated"
#: A run works if its training loss is at most so many times the lowest of all.
_FACTOR = 1.5


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
    best = min(
        record.mean(LOSS, a, at)
        for a in FORMATS
        for at in record.points
        if math.isfinite(record.mean(LOSS, a, at))
    )
    return [at for at in record.points if max(record.values(LOSS, arm, at)) <= _FACTOR * best]


def judge(record: StudyRecord) -> list[Check]:
    """1-5-2 works at more scales than 1-4-3."""
    wide, narrow = (window(record, arm) for arm in FORMATS)

    def text(powers: list[int]) -> str:
        return f"2^{powers[0]} … 2^{powers[-1]}" if powers else "none"

    return [
        Check(
            f"Scales that work (training loss within {_FACTOR:g} times the lowest, every seed): {text(wide)} with errors"
            f" in 1-5-2, {text(narrow)} in 1-4-3; wanted: more with 1-5-2",
            len(wide) > len(narrow),
        ),
        Check(
            "1-4-3 trains as well as 1-5-2 at its best scale: range, not precision, sets the errors' format; its lowest"
            f" loss is {min(record.mean(LOSS, 'errors 1-4-3', at) for at in record.points):.4f} nats against"
            f" {min(record.mean(LOSS, 'errors 1-5-2', at) for at in record.points):.4f}",
            bool(narrow),
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
    " 0.01.",
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
