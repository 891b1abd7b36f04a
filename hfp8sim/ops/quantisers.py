"""Quantisers of 4-bit and fixed-point training, as pure functions on arrays.

Each is computed in binary64 as written here, and returns integers or powers of two with their step, so that a product of
quantised operands is exact. Fixed point ⟨IL, FL⟩ is `formats.fixed.FixedPoint`. The scale of a layer's
errors (GradScale) is `recipes.scale.LayerScale`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hfp8sim.errors import InputError, unknown
from hfp8sim.floating_point import standard_arithmetic
from hfp8sim.formats import FloatFormat

Reals = NDArray[np.float64]


class Quantised(NamedTuple):
    """Integers n on a uniform grid: values are `offset + step·n`."""

    codes: NDArray[np.int32]
    step: float
    offset: float = 0.0

    @property
    @standard_arithmetic
    def values(self) -> Reals:
        """The numbers, float64."""
        return self.offset + self.step * self.codes.astype(np.float64)


def _reals(x: ArrayLike, what: str) -> Reals:
    """Finite real numbers as float64."""
    array = np.asarray(x)
    if array.dtype.kind not in "fiub":
        raise InputError(f"{what} must be real numbers, not {array.dtype}")
    values = array.astype(np.float64)
    if not np.isfinite(values).all():
        first = ", ".join(str(int(i)) for i in np.argwhere(~np.isfinite(values))[0])
        raise InputError(
            f"{what} at [{first}] is {values[~np.isfinite(values)][0]}, must be finite"
        )
    return values


def _positive(alpha: float, what: str) -> float:
    value = float(alpha)
    if not (value > 0 and np.isfinite(value)):
        raise InputError(f"{what} is {alpha}, must be positive and finite")
    return value


def _width(bits: int, most: int = 16) -> int:
    if isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= most:
        raise InputError(f"bits of a quantiser is {bits!r}, must be an integer 1..{most}")
    return bits


def _nearest(x: Reals, rounding: str) -> Reals:
    """To the nearest integer. `nearest-up`: a tie goes up; `nearest-even`: to the even integer."""
    if rounding == "nearest-even":
        return np.rint(x)
    if rounding != "nearest-up":
        raise unknown("rounding of a quantiser", rounding, ("nearest-up", "nearest-even"))
    low = np.floor(x)
    return np.asarray(low + (x - low >= 0.5))


# -- PACT --------------------------------------------------------------------------------------------------


@standard_arithmetic
def pact(
    x: ArrayLike, alpha: float, bits: int, rounding: str = "nearest-up", *, signed: bool = False
) -> Quantised:
    """Parameterised clipping activation (Choi et al., 2018): [0, α] in 2^bits levels.

    n = round(clip(x, 0, α)·(2^bits − 1)/α). **Choice**: a tie goes up; PyTorch's rounding is `nearest-even`.

    Args:
        signed: [−α, α] in 2^bits − 1 levels, for activations of both signs (**choice**).

    Raises:
        InputError: numbers that are not finite, an α that is not positive, bits outside 1..16, or 1 bit if signed.
    """
    values, top = _reals(x, "activation"), _positive(alpha, "alpha")
    levels = (1 << _width(bits) - signed) - 1
    if not levels:
        raise InputError("bits of a signed quantiser is 1, must be an integer 2..16")
    codes = _nearest(np.clip(values, -top if signed else 0.0, top) * levels / top, rounding)
    return Quantised(codes.astype(np.int32), top / levels)


class PactGradient(NamedTuple):
    """Gradients of PACT by the straight-through estimator."""

    x: Reals
    alpha: float


@standard_arithmetic
def pact_gradient(
    x: ArrayLike, alpha: float, dy: ArrayLike, bits: int = 0, rounding: str = "nearest-up", *,
    signed: bool = False,
) -> PactGradient:  # fmt: skip
    """Gradients with respect to x and α.

    dx is dy where 0 ≤ x < α, else 0. dα is the sum of dy where x ≥ α: at x = α the gradient goes to α alone, as the
    paper defines it. If signed, dx is dy where −α < x < α, and dα also has −dy where x ≤ −α. Given `bits`, dα also has the terms dy·(n − z)/(2^bits − 1) of the elements inside, z before the
    rounding and n after it (PACT+).

    Raises:
        InputError: as `pact`; shapes that differ.
    """
    values, gradient, top = (
        _reals(x, "activation"),
        _reals(dy, "gradient"),
        _positive(alpha, "alpha"),
    )
    if values.shape != gradient.shape:
        raise InputError(
            f"gradient has shape {gradient.shape}, must be the activation's, {values.shape}"
        )
    inside = (values > -top if signed else values >= 0) & (values < top)
    of_alpha = float(gradient[values >= top].sum())
    if signed:
        of_alpha -= float(gradient[values <= -top].sum())
    if bits:
        levels = (1 << _width(bits) - signed) - 1
        z = values[inside] * levels / top
        of_alpha += float((gradient[inside] * (_nearest(z, rounding) - z) / levels).sum())
    return PactGradient(np.where(inside, gradient, 0.0), of_alpha)


# -- SAWB --------------------------------------------------------------------------------------------------


class SawbGrid(NamedTuple):
    """Levels and coefficients of statistics-aware weight binning."""

    levels: int
    c1: float
    c2: float

    @property
    def has_zero(self) -> bool:
        """Whether zero is on the grid: the number of levels is odd."""
        return self.levels % 2 == 1


#: Grids by name, with IBM's coefficients (foundation-model-stack, fms-model-optimizer). Names with `z` have zero on
#: the grid and one level less: `4z` is −7 … 7.
SAWB_GRIDS = {
    "2": SawbGrid(4, 3.12, -2.064),
    "2z": SawbGrid(3, 2.6, -1.71),
    "3": SawbGrid(8, 7.509, -6.892),
    "4": SawbGrid(16, 12.68, -12.80),
    "4z": SawbGrid(15, 12.035, -12.03),
    "5": SawbGrid(32, 17.74, -18.64),
    "7z": SawbGrid(127, 28.24, -30.81),
    "8": SawbGrid(256, 31.76, -35.04),
    "8z": SawbGrid(255, 31.76, -35.04),
}


def sawb_grid(name: str) -> SawbGrid:
    """The grid with that name; `InputError` for an unknown one."""
    if name not in SAWB_GRIDS:
        raise unknown("SAWB grid", name, list(SAWB_GRIDS))
    return SAWB_GRIDS[name]


def sawb_scale(rms: float, mean_magnitude: float, grid: str) -> float:
    """α* = c₁·√E[w²] + c₂·E|w|: where the grid ends (Choi et al., 2019). It may be negative."""
    _, c1, c2 = sawb_grid(grid)
    return c1 * rms + c2 * mean_magnitude


@standard_arithmetic
def sawb(w: ArrayLike, grid: str = "4z", rounding: str = "nearest-up") -> Quantised:
    """Statistics-aware weight binning: uniform levels from −α* to α*.

    With zero on the grid codes are −n … n, with n = (levels − 1)/2. Without it they are 0 … levels − 1 and the offset is −α*.
    Where α* is not positive, α is the largest magnitude. Its gradient is the identity (straight-through).

    Raises:
        InputError: numbers that are not finite, no weight, or an unknown grid.
    """
    values, shape = _reals(w, "weight"), sawb_grid(grid)
    if not values.size:
        raise InputError("SAWB needs at least one weight")
    alpha = sawb_scale(float(np.sqrt(np.mean(values**2))), float(np.mean(np.abs(values))), grid)
    if alpha <= 0:
        alpha = float(np.abs(values).max()) or 1.0
    clipped = np.clip(values, -alpha, alpha)
    if shape.has_zero:
        top = shape.levels // 2
        return Quantised(_nearest(clipped * top / alpha, rounding).astype(np.int32), alpha / top)
    step = 2 * alpha / (shape.levels - 1)
    codes = _nearest((clipped + alpha) / step, rounding)
    return Quantised(codes.astype(np.int32), step, -alpha)


# -- radix 4 --------------------------------------------------------------------------------------------------

#: Exponents of radix-4 FP4, 1-3-0: ±4^−3 … ±4^3, and zero.
RADIX4_LOWEST, RADIX4_HIGHEST = -3, 3


@standard_arithmetic
def radix4(x: ArrayLike, phase: str = "even", zero_below: float = 0.625) -> Reals:
    """Radix-4 FP4 with two phases (Sun et al., NeurIPS 2020): to the nearest ±4^k, or ±2·4^k.

    A magnitude between 4^(k−1) and 4^k goes up from their midpoint 2.5·4^(k−1) on. `odd` is twice `even` of x/2. **Choice**: `even`
    for dgrad and `odd` for wgrad, and below `zero_below`·4^−3 zero. A NaN stays, and infinity saturates.

    Returns:
        float64 of x's shape: 0 or powers of two from 2^−6 to 2^7.
    """
    if phase not in ("even", "odd"):
        raise unknown("phase of radix 4", phase, ("even", "odd"))
    values = np.asarray(x, np.float64)
    factor = 2.0 if phase == "odd" else 1.0
    exponents = np.arange(RADIX4_LOWEST, RADIX4_HIGHEST + 1)
    grid = np.concatenate([[0.0], 4.0**exponents])
    limits = np.concatenate([[zero_below * grid[1]], 2.5 * grid[1:-1]])
    magnitude = grid[np.searchsorted(limits, np.abs(values) / factor, side="right")] * factor
    return np.where(np.isnan(values), values, np.copysign(magnitude, values))


# -- LUQ ------------------------------------------------------------------------------------------------------


def powers_of_two(count: int) -> FloatFormat:
    """Zero and 2^0 … 2^(count − 1), as a format without fraction."""
    exponent_bits = int(count).bit_length()
    return FloatFormat("powers", exponent_bits, 0, 1, lowest="normal", special="none")


@standard_arithmetic
def luq(
    x: ArrayLike,
    random_bits: ArrayLike | None,
    bits: int = 24,
    magnitudes: int = 7,
    largest: float | None = None,
) -> Quantised:
    """Logarithmic unbiased quantisation (Chmiel et al., 2021): 0, ±α, ±2α, … ±2^(magnitudes − 1)·α.

    α is the largest magnitude over 2^(magnitudes − 1), so that nothing is clipped. Between two of the numbers, 0 included, a
    number goes up with the probability that makes it unbiased: the stochastic rounding of docs/numerics.md, section 2, of
    x/α. **Choice**: seven magnitudes, as a 1-3-0 code has.

    Args:
        x: real numbers.
        random_bits: an integer below 2^bits for each; None: to nearest, as for tensors of the forward pass.
        bits: r.
        magnitudes: the count of powers of two; one below a power of two, 3, 7 or 15.
        largest: in place of the largest magnitude; larger numbers saturate.

    Returns:
        Codes 0, ±1, ±2, ±4, …, and α as the step.
    """
    values = _reals(x, "error")
    if magnitudes not in (3, 7, 15):
        raise InputError(f"magnitudes of LUQ is {magnitudes}, must be 3, 7 or 15")
    top = (
        float(np.abs(values).max(initial=0.0)) if largest is None else _positive(largest, "largest")
    )
    step = top / 2.0 ** (magnitudes - 1) if top else 1.0
    fmt = powers_of_two(magnitudes)
    settings: dict[str, Any] = {"rounding": "nearest-away"}
    if random_bits is not None:
        settings = {"rounding": "stochastic", "random_bits": random_bits, "bits": bits}
    codes = fmt.decode(fmt.encode(values / step, overflow="saturate", **settings))
    return Quantised(codes.astype(np.int32), step)
