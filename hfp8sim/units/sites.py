"""Sites of a training step: every rounding outside the products (docs/numerics.md, section 6).

A site's exact result is a sum of constants times elements, a quotient or a root. It is formed exactly and rounded
once. Elements and constants are binary32 numbers; so are the results, as numbers of the site's format.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hfp8sim._numba.jit import jit
from hfp8sim.errors import InputError
from hfp8sim.formats import FloatFormat, get_format
from hfp8sim.formats.codec import check_mode
from hfp8sim.formats.rounding import FINITE, INFINITE, INVALID, bit_length, unpack
from hfp8sim.formats.vocabulary import Term, mode_number, overflow_number, takes_random_bits
from hfp8sim.units.mac import INF_EXP, NAN_EXP, exceptional, operand, pack_exceptional, product
from hfp8sim.units.random import CONVERT, absorb, fill_words, key, step_stream
from hfp8sim.units.sums import Rounder, add3, round_sum

#: Tensors of a training step.
Values = NDArray[np.float32]


class Place(Term):
    """Where a site is in a training step. The number enters its random words and never changes."""

    OPERAND = CONVERT, "a tensor into the format of a product's operand"
    UPDATE = 5, "the weight"
    UNSCALE = 6, "the gradient, divided by the loss scale"
    DECAY = 7, "the gradient plus weight decay"
    MOMENTUM = 8, "the first moment"
    MOMENTUM_PRODUCT = 9, "momentum times the first moment, if that is rounded by itself"
    NESTEROV = 10, "Nesterov's look-ahead"
    SECOND_MOMENT = 11, "Adam's second moment"
    EFFECTIVE = 12, "the sum before the weight, in the residual rules"
    RESIDUAL = 13, "what the weight's rounding lost"
    RESULT = 14, "a product's result"
    SOFTMAX = 15, "a softmax's input less its maximum"
    REDUCE = 16, "a hop of a sum over learners"
    RESIDUE = 17, "what a compressor keeps for later"
    MIX = 18, "an average with neighbours"
    EXCHANGE = 19, "weights that are sent to neighbours"
    # 20 to 23 are those of bit streams.
    BIAS = 24, "a product's result plus the bias"
    NORM = 25, "the result of a normalisation"


@dataclasses.dataclass(frozen=True)
class Site:
    """How a site rounds. The constructor raises `InputError` for what cannot be.

    The format's numbers must be binary32 numbers, and overflow is `saturate` or `special`.
    """

    format: str | FloatFormat = "dlfloat16"
    rounding: str = "nearest-away"
    overflow: str = "special"
    random_bits: int = 24  #: r of a stochastic rounding

    def __post_init__(self) -> None:
        check_mode(self.record, self.rounding, self.overflow, self.random_bits)
        if self.overflow == "error":
            raise InputError(
                "overflow of a training step's site must be 'saturate' or 'special', not 'error'"
            )
        fmt = self.record
        if not fmt.signed or fmt.zero == "none":
            raise InputError(
                f"format {fmt.name} cannot be a training step's: it needs a sign and a zero"
            )
        if fmt.emax > 127 or fmt.facts.min_exp < -149:
            raise InputError(f"format {fmt.name} has numbers beyond binary32's")

    @functools.cached_property
    def record(self) -> FloatFormat:
        """The format."""
        return get_format(self.format)

    @property
    def stochastic(self) -> bool:
        """Whether the site draws random words."""
        return takes_random_bits(mode_number(self.rounding))

    @property
    def text(self) -> str:
        """`dlfloat16 stochastic(24)`, in a table."""
        r = f"({self.random_bits})" if self.stochastic else ""
        return f"{self.record.name} {self.rounding}{r}"


#: One rounding to binary32.
BINARY32 = Site("binary32", "nearest-even")
#: The default of the update's sites: 1-6-9, stochastic.
STOCHASTIC = Site("dlfloat16", "stochastic")


class Draw(NamedTuple):
    """Whose random words a step's sites draw."""

    seed: int
    step: int  #: from 1; 0 is the start
    tensor: int

    def key(self, place: int, hop: int = 0) -> np.uint64:
        """The key of one site's words; `hop` counts the hops of a sum over learners from 1."""
        stream = step_stream(np.uint64(self.step), np.uint64(self.tensor))
        result = key(np.uint64(self.seed), np.uint64(stream), np.uint64(place))
        return np.uint64(absorb(np.uint64(result), np.uint64(hop)) if hop else result)

    def words(
        self, place: int, site: Site, size: int, hop: int = 0, first: int = 0
    ) -> NDArray[np.int64]:
        """R of elements first, first + 1, … of a tensor; none if the site draws no words."""
        if not site.stochastic:
            return np.empty(0, np.int64)
        words = np.empty(size, np.uint32)
        fill_words(self.key(place, hop), np.uint64(first), words)
        return (words >> np.uint32(32 - site.random_bits)).astype(np.int64)


