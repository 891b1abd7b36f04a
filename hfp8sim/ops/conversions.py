"""The converter: whole tensors of real numbers into operand codes, random bits included."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hfp8sim._numba.jit import config
from hfp8sim.floating_point import standard_arithmetic
from hfp8sim.formats import FloatFormat, get_format
from hfp8sim.formats.codec import check_mode, encode
from hfp8sim.formats.rounding import OVERFLOWED, UNDERFLOWED
from hfp8sim.formats.vocabulary import is_stochastic, mode_number
from hfp8sim.kernels.convert import Converted, convert_float32, rounder
from hfp8sim.units.random import CONVERT, fill_words, key


@standard_arithmetic
def convert(
    x: ArrayLike,
    fmt: str | FloatFormat,
    rounding: str = "nearest-even",
    overflow: str = "saturate",
    *,
    bits: int = 13,
    seed: int = 0,
    stream: int = 0,
) -> tuple[NDArray[np.unsignedinteger[Any]], dict[str, int]]:
    """Round a tensor into a format; stochastic modes draw from the counter-based source.

    Args:
        x: float32 or float64, any shape.
        fmt, rounding, overflow, bits: as `FloatFormat.encode`.
        seed, stream: of the random source, 0 ≤ n < 2^64. Equal ones give equal codes.

    Returns:
        Codes of x's shape, and how many elements `saturated` (overflowed) and `underflowed`.

    Raises:
        InputError: as `FloatFormat.encode`.
    """
    record = get_format(fmt)
    array = np.asarray(x)
    fast = _convert_fast(array, record, rounding, overflow, bits, seed, stream)
    if fast is not None:
        return fast.codes, {"saturated": fast.overflows, "underflowed": fast.underflows}
    random = None
    if is_stochastic(mode_number(rounding)):
        random = conversion_bits(array.shape, bits, seed, stream)
    codes, flags = encode(array, record, rounding, overflow, random, bits)
    return codes, {
        "saturated": int(np.count_nonzero(flags & OVERFLOWED)),
        "underflowed": int(np.count_nonzero(flags & UNDERFLOWED)),
    }


def conversion_bits(shape: tuple[int, ...], r: int, seed: int, stream: int) -> NDArray[np.int64]:
    """The r random bits of every element of an array that is converted, by row-major element number."""
    words = np.empty(int(np.prod(shape)), np.uint32)
    fill_words(_key(seed, stream), np.uint64(0), words)
    return (words >> np.uint32(32 - r)).astype(np.int64).reshape(shape)


def _convert_fast(
    array: NDArray[Any],
    fmt: FloatFormat,
    rounding: str,
    overflow: str,
    bits: int,
    seed: int,
    stream: int,
) -> Converted | None:
    """The conversion by vector code; None where only the integer path can do it, or raise the right error."""
    check_mode(fmt, rounding, overflow, bits)
    if array.dtype != np.float32 or config.DISABLE_JIT:
        return None
    parameters = rounder(fmt, rounding, overflow, bits)
    if parameters is None:
        return None
    stochastic = is_stochastic(mode_number(rounding))
    random = _key(seed, stream) if stochastic else None
    result = convert_float32(array, parameters, fmt.dtype, random)
    return None if result.nan and not fmt.has_nan else result


def _key(seed: int, stream: int) -> np.uint64:
    """The key of a conversion's random words."""
    return np.uint64(key(np.uint64(seed), np.uint64(stream), np.uint64(CONVERT)))
