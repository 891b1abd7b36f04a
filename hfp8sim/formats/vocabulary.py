"""The terms that describe a format and a rounding, with the numbers that compiled code sees.

A number never changes once it is released: control registers of saved programs, format words and the C
reference (`c_ref/hfp8_ref.h`) hold it. A new member takes the next free number, wherever it is listed.
Their meaning in full is docs/numerics.md, sections 1 and 2.
"""

from __future__ import annotations

import enum
from typing import NamedTuple, Self

from hfp8sim._numba.jit import jit_inlined
from hfp8sim.errors import unknown


class Term(enum.IntEnum):
    """A term with a number, a meaning and a name as users write it."""

    meaning: str

    def __new__(cls, number: int, meaning: str) -> Term:
        """The member with that number. Enum classes call this once for each member."""
        member = int.__new__(cls, number)
        member._value_ = number
        member.meaning = meaning
        return member

    @property
    def text(self) -> str:
        """The public name: `nearest-even` for `NEAREST_EVEN`."""
        return self.name.lower().replace("_", "-")

    @classmethod
    def of(cls, text: str) -> Self:
        """The member with that public name."""
        return next(term for term in cls if term.text == text)


class Zero(Term):
    """What code 0 means."""

    SIGNED = 0, "+0 and −0"
    UNSIGNED = 1, "one zero, without a sign"
    NONE = 2, "no zero: code 0 is the number 2^(−b)"


class Lowest(Term):
    """What exponent field 0 with a non-zero fraction f means."""

    SUBNORMAL = 0, "subnormal numbers, f·2^(1−b−F)"
    NORMAL = 1, "normal numbers, (1+f/2^F)·2^(−b)"
    FLUSH = 2, "zero"


class Special(Term):
    """Which codes are not numbers."""

    NONE = 0, "no special codes"
    IEEE = 1, "top exponent: infinities and NaNs"
    FN = 2, "all ones: NaN"
    FNUZ = 3, "code of −0: NaN"
    NAN_INF = 4, "all ones: NaN-Infinity"
    P3109_EXTENDED = 5, "P3109: infinities and one NaN"
    P3109_FINITE = 6, "P3109: one NaN"


class Rounding(Term):
    """When the magnitude of an inexact result goes up; ν in [0, 1) is the discarded fraction of an ulp."""

    NEAREST_EVEN = 0, "to nearest, a tie to the even code"
    NEAREST_AWAY = 1, "to nearest, a tie away from zero"
    TOWARD_ZERO = 2, "never: truncation"
    TOWARD_POSITIVE = 3, "if the number is positive"
    TOWARD_NEGATIVE = 4, "if the number is negative"
    TO_ODD = 5, "if the lower neighbour's code is even"
    STOCHASTIC_A = 6, "if floor(ν·2^r) + R ≥ 2^r, for a random integer R of r bits"
    STOCHASTIC_B = 7, "if floor(ν·2^(r+1)) + 2R + 1 ≥ 2^(r+1)"
    STOCHASTIC_C = 8, "if ν·2^r, rounded to nearest even, plus R is at least 2^r"


class Overflow(Term):
    """What a rounded magnitude beyond the largest number becomes."""

    SATURATE = 0, "the largest number"
    SPECIAL = 1, "infinity, or NaN in a format without infinity"
    ERROR = 2, "an `InputError` that names the first index"


def names(terms: type[Term]) -> tuple[str, ...]:
    """The public names of an enum's members; a name's index is its number."""
    by_number = {int(term): term.text for term in terms}
    return tuple(by_number[number] for number in range(len(by_number)))


#: Public names by number; `stochastic` is another name of `stochastic-a`.
MODES = names(Rounding)
OVERFLOW = names(Overflow)
ZEROS = names(Zero)
LOWEST = names(Lowest)
SPECIALS = names(Special)

#: A random integer has at most this many bits.
MAX_RANDOM_BITS = 24


def mode_number(name: str) -> int:
    """The number of a rounding mode; `InputError` for an unknown one."""
    name = "stochastic-a" if name == "stochastic" else name
    if name not in MODES:
        raise unknown("rounding mode", name, (*MODES, "stochastic"))
    return MODES.index(name)


def overflow_number(name: str) -> int:
    """The number of an overflow policy; `InputError` for an unknown one."""
    if name not in OVERFLOW:
        raise unknown("overflow policy", name, OVERFLOW)
    return OVERFLOW.index(name)


def takes_random_bits(mode: int) -> bool:
    """Whether rounding mode number `mode` takes a random integer."""
    return (
        mode == Rounding.STOCHASTIC_A
        or mode == Rounding.STOCHASTIC_B
        or mode == Rounding.STOCHASTIC_C
    )


#: The same for compiled code. Python calls the function that needs no compilation.
is_stochastic = jit_inlined(takes_random_bits)


class Facts(NamedTuple):
    """A format as compiled code sees it: integers only.

    A magnitude (`…_mag`) is a code without its sign bit. Magnitudes of numbers are ordered as the numbers.
    """

    exponent_bits: int
    fraction_bits: int
    bias: int
    signed: int  #: 1 with a sign bit, else 0
    zero: int  #: a `Zero`
    lowest: int  #: a `Lowest`
    mag_mask: int  #: all bits of a code but the sign
    max_mag: int  #: the largest number
    inf_mag: int  #: infinity, or −1
    nan_code: int  #: the whole code of the NaN that operations produce, or −1
    min_mag: int  #: the smallest positive number …
    min_sig: int  #: … has the value min_sig · 2^min_exp
    min_exp: int
    normal_mag: int  #: the smallest positive normal number …
    emin: int  #: … and its exponent, floor(log2)
