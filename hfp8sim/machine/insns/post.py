"""POST: finished sums become results in the scratchpad, with bias, scale, one rounding and activation (docs/isa.md)."""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hfp8sim._numba.jit import jit
from hfp8sim.formats.rounding import is_nan, pack_infinity, pack_invalid, pack_nan, round_pack
from hfp8sim.formats.vocabulary import Facts, is_stochastic, takes_random_bits
from hfp8sim.isa.table import CSR, FLAG, LOW, MASK, PORT
from hfp8sim.machine.arithmetic import Conversion, seed_and_stream
from hfp8sim.machine.boxes import covers_bias, has_format_size, set_box_rows
from hfp8sim.machine.core import Core
from hfp8sim.machine.insns.matmul import check_sums, set_sum_rows
from hfp8sim.machine.insns.move import effect_of_rows
from hfp8sim.machine.state import BOX_KIND, FAULT, OUTCOME, element_bytes, format_bits, set_rows
from hfp8sim.machine.tiles import is_autonomous, post
from hfp8sim.ops import count_nan
from hfp8sim.units.mac import INF_EXP, NAN_EXP, exceptional, operand
from hfp8sim.units.random import CONVERT, key, word
from hfp8sim.units.sums import add

_FLAGS = FLAG.bias | FLAG.relu | FLAG.clamp
#: Sums of at most this many bits are converted by a table, if the result depends on nothing else.
_TABLE_BITS = 16
_CONVERT = CONVERT
_NO_TABLE = np.zeros(0, np.uint32)


class PostFacts(NamedTuple):
    """A `Conversion` as integers and `Facts`, for compiled code."""

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
    """The conversion for compiled code."""
    return PostFacts(
        conversion.sums.facts, conversion.result.facts, (conversion.bias or conversion.result).facts,
        conversion.mode, conversion.policy, conversion.random_bits, conversion.scale,
        conversion.low, conversion.high, int(conversion.copies),
    )  # fmt: skip


@functools.lru_cache(maxsize=64)
def post_table(conversion: Conversion, flags: int) -> NDArray[np.uint32]:
    """The result of every sum, uint32 (2**bits,); empty if the result depends on more than the sum."""
    if (
        conversion.sums.bits > _TABLE_BITS
        or flags & FLAG.bias
        or takes_random_bits(conversion.mode)
    ):
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
    """An integer for the code of a number; integers are in the order of the values."""
    width = fmt.exponent_bits + fmt.fraction_bits
    mag = code & ((1 << width) - 1)
    return -mag if fmt.signed and code >> width & 1 else mag


@jit
def post_code(code, bias, flags, facts, random):
    """The result of one sum: round(2^scale · (sum + bias)), then relu, then clamp.

    A sum that is exactly zero stays +0. A sum that rounds to zero keeps its sign. A NaN stays NaN; in a format
    without NaN it becomes code 0.
    """
    fmt = facts.result
    sig, exp = operand(np.int64(code), facts.sums)
    sticky = False
    if flags & FLAG.bias:
        sig2, exp2 = operand(np.int64(bias), facts.bias)
        if exp >= INF_EXP or exp2 >= INF_EXP:
            sig, exp = exceptional((sig, exp), (sig2, exp2))
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
    """Convert the sums of a tile to results.

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


# -- the instruction ----------------------------------------------------------------------------------


@jit
def _check_bias(bias, regs, op):
    """The fault of a POST whose biases are not in the scratchpad."""
    if bias.kind == BOX_KIND.matrix and not has_format_size(bias, regs[CSR.d_format]):
        return FAULT.other_size
    return FAULT.none if covers_bias(bias, op) else FAULT.outside_d


@jit
def resolve_post(words, core, regs, boxes, op):
    """POST: the finished sums, the rows of the biases, and the rows of the result."""
    word, result = words[op.index], core.result
    fault = check_sums(core, regs, op, word >> LOW.total & MASK.total)
    if fault != FAULT.none:
        return fault
    if core.sums.next_k != regs[CSR.k]:
        return FAULT.unfinished
    if format_bits(regs[CSR.c_format]) == 0:
        return FAULT.format_unset
    if word & FLAG.bias:
        bias = boxes[PORT.d]
        fault = _check_bias(bias, regs, op)
        if fault != FAULT.none:
            return fault
        set_box_rows(op.read_second, bias, core, regs)
    set_sum_rows(core, op)
    result.written, result.group = 1, op.group.first
    result.m, result.n = op.m, op.n
    result.slot = (result.slot + 1) % regs[CSR.c_slots]
    result.operand_row = word >> LOW.dst & MASK.dst
    result.row = result.operand_row + result.slot * regs[CSR.c_slot_rows]
    op.bytes = op.m.count * op.n.count * element_bytes(regs[CSR.c_format])
    set_rows(op.write, result.row, op.bytes, core.row_bytes)
    return FAULT.none


@jit
def execute_post(context):
    """POST: copy finished sums if their codes are the results; otherwise Python computes the results."""
    op, record = context.op, context.tiles[0]
    changed = context.words[op.index] & _FLAGS
    if changed or not (record.copies and is_autonomous(record, op)):
        return OUTCOME.post
    post(record, op, context.scratchpad, context.core.row_bytes)
    return OUTCOME.next


def compute_results(core: Core) -> None:
    """POST in Python: the results of the tile, to their scratchpad rows."""
    now, conversion = core.now, core.conversion()
    flags = int(core.context.words[now.index]) & _FLAGS
    shape, first = (now.m[1], now.n[1]), now.write[0] * core.row_bytes
    dtype = conversion.result.dtype
    rows = core.context.scratchpad[first : first + now.bytes]
    aligned = first % dtype.itemsize == 0
    results = rows.view(dtype).reshape(shape) if aligned else np.empty(shape, dtype)
    finished = core.sum if core.context.regs[CSR.k] > 0 else None
    if finished is not None and conversion.copies and not flags:
        finished.codes(results)
        sums = results
    else:
        sums = np.zeros(shape, conversion.sums.dtype)
        if finished is not None:
            finished.codes(sums)
        _convert(core, conversion, flags, sums, results)
    if not aligned:
        rows[:] = results.reshape(-1).view(np.uint8)
    if core.count:
        core.nan += count_nan(sums, conversion.sums)


def _convert(
    core: Core, conversion: Conversion, flags: int, sums: NDArray[Any], results: NDArray[Any]
) -> None:
    """Fill in the results of sums."""
    now, regs = core.now, core.context.regs
    seed, stream = seed_and_stream(regs, now.group[0])
    pitch = int(regs[CSR.c_pitch])
    number = now.group[0] * int(regs[CSR.c_group]) + now.m[0] * pitch + now.n[0]
    biases = core.operands.biases() if flags & FLAG.bias else _NO_TABLE
    post_tile(
        sums, biases, flags, post_facts(conversion), post_table(conversion, flags),
        np.uint64(seed), np.uint64(stream), number, pitch, results,
    )  # fmt: skip


def effect_post(core: Core) -> str:
    """The rows that POST wrote and a checksum of their bytes, for the log."""
    return effect_of_rows(core)
