/* selftest.c: golden values, and the reference held against slower or plainer forms of itself.
 * Prints one line per group; exit status 1 if any check failed. `make selftest`, `make sanitize`. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "hfp8_ref.c"

static const ref_format HFP8_143 = {4, 3, 11, 1, 0, REF_LOWEST_NORMAL, REF_SPECIAL_NONE};
static const ref_format HFP8_143_HW = {4, 3, 11, 1, 0, REF_LOWEST_NORMAL, REF_SPECIAL_NAN_INF};
static const ref_format HFP8_152 = {5, 2, 15, 1, 0, REF_LOWEST_NORMAL, REF_SPECIAL_NONE};
static const ref_format HFP8_152_HW = {5, 2, 15, 1, 0, REF_LOWEST_NORMAL, REF_SPECIAL_NAN_INF};
static const ref_format FP9 = {5, 3, 15, 1, 0, REF_LOWEST_NORMAL, REF_SPECIAL_NAN_INF};
static const ref_format DLFLOAT16 = {6, 9, 31, 1, 0, REF_LOWEST_NORMAL, REF_SPECIAL_NAN_INF};
static const ref_format IEEE_169 = {6, 9, 31, 1, 0, REF_LOWEST_SUBNORMAL, REF_SPECIAL_IEEE};
static const ref_format E4M3FN = {4, 3, 7, 1, 0, REF_LOWEST_SUBNORMAL, REF_SPECIAL_FN};
static const ref_format E5M2 = {5, 2, 15, 1, 0, REF_LOWEST_SUBNORMAL, REF_SPECIAL_IEEE};
static const ref_format E4M3FNUZ = {4, 3, 8, 1, 1, REF_LOWEST_SUBNORMAL, REF_SPECIAL_FNUZ};
static const ref_format FLUSH_143 = {4, 3, 7, 1, 0, REF_LOWEST_FLUSH, REF_SPECIAL_NAN_INF};
static const ref_format UNSIGNED_44 = {4, 4, 7, 0, 1, REF_LOWEST_SUBNORMAL, REF_SPECIAL_P3109_EXTENDED};
static const ref_format P3109_P1 = {7, 0, 64, 1, 1, REF_LOWEST_SUBNORMAL, REF_SPECIAL_P3109_EXTENDED};
static const ref_format P3109_P4 = {4, 3, 8, 1, 1, REF_LOWEST_SUBNORMAL, REF_SPECIAL_P3109_FINITE};
static const ref_format P3109_P7 = {1, 6, 1, 1, 1, REF_LOWEST_SUBNORMAL, REF_SPECIAL_P3109_EXTENDED};
static const ref_format E8M0 = {8, 0, 127, 0, 2, REF_LOWEST_SUBNORMAL, REF_SPECIAL_FN};
static const ref_format E4M0_NORMAL = {4, 0, 7, 1, 0, REF_LOWEST_NORMAL, REF_SPECIAL_NAN_INF};
static const ref_format BINARY16 = {5, 10, 15, 1, 0, REF_LOWEST_SUBNORMAL, REF_SPECIAL_IEEE};
static const ref_format BINARY32 = {8, 23, 127, 1, 0, REF_LOWEST_SUBNORMAL, REF_SPECIAL_IEEE};

/* ---- counting ------------------------------------------------------------------------------ */

static uint64_t checks, failures;
static int status = 0;

static void check(bool good, const char *what, uint64_t where, uint64_t got, uint64_t expected)
{
    checks++;
    if (good)
        return;
    if (failures++ < 5)
        printf("  FAILED %s at %" PRIX64 ": got %" PRIX64 ", expected %" PRIX64 "\n", what, where,
               got, expected);
}

static void equal(const char *what, uint64_t where, uint64_t got, uint64_t expected)
{
    check(got == expected, what, where, got, expected);
}

static void end_group(const char *name)
{
    printf("%-44s %10" PRIu64 " checks, %" PRIu64 " failed\n", name, checks, failures);
    if (failures || !checks)
        status = 1;
    checks = failures = 0;
}

/* Test inputs: SplitMix64. */
static uint64_t state = 1;

static uint64_t any(void)
{
    return ref_mix64(state += UINT64_C(0x9E3779B97F4A7C15));
}

static uint32_t any_code(const ref_format *format)
{
    const int32_t bits = format->exponent_bits + format->fraction_bits + (format->is_signed != 0);
    return (uint32_t)(any() & ones(bits));
}

/* ---- golden values ------------------------------------------------------------------------- */

static uint32_t from32(uint32_t code, const ref_format *target, int32_t mode, int32_t overflow)
{
    uint32_t flags;
    return ref_convert(&BINARY32, code, target, mode, overflow, 0, 0, &flags);
}

/* binary32 to 1-4-3 bias 11: nearest-away, nearest-even, and with all-ones kept for NaN-Infinity
 * (nearest-away); all saturate. */
static void golden_143(void)
{
    static const uint32_t rows[][4] = {
        {0x3F800000, 0x58, 0x58, 0x58}, {0xBF800000, 0xD8, 0xD8, 0xD8}, /* 1, -1 */
        {0x3DCCCCCD, 0x3D, 0x3D, 0x3D}, {0x3EAAAAAB, 0x4B, 0x4B, 0x4B}, /* 0.1, 1/3 */
        {0x40490FDB, 0x65, 0x65, 0x65}, {0x41880000, 0x79, 0x78, 0x79}, /* pi, 17 */
        {0x41D80000, 0x7E, 0x7E, 0x7E}, {0x41E80000, 0x7F, 0x7E, 0x7E}, /* 27, 29 */
        {0x41F00000, 0x7F, 0x7F, 0x7E}, {0x41F80000, 0x7F, 0x7F, 0x7E}, /* 30, 31 */
        {0x42040000, 0x7F, 0x7F, 0x7E}, {0x447A0000, 0x7F, 0x7F, 0x7E}, /* 33, 1000 */
        {0x3F880000, 0x59, 0x58, 0x59}, {0x3EF00000, 0x4F, 0x4F, 0x4F}, /* 1.0625, 0.46875 */
        {0xBEE00000, 0xCE, 0xCE, 0xCE}, {0x3A83126F, 0x08, 0x08, 0x08}, /* -0.4375, 0.001 */
        {0x3A000000, 0x00, 0x00, 0x00}, {0x3A080000, 0x01, 0x00, 0x01}, /* 2^-11 * (1, 1 + 1/16) */
        {0x3A07FFFF, 0x00, 0x00, 0x00}, {0x3A100000, 0x01, 0x01, 0x01}, /* below, 1.125 * 2^-11 */
        {0x39800000, 0x00, 0x00, 0x00},                                 /* 2^-12 */
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const uint32_t *row = rows[i], x = row[0];
        equal("away", x, from32(x, &HFP8_143, REF_NEAREST_AWAY, REF_SATURATE), row[1]);
        equal("even", x, from32(x, &HFP8_143, REF_NEAREST_EVEN, REF_SATURATE), row[2]);
        equal("hw", x, from32(x, &HFP8_143_HW, REF_NEAREST_AWAY, REF_SATURATE), row[3]);
    }
    end_group("golden 1-4-3 bias 11");
}

