"""A whole GEMM through the kernels: blocks of rows and columns, shared among threads."""

from __future__ import annotations

import weakref

import numpy as np

from hfp8sim._numba.jit import jit
from hfp8sim.kernels.form import EVENTS, PANEL, SWAMPED
from hfp8sim.kernels.jobs import encode_codes, pack_codes
from hfp8sim.kernels.memory import Workspace
from hfp8sim.kernels.panels import Codes, Keys, allocate_panels, count_panels
from hfp8sim.kernels.select import Plan
from hfp8sim.kernels.stream import (
    Counts,
    Formats,
    Stream,
    multiply_panels,
    stream_at,
    zero_steps,
)
from hfp8sim.kernels.target import BLOCKING
from hfp8sim.kernels.workers import share, slices

#: Bytes of packed panels of one operand that are held at once.
_PANEL_BYTES = BLOCKING.panel_bytes
#: Multiply-accumulates below which a second thread costs more than it gains.
MACS_WORTH_THREADS = BLOCKING.macs_worth_threads
#: Multiply-accumulates of one call into compiled code, about 0.1 s. Python handles Ctrl-C between calls.
MACS_PER_CALL = 1 << 33
#: Parts of the work for each thread.
_PARTS_PER_THREAD = 4
#: Bytes of a block of rows: its panels and results stay in the second-level cache …
_BLOCK_BYTES = BLOCKING.block_bytes
#: … but it has at least so many rows, for each of which B's panels are read once.
_BLOCK_ROWS = BLOCKING.block_rows

_WORKSPACE = Workspace()


