"""The steps of a chunk as generated code: products are added to sums, and sums are rounded.

A step takes the state of a register tile (`State`) to the next one. Sums are listed row by row, and in a row
vector by vector.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

from hfp8sim._numba.simd import (
    CHOP,
    DOWN,
    F16,
    F32,
    F64,
    I16,
    I32,
    I64,
    NEAREST,
    Code,
    Lanes,
    Pointer,
    Type,
    Value,
)
from hfp8sim._numba.simd import vector as vector_of
from hfp8sim.kernels.counts import Counter, MaskRing, Totals
from hfp8sim.kernels.form import (
    EVENTS,
    HALF_COLUMNS,
    NO_EXPONENT,
    PANEL,
    SWAMPED,
    Adder,
    Counting,
    Lane,
    Order,
    Overflow,
)
from hfp8sim.kernels.half import BOUNDS_BYTES, FACTOR_WORD
from hfp8sim.kernels.kernel import Kernel
from hfp8sim.kernels.rounding import Rounding, load_number

#: The rounding direction of each adder.
DIRECTIONS = {Adder.NEAREST: NEAREST, Adder.CHOP: CHOP, Adder.ODD: DOWN}
#: What a step adds to sum i, given the sum: the unrounded sum, and the products' own sum.
_Add = Callable[[int, Value], tuple[Value, Value]]


class State(NamedTuple):
    """What a tile carries from step to step."""

    sums: list[Value]
    most: list[Value]  #: the largest magnitude of each sum so far, where that is recorded
    counts: list[Value]  #: int64, by event, where events are counted: of what happens once a chunk
    masks: list[Value]  #: likewise vectors of counts, of what happens in steps

    def values(self) -> list[Value]:
        """All values, one after another."""
        return [*self.sums, *self.most, *self.counts, *self.masks]


class Operands:
    """A kernel's operands in memory, see `microkernel.TILE`.

    Args:
        pointers: the addresses, by the names of `microkernel.TILE`.
        strides: elements from one panel of columns to the next, of each kind of panel of columns.
    """

    def __init__(
        self, code: Code, kernel: Kernel, pointers: Mapping[str, Pointer], strides: Mapping[str, Value]
    ) -> None:  # fmt: skip
        self.code, self.kernel, self.pointers, self.strides = code, kernel, pointers, strides

    def at(self, name: str, index: Value, vector: int = 0) -> Pointer:
        """The address of row `index` of a panel, there of one of the tile's vectors of columns."""
        panel, place = divmod(vector * self.kernel.lanes, PANEL)
        element = index * PANEL + place
        if panel:
            element = element + self.strides[name] * panel
        return self.pointers[name] + element

    def columns(self, lanes: Lanes, name: str, index: Value, kind: Type) -> list[Value]:
        """Row `index` of the panels of columns: the tile's vectors."""
        vectors = range(self.kernel.tiling.vectors)
        return [lanes.load(self.at(name, index, v), 0, kind) for v in vectors]

    def row(self, lanes: Lanes, name: str, index: Value, row: int, vector: int) -> Value:
        """An element of row `index` of a panel of rows, in all lanes of any of the tile's vectors."""
        return lanes.load_splat(self.at(name, index), row)

    def begin(self) -> None:
        """Write what comes before the first step."""

    def cell(self, row: int, vector: int) -> Value | int:
        """The place of a vector of outputs in the state in memory."""
        panel, place = divmod(vector * self.kernel.lanes, PANEL)
        return (panel * PANEL + row) * PANEL + place


class LanewiseOperands(Operands):
    """Operands of a lanewise kernel: the tile's row r has at step k the vectors of A that begin `a_rows[r]` +
    `a_steps[k]` elements after A's first one."""

    def begin(self) -> None:
        """Load the places of the rows."""
        places = self.pointers["a_rows"]
        self._rows = [(places + r).load() for r in range(self.kernel.tiling.rows)]
        self._steps: dict[Value, Value] = {}

    def row(self, lanes: Lanes, name: str, index: Value, row: int, vector: int) -> Value:
        """A vector of A."""
        if index not in self._steps:
            self._steps[index] = (self.pointers["a_steps"] + index).load()
        panel, place = divmod(vector * self.kernel.lanes, PANEL)
        element = self._steps[index] + self.strides[name] * panel + self._rows[row]
        pointer = self.pointers[name] + element
        return lanes.load(pointer, place, vector_of(pointer.element, lanes.lanes))


