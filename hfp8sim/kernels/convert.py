"""The converter for float32 arrays: the bits of `formats.rounding.round_pack`, sixteen at a time.

A float32 is an integer already: significand `sig` < 2^24 and exponent field. The code of a number rounded
to the quantum 2^q is floor(sig / 2^n + something) plus the exponent field's share, for n = q minus sig's
own exponent; in the normal range n is the same for all numbers. Everything about the format is a run-time
number (`Rounder`), and every element goes through the same instructions.

What is not covered (`rounder` gives None, and the caller takes the integer path): unsigned formats and those
without zero, directed modes, `to-odd`, stochastic kinds other than A, the policy `error`, and more random
bits than 32-bit lanes have room for.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from hfp8sim._numba.calls import local_array
from hfp8sim._numba.jit import jit
from hfp8sim._numba.layouts import layout
from hfp8sim._numba.simd import I32, I64, Code, Lanes, Value, integer, vector
from hfp8sim.formats import FloatFormat
from hfp8sim.formats.vocabulary import Overflow, Rounding, mode_number, overflow_number
from hfp8sim.kernels.form import PANEL
from hfp8sim.kernels.pack import words_of_elements
from hfp8sim.units.random import GOLDEN_GAMMA

#: Elements that are converted at once, so that their random words stay in the first-level cache.
_BLOCK = 1024


class Rounder(NamedTuple):
    """The numbers of a conversion, all uint32 (of floats: their bits). A magnitude is a code without its sign."""

    drop: int  #: n: fraction bits of float32 that a normal number loses
    fraction: int  #: fraction bits of the format
    lowest: int  #: float32's exponent field of the lowest binade with a quantum of its own
    gradual: (
        int  #: 1: below `lowest` the quantum stays (subnormal numbers); 0: it goes on shrinking
    )
    even: int  #: 1: ties to even
    half: int  #: 1: half a quantum is added
    r: int  #: random bits; 0 for modes that take none
    left: int  #: left shift of significands before random bits are added
    offset: int  #: the share of `lowest` in the code
    smallest: int  #: magnitude of the smallest number …
    smallest_bits: int  #: … and its float32
    gap: int  #: float32 of smallest·2^−r: the weight of a random unit below the smallest number
    normal: int  #: magnitude of the smallest normal number
    largest: int  #: magnitude of the largest number
    over: int  #: magnitude of what replaces a larger one
    infinity: int  #: magnitude of what infinity becomes …
    infinity_overflows: int  #: … and 1 if that counts as an overflow
    sign: int  #: the sign bit of numbers, …
    infinity_sign: int  #: … of what infinity becomes, …
    over_sign: int  #: … of what replaces a number that is too large, …
    zero_sign: int  #: … and of zero: the bit, or 0
    nan: int  #: the code of NaN


#: A `Rounder` in memory.
ROUNDER = layout(**dict.fromkeys(Rounder._fields, np.uint32))


def rounder(fmt: FloatFormat, rounding: str, overflow: str, r: int) -> Rounder | None:
    """The numbers of a conversion, or None where the integer path must do it."""
    mode, policy = mode_number(rounding), overflow_number(overflow)
    f, facts = fmt.fraction_bits, fmt.facts
    if mode not in (
        Rounding.NEAREST_EVEN,
        Rounding.NEAREST_AWAY,
        Rounding.TOWARD_ZERO,
        Rounding.STOCHASTIC_A,
    ):
        return None
    if policy not in (Overflow.SATURATE, Overflow.SPECIAL) or not fmt.signed or fmt.zero == "none":
        return None
    if fmt.lowest not in ("subnormal", "normal", "flush") or f > 14:
        return None
    gradual = fmt.lowest == "subnormal" and f > 0
    # The lowest normal binade, and what lies below it, must be float32's normal numbers.
    lowest = (1 if gradual else 0) - fmt.bias + 127
    if lowest < 32 or (facts.max_mag >> f) - fmt.bias > 126:
        return None
    stochastic = mode == Rounding.STOCHASTIC_A
    if stochastic and (r > 30 - f or (not gradual and r + 2 + f > 24)):
        return None
    sign = 1 << (fmt.exponent_bits + f)
    infinity, infinity_sign = facts.inf_mag, sign
    if policy == Overflow.SATURATE or facts.inf_mag < 0:
        infinity, infinity_sign = facts.max_mag, sign
        if policy == Overflow.SPECIAL:
            infinity, infinity_sign = facts.nan_code, 0
    over, over_sign = infinity, infinity_sign
    if mode == Rounding.TOWARD_ZERO:
        over, over_sign = facts.max_mag, sign
    drop, smallest = 23 - f, np.float32(fmt.min_positive)
    return Rounder(
        drop=drop,
        fraction=f,
        lowest=lowest,
        gradual=int(gradual),
        even=int(mode == Rounding.NEAREST_EVEN),
        half=int(mode in (Rounding.NEAREST_EVEN, Rounding.NEAREST_AWAY)),
        r=r if stochastic else 0,
        left=max(r - drop, 0) if stochastic else 0,
        offset=0 if gradual else 1 << f,
        smallest=facts.min_mag,
        smallest_bits=int(smallest.view(np.uint32)),
        gap=int(np.float32(np.ldexp(float(smallest), -r if stochastic else 0)).view(np.uint32)),
        normal=facts.normal_mag,
        largest=facts.max_mag,
        over=over,
        infinity=infinity,
        infinity_overflows=int(policy == Overflow.SATURATE or facts.inf_mag < 0),
        sign=sign,
        infinity_sign=infinity_sign,
        over_sign=over_sign,
        zero_sign=sign if fmt.zero == "signed" else 0,
        nan=max(facts.nan_code, 0),
    )


class _Numbers:
    """A `Rounder`'s numbers in all lanes, by name."""

    def __init__(self, code: Code, address: Any) -> None:
        table = code.pointer(address, I32)
        for i, name in enumerate(Rounder._fields):
            setattr(self, name, (table + i).load(align=4).splat(PANEL))

    def __getattr__(self, name: str) -> Value:
        raise AttributeError(name)


