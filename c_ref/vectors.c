/* vectors.c: test vectors of the units, and what they cover (docs/vectors.md).
 *
 * Vector i of a request is a function of the request and of i. Its operands are drawn from the words of
 * ref_word(key, i, 0 ...); three quarters of them are directed at the places where roundings and sums go wrong. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* Vectors of one mode take these cases in turn. */
#define CASES 16

/* What stays the same over a request. */
typedef struct bench {
    const ref_vector_request *request;
    layout a, b, acc, addend; /* `addend`: of chunks, for the unit add */
    layout wide;              /* binary32, for the unit convert */
} bench;

/* The words of one vector. */
typedef struct words {
    uint64_t key, vector, next;
} words;

static uint32_t draw_word(words *w)
{
    return ref_word(w->key, w->vector, w->next++);
}

static uint32_t below(words *w, uint64_t limit)
{
    return (uint32_t)(draw_word(w) * limit >> 32);
}

/* ---- operands ----------------------------------------------------------------------------- */

/* The magnitude code of the smallest positive number. */
static uint64_t first_code(const layout *d)
{
    const int64_t smallest = smallest_code(d);
    return smallest == 0 && d->format.zero != REF_ZERO_NONE ? 1 : (uint64_t)smallest;
}

static uint64_t with_sign(const layout *d, words *w, uint64_t magnitude)
{
    const uint64_t sign = d->format.is_signed ? below(w, 2) : 0;
    return sign << d->magnitude_bits | magnitude;
}

/* Half are any code, a quarter are numbers around 1, a quarter lie at the ends of the range. */
static uint32_t drawn_code(const layout *d, words *w)
{
    const int32_t f = d->format.fraction_bits, bias = d->format.bias;
    const uint64_t around_one = bias > 8 ? (uint64_t)(bias - 8) << f : 0;
    const uint64_t normal = (uint64_t)1 << f;
    const uint64_t ends[6] = {0, first_code(d), normal < d->largest ? normal : d->largest,
                              d->largest - 1, d->largest, d->top};
    uint64_t magnitude;
    switch (below(w, 4)) {
    case 0:
        magnitude = ends[below(w, 6)];
        break;
    case 1:
        magnitude = around_one + below(w, (uint64_t)16 << f);
        magnitude = magnitude < d->largest ? magnitude : d->largest;
        break;
    default:
        magnitude = below(w, d->top + 1);
        break;
    }
    return (uint32_t)with_sign(d, w, magnitude);
}

/* Zero, or one of the four smallest numbers. */
static uint32_t lowest_code(const layout *d, words *w)
{
    const uint32_t which = below(w, 5);
    const bool zero = which == 4 && d->format.zero != REF_ZERO_NONE;
    return (uint32_t)with_sign(d, w, zero ? 0 : first_code(d) + which % 4);
}

static uint32_t highest_code(const layout *d, words *w)
{
    return (uint32_t)with_sign(d, w, d->largest - below(w, 4));
}

/* Zero, infinity, NaN where the format has them, each once in `limit`; else any code. */
static uint32_t special_code(const layout *d, words *w, uint32_t limit)
{
    switch (below(w, limit)) {
    case 0:
        return d->format.zero == REF_ZERO_NONE ? drawn_code(d, w) : (uint32_t)with_sign(d, w, 0);
    case 1:
        return d->has_infinity ? (uint32_t)with_sign(d, w, d->infinity) : drawn_code(d, w);
    case 2:
        return d->has_nan ? (uint32_t)d->nan : drawn_code(d, w);
    default:
        return drawn_code(d, w);
    }
}

static uint64_t nearest(const layout *d, number x)
{
    uint32_t flags = 0;
    return round_pack(d, x, (rounding){REF_NEAREST_EVEN, REF_SATURATE, 0, 0}, &flags);
}

/* A code some codes away, without leaving the numbers of its sign. */
static uint32_t moved(const layout *d, uint64_t code, int64_t distance)
{
    const uint64_t sign = code & ~d->top;
    int64_t magnitude = (int64_t)(code & d->top) + distance;
    magnitude = magnitude < 0 ? 0 : magnitude;
    magnitude = magnitude > (int64_t)d->largest ? (int64_t)d->largest : magnitude;
    return (uint32_t)(sign | (uint64_t)magnitude);
}

static int32_t exponent_of(number x)
{
    return x.exponent + 63 - leading_zeros(x.significand);
}

