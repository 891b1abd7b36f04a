"""ml_dtypes, gfloat and APyTypes, alive: everything that they and this package both define.

Where they differ from exact arithmetic, docs/peers.md says so, and tests/test_peers_page.py shows it.
"""

from __future__ import annotations

import apytypes
import gfloat
import ml_dtypes
import numpy as np
import pytest
from gfloat import formats as peer

from hfp8sim.errors import InputError
from hfp8sim.formats import FloatFormat, get_format
from hfp8sim.ops import gemm
from hfp8sim.testing import boundary_values
from hfp8sim.units import Profile, get_profile

ML_DTYPES = {
    "e4m3fn": ml_dtypes.float8_e4m3fn, "e5m2": ml_dtypes.float8_e5m2, "e4m3": ml_dtypes.float8_e4m3,
    "e3m4": ml_dtypes.float8_e3m4, "e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "e5m2fnuz": ml_dtypes.float8_e5m2fnuz, "e4m3b11fnuz": ml_dtypes.float8_e4m3b11fnuz,
    "e3m2": ml_dtypes.float6_e3m2fn, "e2m3": ml_dtypes.float6_e2m3fn, "e2m1": ml_dtypes.float4_e2m1fn,
    "bfloat16": ml_dtypes.bfloat16, "binary16": np.float16,
}  # fmt: skip


def ml_codes(x: np.ndarray, name: str) -> np.ndarray:
    """binary32 numbers as ml_dtypes (NumPy for binary16) encodes them."""
    fmt = get_format(name)
    with np.errstate(all="ignore"):
        return x.astype(ML_DTYPES[name]).view(fmt.dtype)


def all_16_bit_floats() -> np.ndarray:
    """Every binary16 and every bfloat16, as binary32."""
    every = np.arange(1 << 16, dtype=np.uint16)
    return np.concatenate(
        [every.view(t).astype(np.float32) for t in (np.float16, ml_dtypes.bfloat16)]
    )


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", ML_DTYPES)
def test_ml_dtypes(name: str) -> None:
    """Every binary16 and every bfloat16, and one binary32 step to either side of each."""
    fmt = get_format(name)
    x = all_16_bit_floats()
    x = np.concatenate([x, np.nextafter(x, np.float32(0)), np.nextafter(x, np.float32(np.inf))])
    x = x[~np.isnan(x)]
    result = fmt.encode(x, "nearest-even", "special" if fmt.has_nan else "saturate")
    expected = ml_codes(x, name)
    same = (result == expected) | (np.isnan(fmt.decode(result)) & np.isnan(fmt.decode(expected)))
    assert same.all(), x[~same][:5]


GFLOAT_MODES = {
    "toward-zero": gfloat.RoundMode.TowardZero, "toward-negative": gfloat.RoundMode.TowardNegative,
    "toward-positive": gfloat.RoundMode.TowardPositive, "nearest-even": gfloat.RoundMode.TiesToEven,
    "nearest-away": gfloat.RoundMode.TiesToAway, "stochastic-a": gfloat.RoundMode.StochasticFastest,
    "stochastic-b": gfloat.RoundMode.StochasticFast, "stochastic-c": gfloat.RoundMode.Stochastic,
}  # fmt: skip


def p3109_info(k: int, p: int, signed: bool, extended: bool) -> gfloat.FormatInfo:
    return peer.format_info_p3109(
        k, p,
        gfloat.Signedness.Signed if signed else gfloat.Signedness.Unsigned,
        gfloat.Domain.Extended if extended else gfloat.Domain.Finite,
    )  # fmt: skip


def info(
    name: str, k: int, precision: int, bias: int, nans: int, extended: bool
) -> gfloat.FormatInfo:
    return gfloat.FormatInfo(
        name, k, precision, bias=bias, has_nz=True, has_subnormals=True,
        domain=gfloat.Domain.Extended if extended else gfloat.Domain.Finite,
        num_high_nans=nans, is_signed=True, is_twos_complement=False,
    )  # fmt: skip


GFLOAT = {
    "e4m3fn": peer.format_info_ocp_e4m3, "e5m2": peer.format_info_ocp_e5m2,
    "e3m2": peer.format_info_ocp_e3m2, "e2m3": peer.format_info_ocp_e2m3,
    "e2m1": peer.format_info_ocp_e2m1, "binary16": peer.format_info_binary16,
    "bfloat16": peer.format_info_bfloat16,
    "ieee-169": info("ieee-169", 16, 10, 31, 511, True), "e4m3": info("e4m3", 8, 4, 7, 7, True),
    "fn-143-b11": info("fn-143-b11", 8, 4, 11, 1, False),
} | {
    f"binary{k}p{p}{s}{e}": p3109_info(k, p, s == "s", e == "e")
    for k, p in ((4, 2), (6, 3), (8, 2), (8, 3), (8, 4), (8, 7), (10, 5), (12, 8))
    for s in "su"
    for e in "ef"
}  # fmt: skip


