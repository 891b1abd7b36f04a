"""The chunk accumulator: one output's sums, and the plain loop over a tile of outputs.

This is the machine's arithmetic as anyone can read it. The fast kernels of `kernels` give the same
bits; everything that they cannot prove themselves right about comes here.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from hfp8sim._numba.jit import jit, jit_inlined
from hfp8sim.errors import InputError
from hfp8sim.formats import FloatFormat, get_format
from hfp8sim.formats.rounding import OVERFLOWED, UNDERFLOWED
from hfp8sim.formats.vocabulary import Facts, is_stochastic, mode_number, overflow_number
from hfp8sim.units.exact import exact_add, exact_take, register_size
from hfp8sim.units.mac import (
    ALIGNED,
    CHAIN,
    INF_EXP,
    PAIR_FIRST,
    SUM_ORDERS,
    aligned,
    exceptional,
    fma,
    fmma,
    operand,
    pack_exceptional,
    product,
    round_two,
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
from hfp8sim.units.sums import round_sum

#: Places in the array of event counts.
SWAMPED, OVERFLOWS, UNDERFLOWS, DRAWS = range(4)
EVENT_KINDS = 4


class GemmFacts(NamedTuple):
    """What a kernel knows of a GEMM: integers and keys only."""

    a: Facts
    b: Facts
    acc: Facts
    total: Facts
    chunk_length: int
    products: int
    order: int
    guard: int
    mode: int
    between: int
    policy: int
    r: int
    source: int
    row_key: np.uint64
    column_key: np.uint64
    between_row_key: np.uint64
    between_column_key: np.uint64
    base: int  #: of the exact register …
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
    """The facts of a GEMM of formats a × b under a profile."""
    for what, value in (("seed", seed), ("stream", stream)):
        if not 0 <= value < 1 << 64:
            raise InputError(f"{what} is {value}, must be 0 ≤ {what} < 2^64")
    row, column, between_row, between_column = (
        np.uint64(key(np.uint64(seed), np.uint64(stream), np.uint64(site)))
        for site in (ACCUMULATE_ROW, ACCUMULATE_COLUMN, BETWEEN_ROW, BETWEEN_COLUMN)
    )
    base, limbs = register_size(a.facts, b.facts)
    return GemmFacts(
        a.facts, b.facts,
        get_format(profile.accumulator).facts, get_format(profile.between_chunks).facts,
        profile.chunk_length, profile.products_per_step, SUM_ORDERS.index(profile.sum_order),
        profile.guard_bits, mode_number(profile.rounding), mode_number(profile.between_rounding),
        overflow_number(profile.overflow), profile.random_bits, SOURCES.index(profile.random_source),
        row, column, between_row, between_column, base, limbs,
    )  # fmt: skip


@jit_inlined
def draw(row_key, column_key, m, n, j, facts, lfsr):
    """The r random bits of one rounding, and the output's LFSR after it."""
    if facts.source == LFSR:
        lfsr = lfsr_step(lfsr)
        return np.int64(lfsr >> np.uint64(32 - facts.r)), lfsr
    bits = word(row_key, m, j) ^ word(column_key, n, j)
    if facts.source == COUNTER:
        bits = mix32(bits)
    return np.int64(bits >> np.uint64(32 - facts.r)), lfsr


@jit_inlined
def count(events, flags):
    """Count a rounding's overflow and underflow."""
    events[OVERFLOWS] += (flags & OVERFLOWED) != 0
    events[UNDERFLOWS] += (flags & UNDERFLOWED) != 0


@jit
def products_vanish(sig_a, exp_a, sig_b, exp_b, first, after, limbs, facts):
    """Whether the products of a step sum to exactly zero, or to nothing finite."""
    finite = True
    for i in range(first, after):
        sig, exp = product(sig_a[i], exp_a[i], sig_b[i], exp_b[i])
        if exp >= INF_EXP:
            finite = False
        elif after == first + 1:
            return sig == 0
        elif sig != 0:
            exact_add(limbs, facts.base, sig, exp)
    return exact_take(limbs, facts.base)[0] == 0 or not finite


