"""Vector arithmetic for the kernel generator: LLVM instructions on lanes of float32 or float64.

Where a kernel changes the processor's rounding direction, all arithmetic is LLVM's *constrained* kind with
`round.dynamic`: the optimiser then knows that the direction is not its business. (Comparisons, sign changes
and integer operations do not round and stay as they are.)
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils

_INDEX = ir.IntType(32)


class Lanes:
    """Operations on vectors of so many lanes of so many bits."""

    def __init__(self, builder: ir.IRBuilder, bits: int, lanes: int, strict: bool) -> None:
        self.b, self.bits, self.lanes, self.strict = builder, bits, lanes, strict
        self.float = ir.FloatType() if bits == 32 else ir.DoubleType()
        self.word = ir.IntType(bits)
        self.floats, self.words = ir.VectorType(self.float, lanes), ir.VectorType(self.word, lanes)
        self.module = builder.module

    # -- constants and memory

    def splat(self, scalar: ir.Value) -> ir.Value:
        """All lanes equal."""
        vector = ir.VectorType(scalar.type, self.lanes)
        one = self.b.insert_element(ir.Constant(vector, ir.Undefined), scalar, _INDEX(0))
        pattern = ir.Constant(ir.VectorType(_INDEX, self.lanes), [0] * self.lanes)
        return self.b.shuffle_vector(one, one, pattern)

    def const(self, value: int) -> ir.Value:
        """An integer in all lanes."""
        return ir.Constant(self.words, [value & ((1 << self.bits) - 1)] * self.lanes)

    def zero(self) -> ir.Value:
        """+0 in all lanes."""
        return ir.Constant(self.floats, [0.0] * self.lanes)

    def infinity(self) -> ir.Value:
        """+∞ in all lanes."""
        return ir.Constant(self.floats, [float("inf")] * self.lanes)

    def load(self, address: ir.Value, offset: int, vector: ir.Type) -> ir.Value:
        """The vector `offset` elements after an address of elements."""
        place = self.b.gep(address, [ir.IntType(64)(offset)])
        return self.b.load(self.b.bitcast(place, vector.as_pointer()), align=4)

    def store(self, value: ir.Value, address: ir.Value, offset: int) -> None:
        place = self.b.gep(address, [ir.IntType(64)(offset)])
        self.b.store(value, self.b.bitcast(place, value.type.as_pointer()), align=4)

    def load_splat(self, address: ir.Value, offset: int) -> ir.Value:
        """One element in all lanes."""
        place = self.b.gep(address, [ir.IntType(64)(offset)])
        return self.splat(self.b.load(place, align=4))

    # -- the bits of floats

    def as_words(self, x: ir.Value) -> ir.Value:
        return self.b.bitcast(x, self.words)

    def as_floats(self, x: ir.Value) -> ir.Value:
        return self.b.bitcast(x, self.floats)

    def absolute(self, x: ir.Value) -> ir.Value:
        mask = self.const((1 << (self.bits - 1)) - 1)
        return self.as_floats(self.b.and_(self.as_words(x), mask))

    def with_sign_of(self, magnitude: ir.Value, x: ir.Value) -> ir.Value:
        sign = self.b.and_(self.as_words(x), self.const(1 << (self.bits - 1)))
        return self.as_floats(self.b.or_(sign, self.as_words(magnitude)))

    def power(self, exponent: ir.Value) -> ir.Value:
        """2^exponent for exponents of normal numbers, given as words."""
        bias, fraction = (127, 23) if self.bits == 32 else (1023, 52)
        field = self.b.add(exponent, self.const(bias))
        return self.as_floats(self.b.shl(field, self.const(fraction)))

    def exponent(self, x: ir.Value) -> ir.Value:
        """floor(log2 |x|) of normal numbers, as words."""
        bias, fraction = (127, 23) if self.bits == 32 else (1023, 52)
        field = self.b.lshr(self.as_words(self.absolute(x)), self.const(fraction))
        return self.b.sub(field, self.const(bias))

    # -- arithmetic

    def _call(self, name: str, result: ir.Type, *args: ir.Value) -> ir.Value:
        kind = ir.FunctionType(result, [a.type for a in args])
        return self.b.call(cgutils.get_or_insert_function(self.module, kind, "llvm." + name), args)

    def _constrained(self, name: str, *args: ir.Value, directed: bool = True) -> ir.Value:
        """An operation whose rounding direction is not known when compiling."""
        fields = ("round.dynamic", "fpexcept.ignore") if directed else ("fpexcept.ignore",)
        metadata = [ir.MetaDataString(self.module, field) for field in fields]
        kinds = [a.type for a in args] + [ir.types.MetaDataType()] * len(metadata)
        result = self.words if name.startswith("fptosi") else self.floats
        function = cgutils.get_or_insert_function(
            self.module,
            ir.FunctionType(result, kinds),
            f"llvm.experimental.constrained.{name}",
        )
        return self.b.call(function, [*args, *metadata])

    @property
    def _suffix(self) -> str:
        return f"v{self.lanes}f{self.bits}"

    def fma(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        """a·b + c: with one rounding if a·b is exact or the processor has a fused instruction."""
        if self.strict:
            return self._constrained(f"fmuladd.{self._suffix}", a, b, c)
        return self._call(f"fmuladd.{self._suffix}", self.floats, a, b, c)

    def add(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self._constrained(f"fadd.{self._suffix}", a, b) if self.strict else self.b.fadd(a, b)

    def sub(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self._constrained(f"fsub.{self._suffix}", a, b) if self.strict else self.b.fsub(a, b)

    def mul(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self._constrained(f"fmul.{self._suffix}", a, b) if self.strict else self.b.fmul(a, b)

    def from_int(self, x: ir.Value) -> ir.Value:
        """Words as floats."""
        if self.strict:
            return self._constrained(f"sitofp.{self._suffix}.v{self.lanes}i{self.bits}", x)
        return self.b.sitofp(x, self.floats)

    def truncated(self, x: ir.Value) -> ir.Value:
        """Floats cut toward zero to words."""
        if self.strict:
            name = f"fptosi.v{self.lanes}i{self.bits}.{self._suffix}"
            return self._constrained(name, x, directed=False)
        return self.b.fptosi(x, self.words)

    def narrowed(self, x: ir.Value) -> ir.Value:
        """A vector of float64 as these float32."""
        if self.strict:
            return self._constrained(f"fptrunc.v{self.lanes}f32.v{self.lanes}f64", x)
        return self.b.fptrunc(x, self.floats)

    def largest(self, x: ir.Value, y: ir.Value) -> ir.Value:
        """The larger of two vectors of signed words."""
        return self.b.select(self.b.icmp_signed("<", x, y), y, x)

    def nearer_to_zero(self, x: ir.Value, limit: ir.Value, extension: str) -> ir.Value:
        """x, or ±limit if that is smaller in magnitude. x is a number."""
        if extension == "avx512dq":
            return self._range(x, limit, 2)
        x = self.b.select(self.b.fcmp_ordered("<", limit, x), limit, x)
        low = self.b.fneg(limit)
        return self.b.select(self.b.fcmp_ordered("<", x, low), low, x)

    def larger_magnitude(self, most: ir.Value, x: ir.Value, extension: str) -> ir.Value:
        """The larger of most ≥ 0 and |x|; a NaN is passed over."""
        if extension == "avx512dq":
            return self._range(most, x, 2 * 4 + 3)
        x = self.absolute(x)
        return self.b.select(self.b.fcmp_ordered("<", most, x), x, most)

    def _range(self, x: ir.Value, y: ir.Value, how: int) -> ir.Value:
        """VRANGE on 16 float32: x or y by magnitude (2: the smaller, 3: the larger), with the sign of x
        or (8 more) without one."""
        mask = ir.IntType(16)
        current = 4  # rounding direction: as it is
        return self._call(
            "x86.avx512.mask.range.ps.512",
            self.floats,
            x,
            y,
            _INDEX(how),
            x,
            mask(-1),
            _INDEX(current),
        )

    def count(self, mask: ir.Value) -> ir.Value:
        """How many lanes of a comparison are true, int64. (Scalar units do it, beside the vector's.)"""
        word = ir.IntType(self.lanes)
        return self.b.ctpop(self.b.zext(self.b.bitcast(mask, word), ir.IntType(64)))
