/* handles.c: the functions of hfp8_dpi.h. No arithmetic: they check numbers, and call the reference. */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "hfp8_dpi.h"
#include "internal.h"

static uint32_t refuse(uint32_t *flags)
{
    if (flags)
        *flags = HFP8_BAD_ARGUMENT;
    return 0;
}

/* ---- formats ------------------------------------------------------------------------------ */

/* A format's number is the word that the machine's registers hold (docs/isa.md). From the top: 12 bits of bias, 2
 * zero bits, 3 of special, 2 of lowest, 2 of zero, 1 of is_signed, 5 of fraction bits, 5 of exponent bits. */
static bool format_of(uint32_t word, ref_format *format)
{
    *format = (ref_format){.exponent_bits = (int32_t)(word & 31),
                           .fraction_bits = (int32_t)(word >> 5 & 31),
                           .bias = (int32_t)(word >> 20) - (word >> 31 ? 4096 : 0),
                           .is_signed = (int32_t)(word >> 10 & 1),
                           .zero = (int32_t)(word >> 11 & 3),
                           .lowest = (int32_t)(word >> 13 & 3),
                           .special = (int32_t)(word >> 15 & 7)};
    return (word >> 18 & 3) == 0 && !ref_format_problem(format);
}

static uint32_t word_of(const ref_format *f)
{
    return ((uint32_t)f->bias & 0xFFF) << 20 | (uint32_t)f->special << 15 |
           (uint32_t)f->lowest << 13 | (uint32_t)f->zero << 11 | (uint32_t)(f->is_signed != 0) << 10 |
           (uint32_t)f->fraction_bits << 5 | (uint32_t)f->exponent_bits;
}

uint32_t hfp8_format(int32_t exponent_bits, int32_t fraction_bits, int32_t bias, int32_t is_signed,
                     int32_t zero, int32_t lowest, int32_t special)
{
    const ref_format format = {exponent_bits, fraction_bits, bias, is_signed, zero, lowest, special};
    if (bias < -2048 || bias > 2047 || ref_format_problem(&format))
        return 0;
    return word_of(&format);
}

int32_t hfp8_format_bits(uint32_t format)
{
    ref_format f;
    return format_of(format, &f) ? f.exponent_bits + f.fraction_bits + f.is_signed : 0;
}

uint32_t hfp8_defined_bits(uint32_t format, uint32_t code)
{
    ref_format f;
    if (!format_of(format, &f))
        return 0;
    const layout d = layout_of(&f);
    return defined_bits(&d, code);
}

uint64_t hfp8_decode(uint32_t format, uint32_t code)
{
    ref_format f;
    return format_of(format, &f) ? ref_decode(&f, code) : 0;
}

/* ---- units -------------------------------------------------------------------------------- */

static bool can_round(int32_t mode, int32_t overflow, int32_t random_bits, uint32_t random)
{
    if (mode < 0 || mode > REF_STOCHASTIC_C || overflow < 0 || overflow > REF_ERROR)
        return false;
    return !is_stochastic(mode) ||
           (random_bits >= 1 && random_bits <= 24 && random >> random_bits == 0);
}

uint32_t hfp8_convert(uint32_t source, uint32_t code, uint32_t target, int32_t mode,
                      int32_t overflow, int32_t random_bits, uint32_t random, uint32_t *flags)
{
    ref_format from, to;
    if (!format_of(source, &from) || !format_of(target, &to) ||
        !can_round(mode, overflow, random_bits, random))
        return refuse(flags);
    return ref_convert(&from, code, &to, mode, overflow, random_bits, random, flags);
}

uint32_t hfp8_convert64(uint64_t binary64, uint32_t target, int32_t mode, int32_t overflow,
                        int32_t random_bits, uint32_t random, uint32_t *flags)
{
    ref_format to;
    if (!format_of(target, &to) || !can_round(mode, overflow, random_bits, random))
        return refuse(flags);
    return ref_convert(&BINARY64, binary64, &to, mode, overflow, random_bits, random, flags);
}