/* binary32 to 1-5-2, nearest-away: all codes numbers, saturating; NaN-Infinity reserved,
 * saturating; reserved and produced on overflow. */
static void golden_152(void)
{
    static const uint32_t rows[][4] = {
        {0x3F800000, 0x3C, 0x3C, 0x3C}, {0x3F900000, 0x3D, 0x3D, 0x3D}, /* 1, 1.125 */
        {0x3FB00000, 0x3E, 0x3E, 0x3E}, {0x3E99999A, 0x35, 0x35, 0x35}, /* 1.375, 0.3 */
        {0xBF333333, 0xBA, 0xBA, 0xBA}, {0x38D1B717, 0x07, 0x07, 0x07}, /* -0.7, 0.0001 */
        {0x47600000, 0x7B, 0x7B, 0x7B}, {0x47700000, 0x7C, 0x7C, 0x7C}, /* 57344, 61440 */
        {0x47C00000, 0x7E, 0x7E, 0x7E}, {0x47E00000, 0x7F, 0x7E, 0x7F}, /* 98304, 114688 */
        {0x49742400, 0x7F, 0x7E, 0x7F}, {0x38000000, 0x00, 0x00, 0x00}, /* 1e6, 2^-15 */
        {0x38100000, 0x01, 0x01, 0x01},                                 /* 1.125 * 2^-15 */
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const uint32_t *row = rows[i], x = row[0];
        equal("numbers", x, from32(x, &HFP8_152, REF_NEAREST_AWAY, REF_SATURATE), row[1]);
        equal("saturate", x, from32(x, &HFP8_152_HW, REF_NEAREST_AWAY, REF_SATURATE), row[2]);
        equal("special", x, from32(x, &HFP8_152_HW, REF_NEAREST_AWAY, REF_SPECIAL), row[3]);
    }
    end_group("golden 1-5-2");
}

static void golden_dlfloat16(void)
{
    /* code, flags; +NaN is produced for NaN of either sign */
    static const uint32_t rows[][3] = {
        {0x3F800000, 0x3E00, 0}, {0xBF800000, 0xBE00, 0}, {0x3F000000, 0x3C00, 0},
        {0x3C800000, 0x3200, 0}, {0x41700000, 0x45C0, 0}, {0xC1700000, 0xC5C0, 0},
        {0x4036DB6E, 0x40DB, 1}, {0x00000000, 0x0000, 0}, {0x80000000, 0x8000, 0},
        {0x00800000, 0x0000, 5}, {0x00000001, 0x0000, 5}, {0x80000001, 0x8000, 5},
        {0x7F7FFFFF, 0x7FFF, 3}, {0x7FC00000, 0x7FFF, 8}, {0xFFC00000, 0x7FFF, 8},
        {0x7F800000, 0x7FFF, 3}, {0xFF800000, 0x7FFF, 3}, {0x4FFF8000, 0x7FFE, 0},
        {0x4FFF9FFF, 0x7FFE, 1}, {0x4FFFA000, 0x7FFF, 3}, {0x30004000, 0x0001, 0},
        {0x30000000, 0x0000, 5}, {0x30002000, 0x0001, 1}, {0x30001FFF, 0x0000, 5},
        {0x3F802000, 0x3E01, 1}, {0x3F806000, 0x3E02, 1}, {0xBF802000, 0xBE01, 1},
        {0x3F801FFF, 0x3E00, 1}, {0x40490FDB, 0x4124, 1}, {0x3DCCCCCD, 0x3733, 1},
        {0x3EAAAAAB, 0x3AAB, 1}, {0x447A0000, 0x51E8, 0}, {0x3A83126F, 0x2A0C, 1},
        {0x40D00000, 0x4340, 0}, {0x43E00000, 0x4F80, 0}, {0x47600000, 0x5D80, 0},
        {0x501502F9, 0x7FFF, 3},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint32_t flags;
        const uint32_t code = ref_convert(&BINARY32, rows[i][0], &DLFLOAT16, REF_NEAREST_AWAY,
                                          REF_SPECIAL, 0, 0, &flags);
        equal("code", rows[i][0], code, rows[i][1]);
        equal("flags", rows[i][0], flags, rows[i][2]);
    }
    static const uint32_t halves[][2] = {{0x7BFF, 0x5E00}, {0x0400, 0x2200}, {0x0001, 0x0E00}};
    for (size_t i = 0; i < 3; i++)
        equal("binary16", halves[i][0],
              ref_convert(&BINARY16, halves[i][0], &DLFLOAT16, REF_NEAREST_AWAY, REF_SPECIAL, 0, 0,
                          NULL),
              halves[i][1]);
    equal("max", 0x7FFE, ref_decode(&DLFLOAT16, 0x7FFE), UINT64_C(0x41FFF00000000000));
    equal("min", 0x0001, ref_decode(&DLFLOAT16, 0x0001), UINT64_C(0x3E00080000000000));
    equal("-0", 0x8000, ref_decode(&DLFLOAT16, 0x8000), UINT64_C(0x8000000000000000));
    equal("NaN", 0xFFFF, ref_decode(&DLFLOAT16, 0xFFFF), UINT64_C(0x7FF8000000000000));
    end_group("golden DLFloat16 conversions");
}

