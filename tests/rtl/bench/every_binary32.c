/* hfp8_convert from binary32: every code of a range, in one mode. Overflow saturates.
 *
 *     every_binary32 FIRST COUNT MODE
 *
 * Macros: TARGET, the word of a format of at most 8 bits; RANDOM_BITS. 65536 divides FIRST and COUNT. In a stochastic mode
 * each 65536 codes have another random word. */
#include "rounding.c"
#include "convert.c"

#include "planes.h"

enum { BLOCK = 4096, CODE_BITS = ((TARGET) & 31) + ((TARGET) >> 5 & 31) + ((TARGET) >> 10 & 1) };

static const ref_format BINARY32 = FORMAT(0x07f086e8), target = FORMAT(TARGET);
static uint32_t expected[BLOCK];
static uint8_t codes[BLOCK], flags[BLOCK];

/* The C reference, compiled once for each mode: formats and rounding mode are constants in it. */
FLATTEN static void reference(uint32_t first, int rounding, uint32_t random)
{
#define CALL(mode) \
    ref_convert_sweep(&BINARY32, first, BLOCK, &target, mode, \
                      REF_SATURATE, RANDOM_BITS, random, expected, flags)
    WITH_CONSTANT_MODE(rounding, CALL)
    for (int i = 0; i < BLOCK; i++)
        codes[i] = (uint8_t)expected[i];
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    const uint64_t first = strtoull(argv[1], NULL, 0), count = strtoull(argv[2], NULL, 0);
    const int mode = atoi(argv[3]);
    if (first % 65536 || count % 65536)
        return 2;
    plane x[32], modes[4], saturate[1] = {ONES}, word[RANDOM_BITS];
    plane wanted[12], result[12]; /* code, then flags */
    uint64_t wrong = 0;
    uint32_t random = 0;
    memset(wanted, 0, sizeof wanted);
    broadcast(modes, 4, (uint32_t)mode);
    for (uint64_t start = first; start < first + count; start += BLOCK) {
        if (is_stochastic(mode))
            random = (uint32_t)(start >> 16) * 2654435761u >> (32 - RANDOM_BITS);
        broadcast(word, RANDOM_BITS, random);
        reference((uint32_t)start, mode, random);
        for (int part = 0; part < BLOCK; part += LANES) {
            count_up(x, 32, (uint32_t)start + (uint32_t)part);
            unit(x, modes, saturate, word, result, result + CODE_BITS);
            planes_of(wanted, CODE_BITS, codes + part);
            planes_of(wanted + CODE_BITS, 4, flags + part);
            const int lane = first_difference(wanted, result, CODE_BITS + 4);
            if (lane < LANES) {
                printf("%x, mode %d, random %x: %x, flags %x instead of %x, flags %x\n",
                       (uint32_t)start + (uint32_t)(part + lane), mode, random, number_of(result, CODE_BITS, lane),
                       number_of(result + CODE_BITS, 4, lane), codes[part + lane], flags[part + lane]);
                if (++wrong >= 10)
                    break;
            }
        }
        if (wrong >= 10)
            break;
    }
    finish(count, wrong);
    return wrong != 0;
}
