/* hfp8_ref.h: the integer-only reference of the arithmetic in docs/numerics.md.
 *
 * Every function is pure: no globals, no allocation that outlives a call, no generator behind a
 * rounding. A code is an unsigned integer in the low bits of its word: sign, exponent, fraction.
 * The part between the two marker lines is also what Python sees (c_ref/build.py reads it). */
#ifndef HFP8_REF_H
#define HFP8_REF_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* >>> cdef */

/* ---- facts -------------------------------------------------------------------------------- */

/* ref_format.zero */
#define REF_ZERO_SIGNED 0   /* +0 and -0 */
#define REF_ZERO_UNSIGNED 1 /* one zero */
#define REF_ZERO_NONE 2     /* code 0 is the number 2^-bias */

/* ref_format.lowest: exponent field 0 with a fraction f != 0 */
#define REF_LOWEST_SUBNORMAL 0 /* f * 2^(1-bias-F) */
#define REF_LOWEST_NORMAL 1    /* (1 + f/2^F) * 2^-bias */
#define REF_LOWEST_FLUSH 2     /* zero, never produced */

/* ref_format.special */
#define REF_SPECIAL_NONE 0
#define REF_SPECIAL_IEEE 1
#define REF_SPECIAL_FN 2
#define REF_SPECIAL_FNUZ 3
#define REF_SPECIAL_NAN_INF 4
#define REF_SPECIAL_P3109_EXTENDED 5
#define REF_SPECIAL_P3109_FINITE 6

/* rounding modes */
#define REF_NEAREST_EVEN 0
#define REF_NEAREST_AWAY 1
#define REF_TOWARD_ZERO 2
#define REF_TOWARD_POSITIVE 3
#define REF_TOWARD_NEGATIVE 4
#define REF_TO_ODD 5
#define REF_STOCHASTIC_A 6
#define REF_STOCHASTIC_B 7
#define REF_STOCHASTIC_C 8

/* overflow policies. ERROR gives SPECIAL's code; the caller raises where ref_is_error says so. */
#define REF_SATURATE 0
#define REF_SPECIAL 1
#define REF_ERROR 2

/* flags, a bit set */
#define REF_INEXACT 1
#define REF_OVERFLOW 2
#define REF_UNDERFLOW 4
#define REF_INVALID 8
#define REF_NO_CODE 16 /* the format has no code for the result (code 0 is returned): an error */

/* ref_profile.sum_order */
#define REF_FUSED 0
#define REF_PAIR_FIRST 1
#define REF_CHAIN 2
#define REF_ALIGNED 3

/* ref_profile.random_source */
#define REF_ROW_COLUMN 0
#define REF_COUNTER 1
#define REF_LFSR 2

/* sites of random numbers */
#define REF_SITE_ACCUMULATE_ROW 0
#define REF_SITE_ACCUMULATE_COLUMN 1
#define REF_SITE_BETWEEN_ROW 2
#define REF_SITE_BETWEEN_COLUMN 3
#define REF_SITE_CONVERT 4
#define REF_SITE_UPDATE 5
#define REF_SITE_UNSCALE 6
#define REF_SITE_DECAY 7
#define REF_SITE_MOMENTUM 8
#define REF_SITE_MOMENTUM_PRODUCT 9
#define REF_SITE_NESTEROV 10
#define REF_SITE_SECOND_MOMENT 11
#define REF_SITE_EFFECTIVE 12
#define REF_SITE_RESIDUAL 13
#define REF_SITE_RESULT 14
#define REF_SITE_SOFTMAX 15
#define REF_SITE_REDUCE 16
#define REF_SITE_RESIDUE 17
#define REF_SITE_MIX 18
#define REF_SITE_EXCHANGE 19
#define REF_SITE_STREAM_A_ROW 20 /* bit streams; 21 to 23 are A's column, B's row and column */
#define REF_SITE_BIAS 24
#define REF_SITE_NORM 25

/* A format. 0 <= E <= 11, 0 <= F <= 23, |bias| <= 4095, at most 32 bits; as the source of a
 * conversion also binary64 (E = 11, F = 52). */
typedef struct ref_format {
    int32_t exponent_bits;
    int32_t fraction_bits;
    int32_t bias;
    int32_t is_signed;
    int32_t zero;
    int32_t lowest;
    int32_t special;
} ref_format;

