"""Operands into panels and results out of them: scan, transpose, decode, encode, random words.

A panel holds PANEL rows of A (or columns of B) with k slowest, so that a kernel reads memory in order.
All of this costs O(M·K + K·N + M·N) beside the kernel's M·N·K. Codes become floats, and floats codes, by
moving fields, sixteen lanes at a time: several times faster than looking up each one in a table.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from hfp8sim._numba.jit import jit
from hfp8sim.formats import FloatFormat
from hfp8sim.formats.vocabulary import Facts, Lowest
from hfp8sim.kernels.form import NO_EXPONENT, PANEL, float_bits
from hfp8sim.units.random import _G, _M1, _M2, _ONE, _S32

# -- what is in an operand ---------------------------------------------------------------------------


class Scan(NamedTuple):
    """What one look at all codes of an operand tells."""

    largest: float  #: no finite element has a larger magnitude
    quantum: int  #: all finite elements are multiples of 2^quantum
    special: bool  #: some element is not a number


#: What is seen in nothing.
NOTHING = Scan(0.0, 1 << 20, False)


@jit
def _extremes(codes, mask, odd_code):
    """Over a 1-D array: the largest mag, the smallest non-zero mag (less one), whether odd_code is there.

    All in the elements' own type, so that a vector holds as many as it can.
    """
    kind = codes.dtype.type
    low_bits, one, odd = kind(mask), kind(1), kind(odd_code)
    high, low, apart = kind(0), kind(~kind(0)), kind(~kind(0))
    for i in range(codes.size):
        mag = kind(codes[i] & low_bits)
        high = max(high, mag)
        low = min(low, kind(mag - one))
        apart = min(apart, kind(codes[i] ^ odd))
    return np.int64(high), np.int64(low), apart == 0


def scan(codes: NDArray[np.unsignedinteger[Any]], fmt: FloatFormat) -> Scan:
    """Look at a matrix of codes."""
    if codes.size == 0:
        return NOTHING
    mask, max_mag, odd_code = _masks(fmt)
    high, low, seen = _extremes(codes.ravel(order="K"), mask, odd_code)
    return _seen(fmt, high, low + 1, high > max_mag or (odd_code > 0 and seen))


@functools.lru_cache(256)
def _masks(fmt: FloatFormat) -> tuple[int, int, int]:
    """(all bits of a code but its sign, the largest number, the code of a NaN in the place of −0, or 0)."""
    facts = fmt.facts
    width = facts.exponent_bits + facts.fraction_bits
    # NaN codes lie above the largest number, but for the code of −0 in formats that have one zero.
    minus_zero = facts.nan_code == 1 << width and facts.signed
    return (1 << width) - 1, facts.max_mag, facts.nan_code if minus_zero else 0


@functools.lru_cache(4096)
def _seen(fmt: FloatFormat, largest: int, smallest: int, special: bool) -> Scan:
    """What magnitudes from `smallest` to `largest`, and zeros, are."""
    if smallest >= 1 << (fmt.exponent_bits + fmt.fraction_bits):  # every element is zero
        return NOTHING._replace(special=special)
    mag = np.asarray(min(largest, fmt.facts.max_mag), fmt.dtype)
    return Scan(float(fmt.decode(mag)), _quantum(smallest, fmt), special)


def _quantum(mag: int, fmt: FloatFormat) -> int:
    field = mag >> fmt.fraction_bits
    if field == 0 and fmt.lowest == "subnormal":
        field = 1
    return field - fmt.bias - fmt.fraction_bits


# -- vectors of PANEL lanes ---------------------------------------------------------------------------
#
# Numba widens integers to 64 bits, which halves the lanes of a vector, and its loops over 16 elements do not
# always become vectors. So the two conversions that touch every element are written in LLVM's own terms.

_WORDS, _FLOATS = ir.VectorType(ir.IntType(32), PANEL), ir.VectorType(ir.FloatType(), PANEL)
_INDEX = ir.IntType(32)


def _splat(builder: ir.IRBuilder, scalar: ir.Value) -> ir.Value:
    vector = ir.VectorType(scalar.type, PANEL)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, _INDEX(0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(_INDEX, PANEL), [0] * PANEL))


def _lanes(value: int) -> ir.Constant:
    return ir.Constant(_WORDS, [value] * PANEL)


def _at(
    builder: ir.IRBuilder, address: ir.Value, step: ir.Value, i: int, vector: ir.Type
) -> ir.Value:
    place = builder.add(address, builder.mul(step, step.type(i)))
    return builder.inttoptr(place, vector.as_pointer())


def _transpose(builder: ir.IRBuilder, rows: list[ir.Value]) -> list[ir.Value]:
    """Four rounds of zipping row i with row i + 8 move every element of 16×16 to its mirror place."""
    halves = [
        ir.Constant(ir.VectorType(_INDEX, 16), [first + i // 2 + 16 * (i % 2) for i in range(16)])
        for first in (0, 8)
    ]
    for _ in range(4):
        rows = [
            builder.shuffle_vector(rows[i], rows[i + 8], half) for i in range(8) for half in halves
        ]
    return rows


# -- codes → panels -----------------------------------------------------------------------------------


class Decoder(NamedTuple):
    """A format's numbers for decoding, uint32; the quantum is the bits of a float32."""

    low_bits: int  #: all but the sign
    up: int  #: the fraction's way to float32's
    base: int  #: the exponent's way to float32's, and the scale
    gap: int  #: below it an element is mag times …
    quantum: int  #: … this: subnormals, or only zero
    to_sign: int  #: the sign's way to float32's


