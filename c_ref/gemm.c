/* gemm.c: the chunk accumulator, output by output (numerics.md 3 and 4). */
#include <stdlib.h>

#include "internal.h"

/* Everything that stays the same over a GEMM. */
typedef struct task {
    const ref_profile *profile;
    layout a, b, accumulator, between;
    uint64_t keys[4]; /* by site */
    number *products; /* space for a step's products and the accumulator */
    ref_coverage *coverage; /* of steps, and of the running total; or NULL */
} task;

/* Everything that belongs to one output. */
typedef struct output {
    uint64_t m, n;
    uint32_t lfsr;
    uint32_t flags;
    bool was_nan;
    ref_events *events;
} output;

/* R of the rounding number j at a site (ACCUMULATE_ROW or BETWEEN_ROW; the column's follows). The
 * lane's register steps at every rounding, whatever its mode. */
static uint32_t draw(const task *t, output *o, int32_t mode, int32_t row_site, uint64_t j)
{
    const ref_profile *p = t->profile;
    if (p->random_source == REF_LFSR)
        o->lfsr = ref_lfsr_step(o->lfsr);
    if (!is_stochastic(mode))
        return 0;
    o->events->draws++;
    uint32_t word = o->lfsr;
    if (p->random_source != REF_LFSR)
        word = ref_word(t->keys[row_site], o->m, j) ^ ref_word(t->keys[row_site + 1], o->n, j);
    if (p->random_source == REF_COUNTER)
        word = ref_mix32(word);
    return word >> (32 - p->random_bits);
}

static void count_flags(output *o, uint32_t raised)
{
    o->flags |= raised;
    o->events->overflowed += (raised & REF_OVERFLOW) != 0;
    o->events->underflowed += (raised & REF_UNDERFLOW) != 0;
}

static void note_nan(output *o, const layout *format, uint64_t code)
{
    if (!o->was_nan && unpack(format, code).kind == NAN_KIND) {
        o->was_nan = true;
        o->events->nan++;
    }
}

static number_kind sum_kind(const number *terms, size_t count)
{
    return count == 1 ? terms[0].kind : exact_sum(terms, count).kind;
}

/* The coverage of one rounded sum. */
static void cover_addition(const layout *d, rounding how, bool twice, number acc, number addend,
                           number sum, uint64_t before, uint64_t after, uint32_t flags,
                           ref_coverage *coverage)
{
    const ref_vector v = {.reads = is_stochastic(how.mode) ? twice ? 3 : 1 : 0,
                          .mode = (uint32_t)how.mode,
                          .random = {how.random, 0},
                          .acc = (uint32_t)before,
                          .result = (uint32_t)after,
                          .flags = flags};
    cover_rounded_sum(d, &v, acc, addend, sum, how.random_bits, coverage);
}

/* Products k = first .. first + count - 1 of one output. */
static uint64_t accumulate_step(const task *t, output *o, uint64_t acc, size_t count,
                                uint64_t first)
{
    const ref_profile *p = t->profile;
    uint32_t random[2] = {draw(t, o, p->rounding, REF_SITE_ACCUMULATE_ROW, first), 0};
    if (rounds_twice(p->sum_order))
        random[1] = draw(t, o, p->rounding, REF_SITE_ACCUMULATE_ROW, first + 1);

    const number start = unpack(&t->accumulator, acc);
    /* Finite terms with a non-zero sum of products: an unchanged accumulator then is swamped. */
    const bool can_be_swamped = (start.kind == ZERO || start.kind == FINITE) &&
                                sum_kind(t->products, count) == FINITE;
    number addend = start, sum = start;
    if (t->coverage) { /* before step, which may truncate the products */
        t->products[count] = start;
        addend = exact_sum(t->products, count);
        sum = exact_sum(t->products, count + 1);
    }
    uint32_t raised[2];
    const uint64_t after =
        step(p, &t->accumulator, acc, t->products, count, random, raised);
    if (t->coverage)
        cover_addition(&t->accumulator,
                       (rounding){p->rounding, p->overflow, p->random_bits, random[0]},
                       rounds_twice(p->sum_order), start, addend, sum, acc, after,
                       raised[0] | raised[1], &t->coverage[0]);
    o->events->swamped += can_be_swamped && after == acc;
    count_flags(o, raised[0]);
    count_flags(o, raised[1]);
    note_nan(o, &t->accumulator, after);
    return after;
}

/* Adds chunk number `chunk` to the running total; the first one is copied. */
static uint64_t close_chunk(const task *t, output *o, uint64_t total, uint64_t acc,
                            uint64_t chunk)
{
    const ref_profile *p = t->profile;
    const rounding how = {p->between_rounding, p->overflow, p->random_bits,
                          draw(t, o, p->between_rounding, REF_SITE_BETWEEN_ROW, chunk)};
    const number addend = unpack(&t->accumulator, acc), start = unpack(&t->between, total);
    const number sum = chunk > 0 ? sum_of_two(start, addend) : addend;
    uint32_t raised = 0;
    const uint64_t after = round_sum(&t->between, sum, how, &raised);
    if (t->coverage && chunk > 0)
        cover_addition(&t->between, how, false, start, addend, sum, total, after, raised,
                       &t->coverage[1]);
    count_flags(o, raised);
    note_nan(o, &t->between, after);
    return after;
}

