/* update.c: the sites of a training step (numerics.md 6). Elements and constants are the bits of
 * binary32 numbers, and so are results. */
#include "internal.h"

static const ref_site TO_BINARY32 = {
    {8, 23, 127, 1, REF_ZERO_SIGNED, REF_LOWEST_SUBNORMAL, REF_SPECIAL_IEEE},
    REF_NEAREST_EVEN, REF_SPECIAL, 0};

#define ONE UINT32_C(0x3F800000)

static number value(uint32_t bits)
{
    const layout binary32 = layout_of(&TO_BINARY32.format);
    return unpack(&binary32, bits);
}

static number negated(number x)
{
    x.negative = !x.negative;
    return x;
}

static number times(uint32_t constant, uint32_t element)
{
    return multiply(value(constant), value(element));
}

/* x / y: 62 bits of the quotient, jammed. Significands have at most 24 bits. */
static number divide(number x, number y)
{
    number q = {.kind = FINITE, .negative = x.negative != y.negative};
    if (x.kind == NAN_KIND || y.kind == NAN_KIND || (x.kind == INFINITE && y.kind == INFINITE) ||
        (x.kind == ZERO && y.kind == ZERO))
        return (number){.kind = NAN_KIND};
    if (x.kind == INFINITE || y.kind == ZERO) {
        q.kind = INFINITE;
        return q;
    }
    if (x.kind == ZERO || y.kind == INFINITE)
        return (number){.kind = ZERO};
    const int32_t move_x = leading_zeros(x.significand) - 40,
                  move_y = leading_zeros(y.significand) - 40;
    uint64_t rest = x.significand << move_x;
    const uint64_t divisor = y.significand << move_y;
    q.exponent = x.exponent - move_x - (y.exponent - move_y) - 61;
    for (int32_t i = 0; i < 62; i++) {
        q.significand <<= 1;
        if (rest >= divisor) {
            rest -= divisor;
            q.significand |= 1;
        }
        rest <<= 1;
    }
    q.significand |= rest != 0;
    return q;
}

/* The square root: 31 bits and a jammed one. */
static number square_root(number x)
{
    if (x.kind == ZERO || x.kind == NAN_KIND)
        return x;
    if (x.negative)
        return (number){.kind = NAN_KIND};
    if (x.kind == INFINITE)
        return x;
    int32_t move = leading_zeros(x.significand) - 2;
    if ((x.exponent - move) % 2 != 0)
        move--;
    uint64_t rest = x.significand << move, root = 0;
    for (uint64_t bit = UINT64_C(1) << 62; bit != 0; bit >>= 2) {
        if (rest >= root + bit) {
            rest -= root + bit;
            root = (root >> 1) + bit;
        } else {
            root >>= 1;
        }
    }
    return (number){.kind = FINITE,
                    .significand = root << 1 | (rest != 0),
                    .exponent = (x.exponent - move) / 2 - 1};
}

/* What an element's roundings share. */
typedef struct context {
    uint64_t seed, stream, element;
    ref_update_counts *counts;
    bool no_code;
} context;

/* The words of a site (of a hop, if hop > 0) that the element draws. */
static uint32_t random_of(const context *now, const ref_site *site, int32_t place, uint64_t hop)
{
    uint64_t key = ref_key(now->seed, now->stream, (uint64_t)place);
    if (hop > 0)
        key = absorb(key, hop);
    return ref_word(key, now->element >> 32, now->element & UINT32_MAX) >>
           (32 - site->random_bits);
}

static uint32_t to_bits(const layout *from, uint64_t code)
{
    const layout binary32 = layout_of(&TO_BINARY32.format);
    uint32_t flags = 0;
    return (uint32_t)round_pack(&binary32, unpack(from, code),
                                (rounding){REF_NEAREST_EVEN, REF_SPECIAL, 0, 0}, &flags);
}

