/* A converter of your own in C, compared with libhfp8_ref: binary32 to 1-4-3, nearest, ties away, saturating.
 * docs/rtl.md has the commands. */
#include <stdint.h>
#include <stdio.h>

#include <hfp8_dpi.h>
#include <hfp8_ref.h>

/* Your unit. This one adds half a unit in the last place to the magnitude, then cuts. */
static uint32_t my_convert(uint32_t x)
{
    const uint32_t sign = x >> 24 & 0x80, magnitude = x & 0x7FFFFFFF;
    const uint32_t rounded = (magnitude + (1u << 19)) >> 20; /* exponent and 3 bits of fraction */
    const uint32_t lowest = (127 - 11) << 3;                 /* the exponent of code 0 */
    if (rounded <= lowest)
        return sign;
    return sign | (rounded - lowest < 0x7F ? rounded - lowest : 0x7F);
}

static uint64_t tried, wrong;

static void compare(uint32_t x)
{
    if ((x & 0x7FFFFFFF) > 0x7F800000)
        return; /* the format has no NaN */
    const uint32_t expected = hfp8_convert(HFP8_FORMAT_BINARY32, x, HFP8_FORMAT_HFP8_143, REF_NEAREST_AWAY,
                                           REF_SATURATE, 0, 0, NULL);
    const uint32_t result = my_convert(x);
    tried++;
    if (result != expected && wrong++ < 5)
        printf("%08X: %02X instead of %02X\n", x, result, expected);
}

int main(void)
{
    printf("libhfp8_ref %s\n", hfp8_version());
    for (uint32_t high = 0; high < 1u << 13; high++) { /* numbers of the format, ties, and both sides of them */
        compare(high << 19);
        compare((high << 19) + 1);
        compare((high << 19) - 1);
    }
    for (uint64_t x = 0; x < UINT64_C(1) << 32; x += 509) /* 1 instead of 509: every binary32 */
        compare((uint32_t)x);
    printf("%llu of %llu wrong\n", (unsigned long long)wrong, (unsigned long long)tried);
    return wrong != 0;
}