static void golden_fma(void)
{
    static const uint32_t rows[][4] = {
        {0x3F00, 0x4000, 0x4100, 0x4300}, {0x3E01, 0x3E01, 0xBE02, 0x1A00},
        {0x5600, 0x3E00, 0x3E00, 0x5600}, {0x5600, 0x3E00, 0x4200, 0x5601},
        {0x5600, 0x3E00, 0xC000, 0x5600}, {0x5E00, 0x5E00, 0x0000, 0x7E00},
        {0x5E00, 0x6000, 0x0000, 0x7FFF}, {0x1C9F, 0x1E9F, 0x0226, 0x0294},
        {0x4100, 0x3AAB, 0xBE00, 0x2800},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        equal("fma", i,
              ref_fma(&DLFLOAT16, rows[i][0], &DLFLOAT16, rows[i][1], &DLFLOAT16, rows[i][2],
                      REF_NEAREST_AWAY, REF_SPECIAL, 0, 0, NULL),
              rows[i][3]);
    end_group("golden DLFloat16 fma");
}

/* ---- formats and rounding ------------------------------------------------------------------ */

/* Every code survives the way through binary64, exactly, unless it is one of several NaNs, a
 * flushed code or an unassigned -0. */
static void identity(const ref_format *format)
{
    static const ref_format wide = {11, 52, 1023, 1, 0, 0, 1};
    const layout d = layout_of(format);
    const uint64_t sign = (uint64_t)1 << d.magnitude_bits;
    const uint64_t count = format->is_signed ? 2 * sign : sign;
    for (uint64_t code = 0; code < count; code++) {
        const number x = unpack(&d, code);
        uint64_t expected = code;
        if (x.kind == NAN_KIND)
            expected = d.nan;
        else if (x.kind == ZERO)
            expected = x.negative ? sign : 0;
        uint32_t flags;
        const uint64_t bits = ref_decode(format, code);
        for (int32_t mode = 0; mode < 9; mode++) {
            const uint32_t got =
                ref_convert(&wide, bits, format, mode, REF_SPECIAL, 5, 31, &flags);
            equal("identity", code, got, expected);
            equal("flags", code, flags, x.kind == NAN_KIND ? REF_INVALID : 0);
        }
    }
}

static void identities(void)
{
    const ref_format *all[] = {&HFP8_143,  &HFP8_143_HW, &HFP8_152,    &HFP8_152_HW, &FP9,
                               &DLFLOAT16, &IEEE_169,    &E4M3FN,      &E5M2,        &E4M3FNUZ,
                               &FLUSH_143, &UNSIGNED_44, &P3109_P1,    &P3109_P4,    &P3109_P7,
                               &E8M0,      &E4M0_NORMAL, &BINARY16};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        check(ref_format_problem(all[i]) == NULL, "format", i, 1, 0);
        identity(all[i]);
    }
    end_group("every code through binary64 and back");
}

/* The definitions, with fractions num/den in [0, 1) instead of shifts and masks. */
static bool away_by_definition(int32_t mode, int32_t r, uint64_t R, uint64_t num, uint64_t den,
                               bool odd, bool negative)
{
    const uint64_t one = (uint64_t)1 << r;
    switch (mode) {
    case REF_NEAREST_EVEN:
        return 2 * num > den || (2 * num == den && odd);
    case REF_NEAREST_AWAY:
        return 2 * num >= den;
    case REF_TOWARD_ZERO:
        return false;
    case REF_TOWARD_POSITIVE:
        return num > 0 && !negative;
    case REF_TOWARD_NEGATIVE:
        return num > 0 && negative;
    case REF_TO_ODD:
        return num > 0 && !odd;
    case REF_STOCHASTIC_A:
        return num * one / den + R >= one;
    case REF_STOCHASTIC_B:
        return num * 2 * one / den + 2 * R + 1 >= 2 * one;
    default: {
        uint64_t nearest = num * one / den;
        const uint64_t rest = num * one % den;
        nearest += 2 * rest > den || (2 * rest == den && nearest % 2);
        return nearest + R >= one;
    }
    }
}

/* Rounds X = `units` (of 2^unit) between two entries of the table of all magnitudes. `wide` is the
 * format with one more exponent bit and no special code: its table goes on above the largest. */
static void against_table(const ref_format *format, const uint64_t *table, int32_t unit,
                          uint64_t smallest_normal, uint64_t lower, uint64_t units)
{
    const layout d = layout_of(format);
    const bool steep = format->lowest == REF_LOWEST_NORMAL || format->lowest == REF_LOWEST_FLUSH;
    const uint64_t upper = lower == 0 && format->lowest == REF_LOWEST_FLUSH
                               ? (uint64_t)1 << format->fraction_bits
                               : lower + 1;
    static const int32_t widths[] = {1, 2, 5};
    for (int32_t k = 0; k < 9 * 3 * 2; k++) {
        const int32_t mode = k % 9, r = widths[k / 9 % 3];
        const bool negative = k >= 27;
        if (mode < REF_STOCHASTIC_A && r != 1)
            continue;
        if (negative && !format->is_signed)
            continue;
        const uint32_t R = (uint32_t)(any() & ones(r));
        uint64_t from = table[lower], parity = lower;
        if (steep && lower == 0 && mode <= REF_NEAREST_AWAY && table[0] < units) {
            /* Nearest, below the smallest number: the would-be neighbour, not zero. */
            const int32_t f = format->fraction_bits;
            parity = upper - 1;
            from = format->lowest == REF_LOWEST_NORMAL && f > 0
                       ? table[upper] / (((uint64_t)1 << f) + 1) << f
                       : table[upper] / ((uint64_t)2 << f) * (((uint64_t)2 << f) - 1);
            if (f == 0)
                from = table[upper] / 2;
        }
        bool away = false;
        if (units > from)
            away = away_by_definition(mode, r, R, units - from, table[upper] - from, parity & 1,
                                      negative);
        uint64_t expected = away ? upper : lower;
        uint32_t raised = 0;
        if (expected > d.largest) {
            raised = REF_OVERFLOW | REF_INEXACT;
            expected = mode == REF_TOWARD_ZERO || mode == REF_TO_ODD ||
                               mode == (negative ? REF_TOWARD_POSITIVE : REF_TOWARD_NEGATIVE)
                           ? d.largest
                       : d.has_infinity ? d.infinity
                       : d.has_nan      ? d.nan
                                        : d.largest;
        } else if (table[expected] != units) {
            raised = REF_INEXACT;
            if (table[expected] < smallest_normal)
                raised |= REF_UNDERFLOW;
        }
        if (negative && !(d.has_nan && expected == d.nan) &&
            !(expected == 0 && format->zero == REF_ZERO_UNSIGNED))
            expected |= (uint64_t)1 << d.magnitude_bits;
        const int32_t policy = d.has_infinity || d.has_nan ? REF_SPECIAL : REF_SATURATE;
        uint32_t flags;
        const uint32_t got =
            ref_round(format, negative, units, unit, mode, policy, r, R, &flags);
        equal("code", units * 100 + (uint64_t)k, got, expected);
        equal("flags", units * 100 + (uint64_t)k, flags, raised);
    }
}

