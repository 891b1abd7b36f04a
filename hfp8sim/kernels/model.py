"""What a microkernel computes, as plain loops: read this first.

The generated code of `microkernel.tile` does exactly this, for many outputs at a time. One output is a chain of
steps. Each is a sum in a lane's precision (24 or 53 bits), followed by a rounding of its bits; the numbers are
those of `NUMBERS`. Formats do not occur here: that the results are those of the accumulator's format is proved in
`select.py`.

These loops are also the kernels of the target `model`, which runs on any processor that Numba compiles for. They
set no rounding direction: float64 stands for lanes of either width, and directions are applied to the exact error
of a sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from hfp8sim._numba.calls import array_at, record_at
from hfp8sim._numba.jit import jit
from hfp8sim.kernels.form import (
    EVENTS,
    NO_EXPONENT,
    OVERFLOWED,
    PANEL,
    SWAMPED,
    UNDERFLOWED,
    Adder,
    Counting,
    Mode,
    Order,
    Overflow,
    Underflow,
)
from hfp8sim.kernels.kernel import Kernel
from hfp8sim.kernels.numbers import NUMBERS
from hfp8sim.units.random import LOWBIAS_1, LOWBIAS_2

#: Modes and adders as numbers.
_NONE, _EVEN, _AWAY, _ZERO, _RANDOM, _HASH = range(len(Mode))
_NEAREST, _CHOP, _ODD = range(len(Adder))
_FRACTION32, _FRACTION64 = 23, 52
_LOW32 = np.uint64(0xFFFFFFFF)


class Rule(NamedTuple):
    """One of a kernel's two roundings, as integers."""

    bits: int  #: of the lane's float
    mode: int  #: place in `Mode`
    adder: int  #: place in `Adder`
    underflows: int  #: 1: sums may be below the smallest number
    overflows: int  #: 1: sums may be beyond the largest number


class Rules(NamedTuple):
    """What specialises a kernel, as integers."""

    intra: Rule
    inter: Rule
    width: int  #: elements of k that a step reads
    rows: int  #: of the tile
    columns: int  #: of the tile
    aligned: int  #: 1: the terms of a step are aligned
    exact: int  #: 1: a chunk is summed exactly and rounded once
    counts: int  #: 1: events are counted
    adds_zero: int  #: 1: steps that add zero are counted as swamped, too


def rules(kernel: Kernel) -> Rules:
    """The rules of a kernel."""
    form = kernel.form
    modes, adders = list(Mode), list(Adder)
    limits = (
        int(form.underflow is not Underflow.IMPOSSIBLE),
        int(form.overflow is not Overflow.IMPOSSIBLE),
    )
    intra, inter = (
        Rule(bits, modes.index(rounding.mode), adders.index(rounding.adder), *limits)
        for bits, rounding in ((int(form.lane), form.intra), (32, form.inter))
    )
    return Rules(
        intra, inter, form.width, kernel.tiling.rows, kernel.columns,
        aligned=int(form.order is Order.ALIGNED), exact=int(form.exact_chunks),
        counts=int(kernel.counting is not Counting.NONE),
        adds_zero=int(kernel.counting is Counting.UNCHANGED),
    )  # fmt: skip


# -- the bits of floats ------------------------------------------------------------------------------


@jit
def to_bits(x, bits):
    """The bits of a float32 or float64, as int64."""
    if bits == 64:
        return np.float64(x).view(np.int64)
    return np.int64(np.float32(x).view(np.int32))


@jit
def from_bits(word, bits):
    """The float of given bits, as float64; of 32 the lowest count."""
    if bits == 64:
        return np.int64(word).view(np.float64)
    return np.float64(np.int32(word & 0xFFFFFFFF).view(np.float32))


# -- sums --------------------------------------------------------------------------------------------


@jit
def chopped(x, y, fraction):
    """x + y cut toward zero to a number of fraction bits, and whether anything was cut off."""
    s = x + y
    t = s - x
    error = (x - (s - t)) + (y - t)  # of s, exactly (Knuth's two-sum)
    bits = to_bits(s, 64)
    if error != 0 and (error < 0) == (s > 0):  # s was rounded away from zero: one back
        bits -= 1
    cut = _FRACTION64 - fraction
    kept = (bits >> cut) << cut
    return from_bits(kept, 64), error != 0 or kept != bits


@jit
def add(x, y, adder, bits):
    """x + y by an adder of a lane."""
    if not math.isfinite(x + y):
        return x + y
    kept, inexact = chopped(x, y, _FRACTION64 if bits == 64 else _FRACTION32)
    if adder == _CHOP:
        return kept
    if adder == _ODD:
        return from_bits(to_bits(kept, bits) | np.int64(inexact), bits)
    if bits == 64:
        return x + y
    # To odd in 53 bits first: rounding that to 24 bits is rounding the exact sum.
    wide, inexact = chopped(x, y, _FRACTION64)
    return np.float64(np.float32(from_bits(to_bits(wide, 64) | np.int64(inexact), 64)))


