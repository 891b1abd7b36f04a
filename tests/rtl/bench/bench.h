// What the benches share. The expected results come from the C reference, which is linked in.
#ifndef BENCH_H
#define BENCH_H

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

extern "C" {
#include "hfp8_ref.h"
}

// The format of a word: docs/isa.md, "Formats as words".
inline ref_format format_of(const char *text)
{
    const uint32_t word = (uint32_t)strtoul(text, nullptr, 0);
    ref_format f;
    f.exponent_bits = word & 31;
    f.fraction_bits = word >> 5 & 31;
    f.is_signed = word >> 10 & 1;
    f.zero = word >> 11 & 3;
    f.lowest = word >> 13 & 3;
    f.special = word >> 15 & 7;
    f.bias = (int32_t)word >> 20;
    if (const char *problem = ref_format_problem(&f)) {
        fprintf(stderr, "%s: %s\n", text, problem);
        exit(2);
    }
    return f;
}

inline int bits_of(const ref_format &f) { return f.exponent_bits + f.fraction_bits + f.is_signed; }

inline bool stochastic(int mode) { return mode >= REF_STOCHASTIC_A; }

// Counts cases and differences, prints the first differences, and stops after a few.
struct tally {
    uint64_t cases = 0, wrong = 0;

    void differs(const char *what, uint32_t result, uint32_t flags, uint32_t expected, uint32_t expected_flags)
    {
        printf("%s: %x, flags %x instead of %x, flags %x\n", what, result, flags, expected, expected_flags);
        if (++wrong >= 10)
            exit(finish());
    }

    int finish()
    {
        printf("%llu cases, %llu wrong\n", (unsigned long long)cases, (unsigned long long)wrong);
        fflush(stdout);
        return wrong ? 1 : 0;
    }
};

// A generator of test inputs (SplitMix64): the same inputs in every run.
struct generator {
    uint64_t state;

    uint64_t next()
    {
        uint64_t z = state += 0x9E3779B97F4A7C15u;
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
        z = (z ^ z >> 27) * 0x94D049BB133111EBu;
        return z ^ z >> 31;
    }

    uint32_t below(uint32_t n) { return (uint32_t)((next() >> 32) * n >> 32); }
};

#endif
