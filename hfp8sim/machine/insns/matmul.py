"""Instructions of the array: LDW, CLR, MM and CV."""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import contextlib
import zlib

import numpy as np

from hfp8sim._numba.jit import jit
from hfp8sim.errors import InputError
from hfp8sim.isa.table import CSR, LOW, MASK, PORT
from hfp8sim.machine.boxes import covers_a, covers_b, has_format_size, set_box_rows
from hfp8sim.machine.core import Core
from hfp8sim.machine.multiplier import FastSum, Tile, count_gated
from hfp8sim.machine.state import BOX_KIND, FAULT, OUTCOME, equal_ranges, set_rows
from hfp8sim.machine.tiles import has_room, is_autonomous, multiply

# -- LDW ---------------------------------------------------------------------------------------------


@jit
def resolve_ldw(words, core, regs, boxes, op):
    """LDW: select the tile of weights that lies in the box of port b."""
    word, b = words[op.index], boxes[PORT.b]
    if b.kind != BOX_KIND.matrix or not covers_b(b, regs, op):
        return FAULT.outside_b
    if word >> LOW.weights & MASK.weights != b.operand_row:
        return FAULT.wrong_row_b
    weights = core.weights
    weights.selected, weights.group = 1, op.group.first
    weights.n, weights.k = op.n, op.k
    set_box_rows(op.read, b, core, regs)
    return FAULT.none


@jit
def execute_ldw(context):
    """LDW: nothing, since MM and CV read the weights in the box."""
    return OUTCOME.next


# -- CLR ---------------------------------------------------------------------------------------------


@jit
def set_sum_rows(core, op):
    """Assign the accumulator rows of the current sums to `op`."""
    set_rows(op.sums, core.sums.row, op.m.count * op.n.count, core.row_bytes)


@jit
def resolve_clr(words, core, regs, boxes, op):
    """CLR: rotate the accumulators' buffer and start the sums of the tile."""
    word, sums = words[op.index], core.sums
    sums.started, sums.group, sums.next_k, sums.depth = 1, op.group.first, 0, regs[CSR.k]
    sums.m, sums.n = op.m, op.n
    sums.slot = (sums.slot + 1) % regs[CSR.acc_slots]
    sums.operand_row = word >> LOW.acc & MASK.acc
    sums.row = sums.operand_row + sums.slot * regs[CSR.acc_slot_rows]
    set_sum_rows(core, op)
    return FAULT.none


@jit
def execute_clr(context):
    """CLR: nothing, since sums start with the first MM or CV."""
    return OUTCOME.next


@jit
def check_sums(core, regs, op, operand_row):
    """The fault of an instruction that names accumulators: they must be those that CLR started, at the same
    row, of the same tile and for the same depth of k."""
    sums = core.sums
    if not sums.started:
        return FAULT.no_sums
    if operand_row != sums.operand_row:
        return FAULT.wrong_row_sums
    same = equal_ranges(op.m, sums.m) and equal_ranges(op.n, sums.n)
    if op.group.first != sums.group or not same:
        return FAULT.other_sums
    return FAULT.none if sums.depth == regs[CSR.k] else FAULT.other_depth


# -- MM and CV ---------------------------------------------------------------------------------------


@jit
def may_start_step(k, regs):
    """Whether a rounding step of the accumulator begins at this k."""
    chunk, products = regs[CSR.chunk], regs[CSR.step]
    inside = k % chunk if chunk > 0 else k
    return inside == 0 if products == 0 else inside % products == 0


@jit
def _check_weights(core, op):
    """The fault of a multiplication whose weights are not those that LDW selected."""
    weights = core.weights
    if not weights.selected:
        return FAULT.no_weights
    same = equal_ranges(op.n, weights.n) and equal_ranges(op.k, weights.k)
    return FAULT.none if op.group.first == weights.group and same else FAULT.other_weights