/* An accumulator with which the sum is a tie, where there is one. The tie's exponent lies such that its
 * last bit is the addend's, or beside the addend's exponent. */
static uint32_t accumulator_of_tie(const layout *d, words *w, number addend)
{
    const int32_t f = d->format.fraction_bits;
    int32_t exponent = exponent_of(addend) - 1 + (int32_t)below(w, 3);
    if (below(w, 4) > 0) {
        uint64_t odd = addend.significand;
        exponent = addend.exponent + f + 1;
        for (; !(odd & 1); odd >>= 1)
            exponent++;
    }
    const uint64_t hidden = (uint64_t)1 << f; /* with all ones below it the tie carries */
    const uint64_t significand = hidden + (below(w, 4) ? below(w, hidden) : hidden - 1);
    const number tie = {.kind = FINITE,
                        .negative = below(w, 2) != 0,
                        .significand = 2 * significand + 1,
                        .exponent = exponent - f - 1};
    addend.negative = !addend.negative;
    const number terms[2] = {tie, addend};
    return (uint32_t)nearest(d, exact_sum(terms, 2));
}

/* An accumulator for an exact addend. */
static uint32_t accumulator_for(const layout *d, words *w, number addend, uint32_t which)
{
    const int32_t f = d->format.fraction_bits;
    if (which == 3)
        return special_code(d, w, 4);
    if (which == 14 && (addend.kind != FINITE || below(w, 2)))
        return lowest_code(d, w);
    if (addend.kind != FINITE || which < 4)
        return drawn_code(d, w);
    if (which < 7 || which == 13) { /* beside the addend, or far above it */
        number x = addend;
        x.negative = below(w, 2) != 0;
        x.exponent += which == 13 ? f + 1 + (int32_t)below(w, 4)
                                  : (int32_t)below(w, 2 * (uint64_t)f + 7) - f - 3;
        return moved(d, nearest(d, x), (int64_t)below(w, 5) - 2);
    }
    if (which < 10) { /* the sum cancels */
        addend.negative = !addend.negative;
        const int64_t distance = which == 9 ? 1 : (int64_t)1 << below(w, (uint64_t)f + 1);
        return moved(d, nearest(d, addend), ((int64_t)below(w, 3) - 1) * distance);
    }
    if (which < 13)
        return accumulator_of_tie(d, w, addend);
    if (which == 14) { /* the bottom of the range: the sum vanishes, or nearly */
        addend.negative = !addend.negative;
        return moved(d, nearest(d, addend), (int64_t)below(w, 3) - 1);
    }
    const uint64_t magnitude = d->largest - below(w, 4) / 3; /* the top: it overflows */
    const bool negative = addend.negative != (below(w, 4) == 0);
    return (uint32_t)((uint64_t)negative << d->magnitude_bits | magnitude);
}

static uint32_t operand_code(const layout *d, words *w, uint32_t which)
{
    if (which == 3)
        return special_code(d, w, 8);
    if (which == 14)
        return lowest_code(d, w);
    if (which == 9) /* a power of two, or zero */
        return drawn_code(d, w) & ~(uint32_t)ones(d->format.fraction_bits);
    return which == 15 ? highest_code(d, w) : drawn_code(d, w);
}

/* binary32 at and beside the numbers of the target, and at quarters between them. */
static uint32_t convert_operand(const bench *t, words *w, uint32_t which)
{
    const layout *d = &t->a;
    if (which < 4)
        return draw_word(w);
    uint64_t code = which == 4 ? lowest_code(d, w) : drawn_code(d, w);
    if (which == 5)
        code = highest_code(d, w);
    if (which == 6) { /* zero, infinity or NaN of binary32 */
        const uint32_t sign = below(w, 2) << 31, payload = below(w, 1 << 23);
        const uint32_t magnitudes[3] = {0, (uint32_t)t->wide.infinity,
                                        (uint32_t)t->wide.infinity | payload};
        return sign | magnitudes[below(w, 3)];
    }
    number x = unpack(d, code);
    if (x.kind != FINITE)
        return (uint32_t)nearest(&t->wide, x);
    if (which == 7) { /* below the smallest number, and above the largest */
        x.exponent += below(w, 2) ? 1 + (int32_t)below(w, 3) : -1 - (int32_t)below(w, 12);
        return moved(&t->wide, nearest(&t->wide, x), (int64_t)below(w, 3) - 1);
    }
    const uint32_t quarters = which < 12 ? 2 : below(w, 4);
    x.significand = 4 * x.significand + quarters;
    x.exponent -= 2;
    const int64_t distance = which < 10 ? 0 : (int64_t)below(w, 3) - 1;
    return moved(&t->wide, nearest(&t->wide, x), distance);
}

