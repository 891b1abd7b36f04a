/* hfp8_add of two numbers in 1-6-9: a range of totals with every addend, in one mode. Overflow goes to a special code.
 *
 *     every_pair FIRST COUNT MODE
 *
 * Macro: RANDOM_BITS. In a stochastic mode each total has another random word. */
#include "rounding.c"
#include "exact.c"
#include "mac.c"

#include "planes.h"

enum { ADDENDS = 65536 };

static const ref_format FORMAT_169 = FORMAT(0x01f22526);
static uint16_t codes[ADDENDS];
static uint8_t low[ADDENDS], high[ADDENDS], flags[ADDENDS];

/* The C reference, compiled once for each mode: formats and rounding mode are constants in it. */
FLATTEN static void reference(uint32_t total, int rounding, uint32_t random)
{
#define CALL(mode) \
    ref_add_sweep(&FORMAT_169, total, &FORMAT_169, mode, \
                  REF_SPECIAL, RANDOM_BITS, random, codes, flags)
    WITH_CONSTANT_MODE(rounding, CALL)
    for (int i = 0; i < ADDENDS; i++) {
        low[i] = (uint8_t)codes[i];
        high[i] = (uint8_t)(codes[i] >> 8);
    }
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    const uint32_t first = (uint32_t)strtoul(argv[1], NULL, 0), count = (uint32_t)strtoul(argv[2], NULL, 0);
    const int mode = atoi(argv[3]);
    plane total[16], addend[16], modes[4], saturate[1] = {ZEROS}, word[RANDOM_BITS];
    plane wanted[20], result[20]; /* code, then flags */
    uint64_t wrong = 0;
    uint32_t random = 0;
    memset(wanted, 0, sizeof wanted);
    broadcast(modes, 4, (uint32_t)mode);
    for (uint32_t i = first; i < first + count && wrong < 10; i++) {
        if (is_stochastic(mode))
            random = (i + 1) * 2654435761u >> (32 - RANDOM_BITS);
        broadcast(total, 16, i);
        broadcast(word, RANDOM_BITS, random);
        reference(i, mode, random);
        for (uint32_t start = 0; start < ADDENDS && wrong < 10; start += LANES) {
            count_up(addend, 16, start);
            unit(total, addend, modes, saturate, word, result, result + 16);
            planes_of(wanted, 8, low + start);
            planes_of(wanted + 8, 8, high + start);
            planes_of(wanted + 16, 4, flags + start);
            const int lane = first_difference(wanted, result, 20);
            if (lane < LANES) {
                printf("%x + %x, mode %d, random %x: %x, flags %x instead of %x, flags %x\n", i, start + (uint32_t)lane,
                       mode, random, number_of(result, 16, lane), number_of(result + 16, 4, lane),
                       codes[start + (uint32_t)lane], flags[start + (uint32_t)lane]);
                wrong++;
            }
        }
    }
    finish((uint64_t)count * ADDENDS, wrong);
    return wrong != 0;
}
