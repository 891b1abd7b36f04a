"""Codes to exact numbers, and the one place where exact numbers are rounded to codes.

This is docs/numerics.md, sections 1 and 2. An exact number is X = ±(sig + δ)·2^exp with integers `sig` < 2^62
and `exp`. The sticky bit says that 0 < δ < 1; without it δ = 0. A sticky number has at least 60 significant
bits, so δ lies below every bit that a rounding mode reads.
"""

from __future__ import annotations

from hfp8sim._numba.jit import jit, jit_inlined
from hfp8sim.formats.vocabulary import Lowest, Overflow, Rounding, Zero, is_stochastic

# Flags of a rounding, a bit set.
INEXACT = 1  #: the result is not X
OVERFLOWED = 2  #: the rounded magnitude is beyond the largest number
UNDERFLOWED = 4  #: inexact, and below the smallest normal number
INVALID = 8  #: NaN, or a number that the format has no code for

# Classes of an unpacked code.
FINITE, INFINITE, NAN = 0, 1, 2


@jit_inlined
def bit_length(x):
    """Bits of x ≥ 0: floor(log2 x) + 1, and 0 for 0."""
    n = 0
    if x >> 32:
        x >>= 32
        n += 32
    if x >> 16:
        x >>= 16
        n += 16
    if x >> 8:
        x >>= 8
        n += 8
    if x >> 4:
        x >>= 4
        n += 4
    if x >> 2:
        x >>= 2
        n += 2
    if x >> 1:
        x >>= 1
        n += 1
    return n + x


@jit_inlined
def is_nan(code, fmt):
    """Whether a code is a NaN, or the merged NaN-Infinity."""
    mag = code & fmt.mag_mask
    return (code == fmt.nan_code) | ((mag > fmt.max_mag) & (mag != fmt.inf_mag))


@jit
def unpack(code, fmt):
    """A code as (class, sign, sig, exp). FINITE means (−1)^sign · sig · 2^exp, exactly."""
    mag = code & fmt.mag_mask
    sign = (code >> (fmt.exponent_bits + fmt.fraction_bits)) & fmt.signed
    if mag > fmt.max_mag or code == fmt.nan_code:
        return (NAN if is_nan(code, fmt) else INFINITE), sign, 0, 0
    e = mag >> fmt.fraction_bits
    hidden = 1 << fmt.fraction_bits
    f = mag & (hidden - 1)
    if e > 0:
        return FINITE, sign, hidden + f, e - fmt.bias - fmt.fraction_bits
    if fmt.lowest == Lowest.SUBNORMAL:
        return FINITE, sign, f, 1 - fmt.bias - fmt.fraction_bits
    if fmt.lowest == Lowest.NORMAL and (f > 0 or fmt.zero == Zero.NONE):
        return FINITE, sign, hidden + f, -fmt.bias - fmt.fraction_bits
    return FINITE, sign, 0, 0


@jit
def pack(sign, mag, fmt):
    """The code of a magnitude with a sign. A format with one zero drops the sign of zero."""
    if mag == 0 and fmt.zero == Zero.UNSIGNED:
        return 0
    return mag | (sign & fmt.signed) << (fmt.exponent_bits + fmt.fraction_bits)


@jit
def pack_nan(fmt):
    """The NaN that the format produces, and its flag. The format must have one."""
    return fmt.nan_code, INVALID


@jit
def pack_invalid(fmt, policy):
    """(code, flags) of a number that the format has no code for: 0 when saturating, else NaN."""
    return (0 if policy == Overflow.SATURATE or fmt.nan_code < 0 else fmt.nan_code), INVALID


@jit
def pack_overflow(sign, toward_zero, fmt, policy):
    """(code, flags) beyond the largest number: that number, infinity, or NaN (step 6).

    `toward_zero`: the direction of rounding keeps the largest number.
    """
    flags = OVERFLOWED | INEXACT
    if policy == Overflow.SATURATE or toward_zero or (fmt.inf_mag < 0 and fmt.nan_code < 0):
        return pack(sign, fmt.max_mag, fmt), flags
    if fmt.inf_mag >= 0:
        return pack(sign, fmt.inf_mag, fmt), flags
    return fmt.nan_code, flags


@jit
def pack_infinity(sign, fmt, policy):
    """(code, flags) of an infinite value: infinity, or an overflow if the format or the policy has none."""
    if fmt.signed == 0 and sign:
        return pack_invalid(fmt, policy)
    if fmt.inf_mag >= 0 and policy != Overflow.SATURATE:
        return pack(sign, fmt.inf_mag, fmt), 0
    return pack_overflow(sign, False, fmt, policy)


@jit_inlined
def scaled(sig, shift, sticky):
    """floor((sig + δ)·2^shift), and whether a bit was cut off; sig may be negative."""
    if shift >= 0:
        return sig << shift, sticky
    # |sig| < 2^62: a shift by 62 already cuts all of it, and leaves −1 of a negative sig.
    shift = max(shift, -62)
    return sig >> -shift, sticky or (sig & ((1 << -shift) - 1)) != 0


@jit
def fraction_width(mode, r):
    """The bits of the discarded fraction ν that a mode reads, not counting the sticky bit."""
    if mode == Rounding.STOCHASTIC_A:
        return r
    return r + 1 if is_stochastic(mode) else 1


