/* exact.c: the exact sum of any number of terms, in a fixed-point register as wide as the terms
 * need (after Kulisch), and the same for two terms in one word. */
#include "internal.h"

/* Products of formats with |bias| <= 4095 and E <= 11 lie between 2^-8300 and 2^12400. */
#define MAX_LIMBS 384

static int32_t bit_length(uint64_t x)
{
    return 64 - leading_zeros(x);
}

static number multiply(number a, number b)
{
    number p = {.kind = FINITE, .negative = a.negative != b.negative};
    if (a.kind == NAN_KIND || b.kind == NAN_KIND ||
        (a.kind == INFINITE && b.kind == ZERO) || (a.kind == ZERO && b.kind == INFINITE))
        return (number){.kind = NAN_KIND};
    if (a.kind == INFINITE || b.kind == INFINITE) {
        p.kind = INFINITE;
    } else if (a.kind == ZERO || b.kind == ZERO) {
        p.kind = ZERO;
    } else {
        p.significand = a.significand * b.significand;
        p.exponent = a.exponent + b.exponent;
        p.anchor = a.anchor + b.anchor;
    }
    return p;
}

/* Adds (or subtracts) the significand, shifted left, to a two's complement register. */
static void accumulate(uint64_t *limbs, size_t count, uint64_t significand, int32_t shift,
                       bool subtract)
{
    const size_t limb = (size_t)shift / 64;
    const int32_t offset = shift % 64;
    const uint64_t part[2] = {significand << offset, offset ? significand >> (64 - offset) : 0};
    uint64_t carry = 0;
    for (size_t i = limb; i < count; i++) {
        const uint64_t addend = i - limb < 2 ? part[i - limb] : 0, old = limbs[i];
        if (subtract) {
            limbs[i] = old - addend - carry;
            carry = old < addend || (old == addend && carry);
        } else {
            limbs[i] = old + addend + carry;
            carry = limbs[i] < old || (limbs[i] == old && carry);
        }
        if (i - limb >= 1 && !carry)
            break;
    }
}

/* The register as a number: the highest 64 bits, jammed. Its lowest bit weighs 2^exponent. */
static number read_out(uint64_t *limbs, size_t count, int32_t exponent)
{
    number x = {.kind = FINITE, .negative = limbs[count - 1] >> 63};
    if (x.negative) {
        uint64_t carry = 1;
        for (size_t i = 0; i < count; i++) {
            limbs[i] = ~limbs[i] + carry;
            carry = carry && limbs[i] == 0;
        }
    }
    size_t high = count;
    while (high > 0 && limbs[high - 1] == 0)
        high--;
    if (high == 0)
        return (number){.kind = ZERO};
    high--;
    x.significand = limbs[high];
    x.exponent = exponent + 64 * (int32_t)high;
    if (high == 0)
        return x;
    const int32_t room = leading_zeros(limbs[high]);
    uint64_t rest = limbs[high - 1];
    if (room > 0) {
        x.significand = limbs[high] << room | rest >> (64 - room);
        x.exponent -= room;
        rest <<= room;
    }
    for (size_t i = 0; i + 1 < high; i++)
        rest |= limbs[i];
    x.significand |= rest != 0;
    return x;
}

/* What a first pass over the terms finds: exceptional terms, and the extent of the register. */
typedef struct survey {
    bool not_a_number;
    bool infinite[2]; /* +, - */
    int32_t lowest;   /* weight of the register's lowest bit */
    int32_t highest;  /* one above the highest bit of any term */
} survey;

static const survey NOTHING = {false, {false, false}, INT32_MAX, INT32_MIN};

static void survey_term(survey *found, number term)
{
    if (term.kind == NAN_KIND)
        found->not_a_number = true;
    if (term.kind == INFINITE)
        found->infinite[term.negative] = true;
    if (term.kind != FINITE)
        return;
    const int32_t end = term.exponent + bit_length(term.significand);
    found->lowest = term.exponent < found->lowest ? term.exponent : found->lowest;
    found->highest = end > found->highest ? end : found->highest;
}

/* NaN, 0 * infinity (a NaN term) and infinity - infinity give NaN; else an infinite term wins; a
 * sum of zeros is zero. Returns whether one of these cases applies; then *sum is the sum. */