class Words(NamedTuple):
    """How a kernel wants its random words w: (x >> down) << up | low, with x = w ^ (w >> fold), or w."""

    fold: int
    down: int
    up: int
    low: int


#: Places in the numbers of a side, int64: all that panels of A, or of B, are filled by.
(
    DECODER,  # six, see `Decoder`
    PRODUCTS,  # of a step
    LENGTH,  # products of a chunk
    ALIGNED,  # whether there are exponents, …
    LOWEST,  # … and the lowest one
    OF_STEPS,  # whether there are words of steps: then four numbers, see `Words`, and their key
    OF_CHUNKS,  # likewise of chunks
) = (0, 6, 7, 8, 9, 10, 16)
SIDE = 22


def decoder(fmt: Facts, scale: int) -> Decoder:
    """The `Decoder` of a format, for values times 2^scale."""
    gap, quantum = 1 << fmt.fraction_bits, 0
    if fmt.lowest == Lowest.NORMAL:
        gap = 1
    if fmt.lowest == Lowest.SUBNORMAL:
        quantum = float_bits(math.ldexp(1.0, 1 - fmt.bias - fmt.fraction_bits + scale), 32)
    return Decoder(
        low_bits=(1 << (fmt.exponent_bits + fmt.fraction_bits)) - 1,
        up=23 - fmt.fraction_bits,
        base=((127 - fmt.bias + scale) << 23) & 0xFFFFFFFF,
        gap=gap,
        quantum=quantum,
        to_sign=31 - fmt.exponent_bits - fmt.fraction_bits,
    )


def _decode_lanes(
    builder: ir.IRBuilder, codes: ir.Value, numbers: list[ir.Value], gradual: bool
) -> ir.Value:
    """A vector of codes as float32; `gradual`: the format has subnormals."""
    b = builder
    low_bits, up, base, gap, quantum, to_sign = numbers
    codes = codes if codes.type == _WORDS else b.zext(codes, _WORDS)
    mag, small = b.and_(codes, low_bits), _lanes(0)
    if gradual:
        small = b.bitcast(b.fmul(b.sitofp(mag, _FLOATS), b.bitcast(quantum, _FLOATS)), _WORDS)
    normal = b.add(b.shl(mag, up), base)
    magnitude = b.select(b.icmp_unsigned("<", mag, gap), small, normal)
    sign = b.and_(b.shl(b.sub(codes, mag), to_sign), _lanes(1 << 31))
    return b.bitcast(b.or_(magnitude, sign), _FLOATS)


