"""Kernels run over panels: the loop nest around `tile`, compiled once for each `Kernel`."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import carray  # type: ignore[attr-defined]

from hfp8sim._numba.calls import pointer
from hfp8sim._numba.jit import jit
from hfp8sim.kernels.form import PANEL, Kernel
from hfp8sim.kernels.microkernel import tile

#: Bytes of A's panels that are kept in the second-level cache while B's stream by.
_RESIDENT = 1 << 18
#: Bytes of a panel (whole chunks of it) that stay in the first-level cache.
_CLOSE = 1 << 16


#: Places in the table of a job.
(
    # Addresses: panels of values, of exponents (int32), of words of steps and of chunks; open chunks, (row
    # panels, column panels, PANEL, PANEL) lane floats, or (1, WIDEST, PANEL, PANEL) where none is
    # carried; running totals, float32, likewise but always whole; a kernel's table of numbers; counts of
    # events, (3,), which are added to.
    A_VALUES, B_VALUES, A_EXPONENTS, B_EXPONENTS, A_WORDS, B_WORDS, A_CHUNK_WORDS, B_CHUNK_WORDS,
    CHUNK, TOTAL, NUMBERS, COUNTS,
    ROW_PANELS, COLUMN_PANELS,
    DEPTH,  # k of a panel
    CHUNKS,  # words of chunks of a panel
    STEPS,  # to do
    LEFT,  # steps left in the open chunk
    LENGTH,  # steps of a whole chunk
    CLOSE,  # whether the last step closes the open chunk
    FRESH,  # whether the state begins as zeros, whatever it holds
    CARRIED,  # whether open chunks are carried on to another job
) = range(22)  # fmt: skip
JOB = 22


@functools.cache
def runner(kernel: Kernel) -> Any:
    """The compiled loop nest of a kernel; see `run` inside."""
    # Only strings and integers are closed over: Numba's disk cache recognises those (and would not
    # recognise an intrinsic made for each kernel).
    name = kernel.name
    size, columns, panels = kernel.bits // 8, kernel.vectors * kernel.lanes, kernel.panels
    rows, narrow_rows = kernel.rows, kernel.narrow.rows
    products = max(kernel.products, 1)
    random = kernel.rounding in ("random", "hash")
    bytes_per_step = (products + random) * PANEL * size

    @jit
    def run(job):
        """Add the products of all row panels of A and column panels of B to their accumulators.

        `job` is the address of a table of the numbers that are listed above.
        """
        t = carray(pointer(job), (JOB,), np.int64)
        depth = t[DEPTH] * PANEL
        words, chunk_words = t[DEPTH] // products * PANEL, t[CHUNKS] * PANEL
        steps, left, length, carried = t[STEPS], t[LEFT], t[LENGTH], t[CARRIED]
        row_panels, column_panels = t[ROW_PANELS], t[COLUMN_PANELS]
        step = products * PANEL  # elements of a panel
        block = max(1, _CLOSE // (length * bytes_per_step)) * length
        first, chunks = 0, 0
        while True:
            # From here on, what panels hold for `first` and for the chunk it begins or goes on with.
            many = min(steps - first, block - length + left)
            last = first + many >= steps
            group = max(1, _RESIDENT // max(many * bytes_per_step, 1))
            for i0 in range(0, row_panels, group):
                j = 0
                while j < column_panels:
                    wide = j + panels <= column_panels
                    for i in range(i0, min(i0 + group, row_panels)):
                        place = (i * column_panels + j) * PANEL * PANEL
                        for r in range(0, PANEL, rows if wide else narrow_rows):
                            for c in range(0, PANEL, columns):
                                cell = r * PANEL + c
                                a, b = i * depth + first * step + r, j * depth + first * step + c
                                a_word = i * words + first * PANEL + r
                                b_word = j * words + first * PANEL + c
                                tile(
                                    name,
                                    t[A_VALUES] + a * size,
                                    t[B_VALUES] + b * size,
                                    t[A_EXPONENTS] + a * 4,
                                    t[B_EXPONENTS] + b * 4,
                                    t[CHUNK] + (place * carried + cell) * size,
                                    t[TOTAL] + (place + cell) * 4,
                                    t[NUMBERS],
                                    t[A_WORDS] + a_word * size,
                                    t[B_WORDS] + b_word * size,
                                    t[A_CHUNK_WORDS] + (i * chunk_words + chunks * PANEL + r) * 4,
                                    t[B_CHUNK_WORDS] + (j * chunk_words + chunks * PANEL + c) * 4,
                                    t[COUNTS],
                                    many, left, length, t[CLOSE] if last else 0,
                                    t[FRESH] if first == 0 else 0,
                                    depth, words, chunk_words, wide,
                                )  # fmt: skip
                    j += panels if wide else 1
            if last:
                break
            first, chunks, left = first + many, chunks + block // length, length

    return run  # type: ignore[no-any-return]
