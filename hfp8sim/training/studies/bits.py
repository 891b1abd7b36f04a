"""Predicted accumulator bits: sums with the bits that theory asks for, and with fewer."""

from __future__ import annotations

import dataclasses

from torch import nn

from hfp8sim.analysis.variance import needed_bits
from hfp8sim.formats import get_format
from hfp8sim.training.studies import runs
from hfp8sim.training.studies.frame import Case, Check, Metric, Study, StudyRecord, Values
from hfp8sim.units.profile import Profile, get_profile

#: Of each arm: bits beside the prediction, and the chunk length.
ARMS: dict[str, tuple[int, int] | None] = {
    "binary32 sums": None,
    "predicted": (0, 0),
    "1 bit less": (-1, 0),
    "2 bits less": (-2, 0),
    "3 bits less": (-3, 0),
    "chunks of 64, predicted": (0, 64),
}
LOSS, BITS = "training loss", "fraction bits"
_BATCH, _PIXELS = 128, 64
#: Fraction bits of a product of two 1-5-2 numbers.
_PRODUCT = 5
#: The longest sum of each layer by its name: that of its weight gradient, over images and pixels.
LENGTHS = {"0": _BATCH * _PIXELS, "3": _BATCH * _PIXELS, "6": _BATCH * _PIXELS, "11": _BATCH}
_BASE = get_profile("fp8-2018").replace(
    accumulator="binary32", between_chunks="binary32", chunk_length=0
)


def network() -> nn.Module:
    """Three convolutions of 8, 8 and 16 channels, and a linear layer."""
    layers: list[nn.Module] = []
    for channels, filters in ((1, 8), (8, 8), (8, 16)):
        convolution = nn.Conv2d(channels, filters, 3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(filters), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 10))


def predicted_bits(k: int, less: int, chunk: int) -> int:
    """The theory's fraction bits of an accumulator for sums of length k, and `less` more."""
    bits = needed_bits(_PRODUCT, k, chunk)
    assert bits is not None
    return bits + less


def profile(bits: int, chunk: int) -> Profile:
    """Products of 1-5-2 operands whose sums have some fraction bits and six exponent bits."""
    accumulator = dataclasses.replace(
        get_format("dlfloat16"), name=f"1-6-{bits}", fraction_bits=bits
    )
    return _BASE.replace(accumulator=accumulator, between_chunks=accumulator, chunk_length=chunk)


def measure(case: Case) -> Values:
    """A run whose every layer has the accumulator of its own longest sum."""
    arm = ARMS[case.arm]
    recipe = runs.changed({"rule": "master", "policy": "", "profile": _BASE})
    bits = {} if arm is None else {name: predicted_bits(k, *arm) for name, k in LENGTHS.items()}
    policy = [(name, profile(b, arm[1])) for name, b in bits.items()] if arm else None
    run = runs.train(
        f"{__name__}:network", recipe, case.seed, policy, rate=0.05, batch=_BATCH,
        steps=4 if case.quick else 60,
    )  # fmt: skip
    return runs.chosen(runs.metrics(run), LOSS, "accuracy") | {BITS: max(bits.values(), default=23)}


def judge(record: StudyRecord) -> list[Check]:
    """The prediction is enough and not much too large."""
    control = "binary32 sums"
    losses = {arm: record.difference(LOSS, arm, control) for arm in ARMS}
    enough, least = losses["predicted"], losses["3 bits less"]
    means = [losses[arm].mean for arm in ("predicted", "1 bit less", "2 bits less", "3 bits less")]
    chunks = losses["chunks of 64, predicted"]
    bits = [f"{record.mean(BITS, arm):.0f}" for arm in ("predicted", "chunks of 64, predicted")]
    return [
        Check(
            f"With 3 bits less than predicted the training loss ends {least.mean:+.4f} nats from binary32 sums"
            f" (95 % margin {least.margin:.4f}); wanted: higher beyond the margin",
            least.mean > 0 and least.differs,
        ),
        Check(
            f"With the predicted bits ({bits[0]} at most) it ends {enough.mean:+.4f} nats from them; wanted: at most a tenth"
            " of that",
            enough.mean <= least.mean / 10,
        ),
        Check(
            "The loss rises with every bit less: " + ", ".join(f"{mean:+.4f}" for mean in means),
            means == sorted(means),
        ),
        Check(
            f"With chunks of 64 and {bits[1]} bits, as predicted for them, it ends {chunks.mean:+.4f} nats from binary32;"
            " wanted: at most a tenth of what 3 bits less cost",
            chunks.mean <= least.mean / 10,
        ),
    ]


STUDY = Study(
    "bits",
    "Predicted accumulator bits are enough, and few more than needed",
    "From the length of its sums, the fraction bits that each layer's accumulator needs can be predicted: training with"
    " them follows binary32, and with fewer it falls behind. Chunks need fewer bits.",
    "Sakr et al., ICLR 2019",
    f"Three convolutions and a linear layer on digits, batch {_BATCH}, operands in 1-5-2, binary32 weights, 60 steps. Each"
    f" layer's accumulator (six exponent bits) has the bits predicted for its longest sum, K = {_BATCH * _PIXELS} for the"
    " convolutions' weight gradients, in all three products.",
    {
        "binary32 sums": "the control: the same operands",
        "predicted": "the bits of theorem 1, without chunks",
        "1 bit less": "the same less 1",
        "2 bits less": "the same less 2",
        "3 bits less": "the same less 3",
        "chunks of 64, predicted": "chunks of 64, with the bits predicted for them",
    },
    (Metric(LOSS, "nats", log=True), Metric("accuracy", "%", 2), Metric(BITS, "", 0)),
    measure,
    judge,
    seeds=5,
)
