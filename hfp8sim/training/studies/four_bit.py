"""Four-bit training, piece by piece: integers forward, powers of 4 backward, two phases, a scale for each layer."""

from hfp8sim.training.studies import quantised
from hfp8sim.training.studies.frame import Case, Check, Metric, Study, StudyRecord, Values
from hfp8sim.training.studies.quantised import Scheme

FLOAT, FORWARD, ONE, TWO = "binary32", "4-bit forward", "one phase", "two phases"
GLOBAL, UNBIASED = "two phases, one scale", "LUQ"
SCHEMES = {
    FLOAT: Scheme(),
    FORWARD: Scheme(4, "4z"),
    ONE: Scheme(4, "4z", "radix4-even"),
    TWO: Scheme(4, "4z", "radix4"),
    GLOBAL: Scheme(4, "4z", "radix4", scale=2.0**16),
    UNBIASED: Scheme(4, "4z", "luq"),
}
RECIPE = "recipe int4-2020"
LOSS = "training loss"


def measure(case: Case) -> Values:
    """A short run."""
    steps = 15 if case.quick else 600
    if case.arm == RECIPE:
        return quantised.train_recipe("int4-2020", case.seed, steps)
    return quantised.train(SCHEMES[case.arm], case.seed, steps)


def judge(record: StudyRecord) -> list[Check]:
    """4 bits forward cost little, powers of 4 more; each remedy helps."""
    losses = {arm: record.mean(LOSS, arm) for arm in SCHEMES}
    phases = record.difference(LOSS, ONE, TWO)
    scales = record.difference(LOSS, GLOBAL, TWO)
    unbiased = record.difference(LOSS, TWO, UNBIASED)
    lost = record.difference("accuracy", FLOAT, TWO)
    emulated = record.difference("accuracy", FLOAT, RECIPE)
    return [
        quantised.no_divergence(record),
        Check(
            f"Accuracy with all pieces is {lost.mean:+.2f} points below binary32 (95 % margin {lost.margin:.2f}); wanted:"
            " at most one point",
            lost.mean <= 1,
        ),
        Check(
            f"Training loss: binary32 {losses[FLOAT]:.4f}, 4-bit forward {losses[FORWARD]:.4f}; wanted: at most twice as"
            " high",
            losses[FORWARD] <= 2 * losses[FLOAT],
        ),
        Check(
            f"One scale for all layers ends {scales.mean:+.4f} nats from a scale for each (margin {scales.margin:.4f});"
            " wanted: higher beyond the margin",
            scales.mean > 0 and scales.differs,
        ),
        Check(
            f"One phase ends {phases.mean:+.4f} nats from two (margin {phases.margin:.4f}); wanted: higher beyond the margin",
            phases.mean > 0 and phases.differs,
        ),
        Check(
            f"Two phases end {unbiased.mean:+.4f} nats from the unbiased LUQ (margin {unbiased.margin:.4f}); wanted: higher"
            " beyond the margin, as LUQ's authors find",
            unbiased.mean > 0 and unbiased.differs,
        ),
        Check(
            f"Accuracy of recipe int4-2020, on the emulator with 16-bit sums, is {emulated.mean:+.2f} points below binary32"
            f" (margin {emulated.margin:.2f}); wanted: at most one point",
            emulated.mean <= 1,
        ),
    ]


STUDY = Study(
    "four-bit",
    "The pieces of 4-bit training",
    "Networks train with 4-bit integers forward and 4-bit powers of 4 backward if errors are rounded in two phases and"
    " each layer has its own scale.",
    "Sun et al., NeurIPS 2020; Chmiel et al., 2021, for LUQ",
    "Five linear layers on digits, the inner three quantised: activations by PACT, weights by SAWB, errors in radix 4."
    " Updates are binary32; sums, first and last layer are in all arms but the last. SGD with momentum from rate 0.05,"
    " 600 steps of 32 images.",
    {
        FLOAT: "not quantised",
        FORWARD: "activations and weights in 4 bits, errors in binary32",
        ONE: "errors in powers of 4, the even grid in both gradients, a scale for each layer",
        TWO: "errors on the even grid for the input gradient, on the odd one for the weight gradient",
        GLOBAL: "the same with 2^16 as the scale of every layer",
        UNBIASED: "errors in powers of 2, unbiased stochastic rounding",
        RECIPE: "the pieces of two phases as that recipe has them, on the emulator: 16-bit sums in every layer, first and"
        " last layer in 16 bits, α from the first batch, a dynamic loss scale",
    },
    (Metric(LOSS, "nats", log=True), Metric("test loss", "nats"), Metric("accuracy", "%", 2)),
    measure,
    judge,
)
