// hfp8_add: totals FIRST, FIRST + STEP, ... with every addend, and always the totals beside zero, infinity and all ones.
//
//     add TOTAL ADDEND RANDOM_BITS SATURATE FIRST STEP MODE ...
//
// TOTAL and ADDEND are words of formats of at most 16 bits. A stochastic mode rounds each total with one random word.

#include "Vdut.h"
#include "bench.h"

int main(int argc, char **argv)
{
    if (argc < 8)
        return 2;
    const ref_format ft = format_of(argv[1]), fa = format_of(argv[2]);
    const int random_bits = atoi(argv[3]), saturate = atoi(argv[4]);
    const uint32_t first = atoi(argv[5]), step = atoi(argv[6]), addends = 1u << bits_of(fa);

    Vdut dut;
    tally count;
    std::vector<uint16_t> expected(addends);
    std::vector<uint8_t> expected_flags(addends);
    dut.saturate = saturate;
    uint32_t turn = 0;
    const uint32_t top = (1u << (ft.exponent_bits + ft.fraction_bits)) - 1;
    const uint32_t infinity = top >> ft.fraction_bits << ft.fraction_bits; // of ieee formats
    for (uint32_t total = 0; total < 1u << bits_of(ft); total++) {
        const uint32_t magnitude = total & top;
        const bool special = magnitude < 2 || magnitude + 1 >= top || magnitude - infinity + 1 < 3;
        if (total % step != first && !(special && step > 16))
            continue;
        for (int i = 7; i < argc; i++) {
            const int mode = atoi(argv[i]);
            const uint32_t random = stochastic(mode) ? ++turn * 2654435761u >> (32 - random_bits) : 0;
            ref_add_sweep(&ft, total, &fa, mode, saturate ? REF_SATURATE : REF_SPECIAL, random_bits, random,
                          expected.data(), expected_flags.data());
            dut.total = total;
            dut.mode = mode;
            dut.random = random;
            for (uint32_t addend = 0; addend < addends; addend++) {
                dut.addend = addend;
                dut.eval();
                if (dut.result != expected[addend] || dut.flags != (expected_flags[addend] & 15)) {
                    char what[100];
                    snprintf(what, sizeof what, "%x + %x, mode %d, random %x", total, addend, mode, random);
                    count.differs(what, dut.result, dut.flags, expected[addend], expected_flags[addend]);
                }
            }
            count.cases += addends;
        }
    }
    return count.finish();
}
