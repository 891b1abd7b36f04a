"""The macrokernel: the loop nest around the microkernels, which it calls through their addresses.

The blocking is that of Goto and van de Geijn (2008): a block of k whose panels stay in the first-level
cache, and groups of A's panels that stay in the second-level cache while B's stream by.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from hfp8sim._numba.calls import address_of, call, record_at
from hfp8sim._numba.jit import jit
from hfp8sim._numba.layouts import layout
from hfp8sim.kernels.form import HALF_COLUMNS, PANEL
from hfp8sim.kernels.half import BOUNDS_BYTES, bounds_of, in_window, tile_panels
from hfp8sim.kernels.microkernel import HALF_TILE, KERNEL, SPARSE_TILE, TILE
from hfp8sim.kernels.nonzeros import LARGEST_SHARE, list_panel, words_of
from hfp8sim.kernels.numbers import NUMBERS

#: Packed panels of one operand. A lane is the float of the kernel, 4 or 8 bytes.
PANELS = layout(
    values=np.int64,  # address of lane floats (panels, depth, PANEL)
    exponents=np.int64,  # address of int32 (panels, depth, PANEL); read by aligned sums only
    words=np.int64,  # address of random words of steps, of a lane's width (panels, steps, PANEL)
    chunk_words=np.int64,  # address of random words of chunks, uint32 (panels, chunks, PANEL)
    depth=np.int64,  # k of a panel, zeros that fill up steps included
    steps=np.int64,  # steps of a panel of words
    chunks=np.int64,  # chunks of a panel of chunk words
    # Address of binary16 numbers (panels, depth, PANEL), of B (pairs of panels, depth, HALF_COLUMNS); 0: none
    halves=np.int64,
    bounds=np.int64,  # address of a `half.BOUNDS` for each panel
)

#: The argument of a macrokernel.
JOB = layout(
    function=np.int64,  # address of the macrokernel
    kernel=np.int64,  # address of a `KERNEL`
    tile=TILE,  # what the macrokernel passes to the microkernel
    half_kernel=np.int64,  # address of a `KERNEL` in lanes of binary16, where the plan has a window
    half_tile=HALF_TILE,
    sparse_kernel=np.int64,  # address of a sparse `KERNEL`, where the plan may leave out zeros of A
    sparse_tile=SPARSE_TILE,
    nonzeros=np.int64,  # address of the words of `list_rows`, uint64; 0: no zeros are left out
    a=PANELS,
    b=PANELS,
    # Address of the sums of open chunks, lane floats (row panels, column panels, PANEL, PANEL); or, unless
    # `keeps_chunks`, of scratch for one register tile, (1, WIDEST, PANEL, PANEL).
    chunk=np.int64,
    total=np.int64,  # address of running totals, float32 (row panels, column panels, PANEL, PANEL)
    numbers=np.int64,  # address of the kernel's numbers, a `numbers.NUMBERS`
    counts=np.int64,  # address of counts of events, int64 (EVENTS,), which are added to
    row_panels=np.int64,
    column_panels=np.int64,
    steps=np.int64,  # steps to do
    steps_left=np.int64,  # steps until the open chunk is full
    steps_per_chunk=np.int64,
    closes=np.int64,  # 1: the last step closes the open chunk
    from_zero=np.int64,  # 1: sums begin at zero, whatever the accumulators hold
    keeps_chunks=np.int64,  # 1: the sum of an open chunk is needed by a later job
)

#: Bytes of a sparse tile's columns of B in a chunk, above which they leave the first-level cache between two rows.
_B_BYTES = 1 << 15


@jit
def multiply_halves(job, kernel, i, j, first, count):
    """A panel of rows times panels of columns, in lanes of binary16, over the block of k that `job.tile` describes.

    Args:
        i: number of the row panel.
        j, count: the first column panel, and how many.
        first: k of the block.
    """
    tile, range_, depth = job.half_tile, job.tile, job.a.depth
    beside = HALF_COLUMNS // PANEL  # panels of columns in one of binary16
    place = (i * job.column_panels + j) * PANEL * PANEL
    b = (j // beside * depth + first) * HALF_COLUMNS + j % beside * PANEL
    tile.b, tile.b_stride = job.b.halves + b * 2, depth * HALF_COLUMNS
    tile.a_bounds = job.a.bounds + i * BOUNDS_BYTES
    tile.b_bounds = job.b.bounds + j * BOUNDS_BYTES
    tile.numbers, tile.steps, tile.left = job.numbers, range_.steps, range_.left
    tile.length, tile.close, tile.fresh = range_.length, range_.close, range_.fresh
    tile.wide = count == kernel.panels
    for r in range(0, PANEL, kernel.rows if tile.wide else kernel.narrow_rows):
        tile.a = job.a.halves + ((i * depth + first) * PANEL + r) * 2
        tile.total = job.total + (place + r * PANEL) * 4
        call(kernel.function, address_of(tile))


@jit
def list_rows(job, words):
    """List the elements of a job's rows that are not zero; how many they are.

    The range of k is that of one chunk at a time. Its lists follow those of the range before it, and those of a panel
    follow those of the panel before it.

    Args:
        words: of a range.
    """
    depth, lists, count = job.a.depth, job.nonzeros, 0
    for i in range(job.row_panels):
        first, left = 0, job.steps_left
        while first < job.steps:
            many = min(left, job.steps - first)
            values = job.a.values + (i * depth + first) * PANEL * 4
            count += list_panel(values, many, lists)
            first, left, lists = first + many, job.steps_per_chunk, lists + words * PANEL * 8
    return count


@jit
def multiply_nonzeros(job):
    """Multiply A with as many column panels as sparse tiles cover, if A has enough zeros to be left out.

    Returns:
        How many column panels, from the first one on, are done.
    """
    if job.nonzeros == 0:
        return 0
    kernel, tile, length = (
        record_at(job.sparse_kernel, KERNEL),
        job.sparse_tile,
        job.steps_per_chunk,
    )
    columns = job.column_panels // kernel.panels * kernel.panels
    if columns == 0 or kernel.panels * length * PANEL * 4 > _B_BYTES:
        return 0
    steps, words = job.steps, words_of(length)
    if list_rows(job, words) > LARGEST_SHARE * job.row_panels * PANEL * steps:
        return 0
    depth, chunks = job.a.depth * PANEL, job.a.chunks * PANEL
    ranges = 1 + -(-max(steps - job.steps_left, 0) // length)
    tile.numbers, tile.counts, tile.keeps = job.numbers, job.counts, job.keeps_chunks
    tile.b_stride, tile.columns_stride, tile.chunks_stride = depth, depth, chunks
    first, left, chunk = 0, job.steps_left, 0
    while first < steps:
        # One range of k: `tile.steps` steps of chunk number `chunk`, from `first` on.
        tile.steps = min(left, steps - first)
        tile.opens, tile.fresh = left == length, job.from_zero and first == 0
        tile.close = tile.steps == left or job.closes
        for j in range(0, columns, kernel.panels):
            b = (j * depth + first * PANEL) * 4
            tile.b, tile.columns = job.b.values + b, job.b.words + b
            tile.chunk_columns = job.b.chunk_words + (j * chunks + chunk * PANEL) * 4
            for i in range(job.row_panels):
                a = (i * depth + first * PANEL) * 4
                tile.a, tile.rows = job.a.values + a, job.a.words + a
                tile.chunk_rows = job.a.chunk_words + (i * chunks + chunk * PANEL) * 4
                tile.nonzeros = job.nonzeros + (i * ranges + chunk) * words * PANEL * 8
                cell = (i * job.column_panels + j) * PANEL * PANEL * 4
                tile.chunk, tile.total = job.chunk + cell * tile.keeps, job.total + cell
                call(kernel.function, address_of(tile))
        first, left, chunk = first + tile.steps, length, chunk + 1
    return columns


@functools.cache
def loop_nest(half: bool, sparse: bool = False) -> Any:
    """The compiled macrokernel, see `run` inside.

    Args:
        half: tiles whose sums stay in its window are computed in lanes of binary16. Else there is no code for them.
        sparse: zeros of A are left out where there are many. Else there is no code for it.
    """

    @jit
    def run(argument):
        """Add the products of all row panels of A and column panels of B to their accumulators.

        `argument` is the address of a `JOB`.
        """
        job = record_at(argument, JOB)
        if half:
            half_kernel, numbers = (
                record_at(job.half_kernel, KERNEL),
                record_at(job.numbers, NUMBERS),
            )
            tries = job.a.halves != 0  # the panels hold all k
        kernel, tile = record_at(job.kernel, KERNEL), job.tile
        size, width, panels, columns = (
            kernel.lane_bytes,
            kernel.width,
            kernel.panels,
            kernel.columns,
        )
        depth, carried = job.a.depth * PANEL, job.keeps_chunks
        words, chunk_words = job.a.depth // width * PANEL, job.a.chunks * PANEL
        steps, left, length = job.steps, job.steps_left, job.steps_per_chunk
        row_panels, column_panels = job.row_panels, job.column_panels
        step = width * PANEL  # elements of a panel
        bytes_per_step = (step + PANEL * kernel.draws) * size
        block = max(1, kernel.block_bytes // (length * bytes_per_step)) * length
        tile.numbers, tile.counts, tile.length = job.numbers, job.counts, length
        tile.b_stride, tile.columns_stride, tile.chunks_stride = depth, words, chunk_words
        first, chunks, column0 = 0, 0, 0
        if sparse:
            column0 = multiply_nonzeros(job)
            if column0 == column_panels:
                return
        while True:
            # One block of k: `many` steps from `first` on; `chunks` counts the chunks before it.
            many = min(steps - first, block - length + left)
            last = first + many >= steps
            group = max(1, kernel.group_bytes // max(many * bytes_per_step, 1))
            tile.steps, tile.left = many, left
            tile.close = job.closes if last else 0
            tile.fresh = job.from_zero if first == 0 else 0
            for i0 in range(0, row_panels, group):
                j = column0
                while j < column_panels:
                    count = panels if j + panels <= column_panels else 1
                    if half:
                        count = tile_panels(
                            column_panels - j, half_kernel.panels, half_kernel.narrow_panels
                        )
                        tried = tries and count >= half_kernel.narrow_panels
                        b_bounds = bounds_of(job.b.bounds, j, count if tried else 0)
                    for i in range(i0, min(i0 + group, row_panels)):
                        if half:
                            if tried and in_window(
                                bounds_of(job.a.bounds, i, 1), b_bounds, numbers
                            ):
                                multiply_halves(job, half_kernel, i, j, first, count)
                                continue
                        at = j
                        while at < j + count:
                            wide = at + panels <= j + count
                            tile.wide = wide
                            place = (i * column_panels + at) * PANEL * PANEL
                            for r in range(0, PANEL, kernel.rows if wide else kernel.narrow_rows):
                                for c in range(0, PANEL, columns):
                                    cell = r * PANEL + c
                                    a, b = (
                                        i * depth + first * step + r,
                                        at * depth + first * step + c,
                                    )
                                    a_word = i * words + first * PANEL + r
                                    b_word = at * words + first * PANEL + c
                                    a_chunk = i * chunk_words + chunks * PANEL + r
                                    b_chunk = at * chunk_words + chunks * PANEL + c
                                    tile.a, tile.b = (
                                        job.a.values + a * size,
                                        job.b.values + b * size,
                                    )
                                    tile.a_exponents = job.a.exponents + a * 4
                                    tile.b_exponents = job.b.exponents + b * 4
                                    tile.chunk = job.chunk + (place * carried + cell) * size
                                    tile.total = job.total + (place + cell) * 4
                                    tile.rows = job.a.words + a_word * size
                                    tile.columns = job.b.words + b_word * size
                                    tile.chunk_rows = job.a.chunk_words + a_chunk * 4
                                    tile.chunk_columns = job.b.chunk_words + b_chunk * 4
                                    call(kernel.function, address_of(tile))
                            at += panels if wide else 1
                    j += count
            if last:
                break
            first, chunks, left = first + many, chunks + block // length, length

    return run  # type: ignore[no-any-return]
