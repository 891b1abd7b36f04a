"""Kernels run over panels: the loop nest around `tile`, compiled once for each `Kernel`."""

from __future__ import annotations

import functools
from collections.abc import Callable

from hfp8sim._jit import jit
from hfp8sim.units.mac_array.kernel import PANEL, Kernel
from hfp8sim.units.mac_array.tile import tile

#: Bytes of A's panels that are kept in the second-level cache while B's stream by.
_RESIDENT = 1 << 18
#: Bytes of a panel (whole chunks of it) that stay in the first-level cache.
_CLOSE = 1 << 16


@functools.cache
def runner(kernel: Kernel) -> Callable[..., None]:
    """The compiled loop nest of a kernel; see `run` inside."""
    # Only strings and integers are closed over: Numba's disk cache recognises those (and would not
    # recognise an intrinsic made for each kernel).
    name = kernel.name
    size, columns, panels = kernel.bits // 8, kernel.vectors * kernel.lanes, kernel.panels
    rows, narrow_rows = kernel.rows, kernel.narrow.rows
    products = max(kernel.products, 1)
    words = kernel.rounding in ("random", "hash")
    bytes_per_step = (products + words) * PANEL * size

    @jit
    def run(a, b, chunk, total, numbers, steps, left, length, close, fresh, counts):
        """Add the products of all row panels of a and column panels of b to their accumulators.

        Args:
            a, b: `Panels` of rows and of columns.
            chunk: open chunks (row panels, column panels, PANEL, PANEL) lane floats; (1, WIDEST, PANEL,
                PANEL) for any tile where no state is carried (then fresh and close must be 1).
            total: running totals, float32, likewise but always whole.
            numbers: int64 (NUMBERS,).
            steps, left, length, close, fresh: see `tile.build`.
            counts: int64 (3,): events are added.
        """
        depth = a.values.shape[1] * PANEL
        a_words, b_words = a.words.shape[1] * PANEL, b.words.shape[1] * PANEL
        a_chunks, b_chunks = a.chunk_words.shape[1] * PANEL, b.chunk_words.shape[1] * PANEL
        a_depth, b_depth = a.exponents.shape[1] * PANEL, b.exponents.shape[1] * PANEL
        row_panels, column_panels = a.values.shape[0], b.values.shape[0]
        carried = chunk.shape[0] == row_panels and chunk.shape[1] == column_panels
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
                                tile(
                                    name,
                                    a.values.ctypes.data + (i * depth + first * step + r) * size,
                                    b.values.ctypes.data + (j * depth + first * step + c) * size,
                                    a.exponents.ctypes.data + (i * a_depth + first * step + r) * 4,
                                    b.exponents.ctypes.data + (j * b_depth + first * step + c) * 4,
                                    chunk.ctypes.data + (place * carried + cell) * size,
                                    total.ctypes.data + (place + cell) * 4,
                                    numbers.ctypes.data,
                                    a.words.ctypes.data + (i * a_words + first * PANEL + r) * size,
                                    b.words.ctypes.data + (j * b_words + first * PANEL + c) * size,
                                    a.chunk_words.ctypes.data
                                    + (i * a_chunks + chunks * PANEL + r) * 4,
                                    b.chunk_words.ctypes.data
                                    + (j * b_chunks + chunks * PANEL + c) * 4,
                                    counts.ctypes.data,
                                    many, left, length, close if last else 0,
                                    fresh if first == 0 else 0,
                                    depth, b_words, b_chunks, wide,
                                )  # fmt: skip
                    j += panels if wide else 1
            if last:
                break
            first, chunks, left = first + many, chunks + block // length, length

    return run  # type: ignore[no-any-return]