/* ---- the exact sum, and its answer -------------------------------------------------------- */

/* The exact numbers of a vector: what is rounded, and its terms. */
typedef struct exact_terms {
    number acc, addend, products[2];
    number sum;
} exact_terms;

/* What is added: a product, the sum of two, or a chunk. */
static void take_addend(const bench *t, const ref_vector *v, exact_terms *x)
{
    if (t->request->unit == REF_UNIT_CONVERT)
        return;
    if (t->request->unit == REF_UNIT_ADD) {
        x->addend = unpack(&t->addend, v->a[0]);
        return;
    }
    x->addend = x->products[0] = multiply(unpack(&t->a, v->a[0]), unpack(&t->b, v->b[0]));
    if (t->request->unit == REF_UNIT_FMMA) {
        x->products[1] = multiply(unpack(&t->a, v->a[1]), unpack(&t->b, v->b[1]));
        x->addend = sum_of_two(x->products[0], x->products[1]);
    }
}

/* What is rounded, after take_addend. */
static void take_sum(const bench *t, const ref_vector *v, exact_terms *x)
{
    if (t->request->unit == REF_UNIT_CONVERT) {
        x->sum = unpack(&t->wide, v->a[0]);
        return;
    }
    x->acc = unpack(&t->acc, v->acc);
    if (t->request->unit == REF_UNIT_FMMA) {
        const number all[3] = {x->acc, x->products[0], x->products[1]};
        x->sum = exact_sum(all, 3);
    } else {
        x->sum = sum_of_two(x->acc, x->addend);
    }
}

static exact_terms terms_of(const bench *t, const ref_vector *v)
{
    const number zero = {.kind = ZERO};
    exact_terms x = {zero, zero, {zero, zero}, zero};
    take_addend(t, v, &x);
    take_sum(t, v, &x);
    return x;
}

static const layout *target_of(const bench *t)
{
    return t->request->unit == REF_UNIT_CONVERT ? &t->a : &t->acc;
}

/* The bits of a result that the specification defines: not the sign and the payload of a NaN. */
static uint32_t defined_bits(const layout *d, uint64_t code)
{
    const uint64_t all = d->format.is_signed ? 2 * d->top + 1 : d->top;
    const bool sign_bit = (code & ~d->top) != 0;
    if (!code_is_nan(d, code & d->top, sign_bit))
        return (uint32_t)all;
    if (d->format.special == REF_SPECIAL_IEEE)
        return (uint32_t)d->nan; /* exponent, and the bit of a quiet NaN */
    return (uint32_t)(d->nan <= d->top ? d->top : all);
}

/* Rounds the sum: result, flags and masks. */
static void answer(const bench *t, ref_vector *v, const exact_terms *x)
{
    const ref_vector_request *q = t->request;
    const layout *d = target_of(t);
    const rounding how = {(int32_t)v->mode, q->overflow, q->random_bits, v->random[0]};
    const bool twice = q->unit == REF_UNIT_FMMA && rounds_twice(q->profile.sum_order);
    uint64_t code;
    v->flags = 0;
    if (q->unit == REF_UNIT_CONVERT) {
        code = round_pack(d, x->sum, how, &v->flags);
    } else if (twice) {
        ref_profile profile = q->profile;
        profile.rounding = how.mode;
        profile.overflow = how.overflow;
        number products[3] = {x->products[0], x->products[1], {.kind = ZERO}};
        uint32_t raised[2];
        code = step(&profile, d, v->acc, products, 2, v->random, raised);
        v->flags = raised[0] | raised[1];
    } else {
        code = round_sum(d, x->sum, how, &v->flags);
    }
    v->result = (uint32_t)code;
    v->care = defined_bits(d, code);
    v->reads = is_stochastic(how.mode) ? twice ? 3 : 1 : 0;
}

/* ---- coverage ----------------------------------------------------------------------------- */

static int32_t clamp(int32_t x, int32_t low, int32_t high)
{
    return x < low ? low : x > high ? high : x;
}

