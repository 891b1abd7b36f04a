"""The multiply-accumulate units: one step of each sum order (docs/numerics.md, section 3).

A term is a pair (sig, exp): a signed significand and an exponent, exact. Zero is (0, 0). An exponent from
`INF_EXP` on marks an infinity, from `NAN_EXP` on a NaN. A row of A and a column of B are arrays of terms, int64
(k, 2); their product number i is row[i]·column[i].

A step of the orders `pair-first` and `chain` rounds twice, all others once. Functions that round return
(code, flags).
"""

from __future__ import annotations

from hfp8sim._numba.jit import jit, jit_inlined
from hfp8sim.formats.rounding import INFINITE, NAN, bit_length, pack_infinity, pack_nan, unpack
from hfp8sim.formats.vocabulary import Term, names
from hfp8sim.units.exact import exact_add, exact_take
from hfp8sim.units.sums import NO_EXPONENT, add, add3, round_sum


class SumOrder(Term):
    """How a step adds its products p₀, p₁, … to the accumulator."""

    roundings: int  #: roundings of a step

    def __new__(cls, number: int, meaning: str, roundings: int) -> SumOrder:
        """The member with that number. The enum class calls this once for each member."""
        member = int.__new__(cls, number)
        member._value_, member.meaning, member.roundings = number, meaning, roundings
        return member

    FUSED = 0, "acc ← round(acc + Σ p)", 1
    PAIR_FIRST = 1, "acc ← round(acc + round(p₀ + p₁))", 2
    CHAIN = 2, "acc ← round(p₁ + round(acc + p₀))", 2
    ALIGNED = 3, "all terms truncated at one place, summed exactly, rounded", 1


#: Public names of the sum orders; a name's index is its number.
SUM_ORDERS = names(SumOrder)

#: Exponents that mark infinity and NaN.
INF_EXP, NAN_EXP = 1 << 20, 1 << 24


# -- terms -----------------------------------------------------------------------------------------------------


@jit
def operand(code, fmt):
    """The term of a code."""
    kind, sign, sig, exp = unpack(code, fmt)
    if kind == NAN:
        return 1, NAN_EXP
    if kind == INFINITE:
        return (-1 if sign else 1), INF_EXP
    if sig == 0:
        return 0, 0
    return (-sig if sign else sig), exp


@jit
def product(a, b):
    """The exact product of two terms. 0·NaN and 0·∞ are NaN."""
    sig_a, exp_a = a
    sig_b, exp_b = b
    if exp_a >= INF_EXP or exp_b >= INF_EXP:
        if sig_a == 0 or sig_b == 0 or exp_a >= NAN_EXP or exp_b >= NAN_EXP:
            return 1, NAN_EXP
        return (-1 if (sig_a < 0) != (sig_b < 0) else 1), INF_EXP
    if sig_a == 0 or sig_b == 0:
        return 0, 0
    return sig_a * sig_b, exp_a + exp_b


@jit_inlined
def nth_product(row, column, i):
    """The exact product row[i]·column[i]."""
    return product((row[i, 0], row[i, 1]), (column[i, 0], column[i, 1]))


@jit
def exceptional(x, y):
    """The sum of two terms of which at least one is not finite: a NaN or an infinity."""
    sig1, exp1 = x
    sig2, exp2 = y
    if exp1 >= NAN_EXP or exp2 >= NAN_EXP:
        return 1, NAN_EXP
    if exp1 >= INF_EXP and exp2 >= INF_EXP and (sig1 < 0) != (sig2 < 0):
        return 1, NAN_EXP
    return (sig1 if exp1 >= INF_EXP else sig2), INF_EXP


@jit
def pack_exceptional(term, rounder):
    """The code of a sum that is not finite."""
    sig, exp = term
    if exp >= NAN_EXP:
        return pack_nan(rounder.fmt)
    return pack_infinity(1 if sig < 0 else 0, rounder.fmt, rounder.policy)


# -- steps -----------------------------------------------------------------------------------------------------


@jit
def round_two(x, y, rounder):
    """round(x + y)."""
    if x[1] >= INF_EXP or y[1] >= INF_EXP:
        return pack_exceptional(exceptional(x, y), rounder)
    sig, exp, sticky = add(x[0], x[1], False, y[0], y[1], False)
    return round_sum(sig, exp, sticky, rounder)