class _Rounded(NamedTuple):
    """A vector of conversions: magnitudes, signs, and where one underflowed."""

    magnitude: Value
    sign: Value
    underflow: Value


def _convert_lanes(lanes: Lanes, bits: Value, random: Value | None, how: _Numbers) -> _Rounded:
    """Convert float32 (their bits) none of which is larger than the largest number."""
    zero = lanes.const(0)
    magnitude, negative = bits & 0x7FFFFFFF, bits < 0
    e = magnitude >> 23
    sig = magnitude & 0x7FFFFF | lanes.const(1 << 23).where(e.differs(0), 0)

    # The quantum's binade: a subnormal number's is the lowest one.
    stays = (e < how.lowest) & how.gradual.differs(0)
    binade = how.lowest.where(stays, e)
    n = (how.drop + (binade - e)).at_most(31)
    if random is None:
        n = n.at_most(25)  # as good as any above: sig < 2^24
        odd = sig >> n & how.even
        half = (how.half << n - 1) - how.even
        kept = sig + half + odd >> n
    else:  # floor(sig·2^(r − n)) + R, in units of 2^−r
        shift = (how.drop + (binade - e) - how.r + how.left).at_most(31)
        kept = (sig << how.left >> shift) + random >> how.r
    code = kept + (binade - how.lowest << how.fraction) - how.offset

    # Below the smallest number of a format without subnormal numbers there is only zero.
    below, rest = code < how.smallest, zero
    if random is not None:
        limit = lanes.from_int((lanes.const(1) << how.r) - random) * how.gap.floats()
        inside = magnitude < how.smallest_bits
        below = (below | inside) & how.gradual.equals(0)
        # A number that rounds to the smallest from above is not inside.
        rest = how.smallest.where(inside & (magnitude.floats() >= limit), 0)
    code = rest.where(below, code)

    cut = (kept << n).differs(sig)
    lost = cut | below & magnitude.differs(0)
    under = lost & (code < how.normal)  # of what is not finite the code is large
    sign = how.sign.where(code.differs(0), how.zero_sign)
    return _Rounded(code, sign.where(negative, 0), under)


class _Beyond(NamedTuple):
    """A vector of conversions of any float32: magnitudes, signs, where one overflowed, where one is NaN."""

    magnitude: Value
    sign: Value
    overflow: Value
    nan: Value