/* The terms of a sum, and its exact value. */
static void cover_sum(int32_t f, number acc, number addend, number sum, ref_coverage *c)
{
    c->terms[4 * acc.kind + addend.kind]++;
    if (acc.kind != FINITE || addend.kind != FINITE)
        return;
    const int32_t one = exponent_of(acc), other = exponent_of(addend);
    const int32_t higher = one > other ? one : other;
    c->difference[REF_DIFFERENCE + clamp(one - other, -f - 3, f + 3)]++;
    if (acc.negative == addend.negative)
        c->carry[exponent_of(sum) > higher]++;
    else if (sum.kind == ZERO)
        c->cancellation[REF_CANCELLATION - 1]++;
    else
        c->cancellation[clamp(higher - exponent_of(sum), 0, f + 2)]++;
}

static void cover_pair(const exact_terms *x, ref_coverage *c)
{
    if (x->products[0].kind != FINITE || x->products[1].kind != FINITE)
        return;
    const bool opposite = x->products[0].negative != x->products[1].negative;
    c->pair[x->addend.kind == ZERO ? 2 : opposite]++;
}

/* Where the sum lies between its neighbours, and where the result lies in the range. */
static void cover_rounding(const layout *d, const ref_vector *v, number sum, ref_coverage *c,
                           int32_t random_bits)
{
    const uint64_t magnitude = v->result & d->top;
    const bool finite = !(v->flags & (REF_OVERFLOW | REF_INVALID));
    if (v->flags & REF_OVERFLOW)
        c->range[REF_RANGE_OVERFLOW + sum.negative]++;
    else if (finite && sum.kind == FINITE)
        c->range[magnitude == 0 && d->format.zero != REF_ZERO_NONE ? REF_RANGE_UNDERFLOW
                 : magnitude == first_code(d)                     ? REF_RANGE_SMALLEST
                 : magnitude >> d->format.fraction_bits == 0      ? REF_RANGE_LOWEST
                 : magnitude == d->largest                        ? REF_RANGE_LARGEST
                                                                  : REF_RANGE_MIDDLE]++;
    if (sum.kind != FINITE)
        return;
    c->sign[2 * v->mode + sum.negative]++;
    const int32_t zeros = leading_zeros(sum.significand);
    sum.significand <<= zeros;
    sum.exponent -= zeros;
    const split at = split_at_quantum(d, sum);
    if (at.code < smallest_code(d) || (sum.negative && !d->format.is_signed))
        return; /* below the smallest number there are no quanta */
    const bool half = at.discarded >> (at.drop - 1), more = at.discarded & ones(at.drop - 1);
    const int32_t position = half ? more ? REF_ABOVE_HALF : REF_TIE_EVEN + (at.code & 1)
                                  : (more ? REF_BELOW_HALF : REF_EXACT);
    c->position[REF_POSITIONS * v->mode + (uint32_t)position]++;
    const uint64_t fraction = ones(d->format.fraction_bits);
    if (finite && magnitude == (uint64_t)at.code + 1 && (magnitude & fraction) == 0 &&
        magnitude >> d->format.fraction_bits != 0)
        c->carry[2]++;
    if (!v->reads || position == REF_EXACT || v->reads == 3)
        return;
    const uint64_t whole = at.discarded >> (at.drop - random_bits);
    uint64_t *draws = &c->random[REF_DRAWS * (v->mode - REF_STOCHASTIC_A)];
    draws[v->random[0] == 0 ? 0 : v->random[0] == ones(random_bits) ? 1 : 2]++;
    draws[finite && magnitude == (uint64_t)at.code ? 3 : 4]++;
    draws[5] += whole + v->random[0] == ones(random_bits);
    draws[6] += whole + v->random[0] == ones(random_bits) + 1;
}

static void cover_flags(const ref_vector *v, ref_coverage *c)
{
    for (int32_t i = 0; i < 4; i++)
        c->flags[i] += v->flags >> i & 1;
}

/* A sum, rounded to `d`: mode, random, acc, result, flags and reads of `v` say how. */
static void cover_rounded_sum(const layout *d, const ref_vector *v, number acc, number addend,
                              number sum, int32_t random_bits, ref_coverage *c)
{
    cover_sum(d->format.fraction_bits, acc, addend, sum, c);
    cover_rounding(d, v, sum, c, random_bits);
    c->swamped[v->mode] += acc.kind == FINITE && addend.kind == FINITE && v->result == v->acc;
    cover_flags(v, c);
}

