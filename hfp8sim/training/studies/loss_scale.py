"""Loss scaling: what 1-5-2 errors flush without it, and what that costs a language model."""

from hfp8sim.training.studies import runs
from hfp8sim.training.studies.frame import Case, Check, Metric, Study, StudyRecord, Values

CONTROL = "fp32"
RECIPES = {
    CONTROL: runs.changed({}, "fp32"),
    "scale 1024": runs.changed({"loss_scale.kind": "static", "loss_scale.start": 1024.0}),
    "scale 1": runs.changed({"loss_scale.kind": "none"}),
}
LOSS, LOST = "test loss", "weights without gradient"


def measure(case: Case) -> Values:
    """A small language model, and the share of its weights that got no gradient in the last step."""
    run = runs.train(
        "transformer", RECIPES[case.arm], case.seed, data="help-text", optimiser="adam", rate=2e-3,
        decay=0.0, batch=8, steps=6 if case.quick else 80,
    )  # fmt: skip
    return runs.chosen(runs.metrics(run), LOSS, "training loss") | {
        LOST: runs.without_gradient(run.model)
    }


def judge(record: StudyRecord) -> list[Check]:
    """With a scale as binary32, without behind."""
    scaled = record.difference(LOSS, "scale 1024", CONTROL)
    bare = record.difference(LOSS, "scale 1", CONTROL)
    shares = [record.mean(LOST, arm) for arm in ("scale 1024", "scale 1")]
    return [
        Check(
            f"Without scaling the test loss ends {bare.mean:+.3f} nats from fp32 (95 % margin"
            f" {bare.margin:.3f}); wanted: higher beyond the margin",
            bare.mean > 0 and bare.differs,
        ),
        Check(
            f"With scale 1024 it ends {scaled.mean:+.4f} nats from fp32; wanted: at most a tenth of that",
            abs(scaled.mean) <= abs(bare.mean) / 10,
        ),
        Check(
            f"The gradient of {shares[1]:.0f} % of the weights is 0 without scaling, of {shares[0]:.0f} % with it; wanted: fewer"
            " with it",
            shares[0] < shares[1],
        ),
    ]


STUDY = Study(
    "loss-scale",
    "Errors in 1-5-2 need loss scaling",
    "Errors in an 8-bit format with five exponent bits keep their range only if the loss is scaled.",
    "Sun et al., NeurIPS 2019; Mellempudi et al., 2019",
    "A Transformer language model of two layers on the characters of Python's help topics, Adam from rate 0.002,"
    " 80 steps of 8 windows of 64 characters.",
    {
        CONTROL: "binary32, not emulated",
        "scale 1024": "recipe hfp8 with a static loss scale of 1024",
        "scale 1": "recipe hfp8 without loss scale",
    },
    (Metric(LOSS, "nats", 3), Metric("training loss", "nats", 3), Metric(LOST, "%", 1)),
    measure,
    judge,
    seeds=5,
)
