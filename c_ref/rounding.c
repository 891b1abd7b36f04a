/* rounding.c: codes to numbers, and the one place where numbers become codes (numerics.md 1, 2). */
#include "internal.h"

static uint64_t ones(int32_t bits)
{
    return ((uint64_t)1 << bits) - 1;
}

static bool is_stochastic(int32_t mode)
{
    return mode == REF_STOCHASTIC_A || mode == REF_STOCHASTIC_B || mode == REF_STOCHASTIC_C;
}

const char *ref_format_problem(const ref_format *format)
{
    const int32_t e = format->exponent_bits, f = format->fraction_bits;
    const bool p3109 = format->special == REF_SPECIAL_P3109_EXTENDED ||
                       format->special == REF_SPECIAL_P3109_FINITE;
    if (e < 0 || e > 11 || f < 0 || f > 23 || e + f < 1 || e + f + (format->is_signed != 0) > 32)
        return "exponent_bits must be 0..11, fraction_bits 0..23, at least 1 and at most 32 bits";
    if (format->bias < -4095 || format->bias > 4095)
        return "bias must be -4095..4095";
    if (format->zero < 0 || format->zero > 2 || format->lowest < 0 || format->lowest > 2 ||
        format->special < 0 || format->special > 6)
        return "zero and lowest must be 0..2, and special 0..6";
    if (format->zero == REF_ZERO_NONE && f != 0 && format->lowest != REF_LOWEST_NORMAL)
        return "a format without zero and with a fraction needs the lowest binade normal";
    if (format->special == REF_SPECIAL_IEEE && (f < 1 || e < 1))
        return "special ieee needs an exponent bit and a fraction bit";
    if (format->special == REF_SPECIAL_FNUZ && !format->is_signed)
        return "special fnuz needs a sign bit";
    if ((format->special == REF_SPECIAL_FNUZ || (p3109 && format->is_signed)) &&
        format->zero != REF_ZERO_UNSIGNED)
        return "special fnuz and the signed p3109 formats have one zero: the code of -0 is NaN";
    if (p3109 && e + f < 2)
        return "a p3109 format needs two bits of magnitude";
    return NULL;
}

int32_t ref_is_error(uint32_t flags, int32_t overflow)
{
    if (flags & REF_NO_CODE)
        return 1;
    return overflow == REF_ERROR && (flags & REF_OVERFLOW);
}

static layout layout_of(const ref_format *format)
{
    const int32_t f = format->fraction_bits;
    layout d = {.format = *format};
    d.magnitude_bits = format->exponent_bits + f;
    d.top = ones(d.magnitude_bits);
    d.lowest_exponent = -format->bias;
    if (format->lowest != REF_LOWEST_NORMAL && format->zero != REF_ZERO_NONE)
        d.lowest_exponent = 1 - format->bias;
    const uint64_t minus_zero = (uint64_t)1 << d.magnitude_bits;
    switch (format->special) {
    case REF_SPECIAL_IEEE:
        d.has_infinity = true;
        d.infinity = d.top - ones(f);
        d.has_nan = true;
        d.nan = d.infinity + ((uint64_t)1 << (f - 1));
        d.largest = d.infinity - 1;
        break;
    case REF_SPECIAL_FN:
    case REF_SPECIAL_NAN_INF:
        d.has_nan = true;
        d.nan = d.top;
        d.largest = d.top - 1;
        break;
    case REF_SPECIAL_FNUZ:
        d.has_nan = true;
        d.nan = minus_zero;
        d.largest = d.top;
        break;
    case REF_SPECIAL_P3109_EXTENDED:
        d.has_infinity = true;
        d.infinity = format->is_signed ? d.top : d.top - 1;
        d.has_nan = true;
        d.nan = format->is_signed ? minus_zero : d.top;
        d.largest = d.infinity - 1;
        break;
    case REF_SPECIAL_P3109_FINITE:
        d.has_nan = true;
        d.nan = format->is_signed ? minus_zero : d.top;
        d.largest = format->is_signed ? d.top : d.top - 1;
        break;
    default:
        d.largest = d.top;
        break;
    }
    return d;
}