static void cover(const bench *t, const ref_vector *v, const exact_terms *x, ref_coverage *c)
{
    const int32_t random_bits = t->request->random_bits;
    if (t->request->unit == REF_UNIT_CONVERT) {
        c->terms[x->sum.kind]++;
        cover_rounding(target_of(t), v, x->sum, c, random_bits);
        cover_flags(v, c);
        return;
    }
    if (t->request->unit == REF_UNIT_FMMA)
        cover_pair(x, c);
    cover_rounded_sum(target_of(t), v, x->acc, x->addend, x->sum, random_bits, c);
}

/* ---- vectors ------------------------------------------------------------------------------ */

/* A random integer: any, an end of its range, or the one at which the rounding turns. */
static uint32_t random_for(const bench *t, words *w, const exact_terms *x)
{
    const int32_t r = t->request->random_bits;
    const uint32_t any = draw_word(w) >> (32 - r), which = below(w, 16);
    if (which < 2)
        return which ? (uint32_t)ones(r) : 0;
    number sum = x->sum;
    if (which > 5 || sum.kind != FINITE)
        return any;
    const int32_t zeros = leading_zeros(sum.significand);
    sum.significand <<= zeros;
    sum.exponent -= zeros;
    const split at = split_at_quantum(target_of(t), sum);
    return (uint32_t)((ones(r) + (which & 1) - (at.discarded >> (at.drop - r))) & ones(r));
}

static void draw_vector(const bench *t, uint64_t i, ref_vector *v, exact_terms *x)
{
    const ref_vector_request *q = t->request;
    words w = {q->key, i, 0};
    const uint32_t which = (uint32_t)(i / (uint64_t)q->mode_count % CASES);
    *v = (ref_vector){.mode = (uint32_t)q->modes[i % (uint64_t)q->mode_count]};
    if (q->unit == REF_UNIT_CONVERT) {
        v->a[0] = convert_operand(t, &w, which);
    } else if (q->unit == REF_UNIT_ADD) {
        v->a[0] = operand_code(&t->addend, &w, which);
    } else {
        for (int32_t k = 0; k < (q->unit == REF_UNIT_FMMA ? 2 : 1); k++) {
            v->a[k] = operand_code(&t->a, &w, which);
            v->b[k] = operand_code(&t->b, &w, which);
        }
        if (q->unit == REF_UNIT_FMMA && below(&w, 8) == 0) { /* products that cancel */
            v->a[1] = v->a[0] ^ (uint32_t)(t->a.format.is_signed ? t->a.top + 1 : 0);
            v->b[1] = v->b[0];
        }
    }
    take_addend(t, v, x);
    if (q->unit != REF_UNIT_CONVERT)
        v->acc = accumulator_for(&t->acc, &w, x->addend, which);
    take_sum(t, v, x);
    if (is_stochastic((int32_t)v->mode)) {
        v->random[0] = random_for(t, &w, x);
        if (q->unit == REF_UNIT_FMMA && rounds_twice(q->profile.sum_order))
            v->random[1] = draw_word(&w) >> (32 - q->random_bits);
    }
}

static bench bench_of(const ref_vector_request *q)
{
    const ref_format binary32 = {8, 23, 127, 1, REF_ZERO_SIGNED, REF_LOWEST_SUBNORMAL,
                                 REF_SPECIAL_IEEE};
    const ref_profile *p = &q->profile;
    return (bench){.request = q,
                   .a = layout_of(&p->a),
                   .b = layout_of(&p->b),
                   .acc = layout_of(q->unit == REF_UNIT_ADD ? &p->between : &p->accumulator),
                   .addend = layout_of(&p->accumulator),
                   .wide = layout_of(&binary32)};
}

const char *ref_vector_problem(const ref_vector_request *q)
{
    if (q->unit < 0 || q->unit > REF_UNIT_ADD)
        return "unit must be 0..3";
    if (q->overflow < 0 || q->overflow > 2 || q->random_bits < 1 || q->random_bits > 24)
        return "overflow must be 0..2, random_bits 1..24";
    if (q->mode_count < 1 || q->mode_count > 9)
        return "mode_count must be 1..9";
    for (int32_t i = 0; i < q->mode_count; i++)
        if (q->modes[i] < 0 || q->modes[i] > 8)
            return "modes must be 0..8";
    return ref_profile_problem(&q->profile);
}

