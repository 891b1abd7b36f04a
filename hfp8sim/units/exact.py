"""An exact accumulator of any number of products: Kulisch's long fixed-point register.

The register is an array of int64 limbs of weight 2^(base + 32·i), each holding far less than it could,
so that 2^30 products need no carry in between.
"""

from __future__ import annotations

from hfp8sim._numba.jit import jit
from hfp8sim.formats.rounding import bit_length
from hfp8sim.formats.vocabulary import Facts
from hfp8sim.units.sums import WIDTH

_LOW32 = 0xFFFFFFFF


def register_size(a: Facts, b: Facts) -> tuple[int, int]:
    """(base, limbs): exponent of the lowest bit, and limbs that hold 2^30 products of a and b."""
    base = sum(-f.bias - f.fraction_bits for f in (a, b))
    top = sum((f.max_mag >> f.fraction_bits) - f.bias + 1 for f in (a, b))
    return base, (top - base + 32) // 32 + 3


@jit
def exact_add(limbs, base, sig, exp):
    """Add sig·2^exp; |sig| < 2^48, exp ≥ base."""
    sign = -1 if sig < 0 else 1
    magnitude = abs(sig)
    i = (exp - base) >> 5
    shift = (exp - base) & 31
    low = (magnitude & _LOW32) << shift
    high = (magnitude >> 32) << shift
    limbs[i] += sign * (low & _LOW32)
    limbs[i + 1] += sign * ((low >> 32) + (high & _LOW32))
    limbs[i + 2] += sign * (high >> 32)


@jit
def exact_take(limbs, base):
    """The register as (sig, exp, sticky) of `sums`, exact but for a sticky bit; clears it."""
    negative = carry_limbs(limbs, 0) < 0
    if negative:  # two's complement of the whole register
        for i in range(limbs.size):
            limbs[i] ^= _LOW32
        carry_limbs(limbs, 1)
    sig, exp, sticky = leading_bits(limbs, base)
    limbs[:] = 0
    if negative:
        return (-sig - 1 if sticky else -sig), exp, sticky
    return sig, exp, sticky


@jit
def carry_limbs(limbs, carry):
    """Add `carry` to the lowest limb and bring every limb into 0..2^32 − 1; the carry out of the highest one."""
    for i in range(limbs.size):
        limb = limbs[i] + carry
        carry = limb >> 32
        limbs[i] = limb & _LOW32
    return carry


@jit
def leading_bits(limbs, base):
    """The 61 leading bits of a register without carries, (sig, exp), and whether a bit below them is 1."""
    i = limbs.size - 1
    while i > 0 and limbs[i] == 0:
        i -= 1
    sig, exp = limbs[i], base + 32 * i
    while i > 0 and bit_length(sig) <= WIDTH - 32:  # room for one more limb
        i -= 1
        sig, exp = sig << 32 | limbs[i], exp - 32
    if i == 0:
        return sig, exp, False
    take = WIDTH - bit_length(sig)  # bits of the next limb, 0..31
    i -= 1
    below = limbs[i] & ((1 << (32 - take)) - 1)
    sig, exp = sig << take | limbs[i] >> (32 - take), exp - take
    while i > 0 and below == 0:
        i -= 1
        below = limbs[i]
    return sig, exp, below != 0