@intrinsic(prefer_literal=True)
def decode_block(typingctx, transposed, codes, source, step, decoder, panels, target):  # type: ignore[no-untyped-def]
    """Decode 16 vectors of 16 codes, `step` bytes apart at the address `source`, to the address `target`;
    `transposed` (a literal): with lanes and vectors exchanged. The arrays codes and panels only say what
    the elements are."""
    element = ir.VectorType(ir.IntType(codes.dtype.bitwidth), PANEL)

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        source, step, numbers, target = values[2], values[3], values[4], values[6]
        numbers = [builder.extract_value(numbers, i) for i in range(6)]
        rows = [builder.load(_at(builder, source, step, i, element), align=1) for i in range(PANEL)]
        if transposed.literal_value:
            rows = _transpose(builder, rows)
        size = panels.dtype.bitwidth // 8 * PANEL
        has_subnormals = builder.icmp_unsigned("!=", numbers[4], numbers[4].type(0))
        numbers = [_splat(builder, number) for number in numbers]

        def decode(gradual):  # type: ignore[no-untyped-def]
            for i, row in enumerate(rows):
                lanes = _decode_lanes(builder, row, numbers, gradual)
                if panels.dtype.bitwidth == 64:
                    lanes = builder.fpext(lanes, ir.VectorType(ir.DoubleType(), PANEL))
                place = _at(builder, target, target.type(size), i, lanes.type)
                builder.store(lanes, place, align=4)

        with builder.if_else(has_subnormals) as branches:
            for branch, gradual in zip(branches, (True, False)):
                with branch:
                    decode(gradual)
        return context.get_dummy_value()

    signature = types.void(
        transposed, codes, types.int64, types.int64, decoder, panels, types.int64
    )
    return signature, codegen


