"""Panels of operands and accumulators of outputs, as kernels read them."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hfp8sim.formats import FloatFormat
from hfp8sim.kernels import pack
from hfp8sim.kernels.form import PANEL, WIDEST
from hfp8sim.kernels.memory import Fresh
from hfp8sim.kernels.select import Plan

Codes = NDArray[np.unsignedinteger[Any]]
#: Keys of the random words of one side of a GEMM: of the steps, and of the chunks.
Keys = tuple[np.uint64, np.uint64]
Numbers = NDArray[np.int64]

_FRESH = Fresh()


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
