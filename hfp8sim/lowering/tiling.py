"""The loop nest: how a GEMM is cut into tiles that fit a machine, chosen for the least time.

For each group the nest is

    outer (i or j) { inner (j or i) { clear · k { load · multiply } · post · store } }

The operand that the outer counter selects (A for i, B for j) is loaded either once for each outer
step, for all of k, or with every tile; the other one either once for all of the group, or with every
tile. All combinations with all candidate tile sizes are laid side by side in arrays; those that fit
are ranked by an estimate of their time, which is the longest of computing, moving and finishing, plus
what nothing can hide. docs/machine.md has the formulas.
"""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfp8sim._numba.jit import jit
from hfp8sim.errors import InputError
from hfp8sim.isa.table import CSR, reset_registers
from hfp8sim.machine import sequencer as q
from hfp8sim.machine.config import Machine
from hfp8sim.network.phases import Image, Job

#: Cycles charged for each instruction in the estimate, so that of equals the shorter program wins.
_PER_INSTRUCTION = 32


@dataclasses.dataclass(frozen=True)
class Buffer:
    """A region of the scratchpad: first row, rows of a slot, slots."""

    row: int
    slot_rows: int
    slots: int


@dataclasses.dataclass(frozen=True)
class Nest:
    """A chosen loop nest. Levels say where an operand is loaded: `group`, `outer` or `tile`."""

    tile: tuple[int, int, int]  #: m, n, k
    counts: dict[str, int]  #: iterations of g, i, j and k
    outer: str  #: i or j
    a_level: str
    b_level: str
    spread: str  #: the counter whose loop is spread over cores, or empty
    a: Buffer
    b: Buffer
    c: Buffer
    d: Buffer  #: the bias vector; no rows where there is none
    acc: Buffer
    cycles: int  #: the estimate


@dataclasses.dataclass(frozen=True)
class Demand:
    """What tiling must respect beside the shapes: element sizes and where a rounding step may start."""

    a_bytes: int
    b_bytes: int
    c_bytes: int
    d_bytes: int  #: 0: no bias
    operand_bits: int
    chunk: int
    step: int

    @property
    def granule(self) -> int:
        """k's of which every multiple may start a tile; 0: k cannot be cut."""
        if self.chunk == 0:
            return self.step
        if self.step == 0 or self.chunk % self.step:
            return self.chunk
        return self.step


def choose(
    job: Job, demand: Demand, machine: Machine, tile: tuple[int, int, int] | None = None
) -> Nest:
    """The nest with the least estimated time; `InputError` that says why, if none fits.

    `tile` (m, n, k), cut off at the matrices' edges, leaves only the choice of the loops.
    """
    if tile is not None:
        extents = job.gemm.m, job.gemm.n, max(job.gemm.k, 1)
        if min(tile) < 1:
            raise InputError(f"tile {tile} must have positive sizes")
        m, n, k = (min(size, extent) for size, extent in zip(tile, extents))
        tile = m, n, k
        if tile[2] < extents[2] and (demand.granule == 0 or tile[2] % demand.granule):
            what = f"a multiple of {demand.granule}, or " if demand.granule else ""
            raise InputError(f"tile k is {tile[2]}, must be {what}{extents[2]}")
    nest = _choose(job, demand, machine, tile)
    if isinstance(nest, str):
        raise InputError(f"does not fit machine {machine.name}: {nest}")
    return nest


@functools.lru_cache(maxsize=1024)
def _choose(
    job: Job, demand: Demand, machine: Machine, tile: tuple[int, int, int] | None
) -> Nest | str:
    """The nest, or in words why there is none."""
    for small in (False, True):
        table = _Candidates(job, demand, machine, tile, small)
        fits = np.flatnonzero(table.fits)
        if fits.size:
            return table.nest(int(fits[np.argmin(table.cycles[fits])]))
    short = np.maximum(
        table.rows / machine.scratchpad_rows, table.acc_rows / machine.accumulator_rows
    )
    least = int(np.argmin(short))
    mt, nt, kt = (int(x[least]) for x in (table.mt, table.nt, table.kt))
    return (
        f"even tiles of {mt}×{nt}×{kt} (m×n×k) need "
        f"{int(table.rows[least])} scratchpad rows of {machine.array.columns} bytes and "
        f"{int(table.acc_rows[least])} accumulator rows; it has {machine.scratchpad_rows} and "
        f"{machine.accumulator_rows}"
    )


