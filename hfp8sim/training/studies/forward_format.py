"""Direct quantisation of trained networks: 1-4-3 against 1-5-2 in the forward pass."""

from hfp8sim.training.studies import inference
from hfp8sim.training.studies.frame import Case, Check, Metric, Study, StudyRecord, Values

#: Format of activations and weights, and profile of depthwise layers.
ARMS = {
    "cnn, 1-5-2": ("cnn", "hfp8-152", ""),
    "cnn, 1-4-3": ("cnn", "hfp8-143", ""),
    "cnn, 1-4-3 at bias 7": ("cnn", "hfp8-143@7", ""),
    "mobile, 1-5-2": ("mobile", "hfp8-152", ""),
    "mobile, 1-4-3": ("mobile", "hfp8-143", ""),
    "mobile, depthwise 1-6-9": ("mobile", "hfp8-143", "fp16"),
}
SQNR, ACCURACY = "logit SQNR", "accuracy"


def measure(case: Case) -> Values:
    """The trained network in a format."""
    network, fmt, depthwise = ARMS[case.arm]
    model = inference.quantised(network, case.seed, case.quick, fmt, depthwise)
    result = inference.score(model, network, case.seed, case.quick)
    reference = inference.score(
        inference.trained(network, case.seed, case.quick).model, network, case.seed, case.quick
    )
    assert result.logit_sqnr is not None
    return {
        SQNR: result.logit_sqnr,
        ACCURACY: 100 * result.accuracy,
        "accuracy lost": 100 * (reference.accuracy - result.accuracy),
    }


def judge(record: StudyRecord) -> list[Check]:
    """A fraction bit is worth 6 dB; accuracy on digits sees little of it."""
    cnn = record.difference(SQNR, "cnn, 1-4-3", "cnn, 1-5-2")
    mobile = record.difference(SQNR, "mobile, 1-4-3", "mobile, 1-5-2")
    depthwise = record.difference(SQNR, "mobile, depthwise 1-6-9", "mobile, 1-4-3")
    checks = [
        Check(
            f"{name}: {sample.mean:+.1f} dB (95 % margin {sample.margin:.1f}); wanted: higher beyond the margin",
            sample.mean > 0 and sample.differs,
        )
        for name, sample in (
            ("1-4-3 against 1-5-2, cnn", cnn),
            ("1-4-3 against 1-5-2, mobile", mobile),
            ("depthwise layers in 1-6-9 against 1-4-3, mobile", depthwise),
        )
    ]
    losses = {arm: record.mean("accuracy lost", arm) for arm in ARMS}
    coarse = max(losses["cnn, 1-5-2"], losses["mobile, 1-5-2"])
    fine = max(losses["cnn, 1-4-3"], losses["mobile, 1-4-3"])
    return [
        *checks,
        Check(
            f"Accuracy: 1-5-2 loses {coarse:.2f} points at most, 1-4-3 {fine:.2f}; wanted: 1-5-2 loses a point more",
            coarse >= fine + 1,
        ),
    ]


STUDY = Study(
    "forward-format",
    "The forward pass needs a third fraction bit",
    "Trained networks quantised directly to 1-4-3 keep their accuracy; in 1-5-2, networks such as MobileNet lose"
    " some. Depthwise layers are kept in 16 bits.",
    "Sun et al., NeurIPS 2019",
    "Networks cnn and mobile (depthwise, as MobileNetV2), trained on digits in binary32 for 315 steps of 64 images;"
    " then activations and weights in a format, first and last layer in 1-6-9. SQNR of the logits against the"
    " trained network, 400 test images.",
    {
        arm: f"{network} with hfp8 products, activations and weights in {fmt}"
        + (", depthwise layers with profile fp16" if depthwise else "")
        for arm, (network, fmt, depthwise) in ARMS.items()
    },
    (Metric(SQNR, "dB", 1), Metric(ACCURACY, "%", 2), Metric("accuracy lost", "points", 2)),
    measure,
    judge,
)
