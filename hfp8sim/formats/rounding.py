"""Rounding happens here, and only here (docs/numerics.md, section 2).

A number on its way to a code is X = ±(sig + δ)·2^exp with integers `sig` < 2^62 and `exp`; `sticky`
says that 0 < δ < 1 instead of δ = 0. A sticky number carries at least 60 significant bits, so δ lies far
below anything that a rounding decision looks at.
"""

from __future__ import annotations

from hfp8sim._numba.jit import jit, jit_inlined
from hfp8sim.formats.record import LOWEST, MODES, OVERFLOW, ZEROS

NEAREST_EVEN, NEAREST_AWAY, TOWARD_ZERO, TOWARD_POSITIVE, TOWARD_NEGATIVE, TO_ODD = range(6)
STOCHASTIC_A, STOCHASTIC_B, STOCHASTIC_C = range(6, len(MODES))
SATURATE, SPECIAL, ERROR = range(len(OVERFLOW))
SUBNORMAL, NORMAL, FLUSH = range(len(LOWEST))
SIGNED_ZERO, UNSIGNED_ZERO, NO_ZERO = range(len(ZEROS))

#: Flags, a bit set.
INEXACT, OVERFLOWED, UNDERFLOWED, INVALID = 1, 2, 4, 8

#: What an unpacked code is.
FINITE, INFINITE, NAN = range(3)


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


@jit
def unpack(code, fmt):
    """A code as (kind, sign, sig, exp): kind FINITE means (−1)^sign · sig · 2^exp, exactly."""
    width = fmt.exponent_bits + fmt.fraction_bits
    sign = (code >> width) & 1 if fmt.signed else 0
    mag = code & ((1 << width) - 1)
    if code == fmt.nan_code:
        return NAN, sign, 0, 0
    if mag > fmt.max_mag:
        return (INFINITE if mag == fmt.inf_mag else NAN), sign, 0, 0
    e = mag >> fmt.fraction_bits
    f = mag & ((1 << fmt.fraction_bits) - 1)
    one = 1 << fmt.fraction_bits
    if e > 0:
        return FINITE, sign, one + f, e - fmt.bias - fmt.fraction_bits
    if fmt.lowest == SUBNORMAL:
        return FINITE, sign, f, 1 - fmt.bias - fmt.fraction_bits
    if fmt.lowest == NORMAL and (f > 0 or fmt.zero == NO_ZERO):
        return FINITE, sign, one + f, -fmt.bias - fmt.fraction_bits
    return FINITE, sign, 0, 0


@jit
def pack(sign, mag, fmt):
    """The code of a magnitude with a sign; a zero loses it in a format with one zero."""
    if mag == 0 and fmt.zero == UNSIGNED_ZERO:
        return 0
    return mag | (sign & fmt.signed) << (fmt.exponent_bits + fmt.fraction_bits)


@jit
def pack_nan(fmt):
    """The NaN the format produces, and the flag for it. The caller has made sure there is one."""
    return fmt.nan_code, INVALID


@jit
def pack_invalid(fmt, policy):
    """What a format has no number for: code 0 when saturating, else its NaN."""
    return (0 if policy == SATURATE or fmt.nan_code < 0 else fmt.nan_code), INVALID


@jit
def pack_overflow(sign, toward_zero, fmt, policy):
    """Beyond the largest number: that number, or the infinity, or the NaN of a format without one."""
    flags = OVERFLOWED | INEXACT
    if policy == SATURATE or toward_zero or (fmt.inf_mag < 0 and fmt.nan_code < 0):
        return pack(sign, fmt.max_mag, fmt), flags
    if fmt.inf_mag >= 0:
        return pack(sign, fmt.inf_mag, fmt), flags
    return fmt.nan_code, flags


@jit
def pack_infinity(sign, fmt, policy):
    """An infinite value: the infinity where there is one, else an overflow; the policy decides."""
    if fmt.signed == 0 and sign:
        return pack_invalid(fmt, policy)
    if fmt.inf_mag >= 0 and policy != SATURATE:
        return pack(sign, fmt.inf_mag, fmt), 0
    return pack_overflow(sign, False, fmt, policy)


