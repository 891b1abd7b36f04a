/* mac.c: the multiply-accumulate steps (numerics.md 3). */
#include "internal.h"

/* Whether a step of the order rounds twice; all other orders round once. */
static bool rounds_twice(int32_t sum_order)
{
    return sum_order == REF_PAIR_FIRST || sum_order == REF_CHAIN;
}

const char *ref_profile_problem(const ref_profile *profile)
{
    const ref_format *formats[4] = {&profile->a, &profile->b, &profile->accumulator,
                                    &profile->between};
    for (size_t i = 0; i < 4; i++)
        if (ref_format_problem(formats[i]))
            return ref_format_problem(formats[i]);
    for (size_t i = 2; i < 4; i++) {
        const layout d = layout_of(formats[i]);
        if (d.format.zero == REF_ZERO_NONE)
            return "accumulators need a zero";
        if (profile->overflow == REF_SPECIAL && !d.has_infinity && !d.has_nan)
            return "overflow special needs accumulators with an infinity or a NaN";
    }
    if (profile->chunk_length < 0 || profile->products_per_step < 0 || profile->guard_bits < 0 ||
        profile->guard_bits > 64)
        return "chunk_length and products_per_step must be at least 0, guard_bits 0..64";
    if (profile->sum_order < 0 || profile->sum_order > 3)
        return "sum_order must be 0..3";
    if (rounds_twice(profile->sum_order) && profile->products_per_step != 2)
        return "sum orders pair-first and chain take two products per step";
    if (profile->sum_order == REF_ALIGNED && profile->products_per_step == 0)
        return "only fused takes all products of a chunk in one step";
    if (profile->rounding < 0 || profile->rounding > 8 || profile->between_rounding < 0 ||
        profile->between_rounding > 8)
        return "rounding modes must be 0..8";
    if ((is_stochastic(profile->rounding) || is_stochastic(profile->between_rounding)) &&
        (profile->random_bits < 1 || profile->random_bits > 24))
        return "random_bits must be 1..24";
    if (profile->random_source < 0 || profile->random_source > 2)
        return "random_source must be 0..2";
    if (profile->overflow < 0 || profile->overflow > 2)
        return "overflow must be 0..2";
    return NULL;
}

/* All non-zero terms, truncated toward zero to multiples of 2^(e_max - guard_bits). */
static void align(number *terms, size_t count, int32_t guard_bits)
{
    int32_t e_max = INT32_MIN;
    for (size_t i = 0; i < count; i++)
        if (terms[i].kind == FINITE && terms[i].anchor > e_max)
            e_max = terms[i].anchor;
    for (size_t i = 0; i < count; i++) {
        if (terms[i].kind != FINITE)
            continue;
        const int32_t unit = e_max - guard_bits, distance = unit - terms[i].exponent;
        if (distance <= 0)
            continue;
        terms[i].significand = distance >= 64 ? 0 : terms[i].significand >> distance;
        terms[i].exponent = unit;
        if (terms[i].significand == 0)
            terms[i].kind = ZERO;
    }
}

static uint64_t step(const ref_profile *profile, const layout *accumulator, uint64_t acc,
                     number *products, size_t count, const uint32_t *random, uint32_t *flags)
{
    const number start = unpack(accumulator, acc), nothing = {.kind = ZERO};
    const rounding first = {profile->rounding, profile->overflow, profile->random_bits, random[0]};
    const rounding second = {first.mode, first.overflow, first.random_bits, random[1]};
    flags[0] = flags[1] = 0;

    if (rounds_twice(profile->sum_order)) {
        const number p0 = count > 0 ? products[0] : nothing;
        const number p1 = count > 1 ? products[1] : nothing;
        const bool chain = profile->sum_order == REF_CHAIN;
        const number inner[2] = {p0, chain ? start : p1};
        const uint64_t middle = round_sum(accumulator, exact_sum(inner, 2), first, &flags[0]);
        const number outer[2] = {unpack(accumulator, middle), chain ? p1 : start};
        return round_sum(accumulator, exact_sum(outer, 2), second, &flags[1]);
    }
    if (profile->sum_order == REF_FUSED && count == 1)
        return round_sum(accumulator, sum_of_two(start, products[0]), first, &flags[0]);
    products[count] = start;
    if (profile->sum_order == REF_ALIGNED)
        align(products, count + 1, profile->guard_bits);
    return round_sum(accumulator, exact_sum(products, count + 1), first, &flags[0]);
}