def _beyond(bits: Value, usual: _Rounded, how: _Numbers) -> _Beyond:
    """Conversions where some numbers are larger than the largest, or not finite."""
    magnitude, negative = bits & 0x7FFFFFFF, bits < 0
    finite = magnitude < 0x7F800000
    over = finite & (usual.magnitude > how.largest)
    code = how.over.where(over, usual.magnitude).where(finite, how.infinity)
    large = how.over_sign.where(finite, how.infinity_sign).where(negative, 0)
    sign = usual.sign.where(finite & over.inverted(), large)
    nan = magnitude > 0x7F800000
    code, sign = how.nan.where(nan, code), (sign & 0).where(nan, sign)
    infinite = magnitude.equals(0x7F800000) & how.infinity_overflows.differs(0)
    return _Beyond(code, sign, over | infinite, nan)


@intrinsic(prefer_literal=True)
def convert_lanes(typingctx, stochastic, source, random, how, codes, target):  # type: ignore[no-untyped-def]
    """Convert PANEL float32.

    Args:
        stochastic: a literal, whether random words are added.
        source: address of the float32.
        random: address of R of each element, uint32, if `stochastic`.
        how: address of a record of ROUNDER.
        codes: an array with the dtype of codes.
        target: address of the codes.

    Returns:
        Overflows, plus 2^8 times underflows, plus 2^16 times NaN.
    """
    element = vector(integer(codes.dtype.bitwidth), PANEL)

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        code = Code(builder)
        lanes, none = Lanes(code, 32, PANEL), code.number(0, integer(PANEL))
        numbers = _Numbers(code, values[3])
        r = None
        if stochastic.literal_value:
            r = code.pointer(values[2], lanes.words).load(align=4)
        bits = code.pointer(values[1], lanes.words).load(align=4)
        usual = _convert_lanes(lanes, bits, r, numbers)
        large = (usual.magnitude > numbers.largest).mask()

        def unusual() -> list[Value]:
            rare = _beyond(bits, usual, numbers)
            return [rare.magnitude, rare.sign, rare.overflow.mask(), rare.nan.mask()]

        merged = code.seldom(
            large.differs(0), unusual, [usual.magnitude, usual.sign, none, none]
        )  # fmt: skip
        result = (merged[0] | merged[1]).cut(element)
        code.pointer(values[5], element).store(result, align=1)
        over, under, nan = (
            mask.population().widened(I64) for mask in (merged[2], usual.underflow.mask(), merged[3])
        )  # fmt: skip
        return (over | under << 8 | nan << 16).ir

    address = types.uintp
    return types.int64(stochastic, address, address, address, codes, address), codegen


@jit
def convert_panels(source, count, words, stochastic, how, codes, target):
    """`convert_block` for whole panels of `count` elements.

    Args:
        source, words, how, target: addresses of values, random words, numbers and codes.
        codes: an array with the dtype of codes.
    """
    over, under, nan = 0, 0, 0
    size = codes.itemsize
    if stochastic:
        for t in range(0, count, PANEL):
            n = convert_lanes(True, source + 4 * t, words + 4 * t, how, codes, target + size * t)
            over, under, nan = over + (n & 0xFF), under + (n >> 8 & 0xFF), nan + (n >> 16)
    else:
        for t in range(0, count, PANEL):
            n = convert_lanes(False, source + 4 * t, words, how, codes, target + size * t)
            over, under, nan = over + (n & 0xFF), under + (n >> 8 & 0xFF), nan + (n >> 16)
    return over, under, nan


@jit
def convert_block(values, random, stochastic, numbers, codes):
    """Convert contiguous float32 to contiguous codes.

    Args:
        random: R of each element, uint32, if `stochastic`.
        numbers: an array of one record of ROUNDER.

    Returns:
        Overflows, underflows, NaN.
    """
    whole, how = values.size // PANEL * PANEL, numbers.ctypes.data
    over, under, nan = convert_panels(
        values.ctypes.data, whole, random.ctypes.data, stochastic, how, codes, codes.ctypes.data
    )
    rest = values.size - whole
    if rest:  # the zeros after the last element count no event
        last, last_codes = local_array(PANEL, np.float32), local_array(PANEL, codes.dtype)
        last_random = local_array(PANEL, np.uint32)
        for i in range(PANEL):
            last[i] = last_random[i] = 0
        # Loops: for slices Numba would compile the text of an error about their lengths, a second long.
        for i in range(rest):
            last[i] = values[whole + i]
            if stochastic:
                last_random[i] = random[whole + i]
        n = convert_panels(  # an int64 as above: Numba would compile it anew for a constant
            last.ctypes.data, np.int64(PANEL), last_random.ctypes.data, stochastic, how, codes,
            last_codes.ctypes.data,
        )  # fmt: skip
        for i in range(rest):
            codes[whole + i] = last_codes[i]
        over, under, nan = over + n[0], under + n[1], nan + n[2]
    return over, under, nan