/* How a GEMM accumulates. The result has the format `between` if chunk_length > 0, else
 * `accumulator`. `overflow` holds for both. */
typedef struct ref_profile {
    ref_format a;
    ref_format b;
    ref_format accumulator;
    ref_format between;
    int32_t chunk_length;      /* 0: no chunks */
    int32_t products_per_step; /* 0 (fused only): all products of the chunk */
    int32_t sum_order;
    int32_t guard_bits;        /* aligned only */
    int32_t rounding;          /* inside a chunk */
    int32_t between_rounding;  /* the running total and the first chunk's copy */
    int32_t random_bits;       /* r, 1..24; read by the stochastic modes only */
    int32_t random_source;
    int32_t overflow;
} ref_profile;

/* ref_update.rule; `master` is AXPY with every site in binary32 */
#define REF_RULE_AXPY 0
#define REF_RULE_WIDE 1
#define REF_RULE_SMALL 2
#define REF_RULE_NAIVE 3

/* ref_update.optimiser */
#define REF_SGD 0
#define REF_ADAM 1

/* A rounding of a training step. Every number of the format is a binary32 number. */
typedef struct ref_site {
    ref_format format;
    int32_t mode;
    int32_t overflow;
    int32_t random_bits;
} ref_site;

/* How weights are updated. Constants are the bits of finite binary32 numbers. */
typedef struct ref_update {
    int32_t rule;
    int32_t optimiser;
    int32_t momentum_roundings; /* 1, or 2 with SGD */
    int32_t nesterov;           /* SGD only */
    ref_site unscale;
    ref_site decay;
    ref_site momentum;
    ref_site second;
    ref_site weight;
    ref_site residual;      /* rules but AXPY */
    uint32_t scale;         /* s > 0 */
    uint32_t decay_rate;    /* lambda; 0: no rounding */
    uint32_t momentum_rate; /* mu or beta_1; 0 with SGD: no rounding */
    uint32_t gain;          /* tau or 1 - beta_1 */
    uint32_t second_rate;   /* beta_2 */
    uint32_t second_gain;   /* 1 - beta_2 */
    uint32_t correction;    /* b > 0 */
    uint32_t epsilon;
    uint32_t rate;          /* alpha */
    uint32_t shrink;        /* kappa */
} ref_update;

/* An element's state, bits of binary32. */
typedef struct ref_element {
    uint32_t weight;
    uint32_t residual;
    uint32_t momentum;
    uint32_t second;
} ref_element;

/* What the roundings of an update met, by the number of the site. */
typedef struct ref_update_counts {
    uint64_t overflowed[17];
    uint64_t underflowed[17];
    uint64_t stuck;
} ref_update_counts;

/* What happened in a GEMM. */
typedef struct ref_events {
    uint64_t swamped;     /* steps with finite terms and a non-zero exact sum of products after
                             which the accumulator's code is what it was */
    uint64_t overflowed;  /* roundings that raised REF_OVERFLOW, between-chunk ones included */
    uint64_t underflowed; /* roundings that raised REF_UNDERFLOW, between-chunk ones included */
    uint64_t nan;         /* outputs whose accumulator or total became NaN (counted once each) */
    uint64_t draws;       /* random words used by stochastic roundings */
} ref_events;

/* NULL if the record can be used, else one line that says why not. */
const char *ref_format_problem(const ref_format *format);
const char *ref_profile_problem(const ref_profile *profile);

/* Whether an array function must raise for these flags under this policy. */
int32_t ref_is_error(uint32_t flags, int32_t overflow);

/* ---- rounding.c --------------------------------------------------------------------------- */

/* The exact value (-1)^negative * significand * 2^exponent (|exponent| < 2^30), rounded once.
 * `random` is R, an integer of random_bits bits, which only the stochastic modes read. *flags (may be NULL) is overwritten, as in all functions below. */
uint32_t ref_round(const ref_format *format, int32_t negative, uint64_t significand,
                   int32_t exponent, int32_t mode, int32_t overflow, int32_t random_bits,
                   uint32_t random, uint32_t *flags);

/* ---- convert.c ---------------------------------------------------------------------------- */

