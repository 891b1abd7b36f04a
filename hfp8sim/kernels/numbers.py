"""The numbers that a kernel takes when it runs: one record of the layout `NUMBERS`.

Everything about the accumulator's formats that does not change a kernel's instructions is here. Where a
number is a float, its bits are stored, in the width of the lane it is for; all fields are 64 bits wide.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfp8sim._numba.layouts import layout
from hfp8sim.formats import FloatFormat
from hfp8sim.kernels.form import Form, Lane, Mode

#: The numbers of one rounding, to p significand bits, of a lane with h ≥ p; d = h − p bits are dropped.
ROUNDING_NUMBERS = layout(
    scale_add=np.uint64,  # d « fraction width: added to a float's bits it multiplies by 2^d
    scale=np.uint64,  # float 2^d
    scale_less_one=np.uint64,  # float 2^d − 1
    half=np.uint64,  # half a unit in the last kept place, as an addend to the bits
    keep=np.uint64,  # mask of the kept bits
    drop=np.uint64,  # d
    largest=np.uint64,  # float: the largest number
    over=np.uint64,  # float: what replaces an overflow, without its sign
    smallest=np.uint64,  # float: the smallest positive number
    gap=np.uint64,  # float smallest·2^−d: the weight of a unit of a random addend below `smallest`
    hash_shift=np.uint64,  # a hashed word's shift to the right …
    hash_keep=np.uint64,  # … and then the mask of its random bits
    above=np.uint64,  # a mask: magnitudes of at least `smallest` have one of these bits
)
#: See `half.Limits`; all 0 where no tile is computed in binary16.
LIMITS = layout(sums=np.float64, product=np.float64, unit=np.float64, most=np.float64)
#: All numbers of a kernel.
NUMBERS = layout(
    intra=ROUNDING_NUMBERS,  # of sums in a chunk, in the form's lane
    inter=ROUNDING_NUMBERS,  # of the running total of chunks, in float32
    halves=ROUNDING_NUMBERS,  # of sums in a chunk, in binary16: half and keep only
    lowest=np.int64,  # aligned sums: the accumulator's lowest exponent
    guard=np.int64,  # aligned sums: fraction bits below the largest exponent
    window=LIMITS,  # of tiles in lanes of binary16
)


def word_index(*fields: str) -> int:
    """The place of a field in NUMBERS, counted in 64-bit words: `word_index("intra", "half")`."""
    kind, offset = NUMBERS, 0
    for field in fields:
        kind, place = kind.fields[field][:2]  # type: ignore[index]
        offset += place
    return offset // 8


#: An array of one record of NUMBERS.
Numbers = NDArray[np.void]


def float_bits(value: float, lane: int) -> int:
    """The bits of a float as an unsigned integer.

    Args:
        value: rounded to the lane's type.
        lane: 32 or 64.
    """
    if lane == Lane.FLOAT32:
        return int(np.float32(value).view(np.uint32))
    return int(np.float64(value).view(np.uint64))


@functools.lru_cache(1024)
def kernel_numbers(
    form: Form,
    acc: FloatFormat,
    total: FloatFormat,
    overflow: str,
    random_bits: int,
    scale: int,
    guard_bits: int,
    window: tuple[float, ...] | None = None,
) -> Numbers:
    """A kernel's numbers.

    Args:
        acc, total: formats of the accumulator in a chunk, and of the running total.
        overflow: the profile's policy.
        random_bits: of a stochastic rounding.
        scale: all numbers carry a factor of 2^scale.
        guard_bits: of aligned sums.
        window: `half.Limits`; None: no tile is computed in binary16.

    Returns:
        A read-only array of one record of `NUMBERS`.
    """
    numbers = np.zeros(1, NUMBERS)
    _fill(numbers["intra"], form.lane, acc, form.intra.mode, overflow, random_bits, scale)
    _fill(numbers["inter"], Lane.FLOAT32, total, form.inter.mode, overflow, random_bits, scale)
    numbers["lowest"], numbers["guard"] = acc.facts.emin, guard_bits
    if window is not None:
        numbers["window"] = tuple(window)
        _fill_cut(numbers["halves"], Lane.FLOAT16, Lane.FLOAT16.fraction_bits - acc.fraction_bits)
    numbers.flags.writeable = False
    return numbers


def _fill(
    numbers: NDArray[Any],
    lane: Lane,
    fmt: FloatFormat,
    mode: Mode,
    overflow: str,
    random_bits: int,
    scale: int,
) -> None:
    """Fill in the numbers of one rounding."""
    fraction, bits = lane.fraction_bits, int(lane)
    d = fraction - fmt.fraction_bits
    numbers["scale_add"] = d << fraction
    numbers["scale"] = float_bits(math.ldexp(1.0, d), bits)
    numbers["scale_less_one"] = float_bits(math.ldexp(1.0, d) - 1, bits)
    _fill_cut(numbers, lane, d)
    largest = math.ldexp(fmt.max, scale)
    over = largest
    if overflow != "saturate" and mode is not Mode.ZERO:
        over = math.inf if fmt.has_inf else math.nan
    if largest < 2.0**128:  # a larger one is out of a sum's reach
        numbers["largest"] = float_bits(largest, bits)
        numbers["over"] = float_bits(over, bits)
    smallest = math.ldexp(fmt.min_positive, scale)
    numbers["smallest"] = float_bits(smallest, bits)
    numbers["above"] = _above(fmt, lane)
    numbers["gap"] = float_bits(math.ldexp(smallest, -d), bits)
    if mode is Mode.HASH:
        numbers["hash_shift"] = bits - d
        numbers["hash_keep"] = (1 << d) - (1 << (d - random_bits))


def _fill_cut(numbers: NDArray[Any], lane: Lane, dropped: int) -> None:
    """Fill in what cuts a number of bits off the bits of a float."""
    numbers["half"] = 1 << max(dropped - 1, 0)
    numbers["keep"] = (1 << int(lane)) - (1 << dropped)
    numbers["drop"] = dropped


def _above(fmt: FloatFormat, lane: Lane) -> int:
    """The mask `above`: the scale has brought the smallest number to 2, or next to the lane's smallest normal
    number, and what is smaller than that has been flushed."""
    fraction = lane.fraction_bits
    if fmt.lowest != "normal":
        return 1 << (lane - 2)
    return (1 << (lane - 1)) - (1 << (fraction - fmt.fraction_bits)) - (1 << fraction)
