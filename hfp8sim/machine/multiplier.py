"""The machine's matrix tiles: which path computes them, and on how many threads.

A `Sum` holds the outputs of one tile while ranges of k are added to them. There are two kinds with the same
bits: `FastSum` by a stream of `hfp8sim.kernels`, where a plan proves it right for the operands, and
`_PlainSum` by the plain integer loop. A large tile is split by rows among threads.
"""
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from hfp8sim import kernels
from hfp8sim.formats import FloatFormat
from hfp8sim.kernels import MACS_WORTH_THREADS, PANEL, Plan, Reused
from hfp8sim.kernels.form import Counting
from hfp8sim.machine import tiles
from hfp8sim.ops import PlainTile, no_counts
from hfp8sim.units.accumulator import DRAWS, GemmFacts, gemm_facts
from hfp8sim.units.profile import Profile

Codes = NDArray[np.unsignedinteger[Any]]
Counts = NDArray[np.int64]
#: Bytes of packed values of A and B that a stream holds at most.
_STREAM_BYTES = kernels.BLOCKING.stream_bytes
#: Multiply-accumulates of a GEMM below which kernels that leave out zeros are not compiled.
_LEAST_MACS = 1 << 23
#: Elements of A in which zeros are counted before.
_SAMPLE = 4096


@dataclasses.dataclass(frozen=True)
class Product:
    """The arithmetic of one GEMM: what the registers configure, and the plan for its operands."""

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
    def draws(self) -> int:
        """Random words that one output takes."""
        return self.profile.draws(self.depth)

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
    """Plans for the GEMMs of a program, shared by its cores.

    A plan is proved for all codes that the operands' ranges of DRAM hold when the first tile of the GEMM is
    computed. If an operand may differ from those codes, its GEMM goes through the plain loop.

    Args:
        count: events are counted.
        stale_operands: see `check.Findings`.
    """

    def __init__(self, count: bool, stale_operands: bool) -> None:
        self._count, self._stale_operands, self._lock = count, stale_operands, threading.Lock()
        self._plans: dict[object, Plan] = {}

    def get(
        self, key: object, profile: Profile, a: FloatFormat, b: FloatFormat, depth: int,
        operands: Callable[[], tuple[Codes, Codes] | None],
    ) -> Plan:  # fmt: skip
        """The plan of a key, made at the first call.

        Args:
            operands: returns all codes that A and B may come from, or None if the GEMM's own results may
                overwrite them.
        """
        with self._lock:
            if key not in self._plans:
                codes = None if self._stale_operands else operands()
                if codes is None:
                    self._plans[key] = Plan(None, "an operand is overwritten on the way")
                else:
                    scans = kernels.scan(codes[0], a), kernels.scan(codes[1], b)
                    plan = kernels.plan(profile, a, b, *scans, depth, self._count)
                    if _leaves_out_zeros(codes, a, depth):
                        plan = plan.leaving_out_zeros
                    self._plans[key] = plan
            return self._plans[key]