/* The value of a code as the bits of an IEEE binary64 (NaN: 0x7FF8000000000000). */
uint64_t ref_decode(const ref_format *format, uint64_t code);

uint32_t ref_convert(const ref_format *source, uint64_t code, const ref_format *target,
                     int32_t mode, int32_t overflow, int32_t random_bits, uint32_t random,
                     uint32_t *flags);

/* n codes. `random` holds n integers R, or is NULL for R = 0; `flags` holds n bytes or is NULL.
 * Returns the first index at which ref_is_error, or -1; all n results are written anyway. */
int64_t ref_convert_array(const ref_format *source, const uint32_t *codes, int64_t n,
                          const ref_format *target, int32_t mode, int32_t overflow,
                          int32_t random_bits, const uint32_t *random, uint32_t *out,
                          uint8_t *flags);
int64_t ref_convert_array64(const ref_format *source, const uint64_t *codes, int64_t n,
                            const ref_format *target, int32_t mode, int32_t overflow,
                            int32_t random_bits, const uint32_t *random, uint32_t *out,
                            uint8_t *flags);

/* Every code in [start, start + count) of the source, with one R for all. */
void ref_convert_sweep(const ref_format *source, uint64_t start, int64_t count,
                       const ref_format *target, int32_t mode, int32_t overflow,
                       int32_t random_bits, uint32_t random, uint32_t *out, uint8_t *flags);

/* ---- random.c ----------------------------------------------------------------------------- */

uint64_t ref_mix64(uint64_t z);
uint32_t ref_mix32(uint32_t x);
uint64_t ref_key(uint64_t seed, uint64_t stream, uint64_t site);
uint32_t ref_word(uint64_t key, uint64_t i, uint64_t j);
uint32_t ref_lfsr_start(uint64_t seed, uint64_t stream, uint64_t m, uint64_t n);
uint32_t ref_lfsr_step(uint32_t x);

/* The integers R of elements first .. first + n - 1 of a conversion. */
void ref_convert_random(uint64_t seed, uint64_t stream, int32_t random_bits, uint64_t first,
                        int64_t n, uint32_t *random);

/* ---- mac.c -------------------------------------------------------------------------------- */

/* round(acc + a * b) */
uint32_t ref_fma(const ref_format *a_format, uint32_t a, const ref_format *b_format, uint32_t b,
                 const ref_format *acc_format, uint32_t acc, int32_t mode, int32_t overflow,
                 int32_t random_bits, uint32_t random, uint32_t *flags);

/* round(total + addend), both codes of formats of their own, the result in the total's. */
uint32_t ref_add(const ref_format *total_format, uint32_t total, const ref_format *addend_format,
                 uint32_t addend, int32_t mode, int32_t overflow, int32_t random_bits,
                 uint32_t random, uint32_t *flags);

/* The most products that ref_step takes (ref_gemm and ref_dot know no such limit). */
#define REF_STEP_PRODUCTS 256

/* One step of a profile with n <= REF_STEP_PRODUCTS products, and n <= 2 for pair-first and
 * chain. random[0] is the R of the first rounding, random[1] that of the second (pair-first and
 * chain only). *flags is the union over the step's roundings. fmma is REF_FUSED with n = 2. */
uint32_t ref_step(const ref_profile *profile, uint32_t acc, const uint32_t *a, const uint32_t *b,
                  int64_t n, const uint32_t *random, uint32_t *flags);

/* fma for one (a, b) and every accumulator code 0 .. 2^bits - 1 (bits <= 16). `flags`: one byte
 * per code, or NULL. */
void ref_fma_sweep(const ref_format *a_format, uint32_t a, const ref_format *b_format, uint32_t b,
                   const ref_format *acc_format, int32_t mode, int32_t overflow,
                   int32_t random_bits, uint32_t random, uint16_t *out, uint8_t *flags);

/* The same for the exact product (-1)^negative * significand * 2^exponent (significand < 2^53). */
void ref_product_sweep(int32_t negative, uint64_t significand, int32_t exponent,
                       const ref_format *acc_format, int32_t mode, int32_t overflow,
                       int32_t random_bits, uint32_t random, uint16_t *out, uint8_t *flags);

