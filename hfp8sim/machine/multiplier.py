"""The one place where the machine hands tiles to the arithmetic units.

A `Sum` is the outputs of one tile in the making. There are two kinds, with the same bits: one for the
kernels of `units.mac_array`, where a plan says that they are right for the operands, and one for the
plain integer loop.
"""
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hfp8sim.formats import FloatFormat
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
from hfp8sim.units.mac_array import Panels, Plan, State
from hfp8sim.units.profile import Profile
from hfp8sim.units.random import LFSR

Codes = NDArray[np.unsignedinteger[Any]]
Fetch = Callable[[], Codes]


@dataclasses.dataclass(frozen=True)
class Product:
    """The arithmetic of one GEMM: what its registers say, and the plan for its operands."""

    profile: Profile
    a: FloatFormat
    b: FloatFormat
    facts: GemmFacts
    plan: Plan
    depth: int

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
    """Plans for the GEMMs of a program, made once each and shared by its cores."""

    def __init__(self, count: bool) -> None:
        self._count, self._lock = count, threading.Lock()
        self._made: dict[object, Plan] = {}

    def get(
        self, key: object, profile: Profile, a: FloatFormat, b: FloatFormat, depth: int,
        operands: Callable[[], tuple[Codes, Codes] | None],
    ) -> Plan:  # fmt: skip
        """The plan known by `key`. `operands` gives all codes that A and B may come from, or None where
        they may change on the way; it is called the first time only."""
        with self._lock:
            if key not in self._made:
                found = operands()
                if found is None:
                    self._made[key] = Plan(None, "an operand is overwritten on the way")
                else:
                    scans = mac_array.scan(found[0], a), mac_array.scan(found[1], b)
                    self._made[key] = mac_array.plan(profile, a, b, *scans, depth, self._count)
            return self._made[key]


class PanelCache:
    """The operands of recent tiles, as panels: kept until their port is loaded again."""

    def __init__(self) -> None:
        self._panels: dict[object, Panels] = {}
        self._load = -1

    def get(self, load: int, key: object, make: Callable[[], Panels]) -> Panels:
        """The panels known by `key` since load number `load` of the port."""
        if load != self._load:
            self._panels.clear()
            self._load = load
        if key not in self._panels:
            self._panels[key] = make()
        return self._panels[key]


@dataclasses.dataclass
class Tile:
    """A range of the GEMM, with its operands: codes on demand, panels from a cache."""

    m0: int
    n0: int
    k0: int
    a: Fetch  #: codes (mt, kt), of any strides
    b: Fetch  #: codes (kt, nt)
    a_panels: Callable[[Callable[[], Panels]], Panels]
    b_panels: Callable[[Callable[[], Panels]], Panels]
    last: bool  #: k ends with this tile


class Sum(Protocol):
    """The outputs of one tile of C in the making."""

    def add(self, tile: Tile) -> None:
        """Add the products of one range of k; ranges come in order."""

    def codes(self, results: Codes) -> None:
        """Fill in the results, (mt, nt)."""


def start(
    product: Product, shape: tuple[int, int], place: tuple[int, int], events: NDArray[np.int64]
) -> Sum:
    """The sums of a tile of outputs at (m, n) = `place`, all +0; `events` is added to."""
    if product.plan.kernel is None or product.depth == 0:
        return _PlainSum(product, shape, place, events)
    return _FastSum(product, shape, events)


class _PlainSum:
    """Sums by the plain integer loop."""

    def __init__(
        self,
        product: Product,
        shape: tuple[int, int],
        place: tuple[int, int],
        events: NDArray[np.int64],
    ) -> None:
        self.product, self.events = product, events
        self.chunk, self.total = np.zeros(shape, np.uint32), np.zeros(shape, np.uint32)
        self.lfsr = np.zeros((1, 1), np.uint64)
        if product.facts.source == LFSR:
            self.lfsr = np.zeros(shape, np.uint64)
            start_lfsr(self.lfsr, *place, product.facts)

    def add(self, tile: Tile) -> None:
        a, b = np.ascontiguousarray(tile.a()), np.ascontiguousarray(tile.b())
        gemm_tile(
            a, b, self.chunk, self.total, self.lfsr, tile.m0, tile.n0, tile.k0,
            self.product.depth, self.product.facts, self.events,
        )  # fmt: skip

    def codes(self, results: Codes) -> None:
        results[:] = self.total if self.product.profile.chunk_length else self.chunk


class _FastSum:
    """Sums in the vector kernels' own form."""

    def __init__(self, product: Product, shape: tuple[int, int], events: NDArray[np.int64]) -> None:
        self.product, self.shape, self.events = product, shape, events
        self.state: State | None = None
        steps, chunks = product.plan.steps(product.depth)
        facts = product.facts
        joins = chunks if facts.chunk_length else 0
        draws = steps * (facts.mode >= STOCHASTIC_A) + joins * (facts.between >= STOCHASTIC_A)
        events[DRAWS] += shape[0] * shape[1] * draws

    def add(self, tile: Tile) -> None:
        product, plan, facts = self.product, self.product.plan, self.product.facts
        if self.state is None:
            self.state = mac_array.start(plan, *self.shape, whole=tile.last)
        a = tile.a_panels(
            lambda: mac_array.panels(
                plan, tile.a(), product.a, (facts.row_key, facts.between_row_key),
                of_a=True, first=tile.m0, k0=tile.k0,
            )
        )  # fmt: skip
        b = tile.b_panels(
            lambda: mac_array.panels(
                plan, tile.b().T, product.b, (facts.column_key, facts.between_column_key),
                of_a=False, first=tile.n0, k0=tile.k0,
            )
        )  # fmt: skip
        counts = mac_array.accumulate(plan, a, b, self.state, k0=tile.k0, last=tile.last)
        self.events[: mac_array.EVENTS] += counts

    def codes(self, results: Codes) -> None:
        assert self.state is not None
        fmt = self.product.profile.result_format
        mac_array.encode(self.state.total, fmt.facts, self.product.plan.scale, results)


def no_events() -> NDArray[np.int64]:
    """Event counts at the start."""
    return np.zeros(EVENT_KINDS, np.int64)
