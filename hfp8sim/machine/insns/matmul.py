"""Instructions of the array: LDW, CLR, MM and CV."""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

from hfp8sim._numba.jit import jit
from hfp8sim.isa.table import CSR, LOW, MASK, PORT
from hfp8sim.machine.boxes import covers_a, covers_b, has_format_size, set_box_rows
from hfp8sim.machine.state import BOX_KIND, FAULT, equal_ranges, set_rows

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
def resolve_mm(words, core, regs, boxes, op):
    """MM: operand A must be a matrix."""
    kind = boxes[PORT.a].kind
    if kind == BOX_KIND.matrix:
        return _resolve_multiply(words, core, regs, boxes, op)
    return FAULT.no_a if kind == BOX_KIND.empty else FAULT.not_matrix


@jit
def resolve_cv(words, core, regs, boxes, op):
    """CV: operand A must be an image."""
    kind = boxes[PORT.a].kind
    if kind == BOX_KIND.image:
        return _resolve_multiply(words, core, regs, boxes, op)
    return FAULT.no_a if kind == BOX_KIND.empty else FAULT.not_image