static void table_of(const ref_format *format)
{
    ref_format wide_format = *format;
    wide_format.exponent_bits++;
    wide_format.special = REF_SPECIAL_NONE;
    wide_format.is_signed = 0;
    const layout d = layout_of(format), wide = layout_of(&wide_format);
    const int32_t f = format->fraction_bits, unit = -format->bias - f - 7;
    static uint64_t table[1024];
    for (uint64_t code = 0; code <= d.largest + 2; code++) {
        const number x = unpack(&wide, code);
        table[code] = x.kind == ZERO ? 0 : x.significand << (x.exponent - unit);
    }
    const uint64_t smallest_normal = format->lowest == REF_LOWEST_NORMAL && f > 0
                                         ? table[1]
                                         : table[(uint64_t)1 << f];
    for (uint64_t lower = 0; lower <= d.largest + 1; lower++) {
        if (lower > 0 && table[lower] == 0)
            continue; /* flushed codes */
        const uint64_t upper = lower == 0 && format->lowest == REF_LOWEST_FLUSH ? (uint64_t)1 << f
                                                                                : lower + 1;
        const uint64_t gap = table[upper] - table[lower];
        static const uint64_t parts[] = {64, 37, 48};
        for (size_t p = 0; p < 3; p++) {
            for (uint64_t i = 0; i < parts[p]; i++) {
                for (uint64_t off = 0; off < 3; off++) {
                    const uint64_t units = table[lower] + gap * i / parts[p] + off;
                    if (units > table[lower] && units <= table[upper])
                        against_table(format, table, unit, smallest_normal, lower, units - 1);
                }
            }
        }
    }
}

static void tables(void)
{
    const ref_format *all[] = {&HFP8_143,    &HFP8_143_HW, &HFP8_152_HW, &FP9,     &E4M3FN,
                               &E5M2,        &E4M3FNUZ,    &FLUSH_143,   &UNSIGNED_44,
                               &P3109_P4,    &P3109_P7,    &E4M0_NORMAL};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        table_of(all[i]);
    end_group("rounding against tables and fractions");
}

