"""Exact sums of products, ready to be rounded once.

A value is (sig + δ)·2^exp: `sig` a signed integer with |sig| < 2^62, and `sticky` says that 0 < δ < 1
instead of δ = 0. So what was cut off is always *added* to sig (two's complement, cut toward −∞), and no
subtraction needs a case of its own.

Why 62 bits are enough (operands have at most 24 significant bits, products 48): bits are cut only if
the terms span more than 61 bits, and then the larger term tops the smaller by 2^12 at least, so the sum
keeps at least 59 exact bits. A rounding looks at 24 + 1 + 24 + 1.
"""

from __future__ import annotations

from hfp8sim._numba.jit import jit
from hfp8sim.formats.rounding import bit_length, round_pack, scaled

_WIDTH = 61


@jit
def top(sig, exp):
    """One more than the exponent of the leading bit; far below everything for zero."""
    return exp + bit_length(abs(sig)) if sig != 0 else -(1 << 30)


@jit
def add(sig1, exp1, sticky1, sig2, exp2, sticky2):
    """The sum of two values, exact but for a sticky bit; at most one of them may be sticky."""
    if sig1 == 0:
        return sig2, exp2, sticky2
    if sig2 == 0:
        return sig1, exp1, sticky1
    exp = max(min(exp1, exp2), max(top(sig1, exp1), top(sig2, exp2)) - _WIDTH)
    sig1, sticky1 = scaled(sig1, exp1 - exp, sticky1)
    sig2, sticky2 = scaled(sig2, exp2 - exp, sticky2)
    return sig1 + sig2, exp, sticky1 or sticky2


@jit
def add3(sig1, exp1, sig2, exp2, sig3, exp3):
    """The sum of three exact values. The two largest are added first if that is exact; else the two
    smallest, which then lie so far below the largest that their own sticky bit does no harm."""
    if top(sig1, exp1) < top(sig2, exp2):
        sig1, exp1, sig2, exp2 = sig2, exp2, sig1, exp1
    if top(sig1, exp1) < top(sig3, exp3):
        sig1, exp1, sig3, exp3 = sig3, exp3, sig1, exp1
    if top(sig2, exp2) < top(sig3, exp3):
        sig2, exp2, sig3, exp3 = sig3, exp3, sig2, exp2
    if sig2 == 0 or top(sig1, exp1) - min(exp1, exp2) < _WIDTH:
        sig, exp, sticky = add(sig1, exp1, False, sig2, exp2, False)
        return add(sig, exp, sticky, sig3, exp3, False)
    sig, exp, sticky = add(sig2, exp2, False, sig3, exp3, False)
    return add(sig1, exp1, False, sig, exp, sticky)


@jit
def round_sum(sig, exp, sticky, fmt, mode, policy, r, random):
    """Round a sum into an accumulator: (code, flags). A zero result is +0 in every mode."""
    sign = 0
    if sig < 0:
        sign, sig = 1, (-sig - 1 if sticky else -sig)
    code, flags = round_pack(sign, sig, exp, sticky, fmt, mode, policy, r, random)
    if code == 1 << (fmt.exponent_bits + fmt.fraction_bits) and code != fmt.nan_code:
        code = 0
    return code, flags
