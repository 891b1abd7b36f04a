"""Depthwise convolutions: one filter for each channel, a lane a channel.

As matrix products they have one column for each group, which fills one lane of sixteen. Here a register tile
has pixels as rows and channels as columns, and at each step (a tap of the filter) every lane multiplies its own
pixel by its own weight. Additions, roundings, chunks and the counting of events are those of the other kernels: the
step is written by `steps.py` from the same `Form`.

Images are copied with zeros around them and decoded to panels of channels, (channel panel, pixel, PANEL). The
operand of output pixel r at tap k is one vector there, at the sum of two places: that of the pixel's window and
that of the tap within a window. In a weight gradient taps are rows and pixels are steps.

**Input gradients of strided convolutions.** Between errors lie zeros. Outputs whose coordinates leave the same
remainders by the stride read errors at the same taps, and zeros at all others. They form a *class* with a list of
taps of its own. A step that adds zero to a sum leaves it unchanged: the sum is a number of the accumulator's
format, or NaN or infinite, and rounding it again changes nothing. So within a chunk such steps are left out. Aligned
sums keep all steps: they may cut the accumulator.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hfp8sim._numba.calls import address, address_of, array_at, call, record_at
from hfp8sim._numba.copies import clear, copy
from hfp8sim._numba.jit import jit
from hfp8sim._numba.layouts import layout
from hfp8sim.formats import FloatFormat
from hfp8sim.kernels import pack
from hfp8sim.kernels import target as targets
from hfp8sim.kernels.form import EVENTS, PANEL, WIDEST, Counting
from hfp8sim.kernels.gemm import Outcome
from hfp8sim.kernels.jobs import (
    PACKING,
    WRITING,
    Writer,
    pack_codes,
    write_results,
)
from hfp8sim.kernels.kernel import Kernel
from hfp8sim.kernels.macrokernel import PANELS
from hfp8sim.kernels.memory import Workspace
from hfp8sim.kernels.microkernel import KERNEL, LANEWISE_TILE, kernel_table
from hfp8sim.kernels.panels import Codes, count_panels
from hfp8sim.kernels.select import Plan
from hfp8sim.kernels.stream import Formats
from hfp8sim.kernels.target import BLOCKING, Implementation
from hfp8sim.kernels.workers import share, slices
from hfp8sim.network import Conv

#: Bytes of decoded images that are held at once: they stay in the second-level cache.
_IMAGE_BYTES = 1 << 19
#: Rows of the register tile of weight gradients: 9 taps are three such tiles.
_TAP_ROWS = 4
_PARTS_PER_THREAD = 4
_WORKSPACE = Workspace()
_READABLE = np.int64(1) << 62  # an end of memory that no address reaches

Table = NDArray[np.int64]

#: The argument of a lanewise macrokernel.
LANEWISE_JOB = layout(
    function=np.int64,  # address of the macrokernel
    kernel=np.int64,  # address of a `KERNEL`
    tile=LANEWISE_TILE,  # what the macrokernel passes to the microkernel
    a=PANELS,  # columns of A: channels of images
    b=PANELS,
    chunk=np.int64,  # as `macrokernel.JOB`
    total=np.int64,
    numbers=np.int64,
    counts=np.int64,
    a_rows=np.int64,  # address of the places of rows in a panel of A, int64, in elements
    a_steps=np.int64,  # address of the places of elements of k likewise
    rows=np.int64,
    column_panels=np.int64,
    steps=np.int64,
    steps_left=np.int64,
    steps_per_chunk=np.int64,
    closes=np.int64,
    from_zero=np.int64,
    keeps_chunks=np.int64,
)
#: Images in memory, and how they are copied.
IMAGES = layout(
    codes=np.int64,  # address
    by_image=np.int64,  # bytes from image to image, …
    by_line=np.int64,
    by_pixel=np.int64,
    by_channel=np.int64,
    height=np.int64,
    width=np.int64,
    code_bytes=np.int64,  # of an element
    top=np.int64,  # lines of zeros above an image, …
    left=np.int64,  # … and pixels to its left
    pitch=np.int64,  # pixels of a copied line
)
#: Outputs that have the same list of taps.
CLASS = layout(
    filters=PANELS,  # of all channels
    rows=np.int64,  # address of the places of windows, int64, in elements of a panel …
    last_rows=np.int64,  # … and of those of an image's last block
    steps=np.int64,  # address of the places of taps likewise
    step_count=np.int64,
    steps_per_chunk=np.int64,
    height=np.int64,  # output lines of an image
    width=np.int64,
    first_line=np.int64,  # the first one's number in the result
    first_pixel=np.int64,
)
#: What a thread computes with.
DEPTHWISE = layout(
    images=IMAGES,
    errors=IMAGES,  # of weight gradients
    pack_a=PACKING,
    pack_b=PACKING,
    kernel=LANEWISE_JOB,
    out=WRITING,
    copied=np.int64,  # address of copied codes of images …
    copied_errors=np.int64,  # … and of errors
    encoded=np.int64,  # address of encoded results, where they are not adjacent in the result
    lines=np.int64,  # output lines of a block
    window=np.int64,  # lines that an output line reads
    stride=np.int64,  # lines from the window of an output line to that of the next …
    stride_width=np.int64,  # … and pixels likewise
    pixels=np.int64,  # of a block that are decoded, a multiple of PANEL: zeros follow those of the image
    result=np.int64,  # address
    result_bytes=np.int64,  # of a code
    height=np.int64,  # of the result
    width=np.int64,
    channels=np.int64,
    step_height=np.int64,  # from line to line of a class in the result
    step_width=np.int64,
    lane_bytes=np.int64,
    products=np.int64,  # of a step
    chunk_length=np.int64,
    depth=np.int64,  # K of weight gradients
)


def lanewise_kernel(plan: Plan, rows: int | None = None) -> Kernel | None:
    """The kernel with a lane a channel that computes what a plan's kernel computes; None where there is none.

    Random words of lanes would have keys of their own. Events are counted step by step: the steps that add zero
    do not follow from rows and columns.

    Args:
        rows: of the register tile; the target's own by default.
    """
    kernel = plan.kernel
    if kernel is None or plan.draws or kernel.target.implementation is Implementation.LOOPS:
        return None
    counting = Counting.NONE if kernel.counting is Counting.NONE else Counting.EVENTS
    found = Kernel.of(kernel.form, counting, kernel.target)._replace(lanewise=True)
    if rows is not None and found.tiling.rows > rows:
        tiling = targets.arranged(kernel.form, counting, rows, found.tiling.vectors)
        found = found._replace(tiling=tiling)
    return found


@jit
def run_lanewise(argument):
    """The loop nest around lanewise kernels: all rows and channels of a `LANEWISE_JOB`, whose address is given."""
    job = record_at(argument, LANEWISE_JOB)
    kernel, tile = record_at(job.kernel, KERNEL), job.tile
    size, panels = kernel.lane_bytes, kernel.panels
    a_stride, b_stride = job.a.depth * PANEL, job.b.depth * PANEL
    row_panels, column_panels = -(-job.rows // PANEL), job.column_panels
    tile.numbers, tile.counts, tile.a_steps = job.numbers, job.counts, job.a_steps
    tile.steps, tile.left, tile.length = job.steps, job.steps_left, job.steps_per_chunk
    tile.close, tile.fresh = job.closes, job.from_zero
    tile.a_stride, tile.b_stride = a_stride, b_stride
    for i in range(row_panels):
        j = 0
        height = min(PANEL, job.rows - i * PANEL)
        while j < column_panels:
            wide = j + panels <= column_panels
            tile.wide = wide
            place = (i * column_panels + j) * PANEL * PANEL
            for r in range(0, height, kernel.rows if wide else kernel.narrow_rows):
                tile.a_rows = job.a_rows + (i * PANEL + r) * 8
                for c in range(0, PANEL, kernel.columns):
                    cell = r * PANEL + c
                    a, b = j * a_stride + c, j * b_stride + c
                    tile.a, tile.b = job.a.values + a * size, job.b.values + b * size
                    tile.a_exponents = job.a.exponents + a * 4
                    tile.b_exponents = job.b.exponents + b * 4
                    tile.chunk = job.chunk + (place * job.keeps_chunks + cell) * size
                    tile.total = job.total + (place + cell) * 4
                    call(kernel.function, address_of(tile))
            j += panels if wide else 1


# -- codes -------------------------------------------------------------------------------------------


@jit
def copy_lines(images, image, first_line, count, channel, channels, width, target, place):
    """Copy lines of an image with zeros around them: pixels of `width` channels, contiguous.

    Args:
        images: an `IMAGES`.
        first_line: of the copied image, zeros above included.
        channel, channels: the first one, and how many; zeros follow up to `width`.
        target, place: bytes, and the first one's place.

    Returns:
        The place after them.
    """
    size = images.code_bytes
    codes = array_at(images.codes, (_READABLE,), np.uint8)
    target_pixel, run = width * size, channels * size
    dense = images.by_channel == size
    whole = dense and channels == width and images.by_pixel == run
    for y in range(first_line - images.top, first_line - images.top + count):
        clear(target, place, images.pitch * target_pixel)
        start = place + images.left * target_pixel
        line = image * images.by_image + y * images.by_line + channel * images.by_channel
        if 0 <= y < images.height:
            if whole:
                copy(codes, line, target, start, images.width * run)
            elif dense:
                for x in range(images.width):
                    copy(codes, line + x * images.by_pixel, target, start + x * target_pixel, run)
            else:
                for c in range(channels):
                    source, to = line + c * images.by_channel, start + c * size
                    for x in range(images.width):
                        for b in range(size):
                            code = codes[np.uintp(source + x * images.by_pixel + b)]
                            target[np.uintp(to + x * target_pixel + b)] = code
        place += images.pitch * target_pixel
    return place


@jit
def pack_channels(job, source, pixels, width, size):
    """Decode copied pixels into the panels of a `PACKING`; a multiple of PANEL of them is read."""
    view = source, size, width * size, np.int64(0), width
    pack_codes(job, view, 0, -(-pixels // PANEL) * PANEL, 0, 0)


# -- forward passes and input gradients --------------------------------------------------------------


@jit
def convolve_blocks(record, classes, first, count, channel, channels):
    """Blocks of output lines of all classes, for a range of channels.

    Args:
        record: an array of one `DEPTHWISE`.
        classes: an array of `CLASS`; the first one is the highest.
        first, count: numbers of blocks; those of an image follow one another.
        channel, channels: the first one, a multiple of PANEL, and how many.
    """
    d = record[0]
    panels, size = -(-channels // PANEL), d.images.code_bytes
    width, lines = panels * PANEL, d.lines
    copied = array_at(d.copied, (_READABLE,), np.uint8)
    of_image = -(-classes[0].height // lines)
    for block in range(first, first + count):
        image, line = block // of_image, block % of_image * lines
        here = min(lines, classes[0].height - line)
        read = (here - 1) * d.stride + d.window
        place = copy_lines(
            d.images, image, line * d.stride, read, channel, channels, width, copied, 0
        )
        clear(copied, place, d.pixels * width * size - place)
        pack_channels(d.pack_a, d.copied, d.pixels, width, size)
        for i in range(classes.size):
            part = classes[i]
            height = min(lines, part.height - line)
            if height > 0:
                rows = part.last_rows if line + lines >= part.height else part.rows
                _run_class(d, part, rows, height * part.width, channel // PANEL, panels)
                _write_class(d, part, image, line, height, channel, channels)


@jit
def _run_class(d, part, rows, count, panel, panels):
    """Compute the sums of `count` outputs of a class, whose windows have the places `rows`."""
    job, filters = d.kernel, part.filters
    skipped = panel * filters.depth * PANEL
    job.b.values = filters.values + skipped * d.lane_bytes
    job.b.exponents, job.b.depth = filters.exponents + skipped * 4, filters.depth
    job.a_rows, job.a_steps, job.rows, job.column_panels = rows, part.steps, count, panels
    job.steps, job.steps_left = part.step_count, part.steps_per_chunk
    job.steps_per_chunk = part.steps_per_chunk
    job.closes, job.from_zero, job.keeps_chunks = 1, 1, 0
    call(job.function, address_of(job))


@jit
def _write_class(d, part, image, line, lines, channel, channels):
    """Encode the outputs of a class to their places in the result."""
    size, pixel = d.result_bytes, d.channels * d.result_bytes
    first = (image * d.height + line * d.step_height + part.first_line) * d.width
    target = d.result + (first + part.first_pixel) * pixel + channel * size
    if d.step_height == 1 and d.step_width == 1:
        write_results(d.out, target, pixel, lines * part.width, channels)
        return
    run = channels * size
    write_results(d.out, d.encoded, run, lines * part.width, channels)
    encoded = array_at(d.encoded, (_READABLE,), np.uint8)
    result = array_at(target, (_READABLE,), np.uint8)
    place = 0
    for y in range(lines):
        for x in range(part.width):
            to = (y * d.step_height * d.width + x * d.step_width) * pixel
            copy(encoded, place, result, to, run)
            place += run


class _Axis(NamedTuple):
    """Windows along one axis. Places are counted in lines (or pixels) of a copied image."""

    before: int  #: zeros before the image
    window: int  #: of the longest window
    stride: int  #: from window to window
    counts: list[int]  #: outputs of each class
    taps: list[
        dict[int, int]
    ]  #: of each class: numbers of taps that may not be zero, and their places


def _axis(conv: Conv, axis: int) -> _Axis:
    """The windows of lines (axis 0) or of pixels (axis 1)."""
    gap, pad, out = conv.gaps[axis], conv.padding[2 * axis], conv.output[axis]
    # Output x of an axis with gaps reads (x + tap · dilation − pad) / gap, where that is a whole number.
    seen = [tap * conv.dilation[axis] - pad for tap in range(conv.kernel[axis])]
    classes = range(min(gap, out))
    taps = [
        {tap: (x + place) // gap for tap, place in enumerate(seen) if (x + place) % gap == 0}
        for x in classes
    ]
    places = [place for of_class in taps for place in of_class.values()]
    before = max(0, -min(places, default=0))
    taps = [{tap: place + before for tap, place in each.items()} for each in taps]
    window = max(places, default=0) + before + 1
    stride = conv.stride[axis] if gap == 1 else 1
    return _Axis(before, window, stride, [-(-(out - x) // gap) for x in classes], taps)


def _taps_of_steps(
    taps: list[int | None], products: int, length: int, keeps_all: bool
) -> list[int | None]:
    """The taps that steps read, `products` each; None: zero.

    Args:
        taps: in the order of k; None: a tap that is zero.
        length: products of a chunk.
        keeps_all: steps that add zero are kept.
    """
    result: list[int | None] = []
    for first in range(0, len(taps), length):
        chunk = taps[first : first + length]
        chunk += [None] * (-len(chunk) % products)
        for step in (chunk[i : i + products] for i in range(0, len(chunk), products)):
            if keeps_all or any(tap is not None for tap in step):
                result += step
    return result


def depthwise_convolution(
    plan: Plan, images: Codes, conv: Conv, filters: Codes, formats: Formats, result: NDArray[Any],
    threads: int, writer: Writer,
) -> Outcome | None:  # fmt: skip
    """A depthwise convolution: a forward pass, or an input gradient (`Conv.input_gradient`).

    Args:
        plan: for operands that include these.
        images: codes (N, H, W, C), any strides.
        conv: the geometry; C groups, C filters.
        filters: codes (C, R·S).
        formats: of images, of filters, and of the result.
        result: (N·P·Q, C), contiguous, filled in.
        threads: at most.
        writer: of the results.

    Returns:
        None: there is no kernel for it, and nothing is computed.
    """
    kernel = lanewise_kernel(plan)
    if kernel is None or (conv.gaps != (1, 1) and conv.stride != (1, 1)):
        return None
    return _Convolution(plan, kernel, images, conv, filters, formats, threads, writer).run(result)


class _Class(NamedTuple):
    """A class of outputs: its record's fields, and the arrays that they point to."""

    record: NDArray[np.void]
    arrays: tuple[NDArray[Any], ...]


