"""Moving data: LD, ST, and the unfolding of images. Compiled loops over bytes and codes, no arithmetic."""
# mypy: disable-error-code="no-untyped-def,no-untyped-call,call-arg"

from __future__ import annotations

import numpy as np

from hfp8sim import kernels
from hfp8sim._numba.copies import copy_rows
from hfp8sim._numba.jit import jit
from hfp8sim.isa.table import CSR, LINE, PORT
from hfp8sim.machine.boxes import block_depth, count_blocks, image_end, tile_blocks
from hfp8sim.machine.state import BOX_KIND, ceil_div, element_bytes

_LINE = LINE


@jit
def load_box(box, port, regs, dram, scratchpad, row_bytes):
    """LD: copy a port's box from DRAM, densely, to its scratchpad row."""
    esize, to = box.element_bytes, box.row * row_bytes
    columns = box.columns.count * esize
    if box.kind == BOX_KIND.image:
        base = regs[CSR.a_base] * _LINE
        height, width = regs[CSR.image_height], regs[CSR.image_width]
        step = regs[CSR.image_pixel_pitch]
        for line in range(box.rows.first, box.rows.first + box.rows.count):
            at = line // height * regs[CSR.image_pitch] + line % height * regs[CSR.image_line_pitch]
            at = base + (at + box.columns.first) * esize
            copy_rows(dram, at, step * esize, scratchpad, to, columns, width, columns)
            to += width * columns
        return
    pitch, block, blocks = 0, 0, 0
    if port == PORT.a:
        base, group, pitch = regs[CSR.a_base], regs[CSR.a_group], regs[CSR.a_pitch]
    elif port == PORT.b:
        base, group, pitch = regs[CSR.b_base], regs[CSR.b_group], regs[CSR.b_pitch]
        if box.transposed:
            block, blocks = regs[CSR.b_block_step], count_blocks(regs)
    else:
        base, group = regs[CSR.d_base], regs[CSR.d_group]
    for g in range(box.groups.first, box.groups.first + box.groups.count):
        for t in range(box.blocks.first, box.blocks.first + box.blocks.count):
            place = blocks - 1 - t if box.reversed else t
            first = g * group + place * block + box.rows.first * pitch + box.columns.first
            at = base * _LINE + first * esize
            copy_rows(dram, at, pitch * esize, scratchpad, to, columns, box.rows.count, columns)
            to += box.rows.count * columns


@jit
def tensor_spans(regs, box, spans):
    """DRAM bytes [first, stop) within which operands a and b and the result of a GEMM lie: (3, 2)."""
    m, n, k, last = regs[CSR.m], regs[CSR.n], regs[CSR.k], regs[CSR.groups] - 1
    a, b = box[PORT.a], box[PORT.b]
    if a.kind == BOX_KIND.image:
        rows = k if a.transposed else m
        images = ceil_div(rows, regs[CSR.grid_height] * regs[CSR.grid_width])
        lines, channels = images * regs[CSR.image_height], regs[CSR.image_channels]
        end = image_end(regs, 0, lines, 0, (last + 1) * channels)
    else:
        rows, columns = (k, m) if a.transposed else (m, k)
        end = last * regs[CSR.a_group] + (rows - 1) * regs[CSR.a_pitch] + columns
    spans[0, 0] = regs[CSR.a_base] * _LINE
    spans[0, 1] = spans[0, 0] + end * a.element_bytes
    rows, columns, blocks = (n, k, 1) if b.transposed else (k, n, 1)
    if b.transposed and regs[CSR.b_block] > 0:
        columns, blocks = regs[CSR.b_block], count_blocks(regs)
    end = last * regs[CSR.b_group] + (rows - 1) * regs[CSR.b_pitch] + columns
    spans[1, 0] = regs[CSR.b_base] * _LINE
    spans[1, 1] = spans[1, 0] + (end + (blocks - 1) * regs[CSR.b_block_step]) * b.element_bytes
    spans[2, 0] = regs[CSR.c_base] * _LINE
    end = last * regs[CSR.c_group] + (m - 1) * regs[CSR.c_pitch] + n
    spans[2, 1] = spans[2, 0] + end * element_bytes(regs[CSR.c_format])


@jit
def store_tile(op, regs, scratchpad, dram, row_bytes):
    """ST: copy the result tile to DRAM."""
    esize = element_bytes(regs[CSR.c_format])
    columns, at = op.n.count * esize, op.read.first * row_bytes
    first = op.group.first * regs[CSR.c_group] + op.m.first * regs[CSR.c_pitch] + op.n.first
    to = regs[CSR.c_base] * _LINE + first * esize
    copy_rows(
        scratchpad, at, columns, dram, to, regs[CSR.c_pitch] * esize, op.m.count, columns
    )  # fmt: skip


@jit
def locate_a(box, op, first, row_bytes):
    """Where operand A's tile lies, from its row `first` on, in a matrix in the scratchpad: (byte, bytes
    from row to row, bytes from k to k)."""
    esize, m, k = box.element_bytes, op.m.first + first, op.k.first
    row, column = (k, m) if box.transposed else (m, k)
    pitch = box.columns.count * esize
    at = (op.group.first - box.groups.first) * box.rows.count + row - box.rows.first
    at = box.row * row_bytes + at * pitch + (column - box.columns.first) * esize
    return (at, esize, pitch) if box.transposed else (at, pitch, esize)


@jit
def locate_b(regs, box, op, row_bytes):
    """Where operand B's tile lies in the scratchpad: (byte, bytes from column to column, bytes from k to k).
    (Where it reaches into several blocks, this is so within the first.)"""
    esize, n, k = box.element_bytes, op.n.first, op.k.first
    pitch, at = box.columns.count * esize, op.group.first - box.groups.first
    if not box.transposed:
        at = at * box.rows.count + k - box.rows.first
        at = box.row * row_bytes + at * pitch + (n - box.columns.first) * esize
        return at, esize, pitch
    first, _ = tile_blocks(regs, op)
    at = (at * box.blocks.count + first - box.blocks.first) * box.rows.count + n - box.rows.first
    at = box.row * row_bytes + at * pitch + (k % block_depth(regs) - box.columns.first) * esize
    return at, pitch, esize


@jit
def join_blocks(regs, box, op, scratchpad, row_bytes, joined):
    """Lay the blocks of k that a tile of a transposed operand B reaches into end to end, column by column:
    (byte, bytes from column to column, bytes from k to k), as `locate_b`, in `joined`."""
    first, blocks = tile_blocks(regs, op)
    pitch = box.columns.count * box.element_bytes
    at = (op.group.first - box.groups.first) * box.blocks.count + first - box.blocks.first
    at = box.row * row_bytes + (at * box.rows.count + op.n.first - box.rows.first) * pitch
    for t in range(blocks):
        from_block, to = at + t * box.rows.count * pitch, t * pitch
        copy_rows(scratchpad, from_block, pitch, joined, to, blocks * pitch, op.n.count, pitch)
    return (
        (op.k.first % block_depth(regs) - box.columns.first) * box.element_bytes,
        blocks * pitch,
        box.element_bytes,
    )


@jit
def _fill_geometry(geometry, box, regs, group):
    """The geometry of operand A's image box, one group of it, in an array of one `GEOMETRY`."""
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
    """CV: rows × columns of the unfolded matrix of one group, from the lines in the scratchpad, row by row
    into the bytes `unfolded`."""
    geometry = np.zeros(1, kernels.GEOMETRY)
    _fill_geometry(geometry, box, regs, group)
    base = box.row * row_bytes
    kernels.unfold(scratchpad, base, geometry, (row, rows), (column, columns), unfolded)
