/* internal.h: what the units share and a user never needs. The functions are static: the units
 * are compiled as one, see hfp8_ref.c. */
#ifndef HFP8_REF_INTERNAL_H
#define HFP8_REF_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>

#include "hfp8_ref.h"

typedef enum { ZERO, FINITE, INFINITE, NAN_KIND } number_kind;

/* (-1)^negative * significand * 2^exponent, with significand != 0 if and only if FINITE.
 *
 * A number that a sum hands to round_pack may be *jammed*: too many bits for the significand, so
 * its lowest bit says that the true value lies strictly between its two even neighbours. That is
 * harmless if the significand has at least F + r + 4 bits: no mode looks
 * below 2^-(r+2) quanta except for "is there anything". 24 + 24 + 4 < 61. */
typedef struct number {
    number_kind kind;
    bool negative;
    uint64_t significand;
    int32_t exponent;
    int32_t anchor; /* floor(log2), but never below the format's lowest exponent */
} number;

/* A format and the code points derived from it. */
typedef struct layout {
    ref_format format;
    int32_t magnitude_bits;
    int32_t lowest_exponent; /* the anchor of exponent field 0 */
    uint64_t top;            /* all ones in the magnitude */
    uint64_t largest;        /* magnitude of the largest number */
    uint64_t infinity;       /* magnitude, if has_infinity */
    uint64_t nan;            /* the produced NaN's whole code, if has_nan */
    bool has_infinity;
    bool has_nan;
} layout;

typedef struct rounding {
    int32_t mode;
    int32_t overflow;
    int32_t random_bits;
    uint32_t random;
} rounding;

static layout layout_of(const ref_format *format);
static bool is_stochastic(int32_t mode);
static number unpack(const layout *layout, uint64_t code);

/* Rounds x; adds to *flags. */
static uint64_t round_pack(const layout *layout, number x, rounding how, uint32_t *flags);

/* The same for a sum: a zero result is +0. */
static uint64_t round_sum(const layout *layout, number x, rounding how, uint32_t *flags);

/* Adds a sum that was rounded to `d` to the coverage: vectors.c. */
static void cover_rounded_sum(const layout *d, const ref_vector *v, number acc, number addend,
                              number sum, int32_t random_bits, ref_coverage *c);

/* significand >> distance; a bit that falls out sets the lowest one. */
static inline uint64_t shift_right_jam(uint64_t significand, int32_t distance)
{
    if (distance <= 0)
        return significand;
    if (distance >= 64)
        return significand != 0;
    return (significand >> distance) | ((significand << (64 - distance)) != 0);
}

/* A function with everything it calls inlined: for the loops over whole input spaces. */
#if defined(__GNUC__)
#define FLATTEN __attribute__((flatten))
#else
#define FLATTEN
#endif

/* Zeros above the highest one bit; x != 0. */
static inline int32_t leading_zeros(uint64_t x)
{
#if defined(__GNUC__)
    return __builtin_clzll(x);
#else
    int32_t n = 0;
    while (!(x >> 63)) {
        x <<= 1;
        n++;
    }
    return n;
#endif
}

static number multiply(number a, number b);
static number exact_sum(const number *terms, size_t count);
static number sum_of_two(number x, number y);

/* One step: `products` has count entries and room for one more, and is used up. flags[0] and [1]
 * are those of the first and of the second rounding (0 if there is none). */
static uint64_t step(const ref_profile *profile, const layout *accumulator, uint64_t acc,
                     number *products, size_t count, const uint32_t *random, uint32_t *flags);

#endif