def _leaves_out_zeros(codes: tuple[Codes, Codes], fmt: FloatFormat, depth: int) -> bool:
    """Whether kernels that leave out zeros of A are worth their compilation.

    Args:
        codes: of A, in any order, and of B.
        fmt: of A.
        depth: K.
    """
    a, b = codes
    if a.size * b.size < _LEAST_MACS * max(depth, 1):
        return False
    some = a.reshape(-1)[:: max(a.size // _SAMPLE, 1)]
    return int(kernels.nonzero(some[:, None], fmt)[0]) <= kernels.LARGEST_SHARE * some.size


class CoreState(NamedTuple):
    """The state of a core from which compiled code reads a tile's operands."""

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
    """The outputs of one tile of C, to which ranges of k are added."""

    def add(self, tile: Tile) -> None:
        """Add the products of one range of k. Ranges come in order."""

    def codes(self, results: Codes) -> None:
        """Write the results, (mt, nt)."""

    @property
    def counts_tiles(self) -> bool:
        """Whether `add` counts events and gated multiply-accumulates: `Sums.counts` has them."""

    @property
    def events(self) -> Counts:
        """Counts of events so far, by `units.accumulator.EVENT_KINDS`, unless it `counts_tiles`."""


class Sums:
    """Starts the sums of tiles, split by rows among threads where that pays."""

    def __init__(self) -> None:
        self._fast: dict[
            int, FastSum
        ] = {}  # by the number of a tile's part; each serves many tiles

    def start(self, product: Product, tile: Tile, memories: list[Reused]) -> Sum:
        """The sums of a tile of outputs, all +0. This ends the use of those started before.

        Args:
            memories: one for each thread that may work on the tile.
        """
        rows, work = tile.m[1], tile.m[1] * tile.n[1] * product.depth
        if len(memories) == 1 or work < MACS_WORTH_THREADS:
            return self._part(product, tile, 0, (0, rows), memories[0])
        step = -(-rows // (len(memories) * PANEL)) * PANEL
        ranges = [(first, min(first + step, rows)) for first in range(0, rows, step)]
        parts = [
            self._part(product, tile, number, each, memory)
            for number, (each, memory) in enumerate(zip(ranges, memories))
        ]
        return _SplitSum(parts, ranges) if len(parts) > 1 else parts[0]

    def _part(
        self, product: Product, tile: Tile, number: int, rows: tuple[int, int], memory: Reused
    ) -> Sum:
        """Rows [first, stop) of the sums of a tile."""
        if product.plan.kernel is None or product.depth == 0:
            return _PlainSum(product, tile, *rows)
        sums = last = self._fast.get(number)
        if sums is None or not sums.fits(product, tile, rows):
            sums = self._fast[number] = FastSum(product, tile, rows, memory)
            if last is not None:
                sums.table["counts"] = last.table["counts"]
        sums.begin(product, tile, rows)
        return sums

    def counts(self) -> tuple[Counts, int]:
        """What sums that count tiles have counted: events, and gated multiply-accumulates."""
        counts = [sums.table["counts"] for sums in self._fast.values()]
        events = sum((each["events"][0] for each in counts), no_counts())
        return events, sum(int(each["gated"][0]) for each in counts)


class _SplitSum:
    """Ranges of rows, each computed by one thread at a time."""

    def __init__(self, parts: list[Sum], ranges: list[tuple[int, int]]) -> None:
        self.parts, self.ranges = parts, ranges

    def add(self, tile: Tile) -> None:
        kernels.share(lambda part: part.add(tile), self.parts, len(self.parts))

    def codes(self, results: Codes) -> None:
        for part, (first, stop) in zip(self.parts, self.ranges):
            part.codes(results[first:stop])

    @property
    def counts_tiles(self) -> bool:
        return self.parts[0].counts_tiles

    @property
    def events(self) -> Counts:
        return sum((part.events for part in self.parts), no_counts())


class _PlainSum:
    """Rows [first, stop) of a tile by the plain integer loop."""

    counts_tiles = False

    def __init__(self, product: Product, tile: Tile, first: int, stop: int) -> None:
        self.first, self.stop = first, stop
        shape, place = (stop - first, tile.n[1]), (tile.m[0] + first, tile.n[0])
        self.sums = PlainTile(product.facts, product.depth, shape, *place)

    def add(self, tile: Tile) -> None:
        self.sums.add(tile.a(self.first, self.stop), tile.b(), tile.k[0])

    def codes(self, results: Codes) -> None:
        self.sums.codes(results)

    @property
    def events(self) -> Counts:
        return self.sums.events


class FastSum:
    """Rows of tiles by the kernels: a stream, in the record that `machine.tiles` works with."""

    def __init__(self, product: Product, tile: Tile, rows: tuple[int, int], memory: Reused) -> None:
        self.product, plan = product, product.plan
        count, columns = rows[1] - rows[0], tile.n[1]
        lanes = PANEL * (kernels.count_panels(count) + kernels.count_panels(columns))
        max_k = min(max(_STREAM_BYTES // (plan.lane_bytes * lanes), tile.k[1]), product.depth)
        #: One record, see `tiles.TILES`.
        self.table = np.zeros(1, tiles.TILES)
        self.stream = kernels.Stream(
            plan, product.formats, product.facts.keys, count, columns, product.depth,
            max_k=max_k, memory=memory, table=self.table["stream"],
        )  # fmt: skip
        self.spare = memory.array("spare", (0,), np.uint8)
        self.memory, self.max_shape = memory, (count, columns, max_k)
        self.table["result_bytes"] = product.profile.result_format.dtype.itemsize
        self._describe_counts()

    def _describe_counts(self) -> None:
        """Let compiled code count, unless steps that add zero have slope ids."""
        plan, stream, table = self.product.plan, self.stream, self.table
        assert plan.kernel is not None
        self.counts_tiles = plan.kernel.counting is not Counting.NONE and plan.slope_ids is None
        depths = (panels.values.shape[1] for panels in (stream.a, stream.b))
        self._nonzero = tuple(np.zeros(depth, np.int64) for depth in depths)
        table["nonzero_a"], table["nonzero_b"] = (each.ctypes.data for each in self._nonzero)
        table["counts_tiles"], table["counts_zero_steps"] = self.counts_tiles, plan.counts_zero_sums
        table["draws"], table["lane_bytes"] = self.product.draws, stream.a.values.itemsize

    def fits(self, product: Product, tile: Tile, rows: tuple[int, int]) -> bool:
        """Whether this object can compute a tile."""
        own, shape = self.product, (rows[1] - rows[0], tile.n[1], tile.k[1])
        return (
            own.plan is product.plan and own.depth == product.depth and own.profile == product.profile
            and own.formats == product.formats
            and all(size <= most for size, most in zip(shape, self.max_shape))
        )  # fmt: skip

    def begin(self, product: Product, tile: Tile, rows: tuple[int, int]) -> None:
        """Begin the sums of a tile that fits."""
        if self.product is not product:
            self.stream.forget_packed()
        self.product, table = product, self.table
        table["group"] = tile.group if product.plan.draws else tiles.ANY
        table["part"] = rows
        self.rows = rows
        self.stream.set_keys(product.facts.keys)
        self.shape = rows[1] - rows[0], tile.n[1]

    def take_whole_tiles(self) -> None:
        """From here on compute all rows of a tile, however many they are."""
        self.rows = 0, 1 << 62
        self.table["part"] = self.rows

    @property
    def events(self) -> Counts:
        events = no_counts()
        events[: kernels.EVENTS] = self.stream.counts
        events[DRAWS] = self.shape[0] * self.shape[1] * self.product.draws
        return events

    def add(self, tile: Tile) -> None:
        core = tile.core
        operands = self.table, core.regs, core.boxes, core.op, core.scratchpad, core.row_bytes
        if bytes_needed := tiles.multiply_tile(*operands, self.spare):
            self.spare = self.memory.array("spare", (int(bytes_needed),), np.uint8)
            tiles.multiply_tile(*operands, self.spare)
        if self.product.plan.counts_zero_sums and not self.counts_tiles:
            a, b = tile.a(*self.rows), tile.b().T
            self.stream.counts[kernels.SWAMPED] -= kernels.zero_steps(
                self.product.plan, a, b, tile.k[0]
            )

    def codes(self, results: Codes) -> None:
        self.stream.codes(results)


def count_gated(product: Product, tile: Tile) -> int:
    """Multiply-accumulates of a tile with a zero operand: from how many elements of A and of B are not
    zero, for each k."""
    a = kernels.nonzero(tile.a(0, tile.m[1]), product.a)
    b = kernels.nonzero(tile.b().T, product.b)
    return tile.m[1] * tile.n[1] * tile.k[1] - int(np.dot(a, b))