/* What the tables do not reach: values without a number, and the policies. */
static void corners(void)
{
    static const struct {
        const ref_format *format;
        uint32_t x; /* binary32 */
        int32_t mode, overflow;
        uint32_t code, flags;
    } rows[] = {
        /* infinity */
        {&HFP8_143, 0x7F800000, REF_TOWARD_ZERO, REF_SATURATE, 0x7F, 3},
        {&HFP8_143, 0xFF800000, REF_TOWARD_ZERO, REF_SATURATE, 0xFF, 3},
        {&E5M2, 0x7F800000, REF_TOWARD_ZERO, REF_SPECIAL, 0x7C, 0},
        {&E5M2, 0xFF800000, REF_TOWARD_POSITIVE, REF_SPECIAL, 0xFC, 0},
        {&E5M2, 0x7F800000, REF_TOWARD_ZERO, REF_SATURATE, 0x7B, 3},
        {&E4M3FN, 0xFF800000, REF_TOWARD_ZERO, REF_SPECIAL, 0x7F, 3},
        {&E4M3FNUZ, 0x7F800000, REF_NEAREST_EVEN, REF_ERROR, 0x80, 3},
        {&HFP8_143, 0x7F800000, REF_NEAREST_EVEN, REF_SPECIAL, 0, 3 | REF_NO_CODE},
        /* NaN */
        {&E5M2, 0xFFC00000, REF_NEAREST_EVEN, REF_SATURATE, 0x7E, 8},
        {&E4M3FNUZ, 0x7FC00000, REF_NEAREST_EVEN, REF_SATURATE, 0x80, 8},
        {&HFP8_143, 0x7FC00000, REF_NEAREST_EVEN, REF_SATURATE, 0, 8 | REF_NO_CODE},
        /* zero */
        {&E4M3FN, 0x80000000, REF_NEAREST_EVEN, REF_SPECIAL, 0x80, 0},
        {&E4M3FNUZ, 0x80000000, REF_NEAREST_EVEN, REF_SPECIAL, 0x00, 0},
        {&E4M3FNUZ, 0x80000001, REF_NEAREST_EVEN, REF_SPECIAL, 0x00, 5},
        {&UNSIGNED_44, 0x80000000, REF_NEAREST_EVEN, REF_SPECIAL, 0x00, 0},
        /* negative into unsigned */
        {&UNSIGNED_44, 0xBF800000, REF_NEAREST_EVEN, REF_SATURATE, 0x00, 8},
        {&UNSIGNED_44, 0xBF800000, REF_NEAREST_EVEN, REF_SPECIAL, 0xFF, 8},
        {&UNSIGNED_44, 0x80000001, REF_TOWARD_ZERO, REF_SPECIAL, 0xFF, 8},
        {&UNSIGNED_44, 0xFF800000, REF_NEAREST_EVEN, REF_SATURATE, 0x00, 8},
        {&UNSIGNED_44, 0xBF800000, REF_NEAREST_EVEN, REF_ERROR, 0xFF, 8 | REF_NO_CODE},
        {&UNSIGNED_44, 0x7F800000, REF_NEAREST_EVEN, REF_SPECIAL, 0xFE, 0},
        /* the format without zero */
        {&E8M0, 0x00000000, REF_NEAREST_EVEN, REF_SATURATE, 0x00, 8},
        {&E8M0, 0x00000000, REF_NEAREST_EVEN, REF_SPECIAL, 0xFF, 8},
        {&E8M0, 0x00400000, REF_TOWARD_ZERO, REF_SATURATE, 0x00, 0},
        {&E8M0, 0x00000001, REF_TOWARD_ZERO, REF_SATURATE, 0x00, 1},
        {&E8M0, 0x00000001, REF_STOCHASTIC_A, REF_SATURATE, 0x00, 1},
        {&E8M0, 0x3F800000, REF_NEAREST_EVEN, REF_SATURATE, 0x7F, 0},
        {&E8M0, 0x3FC00000, REF_NEAREST_EVEN, REF_SATURATE, 0x80, 1}, /* tie, field 127 is odd */
        {&E8M0, 0x40400000, REF_NEAREST_EVEN, REF_SATURATE, 0x80, 1},
        {&E8M0, 0x40400000, REF_NEAREST_AWAY, REF_SATURATE, 0x81, 1},
        {&E8M0, 0x7F7FFFFF, REF_NEAREST_EVEN, REF_SPECIAL, 0xFF, 3},
        {&E8M0, 0x7F7FFFFF, REF_TOWARD_ZERO, REF_SPECIAL, 0xFE, 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint32_t flags;
        const uint32_t code = ref_convert(&BINARY32, rows[i].x, rows[i].format, rows[i].mode,
                                          rows[i].overflow, 5, 0, &flags);
        equal("code", i, code, rows[i].code);
        equal("flags", i, flags, rows[i].flags);
    }
    const uint32_t codes[4] = {0x3F800000, 0x7F7FFFFF, 0x7FC00000, 0};
    uint32_t out[4];
    uint8_t flags[4];
    equal("first error", 0,
          (uint64_t)ref_convert_array(&BINARY32, codes, 4, &E4M3FN, REF_NEAREST_EVEN, REF_ERROR, 0,
                                      NULL, out, flags),
          1);
    equal("no error", 0,
          (uint64_t)ref_convert_array(&BINARY32, codes, 4, &E4M3FN, REF_NEAREST_EVEN, REF_SPECIAL,
                                      0, NULL, out, flags),
          UINT64_MAX);
    equal("no code", 0,
          (uint64_t)ref_convert_array(&BINARY32, codes, 4, &HFP8_143, REF_NEAREST_EVEN,
                                      REF_SATURATE, 0, NULL, out, NULL),
          2);
    end_group("infinity, NaN, zero, policies");
}

/* ---- random words -------------------------------------------------------------------------- */

/* x -> M x over GF(2), M given by its columns. */
static uint32_t apply(const uint32_t *columns, uint32_t x)
{
    uint32_t y = 0;
    for (int32_t i = 0; i < 32; i++)
        if (x >> i & 1)
            y ^= columns[i];
    return y;
}

/* The LFSR's state after `steps` steps from 1. */
static uint32_t lfsr_after(uint64_t steps)
{
    uint32_t power[32], x = 1;
    for (int32_t i = 0; i < 32; i++)
        power[i] = ref_lfsr_step((uint32_t)1 << i);
    for (; steps; steps >>= 1) {
        uint32_t square[32];
        if (steps & 1)
            x = apply(power, x);
        for (int32_t i = 0; i < 32; i++)
            square[i] = apply(power, power[i]);
        for (int32_t i = 0; i < 32; i++)
            power[i] = square[i];
    }
    return x;
}

static void random_words(void)
{
    /* SplitMix64's published first outputs for seed 1234567 */
    static const uint64_t published[] = {
        UINT64_C(6457827717110365317), UINT64_C(3203168211198807973),
        UINT64_C(9817491932198370423), UINT64_C(4593380528125082431),
        UINT64_C(16408922859458223821)};
    for (uint64_t i = 0; i < 5; i++) {
        equal("mix64", i, ref_mix64(1234567 + GOLDEN * (i + 1)), published[i]);
        equal("word", i, ref_word(1234567, 0, i), published[i] >> 32);
    }
    equal("word", 9, ref_word(5, 3, 4), ref_mix64(5 + GOLDEN * ((UINT64_C(3) << 32) + 5)) >> 32);
    const uint64_t period = UINT32_MAX;
    static const uint64_t primes[] = {3, 5, 17, 257, 65537};
    equal("period", 0, lfsr_after(period), 1);
    for (size_t i = 0; i < 5; i++)
        check(lfsr_after(period / primes[i]) != 1, "shorter period", primes[i], 1, 0);
    uint32_t numbers[4];
    ref_convert_random(7, 8, 13, UINT64_C(0xFFFFFFFE), 4, numbers);
    const uint64_t key = ref_key(7, 8, REF_SITE_CONVERT);
    equal("convert", 0, numbers[1], ref_word(key, 0, UINT32_MAX) >> 19);
    equal("convert", 1, numbers[2], ref_word(key, 1, 0) >> 19);
    end_group("random words, LFSR period 2^32 - 1");
}

/* ---- sums ---------------------------------------------------------------------------------- */

/* Normalised, with everything below the highest 56 bits jammed into the lowest of them: more than
 * any rounding looks at, and equal for equal values however they were jammed before. */
static number canonical(number x)
{
    if (x.kind == NAN_KIND)
        return (number){.kind = NAN_KIND};
    if (x.kind != FINITE)
        return (number){.kind = x.kind, .negative = x.kind == INFINITE && x.negative};
    const int32_t zeros = leading_zeros(x.significand);
    return (number){.kind = FINITE,
                    .negative = x.negative,
                    .significand = shift_right_jam(x.significand << zeros, 8),
                    .exponent = x.exponent - zeros + 8};
}

static void same_sum(number x, number y)
{
    const number fast = canonical(sum_of_two(x, y));
    const number plain = canonical(exact_sum((number[2]){x, y}, 2));
    check(fast.kind == plain.kind && fast.negative == plain.negative &&
              fast.significand == plain.significand && fast.exponent == plain.exponent,
          "sum of two", x.significand, fast.significand, plain.significand);
}

/* First every sum of a product of two 4-bit significands and a 10-bit accumulator: sum_of_two
 * normalises first, so that odd significands and the exponents' difference are all that matters,
 * and beyond a difference of 90 nothing but the sign of the smaller term does. Then a sample of
 * wide significands. */
static void fast_sums(void)
{
    bool seen[256] = {false};
    for (uint32_t a = 1; a < 16; a++)
        for (uint32_t b = 1; b < 16; b++)
            seen[a * b] = true;
    for (uint32_t p = 1; p < 256; p += 2) {
        if (!seen[p])
            continue;
        for (uint32_t s = 1; s < 1024; s += 2) {
            for (int32_t d = -90; d <= 90; d++) {
                const number product = {FINITE, false, p, d, 0};
                same_sum((number){FINITE, false, s, 0, 0}, product);
                same_sum((number){FINITE, true, s, 0, 0}, product);
            }
        }
    }
    for (int32_t i = 0; i < 1000000; i++) {
        const uint64_t word = any();
        const number x = {FINITE, word & 1, (any() >> (11 + (word >> 8) % 50)) | 1, 0, 0};
        const number y = {FINITE, word >> 1 & 1, (any() >> (11 + (word >> 16) % 50)) | 1,
                          (int32_t)((word >> 24) % 141) - 70, 0};
        same_sum(x, y);
        same_sum(x, (number){FINITE, !x.negative, x.significand + (word >> 40 & 1), 0, 0});
    }
    end_group("sums of two terms against the register");
}

/* The exhaustive entry points against the plain fma and addition. */
static void sweeps(void)
{
    static uint16_t out[65536], again[65536];
    static uint8_t flags[65536];
    const ref_format *accumulators[] = {&DLFLOAT16, &IEEE_169, &E5M2, &UNSIGNED_44};
    for (size_t f = 0; f < 4; f++) {
        const ref_format *acc = accumulators[f];
        const layout d = layout_of(acc);
        const uint32_t count = (uint32_t)1 << (d.magnitude_bits + (acc->is_signed != 0));
        for (int32_t mode = 0; mode < 9; mode++) {
            for (int32_t pair = 0; pair < 2; pair++) {
                const ref_format *a_format = pair ? &E5M2 : &HFP8_143, *b_format = &HFP8_152_HW;
                const uint32_t a = any_code(a_format), b = any_code(b_format);
                const uint32_t R = (uint32_t)(any() & 0x1FFF);
                uint32_t raised;
                ref_fma_sweep(a_format, a, b_format, b, acc, mode, REF_SPECIAL, 13, R, out, flags);
                for (uint32_t c = 0; c < count; c++) {
                    const uint32_t code = ref_fma(a_format, a, b_format, b, acc, c, mode,
                                                  REF_SPECIAL, 13, R, &raised);
                    equal("fma sweep", c, out[c] | (uint32_t)flags[c] << 16, code | raised << 16);
                }
                const layout of_a = layout_of(a_format), of_b = layout_of(b_format);
                const number p = multiply(unpack(&of_a, a), unpack(&of_b, b));
                if (p.kind == FINITE || p.kind == ZERO) {
                    ref_product_sweep(p.negative, p.significand, p.exponent, acc, mode,
                                      REF_SPECIAL, 13, R, again, NULL);
                    for (uint32_t c = 0; c < count; c++)
                        equal("product sweep", c, again[c], out[c]);
                }
                const uint32_t total = any_code(acc);
                ref_add_sweep(acc, total, &IEEE_169, mode, REF_SATURATE, 13, R, out, flags);
                for (uint32_t c = 0; c < 65536; c += 7) {
                    const uint32_t code = ref_add(acc, total, &IEEE_169, c, mode, REF_SATURATE, 13,
                                                  R, &raised);
                    equal("add sweep", c, out[c] | (uint32_t)flags[c] << 16, code | raised << 16);
                }
            }
        }
    }
    static uint32_t converted[65536];
    for (int32_t mode = 0; mode < 9; mode++) {
        const uint64_t start = any() & 0xFFFF0000;
        uint32_t raised;
        ref_convert_sweep(&BINARY32, start, 65536, &DLFLOAT16, mode, REF_SPECIAL, 14, 77,
                          converted, flags);
        for (uint32_t i = 0; i < 65536; i += 5) {
            const uint32_t code = ref_convert(&BINARY32, start + i, &DLFLOAT16, mode, REF_SPECIAL,
                                              14, 77, &raised);
            equal("convert sweep", start + i, converted[i] | (uint32_t)flags[i] << 16,
                  code | raised << 16);
        }
    }
    end_group("sweeps against single operations");
}

/* Sums over the whole range of binary32 products: what is added and taken away again leaves
 * exactly the rest, in any order. */
static void wide_sums(void)
{
    enum { TERMS = 64 };
    uint32_t a[2 * TERMS + 1], b[2 * TERMS + 1];
    for (int32_t round = 0; round < 2000; round++) {
        for (int32_t i = 0; i < TERMS; i++) {
            a[2 * i] = any_code(&BINARY32) & ~UINT32_C(0x00800000); /* finite */
            b[2 * i] = any_code(&BINARY32) & ~UINT32_C(0x00800000);
            a[2 * i + 1] = a[2 * i] ^ UINT32_C(0x80000000);
            b[2 * i + 1] = b[2 * i];
        }
        a[2 * TERMS] = any_code(&BINARY32) & ~UINT32_C(0x00800000);
        b[2 * TERMS] = 0x3F800000; /* 1 */
        const uint32_t rest = a[2 * TERMS] & INT32_MAX ? a[2 * TERMS] : 0;
        for (int32_t i = 2 * TERMS; i > 0; i--) {
            const int32_t j = (int32_t)(any() % (uint64_t)(i + 1));
            const uint32_t swap_a = a[i], swap_b = b[i];
            a[i] = a[j], b[i] = b[j];
            a[j] = swap_a, b[j] = swap_b;
        }
        uint32_t flags;
        equal("dot", (uint64_t)round,
              ref_dot(&BINARY32, a, &BINARY32, b, 2 * TERMS + 1, &BINARY32, REF_NEAREST_EVEN,
                      REF_SPECIAL, 0, 0, &flags),
              rest);
        equal("flags", (uint64_t)round, flags, 0);
    }
    end_group("cancelling sums over the whole binary32 range");
}

/* ---- steps and GEMM ------------------------------------------------------------------------ */

static ref_profile plain_profile(void)
{
    return (ref_profile){.a = HFP8_143,
                         .b = HFP8_152_HW,
                         .accumulator = DLFLOAT16,
                         .between = DLFLOAT16,
                         .chunk_length = 64,
                         .products_per_step = 1,
                         .rounding = REF_NEAREST_AWAY,
                         .between_rounding = REF_NEAREST_AWAY,
                         .random_bits = 13,
                         .overflow = REF_SPECIAL};
}

static void steps(void)
{
    const uint32_t no_random[2] = {0, 0};
    ref_profile p = plain_profile();
    p.products_per_step = 2;
    for (int32_t i = 0; i < 200000; i++) {
        const uint32_t a[2] = {any_code(&p.a), any_code(&p.a)};
        const uint32_t b[2] = {any_code(&p.b), any_code(&p.b)};
        const uint32_t acc = any_code(&p.accumulator), random[2] = {any() & 8191, any() & 8191};
        p.rounding = (int32_t)(any() % 9);
        uint32_t f[4], code[4];

        /* one product of a chain is an fma */
        p.sum_order = REF_CHAIN;
        code[0] = ref_step(&p, acc, a, b, 2, random, &f[0]);
        code[1] = ref_fma(&p.a, a[0], &p.b, b[0], &p.accumulator, acc, p.rounding, p.overflow, 13,
                          random[0], &f[1]);
        code[2] = ref_fma(&p.a, a[1], &p.b, b[1], &p.accumulator, code[1], p.rounding, p.overflow,
                          13, random[1], &f[2]);
        equal("chain", acc, code[0] | f[0] << 16, code[2] | (f[1] | f[2]) << 16);

        p.sum_order = REF_PAIR_FIRST;
        code[0] = ref_step(&p, acc, a, b, 2, random, &f[0]);
        code[1] = ref_dot(&p.a, a, &p.b, b, 2, &p.accumulator, p.rounding, p.overflow, 13,
                          random[0], &f[1]);
        code[2] = ref_add(&p.accumulator, acc, &p.accumulator, code[1], p.rounding, p.overflow, 13,
                          random[1], &f[2]);
        equal("pair first", acc, code[0] | f[0] << 16, code[2] | (f[1] | f[2]) << 16);

        /* guard bits beyond all terms change nothing */
        p.sum_order = REF_FUSED;
        code[0] = ref_step(&p, acc, a, b, 2, random, &f[0]);
        p.sum_order = REF_ALIGNED;
        p.guard_bits = 64;
        code[1] = ref_step(&p, acc, a, b, 2, random, &f[1]);
        equal("aligned 64", acc, code[0] | f[0] << 16, code[1] | f[1] << 16);
    }
    /* 1 + 2^-10 + 2^-10: lost one by one, kept together; 13 guard bits keep, 9 drop them */
    p = plain_profile();
    p.a = p.b = p.accumulator = p.between = DLFLOAT16;
    p.products_per_step = 2;
    p.rounding = REF_TOWARD_ZERO;
    const uint32_t tiny[2] = {0x3400, 0x3400}, also_tiny[2] = {0x3400, 0x3400};
    equal("2^-5", 0, ref_decode(&DLFLOAT16, 0x3400), UINT64_C(0x3FA0000000000000));
    p.sum_order = REF_FUSED;
    equal("fused", 0, ref_step(&p, 0x3E00, tiny, also_tiny, 2, no_random, NULL), 0x3E01);
    p.sum_order = REF_CHAIN;
    equal("chain", 0, ref_step(&p, 0x3E00, tiny, also_tiny, 2, no_random, NULL), 0x3E00);
    p.sum_order = REF_PAIR_FIRST;
    equal("pair", 0, ref_step(&p, 0x3E00, tiny, also_tiny, 2, no_random, NULL), 0x3E01);
    p.sum_order = REF_ALIGNED;
    p.guard_bits = 9;
    equal("aligned 9", 0, ref_step(&p, 0x3E00, tiny, also_tiny, 2, no_random, NULL), 0x3E00);
    p.guard_bits = 10;
    equal("aligned 10", 0, ref_step(&p, 0x3E00, tiny, also_tiny, 2, no_random, NULL), 0x3E01);
    end_group("steps against their parts");
}

/* ref_gemm again, from the public single-step functions alone. */
static void gemm_again(const ref_profile *p, const uint32_t *a, const uint32_t *b, int64_t m,
                       int64_t n, int64_t k, uint64_t seed, uint64_t stream)
{
    enum { ROOM = 4096 };
    static uint32_t out[ROOM];
    static uint8_t flags[ROOM];
    ref_events events, expected = {0};
    equal("gemm", 0, (uint64_t)ref_gemm(p, a, b, m, n, k, seed, stream, out, &events, flags), 0);
    const int64_t length = p->chunk_length ? p->chunk_length : k;
    const int64_t width = p->products_per_step ? p->products_per_step : length;
    const bool two = p->sum_order == REF_PAIR_FIRST || p->sum_order == REF_CHAIN;
    for (int64_t i = 0; i < m * n; i++) {
        const uint64_t row = (uint64_t)(i / n), column = (uint64_t)(i % n);
        uint32_t x = ref_lfsr_start(seed, stream, row, column), total = 0, acc = 0, all = 0, f;
        for (int64_t start = 0; start < k; start += length) {
            acc = 0;
            const int64_t end = start + length < k ? start + length : k;
            for (int64_t first = start; first < end; first += width) {
                uint32_t pa[256], pb[256], R[2] = {0, 0};
                int64_t count = 0;
                while (count < width && first + count < end) {
                    pa[count] = a[(int64_t)row * k + first + count];
                    pb[count] = b[(first + count) * n + (int64_t)column];
                    count++;
                }
                for (uint64_t t = 0; t < (two ? 2u : 1u); t++) {
                    uint32_t w = ref_word(ref_key(seed, stream, 0), row, (uint64_t)first + t) ^
                                 ref_word(ref_key(seed, stream, 1), column, (uint64_t)first + t);
                    x = ref_lfsr_step(x);
                    if (p->random_source == REF_COUNTER)
                        w = ref_mix32(w);
                    R[t] = (p->random_source == REF_LFSR ? x : w) >> (32 - p->random_bits);
                    expected.draws += p->rounding >= REF_STOCHASTIC_A;
                }
                acc = ref_step(p, acc, pa, pb, count, R, &f);
                all |= f;
            }
            if (!p->chunk_length)
                continue;
            const uint64_t c = (uint64_t)(start / length);
            uint32_t w = ref_word(ref_key(seed, stream, 2), row, c) ^
                         ref_word(ref_key(seed, stream, 3), column, c);
            x = ref_lfsr_step(x);
            if (p->random_source == REF_COUNTER)
                w = ref_mix32(w);
            const uint32_t R = (p->random_source == REF_LFSR ? x : w) >> (32 - p->random_bits);
            expected.draws += p->between_rounding >= REF_STOCHASTIC_A;
            total = ref_add(&p->between, c ? total : 0, &p->accumulator, acc, p->between_rounding,
                            p->overflow, p->random_bits, R, &f);
            all |= f;
        }
        equal("code", (uint64_t)i, out[i], p->chunk_length ? total : acc);
        equal("flags", (uint64_t)i, flags[i], all);
    }
    equal("draws", 0, events.draws, expected.draws);
}

static void gemms(void)
{
    enum { M = 9, N = 7, K = 83 };
    static uint32_t a[M * K], b[K * N];
    for (int32_t i = 0; i < 240; i++) {
        ref_profile p = plain_profile();
        p.a = any() & 1 ? HFP8_143 : E5M2;
        p.accumulator = any() & 1 ? DLFLOAT16 : IEEE_169;
        p.between = any() & 1 ? BINARY32 : DLFLOAT16;
        p.chunk_length = (int32_t[]){0, 1, 5, 16, 64, 1000}[any() % 6];
        p.sum_order = (int32_t)(any() % 4);
        p.products_per_step = p.sum_order == REF_ALIGNED ? 1 + (int32_t)(any() % 9)
                              : p.sum_order != REF_FUSED ? 2
                                                         : (int32_t)(any() % 4);
        p.guard_bits = (int32_t)(any() % 20);
        p.rounding = (int32_t)(any() % 9);
        p.between_rounding = (int32_t)(any() % 9);
        p.random_bits = 1 + (int32_t)(any() % 24);
        p.random_source = (int32_t)(any() % 3);
        p.overflow = (int32_t)(any() % 3);
        check(ref_profile_problem(&p) == NULL, "profile", (uint64_t)i, 0, 0);
        for (int32_t j = 0; j < M * K; j++)
            a[j] = i % 3 ? any_code(&p.a) & 0xBF : any_code(&p.a);
        for (int32_t j = 0; j < K * N; j++)
            b[j] = i % 3 ? any_code(&p.b) & 0xBF : any_code(&p.b);
        gemm_again(&p, a, b, M, N, (int64_t)(any() % (K + 1)), any(), any());
    }
    end_group("GEMM against single steps");
}

/* Events of sums that can be followed by hand: 1, then 2^-10 seven times, nearest-away. */
static void events(void)
{
    ref_profile p = plain_profile();
    p.a = p.b = DLFLOAT16;
    p.chunk_length = 0;
    const uint32_t one = 0x3E00, less = 0x29FF /* (1 + 511/512) * 2^-11 */, max = 0x7FFE;
    uint32_t a[8] = {one, less, less, less, less, 0, 0, less}, b[8], out;
    for (int32_t i = 0; i < 8; i++)
        b[i] = one;
    ref_events e;
    equal("gemm", 0, (uint64_t)ref_gemm(&p, a, b, 1, 1, 8, 0, 0, &out, &e, NULL), 0);
    equal("stays", 0, out, one);
    equal("swamped", 0, e.swamped, 5);
    equal("others", 0, e.overflowed + e.underflowed + e.nan + e.draws, 0);

    const uint32_t c[4] = {max, max, one, one};
    equal("gemm", 1, (uint64_t)ref_gemm(&p, c, b, 1, 1, 4, 0, 0, &out, &e, NULL), 0);
    equal("NaN-Infinity", 1, out, 0x7FFF);
    equal("overflowed", 1, e.overflowed, 1);
    equal("NaN once", 1, e.nan, 1);
    equal("swamped", 1, e.swamped, 0); /* a sum that is NaN cannot be swamped */

    p.overflow = REF_SATURATE;
    equal("gemm", 2, (uint64_t)ref_gemm(&p, c, b, 1, 1, 4, 0, 0, &out, &e, NULL), 0);
    equal("saturated", 2, out, max);
    equal("overflowed", 2, e.overflowed, 1);
    equal("swamped", 2, e.swamped, 3); /* max + max, and + 1 twice: the code stays */
    end_group("events");
}

/* ---- vectors and handles ------------------------------------------------------------------- */

/* Vectors are those of the plain functions, and their answers are found again from the operands. */
static void vectors_are_answers(void)
{
    static ref_vector made[2000], again[2000];
    ref_coverage coverage = {0}, counted = {0};
    for (int32_t unit = REF_UNIT_CONVERT; unit <= REF_UNIT_ADD; unit++)
        for (int32_t order = REF_FUSED; order <= REF_CHAIN; order++) {
            ref_vector_request q = {.profile = {HFP8_143_HW, HFP8_152_HW, DLFLOAT16, IEEE_169},
                                    .unit = unit,
                                    .overflow = REF_SPECIAL,
                                    .random_bits = 13,
                                    .mode_count = 9,
                                    .modes = {0, 1, 2, 3, 4, 5, 6, 7, 8},
                                    .key = 7};
            q.profile.sum_order = order;
            q.profile.products_per_step = 2;
            q.profile.random_bits = 13;
            q.profile.overflow = REF_SPECIAL;
            check(!ref_vector_problem(&q), "request", (uint64_t)unit, 0, 0);
            ref_vectors(&q, 5, 2000, made, &coverage);
            for (int32_t i = 0; i < 2000; i++) {
                again[i] = made[i];
                again[i].result = again[i].flags = again[i].care = again[i].reads = 0xDEAD;
            }
            ref_vector_answers(&q, 2000, again, &counted);
            for (size_t i = 0; i < 2000; i++) {
                const ref_vector *v = &made[i], *w = &again[i];
                const int32_t mode = (int32_t)v->mode;
                uint32_t flags = 0, code = 0;
                equal("again", i, w->result ^ w->flags << 24, v->result ^ v->flags << 24);
                equal("masks", i, w->care ^ w->reads << 24, v->care ^ v->reads << 24);
                if (unit == REF_UNIT_CONVERT)
                    code = ref_convert(&BINARY32, v->a[0], &q.profile.a, mode, REF_SPECIAL, 13,
                                       v->random[0], &flags);
                else if (unit == REF_UNIT_ADD)
                    code = ref_add(&IEEE_169, v->acc, &DLFLOAT16, v->a[0], mode, REF_SPECIAL, 13,
                                   v->random[0], &flags);
                else if (unit == REF_UNIT_FMA)
                    code = ref_fma(&q.profile.a, v->a[0], &q.profile.b, v->b[0], &DLFLOAT16, v->acc,
                                   mode, REF_SPECIAL, 13, v->random[0], &flags);
                else
                    code = hfp8_fmma(word_of(&q.profile.a), v->a[0], v->a[1], word_of(&q.profile.b),
                                     v->b[0], v->b[1], word_of(&DLFLOAT16), v->acc, order, mode,
                                     REF_SPECIAL, 13, v->random[0], v->random[1], &flags);
                equal("result", i, v->result, code);
                equal("flags", i, v->flags, flags);
            }
            equal("coverage", (uint64_t)unit, counted.carry[2], coverage.carry[2]);
        }
    end_group("vectors");
}

/* Every shipped profile, product by product: the result of ref_gemm. */
static void streams(void)
{
    enum { LENGTH = 150 };
    for (int32_t profile = 1; profile <= SHIPPED_COUNT; profile++) {
        const int32_t own = hfp8_profile_copy(profile);
        hfp8_profile_set(own, HFP8_ROUNDING, REF_STOCHASTIC_A);
        ref_profile record;
        equal("problem", (uint64_t)profile, profile_of(own, &record) == NULL, 1);
        uint32_t a[3 * LENGTH], b[LENGTH], out[3];
        for (size_t i = 0; i < 3 * LENGTH; i++)
            a[i] = any_code(&record.a);
        for (size_t i = 0; i < LENGTH; i++)
            b[i] = any_code(&record.b);
        uint8_t flags[3];
        ref_gemm(&record, a, b, 3, 1, LENGTH, 9, 8, out, NULL, flags);
        for (uint64_t m = 0; m < 3; m++) {
            const int32_t handle = hfp8_mac_open(own, 9, 8, m, 0);
            uint32_t raised;
            for (size_t i = 0; i < LENGTH; i++)
                hfp8_mac_push(handle, a[m * LENGTH + i], b[i]);
            equal("stream", m, hfp8_mac_close(handle, &raised), out[m]);
            equal("flags of a stream", m, raised, flags[m]);
        }
        hfp8_profile_free(own);
    }
    equal("a profile that is none", 0, (uint64_t)hfp8_profile_copy(SHIPPED_COUNT + 1), 0);
    equal("a shipped profile", 0, (uint64_t)(hfp8_profile_set(1, 0, 0) == -1), 1);
    end_group("streams");
}

int main(void)
{
    golden_143();
    golden_152();
    golden_dlfloat16();
    golden_fma();
    identities();
    tables();
    corners();
    random_words();
    fast_sums();
    sweeps();
    wide_sums();
    steps();
    gemms();
    events();
    vectors_are_answers();
    streams();
    printf(status ? "FAILED\n" : "all good\n");
    return status;
}