static bool code_is_nan(const layout *d, uint64_t magnitude, bool sign_bit)
{
    switch (d->format.special) {
    case REF_SPECIAL_IEEE:
        return magnitude > d->infinity;
    case REF_SPECIAL_FN:
    case REF_SPECIAL_NAN_INF:
        return magnitude == d->top;
    case REF_SPECIAL_FNUZ:
        return magnitude == 0 && sign_bit;
    case REF_SPECIAL_P3109_EXTENDED:
    case REF_SPECIAL_P3109_FINITE:
        return d->format.is_signed ? magnitude == 0 && sign_bit : magnitude == d->top;
    default:
        return false;
    }
}

static number unpack(const layout *d, uint64_t code)
{
    const int32_t f = d->format.fraction_bits, bias = d->format.bias;
    const uint64_t magnitude = code & d->top;
    const bool sign_bit = d->format.is_signed && (code >> d->magnitude_bits & 1);
    const uint64_t fraction = magnitude & ones(f), hidden = (uint64_t)1 << f;
    const int32_t field = (int32_t)(magnitude >> f);
    number x = {.kind = FINITE, .negative = sign_bit};

    if (code_is_nan(d, magnitude, sign_bit))
        return (number){.kind = NAN_KIND};
    if (d->has_infinity && magnitude == d->infinity) {
        x.kind = INFINITE;
        return x;
    }
    if (magnitude == 0 && d->format.zero != REF_ZERO_NONE) {
        x.kind = ZERO;
        x.negative = sign_bit && d->format.zero == REF_ZERO_SIGNED;
        return x;
    }
    x.anchor = field > 0 ? field - bias : d->lowest_exponent;
    x.significand = hidden | fraction;
    x.exponent = x.anchor - f;
    if (field > 0 || magnitude == 0)
        return x;
    switch (d->format.lowest) {
    case REF_LOWEST_NORMAL:
        break;
    case REF_LOWEST_FLUSH:
        x.kind = ZERO;
        x.significand = 0;
        x.negative = sign_bit && d->format.zero == REF_ZERO_SIGNED;
        break;
    default: /* subnormal: no hidden bit */
        x.significand = fraction;
        break;
    }
    return x;
}

/* Step 4. The fraction nu between the neighbours is given as scaled = floor(nu * 2^(r+1)); sticky
 * says that nu has further bits. r = 0 for the modes without random bits. */
static bool rounds_away(rounding how, uint64_t scaled, bool sticky, bool lower_is_odd,
                        bool negative)
{
    const int32_t r = how.random_bits;
    const bool inexact = scaled != 0 || sticky;
    const uint64_t whole = scaled >> 1; /* floor(nu * 2^r) */
    switch (how.mode) {
    case REF_NEAREST_EVEN:
        return scaled == 1 && (sticky || lower_is_odd);
    case REF_NEAREST_AWAY:
        return scaled == 1;
    case REF_TOWARD_POSITIVE:
        return inexact && !negative;
    case REF_TOWARD_NEGATIVE:
        return inexact && negative;
    case REF_TO_ODD:
        return inexact && !lower_is_odd;
    case REF_STOCHASTIC_A:
        return whole + how.random >= (uint64_t)1 << r;
    case REF_STOCHASTIC_B:
        return scaled + 2 * (uint64_t)how.random + 1 >= (uint64_t)1 << (r + 1);
    case REF_STOCHASTIC_C: {
        const bool up = (scaled & 1) && (sticky || (whole & 1));
        return whole + up + how.random >= (uint64_t)1 << r;
    }
    default: /* toward zero */
        return false;
    }
}

/* floor(x * 2^(scale + r + 1)) for x = significand * 2^exponent, where that cuts bits off; *sticky:
 * whether one of them is set. */
static uint64_t scaled_down(uint64_t significand, int32_t exponent, int32_t scale, int32_t r,
                            bool *sticky)
{
    const int32_t shift = -(exponent + scale + r + 1);
    if (shift >= 64) {
        *sticky = true;
        return 0;
    }
    *sticky = (significand & ones(shift)) != 0;
    return significand >> shift;
}

