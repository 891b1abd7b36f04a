"""Moving data: LD, ST, and the unfolding of images. Compiled loops over bytes and codes, no arithmetic."""
# mypy: disable-error-code="no-untyped-def,no-untyped-call,call-arg"

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from hfp8sim._numba.jit import jit
from hfp8sim.isa.table import CSR, LINE, PORT
from hfp8sim.machine.boxes import block_depth, count_blocks, image_end, tile_blocks
from hfp8sim.machine.state import BOX_KIND, ceil_div, element_bytes

_LINE = LINE


#: Bytes that `move` copies: unfolding may read and write so many beyond the ends of its memories.
MOVED = 32


def move(source, at, target, to):
    """Copy MOVED bytes, for shorter runs: what is too much is written over by what comes next."""
    target[to : to + MOVED] = source[at : at + MOVED]


@intrinsic
def _move(typingctx, source, at, target, to):
    """`move` as one vector."""

    def codegen(context, builder, signature, values):
        vector = ir.VectorType(ir.IntType(8), MOVED).as_pointer()
        arrays = [
            context.make_array(signature.args[i])(context, builder, values[i]) for i in (0, 2)
        ]
        places = [
            builder.bitcast(builder.gep(array.data, [place]), vector)
            for array, place in zip(arrays, (values[1], values[3]))
        ]
        builder.store(builder.load(places[0], align=1), places[1], align=1)
        return context.get_dummy_value()

    return types.void(source, types.int64, target, types.int64), codegen


@overload(move)
def _compiled_move(source, at, target, to):
    return lambda source, at, target, to: _move(source, at, target, to)


@jit
def copy(source, at, target, to, count):
    """Copy elements. (Unsigned places, since a signed one may count from the end and stops vectors; a
    loop, since slices would look for overlaps.)"""
    for i in range(count):
        target[np.uintp(to + i)] = source[np.uintp(at + i)]


@jit
def clear(target, to, count):
    """Elements become 0."""
    for i in range(count):
        target[np.uintp(to + i)] = 0


@jit
def copy_rows(source, at, pitch, target, to, apart, rows, columns):
    """Copy rows of elements that begin `pitch` apart to where they begin `apart` apart; as one, where they
    lie end to end in both."""
    if pitch == columns and apart == columns:
        rows, columns = min(rows, 1), rows * columns
    for r in range(rows):
        copy(source, at + r * pitch, target, to + r * apart, columns)


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
def unfold(scratchpad, row_bytes, box, regs, group, row, rows, column, columns, unfolded):
    """CV: rows × columns of the unfolded matrix of one group, from the lines in the scratchpad, row by row
    into the bytes `unfolded`."""
    esize, base = box.element_bytes, box.row * row_bytes
    height, width, depth = (
        regs[CSR.image_height], regs[CSR.image_width], regs[CSR.image_channels],
    )  # fmt: skip
    grid_p, grid_q, taps = regs[CSR.grid_height], regs[CSR.grid_width], regs[CSR.kernel_width]
    gap_y, gap_x = regs[CSR.divide_height], regs[CSR.divide_width]
    pixel, offset = box.columns.count, group * depth - box.columns.first
    line = width * depth
    # All taps of a filter line lie side by side where pixels do and nothing is skipped: one run.
    together = pixel == depth and gap_x == 1 and regs[CSR.dilation_width] == 1
    first_tap, first_channel = column // depth, column % depth
    first_r, first_s = first_tap // taps, first_tap % taps
    # Whole windows that lie within an image, and whose runs are short, are many a time the same.
    window, lines = taps * depth, columns // (taps * depth)
    short = together and gap_y == 1 and regs[CSR.dilation_height] == 1 and column == 0
    short = short and lines * window == columns and window * esize <= MOVED
    # Where the row's window stands: column and line of the grid, and image (counted, not divided).
    at_q, place = row % grid_q, row // grid_q
    at_p, at_image = place % grid_p, place // grid_p
    for i in range(rows):
        y0 = at_p * regs[CSR.stride_height] - regs[CSR.pad_height]
        x0 = at_q * regs[CSR.stride_width] - regs[CSR.pad_width]
        line0 = at_image * height - box.rows.first
        at_q += 1
        if at_q == grid_q:
            at_q, at_p = 0, at_p + 1
            if at_p == grid_p:
                at_p, at_image = 0, at_image + 1
        if short and 0 <= x0 <= width - taps and 0 <= y0 <= height - lines:
            at, to = base + ((line0 + y0) * line + x0 * depth) * esize, i * columns * esize
            for _ in range(lines):
                move(scratchpad, at, unfolded, to)
                at, to = at + line * esize, to + window * esize
            continue
        r, s, channel = first_r, first_s, first_channel
        at_out, end = i * columns, (i + 1) * columns
        while at_out < end:
            y = y0 + r * regs[CSR.dilation_height]
            inside = y >= 0
            if gap_y > 1:
                inside = inside and y % gap_y == 0
                y //= gap_y
            inside = inside and y < height
            if together:
                # Where the run begins in the line, and which of it lies within the line.
                start = (x0 + s) * depth + channel
                run = min((taps - s) * depth - channel, end - at_out)
                before = min(max(-start, 0), run) if inside else run
                upto = max(min(width * depth - start, run), before) if inside else run
                at = (line0 + y) * width * depth + start
                r, s = r + 1, 0
            else:
                x = x0 + s * regs[CSR.dilation_width]
                inside = inside and x >= 0
                if gap_x > 1:
                    inside = inside and x % gap_x == 0
                    x //= gap_x
                run = min(depth - channel, end - at_out)
                before, upto = (0, run) if inside and x < width else (run, run)
                at = ((line0 + y) * width + x) * pixel + offset + channel
                s += 1
                if s == taps:
                    r, s = r + 1, 0
            channel = 0
            to = at_out * esize
            clear(unfolded, to, before * esize)
            copy(
                scratchpad, base + (at + before) * esize, unfolded, to + before * esize,
                (upto - before) * esize,
            )  # fmt: skip
            clear(unfolded, to + upto * esize, (run - upto) * esize)
            at_out += run
