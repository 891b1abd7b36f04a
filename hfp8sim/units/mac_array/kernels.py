"""Kernels run over panels: the loop nest around `tile`, compiled once for each `Kernel`."""

from __future__ import annotations

import functools
from collections.abc import Callable

from hfp8sim._jit import jit
from hfp8sim.units.mac_array.ir import PANEL, Kernel, tile

#: Bytes of A's panels that are kept in the second-level cache while B's stream by.
_RESIDENT = 1 << 18


@functools.cache
def runner(kernel: Kernel) -> Callable[..., None]:
    """The compiled loop nest of a kernel; see `run` inside."""
    # Only strings and integers are closed over: Numba's disk cache recognises those (and would not
    # recognise an intrinsic made for each kernel).
    name = kernel.name
    rows, columns = kernel.rows, kernel.lanes * kernel.vectors
    size = kernel.bits // 8

    @jit
    def run(a, b, chunk, total, numbers, rw, cw, rw2, cw2, steps, left, length, close, counts):
        """Add the products of all row panels of a and column panels of b to their accumulators.

        Args:
            a, b: (panels, k, PANEL) lane floats.
            chunk: open chunks (row panels, column panels, PANEL, PANEL) lane floats; (1, 1, PANEL, PANEL)
                zeros where no state is carried (then close must be 1, which leaves zeros).
            total: running totals, float32, likewise but always whole.
            numbers: int64 (NUMBERS,).
            rw, cw, rw2, cw2: words of rows and columns (panels, steps or chunks, PANEL), for the steps
                unsigned of a lane's width, for the chunks uint32; (1, 0, PANEL) where none are drawn.
            steps, left, length, close: see `ir.build`.
            counts: int64 (≥ 1,): the number of steps that changed nothing is added to counts[0].
        """
        a_step, b_step = a.shape[1] * PANEL * size, b.shape[1] * PANEL * size
        rw_step, cw_step = rw.shape[1] * PANEL * size, cw.shape[1] * PANEL * size
        rw2_step, cw2_step = rw2.shape[1] * PANEL * 4, cw2.shape[1] * PANEL * 4
        cells = PANEL * PANEL
        carried = 1 if chunk.shape[0] == total.shape[0] and chunk.shape[1] == total.shape[1] else 0
        group = max(1, _RESIDENT // max(a_step, 1))
        for i0 in range(0, a.shape[0], group):
            for j in range(b.shape[0]):
                for i in range(i0, min(i0 + group, a.shape[0])):
                    t = i * b.shape[0] + j
                    for r in range(0, PANEL, rows):
                        for c in range(0, PANEL, columns):
                            cell = r * PANEL + c
                            tile(
                                name,
                                a.ctypes.data + i * a_step + r * size,
                                b.ctypes.data + j * b_step + c * size,
                                chunk.ctypes.data + (t * carried * cells + cell) * size,
                                total.ctypes.data + (t * cells + cell) * 4,
                                numbers.ctypes.data,
                                rw.ctypes.data + i * rw_step + r * size,
                                cw.ctypes.data + j * cw_step + c * size,
                                rw2.ctypes.data + i * rw2_step + r * 4,
                                cw2.ctypes.data + j * cw2_step + c * 4,
                                counts.ctypes.data,
                                steps, left, length, close,
                            )  # fmt: skip

    return run  # type: ignore[no-any-return]
