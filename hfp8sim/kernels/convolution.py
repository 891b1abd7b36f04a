"""Convolutions through the kernels: images are unfolded a block at a time (im2col), never as a whole.

One group of a convolution is a matrix product. Its operand A is the unfolded images: row (image, p, q), column
(r, s, channel). `convolve` multiplies it by filters, `correlate` multiplies its transpose by errors. Each block
of A is unfolded as codes just before it is packed, so that memory holds a block of each thread.

Codes are copied as bytes: the loops are compiled once for all formats.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numba import carray  # type: ignore[attr-defined]
from numpy.typing import NDArray

from hfp8sim._numba.calls import pointer
from hfp8sim._numba.copies import MOVE_BYTES, copy
from hfp8sim._numba.jit import jit
from hfp8sim.kernels.depthwise import depthwise_convolution, depthwise_correlation
from hfp8sim.kernels.form import EVENTS, PANEL, SWAMPED
from hfp8sim.kernels.im2col import GEOMETRY, unfold
from hfp8sim.kernels.jobs import encode_codes, pack_codes
from hfp8sim.kernels.memory import Workspace
from hfp8sim.kernels.panels import Codes, Keys, count_panels
from hfp8sim.kernels.select import Plan
from hfp8sim.kernels.stream import (
    Counts,
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
    """The `GEOMETRY` of images of one group that `copy_images` has copied."""
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
    codes = carray(pointer(source), (_READABLE,), np.uint8)
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


class _Part(NamedTuple):
    """What one call into compiled code computes."""

    group: int
    columns: slice  #: of a group's product
    rows: slice


def convolve(
    plan: Plan, images: Codes, conv: Conv, filters: Codes, formats: Formats,
    keys: list[tuple[Keys, Keys]], result: Codes, threads: int = 1,
) -> Counts:  # fmt: skip
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

    Returns:
        Counts of swamped steps, overflows and underflows, if the plan counts them.
    """
    if is_depthwise(conv):
        counts = depthwise_convolution(plan, images, conv, filters[:, 0], formats, result, threads)
        if counts is not None:
            return counts
    return _Convolution(plan, images, conv, filters, formats, keys, threads).run(result)


