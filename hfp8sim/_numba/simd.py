"""The one vector language: LLVM code written with Python's operators.

A `Value` is a value of the code that is being written: an int64, a vector of integers, or a vector of floats.
`a + b` writes an addition and gives its result. `Code` is the place where code is written, with control flow;
`Lanes` is a vector type. This module (with the rest of `_numba`) is the only one that imports llvmlite.

Where a function changes the processor's rounding direction (`Code.strict`), arithmetic is LLVM's *constrained*
kind with `round.dynamic`: the optimiser then does not assume a direction. Comparisons, sign changes and integer
operations do not round and stay as they are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from llvmlite import ir
from numba.core import cgutils

#: Types of elements.
I8, I16, I32, I64 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64)
F16, F32, F64 = ir.HalfType(), ir.FloatType(), ir.DoubleType()
_FLOATS = {16: F16, 32: F32, 64: F64}
Type: TypeAlias = ir.Type

#: Rounding directions, and the bits that stand for them in x86's MXCSR and in AArch64's FPCR.
NEAREST, DOWN, CHOP = "nearest", "down", "chop"
_MXCSR_DIRECTION = {NEAREST: 0, DOWN: 0x2000, CHOP: 0x6000}
_MXCSR_DIRECTIONS, _MXCSR_FLUSH = 0x6000, 0x8000
_FPCR_DIRECTION = {NEAREST: 0, DOWN: 2 << 22, CHOP: 3 << 22}


def integer(bits: int) -> Type:
    """The type of integers of so many bits."""
    return ir.IntType(bits)


def vector(element: Type, lanes: int) -> Type:
    """The type of vectors of so many elements."""
    return ir.VectorType(element, lanes)


def _constant(kind: Type, number: float) -> ir.Constant:
    """A number of a type, in all lanes if that is a vector."""
    element = kind.element if isinstance(kind, ir.VectorType) else kind
    if isinstance(element, ir.IntType):
        number = int(number) & ((1 << element.width) - 1)
    return ir.Constant(kind, [number] * kind.count if isinstance(kind, ir.VectorType) else number)


class Value:
    """A value of the code that is being written. A Python number beside one is a constant of its type."""

    __slots__ = ("code", "ir")

    def __init__(self, code: Code, value: ir.Value) -> None:
        self.code, self.ir = code, value

    # -- types

    @property
    def type(self) -> Type:
        """Its LLVM type."""
        return self.ir.type

    @property
    def element(self) -> Type:
        """The type of an element of a vector, or its own."""
        return self.type.element if isinstance(self.type, ir.VectorType) else self.type

    @property
    def lanes(self) -> int:
        """Elements of a vector."""
        count: int = self.type.count
        return count

    @property
    def bits(self) -> int:
        """Width of an element."""
        kind = self.element
        if isinstance(kind, ir.IntType):
            return int(kind.width)
        return next(bits for bits, of_bits in _FLOATS.items() if of_bits == kind)

    @property
    def is_float(self) -> bool:
        """Whether it is a vector of floats."""
        return not isinstance(self.element, ir.IntType)

    def _operand(self, other: Operand) -> ir.Value:
        return other.ir if isinstance(other, Value) else _constant(self.type, other)

    def _new(self, value: ir.Value) -> Value:
        return Value(self.code, value)

    # -- arithmetic

    def _binary(self, other: Operand, integers: str, floats: str = "") -> Value:
        """An operation with its names for integers and for floats."""
        operand = self._operand(other)
        if self.is_float:
            return self.code.rounded(floats, self, self._new(operand))
        return self._new(getattr(self.code.builder, integers)(self.ir, operand))

    def __add__(self, other: Operand) -> Value:
        return self._binary(other, "add", "fadd")

    def __sub__(self, other: Operand) -> Value:
        return self._binary(other, "sub", "fsub")

    def __mul__(self, other: Operand) -> Value:
        return self._binary(other, "mul", "fmul")

    def __and__(self, other: Operand) -> Value:
        return self._binary(other, "and_")

    def __or__(self, other: Operand) -> Value:
        return self._binary(other, "or_")

    def __xor__(self, other: Operand) -> Value:
        return self._binary(other, "xor")

    def __lshift__(self, other: Operand) -> Value:
        return self._binary(other, "shl")

    def __rshift__(self, other: Operand) -> Value:
        """A shift that brings in zeros."""
        return self._binary(other, "lshr")

    def __neg__(self) -> Value:
        """A float with the other sign."""
        return self._new(self.code.builder.fneg(self.ir))

    def inverted(self) -> Value:
        """All bits the other way round."""
        return self._new(self.code.builder.not_(self.ir))

    def times_plus(self, factor: Value, addend: Value) -> Value:
        """self·factor + addend: rounded once if the product is exact or the processor has a fused operation."""
        return self.code.rounded("fmuladd", self, factor, addend)

    # -- comparisons: signed integers; floats with False for a NaN

    def _compare(self, how: str, other: Operand) -> Value:
        builder, operand = self.code.builder, self._operand(other)
        compare = builder.fcmp_ordered if self.is_float else builder.icmp_signed
        return self._new(compare(how, self.ir, operand))

    def equals(self, other: Operand) -> Value:
        """self = other."""
        return self._compare("==", other)

    def differs(self, other: Operand) -> Value:
        """self ≠ other; of floats, if both are numbers."""
        return self._compare("!=", other)

    def __lt__(self, other: Operand) -> Value:
        return self._compare("<", other)

    def __le__(self, other: Operand) -> Value:
        return self._compare("<=", other)

    def __gt__(self, other: Operand) -> Value:
        return self._compare(">", other)

    def __ge__(self, other: Operand) -> Value:
        return self._compare(">=", other)

    def _unsigned(self, how: str, other: Operand) -> Value:
        return self._new(self.code.builder.icmp_unsigned(how, self.ir, self._operand(other)))

    def is_below(self, other: Operand) -> Value:
        """self < other as unsigned integers."""
        return self._unsigned("<", other)

    def is_above(self, other: Operand) -> Value:
        """self > other as unsigned integers."""
        return self._unsigned(">", other)

    def is_at_least(self, other: Operand) -> Value:
        """self ≥ other as unsigned integers."""
        return self._unsigned(">=", other)

    def not_below(self, other: Operand) -> Value:
        """self ≥ other as floats, or one of them is a NaN."""
        return self._new(self.code.builder.fcmp_unordered(">=", self.ir, self._operand(other)))

    def is_nan(self) -> Value:
        """Whether a float is a NaN."""
        return self._new(self.code.builder.fcmp_unordered("uno", self.ir, self.ir))

    # -- selection

    def where(self, condition: Value, other: Operand) -> Value:
        """This where the condition holds, else the other."""
        return self._new(self.code.builder.select(condition.ir, self.ir, self._operand(other)))

    def at_most(self, limit: Operand) -> Value:
        """The smaller one of signed integers."""
        return self.where(self < limit, limit)

    def at_least(self, limit: Value) -> Value:
        """The larger one of signed integers."""
        return limit.where(self < limit, self)

    # -- bits

    def bitcast(self, kind: Type) -> Value:
        """The same bits as another type."""
        return self._new(self.code.builder.bitcast(self.ir, kind))

    def words(self) -> Value:
        """The bits of floats, as integers."""
        return self.bitcast(vector(integer(self.bits), self.lanes))

    def floats(self) -> Value:
        """The floats of given bits."""
        return self.bitcast(vector(_FLOATS[self.bits], self.lanes))

    def absolute(self) -> Value:
        """Floats without their signs."""
        return (self.words() & ((1 << (self.bits - 1)) - 1)).floats()

    def with_sign_of(self, x: Value) -> Value:
        """Floats without signs, with the signs of others."""
        sign = x.words() & (1 << (x.bits - 1))
        return (sign | self.words()).floats()

    def widened(self, kind: Type) -> Value:
        """Integers of more bits (zeros come in); floats of more bits."""
        builder = self.code.builder
        extend = builder.fpext if self.is_float else builder.zext
        return self if self.type == kind else self._new(extend(self.ir, kind))

    def cut(self, kind: Type) -> Value:
        """Integers of fewer bits."""
        return self if self.type == kind else self._new(self.code.builder.trunc(self.ir, kind))

    # -- between lanes

    def splat(self, lanes: int) -> Value:
        """A vector of so many lanes that are all this scalar."""
        builder, kind = self.code.builder, vector(self.type, lanes)
        one = builder.insert_element(ir.Constant(kind, ir.Undefined), self.ir, I32(0))
        pattern = ir.Constant(vector(I32, lanes), [0] * lanes)
        return self._new(builder.shuffle_vector(one, one, pattern))

    def shuffled(self, other: Value, places: Sequence[int]) -> Value:
        """Lanes of two vectors of n lanes: place i < n is this one's, place n + i the other's."""
        pattern = ir.Constant(vector(I32, len(places)), list(places))
        return self._new(self.code.builder.shuffle_vector(self.ir, other.ir, pattern))

    def parts(self, lanes: int) -> list[Value]:
        """Vectors of so many lanes each, one after another."""
        if lanes == self.lanes:
            return [self]
        return [
            self.shuffled(self, range(first, first + lanes))
            for first in range(0, self.lanes, lanes)
        ]

    def joined(self, others: Sequence[Value]) -> Value:
        """This vector and others of its type, one after another; with their number a power of two."""
        vectors = [self, *others]
        while len(vectors) > 1:
            pairs = zip(vectors[::2], vectors[1::2], strict=True)
            vectors = [x.shuffled(y, range(2 * x.lanes)) for x, y in pairs]
        return vectors[0]

    def extracted(self, lane: int) -> Value:
        """One lane."""
        return self._new(self.code.builder.extract_element(self.ir, I64(lane)))

    def mask(self) -> Value:
        """The lanes of a comparison as bits of one integer."""
        return self.bitcast(integer(self.lanes))

    def population(self) -> Value:
        """How many bits are 1, of each element."""
        if not isinstance(self.type, ir.VectorType):
            return self._new(self.code.builder.ctpop(self.ir))
        return self.code.call(f"ctpop.v{self.lanes}i{self.bits}", self.type, self)

    def lowest_one(self) -> Value:
        """The number of the lowest bit that is 1, of an integer that is not zero."""
        return self._new(self.code.builder.cttz(self.ir, ir.Constant(ir.IntType(1), 1)))

    def count(self) -> Value:
        """How many lanes of a comparison are true, int64. (Scalar units do it, beside the vector's.)"""
        return self.mask().widened(I64).population()


Operand: TypeAlias = Value | int | float


class Pointer:
    """An address of elements of a type."""

    def __init__(self, code: Code, address: ir.Value, element: Type) -> None:
        self.code, self.element = code, element
        self.ir = code.builder.bitcast(address, element.as_pointer())

    def __add__(self, elements: Value | int) -> Pointer:
        """The address so many elements further on."""
        offset = elements.ir if isinstance(elements, Value) else I64(elements)
        return Pointer(self.code, self.code.builder.gep(self.ir, [offset]), self.element)

    def as_type(self, element: Type) -> Pointer:
        """The same address, of elements of another type."""
        return Pointer(self.code, self.ir, element)

    def load(self, kind: Type | None = None, align: int | None = None) -> Value:
        """An element, or what else there is of another type. `align`: the address is a multiple of it."""
        place = self if kind is None else self.as_type(kind)
        return Value(self.code, self.code.builder.load(place.ir, align=align))

    def store(self, value: Value, align: int | None = None) -> None:
        """Write an element, or something of another type."""
        self.code.builder.store(value.ir, self.as_type(value.type).ir, align=align)


class Block:
    """A basic block with arguments: each jump to it hands over their values (LLVM's phi instructions)."""

    def __init__(self, code: Code, name: str, types: Sequence[Type] = ()) -> None:
        self.code, self.ir = code, code.builder.append_basic_block(name)
        before = code.builder.block
        code.builder.position_at_end(self.ir)
        self._phis = [code.builder.phi(kind) for kind in types]
        code.builder.position_at_end(before)
        self.arguments = [Value(code, phi) for phi in self._phis]

    def receive(self, values: Sequence[Value]) -> None:
        """Take these values as the arguments when control comes from the block that is being written."""
        for phi, value in zip(self._phis, values, strict=True):
            phi.add_incoming(value.ir, self.code.builder.block)


class Code:
    """The place where code is written.

    Args:
        builder: of llvmlite; code is written where it stands.
        strict: the rounding direction is set inside this function.
        promoted: sums of binary16 are computed in binary32 and narrowed, on x86 without arithmetic of binary16.
    """

    def __init__(self, builder: ir.IRBuilder, strict: bool = False, promoted: bool = False) -> None:
        self.builder, self.strict, self.promoted = builder, strict, promoted
        self._environment: tuple[Any, ...] = ()

    def value(self, value: ir.Value) -> Value:
        """A value of llvmlite as one of this language."""
        return Value(self, value)

    def number(self, number: int, kind: Type = I64) -> Value:
        """A constant, int64 or of another type."""
        return Value(self, _constant(kind, number))

    def numbers(self, numbers: Sequence[int], kind: Type) -> Value:
        """A vector of constants."""
        lanes = [_constant(kind, number) for number in numbers]
        return Value(self, ir.Constant(vector(kind, len(lanes)), lanes))

    def extracted(self, record: ir.Value, i: int) -> Value:
        """A member of a tuple."""
        return Value(self, self.builder.extract_value(record, i))

    def pointer(self, address: ir.Value, element: Type) -> Pointer:
        """An address (a pointer, or an integer) as one of elements of a type."""
        if isinstance(address.type, ir.IntType):
            address = self.builder.inttoptr(address, element.as_pointer())
        return Pointer(self, address, element)

    def array(self, element: Type, count: int) -> Pointer:
        """Memory for so many elements, all zero, as long as the function runs."""
        kind = ir.ArrayType(element, count)
        place = self.builder.alloca(kind)
        self.builder.store(ir.Constant(kind, None), place)
        return Pointer(self, place, element)

    # -- calls

    def call(self, name: str, result: Type, *arguments: Value) -> Value:
        """Call an intrinsic function of LLVM: its name without `llvm.`."""
        kind = ir.FunctionType(result, [x.type for x in arguments])
        function = cgutils.get_or_insert_function(self.builder.module, kind, "llvm." + name)
        return Value(self, self.builder.call(function, [x.ir for x in arguments]))

    def rounded(self, name: str, *arguments: Value) -> Value:
        """An operation on floats that rounds: fadd, fsub, fmul or fmuladd."""
        first = arguments[0]
        if self.promoted and first.bits == 16:
            return self._promoted(name, arguments)
        suffixed = f"{name}.v{first.lanes}f{first.bits}"
        if self.strict:
            return self.constrained(suffixed, first.type, *arguments)
        if name == "fmuladd":
            return self.call(suffixed, first.type, *arguments)
        return Value(self, getattr(self.builder, name)(*(x.ir for x in arguments)))

    def _promoted(self, name: str, arguments: Sequence[Value]) -> Value:
        """An operation on binary16 numbers: rounded to binary32, then to binary16, in the present direction."""
        lanes = arguments[0].lanes
        wide = self.rounded(name, *(x.widened(vector(F32, lanes)) for x in arguments))
        parts = [self._narrowed_to_halves(part) for part in wide.parts(16)]
        return parts[0].joined(parts[1:]).bitcast(vector(F16, lanes))

    def _narrowed_to_halves(self, x: Value) -> Value:
        """16 binary32 numbers as the bits of binary16 numbers, by VCVTPS2PH in the direction of MXCSR."""
        current, words = 4, vector(integer(16), 16)
        return self.call(
            "x86.avx512.mask.vcvtps2ph.512", words,
            x, self.number(current, I32), self.number(0, words), self.number(-1, integer(16)),
        )  # fmt: skip

    def constrained(
        self, name: str, result: Type, *arguments: Value, directed: bool = True
    ) -> Value:
        """An operation whose rounding direction is not known when compiling; not `directed`: it has none."""
        module = self.builder.module
        fields = ("round.dynamic", "fpexcept.ignore") if directed else ("fpexcept.ignore",)
        metadata = [ir.MetaDataString(module, field) for field in fields]
        kinds = [x.type for x in arguments] + [ir.types.MetaDataType()] * len(metadata)
        kind = ir.FunctionType(result, kinds)
        name = f"llvm.experimental.constrained.{name}"
        function = cgutils.get_or_insert_function(module, kind, name)
        return Value(self, self.builder.call(function, [*(x.ir for x in arguments), *metadata]))

    # -- control flow

    def block(self, name: str, values: Sequence[Value] = ()) -> Block:
        """A block with arguments of the types of these values. `write_to` begins to write it."""
        return Block(self, name, [x.type for x in values])

    def write_to(self, block: Block) -> list[Value]:
        """Write to this block from here on; its arguments."""
        self.builder.position_at_end(block.ir)
        return list(block.arguments)

    def jump(self, block: Block, values: Sequence[Value] = ()) -> None:
        """Go on there."""
        block.receive(values)
        self.builder.branch(block.ir)

    def choose(
        self,
        condition: Value,
        yes: tuple[Block, Sequence[Value]],
        no: tuple[Block, Sequence[Value]],
    ) -> None:
        """Go on at one of two blocks, with values for its arguments."""
        for block, values in (yes, no):
            block.receive(values)
        self.builder.cbranch(condition.ir, yes[0].ir, no[0].ir)

    def repeat(
        self,
        times: Value | int,
        body: Callable[[Value, list[Value]], list[Value]],
        values: Sequence[Value],
    ) -> list[Value]:
        """A loop `for i in range(times): values = body(i, values)`; what the values are afterwards.

        A Python number of times is at least 1.
        """
        zero = self.number(0)
        loop, after = self.block("loop", [zero, *values]), self.block("after", values)
        if isinstance(times, int):
            self.jump(loop, [zero, *values])
        else:
            self.choose(times > 0, (loop, [zero, *values]), (after, values))
        i, *state = self.write_to(loop)
        result = body(i, state)
        following = i + 1
        self.choose(following < times, (loop, [following, *result]), (after, result))
        return self.write_to(after)

    def seldom(
        self, condition: Value, body: Callable[[], list[Value]], usual: Sequence[Value]
    ) -> list[Value]:
        """What `body` gives where the (scalar) condition holds, which is rare; the usual values elsewhere."""
        before = self.builder.block
        with self.builder.if_then(condition.ir, likely=False):
            values = body()
            inside = self.builder.block
        merged = []
        for x, y in zip(usual, values, strict=True):
            phi = self.builder.phi(x.type)
            phi.add_incoming(x.ir, before)
            phi.add_incoming(y.ir, inside)
            merged.append(Value(self, phi))
        return merged

    @contextmanager
    def either(self, condition: Value) -> Iterator[tuple[Any, Any]]:
        """Two branches as context managers: `with code.either(x) as (yes, no):`, `with yes:`, `with no:`."""
        with self.builder.if_else(condition.ir) as branches:
            yield branches

    # -- the order of instructions

    def fence(self) -> None:
        """Keep what loads memory from here on behind what is written before."""
        kind = ir.FunctionType(ir.VoidType(), [])
        self.builder.asm(kind, "", "~{memory}", [], side_effect=True)

    def pinned(self, x: Value, constraint: str) -> Value:
        """x, not to be computed with before what is written so far; `constraint`: of its kind of register."""
        kind = ir.FunctionType(x.type, [x.type])
        pinned = self.builder.asm(
            kind, "", f"={constraint},0,~{{memory}}", [x.ir], side_effect=True
        )
        return Value(self, pinned)

    # -- the floating-point environment

    def save_environment(self, mxcsr: bool, flush: bool = False) -> None:
        """Remember the control register, so that `set_direction` and `restore_environment` may change it.

        Args:
            mxcsr: it is x86's MXCSR; else AArch64's FPCR.
            flush: subnormal results are flushed to zero from the next `set_direction` on (x86).
        """
        if not mxcsr:
            self._environment = (None, self.call("aarch64.get.fpcr", I64), False)
            return
        slot = self.builder.alloca(I32)
        self._mxcsr("stmxcsr", slot)
        self._environment = (slot, Value(self, self.builder.load(slot)), flush)

    def set_direction(self, direction: str) -> None:
        """Round in this direction from here on: NEAREST, DOWN or CHOP.

        FPCR is written as a whole. `fesetenv` keeps FZ16 there, which flushes subnormal binary16 numbers to zero.
        """
        slot, saved, flush = self._environment
        if slot is None:
            self._set_fpcr(self.number(_FPCR_DIRECTION[direction]))
            return
        bits = _MXCSR_DIRECTION[direction] | (_MXCSR_FLUSH if flush else 0)
        self._load_mxcsr(saved & ~_MXCSR_DIRECTIONS | bits)

    def restore_environment(self) -> None:
        """Put back what `save_environment` found."""
        slot, saved, _ = self._environment
        if slot is None:
            self._set_fpcr(saved)
        else:
            self._load_mxcsr(saved)

    def _set_fpcr(self, value: Value) -> None:
        self.call("aarch64.set.fpcr", ir.VoidType(), value)

    def _load_mxcsr(self, value: Value) -> None:
        slot = self._environment[0]
        self.builder.store(value.ir, slot)
        self._mxcsr("ldmxcsr", slot)

    def _mxcsr(self, name: str, slot: ir.Value) -> None:
        place = Value(self, self.builder.bitcast(slot, I8.as_pointer()))
        self.call(f"x86.sse.{name}", ir.VoidType(), place)


class Lanes:
    """Vectors of so many lanes of so many bits (16, 32 or 64), integers or floats."""

    def __init__(self, code: Code, bits: int, lanes: int) -> None:
        self.code, self.bits, self.lanes = code, bits, lanes
        self.float, self.word = _FLOATS[bits], integer(bits)
        self.floats, self.words = vector(self.float, lanes), vector(self.word, lanes)
        self._bias, self._fraction = {16: (15, 10), 32: (127, 23), 64: (1023, 52)}[bits]
        self._align = min(4, bits // 8)

    # -- constants and memory

    def const(self, number: int) -> Value:
        """An integer in all lanes."""
        return self.code.number(number, self.words)

    def zero(self) -> Value:
        """+0 in all lanes."""
        return Value(self.code, ir.Constant(self.floats, [0.0] * self.lanes))

    def infinity(self) -> Value:
        """+∞ in all lanes."""
        return Value(self.code, ir.Constant(self.floats, [float("inf")] * self.lanes))

    def load(self, address: Pointer, offset: Value | int, kind: Type) -> Value:
        """The vector `offset` elements after an address of elements."""
        return (address + offset).load(kind, align=self._align)

    def store(self, value: Value, address: Pointer, offset: Value | int) -> None:
        """Write a vector `offset` elements after an address of elements."""
        (address + offset).store(value, align=self._align)

    def load_splat(self, address: Pointer, offset: int) -> Value:
        """One element in all lanes."""
        return (address + offset).load(align=self._align).splat(self.lanes)

    # -- exponents

    def power(self, exponent: Value) -> Value:
        """2^exponent, of exponents of normal numbers (words)."""
        return (exponent + self._bias << self._fraction).floats()

    def exponent(self, x: Value) -> Value:
        """floor(log2 |x|) of normal numbers, as words."""
        return (x.absolute().words() >> self._fraction) - self._bias

    # -- conversions

    @property
    def _names(self) -> tuple[str, str]:
        return f"v{self.lanes}f{self.bits}", f"v{self.lanes}i{self.bits}"

    def from_int(self, x: Value) -> Value:
        """Words as floats."""
        floats, words = self._names
        if self.code.strict:
            return self.code.constrained(f"sitofp.{floats}.{words}", self.floats, x)
        return Value(self.code, self.code.builder.sitofp(x.ir, self.floats))

    def truncated(self, x: Value) -> Value:
        """Floats cut toward zero to words."""
        floats, words = self._names
        if self.code.strict:
            name = f"fptosi.{words}.{floats}"
            return self.code.constrained(name, self.words, x, directed=False)
        return Value(self.code, self.code.builder.fptosi(x.ir, self.words))

    def narrowed(self, x: Value) -> Value:
        """A vector of floats of more bits as these."""
        if self.code.strict:
            name = f"fptrunc.v{self.lanes}f{self.bits}.v{self.lanes}f{x.bits}"
            return self.code.constrained(name, self.floats, x)
        return Value(self.code, self.code.builder.fptrunc(x.ir, self.floats))

    # -- magnitudes

    def nearer_to_zero(self, x: Value, limit: Value, vrange: bool) -> Value:
        """x (a number), or ±limit if that is smaller in magnitude. `vrange`: by that instruction."""
        if vrange:
            return self._range(x, limit, 2)
        x = limit.where(limit < x, x)
        low = -limit
        return low.where(x < low, x)

    def larger_magnitude(self, most: Value, x: Value, vrange: bool) -> Value:
        """The larger of most ≥ 0 and |x|; a NaN is passed over."""
        if vrange:
            return self._range(most, x, 2 * 4 + 3)
        x = x.absolute()
        return x.where(most < x, most)

    def _range(self, x: Value, y: Value, how: int) -> Value:
        """VRANGE on 16 float32: x or y by magnitude (2: the smaller, 3: the larger), with the sign of x
        or (8 more) without one."""
        number, current = self.code.number, 4  # rounding direction: as it is
        return self.code.call(
            "x86.avx512.mask.range.ps.512", self.floats,
            x, y, number(how, I32), x, number(-1, integer(16)), number(current, I32),
        )  # fmt: skip


def function(
    module: ir.Module, name: str, kinds: Sequence[Type], write: Callable[[Code, list[Any]], None],
    strict: bool = False,
) -> ir.Function:  # fmt: skip
    """A function of a module that returns nothing; it is written if the module has none of this name yet.

    Args:
        kinds: types of its arguments.
        write: writes its body from the place where that begins, and its arguments; the return follows.
        strict: the body changes the rounding direction.
    """
    if name in module.globals:
        return module.globals[name]
    made = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), name)
    made.linkage = "internal"
    made.attributes.add("noinline")
    made.attributes.add("nounwind")
    if strict:
        set.add(made.attributes, "strictfp")  # llvmlite's own list of attributes lacks it
    builder = ir.IRBuilder(made.append_basic_block("entry"))
    write(Code(builder, strict), list(made.args))
    builder.ret_void()
    return made


#: The type of addresses.
ADDRESS = I8.as_pointer()


@functools.cache
def transposition(lanes: int) -> tuple[list[int], list[int]]:
    """The two patterns by which vectors i and i + lanes/2 are zipped, lane by lane: after log2(lanes) rounds
    of that every element of a square matrix is at its mirror place."""
    half = lanes // 2
    patterns = [[first + i // 2 + lanes * (i % 2) for i in range(lanes)] for first in (0, half)]
    return patterns[0], patterns[1]


def transposed(rows: list[Value]) -> list[Value]:
    """A square matrix, transposed: its rows are vectors; their number is a power of two."""
    n = len(rows)
    for _ in range(n.bit_length() - 1):
        rows = [
            rows[i].shuffled(rows[i + n // 2], pattern)
            for i in range(n // 2)
            for pattern in transposition(n)
        ]
    return rows