/* add for one total and every addend code 0 .. 2^bits - 1 (bits <= 16 for both formats). */
void ref_add_sweep(const ref_format *total_format, uint32_t total,
                   const ref_format *addend_format, int32_t mode, int32_t overflow,
                   int32_t random_bits, uint32_t random, uint16_t *out, uint8_t *flags);

/* ---- exact.c ------------------------------------------------------------------------------ */

/* The exact sum of n products, rounded once: the zero sum is +0. */
uint32_t ref_dot(const ref_format *a_format, const uint32_t *a, const ref_format *b_format,
                 const uint32_t *b, int64_t n, const ref_format *format, int32_t mode,
                 int32_t overflow, int32_t random_bits, uint32_t random, uint32_t *flags);

/* ---- gemm.c ------------------------------------------------------------------------------- */

/* (m, k) codes times (k, n) codes, all row-major, into (m, n) codes. `events` (may be NULL) is
 * overwritten; `flags` (may be NULL) gets the union of the flags of each output's roundings.
 * Returns 0, or 1 if ref_profile_problem(profile), or 2 without memory. */
int32_t ref_gemm(const ref_profile *profile, const uint32_t *a, const uint32_t *b, int64_t m,
                 int64_t n, int64_t k, uint64_t seed, uint64_t stream, uint32_t *out,
                 ref_events *events, uint8_t *flags);

/* ---- update.c ----------------------------------------------------------------------------- */

/* One update of elements first ... first + n - 1 of a tensor, in place. `residual`, `momentum` and
 * `second` may be NULL where the rule does not use them. `counts` (may be NULL) is overwritten.
 * Returns the first element with a NaN that its format has no code for, or -1; the state of such
 * elements stays. */
int64_t ref_update_array(const ref_update *how, uint32_t *weight, uint32_t *residual,
                         uint32_t *momentum, uint32_t *second, const uint32_t *gradient,
                         uint64_t first, int64_t n, uint64_t seed, uint64_t step, uint64_t tensor,
                         ref_update_counts *counts);

/* The sum of count <= 3 constants times elements, rounded once: the result's binary32 bits. */
uint32_t ref_site_sum(const ref_site *site, int32_t count, const uint32_t *constants,
                      const uint32_t *elements, uint32_t random, uint32_t *flags);

/* The sum over learners, in ring order, of gradients[learner * size + t]. */
void ref_reduce(const ref_site *site, const uint32_t *gradients, int64_t learners, int64_t size,
                uint64_t seed, uint64_t step, uint64_t tensor, uint32_t *out);

/* z less the maximum of its row, rounded; elements of minus infinity stay. `columns` is at least 1.
 * Returns the first element with a NaN that the format has no code for, or -1. */
int64_t ref_softmax_input(const ref_site *site, const uint32_t *z, int64_t rows, int64_t columns,
                          uint64_t seed, uint64_t step, uint64_t tensor, uint32_t *out);

/* ---- bitstream.c -------------------------------------------------------------------------- */

/* Sums of signed counts of (m, k) codes times (k, n) codes by bit streams of `length` bits, into
 * (m, n) integers: the sums times `length`. Returns 0, or 1 for an operand beyond +-1 or with a
 * quantum below 2^-32 (bipolar: 2^-31). */
int32_t ref_bitstream_counts(const ref_format *a_format, const ref_format *b_format,
                             const uint32_t *a, const uint32_t *b, int64_t m, int64_t n, int64_t k,
                             int64_t length, int32_t bipolar, int32_t independent, uint64_t seed,
                             uint64_t stream, int64_t *out);

/* ---- vectors.c ---------------------------------------------------------------------------- */

/* ref_vector_request.unit */
#define REF_UNIT_CONVERT 0 /* binary32 to profile.a */
#define REF_UNIT_FMA 1     /* round(acc + a * b) */
#define REF_UNIT_FMMA 2    /* one step of two products, in the profile's sum order (aligned: fused) */
#define REF_UNIT_ADD 3     /* round(total + chunk) */

/* Whose vectors. profile.rounding and profile.overflow are not read. */
typedef struct ref_vector_request {
    ref_profile profile;
    int32_t unit;
    int32_t overflow;
    int32_t random_bits;
    int32_t mode_count;
    int32_t modes[9]; /* in turn */
    uint64_t key;     /* of the words that operands are made of */
} ref_vector_request;

