"""The multiply-accumulate units: one step of `fma`, `fmma`, their variants, and the aligned sum.

Operands come unpacked (`operand`): a signed significand and an exponent, and `exp` past `INF_EXP` for
what is not a number. Products are exact (docs/numerics.md, section 3).
"""

from __future__ import annotations

from hfp8sim._numba.jit import jit
from hfp8sim.formats.rounding import (
    INFINITE,
    NAN,
    bit_length,
    pack_infinity,
    pack_nan,
    unpack,
)
from hfp8sim.units.sums import add, add3, round_sum

#: Sum orders; the index is the number kernels and the C reference see.
SUM_ORDERS = ("fused", "pair-first", "chain", "aligned")
FUSED, PAIR_FIRST, CHAIN, ALIGNED = range(4)

#: An exponent from here on marks an infinity (sign in the significand), from NAN_EXP on a NaN.
INF_EXP, NAN_EXP = 1 << 20, 1 << 24


@jit
def operand(code, fmt):
    """A code as (signed significand, exponent); zero is (0, 0)."""
    kind, sign, sig, exp = unpack(code, fmt)
    if kind == NAN:
        return 1, NAN_EXP
    if kind == INFINITE:
        return (-1 if sign else 1), INF_EXP
    if sig == 0:
        return 0, 0
    return (-sig if sign else sig), exp


@jit
def product(sig_a, exp_a, sig_b, exp_b):
    """The exact product of two operands. 0·NaN and 0·∞ are NaN."""
    if exp_a >= INF_EXP or exp_b >= INF_EXP:
        if sig_a == 0 or sig_b == 0 or exp_a >= NAN_EXP or exp_b >= NAN_EXP:
            return 1, NAN_EXP
        return (-1 if (sig_a < 0) != (sig_b < 0) else 1), INF_EXP
    if sig_a == 0 or sig_b == 0:
        return 0, 0
    return sig_a * sig_b, exp_a + exp_b


@jit
def exceptional(sig1, exp1, sig2, exp2):
    """The sum of two terms of which one at least is not finite: a NaN or an infinity."""
    if exp1 >= NAN_EXP or exp2 >= NAN_EXP:
        return 1, NAN_EXP
    if exp1 >= INF_EXP and exp2 >= INF_EXP and (sig1 < 0) != (sig2 < 0):
        return 1, NAN_EXP
    return (sig1 if exp1 >= INF_EXP else sig2), INF_EXP


@jit
def pack_exceptional(sig, exp, fmt, policy):
    """The code of a sum that is not finite."""
    if exp >= NAN_EXP:
        return pack_nan(fmt)
    return pack_infinity(1 if sig < 0 else 0, fmt, policy)


@jit
def round_two(sig1, exp1, sig2, exp2, fmt, mode, policy, r, random):
    """round(x₁ + x₂) of two exact terms: (code, flags)."""
    if exp1 >= INF_EXP or exp2 >= INF_EXP:
        sig, exp = exceptional(sig1, exp1, sig2, exp2)
        return pack_exceptional(sig, exp, fmt, policy)
    sig, exp, sticky = add(sig1, exp1, False, sig2, exp2, False)
    return round_sum(sig, exp, sticky, fmt, mode, policy, r, random)


@jit
def fma(acc, sig, exp, fmt, mode, policy, r, random):
    """round(acc + p) for the exact product p = sig·2^exp and an accumulator code: (code, flags)."""
    sig0, exp0 = operand(acc, fmt)
    return round_two(sig0, exp0, sig, exp, fmt, mode, policy, r, random)


@jit
def fmma(acc, sig1, exp1, sig2, exp2, fmt, mode, policy, r, random):
    """round(acc + p₁ + p₂), one rounding: (code, flags)."""
    sig0, exp0 = operand(acc, fmt)
    if exp0 >= INF_EXP or exp1 >= INF_EXP or exp2 >= INF_EXP:
        sig, exp = sig0, exp0
        if exp1 >= INF_EXP:
            sig, exp = exceptional(sig, exp, sig1, exp1)
        if exp2 >= INF_EXP:
            sig, exp = exceptional(sig, exp, sig2, exp2)
        return pack_exceptional(sig, exp, fmt, policy)
    sig, exp, sticky = add3(sig0, exp0, sig1, exp1, sig2, exp2)
    return round_sum(sig, exp, sticky, fmt, mode, policy, r, random)


@jit
def exponent_of(sig, exp, fmt):
    """floor(log2) of a non-zero operand, a subnormal at its format's lowest exponent."""
    return max(exp + bit_length(abs(sig)) - 1, fmt.emin)


@jit
def aligned(
    acc, sig_a, exp_a, sig_b, exp_b, first, after, a_fmt, b_fmt, guard, fmt, mode, policy, r, random
):
    """The matrix core of a GPU: all terms aligned to the largest exponent and cut to `guard` fraction
    bits, summed exactly, rounded. The step's n ≤ 64 elements are first..after−1 of 1-D arrays."""
    sig0, exp0 = operand(acc, fmt)
    anchor = exponent_of(sig0, exp0, fmt) if sig0 != 0 else -(1 << 30)
    odd_sig, odd_exp = sig0, exp0  # the sum of what is not finite
    finite = exp0 < INF_EXP
    for i in range(first, after):
        sig, exp = product(sig_a[i], exp_a[i], sig_b[i], exp_b[i])
        if exp >= INF_EXP:
            odd_sig, odd_exp = exceptional(odd_sig, odd_exp, sig, exp)
            finite = False
        elif sig != 0:
            e = exponent_of(sig_a[i], exp_a[i], a_fmt) + exponent_of(sig_b[i], exp_b[i], b_fmt)
            anchor = max(anchor, e)
    if not finite:
        return pack_exceptional(odd_sig, odd_exp, fmt, policy)
    quantum = anchor - guard
    total = truncate(sig0, exp0 - quantum)
    for i in range(first, after):
        sig, exp = product(sig_a[i], exp_a[i], sig_b[i], exp_b[i])
        total += truncate(sig, exp - quantum)
    return round_sum(total, quantum, False, fmt, mode, policy, r, random)


@jit
def truncate(sig, shift):
    """sig·2^shift, cut toward zero to an integer."""
    if shift >= 0:
        return sig << shift if sig != 0 else 0
    if shift <= -63:
        return 0
    return -(-sig >> -shift) if sig < 0 else sig >> -shift
