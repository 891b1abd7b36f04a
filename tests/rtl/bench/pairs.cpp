// hfp8_fmma with every two distinct products of small formats and every accumulator.
//
//     pairs A B ACC RANDOM_BITS
//
// All nine modes, a stochastic one with every random word; overflow to a special code.

#include "Vdut.h"
#include "bench.h"

#include <map>

int main(int argc, char **argv)
{
    if (argc < 5)
        return 2;
    ref_profile how;
    memset(&how, 0, sizeof how);
    how.a = format_of(argv[1]);
    how.b = format_of(argv[2]);
    how.accumulator = how.between = format_of(argv[3]);
    how.products_per_step = 2;
    how.sum_order = REF_FUSED;
    how.random_bits = atoi(argv[4]);
    how.overflow = REF_SPECIAL;

    std::map<double, std::pair<uint32_t, uint32_t>> products;
    for (uint32_t a = 0; a < 1u << bits_of(how.a); a++)
        for (uint32_t b = 0; b < 1u << bits_of(how.b); b++) {
            const uint64_t x = ref_decode(&how.a, a), y = ref_decode(&how.b, b);
            double p, q;
            memcpy(&p, &x, 8);
            memcpy(&q, &y, 8);
            products[p * q] = {a, b};
        }

    Vdut dut;
    tally count;
    dut.saturate = 0;
    for (const auto &one : products)
        for (const auto &other : products)
            for (uint32_t acc = 0; acc < 1u << bits_of(how.accumulator); acc++)
                for (int mode = 0; mode <= REF_STOCHASTIC_C; mode++)
                    for (uint32_t word = 0; word < (stochastic(mode) ? 1u << how.random_bits : 1u); word++) {
                        const uint32_t a[2] = {one.second.first, other.second.first};
                        const uint32_t b[2] = {one.second.second, other.second.second};
                        const uint32_t random[2] = {word, 0};
                        uint32_t flags;
                        how.rounding = how.between_rounding = mode;
                        const uint32_t expected = ref_step(&how, acc, a, b, 2, random, &flags);
                        dut.a0 = a[0];
                        dut.b0 = b[0];
                        dut.a1 = a[1];
                        dut.b1 = b[1];
                        dut.acc = acc;
                        dut.mode = mode;
                        dut.random = word;
                        dut.eval();
                        count.cases++;
                        if (dut.result != expected || dut.flags != (flags & 15)) {
                            char what[100];
                            snprintf(what, sizeof what, "%x + %x * %x + %x * %x, mode %d, random %x", acc, a[0], b[0],
                                     a[1], b[1], mode, word);
                            count.differs(what, dut.result, dut.flags, expected, flags);
                        }
                    }
    printf("%zu distinct products\n", products.size());
    return count.finish();
}
