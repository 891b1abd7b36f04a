"""Instructions that move boxes and tiles between DRAM and scratchpad: LD and ST."""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import zlib

from hfp8sim._numba.jit import jit
from hfp8sim.isa.table import CSR, FLAG, LINE, LOW, MASK, OPERANDS, PORT
from hfp8sim.machine.boxes import (
    block_columns,
    box_elements,
    box_end,
    image_lines,
    set_box_rows,
    tile_blocks,
)
from hfp8sim.machine.core import Core
from hfp8sim.machine.movement import load_box, store_tile
from hfp8sim.machine.state import (
    BOX_KIND,
    FAULT,
    OUTCOME,
    PORT_CSRS,
    element_bytes,
    equal_ranges,
    format_bits,
    set_range,
    set_rows,
)

_LINE = LINE


# -- LD ----------------------------------------------------------------------------------------------


@jit
def _set_box_a(box, transposed, op):
    """The box of a stored matrix A."""
    if transposed:
        box.rows, box.columns = op.k, op.m
    else:
        box.rows, box.columns = op.m, op.k


@jit
def _set_box_image(box, transposed, regs, op):
    """The box of an image: the lines and channels that the tile's windows touch."""
    if transposed:
        lines = image_lines(regs, op.k.first, op.k.count, op.m.first, op.m.count)
    else:
        lines = image_lines(regs, op.m.first, op.m.count, op.k.first, op.k.count)
    depth, channel, channels = regs[CSR.image_channels], lines[2], lines[3]
    if op.group.count > 1:
        channel, channels = 0, op.group.count * depth
    box.kind = BOX_KIND.image
    set_range(box.rows, lines[0], lines[1])
    set_range(box.columns, op.group.first * depth + channel, channels)


@jit
def _set_box_b(box, transposed, regs, op):
    """The box of operand B. If stored transposed, its columns of k come in blocks."""
    if not transposed:
        box.rows, box.columns = op.k, op.n
        return
    block, blocks = tile_blocks(regs, op)
    set_range(box.blocks, block, blocks)
    box.rows = op.n
    column, columns = block_columns(regs, op, blocks)
    set_range(box.columns, column, columns)


@jit
def resolve_ld(words, core, regs, boxes, op):
    """LD: rotate the port's buffer, describe the port's box, and resolve the rows that it fills."""
    word = words[op.index]
    port = word >> LOW.operand & MASK.operand
    transposed, csrs = (word & FLAG.t) != 0, PORT_CSRS[port]
    if format_bits(regs[csrs.format]) == 0:
        return FAULT.format_unset
    core.slots[port] = (core.slots[port] + 1) % regs[csrs.slots]
    box = boxes[port]
    box.kind, box.transposed, box.reversed = BOX_KIND.matrix, transposed, (word & FLAG.turned) != 0
    box.element_bytes = element_bytes(regs[csrs.format])
    box.operand_row = word >> LOW.dst & MASK.dst
    box.row = box.operand_row + core.slots[port] * regs[csrs.slot_rows]
    box.groups = op.group
    set_range(box.blocks, 0, 1)
    if port == PORT.d:
        set_range(box.rows, 0, 1)
        box.columns = op.n
    elif port == PORT.b:
        _set_box_b(box, transposed, regs, op)
    elif word & FLAG.image:
        _set_box_image(box, transposed, regs, op)
    else:
        _set_box_a(box, transposed, op)
    elements = box_elements(box, regs)
    op.port, op.bytes = port, elements * box.element_bytes
    set_box_rows(op.write, box, core, regs)
    end = regs[csrs.base] * _LINE + box_end(box, port, regs) * box.element_bytes
    return FAULT.beyond_dram if elements > 0 and end > core.dram_bytes else FAULT.none


@jit
def execute_ld(context):
    """LD: copy the port's box from DRAM."""
    port = context.op.port
    context.work.loads[port] += 1
    load_box(
        context.boxes[port], port, context.regs, context.dram, context.scratchpad,
        context.core.row_bytes,
    )  # fmt: skip
    return OUTCOME.next


def effect_ld(core: Core) -> str:
    """The port, the rows that LD filled and a checksum of their bytes, for the log."""
    effect = effect_of_rows(core)
    return f"{OPERANDS[core.now.port]} → {effect}" if effect else ""


# -- ST ----------------------------------------------------------------------------------------------


@jit
def resolve_st(words, core, regs, boxes, op):
    """ST: the rows of the result tile, which must be the one that POST wrote last."""
    word, result = words[op.index], core.result
    if not result.written:
        return FAULT.no_result
    if word >> LOW.src & MASK.src != result.operand_row:
        return FAULT.wrong_row_result
    same = equal_ranges(op.m, result.m) and equal_ranges(op.n, result.n)
    if op.group.first != result.group or not same:
        return FAULT.other_result
    size = element_bytes(regs[CSR.c_format])
    op.bytes = op.m.count * op.n.count * size
    set_rows(op.read, result.row, op.bytes, core.row_bytes)
    end = op.group.first * regs[CSR.c_group] + (op.m.first + op.m.count - 1) * regs[CSR.c_pitch]
    end += op.n.first + op.n.count
    beyond = regs[CSR.c_base] * _LINE + end * size > core.dram_bytes
    return FAULT.beyond_dram if beyond else FAULT.none


@jit
def execute_st(context):
    """ST: copy the result tile to DRAM."""
    store_tile(context.op, context.regs, context.scratchpad, context.dram, context.core.row_bytes)
    return OUTCOME.next


def effect_st(core: Core) -> str:
    """The bytes that ST moved and the rows that they came from, for the log."""
    first, stop = core.now.read
    return f"DRAM = {core.now.bytes} bytes of s[{first}..{stop - 1}]"


# -- log ---------------------------------------------------------------------------------------------


def effect_of_rows(core: Core) -> str:
    """The scratchpad rows that an instruction wrote and a checksum of their bytes; empty if it wrote none."""
    first, stop = core.now.write
    if first == stop:
        return ""
    start = first * core.row_bytes
    content = core.context.scratchpad[start : start + core.now.bytes]
    checksum = zlib.crc32(content.tobytes())
    return f"s[{first}..{stop - 1}] = {core.now.bytes} bytes, crc {checksum:08x}"
