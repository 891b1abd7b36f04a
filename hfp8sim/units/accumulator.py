"""The chunk accumulator: the sums of one output, and the plain loop over a tile of outputs.

This is the machine's arithmetic, written to be read. The vector kernels of `kernels` give the same bits. A GEMM
for which no kernel can be proved exact is computed here.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hfp8sim._numba.jit import jit, jit_inlined
from hfp8sim.errors import InputError, check_whole_number
from hfp8sim.formats import FloatFormat, get_format
from hfp8sim.formats.rounding import OVERFLOWED, UNDERFLOWED
from hfp8sim.formats.vocabulary import Facts, is_stochastic, mode_number, overflow_number
from hfp8sim.units.exact import exact_add, exact_take, register_size
from hfp8sim.units.mac import (
    INF_EXP,
    SumOrder,
    aligned,
    chain,
    exact,
    fma,
    fmma,
    nth_product,
    operand,
    pack_exceptional,
    pair_first,
)
from hfp8sim.units.profile import Profile
from hfp8sim.units.random import (
    ACCUMULATE_COLUMN,
    ACCUMULATE_ROW,
    BETWEEN_COLUMN,
    BETWEEN_ROW,
    COUNTER,
    LFSR,
    SOURCES,
    key,
    lfsr_start,
    lfsr_step,
    mix32,
    word,
)
from hfp8sim.units.sums import Rounder, round_sum

# Indices of the array of event counts.
SWAMPED = 0  #: steps with a non-zero sum of products after which the accumulator is unchanged
OVERFLOWS = 1  #: roundings beyond the largest number
UNDERFLOWS = 2  #: inexact roundings below the smallest normal number
DRAWS = 3  #: random words of stochastic roundings
EVENT_KINDS = 4  #: length of the array


class GemmFacts(NamedTuple):
    """A GEMM as compiled code sees it: integers and keys only."""

    a: Facts  #: formats of the operands, …
    b: Facts
    acc: Facts  #: … of the sum of a chunk (intra-chunk), …
    total: Facts  #: … and of the running total of chunks (inter-chunk)
    chunk_length: int  #: products of a chunk; 0: no chunks
    products: int  #: products of a step; 0: the whole chunk
    order: int  #: a `SumOrder`
    roundings: int  #: roundings of a step
    guard: int  #: fraction bits that `aligned` sums keep
    mode: int  #: rounding mode intra-chunk …
    between: int  #: … and inter-chunk
    policy: int  #: overflow policy of both
    r: int  #: bits of a random integer
    source: int  #: random source, an index of `SOURCES`
    row_key: np.uint64  #: keys of the random words, intra-chunk …
    column_key: np.uint64
    between_row_key: np.uint64  #: … and inter-chunk
    between_column_key: np.uint64
    base: int  #: exponent of the lowest bit of the exact register …
    limbs: int  #: … and its length

    @property
    def keys(self) -> tuple[tuple[np.uint64, np.uint64], tuple[np.uint64, np.uint64]]:
        """Keys of the random words of rows, and of columns: each of steps and of chunks."""
        return (
            (self.row_key, self.between_row_key),
            (self.column_key, self.between_column_key),
        )


@functools.lru_cache(256, typed=True)
def gemm_facts(
    profile: Profile, a: FloatFormat, b: FloatFormat, seed: int, stream: int
) -> GemmFacts:
    """The facts of a GEMM of formats a × b under a profile.

    Raises:
        InputError: a seed or a stream that is not in 0..2^64 − 1.
    """
    check_source(seed, stream)
    row, column, between_row, between_column = (
        np.uint64(key(np.uint64(seed), np.uint64(stream), np.uint64(site)))
        for site in (ACCUMULATE_ROW, ACCUMULATE_COLUMN, BETWEEN_ROW, BETWEEN_COLUMN)
    )
    order = SumOrder.of(profile.sum_order)
    base, limbs = register_size(a.facts, b.facts)
    return GemmFacts(
        a.facts, b.facts,
        get_format(profile.accumulator).facts, get_format(profile.between_chunks).facts,
        profile.chunk_length, profile.products_per_step, int(order), order.roundings,
        profile.guard_bits, mode_number(profile.rounding), mode_number(profile.between_rounding),
        overflow_number(profile.overflow), profile.random_bits, SOURCES.index(profile.random_source),
        row, column, between_row, between_column, base, limbs,
    )  # fmt: skip


def stream_keys(seed: int, stream: int, count: int) -> NDArray[np.uint64]:
    """Keys of the random words of `count` GEMMs, the g-th of which draws from stream + g (mod 2^64).

    Returns:
        uint64 (count, 4): of rows, intra-chunk and inter-chunk, then of columns.

    Raises:
        InputError: a seed or a stream that is not in 0..2^64 − 1.
    """
    check_source(seed, stream)
    keys = np.empty((count, 4), np.uint64)
    _fill_keys(np.uint64(seed), np.uint64(stream), keys)
    return keys


@jit
def _fill_keys(seed, stream, keys):
    for g in range(keys.shape[0]):
        own = stream + np.uint64(g)
        keys[g, 0] = key(seed, own, np.uint64(ACCUMULATE_ROW))
        keys[g, 1] = key(seed, own, np.uint64(BETWEEN_ROW))
        keys[g, 2] = key(seed, own, np.uint64(ACCUMULATE_COLUMN))
        keys[g, 3] = key(seed, own, np.uint64(BETWEEN_COLUMN))


def check_source(seed: int, stream: int) -> None:
    """Seed and stream are unsigned integers of 64 bits."""
    for what, value in (("seed", seed), ("stream", stream)):
        if not 0 <= check_whole_number(value, what, -(1 << 80), 1 << 80) < 1 << 64:
            raise InputError(f"{what} is {value}, must be 0 ≤ {what} < 2^64")


@jit_inlined
def draw(mode, row_key, column_key, m, n, j, facts, lfsr):
    """The random integer of one rounding, 0 for a mode without one, and the output's LFSR after it.

    The LFSR steps at every rounding, whatever its mode.
    """
    if facts.source == LFSR:
        lfsr = lfsr_step(lfsr)
    if not is_stochastic(mode):
        return 0, lfsr
    if facts.source == LFSR:
        bits = lfsr
    else:
        bits = word(row_key, m, j) ^ word(column_key, n, j)
        if facts.source == COUNTER:
            bits = mix32(bits)
    return np.int64(bits >> np.uint64(32 - facts.r)), lfsr


@jit_inlined
def count(events, flags):
    """Count the overflow and the underflow of a rounding."""
    events[OVERFLOWS] += (flags & OVERFLOWED) != 0
    events[UNDERFLOWS] += (flags & UNDERFLOWED) != 0


@jit
def sum_is_finite_and_nonzero(row, column, first, stop, limbs, base):
    """Whether the exact sum of products first..stop − 1 is a number other than zero."""
    if stop == first + 1:
        sig, exp = nth_product(row, column, first)
        return exp < INF_EXP and sig != 0
    finite = True
    for i in range(first, stop):
        sig, exp = nth_product(row, column, i)
        if exp >= INF_EXP:
            finite = False
        elif sig != 0:
            exact_add(limbs, base, sig, exp)
    return exact_take(limbs, base)[0] != 0 and finite


@jit_inlined
def add_products(acc, row, column, first, stop, inner, outer, facts, limbs):
    """acc + the products of one step, in the profile's sum order.

    Args:
        acc: accumulator code.
        row, column: terms of A and B, int64 (k, 2). The step takes products first..stop − 1; missing ones are
            +0·+0.
        inner, outer: `Rounder`s of the step's first and second rounding; most orders have only the first.
        limbs: the exact register, zero before and after.

    Returns:
        (code, flags of the first rounding, flags of the second rounding or 0).
    """
    if facts.order == SumOrder.ALIGNED:
        code, flags = aligned(acc, row, column, first, stop, facts.a, facts.b, facts.guard, inner)
        return code, flags, 0
    if facts.products == 0:
        code, flags = exact(row, column, first, stop, limbs, facts.base, inner)
        return code, flags, 0
    p = nth_product(row, column, first)
    if facts.products == 1:
        code, flags = fma(acc, p, inner)
        return code, flags, 0
    q = nth_product(row, column, first + 1) if stop > first + 1 else (0, 0)
    if facts.order == SumOrder.PAIR_FIRST:
        return pair_first(acc, p, q, inner, outer)
    if facts.order == SumOrder.CHAIN:
        return chain(acc, p, q, inner, outer)
    code, flags = fmma(acc, p, q, inner)
    return code, flags, 0


@jit_inlined
def step(acc, row, column, first, stop, m, n, k, facts, lfsr, limbs, events):
    """One step of output (m, n): draw random bits, add the products, count events.

    Args:
        acc: accumulator code.
        row, column, first, stop, limbs: see `add_products`.
        k: global index of the step's first product.
        lfsr: the output's register.
        events: int64 (EVENT_KINDS,), added to.

    Returns:
        (accumulator code, register).
    """
    random1, lfsr = draw(facts.mode, facts.row_key, facts.column_key, m, n, k, facts, lfsr)
    random2 = 0
    if facts.roundings == 2:
        random2, lfsr = draw(facts.mode, facts.row_key, facts.column_key, m, n, k + 1, facts, lfsr)
    inner = Rounder(facts.acc, facts.mode, facts.policy, facts.r, random1)
    outer = Rounder(facts.acc, facts.mode, facts.policy, facts.r, random2)

    code, flags1, flags2 = add_products(acc, row, column, first, stop, inner, outer, facts, limbs)

    if is_stochastic(facts.mode):
        events[DRAWS] += facts.roundings
    count(events, flags1)
    count(events, flags2)
    if code == acc and operand(acc, facts.acc)[1] < INF_EXP:
        events[SWAMPED] += sum_is_finite_and_nonzero(row, column, first, stop, limbs, facts.base)
    return code, lfsr


@jit_inlined
def close_chunk(acc, total, m, n, c, facts, lfsr, events):
    """Chunk c is complete: copy its sum to the running total (c = 0) or add it: (total, register)."""
    keys = facts.between_row_key, facts.between_column_key
    random, lfsr = draw(facts.between, keys[0], keys[1], m, n, c, facts, lfsr)
    events[DRAWS] += is_stochastic(facts.between)
    rounder = Rounder(facts.total, facts.between, facts.policy, facts.r, random)
    x = operand(acc, facts.acc)
    if c > 0:
        total, flags = fma(total, x, rounder)
    elif x[1] >= INF_EXP:
        total, flags = pack_exceptional(x, rounder)
    else:
        total, flags = round_sum(x[0], x[1], False, rounder)
    count(events, flags)
    return total, lfsr


@jit
def unpack_tile(codes, fmt):
    """The terms of codes (i, j): int64 (i, j, 2)."""
    terms = np.empty((codes.shape[0], codes.shape[1], 2), np.int64)
    for i in range(codes.shape[0]):
        for j in range(codes.shape[1]):
            terms[i, j, 0], terms[i, j, 1] = operand(np.int64(codes[i, j]), fmt)
    return terms


@jit_inlined
def accumulate(row, column, depth, acc, total, m, n, k0, k_end, facts, register, limbs, events):
    """Add `depth` products, k from k0 on, to output (m, n): (sum of the open chunk, total, register)."""
    length = facts.chunk_length if facts.chunk_length > 0 else k_end
    width = facts.products if facts.products > 0 else length
    k, c = k0, k0 // length
    boundary = min((c + 1) * length, k_end)
    while k < k0 + depth:
        stop = min(k + width, boundary, k0 + depth)
        acc, register = step(
            acc, row, column, k - k0, stop - k0, m, n, k, facts, register, limbs, events
        )
        if stop == boundary and facts.chunk_length > 0:
            total, register = close_chunk(acc, total, m, n, c, facts, register, events)
            acc, c = 0, c + 1
            boundary = min(boundary + length, k_end)
        k = stop
    return acc, total, register


@jit
def gemm_tile(a, b, chunk, total, lfsr, m0, n0, k0, k_end, facts, events):
    """Add the products of K-range [k0, k0 + kt) to a tile of outputs, in place.

    The result of a GEMM is `total`, or `chunk` if it has no chunks.

    Args:
        a, b: operand codes, (mt, kt) and (kt, nt), uint32.
        chunk, total: accumulator codes of the outputs, (mt, nt) uint32: the sum of the chunk that is
            open at k0, and the running total of closed chunks. Zero at k0 = 0.
        lfsr: registers of the outputs, (mt, nt) uint64, from `start_lfsr` at k0 = 0. Other random sources
            do not read it: any 2-D array will do.
        m0, n0, k0: position of the tile in the whole GEMM. k0 is the first k of a step.
        k_end: K of the whole GEMM, where the last chunk closes.
        facts: `GemmFacts`.
        events: int64 (EVENT_KINDS,), added to.
    """
    mt, kt = a.shape
    nt = b.shape[1]
    rows, columns = unpack_tile(a, facts.a), unpack_tile(b.T, facts.b)
    limbs = np.zeros(facts.limbs, np.int64)
    for m in range(mt):
        for n in range(nt):
            register = lfsr[m, n] if facts.source == LFSR else np.uint64(0)
            acc, running, register = accumulate(
                rows[m], columns[n], kt, np.int64(chunk[m, n]), np.int64(total[m, n]), m0 + m, n0 + n, k0,
                k_end, facts, register, limbs, events,
            )  # fmt: skip
            chunk[m, n] = acc
            total[m, n] = running
            if facts.source == LFSR:
                lfsr[m, n] = register


@jit
def start_lfsr(lfsr, m0, n0, facts):
    """Fill the registers of a tile at (m0, n0) for the start of a GEMM; uint64 (mt, nt)."""
    for m in range(lfsr.shape[0]):
        for n in range(lfsr.shape[1]):
            lfsr[m, n] = lfsr_start(facts.row_key, m0 + m, n0 + n)
