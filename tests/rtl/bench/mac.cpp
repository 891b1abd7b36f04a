// hfp8_mac, or hfp8_mac_lfsr with -DLFSR, with random sums. Compile with -DPRODUCTS=1 or 2.
//
//     mac A B ACC BETWEEN RANDOM_BITS SUMS SEED CHUNK MODE BETWEEN_MODE
//
// CHUNK is the chunk length, 0 for none. Each sum is output (0, 0) of a GEMM with a seed of its own. Sums follow each other
// directly or with idle cycles; some of them are interrupted by idle cycles. With an LFSR two idle cycles come between sums.

#include "Vdut.h"
#include "sample.h"

#include <deque>

struct wanted {
    uint32_t code, flags;
    int length;
};

static Vdut dut;
static tally count;
static std::deque<wanted> results;

static void cycle()
{
    dut.clk = 0;
    dut.eval();
    dut.clk = 1;
    dut.eval();
    if (!dut.done)
        return;
    if (results.empty()) {
        printf("a result that no sum gave\n");
        exit(1);
    }
    const wanted expected = results.front();
    results.pop_front();
    if (dut.result != expected.code || dut.flags != (expected.flags & 15)) {
        char what[80];
        snprintf(what, sizeof what, "sum %llu of %d products", (unsigned long long)count.cases, expected.length);
        count.differs(what, dut.result, dut.flags, expected.code, expected.flags);
    }
    count.cases++;
}

static void idle(int cycles)
{
    dut.valid = 0;
    dut.first = dut.last = 0;
    while (cycles-- > 0)
        cycle();
}

int main(int argc, char **argv)
{
    if (argc < 11)
        return 2;
    ref_profile how;
    memset(&how, 0, sizeof how);
    how.a = format_of(argv[1]);
    how.b = format_of(argv[2]);
    how.accumulator = format_of(argv[3]);
    how.between = format_of(argv[4]);
    how.random_bits = atoi(argv[5]);
    const uint64_t sums = strtoull(argv[6], nullptr, 0);
    generator draw = {strtoull(argv[7], nullptr, 0)};
    how.chunk_length = atoi(argv[8]);
    how.rounding = atoi(argv[9]);
    how.between_rounding = atoi(argv[10]);
    how.products_per_step = PRODUCTS;
    how.sum_order = REF_FUSED;
#ifdef LFSR
    how.random_source = REF_LFSR;
#else
    how.random_source = REF_ROW_COLUMN;
#endif
    const int a_bits = bits_of(how.a), b_bits = bits_of(how.b);

    dut.mode = how.rounding;
    dut.between_mode = how.between_rounding;
    dut.chunk_steps = (how.chunk_length + PRODUCTS - 1) / PRODUCTS;
    idle(3);
    for (uint64_t sum = 0; sum < sums; sum++) {
        const int k = 1 + draw.below(draw.below(8) ? 2 * how.chunk_length + 20 : 400);
        const uint64_t seed = draw.next(), stream = draw.below(100);
        how.overflow = draw.below(4) ? REF_SPECIAL : REF_SATURATE;
        std::vector<uint32_t> a(k), b(k);
        const bool small = draw.below(4); // few large numbers, so that sums stay finite
        for (int i = 0; i < k; i++) {
            a[i] = operand(draw, how.a);
            b[i] = operand(draw, how.b);
            if (small && (how.a.exponent_bits > 4 || how.b.exponent_bits > 4))
                b[i] &= ~(1u << (how.b.exponent_bits + how.b.fraction_bits - 1));
        }
        uint32_t code;
        uint8_t flags;
        if (ref_gemm(&how, a.data(), b.data(), 1, 1, k, seed, stream, &code, nullptr, &flags))
            return 2;
        const bool gap = draw.below(4) == 0, interrupted = draw.below(8) == 0;
#ifdef LFSR
        idle(2);
        dut.load = 1;
        dut.seed = ref_lfsr_start(seed, stream, 0, 0);
        idle(1);
        dut.load = 0;
#else
        if (gap)
            idle(draw.below(4));
        const uint64_t keys[4] = {ref_key(seed, stream, 0), ref_key(seed, stream, 1), ref_key(seed, stream, 2),
                                  ref_key(seed, stream, 3)};
#endif
        // The policy belongs to a sum; its last chunk is added one cycle after the last step.
        if (dut.saturate != (how.overflow == REF_SATURATE))
            idle(1);
        dut.saturate = how.overflow == REF_SATURATE;
        results.push_back({code, flags, k});
        int in_chunk = 0, i = 0;
        while (i < k) {
            const int left = how.chunk_length ? how.chunk_length - in_chunk : k;
            const int n = k - i < left ? (k - i < PRODUCTS ? k - i : PRODUCTS) : (left < PRODUCTS ? left : PRODUCTS);
            dut.valid = 1;
            dut.first = i == 0;
            dut.last = i + n == k;
            dut.a = a[i] | (n > 1 ? a[i + 1] << a_bits : 0);
            dut.b = b[i] | (n > 1 ? b[i + 1] << b_bits : 0);
#ifndef LFSR
            dut.random = (ref_word(keys[0], 0, i) ^ ref_word(keys[1], 0, i)) >> (32 - how.random_bits);
#endif
            cycle();
            i += n;
            in_chunk += n;
            const bool closes = how.chunk_length && (in_chunk == how.chunk_length || i == k);
#ifndef LFSR
            if (closes) { // the number of the chunk that has ended
                const int c = (i - 1) / how.chunk_length;
                dut.between_random = (ref_word(keys[2], 0, c) ^ ref_word(keys[3], 0, c)) >> (32 - how.random_bits);
            }
#endif
            if (closes)
                in_chunk = 0;
            if (interrupted && i < k && draw.below(3) == 0)
                idle(1);
        }
    }
    idle(4);
    if (!results.empty()) {
        printf("%zu results are missing\n", results.size());
        return 1;
    }
    return count.finish();
}
