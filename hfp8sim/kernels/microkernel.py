"""The one kernel generator: a tile of the array over a range of k, as LLVM vector code.

`tile(NAME, …)` is a Numba intrinsic. Its first argument is the name of a `Kernel`, a compile-time string;
the code that it stands for is made here, from portable LLVM vector operations. All numbers (significand
width, random bits, limits, chunk length, K) are run-time arguments: a kernel is specialised only in what
changes its instructions. What each form computes, and why it is exact, stands in docs/speed.md;
`twin.py` says the same as plain loops.

The accumulators of a tile live in vector registers for all of the range; the running totals of chunks,
touched once a chunk, live in memory. The tile's state goes in and out through memory, so that a range may
begin and end anywhere between steps. Sums are listed row by row, and in a row vector by vector.

**Rounding direction.** Some forms need an adder that chops, or rounds down. The direction is a register of
the processor (x86: MXCSR, one for each thread). It is set inside the generated function and put back
before that returns; nothing in between can raise or call.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from hfp8sim._numba.simd import Lanes
from hfp8sim.kernels import form as at
from hfp8sim.kernels.counts import Marks, Ring, Tally
from hfp8sim.kernels.form import PANEL, Kernel
from hfp8sim.kernels.rounding import Rounding

_DIRECTION = {"nearest": 0, "down": 0x2000, "chop": 0x6000}  # field of MXCSR
_DIRECTIONS, _FLUSH = 0x6000, 0x8000

#: The pointers of a kernel function, see `build`.
_POINTERS = (
    "a", "b", "a_exponents", "b_exponents", "chunk", "total", "numbers", "rows", "columns",
    "chunk_rows", "chunk_columns", "counts",
)  # fmt: skip
#: Its integers.
_INTEGERS = (
    "steps", "left", "length", "close", "fresh", "b_stride", "columns_stride", "chunks_stride"
)  # fmt: skip
_I64, _POINTER = ir.IntType(64), ir.IntType(8).as_pointer()


def build(module: ir.Module, kernel: Kernel) -> ir.Function:
    """The function of a kernel: `tile` without Numba around it.

    Arguments: pointers to contiguous memory, at the tile's first row or column: the panels a and b and
    their exponents (int32, for aligned sums); the state, chunk (lane floats) and total (float32), PANEL
    columns a row and PANEL rows a panel; the numbers (int64); the panels of words of rows and columns, for
    the steps (of a lane's width) and for the chunks (32 bits), both beginning with the range; counts of
    events (int64). Then int64: steps in the range, steps left in the open chunk, steps of a whole chunk,
    whether the range's end closes the open chunk, whether the state begins as zeros, whatever it holds;
    elements from a panel of columns to the next, of b (and its exponents), of words, and of words of chunks.
    """
    name = "hfp8sim tile " + kernel.name
    if name in module.globals:
        return module.globals[name]
    arguments = [_POINTER] * len(_POINTERS) + [_I64] * len(_INTEGERS)
    kind = ir.FunctionType(ir.VoidType(), arguments)
    function = ir.Function(module, kind, name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    function.attributes.add("nounwind")
    if kernel.strict:
        set.add(function.attributes, "strictfp")  # llvmlite's own list of attributes lacks it
    _Body(function, kernel).write()
    return function


class _Body:
    """The body of a kernel's function.

    The loop state is one list of values: the sums of the tile, how far each of them went (where that is
    watched), and the counts of events (where they are counted): at the ends of chunks, and of marks.
    """

    def __init__(self, function: ir.Function, kernel: Kernel) -> None:
        self.k = kernel
        self.b = b = ir.IRBuilder(function.append_basic_block("entry"))
        self.step = Lanes(b, kernel.bits, kernel.lanes, kernel.strict)
        self.total = Lanes(b, 32, kernel.lanes, kernel.strict)
        self.width = max(kernel.products, 1)
        self.cells = [(r, v) for r in range(kernel.rows) for v in range(kernel.vectors)]
        self.random = kernel.rounding in ("random", "hash")
        elements = dict.fromkeys(_POINTERS, _I64)
        elements |= dict.fromkeys(("a", "b", "chunk"), self.step.float)
        elements |= dict.fromkeys(("rows", "columns"), self.step.word)
        elements |= dict.fromkeys(
            ("a_exponents", "b_exponents", "chunk_rows", "chunk_columns"), ir.IntType(32)
        )
        elements["total"] = ir.FloatType()
        self.p = {
            name: b.bitcast(argument, elements[name].as_pointer())
            for name, argument in zip(_POINTERS, function.args)
        }
        integers = dict(zip(_INTEGERS, function.args[len(_POINTERS) :]))
        self.steps, self.left, self.length, self.close, self.fresh = list(integers.values())[:5]
        self.strides = dict.fromkeys(("b", "b_exponents"), integers["b_stride"])
        self.strides["columns"] = integers["columns_stride"]
        self.strides["chunk_columns"] = integers["chunks_stride"]
        numbers = self.p["numbers"]
        self.rounding = Rounding(self.step, kernel, numbers, 0)
        self.between = Rounding(self.total, kernel, numbers, at.BETWEEN)

    def write(self) -> None:
        b = self.b
        if self.k.strict:
            self._save_control()
        self.rounding.load()
        if self.k.events != "quiet":
            self.ring = Ring(b, self.k)
        fresh, carried, opening, chunk, step, ended, closing, done = (
            b.append_basic_block(n)
            for n in ("fresh", "carried", "open", "chunk", "step", "ended", "close", "done")
        )
        b.cbranch(b.icmp_signed("!=", self.fresh, _I64(0)), fresh, carried)

        b.position_at_end(fresh)
        zeros = self._zero_state()
        for r, v in self.cells:
            self.total.store(self.total.zero(), self.p["total"], self._cell(r, v))
        b.cbranch(b.icmp_signed(">", self.steps, _I64(0)), opening, chunk)

        b.position_at_end(carried)
        loaded = self._loaded_state()
        b.branch(chunk)

        # One turn of `open` begins a chunk, with its first step where that is exact.
        b.position_at_end(opening)
        first, whole, number = b.phi(_I64), b.phi(_I64), b.phi(_I64)
        new = [b.phi(x.type) for x in zeros]
        begun, taken = new, 0
        if self.k.opening == "exact":
            begun, taken = self._one_step(first, new, opening=True), 1
        opened = [b.add(first, _I64(taken)), b.sub(whole, _I64(taken)), number, *begun]
        b.branch(chunk)

        # One of `chunk` is a run of steps up to the chunk's or the range's end.
        b.position_at_end(chunk)
        at_step, room, chunks = b.phi(_I64), b.phi(_I64), b.phi(_I64)
        state = [b.phi(x.type) for x in zeros]
        self._incoming(
            [at_step, room, chunks, *state],
            (fresh, [_I64(0), self.left, _I64(0), *zeros]),
            (carried, [_I64(0), self.left, _I64(0), *loaded]),
            (opening, opened),
        )
        rest = b.sub(self.steps, at_step)
        run = b.select(b.icmp_signed("<", room, rest), room, rest)
        b.cbranch(b.icmp_signed(">", run, _I64(0)), step, ended)

        b.position_at_end(step)
        i = b.phi(_I64)
        inner = [b.phi(x.type) for x in state]
        after = self._one_step(b.add(at_step, i), inner)
        latch, next_i = b.block, b.add(i, _I64(1))
        self._incoming([i, *inner], (chunk, [_I64(0), *state]), (latch, [next_i, *after]))
        b.cbranch(b.icmp_signed("<", next_i, run), step, ended)

        b.position_at_end(ended)
        final = [b.phi(x.type) for x in state]
        self._incoming(final, (chunk, state), (latch, after))
        now = b.add(at_step, run)
        last = b.icmp_signed(">=", now, self.steps)
        wanted = b.and_(last, b.icmp_signed("!=", self.close, _I64(0)))
        b.cbranch(b.or_(b.icmp_signed("==", run, room), wanted), closing, done)

        b.position_at_end(closing)
        closed = self._close_chunk(chunks, final)
        end_of_close, next_chunk = b.block, b.add(chunks, _I64(1))
        b.cbranch(last, done, opening)
        self._incoming(
            [first, whole, number, *new],
            (fresh, [_I64(0), self.left, _I64(0), *zeros]),
            (end_of_close, [now, self.length, next_chunk, *closed]),
        )

        b.position_at_end(done)
        end = [b.phi(x.type) for x in state]
        self._incoming(end, (ended, final), (end_of_close, closed))
        self._store_state(end)
        if self.k.strict:
            self._load_control(self.saved)
        b.ret_void()

    @staticmethod
    def _incoming(phis: list[ir.Value], *sources: tuple[ir.Block, list[ir.Value]]) -> None:
        for block, values in sources:
            for phi, value in zip(phis, values, strict=True):
                phi.add_incoming(value, block)

    # -- the loop state

    def _zero_state(self) -> list[ir.Value]:
        """Sums of zero, and nothing counted."""
        n = len(self.cells) * (2 if self.rounding.watched else 1)
        sums = [self.step.zero()] * n
        if self.k.events == "quiet":
            return sums
        return [*sums, *[_I64(0)] * at.EVENTS, *[self.ring.zero()] * at.EVENTS]

    def _loaded_state(self) -> list[ir.Value]:
        """The sums that an earlier range has left."""
        step, zeros = self.step, self._zero_state()
        sums = [step.load(self.p["chunk"], self._cell(r, v), step.floats) for r, v in self.cells]
        return [*sums, *zeros[len(sums) :]]

    def _parts(
        self, state: list[ir.Value]
    ) -> tuple[list[ir.Value], list[ir.Value], Tally, list[ir.Value]]:
        """(sums, how far they went, counts, counts of marks) of a state."""
        n = len(self.cells)
        watched = n + (n if self.rounding.watched else 0)
        most, counts = list(state[n:watched]), list(state[watched:])
        return list(state[:n]), most, Tally(self.b, counts[: at.EVENTS]), counts[at.EVENTS :]

    def _store_state(self, state: list[ir.Value]) -> None:
        sums, most, tally, marked = self._parts(state)
        self._catch_up(sums, most)
        for (r, v), value in zip(self.cells, self._poisoned(sums, most)):
            self.step.store(value, self.p["chunk"], self._cell(r, v))
        for event, count in enumerate(tally.counts):
            count = self.b.add(count, self.ring.total(event, marked[event]))
            place = self.b.gep(self.p["counts"], [_I64(event)])
            self.b.store(self.b.add(self.b.load(place), count), place)

    def _poisoned(self, sums: list[ir.Value], most: list[ir.Value]) -> list[ir.Value]:
        return [self.rounding.poison(s, m) for s, m in zip(sums, most)] if most else sums

    # -- addresses

    def _at(self, name: str, index: ir.Value, vector: int = 0) -> ir.Value:
        """The address of row `index` of a panel, and there of one of the tile's vectors of columns."""
        panel, place = divmod(vector * self.k.lanes, PANEL)
        element = self.b.add(self.b.mul(index, _I64(PANEL)), _I64(place))
        if panel:
            element = self.b.add(element, self.b.mul(self.strides[name], _I64(panel)))
        return self.b.gep(self.p[name], [element])

    def _columns(self, lanes: Lanes, name: str, index: ir.Value, kind: ir.Type) -> list[ir.Value]:
        """Row `index` of the panels of columns: the tile's vectors."""
        vectors = range(self.k.vectors)
        return [lanes.load(self._at(name, index, v), 0, kind) for v in vectors]

    def _cell(self, row: int, vector: int) -> int:
        """The place of a vector of outputs in the state."""
        panel, place = divmod(vector * self.k.lanes, PANEL)
        return (panel * PANEL + row) * PANEL + place

    # -- a step

    def _one_step(
        self, number: ir.Value, state: list[ir.Value], opening: bool = False
    ) -> list[ir.Value]:
        """The state after a step; `opening`: after a chunk's first one, of which nothing is rounded."""
        k = self.k
        sums, most, tally, marked = self._parts(state)
        if k.lag and not opening:
            self._lagging_step(number, sums, most)
            return [*sums, *most]
        add = self._aligned(number, sums) if k.order == "aligned" else self._fused(number)
        random, marks = self._random(number), Marks()
        if tally.wanted:
            marks = self.ring.marks(number, marked)
        for first in range(0, len(sums), k.group):
            group = range(first, min(first + k.group, len(sums)))
            before = {i: sums[i] for i in group}
            if marks.wanted and k.products == 1:  # copies, so that the sums stay in their registers
                before = {i: self._in_order(s) for i, s in before.items()}
            added = {i: add(i, sums[i]) for i in group}
            for i, (s, product) in added.items():
                if k.exact_sums:
                    sums[i] = s
                    continue
                new = s if opening else self.rounding.round(s, random(i), i, [sums[i]], marks)
                if marks.wanted:
                    marks.add(at.SWAMPED, self.step, self._swamped(before[i], new, s, product))
                if most:
                    most[i] = self.rounding.watch(most[i], new)
                sums[i] = new
            if group.stop < len(sums):
                self._keep_order()
        return [*sums, *most, *tally.counts, *marked]

    # Were a step's sums rounded in it, the processor would find many multiplications first and then many
    # roundings. So each row's sums are rounded when some more rows have been added to, those of the last rows in
    # the next step: it finds both at any time, and all its ports are busy. Rounding twice is as good as once, so
    # before its first step a sum may be rounded, too.

    def _lagging_step(self, number: ir.Value, sums: list[ir.Value], most: list[ir.Value]) -> None:
        """A step that leaves the sums of the last `lag` rows to be rounded, in place."""
        add, vectors = self._fused(number), self.k.vectors
        for row in range(self.k.rows):
            for i in range(row * vectors, (row + 1) * vectors):
                sums[i] = add(i, sums[i])[0]
            late = (row - self.k.lag) % self.k.rows
            for i in range(late * vectors, (late + 1) * vectors):
                sums[i] = self._in_order(sums[i])
                self._round(i, sums, most)
            self._keep_order()

    def _round(self, i: int, sums: list[ir.Value], most: list[ir.Value]) -> None:
        """Round one sum that lags, and see how far it went, in place."""
        sums[i] = self.rounding.round(sums[i], None, i, [], Marks())
        if most:
            most[i] = self.rounding.watch(most[i], sums[i])

    def _catch_up(self, sums: list[ir.Value], most: list[ir.Value]) -> None:
        """Round all sums that lag, in place."""
        for i in range(len(sums) - self.k.lag * self.k.vectors, len(sums)):
            self._round(i, sums, most)

    def _keep_order(self) -> None:
        """Keep what loads memory from here on behind what is written before, see `Kernel.ordered`."""
        if self.k.ordered:
            self.b.asm(ir.FunctionType(ir.VoidType(), []), "", "~{memory}", [], side_effect=True)

    def _in_order(self, x: ir.Value) -> ir.Value:
        """x, not to be touched before what is written so far."""
        if not self.k.ordered:
            return x
        kind = ir.FunctionType(x.type, [x.type])
        return self.b.asm(kind, "", "=v,0,~{memory}", [x], side_effect=True)

    def _random(self, number: ir.Value) -> Callable[[int], ir.Value | None]:
        """The addends of a step's stochastic roundings, by sum."""
        if not self.random:
            return lambda i: None
        step, at_rows = self.step, self._at("rows", number)
        columns = self._columns(step, "columns", number, step.words)
        row = functools.cache(lambda r: step.load_splat(at_rows, r))
        cells = self.cells
        return lambda i: self.rounding.random(row(cells[i][0]), columns[cells[i][1]])

    def _swamped(self, old: ir.Value, new: ir.Value, s: ir.Value, product: ir.Value) -> ir.Value:
        """Whether a number stayed what it was; but for `unchanged`, though something was added to it."""
        b, step = self.b, self.step
        same = b.fcmp_ordered("==", old, new)
        if self.k.events == "unchanged":
            return same
        if self.k.order == "serial":  # an exact sum tells whether something was added
            same = b.and_(same, b.fcmp_ordered("!=", s, old))
        else:
            same = b.and_(same, b.fcmp_ordered("!=", product, step.zero()))
        if self.k.over == "free":
            return same
        finite = b.fcmp_ordered("<=", step.absolute(old), self.rounding.number(at.MAX))
        return b.and_(same, finite)

    def _fused(self, number: ir.Value) -> Callable[[int, ir.Value], tuple[ir.Value, ir.Value]]:
        """For a sum acc + p, acc + (p₀ + p₁) by the adder or (acc + p₀) + p₁ exactly; and p or p₀ + p₁
        (that is gone from the code if nobody asks)."""
        step, b, times = self.step, self.b, range(self.width)
        first = b.mul(number, _I64(self.width))
        ks = [b.add(first, _I64(p)) for p in times]
        columns = [self._columns(step, "b", k, step.floats) for k in ks]
        row = functools.cache(lambda p, r: step.load_splat(self._at("a", ks[p]), r))

        def add(i: int, old: ir.Value) -> tuple[ir.Value, ir.Value]:
            r, v = self.cells[i]
            factors = [(row(p, r), columns[p][v]) for p in times]
            product = step.mul(*factors[0])
            if self.width == 1:
                return self.rounding.sum(*factors[0], old), product
            pair = step.fma(*factors[1], product)
            if self.k.order == "serial":
                return step.fma(*factors[1], step.fma(*factors[0], old)), pair
            return self.rounding.sum(pair, None, old), pair

        return add

    def _aligned(
        self, number: ir.Value, sums: list[ir.Value]
    ) -> Callable[[int, ir.Value], tuple[ir.Value, ir.Value]]:
        added = self._aligned_sums(number, sums)
        return lambda i, old: (added[i], old)

    def _aligned_sums(self, number: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
        """For each row (of a tile one vector wide) the accumulator and all products of the step, cut to
        GUARD fraction bits below the largest exponent among them, and added exactly (as integers)."""
        b, step, kept = self.b, self.step, self.rounding.kept
        first = b.mul(number, _I64(self.width))
        none = step.const(at.NO_EXPONENT)
        anchors = []
        for s in sums:
            own = step.largest(step.exponent(s), kept[at.LOWEST])
            zero = b.fcmp_ordered("==", s, step.zero())
            anchors.append(b.select(zero, none, own))

        def largest(i: ir.Value, anchors: list[ir.Value]) -> list[ir.Value]:
            rows, columns = (self._at(f"{x}_exponents", b.add(first, i)) for x in "ab")
            column = step.load(columns, 0, step.words)
            return [
                step.largest(anchor, b.add(step.load_splat(rows, r), column))
                for r, anchor in enumerate(anchors)
            ]

        anchors = self._repeat(self.width, largest, anchors)
        nothing = step.const(at.NO_EXPONENT // 2)  # no non-zero term: any scale will do
        anchors = [
            b.select(b.icmp_signed("<", anchor, nothing), step.const(0), anchor)
            for anchor in anchors
        ]
        scales = [step.power(b.sub(kept[at.GUARD], anchor)) for anchor in anchors]
        cut = [step.truncated(step.mul(s, scale)) for s, scale in zip(sums, scales)]

        def add(i: ir.Value, cut: list[ir.Value]) -> list[ir.Value]:
            rows, columns = (self._at(x, b.add(first, i)) for x in "ab")
            column = step.load(columns, 0, step.floats)
            result = []
            for r, (total, scale) in enumerate(zip(cut, scales)):
                product = step.mul(step.load_splat(rows, r), column)
                result.append(b.add(total, step.truncated(step.mul(product, scale))))
            return result

        cut = self._repeat(self.width, add, cut)
        units = [step.power(b.sub(anchor, kept[at.GUARD])) for anchor in anchors]
        added = [step.mul(step.from_int(total), unit) for total, unit in zip(cut, units)]
        if not self.rounding.watched:
            return added
        # A NaN that an earlier range has left is no integer: it stays.
        return [b.select(b.fcmp_unordered("uno", s, s), s, x) for s, x in zip(sums, added)]

    def _repeat(
        self,
        times: int,
        body: Callable[[ir.Value, list[ir.Value]], list[ir.Value]],
        values: list[ir.Value],
    ) -> list[ir.Value]:
        """A loop `for i in range(times): values = body(i, values)`."""
        b = self.b
        before, loop = b.block, b.append_basic_block("loop")
        after = b.append_basic_block("after")
        b.branch(loop)
        b.position_at_end(loop)
        i = b.phi(_I64)
        state = [b.phi(x.type) for x in values]
        result = body(i, state)
        following = b.add(i, _I64(1))
        self._incoming([i, *state], (before, [_I64(0), *values]), (loop, [following, *result]))
        b.cbranch(b.icmp_signed("<", following, _I64(times)), loop, after)
        b.position_at_end(after)
        return result

    # -- the end of a chunk

    def _close_chunk(self, number: ir.Value, state: list[ir.Value]) -> list[ir.Value]:
        """total ← round(total + chunk), for the first chunk onto a total of zero; then a fresh state."""
        k, total = self.k, self.total
        sums, most, tally, marked = self._parts(state)
        self._catch_up(sums, most)
        sums = self._poisoned(sums, most)
        self.between.load()
        if k.exact_sums:
            sums = [self._rounded_chunk(s, i, tally) for i, s in enumerate(sums)]
        if k.bits == 64:
            sums = [total.narrowed(s) for s in sums]
        if k.between_adder != k.adder:
            self._set_direction(k.between_adder)
        random = k.between in ("random", "hash")
        rows, columns = self._at("chunk_rows", number), []
        if random:
            columns = self._columns(total, "chunk_columns", number, total.words)
        for i, ((r, v), value) in enumerate(zip(self.cells, sums)):
            old = total.load(self.p["total"], self._cell(r, v), total.floats)
            word = self.between.random(total.load_splat(rows, r), columns[v]) if random else None
            s = self.between.sum(value, None, old)
            new = self.between.round(s, word, i, [old, value], tally)
            total.store(new, self.p["total"], self._cell(r, v))
        if k.between_adder != k.adder:
            self._set_direction(k.adder)
        zeros = [self.step.zero()] * (len(sums) + len(most))
        return [*zeros, *tally.counts, *marked]

    def _rounded_chunk(self, s: ir.Value, i: int, tally: Tally) -> ir.Value:
        """An exact sum, rounded once; its one step is swamped if it becomes zero."""
        b, step = self.b, self.step
        rounded = self.rounding.round(s, None, i, [], tally)
        if tally.wanted:
            lost = b.fcmp_ordered("==", rounded, step.zero())
            lost = b.and_(lost, b.fcmp_ordered("!=", s, step.zero()))
            tally.add(at.SWAMPED, step, lost)
        return rounded

    # -- the processor's control register

    def _control(self, name: str) -> None:
        kind = ir.FunctionType(ir.VoidType(), [_POINTER])
        function = cgutils.get_or_insert_function(self.b.module, kind, f"llvm.x86.sse.{name}")
        self.b.call(function, [self.b.bitcast(self.slot, _POINTER)])

    def _save_control(self) -> None:
        self.slot = self.b.alloca(ir.IntType(32))
        self._control("stmxcsr")
        self.saved = self.b.load(self.slot)
        self._set_direction(self.k.adder)

    def _load_control(self, value: ir.Value) -> None:
        self.b.store(value, self.slot)
        self._control("ldmxcsr")

    def _set_direction(self, adder: str) -> None:
        word = ir.IntType(32)
        bits = _DIRECTION[adder] | (_FLUSH if self.k.flushes else 0)
        others = self.b.and_(self.saved, word(~_DIRECTIONS & 0xFFFFFFFF))
        self._load_control(self.b.or_(others, word(bits)))


@intrinsic(prefer_literal=True)
def tile(
    typingctx, name, a, b, a_exponents, b_exponents, chunk, total, numbers, rows, columns,
    chunk_rows, chunk_columns, counts, steps, left, length, close, fresh,
    b_stride, columns_stride, chunks_stride, wide,
):  # type: ignore[no-untyped-def]  # fmt: skip
    """Run the kernel `name` (a literal string), or if not `wide` its `narrow` one, on one tile. Addresses
    and integers, see `build`."""
    if not isinstance(name, types.StringLiteral):
        return None
    kernel = Kernel.parse(name.literal_value)
    pointers = len(_POINTERS)

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        addresses, integers = values[1 : 1 + pointers], values[1 + pointers : -1]
        arguments = [builder.inttoptr(x, _POINTER) for x in addresses] + list(integers)
        with builder.if_else(values[-1]) as (wide, narrow):
            for block, which in ((wide, kernel), (narrow, kernel.narrow)):
                with block:
                    builder.call(build(builder.module, which), arguments)
        return context.get_dummy_value()

    integers = [types.int64] * len(_INTEGERS)
    return types.void(name, *[types.uintp] * pointers, *integers, types.boolean), codegen
