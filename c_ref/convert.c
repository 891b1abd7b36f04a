/* convert.c: format to format, one code and arrays of codes (numerics.md 2). */
#include "internal.h"

static const ref_format BINARY64 = {11, 52, 1023, 1, REF_ZERO_SIGNED, REF_LOWEST_SUBNORMAL,
                                    REF_SPECIAL_IEEE};

uint64_t ref_decode(const ref_format *format, uint64_t code)
{
    const layout source = layout_of(format), target = layout_of(&BINARY64);
    uint32_t flags = 0;
    return round_pack(&target, unpack(&source, code),
                      (rounding){REF_NEAREST_EVEN, REF_SPECIAL, 0, 0}, &flags);
}

uint32_t ref_convert(const ref_format *source, uint64_t code, const ref_format *target,
                     int32_t mode, int32_t overflow, int32_t random_bits, uint32_t random,
                     uint32_t *flags)
{
    const layout from = layout_of(source), to = layout_of(target);
    uint32_t raised = 0;
    const uint64_t result = round_pack(&to, unpack(&from, code),
                                       (rounding){mode, overflow, random_bits, random}, &raised);
    if (flags)
        *flags = raised;
    return (uint32_t)result;
}

/* One element of an array function; returns whether the caller must raise. */
static bool convert_element(const layout *from, const layout *to, uint64_t code, rounding how,
                            uint32_t *out, uint8_t *flags)
{
    uint32_t raised = 0;
    *out = (uint32_t)round_pack(to, unpack(from, code), how, &raised);
    if (flags)
        *flags = (uint8_t)raised;
    return ref_is_error(raised, how.overflow) != 0;
}

/* One of `narrow` and `wide` holds the n codes, the other is NULL. */
static int64_t convert_array(const ref_format *source, const uint32_t *narrow,
                             const uint64_t *wide, int64_t n, const ref_format *target,
                             rounding how, const uint32_t *random, uint32_t *out, uint8_t *flags)
{
    const layout from = layout_of(source), to = layout_of(target);
    int64_t first_error = -1;
    for (int64_t i = 0; i < n; i++) {
        const uint64_t code = narrow ? narrow[i] : wide[i];
        how.random = random ? random[i] : 0;
        const bool error =
            convert_element(&from, &to, code, how, &out[i], flags ? &flags[i] : NULL);
        if (error && first_error < 0)
            first_error = i;
    }
    return first_error;
}

int64_t ref_convert_array(const ref_format *source, const uint32_t *codes, int64_t n,
                          const ref_format *target, int32_t mode, int32_t overflow,
                          int32_t random_bits, const uint32_t *random, uint32_t *out,
                          uint8_t *flags)
{
    return convert_array(source, codes, NULL, n, target,
                         (rounding){mode, overflow, random_bits, 0}, random, out, flags);
}

int64_t ref_convert_array64(const ref_format *source, const uint64_t *codes, int64_t n,
                            const ref_format *target, int32_t mode, int32_t overflow,
                            int32_t random_bits, const uint32_t *random, uint32_t *out,
                            uint8_t *flags)
{
    return convert_array(source, NULL, codes, n, target,
                         (rounding){mode, overflow, random_bits, 0}, random, out, flags);
}

FLATTEN void ref_convert_sweep(const ref_format *source, uint64_t start, int64_t count,
                               const ref_format *target, int32_t mode, int32_t overflow,
                               int32_t random_bits, uint32_t random, uint32_t *out,
                               uint8_t *flags)
{
    const layout from = layout_of(source), to = layout_of(target);
    const rounding how = {mode, overflow, random_bits, random};
    for (int64_t i = 0; i < count; i++)
        convert_element(&from, &to, start + (uint64_t)i, how, &out[i], flags ? &flags[i] : NULL);
}
