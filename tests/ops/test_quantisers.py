"""Quantisers against golden values."""

from __future__ import annotations

import numpy as np
import pytest

from hfp8sim.errors import InputError
from hfp8sim.formats import get_format
from hfp8sim.formats.fixed import FixedPoint
from hfp8sim.ops.quantisers import (
    SAWB_GRIDS,
    Quantised,
    luq,
    pact,
    pact_gradient,
    radix4,
    sawb,
    sawb_scale,
)
from hfp8sim.recipes import get_recipe

# -- PACT


def test_pact() -> None:
    """Four bits, α = 6: steps of 0.4. A tie goes up by choice."""
    x = np.array([-1, 0.19, 0.2, 0.6, 3, 5.79, 5.81, 6, 7])
    result = pact(x, 6, 4)
    np.testing.assert_array_equal(result.codes, [0, 0, 1, 2, 8, 14, 15, 15, 15])
    np.testing.assert_allclose(result.values, [0, 0, 0.4, 0.8, 3.2, 5.6, 6, 6, 6], rtol=1e-15)
    assert pact(0.2, 6, 4, "nearest-even").codes == 0
    assert pact(1.0, 6, 4, "nearest-even").codes == 2  # z = 2.5


def test_pact_gradient() -> None:
    """At x = α the gradient goes to α alone."""
    x = np.array([-1, 0, 3, 5.9, 6, 7])
    dy = np.array([1, 2, 4, 8, 16, 32.0])
    dx, dalpha = pact_gradient(x, 6, dy)
    np.testing.assert_array_equal(dx, [0, 2, 4, 8, 0, 0])
    assert dalpha == 48


def test_pact_gradient_inside() -> None:
    """The term of PACT+ is the derivative of the quantised value with the rounding held."""
    x, dy, alpha, bits = np.array([0.3, 1.7, 2.55, 4.0]), np.array([1.0, -2, 3, 0.5]), 6.0, 4
    z, n = x * 15 / alpha, pact(x, alpha, bits).codes
    expected = (dy * (n - z) / 15).sum()
    assert pact_gradient(x, alpha, dy, bits).alpha == pytest.approx(expected, rel=1e-15)
    assert pact_gradient(x, alpha, dy).alpha == 0


# -- SAWB

#: Rows of E|w| and rms, and α by grid.
MOMENTS = {
    "gauss": (0.797885, 1, 1.2356, 1.4732, 2.0100, 2.4671, 2.4364, 2.8674),
    "laplace": (1, 1.414214, 1.9670, 2.3483, 3.7273, 5.1322, 4.9901, 6.4481),
    "uniform": (0.5, 0.577350, 0.6461, 0.7693, 0.8893, 0.9208, 0.9334, 0.9222),
    "triangle": (0.333333, 0.408248, 0.4914, 0.5857, 0.7682, 0.9099, 0.9033, 1.0290),
    "logistic": (1.386294, 1.813799, 2.3453, 2.7977, 4.0655, 5.2544, 5.1520, 6.3363),
}  # fmt: skip


@pytest.mark.parametrize("name", MOMENTS)
def test_sawb_scales(name: str) -> None:
    mean, rms, *scales = MOMENTS[name]
    for grid, expected in zip(("2z", "2", "3", "4", "4z", "5"), scales, strict=True):
        assert sawb_scale(rms, mean, grid) == pytest.approx(expected, abs=1.1e-4), grid


W = np.arange(-4, 6) / 8


def test_sawb_vectors() -> None:
    result = sawb(W, "4z")
    np.testing.assert_array_equal(result.codes, [-6, -4, -3, -1, 0, 1, 3, 4, 6, 7])
    assert result.step == pytest.approx(0.089513447, rel=1e-8) and result.offset == 0
    result = sawb(W, "4")
    np.testing.assert_array_equal(result.codes, [1, 3, 4, 6, 8, 9, 11, 12, 14, 15])
    assert result.step == pytest.approx(0.082803917, rel=1e-8)
    assert result.offset == pytest.approx(-0.621029377, rel=1e-8)
    result = sawb(W, "2z")
    np.testing.assert_array_equal(result.codes, [-1, -1, -1, 0, 0, 0, 1, 1, 1, 1])
    assert result.step == pytest.approx(0.413154683, rel=1e-8)