@jit
def aligned_sum(acc, width, a, b, exponents, numbers):
    """The accumulator and a step's products, cut below the largest exponent among them, and added.

    Args:
        a, b, exponents: factors, and exponents of the products, of the step's `width` elements of k.
        numbers: a record of NUMBERS.
    """
    largest = NO_EXPONENT
    if acc != 0:
        largest = max(math.frexp(acc)[1] - 1, numbers.lowest)
    for p in range(width):
        largest = max(largest, exponents[p])
    if largest < NO_EXPONENT // 2:  # all terms are zero
        return 0.0
    unit = 2.0 ** np.float64(largest - numbers.guard)
    total = np.trunc(acc / unit)
    for p in range(width):
        total += np.trunc(a[p] * b[p] / unit)
    return total * unit


# -- a rounding --------------------------------------------------------------------------------------


@jit
def addend(row, column, rule, numbers):
    """The addend of a stochastic rounding, from a row's and a column's word (uint64)."""
    x = row ^ column
    if rule.mode == _HASH:  # mix32, see rounding.py
        x = x * LOWBIAS_1 & _LOW32
        x = (x ^ (x >> np.uint64(15))) * LOWBIAS_2 & _LOW32
        if rule.bits == 64:
            x = x << np.uint64(32)
        x = (x >> numbers.hash_shift) & numbers.hash_keep
    return np.int64(x)


@jit
def rounded(s, rule, random, numbers):
    """A sum cut to the accumulator's precision: magnitudes are integers, and carries run into the exponent.

    Args:
        random: the addend of a stochastic rounding.
        numbers: a record of ROUNDING_NUMBERS.
    """
    if rule.mode == _NONE or not math.isfinite(s):
        return s
    bits = to_bits(s, rule.bits)
    if rule.mode == _EVEN:
        odd = (bits >> np.int64(numbers.drop)) & 1
        bits += np.int64(numbers.half) - 1 + odd
    elif rule.mode == _AWAY:
        bits += np.int64(numbers.half)
    elif rule.mode == _RANDOM or rule.mode == _HASH:
        bits += random
    return from_bits(bits & np.int64(numbers.keep), rule.bits)


@jit
def above_smallest(s, x, rule, random, numbers):
    """The rounded sum x of s, or what takes its place below the smallest number."""
    smallest = from_bits(np.int64(numbers.smallest), rule.bits)
    if rule.mode == _RANDOM or rule.mode == _HASH:
        if abs(s) < smallest:
            units = (np.int64(1) << np.int64(numbers.drop)) - random
            up = abs(s) >= units * from_bits(np.int64(numbers.gap), rule.bits)
            return math.copysign(smallest, s) if up else 0.0
    elif abs(x) < smallest:
        return 0.0
    return x


@jit
def limited(s, x, finite, rule, random, numbers, events):
    """The rounded sum x of s within the lowest binade and the largest number.

    Args:
        finite: no term of the sum was infinite: then an infinite sum is an overflow.
        events: counts, which are added to.
    """
    if rule.underflows and rule.mode != _NONE:
        x = above_smallest(s, x, rule, random, numbers)
        if x == 0 and s != 0:
            events[UNDERFLOWED] += 1
    if rule.overflows and abs(x) > from_bits(np.int64(numbers.largest), rule.bits):
        if rule.mode != _ZERO or math.isfinite(x):  # finite terms are never chopped to an infinity
            if finite:
                events[OVERFLOWED] += 1
            return math.copysign(from_bits(np.int64(numbers.over), rule.bits), x)
    return x


# -- an output ---------------------------------------------------------------------------------------


@jit
def step(rules, acc, width, a, b, exponents, random, numbers, events):
    """The accumulator after one step. Products, and sums of two, are exact."""
    total = 0.0
    for p in range(width):
        total += a[p] * b[p]
    if rules.aligned:
        s = aligned_sum(acc, width, a, b, exponents, numbers)
    else:
        s = add(acc, total, rules.intra.adder, rules.intra.bits)
    if rules.exact:
        return s
    x = rounded(s, rules.intra, random, numbers.intra)
    x = limited(s, x, math.isfinite(acc), rules.intra, random, numbers.intra, events)
    if x == acc and (rules.adds_zero or total != 0):
        largest = from_bits(np.int64(numbers.intra.largest), rules.intra.bits)
        if not rules.intra.overflows or abs(acc) <= largest:
            events[SWAMPED] += 1
    return x