@jit
def pack(codes, side, panels, first, count):
    """A matrix of codes (rows, k) as panels (p, k, PANEL) of floats, there `count` k from `first` on.

    Beyond the matrix' edge panels are zero. `codes` may be the transpose of a matrix (then rows lie
    together in memory, as a panel wants them) or not (then blocks of 16×16 are transposed).
    """
    rows, depth = codes.shape
    # In registers, since what is written might be they.
    d = side[DECODER:PRODUCTS].astype(np.uint32)
    numbers = Decoder(d[0], d[1], d[2], d[3], d[4], d[5])
    size, cell = np.int64(codes.itemsize), np.int64(panels.itemsize)
    row_step, k_step = np.int64(codes.strides[0]), np.int64(codes.strides[1])
    edge, spare = np.zeros(256, codes.dtype), np.zeros(256, panels.dtype)
    for p in range(-(-rows // PANEL)):
        row = PANEL * p
        height = min(PANEL, rows - row)
        place = np.int64(panels.ctypes.data) + (p * panels.shape[1] + first) * PANEL * cell
        for k in range(0, count, PANEL):
            wide = min(PANEL, depth - k)
            source = np.int64(codes.ctypes.data) + row * row_step + k * k_step
            target = place + k * PANEL * cell
            inside = height == PANEL and wide == PANEL
            if inside and k_step == size:
                decode_block(True, codes, source, row_step, numbers, panels, target)
            elif inside and row_step == size:
                decode_block(False, codes, source, k_step, numbers, panels, target)
            else:
                edge[:] = 0
                for j in range(wide):
                    for i in range(height):
                        edge[j * PANEL + i] = codes[row + i, k + j]
                source, target = np.int64(edge.ctypes.data), np.int64(spare.ctypes.data)
                decode_block(False, codes, source, PANEL * size, numbers, panels, target)
                for j in range(min(PANEL, count - k)):
                    for i in range(PANEL):
                        panels[p, first + k + j, i] = spare[j * PANEL + i]


@jit
def fill_exponents(panels, lowest, exponents, first, count):
    """floor(log2) of every element of panels of float32, of `count` k from `first` on: `lowest` at least,
    NO_EXPONENT for zero."""
    words = panels.view(np.int32)
    for p in range(panels.shape[0]):
        for k in range(first, first + count):
            for i in range(PANEL):
                exponent = ((words[p, k, i] >> 23) & 0xFF) - 127
                zero = panels[p, k, i] == 0
                exponents[p, k, i] = NO_EXPONENT if zero else max(exponent, lowest)


# -- results → codes ----------------------------------------------------------------------------------


class Encoder(NamedTuple):
    """A format's numbers for encoding, uint32; gap and units are bits of float32."""

    down: int  #: the fraction's way from float32's
    rebias: int  #: the exponent's way from float32's, and the scale
    sign: int  #: the sign bit of a code
    gap: int  #: below it a code counts subnormals, …
    units: int  #: … multiples of 1 / units
    infinity: int  #: the code of +∞
    minus_infinity: int
    nan: int


#: How many these numbers are.
ENCODER = 8


# Kernels take these numbers as an array: to hand over a record costs more than to encode a small matrix.
@functools.lru_cache(256)
def encoder(fmt: Facts, scale: int) -> NDArray[np.uint32]:
    """The `Encoder` of a format, for values times 2^scale."""
    sign, gap, units = 1 << (fmt.exponent_bits + fmt.fraction_bits), 0, 0
    # Where subnormals are float32's own, moving fields does for them too.
    if fmt.lowest == Lowest.SUBNORMAL and 1 - fmt.bias + scale > -126:
        gap = float_bits(math.ldexp(1.0, 1 - fmt.bias + scale), 32)
        with np.errstate(over="ignore"):
            units = float_bits(math.ldexp(1.0, fmt.bias - 1 + fmt.fraction_bits - scale), 32)
    infinity = minus_infinity = fmt.nan_code
    if fmt.inf_mag >= 0:
        infinity, minus_infinity = fmt.inf_mag, fmt.inf_mag | sign
    numbers = Encoder(
        down=23 - fmt.fraction_bits,
        rebias=(127 - fmt.bias + scale) << fmt.fraction_bits,
        sign=sign, gap=gap, units=units,
        infinity=infinity, minus_infinity=minus_infinity, nan=fmt.nan_code,
    )  # fmt: skip
    return np.array([number & 0xFFFFFFFF for number in numbers], np.uint32)


def _encode_lanes(builder: ir.IRBuilder, bits: ir.Value, numbers: list[ir.Value]) -> ir.Value:
    """A vector of float32 (its bits) as codes. Few are odd: too small for a normal number, or none."""
    b = builder
    down, rebias, sign, gap, units, infinity, minus_infinity, nan = numbers
    endless = _lanes(0x7F800000)
    magnitude = b.and_(bits, _lanes(0x7FFFFFFF))
    moved = b.sub(b.lshr(magnitude, down), rebias)
    moved = b.select(b.icmp_signed("<", moved, _lanes(0)), _lanes(0), moved)  # (zero)
    negative = b.icmp_unsigned(">", bits, _lanes(1 << 31))
    usual = b.or_(moved, b.select(negative, sign, _lanes(0)))
    odd = b.icmp_unsigned(">=", b.sub(magnitude, gap), b.sub(endless, gap))
    any_odd = b.icmp_unsigned("!=", b.bitcast(odd, ir.IntType(PANEL)), ir.IntType(PANEL)(0))
    start = b.block
    with b.if_then(any_odd, likely=False):
        number = b.bitcast(magnitude, _FLOATS)
        # (fptosi of what is too large is undefined, but not selected)
        code = b.fptosi(b.fmul(number, b.bitcast(units, _FLOATS)), _WORDS)
        code = b.or_(code, b.select(negative, sign, _lanes(0)))
        code = b.select(b.icmp_unsigned("<", magnitude, gap), code, usual)
        code = b.select(b.icmp_unsigned("==", magnitude, endless), b.select(negative, minus_infinity, infinity), code)  # fmt: skip
        code = b.select(b.icmp_unsigned(">", magnitude, endless), nan, code)
        unusual = b.block
    result = b.phi(_WORDS)
    result.add_incoming(usual, start)
    result.add_incoming(code, unusual)
    return result


@intrinsic
def encode_lanes(typingctx, source, encoder, codes, target):  # type: ignore[no-untyped-def]
    """Encode the vector at the address `source` to the address `target`; see `encode`. The array codes
    only says what the elements are."""
    element = ir.VectorType(ir.IntType(codes.dtype.bitwidth), PANEL)

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        b = builder
        source, numbers, _, target = values
        numbers = [_splat(b, b.extract_value(numbers, i)) for i in range(8)]
        code = _encode_lanes(b, b.load(b.inttoptr(source, _WORDS.as_pointer()), align=4), numbers)
        code = code if element == _WORDS else b.trunc(code, element)
        b.store(code, b.inttoptr(target, element.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(types.int64, encoder, codes, types.int64), codegen


def encode(
    panels: NDArray[np.float32], fmt: Facts, scale: int, codes: NDArray[np.unsignedinteger[Any]]
) -> None:
    """Panels of accumulators (row panels, column panels, PANEL, PANEL) as a matrix of codes.

    Accumulators are float32, times 2^scale: numbers of the format, infinities (the format's, or its NaN)
    and NaN. Zero has no sign.
    """
    encode_panels(panels, encoder(fmt, scale), codes)


@jit
def encode_panels(panels, encoder, codes):
    """`encode` by the numbers of an `Encoder`."""
    e = encoder
    numbers = Encoder(e[0], e[1], e[2], e[3], e[4], e[5], e[6], e[7])
    rows, columns = codes.shape
    spare = np.empty(PANEL, codes.dtype)
    row_step, size = np.int64(codes.strides[0]), np.int64(codes.itemsize)
    together = codes.strides[1] == codes.itemsize
    for i0 in range(0, rows, PANEL):
        for j in range(0, columns, PANEL):
            panel = (i0 // PANEL) * panels.shape[1] + j // PANEL
            source = np.int64(panels.ctypes.data) + panel * PANEL * PANEL * 4
            target = np.int64(codes.ctypes.data) + i0 * row_step + j * size
            whole = together and j + PANEL <= columns
            for i in range(min(PANEL, rows - i0)):
                if whole:
                    encode_lanes(source, numbers, codes, target)
                else:
                    encode_lanes(source, numbers, codes, np.int64(spare.ctypes.data))
                    for c in range(min(PANEL, columns - j)):
                        codes[i0 + i, j + c] = spare[c]
                source += PANEL * 4
                target += row_step


# -- random words -------------------------------------------------------------------------------------


def _word_writer(gap: int) -> Any:
    """An intrinsic that stores PANEL words whose arguments of `mix64` are `gap` apart."""

    def write(typingctx, start, fold, down, up, low, address, target):  # type: ignore[no-untyped-def]
        wide, element = (
            ir.VectorType(ir.IntType(64), PANEL),
            ir.VectorType(ir.IntType(target.dtype.bitwidth), PANEL),
        )

        def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
            def xorshift(x, n):  # type: ignore[no-untyped-def]
                return builder.xor(x, builder.lshr(x, n))

            def constant(value):  # type: ignore[no-untyped-def]
                return ir.Constant(wide, [int(value)] * PANEL)

            start, fold, down, up, low, address, _ = values
            lanes = ir.Constant(wide, [i * gap & (1 << 64) - 1 for i in range(PANEL)])
            z = builder.add(_splat(builder, start), lanes)
            z = builder.mul(xorshift(z, constant(30)), constant(_M1))
            z = builder.mul(xorshift(z, constant(27)), constant(_M2))
            # mix64's last step, in the 32 bits that are wanted of it.
            x = builder.trunc(builder.lshr(z, constant(32)), _WORDS)
            x = xorshift(x, _lanes(31))
            folded = xorshift(x, _splat(builder, builder.and_(fold, fold.type(31))))
            x = builder.select(builder.icmp_unsigned("!=", fold, fold.type(0)), folded, x)
            x = builder.lshr(x, _splat(builder, down))
            x = x if element == _WORDS else builder.zext(x, element)
            x = builder.or_(builder.shl(x, _splat(builder, up)), _splat(builder, low))
            builder.store(x, builder.inttoptr(address, element.as_pointer()), align=4)
            return context.get_dummy_value()

        u32, kind = types.uint32, target.dtype
        return types.void(types.uint64, u32, u32, kind, kind, types.uintp, target), codegen

    return write


#: (argument of `mix64` for the first, fold, down, up, low, address, an array that says what the elements
#: are): store PANEL words, treated as `Words` says, of consecutive rows i, or of consecutive j.
words_of_rows = intrinsic(_word_writer(int(_G) << 32))
words_of_elements = intrinsic(_word_writer(int(_G)))


@jit
def fill_words(key, first, step0, steps_per_chunk, chunk_length, products, how, panels, at, count):
    """Words of rows `first`… (or columns) for `count` steps from step0 on, as panels (p, steps, PANEL), there
    from `at` on; `how` as `Words` has it.

    Step t is number t mod steps_per_chunk of its chunk; its word's j is the k of its first product.
    """
    kind = panels.dtype.type
    fold, down, up, low = np.uint32(how[0]), np.uint32(how[1]), kind(how[2]), kind(how[3])
    for p in range(panels.shape[0]):
        start = key + _G * ((np.uint64(first + p * PANEL) << _S32) + _ONE)
        address = panels[p].ctypes.data + at * PANEL * panels.itemsize
        chunk = step0 // steps_per_chunk
        step = step0 - chunk * steps_per_chunk
        for t in range(count):
            argument = start + _G * np.uint64(chunk * chunk_length + step * products)
            place = address + t * PANEL * panels.itemsize
            words_of_rows(argument, fold, down, up, low, place, panels)
            step += 1
            if step == steps_per_chunk:
                step = 0
                chunk += 1


# -- all that panels hold -----------------------------------------------------------------------------


def steps_before(k: int, products: int, length: int) -> int:
    """The number of the step that begins at k; of steps there are before k. Chunks have `length` products."""
    whole = k // length
    return whole * -(-length // products) - (whole * length - k) // products


step_number = jit(steps_before)


@jit
def fill(codes, side, first, k0, start, values, exponents, words, chunk_words):
    """Fill a range of k of panels with codes (rows, k).

    Args:
        side: numbers, see SIDE.
        first, k0: where the codes stand in the whole of A (or of B's transpose); k0 is the first k of a
            step.
        start: the panels' first k.
        values, exponents, words, chunk_words: the panels, see `panels.Panels`.
    """
    products, length, depth = side[PRODUCTS], side[LENGTH], codes.shape[1]
    step0, step1 = step_number(start, products, length), step_number(k0, products, length)
    k = 0
    while k < depth:
        # A chunk's last step may have fewer products than others. Zeros take the places of the rest.
        stop = depth
        if length % products:
            stop = min(depth, k + length - (k0 + k) % length)
        at = (step_number(k0 + k, products, length) - step0) * products
        pack(codes[:, k:stop], side, values, at, -(-(stop - k) // products) * products)
        k = stop
    at, steps = step1 - step0, step_number(k0 + depth, products, length) - step1
    if side[ALIGNED]:
        fill_exponents(values, side[LOWEST], exponents, at * products, steps * products)
    how = side[OF_STEPS:OF_CHUNKS]
    if how[0]:
        per = -(-length // products)
        fill_words(
            np.uint64(how[5]), first, step1, per, length, products, how[1:], words, at, steps
        )
    how = side[OF_CHUNKS:SIDE]
    if how[0]:
        chunk, before, after = k0 // length, start // length, -(-(k0 + depth) // length)
        endless = np.int64(1) << 40  # more than there are chunks: theirs are numbered through
        fill_words(
            np.uint64(how[5]), first, chunk, endless, 0, 1, how[1:], chunk_words,
            chunk - before, after - chunk,
        )  # fmt: skip