@jit_inlined
def rounds_away(sign, odd, nu, sticky, mode, r, random):
    """Whether the magnitude goes up (step 4).

    nu = floor(ν·2^n) for n = `fraction_width`; `sticky` says that ν has further bits; `odd` is the lowest
    bit of the lower neighbour's code.
    """
    if mode == Rounding.NEAREST_EVEN:
        return nu == 1 and (sticky or odd)
    if mode == Rounding.NEAREST_AWAY:
        return nu == 1
    if mode == Rounding.STOCHASTIC_A:
        return nu + random >= 1 << r
    if mode == Rounding.STOCHASTIC_B:
        return nu + 2 * random + 1 >= 1 << (r + 1)
    if mode == Rounding.STOCHASTIC_C:  # nearest even of ν·2^r, from one bit more and the sticky bit
        nearest = (nu >> 1) + (nu & 1 & (int(sticky) | (nu >> 1)))
        return nearest + random >= 1 << r
    inexact = nu != 0 or sticky
    if mode == Rounding.TOWARD_POSITIVE:
        return inexact and sign == 0
    if mode == Rounding.TOWARD_NEGATIVE:
        return inexact and sign == 1
    if mode == Rounding.TO_ODD:
        return inexact and not odd
    return False  # TOWARD_ZERO


@jit_inlined
def is_below_smallest(sig, exp, sticky, log2, fmt):
    """Whether 0 < |X| < min, the smallest positive number, in a format without subnormal numbers.

    log2 = floor(log2 |X|).
    """
    if fmt.lowest == Lowest.SUBNORMAL or log2 > fmt.min_exp + fmt.fraction_bits:
        return False  # or: min < 2^(min_exp + F + 1) ≤ |X|
    return scaled(sig, exp - fmt.min_exp, sticky)[0] < fmt.min_sig


@jit_inlined
def round_below_smallest(sign, sig, exp, sticky, fmt, mode, r, random):
    """The magnitude of 0 < |X| < min after rounding: 0 or `min_mag` (step 5). ν is |X|/min."""
    if fmt.zero == Zero.NONE:
        return fmt.min_mag
    wide, cut = scaled(sig, exp - fmt.min_exp + fraction_width(mode, r), sticky)
    nu = wide // fmt.min_sig
    remainder = cut or wide != nu * fmt.min_sig
    return fmt.min_mag if rounds_away(sign, False, nu, remainder, mode, r, random) else 0


@jit_inlined
def round_to_quantum(sign, sig, exp, sticky, log2, fmt, mode, r, random):
    """(magnitude, inexact) of |X| after steps 2 to 4; exponents are unlimited above."""
    f, n = fmt.fraction_bits, fraction_width(mode, r)
    quantum = (max(log2, 1 - fmt.bias) if fmt.lowest == Lowest.SUBNORMAL else log2) - f
    wide, cut = scaled(sig, exp - quantum + n, sticky)
    nu = wide & ((1 << n) - 1)
    # The lower neighbour's code. Its hidden bit carries 1 into the exponent field.
    mag = (quantum + f + fmt.bias - 1 << f) + (wide >> n)
    inexact = nu != 0 or cut
    if rounds_away(sign, mag & 1, nu, cut, mode, r, random):
        mag += 1  # adjacent magnitudes have adjacent codes
    if mag < fmt.min_mag:
        return 0, True
    return mag, inexact


@jit_inlined
def points_toward_zero(sign, mode):
    """Whether a mode never increases the magnitude of a number of that sign beyond the largest one."""
    return (
        mode == Rounding.TOWARD_ZERO
        or mode == Rounding.TO_ODD
        or (mode == Rounding.TOWARD_POSITIVE and sign == 1)
        or (mode == Rounding.TOWARD_NEGATIVE and sign == 0)
    )


@jit_inlined
def round_pack(sign, sig, exp, sticky, fmt, mode, policy, r, random):
    """Round X = (−1)^sign·(sig + δ)·2^exp to `fmt`: (code, flags).

    Args:
        sign: 0 or 1.
        sig, exp, sticky: the magnitude of X, see above; sig ≥ 0.
        fmt: `Facts` of the format.
        mode, policy: numbers of `Rounding` and `Overflow`.
        r, random: a random integer of r bits, which the stochastic modes read.
    """
    if sig == 0:
        return pack_invalid(fmt, policy) if fmt.zero == Zero.NONE else (pack(sign, 0, fmt), 0)
    if sign and not fmt.signed:
        return pack_invalid(fmt, policy)
    log2 = exp + bit_length(sig) - 1
    nearest = mode == Rounding.NEAREST_EVEN or mode == Rounding.NEAREST_AWAY
    if (not nearest or fmt.zero == Zero.NONE) and is_below_smallest(sig, exp, sticky, log2, fmt):
        mag, inexact = round_below_smallest(sign, sig, exp, sticky, fmt, mode, r, random), True
    else:
        mag, inexact = round_to_quantum(sign, sig, exp, sticky, log2, fmt, mode, r, random)
    if mag > fmt.max_mag:
        return pack_overflow(sign, points_toward_zero(sign, mode), fmt, policy)
    flags = 0
    if inexact:
        flags = INEXACT | UNDERFLOWED if mag < fmt.normal_mag else INEXACT
    return pack(sign, mag, fmt), flags
