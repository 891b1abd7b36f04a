"""im2col: the lines of images unfolded into the rows of a matrix (Chellapilla et al., 2006).

Row (image, p, q) and column (r, s, channel) of the unfolded matrix hold the pixel of line
p·stride_height + r·dilation_height − pad_top, and likewise across, of the image as the filter sees it:
pixels `gap` apart with zeros between, and zeros around. `workloads.operands.unfold` computes the same in NumPy.
"""

from __future__ import annotations

import numpy as np

from hfp8sim._numba.copies import MOVE_BYTES, clear, copy, move
from hfp8sim._numba.jit import jit
from hfp8sim._numba.layouts import layout

#: What is unfolded: one group of channels of images that lie in memory line by line. Numbers without a
#: unit are pixels.
GEOMETRY = layout(
    # The images. Those of a batch follow one another.
    image_height=np.int64,
    image_width=np.int64,
    channels=np.int64,  # of the group
    pixel_pitch=np.int64,  # elements from pixel to pixel of a line
    first_channel=np.int64,  # the group's first element of a pixel
    first_line=np.int64,  # number of the first line in memory, counted from the batch's first image on
    element_bytes=np.int64,
    # The convolution.
    kernel_width=np.int64,
    grid_height=np.int64,  # output positions of an image
    grid_width=np.int64,
    stride_height=np.int64,
    stride_width=np.int64,
    dilation_height=np.int64,  # from tap to tap of the filter
    dilation_width=np.int64,
    gap_height=np.int64,  # from pixel to pixel of the image as the filter sees it (transposed convolution)
    gap_width=np.int64,
    pad_top=np.int64,
    pad_left=np.int64,
)


@jit
def unfold(image, base, geometry, rows, columns, out):
    """Unfold a block of the matrix of one group, row by row.

    Args:
        image: bytes. MOVE_BYTES bytes are read wherever a pixel begins.
        base: the byte of `image` at which the first line begins.
        geometry: an array of one `GEOMETRY`.
        rows, columns: (first, count) of the block.
        out: bytes (count of rows · count of columns · element_bytes, and MOVE_BYTES more, which may be written).
    """
    g = geometry[0]
    (row, row_count), (column, column_count) = rows, columns
    window, tap, channel = g.kernel_width * g.channels, column // g.channels, column % g.channels
    # Where pixels are adjacent, all taps of a filter line are one run of memory.
    adjacent = g.pixel_pitch == g.channels and g.gap_width == 1 and g.dilation_width == 1
    # Whole windows whose runs are short are copied by one vector a line, if they lie within the image.
    lines = column_count // window
    short = adjacent and g.gap_height == 1 and g.dilation_height == 1 and column == 0
    short = short and lines * window == column_count and window * g.element_bytes <= MOVE_BYTES
    q, p = row % g.grid_width, row // g.grid_width % g.grid_height
    image_number, row_bytes = row // g.grid_width // g.grid_height, column_count * g.element_bytes
    for i in range(row_count):
        y, x = p * g.stride_height - g.pad_top, q * g.stride_width - g.pad_left
        line, target = image_number * g.image_height - g.first_line, i * row_bytes
        across = 0 <= x <= g.image_width - g.kernel_width
        if short and across and 0 <= y <= g.image_height - lines:
            _copy_window(image, base, g, line + y, x, lines, out, target)
        elif adjacent:
            _unfold_runs(image, base, g, line, y, x, tap, channel, column_count, out, target)
        else:
            _unfold_pixels(image, base, g, line, y, x, tap, channel, column_count, out, target)
        q += 1
        if q == g.grid_width:
            q, p = 0, p + 1
            if p == g.grid_height:
                p, image_number = 0, image_number + 1


@jit
def _copy_window(image, base, g, line, x, lines, out, target):
    """A row whose window lies within the image, each of its lines by one vector."""
    pitch = g.image_width * g.channels * g.element_bytes
    source = base + line * pitch + x * g.channels * g.element_bytes
    window = g.kernel_width * g.channels * g.element_bytes
    for _ in range(lines):
        move(image, source, out, target)
        source, target = source + pitch, target + window


@jit
def _unfold_runs(image, base, g, line, y, x, tap, channel, count, out, target):
    """A row of an image whose pixels are adjacent: one run for each line of the filter."""
    width = g.image_width * g.channels
    r, s = tap // g.kernel_width, tap % g.kernel_width
    while count > 0:
        image_line, inside = _image_line(g, y + r * g.dilation_height)
        start = (x + s) * g.channels + channel  # of the run, in elements of the line
        run = min((g.kernel_width - s) * g.channels - channel, count)
        before = min(max(-start, 0), run) if inside else run
        stop = max(min(width - start, run), before) if inside else run
        element = (line + image_line) * width + start
        target = _copy_run(image, base, g, element, before, stop, run, out, target)
        count, r, s, channel = count - run, r + 1, 0, 0


@jit
def _unfold_pixels(image, base, g, line, y, x, tap, channel, count, out, target):
    """A row of any image: one run for each tap of the filter."""
    r, s = tap // g.kernel_width, tap % g.kernel_width
    while count > 0:
        image_line, inside = _image_line(g, y + r * g.dilation_height)
        pixel = x + s * g.dilation_width
        inside = inside and pixel >= 0
        if g.gap_width > 1:
            inside = inside and pixel % g.gap_width == 0
            pixel //= g.gap_width
        run = min(g.channels - channel, count)
        before, stop = (0, run) if inside and pixel < g.image_width else (run, run)
        element = ((line + image_line) * g.image_width + pixel) * g.pixel_pitch
        element += g.first_channel + channel
        target = _copy_run(image, base, g, element, before, stop, run, out, target)
        count, s, channel = count - run, s + 1, 0
        if s == g.kernel_width:
            r, s = r + 1, 0


@jit
def _image_line(g, y):
    """The image's line that the filter sees at y, and whether there is one."""
    inside = y >= 0
    if g.gap_height > 1:
        inside = inside and y % g.gap_height == 0
        y //= g.gap_height
    return y, inside and y < g.image_height


@jit
def _copy_run(image, base, g, element, before, stop, run, out, target):
    """A run of elements: those in [before, stop) from the image's `element` + before on, zeros around them.
    Returns the byte of `out` after it."""
    size = g.element_bytes
    clear(out, target, before * size)
    copy(
        image, base + (element + before) * size, out, target + before * size, (stop - before) * size
    )
    clear(out, target + stop * size, (run - stop) * size)
    return target + run * size