uint32_t hfp8_fma(uint32_t a_format, uint32_t a, uint32_t b_format, uint32_t b,
                  uint32_t acc_format, uint32_t acc, int32_t mode, int32_t overflow,
                  int32_t random_bits, uint32_t random, uint32_t *flags)
{
    ref_format of_a, of_b, of_acc;
    if (!format_of(a_format, &of_a) || !format_of(b_format, &of_b) ||
        !format_of(acc_format, &of_acc) || !can_round(mode, overflow, random_bits, random))
        return refuse(flags);
    return ref_fma(&of_a, a, &of_b, b, &of_acc, acc, mode, overflow, random_bits, random, flags);
}

uint32_t hfp8_fmma(uint32_t a_format, uint32_t a0, uint32_t a1, uint32_t b_format, uint32_t b0,
                   uint32_t b1, uint32_t acc_format, uint32_t acc, int32_t sum_order, int32_t mode,
                   int32_t overflow, int32_t random_bits, uint32_t random0, uint32_t random1,
                   uint32_t *flags)
{
    ref_profile p = {.products_per_step = 2,
                     .sum_order = sum_order,
                     .rounding = mode,
                     .between_rounding = mode,
                     .random_bits = random_bits,
                     .overflow = overflow};
    if (!format_of(a_format, &p.a) || !format_of(b_format, &p.b) ||
        !format_of(acc_format, &p.accumulator) || sum_order < 0 || sum_order > REF_CHAIN ||
        !can_round(mode, overflow, random_bits, random0 | random1))
        return refuse(flags);
    const uint32_t a[2] = {a0, a1}, b[2] = {b0, b1}, random[2] = {random0, random1};
    return ref_step(&p, acc, a, b, 2, random, flags);
}

uint32_t hfp8_add(uint32_t total_format, uint32_t total, uint32_t chunk_format, uint32_t chunk,
                  int32_t mode, int32_t overflow, int32_t random_bits, uint32_t random,
                  uint32_t *flags)
{
    ref_format of_total, of_chunk;
    if (!format_of(total_format, &of_total) || !format_of(chunk_format, &of_chunk) ||
        !can_round(mode, overflow, random_bits, random))
        return refuse(flags);
    return ref_add(&of_total, total, &of_chunk, chunk, mode, overflow, random_bits, random, flags);
}

/* ---- profiles ----------------------------------------------------------------------------- */

#define FIELDS 13
#define SLOTS 256

/* The fields of a profile in the order of HFP8_A_FORMAT ... HFP8_OVERFLOW. */
static const uint32_t SHIPPED[][FIELDS] = HFP8_PROFILES;
static const int32_t SHIPPED_COUNT = sizeof SHIPPED / sizeof SHIPPED[0];

/* Profiles of the caller's own: slot i has the number SLOTS + i. */
static struct own_profile {
    atomic_flag used;
    uint32_t fields[FIELDS];
} own_profiles[SLOTS];

static struct own_profile *own_profile(int32_t profile)
{
    return profile > SLOTS && profile < 2 * SLOTS ? &own_profiles[profile - SLOTS] : NULL;
}

static const uint32_t *fields_of(int32_t profile)
{
    if (profile >= 1 && profile <= SHIPPED_COUNT)
        return SHIPPED[profile - 1];
    const struct own_profile *own = own_profile(profile);
    return own ? own->fields : NULL;
}

int32_t hfp8_profile_copy(int32_t profile)
{
    const uint32_t *fields = fields_of(profile);
    for (int32_t i = 1; fields && i < SLOTS; i++)
        if (!atomic_flag_test_and_set(&own_profiles[i].used)) {
            memcpy(own_profiles[i].fields, fields, sizeof own_profiles[i].fields);
            return SLOTS + i;
        }
    return 0;
}

void hfp8_profile_free(int32_t profile)
{
    struct own_profile *own = own_profile(profile);
    if (own)
        atomic_flag_clear(&own->used);
}

uint32_t hfp8_profile_get(int32_t profile, int32_t field)
{
    const uint32_t *fields = fields_of(profile);
    return fields && field >= 0 && field < FIELDS ? fields[field] : 0;
}