@jit_inlined
def scaled(sig, shift, sticky):
    """floor((sig + δ)·2^shift), and whether anything was cut off; sig may be negative."""
    if shift >= 0:
        return sig << shift, sticky
    shift = max(
        shift, -62
    )  # |sig| < 2^62: beyond this all is cut off, and −1 stays of a negative sig
    return sig >> -shift, sticky or (sig & ((1 << -shift) - 1)) != 0


@jit
def fraction_width(mode, r):
    """How many bits of the discarded fraction ν the mode looks at, beside a sticky bit."""
    if mode == STOCHASTIC_A:
        return r
    if mode >= STOCHASTIC_B:
        return r + 1
    return 1


@jit_inlined
def rounds_away(sign, odd, nu, rest, mode, r, random):
    """Whether the magnitude goes up; nu = floor(ν·2^n) for n = fraction_width, rest: ν has more."""
    if mode == NEAREST_EVEN:
        return nu == 1 and (rest or odd)
    if mode == NEAREST_AWAY:
        return nu == 1
    if mode == STOCHASTIC_A:
        return nu + random >= 1 << r
    if mode == STOCHASTIC_B:
        return nu + 2 * random + 1 >= 1 << (r + 1)
    if mode == STOCHASTIC_C:  # rne(ν·2^r) from one bit more and the rest
        nearest = (nu >> 1) + (nu & 1 & (int(rest) | (nu >> 1)))
        return nearest + random >= 1 << r
    inexact = nu != 0 or rest
    if mode == TOWARD_POSITIVE:
        return inexact and sign == 0
    if mode == TOWARD_NEGATIVE:
        return inexact and sign == 1
    if mode == TO_ODD:
        return inexact and not odd
    return False


@jit_inlined
def round_pack(sign, sig, exp, sticky, fmt, mode, policy, r, random):
    """Round (−1)^sign·(sig + δ)·2^exp into `fmt`: (code, flags).

    `random` is an r-bit integer that only the stochastic modes look at. The steps are those of
    docs/numerics.md, section 2; adjacent magnitudes have adjacent codes, so that rounding away is +1.
    """
    if sig == 0:
        return pack_invalid(fmt, policy) if fmt.zero == NO_ZERO else (pack(sign, 0, fmt), 0)
    if sign and not fmt.signed:
        return pack_invalid(fmt, policy)

    f = fmt.fraction_bits
    n = fraction_width(mode, r)
    top = exp + bit_length(sig) - 1  # floor(log2 |X|)
    below = False
    if fmt.lowest != SUBNORMAL and top <= fmt.min_exp + f:
        below = scaled(sig, exp - fmt.min_exp, sticky)[0] < fmt.min_sig

    if below and (mode > NEAREST_AWAY or fmt.zero == NO_ZERO):
        # Between zero and the smallest number there is nothing: ν is counted along that gap.
        wide, cut = scaled(sig, exp - fmt.min_exp + n, sticky)
        nu = wide // fmt.min_sig
        rest = cut or wide != nu * fmt.min_sig
        away = rounds_away(sign, False, nu, rest, mode, r, random) or fmt.zero == NO_ZERO
        mag = fmt.min_mag if away else 0
        inexact = True
    else:
        quantum = max(top, 1 - fmt.bias) - f if fmt.lowest == SUBNORMAL else top - f
        wide, rest = scaled(sig, exp - quantum + n, sticky)
        nu = wide & ((1 << n) - 1)
        # The code of the lower neighbour: its leading one carries 1 into the exponent field.
        field = quantum + f + fmt.bias - 1
        mag = (field << f) + (wide >> n)
        inexact = nu != 0 or rest
        if rounds_away(sign, mag & 1, nu, rest, mode, r, random):
            mag += 1
        if mag < fmt.min_mag:
            mag, inexact = 0, True
        if mag > fmt.max_mag:
            toward_zero = (
                mode in (TOWARD_ZERO, TO_ODD)
                or (mode == TOWARD_POSITIVE and sign == 1)
                or (mode == TOWARD_NEGATIVE and sign == 0)
            )
            return pack_overflow(sign, toward_zero, fmt, policy)

    flags = 0
    if inexact:
        flags = INEXACT | UNDERFLOWED if mag < fmt.normal_mag else INEXACT
    return pack(sign, mag, fmt), flags
