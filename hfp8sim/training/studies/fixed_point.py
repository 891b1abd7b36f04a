"""16-bit fixed point with stochastic and with nearest rounding, over the position of the point."""

from hfp8sim.training.studies import runs
from hfp8sim.training.studies.frame import Case, Check, Metric, Study, StudyRecord, Values

ARMS = {"binary32": "", "stochastic": "stochastic", "nearest": "nearest-away"}
_SITES = (
    "x", "w", "error", "fwd-result", "dgrad-result", "wgrad-result", "unscale", "decay", "momentum", "update",
)  # fmt: skip
LOSS = "training loss"


def measure(case: Case) -> Values:
    """A run with all numbers in a fixed-point format of 16 bits."""
    recipe = runs.changed({}, "fp32")
    if rounding := ARMS[case.arm]:
        fmt = f"fixed{16 - case.at}.{case.at}"
        changes = {f"{site}.format": fmt for site in _SITES}
        changes |= {f"{site}.rounding": rounding for site in _SITES}
        recipe = runs.changed(changes, "fixed-2015")
    run = runs.train(
        runs.MLP, recipe, case.seed, rate=0.02, momentum=0.0, decay=0.0, batch=32,
        steps=20 if case.quick else 400,
    )  # fmt: skip
    return runs.chosen(runs.metrics(run), LOSS, "test loss", "accuracy", "stuck")


def judge(record: StudyRecord) -> list[Check]:
    """Nearest rounding loses with few fraction bits, stochastic rounding does not."""
    fewest, most = min(record.points), max(record.points)
    lost = record.difference(LOSS, "nearest", "binary32", fewest)
    kept = record.difference(LOSS, "stochastic", "binary32", fewest)
    fine = record.difference(LOSS, "nearest", "binary32", most)
    return [
        Check(
            f"With {fewest} fraction bits nearest rounding ends {lost.mean:+.3f} nats from binary32 (95 % margin"
            f" {lost.margin:.3f}); wanted: higher beyond the margin",
            lost.mean > 0 and lost.differs,
        ),
        Check(
            f"There stochastic rounding ends {kept.mean:+.3f} nats from it; wanted: at most a fifth of that",
            abs(kept.mean) <= abs(lost.mean) / 5,
        ),
        Check(
            f"With {most} fraction bits nearest rounding ends {fine.mean:+.4f} nats from it; wanted: less than a fifth of"
            f" what it loses with {fewest}",
            abs(fine.mean) <= abs(lost.mean) / 5,
        ),
    ]


STUDY = Study(
    "fixed-point",
    "16-bit fixed point needs stochastic rounding",
    "Networks train in 16-bit fixed point as in binary32 if every result is rounded stochastically; rounded to nearest,"
    " training fails with few fraction bits.",
    "Gupta et al., ICML 2015",
    "Four linear layers on digits, all operands, results and updates in one fixed-point format of 16 bits, SGD without"
    " momentum from rate 0.02, 400 steps of 32 images.",
    {
        "binary32": "recipe fp32, the same at every point",
        "stochastic": "recipe fixed-2015",
        "nearest": "recipe fixed-2015 with every site rounded to nearest, ties away",
    },
    (
        Metric(LOSS, "nats", log=True),
        Metric("test loss", "nats"),
        Metric("accuracy", "%", 2),
        Metric("stuck", "%", 1),
    ),
    measure,
    judge,
    Metric("fraction bits", digits=0),
    (6, 8, 12),
    (6, 12),
    seeds=3,
)
