"""Loads, stores, and where the operands of a tile are in the scratchpad. Compiled loops over bytes, no arithmetic."""
# mypy: disable-error-code="no-untyped-def,no-untyped-call,call-arg"

from __future__ import annotations

import numpy as np

from hfp8sim._numba.copies import copy_rows
from hfp8sim._numba.jit import jit
from hfp8sim.isa.table import CSR, LINE, PORT
from hfp8sim.kernels import im2col
from hfp8sim.machine.boxes import block_depth, count_blocks, image_end, tile_blocks
from hfp8sim.machine.state import BOX_KIND, PORT_CSRS, ceil_div, element_bytes

_LINE = LINE

# -- LD ----------------------------------------------------------------------------------------------


@jit
def _load_image(box, regs, dram, scratchpad, target):
    """Copy the lines of an image box to byte `target` of the scratchpad."""
    size, height, width = box.element_bytes, regs[CSR.image_height], regs[CSR.image_width]
    channels, pixel_pitch = box.columns.count * size, regs[CSR.image_pixel_pitch] * size
    for line in range(box.rows.first, box.rows.first + box.rows.count):
        element = line // height * regs[CSR.image_pitch]
        element += line % height * regs[CSR.image_line_pitch] + box.columns.first
        source = regs[CSR.a_base] * _LINE + element * size
        copy_rows(dram, source, pixel_pitch, scratchpad, target, channels, width, channels)
        target += width * channels


@jit
def _load_matrix(box, port, regs, dram, scratchpad, target):
    """Copy the groups and blocks of a matrix box to byte `target` of the scratchpad."""
    csrs, size = PORT_CSRS[port], box.element_bytes
    columns, pitch, block_step = box.columns.count * size, 0, 0
    if port != PORT.d:
        pitch = regs[csrs.pitch]
    if port == PORT.b and box.transposed:
        block_step = regs[CSR.b_block_step]
    for group in range(box.groups.first, box.groups.first + box.groups.count):
        for block in range(box.blocks.first, box.blocks.first + box.blocks.count):
            place = count_blocks(regs) - 1 - block if box.reversed else block
            element = group * regs[csrs.group] + place * block_step
            element += box.rows.first * pitch + box.columns.first
            source = regs[csrs.base] * _LINE + element * size
            copy_rows(
                dram, source, pitch * size, scratchpad, target, columns, box.rows.count, columns
            )
            target += box.rows.count * columns


@jit
def load_box(box, port, regs, dram, scratchpad, row_bytes):
    """Copy a port's box from DRAM to its scratchpad row, densely packed."""
    if box.kind == BOX_KIND.image:
        _load_image(box, regs, dram, scratchpad, box.row * row_bytes)
    else:
        _load_matrix(box, port, regs, dram, scratchpad, box.row * row_bytes)


# -- ST ----------------------------------------------------------------------------------------------


@jit
def store_tile(op, regs, scratchpad, dram, row_bytes):
    """Copy the result tile from the scratchpad to DRAM."""
    size, pitch = element_bytes(regs[CSR.c_format]), regs[CSR.c_pitch]
    element = op.group.first * regs[CSR.c_group] + op.m.first * pitch + op.n.first
    target, columns = regs[CSR.c_base] * _LINE + element * size, op.n.count * size
    copy_rows(
        scratchpad, op.read.first * row_bytes, columns,
        dram, target, pitch * size, op.m.count, columns,
    )  # fmt: skip


# -- tensors in DRAM ---------------------------------------------------------------------------------


@jit
def _tensor_a_end(regs, box):
    """The element after the last one of operand A's tensor."""
    last = regs[CSR.groups] - 1
    rows, columns = regs[CSR.m], regs[CSR.k]
    if box.transposed:
        rows, columns = columns, rows
    if box.kind == BOX_KIND.image:
        images = ceil_div(rows, regs[CSR.grid_height] * regs[CSR.grid_width])
        channels = (last + 1) * regs[CSR.image_channels]
        return image_end(regs, 0, images * regs[CSR.image_height], 0, channels)
    return last * regs[CSR.a_group] + (rows - 1) * regs[CSR.a_pitch] + columns


@jit
def _tensor_b_end(regs, box):
    """The element after the last one of operand B's tensor."""
    rows, columns, blocks = regs[CSR.k], regs[CSR.n], 1
    if box.transposed:
        rows, columns = columns, rows
        if regs[CSR.b_block] > 0:
            columns, blocks = regs[CSR.b_block], count_blocks(regs)
    end = (regs[CSR.groups] - 1) * regs[CSR.b_group] + (rows - 1) * regs[CSR.b_pitch] + columns
    return end + (blocks - 1) * regs[CSR.b_block_step]


