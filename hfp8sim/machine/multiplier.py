"""The one place where the machine hands tiles to the arithmetic units.

A `Sum` is the outputs of one tile in the making. There are two kinds, with the same bits: one for the
kernels of `units.mac_array`, where a plan says that they are right for the operands, and one for the
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

from hfp8sim.formats import FloatFormat
from hfp8sim.formats.record import Facts
from hfp8sim.formats.rounding import STOCHASTIC_A
from hfp8sim.units import mac_array
from hfp8sim.units.accumulator import (
    DRAWS,
    EVENT_KINDS,
    GemmFacts,
    gemm_facts,
    gemm_tile,
    start_lfsr,
)
from hfp8sim.units.mac_array import PANEL, Fresh, Plan, Reused, State
from hfp8sim.units.profile import Profile
from hfp8sim.units.random import LFSR

Codes = NDArray[np.unsignedinteger[Any]]
Counts = NDArray[np.int64]
#: Makes something of an operand, in the memory that is given.
Make = Callable[[Fresh], Any]

#: Multiply-accumulates of a tile below which a second thread costs more than it gives.
_WORTH_THREADS = 1 << 22
#: Bytes that a core keeps of each operand, made into panels.
_KEPT_BYTES = 1 << 25


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
    def results(self) -> Facts:
        """The format of finished sums."""
        return self.profile.result_format.facts

    @functools.cached_property
    def draws(self) -> int:
        """Random words that one output takes."""
        facts, (steps, chunks) = self.facts, self.plan.steps(self.depth)
        joins = chunks if facts.chunk_length else 0
        return steps * (facts.mode >= STOCHASTIC_A) + joins * (facts.between >= STOCHASTIC_A)

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
                    scans = mac_array.scan(found[0], a), mac_array.scan(found[1], b)
                    self._made[key] = mac_array.plan(profile, a, b, *scans, depth, self._count)
            return self._made[key]


class Kept:
    """What was made of operands, by their place in the GEMM.

    All of it is kept until the port is loaded again, and its memory then used for what comes next; what is
    made a second time stays for longer, as far as there is room.
    """

    def __init__(self) -> None:
        self._things: dict[object, Any] = {}
        self._made: set[object] = set()
        self._lasting: dict[object, Any] = {}
        self._memories: list[Reused] = []  # of the things, one by one
        self._room, self._load, self._lock = _KEPT_BYTES, -1, threading.Lock()

    def get(self, load: int, key: object, make: Make) -> Any:
        """The thing known by `key`, made if it is not known (any more), at load number `load`."""
        with self._lock:
            if load != self._load:
                self._things.clear()
                self._load = load
            thing = self._things.get(key)
            if thing is None:
                thing = self._lasting.get(key)
                thing = self._things[key] = self._make(key, make) if thing is None else thing
            return thing

    def _make(self, key: object, make: Make) -> Any:
        number = len(self._things)
        while number >= len(self._memories):
            self._memories.append(Reused())
        thing = make(self._memories[number])
        if key in self._made and self._keep(key, thing):
            self._memories[number] = Reused()
        self._made.add(key)
        return thing

    def _keep(self, key: object, thing: Any) -> bool:
        parts = thing if isinstance(thing, tuple) else (thing,)
        size = sum(part.nbytes for part in parts)
        if size > self._room:
            return False
        self._lasting[key] = thing
        self._room -= size
        return True


class Tile(NamedTuple):
    """A range of the GEMM and its operands."""

    m: tuple[int, int]  #: first and count
    n: tuple[int, int]
    k: tuple[int, int]
    a: Callable[[int, int], Codes]  #: codes of rows [first, stop) of A's tile, (rows, kt)
    b: Callable[[], Codes]  #: codes (kt, nt)
    keep_a: Callable[[object, Make], Any]  #: `Kept.get` for what is made of A …
    keep_b: Callable[[object, Make], Any]  #: … and of B


class Sum(Protocol):
    """The outputs of one tile of C in the making."""

    def add(self, tile: Tile) -> None:
        """Add the products of one range of k; ranges come in order."""

    def codes(self, results: Codes) -> None:
        """Fill in the results, (mt, nt)."""

    @property
    def events(self) -> Counts:
        """What was counted so far."""


def start(
    product: Product, tile: Tile, pool: ThreadPoolExecutor | None, memories: list[Reused]
) -> Sum:
    """The sums of a tile of outputs, all +0.

    Where there is work for them, as many threads of the pool as there are memories work at it. What was
    started with the same memories before is gone.
    """
    rows, work = tile.m[1], tile.m[1] * tile.n[1] * product.depth
    if pool is None or work < _WORTH_THREADS:
        return _part(product, tile, 0, rows, memories[0])
    step = -(-rows // (len(memories) * PANEL)) * PANEL
    ranges = [(first, min(first + step, rows)) for first in range(0, rows, step)]
    parts = [_part(product, tile, *each, memory) for each, memory in zip(ranges, memories)]
    return _SplitSum(parts, ranges, pool)


def _part(product: Product, tile: Tile, first: int, stop: int, memory: Reused) -> Sum:
    """Rows [first, stop) of the sums of a tile."""
    if product.plan.kernel is None or product.depth == 0:
        return _PlainSum(product, tile, first, stop)
    return _FastSum(product, tile, first, stop, memory)


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


class _FastSum:
    """Rows [first, stop) of a tile, in the vector kernels' own form."""

    def __init__(self, product: Product, tile: Tile, first: int, stop: int, memory: Reused) -> None:
        self.product, self.first, self.stop, self.memory = product, first, stop, memory
        self.shape = stop - first, tile.n[1]
        self.state: State | None = None
        self.counts: Counts = np.zeros(mac_array.EVENTS, np.int64)

    @property
    def events(self) -> Counts:
        events = no_events()
        events[: mac_array.EVENTS] = self.counts
        events[DRAWS] = self.shape[0] * self.shape[1] * self.product.draws
        return events

    def add(self, tile: Tile) -> None:
        product, plan, facts = self.product, self.product.plan, self.product.facts
        k0, last = tile.k[0], sum(tile.k) == product.depth
        if self.state is None:
            self.state = mac_array.start(plan, *self.shape, whole=last, memory=self.memory)
        a = tile.keep_a(
            ("panels", self.first),
            lambda memory: mac_array.panels(
                plan, tile.a(self.first, self.stop), product.a,
                (facts.row_key, facts.between_row_key),
                of_a=True, first=tile.m[0] + self.first, k0=k0, memory=memory,
            ),
        )  # fmt: skip
        b = tile.keep_b(
            "panels",
            lambda memory: mac_array.panels(
                plan, tile.b().T, product.b, (facts.column_key, facts.between_column_key),
                of_a=False, first=tile.n[0], k0=k0, memory=memory,
            ),
        )  # fmt: skip
        self.counts += mac_array.accumulate(plan, a, b, self.state, k0=k0, last=last)

    def codes(self, results: Codes) -> None:
        assert self.state is not None
        product = self.product
        mac_array.encode(self.state.total, product.results, product.plan.scale, results)


def no_events() -> Counts:
    """Event counts at the start."""
    return np.zeros(EVENT_KINDS, np.int64)


def count_gated(product: Product, tile: Tile) -> int:
    """Multiply-accumulates of a tile with a zero operand: from how many elements of A and of B are not
    zero, for each k."""
    a = tile.keep_a("nonzero", lambda memory: _nonzero(tile.a(0, tile.m[1]), product.a))
    b = tile.keep_b("nonzero", lambda memory: _nonzero(tile.b().T, product.b))
    return tile.m[1] * tile.n[1] * tile.k[1] - int(np.dot(a, b))


def _nonzero(codes: Codes, fmt: FloatFormat) -> Counts:
    """How many codes (rows, k) are not zero, by k."""
    facts, kind = fmt.facts, codes.dtype.type
    magnitudes = codes & kind((1 << (fmt.exponent_bits + fmt.fraction_bits)) - 1)
    odd = codes == kind(facts.nan_code) if facts.nan_code >= 0 else False
    return np.asarray(np.count_nonzero((magnitudes >= kind(facts.min_mag)) | odd, axis=0))