@jit
def fma(acc, p, rounder):
    """round(acc + p) for an accumulator code and an exact product."""
    return round_two(operand(acc, rounder.fmt), p, rounder)


@jit
def fmma(acc, p, q, rounder):
    """round(acc + p + q), one rounding."""
    x = operand(acc, rounder.fmt)
    if x[1] >= INF_EXP or p[1] >= INF_EXP or q[1] >= INF_EXP:
        if p[1] >= INF_EXP:
            x = exceptional(x, p)
        if q[1] >= INF_EXP:
            x = exceptional(x, q)
        return pack_exceptional(x, rounder)
    sig, exp, sticky = add3(x[0], x[1], p[0], p[1], q[0], q[1])
    return round_sum(sig, exp, sticky, rounder)


@jit
def pair_first(acc, p, q, inner, outer):
    """round(acc + round(p + q)): (code, flags of the inner rounding, flags of the outer one)."""
    pair, inner_flags = round_two(p, q, inner)
    code, outer_flags = fma(acc, operand(pair, inner.fmt), outer)
    return code, inner_flags, outer_flags


@jit
def chain(acc, p, q, inner, outer):
    """round(q + round(acc + p)): (code, flags of the inner rounding, flags of the outer one)."""
    middle, inner_flags = fma(acc, p, inner)
    code, outer_flags = fma(middle, q, outer)
    return code, inner_flags, outer_flags


@jit
def exact(row, column, first, stop, limbs, base, rounder):
    """round(Σ p) of products first..stop − 1, in the exact register `limbs`, which is zero before and after."""
    special = (0, 0)
    for i in range(first, stop):
        sig, exp = nth_product(row, column, i)
        if exp >= INF_EXP:
            special = exceptional(special, (sig, exp))
        elif sig != 0:
            exact_add(limbs, base, sig, exp)
    sig, exp, sticky = exact_take(limbs, base)
    if special[1] >= INF_EXP:
        return pack_exceptional(special, rounder)
    return round_sum(sig, exp, sticky, rounder)


@jit
def aligned(acc, row, column, first, stop, a_fmt, b_fmt, guard, rounder):
    """round(Σ of acc and products first..stop − 1, truncated toward zero to multiples of 2^(e_max − guard)).

    This is the matrix core of a GPU. There are at most 64 products.
    """
    start = operand(acc, rounder.fmt)
    e_max, special = survey(start, row, column, first, stop, a_fmt, b_fmt, rounder.fmt)
    if special[1] >= INF_EXP:
        return pack_exceptional(special, rounder)
    quantum = e_max - guard
    total = truncate(start[0], start[1] - quantum)
    for i in range(first, stop):
        sig, exp = nth_product(row, column, i)
        total += truncate(sig, exp - quantum)
    return round_sum(total, quantum, False, rounder)


@jit_inlined
def survey(start, row, column, first, stop, a_fmt, b_fmt, fmt):
    """(e_max of the non-zero terms, sum of the terms that are not finite) of an aligned step.

    The second is a finite term if all terms are finite.
    """
    e_max = exponent_of(start[0], start[1], fmt) if start[0] != 0 else NO_EXPONENT
    special = start
    for i in range(first, stop):
        sig, exp = nth_product(row, column, i)
        if exp >= INF_EXP:
            special = exceptional(special, (sig, exp))
        elif sig != 0:
            of_a = exponent_of(row[i, 0], row[i, 1], a_fmt)
            of_b = exponent_of(column[i, 0], column[i, 1], b_fmt)
            e_max = max(e_max, of_a + of_b)
    return e_max, special


@jit
def exponent_of(sig, exp, fmt):
    """floor(log2) of a non-zero operand, but emin for a subnormal one."""
    return max(exp + bit_length(abs(sig)) - 1, fmt.emin)


@jit
def truncate(sig, shift):
    """sig·2^shift, truncated toward zero to an integer."""
    if shift >= 0:
        return sig << shift if sig != 0 else 0
    if shift <= -63:
        return 0
    return -(-sig >> -shift) if sig < 0 else sig >> -shift