/* Step 5: 0 < |X| < min, for a format without subnormals. Returns whether the result is min. */
static bool rises_to_smallest(const layout *d, number x, rounding how)
{
    const int32_t f = d->format.fraction_bits, bias = d->format.bias;
    if (d->format.zero == REF_ZERO_NONE)
        return true;
    if (!is_stochastic(how.mode))
        return rounds_away(how, 0, true, false, x.negative);
    /* min = factor * 2^exponent */
    const bool shared = d->format.lowest == REF_LOWEST_NORMAL && f > 0;
    const uint64_t factor = shared ? ((uint64_t)1 << f) + 1 : 1;
    const int32_t exponent = shared ? -bias - f : 1 - bias;
    bool sticky;
    const uint64_t units =
        scaled_down(x.significand, x.exponent, -exponent, how.random_bits, &sticky);
    return rounds_away(how, units / factor, sticky || units % factor != 0, false, x.negative);
}

/* Whether subnormal numbers fill the lowest binade. */
static bool is_gradual(const layout *d)
{
    return d->format.zero != REF_ZERO_NONE && d->format.lowest == REF_LOWEST_SUBNORMAL;
}

/* The magnitude code below which a rounded result becomes zero. */
static int64_t smallest_code(const layout *d)
{
    if (d->format.zero == REF_ZERO_NONE || is_gradual(d))
        return 0;
    return d->format.lowest == REF_LOWEST_FLUSH ? (int64_t)1 << d->format.fraction_bits : 1;
}

/* Steps 2 and 3. The exponent of X and its lower neighbour's code, with unlimited exponents; what is
 * cut off, `discarded`, is in units of 2^-drop of a quantum. x is FINITE and normalised (highest bit of
 * the significand set). */
typedef struct split {
    int32_t binade; /* floor(log2 |X|), or the exponent of the lowest binade for subnormal numbers */
    int32_t drop;
    uint64_t discarded;
    int64_t code;
} split;

static split split_at_quantum(const layout *d, number x)
{
    const int32_t f = d->format.fraction_bits, bias = d->format.bias;
    const bool gradual = is_gradual(d);
    split at = {.binade = x.exponent + 63, .drop = 63 - f};
    uint64_t significand = x.significand;

    if (gradual && at.binade < d->lowest_exponent) {
        at.drop += d->lowest_exponent - at.binade;
        at.binade = d->lowest_exponent;
        if (at.drop > 63) {
            significand = shift_right_jam(significand, at.drop - 63);
            at.drop = 63;
        }
    }
    const uint64_t lower = significand >> at.drop;
    at.discarded = significand & ones(at.drop);
    /* An exponent field below 1 belongs to the binade of -bias, where the code starts at 0 in every
     * format that has numbers there. */
    if (gradual && at.binade == d->lowest_exponent)
        at.code = (int64_t)lower;
    else
        at.code = (int64_t)(at.binade + bias - 1) * ((int64_t)1 << f) + (int64_t)lower;
    return at;
}

/* Steps 2 to 5: the magnitude code, with unlimited exponents above; *inexact is set if it is not
 * X. x is FINITE and normalised. */
static uint64_t round_magnitude(const layout *d, number x, rounding how, bool *inexact)
{
    const bool nearest = how.mode == REF_NEAREST_EVEN || how.mode == REF_NEAREST_AWAY;
    const split at = split_at_quantum(d, x);
    const int64_t smallest = smallest_code(d);
    int64_t code = at.code;

    if (code < smallest && !is_gradual(d) && (!nearest || d->format.zero == REF_ZERO_NONE)) {
        *inexact = true;
        return rises_to_smallest(d, x, how) ? (uint64_t)smallest : 0;
    }
    const int32_t r = how.random_bits;
    const bool sticky = (at.discarded & ones(at.drop - r - 1)) != 0;
    code += rounds_away(how, at.discarded >> (at.drop - r - 1), sticky, code & 1, x.negative);
    *inexact = at.discarded != 0 || code < smallest;
    return code < smallest ? 0 : (uint64_t)code;
}