/* The registers of one output, while its products arrive. */
typedef struct lane {
    output o;
    uint64_t acc, total;
    int64_t k;        /* products so far */
    int64_t in_chunk; /* those of the chunk in progress */
    int64_t chunk;    /* chunks that are closed */
    size_t pending;   /* products of the step in progress, in task.products */
} lane;

static lane lane_at(uint64_t seed, uint64_t stream, uint64_t m, uint64_t n, ref_events *events)
{
    lane l = {.o = {.m = m, .n = n, .events = events}};
    l.o.lfsr = ref_lfsr_start(seed, stream, m, n);
    return l;
}

static void finish_step(const task *t, lane *l)
{
    l->acc = accumulate_step(t, &l->o, l->acc, l->pending, (uint64_t)l->k - l->pending);
    l->pending = 0;
}

static void finish_chunk(const task *t, lane *l)
{
    l->total = close_chunk(t, &l->o, l->total, l->acc, (uint64_t)l->chunk++);
    l->acc = 0;
    l->in_chunk = 0;
}

static void push(const task *t, lane *l, number product)
{
    const ref_profile *p = t->profile;
    t->products[l->pending++] = product;
    l->k++;
    l->in_chunk++;
    const bool chunk_ends = l->in_chunk == p->chunk_length;
    if (chunk_ends || (int64_t)l->pending == p->products_per_step)
        finish_step(t, l);
    if (chunk_ends)
        finish_chunk(t, l);
}

/* The result, after the last product. */
static uint32_t finish(const task *t, lane *l)
{
    if (l->pending)
        finish_step(t, l);
    if (t->profile->chunk_length && l->in_chunk)
        finish_chunk(t, l);
    return (uint32_t)(t->profile->chunk_length ? l->total : l->acc);
}

/* One output: a is its row of A, b its column of B (every stride-th code). */
FLATTEN static uint32_t compute_output(const task *t, lane *l, const uint32_t *a,
                                       const uint32_t *b, int64_t stride, int64_t k)
{
    for (int64_t i = 0; i < k; i++)
        push(t, l, multiply(unpack(&t->a, a[i]), unpack(&t->b, b[i * stride])));
    return finish(t, l);
}

static task task_of(const ref_profile *profile, uint64_t seed, uint64_t stream)
{
    task t = {.profile = profile,
              .a = layout_of(&profile->a),
              .b = layout_of(&profile->b),
              .accumulator = layout_of(&profile->accumulator),
              .between = layout_of(&profile->between)};
    for (uint64_t site = 0; site < 4; site++)
        t.keys[site] = ref_key(seed, stream, site);
    return t;
}

int32_t ref_gemm(const ref_profile *profile, const uint32_t *a, const uint32_t *b, int64_t m,
                 int64_t n, int64_t k, uint64_t seed, uint64_t stream, uint32_t *out,
                 ref_events *events, uint8_t *flags)
{
    if (ref_profile_problem(profile))
        return 1;
    /* A step has at most min(products_per_step, K) products, and the accumulator. */
    const int64_t per_step = profile->products_per_step;
    const size_t terms = (size_t)(per_step && per_step < k ? per_step : k) + 1;
    ref_events counts = {0};
    task t = task_of(profile, seed, stream);
    t.products = malloc(terms * sizeof(number));
    if (!t.products)
        return 2;
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < n; j++) {
            lane l = lane_at(seed, stream, (uint64_t)i, (uint64_t)j, &counts);
            out[i * n + j] = compute_output(&t, &l, a + i * k, b + j, n, k);
            if (flags)
                flags[i * n + j] = (uint8_t)l.o.flags;
        }
    }
    free(t.products);
    if (events)
        *events = counts;
    return 0;
}

int32_t ref_dot_answers(const ref_profile *profile, uint64_t first, int64_t n, int64_t length,
                        uint32_t *rows, ref_coverage *coverage)
{
    if (ref_profile_problem(profile))
        return 1;
    ref_events counts = {0};
    task t = task_of(profile, 0, 0);
    t.coverage = coverage;
    t.products = malloc(((size_t)length + 1) * sizeof(number));
    if (!t.products)
        return 2;
    for (int64_t i = 0; i < n; i++) {
        uint32_t *row = rows + i * (2 * length + 1);
        lane l = lane_at(0, 0, first + (uint64_t)i, 0, &counts);
        row[2 * length] = compute_output(&t, &l, row, row + length, 1, length);
    }
    free(t.products);
    return 0;
}