@jit
def tensor_spans(regs, boxes, spans):
    """The DRAM bytes that operands A and B and the result of a GEMM can occupy.

    Args:
        spans: three `SPAN` records, filled.
    """
    a, b = boxes[PORT.a], boxes[PORT.b]
    spans[0].first = regs[CSR.a_base] * _LINE
    spans[0].stop = spans[0].first + _tensor_a_end(regs, a) * a.element_bytes
    spans[1].first = regs[CSR.b_base] * _LINE
    spans[1].stop = spans[1].first + _tensor_b_end(regs, b) * b.element_bytes
    end = (regs[CSR.groups] - 1) * regs[CSR.c_group] + (regs[CSR.m] - 1) * regs[CSR.c_pitch]
    spans[2].first = regs[CSR.c_base] * _LINE
    spans[2].stop = spans[2].first + (end + regs[CSR.n]) * element_bytes(regs[CSR.c_format])


# -- operands in the scratchpad ----------------------------------------------------------------------


@jit
def locate_a(box, op, first, row_bytes):
    """Where the matrix operand A of a tile is in the scratchpad, from row `first` of the tile on.

    Returns:
        Byte of the first element, bytes from row to row, bytes from k to k.
    """
    size, m, k = box.element_bytes, op.m.first + first, op.k.first
    row, column = (k, m) if box.transposed else (m, k)
    pitch = box.columns.count * size
    line = (op.group.first - box.groups.first) * box.rows.count + row - box.rows.first
    byte = box.row * row_bytes + line * pitch + (column - box.columns.first) * size
    return (byte, size, pitch) if box.transposed else (byte, pitch, size)


@jit
def _first_line_of_b(box, regs, op):
    """The stored line of operand B's box where the tile begins: a line of n if transposed, else of k."""
    group = op.group.first - box.groups.first
    if not box.transposed:
        return group * box.rows.count + op.k.first - box.rows.first
    block = tile_blocks(regs, op)[0] - box.blocks.first
    return (group * box.blocks.count + block) * box.rows.count + op.n.first - box.rows.first


@jit
def locate_b(regs, box, op, row_bytes):
    """Where operand B of a tile is in the scratchpad; if it spans several blocks of k, the first of them.

    Returns:
        Byte of the first element, bytes from column to column, bytes from k to k.
    """
    size, pitch = box.element_bytes, box.columns.count * box.element_bytes
    byte = box.row * row_bytes + _first_line_of_b(box, regs, op) * pitch
    if box.transposed:
        return byte + (op.k.first % block_depth(regs) - box.columns.first) * size, pitch, size
    return byte + (op.n.first - box.columns.first) * size, size, pitch


@jit
def join_blocks(regs, box, op, scratchpad, row_bytes, joined):
    """Copy a transposed operand B that spans several blocks of k to `joined`, column by column.

    Returns:
        As `locate_b`, in `joined`.
    """
    pitch, blocks = box.columns.count * box.element_bytes, tile_blocks(regs, op)[1]
    first = box.row * row_bytes + _first_line_of_b(box, regs, op) * pitch
    for i in range(blocks):
        source = first + i * box.rows.count * pitch
        copy_rows(scratchpad, source, pitch, joined, i * pitch, blocks * pitch, op.n.count, pitch)
    inside = op.k.first % block_depth(regs) - box.columns.first
    return inside * box.element_bytes, blocks * pitch, box.element_bytes


@jit
def _fill_geometry(geometry, box, regs, group):
    """Fill in the geometry of one group of operand A's image box: an array of one `im2col.GEOMETRY`."""
    g = geometry[0]
    g.image_height, g.image_width = regs[CSR.image_height], regs[CSR.image_width]
    g.channels, g.pixel_pitch = regs[CSR.image_channels], box.columns.count
    g.first_channel = group * g.channels - box.columns.first
    g.first_line, g.element_bytes = box.rows.first, box.element_bytes
    g.kernel_width = regs[CSR.kernel_width]
    g.grid_height, g.grid_width = regs[CSR.grid_height], regs[CSR.grid_width]
    g.stride_height, g.stride_width = regs[CSR.stride_height], regs[CSR.stride_width]
    g.dilation_height, g.dilation_width = regs[CSR.dilation_height], regs[CSR.dilation_width]
    g.gap_height, g.gap_width = regs[CSR.divide_height], regs[CSR.divide_width]
    g.pad_top, g.pad_left = regs[CSR.pad_height], regs[CSR.pad_width]


@jit
def unfold(scratchpad, row_bytes, box, regs, group, row, rows, column, columns, unfolded):
    """Write rows × columns of one group's im2col matrix to the bytes `unfolded`, row by row.

    The image is operand A's box in the scratchpad.
    """
    geometry = np.zeros(1, im2col.GEOMETRY)
    _fill_geometry(geometry, box, regs, group)
    base = box.row * row_bytes
    im2col.unfold(scratchpad, base, geometry, (row, rows), (column, columns), unfolded)