/* The format has no number for X: NaN, or 0 under saturate (step 1). */
static uint64_t invalid(const layout *d, int32_t overflow, uint32_t *flags)
{
    *flags |= REF_INVALID;
    if (overflow == REF_SATURATE)
        return 0;
    if (overflow == REF_ERROR || !d->has_nan)
        *flags |= REF_NO_CODE;
    return d->has_nan ? d->nan : 0;
}

/* Step 6. `clamps`: the direction of rounding points toward zero, so the largest number stays. */
static uint64_t overflowed(const layout *d, int32_t policy, bool clamps, uint64_t sign,
                           uint32_t *flags)
{
    *flags |= REF_OVERFLOW | REF_INEXACT;
    if (policy == REF_SATURATE || clamps)
        return sign | d->largest;
    if (d->has_infinity)
        return sign | d->infinity;
    if (d->has_nan)
        return d->nan;
    *flags |= REF_NO_CODE;
    return 0;
}

static uint64_t round_pack(const layout *d, number x, rounding how, uint32_t *flags)
{
    const uint64_t sign =
        x.negative && d->format.is_signed ? (uint64_t)1 << d->magnitude_bits : 0;
    if (!is_stochastic(how.mode))
        how.random_bits = 0;

    if (x.kind == NAN_KIND) {
        *flags |= d->has_nan ? REF_INVALID : REF_INVALID | REF_NO_CODE;
        return d->has_nan ? d->nan : 0;
    }
    if (x.kind == ZERO) {
        if (d->format.zero == REF_ZERO_NONE)
            return invalid(d, how.overflow, flags);
        return d->format.zero == REF_ZERO_SIGNED ? sign : 0;
    }
    if (x.negative && !d->format.is_signed)
        return invalid(d, how.overflow, flags);
    if (x.kind == INFINITE) {
        if (how.overflow != REF_SATURATE && d->has_infinity)
            return sign | d->infinity;
        return overflowed(d, how.overflow, false, sign, flags);
    }
    const int32_t zeros = leading_zeros(x.significand);
    x.significand <<= zeros;
    x.exponent -= zeros;

    bool inexact;
    const uint64_t magnitude = round_magnitude(d, x, how, &inexact);
    if (magnitude > d->largest) {
        const bool clamps = how.mode == REF_TOWARD_ZERO || how.mode == REF_TO_ODD ||
                            (how.mode == REF_TOWARD_POSITIVE && x.negative) ||
                            (how.mode == REF_TOWARD_NEGATIVE && !x.negative);
        return overflowed(d, how.overflow, clamps, sign, flags);
    }
    if (inexact) {
        const bool gradual = d->format.lowest == REF_LOWEST_SUBNORMAL;
        const uint64_t normal = gradual ? (uint64_t)1 << d->format.fraction_bits : 1;
        *flags |= REF_INEXACT;
        if (magnitude < normal && d->format.zero != REF_ZERO_NONE)
            *flags |= REF_UNDERFLOW;
    }
    if (magnitude == 0 && d->format.zero == REF_ZERO_UNSIGNED)
        return 0;
    return sign | magnitude;
}

static uint64_t round_sum(const layout *d, number x, rounding how, uint32_t *flags)
{
    if (x.kind == ZERO)
        x.negative = false;
    const uint64_t code = round_pack(d, x, how, flags);
    const bool negative_zero = code == (uint64_t)1 << d->magnitude_bits && d->format.is_signed &&
                               d->format.zero == REF_ZERO_SIGNED;
    return negative_zero ? 0 : code;
}

uint32_t ref_round(const ref_format *format, int32_t negative, uint64_t significand,
                   int32_t exponent, int32_t mode, int32_t overflow, int32_t random_bits,
                   uint32_t random, uint32_t *flags)
{
    const layout target = layout_of(format);
    const number x = {.kind = significand ? FINITE : ZERO,
                      .negative = negative != 0,
                      .significand = significand,
                      .exponent = exponent};
    uint32_t raised = 0;
    const uint64_t code =
        round_pack(&target, x, (rounding){mode, overflow, random_bits, random}, &raised);
    if (flags)
        *flags = raised;
    return (uint32_t)code;
}
