"""Moving data: LD, ST, and the unfolding of images. Compiled loops over bytes and codes, no arithmetic."""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import numpy as np

from hfp8sim._jit import jit
from hfp8sim.isa.table import CSR, LINE, PORT
from hfp8sim.machine import sequencer as q

_LINE = LINE


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
def load_box(box, port, regs, dram, scratchpad, row_bytes):
    """LD: copy a port's box from DRAM, densely, to its scratchpad row."""
    esize, to = box[q.ESIZE], box[q.ROW] * row_bytes
    columns = box[q.BOX_CT] * esize
    if box[q.KIND] == q.IMAGE:
        base = regs[CSR.a_base] * _LINE
        height, width = regs[CSR.image_height], regs[CSR.image_width]
        step = regs[CSR.image_pixel_pitch]
        for line in range(box[q.BOX_R0], box[q.BOX_R0] + box[q.BOX_RT]):
            at = line // height * regs[CSR.image_pitch] + line % height * regs[CSR.image_line_pitch]
            at = base + (at + box[q.BOX_C0]) * esize
            if step == box[q.BOX_CT]:
                copy(dram, at, scratchpad, to, width * columns)
                to += width * columns
            else:
                for x in range(width):
                    copy(dram, at + x * step * esize, scratchpad, to, columns)
                    to += columns
        return
    pitch, block, blocks = 0, 0, 0
    if port == PORT.a:
        base, group, pitch = regs[CSR.a_base], regs[CSR.a_group], regs[CSR.a_pitch]
    elif port == PORT.b:
        base, group, pitch = regs[CSR.b_base], regs[CSR.b_group], regs[CSR.b_pitch]
        if box[q.TRANSPOSED]:
            block, blocks = regs[CSR.b_block_step], q.blocks_of_b(regs)
    else:
        base, group = regs[CSR.d_base], regs[CSR.d_group]
    for g in range(box[q.BOX_G0], box[q.BOX_G0] + box[q.BOX_GT]):
        for t in range(box[q.BOX_B0], box[q.BOX_B0] + box[q.BOX_BT]):
            place = blocks - 1 - t if box[q.TURNED] else t
            first = g * group + place * block + box[q.BOX_R0] * pitch + box[q.BOX_C0]
            at = base * _LINE + first * esize
            for r in range(box[q.BOX_RT]):
                copy(dram, at + r * pitch * esize, scratchpad, to, columns)
                to += columns


@jit
def tensor_spans(regs, box, spans):
    """DRAM bytes [first, stop) within which operands a and b and the result of a GEMM lie: (3, 2)."""
    m, n, k, last = regs[CSR.m], regs[CSR.n], regs[CSR.k], regs[CSR.groups] - 1
    a, b = box[PORT.a], box[PORT.b]
    if a[q.KIND] == q.IMAGE:
        rows = k if a[q.TRANSPOSED] else m
        images = q.ceil_div(rows, regs[CSR.grid_height] * regs[CSR.grid_width])
        lines, channels = images * regs[CSR.image_height], regs[CSR.image_channels]
        end = q.image_span(regs, 0, lines, 0, (last + 1) * channels)
    else:
        rows, columns = (k, m) if a[q.TRANSPOSED] else (m, k)
        end = last * regs[CSR.a_group] + (rows - 1) * regs[CSR.a_pitch] + columns
    spans[0, 0] = regs[CSR.a_base] * _LINE
    spans[0, 1] = spans[0, 0] + end * a[q.ESIZE]
    rows, columns, blocks = (n, k, 1) if b[q.TRANSPOSED] else (k, n, 1)
    if b[q.TRANSPOSED] and regs[CSR.b_block] > 0:
        columns, blocks = regs[CSR.b_block], q.blocks_of_b(regs)
    end = last * regs[CSR.b_group] + (rows - 1) * regs[CSR.b_pitch] + columns
    spans[1, 0] = regs[CSR.b_base] * _LINE
    spans[1, 1] = spans[1, 0] + (end + (blocks - 1) * regs[CSR.b_block_step]) * b[q.ESIZE]
    spans[2, 0] = regs[CSR.c_base] * _LINE
    end = last * regs[CSR.c_group] + (m - 1) * regs[CSR.c_pitch] + n
    spans[2, 1] = spans[2, 0] + end * q.element_bytes(regs[CSR.c_format])


@jit
def store_tile(op, regs, scratchpad, dram, row_bytes):
    """ST: copy the result tile to DRAM."""
    esize = q.element_bytes(regs[CSR.c_format])
    columns, at = op[q.NT] * esize, op[q.READ] * row_bytes
    first = op[q.G0] * regs[CSR.c_group] + op[q.M0] * regs[CSR.c_pitch] + op[q.N0]
    to = regs[CSR.c_base] * _LINE + first * esize
    for m in range(op[q.MT]):
        copy(scratchpad, at + m * columns, dram, to + m * regs[CSR.c_pitch] * esize, columns)


@jit
def unfold(elements, box, regs, group, row, rows, column, columns, unfolded):
    """CV: rows × columns of the unfolded matrix of one group, from the lines in the scratchpad.

    Args:
        elements: the port's box in the scratchpad, 1-D, of the operand's dtype.
        unfolded: rows · columns of the same dtype, filled, row by row.
    """
    height, width, depth = (
        regs[CSR.image_height], regs[CSR.image_width], regs[CSR.image_channels],
    )  # fmt: skip
    grid_p, grid_q, taps = regs[CSR.grid_height], regs[CSR.grid_width], regs[CSR.kernel_width]
    gap_y, gap_x = regs[CSR.divide_height], regs[CSR.divide_width]
    pixel, offset = box[q.BOX_CT], group * depth - box[q.BOX_C0]
    # All taps of a filter line lie side by side where pixels do and nothing is skipped: one run.
    together = pixel == depth and gap_x == 1 and regs[CSR.dilation_width] == 1
    first_tap, first_channel = column // depth, column % depth
    first_r, first_s = first_tap // taps, first_tap % taps
    # Where the row's window stands: column and line of the grid, and image (counted, not divided).
    at_q, place = row % grid_q, row // grid_q
    at_p, at_image = place % grid_p, place // grid_p
    for i in range(rows):
        y0 = at_p * regs[CSR.stride_height] - regs[CSR.pad_height]
        x0 = at_q * regs[CSR.stride_width] - regs[CSR.pad_width]
        line0 = at_image * height - box[q.BOX_R0]
        at_q += 1
        if at_q == grid_q:
            at_q, at_p = 0, at_p + 1
            if at_p == grid_p:
                at_p, at_image = 0, at_image + 1
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
            clear(unfolded, at_out, before)
            copy(elements, at + before, unfolded, at_out + before, upto - before)
            clear(unfolded, at_out + upto, run - upto)
            at_out += run
