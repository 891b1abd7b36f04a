// hfp8_fma with every distinct product of two formats and every accumulator.
//
//     fma A B ACC RANDOM_BITS SATURATE WORDS FIRST STEP MODE ...
//
// A, B and ACC are words of formats. Products FIRST, FIRST + STEP, ... are tried, and always zero, infinite and NaN ones. A
// stochastic mode rounds each product with WORDS random words, which go through all 2^RANDOM_BITS from product to product.

#include "Vdut.h"
#include "bench.h"

#include <map>

int main(int argc, char **argv)
{
    if (argc < 10)
        return 2;
    const ref_format fa = format_of(argv[1]), fb = format_of(argv[2]), fc = format_of(argv[3]);
    const int random_bits = atoi(argv[4]), saturate = atoi(argv[5]), words = atoi(argv[6]);
    const int first = atoi(argv[7]), step = atoi(argv[8]);
    const uint32_t accumulators = 1u << bits_of(fc);

    // The pairs of each distinct product, by the bits of its exact value; 0 times infinity is none of the NaN operands
    const uint64_t of_nan = ~0ull, of_zero_and_infinity = ~1ull;
    std::map<uint64_t, std::vector<uint32_t>> pairs;
    for (uint32_t a = 0; a < 1u << bits_of(fa); a++)
        for (uint32_t b = 0; b < 1u << bits_of(fb); b++) {
            const uint64_t x = ref_decode(&fa, a), y = ref_decode(&fb, b);
            double p, q;
            memcpy(&p, &x, 8);
            memcpy(&q, &y, 8);
            const double product = p * q;
            uint64_t key;
            memcpy(&key, &product, 8);
            if (product != product)
                key = p != p || q != q ? of_nan : of_zero_and_infinity;
            pairs[key].push_back(a << 16 | b);
        }

    Vdut dut;
    tally count;
    std::vector<uint16_t> expected(accumulators);
    std::vector<uint8_t> expected_flags(accumulators);
    dut.saturate = saturate;
    int number = 0;
    uint32_t turn = 0;
    for (const auto &entry : pairs) {
        const uint64_t magnitude = entry.first & ~(1ull << 63);
        const bool special = magnitude == 0 || magnitude >= 0x7FFull << 52;
        if (number++ % step != first && !special)
            continue;
        for (int i = 9; i < argc; i++) {
            const int mode = atoi(argv[i]);
            for (int w = 0; w < (stochastic(mode) ? words : 1); w++) {
                // The pairs of a product take turns.
                const uint32_t pair = entry.second[turn++ % entry.second.size()];
                const uint32_t a = pair >> 16, b = pair & 0xFFFF;
                const uint32_t random = stochastic(mode) ? turn * 2654435761u >> (32 - random_bits) : 0;
                ref_fma_sweep(&fa, a, &fb, b, &fc, mode, saturate ? REF_SATURATE : REF_SPECIAL, random_bits,
                              random, expected.data(), expected_flags.data());
                dut.a = a;
                dut.b = b;
                dut.mode = mode;
                dut.random = random;
                for (uint32_t acc = 0; acc < accumulators; acc++) {
                    dut.acc = acc;
                    dut.eval();
                    if (dut.result != expected[acc] || dut.flags != (expected_flags[acc] & 15)) {
                        char what[100];
                        snprintf(what, sizeof what, "%x + %x * %x, mode %d, random %x", acc, a, b, mode, random);
                        count.differs(what, dut.result, dut.flags, expected[acc], expected_flags[acc]);
                    }
                }
                count.cases += accumulators;
            }
        }
    }
    printf("%zu distinct products\n", pairs.size());
    return count.finish();
}
