"""HFP8 against binary32 on three kinds of network: training loss, test loss, accuracy."""

from __future__ import annotations

from typing import Any

from hfp8sim.training.studies import runs
from hfp8sim.training.studies.frame import Case, Check, Metric, Study, StudyRecord, Values

_IMAGES: dict[str, Any] = {"steps": 315}
#: Settings of `hfp8sim train` by network.
NETWORKS: dict[str, dict[str, Any]] = {
    "cnn": _IMAGES,
    "mobile": _IMAGES,
    "transformer": {
        "data": "help-text", "optimiser": "adam", "rate": 2e-3, "decay": 0.0, "batch": 16, "steps": 300,
    },
}  # fmt: skip
RECIPES = ("fp32", "hfp8")
ARMS = {f"{network}, {recipe}": (network, recipe) for network in NETWORKS for recipe in RECIPES}
TRAINING, TEST, ACCURACY = "training loss", "test loss", "accuracy"


def measure(case: Case) -> Values:
    """A whole run."""
    network, recipe = ARMS[case.arm]
    settings = NETWORKS[network] | ({"steps": 6} if case.quick else {})
    run = runs.train(network, recipe, case.seed, **settings)
    return runs.chosen(runs.metrics(run), TRAINING, TEST, ACCURACY)


def judge(record: StudyRecord) -> list[Check]:
    """Each mean difference of equal seeds is no larger than the deviation of binary32 over the seeds."""
    checks = []
    for network in NETWORKS:
        arms = [f"{network}, {recipe}" for recipe in RECIPES]
        for metric, unit, digits in (
            (TRAINING, "nats", 5),
            (TEST, "nats", 4),
            (ACCURACY, "points", 2),
        ):
            lost = record.difference(metric, arms[1], arms[0])
            spread = record.sample(metric, arms[0]).deviation
            low, high = lost.mean - lost.margin, lost.mean + lost.margin
            size = abs(lost.mean)
            checks.append(
                Check(
                    f"{network}, {metric}: HFP8 ends {lost.mean:+.{digits}f} {unit} from binary32 (95 % interval"
                    f" {low:+.{digits}f} … {high:+.{digits}f}); wanted: at most binary32's deviation over the seeds, {spread:.{digits}f}",
                    size <= spread,
                )
            )
    return checks


STUDY = Study(
    "parity",
    "HFP8 trains like binary32",
    "Networks of all kinds train in HFP8 (1-4-3 forward, 1-5-2 backward, 16-bit chunked sums, 8-bit weights with a"
    " residual) to the accuracy of binary32.",
    "Sun et al., NeurIPS 2019",
    "Networks cnn and mobile (depthwise, as MobileNetV2) on digits, 315 steps of 64 images, SGD with momentum from rate"
    " 0.05; transformer, a language model of two layers on the characters of Python's help topics, 300 steps of 16 windows"
    " of 64 characters, Adam from rate 0.002. First and last layer in 16 bits. As `hfp8sim train NETWORK --steps N`.",
    {arm: f"network {network}, recipe {recipe}" for arm, (network, recipe) in ARMS.items()},
    (Metric(TRAINING, "nats", log=True), Metric(TEST, "nats"), Metric(ACCURACY, "%", 2)),
    measure,
    judge,
)
