"""FP8 products of GPUs: every bit as mmaemu replays them from recordings of an H100 and an RTX 4060."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hfp8sim as hs

torch = pytest.importorskip("torch", reason="torch is not installed")
mmaemu = pytest.importorskip("mmaemu", reason="mmaemu is not installed")
from mmaemu.model import epilogue  # noqa: E402

PAGE = (Path(__file__).parents[2] / "docs/numerics.md").read_text(encoding="utf-8")
#: mmaemu's name of the GPU, and whether it accumulates fast, by profile.
PROFILES = {
    "hopper-fp8": ("hopper", False),
    "hopper-fp8-fast": ("hopper", True),
    "ada-fp8": ("ada", False),
    "ada-fp8-fast": ("ada", True),
}
DTYPES = {"e4m3fn": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2}


def block(name: str) -> str:
    """The example on the page between markers of that name."""
    found = re.search(rf"<!-- {name} -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    assert found
    return found[1]


def example(name: str, **scope: Any) -> dict[str, Any]:
    """What the example defines."""
    names = {"np": np, "hs": hs, **scope}
    exec(block(name), names)
    return names


def operands(rng: np.random.Generator, fmt: str, shape: tuple[int, int], kind: str) -> np.ndarray:
    """Codes: of a Gaussian, as tensors are; of one whose chunks differ in size; of all numbers; of all codes."""
    record = hs.get_format(fmt)
    if kind in ("normal", "chunks apart"):
        values = rng.standard_normal(shape)
        if kind == "chunks apart":
            k = np.arange(max(shape))
            sizes = 2.0 ** (5 - 5 * (k // 128))
            values = values * (sizes if shape[1] == len(k) else sizes[:, None])
        return record.encode(values, rounding="nearest-even", overflow="saturate")
    codes = rng.integers(0, 256, shape, dtype=np.uint8)
    if kind == "numbers":
        finite = np.flatnonzero(np.isfinite(record.decode(np.arange(256, dtype=np.uint8))))
        codes = finite.astype(np.uint8)[rng.integers(0, len(finite), shape)]
    return codes


def theirs(
    profile: str, a: np.ndarray, b: np.ndarray, fmt: tuple[str, str], split: Any
) -> np.ndarray:
    gpu, fast = PROFILES[profile]
    x = torch.from_numpy(a).view(DTYPES[fmt[0]])
    w = torch.from_numpy(np.ascontiguousarray(b.T)).view(DTYPES[fmt[1]])
    return mmaemu.accumulate(x, w, use_fast_accum=fast, splitk=split, profile=gpu).numpy()


def ours(profile: Any, a: np.ndarray, b: np.ndarray, fmt: tuple[str, str]) -> np.ndarray:
    record = hs.get_profile(profile)
    codes = hs.gemm(a, b, record, a_format=fmt[0], b_format=fmt[1])
    return record.result_format.decode(codes).astype(np.float32)


def same_bits(mine: np.ndarray, other: np.ndarray) -> None:
    """The same bits, but of NaN."""
    nan = np.isnan(other)
    np.testing.assert_array_equal(np.isnan(mine), nan)
    np.testing.assert_array_equal(mine.view(np.uint32)[~nan], other.view(np.uint32)[~nan])


@pytest.mark.parametrize(
    "rows", [24, pytest.param(172, marks=pytest.mark.exhaustive)], ids=["few", "million"]
)
@pytest.mark.parametrize(
    "fmt", [("e4m3fn", "e4m3fn"), ("e5m2", "e4m3fn"), ("e5m2", "e5m2")], ids="+".join
)
@pytest.mark.parametrize("profile", PROFILES)
def test_products_of_gpus(profile: str, fmt: tuple[str, str], rows: int) -> None:
    """Exhaustively 4 · 3 · 3 · 172 · 172 = 1,065,024 outputs."""
    rng = np.random.default_rng([rows, *map(ord, profile)])
    for kind, k in (("normal", 296), ("chunks apart", 384), ("numbers", 160)):
        a, b = operands(rng, fmt[0], (rows, k), kind), operands(rng, fmt[1], (k, rows), kind)
        same_bits(ours(profile, a, b, fmt), theirs(profile, a, b, fmt, 1))


@pytest.mark.parametrize("fmt", DTYPES)
@pytest.mark.parametrize("profile", PROFILES)
def test_infinities_and_nans_of_gpus(profile: str, fmt: str) -> None:
    rng = np.random.default_rng(5)
    for k in (1, 3, 40):
        a, b = operands(rng, fmt, (40, k), "any"), operands(rng, fmt, (k, 40), "any")
        same_bits(ours(profile, a, b, (fmt, fmt)), theirs(profile, a, b, (fmt, fmt), 1))


@pytest.mark.parametrize(
    ("profile", "wrong"),
    [
        ("hopper-fp8", {"products_per_step": 16}),
        ("ada-fp8", {"products_per_step": 32}),
        ("hopper-fp8-fast", {"chunk_length": 128}),
        ("ada-fp8", {"chunk_length": 0}),
        ("ada-fp8-fast", {"guard_bits": 14}),
        ("hopper-fp8", {"between_rounding": "toward-zero"}),
    ],
)
def test_recordings_tell_profiles_apart(profile: str, wrong: dict[str, Any]) -> None:
    rng = np.random.default_rng(6)
    fmt = ("e4m3fn", "e4m3fn")
    kind = "chunks apart" if "between_rounding" in wrong else "normal"
    a, b = operands(rng, fmt[0], (24, 384), kind), operands(rng, fmt[1], (384, 24), kind)
    other = ours(hs.get_profile(profile).replace(**wrong), a, b, fmt)
    assert np.mean(other != theirs(profile, a, b, fmt, 1)) > 0.05


def hopper_blocks(k: int, splits: int) -> list[np.ndarray]:
    """As docs/numerics.md has them: 128 products in a tile, consecutive tiles in a block."""
    tiles = -(-k // 128)
    length = 128 * -(-tiles // splits)
    return [np.arange(s * length, min(k, (s + 1) * length)) for s in range(splits)]


def ada_blocks(k: int, splits: int) -> list[np.ndarray]:
    """64 products in a tile, every S-th tile in a block."""
    indices = np.arange(k)
    return [indices[indices // 64 % splits == s] for s in range(splits)]


@pytest.mark.parametrize("splits", [2, 3, 5])
@pytest.mark.parametrize("profile", PROFILES)
def test_split_of_k(profile: str, splits: int) -> None:
    rng = np.random.default_rng(splits)
    fmt = ("e4m3fn", "e4m3fn")
    k = 1280 if splits > 3 else 912
    a, b = operands(rng, fmt[0], (20, k), "normal"), operands(rng, fmt[1], (k, 20), "normal")
    hopper = profile.startswith("hopper")
    split_k = example("split", a=a[:, :640], b=b[:640])["split_k"]
    blocks = (hopper_blocks if hopper else ada_blocks)(k, splits)
    scheme = "contiguous" if hopper else "serial"
    same_bits(split_k(a, b, profile, blocks), theirs(profile, a, b, fmt, (splits, scheme)))
    if profile == "hopper-fp8-fast":
        chunks = hs.get_profile(profile).replace(chunk_length=len(blocks[0]))
        same_bits(ours(chunks, a, b, fmt), theirs(profile, a, b, fmt, (splits, scheme)))


@pytest.mark.parametrize("splits", [2, 3, 5])
def test_pairwise_split_of_k(splits: int) -> None:
    rng = np.random.default_rng(splits)
    fmt = ("e4m3fn", "e4m3fn")
    a, b = operands(rng, fmt[0], (20, 960), "normal"), operands(rng, fmt[1], (960, 20), "normal")
    parts = [ours("ada-fp8-fast", a[:, k], b[k], fmt) for k in ada_blocks(960, splits)]
    half = -(-splits // 2)
    slots = [parts[i] + parts[i + half] if i + half < splits - 1 else parts[i] for i in range(half)]
    total = functools.reduce(np.add, slots, parts[-1])
    same_bits(total, theirs("ada-fp8-fast", a, b, fmt, (splits, "pairwise")))


@pytest.mark.parametrize(
    ("output", "dtype"),
    [
        ("binary32", "float32"),
        ("bfloat16", "bfloat16"),
        ("binary16", "float16"),
        ("e4m3fn", "float8_e4m3fn"),
        ("e5m2", "float8_e5m2"),
    ],
)
def test_outputs(output: str, dtype: str) -> None:
    """Sums of every size, ties of the second rounding among them, and scales that are no powers of two."""
    scaled = example("output")["scaled"]
    rng = np.random.default_rng(8)
    sums = (rng.standard_normal(20000) * 2.0 ** rng.integers(-60, 60, 20000)).astype(np.float32)
    sums[:4000] = hs.get_format("bfloat16").decode(np.arange(4000) + 0x3F80) * np.float32(1 + 2**-8)
    sums = np.concatenate([sums, np.float32([0, np.inf, -np.inf, np.nan, 448, 464, 465, 1e-42])])
    for scales in ((1.0, 1.0), (1 / 64, 1 / 32), (0.3, 7.7), (1e-30, 1e-12)):
        mine = scaled(sums, *scales, output)
        a, b = (torch.tensor(scale, dtype=torch.float32) for scale in scales)
        result = epilogue.apply(torch.from_numpy(sums), a, b, out_dtype=getattr(torch, dtype))
        width = {1: torch.uint8, 2: torch.int16, 4: torch.int32}[result.element_size()]
        fmt = hs.get_format(output)
        other = result.view(width).numpy().view(mine.dtype)
        nan = np.isnan(fmt.decode(other))
        np.testing.assert_array_equal(np.isnan(fmt.decode(mine)), nan)
        np.testing.assert_array_equal(mine[~nan], other[~nan])
