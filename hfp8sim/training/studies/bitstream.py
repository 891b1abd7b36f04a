"""Stochastic bitstreams: the accuracy of products and of a network by the streams' length."""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import nn

from hfp8sim import ops
from hfp8sim.analysis.accuracy import sqnr_db
from hfp8sim.ops import Operand
from hfp8sim.training.data import load_data
from hfp8sim.training.studies import exchange
from hfp8sim.training.studies.frame import Case, Check, Metric, Study, StudyRecord, Values
from hfp8sim.units.profile import get_profile

_PROFILE = get_profile("bitstream")
ARMS = {
    f"{multiplier}, {streams}": (multiplier, streams)
    for multiplier in ("unipolar", "bipolar")
    for streams in ("shared", "independent")
}
SQNR = "SQNR"
#: Images that are tested.
_IMAGES = 200


@functools.lru_cache(4)
def trained(seed: int, steps: int) -> nn.Module:
    """The network after some training in binary32."""
    model = exchange.network(seed)
    update = exchange.Momentum(model, 0.05, steps)
    for ((x, y),) in exchange.parts(1, steps, seed):
        update.step(exchange.gradients(model, x, y)[1])
    return model


def _operand(x: np.ndarray) -> Operand:
    """Fixed point in [−1, 1], with a power of two that brings the largest magnitude there."""
    largest = float(np.abs(x).max())
    exponent = int(np.ceil(np.log2(largest))) if largest > 0 else 0
    return Operand.encode(x, _PROFILE.a_format, exponent=exponent)


def measure(case: Case) -> Values:
    """The forward pass of the trained network, layer after layer."""
    multiplier, streams = ARMS[case.arm]
    profile = _PROFILE.replace(multiplier=multiplier, streams=streams, stream_length=int(case.at))
    model = trained(case.seed, 100 if case.quick else 400)
    test = load_data("digits").test
    count = 40 if case.quick else _IMAGES
    x = test.inputs[:count].numpy().reshape(count, -1)
    layers = [module for module in model if isinstance(module, nn.Linear)]  # type: ignore[attr-defined]
    sqnr = []
    for number, layer in enumerate(layers):
        a, b = _operand(x), _operand(np.ascontiguousarray(layer.weight.detach().numpy().T))
        y = ops.gemm(a, b, profile, seed=case.seed, stream=number, threads=1, out_dtype="float64")
        exact = a.values("float64") @ b.values("float64")
        sqnr.append(sqnr_db(np.square(exact).sum(), np.square(y - exact).sum()))
        x = (y + layer.bias.detach().numpy()).astype(np.float32)
        if layer is not layers[-1]:
            x = np.maximum(x, 0)
    assert test.targets is not None
    right = (torch.from_numpy(x).argmax(1) == test.targets[:count]).float().mean()
    return {SQNR: float(np.mean(sqnr)), "accuracy": 100 * float(right)}


def judge(record: StudyRecord) -> list[Check]:
    """3 dB for each doubling; bipolar streams are noisier where operands are small."""
    points = record.points
    checks = []
    for arm in ARMS:
        rise = record.mean(SQNR, arm, points[-1]) - record.mean(SQNR, arm, points[0])
        slope = rise / math.log2(points[-1] / points[0])
        checks.append(
            Check(
                f"{arm}: SQNR rises {slope:.3f} dB with each doubling of the stream; wanted: 3.01 ± 0.40",
                abs(slope - 3.01) <= 0.4,
            )
        )
    longest = points[-1]
    gap = record.mean(SQNR, "unipolar, shared", longest) - record.mean(
        SQNR, "bipolar, shared", longest
    )
    checks.append(
        Check(
            f"Unipolar streams are {gap:+.1f} dB above bipolar ones of {longest:g} bits; wanted: above",
            gap > 0,
        )
    )
    return checks


STUDY = Study(
    "bitstream",
    "Products of random bit streams gain 3 dB with each doubling of their length",
    "Digital stochastic circuits can compute the products of networks. (The paper's circuits and numbers could not be"
    " read: the arithmetic is in its spirit, from the exact law of stochastic computing.)",
    "arXiv 1409.2620, 2014 (abstract)",
    "A network of four linear layers, trained on digits in binary32; its forward pass over 200 test images with products"
    " of bit streams. Operands are fixed point of 8 bits and a sign, scaled by a power of two.",
    {arm: f"profile bitstream, multiplier {m}, {s} streams" for arm, (m, s) in ARMS.items()},
    (Metric(SQNR, "dB", 1), Metric("accuracy", "%", 1)),
    measure,
    judge,
    Metric("stream length", log=True),
    (16, 64, 256, 1024),
    quick_points=(16, 64),
    quick_seeds=1,
)  # fmt: skip
