"""Microscaling: blocks of numbers that share one power-of-two scale (OCP MX v1.0, 2023).

A block of 32 numbers v becomes a scale X = 2^(floor(log2 max|v|) − emax), an `e8m0` code, and elements
round(v / X), where emax is the exponent of the element format's largest number. Elements saturate.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hfp8sim.errors import InputError
from hfp8sim.floating_point import standard_arithmetic
from hfp8sim.formats.fixed import FixedPoint
from hfp8sim.formats.record import FloatFormat
from hfp8sim.formats.registry import get_format

#: Numbers in a block, as the standard has it.
BLOCK = 32
#: MXINT8's elements: two's complement with 6 fraction bits.
MXINT8 = FixedPoint(2, 6)
#: The standard's formats by name. Any format of this package can stand in for the element.
ELEMENTS: dict[str, str | FixedPoint] = {
    "mxfp8-e5m2": "e5m2", "mxfp8-e4m3": "e4m3fn", "mxfp6-e3m2": "e3m2", "mxfp6-e2m3": "e2m3",
    "mxfp4": "e2m1", "mxint8": MXINT8,
}  # fmt: skip

_SCALE_BIAS = 127
_SCALE_NAN = 0xFF  # the code of NaN in `e8m0`


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Numbers in blocks along the last axis."""

    element: FloatFormat | FixedPoint
    codes: NDArray[np.unsignedinteger]  #: (..., n), element codes
    scales: NDArray[np.uint8]  #: (..., ceil(n / block)), `e8m0` codes
    block: int = BLOCK

    @standard_arithmetic
    def dequantise(self) -> NDArray[np.float64]:
        """The numbers that the blocks stand for, float64 (..., n), exact; NaN where the scale is NaN."""
        values: NDArray[np.float64] = self.element.decode(self.codes)
        scale: NDArray[np.float64] = get_format("e8m0").decode(self.scales)
        return values * np.repeat(scale, self.block, axis=-1)[..., : values.shape[-1]]


def element_format(name: str | FloatFormat | FixedPoint) -> FloatFormat | FixedPoint:
    """An element format: one of `ELEMENTS`, a format's name, or a record."""
    fmt = ELEMENTS.get(name, name) if isinstance(name, str) else name
    return fmt if isinstance(fmt, FixedPoint) else get_format(fmt)


def top_exponent(element: FloatFormat | FixedPoint) -> int:
    """emax: floor(log2) of the largest number."""
    return int(np.frexp(element.max)[1]) - 1


@standard_arithmetic
def quantise(
    x: ArrayLike,
    element: str | FloatFormat | FixedPoint = "e4m3fn",
    rounding: str = "nearest-even",
    *,
    block: int = BLOCK,
    random_bits: ArrayLike | None = None,
    bits: int = 13,
) -> Blocks:
    """Quantise blocks along the last axis; the last block may be short.

    The scale's exponent is clipped to −127..127. A block with a NaN or an infinity gets a NaN scale (and
    element codes 0); a block of zeros the smallest one.

    Args:
        x: real numbers, float32 or float64, (..., n).
        element: one of `ELEMENTS`, a format or its name.
        rounding, random_bits, bits: of the elements, as `FloatFormat.encode`.
        block: numbers in a block.

    Raises:
        InputError: a scalar, a block size below 1, and what `encode` refuses.
    """
    fmt = element_format(element)
    values = np.asarray(x, np.float64)
    if values.ndim == 0:
        raise InputError("blocks need at least one axis: x is a scalar")
    if block < 1:
        raise InputError(f"block is {block}, must be at least 1")
    count = -(-values.shape[-1] // block)
    padding = [(0, 0)] * (values.ndim - 1) + [(0, count * block - values.shape[-1])]
    blocks = np.pad(values, padding).reshape(*values.shape[:-1], count, block)

    finite = np.asarray(np.isfinite(blocks).all(axis=-1))
    largest = np.where(finite, np.abs(blocks).max(axis=-1, initial=0.0), 0.0)
    exponent = np.frexp(largest)[1] - 1 - top_exponent(fmt)
    exponent = np.where(largest > 0, np.clip(exponent, -_SCALE_BIAS, _SCALE_BIAS), -_SCALE_BIAS)
    scales = np.where(finite, exponent + _SCALE_BIAS, _SCALE_NAN).astype(np.uint8)

    scaled = _divided(np.where(finite[..., None], blocks, 0.0), exponent[..., None])
    flat = scaled.reshape(*values.shape[:-1], count * block)[..., : values.shape[-1]]
    return Blocks(fmt, fmt.encode(flat, rounding, "saturate", random_bits, bits), scales, block)


def _divided(v: NDArray[np.float64], exponent: NDArray[np.int64]) -> NDArray[np.float64]:
    """v·2^−exponent; what falls below binary64 keeps its sign, so that every mode still rounds it right."""
    scaled = np.ldexp(v, -exponent)
    return np.where((scaled == 0) & (v != 0), np.copysign(5e-324, v), scaled)