uint32_t ref_step(const ref_profile *profile, uint32_t acc, const uint32_t *a, const uint32_t *b,
                  int64_t n, const uint32_t *random, uint32_t *flags)
{
    const layout from_a = layout_of(&profile->a), from_b = layout_of(&profile->b);
    const layout accumulator = layout_of(&profile->accumulator);
    uint32_t raised[2];
    number products[REF_STEP_PRODUCTS + 1];
    for (int64_t i = 0; i < n; i++)
        products[i] = multiply(unpack(&from_a, a[i]), unpack(&from_b, b[i]));
    const uint64_t code =
        step(profile, &accumulator, acc, products, (size_t)n, random, raised);
    if (flags)
        *flags = raised[0] | raised[1];
    return (uint32_t)code;
}

uint32_t ref_fma(const ref_format *a_format, uint32_t a, const ref_format *b_format, uint32_t b,
                 const ref_format *acc_format, uint32_t acc, int32_t mode, int32_t overflow,
                 int32_t random_bits, uint32_t random, uint32_t *flags)
{
    const layout from_a = layout_of(a_format), from_b = layout_of(b_format);
    const layout accumulator = layout_of(acc_format);
    const number terms[2] = {unpack(&accumulator, acc),
                             multiply(unpack(&from_a, a), unpack(&from_b, b))};
    uint32_t raised = 0;
    const uint64_t code = round_sum(&accumulator, exact_sum(terms, 2),
                                    (rounding){mode, overflow, random_bits, random}, &raised);
    if (flags)
        *flags = raised;
    return (uint32_t)code;
}

uint32_t ref_add(const ref_format *total_format, uint32_t total, const ref_format *addend_format,
                 uint32_t addend, int32_t mode, int32_t overflow, int32_t random_bits,
                 uint32_t random, uint32_t *flags)
{
    const layout of_total = layout_of(total_format), of_addend = layout_of(addend_format);
    const number terms[2] = {unpack(&of_total, total), unpack(&of_addend, addend)};
    uint32_t raised = 0;
    const uint64_t code = round_sum(&of_total, exact_sum(terms, 2),
                                    (rounding){mode, overflow, random_bits, random}, &raised);
    if (flags)
        *flags = raised;
    return (uint32_t)code;
}

/* round(fixed + code) for every code of one format, into another. */
FLATTEN static void sweep(number fixed, const layout *addend, const layout *target, rounding how,
                          uint16_t *out, uint8_t *flags)
{
    const uint32_t count = (uint32_t)1 << (addend->magnitude_bits + (addend->format.is_signed != 0));
    for (uint32_t code = 0; code < count; code++) {
        uint32_t raised = 0;
        const number sum = sum_of_two(unpack(addend, code), fixed);
        out[code] = (uint16_t)round_sum(target, sum, how, &raised);
        if (flags)
            flags[code] = (uint8_t)raised;
    }
}

void ref_fma_sweep(const ref_format *a_format, uint32_t a, const ref_format *b_format, uint32_t b,
                   const ref_format *acc_format, int32_t mode, int32_t overflow,
                   int32_t random_bits, uint32_t random, uint16_t *out, uint8_t *flags)
{
    const layout from_a = layout_of(a_format), from_b = layout_of(b_format);
    const layout accumulator = layout_of(acc_format);
    sweep(multiply(unpack(&from_a, a), unpack(&from_b, b)), &accumulator, &accumulator,
          (rounding){mode, overflow, random_bits, random}, out, flags);
}

void ref_product_sweep(int32_t negative, uint64_t significand, int32_t exponent,
                       const ref_format *acc_format, int32_t mode, int32_t overflow,
                       int32_t random_bits, uint32_t random, uint16_t *out, uint8_t *flags)
{
    const layout accumulator = layout_of(acc_format);
    const number product = {.kind = significand ? FINITE : ZERO,
                            .negative = negative != 0,
                            .significand = significand,
                            .exponent = exponent};
    sweep(product, &accumulator, &accumulator, (rounding){mode, overflow, random_bits, random},
          out, flags);
}

void ref_add_sweep(const ref_format *total_format, uint32_t total,
                   const ref_format *addend_format, int32_t mode, int32_t overflow,
                   int32_t random_bits, uint32_t random, uint16_t *out, uint8_t *flags)
{
    const layout of_total = layout_of(total_format), of_addend = layout_of(addend_format);
    sweep(unpack(&of_total, total), &of_addend, &of_total,
          (rounding){mode, overflow, random_bits, random}, out, flags);
}