/* A vector. In `convert` a[0] is the binary32; in `add` a[0] is the chunk and acc the total. */
typedef struct ref_vector {
    uint32_t reads; /* bit k: the rounding reads random[k] */
    uint32_t care;  /* the bits of `result` that are defined */
    uint32_t mode;
    uint32_t random[2];
    uint32_t a[2];
    uint32_t b[2];
    uint32_t acc;
    uint32_t result;
    uint32_t flags;
} ref_vector;

#define REF_DIFFERENCE 32
#define REF_CANCELLATION 32

/* Where a number lies between two neighbours. */
#define REF_EXACT 0
#define REF_BELOW_HALF 1
#define REF_TIE_EVEN 2 /* the lower neighbour's code is even */
#define REF_TIE_ODD 3
#define REF_ABOVE_HALF 4
#define REF_POSITIONS 5

#define REF_RANGE_UNDERFLOW 0 /* a number became zero */
#define REF_RANGE_SMALLEST 1
#define REF_RANGE_LOWEST 2    /* exponent field 0 */
#define REF_RANGE_MIDDLE 3
#define REF_RANGE_LARGEST 4
#define REF_RANGE_OVERFLOW 5  /* positive, then negative */

#define REF_DRAWS 7

/* How many vectors fell into each bin. "sum" is what is rounded: in convert the operand. */
typedef struct ref_coverage {
    uint64_t terms[16];       /* 4 * kind of acc + kind of addend: zero, finite, infinite, NaN */
    uint64_t pair[3];         /* fmma: products of equal signs, of opposite signs, with sum zero */
    uint64_t difference[64];  /* REF_DIFFERENCE + exponent of acc - that of the addend, which is
                                 clamped to +-(F + 3) */
    uint64_t carry[3];        /* equal signs without a carry, with one; a rounding that carries */
    uint64_t cancellation[32]; /* opposite signs: leading bits lost, at most F + 2; last: all */
    uint64_t position[45];    /* REF_POSITIONS * mode + position of the sum */
    uint64_t sign[18];        /* 2 * mode + sign of the sum */
    uint64_t swamped[9];      /* by mode: both terms non-zero, the result is the accumulator */
    uint64_t range[7];        /* REF_RANGE_... of the result */
    uint64_t random[21];      /* REF_DRAWS * stochastic mode + (R: zero, all ones, other; rounded
                                 toward zero, away; nu + R one below a carry, just a carry) */
    uint64_t flags[4];        /* by bit */
} ref_coverage;

/* NULL if the request can be used, else one line that says why not. */
const char *ref_vector_problem(const ref_vector_request *request);

/* Vectors first .. first + n - 1 of a request; adds to *coverage. */
void ref_vectors(const ref_vector_request *request, uint64_t first, int64_t n, ref_vector *out,
                 ref_coverage *coverage);

/* Result, flags, reads and care of vectors whose other fields are given; adds to *coverage. */
void ref_vector_answers(const ref_vector_request *request, int64_t n, ref_vector *vectors,
                        ref_coverage *coverage);

/* Rows of a dot product: `length` codes of a, as many of b, and the result. Row number i is output (i, 0) of
 * a GEMM with seed 0: all rows have one b. ref_dot_answers writes the results of operands that are given, of
 * rows that need not have one b. They add to two coverages, or to none if NULL: coverage[0] counts the
 * steps of the accumulator, coverage[1] the additions to the running total. They return what ref_gemm does. */
int32_t ref_dot_vectors(const ref_vector_request *request, uint64_t first, int64_t n,
                        int64_t length, uint32_t *rows, ref_coverage *coverage);
int32_t ref_dot_answers(const ref_profile *profile, uint64_t first, int64_t n, int64_t length,
                        uint32_t *rows, ref_coverage *coverage);

/* Rows of `stride` words as text: a line each, its fields parted by `_`. Field f has counts[f] numbers
 * of digits[f] hexadecimal digits from word offsets[f] on. Returns the length of the text. */
int64_t ref_vector_text(const uint32_t *rows, int64_t n, int64_t stride, const int32_t *offsets,
                        const int32_t *counts, const int32_t *digits, int64_t fields, char *out);

/* <<< cdef */

#ifdef __cplusplus
}
#endif

#endif