@jit
def closed(rules, total, acc, random, numbers, events):
    """The running total after a chunk."""
    if rules.exact:
        s = acc
        acc = rounded(s, rules.intra, 0, numbers.intra)
        acc = limited(s, acc, True, rules.intra, 0, numbers.intra, events)
        if acc == 0 and s != 0:
            events[SWAMPED] += 1
    acc = np.float64(np.float32(acc))
    finite = math.isfinite(total) and math.isfinite(acc)
    s = add(total, acc, rules.inter.adder, 32)
    x = rounded(s, rules.inter, random, numbers.inter)
    return limited(s, x, finite, rules.inter, random, numbers.inter, events)


# -- memory ------------------------------------------------------------------------------------------


@jit
def load_float(address, i, bits):
    """Element i of lane floats at an address."""
    if bits == 64:
        return array_at(address, (i + 1,), np.float64)[i]
    return np.float64(array_at(address, (i + 1,), np.float32)[i])


@jit
def store_float(address, i, bits, x):
    """Write element i of lane floats at an address."""
    if bits == 64:
        array_at(address, (i + 1,), np.float64)[i] = x
    else:
        array_at(address, (i + 1,), np.float32)[i] = np.float32(x)


@jit
def load_word(address, i, bits):
    """Element i of words at an address, as uint64."""
    if bits == 64:
        return array_at(address, (i + 1,), np.uint64)[i]
    return np.uint64(array_at(address, (i + 1,), np.uint32)[i])


@jit
def load_exponent(address, i):
    """Element i of exponents at an address."""
    return np.int64(array_at(address, (i + 1,), np.int32)[i])


@jit
def tile(
    rules, a, b, a_exponents, b_exponents, rows, columns, chunk_rows, chunk_columns,
    chunk, total, numbers, counts, steps, left, length, close, fresh,
):  # fmt: skip
    """One register tile over a range of k; all but `rules` as in `microkernel.TILE`."""
    constants = record_at(numbers, NUMBERS)
    lane, width = rules.intra.bits, rules.width
    a_factors, b_factors = np.zeros(width), np.zeros(width)
    exponents, events = np.zeros(width, np.int64), np.zeros(EVENTS, np.int64)
    random_steps, random_chunks = rules.intra.mode >= _RANDOM, rules.inter.mode >= _RANDOM
    for r in range(rules.rows):
        for c in range(rules.columns):
            cell = r * PANEL + c
            acc = 0.0 if fresh else load_float(chunk, cell, lane)
            sum_of_chunks = 0.0 if fresh else load_float(total, cell, 32)
            t, chunks, room = 0, 0, left
            while True:
                stop = min(t + room, steps)
                full = stop == t + room
                while t < stop:
                    for p in range(width):
                        k = (t * width + p) * PANEL
                        a_factors[p] = load_float(a, k + r, lane)
                        b_factors[p] = load_float(b, k + c, lane)
                        if rules.aligned:
                            exponents[p] = load_exponent(a_exponents, k + r)
                            exponents[p] += load_exponent(b_exponents, k + c)
                    random = np.int64(0)
                    if random_steps:
                        row = load_word(rows, t * PANEL + r, lane)
                        column = load_word(columns, t * PANEL + c, lane)
                        random = addend(row, column, rules.intra, constants.intra)
                    acc = step(
                        rules, acc, width, a_factors, b_factors, exponents, random, constants, events
                    )  # fmt: skip
                    t += 1
                if not full and not (t == steps and close):
                    break
                random = np.int64(0)
                if random_chunks:
                    row = load_word(chunk_rows, chunks * PANEL + r, 32)
                    column = load_word(chunk_columns, chunks * PANEL + c, 32)
                    random = addend(row, column, rules.inter, constants.inter)
                sum_of_chunks = closed(rules, sum_of_chunks, acc, random, constants, events)
                acc, chunks, room = 0.0, chunks + 1, length
                if t == steps:
                    break
            store_float(chunk, cell, lane, acc)
            store_float(total, cell, 32, sum_of_chunks)
    if rules.counts:
        counted = array_at(counts, (EVENTS,), np.int64)
        for event in range(EVENTS):
            counted[event] += events[event]


def loops(kernel: Kernel) -> Callable[..., Any]:
    """`tile` of a kernel. Its arguments are the fields of a `microkernel.TILE`, but for the last."""
    fixed = rules(kernel)

    def run(
        a, b, a_exponents, b_exponents, rows, columns, chunk_rows, chunk_columns,
        chunk, total, numbers, counts, steps, left, length, close, fresh,
        b_stride, columns_stride, chunks_stride,
    ):  # type: ignore[no-untyped-def]  # fmt: skip
        tile(
            fixed, a, b, a_exponents, b_exponents, rows, columns, chunk_rows, chunk_columns,
            chunk, total, numbers, counts, steps, left, length, close, fresh,
        )  # fmt: skip

    return run
