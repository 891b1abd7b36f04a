/* hfp8_dpi.h: the reference for a test bench: scalars only, formats and profiles by number.
 *
 * A thin layer over hfp8_ref.h for SystemVerilog (DPI-C), Python (ctypes), and C or C++ that prefers numbers to
 * records. hfp8_ref_pkg.sv is generated from this file: `python -m docs.pages`. Every function may be called from
 * several threads; one profile or one mac is for one thread at a time. */
#ifndef HFP8_DPI_H
#define HFP8_DPI_H

#include <stdint.h>

#include "hfp8_names.h"

#ifdef __cplusplus
extern "C" {
#endif

/* >>> dpi */

/* A flag beside those of hfp8_ref.h: an argument is out of its range; the result is 0. */
#define HFP8_BAD_ARGUMENT 32

/* Fields of a profile, for hfp8_profile_get and hfp8_profile_set. */
#define HFP8_A_FORMAT 0
#define HFP8_B_FORMAT 1
#define HFP8_ACCUMULATOR 2
#define HFP8_BETWEEN 3
#define HFP8_CHUNK_LENGTH 4
#define HFP8_PRODUCTS_PER_STEP 5
#define HFP8_SUM_ORDER 6
#define HFP8_GUARD_BITS 7
#define HFP8_ROUNDING 8
#define HFP8_BETWEEN_ROUNDING 9
#define HFP8_RANDOM_BITS 10
#define HFP8_RANDOM_SOURCE 11
#define HFP8_OVERFLOW 12

/* The version of hfp8sim that this library belongs to. */
const char *hfp8_version(void);

/* ---- formats: a number holds all facts of its format. HFP8_FORMAT_... are those that are shipped ---- */

/* The number of a format whose facts are those of ref_format, or 0 if there is no such format. The bias
 * is -2048..2047. */
uint32_t hfp8_format(int32_t exponent_bits, int32_t fraction_bits, int32_t bias, int32_t is_signed,
                     int32_t zero, int32_t lowest, int32_t special);

/* The bits of a code, or 0 if that is no format. */
int32_t hfp8_format_bits(uint32_t format);

/* The bits of a code that the specification defines: not the sign and the payload of a NaN. */
uint32_t hfp8_defined_bits(uint32_t format, uint32_t code);

/* The value of a code as the bits of an IEEE binary64: $bitstoreal(hfp8_decode(...)). */
uint64_t hfp8_decode(uint32_t format, uint32_t code);

/* ---- units. mode, overflow and flags: REF_... of hfp8_ref.h; random: an integer of random_bits bits, which only
 * stochastic modes read. `flags` may be NULL ---- */

uint32_t hfp8_convert(uint32_t source, uint32_t code, uint32_t target, int32_t mode,
                      int32_t overflow, int32_t random_bits, uint32_t random, uint32_t *flags);

/* From the bits of an IEEE binary64: $realtobits(x). */
uint32_t hfp8_convert64(uint64_t binary64, uint32_t target, int32_t mode, int32_t overflow,
                        int32_t random_bits, uint32_t random, uint32_t *flags);

/* round(acc + a * b) */
uint32_t hfp8_fma(uint32_t a_format, uint32_t a, uint32_t b_format, uint32_t b,
                  uint32_t acc_format, uint32_t acc, int32_t mode, int32_t overflow,
                  int32_t random_bits, uint32_t random, uint32_t *flags);

/* One step of two products: round(acc + a0 * b0 + a1 * b1), or two roundings with the sum orders REF_PAIR_FIRST
 * and REF_CHAIN. random1 is that of the second rounding. */
uint32_t hfp8_fmma(uint32_t a_format, uint32_t a0, uint32_t a1, uint32_t b_format, uint32_t b0,
                   uint32_t b1, uint32_t acc_format, uint32_t acc, int32_t sum_order, int32_t mode,
                   int32_t overflow, int32_t random_bits, uint32_t random0, uint32_t random1,
                   uint32_t *flags);

/* round(total + chunk), in the total's format. */
uint32_t hfp8_add(uint32_t total_format, uint32_t total, uint32_t chunk_format, uint32_t chunk,
                  int32_t mode, int32_t overflow, int32_t random_bits, uint32_t random,
                  uint32_t *flags);

/* ---- profiles: HFP8_PROFILE_... are those that are shipped, and cannot be changed ---- */

/* A profile of your own, at first equal to another one. 0 if that is none, or 255 are in use. */
int32_t hfp8_profile_copy(int32_t profile);
void hfp8_profile_free(int32_t profile);

/* A field, or 0 if profile or field is none. */
uint32_t hfp8_profile_get(int32_t profile, int32_t field);

/* 0, or -1 if there is no such field or the profile cannot be changed. */
int32_t hfp8_profile_set(int32_t profile, int32_t field, uint32_t value);

/* "", or one line that says why the profile cannot be used. */
const char *hfp8_profile_problem(int32_t profile);

/* ---- the chunk accumulator, product by product ---- */

/* Output (m, n) of a GEMM: random words are those of seed and stream. 0 if the profile has a problem, or 255 are
 * open. */
int32_t hfp8_mac_open(int32_t profile, uint64_t seed, uint64_t stream, uint64_t m, uint64_t n);

/* The next product; the register of the chunk in progress after it, which is 0 after a chunk's end. */
uint32_t hfp8_mac_push(int32_t mac, uint32_t a, uint32_t b);

/* The running total of the chunks so far. */
uint32_t hfp8_mac_total(int32_t mac);

/* The result; frees the mac. `flags` are those of all its roundings. */
uint32_t hfp8_mac_close(int32_t mac, uint32_t *flags);

/* <<< dpi */

#ifdef __cplusplus
}
#endif

#endif