/* Rounds the exact result x at a site; place 0: to binary32, and nothing is counted. */
static uint32_t round_at(context *now, const ref_site *site, int32_t place, uint64_t hop, number x)
{
    const layout target = layout_of(&site->format);
    rounding how = {site->mode, site->overflow, site->random_bits, 0};
    if (is_stochastic(site->mode))
        how.random = random_of(now, site, place, hop);
    uint32_t flags = 0;
    const uint64_t code = round_sum(&target, x, how, &flags);
    if (flags & REF_NO_CODE)
        now->no_code = true;
    if (place > 0 && now->counts) {
        now->counts->overflowed[place] += (flags & REF_OVERFLOW) != 0;
        now->counts->underflowed[place] += (flags & REF_UNDERFLOW) != 0;
    }
    return to_bits(&target, code);
}

static uint32_t round_sum_at(context *now, const ref_site *site, int32_t place, size_t count,
                             number a, number b, number c)
{
    const number terms[3] = {a, b, c};
    return round_at(now, site, place, 0, exact_sum(terms, count));
}

static uint32_t in_binary32(context *now, number x)
{
    return round_at(now, &TO_BINARY32, 0, 0, x);
}

/* From the gradient to the direction: unscale, decay, and SGD's or Adam's moments. */
static uint32_t direction_of(context *now, const ref_update *how, ref_element *state,
                             uint32_t gradient)
{
    const number none = {.kind = ZERO};
    uint32_t g = round_at(now, &how->unscale, REF_SITE_UNSCALE, 0,
                          divide(value(gradient), value(how->scale)));
    if (how->decay_rate << 1 != 0) {
        const bool residual = how->rule != REF_RULE_AXPY;
        g = round_sum_at(now, &how->decay, REF_SITE_DECAY, residual ? 3 : 2, value(g),
                         times(how->decay_rate, state->weight),
                         residual ? negated(times(how->decay_rate, state->residual)) : none);
    }
    if (how->optimiser == REF_ADAM) {
        state->momentum =
            round_sum_at(now, &how->momentum, REF_SITE_MOMENTUM, 2,
                         times(how->momentum_rate, state->momentum), times(how->gain, g), none);
        /* (c g) g with c g cut in two: 24 times 24 bits each */
        number high = times(how->second_gain, g), low = high;
        if (high.kind == FINITE) {
            high.significand = high.significand >> 24;
            high.exponent += 24;
            low.significand &= (UINT64_C(1) << 24) - 1;
            high.kind = high.significand ? FINITE : ZERO;
            low.kind = low.significand ? FINITE : ZERO;
            low = multiply(low, value(g));
        } else {
            low = none;
        }
        state->second =
            round_sum_at(now, &how->second, REF_SITE_SECOND_MOMENT, 3,
                         times(how->second_rate, state->second), multiply(high, value(g)), low);
        uint32_t a = in_binary32(now, square_root(value(state->second)));
        a = in_binary32(now, divide(value(a), value(how->correction)));
        a = round_sum_at(now, &TO_BINARY32, 0, 2, value(a), value(how->epsilon), none);
        return in_binary32(now, divide(value(state->momentum), value(a)));
    }
    if (how->momentum_rate << 1 == 0)
        return g;
    number kept = times(how->momentum_rate, state->momentum);
    if (how->momentum_roundings == 2)
        kept = value(round_sum_at(now, &how->momentum, REF_SITE_MOMENTUM_PRODUCT, 1, kept, none,
                                  none));
    state->momentum = round_sum_at(now, &how->momentum, REF_SITE_MOMENTUM, 2, kept,
                                   times(how->gain, g), none);
    if (!how->nesterov)
        return state->momentum;
    return round_sum_at(now, &how->momentum, REF_SITE_NESTEROV, 2, value(g),
                        times(how->momentum_rate, state->momentum), none);
}

