"""The one kernel generator: a tile of the array over a range of k, as LLVM vector code.

`tile(NAME, ...)` is a Numba intrinsic. Its first argument is the name of a `Kernel`, a compile-time
string; the code that it stands for is made here, from portable LLVM vector operations. All numbers (the
significand's width, the random bits, limits, chunk length, K) are run-time arguments: a kernel is
specialised only in what changes its instructions. What each form computes, and why it is exact, stands
in docs/speed.md; `twin.py` says the same as plain loops.

The accumulators of a tile live in vector registers for all of the range; the running totals of chunks,
touched once a chunk, live in memory. The tile's state goes in and out through memory, so a range may
begin and end anywhere, and nothing is lost between ranges.

**Rounding direction.** Some forms need an adder that chops (or rounds down). The direction is a register
of the processor (x86: MXCSR). It is set inside the generated function and put back before it
returns; nothing there can raise or call. The operations in between are LLVM's *constrained* ones with
`round.dynamic`, so the optimiser knows that the direction is not its business.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

#: Rows of A and columns of B in a panel: element (k, i) of a panel stands at k·PANEL + i.
PANEL = 16

#: Places in a kernel's table of numbers (int64), for the steps; the between-chunk rounding has its own
#: copy of the first ones from `BETWEEN` on. `..._BITS` are the bits of a lane's float.
(
    SCALE_ADD,  # d « fraction width: adding it to a float's bits multiplies by 2^d
    SCALE_BITS,  # 2^d
    SCALE_LESS_BITS,  # 2^d − 1
    HALF,  # half a unit in the last kept place, as an addend to the bits
    KEEP,  # mask of the kept bits
    DROP,  # d: how many bits are cut off
    MAX_BITS,  # largest number
    OVER_BITS,  # what an overflow becomes, without its sign
    MIN_BITS,  # smallest positive number
    HASH_SHIFT,  # a hashed word's way to its place …
    HASH_KEEP,  # … and the mask of its random bits
) = range(11)
BETWEEN = 16
NUMBERS = 32

_ROUND_DOWN, _ROUND_ZERO, _FLUSH = 0x2000, 0x6000, 0x8000  # fields of MXCSR
_ROUND_MASK = 0x6000
_HASH1, _HASH2 = 0x7FEB352D, 0x846CA68B  # mix32, docs/numerics.md section 4
_DIRECTION = {"nearest": 0, "down": _ROUND_DOWN, "chop": _ROUND_ZERO}


class Kernel(NamedTuple):
    """What specialises a kernel. Its `name` is the compile-time argument of `tile`."""

    bits: int  #: of a lane's float: 32 or 64
    lanes: int  #: of a vector
    rows: int  #: of a register tile
    vectors: int  #: across a register tile's columns
    products: int  #: per step: 1 or 2, or 0: exact sums, rounded when the chunk closes
    rounding: str  #: none, even, away, zero, random (row ^ column) or hash (a hash of it)
    adder: str  #: nearest, chop or down (then both neighbours are computed and the odd one taken)
    between: str  #: rounding of the running total, as `rounding`
    between_adder: str
    over: str = "free"  #: free (proved impossible), or limit
    under: str = "free"  #: free, flush (by the processor, where that is exact), or cut
    events: str = "quiet"  #: quiet, or count

    @property
    def name(self) -> str:
        return " ".join(str(field) for field in self)

    @classmethod
    def parse(cls, name: str) -> Kernel:
        fields = name.split(" ")
        return cls(*map(int, fields[:5]), *fields[5:])  # type: ignore[arg-type]

    @property
    def strict(self) -> bool:
        """Whether the processor's control register is changed."""
        directions = {self.adder, self.between_adder}
        return directions != {"nearest"} or self.under == "flush"