@jit_inlined
def step(acc, sig_a, exp_a, sig_b, exp_b, first, after, m, n, k, facts, lfsr, limbs, events):
    """One step of one output: acc ← acc + the products of a few k. All of the arithmetic is here.

    The step's elements are first..after−1 of the 1-D operand arrays; k is the global index of the
    first. Returns the accumulator's code and the output's LFSR.
    """
    random1 = random2 = 0
    two = facts.order == PAIR_FIRST or facts.order == CHAIN  # so two roundings in a step
    if is_stochastic(facts.mode) or facts.source == LFSR:  # a register steps at every rounding
        random1, lfsr = draw(facts.row_key, facts.column_key, m, n, k, facts, lfsr)
        if two:
            random2, lfsr = draw(facts.row_key, facts.column_key, m, n, k + 1, facts, lfsr)
    if is_stochastic(facts.mode):
        events[DRAWS] += 1 + two

    fmt, mode, policy, r = facts.acc, facts.mode, facts.policy, facts.r
    if facts.order == ALIGNED:
        code, flags = aligned(
            acc, sig_a, exp_a, sig_b, exp_b, first, after, facts.a, facts.b, facts.guard,
            fmt, mode, policy, r, random1,
        )  # fmt: skip
    elif facts.products == 0:
        odd_sig, odd_exp = 0, 0
        for i in range(first, after):
            sig, exp = product(sig_a[i], exp_a[i], sig_b[i], exp_b[i])
            if exp >= INF_EXP:
                odd_sig, odd_exp = exceptional(odd_sig, odd_exp, sig, exp)
            elif sig != 0:
                exact_add(limbs, facts.base, sig, exp)
        sig, exp, sticky = exact_take(limbs, facts.base)
        if odd_exp >= INF_EXP:
            code, flags = pack_exceptional(odd_sig, odd_exp, fmt, policy)
        else:
            code, flags = round_sum(sig, exp, sticky, fmt, mode, policy, r, random1)
    else:
        sig1, exp1 = product(sig_a[first], exp_a[first], sig_b[first], exp_b[first])
        sig2, exp2 = 0, 0
        if after > first + 1:
            i = first + 1
            sig2, exp2 = product(sig_a[i], exp_a[i], sig_b[i], exp_b[i])
        if two:
            if facts.order == PAIR_FIRST:
                part, flags = round_two(sig1, exp1, sig2, exp2, fmt, mode, policy, r, random1)
                sig2, exp2 = operand(part, fmt)
                part = acc
            else:
                part, flags = fma(acc, sig1, exp1, fmt, mode, policy, r, random1)
            count(events, flags)
            code, flags = fma(part, sig2, exp2, fmt, mode, policy, r, random2)
        elif facts.products == 1:
            code, flags = fma(acc, sig1, exp1, fmt, mode, policy, r, random1)
        else:
            code, flags = fmma(acc, sig1, exp1, sig2, exp2, fmt, mode, policy, r, random1)
    count(events, flags)
    if code == acc and operand(acc, fmt)[1] < INF_EXP:
        events[SWAMPED] += not products_vanish(
            sig_a, exp_a, sig_b, exp_b, first, after, limbs, facts
        )
    return code, lfsr


