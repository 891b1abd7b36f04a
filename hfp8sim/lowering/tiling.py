"""The loop nest: a GEMM is cut into tiles that fit a machine, so that the estimated time is least.

For each group the nest is

    outer (i or j) { inner (j or i) { clear · k { load · multiply } · post · store } }

Counter i selects rows of A, j columns of B. The operand that the outer counter selects is loaded either
once for each outer step, for all of k, or with every tile. The other operand is loaded either once for
the whole group, or with every tile. All combinations with all candidate tile sizes form arrays, one
element per candidate. Those that fit are ranked by an estimate of their time: the longest of computing,
moving and finishing, plus what nothing can hide. docs/machine.md has the formulas.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfp8sim.errors import InputError
from hfp8sim.lowering.images import elements_of_cuts
from hfp8sim.lowering.splits import Split, check_split
from hfp8sim.machine.config import Machine
from hfp8sim.network import PhaseGemm

#: Cycles that the estimate charges for each instruction, so that the shorter of equal programs wins.
_CYCLES_PER_INSTRUCTION = 32

Numbers = NDArray[np.int64]
#: m, n and k of a tile.
Tile = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Buffer:
    """A region of the scratchpad or of the accumulators."""

    row: int  #: its first
    slot_rows: int  #: rows of a slot
    slots: int  #: 2: double buffering


@dataclasses.dataclass(frozen=True)
class Nest:
    """A chosen loop nest. Levels say where an operand is loaded: `group`, `outer` or `tile`."""

    tile: Tile
    counts: dict[str, int]  #: iterations of g, i, j and k
    outer: str  #: i or j
    levels: dict[str, str]  #: of operands a and b
    spread: str  #: the counters whose loops are distributed over cores
    grid: tuple[int, ...]  #: cores along g, i and j; empty: no grid
    a: Buffer
    b: Buffer
    c: Buffer
    d: Buffer  #: the bias vector; no rows where there is none
    acc: Buffer
    cycles: int  #: the estimate


@dataclasses.dataclass(frozen=True)
class Demand:
    """What tiling must respect beside the shapes: element sizes, and where k may be cut."""

    a_bytes: int  #: of an element
    b_bytes: int
    c_bytes: int
    d_bytes: int  #: 0: no bias
    operand_bits: int  #: of the wider operand
    chunk: int  #: products per chunk; 0: one chunk
    step: int  #: products per rounding; 0: all of a chunk

    @property
    def granule(self) -> int:
        """A tile may start at every multiple of so many k's; 0: k cannot be cut."""
        if self.chunk == 0:
            return self.step
        if self.step == 0 or self.chunk % self.step:
            return self.chunk
        return self.step


def choose(
    work: PhaseGemm,
    demand: Demand,
    machine: Machine,
    tile: Tile | None = None,
    split: Split | None = None,
) -> Nest:
    """The nest with the least estimated time; `InputError` with the reason, if none fits.

    A given `tile` is cut off at the matrices' edges and leaves only the choice of the loops. A `split` makes the
    cores a grid; without one they share the iterations of one loop.
    """
    if tile is not None:
        tile = _check_tile(tile, work, demand)
    if split is not None:
        check_split(split, work.gemm, machine)
    nest = _choose(work, demand, machine, tile, split)
    if isinstance(nest, str):
        raise InputError(f"does not fit machine {machine.name}: {nest}")
    return nest


def _check_tile(tile: Tile, work: PhaseGemm, demand: Demand) -> Tile:
    """A caller's tile, at most as large as the matrices; `InputError` if k may not be cut there."""
    extents = work.gemm.m, work.gemm.n, max(work.gemm.k, 1)
    if min(tile) < 1:
        raise InputError(f"tile {tile} must have positive sizes")
    m, n, k = (min(size, extent) for size, extent in zip(tile, extents))
    if k < extents[2] and (demand.granule == 0 or k % demand.granule):
        multiple = f"a multiple of {demand.granule}, or " if demand.granule else ""
        raise InputError(f"tile k is {k}, must be {multiple}{extents[2]}")
    return m, n, k


