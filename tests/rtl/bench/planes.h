/* Benches that try every input of a unit, 512 cases at once. unit.h is generated from the unit's netlist.
 *
 * A *plane* holds one bit of 512 cases: case i is bit i % 64 of word i / 64. */
#ifndef PLANES_H
#define PLANES_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef uint64_t plane __attribute__((vector_size(64), may_alias));
enum { LANES = 512 };
#define ZEROS ((plane){0})
#define ONES (~ZEROS)

#include "unit.h"

/* The format of a word: docs/isa.md, "Formats as words". */
#define FORMAT(word) \
    {.exponent_bits = (word) & 31, .fraction_bits = (word) >> 5 & 31, .is_signed = (word) >> 10 & 1, \
     .zero = (word) >> 11 & 3, .lowest = (word) >> 13 & 3, .special = (word) >> 15 & 7, \
     .bias = (int32_t)(word) >> 20}

/* CALL(mode), compiled once for each rounding mode, so that the mode is a constant in what it calls. */
#define WITH_CONSTANT_MODE(mode, CALL) \
    switch (mode) { \
        case REF_NEAREST_EVEN: CALL(REF_NEAREST_EVEN); break; \
        case REF_NEAREST_AWAY: CALL(REF_NEAREST_AWAY); break; \
        case REF_TOWARD_ZERO: CALL(REF_TOWARD_ZERO); break; \
        case REF_TOWARD_POSITIVE: CALL(REF_TOWARD_POSITIVE); break; \
        case REF_TOWARD_NEGATIVE: CALL(REF_TOWARD_NEGATIVE); break; \
        case REF_TO_ODD: CALL(REF_TO_ODD); break; \
        case REF_STOCHASTIC_A: CALL(REF_STOCHASTIC_A); break; \
        case REF_STOCHASTIC_B: CALL(REF_STOCHASTIC_B); break; \
        case REF_STOCHASTIC_C: CALL(REF_STOCHASTIC_C); break; \
    }

/* The same number in all cases. */
static void broadcast(plane *planes, int bits, uint32_t number)
{
    for (int i = 0; i < bits; i++)
        planes[i] = number >> i & 1 ? ONES : ZEROS;
}

/* Case i has the number first + i; 512 divides `first`. */
static void count_up(plane *planes, int bits, uint32_t first)
{
    static const uint64_t pattern[6] = {0xAAAAAAAAAAAAAAAA, 0xCCCCCCCCCCCCCCCC, 0xF0F0F0F0F0F0F0F0,
                                        0xFF00FF00FF00FF00, 0xFFFF0000FFFF0000, 0xFFFFFFFF00000000};
    broadcast(planes, bits, first);
    for (int i = 0; i < 9; i++)
        for (int word = 0; word < LANES / 64; word++)
            planes[i][word] = i < 6 ? pattern[i] : word >> (i - 6) & 1 ? UINT64_MAX : 0;
}

/* The planes of 512 bytes: an 8 x 8 transposition of the bits of each 8 bytes. */
static void planes_of(plane *planes, int bits, const uint8_t *bytes)
{
    for (int block = 0; block < LANES / 64; block++) {
        plane x, t;
        memcpy(&x, bytes + 64 * block, 64);
        t = (x ^ x >> 7) & 0x00AA00AA00AA00AA;
        x ^= t ^ t << 7;
        t = (x ^ x >> 14) & 0x0000CCCC0000CCCC;
        x ^= t ^ t << 14;
        t = (x ^ x >> 28) & 0x00000000F0F0F0F0;
        x ^= t ^ t << 28;
        for (int bit = 0; bit < bits; bit++) {
            uint8_t *to = (uint8_t *)&planes[bit] + 8 * block;
            for (int word = 0; word < 8; word++)
                to[word] = (uint8_t)(x[word] >> (8 * bit));
        }
    }
}

/* The number of one case. */
static uint32_t number_of(const plane *planes, int bits, int lane)
{
    uint32_t number = 0;
    for (int i = 0; i < bits; i++)
        number |= (uint32_t)(planes[i][lane / 64] >> lane % 64 & 1) << i;
    return number;
}

/* The first case whose bits differ, or LANES. */
static int first_difference(const plane *one, const plane *other, int bits)
{
    plane differs = ZEROS;
    for (int i = 0; i < bits; i++)
        differs |= one[i] ^ other[i];
    for (int word = 0; word < LANES / 64; word++)
        if (differs[word])
            return 64 * word + __builtin_ctzll(differs[word]);
    return LANES;
}

static void finish(uint64_t cases, uint64_t wrong)
{
    printf("%llu cases, %llu wrong, %.1f s of CPU time\n", (unsigned long long)cases, (unsigned long long)wrong,
           (double)clock() / CLOCKS_PER_SEC);
}

#endif
