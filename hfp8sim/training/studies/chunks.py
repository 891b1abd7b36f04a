"""Chunk-based sums: the accuracy of long weight gradients by chunk length."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from hfp8sim import ops
from hfp8sim.analysis.accuracy import sqnr_db
from hfp8sim.ops import Operand
from hfp8sim.training.data import load_data
from hfp8sim.training.studies.frame import Case, Check, Metric, Study, StudyRecord, Values
from hfp8sim.units.profile import Profile, get_profile

_HFP8 = get_profile("hfp8")
_WHOLE = _HFP8.replace(chunk_length=0)
PROFILES: dict[str, Profile] = {
    "no chunks": _WHOLE,
    "chunks of 16": _HFP8.replace(chunk_length=16),
    "chunks of 64": _HFP8,
    "chunks of 256": _HFP8.replace(chunk_length=256),
    "chunks of 1024": _HFP8.replace(chunk_length=1024),
    "no chunks, stochastic": _WHOLE.replace(rounding="stochastic"),
    "operands alone": _HFP8,
}
SQNR = "SQNR"
_SIZE, _CHANNELS, _STEPS = 32, 16, 20


@functools.lru_cache(2)
def operands(seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Activations and errors of a 3×3 convolution after some training, a row for each pixel.

    Digits are drawn at 32×32 pixels. The tensors are those of the filter's first tap, errors times 1024: what the
    weight gradient multiplies.
    """
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    data = load_data("digits")
    network = nn.Sequential(
        nn.Conv2d(1, _CHANNELS, 3, padding=1, bias=False), nn.BatchNorm2d(_CHANNELS), nn.ReLU(),
        nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1, bias=False), nn.BatchNorm2d(_CHANNELS), nn.ReLU(),
        nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * _CHANNELS, 10),
    )  # fmt: skip
    caught: dict[str, Any] = {}

    def catch(module: nn.Module, inputs: Any, result: Any) -> None:
        caught["x"] = inputs[0].detach()
        result.register_hook(lambda error: caught.__setitem__("error", error.detach()))

    network[3].register_forward_hook(catch)
    optimiser = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9)
    for images, classes in data.batches(128, seed, _STEPS):
        optimiser.zero_grad()
        large = F.interpolate(images, size=_SIZE, mode="bilinear", align_corners=False)
        F.cross_entropy(network(large), classes).backward()
        optimiser.step()
    x = F.pad(caught["x"], (1, 1, 1, 1))[:, :, :_SIZE, :_SIZE]
    rows = [t.permute(0, 2, 3, 1).reshape(-1, _CHANNELS).numpy() for t in (x, caught["error"])]
    return np.ascontiguousarray(rows[0]), np.ascontiguousarray(rows[1] * 1024)


def measure(case: Case) -> Values:
    """The SQNR of a weight gradient over K pixels, against exact sums of the same codes."""
    x, error = (t[: case.at] for t in operands(case.seed))
    profile = PROFILES[case.arm]
    a = Operand.encode(
        np.ascontiguousarray(x.T), profile.a_format, rounding=profile.operand_rounding
    )
    b = Operand.encode(error, profile.error_format, rounding=profile.operand_rounding)
    exact = a.values(np.float64) @ b.values(np.float64)
    if case.arm == "operands alone":
        wanted = x.T.astype(np.float64) @ error.astype(np.float64)
        return {SQNR: _sqnr(wanted, exact)}
    sums = ops.gemm(a, b, profile, seed=case.seed, out_dtype="float32", threads=1)
    return {SQNR: _sqnr(exact, sums.astype(np.float64))}


def _sqnr(wanted: NDArray[np.float64], result: NDArray[np.float64]) -> float:
    return sqnr_db(float((wanted**2).sum()), float(((result - wanted) ** 2).sum()))


def judge(record: StudyRecord) -> list[Check]:
    """Without chunks long sums decay below what 8-bit operands cost; with chunks they do not."""
    short, long = min(record.points), max(record.points)
    whole = [record.mean(SQNR, "no chunks", at) for at in (short, long)]
    chunks = [record.mean(SQNR, "chunks of 64", at) for at in (short, long)]
    alone = record.mean(SQNR, "operands alone", long)
    gain = record.difference(SQNR, "chunks of 64", "no chunks", long)
    lengths = [arm for arm in PROFILES if arm.startswith("chunks of")]
    best = max(lengths, key=lambda arm: record.mean(SQNR, arm, long))
    return [
        Check(
            f"From K = {short} to {long}, sums without chunks fall from {whole[0]:.1f} to {whole[1]:.1f} dB, chunks of 64"
            f" from {chunks[0]:.1f} to {chunks[1]:.1f}; wanted: a smaller fall with chunks",
            chunks[0] - chunks[1] < whole[0] - whole[1],
        ),
        Check(
            f"At K = {long} chunks of 64 gain {gain.mean:.1f} dB (95 % margin {gain.margin:.1f}); wanted: beyond the margin",
            gain.mean > 0 and gain.differs,
        ),
        Check(
            f"There the sum without chunks costs more than 8-bit operands do: {whole[1]:.1f} dB against {alone:.1f};"
            " wanted: lower",
            whole[1] < alone,
        ),
        Check(
            f"Of the lengths 16, 64, 256 and 1024 the best at K = {long} is {best.rpartition(' ')[2]};"
            " wanted: 64 to 256",
            best in ("chunks of 64", "chunks of 256"),
        ),
    ]


STUDY = Study(
    "chunks",
    "Chunks keep long sums accurate in 16 bits",
    "Sums in 16-bit floating point lose small terms as they grow; summed in chunks of 64 to 256, they stay accurate."
    " Weight gradients, whose sums are longest, suffer most.",
    "Wang et al., NeurIPS 2018",
    "The weight gradient of a 3×3 convolution with 16 channels: K pixels of digits drawn at 32×32, after 20 steps of"
    " training in binary32. HFP8 operands, sums in 1-6-9. SQNR against exact sums of the same codes.",
    {
        "no chunks": "one running sum",
        **dict.fromkeys(list(PROFILES)[1:5], "profile hfp8 with that chunk length"),
        "no chunks, stochastic": "one running sum, stochastic with 13 random bits",
        "operands alone": "exact sums of the codes against exact sums of the tensors: what 8-bit operands cost",
    },
    (Metric(SQNR, "dB", 1),),
    measure,
    judge,
    Metric("K", "products of a sum", 0, log=True),
    (512, 2048, 8192, 32768, 131072),
    (512, 8192),
)
