"""Cost of the array's instructions: LDW, MM and CV."""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

from hfp8sim._numba.jit import jit
from hfp8sim.isa.table import CSR
from hfp8sim.machine.state import ceil_div, format_bits
from hfp8sim.timing.pipeline import book_pipeline_delay, find_region, hold_until, ready_time


@jit
def _load_first_block(pipe, rows, model):
    """The first block of weights goes into the shadow plane once the last block before it has started."""
    clocks = pipe.clocks
    start = max(clocks.last_block, clocks.weights_free, ready_time(pipe, rows))
    clocks.weights_start = start
    clocks.weights_ready = clocks.weights_free = start + model.rows


@jit
def cost_ldw(op, regs, pipe, segment, spans, model):
    """LDW takes as many cycles as the array has rows."""
    _load_first_block(pipe, op.read, model)
    return pipe.clocks.weights_start, pipe.clocks.weights_ready


@jit
def _book_wait_for_sums(pipe, sums, parts, model, start):
    """Book the array's wait until POST has read its accumulators, at `start`."""
    clocks = pipe.clocks
    book_pipeline_delay(pipe, parts, model, min(sums.ready, start))
    waited = max(min(sums.began, start) - clocks.array_free, 0)
    if sums.blocked:
        parts.stall_out_cycles += waited
    else:
        parts.post_cycles += waited
    parts.post_cycles += start - clocks.array_free - waited
    clocks.array_free = start


@jit
def _book_gap(pipe, sums, parts, model, start, operands):
    """Book the cycles in which the array waits for operands, weights or accumulators until `start`."""
    clocks = pipe.clocks
    gap = start - clocks.array_free
    if gap <= 0:
        return
    if start == operands or start == clocks.floor:
        parts.stall_in_cycles += gap
    elif start == clocks.weights_ready:
        loading = min(gap, start - clocks.weights_start)
        parts.weight_load_cycles += loading
        parts.stall_in_cycles += gap - loading
    else:
        _book_wait_for_sums(pipe, sums, parts, model, start)


@jit
def cost_mm(op, regs, pipe, segment, spans, model):
    """MM streams the rows of A through each block of weights. While one block computes, the next one loads."""
    if op.k.count == 0:
        return 0, 0
    clocks, parts = pipe.clocks, segment.parts
    bits = max(format_bits(regs[CSR.a_format]), format_bits(regs[CSR.b_format]))
    depth = model.rows * (model.macs_16bit if bits > 8 else model.macs_8bit)
    blocks = ceil_div(op.k.count, depth) * ceil_div(op.n.count, model.columns)
    stream = ceil_div(op.m.count, model.corelets)
    block = max(stream, model.rows)
    if clocks.weights_ready == 0 and blocks > 1:  # The array has gone on from the first block.
        _load_first_block(pipe, op.read_second, model)
    operands = max(ready_time(pipe, op.read), ready_time(pipe, op.read_second))
    sums = find_region(pipe, pipe.accumulators, op.sums)
    start = max(clocks.array_free, operands, clocks.weights_ready, sums.free, clocks.floor)
    _book_gap(pipe, sums, parts, model, start, operands)
    parts.compute_cycles += blocks * stream
    parts.weight_load_cycles += blocks * (block - stream)
    end = start + blocks * block
    clocks.array_free, clocks.last_block = end, max(end - block, start)
    clocks.result_ready = end + model.rows + model.columns - 2
    clocks.weights_ready = 0
    sums.ready = clocks.result_ready
    hold_until(pipe, op.read, end)
    hold_until(pipe, op.read_second, clocks.last_block)
    return start, end


@jit
def cost_cv(op, regs, pipe, segment, spans, model):
    """CV takes the time of MM: the image is unfolded on its way into the array."""
    return cost_mm(op, regs, pipe, segment, spans, model)
