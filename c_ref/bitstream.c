/* bitstream.c: products by stochastic bit streams (numerics.md 3), one bit after the other. */
#include "internal.h"

#define WORD_BITS 32

/* A stream's bit is 1 if its word is below the threshold. False for a value beyond +-1, or finer
 * than the words. */
static bool stream_threshold(number x, bool bipolar, uint64_t *threshold)
{
    if (x.kind != ZERO && x.kind != FINITE)
        return false;
    const uint64_t one = UINT64_C(1) << (bipolar ? WORD_BITS - 1 : WORD_BITS);
    uint64_t magnitude = 0;
    if (x.kind == FINITE) {
        int32_t shift = x.exponent + (bipolar ? WORD_BITS - 1 : WORD_BITS);
        magnitude = x.significand;
        for (; shift < 0; shift++) {
            if (magnitude & 1)
                return false;
            magnitude >>= 1;
        }
        for (; shift > 0 && magnitude <= one; shift--)
            magnitude <<= 1;
        if (magnitude > one)
            return false;
    }
    *threshold = !bipolar ? magnitude : x.negative ? one - magnitude : one + magnitude;
    return true;
}

/* Ones of a product's stream: of AND, or of XNOR. */
static int64_t count_ones(const uint64_t *keys, uint64_t m, uint64_t n, uint64_t first,
                          int64_t length, uint64_t a, uint64_t b, bool bipolar, bool independent)
{
    int64_t count = 0;
    for (int64_t t = 0; t < length; t++) {
        const uint64_t j = first + (uint64_t)t;
        uint32_t u = ref_word(keys[0], m, j), w = ref_word(keys[2], n, j);
        if (independent) {
            u = ref_mix32(u ^ ref_word(keys[1], n, j));
            w = ref_mix32(ref_word(keys[2], m, j) ^ ref_word(keys[3], n, j));
        }
        const bool x = u < a, y = w < b;
        count += bipolar ? x == y : x && y;
    }
    return count;
}

int32_t ref_bitstream_counts(const ref_format *a_format, const ref_format *b_format,
                             const uint32_t *a, const uint32_t *b, int64_t m, int64_t n, int64_t k,
                             int64_t length, int32_t bipolar, int32_t independent, uint64_t seed,
                             uint64_t stream, int64_t *out)
{
    const layout left = layout_of(a_format), right = layout_of(b_format);
    uint64_t keys[4];
    for (uint64_t site = 0; site < 4; site++)
        keys[site] = ref_key(seed, stream, REF_SITE_STREAM_A_ROW + site);
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < n; j++) {
            int64_t total = 0;
            for (int64_t p = 0; p < k; p++) {
                const number x = unpack(&left, a[i * k + p]), y = unpack(&right, b[p * n + j]);
                uint64_t s, t;
                if (!stream_threshold(x, bipolar, &s) || !stream_threshold(y, bipolar, &t))
                    return 1;
                const int64_t c = count_ones(keys, (uint64_t)i, (uint64_t)j, (uint64_t)(p * length),
                                             length, s, t, bipolar, independent);
                if (bipolar)
                    total += 2 * c - length;
                else
                    total += x.negative != y.negative ? -c : c;
            }
            out[i * n + j] = total;
        }
    }
    return 0;
}
