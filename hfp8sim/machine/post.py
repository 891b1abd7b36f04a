"""POST: what becomes of a finished sum. Bias, scale, one rounding, activation (docs/isa.md)."""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hfp8sim._numba.jit import jit
from hfp8sim.formats.rounding import is_nan, pack_infinity, pack_invalid, pack_nan, round_pack
from hfp8sim.formats.vocabulary import Facts, is_stochastic
from hfp8sim.isa.table import FLAG
from hfp8sim.machine.arithmetic import Conversion
from hfp8sim.units.mac import INF_EXP, NAN_EXP, exceptional, operand
from hfp8sim.units.random import CONVERT, key, word
from hfp8sim.units.sums import add

#: Sums of at most this many bits go through a table, where nothing but the sum decides.
_TABLE_BITS = 16
_CONVERT = CONVERT
_NO_TABLE = np.zeros(0, np.uint32)


class PostFacts(NamedTuple):
    """A conversion as the kernel sees it."""

    sums: Facts
    result: Facts
    bias: Facts
    mode: int
    policy: int
    r: int
    scale: int
    low: int
    high: int
    copies: int


@functools.lru_cache(maxsize=64)
def post_facts(conversion: Conversion) -> PostFacts:
    """The facts of a conversion."""
    return PostFacts(
        conversion.sums.facts, conversion.result.facts, (conversion.bias or conversion.result).facts,
        conversion.mode, conversion.policy, conversion.random_bits, conversion.scale,
        conversion.low, conversion.high, int(conversion.copies),
    )  # fmt: skip


@functools.lru_cache(maxsize=64)
def post_table(conversion: Conversion, flags: int) -> NDArray[np.uint32]:
    """The result of every sum, uint32 (2**bits,); empty where more than the sum decides."""
    if conversion.sums.bits > _TABLE_BITS or flags & FLAG.bias or is_stochastic(conversion.mode):
        return _NO_TABLE
    table = np.empty(1 << conversion.sums.bits, np.uint32)
    _fill_table(table, flags, post_facts(conversion))
    return table


@jit
def _fill_table(table, flags, facts):
    for code in range(table.size):
        table[code] = post_code(code, 0, flags, facts, 0)


@jit
def ordered(code, fmt):
    """Codes of numbers as integers in the order of their values."""
    width = fmt.exponent_bits + fmt.fraction_bits
    mag = code & ((1 << width) - 1)
    return -mag if fmt.signed and code >> width & 1 else mag


@jit
def post_code(code, bias, flags, facts, random):
    """The result of one sum: round(2^scale · (sum + bias)), then relu, then clamp.

    A sum that is exactly zero stays +0; one that rounds to zero keeps its sign, as in any conversion. A
    NaN stays; in a format without one it becomes code 0.
    """
    fmt = facts.result
    sig, exp = operand(np.int64(code), facts.sums)
    sticky = False
    if flags & FLAG.bias:
        sig2, exp2 = operand(np.int64(bias), facts.bias)
        if exp >= INF_EXP or exp2 >= INF_EXP:
            sig, exp = exceptional(sig, exp, sig2, exp2)
        else:
            sig, exp, sticky = add(sig, exp, False, sig2, exp2, False)
    elif facts.copies:
        return activate(np.int64(code), flags, facts)
    sign = 1 if sig < 0 else 0
    if exp >= NAN_EXP:
        result, _ = pack_nan(fmt) if fmt.nan_code >= 0 else pack_invalid(fmt, facts.policy)
    elif exp >= INF_EXP:
        result, _ = pack_infinity(sign, fmt, facts.policy)
    else:
        if sign:
            sig = -sig - 1 if sticky else -sig
        result, _ = round_pack(
            sign, sig, exp + facts.scale, sticky, fmt, facts.mode, facts.policy, facts.r, random
        )
    return activate(result, flags, facts)


@jit
def activate(code, flags, facts):
    """Relu and clamp of a rounded result."""
    fmt = facts.result
    if is_nan(code, fmt):
        return code
    if flags & FLAG.relu and fmt.signed and code >> (fmt.exponent_bits + fmt.fraction_bits) & 1:
        code = 0
    if flags & FLAG.clamp:
        if ordered(code, fmt) < ordered(facts.low, fmt):
            code = facts.low
        if ordered(code, fmt) > ordered(facts.high, fmt):
            code = facts.high
    return code


@jit
def post_tile(sums, biases, flags, facts, table, seed, stream, first, pitch, results):
    """A tile of results.

    Args:
        sums: codes (mt, nt) uint32.
        biases: codes of the tile's columns, (nt,), or empty.
        table: `post_table`, or empty.
        seed, stream: uint64, of stochastic roundings.
        first, pitch: number of the tile's first element in the result tensor, and numbers per row.
        results: codes (mt, nt) of the result's dtype, filled.
    """
    if table.size > 0:
        for m in range(sums.shape[0]):
            for n in range(sums.shape[1]):
                results[m, n] = table[sums[m, n]]
        return
    random_key = key(seed, stream, np.uint64(_CONVERT))
    for m in range(sums.shape[0]):
        for n in range(sums.shape[1]):
            random = np.int64(0)
            if is_stochastic(facts.mode):
                number = first + m * pitch + n
                bits = word(random_key, number >> 32, number & 0xFFFFFFFF)
                random = np.int64(bits >> np.uint64(32 - facts.r))
            bias = biases[n] if biases.size > 0 else np.uint32(0)
            results[m, n] = post_code(sums[m, n], bias, flags, facts, random)