void ref_vectors(const ref_vector_request *request, uint64_t first, int64_t n,
                         ref_vector *out, ref_coverage *coverage)
{
    const bench t = bench_of(request);
    const number nothing = {.kind = ZERO};
    for (int64_t i = 0; i < n; i++) {
        exact_terms x = {nothing, nothing, {nothing, nothing}, nothing};
        draw_vector(&t, first + (uint64_t)i, &out[i], &x);
        answer(&t, &out[i], &x);
        if (out[i].flags & REF_NO_CODE) { /* the format has no code for it: 1 instead */
            out[i].a[0] = (uint32_t)t.wide.format.bias << t.wide.format.fraction_bits;
            x = terms_of(&t, &out[i]);
            answer(&t, &out[i], &x);
        }
        cover(&t, &out[i], &x, coverage);
    }
}

void ref_vector_answers(const ref_vector_request *request, int64_t n, ref_vector *vectors,
                        ref_coverage *coverage)
{
    const bench t = bench_of(request);
    for (int64_t i = 0; i < n; i++) {
        const exact_terms x = terms_of(&t, &vectors[i]);
        answer(&t, &vectors[i], &x);
        cover(&t, &vectors[i], &x, coverage);
    }
}

/* ---- dot products ------------------------------------------------------------------------- */

#define MODERATE_SIGNIFICANDS (1 << 15)
#define MODERATE_EXPONENTS 6

/* The codes of x * 2^(exponent - 15) for 1 <= x <= 2^15 and exponents 0 .. 5. */
static void moderate_codes(const layout *d, uint32_t *codes)
{
    for (int32_t exponent = 0; exponent < MODERATE_EXPONENTS; exponent++)
        for (uint64_t x = 1; x <= MODERATE_SIGNIFICANDS; x++)
            *codes++ = (uint32_t)nearest(
                d, (number){.kind = FINITE, .significand = x, .exponent = exponent - 15});
}

/* A number between -32 and 32; positive for an unsigned format. */
static uint32_t moderate_code(const layout *d, const uint32_t *codes, words *w)
{
    const uint32_t x = below(w, 2 * MODERATE_SIGNIFICANDS), exponent = below(w, MODERATE_EXPONENTS);
    const bool negative = x < MODERATE_SIGNIFICANDS;
    const uint32_t index = negative ? MODERATE_SIGNIFICANDS - 1 - x : x - MODERATE_SIGNIFICANDS;
    const uint32_t code = codes[MODERATE_SIGNIFICANDS * exponent + index];
    const bool has_sign = d->format.is_signed && (code || d->format.zero == REF_ZERO_SIGNED);
    return code | (uint32_t)(negative && has_sign) << d->magnitude_bits;
}

int32_t ref_dot_vectors(const ref_vector_request *request, uint64_t first, int64_t n,
                        int64_t length, uint32_t *rows, ref_coverage *coverage)
{
    const bench t = bench_of(request);
    const int64_t stride = 2 * length + 1;
    uint32_t *codes = malloc(MODERATE_EXPONENTS * MODERATE_SIGNIFICANDS * sizeof *codes);
    if (!codes)
        return 2;
    moderate_codes(&t.a, codes);
    for (int64_t i = 0; i < n; i++) {
        words w = {request->key, first + (uint64_t)i, 0};
        for (int64_t k = 0; k < length; k++)
            rows[i * stride + k] = moderate_code(&t.a, codes, &w);
    }
    moderate_codes(&t.b, codes);
    words w = {request->key, UINT32_MAX, 0};
    for (int64_t k = 0; k < length && n > 0; k++)
        rows[length + k] = moderate_code(&t.b, codes, &w);
    for (int64_t i = 1; i < n; i++)
        memcpy(rows + i * stride + length, rows + length, (size_t)length * sizeof *rows);
    free(codes);
    return ref_dot_answers(&request->profile, first, n, length, rows, coverage);
}

/* ---- text --------------------------------------------------------------------------------- */

int64_t ref_vector_text(const uint32_t *rows, int64_t n, int64_t stride, const int32_t *offsets,
                        const int32_t *counts, const int32_t *digits, int64_t fields, char *out)
{
    char *end = out;
    for (int64_t i = 0; i < n; i++) {
        for (int64_t field = 0; field < fields; field++) {
            const uint32_t *numbers = rows + i * stride + offsets[field];
            for (int32_t k = 0; k < counts[field]; k++)
                for (int32_t shift = 4 * digits[field] - 4; shift >= 0; shift -= 4)
                    *end++ = "0123456789abcdef"[numbers[k] >> shift & 15];
            *end++ = field + 1 < fields ? '_' : '\n';
        }
    }
    return end - out;
}
