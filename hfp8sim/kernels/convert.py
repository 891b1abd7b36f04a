"""The converter for float32 arrays, fast: the bits of `formats.rounding.round_pack`, sixteen at a time.

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
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from hfp8sim._numba.jit import jit
from hfp8sim.formats import FloatFormat
from hfp8sim.formats.vocabulary import Overflow, Rounding, mode_number, overflow_number
from hfp8sim.kernels.form import PANEL
from hfp8sim.kernels.pack import _FLOATS, _WORDS, _splat, words_of_elements
from hfp8sim.units.random import _G, _LOW32, _ONE, _S32

#: Elements that are converted at once, so that their random words stay in the first-level cache.
_BLOCK = 1024


class Rounder(NamedTuple):
    """A conversion as uint32 numbers (floats: their bits)."""

    drop: int  #: fraction bits of float32 that a normal number loses: n
    fraction: int  #: fraction bits of the format
    lowest: int  #: float32's exponent field of the lowest binade with a quantum of its own
    gradual: int  #: 1: below `lowest` the quantum stays (subnormals); 0: it shrinks on
    even: int  #: 1: ties to even
    half: int  #: 1: half a quantum is added
    r: int  #: random bits; 0 for modes that take none
    left: int  #: how far significands move left before random bits are added
    base: int  #: the share of `lowest` in the code
    smallest: int  #: mag of the smallest number …
    smallest_bits: int  #: … and its float32
    gap: int  #: float32 of smallest·2^−r: a random unit's weight between zero and it
    normal: int  #: mag of the smallest normal number
    largest: int  #: mag of the largest number
    over: int  #: code (without sign) of what exceeds it
    infinity: int  #: code (without sign) of infinity …
    infinity_overflows: int  #: … and 1 if that counts as an overflow
    sign: int  #: the sign bit where overflow keeps it, and …
    infinity_sign: int  #: … where infinity does
    over_sign: int
    zero_sign: int  #: … and where zero does
    nan: int  #: the code of NaN


_R = Rounder._fields.index("r")


@functools.lru_cache(256)
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
        base=0 if gradual else 1 << f,
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


class _Word:
    """A vector of uint32 while code is being written: Python's operators are LLVM's instructions."""

    def __init__(self, builder: ir.IRBuilder, value: ir.Value) -> None:
        self.b, self.v = builder, value

    def _other(self, other: _Word | int) -> ir.Value:
        return other.v if isinstance(other, _Word) else ir.Constant(_WORDS, [other] * PANEL)

    def __add__(self, other: _Word | int) -> _Word:
        return _Word(self.b, self.b.add(self.v, self._other(other)))

    def __sub__(self, other: _Word | int) -> _Word:
        return _Word(self.b, self.b.sub(self.v, self._other(other)))

    def __and__(self, other: _Word | int) -> _Word:
        return _Word(self.b, self.b.and_(self.v, self._other(other)))

    def __or__(self, other: _Word | int) -> _Word:
        return _Word(self.b, self.b.or_(self.v, self._other(other)))

    def __lshift__(self, other: _Word | int) -> _Word:
        return _Word(self.b, self.b.shl(self.v, self._other(other)))

    def __rshift__(self, other: _Word | int) -> _Word:
        return _Word(self.b, self.b.lshr(self.v, self._other(other)))

    def is_(self, comparison: str, other: _Word | int) -> ir.Value:
        """A comparison as signed integers."""
        return self.b.icmp_signed(comparison, self.v, self._other(other))

    def where(self, condition: ir.Value, other: _Word | int) -> _Word:
        """This where the condition holds, else the other."""
        return _Word(self.b, self.b.select(condition, self.v, self._other(other)))

    def at_most(self, limit: int) -> _Word:
        return self.where(self.is_("<", limit), limit)


def _convert_lanes(b: ir.IRBuilder, bits: _Word, random: _Word | None, how: dict[str, _Word]):  # type: ignore[no-untyped-def]
    """(codes, signs, where it underflowed) of a vector of float32 bits, if none of them is too large."""
    zero = _Word(b, ir.Constant(_WORDS, [0] * PANEL))
    magnitude = bits & 0x7FFFFFFF
    negative = bits.is_("<", 0)
    e = magnitude >> 23
    sig = (magnitude & 0x7FFFFF) | (zero + (1 << 23)).where(e.is_("!=", 0), 0)

    # The quantum's binade: a subnormal's is the lowest one.
    stays = b.and_(e.is_("<", how["lowest"]), how["gradual"].is_("!=", 0))
    binade = how["lowest"].where(stays, e)
    n = (how["drop"] + (binade - e)).at_most(31)
    if random is None:
        n = n.at_most(25)  # as good as any above: sig < 2^24
        odd = (sig >> n) & how["even"]
        half = (how["half"] << (n - 1)) - how["even"]
        kept = (sig + half + odd) >> n
    else:  # floor(sig·2^(r − n)) + R, in units of 2^−r
        kept = (sig << how["left"]) >> (
            how["drop"] + (binade - e) - how["r"] + how["left"]
        ).at_most(31)
        kept = (kept + random) >> how["r"]
    code = kept + ((binade - how["lowest"]) << how["fraction"]) - how["base"]

    # Below the smallest number of a format without subnormals there is only zero.
    below = code.is_("<", how["smallest"])
    rest = zero
    if random is not None:
        units = (zero + 1 << how["r"]) - random
        limit = b.fmul(b.sitofp(units.v, _FLOATS), b.bitcast(how["gap"].v, _FLOATS))
        tiny = b.bitcast(magnitude.v, _FLOATS)
        inside = magnitude.is_("<", how["smallest_bits"])
        none = how["gradual"].is_("==", 0)
        below = b.and_(b.or_(below, inside), none)
        rest = how["smallest"].where(b.and_(inside, b.fcmp_ordered(">=", tiny, limit)), 0)
        # (a number that rounds to the smallest from above is not inside)
    code = rest.where(below, code)

    cut = (kept << n).is_("!=", sig)
    lost = b.or_(cut, b.and_(below, magnitude.is_("!=", 0)))
    under = b.and_(lost, code.is_("<", how["normal"]))  # (of what is not finite the code is large)
    sign = how["sign"].where(code.is_("!=", 0), how["zero_sign"])
    return code, sign.where(negative, 0), under


def _beyond(b: ir.IRBuilder, bits: _Word, code: _Word, sign: _Word, how: dict[str, _Word]):  # type: ignore[no-untyped-def]
    """(codes, signs, where it overflowed, where NaN came in) where some numbers are larger than the largest, or not finite."""
    magnitude, negative = bits & 0x7FFFFFFF, bits.is_("<", 0)
    finite = magnitude.is_("<", 0x7F800000)
    over = b.and_(finite, code.is_(">", how["largest"]))
    code = how["over"].where(over, code).where(finite, how["infinity"])
    large = how["over_sign"].where(finite, how["infinity_sign"]).where(negative, 0)
    sign = sign.where(b.and_(finite, b.not_(over)), large)
    nan = magnitude.is_(">", 0x7F800000)
    code, sign = how["nan"].where(nan, code), (sign & 0).where(nan, sign)
    endless = b.and_(magnitude.is_("==", 0x7F800000), how["infinity_overflows"].is_("!=", 0))
    return code, sign, b.or_(over, endless), nan


@intrinsic(prefer_literal=True)
def convert_lanes(typingctx, stochastic, source, random, how, codes, target):  # type: ignore[no-untyped-def]
    """Convert PANEL float32 at the address `source` to codes at the address `target`.

    Args:
        stochastic: a literal; then R of each element stands at the address `random`, uint32.
        how: the address of a `Rounder`, uint32.
        codes: an array that says what the elements are.

    Returns:
        Overflows, plus 2^8 times underflows, plus 2^16 times NaN.
    """
    element = ir.VectorType(ir.IntType(codes.dtype.bitwidth), PANEL)

    def codegen(context, b, signature, values):  # type: ignore[no-untyped-def]
        def load(address):  # type: ignore[no-untyped-def]
            return _Word(b, b.load(b.inttoptr(address, _WORDS.as_pointer()), align=4))

        table = b.inttoptr(values[3], ir.IntType(32).as_pointer())
        numbers = {
            name: _Word(b, _splat(b, b.load(b.gep(table, [ir.IntType(32)(i)]), align=4)))
            for i, name in enumerate(Rounder._fields)
        }
        r = load(values[2]) if stochastic.literal_value else None
        i64, mask = ir.IntType(64), ir.IntType(PANEL)
        bits = load(values[1])
        code, sign, under = _convert_lanes(b, bits, r, numbers)
        beyond = b.bitcast(code.is_(">", numbers["largest"]), mask)
        before = b.block
        with b.if_then(b.icmp_unsigned("!=", beyond, mask(0)), likely=False):
            rare_code, rare_sign, over, nan = _beyond(b, bits, code, sign, numbers)
            rare = [rare_code.v, rare_sign.v, b.bitcast(over, mask), b.bitcast(nan, mask)]
            inside = b.block
        merged = []
        for usual, unusual in zip([code.v, sign.v, mask(0), mask(0)], rare):
            phi = b.phi(usual.type)
            phi.add_incoming(usual, before)
            phi.add_incoming(unusual, inside)
            merged.append(phi)
        result = b.or_(merged[0], merged[1])
        result = result if element == _WORDS else b.trunc(result, element)
        b.store(result, b.inttoptr(values[5], element.as_pointer()), align=1)
        counts = [b.zext(b.ctpop(m), i64) for m in (merged[2], b.bitcast(under, mask), merged[3])]
        return b.or_(counts[0], b.or_(b.shl(counts[1], i64(8)), b.shl(counts[2], i64(16))))

    address = types.uintp
    return types.int64(stochastic, address, address, address, codes, address), codegen


@jit
def convert_panels(values, random, stochastic, numbers, codes):
    """`convert_block` for all of `values` but what is left over after its last whole panel."""
    over, under, nan = 0, 0, 0
    whole = values.size // PANEL * PANEL
    source, target, words = values.ctypes.data, codes.ctypes.data, random.ctypes.data
    size, how = codes.itemsize, numbers.ctypes.data
    if stochastic:
        for t in range(0, whole, PANEL):
            n = convert_lanes(True, source + 4 * t, words + 4 * t, how, codes, target + size * t)
            over, under, nan = over + (n & 0xFF), under + (n >> 8 & 0xFF), nan + (n >> 16)
    else:
        for t in range(0, whole, PANEL):
            n = convert_lanes(False, source + 4 * t, words, how, codes, target + size * t)
            over, under, nan = over + (n & 0xFF), under + (n >> 8 & 0xFF), nan + (n >> 16)
    return over, under, nan


@jit
def convert_block(values, random, stochastic, numbers, codes):
    """Convert contiguous float32 to contiguous codes; `random` holds the R of each (or nothing).

    Returns:
        Overflows, underflows, NaN.
    """
    over, under, nan = convert_panels(values, random, stochastic, numbers, codes)
    whole = values.size // PANEL * PANEL
    rest = values.size - whole
    if rest:  # zeros behind the end count nothing
        last, last_codes = np.zeros(PANEL, np.float32), np.empty(PANEL, codes.dtype)
        last_random = np.zeros(PANEL, np.uint32)
        # Loops: for slices Numba would compile the text of an error about their lengths, a second long.
        for i in range(rest):
            last[i] = values[whole + i]
            if stochastic:
                last_random[i] = random[whole + i]
        n = convert_panels(last, last_random, stochastic, numbers, last_codes)
        for i in range(rest):
            codes[whole + i] = last_codes[i]
        over, under, nan = over + n[0], under + n[1], nan + n[2]
    return over, under, nan


@jit
def convert_drawn(values, key, numbers, codes):
    """`convert_block` with the words of `random` for elements 0, 1, … of the conversion's site."""
    over, under, nan = 0, 0, 0
    words = np.empty(_BLOCK, np.uint32)
    zero = np.uint32(0)
    down = np.uint32(32) - numbers[_R]
    for first in range(0, values.size, _BLOCK):
        some = values[first : first + _BLOCK]
        for t in range(0, _BLOCK, PANEL):
            number = np.uint64(first + t)
            counter = ((number >> _S32) << _S32) + (number & _LOW32) + _ONE
            place = words.ctypes.data + 4 * t
            words_of_elements(key + _G * counter, zero, down, zero, zero, place, words)
        n = convert_block(some, words, True, numbers, codes[first : first + _BLOCK])
        over, under, nan = over + n[0], under + n[1], nan + n[2]
    return over, under, nan


@functools.lru_cache(256)
def _numbers(how: Rounder) -> NDArray[np.uint32]:
    return np.array([field & 0xFFFFFFFF for field in how], np.uint32)


class Converted(NamedTuple):
    """Codes, and what happened on the way."""

    codes: NDArray[np.unsignedinteger[Any]]
    overflows: int
    underflows: int
    nan: int  #: NaN that came in


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
    if isinstance(random, np.uint64):
        counts = convert_drawn(values, random, _numbers(how), codes)
    else:
        bits = np.empty(0, np.uint32)
        if random is not None:
            bits = np.ascontiguousarray(random, np.uint32).reshape(-1)
        counts = convert_block(values, bits, random is not None, _numbers(how), codes)
    return Converted(codes.reshape(x.shape), *map(int, counts))