def multiply(
    plan: Plan, a: Codes, b: Codes, formats: Formats, keys: tuple[Keys, Keys], result: Codes, threads: int = 1
) -> Counts:  # fmt: skip
    """Run a plan on matrices of codes, (M, K) × (K, N).

    Args:
        plan: for operands that include these; its kernel is not None.
        formats: of a, of b, and of the result.
        keys: of the random words of rows, and of columns.
        result: (M, N), filled in; its rows are contiguous.
        threads: at most.

    Returns:
        Counts of swamped steps, overflows and underflows, if the plan counts them.
    """
    (rows, depth), columns = a.shape, b.shape[1]
    threads = threads if result.size * depth >= MACS_WORTH_THREADS else 1
    most = max(_PANEL_BYTES // (plan.lane_bytes * max(depth, 1)), PANEL) // PANEL * PANEL
    counts = np.zeros(EVENTS, np.int64)
    for n in slices(columns, most):
        shape = rows, depth, min(most, columns - n.start)
        key = plan, shape, formats, keys, threads
        size = plan.lane_bytes * depth * count_panels(shape[2]) * PANEL * (1 + plan.draws)
        prepared = _WORKSPACE.cached("gemm", key, size, lambda: PreparedGemm(*key, most))  # noqa: B023
        try:
            prepared.run(a, b[:, n].T, n.start, result[:, n], counts)
        except BaseException:
            # After an interrupt a helper may still write into this memory.
            _WORKSPACE.clear()
            raise
    if plan.counts_zero_sums:
        counts[SWAMPED] -= _all_zero_steps(plan, a, b, threads)
    return counts


class PreparedGemm:
    """The execution of a plan for one shape: blocking, panels of B, and a stream for each thread.

    Args:
        shape: M, K, and columns of B.
        keys: of the random words of rows, and of columns.
        most: rows whose panels may be held at once.
    """

    def __init__(
        self, plan: Plan, shape: tuple[int, int, int], formats: Formats, keys: tuple[Keys, Keys],
        threads: int, most: int,
    ) -> None:  # fmt: skip
        (rows, depth, columns), size = shape, plan.lane_bytes
        self.plan, self.shape, self.formats, self.threads = plan, shape, formats, threads
        self.keys = keys
        macs = rows * depth * columns
        count = max(macs // MACS_PER_CALL, 1)
        if threads > 1:
            count = max(
                count, threads, min(_PARTS_PER_THREAD * threads, macs // MACS_WORTH_THREADS)
            )
        part = -(-count_panels(rows) // count) * PANEL
        self.parts = slices(rows, part)  # rows of one call into compiled code
        block = _BLOCK_BYTES // (size * depth + (4 + formats[2].dtype.itemsize) * columns)
        self.block = min(max(block, _BLOCK_ROWS) // PANEL * PANEL, most, part)
        self.b = allocate_panels(plan, columns, depth, of_a=False, memory=_WORKSPACE)

    def run(self, a: Codes, b: Codes, first: int, result: Codes, counts: Counts) -> None:
        """Multiply A and columns of B; adds to the counts of events.

        Args:
            a, b: codes (M, K) of A and (columns, K) of B's transpose.
            first: number of b's first column in the whole of B.
        """
        one_call = len(self.parts) <= 1
        if not one_call:
            self._pack_b(b, first)
        counted: list[Counts] = []

        def multiply_part(m: slice) -> None:
            stream = self._stream()
            stream.counts.fill(0)
            _multiply_rows(stream.address, a[m], b, one_call, m.start, first, self.block, result[m])
            counted.append(stream.counts.copy())

        share(multiply_part, self.parts, self.threads)
        for each in counted:
            counts += each

    def _stream(self) -> Stream:
        """The stream of this thread, with its own panels of A and accumulators."""
        (_, depth, columns), plan = self.shape, self.plan
        size = self.block * (plan.lane_bytes * depth * (1 + plan.draws) + 4 * (columns + PANEL))
        # A weak reference: a helper's workspace must not keep B's panels alive after the caller has ended.
        return _WORKSPACE.cached("stream", weakref.ref(self), size, self._new_stream)

    def _new_stream(self) -> Stream:
        _, depth, columns = self.shape
        return Stream(
            self.plan, self.formats, self.keys, self.block, columns, depth, memory=_WORKSPACE, b=self.b
        )  # fmt: skip

    def _pack_b(self, b: Codes, first: int) -> None:
        """Pack B, shared among threads."""
        count = self.b.values.shape[0]

        def pack_part(p: slice) -> None:
            codes = b[p.start * PANEL : p.stop * PANEL]
            _pack_columns(self._stream().address, codes, first, p.start)

        share(
            pack_part, slices(count, -(-count // (_PARTS_PER_THREAD * self.threads))), self.threads
        )


@jit
def _pack_columns(address, b, first, panel0):
    """Pack rows of B's transpose into the panels from `panel0` on; `first` is the number of the first column
    in panel 0."""
    stream = stream_at(address)
    columns, depth = b.shape
    view = np.int64(b.ctypes.data), b.strides[0], b.strides[1], first + panel0 * PANEL, columns
    pack_codes(stream.b, view, 0, depth, 0, panel0)


@jit
def _multiply_rows(address, a, b, packs_b, first_row, first_column, block, result):
    """Rows of A times B, a block of rows at a time.

    Args:
        address: of the `STREAM`.
        a, b: codes (rows, K) of A and (columns, K) of B's transpose.
        packs_b: pack B first.
        first_row, first_column: numbers of a's first row, and b's first column, in the whole operands.
    """
    stream = stream_at(address)
    columns, depth = b.shape
    if packs_b:
        _pack_columns(address, b, first_column, 0)
    for i in range(0, a.shape[0], block):
        rows = min(block, a.shape[0] - i)
        place = np.int64(a.ctypes.data) + i * a.strides[0]
        view = place, a.strides[0], a.strides[1], first_row + i, rows
        pack_codes(stream.a, view, 0, depth, 0, 0)
        multiply_panels(stream, rows, columns, depth)
        place = np.int64(result.ctypes.data) + i * result.strides[0]
        encode_codes(stream.out, place, result.strides[0], rows, columns)


def _all_zero_steps(plan: Plan, a: Codes, b: Codes, threads: int) -> int:
    """The `zero_steps` of a whole product, (M, K) × (K, N)."""
    counts: list[int] = []
    chunks = -(-a.shape[1] // plan.chunk_length)
    part = -(-chunks // (_PARTS_PER_THREAD * threads)) * plan.chunk_length
    share(
        lambda k: counts.append(zero_steps(plan, a[:, k], b[k].T, k.start)),
        slices(a.shape[1], part), threads,
    )  # fmt: skip
    return sum(counts)
