"""From tensors to operands: plain roundings, and the quantisers of docs/numerics.md, section 7.

A quantiser gives integers or powers of two, and a step that is a factor outside the product.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfp8sim.formats import FloatFormat, get_format
from hfp8sim.ops import Operand, quantisers
from hfp8sim.recipes.record import POWERS_OF_TWO, Quantiser
from hfp8sim.units.sites import STOCHASTIC, Draw, Place, Site

Values = NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Encoded:
    """An operand times a step: an element's value is decode(code) · 2^exponent · step."""

    operand: Operand
    step: float = 1.0
    largest: float | None = None  #: the tensor's largest magnitude, where its scale follows it

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the codes."""
        return self.operand.shape

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return self.operand.ndim

    @property
    def T(self) -> Encoded:
        """The transpose."""
        return self.with_operand(self.operand.T)

    def transpose(self, *axes: int) -> Encoded:
        """The axes in another order."""
        return self.with_operand(self.operand.transpose(*axes))

    def with_operand(self, operand: Operand) -> Encoded:
        """Other codes of the same tensor."""
        return dataclasses.replace(self, operand=operand)

    def values(self) -> Values:
        """The values, float32."""
        return self.operand.values() * np.float32(self.step)


def largest_magnitude(x: Values) -> float:
    """The largest finite magnitude."""
    return float(np.abs(x).max(initial=0.0, where=np.isfinite(x)))


def rounded(
    x: Values, site: Site, seed: int, stream: int, *, exponent: int, threads: int
) -> Encoded:
    """A tensor, rounded at a site as codes of x · 2^exponent."""
    operand = Operand.encode(
        x, site.record, rounding=site.rounding, overflow=site.overflow, bits=site.random_bits,
        seed=seed, stream=stream, exponent=-exponent, threads=threads,
    )  # fmt: skip
    return Encoded(operand)


def _codes(
    codes: NDArray[Any], step: float, fmt: FloatFormat, x: Values, top: float, exponent: int = 0
) -> Encoded:
    """Numbers of a format as an operand.

    Args:
        codes: numbers that the format holds.
        x: the tensor, and `top`, the largest number of its grid: counts of what saturated and became zero.
        exponent: of the scale of the codes.
    """
    numbers = codes.astype(np.float32)
    plain = Operand.encode(numbers, fmt)
    saturated = int(np.count_nonzero(np.abs(x) > top))
    flushed = int(np.count_nonzero((codes == 0) & (x != 0)))
    operand = Operand(
        plain.codes, fmt, -exponent, saturated=saturated, underflowed=flushed
    )  # fmt: skip
    return Encoded(operand, step)


def _fixed(bits: int) -> FloatFormat:
    """Integers of magnitude up to 2^(bits − 1) − 1."""
    return get_format(f"fixed{max(bits, 3)}.0")


def _pact(x: Values, bits: int, alpha: float | None) -> Encoded:
    signed = has_negative(x)
    top = alpha if alpha is not None else largest_magnitude(x) or 1.0
    codes, step, _offset = quantisers.pact(x, top, bits, signed=signed)
    return _codes(codes, step, _fixed(bits if signed else bits + 1), x, top)


def has_negative(x: Values) -> bool:
    """Whether a tensor holds a number below zero."""
    return bool((x < 0).any())


def _sawb(x: Values, bits: int, grid: str) -> Encoded:
    codes, step, offset = quantisers.sawb(x, grid)
    levels = quantisers.sawb_grid(grid).levels
    if offset:  # without zero: odd integers from −(levels − 1) to levels − 1
        return _codes(2 * codes - (levels - 1), step / 2, _fixed(bits + 1), x, -offset)
    return _codes(codes, step, _fixed(bits), x, step * (levels // 2))


def _radix4(x: Values, exponent: int) -> tuple[Encoded, Encoded]:
    scaled = np.ldexp(x.astype(np.float64), exponent)
    even, odd = (
        _codes(quantisers.radix4(scaled, phase), 1.0, POWERS_OF_TWO, scaled, top, exponent)
        for phase, top in (("even", RADIX4_TOP), ("odd", 2 * RADIX4_TOP))
    )
    return even, odd


#: The largest number of the even grid of radix 4.
RADIX4_TOP = 4.0**quantisers.RADIX4_HIGHEST


def _luq(x: Values, draw: Draw | None) -> Encoded:
    """Stochastic with random words, else to nearest."""
    random = None
    if draw is not None:
        random = draw.words(Place.OPERAND, STOCHASTIC, x.size).reshape(x.shape)
    codes, step, _offset = quantisers.luq(x, random, STOCHASTIC.random_bits)
    return _codes(codes, step, POWERS_OF_TWO, x, np.inf)


def quantised(
    x: Values, quantiser: Quantiser, role: str, draw: Draw, *, alpha: float | None, exponent: int
) -> tuple[Encoded, ...]:
    """A tensor as a quantiser's operand; of an error in radix 4 as those of dgrad and wgrad.

    Args:
        x: float32.
        role: `x`, `w` or `error`.
        draw: whose random words.
        alpha: PACT's; None: the largest magnitude.
        exponent: of the scale of radix 4; the others have their own.
    """
    kind, bits = quantiser
    if kind == "pact":
        return (_pact(x, bits, alpha),)
    if kind == "radix4":
        return _radix4(x, exponent)
    if kind == "luq":
        return (_luq(x, draw if role == "error" else None),)
    has_zero = kind == "sawb" and f"{bits}z" in quantisers.SAWB_GRIDS
    return (_sawb(x, bits, f"{bits}z" if has_zero else str(bits)),)


#: Scales do not aim above this, so that sums of products stay in a 16-bit accumulator's range.
_HIGHEST_TOP = 256.0


def top_of(site: Site, quantiser: Quantiser | None = None) -> float:
    """The largest scaled magnitude that a scale aims at."""
    if quantiser is not None and quantiser.kind == "radix4":
        return RADIX4_TOP
    return min(site.record.max, _HIGHEST_TOP)


def learns_alpha(quantiser: Quantiser | None) -> bool:
    """Whether a quantiser has a trained α."""
    return quantiser is not None and quantiser.kind == "pact"