class _Convolution:
    """A depthwise convolution's blocking, and the tables that its threads share."""

    def __init__(
        self, plan: Plan, kernel: Kernel, images: Codes, conv: Conv, filters: Codes, formats: Formats,
        threads: int, writer: Writer,
    ) -> None:  # fmt: skip
        self.writer = writer
        self.plan, self.kernel, self.images, self.conv = plan, kernel, images, conv
        self.formats, self.channels = formats, filters.shape[0]
        macs = conv.batch * conv.output[0] * conv.output[1] * filters.size
        self.threads = threads if macs >= BLOCKING.macs_worth_threads else 1
        self.axes = _axis(conv, 0), _axis(conv, 1)
        down, across = self.axes
        width = (across.counts[0] - 1) * across.stride + across.window
        self.pitch = max(across.before + conv.width, width)
        self._choose_block()
        self.classes = [
            self._class(filters, (i, j))
            for i, j in itertools.product(range(len(down.counts)), range(len(across.counts)))
        ]
        self.table = np.concatenate([each.record for each in self.classes])

    def _choose_block(self) -> None:
        """Choose lines and channels of a block: its decoded images stay in the second-level cache."""
        down, plan = self.axes[0], self.plan
        cell = PANEL * (plan.lane_bytes + 4 * plan.aligned)
        cells = max(_IMAGE_BYTES // cell, 1)  # a pixel in a panel
        height, panels = down.counts[0], count_panels(self.channels)
        whole = ((height - 1) * down.stride + down.window) * self.pitch
        wide = min(self.kernel.panels, panels)
        if whole * wide <= cells:
            self.lines, fitting = height, cells // whole
            self.panels = min(fitting // wide * wide, panels)
        else:
            most = cells // (wide * self.pitch) - down.window
            self.lines, self.panels = min(max(most // down.stride + 1, 1), height), wide
        if self.threads > 1 and _has_few_blocks(self.conv, height, self.lines, self.threads):
            self.lines = -(-height // self.threads)
        self.read = (self.lines - 1) * down.stride + down.window
        # Rows beyond the last output read zeros, so that they make no events.
        spare = down.window if self.kernel.counting is not Counting.NONE else 0
        self.pixels = count_panels((self.read + spare) * self.pitch) * PANEL

    def _class(self, filters: Codes, place: tuple[int, int]) -> _Class:
        """Class (i, j) of the outputs."""
        (down, across), (i, j), plan = self.axes, place, self.plan
        height, width = down.counts[i], across.counts[j]
        kept: list[int | None] = []
        for r, s in itertools.product(range(self.conv.kernel[0]), range(self.conv.kernel[1])):
            live = r in down.taps[i] and s in across.taps[j]
            kept.append(r * self.conv.kernel[1] + s if live else None)
        one_chunk = len(kept) <= plan.chunk_length
        keeps_all = plan.aligned or not one_chunk
        taps = _taps_of_steps(kept, plan.products, plan.chunk_length, keeps_all)
        codes = np.zeros((filters.shape[0], max(len(taps), 1)), filters.dtype)
        steps = np.zeros(max(len(taps), 1), np.int64)
        for k, tap in enumerate(taps):
            if tap is not None:
                r, s = divmod(tap, self.conv.kernel[1])
                codes[:, k] = filters[:, tap]
                steps[k] = (down.taps[i][r] * self.pitch + across.taps[j][s]) * PANEL
        values, exponents = _pack(plan, codes, self.formats[1], of_a=False)
        rows = self._rows(min(self.lines, height), width)
        last = self._rows((height - 1) % self.lines + 1, width)
        record = np.zeros(1, CLASS)
        record["filters"]["values"], record["filters"]["exponents"] = (
            values.ctypes.data, exponents.ctypes.data
        )  # fmt: skip
        record["filters"]["depth"] = codes.shape[1]
        record["rows"], record["last_rows"] = rows.ctypes.data, last.ctypes.data
        record["steps"], record["step_count"] = steps.ctypes.data, len(taps) // plan.products
        record["steps_per_chunk"] = plan.steps_per_chunk
        record["height"], record["width"] = height, width
        record["first_line"], record["first_pixel"] = place
        return _Class(record, (values, exponents, steps, rows, last))

    def _rows(self, lines: int, width: int) -> Table:
        """Places of the windows of a block of outputs; of rows beyond the last one, zeros."""
        (down, across), pitch = self.axes, self.pitch
        counts = self.kernel.counting is not Counting.NONE
        beyond = self.read * pitch * PANEL if counts else 0
        rows = np.full(count_panels(lines * width) * PANEL, beyond, np.int64)
        y, x = np.arange(lines) * down.stride * pitch, np.arange(width) * across.stride
        rows[: lines * width] = ((y[:, None] + x) * PANEL).ravel()
        return rows

    def run(self, result: NDArray[Any]) -> Outcome:
        """Compute all blocks."""
        blocks = self.conv.batch * -(-self.axes[0].counts[0] // self.lines)
        parts = _PARTS_PER_THREAD * self.threads if self.threads > 1 else 1
        width = self.panels * PANEL
        work = [
            (block, channels)
            for channels in slices(self.channels, width)
            for block in slices(blocks, -(-blocks // parts))
        ]
        outcomes: list[Outcome] = []

        def compute(part: tuple[slice, slice]) -> None:
            blocks, channels = part
            worker = _Worker(self.plan, self.kernel, self.formats, self.writer)
            self._describe(worker, result)
            convolve_blocks(
                worker.record, self.table, blocks.start, blocks.stop - blocks.start,
                channels.start, channels.stop - channels.start,
            )  # fmt: skip
            outcomes.append(worker.outcome())

        _share(compute, work, self.threads)
        return total_outcome(outcomes)

    def _describe(self, worker: _Worker, result: NDArray[Any]) -> None:
        """Fill in a thread's record."""
        (down, across), d = self.axes, worker.record
        rows = max(self.lines * across.counts[0], 1)
        worker.set_images("images", self.images, (down.before, across.before), self.pitch)
        worker.set_panels("a", self.panels, self.pixels, self.images.itemsize)
        worker.set_sums(count_panels(rows), self.panels, carried=False)
        encoded = _WORKSPACE.array(
            "encoded", (rows * self.panels * PANEL * result.itemsize,), np.uint8
        )
        d["encoded"], d["lines"], d["window"] = encoded.ctypes.data, self.lines, down.window
        d["stride"], d["pixels"] = down.stride, self.pixels
        d["result"], d["result_bytes"] = result.ctypes.data, result.itemsize
        d["height"], d["width"] = self.conv.output
        d["channels"] = self.channels
        d["step_height"], d["step_width"] = self.conv.gaps


def _has_few_blocks(conv: Conv, height: int, lines: int, threads: int) -> bool:
    """Whether there are fewer blocks than threads."""
    return conv.batch * -(-height // lines) < threads


# -- weight gradients --------------------------------------------------------------------------------


@jit
def correlate_ranges(record, ranges, pixels, channel, channels):
    """Add ranges of k to the sums of a range of channels, and encode those.

    Args:
        record: an array of one `DEPTHWISE`.
        ranges: (n, 4): the first image and the one after the last, the first line and the one after the last of
            the outputs in each image. Each begins a step.
        pixels: memory for the places of a range's pixels.
        channel, channels: the first one, and how many.
    """
    d = record[0]
    panels, size = -(-channels // PANEL), d.images.code_bytes
    width, job = panels * PANEL, d.kernel
    copied = array_at(d.copied, (_READABLE,), np.uint8)
    copied_errors = array_at(d.copied_errors, (_READABLE,), np.uint8)
    per_chunk = -(-d.chunk_length // d.products)
    k = 0
    for i in range(ranges.shape[0]):
        first, stop, line, end = ranges[i, 0], ranges[i, 1], ranges[i, 2], ranges[i, 3]
        lines = end - line
        read = (lines - 1) * d.stride + d.window
        place, errors_place = 0, 0
        for image in range(first, stop):
            place = copy_lines(
                d.images, image, line * d.stride, read, channel, channels, width, copied, place
            )
            errors_place = copy_lines(
                d.errors, image, line, lines, channel, channels, width, copied_errors, errors_place
            )
        count = _pixel_places(d, stop - first, lines, read, pixels)
        whole = -(-count // d.products) * d.products  # a step's last elements may be beyond K
        for x in range(count, whole):
            pixels[x] = 0
        image_pixels = (stop - first) * read * d.images.pitch
        _clear_rest(copied, place, image_pixels, width * size)
        _clear_rest(copied_errors, errors_place, max(count, whole), width * d.errors.code_bytes)
        pack_channels(d.pack_a, d.copied, image_pixels, width, size)
        pack_channels(d.pack_b, d.copied_errors, whole, width, d.errors.code_bytes)
        last = k + count == d.depth
        step = pack.step_number(k, d.products, d.chunk_length)
        job.a_steps, job.column_panels, job.steps = pixels.ctypes.data, panels, whole // d.products
        job.steps_left, job.steps_per_chunk = per_chunk - step % per_chunk, per_chunk
        job.closes, job.from_zero = last, k == 0
        call(job.function, address_of(job))
        k += count
    pitch = d.channels * d.result_bytes
    write_results(d.out, d.result + channel * d.result_bytes, pitch, job.rows, channels)


@jit
def _pixel_places(d, images, lines, read, places):
    """Places of the windows of a range's pixels; how many."""
    count, pitch = 0, d.images.pitch
    for image in range(images):
        for y in range(lines):
            first = (image * read + y * d.stride) * pitch
            for x in range(d.errors.width):
                places[count] = (first + x * d.stride_width) * PANEL
                count += 1
    return count


@jit
def _clear_rest(codes, place, pixels, pixel_bytes):
    """Clear copied codes from a place up to a multiple of PANEL pixels."""
    stop = -(-pixels // PANEL) * PANEL * pixel_bytes
    clear(codes, place, stop - place)


def depthwise_correlation(
    plan: Plan, images: Codes, conv: Conv, errors: Codes, formats: Formats, result: NDArray[Any],
    threads: int, writer: Writer,
) -> Outcome | None:  # fmt: skip
    """The weight gradient of a depthwise convolution.

    Args:
        plan: for operands that include these.
        images: codes (N, H, W, C), any strides.
        conv: the geometry; C groups, C filters.
        errors: codes (N, P, Q, C), any strides.
        formats: of images, of errors, and of the result.
        result: (R·S, C), contiguous, filled in.
        threads: at most.
        writer: of the results.

    Returns:
        None: there is no kernel for it, and nothing is computed.
    """
    kernel = lanewise_kernel(plan, _TAP_ROWS)
    if kernel is None or kernel.counting is not Counting.NONE or conv.gaps != (1, 1):
        return None  # rows beyond the last tap would make events
    if plan.chunk_length % plan.products and plan.chunk_length < conv.gemm.m:
        return None
    return _Correlation(plan, kernel, images, conv, errors, formats, threads, writer).run(result)


class _Correlation:
    """A depthwise weight gradient's blocking."""

    def __init__(
        self, plan: Plan, kernel: Kernel, images: Codes, conv: Conv, errors: Codes, formats: Formats,
        threads: int, writer: Writer,
    ) -> None:  # fmt: skip
        self.writer = writer
        self.plan, self.kernel, self.images, self.errors = plan, kernel, images, errors
        self.conv, self.formats, self.channels = conv, formats, images.shape[3]
        self.taps = conv.kernel[0] * conv.kernel[1]
        macs = conv.gemm.m * self.taps * self.channels
        self.threads = threads if macs >= BLOCKING.macs_worth_threads else 1
        self.axes = _axis(conv, 0), _axis(conv, 1)
        across = self.axes[1]
        width = (across.counts[0] - 1) * across.stride + across.window
        self.pitch = max(across.before + conv.width, width)
        panels = count_panels(self.channels)
        self.panels = min(kernel.panels, -(-panels // self.threads))
        self.ranges = self._ranges()
        sizes = [self._sizes(*each) for each in self.ranges.tolist()]
        self.pixels, self.depth = (max(size) for size in zip(*sizes))

    def _sizes(self, first: int, stop: int, line: int, end: int) -> tuple[int, int]:
        """Pixels of images, and k, of a range; whole panels and steps."""
        down, images = self.axes[0], stop - first
        read = (end - line - 1) * down.stride + down.window
        k = images * (end - line) * self.conv.output[1]
        k = -(-k // self.plan.products) * self.plan.products
        return count_panels(images * read * self.pitch) * PANEL, count_panels(k) * PANEL

    def _ranges(self) -> Table:
        """The ranges of k, see `correlate_ranges`: whole images, or lines of one."""
        plan, (p, q), down = self.plan, self.conv.output, self.axes[0]
        cells = _IMAGE_BYTES // (self.panels * PANEL * plan.lane_bytes)
        line = q + down.stride * self.pitch  # cells
        unit = plan.products // math.gcd(p * q, plan.products)
        images = max(cells // (p * line + down.window * self.pitch) // unit, 1) * unit
        lines = p
        if plan.products == 1 and images == 1:  # any k begins a step
            lines = min(max((cells - down.window * self.pitch) // line, 1), p)
        return np.array([
            (n.start, n.stop, y.start, y.stop)
            for n in slices(self.conv.batch, images)
            for y in slices(p, lines)
        ], np.int64)  # fmt: skip

    def run(self, result: NDArray[Any]) -> Outcome:
        """Compute all channels."""
        outcomes: list[Outcome] = []
        (down, across), plan = self.axes, self.plan
        taps = itertools.product(down.taps[0].values(), across.taps[0].values())
        rows = np.zeros(count_panels(self.taps) * PANEL, np.int64)
        rows[: self.taps] = [(y * self.pitch + x) * PANEL for y, x in taps]

        def compute(channels: slice) -> None:
            worker = _Worker(plan, self.kernel, self.formats, self.writer)
            d = worker.record
            worker.set_images("images", self.images, (down.before, across.before), self.pitch)
            worker.set_images("errors", self.errors, (0, 0), self.conv.output[1])
            worker.set_panels("a", self.panels, self.pixels, self.images.itemsize)
            worker.set_panels("b", self.panels, self.depth, self.errors.itemsize)
            worker.set_sums(count_panels(self.taps), self.panels, carried=True)
            d["kernel"]["a_rows"], d["kernel"]["rows"] = rows.ctypes.data, self.taps
            d["window"], d["stride"], d["stride_width"] = down.window, down.stride, across.stride
            d["result"], d["result_bytes"] = result.ctypes.data, result.itemsize
            d["channels"], d["products"] = self.channels, plan.products
            d["chunk_length"], d["depth"] = plan.chunk_length, self.conv.gemm.m
            pixels = _WORKSPACE.array("pixels", (self.depth + plan.products,), np.int64)
            correlate_ranges(d, self.ranges, pixels, channels.start, channels.stop - channels.start)
            outcomes.append(worker.outcome())

        _share(compute, slices(self.channels, self.panels * PANEL), self.threads)
        return total_outcome(outcomes)


# -- a thread ----------------------------------------------------------------------------------------


class _Worker:
    """A thread's record `DEPTHWISE`, and the memory that it points to."""

    def __init__(self, plan: Plan, kernel: Kernel, formats: Formats, writer: Writer) -> None:
        self.plan, self.formats = plan, formats
        #: An array of one record.
        self.record = np.zeros(1, DEPTHWISE)
        self.counts = np.zeros(EVENTS, np.int64)
        job, out = self.record["kernel"], self.record["out"]
        self.record["lane_bytes"] = plan.lane_bytes
        job["function"] = address(run_lanewise)
        job["kernel"] = kernel_table(kernel).ctypes.data
        job["numbers"], job["counts"] = plan.numbers.ctypes.data, self.counts.ctypes.data
        out["function"] = address(writer.function)
        out["params"] = writer.params.ctypes.data
        out["column_step"] = writer.result_bytes
        self._parameters = [
            _parameters(plan, fmt, of_a) for fmt, of_a in zip(formats, (True, False))
        ]

    def outcome(self) -> Outcome:
        """Of what was computed."""
        return Outcome(self.counts, bool(self.record["out"]["nonfinite"].item()))

    def set_images(
        self, name: str, images: Codes, before: tuple[int, int], pitch: int
    ) -> None:  # fmt: skip
        """Fill in an `IMAGES`."""
        record = self.record[name]
        record["codes"], record["code_bytes"] = images.ctypes.data, images.itemsize
        names = "by_image", "by_line", "by_pixel", "by_channel"
        for field, stride in zip(names, images.strides):
            record[field] = stride
        record["height"], record["width"] = images.shape[1:3]
        (record["top"], record["left"]), record["pitch"] = before, pitch

    def set_panels(self, side: str, panels: int, pixels: int, size: int) -> None:
        """Allocate copied codes and panels of A's, or B's, channels."""
        name = "copied" if side == "a" else "copied_errors"
        codes = _WORKSPACE.array(name, (pixels * panels * PANEL * size,), np.uint8)
        self.record[name] = codes.ctypes.data
        values, exponents = _panels(self.plan, panels, pixels, side)
        packing, of_side = self.record[f"pack_{side}"], "ab".index(side)
        packing["function"] = self.plan.packer(size)
        packing["params"] = self._parameters[of_side].ctypes.data
        for record in (packing["panels"], self.record["kernel"][side]):
            record["values"], record["exponents"] = values.ctypes.data, exponents.ctypes.data
            record["depth"] = pixels

    def set_sums(self, row_panels: int, column_panels: int, carried: bool) -> None:
        """Allocate accumulators."""
        shape = row_panels, column_panels, PANEL, PANEL
        scratch = 1, WIDEST, PANEL, PANEL
        chunk = _WORKSPACE.array("chunk", shape if carried else scratch, self.plan.lane_float)
        total = _WORKSPACE.array("total", shape, np.float32)
        job = self.record["kernel"]
        job["chunk"], job["total"], job["keeps_chunks"] = (
            chunk.ctypes.data, total.ctypes.data, carried
        )  # fmt: skip
        self.record["out"]["total"] = total.ctypes.data


def total_outcome(outcomes: list[Outcome]) -> Outcome:
    """The outcome of all parts."""
    counts = sum((each.counts for each in outcomes), np.zeros(EVENTS, np.int64))
    return Outcome(counts, any(each.nonfinite for each in outcomes))


def _panels(
    plan: Plan, panels: int, depth: int, side: str | None = None
) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """Values and exponents (panels, depth, PANEL), from the workspace if they are of a side."""
    shape = panels, depth, PANEL
    none = 1, 0, PANEL
    exponents = shape if plan.aligned else none
    if side is None:
        return np.empty(shape, plan.lane_float), np.empty(exponents, np.int32)
    return (
        _WORKSPACE.array(side + " values", shape, plan.lane_float),
        _WORKSPACE.array(side + " exponents", exponents, np.int32),
    )


@functools.lru_cache(256)
def _parameters(plan: Plan, fmt: FloatFormat, of_a: bool) -> NDArray[np.void]:
    """Packing parameters without steps: an array of one `pack.SIDE`."""
    numbers = np.zeros(1, pack.SIDE)
    numbers["decoder"] = tuple(pack.decoder(fmt.facts, plan.scale if of_a else 0))
    numbers["products"], numbers["length"] = 1, 1 << 40
    numbers["lowest"] = fmt.facts.emin
    return numbers


def _pack(
    plan: Plan, codes: Codes, fmt: FloatFormat, of_a: bool
) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """Codes (channels, k) as panels of values and of exponents."""
    values, exponents = _panels(plan, count_panels(codes.shape[0]), codes.shape[1])
    job, parameters = np.zeros(1, PACKING), _parameters(plan, fmt, of_a)
    job["function"] = plan.packer(codes.itemsize)
    job["params"] = parameters.ctypes.data
    panels = job["panels"]
    panels["values"], panels["exponents"] = values.ctypes.data, exponents.ctypes.data
    panels["depth"] = codes.shape[1]
    _pack_all(job, (codes.ctypes.data, *codes.strides, 0, codes.shape[0]), codes.shape[1])
    return values, exponents


@jit
def _pack_all(jobs, view, count):
    """Pack a `View` by an array of one `PACKING`."""
    pack_codes(jobs[0], view, 0, count, 0, 0)


def _share(compute: Any, parts: Any, threads: int) -> None:
    """`share`; after an interrupt a helper may still write into this memory, so it is dropped."""
    try:
        share(compute, parts, threads)
    except BaseException:
        _WORKSPACE.clear()
        raise
