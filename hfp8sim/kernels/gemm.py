"""Whole GEMMs through the kernels, one or many of a shape: blocks of rows and columns, shared among threads."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hfp8sim._numba.calls import record_at
from hfp8sim._numba.jit import jit
from hfp8sim.kernels.form import EVENTS, PANEL, SWAMPED, Counting
from hfp8sim.kernels.jobs import Writer, code_writer, pack_codes, write_results
from hfp8sim.kernels.memory import Workspace
from hfp8sim.kernels.pack import SIDE
from hfp8sim.kernels.panels import Codes, allocate_panels, count_panels
from hfp8sim.kernels.select import Plan
from hfp8sim.kernels.stream import (
    Counts,
    Formats,
    Stream,
    copy_panels,
    multiply_panels,
    stream_at,
    zero_steps,
)
from hfp8sim.kernels.target import BLOCKING
from hfp8sim.kernels.workers import share, slices

#: Keys of the random words of products, uint64 (G, 4): of rows, steps and chunks, then of columns. (0, 4) where
#: nothing is drawn.
StreamKeys = NDArray[np.uint64]

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
_NO_KEYS = (np.uint64(0), np.uint64(0))


class Outcome(NamedTuple):
    """What products have to tell beside their results."""

    counts: Counts  #: of swamped steps, overflows and underflows, if the plan counts them
    nonfinite: bool  #: some value is infinite or NaN; always False of codes


def multiply(
    plan: Plan, a: Codes, b: Codes, formats: Formats, keys: StreamKeys, result: NDArray[Any],
    threads: int = 1, writer: Writer | None = None,
) -> Outcome:  # fmt: skip
    """Run a plan on matrices of codes, or on stacks of G matrices: (…, M, K) × (…, K, N).

    Args:
        plan: for operands that include these; its kernel is not None.
        a, b: any strides; their leading axes broadcast to those of the result.
        formats: of a, of b, and of the result.
        keys: of each product's random words, in the order of the leading axes.
        result: (…, M, N), filled in, any strides.
        threads: at most.
        writer: of the results; of codes by default.
    """
    writer = writer or code_writer(formats[2], plan.scale)
    columns, depth = result.shape[-1], a.shape[-1]
    products = _Products(
        plan, formats, writer, keys if plan.draws else keys[:0],
        _Stack.of(a, result.shape[:-2]), _Stack.of(b, result.shape[:-2]),
        _Stack.of(result, result.shape[:-2]), depth, threads,
    )  # fmt: skip
    most = max(_PANEL_BYTES // (plan.lane_bytes * max(depth, 1)), PANEL) // PANEL * PANEL
    try:
        for n in slices(columns, most):
            products.multiply_columns(n, most)
    except BaseException:
        # After an interrupt a helper may still write into this memory.
        _WORKSPACE.clear()
        raise
    if plan.counts_zero_sums:
        products.counts[SWAMPED] -= _all_zero_steps(plan, a, b, result.shape[:-2], threads)
    return Outcome(products.counts, products.nonfinite)


class _Stack(NamedTuple):
    """Matrices of one shape in memory."""

    places: NDArray[np.int64]  #: address of each one's first element
    shape: tuple[int, ...]  #: rows and columns
    steps: tuple[int, ...]  #: bytes from row to row, and from column to column

    @classmethod
    def of(cls, x: NDArray[Any], leading: tuple[int, ...]) -> _Stack:
        """The matrices of an array (…, rows, columns) whose leading axes broadcast to given ones."""
        own, strides = x.shape[:-2], x.strides[:-2]
        places = np.array((x.ctypes.data,), np.int64)
        if not leading:
            return cls(places, x.shape, x.strides)
        missing = len(leading) - len(own)
        for axis, size in enumerate(leading):
            step = strides[axis - missing] if axis >= missing and own[axis - missing] > 1 else 0
            places = (places[:, None] + np.arange(size) * step).reshape(-1)
        return cls(places, x.shape[-2:], x.strides[-2:])


class _Products:
    """The execution of a plan for products of one shape: blocking, and a stream for each thread."""

    def __init__(
        self, plan: Plan, formats: Formats, writer: Writer, keys: StreamKeys,
        a: _Stack, b: _Stack, result: _Stack, depth: int, threads: int,
    ) -> None:  # fmt: skip
        self.plan, self.formats, self.writer, self.keys = plan, formats, writer, keys
        self.a, self.b, self.result, self.depth = a, b, result, depth
        self.macs = result.places.size * result.shape[0] * result.shape[1] * depth
        self.threads = threads if self.macs >= MACS_WORTH_THREADS else 1
        self.counting = plan.kernel is not None and plan.kernel.counting is not Counting.NONE
        self.counts = np.zeros(EVENTS, np.int64)
        self.nonfinite = False

    def multiply_columns(self, n: slice, most: int) -> None:
        """Multiply all of A by columns of B; adds to the counts of events.

        Args:
            most: rows whose panels may be held at once.
        """
        groups, rows = self.result.places.size, self.result.shape[0]
        parts = self._parts()
        if parts <= groups:
            block = self._block(n, most, rows)
            every = slice(0, rows)
            each = slices(groups, -(-groups // parts))
            self._share([_Part(g, every, n, block) for g in each])
            return
        part = -(-count_panels(rows) // -(-parts // groups)) * PANEL
        block = self._block(n, most, part)
        owner = self._stream(block, n)
        for g in slices(groups, 1):
            self._pack_b(_Part(g, slice(0, rows), n, block), owner)
            self._share([_Part(g, m, n, block) for m in slices(rows, part)], owner)

    def _parts(self) -> int:
        """How many parts the work is cut into."""
        count = max(self.macs // MACS_PER_CALL, 1)
        if self.threads > 1:
            shares = min(_PARTS_PER_THREAD * self.threads, self.macs // MACS_WORTH_THREADS)
            count = max(count, self.threads, shares)
        return count

    def _block(self, n: slice, most: int, part: int) -> int:
        """Rows of a block."""
        row = self.plan.lane_bytes * self.depth
        row += (4 + self.writer.result_bytes) * (n.stop - n.start)
        block: int = max(_BLOCK_BYTES // row, _BLOCK_ROWS) // PANEL * PANEL
        return min(block, most, count_panels(part) * PANEL)

    def _share(self, parts: list[_Part], owner: Stream | None = None) -> None:
        """Compute parts. With an owner, all use the panels of B that are packed in that stream."""
        outcomes: list[tuple[Counts | None, int]] = []
        caller = threading.get_ident()

        def multiply_part(part: _Part) -> None:
            stream = owner
            if owner is None or threading.get_ident() != caller:
                stream = self._stream(part.block, part.n, helps=owner is not None)
            assert stream is not None
            nonfinite = _multiply_groups(
                stream.address, stream.address if owner is None else owner.address, owner is None,
                *self._arguments(part),
            )  # fmt: skip
            counts = None
            if self.counting:
                counts = stream.counts.copy()
                stream.counts.fill(0)
            outcomes.append((counts, nonfinite))

        share(multiply_part, parts, self.threads)
        for counts, nonfinite in outcomes:
            if counts is not None:
                self.counts += counts
            self.nonfinite |= bool(nonfinite)

    def _arguments(self, part: _Part) -> tuple[Any, ...]:
        """The arguments of `_multiply_groups` after the streams."""
        g, m, n, block = part
        return (
            self.keys, (g.start, g.stop), (m.start, m.stop), (n.start, n.stop), block,
            self.a.places, self.a.steps, self.b.places, self.b.steps,
            self.result.places, self.result.steps,
        )  # fmt: skip

    def _pack_b(self, part: _Part, owner: Stream) -> None:
        """Pack the columns of B of one product into the owner's panels, shared among threads."""
        columns, caller = part.n.stop - part.n.start, threading.get_ident()
        count = count_panels(columns)

        def pack_part(p: slice) -> None:
            own = threading.get_ident() == caller
            stream = owner if own else self._stream(part.block, part.n, helps=True)
            panels = p.start, min(p.stop * PANEL, columns) - p.start * PANEL
            _pack_columns(stream.address, owner.address, panels, *self._arguments(part))

        step = -(-count // (_PARTS_PER_THREAD * self.threads))
        share(pack_part, slices(count, step), self.threads)

    def _stream(self, block: int, n: slice, helps: bool = False) -> Stream:
        """The stream of this thread for a block of rows.

        Args:
            helps: it uses another stream's panels of B.
        """
        plan, columns = self.plan, n.stop - n.start
        widest = max(block + PANEL, 0 if helps else columns + PANEL)
        size = max(plan.lane_bytes * self.depth * widest, 4 * (block + PANEL) * (columns + PANEL))
        key = plan, self.formats[2], self.writer, block, columns, self.depth, helps

        def build() -> Stream:
            b = None
            if helps:
                b = allocate_panels(plan, 1, self.depth, of_a=False, memory=_WORKSPACE)
            stream = Stream(
                plan, self.formats, (_NO_KEYS, _NO_KEYS), block, columns, self.depth,
                memory=_WORKSPACE, b=b, writer=self.writer,
            )  # fmt: skip
            if plan.draws:
                stream.own_parameters()
            return stream

        return _WORKSPACE.cached(key, size, build)


class _Part(NamedTuple):
    """What one call into compiled code computes."""

    g: slice  #: products
    m: slice  #: rows of each
    n: slice  #: columns of each
    block: int  #: rows of a block


@jit
def _begin_product(stream, keys, g):
    """Pack with the random words of product g from here on."""
    if keys.shape[0]:
        a = record_at(stream.a.params, SIDE)
        b = record_at(stream.b.params, SIDE)
        a.steps.key, a.chunks.key = keys[g, 0], keys[g, 1]
        b.steps.key, b.chunks.key = keys[g, 2], keys[g, 3]


@jit
def _pack_columns(
    address, owner, panels, keys, g, m, n, block, a, a_steps, b, b_steps, results, result_steps
):  # fmt: skip
    """Pack columns of B of the first product into the panels of an owner; see `_multiply_groups`.

    Args:
        panels: (number of the first panel, columns from there on).
    """
    stream, (panel0, count) = stream_at(address), panels
    if address != owner:
        copy_panels(stream.b.panels, stream_at(owner).b.panels)
    _begin_product(stream, keys, g[0])
    first, (k_step, step) = n[0] + panel0 * PANEL, b_steps
    view = b[g[0]] + first * step, step, k_step, first, count
    pack_codes(stream.b, view, 0, stream.depth, 0, panel0)


@jit
def _multiply_groups(
    address, owner, packs_b, keys, g, m, n, block, a, a_steps, b, b_steps, results, result_steps
):  # fmt: skip
    """Some products, or a part of one, a block of rows at a time.

    Args:
        address: of the thread's `STREAM`.
        owner: of the `STREAM` in whose panels B is packed.
        packs_b: B is packed here; the owner is the thread's own stream.
        keys: `StreamKeys`.
        g, m, n: the products, rows and columns: (first, stop).
        block: rows.
        a, b, results: addresses of the products' matrices (M, K), (K, N) and (M, N).
        a_steps, b_steps, result_steps: bytes from row to row, and from column to column.

    Returns:
        1 if the writer has found a value that is infinite or NaN.
    """
    stream = stream_at(address)
    if address != owner:
        copy_panels(stream.b.panels, stream_at(owner).b.panels)
        copy_panels(stream.kernel.b, stream_at(owner).b.panels)
    depth, columns, out = stream.depth, n[1] - n[0], stream.out
    out.column_step, out.nonfinite = result_steps[1], 0
    for product in range(g[0], g[1]):
        _begin_product(stream, keys, product)
        repeated = product > g[0] and b[product] == b[product - 1] and not keys.shape[0]
        if packs_b and not repeated:
            place = b[product] + n[0] * b_steps[1]
            pack_codes(stream.b, (place, b_steps[1], b_steps[0], n[0], columns), 0, depth, 0, 0)
        for i in range(m[0], m[1], block):
            rows = min(block, m[1] - i)
            view = a[product] + i * a_steps[0], a_steps[0], a_steps[1], i, rows
            pack_codes(stream.a, view, 0, depth, 0, 0)
            multiply_panels(stream, rows, columns, depth)
            place = results[product] + i * result_steps[0] + n[0] * result_steps[1]
            write_results(out, place, result_steps[0], rows, columns)
    return out.nonfinite


def _all_zero_steps(plan: Plan, a: Codes, b: Codes, leading: tuple[int, ...], threads: int) -> int:
    """The `zero_steps` of all products, (…, M, K) × (…, K, N)."""
    counts: list[int] = []
    chunks = -(-a.shape[-1] // plan.chunk_length)
    part = -(-chunks // (_PARTS_PER_THREAD * threads)) * plan.chunk_length
    stacks = (
        np.broadcast_to(x, (*leading, *x.shape[-2:])).reshape(-1, *x.shape[-2:]) for x in (a, b)
    )
    for left, right in zip(*stacks):
        share(
            lambda k, a=left, b=right: counts.append(zero_steps(plan, a[:, k], b[k].T, k.start)),  # type: ignore[misc]
            slices(a.shape[-1], part), threads,
        )  # fmt: skip
    return sum(counts)
