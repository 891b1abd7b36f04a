"""The one place where the machine hands tiles to the arithmetic units.

A `Sum` is the outputs of one tile in the making. There are two kinds, with the same bits: one for the
kernels of `hfp8sim.kernels`, where a plan says that they are right for the operands, and one for the
plain integer loop. A large tile may be split by rows among threads.
"""
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from hfp8sim import kernels
from hfp8sim.formats import FloatFormat
from hfp8sim.formats.vocabulary import is_stochastic
from hfp8sim.kernels import MACS_WORTH_THREADS, PANEL, Plan, Reused
from hfp8sim.machine import tiles
from hfp8sim.units.accumulator import (
    DRAWS,
    EVENT_KINDS,
    GemmFacts,
    gemm_facts,
    gemm_tile,
    start_lfsr,
)
from hfp8sim.units.profile import Profile
from hfp8sim.units.random import LFSR

Codes = NDArray[np.unsignedinteger[Any]]
Counts = NDArray[np.int64]
#: Bytes of packed values of A and B that wait to be multiplied.
_WAITING_BYTES = 1 << 23


@dataclasses.dataclass(frozen=True)
class Product:
    """The arithmetic of one GEMM: what its registers say, and the plan for its operands."""

    profile: Profile
    a: FloatFormat
    b: FloatFormat
    facts: GemmFacts
    plan: Plan
    depth: int

    @functools.cached_property
    def formats(self) -> tuple[FloatFormat, FloatFormat, FloatFormat]:
        """Of A, of B, and of finished sums."""
        return self.a, self.b, self.profile.result_format

    @functools.cached_property
    def keys(self) -> tuple[kernels.Keys, kernels.Keys]:
        """Of the random words of rows and of columns."""
        facts = self.facts
        return (
            (facts.row_key, facts.between_row_key),
            (facts.column_key, facts.between_column_key),
        )

    @functools.cached_property
    def draws(self) -> int:
        """Random words that one output takes."""
        facts, (steps, chunks) = self.facts, self.plan.steps(self.depth)
        joins = chunks if facts.chunk_length else 0
        return steps * is_stochastic(facts.mode) + joins * is_stochastic(facts.between)

    @staticmethod
    def make(
        profile: Profile,
        a: FloatFormat,
        b: FloatFormat,
        depth: int,
        seed: int,
        stream: int,
        plan: Plan,
    ) -> Product:
        """The product with its random keys."""
        return Product(profile, a, b, gemm_facts(profile, a, b, seed, stream), plan, depth)


class Plans:
    """Plans for the GEMMs of a program, made once each and shared by its cores.

    A plan holds for all that DRAM has to offer as operands. So there is none where operands may be
    something else: `overwritten` says that the program does such things.
    """

    def __init__(self, count: bool, overwritten: bool) -> None:
        self._count, self._overwritten, self._lock = count, overwritten, threading.Lock()
        self._made: dict[object, Plan] = {}

    def get(
        self, key: object, profile: Profile, a: FloatFormat, b: FloatFormat, depth: int,
        operands: Callable[[], tuple[Codes, Codes] | None],
    ) -> Plan:  # fmt: skip
        """The plan known by `key`. `operands` gives all codes that A and B may come from, or None where
        they may change on the way; it is called the first time only."""
        with self._lock:
            if key not in self._made:
                found = None if self._overwritten else operands()
                if found is None:
                    self._made[key] = Plan(None, "an operand is overwritten on the way")
                else:
                    scans = kernels.scan(found[0], a), kernels.scan(found[1], b)
                    self._made[key] = kernels.plan(profile, a, b, *scans, depth, self._count)
            return self._made[key]


class CoreState(NamedTuple):
    """What of a core a tile is computed from, as its compiled loop has it."""

    regs: NDArray[np.int64]
    boxes: NDArray[np.int64]
    op: NDArray[np.int64]
    scratchpad: NDArray[np.uint8]
    row_bytes: int


