"""Reference data from elsewhere (tests/data/README.md): other software, and silicon."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from hfp8sim.formats import get_format
from hfp8sim.ops import gemm
from hfp8sim.units import Profile, get_profile
from tests.units.problems import plain

DATA = Path(__file__).parents[1] / "data"
MODES = {
    "RNE": "nearest-even", "RNA": "nearest-away", "RZ": "toward-zero",
    "RU": "toward-positive", "RD": "toward-negative",
}  # fmt: skip


@pytest.mark.parametrize("chunk", [1000, 64, 32])
@pytest.mark.parametrize(
    ("operands", "a", "b"),
    [
        ("143x143_b11", "hfp8-143", "hfp8-143"),
        ("143x143_b7", "hfp8-143@7", "hfp8-143@7"),
        ("152x143", "hfp8-152", "hfp8-143"),
    ],
)
def test_dlfloat16_chunks(operands: str, a: str, b: str, chunk: int) -> None:
    with np.load(DATA / "gemm_dlfloat16_rna_chunks.npz") as data:
        x, y = data[f"a_{operands}"], data[f"b_{operands}"]
        np.testing.assert_array_equal(get_format(a).decode(x), data[f"aval_{operands}"])
        np.testing.assert_array_equal(get_format(b).decode(y), data[f"bval_{operands}"])
        fused, separate = data[f"fma_cl{chunk}_{operands}"], data[f"mul_add_cl{chunk}_{operands}"]
    profile = get_profile("hfp8").replace(chunk_length=chunk)
    np.testing.assert_array_equal(gemm(x, y, profile, a_format=a, b_format=b), fused)
    np.testing.assert_array_equal(plain(profile, a, b, x, y)[0], fused)
    # Products of these operands are numbers of 1-6-9, so rounding them first changes nothing.
    np.testing.assert_array_equal(fused, separate)


@pytest.mark.parametrize("chunk", [0, 64])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("phase", "b"), [("fwd", "e4m3"), ("bwd", "e5m2")])
def test_apytypes_ieee_169(phase: str, b: str, mode: str, chunk: int) -> None:
    with np.load(DATA / "gemm_169_apytypes.npz") as data:
        x, y = data[f"a_{phase}"], data[f"b_{phase}"]
        expected = data[f"{'chunk64' if chunk else 'seq'}_{mode}_{phase}"]
    profile = get_profile("fp8-2018").replace(chunk_length=chunk, rounding=MODES[mode])
    result = gemm(x, y, profile, a_format="e4m3", b_format=b)
    np.testing.assert_array_equal(get_format("ieee-169").decode(result), expected)
    np.testing.assert_array_equal(plain(profile, "e4m3", b, x, y)[0], result)


@pytest.mark.parametrize(("name", "fmt"), [("E4M3", "e4m3fn"), ("E5M2", "e5m2")])
def test_hopper_silicon(name: str, fmt: str) -> None:
    """Dot products of 32 pairs as an H200 computes them: every bit of every one."""
    with np.load(DATA / "h200_fp8_silicon.npz") as data:
        a, b, expected = data[f"a_{name}"], data[f"b_{name}"], data[f"d32_{name}"].view(np.float32)
    for one in ("hopper-fp8", get_profile("hopper-fp8").replace(chunk_length=0)):
        profile = get_profile(one)
        result = [
            gemm(a[i : i + 1], b[i][:, None], profile, a_format=fmt, b_format=fmt, threads=1)[0, 0]
            for i in range(len(a))
        ]
        values = profile.result_format.decode(np.array(result, profile.result_format.dtype))
        np.testing.assert_array_equal(values.astype(np.float32), expected)


@pytest.mark.parametrize(
    "wrong", [{"guard_bits": 12}, {"guard_bits": 14}, {"accumulator": "binary32"}]
)
def test_silicon_distinguishes_profiles(wrong: dict) -> None:
    """Another width of the sum reproduces far fewer: the data decide."""
    with np.load(DATA / "h200_fp8_silicon.npz") as data:
        a, b, expected = data["a_E4M3"], data["b_E4M3"], data["d32_E4M3"].view(np.float32)
    profile = get_profile("hopper-fp8").replace(chunk_length=0, **wrong)
    out = get_format(profile.accumulator)
    codes = [gemm(a[i : i + 1], b[i][:, None], profile, threads=1)[0, 0] for i in range(500)]
    assert np.mean(out.decode(np.array(codes)) == expected[:500]) < 0.9


#: Formats of ml_dtypes that can accumulate: they have a NaN.
ML_DTYPES = {
    "e4m3fn": ml_dtypes.float8_e4m3fn, "e4m3": ml_dtypes.float8_e4m3, "e5m2": ml_dtypes.float8_e5m2,
    "e4m3fnuz": ml_dtypes.float8_e4m3fnuz, "e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
    "e4m3b11fnuz": ml_dtypes.float8_e4m3b11fnuz, "e3m4": ml_dtypes.float8_e3m4,
}  # fmt: skip


@pytest.mark.parametrize("name", ML_DTYPES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_multiply_add_of_all_pairs(name: str) -> None:
    """8-bit accumulators: all 65536 a + b, a − b and a·b of ml_dtypes."""
    fmt, dtype = get_format(name), ML_DTYPES[name]
    profile = Profile(
        "p", accumulator=name, between_chunks=name, chunk_length=0, rounding="nearest-even"
    )
    codes = np.arange(256, dtype=np.uint8)
    one = np.full(256, fmt.encode(1.0), np.uint8)
    minus_one = np.full(256, fmt.encode(-1.0), np.uint8)
    x = codes.view(dtype)
    sums = gemm(
        np.stack([codes, one], 1), np.stack([one, codes]), profile, a_format=name, b_format=name
    )
    differences = gemm(
        np.stack([codes, minus_one], 1),
        np.stack([one, codes]),
        profile,
        a_format=name,
        b_format=name,
    )
    products = gemm(codes[:, None], codes[None, :], profile, a_format=name, b_format=name)
    for result, expected in (
        (sums, x[:, None] + x[None, :]),
        (differences, x[:, None] - x[None, :]),
        (products, x[:, None] * x[None, :]),
    ):
        # Values, so that NaN payloads and the sign of zero (always + here) do not matter.
        np.testing.assert_array_equal(fmt.decode(result), expected.astype(np.float64))