def test_sawb_reaches_every_level() -> None:
    w = np.linspace(-1, 1, 20_001)
    for name, grid in SAWB_GRIDS.items():
        result = sawb(w, name)
        assert len(np.unique(result.codes)) == grid.levels, name
        alpha = sawb_scale(np.sqrt(np.mean(w**2)), np.mean(np.abs(w)), name)
        assert abs(result.values).max() == pytest.approx(alpha)
        assert (0 in result.values) == grid.has_zero


def test_sawb_with_negative_scale_ends_at_the_largest() -> None:
    """Equal magnitudes: c₁·√E[w²] + c₂·E|w| is negative for four bits."""
    result = sawb(np.array([0.5, -0.5]), "4")
    np.testing.assert_allclose(result.values, [0.5, -0.5])
    np.testing.assert_array_equal(sawb(np.zeros(3), "4z").values, 0)


def test_sawb_is_near_the_best_scale() -> None:
    """Of normally distributed weights the published fit is within 4 % of the scale with least error, 2.474."""
    w = np.random.default_rng(0).standard_normal(1 << 16)

    def error(alpha: float) -> float:
        step = alpha / 7
        return float(np.mean((np.clip(np.rint(w / step), -7, 7) * step - w) ** 2))

    best = min(np.linspace(2, 3, 201), key=error)
    assert best == pytest.approx(2.474, rel=0.02)
    assert sawb(w, "4z").step * 7 == pytest.approx(best, rel=0.04)


# -- radix 4

EVEN_AND_ODD = [
    (100, 64, 128), (64, 64, 32), (40, 64, 32), (39.99, 16, 32), (20, 16, 32), (16, 16, 8),
    (12, 16, 8), (10, 16, 8), (9.99, 4, 8), (8, 4, 8), (5, 4, 8), (3, 4, 2), (2.5, 4, 2),
    (2.49, 1, 2), (2, 1, 2), (1, 1, 0.5), (0.625, 1, 0.5), (0.6249, 0.25, 0.5),
    (4**-3, 4**-3, 0), (0.625 * 4**-3, 4**-3, 0), (0.6249 * 4**-3, 0, 0), (-7, -4, -8),
    (1000, 64, 128), (0, 0, 0),
]  # fmt: skip


def test_radix4() -> None:
    x, even, odd = np.array(EVEN_AND_ODD).T
    np.testing.assert_array_equal(radix4(x, "even"), even)
    np.testing.assert_array_equal(radix4(x, "odd"), odd)
    assert radix4(0.6 * 4**-3, zero_below=0.5) == 4**-3
    assert np.isnan(radix4(np.nan)) and radix4(-np.inf) == -64


def test_radix4_phases_have_one_bias() -> None:
    """Of log-uniform magnitudes both phases lose 13.4 %, 1.2/ln 4 − 1; their mean has six tenths of the error."""
    x = 4.0 ** np.linspace(-1, 1, 200_001)[:-1]
    even, odd = radix4(x, "even"), radix4(x, "odd")
    for result in (even, odd):
        assert np.mean(result / x) - 1 == pytest.approx(1.2 / np.log(4) - 1, abs=1e-4)

    def error(y):
        return np.sqrt(np.mean((y / x - 1) ** 2))

    assert error(even) == pytest.approx(0.36, abs=0.01)
    assert error((even + odd) / 2) == pytest.approx(0.22, abs=0.01)


def test_radix4_fits_its_operand_format() -> None:
    site = get_recipe("int4-2020").site("error")
    assert site is not None
    fmt = site.record
    x = 2.0 ** np.linspace(-8, 8, 1000)
    for phase in ("even", "odd"):
        values = radix4(np.concatenate([x, -x]), phase)
        np.testing.assert_array_equal(fmt.decode(fmt.encode(values)), values)


# -- LUQ


