"""PACT and SAWB: clipping keeps activations and weights of a few bits trainable."""

from hfp8sim.training.studies import quantised
from hfp8sim.training.studies.frame import Case, Check, Metric, Study, StudyRecord, Values
from hfp8sim.training.studies.quantised import Scheme

FLOAT, CLIPPED, LARGEST = "binary32", "PACT and SAWB", "largest magnitude"
#: SAWB's grid by bits.
GRIDS = {4: "4z", 3: "3", 2: "2"}
LOSS = "training loss"


def measure(case: Case) -> Values:
    """A short run."""
    scheme = (
        Scheme()
        if case.arm == FLOAT
        else Scheme(case.at, GRIDS[case.at], largest=case.arm == LARGEST)
    )
    return quantised.train(scheme, case.seed, 15 if case.quick else 600, rate=0.02)


def judge(record: StudyRecord) -> list[Check]:
    """No arm diverges; clipped, 4 bits are as good as binary32, and fewer are better than unclipped ones."""
    lost = record.difference("accuracy", FLOAT, CLIPPED, max(record.points))
    checks = [
        quantised.no_divergence(record),
        Check(
            f"With 4 bits accuracy is {lost.mean:+.2f} points below binary32 (95 % margin {lost.margin:.2f}); wanted: at most"
            " one point",
            lost.mean <= 1,
        ),
    ]
    for bits in sorted(record.points):
        gain = record.difference(LOSS, LARGEST, CLIPPED, bits)
        checks.append(
            Check(
                f"With {bits} bits, levels up to the largest magnitude end {gain.mean:+.4f} nats from clipped ones (margin"
                f" {gain.margin:.4f}); wanted: higher beyond the margin",
                gain.mean > 0 and gain.differs,
            )
        )
    return checks


STUDY = Study(
    "clipping",
    "Learnt clipping keeps 4-bit activations and weights",
    "Activations clipped at a learnt level and weights clipped by their statistics keep accuracy at 4 bits, and lose"
    " little at 2.",
    "Choi et al., 2018 (PACT) and 2019 (SAWB)",
    "Five linear layers on digits, activations and weights of the inner three quantised; sums, errors and updates are"
    " binary32. SGD with momentum from rate 0.02, 600 steps of 32 images. α starts at 8.",
    {
        FLOAT: "not quantised, the same at every point",
        CLIPPED: "activations by PACT, weights by SAWB",
        LARGEST: "as many uniform levels, up to the largest magnitude of each tensor",
    },
    (Metric(LOSS, "nats", log=True), Metric("test loss", "nats"), Metric("accuracy", "%", 2)),
    measure,
    judge,
    Metric("bits", digits=0),
    (2, 3, 4),
    (2, 4),
)
