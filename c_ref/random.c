/* random.c: random words as functions of what is rounded (numerics.md 4). */
#include "internal.h"

#define GOLDEN UINT64_C(0x9E3779B97F4A7C15)

uint64_t ref_mix64(uint64_t z)
{
    z ^= z >> 30;
    z *= UINT64_C(0xBF58476D1CE4E5B9);
    z ^= z >> 27;
    z *= UINT64_C(0x94D049BB133111EB);
    z ^= z >> 31;
    return z;
}

uint32_t ref_mix32(uint32_t x)
{
    x ^= x >> 16;
    x *= UINT32_C(0x7FEB352D);
    x ^= x >> 15;
    x *= UINT32_C(0x846CA68B);
    x ^= x >> 16;
    return x;
}

static uint64_t absorb(uint64_t h, uint64_t x)
{
    return ref_mix64((h ^ x) + GOLDEN);
}

uint64_t ref_key(uint64_t seed, uint64_t stream, uint64_t site)
{
    return absorb(absorb(absorb(0, seed), stream), site);
}

uint32_t ref_word(uint64_t key, uint64_t i, uint64_t j)
{
    return (uint32_t)(ref_mix64(key + GOLDEN * ((i << 32) + j + 1)) >> 32);
}

uint32_t ref_lfsr_start(uint64_t seed, uint64_t stream, uint64_t m, uint64_t n)
{
    const uint64_t lane = m % 8 * 64 + n % 64, tile = ((m / 8) << 16) + n / 64;
    const uint32_t start = ref_word(ref_key(seed, stream, REF_SITE_ACCUMULATE_ROW), tile, lane);
    return start ? start : 1; /* a register of zeros would stay so */
}

uint32_t ref_lfsr_step(uint32_t x)
{
    return (x >> 1) ^ (x & 1 ? UINT32_C(0x80200003) : 0);
}

void ref_convert_random(uint64_t seed, uint64_t stream, int32_t random_bits, uint64_t first,
                        int64_t n, uint32_t *random)
{
    const uint64_t key = ref_key(seed, stream, REF_SITE_CONVERT);
    for (int64_t i = 0; i < n; i++) {
        const uint64_t t = first + (uint64_t)i;
        random[i] = ref_word(key, t >> 32, t & UINT32_MAX) >> (32 - random_bits);
    }
}
