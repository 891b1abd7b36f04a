"""Stochastic rounding of 16-bit updates, against nearest rounding, over learning rates."""

from hfp8sim.training.studies import runs
from hfp8sim.training.studies.frame import Case, Check, Metric, Study, StudyRecord, Values

#: Each recipe computes products as hfp8 does; the weights' rule differs.
_SITES = ("unscale", "decay", "momentum", "update")
RECIPES = {
    "binary32 weights": runs.changed({"rule": "master"}),
    "1-6-9 stochastic": runs.changed({"rule": "axpy"}),
    "1-6-9 nearest": runs.changed(
        {"rule": "axpy", **{f"{site}.rounding": "nearest-even" for site in _SITES}}
    ),
}
LOSS = "training loss"


def measure(case: Case) -> Values:
    """A short run from a learning rate."""
    run = runs.train(
        runs.MLP, RECIPES[case.arm], case.seed, rate=case.at, momentum=0.9, decay=1e-4, batch=32,
        steps=25 if case.quick else 400,
    )  # fmt: skip
    return runs.metrics(run)


def judge(record: StudyRecord) -> list[Check]:
    """Stochastic rounding follows binary32 weights where nearest rounding falls behind."""
    slow, fast = min(record.points), max(record.points)
    master, stochastic, nearest = RECIPES
    lost = record.difference(LOSS, nearest, master, slow)
    kept = record.difference(LOSS, stochastic, master, slow)
    hidden = record.difference(LOSS, nearest, master, fast)
    return [
        Check(
            f"At rate {slow:g} nearest rounding ends {lost.mean:+.3f} nats from binary32 weights"
            f" (95 % margin {lost.margin:.3f}); wanted: higher beyond the margin",
            lost.mean > 0 and lost.differs,
        ),
        Check(
            f"There stochastic rounding ends {kept.mean:+.3f} nats from them; wanted: at most a tenth of that",
            abs(kept.mean) <= abs(lost.mean) / 10,
        ),
        Check(
            f"At rate {fast:g} nearest rounding loses {hidden.mean:+.4f} nats; wanted: less than at {slow:g}",
            abs(hidden.mean) < abs(lost.mean),
        ),
    ]


STUDY = Study(
    "updates",
    "16-bit weights need stochastic rounding",
    "Weights in a 16-bit format train as well as binary32 weights if updates are rounded stochastically;"
    " rounded to nearest, small updates are lost and accuracy falls.",
    "Wang et al., NeurIPS 2018",
    "A network of four linear layers on digits, HFP8 products in every arm, SGD with momentum, 400 steps of 32"
    " images, the rate falling to 0 as a half cosine from the value below.",
    {
        "binary32 weights": "recipe hfp8 with rule master",
        "1-6-9 stochastic": "rule axpy: decay, momentum and update in 1-6-9, stochastic with 24 random bits",
        "1-6-9 nearest": "the same, rounded to nearest, ties to even",
    },
    (Metric(LOSS, "nats", log=True), Metric("accuracy", "%", 2), Metric("stuck", "%", 1)),
    lambda case: runs.chosen(measure(case), LOSS, "accuracy", "stuck"),
    judge,
    Metric("learning rate", log=True),
    (0.0002, 0.001, 0.01),
    (0.0002, 0.01),
)