class Op(enum.IntEnum):
    """A site's exact result, from constants c and elements x."""

    SUM = 0  #: c₀·x₀ + c₁·x₁ + c₂·x₂, of one to three terms
    SUM_OF_SQUARE = 1  #: c₀·x₀ + c₁·x₁²
    RATIO = 2  #: x₀ / c₀
    QUOTIENT = 3  #: x₀ / x₁
    ROOT = 4  #: √x₀
    OFFSET = 5  #: x₀ + c₀


#: binary32, as the units unpack it.
_BINARY32 = get_format("binary32").facts
#: Bits of a term's factor: a product of two has twice as many, and still fits a sum's term.
_FACTOR = 24
#: A quotient, and the square of a root, has at least this many bits before its sticky bit.
_QUOTIENT_BITS = 60


# -- exact results: (sig, exp, sticky) with the terms of `units.mac`, in which an exponent marks infinity and NaN


@jit
def square_terms(c, x):
    """c·x² as two exact terms: the square has 48 bits, and c times it 72."""
    square = product(x, x)
    if square[1] >= INF_EXP or c[1] >= INF_EXP:
        return product(c, square), (0, 0)
    high, low = square[0] >> _FACTOR, square[0] & ((1 << _FACTOR) - 1)
    return product(c, (high, square[1] + _FACTOR)), product(c, (low, square[1]))


@jit
def total(x, y, z):
    """x + y + z, exactly."""
    if x[1] >= INF_EXP or y[1] >= INF_EXP or z[1] >= INF_EXP:
        if y[1] >= INF_EXP:
            x = exceptional(x, y)
        if z[1] >= INF_EXP:
            x = exceptional(x, z)
        return x[0], x[1], False
    return add3(x[0], x[1], y[0], y[1], z[0], z[1])


@jit
def quotient(x, y):
    """x / y. 0/0 and ∞/∞ are NaN, and x/0 is infinite."""
    if x[1] >= NAN_EXP or y[1] >= NAN_EXP or (x[1] >= INF_EXP and y[1] >= INF_EXP):
        return 1, NAN_EXP, False
    if x[0] == 0 and y[0] == 0:
        return 1, NAN_EXP, False
    sign = -1 if (x[0] < 0) != (y[0] < 0) else 1
    if x[1] >= INF_EXP or y[0] == 0:
        return sign, INF_EXP, False
    if x[0] == 0 or y[1] >= INF_EXP:
        return 0, 0, False
    dividend, divisor = abs(x[0]), abs(y[0])
    sig, rest = dividend // divisor, dividend % divisor
    exp = x[1] - y[1]
    while bit_length(sig) < _QUOTIENT_BITS and rest != 0:  # long division, a bit at a time
        rest <<= 1
        sig, exp = sig << 1, exp - 1
        if rest >= divisor:
            sig, rest = sig | 1, rest - divisor
    if sign < 0:  # a sticky number's tail is always added
        return (-sig - 1 if rest else -sig), exp, rest != 0
    return sig, exp, rest != 0


