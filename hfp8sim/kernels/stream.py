"""Running a plan: operands into panels, panels through the kernel, accumulators into codes.

A GEMM may be run whole (`multiply`) or piece by piece: any range of rows, columns and k is `panels` of A,
`panels` of B and one `accumulate`; the `State` of the outputs goes from one range of k to the next. (The
machine does so in compiled code, see `hfp8sim.machine.tiles`.)
"""

from __future__ import annotations

import contextlib
import functools
import os
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from queue import Empty, SimpleQueue

import numpy as np
from numpy.typing import NDArray

from hfp8sim._numba.calls import run
from hfp8sim._numba.jit import jit
from hfp8sim.formats import FloatFormat
from hfp8sim.kernels import jobs
from hfp8sim.kernels import macrokernel as kernels
from hfp8sim.kernels import zero_products as zeros
from hfp8sim.kernels.form import EVENTS, PANEL, SWAMPED
from hfp8sim.kernels.memory import KEPT_BYTES, Workspace
from hfp8sim.kernels.panels import (
    Codes,
    Keys,
    Panels,
    State,
    count_panels,
    room,
    side,
    start,
)
from hfp8sim.kernels.select import Plan

Counts = NDArray[np.int64]

#: Bytes of panels, of one side, that `multiply` holds at once.
_PANEL_BYTES = KEPT_BYTES
#: Multiply-accumulates below which a second thread costs more than it gives.
_WORTH_THREADS = 1 << 22
#: Multiply-accumulates after which compiled code comes back, so that an interrupt is heard: a tenth of a second.
BREATH = 1 << 33
#: Parts of a work for each thread.
_TURNS = 4
#: Bytes of rows of A, as panels, and of their results that stay close to the processor …
_CLOSE = 1 << 18
#: … and rows that are worth to bring B there.
_LEAST = 64

_WORKSPACE = Workspace()


@functools.cache
def _workers(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="hfp8sim")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_workers.cache_clear)  # threads do not survive a fork


def _share(work: Callable[[slice], object], parts: list[slice], threads: int) -> None:
    """Do the parts of a work: this thread and its helpers each take the next one until none is left.

    So nobody waits for one who was held up, nor for a helper who comes late.
    """
    if threads == 1 or len(parts) == 1:
        for part in parts:
            work(part)
        return
    left: SimpleQueue[slice] = SimpleQueue()
    for part in parts:
        left.put(part)

    def help_out() -> None:
        with contextlib.suppress(Empty):
            while True:
                work(left.get_nowait())

    helpers = min(threads, len(parts)) - 1
    started: list[Future[None]] = []
    try:
        for _ in range(helpers):
            started.append(_workers(threads).submit(help_out))
        help_out()
    finally:  # whoever goes on, after an interrupt say, finds nobody at work on what was his
        with contextlib.suppress(Empty):
            while True:
                left.get_nowait()
        late = [helper for helper in started if not helper.cancel()]
        wait(late)
    for helper in late:
        helper.result()


def _slices(count: int, step: int) -> list[slice]:
    """The range up to count, in steps."""
    return [slice(i, min(i + step, count)) for i in range(0, count, max(step, 1))]


def accumulate(
    plan: Plan, a: Panels, b: Panels, state: State, *, k0: int = 0, last: bool
) -> Counts:
    """Add the products of a range of k to the state.

    Args:
        k0: the range's first k in the whole GEMM, as for `panels`.
        last: the GEMM's K ends here, and with it the open chunk.

    Returns:
        Counts of swamped steps, overflows and underflows, if the plan counts them. Of the first,
        `zero_steps` are to be taken off.
    """
    assert plan.kernel is not None
    per, step0 = plan.steps_per_chunk, plan.step_number(k0)
    steps = a.values.shape[1] // plan.products
    counts = np.zeros(EVENTS, np.int64)
    _run(
        plan.function, a, b, state.chunk, state.total, state.total.shape[0],
        plan.numbers, counts, steps, per - step0 % per, per, last, state.whole,
    )  # fmt: skip
    return counts


@jit
def _run(
    function, a, b, chunk, total, row_panels, numbers, counts, steps, left, length, close, whole
):  # fmt: skip
    """Run the kernel at an address on panels, see `kernels`."""
    job = np.empty(kernels.JOB, np.int64)
    jobs.tell_kernel(job, a, b, chunk, total, numbers, counts)
    job[kernels.ROW_PANELS], job[kernels.COLUMN_PANELS] = row_panels, total.shape[1]
    job[kernels.STEPS], job[kernels.LEFT], job[kernels.LENGTH] = steps, left, length
    job[kernels.CLOSE], job[kernels.FRESH], job[kernels.CARRIED] = close, whole, not whole
    run(function, job)