int32_t hfp8_profile_set(int32_t profile, int32_t field, uint32_t value)
{
    struct own_profile *own = own_profile(profile);
    if (!own || field < 0 || field >= FIELDS || (field > HFP8_BETWEEN && value > INT32_MAX))
        return -1;
    own->fields[field] = value;
    return 0;
}

/* NULL, or why the fields of a profile make no record. */
static const char *profile_of(int32_t profile, ref_profile *record)
{
    const uint32_t *v = fields_of(profile);
    if (!v)
        return "there is no profile of this number";
    if (!format_of(v[HFP8_A_FORMAT], &record->a) || !format_of(v[HFP8_B_FORMAT], &record->b) ||
        !format_of(v[HFP8_ACCUMULATOR], &record->accumulator) ||
        !format_of(v[HFP8_BETWEEN], &record->between))
        return "there is no format of this number";
    record->chunk_length = (int32_t)v[HFP8_CHUNK_LENGTH];
    record->products_per_step = (int32_t)v[HFP8_PRODUCTS_PER_STEP];
    record->sum_order = (int32_t)v[HFP8_SUM_ORDER];
    record->guard_bits = (int32_t)v[HFP8_GUARD_BITS];
    record->rounding = (int32_t)v[HFP8_ROUNDING];
    record->between_rounding = (int32_t)v[HFP8_BETWEEN_ROUNDING];
    record->random_bits = (int32_t)v[HFP8_RANDOM_BITS];
    record->random_source = (int32_t)v[HFP8_RANDOM_SOURCE];
    record->overflow = (int32_t)v[HFP8_OVERFLOW];
    return ref_profile_problem(record);
}

const char *hfp8_profile_problem(int32_t profile)
{
    ref_profile record;
    const char *problem = profile_of(profile, &record);
    return problem ? problem : "";
}

/* ---- the chunk accumulator ---------------------------------------------------------------- */

typedef struct mac {
    ref_profile profile;
    ref_events events;
    task t;
    lane l;
    size_t room; /* of t.products */
} mac;

static atomic_flag macs_used[SLOTS];
static mac *macs[SLOTS];

static mac *mac_of(int32_t handle)
{
    return handle > 0 && handle < SLOTS ? macs[handle] : NULL;
}

int32_t hfp8_mac_open(int32_t profile, uint64_t seed, uint64_t stream, uint64_t m, uint64_t n)
{
    ref_profile record;
    if (profile_of(profile, &record))
        return 0;
    for (int32_t i = 1; i < SLOTS; i++) {
        if (atomic_flag_test_and_set(&macs_used[i]))
            continue;
        mac *x = calloc(1, sizeof *x);
        if (x) {
            x->profile = record;
            x->t = task_of(&x->profile, seed, stream);
            x->l = lane_at(seed, stream, m, n, &x->events);
            macs[i] = x;
            return i;
        }
        atomic_flag_clear(&macs_used[i]);
        return 0;
    }
    return 0;
}

uint32_t hfp8_mac_push(int32_t handle, uint32_t a, uint32_t b)
{
    mac *x = mac_of(handle);
    if (!x)
        return 0;
    if (x->l.pending + 2 > x->room) { /* this product, and the accumulator */
        const size_t room = 2 * x->room + 2;
        struct number *products = realloc(x->t.products, room * sizeof *products);
        if (!products)
            abort(); /* a product must not be lost */
        x->t.products = products;
        x->room = room;
    }
    push(&x->t, &x->l, multiply(unpack(&x->t.a, a), unpack(&x->t.b, b)));
    return (uint32_t)x->l.acc;
}

uint32_t hfp8_mac_total(int32_t handle)
{
    const mac *x = mac_of(handle);
    return x ? (uint32_t)x->l.total : 0;
}

uint32_t hfp8_mac_close(int32_t handle, uint32_t *flags)
{
    mac *x = mac_of(handle);
    if (!x)
        return refuse(flags);
    const uint32_t result = finish(&x->t, &x->l);
    if (flags)
        *flags = x->l.o.flags;
    macs[handle] = NULL;
    free(x->t.products);
    free(x);
    atomic_flag_clear(&macs_used[handle]);
    return result;
}

const char *hfp8_version(void)
{
    return HFP8_VERSION;
}