@jit
def convert_drawn(values, key, first, numbers, codes):
    """`convert_block` with the random words of elements first, first + 1, … of the conversion's site; `key` is
    its key."""
    over, under, nan = 0, 0, 0
    words = local_array(_BLOCK, np.uint32)
    zero = np.uint32(0)
    down = np.uint32(32) - numbers[0].r
    for start in range(0, values.size, _BLOCK):
        some = values[start : start + _BLOCK]
        for t in range(0, _BLOCK, PANEL):
            number = np.uint64(first + start + t)
            counter = number + np.uint64(1)
            place = words.ctypes.data + 4 * t
            words_of_elements(key + GOLDEN_GAMMA * counter, zero, down, zero, zero, place, words)
        n = convert_block(some, words, True, numbers, codes[start : start + _BLOCK])
        over, under, nan = over + n[0], under + n[1], nan + n[2]
    return over, under, nan


@jit
def narrow_to_odd(x, narrow):
    """Round float64 to float32 in Boldo and Melquiond's mode: to the neighbour whose last bit is 1, if not exact.

    A rounding to a format of at most 22 bits then gives what it would give of the float64 (When double rounding is
    odd, 2005).
    """
    words = narrow.view(np.int32)
    for i in range(x.size):
        narrow[i] = np.float32(x[i])
        wide = np.float64(narrow[i])
        word = words[i]
        if abs(wide) > abs(x[i]):
            word -= 1
        if wide != x[i]:
            word |= 1
        words[i] = word


@functools.lru_cache(256)
def _numbers(how: Rounder) -> NDArray[np.void]:
    """An array of one record of ROUNDER."""
    return np.array([tuple(field & 0xFFFFFFFF for field in how)], ROUNDER)


class Converted(NamedTuple):
    """Codes, and counts of events."""

    codes: NDArray[np.unsignedinteger[Any]]
    overflows: int
    underflows: int
    nan: int  #: NaN among the numbers


def convert_float32(
    x: NDArray[np.float32],
    how: Rounder,
    dtype: np.dtype[Any],
    random: NDArray[np.uint32] | np.uint64 | None = None,
) -> Converted:
    """Convert an array.

    Args:
        x: float32, any shape.
        how: what `rounder` gave.
        dtype: of the codes.
        random: for stochastic rounding R of each element, x's shape; or the key of the words to draw
            (docs/numerics.md, section 4).

    Returns:
        Codes of x's shape (of a NaN meaningless, if the format has none), and counts.
    """
    values = np.ascontiguousarray(x, np.float32).reshape(-1)
    codes = np.empty(values.size, dtype)
    if random is None or isinstance(random, np.uint64):
        counts = convert_piece(values, how, codes, random)
    else:
        bits = np.ascontiguousarray(random, np.uint32).reshape(-1)
        counts = convert_block(values, bits, True, _numbers(how), codes)
    return Converted(codes.reshape(x.shape), *map(int, counts))


#: For modes that take no random words.
_NO_WORDS = np.empty(0, np.uint32)


def convert_piece(
    values: NDArray[np.float32],
    how: Rounder,
    codes: NDArray[np.unsignedinteger[Any]],
    key: np.uint64 | None,
    first: int = 0,
) -> tuple[int, int, int]:
    """Convert elements first, first + 1, … of an array, both contiguous and 1-D.

    Args:
        key: of the words to draw; None for modes that take none.

    Returns:
        Overflows, underflows, and NaN among the numbers.
    """
    if key is None:
        return convert_block(values, _NO_WORDS, False, _numbers(how), codes)  # type: ignore[no-any-return]
    return convert_drawn(values, key, first, _numbers(how), codes)  # type: ignore[no-any-return]