def zero_steps(plan: Plan, a: Codes, b: Codes, k0: int = 0) -> int:
    """How many steps that add zero a kernel has counted as swamped, of the outputs of panels of A and of B's
    transpose; see `zeros`.

    Args:
        a, b: the codes that the panels were made of, (rows, k) and (columns, k); k0 is their first k.
    """
    if not plan.counts_zero_sums:
        return 0
    steps = plan.step_number(k0 + a.shape[1]) - plan.step_number(k0)
    down, across = count_panels(a.shape[0]), count_panels(b.shape[0])
    if plan.directions is None:
        both = [zeros.nonzero(codes, fmt) for codes, fmt in zip((a, b), plan.formats)]
        return down * across * PANEL * PANEL * steps - int(np.dot(*both))
    rows, columns = (
        _WORKSPACE.array(name, (panels, steps, PANEL), np.uint16)
        for name, panels in (("a directions", down), ("b directions", across))
    )
    zeros.fill_directions(a, plan.directions.rows, plan.chunk_length, k0, rows)
    zeros.fill_directions(b, plan.directions.columns, plan.chunk_length, k0, columns)
    return int(zeros.count_orthogonal(rows, columns, plan.directions.size))


def multiply(
    plan: Plan,
    a: Codes,
    b: Codes,
    a_format: FloatFormat,
    b_format: FloatFormat,
    result_format: FloatFormat,
    row_keys: Keys,
    column_keys: Keys,
    result: Codes,
    threads: int = 1,
) -> Counts:
    """Run a plan: codes (M, K) × (K, N) into `result` (M, N), of `result_format`, its rows each in one piece.

    Returns:
        Counts of swamped steps, overflows and underflows, if the plan counts them.
    """
    (rows, depth), columns = a.shape, b.shape[1]
    threads = threads if result.size * depth >= _WORTH_THREADS else 1
    most = max(_PANEL_BYTES // (plan.lane_bytes * max(depth, 1)), PANEL) // PANEL * PANEL
    formats, keys = (a_format, b_format, result_format), (row_keys, column_keys)
    counts = np.zeros(EVENTS, np.int64)
    for n in _slices(columns, most):
        shape = rows, depth, min(most, columns - n.start)
        key = plan, shape, formats, keys, threads
        size = plan.lane_bytes * depth * count_panels(shape[2]) * PANEL * (1 + plan.draws)
        way = _WORKSPACE.keep("way", key, size, functools.partial(_Way, *key, most))
        try:
            way.go(a, b[:, n].T, n.start, result[:, n], counts)
        except BaseException:
            # An interrupt at a bad time may leave a helper at work in this memory.
            _WORKSPACE.forget()
            raise
    if plan.counts_zero_sums:
        counts[SWAMPED] -= _all_zero_steps(plan, a, b, threads)
    return counts


class _Way:
    """The way of products of one shape through a plan: what does not depend on the codes.

    Args:
        shape: rows, k, and columns.
        keys: of the random words of rows, and of columns.
        most: rows whose panels may be held at once.
    """

    def __init__(
        self, plan: Plan, shape: tuple[int, int, int], formats: jobs.Formats, keys: tuple[Keys, Keys],
        threads: int, most: int,
    ) -> None:  # fmt: skip
        (rows, depth, columns), size = shape, plan.lane_bytes
        self.plan, self.shape, self.formats, self.threads = plan, shape, formats, threads
        turns = max(rows * depth * columns // BREATH, 1)
        if threads > 1:
            turns = max(
                turns, threads, min(_TURNS * threads, rows * depth * columns // _WORTH_THREADS)
            )
        down = -(-count_panels(rows) // turns) * PANEL
        self.parts = _slices(rows, down)  # of the rows; each comes back from compiled code
        close = _CLOSE // (size * depth + (4 + formats[2].dtype.itemsize) * columns)
        self.height = min(max(close, _LEAST) // PANEL * PANEL, most, down)  # rows at a time
        self.sides = side(plan, formats[0], keys[0], True), side(plan, formats[1], keys[1], False)
        self.of_b = room(plan, columns, depth, of_a=False, memory=_WORKSPACE)

    def go(self, a: Codes, b: Codes, first: int, result: Codes, counts: Counts) -> None:
        """A times columns of B from `first` on (b is their transpose); adds to counts of events."""
        together = len(self.parts) <= 1  # all in one call
        if not together:
            self._fill_b(b, first)
        counted: list[Counts] = []

        def part(m: slice) -> None:
            work = self._jobs()
            work.counts.fill(0)
            _rows(work.table, a[m], b, together, m.start, first, self.height, result[m])
            counted.append(work.counts.copy())

        _share(part, self.parts, self.threads)
        for each in counted:
            counts += each

    def _jobs(self) -> jobs.Jobs:
        """Jobs of this thread, with its own panels of A and accumulators."""
        (_, depth, columns), plan = self.shape, self.plan
        size = self.height * (plan.lane_bytes * depth * (1 + plan.draws) + 4 * (columns + PANEL))
        # (A helper must not keep B's panels longer than the caller does.)
        return _WORKSPACE.keep("jobs", weakref.ref(self), size, self._make_jobs)

    def _make_jobs(self) -> jobs.Jobs:
        plan, height, (_, depth, columns) = self.plan, self.height, self.shape
        of_a = room(plan, height, depth, of_a=True, memory=_WORKSPACE)
        state = start(plan, height, columns, whole=True, memory=_WORKSPACE)
        made = jobs.Jobs(plan, self.formats, self.sides, of_a, self.of_b, state)
        job: NDArray[np.int64] = made.table[jobs.RUN : jobs.OUT]
        job[kernels.COLUMN_PANELS] = count_panels(columns)
        job[kernels.STEPS] = plan.step_number(depth)
        job[kernels.LEFT] = job[kernels.LENGTH] = plan.steps_per_chunk
        job[kernels.CLOSE] = job[kernels.FRESH] = True
        return made

    def _fill_b(self, b: Codes, first: int) -> None:
        """Fill B's panels by threads."""
        table, of_b = self._jobs().table, self.of_b
        count = of_b.values.shape[0]

        # (A helper that is late holds the memory that the table points to.)
        def part(p: slice, of_b: Panels = of_b) -> None:
            _fill_columns(table, b[p.start * PANEL : p.stop * PANEL], first, p.start * PANEL)

        _share(part, _slices(count, -(-count // (_TURNS * self.threads))), self.threads)


@jit
def _fill_columns(t, b, first, row):
    """Fill the panels that begin with `row` of B's transpose, of which b is all from there on."""
    job = jobs.from_row(t[jobs.B : jobs.RUN], row)
    place = b.ctypes.data, b.strides[0], b.strides[1]
    jobs.fill(t[jobs.FILL_B], job, place, b.shape[0], b.shape[1], first + row, 0, 0)


@jit
def _rows(t, a, b, bring_b, first_a, first_b, height, result):
    """Rows of A times B, `height` of them at a time: what is made of them stays in the caches close to the
    processor. Panels of B (b is its transpose) are filled first, if so asked. For t see `jobs`."""
    of_a, job, out = t[jobs.A : jobs.B], t[jobs.RUN : jobs.OUT], t[jobs.OUT : jobs.END]
    depth, columns = b.shape[1], b.shape[0]
    if bring_b:
        _fill_columns(t, b, first_b, 0)
    for i in range(0, a.shape[0], height):
        rows = min(height, a.shape[0] - i)
        place = a.ctypes.data + i * a.strides[0], a.strides[0], a.strides[1]
        jobs.fill(t[jobs.FILL_A], of_a, place, rows, depth, first_a + i, 0, 0)
        job[kernels.ROW_PANELS] = -(-rows // PANEL)
        run(t[jobs.KERNEL], job)
        address = result.ctypes.data + i * result.strides[0]
        jobs.encode(t[jobs.ENCODE], out, address, rows, columns, result.strides[0])


def _all_zero_steps(plan: Plan, a: Codes, b: Codes, threads: int) -> int:
    """The `zero_steps` of a whole product, (M, K) × (K, N)."""
    counts: list[int] = []
    chunks = -(-a.shape[1] // plan.chunk_length)
    part = -(-chunks // (_TURNS * threads)) * plan.chunk_length
    _share(
        lambda k: counts.append(zero_steps(plan, a[:, k], b[k].T, k.start)),
        _slices(a.shape[1], part), threads,
    )  # fmt: skip
    return sum(counts)