def same_as_gfloat(name: str, saturate: bool, x: np.ndarray) -> None:
    """Finite numbers x, in every mode that both have. Nothing to compare without special codes.

    In binary32 steps: gfloat adds random bits in binary64, which rounds what is finer (docs/peers.md).
    Infinities aside: gfloat keeps them where this package saturates.
    """
    theirs = GFLOAT[name]
    fmt = FloatFormat(name, 4, 3, 11, special="fn") if name == "fn-143-b11" else get_format(name)
    if not saturate and not (fmt.has_nan or fmt.has_inf):
        return
    if not fmt.signed:
        x = x[x >= 0]
    rng = np.random.default_rng(11)
    for mode, their_mode in GFLOAT_MODES.items():
        for r in (1, 3, 8, 13) if mode.startswith("stochastic") else (0,):
            R = rng.integers(0, 1 << r, x.size) if r else None
            with np.errstate(all="ignore"):
                expected = gfloat.round_ndarray(theirs, x, their_mode, saturate, R, r)
            result = fmt.decode(
                fmt.encode(x, mode, "saturate" if saturate else "special", R, r or 13)
            )
            wrong = ~((result == expected) | (np.isnan(result) & np.isnan(expected)))
            assert not wrong.any(), (
                mode,
                r,
                [v.hex() for v in x[wrong][:3]],
                result[wrong][:3],
                expected[wrong][:3],
            )


SATURATE = pytest.mark.parametrize("saturate", [True, False], ids=["saturate", "special"])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@SATURATE
@pytest.mark.parametrize("name", GFLOAT)
def test_gfloat(name: str, saturate: bool) -> None:
    """The boundaries of a rounding, and one binary32 step to either side of each."""
    fmt = FloatFormat(name, 4, 3, 11, special="fn") if name == "fn-143-b11" else get_format(name)
    with np.errstate(all="ignore"):
        near = boundary_values(fmt, limit=600).astype(np.float32)
        near = np.concatenate(
            [near, np.nextafter(near, np.float32(0)), np.nextafter(near, np.float32(9e9))]
        )
    same_as_gfloat(name, saturate, np.unique(near[np.isfinite(near)]).astype(np.float64))


@pytest.mark.parametrize("k", range(3, 17))
def test_gfloat_p3109(k: int) -> None:
    """Every code of every format of the family (with at most 11 exponent bits)."""
    for signed in (True, False):
        for p in range(1, k + (not signed)):
            for extended in (True, False):
                name = f"binary{k}p{p}{'s' if signed else 'u'}{'e' if extended else 'f'}"
                try:
                    fmt = get_format(name)
                except InputError:
                    continue
                theirs = p3109_info(k, p, signed, extended)
                codes = np.arange(1 << k)
                expected = gfloat.decode_ndarray(theirs, codes)
                np.testing.assert_array_equal(fmt.decode(codes.astype(fmt.dtype)), expected, name)


APYTYPES_MODES = {
    "nearest-even": apytypes.QuantizationMode.TIES_EVEN,
    "nearest-away": apytypes.QuantizationMode.TIES_AWAY,
    "toward-zero": apytypes.QuantizationMode.TO_ZERO,
    "toward-positive": apytypes.QuantizationMode.TO_POS,
    "toward-negative": apytypes.QuantizationMode.TO_NEG,
    "to-odd": apytypes.QuantizationMode.JAM_UNBIASED,
}


@pytest.mark.parametrize("name", ["e4m3", "e5m2", "e3m4", "ieee-169", "binary16"])
def test_apytypes_conversion(name: str) -> None:
    """`from_array` rounds to nearest even."""
    fmt = get_format(name)
    x = boundary_values(fmt, limit=600)
    x = x[np.isfinite(x) & (np.abs(x) < 1e300)]
    theirs = apytypes.APyFloatArray.from_array(x, fmt.exponent_bits, fmt.fraction_bits, fmt.bias)
    expected = theirs.to_numpy()
    result = fmt.decode(fmt.encode(x, "nearest-even", "special"))
    np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(np.signbit(result), np.signbit(expected))


@pytest.mark.parametrize("mode", APYTYPES_MODES)
@pytest.mark.parametrize("name", ["e4m3", "e5m2", "e3m4"])
def test_apytypes_multiply_add(name: str, mode: str) -> None:
    """All 2^16 pairs, special codes too, rounded back into the format."""
    fmt = get_format(name)
    every = np.arange(256, dtype=fmt.dtype)
    values = fmt.table()
    x, y = (
        apytypes.APyFloatArray.from_array(v, fmt.exponent_bits, fmt.fraction_bits, fmt.bias)
        for v in np.broadcast_arrays(values[:, None], values[None, :])
    )
    with apytypes.APyFloatQuantizationContext(APYTYPES_MODES[mode]):
        total, product = (x + y).to_numpy(), (x * y).to_numpy()
    profile = Profile(
        "p", accumulator=fmt, between_chunks=fmt, chunk_length=0, products_per_step=2, rounding=mode
    )
    one = np.full(256, fmt.encode(1.0))
    left, right = np.stack([every, one], axis=1), np.stack([one, every])
    for a, b, expected in ((left, right, total), (left[:, :1], right[1:], product)):
        result = fmt.decode(gemm(a, b, profile, a_format=fmt, b_format=fmt))
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("mode", APYTYPES_MODES)
def test_apytypes_matrix_product(mode: str) -> None:
    """Rounded after every step in the directed modes too; their product is exact in 1-6-9 here."""
    rng = np.random.default_rng(13)
    fmt, acc = get_format("e4m3"), get_format("ieee-169")
    a = fmt.encode(rng.standard_normal((9, 70)))
    b = fmt.encode(rng.standard_normal((70, 8)))
    context = apytypes.APyFloatAccumulatorContext(
        exp_bits=6, man_bits=9, bias=31, quantization=APYTYPES_MODES[mode]
    )
    left, right = (apytypes.APyFloatArray.from_array(fmt.decode(x), 4, 3) for x in (a, b))
    with context:
        expected = (left @ right).to_numpy()
    profile = get_profile("fp8-2018").replace(chunk_length=0, rounding=mode)
    result = acc.decode(gemm(a, b, profile, a_format=fmt, b_format=fmt))
    np.testing.assert_array_equal(result, expected)