class SparseOperands(Operands):
    """Operands of a sparse kernel, whose tile is one row of a panel."""

    #: Panels of rows, see `microkernel.SPARSE_TILE`.
    _OF_ROWS = ("a", "rows", "chunk_rows")
    #: The number of the row in its panel.
    number: Value

    def at(self, name: str, index: Value, vector: int = 0) -> Pointer:
        """The address of row `index` of a panel, there of the tile's row, or of one of its vectors of columns."""
        place = super().at(name, index, vector)
        return place + self.number if name in self._OF_ROWS else place

    def cell(self, row: int, vector: int) -> Value:
        """The place of a vector of outputs in the state in memory."""
        return self.number * PANEL + super().cell(row, vector)


class HalfOperands(Operands):
    """Operands in binary16: B's panels have HALF_COLUMNS columns. A panel's numbers have a scale of its own."""

    def at(self, name: str, index: Value, vector: int = 0) -> Pointer:
        """The address of row `index` of a panel, there of one of the tile's vectors of columns."""
        if name != "b":
            return super().at(name, index, vector)
        panel, place = divmod(vector * self.kernel.lanes, HALF_COLUMNS)
        return self.pointers[name] + (index * HALF_COLUMNS + place + self.strides[name] * panel)

    def factors(self, total: Lanes) -> list[Value]:
        """What the sums of each of the tile's vectors are multiplied with, to undo the scales: float32."""
        part = Lanes(self.code, 32, min(PANEL, total.lanes))
        row = self._factor(part, "a_bounds", 0)
        factors = []
        for v in range(self.kernel.tiling.vectors):
            panels = range(v * total.lanes // PANEL, -(-(v + 1) * total.lanes // PANEL))
            parts = [row * self._factor(part, "b_bounds", panel) for panel in panels]
            factors.append(parts[0].joined(parts[1:]))
        return factors

    def _factor(self, lanes: Lanes, name: str, panel: int) -> Value:
        """The factor of a panel, in all lanes."""
        place = panel * BOUNDS_BYTES // 8 + FACTOR_WORD
        return (self.pointers[name] + place).load().cut(lanes.word).splat(lanes.lanes).floats()


class Tile:
    """A register tile: what all parts of a kernel's code share."""

    def __init__(
        self, code: Code, kernel: Kernel, pointers: Mapping[str, Pointer], strides: Mapping[str, Value]
    ) -> None:  # fmt: skip
        self.code, self.kernel, self.form = code, kernel, kernel.form
        self.step = Lanes(code, kernel.form.lane, kernel.lanes)
        self.total = Lanes(code, 32, kernel.lanes)
        rows, vectors = range(kernel.tiling.rows), range(kernel.tiling.vectors)
        self.cells = [(r, v) for r in rows for v in vectors]
        operands = LanewiseOperands if kernel.lanewise else Operands
        if kernel.in_halves:
            operands = HalfOperands
        if kernel.sparse:
            operands = SparseOperands
        self.operands = operands(code, kernel, pointers, strides)
        numbers = pointers["numbers"]
        self.intra = Rounding(self.step, kernel, numbers, "halves" if kernel.in_halves else "intra")
        self.inter = Rounding(self.total, kernel, numbers, "inter")
        self.counts_events = kernel.counting is not Counting.NONE

    def begin(self) -> None:
        """Write what comes before the first step: numbers in registers, memory for masks."""
        self.intra.load()
        self.operands.begin()
        if self.form.order is Order.ALIGNED:
            numbers = self.operands.pointers["numbers"]
            self.lowest, self.guard = (
                load_number(self.step, numbers, name) for name in ("lowest", "guard")
            )
        if self.counts_events:
            self.ring = MaskRing(self.code, self.kernel)

    @staticmethod
    def element_types(kernel: Kernel) -> dict[str, Type]:
        """Types of the elements of operands; of those that are not listed, int64."""
        lane, word = {
            Lane.FLOAT16: (F16, I16), Lane.FLOAT32: (F32, I32), Lane.FLOAT64: (F64, I64)
        }[kernel.form.lane]  # fmt: skip
        return {
            "a": lane, "b": lane, "chunk": lane, "rows": word, "columns": word, "total": F32,
            "a_exponents": I32, "b_exponents": I32, "chunk_rows": I32, "chunk_columns": I32,
        }  # fmt: skip

    # -- the state

    def zero_state(self) -> State:
        """Sums of zero, and nothing counted."""
        zeros = [self.step.zero()] * len(self.cells)
        if not self.counts_events:
            return State(zeros, zeros * self.intra.watched, [], [])
        counts, masks = [self.code.number(0)] * EVENTS, [self.ring.zero()] * EVENTS
        return State(zeros, zeros * self.intra.watched, counts, masks)

    def loaded_state(self) -> State:
        """The sums that an earlier range of k has left. Ranges in binary16 end with a chunk."""
        if self.kernel.in_halves:
            return self.zero_state()
        chunk = self.operands.pointers["chunk"]
        places = [self.operands.cell(r, v) for r, v in self.cells]
        sums = [self.step.load(chunk, place, self.step.floats) for place in places]
        return self.zero_state()._replace(sums=sums)

    def state_of(self, values: list[Value]) -> State:
        """The state of its `State.values`, in lists that may be changed."""
        n = len(self.cells)
        watched = n * (1 + self.intra.watched)
        counts = list(values[watched:])
        return State(list(values[:n]), list(values[n:watched]), counts[:EVENTS], counts[EVENTS:])

    def store(self, state: State) -> None:
        """Write the sums to memory, and add the counts to those that are there."""
        if self.kernel.in_halves:
            return
        self.catch_up(state)
        sums = self.poisoned(state)
        pointers = self.operands.pointers
        for (r, v), value in zip(self.cells, sums, strict=True):
            self.step.store(value, pointers["chunk"], self.operands.cell(r, v))
        self.store_counts(state)

    def store_counts(self, state: State) -> None:
        """Add the counts to those in memory."""
        pointers = self.operands.pointers
        for event, count in enumerate(state.counts):
            count = count + self.ring.total(event, state.masks[event])
            place = pointers["counts"] + event
            place.store(place.load() + count)

    def poisoned(self, state: State) -> list[Value]:
        """The sums; NaN where one was beyond the largest number."""
        if not state.most:
            return state.sums
        pairs = zip(state.sums, state.most, strict=True)
        return [self.intra.poison(s, most) for s, most in pairs]

    def load_total(self, row: int, vector: int) -> Value:
        """A vector of running totals."""
        parts = [self.total.load(place, 0, kind) for place, kind in self._totals(row, vector)]
        return parts[0].joined(parts[1:])

    def store_total(self, value: Value, row: int, vector: int) -> None:
        """Write a vector of running totals."""
        places = self._totals(row, vector)
        for part, (place, _) in zip(value.parts(value.lanes // len(places)), places, strict=True):
            self.total.store(part, place, 0)

    def _totals(self, row: int, vector: int) -> list[tuple[Pointer, Type]]:
        """The addresses of a vector of running totals, and the types there: one for each panel."""
        first, lanes = self.operands.pointers["total"], self.total.lanes
        kind = vector_of(F32, min(lanes, PANEL))
        cell = self.operands.cell(row, vector)
        return [(first + (cell + i * PANEL), kind) for i in range(0, lanes, PANEL)]

    # -- software pipelining

    def round_late(self, i: int, state: State) -> None:
        """Round a sum that lags, in place."""
        state.sums[i] = self.intra.round(state.sums[i], None, i, [], Counter())
        if state.most:
            state.most[i] = self.intra.watch(state.most[i], state.sums[i])

    def catch_up(self, state: State) -> None:
        """Round all sums that lag, in place."""
        tiling, n = self.kernel.tiling, len(state.sums)
        for i in range(n - tiling.lag * tiling.vectors, n):
            self.round_late(i, state)

    def fence(self) -> None:
        """Keep what loads memory from here on behind what is written before, see `Kernel.ordered`."""
        if self.kernel.ordered:
            self.code.fence()

    def in_order(self, x: Value) -> Value:
        """x, not to be computed with before what is written so far."""
        if not self.kernel.ordered:
            return x
        if self.kernel.in_halves:  # vectors of binary16 are no operands of assembly everywhere
            return self.code.pinned(x.words(), self.kernel.target.ordered).floats()
        return self.code.pinned(x, self.kernel.target.ordered)


# -- a step ------------------------------------------------------------------------------------------


def write_step(
    tile: Tile, number: Value, values: list[Value], opening: bool = False, count: Value | None = None
) -> list[Value]:  # fmt: skip
    """Write one step.

    Args:
        number: of the step in the range.
        values: of the state before it.
        opening: it is a chunk's first one, of which nothing is rounded.
        count: of the steps before it, where their numbers are not consecutive.

    Returns:
        The values of the state after it.
    """
    state, tiling = tile.state_of(values), tile.kernel.tiling
    if tiling.lag and not opening:
        _lagging_step(tile, number, state)
        return state.values()
    aligned = tile.form.order is Order.ALIGNED
    add = _aligned_adder(tile, number, state.sums) if aligned else _product_adder(tile, number)
    random = _random_addends(tile, number)
    counter = Counter()
    if tile.counts_events:
        counter = tile.ring.counter(number if count is None else count, state.masks)
    for first in range(0, len(state.sums), tiling.group):
        group = range(first, min(first + tiling.group, len(state.sums)))
        _step_of_group(tile, group, state, add, None if opening else random, counter)
        if group.stop < len(state.sums):
            tile.fence()
    return state.values()


def _step_of_group(
    tile: Tile, group: range, state: State, add: _Add,
    random: Callable[[int], Value | None] | None, counter: Counter,
) -> None:  # fmt: skip
    """Add to the sums of a group, then round them (`random` None: do not), in place."""
    sums = state.sums
    before = {i: sums[i] for i in group}
    if counter.counts_events and tile.form.products == 1:
        # Copies, so that the sums stay in their registers.
        before = {i: tile.in_order(s) for i, s in before.items()}
    added = {i: add(i, sums[i]) for i in group}
    for i, (s, product) in added.items():
        if tile.form.exact_chunks:
            sums[i] = s
            continue
        new = s if random is None else tile.intra.round(s, random(i), i, [sums[i]], counter)
        if counter.counts_events:
            counter.add(SWAMPED, _swamped(tile, before[i], new, s, product))
        if state.most:
            state.most[i] = tile.intra.watch(state.most[i], new)
        sums[i] = new


def _lagging_step(tile: Tile, number: Value, state: State) -> None:
    """A step that leaves the sums of the last `lag` rows to be rounded, in place (software pipelining).

    If a step's sums were rounded in it, the processor would find many multiplications first and then many
    roundings. So a row is rounded when `lag` more rows have been added to, the last rows in the next step: the
    processor finds both at any time, and all its ports are busy. Rounding is idempotent, so before its first
    step a sum may be rounded, too.
    """
    add, tiling = _product_adder(tile, number), tile.kernel.tiling
    for row in range(tiling.rows):
        for i in range(row * tiling.vectors, (row + 1) * tiling.vectors):
            state.sums[i] = add(i, state.sums[i])[0]
        late = (row - tiling.lag) % tiling.rows
        for i in range(late * tiling.vectors, (late + 1) * tiling.vectors):
            state.sums[i] = tile.in_order(state.sums[i])
            tile.round_late(i, state)
        tile.fence()


def _random_addends(tile: Tile, number: Value) -> Callable[[int], Value | None]:
    """The addends of a step's stochastic roundings, by sum; None: there are none."""
    if not tile.form.intra.mode.stochastic:
        return lambda i: None
    rows = tile.operands.at("rows", number)
    columns = tile.operands.columns(tile.step, "columns", number, tile.step.words)
    row = functools.cache(lambda r: tile.step.load_splat(rows, r))
    cells = tile.cells
    return lambda i: tile.intra.random(row(cells[i][0]), columns[cells[i][1]])


def _swamped(tile: Tile, old: Value, new: Value, s: Value, product: Value) -> Value:
    """Whether a sum stayed what it was; but for `Counting.UNCHANGED`, though something was added to it."""
    if tile.kernel.counting is Counting.UNCHANGED:
        return old.words().equals(new.words())  # no sum is -0, and integers are compared faster
    same = old.equals(new)
    if tile.form.order is Order.SERIAL:  # an exact sum changes if something is added
        same = same & s.differs(old)
    else:
        same = same & product.differs(tile.step.zero())
    if tile.form.overflow is Overflow.IMPOSSIBLE:
        return same
    return same & (old.absolute() <= tile.intra.number("largest"))


# -- sums --------------------------------------------------------------------------------------------


def _product_adder(tile: Tile, number: Value) -> _Add:
    """Sums acc + p, acc + (p₀ + p₁) by the adder, or (acc + p₀) + p₁ exactly.

    The second result, p or p₀ + p₁, is no code if it is not used.
    """
    operands, step, width = tile.operands, tile.step, tile.form.width
    first = number * width
    ks = [first + p for p in range(width)]
    columns = [operands.columns(step, "b", k, step.floats) for k in ks]
    lanewise = tile.kernel.lanewise
    row = functools.cache(lambda p, r, v: operands.row(step, "a", ks[p], r, v))

    def add(i: int, old: Value) -> tuple[Value, Value]:
        r, v = tile.cells[i]
        factors = [(row(p, r, v if lanewise else 0), columns[p][v]) for p in range(width)]
        a, b = factors[0]
        product = a * b
        if width == 1:
            return tile.intra.sum(a, b, old), product
        a1, b1 = factors[1]
        pair = a1.times_plus(b1, product)
        if tile.form.order is Order.SERIAL:
            return a1.times_plus(b1, a.times_plus(b, old)), pair
        return tile.intra.sum(pair, None, old), pair

    return add


def _aligned_adder(tile: Tile, number: Value, sums: list[Value]) -> _Add:
    """Sums of the accumulator and all products of the step, cut to a grid, added exactly as integers.

    The grid has `guard` fraction bits below the largest exponent among the terms. The tile is one vector wide.
    """
    step, code, width = tile.step, tile.code, tile.form.width
    first = number * width
    anchors = code.repeat(width, _larger_exponents(tile, first), _own_exponents(tile, sums))
    nothing = NO_EXPONENT // 2  # below it no term differs from zero, and any grid will do
    zero = step.const(0)
    anchors = [zero.where(anchor < nothing, anchor) for anchor in anchors]
    scales = [step.power(tile.guard - anchor) for anchor in anchors]
    cut = [step.truncated(s * scale) for s, scale in zip(sums, scales, strict=True)]
    cut = code.repeat(width, _cut_products(tile, first, scales), cut)
    units = [step.power(anchor - tile.guard) for anchor in anchors]
    added = [step.from_int(total) * unit for total, unit in zip(cut, units, strict=True)]
    if tile.intra.watched:
        # A NaN that an earlier range has left has no integer: it stays.
        added = [s.where(s.is_nan(), x) for s, x in zip(sums, added, strict=True)]
    return lambda i, old: (added[i], old)


def _own_exponents(tile: Tile, sums: list[Value]) -> list[Value]:
    """Exponents of the accumulators, NO_EXPONENT for zero."""
    step, anchors = tile.step, []
    none = step.const(NO_EXPONENT)
    for s in sums:
        own = step.exponent(s).at_least(tile.lowest)
        anchors.append(none.where(s.equals(step.zero()), own))
    return anchors


def _larger_exponents(
    tile: Tile, first: Value
) -> Callable[[Value, list[Value]], list[Value]]:  # fmt: skip
    """A loop's body: the larger of each row's exponent so far and that of its product i."""
    step = tile.step

    def body(i: Value, anchors: list[Value]) -> list[Value]:
        k, operands = first + i, tile.operands
        column = step.load(operands.at("b_exponents", k), 0, step.words)
        return [
            anchor.at_least(operands.row(step, "a_exponents", k, r, 0) + column)
            for r, anchor in enumerate(anchors)
        ]

    return body


def _cut_products(
    tile: Tile, first: Value, scales: list[Value]
) -> Callable[[Value, list[Value]], list[Value]]:
    """A loop's body: to each row's integer is added its product i, cut to the grid."""
    step = tile.step

    def body(i: Value, cut: list[Value]) -> list[Value]:
        k, operands = first + i, tile.operands
        column, result = step.load(operands.at("b", k), 0, step.floats), []
        for r, (total, scale) in enumerate(zip(cut, scales, strict=True)):
            product = operands.row(step, "a", k, r, 0) * column
            result.append(total + step.truncated(product * scale))
        return result

    return body


# -- the end of a chunk ------------------------------------------------------------------------------


def close_chunk(tile: Tile, number: Value, values: list[Value]) -> list[Value]:
    """total ← round(total + chunk): write the end of chunk `number`; the values of a fresh state."""
    state, operands, total = tile.state_of(values), tile.operands, tile.total
    counter = Totals(state.counts)
    tile.catch_up(state)
    sums = tile.poisoned(state)
    tile.inter.load()
    if tile.form.exact_chunks:
        sums = [_rounded_chunk(tile, s, i, counter) for i, s in enumerate(sums)]
    if tile.form.lane is Lane.FLOAT64:
        sums = [total.narrowed(s) for s in sums]
    if isinstance(operands, HalfOperands):
        factors = operands.factors(total)
        cells = zip(tile.cells, sums, strict=True)
        sums = [s.widened(total.floats) * factors[v] for (_, v), s in cells]
    intra, inter = tile.form.intra.adder, tile.form.inter.adder
    if inter != intra:
        tile.code.set_direction(DIRECTIONS[inter])
    word = _chunk_words(tile, number)
    for i, ((r, v), value) in enumerate(zip(tile.cells, sums, strict=True)):
        old = tile.load_total(r, v)
        random = word(r, v)
        s = tile.inter.sum(value, None, old)
        new = tile.inter.round(s, random, i, [old, value], counter)
        tile.store_total(new, r, v)
    if inter != intra:
        tile.code.set_direction(DIRECTIONS[intra])
    zeros = [tile.step.zero()] * (len(state.sums) + len(state.most))
    return [*zeros, *state.counts, *state.masks]


def _chunk_words(tile: Tile, number: Value) -> Callable[[int, int], Value | None]:
    """The addends of a chunk's stochastic roundings, by row and vector; None: there are none."""
    if not tile.form.inter.mode.stochastic:
        return lambda r, v: None
    rows, total = tile.operands.at("chunk_rows", number), tile.total
    columns = tile.operands.columns(total, "chunk_columns", number, total.words)
    return lambda r, v: tile.inter.random(total.load_splat(rows, r), columns[v])


def _rounded_chunk(tile: Tile, s: Value, i: int, counter: Totals) -> Value:
    """An exact sum, rounded once; its one step is swamped if it becomes zero."""
    zero = tile.step.zero()
    rounded = tile.intra.round(s, None, i, [], counter)
    if counter.counts_events:
        counter.add(SWAMPED, rounded.equals(zero) & s.differs(zero))
    return rounded
