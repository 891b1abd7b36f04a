"""Running a plan: operands into panels, panels through the kernel, accumulators into codes.

A GEMM may be run whole (`multiply`) or piece by piece, as a machine with small memories does: any range of
rows, columns and k is `panels` of A, `panels` of B and one `accumulate`; the `State` of the outputs goes
from one range of k to the next.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hfp8sim.formats import FloatFormat
from hfp8sim.units.mac_array.kernel import EVENTS, PANEL, SWAMPED, WIDEST
from hfp8sim.units.mac_array.kernels import runner
from hfp8sim.units.mac_array.pack import decoder, encode, fill_exponents, fill_words, pack
from hfp8sim.units.mac_array.plan import Plan
from hfp8sim.units.mac_array.zeros import add_nonzero, count_orthogonal, fill_directions

Codes = NDArray[np.unsignedinteger[Any]]
#: Keys of the random words of one side of a GEMM: of the steps, and of the chunks.
Keys = tuple[np.uint64, np.uint64]
Counts = NDArray[np.int64]

#: Bytes of B's panels that `multiply` holds at once.
_PANEL_BYTES = 1 << 25
#: Multiply-accumulates below which a second thread costs more than it gives.
_WORTH_THREADS = 1 << 22
#: Parts of a work for each thread.
_TURNS = 4
#: Bytes of a cache line.
_LINE = 64
#: More steps than any chunk has.
_ENDLESS = 1 << 40


class Panels(NamedTuple):
    """A range of rows of A (or columns of B) and of k, as kernels read it."""

    values: NDArray[np.floating[Any]]  #: (panels, k, PANEL)
    exponents: NDArray[np.int32]  #: (panels, k, PANEL) for aligned sums, else (1, 0, PANEL)
    words: NDArray[np.unsignedinteger[Any]]  #: (panels, steps, PANEL), or (1, 0, PANEL)
    chunk_words: NDArray[np.uint32]  #: (panels, chunks, PANEL), or (1, 0, PANEL)
    nonzero: NDArray[np.int64]  #: how many elements of each k are not zero, (k,), or (0,)
    directions: NDArray[np.uint16]  #: of each step's pair, (panels, steps, PANEL), or (1, 0, PANEL)


#: What panels do without.
_NO_EXPONENTS = np.empty((1, 0, PANEL), np.int32)
_NO_WORDS: dict[type, NDArray[Any]] = {
    kind: np.empty((1, 0, PANEL), kind) for kind in (np.uint32, np.uint64)
}
_NO_CHUNK_WORDS = np.empty((1, 0, PANEL), np.uint32)
_NOT_COUNTED = np.empty(0, np.int64)
_NO_DIRECTIONS = np.empty((1, 0, PANEL), np.uint16)


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
    """Memory that each thread uses again."""


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


def panels(
    plan: Plan,
    codes: Codes,
    fmt: FloatFormat,
    keys: Keys,
    *,
    of_a: bool,
    first: int = 0,
    k0: int = 0,
    memory: Fresh = _FRESH,
    threads: int = 1,
) -> Panels:
    """Make panels of a matrix of codes (rows, k), which is a part of A or of B's transpose.

    `first` and `k0` say where the part begins in the whole; k0 is the first k of a step.
    """
    side = "a " if of_a else "b "
    codes = fill_steps(codes, plan, k0)
    rows, depth = codes.shape
    count, steps = count_panels(rows), -(-depth // plan.products)
    shape = count, steps * plan.products, PANEL
    values = memory.array(side + "values", shape, plan.lane_float)
    exponents, words, chunk_words = _NO_EXPONENTS, _NO_WORDS[plan.lane_word], _NO_CHUNK_WORDS
    if plan.kernel is not None and plan.kernel.order == "aligned":
        exponents = memory.array(side + "exponents", shape, np.int32)
    how = plan.words(of_a)
    if how.of_steps is not None:
        words = memory.array(side + "words", (count, steps, PANEL), plan.lane_word)
    if how.of_chunks is not None:
        step0, per = plan.step_number(k0), plan.steps_per_chunk
        chunks = -(-(step0 + steps) // per) - step0 // per
        chunk_words = memory.array(side + "chunk words", (count, chunks, PANEL), np.uint32)
    nonzero, directions = _NOT_COUNTED, _NO_DIRECTIONS
    if plan.directions is not None:
        directions = memory.array(side + "directions", (count, steps, PANEL), np.uint16)
    elif plan.counts_zero_sums:
        nonzero = np.zeros(depth, np.int64)
    made = Panels(values, exponents, words, chunk_words, nonzero, directions)
    if threads == 1:
        _fill(made, plan, codes, fmt, keys, of_a, first, k0)
    else:
        _share(
            lambda part: _fill(
                Panels._make(array[part] for array in made), plan,
                codes[part.start * PANEL : part.stop * PANEL],
                fmt, keys, of_a, first + part.start * PANEL, k0,
            ),
            _slices(count, -(-count // (_TURNS * threads))), threads,
        )  # fmt: skip
    if nonzero.size > 0:
        add_nonzero(values, nonzero)
    return made


def _fill(
    made: Panels, plan: Plan, codes: Codes, fmt: FloatFormat, keys: Keys, of_a: bool, first: int, k0: int
) -> None:  # fmt: skip
    """Fill in `panels` of codes that have their zeros (`fill_steps`), but for `nonzero`."""
    pack(codes, decoder(fmt.facts, plan.scale if of_a else 0), made.values)
    if made.exponents.size > 0:
        lowest = (1 if fmt.lowest == "subnormal" else 0) - fmt.bias
        fill_exponents(made.values, lowest, made.exponents)
    if plan.directions is not None:
        numbers = plan.directions.rows if of_a else plan.directions.columns
        fill_directions(codes, numbers, made.directions)
    how = plan.words(of_a)
    step0, per = plan.step_number(k0), plan.steps_per_chunk
    if how.of_steps is not None:
        fill_words(
            keys[0], first, step0, per, plan.chunk_length, plan.products, how.of_steps, made.words
        )
    if how.of_chunks is not None:
        fill_words(keys[1], first, step0 // per, _ENDLESS, 0, 1, how.of_chunks, made.chunk_words)


def fill_steps(codes: Codes, plan: Plan, k0: int = 0) -> Codes:
    """Codes (rows, k) with zeros put in where the last step of a chunk has fewer products than others."""
    products, length = plan.products, plan.chunk_length
    rows, depth = codes.shape
    if length % products == 0 or k0 % length + depth <= length:
        return codes
    bounds = [0, *range(length - k0 % length, depth, length), depth]
    pieces = []
    for begin, end in itertools.pairwise(bounds):
        pieces.append(codes[:, begin:end])
        if (missing := -(end - begin) % products) and end < depth:
            pieces.append(np.zeros((rows, missing), codes.dtype))
    return np.concatenate(pieces, axis=1)


def accumulate(
    plan: Plan, a: Panels, b: Panels, state: State, *, k0: int = 0, last: bool
) -> Counts:
    """Add the products of a range of k to the state.

    Args:
        k0: the range's first k in the whole GEMM, as for `panels`.
        last: the GEMM's K ends here, and with it the open chunk.

    Returns:
        Counts of swamped steps, overflows and underflows, if the plan counts them.
    """
    assert plan.kernel is not None
    per = plan.steps_per_chunk
    counts = np.zeros(EVENTS, np.int64)
    runner(plan.kernel)(
        a, b, state.chunk, state.total, plan.numbers, a.values.shape[1] // plan.products,
        per - plan.step_number(k0) % per, per, int(last), int(state.whole), counts,
    )  # fmt: skip
    if plan.counts_zero_sums:
        counts[SWAMPED] -= _zero_sums(plan, a, b)
    return counts


def _zero_sums(plan: Plan, a: Panels, b: Panels) -> int:
    """How many steps of all outputs of these panels add zero, see `zeros`."""
    if plan.directions is not None:
        return int(count_orthogonal(a.directions, b.directions, plan.directions.size))
    outputs: int = a.values.shape[0] * b.values.shape[0] * PANEL * PANEL
    return outputs * a.nonzero.size - int(np.dot(a.nonzero, b.nonzero))


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
    assert plan.kernel is not None
    rows, columns = result.shape
    work = rows * columns * a.shape[1]
    threads = threads if work >= _WORTH_THREADS else 1
    width = plan.lane_float().itemsize * max(a.shape[1], 1)
    across = max(_PANEL_BYTES // width, PANEL) // PANEL * PANEL
    turns = max(threads, min(_TURNS * threads, work // _WORTH_THREADS)) if threads > 1 else 1
    down = min(across, -(-count_panels(rows) // turns) * PANEL)
    counts: list[Counts] = []

    for n in _slices(columns, across):
        of_b = panels(
            plan, b[:, n].T, b_format, column_keys,
            of_a=False, first=n.start, memory=_WORKSPACE, threads=threads,
        )  # fmt: skip

        def block(m: slice, n: slice = n, of_b: Panels = of_b) -> None:
            of_a = panels(
                plan, a[m], a_format, row_keys, of_a=True, first=m.start, memory=_WORKSPACE
            )
            state = start(plan, m.stop - m.start, n.stop - n.start, whole=True, memory=_WORKSPACE)
            counts.append(accumulate(plan, of_a, of_b, state, last=True))
            encode(state.total, result_format.facts, plan.scale, result[m, n])

        _share(block, _slices(rows, down), threads)
    return sum(counts, np.zeros(EVENTS, np.int64))