# -- candidate sizes ---------------------------------------------------------------------------------


def sizes(extent: int, units: list[int], small: bool) -> list[int]:
    """Sizes worth trying for one dimension: all of it, even parts, doublings of natural units; and, where
    the machine is `small`, parts of the smallest unit."""
    found = {extent}
    for unit in units:
        size = unit
        while size < extent:
            found.add(size)
            size *= 2
        parts = 2
        while parts <= 64 and extent >= unit * parts:
            found.add(-(-extent // (parts * unit)) * unit)
            parts *= 2
    least = min([extent, *units])
    while small and least > 1:
        least = -(-least // 2)
        found.add(least)
    return sorted(found)


def k_sizes(extent: int, granule: int, units: list[int], small: bool) -> list[int]:
    """Sizes for k: multiples of the granule, or all of it."""
    if granule == 0 or extent == 0:
        return [max(extent, 1)]
    rounded = {-(-size // granule) * granule for size in sizes(extent, units, small)}
    return [*sorted(size for size in rounded if size < extent), extent]


@jit
def image_bytes(regs, m, mt, k, kt, transposed):
    """Bytes per element size of all tiles of an unfolded image together, and of the largest tile."""
    total = largest = 0
    for m0 in range(0, m, mt):
        for k0 in range(0, k, kt):
            rows, columns = min(mt, m - m0), min(kt, k - k0)
            if transposed:
                _, lines, _, channels = q.image_lines(regs, k0, columns, m0, rows)
            else:
                _, lines, _, channels = q.image_lines(regs, m0, rows, k0, columns)
            elements = lines * regs[CSR.image_width] * channels
            total += elements
            largest = max(largest, elements)
    return total, largest


def image_registers(image: Image) -> dict[str, int]:
    """The registers that describe an image."""
    values = {
        "image.height": image.height,
        "image.width": image.width,
        "image.channels": image.channels,
        "image.pixel_pitch": image.pixel_pitch,
        "image.line_pitch": image.line_pitch,
        "image.pitch": image.image_pitch,
    }
    for name, pair in (
        ("grid", image.grid), ("kernel", image.kernel), ("stride", image.stride),
        ("pad", image.pad), ("dilation", image.dilation), ("divide", image.divide),
    ):  # fmt: skip
        values |= {f"{name}.height": pair[0], f"{name}.width": pair[1]}
    return values


# -- all candidates at once ----------------------------------------------------------------------------

Numbers = NDArray[np.int64]


class _Candidates:
    """Every nest worth considering, one per element of the arrays."""

    def __init__(
        self,
        job: Job,
        demand: Demand,
        machine: Machine,
        tile: tuple[int, int, int] | None,
        small: bool,
    ) -> None:
        self.job, self.demand, self.machine = job, demand, machine
        m, n, k = job.gemm.m, job.gemm.n, job.gemm.k
        columns, image = machine.array.columns, job.a.image
        m_units, k_units = [columns], [columns]
        if image is not None:
            lines = [image.grid[1], image.grid[0] * image.grid[1]]
            taps = [image.channels, image.channels * image.kernel[1]]
            m_units = taps if job.a.transposed else lines
            k_units = lines if job.a.transposed else taps
        tiles = (
            sizes(m, m_units, small),
            sizes(n, [columns], small),
            k_sizes(k, demand.granule, k_units, small),
        )
        if tile is not None:
            tiles = ([tile[0]], [tile[1]], [tile[2]])
        # Then: whether j is the outer counter; whether the operand of the outer counter, and the other
        # one, is loaded with every tile; slots of the buffers.
        axes = np.meshgrid(*tiles, (0, 1), (0, 1), (0, 1), (2, 1), indexing="ij")
        table = np.stack([axis.ravel() for axis in axes]).astype(np.int64)
        if tile is None:
            table = table[:, -(-table[0] * table[1] // columns) <= machine.accumulator_rows]
        self.mt, self.nt, self.kt, self.j_outer, outer_tile, inner_tile, self.slots = table
        a_tile = np.where(self.j_outer, inner_tile, outer_tile) == 1
        b_tile = np.where(self.j_outer, outer_tile, inner_tile) == 1
        self.a_level = np.where(a_tile, "tile", np.where(self.j_outer, "group", "outer"))
        self.b_level = np.where(b_tile, "tile", np.where(self.j_outer, "outer", "group"))
        self.ni, self.nj, self.nk = -(-m // self.mt), -(-n // self.nt), -(-max(k, 1) // self.kt)
        self._memory()
        self._time()

    def _rows(self, elements: Numbers, size: int) -> Numbers:
        return -(-elements * size // self.machine.array.columns)

    def _memory(self) -> None:
        """Bytes of each box, traffic of each operand in a group, rows of scratchpad and accumulators."""
        m, n, k = self.job.gemm.m, self.job.gemm.n, self.job.gemm.k
        demand = self.demand
        mt, nt, kt, ni, nj = self.mt, self.nt, self.kt, self.ni, self.nj
        m_box = np.where(self.a_level == "group", m, mt)
        a_k_box = np.where(self.a_level == "tile", kt, k)
        n_box = np.where(self.b_level == "group", n, nt)
        b_k_box = np.where(self.b_level == "tile", kt, k)
        a_box, a_once = self._a_boxes(m_box, a_k_box)
        again = np.where(self.a_level == "tile", nj, 1)
        self.a_traffic = a_once * again * demand.a_bytes
        b_box = n_box * self._b_depth(b_k_box)
        steps = np.where(self.b_level == "tile", -(-k // kt) if k else 0, 1)
        b_all = np.where(self.b_level == "tile", n * self._b_depth(kt) * steps, n * k)
        b_all = np.where(self._b_depth(kt) == kt, n * k, b_all)
        again = np.where(self.b_level == "tile", ni, 1)
        self.b_traffic = b_all * again * demand.b_bytes
        self.a_box, self.b_box = a_box * demand.a_bytes, b_box * demand.b_bytes
        # What is loaded once needs no second slot.
        once = "group" if self.job.gemm.groups == 1 else ""
        self.a_slots = np.where(self.a_level == once, 1, self.slots)
        self.b_slots = np.where(self.b_level == once, 1, self.slots)
        self.a_rows = self._rows(a_box, demand.a_bytes)
        self.b_rows = self._rows(b_box, demand.b_bytes)
        self.c_rows = self._rows(mt * nt, demand.c_bytes)
        self.d_rows = self._rows(np.full_like(mt, n), demand.d_bytes)
        self.rows = (
            self.a_rows * self.a_slots + self.b_rows * self.b_slots + self.c_rows * self.slots
            + self.d_rows
        )  # fmt: skip
        self.acc_slot = self._rows(mt * nt, 1)
        self.acc_rows = self.acc_slot * self.slots
        self.fits = (self.rows <= self.machine.scratchpad_rows) & (
            self.acc_rows <= self.machine.accumulator_rows
        )

    def _a_boxes(self, m_box: Numbers, k_box: Numbers) -> tuple[Numbers, Numbers]:
        """Elements of the largest box of A, and of all boxes of a group together, each once."""
        image, gemm = self.job.a.image, self.job.gemm
        if image is None:
            return m_box * k_box, np.full_like(m_box, gemm.m * gemm.k)
        regs = np.array(reset_registers(), np.int64)
        for name, value in image_registers(image).items():
            regs[getattr(CSR, name.replace(".", "_"))] = value
        pairs, where = np.unique(np.stack([m_box, k_box], 1), axis=0, return_inverse=True)
        found = np.array(
            [
                image_bytes(regs, gemm.m, int(mt), gemm.k, int(kt), self.job.a.transposed)
                for mt, kt in pairs
            ],
            np.int64,
        ).reshape(-1, 2)[where.reshape(-1)]
        return found[:, 1], found[:, 0]

    def _b_depth(self, k_box: Numbers) -> Numbers:
        """k's that a box of B holds: whole blocks, where it is stored in blocks and crosses one."""
        block = self.job.b.block
        if block == 0 or not self.job.b.transposed:
            return k_box
        crossing = (k_box > block) | (block % np.maximum(k_box, 1) != 0)
        spanned = (-(-k_box // block) + (k_box % block != 0)) * block
        return np.where(crossing, np.minimum(spanned, max(self.job.gemm.k, 1)), k_box)

    def _time(self) -> None:
        """The estimate, for the best loop to spread."""
        machine, gemm, groups = self.machine, self.job.gemm, self.job.gemm.groups
        array, cores = machine.array, machine.cores
        depth = array.rows * machine.macs_per_lane(self.demand.operand_bits)
        stream = np.maximum(-(-self.mt // array.corelets), array.rows)
        tiles = self.ni * self.nj * groups
        blocks = -(-self.nt // array.columns) * -(-np.minimum(self.kt, max(gemm.k, 1)) // depth)
        compute = tiles * self.nk * blocks * stream
        post = groups * gemm.m * -(-gemm.n // machine.post.lanes)
        post = max(post, -(-groups * gemm.m * gemm.n // machine.post.lanes))
        c_traffic = gemm.m * gemm.n * self.demand.c_bytes

        outer = np.where(self.j_outer, self.nj, self.ni)
        inner = np.where(self.j_outer, self.ni, self.nj)
        # Operands loaded outside the spread loop are loaded by every core.
        shares, copies = [], []
        for count, repeated in (
            (np.full_like(outer, groups), 0),
            (outer, self._loaded_at("group")),
            (inner, self._loaded_at("group") + self._loaded_at("outer")),
        ):
            used = np.minimum(count, cores)
            shares.append(-(-count // cores) / count)
            copies.append(repeated * (used - 1))
        share, copied = np.stack(shares), np.stack(copies)
        traffic = groups * (self.a_traffic + self.b_traffic + c_traffic + copied)
        moving = traffic / machine.memory.bytes_per_cycle
        single = self.slots == 1
        busy = np.maximum(compute, post) * share
        steady = np.where(single, busy + moving, np.maximum(busy, moving))
        start = (self.a_box + self.b_box) / machine.memory.bytes_per_cycle + machine.memory.latency
        tail = (
            self.mt
            * self.nt
            * (1 / machine.post.lanes + self.demand.c_bytes / machine.memory.bytes_per_cycle)
        )
        instructions = tiles * (3 + 2 * self.nk)
        estimate = steady + start + tail + instructions * share * _PER_INSTRUCTION
        # Of equal loops the one with most iterations, so that threads share the emulation well.
        most = np.argsort(
            np.stack([-np.full_like(outer, groups), -outer, -inner]), axis=0, kind="stable"
        )
        ranked = np.take_along_axis(estimate, most, 0)
        best = np.argmin(ranked, axis=0)
        self.spread = np.take_along_axis(most, best[None], 0)[0]
        self.cycles = np.take_along_axis(ranked, best[None], 0)[0]

    def _loaded_at(self, level: str) -> Numbers:
        """Bytes loaded at a level in a group."""
        return np.where(self.a_level == level, self.a_traffic, 0) + np.where(
            self.b_level == level, self.b_traffic, 0
        )

    def nest(self, at: int) -> Nest:
        """One candidate as a record."""

        def get(values: NDArray[Any]) -> int:
            return int(values[at])

        counts = {
            "g": self.job.gemm.groups,
            "i": get(self.ni),
            "j": get(self.nj),
            "k": get(self.nk),
        }
        order = ("j", "i") if get(self.j_outer) else ("i", "j")
        spread = ("g", *order)[get(self.spread)]
        slots, row = get(self.slots), 0

        def region(rows: NDArray[Any], turns: int) -> Buffer:
            nonlocal row
            buffer = Buffer(row, get(rows), turns)
            row += buffer.slot_rows * turns
            return buffer

        return Nest(
            tile=(get(self.mt), get(self.nt), get(self.kt)),
            counts=counts,
            outer=order[0],
            a_level=str(self.a_level[at]),
            b_level=str(self.b_level[at]),
            spread=spread if counts[spread] > 1 else "",
            a=region(self.a_rows, get(self.a_slots)),
            b=region(self.b_rows, get(self.b_slots)),
            c=region(self.c_rows, slots),
            d=region(self.d_rows, 1),
            acc=Buffer(0, get(self.acc_slot), slots),
            cycles=int(self.cycles[at]),
        )
