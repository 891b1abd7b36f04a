"""The input of a softmax over many classes: quantise first, or subtract the maximum first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hfp8sim.ops import round_values
from hfp8sim.ops.updates import softmax_input
from hfp8sim.training.studies.frame import Case, Check, Metric, Study, StudyRecord, Values
from hfp8sim.units.sites import Site

FIRST, AFTER, WIDE = "1-4-3, then subtract", "subtract, then 1-4-3", "1-6-9"
TIES, ERROR = "ties with the maximum", "error of the label's probability"
_DEVIATION, _LEAD = 2.0, 0.4


def measure(case: Case) -> Values:
    """Rows of logits, their mean shifted by 10: the class of the label leads by 0.4."""
    rng = np.random.default_rng(case.seed)
    rows = 8 if case.quick else 64
    z = rng.normal(10.0, _DEVIATION, (rows, case.at)).astype(np.float32)
    z[:, 0] = z[:, 1:].max(1) + _LEAD
    quantised = _quantised(case.arm, z)
    probability, wanted = _softmax(quantised)[:, 0], _softmax(z)[:, 0]
    return {
        TIES: float((quantised == quantised.max(1, keepdims=True)).sum(1).mean()),
        ERROR: float(100 * (abs(probability - wanted) / wanted).mean()),
    }


def _quantised(arm: str, z: NDArray[np.float32]) -> NDArray[np.float32]:
    site = Site("dlfloat16")
    if arm == WIDE:
        return softmax_input(z, site, step=1)
    if arm == FIRST:
        coarse = _coarse(z)
        return np.asarray(coarse - coarse.max(1, keepdims=True), np.float32)
    differences = softmax_input(z, site, step=1)
    return _coarse(differences)


def _coarse(z: NDArray[np.float32]) -> NDArray[np.float32]:
    return round_values(z, "hfp8-143", "nearest-away", threads=1)[0]


def _softmax(z: NDArray[np.float32]) -> NDArray[np.float64]:
    exponentials = np.exp(z.astype(np.float64) - z.max(1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(1, keepdims=True))


def judge(record: StudyRecord) -> list[Check]:
    """Quantised first, classes tie and probabilities are wrong."""
    most = max(record.points)
    ties = [record.mean(TIES, arm, most) for arm in (FIRST, AFTER)]
    errors = [record.mean(ERROR, arm, most) for arm in (FIRST, AFTER)]
    return [
        Check(
            f"With {most} classes {ties[0]:.1f} of them share the maximum if the logits are quantised first, {ties[1]:.2f}"
            " if the maximum is subtracted first; wanted: more than one against one",
            ties[0] > 1.5 and ties[1] < 1.05,
        ),
        Check(
            f"The label's probability is off by {errors[0]:.0f} % against {errors[1]:.1f} %; wanted: a tenth or less",
            errors[1] <= errors[0] / 10,
        ),
    ]


STUDY = Study(
    "last-layer",
    "Subtract the maximum before the softmax's input is quantised",
    "The last layer's loss of accuracy in 8 bits comes from the softmax's input: quantised before its maximum is"
    " subtracted, it costs a point of BLEU at 42,720 classes.",
    "Sun et al., NeurIPS 2019; Wang et al., NeurIPS 2018",
    "Logits drawn from N(10, 2²), not trained ones; the label's class leads by 0.4. 64 rows for each number of classes."
    " Numbers are those of the softmax's input; no accuracy is measured.",
    {
        WIDE: "maximum subtracted in 1-6-9, not quantised further",
        AFTER: "maximum subtracted in 1-6-9, then 1-4-3",
        FIRST: "1-4-3, then the maximum subtracted",
    },
    (Metric(ERROR, "%", 2, log=True), Metric(TIES, "classes", 2)),
    measure,
    judge,
    Metric("classes", "", 0, log=True),
    (10, 1000, 42720),
    (10, 1000),
)