@functools.lru_cache(maxsize=1024)
def _choose(
    work: PhaseGemm, demand: Demand, machine: Machine, tile: Tile | None, split: Split | None
) -> Nest | str:
    """The nest, or in words why none fits."""
    for small in (False, True):
        candidates = _Candidates(work, demand, machine, tile, small, split)
        fitting = np.flatnonzero(candidates.fits)
        if fitting.size:
            return candidates.nest(int(fitting[np.argmin(candidates.cycles[fitting])]))
    return candidates.smallest()


# -- candidate sizes ---------------------------------------------------------------------------------


def sizes(extent: int, units: list[int], small: bool) -> list[int]:
    """Sizes worth trying for one dimension: all of it, even parts, doublings of natural units; and, for a
    `small` machine, parts of the smallest unit."""
    candidates = {extent}
    for unit in units:
        size = unit
        while size < extent:
            candidates.add(size)
            size *= 2
        parts = 2
        while parts <= 64 and extent >= unit * parts:
            candidates.add(-(-extent // (parts * unit)) * unit)
            parts *= 2
    least = min([extent, *units])
    while small and least > 1:
        least = -(-least // 2)
        candidates.add(least)
    return sorted(candidates)


def k_sizes(extent: int, granule: int, units: list[int], small: bool) -> list[int]:
    """Sizes for k: multiples of the granule, or all of it."""
    if granule == 0 or extent == 0:
        return [max(extent, 1)]
    rounded = {-(-size // granule) * granule for size in sizes(extent, units, small)}
    return [*sorted(size for size in rounded if size < extent), extent]


# -- all candidates at once ----------------------------------------------------------------------------


class _Candidates:
    """Every nest worth considering, one per element of the arrays.

    Arrays that begin with `a_`, `b_`, `c_`, `d_` are of the operands, the result and the bias. A *box* is
    what one LD brings of an operand; a *slot* is the room for it.
    """

    def __init__(
        self,
        work: PhaseGemm,
        demand: Demand,
        machine: Machine,
        tile: Tile | None,
        small: bool,
        split: Split | None = None,
    ) -> None:
        self.work, self.demand, self.machine, self.split = work, demand, machine, split
        self._enumerate(tile, small)
        self._measure_boxes()
        self._count_rows()
        self._estimate()

    def _enumerate(self, tile: Tile | None, small: bool) -> None:
        """All combinations of tile sizes, loop orders, levels and numbers of slots."""
        gemm, machine = self.work.gemm, self.machine
        tiles = self._tile_sizes(small) if tile is None else [[size] for size in tile]
        # Then: whether j is the outer counter; whether the operand of the outer counter, and the other
        # one, is loaded with every tile; slots of the buffers.
        axes = np.meshgrid(*tiles, (0, 1), (0, 1), (0, 1), (2, 1), indexing="ij")
        table = np.stack([axis.ravel() for axis in axes]).astype(np.int64)
        if tile is None:
            rows = -(-table[0] * table[1] // machine.array.columns)
            table = table[:, rows <= machine.accumulator_rows]
        self.mt, self.nt, self.kt, self.j_outer, outer_tile, inner_tile, self.slots = table
        a_tile = np.where(self.j_outer, inner_tile, outer_tile) == 1
        b_tile = np.where(self.j_outer, outer_tile, inner_tile) == 1
        self.a_level = np.where(a_tile, "tile", np.where(self.j_outer, "group", "outer"))
        self.b_level = np.where(b_tile, "tile", np.where(self.j_outer, "outer", "group"))
        self.ni, self.nj = -(-gemm.m // self.mt), -(-gemm.n // self.nt)
        self.nk = -(-max(gemm.k, 1) // self.kt)

    def _tile_sizes(self, small: bool) -> list[list[int]]:
        """Candidate sizes of m, n and k."""
        gemm, view = self.work.gemm, self.work.a
        split = self.split or Split()
        m, n = -(-gemm.m // split.m), -(-gemm.n // split.n)  # of a core's share
        columns = self.machine.array.columns
        m_units, k_units = [columns], [columns]
        if view.image is not None:
            grid, channels = view.image.grid, view.image.channels
            lines = [grid[1], grid[0] * grid[1]]
            taps = [channels, channels * view.image.kernel[1]]
            m_units, k_units = (taps, lines) if view.transposed else (lines, taps)
        return [
            sizes(m, m_units, small),
            sizes(n, [columns], small),
            k_sizes(gemm.k, self.demand.granule, k_units, small),
        ]

    # -- memory

    def _measure_boxes(self) -> None:
        """Elements of the largest box of each operand, and each operand's traffic in a group in bytes."""
        m, n, k = self.work.gemm.m, self.work.gemm.n, self.work.gemm.k
        a_tile, b_tile = self.a_level == "tile", self.b_level == "tile"
        m_box = np.where(self.a_level == "group", m, self.mt)
        self.a_box, a_once = self._a_boxes(m_box, np.where(a_tile, self.kt, k))
        self.a_traffic = a_once * np.where(a_tile, self.nj, 1) * self.demand.a_bytes
        n_box = np.where(self.b_level == "group", n, self.nt)
        self.b_box = n_box * self._b_depth(np.where(b_tile, self.kt, k))
        depth = self._b_depth(self.kt)
        steps = np.where(b_tile, -(-k // self.kt) if k else 0, 1)
        b_once = np.where(b_tile & (depth != self.kt), n * depth * steps, n * k)
        self.b_traffic = b_once * np.where(b_tile, self.ni, 1) * self.demand.b_bytes

    def _a_boxes(self, m_box: Numbers, k_box: Numbers) -> tuple[Numbers, Numbers]:
        """Elements of the largest box of A, and of all boxes of a group together, each once."""
        view, gemm = self.work.a, self.work.gemm
        if view.image is None:
            return m_box * k_box, np.full_like(m_box, gemm.m * gemm.k)
        rows, row_box, columns, column_box = gemm.m, m_box, gemm.k, k_box
        if view.transposed:
            rows, row_box, columns, column_box = gemm.k, k_box, gemm.m, m_box
        row_sizes, row = np.unique(row_box, return_inverse=True)
        column_sizes, column = np.unique(column_box, return_inverse=True)
        totals, largest = elements_of_cuts(
            view.image, rows, row_sizes.tolist(), columns, column_sizes.tolist()
        )
        return largest[row, column], totals[row, column]

    def _b_depth(self, k_box: Numbers) -> Numbers:
        """k's in a box of B: whole blocks where B is stored in blocks and the box crosses one."""
        block = self.work.b.block
        if block == 0 or not self.work.b.transposed:
            return k_box
        crosses = (k_box > block) | (block % np.maximum(k_box, 1) != 0)
        spanned = (-(-k_box // block) + (k_box % block != 0)) * block
        return np.where(crosses, np.minimum(spanned, max(self.work.gemm.k, 1)), k_box)

    def _count_rows(self) -> None:
        """Scratchpad and accumulator rows, and which candidates fit."""
        demand, outputs = self.demand, self.mt * self.nt
        # What is loaded once needs no second slot.
        once = "group" if self.work.gemm.groups == 1 else ""
        self.a_slots = np.where(self.a_level == once, 1, self.slots)
        self.b_slots = np.where(self.b_level == once, 1, self.slots)
        self.a_rows = self._rows(self.a_box, demand.a_bytes)
        self.b_rows = self._rows(self.b_box, demand.b_bytes)
        self.c_rows = self._rows(outputs, demand.c_bytes)
        self.d_rows = self._rows(np.full_like(self.mt, self.work.gemm.n), demand.d_bytes)
        operand_rows = self.a_rows * self.a_slots + self.b_rows * self.b_slots
        self.rows = operand_rows + self.c_rows * self.slots + self.d_rows
        self.acc_slot = self._rows(outputs, 1)
        self.acc_rows = self.acc_slot * self.slots
        self.fits = (self.rows <= self.machine.scratchpad_rows) & (
            self.acc_rows <= self.machine.accumulator_rows
        )

    def _rows(self, elements: Numbers, size: int) -> Numbers:
        """Scratchpad rows for so many elements of `size` bytes."""
        return -(-elements * size // self.machine.array.columns)

    # -- time

    def _estimate(self) -> None:
        """Estimated cycles, and the loop to distribute over cores if they are no grid: the best such loop."""
        if self.split is not None:
            ends = self._first_load(self.split), self._last_store(math.prod(self.split))
            self.cycles = self._cycles(*self._grid_distribution(self.split), *ends)
            return
        shares, traffic, order = self._distribution()
        cycles = self._cycles(shares, traffic, self._first_load(None), self._last_store(1))
        estimate = np.take_along_axis(cycles, order, 0)
        best = np.argmin(estimate, axis=0)[None]
        self.spread = np.take_along_axis(order, best, 0)[0]
        self.cycles = np.take_along_axis(estimate, best, 0)[0]

    def _cycles(
        self,
        shares: NDArray[Any],
        traffic: NDArray[Any],
        first_load: NDArray[Any],
        last_store: NDArray[Any],
    ) -> NDArray[Any]:
        """Estimated cycles.

        Args:
            shares: of all work, what the busiest core does.
            traffic: bytes that all cores move.
            first_load, last_store: cycles that nothing hides.
        """
        moving = traffic / self.machine.transfer_bytes_per_cycle
        busy = np.maximum(self._compute_cycles(), self._post_cycles()) * shares
        steady = np.where(self.slots == 1, busy + moving, np.maximum(busy, moving))
        instructions = self.ni * self.nj * self.work.gemm.groups * (3 + 2 * self.nk)
        charged = instructions * shares * _CYCLES_PER_INSTRUCTION
        cycles: NDArray[Any] = steady + first_load + last_store + charged
        return cycles

    def _fetches(self, cores: int) -> int:
        """How often DRAM sends a box that so many cores load."""
        return -(-cores // self.machine.ring.receivers)

    def _grid_distribution(self, split: Split) -> tuple[NDArray[Any], NDArray[Any]]:
        """The share of the busiest core of a grid, and the bytes that DRAM moves.

        Cores along j load the same boxes of A, cores along i the same boxes of B. What is loaded for a whole
        group is the same for all cores of it. A box that is loaded with every tile is loaded once for each tile
        of a core along the other dimension.
        """
        gemm = self.work.gemm
        ni, nj = -(-self.ni // split.m), -(-self.nj // split.n)  # tiles of the busiest core
        groups = -(-gemm.groups // split.groups)
        shares = groups / gemm.groups * (ni / self.ni) * (nj / self.nj)
        every = self._fetches(split.m * split.n)
        a = np.where(
            self.a_level == "tile",
            self.a_traffic / self.nj * nj * self._fetches(split.n),
            self.a_traffic * np.where(self.a_level == "group", every, self._fetches(split.n)),
        )
        b = np.where(
            self.b_level == "tile",
            self.b_traffic / self.ni * ni * self._fetches(split.m),
            self.b_traffic * np.where(self.b_level == "group", every, self._fetches(split.m)),
        )
        return shares, gemm.groups * (a + b + gemm.m * gemm.n * self.demand.c_bytes)

    def _distribution(self) -> tuple[NDArray[Any], NDArray[Any], Numbers]:
        """For each of the loops g, outer and inner distributed over cores, one row each: the largest
        share of a core, bytes that all cores move, and the rows by falling number of iterations.

        Operands that are loaded outside of the distributed loop are loaded by every core. Of equal
        loops the one with most iterations wins, so that threads share the emulation evenly.
        """
        gemm, cores = self.work.gemm, self.machine.cores
        counts = (
            np.full_like(self.ni, gemm.groups),
            np.where(self.j_outer, self.nj, self.ni),
            np.where(self.j_outer, self.ni, self.nj),
        )
        group_loads = self._traffic_at("group")
        outside = (np.zeros_like(self.ni), group_loads, group_loads + self._traffic_at("outer"))
        shares = np.stack([-(-count // cores) / count for count in counts])
        copies = np.stack(
            [loads * (np.minimum(count, cores) - 1) for count, loads in zip(counts, outside)]
        )
        c_traffic = gemm.m * gemm.n * self.demand.c_bytes
        traffic = gemm.groups * (self.a_traffic + self.b_traffic + c_traffic + copies)
        order = np.argsort(np.stack([-count for count in counts]), axis=0, kind="stable")
        return shares, traffic, order

    def _traffic_at(self, level: str) -> Numbers:
        """Bytes of the operands that are loaded at a level, in a group."""
        return np.where(self.a_level == level, self.a_traffic, 0) + np.where(
            self.b_level == level, self.b_traffic, 0
        )

    def _compute_cycles(self) -> Numbers:
        """Cycles of the array for all tiles."""
        gemm, array = self.work.gemm, self.machine.array
        depth = array.rows * self.machine.macs_per_lane(self.demand.operand_bits)
        k_blocks = -(-np.minimum(self.kt, max(gemm.k, 1)) // depth)
        blocks = -(-self.nt // array.columns) * k_blocks
        cycles_per_block = np.maximum(-(-self.mt // array.corelets), array.rows)
        cycles: Numbers = self.ni * self.nj * gemm.groups * self.nk * blocks * cycles_per_block
        return cycles

    def _post_cycles(self) -> int:
        """Cycles of the post unit for all results."""
        gemm, lanes = self.work.gemm, self.machine.post.lanes
        by_rows = gemm.groups * gemm.m * -(-gemm.n // lanes)
        return max(by_rows, -(-gemm.groups * gemm.m * gemm.n // lanes))

    def _first_load(self, split: Split | None) -> NDArray[Any]:
        """Cycles until the first operands have arrived, on one core or on a grid; nothing hides them."""
        machine, demand = self.machine, self.demand
        a, b = self.a_box * demand.a_bytes, self.b_box * demand.b_bytes
        if split is not None:
            a = a * split.groups * split.m * self._fetches(split.n)
            b = b * split.groups * split.n * self._fetches(split.m)
        return (a + b) / machine.transfer_bytes_per_cycle + machine.memory.latency

    def _last_store(self, cores: int) -> NDArray[Any]:
        """Cycles in which some cores finish and store their last tiles; nothing hides them."""
        moving = cores * self.demand.c_bytes / self.machine.transfer_bytes_per_cycle
        cycles: NDArray[Any] = self.mt * self.nt * (1 / self.machine.post.lanes + moving)
        return cycles

    # -- results

    def nest(self, index: int) -> Nest:
        """One candidate as a record, its buffers one after the other."""

        def get(values: NDArray[Any]) -> int:
            return int(values[index])

        counts = {
            "g": self.work.gemm.groups,
            "i": get(self.ni),
            "j": get(self.nj),
            "k": get(self.nk),
        }
        order = ("j", "i") if get(self.j_outer) else ("i", "j")
        grid: tuple[int, ...] = ()
        if self.split is None:
            spread = ("g", *order)[get(self.spread)]
            spread = spread if counts[spread] > 1 else ""
        else:
            shares = zip("gij", self.split[:3], strict=True)
            grid = tuple(min(parts, counts[name]) for name, parts in shares)
            spread = "".join(name for name, parts in zip("gij", grid, strict=True) if parts > 1)
        slots, row = get(self.slots), 0

        def allocate(rows: NDArray[Any], slots: int) -> Buffer:
            nonlocal row
            buffer = Buffer(row, get(rows), slots)
            row += buffer.slot_rows * slots
            return buffer

        return Nest(
            tile=(get(self.mt), get(self.nt), get(self.kt)),
            counts=counts,
            outer=order[0],
            levels={"a": str(self.a_level[index]), "b": str(self.b_level[index])},
            spread=spread,
            grid=grid if spread else (),
            a=allocate(self.a_rows, get(self.a_slots)),
            b=allocate(self.b_rows, get(self.b_slots)),
            c=allocate(self.c_rows, slots),
            d=allocate(self.d_rows, 1),
            acc=Buffer(0, get(self.acc_slot), slots),
            cycles=int(self.cycles[index]),
        )

    def smallest(self) -> str:
        """What the candidate that lacks least memory needs, in words."""
        machine = self.machine
        lack = np.maximum(
            self.rows / machine.scratchpad_rows, self.acc_rows / machine.accumulator_rows
        )
        least = int(np.argmin(lack))
        mt, nt, kt = (int(size[least]) for size in (self.mt, self.nt, self.kt))
        return (
            f"even tiles of {mt}×{nt}×{kt} (m×n×k) need "
            f"{int(self.rows[least])} scratchpad rows of {machine.array.columns} bytes and "
            f"{int(self.acc_rows[least])} accumulator rows; it has {machine.scratchpad_rows} and "
            f"{machine.accumulator_rows}"
        )