@jit
def root(x):
    """√x; NaN of a negative number."""
    sig, exp = x
    if exp >= NAN_EXP or sig < 0:
        return 1, NAN_EXP, False
    if exp >= INF_EXP or sig == 0:
        return sig, exp, False
    shift = _QUOTIENT_BITS - bit_length(sig)
    shift += (exp - shift) & 1
    sig, exp = sig << shift, exp - shift
    low = np.int64(math.sqrt(float(sig)))
    while low * low > sig:
        low -= 1
    while (low + 1) * (low + 1) <= sig:
        low += 1
    # The root has 30 bits or more. binary32 reads 25 of them, and whether there is more.
    return low, exp // 2, low * low != sig


@jit
def exact_result(op, count, c, x):
    """The exact result of an operation on terms c and x, of which the first `count` are used."""
    if op == Op.RATIO:
        return quotient(x[0], c[0])
    if op == Op.QUOTIENT:
        return quotient(x[0], x[1])
    if op == Op.ROOT:
        return root(x[0])
    if op == Op.OFFSET:
        return total(x[0], c[0], (0, 0))
    first, second, third = product(c[0], x[0]), (0, 0), (0, 0)
    if op == Op.SUM_OF_SQUARE:
        second, third = square_terms(c[1], x[1])
    else:
        if count > 1:
            second = product(c[1], x[1])
        if count > 2:
            third = product(c[2], x[2])
    return total(first, second, third)


@jit
def round_exact(sig, exp, sticky, rounder):
    """Round an exact result: (code, flags)."""
    if exp >= INF_EXP:
        return pack_exceptional((sig, exp), rounder)
    return round_sum(sig, exp, sticky, rounder)


@jit
def value_of(code, fmt):
    """The binary32 number of a code."""
    kind, sign, sig, exp = unpack(code, fmt)
    value = math.ldexp(float(sig), int(exp))
    if kind != FINITE:
        value = np.inf if kind == INFINITE else np.nan
    return np.float32(-value if sign else value)


@jit
def _round_array(op, count, constants, tensors, fmt, mode, policy, r, random, out, flags):
    """Round one site of every element; constants and the three tensors are bits of binary32 numbers."""
    c = (
        operand(np.int64(constants[0]), _BINARY32),
        operand(np.int64(constants[1]), _BINARY32),
        operand(np.int64(constants[2]), _BINARY32),
    )
    for t in range(out.size):
        x = (
            operand(np.int64(tensors[0][t]), _BINARY32),
            operand(np.int64(tensors[1][t]), _BINARY32),
            operand(np.int64(tensors[2][t]), _BINARY32),
        )
        rounder = Rounder(fmt, mode, policy, r, random[t] if random.size else 0)
        sig, exp, sticky = exact_result(op, count, c, x)
        code, flag = round_exact(sig, exp, sticky, rounder)
        # In a format without NaN `pack_nan` has no code; the caller refuses it.
        out[t] = value_of(np.int64(code), fmt) if code >= 0 else np.float32(np.nan)
        flags[t] = flag


def round_site(
    op: Op, terms: list[tuple[float, Values]], site: Site, random: NDArray[np.int64]
) -> tuple[Values, NDArray[np.uint8]]:
    """Form a site's exact results and round them.

    Args:
        op: the operation.
        terms: its constants and elements, one to three; float32 of one size, 1-D.
        site: how to round.
        random: R of each element, for a stochastic rounding.

    Returns:
        The rounded values, float32, and flags (`formats.rounding`). Where the flags have INVALID and the
        format has no NaN, the value is meaningless.
    """
    spare = 3 - len(terms)
    constants = np.array([c for c, _ in terms] + [0] * spare, np.float32).view(np.uint32)
    arrays = [np.ascontiguousarray(x, np.float32).view(np.uint32) for _, x in terms]
    arrays += [arrays[0]] * spare
    out, flags = np.empty(arrays[0].size, np.float32), np.empty(arrays[0].size, np.uint8)
    _round_array(
        int(op), len(terms), constants, tuple(arrays), site.record.facts, mode_number(site.rounding),
        overflow_number(site.overflow), site.random_bits, random, out, flags,
    )  # fmt: skip
    return out, flags


def invalid_elements(site: Site, flags: NDArray[np.uint8]) -> NDArray[Any]:
    """Indices of the elements that became NaN in a format without one."""
    if site.record.has_nan:
        return np.empty(0, np.int64)
    return np.flatnonzero(flags & INVALID)