/* From the direction to the weight. */
static void move_weight(context *now, const ref_update *how, ref_element *state, uint32_t d)
{
    const number none = {.kind = ZERO};
    const number w = value(state->weight), kept = times(how->shrink, state->weight);
    const number step = times(how->rate, d), lost = times(how->shrink, state->residual);
    const ref_site *weight = &how->weight, *residual = &how->residual;
    uint32_t u, moved;

    switch (how->rule) {
    case REF_RULE_AXPY:
        moved = round_sum_at(now, weight, REF_SITE_UPDATE, 2, kept, negated(step), none);
        break;
    case REF_RULE_SMALL: {
        /* 1 - kappa has at most 24 bits, or the caller has made a mistake */
        const number rest[2] = {value(ONE), negated(value(how->shrink))};
        u = round_sum_at(now, residual, REF_SITE_EFFECTIVE, 3, lost, step,
                         multiply(exact_sum(rest, 2), w));
        moved = round_sum_at(now, weight, REF_SITE_UPDATE, 2, w, negated(value(u)), none);
        state->residual = round_sum_at(now, residual, REF_SITE_RESIDUAL, 3, value(moved),
                                       negated(w), value(u));
        break;
    }
    default:
        if (how->rule == REF_RULE_WIDE)
            u = round_sum_at(now, &TO_BINARY32, 0, 3, kept, negated(step), negated(lost));
        else
            u = round_sum_at(now, residual, REF_SITE_EFFECTIVE, 3, kept, negated(step),
                             negated(lost));
        moved = round_sum_at(now, weight, REF_SITE_UPDATE, 1, value(u), none, none);
        state->residual = round_sum_at(now, residual, REF_SITE_RESIDUAL, 2, value(moved),
                                       negated(value(u)), none);
        break;
    }
    state->weight = moved;
}

/* Whether two values differ as numbers: zeros are alike, and a NaN differs from everything. */
static bool differ(uint32_t a, uint32_t b)
{
    if (value(a).kind == NAN_KIND || value(b).kind == NAN_KIND)
        return true;
    return a != b && ((a | b) << 1) != 0;
}

static bool is_stuck(context *now, const ref_update *how, const ref_element *old,
                     const ref_element *new, uint32_t d)
{
    const bool residual = how->rule != REF_RULE_AXPY;
    const size_t terms = residual ? 3 : 2;
    if (differ(old->weight, new->weight) || (residual && differ(old->residual, new->residual)))
        return false;
    const uint32_t moved = round_sum_at(
        now, &TO_BINARY32, 0, terms, times(how->shrink, old->weight), negated(times(how->rate, d)),
        negated(times(how->shrink, old->residual)));
    const uint32_t still = round_sum_at(now, &TO_BINARY32, 0, terms - 1, value(old->weight),
                                        negated(value(old->residual)), (number){.kind = ZERO});
    return differ(moved, still);
}

int64_t ref_update_array(const ref_update *how, uint32_t *weight, uint32_t *residual,
                         uint32_t *momentum, uint32_t *second, const uint32_t *gradient,
                         uint64_t first, int64_t n, uint64_t seed, uint64_t step, uint64_t tensor,
                         ref_update_counts *counts)
{
    int64_t invalid = -1;
    const uint64_t stream = absorb(absorb(0, step), tensor);
    if (counts)
        *counts = (ref_update_counts){.stuck = 0};
    for (int64_t i = 0; i < n; i++) {
        context now = {seed, stream, first + (uint64_t)i, counts, false};
        const ref_element old = {weight[i], residual ? residual[i] : 0, momentum ? momentum[i] : 0,
                                 second ? second[i] : 0};
        ref_element state = old;
        const uint32_t d = direction_of(&now, how, &state, gradient[i]);
        move_weight(&now, how, &state, d);
        if (counts)
            counts->stuck += is_stuck(&now, how, &old, &state, d);
        if (now.no_code) {
            invalid = invalid < 0 ? i : invalid;
            continue;
        }
        weight[i] = state.weight;
        if (residual)
            residual[i] = state.residual;
        if (momentum)
            momentum[i] = state.momentum;
        if (second)
            second[i] = state.second;
    }
    return invalid;
}