class Tile(NamedTuple):
    """A range of the GEMM and its operands."""

    group: int
    m: tuple[int, int]  #: first and count
    n: tuple[int, int]
    k: tuple[int, int]
    a: Callable[[int, int], Codes]  #: codes of rows [first, stop) of A's tile, (rows, kt)
    b: Callable[[], Codes]  #: codes (kt, nt)
    core: CoreState


class Sum(Protocol):
    """The outputs of one tile of C in the making."""

    def add(self, tile: Tile) -> None:
        """Add the products of one range of k; ranges come in order."""

    def codes(self, results: Codes) -> None:
        """Fill in the results, (mt, nt)."""

    @property
    def events(self) -> Counts:
        """What was counted so far."""


class Sums:
    """Starts the sums of tiles: with as many threads of the pool as there are memories where that pays."""

    def __init__(self, pool: ThreadPoolExecutor | None) -> None:
        self.pool = pool
        self._fast: dict[int, FastSum] = {}  # by the part of a tile: they do for many tiles

    def start(self, product: Product, tile: Tile, memories: list[Reused]) -> Sum:
        """The sums of a tile of outputs, all +0. What was started before is gone."""
        rows, work = tile.m[1], tile.m[1] * tile.n[1] * product.depth
        if self.pool is None or work < MACS_WORTH_THREADS:
            return self._part(product, tile, 0, (0, rows), memories[0])
        step = -(-rows // (len(memories) * PANEL)) * PANEL
        ranges = [(first, min(first + step, rows)) for first in range(0, rows, step)]
        parts = [
            self._part(product, tile, number, each, memory)
            for number, (each, memory) in enumerate(zip(ranges, memories))
        ]
        return _SplitSum(parts, ranges, self.pool) if len(parts) > 1 else parts[0]

    def _part(
        self, product: Product, tile: Tile, number: int, rows: tuple[int, int], memory: Reused
    ) -> Sum:
        """Rows [first, stop) of the sums of a tile."""
        if product.plan.kernel is None or product.depth == 0:
            return _PlainSum(product, tile, *rows)
        found = self._fast.get(number)
        if found is None or not found.fits(product, tile, rows):
            found = self._fast[number] = FastSum(product, tile, rows, memory)
        found.begin(product, tile, rows)
        return found


class _SplitSum:
    """Ranges of rows, each on a thread."""

    def __init__(
        self, parts: list[Sum], ranges: list[tuple[int, int]], pool: ThreadPoolExecutor
    ) -> None:
        self.parts, self.ranges, self.pool = parts, ranges, pool

    def add(self, tile: Tile) -> None:
        list(self.pool.map(lambda part: part.add(tile), self.parts))

    def codes(self, results: Codes) -> None:
        for part, (first, stop) in zip(self.parts, self.ranges):
            part.codes(results[first:stop])

    @property
    def events(self) -> Counts:
        return sum((part.events for part in self.parts), no_events())


class _PlainSum:
    """Rows [first, stop) of a tile by the plain integer loop."""

    def __init__(self, product: Product, tile: Tile, first: int, stop: int) -> None:
        self.product, self.first, self.stop = product, first, stop
        self.events = no_events()
        shape = stop - first, tile.n[1]
        self.chunk, self.total = np.zeros(shape, np.uint32), np.zeros(shape, np.uint32)
        self.lfsr = np.zeros((1, 1), np.uint64)
        if product.facts.source == LFSR:
            self.lfsr = np.zeros(shape, np.uint64)
            start_lfsr(self.lfsr, tile.m[0] + first, tile.n[0], product.facts)

    def add(self, tile: Tile) -> None:
        a = np.ascontiguousarray(tile.a(self.first, self.stop))
        gemm_tile(
            a, np.ascontiguousarray(tile.b()), self.chunk, self.total, self.lfsr,
            tile.m[0] + self.first, tile.n[0], tile.k[0],
            self.product.depth, self.product.facts, self.events,
        )  # fmt: skip

    def codes(self, results: Codes) -> None:
        results[:] = self.total if self.product.profile.chunk_length else self.chunk


class FastSum:
    """Rows of tiles by the kernels: a stream, in the record that `machine.tiles` works with."""

    def __init__(self, product: Product, tile: Tile, rows: tuple[int, int], memory: Reused) -> None:
        self.product, plan = product, product.plan
        count, columns = rows[1] - rows[0], tile.n[1]
        lanes = PANEL * (kernels.count_panels(count) + kernels.count_panels(columns))
        max_k = min(max(_WAITING_BYTES // (plan.lane_bytes * lanes), tile.k[1]), product.depth)
        #: One record, see `tiles.TILES`.
        self.table = np.zeros(1, tiles.TILES)
        self.stream = kernels.Stream(
            plan, product.formats, product.keys, count, columns, product.depth,
            max_k=max_k, memory=memory, table=self.table["stream"],
        )  # fmt: skip
        self.spare = memory.array("spare", (0,), np.uint8)
        self.memory, self.max_shape = memory, (count, columns, max_k)
        self.table["result_bytes"] = product.profile.result_format.dtype.itemsize

    def fits(self, product: Product, tile: Tile, rows: tuple[int, int]) -> bool:
        """Whether this object can compute a tile."""
        own, shape = self.product, (rows[1] - rows[0], tile.n[1], tile.k[1])
        return (
            own.plan is product.plan and own.depth == product.depth and own.profile == product.profile
            and own.formats == product.formats
            and all(wanted <= most for wanted, most in zip(shape, self.max_shape))
        )  # fmt: skip

    def begin(self, product: Product, tile: Tile, rows: tuple[int, int]) -> None:
        """Begin the sums of a tile that fits."""
        if self.product is not product:
            self.stream.forget_packed()
        self.product, table = product, self.table
        table["group"] = tile.group if product.plan.draws else tiles.ANY
        table["part"] = rows
        self.rows = rows
        self.stream.set_keys(product.keys)
        self.shape = rows[1] - rows[0], tile.n[1]
        self.stream.counts.fill(0)

    def take_whole_tiles(self) -> None:
        """From here on compute all rows of a tile, however many they are."""
        self.rows = 0, 1 << 62
        self.table["part"] = self.rows

    @property
    def events(self) -> Counts:
        events = no_events()
        events[: kernels.EVENTS] = self.stream.counts
        events[DRAWS] = self.shape[0] * self.shape[1] * self.product.draws
        return events

    def add(self, tile: Tile) -> None:
        core = tile.core
        need = tiles.spare_bytes(core.boxes, core.op, core.regs)
        if need > self.spare.size:
            self.spare = self.memory.array("spare", (need,), np.uint8)
        tiles.multiply_tile(
            self.table, core.regs, core.boxes, core.op, core.scratchpad, core.row_bytes, self.spare
        )
        if self.product.plan.counts_zero_sums:
            a, b = tile.a(*self.rows), tile.b().T
            self.stream.counts[kernels.SWAMPED] -= kernels.zero_steps(
                self.product.plan, a, b, tile.k[0]
            )

    def codes(self, results: Codes) -> None:
        self.stream.codes(results)


def no_events() -> Counts:
    """Event counts at the start."""
    return np.zeros(EVENT_KINDS, np.int64)


def count_gated(product: Product, tile: Tile) -> int:
    """Multiply-accumulates of a tile with a zero operand: from how many elements of A and of B are not
    zero, for each k."""
    a = kernels.nonzero(tile.a(0, tile.m[1]), product.a)
    b = kernels.nonzero(tile.b().T, product.b)
    return tile.m[1] * tile.n[1] * tile.k[1] - int(np.dot(a, b))
