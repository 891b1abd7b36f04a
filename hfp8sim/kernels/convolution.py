"""Convolutions through the kernels: images are unfolded a block at a time (im2col), never as a whole.

One group of a convolution is a matrix product. Its operand A is the unfolded images: row (image, p, q), column
(r, s, channel). `convolve` multiplies it by filters, `correlate` multiplies its transpose by errors. Each block
of A is unfolded as codes just before it is packed, so that memory holds a block of each thread.

Codes are copied as bytes: the loops are compiled once for all formats.

**Input gradients of strided convolutions.** Between errors lie zeros. Outputs whose coordinates leave the same
remainders by the stride are a *class*: they read errors at the same taps, and zeros at all others. A chunk of
zeros ends with the sum +0, and adding that to a running total changes nothing: the total is a number of its format
(or infinite or NaN), which rounding leaves as it is. So the chunks in which all taps of a class are zero are left out.
Within a single chunk the same holds for steps, but not for aligned sums: these may cut the accumulator.
Random words are numbered by k, so that stochastic sums keep all of it.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hfp8sim._numba.calls import array_at
from hfp8sim._numba.copies import MOVE_BYTES, copy
from hfp8sim._numba.jit import jit
from hfp8sim._numba.layouts import layout
from hfp8sim.kernels.depthwise import (
    depthwise_convolution,
    depthwise_correlation,
    total_outcome,
)
from hfp8sim.kernels.form import PANEL, SWAMPED
from hfp8sim.kernels.gemm import Outcome
from hfp8sim.kernels.im2col import GEOMETRY, unfold
from hfp8sim.kernels.jobs import Writer, code_writer, pack_codes, write_results
from hfp8sim.kernels.memory import Workspace
from hfp8sim.kernels.panels import Codes, Keys, count_panels
from hfp8sim.kernels.select import Plan
from hfp8sim.kernels.stream import (
    Formats,
    Stream,
    begin_range,
    end_range,
    is_packed,
    multiply_panels,
    stream_at,
    zero_steps,
)
from hfp8sim.kernels.target import BLOCKING
from hfp8sim.kernels.workers import share, slices
from hfp8sim.network import Conv

#: Bytes of images that a thread copies at once.
_IMAGE_BYTES = 1 << 19
#: Bytes of accumulators of a block of weight gradients: they stay in the second-level cache.
_SUM_BYTES = 1 << 18
#: k of a range of weight gradients.
_RANGE = 1024
#: Unfolded bytes that are made at once for counting.
_COUNTED_BYTES = 1 << 20
#: Parts of the work for each thread.
_PARTS_PER_THREAD = 4

_WORKSPACE = Workspace()
Table = NDArray[np.int64]
_READABLE = np.int64(1) << 62  # an end of memory that no address reaches


@dataclasses.dataclass(frozen=True, eq=False)
class Unfolded:
    """The unfolded matrix of one group of images, or its transpose. Blocks are made when they are read.

    `matrix[rows, columns]` are codes of a block, given by two slices with a start and a stop.

    Args:
        images: codes (N, H, W, C) of the group's channels, any strides.
        conv: the geometry; its channels are those of all groups.
    """

    images: Codes
    conv: Conv
    transposed: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """Of the whole matrix: (N·P·Q, R·S·C), or the other way round."""
        (p, q), (r, s) = self.conv.output, self.conv.kernel
        rows, columns = self.conv.batch * p * q, r * s * self.images.shape[3]
        return (columns, rows) if self.transposed else (rows, columns)

    def __getitem__(self, block: tuple[slice, slice]) -> Codes:
        if self.transposed:
            plain = dataclasses.replace(self, transposed=False)
            return plain[block[1], block[0]].T
        (rows, columns), count = block, self.conv.output[0] * self.conv.output[1]
        m, k = rows.stop - rows.start, columns.stop - columns.start
        geometry = geometry_of(self.conv, self.images)
        images = slice(rows.start // count, -(-rows.stop // count))
        memory = copy_images(self.images[images])
        geometry["first_line"] = images.start * self.conv.height
        size = self.images.itemsize
        out = np.empty(m * k * size + MOVE_BYTES, np.uint8)
        unfold(memory, 0, geometry, (rows.start, m), (columns.start, k), out)
        return out[: m * k * size].view(self.images.dtype).reshape(m, k)


def geometry_of(conv: Conv, images: Codes) -> NDArray[np.void]:
    """The `GEOMETRY` of images of one group that `copy_images` has copied: an array of one."""
    g = np.zeros(1, GEOMETRY)
    g["image_height"], g["image_width"] = conv.height, conv.width
    g["channels"] = g["pixel_pitch"] = images.shape[3]
    g["element_bytes"], g["kernel_width"] = images.itemsize, conv.kernel[1]
    for name, pair in {
        "grid": conv.output, "stride": conv.stride, "dilation": conv.dilation, "gap": conv.gaps,
    }.items():  # fmt: skip
        g[name + "_height"], g[name + "_width"] = pair
    g["pad_top"], g["pad_left"] = conv.padding[0], conv.padding[2]
    return g


# -- codes of images ---------------------------------------------------------------------------------


def copy_images(images: Codes, memory: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """Codes (N, H, W, C) of any strides as contiguous bytes, and MOVE_BYTES spare ones after them.

    Args:
        memory: to copy to; new memory by default.
    """
    if memory is None:
        memory = np.empty(images.nbytes + MOVE_BYTES, np.uint8)
    _copy_images(images.ctypes.data, images.shape, images.strides, images.itemsize, memory)
    return memory


@jit
def _copy_images(source, shape, strides, size, target):
    """Copy elements (n, h, w, c) of `size` bytes at an address to contiguous memory."""
    codes = array_at(source, (_READABLE,), np.uint8)
    n, height, width, channels = shape
    by_image, by_line, by_pixel, by_channel = strides
    pixel = channels * size
    dense, lines = by_channel == size, by_pixel == pixel and by_channel == size
    place = 0
    for i in range(n):
        for y in range(height):
            line = i * by_image + y * by_line
            if lines:
                copy(codes, line, target, place, width * pixel)
            elif dense:
                for x in range(width):
                    copy(codes, line + x * by_pixel, target, place + x * pixel, pixel)
            else:
                for c in range(channels):
                    start, stop = line + c * by_channel, place + c * size
                    for x in range(width):
                        for b in range(size):
                            code = codes[np.uintp(start + x * by_pixel + b)]
                            target[np.uintp(stop + x * pixel + b)] = code
            place += width * pixel


# -- images times filters ----------------------------------------------------------------------------


class _Window(NamedTuple):
    """The pixels that the taps of a class read along one axis, output after output."""

    taps: int
    pad: int  #: the first tap of the first output reads pixel −pad
    dilation: int  #: from tap to tap


class _Class(NamedTuple):
    """Outputs that read the same taps: their own convolution."""

    grid: tuple[int, int]  #: lines and pixels of an image
    first: tuple[int, int]  #: the first one's line and pixel in the result
    runs: Table  #: k that are multiplied: (n, 2), first and count; each run begins a step
    filters: Codes  #: (G, F, K) of those k
    #: Where all taps that are multiplied read errors: their windows among these, vertical and horizontal.
    windows: tuple[_Window, _Window] | None = None

    @property
    def pixels(self) -> int:
        """Of an image."""
        return self.grid[0] * self.grid[1]


def classes_of(plan: Plan, conv: Conv, filters: Codes) -> list[_Class]:
    """The classes of outputs; one of all outputs where nothing can be left out.

    Args:
        filters: codes (G, F, R·S·C).
    """
    depth, (p, q) = filters.shape[2], conv.output
    whole = _Class(conv.output, (0, 0), np.array([[0, depth]], np.int64), filters)
    single_chunk = plan.chunk_length >= depth
    if (
        conv.gaps == (1, 1)
        or conv.stride != (1, 1)
        or plan.draws
        or (single_chunk and plan.aligned)
    ):
        return [whole]
    unit = plan.products if single_chunk else plan.chunk_length
    classes = []
    for i, j in itertools.product(range(min(conv.gaps[0], p)), range(min(conv.gaps[1], q))):
        taps = np.outer(_live_taps(conv, 0, i), _live_taps(conv, 1, j)).ravel()
        live = np.repeat(taps, depth // taps.size)
        kept = np.repeat(np.add.reduceat(live, np.arange(0, depth, unit)) > 0, unit)[:depth]
        edges = np.flatnonzero(np.diff(np.concatenate([[0], kept, [0]])))
        runs = np.stack([edges[::2], edges[1::2] - edges[::2]], axis=1)
        grid = -(-(p - i) // conv.gaps[0]), -(-(q - j) // conv.gaps[1])
        own, windows = np.ascontiguousarray(filters[:, :, kept]), None
        if np.array_equal(live, kept) and kept.any():
            windows = _window(conv, 0, i), _window(conv, 1, j)
            runs = np.array([[0, own.shape[2]]], np.int64)
        classes.append(_Class(grid, (i, j), runs, own, windows))
    smaller = any(each.filters.shape[2] < depth for each in classes)
    return classes if smaller else [whole]


def _live_taps(conv: Conv, axis: int, first: int) -> NDArray[np.bool_]:
    """Which taps of a filter's axis read pixels, for outputs `first`, first + gap, …; others read zeros."""
    places = first + np.arange(conv.kernel[axis]) * conv.dilation[axis] - conv.padding[2 * axis]
    live: NDArray[np.bool_] = places % conv.gaps[axis] == 0
    return live