@jit
def _resolve_multiply(words, core, regs, boxes, op):
    """MM and CV, once the kind of operand A's box is known to be right."""
    word, a, b = words[op.index], boxes[PORT.a], boxes[PORT.b]
    if word >> LOW.src & MASK.src != a.operand_row:
        return FAULT.wrong_row_a
    fault = _check_weights(core, op)
    if fault == FAULT.none:
        fault = check_sums(core, regs, op, word >> LOW.acc & MASK.acc)
    if fault != FAULT.none:
        return fault
    if not (has_format_size(a, regs[CSR.a_format]) and has_format_size(b, regs[CSR.b_format])):
        return FAULT.other_size
    if not covers_a(a, regs, op):
        return FAULT.outside_a
    if not covers_b(b, regs, op):
        return FAULT.outside_b
    if op.k.first != core.sums.next_k:
        return FAULT.k_gap
    if not may_start_step(op.k.first, regs):
        return FAULT.k_step
    core.sums.next_k = op.k.first + op.k.count
    set_box_rows(op.read, a, core, regs)
    set_box_rows(op.read_second, b, core, regs)
    set_sum_rows(core, op)
    return FAULT.none


@jit
def _execute_multiply(context):
    """Compute the tile if it is one of a GEMM that the compiled loop continues; otherwise Python does."""
    op, record, boxes, regs = context.op, context.tiles[0], context.boxes, context.regs
    context.work.macs += op.m.count * op.n.count * op.k.count
    if not (is_autonomous(record, op) and has_room(record, boxes, op, regs, context.spare)):
        return OUTCOME.multiply
    multiply(record, regs, boxes, op, context.scratchpad, context.core.row_bytes, context.spare)
    return OUTCOME.next


def compute_tile(core: Core) -> None:
    """MM and CV in Python: choose how the tile is computed, and add its products to the sums.

    If a kernel computes it, the compiled loop continues with the tiles that follow.
    """
    core.context.tiles["autonomous"] = 0
    product, now, operands = core.product(), core.now, core.operands
    (group, _), m, n, k = now.group, now.m, now.n, now.k
    tile = Tile(group, m, n, k, operands.matrix_a, operands.matrix_b, core.tile_state)
    if k[0] == 0:
        core.sum = core.sums.start(product, tile, core.memories[core.work.fences])
    if k[1] == 0 or core.sum is None:
        return
    core.sum.add(tile)
    if core.count and not core.sum.counts_tiles:
        core.gated += count_gated(product, tile)
        if sum(k) == product.depth:
            core.events += core.sum.events
    elif isinstance(core.sum, FastSum) and core.sum.product is product and not core.interpreted:
        _continue_compiled(core, core.sum)


def _continue_compiled(core: Core, sums: FastSum) -> None:
    """Let the compiled loop compute the next tiles, until an instruction changes anything but the tile."""
    sums.take_whole_tiles()
    copies = False
    with contextlib.suppress(InputError):  # POST itself raises it.
        copies = core.conversion().copies and not core.count  # Python counts NaN
    sums.table["autonomous"], sums.table["copies"] = 1, copies
    core.context = core.context._replace(tiles=sums.table, spare=sums.spare)


def _effect_multiply(core: Core) -> str:
    """The accumulators and the tile; after the last k a checksum of the sums."""
    now = core.now
    (m0, mt), (n0, nt), (k0, kt), (first, stop) = now.m, now.n, now.k, now.sums
    effect = f"c[{first}..{stop - 1}] m {m0}+{mt} n {n0}+{nt} k {k0}+{kt}"
    if k0 + kt < core.context.regs[CSR.k]:
        return effect
    sums = np.zeros((mt, nt), np.uint32)
    if core.sum is not None and kt > 0:
        core.sum.codes(sums)
    return f"{effect}, crc {zlib.crc32(sums.tobytes()):08x}"


@jit
def resolve_mm(words, core, regs, boxes, op):
    """MM: operand A must be a matrix."""
    kind = boxes[PORT.a].kind
    if kind == BOX_KIND.matrix:
        return _resolve_multiply(words, core, regs, boxes, op)
    return FAULT.no_a if kind == BOX_KIND.empty else FAULT.not_matrix


@jit
def execute_mm(context):
    """MM: add the tile's products to the sums."""
    return _execute_multiply(context)


def effect_mm(core: Core) -> str:
    """What MM changed, for the log."""
    return _effect_multiply(core)


@jit
def resolve_cv(words, core, regs, boxes, op):
    """CV: operand A must be an image."""
    kind = boxes[PORT.a].kind
    if kind == BOX_KIND.image:
        return _resolve_multiply(words, core, regs, boxes, op)
    return FAULT.no_a if kind == BOX_KIND.empty else FAULT.not_image


@jit
def execute_cv(context):
    """CV: add the tile's products to the sums, with A unfolded from the image."""
    return _execute_multiply(context)


def effect_cv(core: Core) -> str:
    """What CV changed, for the log."""
    return _effect_multiply(core)
