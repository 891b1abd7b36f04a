"""Running a plan: operands into panels, panels through the kernel, accumulators into codes.

A GEMM may be run whole (`multiply`) or piece by piece: any range of rows, columns and k is `panels` of A,
`panels` of B and one `accumulate`; the `State` of the outputs goes from one range of k to the next. (The
machine does so in compiled code, see `hfp8sim.machine.tiles`.)
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from hfp8sim._jit import jit
from hfp8sim.formats import FloatFormat
from hfp8sim.units.mac_array import kernels, pack, zeros
from hfp8sim.units.mac_array.calls import run
from hfp8sim.units.mac_array.kernel import EVENTS, PANEL, SWAMPED, WIDEST
from hfp8sim.units.mac_array.plan import Plan

Codes = NDArray[np.unsignedinteger[Any]]
#: Keys of the random words of one side of a GEMM: of the steps, and of the chunks.
Keys = tuple[np.uint64, np.uint64]
Counts = NDArray[np.int64]
Numbers = NDArray[np.int64]
_T = TypeVar("_T")

#: Bytes of panels, of one side, that `multiply` holds at once.
_PANEL_BYTES = 1 << 25
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
#: Bytes of a cache line.
_LINE = 64


class Panels(NamedTuple):
    """A range of rows of A (or columns of B) and of k, as kernels read it."""

    values: NDArray[np.floating[Any]]  #: (panels, k, PANEL)
    exponents: NDArray[np.int32]  #: (panels, k, PANEL) for aligned sums, else (1, 0, PANEL)
    words: NDArray[np.unsignedinteger[Any]]  #: (panels, steps, PANEL), or (1, 0, PANEL)
    chunk_words: NDArray[np.uint32]  #: (panels, chunks, PANEL), or (1, 0, PANEL)


#: What panels do without: all but values.
_NOTHING: dict[type, tuple[NDArray[Any], ...]] = {
    kind: tuple(np.empty((1, 0, PANEL), each) for each in (np.int32, kind, np.uint32))
    for kind in (np.uint32, np.uint64)
}
_NO_KEYS = (np.uint64(0), np.uint64(0))


class State(NamedTuple):
    """Outputs in the making: (panels of rows, panels of columns, PANEL, PANEL), times 2^plan.scale."""

    chunk: NDArray[np.floating[Any]]  #: sums of the open chunk; of one tile if `whole`
    total: NDArray[np.float32]  #: running totals
    whole: bool  #: all k come in one range: what is here before is not looked at


class Fresh:
    """Uninitialised arrays that begin with a cache line: no vector of a panel then lies in two."""

    def array(self, what: str, shape: tuple[int, ...], dtype: type[np.number[Any]]) -> NDArray[Any]:
        """An array; `what` is its purpose."""
        memory = self._bytes(what, math.prod(shape) * np.dtype(dtype).itemsize)
        return np.ndarray(shape, dtype, memory)

    def _bytes(self, what: str, size: int) -> NDArray[np.uint8]:
        memory = np.empty(size + _LINE, np.uint8)
        address: int = memory.__array_interface__["data"][0]
        return memory[-address % _LINE :]


class Reused(Fresh):
    """Such arrays in memory that is used again, one for each purpose at a time: new pages from the system
    would take longer than what is written into them."""

    def __init__(self) -> None:
        self._kept: dict[str, NDArray[np.uint8]] = {}
        self._last: dict[str, NDArray[Any]] = {}

    def array(self, what: str, shape: tuple[int, ...], dtype: type[np.number[Any]]) -> NDArray[Any]:
        last = self._last.get(what)
        if last is None or last.shape != shape or last.dtype.type is not dtype:
            last = super().array(what, shape, dtype)
            if last.nbytes <= _PANEL_BYTES:
                self._last[what] = last
        return last

    def _bytes(self, what: str, size: int) -> NDArray[np.uint8]:
        memory = self._kept.get(what)
        if memory is None or memory.size < size:
            memory = super()._bytes(what, size)
            if size <= _PANEL_BYTES:
                self._kept[what] = memory
        return memory


class Workspace(Reused, threading.local):
    """Memory that each thread uses again, and the last things that were made in it."""

    def __init__(self) -> None:
        super().__init__()
        self._things: dict[str, tuple[object, Any]] = {}

    def keep(self, what: str, key: object, size: int, make: Callable[[], _T]) -> _T:
        """What `make` makes (of so many bytes), or made when it was last asked for with this key: many products
        follow one another that are of one shape."""
        last = self._things.get(what)
        if last is None or last[0] != key:
            last = key, make()
            if size <= _PANEL_BYTES:
                self._things[what] = last
        made: _T = last[1]
        return made


_FRESH, _WORKSPACE = Fresh(), Workspace()


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
    started = [_workers(threads).submit(help_out) for _ in range(helpers)]
    help_out()
    for helper in started:
        if not helper.cancel():
            helper.result()


def _slices(count: int, step: int) -> list[slice]:
    """The range up to count, in steps."""
    return [slice(i, min(i + step, count)) for i in range(0, count, max(step, 1))]


def count_panels(n: int) -> int:
    """Panels that n rows fill."""
    return -(-n // PANEL)


def start(
    plan: Plan, rows: int, columns: int, whole: bool = False, memory: Fresh = _FRESH
) -> State:
    """The state of rows × columns outputs at k = 0. `whole`: all k will come in one range."""
    shape = (count_panels(rows), count_panels(columns), PANEL, PANEL)
    one = (1, WIDEST, PANEL, PANEL)
    chunk = memory.array("chunk", one if whole else shape, plan.lane_float)
    total = memory.array("total", shape, np.float32)
    if not whole:
        chunk.fill(0.0)
        total.fill(0.0)
    return State(chunk, total, whole)


def room(
    plan: Plan, rows: int, depth: int, *, of_a: bool, k0: int | None = 0, memory: Fresh = _FRESH
) -> Panels:  # fmt: skip
    """Panels for rows of A (or of B's transpose) and `depth` k from k0 (None: from anywhere) on, to be
    filled."""
    steps = plan.most_steps(depth)
    if k0 is not None:
        steps = plan.step_number(k0 + depth) - plan.step_number(k0)
    count, name = count_panels(rows), "a " if of_a else "b "
    shape = count, steps * plan.products, PANEL
    values = memory.array(name + "values", shape, plan.lane_float)
    exponents, words, chunk_words = _NOTHING[plan.lane_word]
    if plan.aligned:
        exponents = memory.array(name + "exponents", shape, np.int32)
    how = plan.words(of_a)
    if how.of_steps is not None:
        words = memory.array(name + "words", (count, steps, PANEL), plan.lane_word)
    if how.of_chunks is not None:
        chunks = depth // plan.chunk_length + 2  # at most
        if k0 is not None:
            chunks = -(-(k0 + depth) // plan.chunk_length) - k0 // plan.chunk_length
        chunk_words = memory.array(name + "chunk words", (count, chunks, PANEL), np.uint32)
    return Panels(values, exponents, words, chunk_words)


def side(plan: Plan, fmt: FloatFormat, keys: Keys, of_a: bool) -> Numbers:
    """The numbers by which panels of one side are filled, see `pack.SIDE`."""
    return _side(plan, fmt, keys if plan.draws else _NO_KEYS, of_a)


@functools.lru_cache(256)
def _side(plan: Plan, fmt: FloatFormat, keys: Keys, of_a: bool) -> Numbers:
    numbers = np.zeros(pack.SIDE, np.int64)
    numbers[pack.DECODER : pack.PRODUCTS] = pack.decoder(fmt.facts, plan.scale if of_a else 0)
    numbers[pack.PRODUCTS], numbers[pack.LENGTH] = plan.products, plan.chunk_length
    numbers[pack.ALIGNED] = plan.aligned
    numbers[pack.LOWEST] = (1 if fmt.lowest == "subnormal" else 0) - fmt.bias
    of_side = plan.words(of_a)
    for place, words, key in zip((pack.OF_STEPS, pack.OF_CHUNKS), of_side, keys):
        if words is not None:
            numbers[place : place + 6] = 1, *words, np.uint64(key).view(np.int64)
    return numbers


def _fill(made: Panels, codes: Codes, numbers: Numbers, first: int, threads: int) -> None:
    """`pack.fill` from the first k on, by threads."""
    count = made.values.shape[0]
    _share(
        lambda part: pack.fill(
            codes[part.start * PANEL : part.stop * PANEL], numbers, first + part.start * PANEL,
            0, 0, *[array[part] for array in made],
        ),
        _slices(count, -(-count // (_TURNS * threads))), threads,
    )  # fmt: skip


def panels(
    plan: Plan, codes: Codes, fmt: FloatFormat, keys: Keys, *,
    of_a: bool, first: int = 0, k0: int = 0, memory: Fresh = _FRESH,
) -> Panels:  # fmt: skip
    """Make panels of a matrix of codes (rows, k), which is a part of A or of B's transpose.

    `first` and `k0` say where the part begins in the whole; k0 is the first k of a step.
    """
    made = room(plan, *codes.shape, of_a=of_a, k0=k0, memory=memory)
    pack.fill(codes, side(plan, fmt, keys, of_a), first, k0, k0, *made)
    return made


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
    tell_job(job, a, b, chunk, total, numbers, counts)
    job[kernels.ROW_PANELS], job[kernels.COLUMN_PANELS] = row_panels, total.shape[1]
    job[kernels.STEPS], job[kernels.LEFT], job[kernels.LENGTH] = steps, left, length
    job[kernels.CLOSE], job[kernels.FRESH], job[kernels.CARRIED] = close, whole, not whole
    run(function, job)


@jit
def tell_job(job, a, b, chunk, total, numbers, counts):
    """Tell the table of a job where panels, state, numbers and counts lie. Whoever made them keeps them."""
    job[kernels.A_VALUES], job[kernels.B_VALUES] = a.values.ctypes.data, b.values.ctypes.data
    job[kernels.A_EXPONENTS] = a.exponents.ctypes.data
    job[kernels.B_EXPONENTS] = b.exponents.ctypes.data
    job[kernels.A_WORDS], job[kernels.B_WORDS] = a.words.ctypes.data, b.words.ctypes.data
    job[kernels.A_CHUNK_WORDS] = a.chunk_words.ctypes.data
    job[kernels.B_CHUNK_WORDS] = b.chunk_words.ctypes.data
    job[kernels.CHUNK], job[kernels.TOTAL] = chunk.ctypes.data, total.ctypes.data
    job[kernels.NUMBERS], job[kernels.COUNTS] = numbers.ctypes.data, counts.ctypes.data
    job[kernels.DEPTH], job[kernels.CHUNKS] = a.values.shape[1], a.chunk_words.shape[1]


@jit
def _rows(
    function, codes, of_b, sides, firsts, height, a, b, bring_b, chunk, total, numbers, counts, encoder,
    result,
):  # fmt: skip
    """Rows of A times B, `height` of them at a time: what is made of them stays in the caches close to the
    processor. Panels of B are filled first, if so asked."""
    products, length = sides[0][pack.PRODUCTS], sides[0][pack.LENGTH]
    steps, per = pack.step_number(codes.shape[1], products, length), -(-length // products)
    if bring_b:
        pack.fill(
            of_b, sides[1], firsts[1], 0, 0, b.values, b.exponents, b.words, b.chunk_words
        )  # fmt: skip
    for i in range(0, codes.shape[0], height):
        rows = min(height, codes.shape[0] - i)
        pack.fill(
            codes[i : i + rows], sides[0], firsts[0] + i, 0, 0,
            a.values, a.exponents, a.words, a.chunk_words,
        )  # fmt: skip
        _run(
            function, a, b, chunk, total, -(-rows // PANEL), numbers, counts, steps, per, per, True, True
        )  # fmt: skip
        pack.encode_panels(total, encoder, result[i : i + rows])


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
    """Run a plan: codes (M, K) × (K, N) into `result` (M, N), of `result_format`.

    Returns:
        Counts of swamped steps, overflows and underflows, if the plan counts them.
    """
    depth = a.shape[1]
    threads = threads if result.size * depth >= _WORTH_THREADS else 1
    width = plan.lane_float().itemsize * max(depth, 1)
    most = max(_PANEL_BYTES // width, PANEL) // PANEL * PANEL  # rows, or columns, that fit
    sides = side(plan, a_format, row_keys, True), side(plan, b_format, column_keys, False)
    encoder = pack.encoder(result_format.facts, plan.scale)
    total = np.zeros(EVENTS, np.int64)
    for n in _slices(result.shape[1], most):
        total += _columns(plan, a, b[:, n].T, sides, n.start, most, encoder, result[:, n], threads)
    if plan.counts_zero_sums:
        total[SWAMPED] -= _all_zero_steps(plan, a, b, threads)
    return total


def _columns(
    plan: Plan, a: Codes, b: Codes, sides: tuple[Numbers, Numbers], first: int, most: int,
    encoder: NDArray[np.uint32], result: Codes, threads: int,
) -> Counts:  # fmt: skip
    """A times the columns of B from `first` on (b is their transpose), at most so many rows at a time; counts
    of events."""
    (rows, columns), depth, size = result.shape, a.shape[1], plan.lane_float().itemsize
    turns = max(a.size * columns // BREATH, 1)
    if threads > 1:
        turns = max(turns, threads, min(_TURNS * threads, a.size * columns // _WORTH_THREADS))
    down = -(-count_panels(rows) // turns) * PANEL
    close = _CLOSE // (size * depth + (4 + result.itemsize) * columns)  # rows that are so
    height = min(max(close, _LEAST) // PANEL * PANEL, most, down)
    of_b = _WORKSPACE.keep(
        "b", (plan, depth, columns), size * depth * columns,
        lambda: room(plan, columns, depth, of_a=False, memory=_WORKSPACE),
    )  # fmt: skip
    if turns > 1:
        _fill(of_b, b, sides[1], first, threads)
    counts: list[Counts] = []

    def block(m: slice) -> None:
        of_a, state = _WORKSPACE.keep(
            "a", (plan, depth, height, columns), height * (size * depth + 4 * columns),
            lambda: (
                room(plan, height, depth, of_a=True, memory=_WORKSPACE),
                start(plan, height, columns, whole=True, memory=_WORKSPACE),
            ),
        )  # fmt: skip
        own = np.zeros(EVENTS, np.int64)
        _rows(
            plan.function, a[m], b, sides, (m.start, first), height, of_a, of_b, turns == 1,
            state.chunk, state.total, plan.numbers, own, encoder, result[m],
        )  # fmt: skip
        counts.append(own)

    _share(block, _slices(rows, down), threads)
    return sum(counts, np.zeros(EVENTS, np.int64))


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