class _Lanes:
    """Vector arithmetic in one width, constrained where the rounding direction is not the default."""

    def __init__(self, builder: ir.IRBuilder, bits: int, lanes: int, strict: bool) -> None:
        self.b, self.bits, self.lanes, self.strict = builder, bits, lanes, strict
        self.float = ir.FloatType() if bits == 32 else ir.DoubleType()
        self.word = ir.IntType(bits)
        self.floats, self.words = ir.VectorType(self.float, lanes), ir.VectorType(self.word, lanes)
        self.module = builder.module

    # -- plumbing

    def splat(self, scalar: ir.Value) -> ir.Value:
        vector = ir.VectorType(scalar.type, self.lanes)
        one = self.b.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.IntType(32)(0))
        pattern = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [0] * self.lanes)
        return self.b.shuffle_vector(one, ir.Constant(vector, ir.Undefined), pattern)

    def const(self, value: int) -> ir.Value:
        return ir.Constant(self.words, [value & ((1 << self.bits) - 1)] * self.lanes)

    def zero(self) -> ir.Value:
        return ir.Constant(self.floats, [0.0] * self.lanes)

    def load(self, address: ir.Value, offset: int, vector: ir.Type) -> ir.Value:
        """The vector `offset` elements after an address of elements."""
        place = self.b.gep(address, [ir.IntType(64)(offset)])
        return self.b.load(self.b.bitcast(place, vector.as_pointer()), align=4)

    def store(self, value: ir.Value, address: ir.Value, offset: int) -> None:
        place = self.b.gep(address, [ir.IntType(64)(offset)])
        self.b.store(value, self.b.bitcast(place, value.type.as_pointer()), align=4)

    def load_splat(self, address: ir.Value, offset: int) -> ir.Value:
        place = self.b.gep(address, [ir.IntType(64)(offset)])
        return self.splat(self.b.load(place, align=4))

    def as_words(self, x: ir.Value) -> ir.Value:
        return self.b.bitcast(x, self.words)

    def as_floats(self, x: ir.Value) -> ir.Value:
        return self.b.bitcast(x, self.floats)

    # -- arithmetic

    def _call(self, operation: str, *args: ir.Value) -> ir.Value:
        name = f"{operation}.v{self.lanes}f{self.bits}"
        values = list(args)
        if self.strict:
            name = "experimental.constrained." + name
            for field in ("round.dynamic", "fpexcept.ignore"):
                values.append(ir.MetaDataString(self.module, field))
        kinds = [a.type for a in args] + [ir.types.MetaDataType()] * (len(values) - len(args))
        function = cgutils.get_or_insert_function(
            self.module, ir.FunctionType(self.floats, kinds), "llvm." + name
        )
        return self.b.call(function, values)

    def fma(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        """a·b + c; where a·b is exact, with one rounding on every processor."""
        return self._call("fmuladd", a, b, c)

    def add(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self._call("fadd", a, b) if self.strict else self.b.fadd(a, b)

    def sub(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self._call("fsub", a, b) if self.strict else self.b.fsub(a, b)

    def mul(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self._call("fmul", a, b) if self.strict else self.b.fmul(a, b)

    def absolute(self, x: ir.Value) -> ir.Value:
        mask = self.const((1 << (self.bits - 1)) - 1)
        return self.as_floats(self.b.and_(self.as_words(x), mask))

    def with_sign_of(self, magnitude: ir.Value, x: ir.Value) -> ir.Value:
        sign = self.b.and_(self.as_words(x), self.const(1 << (self.bits - 1)))
        return self.as_floats(self.b.or_(sign, self.as_words(magnitude)))


class _Rounding:
    """One rounding of a vector, with its numbers in registers."""

    def __init__(
        self, lanes: _Lanes, numbers: ir.Value, base: int, kind: str, adder: str, kernel: Kernel
    ):
        self.l, self.kind, self.adder, self.kernel = lanes, kind, adder, kernel
        self._numbers, self._base = numbers, base
        self._kept: dict[int, ir.Value] = {}

    def load(self) -> None:
        """Bring the numbers into registers (here, not inside the loop)."""
        wanted = {
            "none": [], "even": [SCALE_ADD, SCALE_BITS, SCALE_LESS_BITS], "away": [HALF, KEEP],
            "zero": [KEEP], "random": [KEEP], "hash": [KEEP, HASH_SHIFT, HASH_KEEP],
        }[self.kind]  # fmt: skip
        if self.kind == "even" and self.adder == "down":
            wanted = [HALF, KEEP, DROP]
        if self.kernel.over != "free":
            wanted = [*wanted, MAX_BITS, OVER_BITS]
        if self.kernel.under == "cut":
            wanted = [*wanted, MIN_BITS]
        for place in wanted:
            self._kept[place] = self._number(place)

    def _number(self, place: int) -> ir.Value:
        b = self.l.b
        value = b.load(b.gep(self._numbers, [ir.IntType(64)(self._base + place)]))
        if self.l.bits == 32:
            value = b.trunc(value, ir.IntType(32))
        return self.l.splat(value)

    def _words(self, place: int) -> ir.Value:
        return self._kept[place]

    def _floats(self, place: int) -> ir.Value:
        return self.l.as_floats(self._kept[place])

    def sum(self, a: ir.Value, b: ir.Value | None, c: ir.Value) -> ir.Value:
        """a·b + c (b None: a + c) by the adder; for `down`, the odd one of the two neighbours."""
        lanes = self.l
        if self.adder != "down":
            return lanes.add(a, c) if b is None else lanes.fma(a, b, c)
        minus = lanes.b.fneg
        low = lanes.add(a, c) if b is None else lanes.fma(a, b, c)
        high = lanes.add(minus(a), minus(c)) if b is None else lanes.fma(minus(a), b, minus(c))
        low, high = lanes.as_words(low), lanes.as_words(minus(high))
        odd = lanes.b.icmp_unsigned("!=", lanes.b.and_(low, lanes.const(1)), lanes.const(0))
        return lanes.as_floats(lanes.b.select(odd, low, high))

    def round(self, s: ir.Value, random: ir.Value | None, row: int) -> ir.Value:
        """The sum s in the accumulator's precision, limits included."""
        lanes, b = self.l, self.l.b
        if self.kind == "even" and self.adder != "down":
            s = self._nearest_even_in_floats(s, row)
        elif self.kind != "none":
            bits = lanes.as_words(s)
            if self.kind == "even":
                lsb = b.and_(b.lshr(bits, self._words(DROP)), lanes.const(1))
                bits = b.add(bits, b.add(b.sub(self._words(HALF), lanes.const(1)), lsb))
            elif self.kind == "away":
                bits = b.add(bits, self._words(HALF))
            elif self.kind in ("random", "hash"):
                bits = b.add(bits, random)
            s = lanes.as_floats(b.and_(bits, self._words(KEEP)))
        return self._limit(s)

    def _nearest_even_in_floats(self, s: ir.Value, row: int) -> ir.Value:
        """q − (q − s) with q = 2^d·s. Two spellings of the same bits load different execution ports, so
        rows alternate: q − s = s·(2^d − 1), each correctly rounded."""
        lanes = self.l
        if row % 5 in (0, 2):
            rest = lanes.mul(s, self._floats(SCALE_LESS_BITS))
            return lanes.fma(s, self._floats(SCALE_BITS), lanes.b.fneg(rest))
        q = lanes.as_floats(lanes.b.add(lanes.as_words(s), self._words(SCALE_ADD)))
        return lanes.sub(q, lanes.sub(q, s))

    def _limit(self, s: ir.Value) -> ir.Value:
        lanes, b = self.l, self.l.b
        if self.kernel.over == "free" and self.kernel.under != "cut":
            return s
        magnitude = lanes.absolute(s)
        if self.kernel.over != "free":  # a NaN compares false and stays
            over = b.fcmp_ordered(">", magnitude, self._floats(MAX_BITS))
            s = b.select(over, lanes.with_sign_of(self._floats(OVER_BITS), s), s)
        if self.kernel.under == "cut":
            keep = b.fcmp_unordered(">=", magnitude, self._floats(MIN_BITS))
            s = b.select(keep, s, lanes.zero())
        return s

    def random(self, row: ir.Value, column: ir.Value) -> ir.Value:
        """The addend of a stochastic rounding from a row's and a column's word."""
        lanes, b = self.l, self.l.b
        x = b.xor(row, column)
        if self.kind == "random":
            return x
        # mix32. Its first x ^= x >> 16 is linear over xor, and is already in both words; its last one
        # cannot reach the 16 highest bits, and no more are used.
        x = self._times(x, _HASH1)
        x = b.xor(x, b.lshr(x, lanes.const(15)))
        x = self._times(x, _HASH2)
        move = b.lshr if lanes.bits == 32 else b.shl
        return b.and_(move(x, self._words(HASH_SHIFT)), self._words(HASH_KEEP))

    def _times(self, x: ir.Value, factor: int) -> ir.Value:
        """The product modulo 2^32."""
        x = self.l.b.mul(x, self.l.const(factor))
        return x if self.l.bits == 32 else self.l.b.and_(x, self.l.const(0xFFFFFFFF))


def _control_word(b: ir.IRBuilder, slot: ir.Value, value: ir.Value) -> None:
    b.store(value, slot)
    kind = ir.FunctionType(ir.VoidType(), [slot.type])
    b.call(cgutils.get_or_insert_function(b.module, kind, "llvm.x86.sse.ldmxcsr"), [slot])


def build(module: ir.Module, kernel: Kernel) -> ir.Function:
    """The function of a kernel: `tile` without Numba around it.

    Arguments, all pointers to contiguous memory: a, b (panels at the range's first k, and at the tile's
    first row or column), chunk (lane floats) and total (float32) with PANEL columns a row; numbers; the
    panels of row and column words of the steps, and of the chunks; counts (int64). Then int64: steps in
    the range, steps left in the open chunk, steps of a whole chunk, whether the range's end closes the
    open chunk.
    """
    i64, i8 = ir.IntType(64), ir.IntType(8)
    pointer = i8.as_pointer()
    name = "hfp8sim tile " + kernel.name
    kind = ir.FunctionType(ir.VoidType(), [pointer] * 10 + [i64] * 4)
    if name in module.globals:
        return module.globals[name]
    function = ir.Function(module, kind, name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    function.attributes.add("nounwind")
    if kernel.strict:
        set.add(function.attributes, "strictfp")  # llvmlite's own list of attributes lacks it
    _Body(function, kernel).write()
    return function


class _Body:
    """The body of a kernel's function."""

    def __init__(self, function: ir.Function, kernel: Kernel) -> None:
        self.function, self.k = function, kernel
        self.b = ir.IRBuilder(function.append_basic_block("entry"))
        self.step = _Lanes(self.b, kernel.bits, kernel.lanes, kernel.strict)
        self.total = _Lanes(self.b, 32, kernel.lanes, kernel.strict)
        self.width = max(kernel.products, 1)
        self.cells = [(r, v) for r in range(kernel.rows) for v in range(kernel.vectors)]
        self.random = kernel.rounding in ("random", "hash")

    def write(self) -> None:
        b, k, i64 = self.b, self.k, ir.IntType(64)
        a, bp, chunk, total, numbers, rows, columns, rows2, columns2, counts = self.function.args[
            :10
        ]
        steps, left, length, close = self.function.args[10:]
        floats, words = self.step.float.as_pointer(), self.step.word.as_pointer()
        a, bp, chunk = (b.bitcast(x, floats) for x in (a, bp, chunk))
        self.totals = b.bitcast(total, ir.FloatType().as_pointer())
        numbers = b.bitcast(numbers, i64.as_pointer())
        rows, columns = b.bitcast(rows, words), b.bitcast(columns, words)
        word32 = ir.IntType(32).as_pointer()
        rows2, columns2 = b.bitcast(rows2, word32), b.bitcast(columns2, word32)
        self.counts = b.bitcast(counts, i64.as_pointer())

        self.rounding = _Rounding(self.step, numbers, 0, k.rounding, k.adder, k)
        self.between = _Rounding(self.total, numbers, BETWEEN, k.between, k.between_adder, k)
        if k.strict:
            self._save_control()
        self.rounding.load()
        sums = [
            self.step.load(chunk, r * PANEL + v * k.lanes, self.step.floats) for r, v in self.cells
        ]
        same = self._zero_counts()

        before = b.block
        outer, inner = b.append_basic_block("chunk"), b.append_basic_block("step")
        ended, closing = b.append_basic_block("ended"), b.append_basic_block("close")
        following, done = b.append_basic_block("next"), b.append_basic_block("done")
        b.branch(outer)

        # One turn of `outer` is a run of steps up to the chunk's or the range's end.
        b.position_at_end(outer)
        at = b.phi(i64, "at")
        room = b.phi(i64, "room")
        outer_pointers = [b.phi(p.type) for p in (a, bp, rows, columns, rows2, columns2)]
        outer_state = [b.phi(x.type) for x in sums + same]
        rest = b.sub(steps, at)
        run = b.select(b.icmp_signed("<", room, rest), room, rest)
        b.cbranch(b.icmp_signed(">", run, i64(0)), inner, ended)

        b.position_at_end(inner)
        done_steps = b.phi(i64, "i")
        inner_pointers = [b.phi(p.type) for p in (a, bp, rows, columns)]
        inner_state = [b.phi(x.type) for x in sums + same]
        state = self._one_step(inner_pointers, inner_state)
        advance = [PANEL * self.width, PANEL * self.width, PANEL, PANEL]
        moved = [b.gep(p, [i64(n)]) for p, n in zip(inner_pointers, advance)]
        after = b.add(done_steps, i64(1))
        for phi, start, again in zip(
            [done_steps, *inner_pointers, *inner_state],
            [i64(0), *outer_pointers[:4], *outer_state],
            [after, *moved, *state],
        ):
            phi.add_incoming(start, outer)
            phi.add_incoming(again, inner)
        b.cbranch(b.icmp_signed("<", after, run), inner, ended)

        b.position_at_end(ended)
        pointers = [b.phi(p.type) for p in inner_pointers]
        final = [b.phi(x.type) for x in sums + same]
        for phi, start, value in zip(
            pointers + final, [*outer_pointers[:4], *outer_state], moved + state
        ):
            phi.add_incoming(start, outer)
            phi.add_incoming(value, inner)
        now = b.add(at, run)
        full = b.icmp_signed("==", run, room)
        last = b.icmp_signed(">=", now, steps)
        closes = b.or_(full, b.and_(last, b.icmp_signed("!=", close, i64(0))))
        left_over = b.sub(room, run)
        b.cbranch(closes, closing, following)

        b.position_at_end(closing)
        self._close(final[: len(sums)], outer_pointers[4], outer_pointers[5])
        next2 = [b.gep(p, [i64(PANEL)]) for p in outer_pointers[4:]]
        b.branch(following)

        b.position_at_end(following)
        zero = self.step.zero()
        carried = []
        for value in final[: len(sums)]:
            phi = b.phi(value.type)
            phi.add_incoming(value, ended)
            phi.add_incoming(zero, closing)
            carried.append(phi)
        new_room = b.phi(i64)
        new_room.add_incoming(left_over, ended)
        new_room.add_incoming(length, closing)
        pointers2 = []
        for old, new in zip(outer_pointers[4:], next2):
            phi = b.phi(old.type)
            phi.add_incoming(old, ended)
            phi.add_incoming(new, closing)
            pointers2.append(phi)
        b.cbranch(last, done, outer)
        for phi, start, again in zip(
            [at, room, *outer_pointers, *outer_state],
            [i64(0), left, a, bp, rows, columns, rows2, columns2, *sums, *same],
            [now, new_room, *pointers, *pointers2, *carried, *final[len(sums) :]],
        ):
            phi.add_incoming(start, before)
            phi.add_incoming(again, following)

        b.position_at_end(done)
        for (r, v), value in zip(self.cells, carried):
            self.step.store(value, chunk, r * PANEL + v * k.lanes)
        self._add_counts(final[len(sums) :])
        if k.strict:
            _control_word(b, self.slot, self.saved)
        b.ret_void()

    # -- pieces

    def _one_step(self, pointers, state):  # type: ignore[no-untyped-def]
        k, step = self.k, self.step
        a, bp, rows, columns = pointers
        sums, same = state[: len(self.cells)], list(state[len(self.cells) :])
        weights = [
            [step.load(bp, p * PANEL + v * k.lanes, step.floats) for v in range(k.vectors)]
            for p in range(self.width)
        ]
        column_words = [
            step.load(columns, v * k.lanes, step.words) for v in range(k.vectors) if self.random
        ]
        result = []
        for (r, v), old in zip(self.cells, sums):
            inputs = [step.load_splat(a, p * PANEL + r) for p in range(self.width)]
            if self.width == 2:
                pair = step.fma(inputs[1], weights[1][v], step.mul(inputs[0], weights[0][v]))
                s = self.rounding.sum(pair, None, old)
            else:
                s = self.rounding.sum(inputs[0], weights[0][v], old)
            if k.products == 0:
                result.append(s)
                continue
            random = None
            if self.random:
                random = self.rounding.random(step.load_splat(rows, r), column_words[v])
            new = self.rounding.round(s, random, r)
            if same:
                same[v] = self._count_unchanged(
                    same[v], old, new, pair if self.width == 2 else None
                )
            result.append(new)
        return result + same

    def _close(self, sums, rows, columns):  # type: ignore[no-untyped-def]
        """total ← round(total + chunk); the first chunk's copy is the sum with a total of zero."""
        k = self.k
        self.between.load()
        if k.products == 0:
            sums = [self.rounding.round(s, None, r) for (r, v), s in zip(self.cells, sums)]
        if k.bits == 64:
            sums = [self._narrow(s) for s in sums]
        if k.between_adder != k.adder:
            self._set_direction(k.between_adder)
        for (r, v), value in zip(self.cells, sums):
            place = r * PANEL + v * k.lanes
            old = self.total.load(self.totals, place, self.total.floats)
            s = self.between.sum(value, None, old)
            random = None
            if k.between in ("random", "hash"):
                column = self.total.load(columns, v * k.lanes, self.total.words)
                random = self.between.random(self.total.load_splat(rows, r), column)
            self.total.store(self.between.round(s, random, r), self.totals, place)
        if k.between_adder != k.adder:
            self._set_direction(k.adder)

    def _narrow(self, value: ir.Value) -> ir.Value:
        """A float64 vector as float32 (exact, or the one rounding to nearest of an exact sum)."""
        if not self.k.strict:
            return self.b.fptrunc(value, self.total.floats)
        name = f"llvm.experimental.constrained.fptrunc.v{self.k.lanes}f32.v{self.k.lanes}f64"
        metadata = [
            ir.MetaDataString(self.b.module, s) for s in ("round.dynamic", "fpexcept.ignore")
        ]
        kind = ir.FunctionType(self.total.floats, [value.type] + [ir.types.MetaDataType()] * 2)
        return self.b.call(
            cgutils.get_or_insert_function(self.b.module, kind, name), [value, *metadata]
        )

    # -- the processor's control register

    def _save_control(self) -> None:
        b = self.b
        self.slot = b.bitcast(b.alloca(ir.IntType(32)), ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [self.slot.type])
        b.call(cgutils.get_or_insert_function(b.module, kind, "llvm.x86.sse.stmxcsr"), [self.slot])
        self.slot = b.bitcast(self.slot, ir.IntType(32).as_pointer())
        self.saved = b.load(self.slot)
        self._set_direction(self.k.adder)

    def _set_direction(self, adder: str) -> None:
        word = ir.IntType(32)
        bits = _DIRECTION[adder] | (_FLUSH if self.k.under == "flush" else 0)
        value = self.b.or_(self.b.and_(self.saved, word(~_ROUND_MASK & 0xFFFFFFFF)), word(bits))
        self._load_control(value)

    def _load_control(self, value: ir.Value) -> None:
        _control_word(self.b, self.slot, value)

    # -- events

    def _zero_counts(self) -> list[ir.Value]:
        if self.k.events == "quiet":
            return []
        return [self.step.const(0) for _ in range(self.k.vectors)]

    def _count_unchanged(self, count, old, new, pair):  # type: ignore[no-untyped-def]
        b = self.b
        unchanged = b.fcmp_ordered("==", old, new)
        if pair is not None:
            unchanged = b.and_(unchanged, b.fcmp_unordered("!=", pair, self.step.zero()))
        return b.sub(count, b.sext(unchanged, self.step.words))

    def _add_counts(self, counts: list[ir.Value]) -> None:
        b, i64 = self.b, ir.IntType(64)
        for vector in counts:
            total = b.load(self.counts)
            for lane in range(self.k.lanes):
                one = b.extract_element(vector, ir.IntType(32)(lane))
                total = b.add(total, b.zext(one, i64) if self.k.bits == 32 else one)
            b.store(total, self.counts)


@intrinsic(prefer_literal=True)
def tile(
    typingctx, name, a, b, chunk, total, numbers, rows, columns, rows2, columns2, counts,
    steps, left, length, close,
):  # type: ignore[no-untyped-def]  # fmt: skip
    """Run the kernel `name` (a literal string) on one tile. Addresses and integers, see `build`."""
    if not isinstance(name, types.StringLiteral):
        return None
    kernel = Kernel.parse(name.literal_value)
    addresses = (a, b, chunk, total, numbers, rows, columns, rows2, columns2, counts)

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        pointer = ir.IntType(8).as_pointer()
        arguments = [builder.inttoptr(v, pointer) for v in values[1:11]] + list(values[11:])
        builder.call(build(builder.module, kernel), arguments)
        return context.get_dummy_value()

    signature = types.void(name, *[types.uintp] * len(addresses), *[types.int64] * 4)
    return signature, codegen


def float_bits(value: float, bits: int) -> int:
    """The bits of a float32 or float64 as an unsigned integer."""
    if bits == 32:
        return int(np.float32(value).view(np.uint32))
    return int(np.float64(value).view(np.uint64))
