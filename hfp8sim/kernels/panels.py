"""Packed operands and accumulators, as the macrokernel reads them.

A panel holds PANEL rows of A, or columns of B, with k slowest: element (k, i) lies at k·PANEL + i.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hfp8sim.formats import FloatFormat
from hfp8sim.kernels import pack
from hfp8sim.kernels.form import HALF_COLUMNS, PANEL, WIDEST, WORD
from hfp8sim.kernels.half import BOUNDS, BOUNDS_BYTES, LARGEST
from hfp8sim.kernels.memory import Fresh
from hfp8sim.kernels.select import Plan

Codes = NDArray[np.unsignedinteger[Any]]
#: Keys of the random words of one operand: those of steps, and those of chunks.
Keys = tuple[np.uint64, np.uint64]
#: Packing parameters: an array of one `pack.SIDE`.
Parameters = NDArray[np.void]

_FRESH = Fresh()


class Panels(NamedTuple):
    """Packed rows of A, or columns of B, of a range of k."""

    values: NDArray[np.floating[Any]]  #: (panels, k, PANEL)
    exponents: NDArray[np.int32]  #: (panels, k, PANEL) for aligned sums, else (1, 0, PANEL)
    words: NDArray[np.unsignedinteger[Any]]  #: random (panels, steps, PANEL), or (1, 0, PANEL)
    chunk_words: NDArray[np.uint32]  #: random (panels, chunks, PANEL), or (1, 0, PANEL)


#: Empty exponents, words and chunk words, by the width of a lane.
_EMPTY: dict[type, tuple[NDArray[Any], ...]] = {
    kind: tuple(np.empty((1, 0, PANEL), each) for each in (np.int32, kind, np.uint32))
    for kind in (np.uint32, np.uint64)
}
_NO_KEYS = (np.uint64(0), np.uint64(0))


class Accumulators(NamedTuple):
    """Sums of outputs, (row panels, column panels, PANEL, PANEL), times 2^plan.scale."""

    chunk: NDArray[np.floating[Any]]  #: of open chunks; if `whole`, scratch for one register tile
    total: NDArray[np.float32]  #: running totals of closed chunks
    whole: bool  #: all k come in one range: sums begin at zero, whatever is in the memory


def count_panels(n: int) -> int:
    """Panels that n rows need."""
    return -(-n // PANEL)


def allocate_accumulators(
    plan: Plan, rows: int, columns: int, whole: bool = False, memory: Fresh = _FRESH
) -> Accumulators:
    """Accumulators of rows × columns outputs: zero, or not initialised if `whole`."""
    shape = (count_panels(rows), count_panels(columns), PANEL, PANEL)
    scratch = (1, WIDEST, PANEL, PANEL)
    chunk = memory.array("chunk", scratch if whole else shape, plan.lane_float)
    total = memory.array("total", shape, np.float32)
    if not whole:
        chunk.fill(0.0)
        total.fill(0.0)
    return Accumulators(chunk, total, whole)


def allocate_panels(
    plan: Plan, rows: int, depth: int, *, of_a: bool, k0: int | None = 0, memory: Fresh = _FRESH
) -> Panels:  # fmt: skip
    """Panels, not initialised, for rows of A (or of B's transpose) and `depth` k.

    Args:
        k0: the first k; None: any, as the panels are filled more than once.
    """
    steps = plan.most_steps(depth)
    if k0 is not None:
        steps = plan.step_number(k0 + depth) - plan.step_number(k0)
    count, name = count_panels(rows), "a " if of_a else "b "
    shape = count, steps * plan.products, PANEL
    values = memory.array(name + "values", shape, plan.lane_float)
    exponents, words, chunk_words = _EMPTY[plan.lane_word]
    if plan.aligned:
        exponents = memory.array(name + "exponents", shape, np.int32)
    words_of_side = plan.words(of_a)
    if words_of_side.of_steps is not None:
        words = memory.array(name + "words", (count, steps, PANEL), plan.lane_word)
    if words_of_side.of_chunks is not None:
        chunks = depth // plan.chunk_length + 2  # at most
        if k0 is not None:
            chunks = -(-(k0 + depth) // plan.chunk_length) - k0 // plan.chunk_length
        chunk_words = memory.array(name + "chunk words", (count, chunks, PANEL), np.uint32)
    return Panels(values, exponents, words, chunk_words)


def allocate_nonzeros(
    plan: Plan, rows: int, depth: int, memory: Fresh = _FRESH
) -> NDArray[np.uint64]:
    """Memory for the lists of elements of A that are not zero, see `nonzeros.list_panel`."""
    ranges, words = depth // plan.chunk_length + 2, -(-plan.chunk_length // WORD)
    return memory.array("nonzeros", (count_panels(rows), ranges * words, PANEL), np.uint64)


class Halves(NamedTuple):
    """Packed rows of A, or columns of B, as binary16 numbers."""

    values: NDArray[
        np.uint16
    ]  #: their bits: of A (panels, k, PANEL), of B (pairs of panels, k, HALF_COLUMNS)
    bounds: NDArray[np.void]  #: `half.BOUNDS` of each panel of PANEL rows or columns


def allocate_halves(rows: int, depth: int, *, of_a: bool, memory: Fresh = _FRESH) -> Halves:
    """Panels of binary16 numbers, not initialised, for rows of A (or of B's transpose) and all k."""
    count, width = count_panels(rows), _half_columns(of_a)
    name = "a " if of_a else "b "
    shape = -(-count * PANEL // width), depth, width
    bounds = memory.array(name + "bounds", (count * BOUNDS_BYTES // 8,), np.int64)
    return Halves(memory.array(name + "halves", shape, np.uint16), bounds.view(BOUNDS))


def _half_columns(of_a: bool) -> int:
    return PANEL if of_a else HALF_COLUMNS


def packing_parameters(plan: Plan, fmt: FloatFormat, keys: Keys, of_a: bool) -> Parameters:
    """The packing parameters of one operand, see `pack.SIDE`."""
    return _packing_parameters(plan, fmt, keys if plan.draws else _NO_KEYS, of_a)


@functools.lru_cache(256)
def _packing_parameters(plan: Plan, fmt: FloatFormat, keys: Keys, of_a: bool) -> Parameters:
    numbers = np.zeros(1, pack.SIDE)
    numbers["decoder"] = tuple(pack.decoder(fmt.facts, plan.scale if of_a else 0))
    numbers["products"], numbers["length"] = plan.products, plan.chunk_length
    numbers["lowest"] = fmt.facts.emin
    if plan.window:
        place = plan.window.places[0 if of_a else 1]
        lowest = int(fmt.lowest == "subnormal") - fmt.bias - fmt.fraction_bits
        numbers["quantum"] = lowest + (plan.scale if of_a else 0)
        numbers["fraction_bits"] = fmt.fraction_bits
        numbers["half_place"], numbers["half_columns"] = place, _half_columns(of_a)
        numbers["half_most"] = np.ldexp(LARGEST, -place)
    of_side = plan.words(of_a)
    for part, words, key in zip(("steps", "chunks"), of_side, keys):
        if words is not None:
            numbers[part] = (1, *words, key)
    return numbers