static bool is_exceptional_or_zero(const survey *found, number *sum)
{
    if (found->not_a_number || (found->infinite[0] && found->infinite[1]))
        *sum = (number){.kind = NAN_KIND};
    else if (found->infinite[0] || found->infinite[1])
        *sum = (number){.kind = INFINITE, .negative = found->infinite[1]};
    else if (found->lowest > found->highest)
        *sum = (number){.kind = ZERO};
    else
        return false;
    return true;
}

/* A register of `width` limbs with 64 bits above the highest term: 2^63 terms cannot reach the
 * sign. */
typedef struct fixed_point {
    uint64_t limbs[MAX_LIMBS];
    size_t width;
    int32_t lowest;
} fixed_point;

static void clear(fixed_point *total, const survey *found)
{
    total->width = (size_t)(found->highest - found->lowest + 63) / 64 + 1;
    total->lowest = found->lowest;
    for (size_t i = 0; i < total->width; i++)
        total->limbs[i] = 0;
}

static void add(fixed_point *total, number term)
{
    if (term.kind == FINITE)
        accumulate(total->limbs, total->width, term.significand, term.exponent - total->lowest,
                   term.negative);
}

static number exact_sum(const number *terms, size_t count)
{
    survey found = NOTHING;
    number sum;
    for (size_t i = 0; i < count; i++)
        survey_term(&found, terms[i]);
    if (is_exceptional_or_zero(&found, &sum))
        return sum;
    fixed_point total;
    clear(&total, &found);
    for (size_t i = 0; i < count; i++)
        add(&total, terms[i]);
    return read_out(total.limbs, total.width, total.lowest);
}

/* exact_sum of two terms with significands below 2^53, without a register: the larger one is
 * moved to the top of a word, the smaller one is shifted right and jammed. If a bit is lost the
 * exponents differ by more than 8, so at most one leading bit cancels and the sum stays above
 * 2^60. The self-test holds it against exact_sum. */
static number sum_of_two(number x, number y)
{
    if (x.kind != FINITE || y.kind != FINITE) {
        if (x.kind == ZERO && y.kind == ZERO)
            return (number){.kind = ZERO};
        if (x.kind == FINITE && y.kind == ZERO)
            return x;
        if (x.kind == ZERO && y.kind == FINITE)
            return y;
        survey found = NOTHING;
        number sum = {.kind = ZERO};
        survey_term(&found, x);
        survey_term(&found, y);
        is_exceptional_or_zero(&found, &sum);
        return sum;
    }
    const int32_t move_x = leading_zeros(x.significand) - 2,
                  move_y = leading_zeros(y.significand) - 2;
    x.significand <<= move_x;
    x.exponent -= move_x;
    y.significand <<= move_y;
    y.exponent -= move_y;
    if (x.exponent < y.exponent || (x.exponent == y.exponent && x.significand < y.significand)) {
        const number swap = x;
        x = y;
        y = swap;
    }
    const uint64_t small = shift_right_jam(y.significand, x.exponent - y.exponent);
    x.significand = x.negative == y.negative ? x.significand + small : x.significand - small;
    if (x.significand == 0)
        return (number){.kind = ZERO};
    return x;
}

uint32_t ref_dot(const ref_format *a_format, const uint32_t *a, const ref_format *b_format,
                 const uint32_t *b, int64_t n, const ref_format *format, int32_t mode,
                 int32_t overflow, int32_t random_bits, uint32_t random, uint32_t *flags)
{
    const layout from_a = layout_of(a_format), from_b = layout_of(b_format);
    const layout target = layout_of(format);
    survey found = NOTHING;
    number sum;
    for (int64_t i = 0; i < n; i++)
        survey_term(&found, multiply(unpack(&from_a, a[i]), unpack(&from_b, b[i])));
    if (!is_exceptional_or_zero(&found, &sum)) {
        fixed_point total;
        clear(&total, &found);
        for (int64_t i = 0; i < n; i++)
            add(&total, multiply(unpack(&from_a, a[i]), unpack(&from_b, b[i])));
        sum = read_out(total.limbs, total.width, total.lowest);
    }
    uint32_t raised = 0;
    const uint64_t code =
        round_sum(&target, sum, (rounding){mode, overflow, random_bits, random}, &raised);
    if (flags)
        *flags = raised;
    return (uint32_t)code;
}