uint32_t ref_site_sum(const ref_site *site, int32_t count, const uint32_t *constants,
                      const uint32_t *elements, uint32_t random, uint32_t *flags)
{
    const layout target = layout_of(&site->format);
    number terms[3];
    for (int32_t i = 0; i < count; i++)
        terms[i] = times(constants[i], elements[i]);
    uint32_t raised = 0;
    const uint64_t code =
        round_sum(&target, exact_sum(terms, (size_t)count),
                  (rounding){site->mode, site->overflow, site->random_bits, random}, &raised);
    if (flags)
        *flags = raised;
    return to_bits(&target, code);
}

void ref_reduce(const ref_site *site, const uint32_t *gradients, int64_t learners, int64_t size,
                uint64_t seed, uint64_t step, uint64_t tensor, uint32_t *out)
{
    const uint64_t stream = absorb(absorb(0, step), tensor);
    for (int64_t c = 0; c < learners; c++) {
        for (int64_t t = c * size / learners; t < (c + 1) * size / learners; t++) {
            context now = {seed, stream, (uint64_t)t, NULL, false};
            out[t] = gradients[(c + 1) % learners * size + t];
            for (int64_t hop = 1; hop < learners; hop++) {
                const uint32_t x = gradients[(c + 1 + hop) % learners * size + t];
                const number terms[2] = {value(out[t]), value(x)};
                out[t] = round_at(&now, site, REF_SITE_REDUCE, (uint64_t)hop,
                                  exact_sum(terms, 2));
            }
        }
    }
}

/* Whether x > y: finite numbers, zeros and infinities. */
static bool greater(number x, number y)
{
    if (x.kind == ZERO && y.kind == ZERO)
        return false;
    if (x.kind == ZERO)
        return y.negative;
    if (y.kind == ZERO)
        return !x.negative;
    if (x.negative != y.negative)
        return y.negative;
    bool larger; /* in magnitude */
    if (x.kind == INFINITE || y.kind == INFINITE) {
        larger = x.kind == INFINITE && y.kind != INFINITE;
        if (x.kind == y.kind)
            return false;
    } else {
        const int32_t top_x = x.exponent - leading_zeros(x.significand),
                      top_y = y.exponent - leading_zeros(y.significand);
        const uint64_t bits_x = x.significand << leading_zeros(x.significand),
                       bits_y = y.significand << leading_zeros(y.significand);
        if (top_x == top_y && bits_x == bits_y)
            return false;
        larger = top_x != top_y ? top_x > top_y : bits_x > bits_y;
    }
    return larger != x.negative;
}

int64_t ref_softmax_input(const ref_site *site, const uint32_t *z, int64_t rows, int64_t columns,
                          uint64_t seed, uint64_t step, uint64_t tensor, uint32_t *out)
{
    const uint64_t stream = absorb(absorb(0, step), tensor);
    int64_t invalid = -1;
    for (int64_t row = 0; row < rows; row++) {
        const uint32_t *x = z + row * columns;
        number largest = value(x[0]);
        for (int64_t column = 1; column < columns && largest.kind != NAN_KIND; column++) {
            const number next = value(x[column]);
            if (next.kind == NAN_KIND || greater(next, largest))
                largest = next;
        }
        for (int64_t column = 0; column < columns; column++) {
            const int64_t t = row * columns + column;
            const number terms[2] = {value(x[column]), negated(largest)};
            if (terms[0].kind == INFINITE && terms[0].negative) {
                out[t] = x[column]; /* masked */
                continue;
            }
            context now = {seed, stream, (uint64_t)t, NULL, false};
            out[t] = round_at(&now, site, REF_SITE_SOFTMAX, 0, exact_sum(terms, 2));
            if (now.no_code && invalid < 0)
                invalid = t;
        }
    }
    return invalid;
}
