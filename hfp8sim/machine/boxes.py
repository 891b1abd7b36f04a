"""Boxes: which part of a tensor a port has in the scratchpad, and whether a tile lies within it."""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

from hfp8sim._numba.jit import jit
from hfp8sim.isa.table import CSR, PORT
from hfp8sim.machine.state import BOX_KIND, PORT_CSRS, ceil_div, element_bytes, within

# -- images ------------------------------------------------------------------------------------------


@jit
def image_lines(regs, row, rows, column, columns):
    """The lines and channels of an image that rows × columns of the unfolded matrix touch.

    Between two images all lines count. A tile of several filter taps takes all channels.

    Returns:
        First line, lines, first channel, channels. Lines count through all images, channels within the group.
    """
    if rows <= 0 or columns <= 0:
        return 0, 0, 0, 0
    depth, q, s = regs[CSR.image_channels], regs[CSR.grid_width], regs[CSR.kernel_width]
    tap0, tap1 = column // depth, (column + columns - 1) // depth
    line, lines = lines_read(regs, row // q, (row + rows - 1) // q, tap0 // s, tap1 // s)
    channel, channels = 0, depth
    if tap0 == tap1:
        channel, channels = column % depth, columns
    return line, lines, channel, channels


@jit
def lines_read(regs, first, last, first_tap, last_tap):
    """The first line that some lines of the grid read through some lines of filter taps, and how many.

    `first`, `last` count lines of output positions through all images; both ends are included.
    """
    height, p = regs[CSR.image_height], regs[CSR.grid_height]
    low = (first % p) * regs[CSR.stride_height] + first_tap * regs[CSR.dilation_height]
    high = (last % p) * regs[CSR.stride_height] + last_tap * regs[CSR.dilation_height]
    low = ceil_div(low - regs[CSR.pad_height], regs[CSR.divide_height])
    high = (high - regs[CSR.pad_height]) // regs[CSR.divide_height]
    line0 = first // p * height + min(max(low, 0), height)
    line1 = last // p * height + min(max(high, -1), height - 1)
    return line0, max(line1 - line0 + 1, 0)


@jit
def image_end(regs, line, lines, channel, channels):
    """The element after the farthest one of some lines, counted from the start of the image tensor."""
    if lines == 0 or channels == 0:
        return 0
    height = regs[CSR.image_height]
    n, y = (line + lines - 1) // height, (line + lines - 1) % height
    end = n * regs[CSR.image_pitch] + y * regs[CSR.image_line_pitch]
    if line // height < n:
        before = (n - 1) * regs[CSR.image_pitch] + (height - 1) * regs[CSR.image_line_pitch]
        end = max(end, before)
    return end + (regs[CSR.image_width] - 1) * regs[CSR.image_pixel_pitch] + channel + channels


# -- blocks of a transposed operand B ----------------------------------------------------------------


@jit
def block_depth(regs):
    """k per block of a transposed operand B."""
    return regs[CSR.b_block] if regs[CSR.b_block] > 0 else max(regs[CSR.k], 1)


@jit
def count_blocks(regs):
    """Blocks that k of a transposed operand B has."""
    return ceil_div(regs[CSR.k], regs[CSR.b_block]) if regs[CSR.b_block] > 0 else 1


@jit
def tile_blocks(regs, op):
    """The first block of k that a tile of a transposed operand B reaches into, and how many it does."""
    depth = block_depth(regs)
    first = op.k.first // depth
    return first, max(op.k.first + op.k.count - 1, op.k.first) // depth - first + 1


@jit
def block_columns(regs, op, blocks):
    """First k and number of k that a tile takes of each block: a part of one block, or all of several."""
    depth = block_depth(regs)
    if blocks == 1:
        return op.k.first % depth, op.k.count
    return 0, depth


# -- boxes -------------------------------------------------------------------------------------------


@jit
def box_elements(box, regs):
    """Elements that a box holds."""
    if box.kind == BOX_KIND.image:
        return box.rows.count * regs[CSR.image_width] * box.columns.count
    return box.groups.count * box.blocks.count * box.rows.count * box.columns.count


@jit
def box_end(box, port, regs):
    """The element after the farthest one of a box, counted from the start of its DRAM tensor."""
    if box.kind == BOX_KIND.image:
        return image_end(regs, box.rows.first, box.rows.count, box.columns.first, box.columns.count)
    csrs = PORT_CSRS[port]
    end = (box.groups.first + box.groups.count - 1) * regs[csrs.group]
    if port != PORT.d:  # The bias vector has one row.
        end += (box.rows.first + box.rows.count - 1) * regs[csrs.pitch]
    if port == PORT.b and box.transposed:
        last = box.blocks.first + box.blocks.count - 1
        if box.reversed:
            last = count_blocks(regs) - 1 - box.blocks.first
        end += last * regs[CSR.b_block_step]
    return end + box.columns.first + box.columns.count


@jit
def box_stop(box, core, regs):
    """The scratchpad row after the last one of a box."""
    return box.row + ceil_div(box_elements(box, regs) * box.element_bytes, core.row_bytes)


@jit
def set_box_rows(span, box, core, regs):
    """Assign the scratchpad rows of a box."""
    span.first, span.stop = box.row, box_stop(box, core, regs)


# -- tiles within boxes ------------------------------------------------------------------------------


@jit
def covers_a(box, regs, op):
    """Whether the port's box has all of operand A that the tile needs."""
    row, rows, column, columns = op.m.first, op.m.count, op.k.first, op.k.count
    if box.transposed:
        row, rows, column, columns = column, columns, row, rows
    if box.kind == BOX_KIND.image:
        line, lines, channel, channels = image_lines(regs, row, rows, column, columns)
        channel += op.group.first * regs[CSR.image_channels]
        return lines == 0 or (
            within(line, lines, box.rows) and within(channel, channels, box.columns)
        )
    return (
        within(op.group.first, op.group.count, box.groups)
        and within(row, rows, box.rows)
        and within(column, columns, box.columns)
    )


@jit
def covers_b(box, regs, op):
    """Whether the port's box has all of operand B that the tile needs."""
    if not within(op.group.first, op.group.count, box.groups):
        return False
    if not box.transposed:
        return within(op.k.first, op.k.count, box.rows) and within(
            op.n.first, op.n.count, box.columns
        )
    block, blocks = tile_blocks(regs, op)
    column, columns = block_columns(regs, op, blocks)
    return (
        within(block, blocks, box.blocks)
        and within(op.n.first, op.n.count, box.rows)
        and within(column, columns, box.columns)
    )


@jit
def covers_bias(box, op):
    """Whether the port's box has all biases that the tile needs."""
    return (
        box.kind == BOX_KIND.matrix
        and within(op.group.first, op.group.count, box.groups)
        and within(op.n.first, op.n.count, box.columns)
    )


@jit
def has_format_size(box, word):
    """Whether the box was loaded in elements of the size that the format with this word has."""
    return box.element_bytes == element_bytes(word)
