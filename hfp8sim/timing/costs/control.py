"""Cost of what the sequencer executes itself: NOP, HALT, CSRW, LOOP, CLR and FENCE."""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

from hfp8sim._numba.jit import jit
from hfp8sim.timing.pipeline import drain


@jit
def cost_nop(op, regs, pipe, segment, spans, model):
    """NOP takes no time."""
    return 0, 0


@jit
def cost_csrw(op, regs, pipe, segment, spans, model):
    """CSRW takes no time."""
    return 0, 0


@jit
def cost_loop(op, regs, pipe, segment, spans, model):
    """LOOP takes no time."""
    return 0, 0


@jit
def cost_clr(op, regs, pipe, segment, spans, model):
    """CLR takes no time: the first block of products overwrites the accumulators."""
    return 0, 0


@jit
def cost_fence(op, regs, pipe, segment, spans, model):
    """FENCE waits until every unit is done."""
    drain(pipe, spans, segment.parts, model)
    return 0, 0


@jit
def cost_halt(op, regs, pipe, segment, spans, model):
    """HALT waits until every unit is done."""
    drain(pipe, spans, segment.parts, model)
    return 0, 0
