// One step of one or two products, sampled: hfp8_fma or hfp8_fmma. Compile with -DPRODUCTS=1 or 2.
//
//     step A B ACC RANDOM_BITS COUNT SEED MODE ...
//
// The accumulator's format has at most 32 bits. Modes and policies go in turn.

#include "Vdut.h"
#include "sample.h"

int main(int argc, char **argv)
{
    if (argc < 8)
        return 2;
    ref_profile how;
    memset(&how, 0, sizeof how);
    how.a = format_of(argv[1]);
    how.b = format_of(argv[2]);
    how.accumulator = how.between = format_of(argv[3]);
    how.products_per_step = PRODUCTS;
    how.sum_order = REF_FUSED;
    how.random_bits = atoi(argv[4]);
    const uint64_t cases = strtoull(argv[5], nullptr, 0);
    generator draw = {strtoull(argv[6], nullptr, 0)};
    const bool can_overflow = how.accumulator.special != REF_SPECIAL_NONE;

    Vdut dut;
    tally count;
    for (; count.cases < cases; count.cases++) {
        uint32_t a[2], b[2], random[2] = {0, 0};
        for (int i = 0; i < PRODUCTS; i++) {
            a[i] = operand(draw, how.a);
            b[i] = operand(draw, how.b);
        }
        const uint32_t turn = draw.below(16);
        if (PRODUCTS == 2 && turn < 4) { // the products cancel
            a[1] = a[0] ^ (turn & 1 ? 1u << (bits_of(how.a) - 1) : 0);
            b[1] = b[0] ^ (turn & 1 ? 0 : 1u << (bits_of(how.b) - 1));
        }
        how.rounding = how.between_rounding = atoi(argv[7 + count.cases % (argc - 7)]);
        how.overflow = can_overflow && draw.below(4) ? REF_SPECIAL : REF_SATURATE;
        const uint32_t acc = accumulator(draw, how, a, b, PRODUCTS);
        if (stochastic(how.rounding))
            random[0] = draw.below(1u << how.random_bits);
        uint32_t flags;
        const uint32_t expected = ref_step(&how, acc, a, b, PRODUCTS, random, &flags);
#if PRODUCTS == 1
        dut.a = a[0];
        dut.b = b[0];
#else
        dut.a0 = a[0];
        dut.b0 = b[0];
        dut.a1 = a[1];
        dut.b1 = b[1];
#endif
        dut.acc = acc;
        dut.mode = how.rounding;
        dut.saturate = how.overflow == REF_SATURATE;
        dut.random = random[0];
        dut.eval();
        if (dut.result != expected || dut.flags != (flags & 15)) {
            char what[160];
            snprintf(what, sizeof what, "%x + %x * %x + %x * %x, mode %d, saturate %d, random %x", acc, a[0], b[0],
                     PRODUCTS == 2 ? a[1] : 0, PRODUCTS == 2 ? b[1] : 0, how.rounding,
                     how.overflow == REF_SATURATE, random[0]);
            count.differs(what, dut.result, dut.flags, expected, flags);
        }
    }
    return count.finish();
}
