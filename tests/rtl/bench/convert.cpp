// hfp8_convert into many formats at once. The bench's top module has a 16-bit field of `results` for each format:
// the code in the lower 8 bits, the flags above.
//
//     convert SOURCE RANDOM_BITS STEP TARGET ...
//
// It tries every STEP-th upper part of 20 bits of binary32, and lower parts at both ends, around the middle, and one at
// random; the nine modes, both policies and the random words go in turn. Zero, infinity, NaN and the largest number
// have all of them. For a source of 16 bits it tries every STEP-th code in every mode and policy, with a few random words.

#include "Vdut.h"
#include "bench.h"

static ref_format source;
static std::vector<ref_format> targets;
static Vdut dut;
static tally count;
static int random_bits;

static void compare(size_t i, uint32_t x, int mode, bool saturate, uint32_t random, uint32_t expected, uint32_t flags)
{
    const uint32_t field = dut.results[i / 2] >> (16 * (i & 1)) & 0xFFFF;
    if (field != (expected | (flags & 15) << 8)) {
        char what[120];
        snprintf(what, sizeof what, "%x into format %zu, mode %d, saturate %d, random %x", x, i, mode, saturate, random);
        count.differs(what, field & 255, field >> 8, expected, flags);
    }
    count.cases++;
}

static void check(uint32_t x, int mode, bool saturate, uint32_t random)
{
    dut.x = x;
    dut.mode = mode;
    dut.saturate = saturate;
    dut.random = random;
    dut.eval();
    for (size_t i = 0; i < targets.size(); i++) {
        // A format without a special code cannot overflow to one.
        if (!saturate && targets[i].special == REF_SPECIAL_NONE)
            continue;
        uint32_t flags;
        const uint32_t expected = ref_convert(&source, x, &targets[i], mode, saturate ? REF_SATURATE : REF_SPECIAL,
                                              random_bits, random, &flags);
        compare(i, x, mode, saturate, random, expected, flags);
    }
}

static void edges(uint32_t step)
{
    generator draw = {1};
    if (bits_of(source) <= 16) {
        for (uint32_t x = 0; x < 1u << bits_of(source); x += step)
            for (int mode = 0; mode <= REF_STOCHASTIC_C; mode++)
                for (int i = 0; i < (stochastic(mode) ? 6 : 2); i++)
                    check(x, mode, i & 1, stochastic(mode) ? draw.below(1u << random_bits) : 0);
        return;
    }
    static const uint32_t special[] = {0, 1, 0x7F7FFFFF, 0x7F800000, 0x7F800001, 0x7FC00000, 0x7FFFFFFF};
    for (const uint32_t magnitude : special)
        for (int mode = 0; mode <= REF_STOCHASTIC_C; mode++)
            for (int i = 0; i < 4; i++)
                check(magnitude | (uint32_t)(i >> 1) << 31, mode, i & 1,
                      stochastic(mode) ? draw.below(1u << random_bits) : 0);
    static const uint32_t lower[] = {0x000, 0x001, 0x7FF, 0x800, 0x801, 0xFFF};
    for (uint32_t upper = 0; upper < 1u << 20; upper += step)
        for (int i = 0; i < 8; i++) {
            const uint32_t x = upper << 12 | (i < 6 ? lower[i] : draw.below(1u << 12));
            const int mode = (upper + i) % 9;
            check(x, mode, draw.next() & 1, stochastic(mode) ? draw.below(1u << random_bits) : 0);
        }
}

int main(int argc, char **argv)
{
    if (argc < 5)
        return 2;
    source = format_of(argv[1]);
    random_bits = atoi(argv[2]);
    for (int i = 4; i < argc; i++)
        targets.push_back(format_of(argv[i]));
    edges(strtoul(argv[3], nullptr, 0));
    return count.finish();
}
