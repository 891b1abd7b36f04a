"""Re-tuning of batch normalisation after direct quantisation, with re-tuned binary32 as control."""

import copy
import dataclasses

from hfp8sim.formats import FloatFormat, get_format
from hfp8sim.training.studies import inference
from hfp8sim.training.studies.frame import Case, Check, Metric, Study, StudyRecord, Values

NETWORK = "mobile"


def _coarse(fraction_bits: int) -> FloatFormat:
    """1-5-2 with fewer fraction bits."""
    return dataclasses.replace(
        get_format("hfp8-152"), name=f"1-5-{fraction_bits}", fraction_bits=fraction_bits
    )


#: Formats of activations and weights; None leaves the network in binary32.
FORMATS: dict[str, FloatFormat | None] = {
    "binary32": None,
    "1-4-3": get_format("hfp8-143"),
    "1-5-2": get_format("hfp8-152"),
    "1-5-1": _coarse(1),
    "1-5-0": _coarse(0),
}
BEFORE, AFTER, GAIN = "SQNR before", "SQNR after", "gain"


def measure(case: Case) -> Values:
    """A quantised network before and after re-tuning."""
    fmt = FORMATS[case.arm]
    size = case.seed, case.quick
    model = (
        inference.quantised(NETWORK, *size, fmt)
        if fmt
        else copy.deepcopy(inference.trained(NETWORK, *size).model)
    )
    before = inference.score(model, NETWORK, *size)
    inference.retune(model, case.seed)
    after = inference.score(model, NETWORK, *size)
    assert before.logit_sqnr is not None and after.logit_sqnr is not None
    values = {
        AFTER: after.logit_sqnr,
        "accuracy before": 100 * before.accuracy,
        "accuracy after": 100 * after.accuracy,
    }
    if fmt:
        values |= {BEFORE: before.logit_sqnr, GAIN: after.logit_sqnr - before.logit_sqnr}
    return values


def judge(record: StudyRecord) -> list[Check]:
    """Coarse formats gain; 1-4-3 needs nothing."""
    checks = []
    for arm in list(FORMATS)[2:]:
        gain = record.sample(GAIN, arm)
        checks.append(
            Check(
                f"{arm}: re-tuning changes the logit SQNR by {gain.mean:+.1f} dB (95 % margin {gain.margin:.1f});"
                " wanted: higher beyond the margin",
                gain.mean > 0 and gain.differs,
            )
        )
    coarse = "1-5-0"
    lost = record.mean("accuracy after", "binary32") - record.mean("accuracy before", coarse)
    won = record.mean("accuracy after", coarse) - record.mean("accuracy before", coarse)
    fine = record.sample(GAIN, "1-4-3")
    return [
        *checks,
        Check(
            f"{coarse}: re-tuning wins {won:+.1f} points of accuracy; wanted: half of the {lost:.1f} lost",
            won >= lost / 2 > 0,
        ),
        Check(
            f"1-4-3: re-tuning changes the SQNR by {fine.mean:+.1f} dB; wanted: within 3 dB, nothing to repair",
            abs(fine.mean) <= 3,
        ),
    ]


STUDY = Study(
    "batchnorm",
    "Batch normalisation re-tuned after direct quantisation",
    "Networks quantised without retraining lose accuracy mostly through statistics of batch normalisation that no"
    " longer fit; recomputing them regains it.",
    "Sun et al., NeurIPS 2019",
    f"Network {NETWORK} trained on digits in binary32 for 315 steps; activations and weights in a format, first and last"
    " layer in 1-6-9. Statistics are averages over 20 batches of 64 training images. SQNR of the logits against the"
    " trained network; a re-tuned binary32 network is the control.",
    {
        arm: f"activations and weights in {arm}" if fmt else "the trained network itself"
        for arm, fmt in FORMATS.items()
    },
    (
        Metric(AFTER, "dB", 1), Metric(BEFORE, "dB", 1), Metric(GAIN, "dB", 1),
        Metric("accuracy before", "%", 2), Metric("accuracy after", "%", 2),
    ),
    measure,
    judge,
)  # fmt: skip
