// Operands for sums of products: terms that align, cancel and swamp.
#ifndef SAMPLE_H
#define SAMPLE_H

#include "bench.h"

// Half of the codes are any; the others lie in one binade, so that products meet.
inline uint32_t operand(generator &draw, const ref_format &f)
{
    const uint32_t any = draw.below(1u << bits_of(f));
    if (draw.next() & 1)
        return any;
    const uint32_t magnitude = (1u << (f.exponent_bits + f.fraction_bits)) - 1;
    const uint32_t near = ((uint32_t)f.bias << f.fraction_bits) + draw.below(4u << f.fraction_bits);
    return (any & ~magnitude) | (near & magnitude);
}

// An accumulator: any code, or minus the rounded sum of some products, or a few codes beside that.
inline uint32_t accumulator(generator &draw, const ref_profile &how, const uint32_t *a, const uint32_t *b, int n)
{
    const ref_format &f = how.accumulator;
    const uint32_t any = draw.below(1u << bits_of(f));
    if (draw.below(4) == 0)
        return any;
    uint32_t flags;
    const uint32_t random[2] = {0, 0};
    const uint32_t near = ref_step(&how, 0, a, b, 1 + draw.below(n), random, &flags);
    const uint32_t sign = f.is_signed << (f.exponent_bits + f.fraction_bits);
    return (near + draw.below(7) - 3 + (draw.below(8) << f.fraction_bits) * draw.below(2)
            ^ (draw.below(4) ? sign : 0)) & ((1u << bits_of(f)) - 1);
}

#endif