def test_luq_is_unbiased() -> None:
    """All 2^12 random integers: the mean is x, cut to a multiple of 2^−12 of the gap."""
    random = np.arange(1 << 12)
    x = np.array([0.3, 0.51, 1.0, 1.7, 3.2, 33.3, 64.0, -5.5])
    grid = np.array([0, 1, 2, 4, 8, 16, 32, 64])
    for value in x:
        result = luq(np.full(1 << 12, value), random, 12, largest=64.0)
        low = grid[grid <= abs(value)].max()
        high = grid[grid >= abs(value)].min()
        assert set(np.unique(np.abs(result.codes))) <= {low, high}
        gap = max(high - low, 1) * 2.0**-12
        assert 0 <= abs(value) - abs(result.values.mean()) < gap
        assert np.sign(result.values.mean()) == np.sign(value)


def test_luq_scale() -> None:
    """The largest magnitude is on the grid, and the smallest of seven is 1/64 of it."""
    x = np.array([0.75, -3.0, 0.0, 3 / 64])
    result = luq(x, np.zeros(4, np.int64))
    assert result.step == 3 / 64
    np.testing.assert_array_equal(result.codes, [16, -64, 0, 1])
    assert luq(x, None, magnitudes=3).step == 3 / 4
    np.testing.assert_array_equal(luq(np.zeros(3), None).values, 0)
    np.testing.assert_array_equal(luq([100.0, 1.0], None, largest=64).codes, [64, 1])


def test_luq_to_nearest() -> None:
    """floor(log2(4/3·x)): the midpoint goes up."""
    x = np.array([1, 1.49, 1.5, 2.99, 3, 47.9, 48, 64])
    np.testing.assert_array_equal(luq(x, None).codes, 2 ** np.floor(np.log2(4 / 3 * x + 1e-12)))


# -- fixed point, input formats


def test_fixed_point() -> None:
    """⟨8, 8⟩ of Gupta et al.: nearest, saturating, and stochastic with its share."""
    fixed = FixedPoint(8, 8)
    x = np.array([1 / 512, 3 / 512, -1 / 512, 200.0, -200.0])
    expected = np.array([0, 1 / 256, -1 / 256, 128 - 1 / 256, -128])
    np.testing.assert_array_equal(fixed.decode(fixed.encode(x, "nearest-down")), expected)
    codes = fixed.encode(
        np.full(1 << 10, 1 / 1024), "stochastic", random_bits=np.arange(1 << 10), bits=10
    )
    assert fixed.decode(codes).mean() == 1 / 1024


@pytest.mark.parametrize(
    "name, lost, levels", [("hfp8-143", [], 49), ("hfp8-152", [9, 11, 13, 15], 29)]
)
def test_input_formats(name: str, lost: list[int], levels: int) -> None:
    fmt = get_format(name)
    integers = np.arange(17.0)
    kept = fmt.decode(fmt.encode(integers, "nearest-away")) == integers
    assert list(np.flatnonzero(~kept)) == lost
    grey = np.arange(256.0) / 255
    values = fmt.decode(fmt.encode(grey, "nearest-away"))
    assert len(np.unique(values)) == levels


# -- arguments


@pytest.mark.parametrize(
    "call, text",
    [
        (lambda: pact([1.0, np.nan], 6, 4), r"activation at \[1\] is nan, must be finite"),
        (lambda: pact([1.0], 0, 4), "alpha is 0, must be positive"),
        (lambda: pact([1.0], 6, 0), "must be an integer 1..16"),
        (lambda: pact([1.0], 6, 4, "up"), "unknown rounding of a quantiser 'up'"),
        (lambda: pact(["a"], 6, 4), "activation must be real numbers"),
        (lambda: pact_gradient([1.0], 6, [1.0, 2.0]), r"gradient has shape \(2,\)"),
        (lambda: sawb([], "4z"), "at least one weight"),
        (lambda: sawb([1.0], "6"), "unknown SAWB grid '6'"),
        (lambda: radix4([1.0], "both"), "unknown phase of radix 4 'both'"),
        (lambda: luq([1.0], None, magnitudes=5), "must be 3, 7 or 15"),
        (lambda: luq([1.0], None, largest=-1), "largest is -1, must be positive"),
        (lambda: luq([1.0], [2**24]), "random_bits must lie in"),
    ],
)
def test_bad_arguments_are_named(call, text: str) -> None:
    with pytest.raises(InputError, match=text):
        call()


def test_values_of_codes() -> None:
    np.testing.assert_array_equal(Quantised(np.int32([0, 3]), 0.5, -1.0).values, [-1.0, 0.5])