def _window(conv: Conv, axis: int, first: int) -> _Window:
    """The pixels that the live taps read, for outputs `first`, first + gap, …; there is such a tap."""
    live, gap = np.flatnonzero(_live_taps(conv, axis, first)), conv.gaps[axis]
    dilation = conv.dilation[axis]
    place = (first + int(live[0]) * dilation - conv.padding[2 * axis]) // gap
    return _Window(len(live), -place, dilation // math.gcd(dilation, gap))


class _Part(NamedTuple):
    """What one call into compiled code computes."""

    outputs: int  #: number of the class
    group: int
    columns: slice  #: of a group's product
    rows: slice  #: of the class


def convolve(
    plan: Plan, images: Codes, conv: Conv, filters: Codes, formats: Formats,
    keys: list[tuple[Keys, Keys]], result: NDArray[Any], threads: int = 1, writer: Writer | None = None,
) -> Outcome:  # fmt: skip
    """Convolve images with filters: a forward pass, or an input gradient (`Conv.input_gradient`).

    Args:
        plan: for operands that include these; its kernel is not None.
        images: codes (N, H, W, G·C), any strides.
        conv: the geometry.
        filters: codes (G, F, R·S·C), contiguous; k is in the order (r, s, channel).
        formats: of images, of filters, and of the result.
        keys: of the random words of rows, and of columns; for each group.
        result: (N·P·Q, G·F), contiguous, filled in.
        threads: at most.
        writer: of the results; of codes by default.
    """
    writer = writer or code_writer(formats[2], plan.scale)
    if is_depthwise(conv):
        outcome = depthwise_convolution(
            plan, images, conv, filters[:, 0], formats, result, threads, writer
        )
        if outcome is not None:
            return outcome
    return _Convolution(plan, images, conv, filters, formats, keys, threads, writer).run(result)


class _Convolution:
    """A convolution's blocking, and what its threads share."""

    def __init__(
        self, plan: Plan, images: Codes, conv: Conv, filters: Codes, formats: Formats,
        keys: list[tuple[Keys, Keys]], threads: int, writer: Writer,
    ) -> None:  # fmt: skip
        self.plan, self.images, self.conv = plan, images, conv
        self.formats, self.keys, self.writer = formats, keys, writer
        self.groups, self.filter_count, depth = filters.shape
        self.classes = classes_of(plan, conv, filters)
        macs = conv.batch * conv.output[0] * conv.output[1] * filters.size
        self.threads = threads if macs >= BLOCKING.macs_worth_threads else 1
        self.most = max(BLOCKING.panel_bytes // (plan.lane_bytes * depth), PANEL) // PANEL * PANEL
        self.columns = min(self.most, self.filter_count)
        self.parts = [
            _Part(i, g, n, m)
            for i, outputs in enumerate(self.classes)
            for g in range(self.groups)
            for n in slices(self.filter_count, self.most)
            for m in slices(conv.batch * outputs.pixels, self._part_rows(outputs))
        ]

    def _part_rows(self, outputs: _Class) -> int:
        """Rows of one part: of a few images, and enough parts for all threads."""
        rows = self.conv.batch * outputs.pixels
        macs = rows * outputs.filters[0].size
        image_bytes = self.images.nbytes // self.conv.batch // self.groups
        whole = max(_IMAGE_BYTES // max(image_bytes, 1), 1) * outputs.pixels
        parts = min(_PARTS_PER_THREAD * self.threads, macs // BLOCKING.macs_worth_threads)
        if self.threads > 1:
            parts = max(parts, self.threads)
        return count_panels(min(whole, -(-rows // max(parts, 1)))) * PANEL

    def _block_rows(self, outputs: _Class) -> int:
        """Rows that are unfolded at once."""
        height = min(self._part_rows(outputs), self.conv.batch * outputs.pixels)
        row = self.plan.lane_bytes * outputs.filters.shape[2]
        row += (4 + self.writer.result_bytes) * self.columns
        block = max(BLOCKING.block_bytes // row, BLOCKING.block_rows)
        rows: int = min(block, self.most, count_panels(height) * PANEL) // PANEL * PANEL
        return rows

    def run(self, result: NDArray[Any]) -> Outcome:
        """Compute all parts."""
        outcomes: list[Outcome] = []
        mark = object()  # of this run: panels of another one hold other filters

        def compute(part: _Part) -> None:
            outputs = self.classes[part.outputs]
            if outputs.filters.shape[2] == 0:  # all taps read zeros
                self._clear(part, result)
                return
            worker = self._worker(outputs, mark)
            worker.begin()
            self._compute(worker, part, result)
            outcomes.append(worker.outcome())
            if self.plan.counts_zero_sums:
                outcomes[-1].counts[SWAMPED] -= self._zero_steps(part)

        try:
            share(compute, self.parts, self.threads)
        except BaseException:
            # After an interrupt a helper may still write into this memory.
            _WORKSPACE.clear()
            raise
        return total_outcome(outcomes)

    def _worker(self, outputs: _Class, mark: object) -> _Worker:
        shape = self._block_rows(outputs), self.columns, outputs.filters.shape[2]
        key = "convolution", self.plan, self.formats, self.writer, shape
        size = self.plan.lane_bytes * shape[2] * (shape[0] + shape[1])
        latest = _WORKSPACE.latest
        worker = _WORKSPACE.cached(
            key, size, lambda: _Worker(self.plan, self.formats, self.writer, *shape)
        )
        if worker is not latest:  # another one has overwritten the panels
            worker.stream.forget_packed()
        worker.forget_other_runs(mark)
        return worker

    def _compute(self, worker: _Worker, part: _Part, result: NDArray[Any]) -> None:
        """Compute the rows and columns of a part of the result."""
        number, group, n, m = part
        outputs, block = self.classes[number], worker.stream.table["max_rows"].item()
        images, geometry = self._images(part)
        memory, filters, size = (
            worker.copy_images(images),
            outputs.filters[group, n],
            result.itemsize,
        )
        if self.plan.draws:
            worker.stream.set_keys(self.keys[group])
        column = group * self.filter_count + n.start
        scatter = np.zeros(1, SCATTER)
        scatter["direct"] = len(self.classes) == 1
        scatter["grid_height"], scatter["grid_width"] = outputs.grid
        scatter["first_line"], scatter["first_pixel"] = outputs.first
        scatter["step_height"], scatter["step_width"] = self.conv.gaps
        scatter["height"], scatter["width"] = self.conv.output
        scatter["result"] = result.ctypes.data + column * size
        scatter["pitch"], scatter["run"] = result.strides[0], filters.shape[0] * size
        _convolve_rows(
            worker.stream.address, memory, geometry, outputs.runs, (m.start, m.stop - m.start),
            (filters.ctypes.data, *filters.strides, n.start, filters.shape[0]),
            number * self.groups + group, block,
            worker.unfolded(block * filters.shape[1] * images.itemsize),
            worker.written(block * filters.shape[0] * size), scatter,
        )  # fmt: skip

    def _images(self, part: _Part) -> tuple[Codes, NDArray[np.void]]:
        """The images that a part reads, of its group's channels, and their geometry."""
        outputs, channels = self.classes[part.outputs], self.conv.channels // self.groups
        first, stop = part.rows.start // outputs.pixels, -(-part.rows.stop // outputs.pixels)
        images = self.images[first:stop, ..., part.group * channels : (part.group + 1) * channels]
        geometry = geometry_of(self.conv, images)
        geometry["first_line"] = first * self.conv.height
        if len(self.classes) > 1:
            geometry["grid_height"], geometry["grid_width"] = outputs.grid
            geometry["stride_height"], geometry["stride_width"] = self.conv.gaps
            geometry["pad_top"] -= outputs.first[0]
            geometry["pad_left"] -= outputs.first[1]
        if outputs.windows is not None:
            down, across = outputs.windows
            geometry["kernel_width"] = across.taps
            geometry["dilation_height"], geometry["dilation_width"] = down.dilation, across.dilation
            geometry["pad_top"], geometry["pad_left"] = down.pad, across.pad
            for name in ("stride", "gap"):
                geometry[name + "_height"] = geometry[name + "_width"] = 1
        return images, geometry

    def _clear(self, part: _Part, result: NDArray[Any]) -> None:
        """Zero the outputs of a part of a class."""
        outputs, (i, j) = self.classes[part.outputs], self.conv.gaps
        column = part.group * self.filter_count
        columns = slice(column + part.columns.start, column + part.columns.stop)
        images = result.reshape(self.conv.batch, *self.conv.output, -1)
        images[:, outputs.first[0] :: i, outputs.first[1] :: j, columns] = 0

    def _zero_steps(self, part: _Part) -> int:
        """The `zero_steps` of a part."""
        outputs, (images, geometry) = self.classes[part.outputs], self._images(part)
        filters, memory = outputs.filters[part.group, part.columns], copy_images(images)
        step = max(_COUNTED_BYTES // (filters.shape[1] * PANEL), 1) * PANEL
        total = 0
        for m in slices(part.rows.stop - part.rows.start, step):
            codes = np.empty(
                (m.stop - m.start) * filters.shape[1] * images.itemsize + MOVE_BYTES, np.uint8
            )
            rows = part.rows.start + m.start, m.stop - m.start
            blocks, place = [], 0
            for first, count in outputs.runs.tolist():
                unfold(memory, 0, geometry, rows, (first, count), codes[place:])
                stop = place + rows[1] * count * images.itemsize
                blocks.append(codes[place:stop].view(images.dtype).reshape(rows[1], count).copy())
                place = stop
            total += zero_steps(self.plan, np.concatenate(blocks, axis=1), filters)
        return total


class _Worker:
    """A thread's stream, and its memory for codes."""

    def __init__(
        self, plan: Plan, formats: Formats, writer: Writer, rows: int, columns: int, depth: int,
        max_k: int | None = None,
    ) -> None:  # fmt: skip
        no_keys = (np.uint64(0), np.uint64(0))
        self.stream = Stream(
            plan, formats, (no_keys, no_keys), rows, columns, depth, max_k=max_k, memory=_WORKSPACE,
            writer=writer,
        )  # fmt: skip
        self.mark: object = None

    def begin(self) -> None:
        """Begin a part: no events, and no value that is not finite."""
        self.stream.counts.fill(0)
        self.stream.table["out"]["nonfinite"] = 0

    def outcome(self) -> Outcome:
        """Of the part."""
        nonfinite = bool(self.stream.table["out"]["nonfinite"].item())
        return Outcome(self.stream.counts.copy(), nonfinite)

    def forget_other_runs(self, mark: object) -> None:
        """Panels keep what an earlier part of the same run has packed, and nothing else."""
        if self.mark is not mark:
            self.stream.forget_packed()
        self.mark = mark

    def copy_images(self, images: Codes, name: str = "images") -> NDArray[np.uint8]:
        """`copy_images` to this thread's memory."""
        memory = _WORKSPACE.array(name, (images.nbytes + MOVE_BYTES,), np.uint8)
        return copy_images(images, memory)

    def written(self, size: int) -> NDArray[np.uint8]:
        """Memory for so many bytes of results."""
        return _WORKSPACE.array("written", (size,), np.uint8)

    def unfolded(self, size: int) -> NDArray[np.uint8]:
        """Memory for so many bytes of unfolded codes."""
        return _WORKSPACE.array("unfolded", (size + MOVE_BYTES,), np.uint8)


#: Where the rows of a class of outputs go.
SCATTER = layout(
    direct=np.int64,  # 1: row i of the class is row i of the result
    grid_height=np.int64,  # of the class
    grid_width=np.int64,
    first_line=np.int64,  # of the class, in the result
    first_pixel=np.int64,
    step_height=np.int64,  # from line to line of the class, in the result
    step_width=np.int64,
    height=np.int64,  # of the result
    width=np.int64,
    result=np.int64,  # address of its first row
    pitch=np.int64,  # bytes from row to row …
    run=np.int64,  # … of which so many are written
)


@jit
def _convolve_rows(
    address, images, geometry, runs, rows, filters, group, block, unfolded, written, scatter
):  # fmt: skip
    """Rows of a group's product, a block at a time.

    Args:
        address: of the `STREAM`.
        images: bytes of the images that the rows need; see `unfold` for the geometry.
        runs: (n, 2): first and count of the columns of A that are multiplied.
        rows: (first, count).
        filters: a `View` of B's transpose.
        group: a number for these filters.
        unfolded, written: memory for a block's codes, and for its results.
        scatter: an array of one `SCATTER`.
    """
    stream, size, to = stream_at(address), geometry[0].element_bytes, scatter[0]
    depth, columns = stream.depth, filters[4]
    if not is_packed(stream.packed_b, group, filters[3], columns, 0, depth):
        pack_codes(stream.b, filters, 0, depth, 0, 0)
    first, total = rows
    for i in range(0, total, block):
        count, k = min(block, total - i), 0
        for run in range(runs.shape[0]):
            column, length = runs[run, 0], runs[run, 1]
            unfold(images, 0, geometry, (first + i, count), (column, length), unfolded)
            view = np.int64(unfolded.ctypes.data), length * size, size, first + i, count
            pack_codes(stream.a, view, k, length, 0, 0)
            k += length
        multiply_panels(stream, count, columns, depth)
        if to.direct:
            place = to.result + (first + i) * to.pitch
            write_results(stream.out, place, to.pitch, count, columns)
        else:
            write_results(stream.out, np.int64(written.ctypes.data), to.run, count, columns)
            _scatter_rows(to, written, first + i, count)


@jit
def _scatter_rows(to, written, row, count):
    """Copy `count` rows of results, the first one number `row` of its class, to their places."""
    result = array_at(to.result, (_READABLE,), np.uint8)
    x, y = row % to.grid_width, row // to.grid_width % to.grid_height
    image = row // to.grid_width // to.grid_height
    for i in range(count):
        line = image * to.height + to.first_line + y * to.step_height
        pixel = line * to.width + to.first_pixel + x * to.step_width
        copy(written, i * to.run, result, pixel * to.pitch, to.run)
        x += 1
        if x == to.grid_width:
            x, y = 0, y + 1
            if y == to.grid_height:
                y, image = 0, image + 1


# -- transposed images times errors ------------------------------------------------------------------


def correlate(
    plan: Plan, images: Codes, conv: Conv, errors: Codes, formats: Formats,
    keys: list[tuple[Keys, Keys]], result: NDArray[Any], threads: int = 1, writer: Writer | None = None,
) -> Outcome:  # fmt: skip
    """Multiply the transpose of the unfolded images by errors: a weight gradient.

    Args:
        plan: for operands that include these; its kernel is not None.
        images: codes (N, H, W, G·C), any strides.
        conv: the geometry.
        errors: codes (N, P, Q, G·F), any strides; k is in the order (image, p, q).
        formats: of images, of errors, and of the result.
        keys: of the random words of rows, and of columns; for each group.
        result: (R·S·C, G·F), contiguous, filled in.
        threads: at most.
        writer: of the results; of codes by default.
    """
    writer = writer or code_writer(formats[2], plan.scale)
    if is_depthwise(conv):
        outcome = depthwise_correlation(
            plan, images, conv, errors, formats, result, threads, writer
        )
        if outcome is not None:
            return outcome
    return _Correlation(plan, images, conv, errors, formats, keys, threads, writer).run(result)


def is_depthwise(conv: Conv) -> bool:
    """Whether each channel has one filter of its own."""
    return conv.groups > 1 and conv.groups == conv.channels == conv.filters


class _Correlation:
    """A weight gradient's blocking."""

    def __init__(
        self, plan: Plan, images: Codes, conv: Conv, errors: Codes, formats: Formats,
        keys: list[tuple[Keys, Keys]], threads: int, writer: Writer,
    ) -> None:  # fmt: skip
        self.plan, self.images, self.conv, self.errors = plan, images, conv, errors
        self.formats, self.keys, self.writer = formats, keys, writer
        self.pixels = conv.output[0] * conv.output[1]
        self.depth = conv.batch * self.pixels
        self.filter_count = conv.filters // conv.groups
        self.row_count = conv.kernel[0] * conv.kernel[1] * (conv.channels // conv.groups)
        macs = self.row_count * self.filter_count * self.depth
        enough = macs * conv.groups >= BLOCKING.macs_worth_threads
        self.threads = threads if enough else 1
        self.range_k = min(range_length(_RANGE, plan.chunk_length, plan.products), self.depth)
        self.columns = min(self.filter_count, BLOCKING.panel_bytes // (8 * self.range_k))
        height = max(_SUM_BYTES // (8 * self.columns), 4 * PANEL)
        if self.threads > 1 and conv.groups < self.threads:
            height = min(height, -(-self.row_count // self.threads))
        self.height = min(count_panels(height), count_panels(self.row_count)) * PANEL
        self.parts = [
            _Part(0, g, n, m)
            for g in range(conv.groups)
            for n in slices(self.filter_count, self.columns)
            for m in slices(self.row_count, self.height)
        ]
        self.cuts = list(self._cuts())

    def _cuts(self) -> Iterator[NDArray[np.int64]]:
        """The limits of the ranges of k, for one group of images after another."""
        of_image = (self.images.nbytes + self.errors.nbytes) // self.images.shape[0]
        images = max(_IMAGE_BYTES // max(of_image // self.conv.groups, 1), 1)
        cuts = [0]
        for stop in range_stops(self.depth, self.range_k, self.plan.chunk_length):
            if stop > cuts[0] // self.pixels * self.pixels + images * self.pixels and cuts[1:]:
                yield np.array(cuts, np.int64)
                cuts = cuts[-1:]
            cuts.append(stop)
        yield np.array(cuts, np.int64)

    def run(self, result: NDArray[Any]) -> Outcome:
        """Compute all parts."""
        outcomes: list[Outcome] = []

        def compute(part: _Part) -> None:
            worker = self._worker()
            worker.begin()
            zeros = sum(self._add(worker, part, cuts) for cuts in self.cuts)
            _, group, n, m = part
            column = group * self.filter_count + n.start
            worker.stream.write(result[m, column : column + n.stop - n.start])
            outcomes.append(worker.outcome())
            outcomes[-1].counts[SWAMPED] -= zeros

        try:
            share(compute, self.parts, self.threads)
        except BaseException:
            # After an interrupt a helper may still write into this memory.
            _WORKSPACE.clear()
            raise
        return total_outcome(outcomes)

    def _worker(self) -> _Worker:
        shape = self.height, self.columns, self.depth, self.range_k
        key = "correlation", self.plan, self.formats, self.writer, shape
        size = self.plan.lane_bytes * (self.height + self.columns) * self.range_k
        return _WORKSPACE.cached(
            key, size, lambda: _Worker(self.plan, self.formats, self.writer, *shape)
        )

    def _add(self, worker: _Worker, part: _Part, cuts: NDArray[np.int64]) -> int:
        """Add ranges of k to the sums of a part; how many of their steps add zero, if that is needed."""
        (_, group, n, m), (k0, k1) = part, (int(cuts[0]), int(cuts[-1]))
        first, stop = k0 // self.pixels, -(-k1 // self.pixels)
        channels = self.conv.channels // self.conv.groups
        channel, column = group * channels, group * self.filter_count + n.start
        images = self.images[first:stop, :, :, channel : channel + channels]
        errors = self.errors[first:stop, :, :, column : column + n.stop - n.start]
        pixels = errors.reshape(-1, errors.shape[3]) if is_matrix(errors) else None
        if pixels is None:
            codes = worker.copy_images(errors, "errors")[: errors.nbytes]
            pixels = codes.view(errors.dtype).reshape(-1, errors.shape[3])
        pixels = pixels[k0 - first * self.pixels :][: k1 - k0]
        memory, geometry = worker.copy_images(images), geometry_of(self.conv, images)
        geometry["first_line"] = first * self.conv.height
        if self.plan.draws and k0 == 0:
            worker.stream.set_keys(self.keys[group])
        height = m.stop - m.start
        _correlate_ranges(
            worker.stream.address, memory, geometry, cuts, (m.start, height),
            (pixels.ctypes.data, pixels.strides[1], pixels.strides[0], n.start, pixels.shape[1]),
            worker.unfolded(self.range_k * height * images.itemsize),
        )  # fmt: skip
        if not self.plan.counts_zero_sums:
            return 0
        a = Unfolded(self.images[..., channel : channel + channels], self.conv, transposed=True)
        return sum(
            zero_steps(self.plan, a[m, slice(k, end)], pixels[k - k0 : end - k0].T, k)
            for k, end in zip(cuts.tolist(), cuts[1:].tolist())
        )


@jit
def _correlate_ranges(address, images, geometry, cuts, rows, errors, unfolded):
    """Add ranges of k to the sums of a block of a group's product.

    Args:
        cuts: the limits of the ranges, each the first k of a step; the last may be K.
        rows: (first, count).
        errors: a `View` of B's transpose that begins at the first cut.
        unfolded: memory for a range's codes.
    """
    stream, size = stream_at(address), geometry[0].element_bytes
    (place, by_column, by_k, first_column, columns), (first, count) = errors, rows
    for i in range(cuts.size - 1):
        k, length = cuts[i], cuts[i + 1] - cuts[i]
        unfold(images, 0, geometry, (k, length), rows, unfolded)
        begin_range(stream, count, columns, k, length)
        view = np.int64(unfolded.ctypes.data), size, count * size, first, count
        pack_codes(stream.a, view, k, length, stream.start, 0)
        of_errors = place + (k - cuts[0]) * by_k, by_column, by_k, first_column, columns
        pack_codes(stream.b, of_errors, k, length, stream.start, 0)
        end_range(stream, count, columns, k + length)


def is_matrix(codes: Codes) -> bool:
    """Whether the pixels of images (N, H, W, C) are at equal distances in memory."""
    n, height, width, _ = codes.shape
    by_image, by_line, by_pixel, _ = codes.strides
    lines: bool = height == 1 or by_line == width * by_pixel
    images: bool = n == 1 or by_image == height * width * by_pixel
    return lines and images


def range_length(wanted: int, chunk_length: int, products: int) -> int:
    """About so many k as a length of ranges each of which begins with a step, see `range_stops`."""
    unit = chunk_length if chunk_length <= wanted else products
    return max(wanted // unit, 1) * unit


def range_stops(depth: int, length: int, chunk_length: int) -> Iterator[int]:
    """The ends of ranges of at most `length` k (see `range_length`). A longer chunk begins a range of its own."""
    k = 0
    while k < depth:
        stop = min(k + length, depth)
        if chunk_length > length:
            stop = min(stop, (k // chunk_length + 1) * chunk_length)
        k = stop
        yield k
