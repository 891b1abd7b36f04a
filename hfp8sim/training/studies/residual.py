"""8-bit weights with a 16-bit residual, in the three orders of the sum, and without residual."""

from hfp8sim.training.studies import runs
from hfp8sim.training.studies.frame import Case, Check, Metric, Study, StudyRecord, Values

_EIGHT = {"update.format": "hfp8-143", "update.overflow": "saturate"}
_PLAIN = {f"{site}.format": "binary32" for site in ("unscale", "decay", "momentum")} | {
    f"{site}.rounding": "nearest-even" for site in ("unscale", "decay", "momentum")
}
#: Gradient and momentum are binary32 in every arm, so that the weight's rounding is the only difference.
RECIPES = {
    "binary32 weights": runs.changed({"rule": "master"}),
    "residual, wide": runs.changed({"rule": "residual-wide", **_PLAIN}),
    "residual, small first": runs.changed({"rule": "residual-small", **_PLAIN}),
    "residual, naive": runs.changed({"rule": "residual-naive", **_PLAIN}),
    "8 bits, stochastic": runs.changed({"rule": "axpy", **_PLAIN, **_EIGHT}),
    "8 bits, nearest": runs.changed(
        {"rule": "axpy", **_PLAIN, **_EIGHT, "update.rounding": "nearest-away"}
    ),
}
LOSS = "training loss"


def measure(case: Case) -> Values:
    """A short run with a small learning rate."""
    run = runs.train(
        runs.MLP, RECIPES[case.arm], case.seed, rate=case.at, momentum=0.9, decay=1e-4, batch=32,
        steps=25 if case.quick else 400,
    )  # fmt: skip
    return runs.chosen(runs.metrics(run), LOSS, "accuracy", "stuck")


def judge(record: StudyRecord) -> list[Check]:
    """With a residual as binary32; without, and in the naive order, worse."""
    slow = min(record.points)
    master, wide, small, naive, _, nearest = RECIPES
    losses = {arm: record.difference(LOSS, arm, master, slow) for arm in RECIPES}
    base = losses[nearest].mean

    def near(arm: str) -> Check:
        return Check(
            f"At rate {slow:g}, {arm} ends {losses[arm].mean:+.4f} nats from binary32 weights;"
            f" wanted: at most a tenth of what 8 bits without residual lose ({base:+.3f})",
            abs(losses[arm].mean) <= abs(base) / 10,
        )

    naive_loss = record.difference(LOSS, naive, wide, slow)
    return [
        near(wide),
        near(small),
        Check(
            f"8-bit weights without residual, rounded to nearest, end {base:+.3f} nats higher"
            f" (95 % margin {losses[nearest].margin:.3f}); wanted: beyond the margin",
            base > 0 and losses[nearest].differs,
        ),
        Check(
            f"The naive order ends {naive_loss.mean:+.3f} nats from the wide one"
            f" (margin {naive_loss.margin:.3f}); wanted: higher beyond the margin",
            naive_loss.mean > 0 and naive_loss.differs,
        ),
    ]


STUDY = Study(
    "residual",
    "8-bit weights with a 16-bit residual train like binary32",
    "Weights can be kept in 8 bits if what each update's rounding loses is kept in a 16-bit residual.",
    "Sun et al., NeurIPS 2019; the orders of the sum are a choice of this project",
    "A network of four linear layers on digits, HFP8 products in every arm, SGD with momentum, 400 steps of 32"
    " images, the rate falling to 0 as a half cosine from the value below. Gradient and momentum are binary32. First and"
    " last layer multiply in 16 bits; where the other layers have 8-bit weights, these two have 1-6-9 weights.",
    {
        "binary32 weights": "rule master",
        "residual, wide": "rule residual-wide: the sum of weight, step and residual in binary32",
        "residual, small first": "rule residual-small: step and residual are added first, in 1-6-9",
        "residual, naive": "rule residual-naive: the sum rounded to 1-6-9 before the weight is taken",
        "8 bits, stochastic": "rule axpy: 1-4-3 weights without residual, stochastic",
        "8 bits, nearest": "the same, to nearest",
    },
    (Metric(LOSS, "nats", log=True), Metric("accuracy", "%", 2), Metric("stuck", "%", 1)),
    measure,
    judge,
    Metric("learning rate", log=True),
    (0.0005, 0.01),
    seeds=3,
)