class _Convolution:
    """A convolution's blocking, and what its threads share."""

    def __init__(
        self, plan: Plan, images: Codes, conv: Conv, filters: Codes, formats: Formats,
        keys: list[tuple[Keys, Keys]], threads: int,
    ) -> None:  # fmt: skip
        self.plan, self.images, self.conv, self.filters = plan, images, conv, filters
        self.formats, self.keys = formats, keys
        groups, filter_count, self.depth = filters.shape
        self.pixels = conv.output[0] * conv.output[1]
        rows = conv.batch * self.pixels
        macs = rows * groups * filter_count * self.depth
        self.threads = threads if macs >= BLOCKING.macs_worth_threads else 1
        most = max(BLOCKING.panel_bytes // (plan.lane_bytes * self.depth), PANEL) // PANEL * PANEL
        self.columns = min(most, filter_count)
        result_bytes = formats[2].dtype.itemsize
        block = BLOCKING.block_bytes // (
            plan.lane_bytes * self.depth + (4 + result_bytes) * self.columns
        )
        height = min(self._part_rows(rows, macs // groups), rows)
        block = min(max(block, BLOCKING.block_rows), most, height + PANEL - 1)
        self.block = block // PANEL * PANEL or PANEL
        self.parts = [
            _Part(g, n, m)
            for g in range(groups)
            for n in slices(filter_count, most)
            for m in slices(rows, height)
        ]

    def _part_rows(self, rows: int, macs: int) -> int:
        """Rows of one part: of a few images, and enough parts for all threads."""
        image_bytes = self.images.nbytes // self.images.shape[0] // self.conv.groups
        whole = max(_IMAGE_BYTES // max(image_bytes, 1), 1) * self.pixels
        parts = min(_PARTS_PER_THREAD * self.threads, macs // BLOCKING.macs_worth_threads)
        if self.threads > 1:
            parts = max(parts, self.threads)
        part = min(whole, -(-rows // max(parts, 1)))
        return count_panels(part) * PANEL

    def run(self, result: Codes) -> Counts:
        """Compute all parts; the counts of events."""
        counted: list[Counts] = []
        mark = object()  # of this run: panels of another one hold other filters

        def compute(part: _Part) -> None:
            worker = self._worker(mark)
            worker.stream.counts.fill(0)
            self._compute(worker, part, result)
            counted.append(worker.stream.counts.copy())
            if self.plan.counts_zero_sums:
                counted[-1][SWAMPED] -= self._zero_steps(part)

        try:
            share(compute, self.parts, self.threads)
        except BaseException:
            # After an interrupt a helper may still write into this memory.
            _WORKSPACE.clear()
            raise
        return sum(counted, np.zeros(EVENTS, np.int64))

    def _worker(self, mark: object) -> _Worker:
        shape = self.block, self.columns, self.depth
        key = self.plan, self.formats, shape
        size = self.plan.lane_bytes * self.depth * (self.block + self.columns)
        worker = _WORKSPACE.cached(
            "convolution", key, size, lambda: _Worker(self.plan, self.formats, *shape)
        )
        worker.begin(mark)
        return worker

    def _compute(self, worker: _Worker, part: _Part, result: Codes) -> None:
        """Compute the rows and columns of a part of the result."""
        group, n, m = part
        first = m.start // self.pixels
        images = self._of_group(group)[first : -(-m.stop // self.pixels)]
        memory = worker.copy_images(images)
        geometry = geometry_of(self.conv, images)
        geometry["first_line"] = first * self.conv.height
        if self.plan.draws:
            worker.stream.set_keys(self.keys[group])
        filters, size = self.filters[group, n], result.itemsize
        column = group * self.filters.shape[1] + n.start
        _convolve_rows(
            worker.stream.address, memory, geometry, (m.start, m.stop - m.start),
            (filters.ctypes.data, *filters.strides, n.start, filters.shape[0]), group, self.block,
            worker.unfolded(self.block * self.depth * images.itemsize),
            result.ctypes.data + m.start * result.strides[0] + column * size, result.strides[0],
        )  # fmt: skip

    def _of_group(self, group: int) -> Codes:
        """The images of a group."""
        channels = self.conv.channels // self.conv.groups
        return self.images[..., group * channels : (group + 1) * channels]

    def _zero_steps(self, part: _Part) -> int:
        """The `zero_steps` of a part."""
        a = Unfolded(self._of_group(part.group), self.conv)
        step = max(_COUNTED_BYTES // (self.depth * PANEL), 1) * PANEL
        return sum(
            zero_steps(
                self.plan,
                a[slice(first, min(first + step, part.rows.stop)), slice(0, self.depth)],
                self.filters[part.group, part.columns],
            )
            for first in range(part.rows.start, part.rows.stop, step)
        )


class _Worker:
    """A thread's stream, and its memory for codes."""

    def __init__(
        self, plan: Plan, formats: Formats, rows: int, columns: int, depth: int, max_k: int | None = None
    ) -> None:  # fmt: skip
        no_keys = (np.uint64(0), np.uint64(0))
        self.stream = Stream(
            plan, formats, (no_keys, no_keys), rows, columns, depth, max_k=max_k, memory=_WORKSPACE
        )
        self.mark: object = None

    def begin(self, mark: object) -> None:
        """Begin a part of a run. Panels keep what an earlier part of that run has packed."""
        if self.mark is not mark:
            self.stream.forget_packed()
        self.mark = mark

    def copy_images(self, images: Codes, name: str = "images") -> NDArray[np.uint8]:
        """`copy_images` to this thread's memory."""
        memory = _WORKSPACE.array(name, (images.nbytes + MOVE_BYTES,), np.uint8)
        return copy_images(images, memory)

    def unfolded(self, size: int) -> NDArray[np.uint8]:
        """Memory for so many bytes of unfolded codes."""
        return _WORKSPACE.array("unfolded", (size + MOVE_BYTES,), np.uint8)


@jit
def _convolve_rows(
    address, images, geometry, rows, filters, group, block, unfolded, result, result_pitch
):  # fmt: skip
    """Rows of a group's product, a block at a time.

    Args:
        address: of the `STREAM`.
        images: bytes of the images that the rows need; see `unfold` for the geometry.
        rows: (first, count).
        filters: a `View` of B's transpose.
        unfolded: memory for a block's codes.
        result: address of the first row of the result.
        result_pitch: bytes from row to row.
    """
    stream, size = stream_at(address), geometry[0].element_bytes
    depth, columns = stream.depth, filters[4]
    if not is_packed(stream.packed_b, group, filters[3], columns, 0, depth):
        pack_codes(stream.b, filters, 0, depth, 0, 0)
    first, total = rows
    for i in range(0, total, block):
        count = min(block, total - i)
        unfold(images, 0, geometry, (first + i, count), (0, depth), unfolded)
        view = np.int64(unfolded.ctypes.data), depth * size, size, first + i, count
        pack_codes(stream.a, view, 0, depth, 0, 0)
        multiply_panels(stream, count, columns, depth)
        encode_codes(stream.out, result + i * result_pitch, result_pitch, count, columns)


# -- transposed images times errors ------------------------------------------------------------------


def correlate(
    plan: Plan, images: Codes, conv: Conv, errors: Codes, formats: Formats,
    keys: list[tuple[Keys, Keys]], result: Codes, threads: int = 1,
) -> Counts:  # fmt: skip
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

    Returns:
        Counts of swamped steps, overflows and underflows, if the plan counts them.
    """
    if is_depthwise(conv):
        counts = depthwise_correlation(plan, images, conv, errors, formats, result, threads)
        if counts is not None:
            return counts
    return _Correlation(plan, images, conv, errors, formats, keys, threads).run(result)


def is_depthwise(conv: Conv) -> bool:
    """Whether each channel has one filter of its own."""
    return conv.groups > 1 and conv.groups == conv.channels == conv.filters


class _Correlation:
    """A weight gradient's blocking."""

    def __init__(
        self, plan: Plan, images: Codes, conv: Conv, errors: Codes, formats: Formats,
        keys: list[tuple[Keys, Keys]], threads: int,
    ) -> None:  # fmt: skip
        self.plan, self.images, self.conv, self.errors = plan, images, conv, errors
        self.formats, self.keys = formats, keys
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
            _Part(g, n, m)
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

    def run(self, result: Codes) -> Counts:
        """Compute all parts; the counts of events."""
        counted: list[Counts] = []

        def compute(part: _Part) -> None:
            worker = self._worker()
            worker.stream.counts.fill(0)
            zeros = sum(self._add(worker, part, cuts) for cuts in self.cuts)
            group, n, m = part
            column = group * self.filter_count + n.start
            worker.stream.codes(result[m, column : column + n.stop - n.start])
            counted.append(worker.stream.counts.copy())
            counted[-1][SWAMPED] -= zeros

        try:
            share(compute, self.parts, self.threads)
        except BaseException:
            # After an interrupt a helper may still write into this memory.
            _WORKSPACE.clear()
            raise
        return sum(counted, np.zeros(EVENTS, np.int64))

    def _worker(self) -> _Worker:
        shape = self.height, self.columns, self.depth, self.range_k
        key = self.plan, self.formats, shape
        size = self.plan.lane_bytes * (self.height + self.columns) * self.range_k
        return _WORKSPACE.cached(
            "correlation", key, size, lambda: _Worker(self.plan, self.formats, *shape)
        )

    def _add(self, worker: _Worker, part: _Part, cuts: NDArray[np.int64]) -> int:
        """Add ranges of k to the sums of a part; how many of their steps add zero, if that is needed."""
        (group, n, m), (k0, k1) = part, (int(cuts[0]), int(cuts[-1]))
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
