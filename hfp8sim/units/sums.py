"""Exact sums of a few terms, ready to be rounded once.

A value is (sig + δ)·2^exp with a signed integer `sig`, |sig| < 2^62. The sticky bit says that 0 < δ < 1; without
it δ = 0. Bits are cut toward −∞ (two's complement), so a cut part is always *added* to sig, and subtraction needs
no case of its own.

Why 62 bits suffice: operands have at most 24 significant bits and products 48. Bits are cut only if the terms
span more than 61 bits. Then the larger term is at least 2^12 times the smaller one, so the sum keeps at least 59
exact bits. A rounding reads at most 24 + 1 + 24 + 1 bits: precision, guard bit, random bits, one more.
"""

from __future__ import annotations

from typing import NamedTuple

from hfp8sim._numba.jit import jit
from hfp8sim.formats.rounding import bit_length, round_pack, scaled
from hfp8sim.formats.vocabulary import Facts

#: Bits of a significand that sums keep.
WIDTH = 61
#: An exponent below that of every number.
NO_EXPONENT = -(1 << 30)


class Rounder(NamedTuple):
    """One rounding: the format, the mode, the overflow policy, and a random integer of r bits."""

    fmt: Facts
    mode: int  #: a `Rounding`
    policy: int  #: an `Overflow`
    r: int  #: bits of `random`
    random: int  #: read by the stochastic modes only


@jit
def top(sig, exp):
    """One more than the exponent of the leading bit; `NO_EXPONENT` for zero."""
    return exp + bit_length(abs(sig)) if sig != 0 else NO_EXPONENT


@jit
def add(sig1, exp1, sticky1, sig2, exp2, sticky2):
    """The sum of two values as (sig, exp, sticky); at most one of them may be sticky."""
    if sig1 == 0:
        return sig2, exp2, sticky2
    if sig2 == 0:
        return sig1, exp1, sticky1
    exp = max(min(exp1, exp2), max(top(sig1, exp1), top(sig2, exp2)) - WIDTH)
    sig1, sticky1 = scaled(sig1, exp1 - exp, sticky1)
    sig2, sticky2 = scaled(sig2, exp2 - exp, sticky2)
    return sig1 + sig2, exp, sticky1 or sticky2


@jit
def add3(sig1, exp1, sig2, exp2, sig3, exp3):
    """The sum of three exact values as (sig, exp, sticky).

    The two largest are added first if their sum is exact. Otherwise the two smallest are added first: they lie so
    far below the largest that the sticky bit of their sum is below every bit that a rounding reads.
    """
    if top(sig1, exp1) < top(sig2, exp2):
        sig1, exp1, sig2, exp2 = sig2, exp2, sig1, exp1
    if top(sig1, exp1) < top(sig3, exp3):
        sig1, exp1, sig3, exp3 = sig3, exp3, sig1, exp1
    if top(sig2, exp2) < top(sig3, exp3):
        sig2, exp2, sig3, exp3 = sig3, exp3, sig2, exp2
    if sig2 == 0 or top(sig1, exp1) - min(exp1, exp2) < WIDTH:
        sig, exp, sticky = add(sig1, exp1, False, sig2, exp2, False)
        return add(sig, exp, sticky, sig3, exp3, False)
    sig, exp, sticky = add(sig2, exp2, False, sig3, exp3, False)
    return add(sig1, exp1, False, sig, exp, sticky)


@jit
def round_sum(sig, exp, sticky, rounder):
    """Round a sum to an accumulator: (code, flags). A zero result is +0 in every mode."""
    fmt = rounder.fmt
    sign = 0
    if sig < 0:
        sign, sig = 1, (-sig - 1 if sticky else -sig)
    code, flags = round_pack(
        sign, sig, exp, sticky, fmt, rounder.mode, rounder.policy, rounder.r, rounder.random
    )
    if code == fmt.mag_mask + 1 and code != fmt.nan_code:
        code = 0  # −0
    return code, flags
