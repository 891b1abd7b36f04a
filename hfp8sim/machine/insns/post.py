"""POST: finished sums become results in the scratchpad."""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

from hfp8sim._numba.jit import jit
from hfp8sim.isa.table import CSR, FLAG, LOW, MASK, PORT
from hfp8sim.machine.boxes import covers_bias, has_format_size, set_box_rows
from hfp8sim.machine.insns.matmul import check_sums, set_sum_rows
from hfp8sim.machine.state import BOX_KIND, FAULT, element_bytes, format_bits, set_rows


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
