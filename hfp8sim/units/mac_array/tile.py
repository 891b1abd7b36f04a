"""The one kernel generator: a tile of the array over a range of k, as LLVM vector code.

`tile(NAME, …)` is a Numba intrinsic. Its first argument is the name of a `Kernel`, a compile-time string;
the code that it stands for is made here, from portable LLVM vector operations. All numbers (significand
width, random bits, limits, chunk length, K) are run-time arguments: a kernel is specialised only in what
changes its instructions. What each form computes, and why it is exact, stands in docs/speed.md;
`twin.py` says the same as plain loops.

The accumulators of a tile live in vector registers for all of the range; the running totals of chunks,
touched once a chunk, live in memory. The tile's state goes in and out through memory, so that a range may
begin and end anywhere between steps.

**Rounding direction.** Some forms need an adder that chops, or rounds down. The direction is a register of
the processor (x86: MXCSR, one for each thread). It is set inside the generated function and put back
before that returns; nothing in between can raise or call.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from hfp8sim.units.mac_array import kernel as at
from hfp8sim.units.mac_array.kernel import PANEL, Kernel
from hfp8sim.units.mac_array.lanes import Lanes
from hfp8sim.units.mac_array.rounding import Rounding, Tally

_DIRECTION = {"nearest": 0, "down": 0x2000, "chop": 0x6000}  # field of MXCSR
_DIRECTIONS, _FLUSH = 0x6000, 0x8000

#: The pointers of a kernel function, see `build`.
_POINTERS = (
    "a", "b", "a_exponents", "b_exponents", "chunk", "total", "numbers", "rows", "columns",
    "chunk_rows", "chunk_columns", "counts",
)  # fmt: skip
_I64, _POINTER = ir.IntType(64), ir.IntType(8).as_pointer()


def build(module: ir.Module, kernel: Kernel) -> ir.Function:
    """The function of a kernel: `tile` without Numba around it.

    Arguments: pointers to contiguous memory, at the tile's first row or column: the panels a and b and
    their exponents (int32, for aligned sums); the state, chunk (lane floats) and total (float32), PANEL
    columns a row; the numbers (int64); the panels of words of rows and columns, for the steps (of a lane's
    width) and for the chunks (32 bits), both beginning with the range; counts of events (int64). Then
    int64: steps in the range, steps left in the open chunk, steps of a whole chunk, whether the range's
    end closes the open chunk.
    """
    name = "hfp8sim tile " + kernel.name
    if name in module.globals:
        return module.globals[name]
    kind = ir.FunctionType(ir.VoidType(), [_POINTER] * len(_POINTERS) + [_I64] * 4)
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

    The loop state is one list of values: the sums of the tile's rows, how far each of them went (where
    that is watched), and the counts of events (where they are counted).
    """

    def __init__(self, function: ir.Function, kernel: Kernel) -> None:
        self.k = kernel
        self.b = b = ir.IRBuilder(function.append_basic_block("entry"))
        self.step = Lanes(b, kernel.bits, kernel.lanes, kernel.strict)
        self.total = Lanes(b, 32, kernel.lanes, kernel.strict)
        self.width = max(kernel.products, 1)
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
        self.steps, self.left, self.length, self.close = function.args[len(_POINTERS) :]
        numbers = self.p["numbers"]
        self.rounding = Rounding(self.step, kernel, numbers, 0)
        self.between = Rounding(self.total, kernel, numbers, at.BETWEEN)

    def write(self) -> None:
        b = self.b
        if self.k.strict:
            self._save_control()
        self.rounding.load()
        start = self._first_state()
        entry = b.block
        chunk, step, ended, closing, following, done = (
            b.append_basic_block(n) for n in ("chunk", "step", "ended", "closing", "next", "done")
        )
        b.branch(chunk)

        # One turn of `chunk` is a run of steps up to the chunk's or the range's end.
        b.position_at_end(chunk)
        at_step, room, number = b.phi(_I64), b.phi(_I64), b.phi(_I64)
        state = [b.phi(x.type) for x in start]
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
        now, room_left = b.add(at_step, run), b.sub(room, run)
        last = b.icmp_signed(">=", now, self.steps)
        wanted = b.and_(last, b.icmp_signed("!=", self.close, _I64(0)))
        b.cbranch(b.or_(b.icmp_signed("==", run, room), wanted), closing, following)

        b.position_at_end(closing)
        closed = self._close_chunk(number, b.sub(now, _I64(1)), final)
        next_number = b.add(number, _I64(1))
        b.branch(following)

        b.position_at_end(following)
        merged = [b.phi(x.type) for x in (*state, room, number)]
        self._incoming(
            merged,
            (ended, [*final, room_left, number]),
            (closing, [*closed, self.length, next_number]),
        )
        b.cbranch(last, done, chunk)
        self._incoming(
            [*state, room, number, at_step],
            (entry, [*start, self.left, _I64(0), _I64(0)]),
            (following, [*merged, now]),
        )

        b.position_at_end(done)
        self._store_state(merged[: len(state)])
        if self.k.strict:
            self._load_control(self.saved)
        b.ret_void()

    @staticmethod
    def _incoming(phis: list[ir.Value], *sources: tuple[ir.Block, list[ir.Value]]) -> None:
        for block, values in sources:
            for phi, value in zip(phis, values, strict=True):
                phi.add_incoming(value, block)

    # -- the loop state

    def _first_state(self) -> list[ir.Value]:
        k, step = self.k, self.step
        sums = [step.load(self.p["chunk"], r * PANEL, step.floats) for r in range(k.rows)]
        most = [step.zero()] * (k.rows if self.rounding.watched else 0)
        counts = [_I64(0)] * (at.EVENTS if k.events == "count" else 0)
        return [*sums, *most, *counts]

    def _parts(self, state: list[ir.Value]) -> tuple[list[ir.Value], list[ir.Value], Tally]:
        """(sums, how far they went, counts) of a state."""
        rows = self.k.rows
        watched = rows if self.rounding.watched else 0
        most = list(state[rows : rows + watched])
        return list(state[:rows]), most, Tally(self.b, list(state[rows + watched :]))

    def _store_state(self, state: list[ir.Value]) -> None:
        sums, most, tally = self._parts(state)
        sums, most = self._settled(sums, most, self.b.sub(self.steps, _I64(1)))
        for r, value in enumerate(self._poisoned(sums, most)):
            self.step.store(value, self.p["chunk"], r * PANEL)
        for event, count in enumerate(tally.counts):
            place = self.b.gep(self.p["counts"], [_I64(event)])
            self.b.store(self.b.add(self.b.load(place), count), place)

    def _poisoned(self, sums: list[ir.Value], most: list[ir.Value]) -> list[ir.Value]:
        return [self.rounding.poison(s, m) for s, m in zip(sums, most)] if most else sums

    # -- a step

    def _at(self, name: str, index: ir.Value) -> ir.Value:
        """The address of vector number `index` of a panel."""
        return self.b.gep(self.p[name], [self.b.mul(index, _I64(PANEL))])

    def _one_step(self, number: ir.Value, state: list[ir.Value]) -> list[ir.Value]:
        k, step = self.k, self.step
        sums, most, tally = self._parts(state)
        sums, most = self._settled(sums, most, self.b.sub(number, _I64(1)))
        if k.order == "aligned":
            added, products = self._aligned_sums(number, sums), sums
        else:
            added, products = self._fused_sums(number, sums)
        if k.exact_sums:
            return [*added, *most, *tally.counts]
        random = self._random(number)
        for r, (old, s) in enumerate(zip(sums, added)):
            if self._late(r):
                sums[r] = s
                continue
            new = self.rounding.round(s, random(r), r, [old], tally)
            if tally.counts:
                tally.add(at.SWAMPED, step, self._swamped(old, new, s, products[r]))
            if most:
                most[r] = self.rounding.watch(most[r], new)
            sums[r] = new
        return [*sums, *most, *tally.counts]

    def _random(self, number: ir.Value) -> Callable[[int], ir.Value | None]:
        """The addends of a step's stochastic roundings, by row."""
        if not self.random:
            return lambda row: None
        step = self.step
        rows, columns = self._at("rows", number), self._at("columns", number)
        column = step.load(columns, 0, step.words)
        return lambda row: self.rounding.random(step.load_splat(rows, row), column)

    # Every other row may be late: its sum is rounded at the beginning of the next step. Were all rows in
    # step, the processor would find many multiplications first and then many roundings; so it finds both
    # at any time, and all its ports are busy. Rounding twice is as good as once, so at the beginning of a
    # range a late row may be rounded with whatever word.

    def _late(self, row: int) -> bool:
        return self.k.staggered and row % 2 == 1

    def _settled(
        self, sums: list[ir.Value], most: list[ir.Value], number: ir.Value
    ) -> tuple[list[ir.Value], list[ir.Value]]:
        """The sums after step `number`, those of late rows rounded too, and how far they went."""
        if not self.k.staggered:
            return sums, most
        b, sums, most = self.b, list(sums), list(most)
        number = b.select(b.icmp_signed("<", number, _I64(0)), _I64(0), number)
        random, none = self._random(number), Tally(b, [])
        for r, s in enumerate(sums):
            if self._late(r):
                sums[r] = self.rounding.round(s, random(r), r, [], none)
                if most:
                    most[r] = self.rounding.watch(most[r], sums[r])
        return sums, most

    def _swamped(self, old: ir.Value, new: ir.Value, s: ir.Value, product: ir.Value) -> ir.Value:
        """Whether a number stayed what it was. Where that is enough to know, steps whose product is zero
        are among them (`counts_zero_products`)."""
        b, step = self.b, self.step
        same = b.fcmp_ordered("==", old, new)
        if self.k.counts_zero_products:
            return same
        if self.k.order == "serial":  # an exact sum tells whether something was added
            same = b.and_(same, b.fcmp_ordered("!=", s, old))
        else:
            same = b.and_(same, b.fcmp_ordered("!=", product, step.zero()))
        if self.k.over == "free":
            return same
        finite = b.fcmp_ordered("<=", step.absolute(old), self.rounding.number(at.MAX))
        return b.and_(same, finite)

    def _fused_sums(
        self, number: ir.Value, sums: list[ir.Value]
    ) -> tuple[list[ir.Value], list[ir.Value]]:
        """For each row acc + p, acc + (p₀ + p₁) by the adder or (acc + p₀) + p₁ exactly; and p or p₀ + p₁
        (that is gone from the code if nobody asks)."""
        step = self.step
        first = self.b.mul(number, _I64(self.width))
        a, b = self._at("a", first), self._at("b", first)
        columns = [step.load(b, p * PANEL, step.floats) for p in range(self.width)]
        added, products = [], []
        for r, old in enumerate(sums):
            rows = [step.load_splat(a, p * PANEL + r) for p in range(self.width)]
            if self.width == 1:
                added.append(self.rounding.sum(rows[0], columns[0], old))
                products.append(step.mul(rows[0], columns[0]))
                continue
            pair = step.fma(rows[1], columns[1], step.mul(rows[0], columns[0]))
            products.append(pair)
            if self.k.order == "serial":
                added.append(step.fma(rows[1], columns[1], step.fma(rows[0], columns[0], old)))
            else:
                added.append(self.rounding.sum(pair, None, old))
        return added, products

    def _aligned_sums(self, number: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
        """For each row the accumulator and all products of the step, cut to GUARD fraction bits below the
        largest exponent among them, and added exactly (as integers)."""
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

    def _close_chunk(
        self, number: ir.Value, last: ir.Value, state: list[ir.Value]
    ) -> list[ir.Value]:
        """total ← round(total + chunk), for the first chunk onto a total of zero; then a fresh state.
        `last` is the chunk's last step."""
        k, total = self.k, self.total
        sums, most, tally = self._parts(state)
        sums, most = self._settled(sums, most, last)
        sums = self._poisoned(sums, most)
        self.between.load()
        if k.exact_sums:
            sums = [self._rounded_chunk(s, r, tally) for r, s in enumerate(sums)]
        if k.bits == 64:
            sums = [total.narrowed(s) for s in sums]
        if k.between_adder != k.adder:
            self._set_direction(k.between_adder)
        random_rows, random_columns = (
            self._at("chunk_rows", number),
            self._at("chunk_columns", number),
        )
        for r, value in enumerate(sums):
            old = total.load(self.p["total"], r * PANEL, total.floats)
            random = None
            if k.between in ("random", "hash"):
                column = total.load(random_columns, 0, total.words)
                random = self.between.random(total.load_splat(random_rows, r), column)
            s = self.between.sum(value, None, old)
            total.store(
                self.between.round(s, random, r, [old, value], tally), self.p["total"], r * PANEL
            )
        if k.between_adder != k.adder:
            self._set_direction(k.adder)
        zeros = [self.step.zero()] * (len(sums) + len(most))
        return [*zeros, *tally.counts]

    def _rounded_chunk(self, s: ir.Value, row: int, tally: Tally) -> ir.Value:
        """An exact sum, rounded once; its one step is swamped if it becomes zero."""
        b, step = self.b, self.step
        rounded = self.rounding.round(s, None, row, [], tally)
        if tally.counts:
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
        bits = _DIRECTION[adder] | (_FLUSH if self.k.under == "flush" else 0)
        others = self.b.and_(self.saved, word(~_DIRECTIONS & 0xFFFFFFFF))
        self._load_control(self.b.or_(others, word(bits)))


@intrinsic(prefer_literal=True)
def tile(
    typingctx, name, a, b, a_exponents, b_exponents, chunk, total, numbers, rows, columns,
    chunk_rows, chunk_columns, counts, steps, left, length, close,
):  # type: ignore[no-untyped-def]  # fmt: skip
    """Run the kernel `name` (a literal string) on one tile. Addresses and integers, see `build`."""
    if not isinstance(name, types.StringLiteral):
        return None
    kernel = Kernel.parse(name.literal_value)
    pointers = len(_POINTERS)

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        addresses, numbers = values[1 : 1 + pointers], values[1 + pointers :]
        arguments = [builder.inttoptr(x, _POINTER) for x in addresses] + list(numbers)
        builder.call(build(builder.module, kernel), arguments)
        return context.get_dummy_value()

    return types.void(name, *[types.uintp] * pointers, *[types.int64] * 4), codegen