@jit_inlined
def close_chunk(acc, total, m, n, c, facts, lfsr, events):
    """Chunk c is complete: copy it into the running total (c = 0) or add it. (total, LFSR)."""
    random = 0
    if is_stochastic(facts.between) or facts.source == LFSR:
        keys = facts.between_row_key, facts.between_column_key
        random, lfsr = draw(keys[0], keys[1], m, n, c, facts, lfsr)
        events[DRAWS] += is_stochastic(facts.between)
    sig, exp = operand(acc, facts.acc)
    fmt, mode, policy, r = facts.total, facts.between, facts.policy, facts.r
    if c > 0:
        total, flags = fma(total, sig, exp, fmt, mode, policy, r, random)
    elif exp >= INF_EXP:
        total, flags = pack_exceptional(sig, exp, fmt, policy)
    else:
        total, flags = round_sum(sig, exp, False, fmt, mode, policy, r, random)
    count(events, flags)
    return total, lfsr


@jit
def unpack_tile(codes, fmt, sigs, exps):
    """Codes (i, j) as operands: sigs int64 and exps int64 of the same shape."""
    for i in range(codes.shape[0]):
        for j in range(codes.shape[1]):
            sig, exp = operand(np.int64(codes[i, j]), fmt)
            sigs[i, j] = sig
            exps[i, j] = exp


@jit
def gemm_tile(a, b, chunk, total, lfsr, m0, n0, k0, k_end, facts, events):
    """Add the products of K-range [k0, k0 + kt) to a tile of outputs, in place.

    Args:
        a, b: operand codes, (mt, kt) and (kt, nt), uint32.
        chunk, total: the outputs' state, accumulator codes (mt, nt) uint32: the sum of the chunk that is
            open at k0, and the running total of closed chunks. Zero at k0 = 0.
        lfsr: the outputs' registers, (mt, nt) uint64, `start_lfsr` at k0 = 0 (any 2-D array for other
            random sources).
        m0, n0, k0: place of the tile in the whole GEMM. k0 lies at a step's beginning.
        k_end: K of the whole GEMM: there the last chunk closes.
        facts: `GemmFacts`.
        events: int64 (EVENT_KINDS,), added to.

    The result of the GEMM is `total`, or `chunk` when there are no chunks.
    """
    mt, kt = a.shape
    nt = b.shape[1]
    sig_a, exp_a = np.empty((mt, kt), np.int64), np.empty((mt, kt), np.int64)
    sig_b, exp_b = np.empty((nt, kt), np.int64), np.empty((nt, kt), np.int64)
    unpack_tile(a, facts.a, sig_a, exp_a)
    unpack_tile(b.T, facts.b, sig_b, exp_b)
    limbs = np.zeros(facts.limbs, np.int64)
    length = facts.chunk_length if facts.chunk_length > 0 else k_end
    width = facts.products if facts.products > 0 else length
    for m in range(mt):
        row_sig, row_exp = sig_a[m], exp_a[m]
        for n in range(nt):
            column_sig, column_exp = sig_b[n], exp_b[n]
            acc, running = np.int64(chunk[m, n]), np.int64(total[m, n])
            register = lfsr[m, n] if facts.source == LFSR else np.uint64(0)
            k, c = k0, k0 // length
            boundary = min((c + 1) * length, k_end)
            while k < k0 + kt:
                after = min(k + width, boundary, k0 + kt)
                acc, register = step(
                    acc, row_sig, row_exp, column_sig, column_exp, k - k0, after - k0,
                    m0 + m, n0 + n, k, facts, register, limbs, events,
                )  # fmt: skip
                if after == boundary and facts.chunk_length > 0:
                    running, register = close_chunk(
                        acc, running, m0 + m, n0 + n, c, facts, register, events
                    )
                    acc, c = 0, c + 1
                    boundary = min(boundary + length, k_end)
                k = after
            chunk[m, n] = acc
            total[m, n] = running
            if facts.source == LFSR:
                lfsr[m, n] = register


@jit
def start_lfsr(lfsr, m0, n0, facts):
    """Fill the registers of a tile at (m0, n0) for the beginning of a GEMM."""
    for m in range(lfsr.shape[0]):
        for n in range(lfsr.shape[1]):
            lfsr[m, n] = lfsr_start(facts.row_key, m0 + m, n0 + n)
