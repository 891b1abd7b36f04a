"""Instructions that the sequencer executes itself: NOP, HALT, CSRW, LOOP and FENCE."""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import numpy as np

from hfp8sim._numba.jit import jit
from hfp8sim.isa.table import CSR_COUNT, CSRS, LOW, MASK
from hfp8sim.machine.loops import is_idle, open_loop
from hfp8sim.machine.state import FAULT, OUTCOME

_SIGNED = np.zeros(CSR_COUNT, np.bool_)
_SIGNED[[csr.address for csr in CSRS if csr.kind == "int"]] = True


# -- NOP ---------------------------------------------------------------------------------------------


@jit
def resolve_nop(words, core, regs, boxes, op):
    """NOP: nothing."""
    return FAULT.none


@jit
def execute_nop(context):
    """NOP: nothing."""
    return OUTCOME.next


# -- HALT --------------------------------------------------------------------------------------------


@jit
def resolve_halt(words, core, regs, boxes, op):
    """HALT: the core executes nothing more."""
    core.halted = 1
    return FAULT.none


@jit
def execute_halt(context):
    """HALT: the program ends."""
    return OUTCOME.halt


# -- CSRW --------------------------------------------------------------------------------------------


@jit
def resolve_csrw(words, core, regs, boxes, op):
    """CSRW: write the register."""
    word = words[op.index]
    address, value = word >> LOW.csr & MASK.csr, word & MASK.value
    if _SIGNED[address] and value >> 31:
        value -= 1 << 32
    regs[address] = value
    return FAULT.none


@jit
def execute_csrw(context):
    """CSRW: the next tile may belong to another GEMM."""
    context.work.csr_writes += 1
    context.tiles[0].autonomous = 0
    return OUTCOME.next


# -- LOOP --------------------------------------------------------------------------------------------


@jit
def resolve_loop(words, core, regs, boxes, op):
    """LOOP: enter the body or skip it."""
    open_loop(words[op.index], core, regs)
    return FAULT.none


@jit
def execute_loop(context):
    """LOOP: nothing."""
    return OUTCOME.next


# -- FENCE -------------------------------------------------------------------------------------------


@jit
def resolve_fence(words, core, regs, boxes, op):
    """FENCE: find out whether this core has work up to the next one."""
    core.idle = is_idle(words, core)
    return FAULT.none


@jit
def execute_fence(context):
    """FENCE: operands that other cores store may come next, so plans for the old ones do not hold."""
    context.work.fences += 1
    context.tiles[0].autonomous = 0
    return OUTCOME.fence
