"""Encoding and decoding: the package, the C reference and the exact oracle say the same."""

from __future__ import annotations

import numpy as np
import pytest

from hfp8sim.errors import InputError
from hfp8sim.formats import MODES, FloatFormat, formats, get_format
from hfp8sim.formats.codec import encode
from hfp8sim.testing import boundary_values
from hfp8sim.verify import c_reference as reference
from tests import oracle

USER = (
    FloatFormat("flush-152", 5, 2, 15, lowest="flush", special="fn"),
    FloatFormat("flush-unsigned", 3, 2, 5, signed=False, zero="unsigned", lowest="flush", special="ieee"),
    FloatFormat("wide-exponent", 10, 2, 600),
    FloatFormat("low-exponent", 10, 2, 1023),  # its numbers are binary64's subnormals
    get_format("binary16p5se"),
    FloatFormat("high-exponent", 10, 2, 0, special="none"),  # and this one's its largest
    FloatFormat("no-fraction", 4, 0, 20, lowest="normal", special="nan-inf"),
    FloatFormat("one-exponent-bit", 1, 5, 0, zero="unsigned", special="fnuz"),
    FloatFormat("scale-with-fraction", 4, 3, 7, signed=False, zero="none", lowest="normal", special="fn"),
)  # fmt: skip
FAMILY = tuple(
    get_format(f"binary{k}p{p}{s}{e}")
    for k, p in ((3, 1), (4, 2), (5, 4), (8, 1), (8, 7), (10, 3), (16, 7), (16, 6))
    for s in "su"
    for e in "ef"
)
REGISTERED = tuple(get_format(name) for name in formats())
EVERY = pytest.mark.parametrize("fmt", REGISTERED + FAMILY + USER, ids=lambda f: f.name)


def same(x: oracle.X, value: float) -> bool:
    if x.kind != "number":
        return np.isnan(value) if x.kind == "nan" else value == (-np.inf if x.negative else np.inf)
    return x.value == value and x.negative == bool(np.signbit(value))


@EVERY
def test_decode(fmt: FloatFormat) -> None:
    codes = (
        np.arange(1 << fmt.bits)
        if fmt.bits <= 12
        else np.arange(0, 1 << fmt.bits, (1 << fmt.bits) // 4001)
    )
    values = fmt.decode(codes.astype(fmt.dtype))
    wrong = [int(c) for c, v in zip(codes, values) if not same(oracle.decode(fmt, int(c)), v)]
    assert not wrong
    np.testing.assert_array_equal(reference.decode(codes[:2000], fmt), values[:2000])


@EVERY
@pytest.mark.parametrize("overflow", ["saturate", "special"])
def test_encode(fmt: FloatFormat, overflow: str) -> None:
    if overflow == "special" and not (fmt.has_nan or fmt.has_inf):
        with pytest.raises(InputError, match="neither infinity nor NaN"):
            fmt.encode([1.0], overflow=overflow)
        return
    rng = np.random.default_rng(3)
    x = boundary_values(fmt, limit=300)
    few = rng.choice(x.size, min(x.size, 200), replace=False)
    for mode in MODES:
        for r in (1, 5, 24) if mode.startswith("stochastic") else (13,):
            R = rng.integers(0, 1 << r, x.size) if mode.startswith("stochastic") else None
            codes, flags = encode(x, fmt, mode, overflow, R, r)
            c_codes, c_flags = reference.encode(x, fmt, mode, overflow, R, r)
            np.testing.assert_array_equal(codes, c_codes, err_msg=f"{mode} {r}")
            np.testing.assert_array_equal(flags, c_flags, err_msg=f"flags of {mode} {r}")
            for i in few:
                bits = 0 if R is None else int(R[i])
                expected = oracle.round_code(fmt, oracle.from_float(x[i]), mode, overflow, r, bits)
                assert (int(codes[i]), int(flags[i])) == expected, (x[i].hex(), mode, r, bits)


@pytest.mark.parametrize("name", ["hfp8-143", "dlfloat16", "e4m3fn", "ieee-169"])
@pytest.mark.parametrize("mode", ["stochastic-a", "stochastic-b", "stochastic-c"])
def test_encode_stochastic(name: str, mode: str) -> None:
    """All 2^8 values of R: exactly the right number of them round away, down to zero."""
    fmt, r = get_format(name), 8
    few = np.array([1.0 + 3 * 2.0**-12, 1.0 + 2.0**-20, fmt.max * 0.999])
    tiny = fmt.min_positive * np.array([2.0**-9, 2.0**-8, 0.25, 1 / 3, 0.5, 255 / 256, 1.37])
    x = np.concatenate([few, tiny])
    R = np.arange(1 << r)
    codes = encode(np.repeat(x[:, None], R.size, 1), fmt, mode, "saturate", R[None, :], r)[0]
    for i, value in enumerate(x):
        expected = [
            oracle.round_code(fmt, oracle.from_float(value), mode, "saturate", r, int(k))[0]
            for k in R
        ]
        np.testing.assert_array_equal(codes[i], expected)


def test_error_policy() -> None:
    fmt = get_format("e4m3fn")
    with pytest.raises(InputError, match=r"at \[1, 0\] overflows e4m3fn"):
        fmt.encode([[1.0, 448.0], [1e6, 1e7]], overflow="error")
    np.testing.assert_array_equal(fmt.encode([1.0, np.nan], overflow="error"), [0x38, 0x7F])
    with pytest.raises(InputError, match=r"NaN at \[2\]: format hfp8-143 has no code"):
        get_format("hfp8-143").encode([0.0, 1.0, np.nan])
    with pytest.raises(InputError, match=r"-1.0 at \[1\] has no code in e8m0"):
        get_format("e8m0").encode([1.0, -1.0], overflow="error")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rounding": "up"}, "unknown rounding mode 'up'"),
        ({"overflow": "wrap"}, "unknown overflow policy 'wrap'"),
        ({"rounding": "stochastic"}, "needs random_bits"),
        ({"rounding": "stochastic", "random_bits": [8192]}, r"0\.\.8191"),
        ({"rounding": "stochastic", "random_bits": [-1]}, r"0\.\.8191"),
        ({"rounding": "stochastic", "random_bits": [0], "bits": 25}, r"must be 1\.\.24"),
        ({"random_bits": [0]}, "takes no random_bits"),
    ],
)
def test_bad_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        get_format("e5m2").encode([1.0], **arguments)


def test_bad_arrays() -> None:
    fmt = get_format("e2m1")
    with pytest.raises(InputError, match="real numbers"):
        fmt.encode(["one"])
    with pytest.raises(InputError, match=r"0\.\.15"):
        fmt.decode(np.array([16], np.uint8))
    with pytest.raises(InputError, match="unsigned integers"):
        fmt.decode(np.array([1.0]))


def test_shapes_and_dtypes() -> None:
    for name, dtype in (("e2m1", np.uint8), ("fp9-153", np.uint16), ("e8m13", np.uint32)):
        codes = get_format(name).encode(np.zeros((2, 0, 3)))
        assert codes.shape == (2, 0, 3) and codes.dtype == dtype
    assert get_format("e5m2").encode(np.float32(1.0)).shape == ()
