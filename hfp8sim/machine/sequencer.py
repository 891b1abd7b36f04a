"""The sequencer: the next instruction, with its loops, its tile and its addresses resolved.

The static checks, the executor, the time models, the timeline and the log all take their instructions from
`step`. So they cannot disagree about what an instruction reads and writes. `step` computes no values and no
time.
"""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

from hfp8sim._numba.jit import jit
from hfp8sim.isa.dispatch import dispatch
from hfp8sim.isa.table import OP, OPCODE_LOW, opcodes_with
from hfp8sim.machine.insns import FAMILIES
from hfp8sim.machine.loops import close_loops, set_tile
from hfp8sim.machine.state import FAULT

_OPCODE_LOW = OPCODE_LOW
_TILED = opcodes_with("tiled")
_ONE_GROUP = opcodes_with("one_group")


@jit
def _clear(op):
    """Empty what not every instruction resolves."""
    for tile_range in (op.group, op.m, op.n, op.k):
        tile_range.first = tile_range.count = 0
    for rows in (op.read, op.read_second, op.write, op.sums):
        rows.first = rows.stop = 0
    op.bytes = op.port = 0


#: Resolve an instruction by its opcode. Returns a fault.
_resolve = dispatch("resolve", FAMILIES, "words, core, regs, boxes, op", "op.opcode", __name__)


@jit
def step(words, core, regs, boxes, op):
    """Resolve the next instruction into `op` and advance the core.

    Args:
        words: the program, int64. `check.check_words` has accepted it, so opcodes, registers and loops are
            sound.
        core: a `CORE` record, changed.
        regs: int64 register values by CSR number, changed.
        boxes: a `BOX` record for each port, changed.
        op: a `RESOLVED` record, overwritten.

    Returns:
        A member of `FAULT`. After a fault or HALT (`core.halted`) the caller must not call `step` again.
    """
    _clear(op)
    op.index = core.pc
    op.opcode = words[core.pc] >> _OPCODE_LOW
    core.pc += 1
    if _TILED[op.opcode]:
        if core.idle:
            op.opcode = OP.nop
        elif not set_tile(core, regs, op):
            return FAULT.tile_outside
        elif _ONE_GROUP[op.opcode] and op.group.count != 1:
            return FAULT.many_groups
    fault = _resolve(words, core, regs, boxes, op)
    close_loops(core)
    return fault
