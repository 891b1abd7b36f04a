"""Fixed point ⟨IL, FL⟩ against rational arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from hfp8sim.errors import InputError
from hfp8sim.formats import FixedPoint
from hfp8sim.formats.fixed import FIXED_MODES
from tests.oracle import floor

FORMATS = [
    FixedPoint(*f) for f in ((8, 8), (1, 7), (2, 6), (4, 0), (2, 14), (4, 12), (1, 31), (32, 0))
]


def exact(fmt: FixedPoint, x: float, mode: str, r: int, R: int) -> int:
    """Gupta et al. (2015), Convert(x, ⟨IL, FL⟩), as an integer multiple of ε."""
    low, high = -(2 ** (fmt.bits - 1)), 2 ** (fmt.bits - 1) - 1
    if x in (np.inf, -np.inf):
        return high if x > 0 else low
    s = Fraction(x) * 2**fmt.fraction_bits
    n = floor(s)
    nu = s - n
    half = Fraction(1, 2)
    up = {
        "nearest-down": nu > half,
        "nearest-even": nu > half or (nu == half and n % 2 == 1),
        "nearest-away": nu > half or (nu == half and x > 0),
        "toward-zero": nu > 0 and x < 0,
        "toward-positive": nu > 0,
        "toward-negative": False,
        "stochastic": floor(nu * 2**r) + R >= 2**r,
    }[mode]
    return min(max(n + up, low), high)


def points(fmt: FixedPoint) -> np.ndarray:
    rng = np.random.default_rng(1)
    n = np.concatenate([rng.integers(-(2 ** (fmt.bits - 1)), 2 ** (fmt.bits - 1), 300), [-1, 0, 1]])
    n = np.concatenate([n, [-(2 ** (fmt.bits - 1)), 2 ** (fmt.bits - 1) - 1]])
    x = np.concatenate([n + d for d in (0, 0.25, 0.5, 0.75, -0.5, 1e-6)]) * fmt.epsilon
    x = np.concatenate([x, np.nextafter(x, -np.inf), np.nextafter(x, np.inf)])
    ends = [0.0, -0.0, np.inf, -np.inf, 1e300, -1e300, 5e-324, -5e-324, fmt.max * 2, fmt.min * 2]
    return np.concatenate([x, ends])


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda f: f.name)
def test_conversion(fmt: FixedPoint) -> None:
    x = points(fmt)
    for mode in FIXED_MODES:
        for r in (1, 13, 24) if mode == "stochastic" else (13,):
            R = np.random.default_rng(2).integers(0, 2**r, x.size) if mode == "stochastic" else None
            values = fmt.decode(fmt.encode(x, mode, random_bits=R, bits=r))
            expected = [
                exact(fmt, float(v), mode, r, 0 if R is None else int(R[i])) * fmt.epsilon
                for i, v in enumerate(x)
            ]
            np.testing.assert_array_equal(values, expected, err_msg=mode)


def test_codes() -> None:
    fmt = FixedPoint(4, 4)
    assert (fmt.min, fmt.max, fmt.epsilon, fmt.dtype) == (-8.0, 7.9375, 0.0625, np.uint8)
    np.testing.assert_array_equal(
        fmt.encode([-8, -0.0625, 0, 1, 7.9375]), [0x80, 0xFF, 0, 0x10, 0x7F]
    )
    codes = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(fmt.encode(fmt.decode(codes)), codes)


def test_stochastic_mean() -> None:
    """With every random word once the mean is exact to one part in 2^r, also for negative numbers."""
    fmt, r = FixedPoint(4, 4), 10
    for x in (1 + 3 / 256, -1 - 3 / 256, 0.0625 * 0.3, -0.0625 * 0.3):
        R = np.arange(2**r)
        mean = fmt.decode(
            fmt.encode(np.full(R.size, x), "stochastic", random_bits=R, bits=r)
        ).mean()
        assert 0 <= x - mean < fmt.epsilon * 2.0**-r


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: FixedPoint(0, 8), "needs IL ≥ 1"),
        (lambda: FixedPoint(20, 20), "IL \\+ FL ≤ 32"),
        (lambda: FixedPoint(4, 4).encode([1.0, np.nan]), r"NaN at \[1\]"),
        (lambda: FixedPoint(4, 4).encode([1.0, 8.0], overflow="error"), r"overflow at \[1\]"),
        (lambda: FixedPoint(4, 4).encode([1.0], "to-odd"), "unknown rounding mode of fixed point"),
        (lambda: FixedPoint(4, 4).encode([1.0], overflow="wrap"), "unknown overflow policy"),
        (lambda: FixedPoint(4, 4).encode([1.0], "stochastic"), "needs random_bits"),
        (lambda: FixedPoint(4, 4).encode([1.0], "stochastic", random_bits=[8], bits=3), r"0\.\.7"),
        (lambda: FixedPoint(4, 4).decode(np.array([256])), r"0\.\.255"),
    ],
)
def test_bad_input(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
