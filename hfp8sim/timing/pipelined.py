"""The `pipelined` time model: the instruction stream through units that work at the same time.

Each unit executes its instructions in program order: loads, weights, array, post, stores. An instruction
starts when its unit is free, the rows it reads have been written, and the rows it writes have been read by
all instructions before it. Loads and stores share one channel, which serves requests in order of time.
Nothing is simulated cycle by cycle: an instruction costs a few comparisons. Iterations of loops that only repeat
what the ones before them did are not executed either (`steady`).

Every cycle is booked to one part when the array's clock advances. The cycles of a tile itself go to `compute`
and `weight_load`, a gap before a tile goes to what the tile waited for. docs/machine.md has the formulas.
"""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import numpy as np

from hfp8sim._numba.jit import jit
from hfp8sim.isa.dispatch import dispatch
from hfp8sim.isa.table import INSTRUCTIONS, OP, UNITS, opcodes_with
from hfp8sim.machine.sequencer import step
from hfp8sim.machine.state import FAULT
from hfp8sim.timing.costs import FAMILIES
from hfp8sim.timing.steady import skip_periods

_BARRIER, _MULTIPLIES = opcodes_with("barrier"), opcodes_with("multiplies")
#: For each opcode, the number of its unit in `UNITS`, or −1.
_UNIT = np.full(_BARRIER.size, -1)
for _row in INSTRUCTIONS:
    if _row.unit:
        _UNIT[_row.opcode] = UNITS.index(_row.unit)


#: Advance the clocks by one instruction, by its opcode. Returns its first and last cycle in the timeline.
_cost = dispatch("cost", FAMILIES, "op, regs, pipe, segment, spans, model", "op.opcode", __name__)


@jit
def _record_span(span, op, segment, start, end):
    """Fill in the timeline's record of an instruction."""
    span.unit, span.index, span.segment, span.bytes = _UNIT[op.opcode], op.index, segment, op.bytes
    span.start, span.end = start, end
    span.group, span.m, span.n, span.k = op.group, op.m, op.n, op.k


@jit
def run(words, core, regs, boxes, op, pipe, model, active, segments, spans, steady):
    """Time the program on one core, from barrier to barrier. Each segment begins at cycle 0.

    Args:
        words, core, regs, boxes, op: as in `sequencer.step`.
        pipe: a `PIPELINE` record, all 0.
        model: a `MODEL` record, the machine.
        active: cores that share the channel, int64 for each segment.
        segments: a `SEGMENT` record for each segment, filled.
        spans: `TIMELINE_SPAN` records, filled as far as there are any.
        steady: the core's `Steady` tables. With empty ones every instruction is executed.

    Returns:
        (fault of `step`, index of its instruction, instructions that have a place in the timeline).
    """
    number = 0
    while True:
        fault = step(words, core, regs, boxes, op)
        if fault != FAULT.none:
            return fault, op.index, pipe.executed
        segment, pipe.cores = segments[number], active[number]
        segment.executed += 1
        start, end = _cost(op, regs, pipe, segment, spans, model)
        works = not _MULTIPLIES[op.opcode] or op.k.count > 0
        if _UNIT[op.opcode] >= 0 and works:
            if pipe.executed < spans.size:
                _record_span(spans[pipe.executed], op, number, start, end)
            pipe.executed += 1
        if _BARRIER[op.opcode]:
            number += 1
            if core.halted:
                return FAULT.none, 0, pipe.executed
        if steady.tracks.size > 0 and core.depth > 0:
            if core.pc == core.loops[core.depth - 1].start:
                skip_periods(words, core, regs, pipe, steady, number, op.opcode == OP.loop)
