"""Packing: scan operands, decode codes into panels, encode results, make random words.

A panel holds PANEL rows of A (or columns of B) with k slowest, so that a kernel reads memory in order.
All of this costs O(M·K + K·N + M·N) beside the kernel's M·N·K. Codes become floats, and floats codes, by
moving fields, sixteen lanes at a time: several times faster than looking up each one in a table.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from hfp8sim._numba.calls import local_array
from hfp8sim._numba.jit import jit
from hfp8sim._numba.layouts import layout
from hfp8sim._numba.simd import F32, F64, I32, I64, Code, Lanes, Value, integer, transposed, vector
from hfp8sim.formats import FloatFormat
from hfp8sim.formats.vocabulary import Facts, Lowest
from hfp8sim.kernels.form import NO_EXPONENT, PANEL
from hfp8sim.kernels.numbers import float_bits
from hfp8sim.units.random import GOLDEN_GAMMA, SPLITMIX_1, SPLITMIX_2

# -- scanning operands -------------------------------------------------------------------------------


class Scan(NamedTuple):
    """Bounds on the elements of an operand."""

    largest: float  #: no finite element has a larger magnitude
    quantum: int  #: all finite elements are multiples of 2^quantum
    special: bool  #: some element is not a number


#: The scan of an operand whose elements are all zero, or that has none.
NOTHING = Scan(0.0, 1 << 20, False)


@jit
def _extremes(codes, mask, nan_code):
    """Extremes of a 1-D array of codes.

    All arithmetic is in the codes' own type, so that a vector holds as many of them as possible.

    Returns:
        The largest magnitude, the smallest non-zero one less 1, and whether `nan_code` occurs.
    """
    kind = codes.dtype.type
    low_bits, one, nan = kind(mask), kind(1), kind(nan_code)
    high, low, difference = kind(0), kind(~kind(0)), kind(~kind(0))
    for i in range(codes.size):
        mag = kind(codes[i] & low_bits)
        high = max(high, mag)
        low = min(low, kind(mag - one))
        difference = min(difference, kind(codes[i] ^ nan))
    return np.int64(high), np.int64(low), difference == 0


def scan(codes: NDArray[np.unsignedinteger[Any]], fmt: FloatFormat) -> Scan:
    """Bounds on the elements of a matrix of codes."""
    if codes.size == 0:
        return NOTHING
    facts = fmt.facts
    # NaN codes are above the largest number, except the code of −0 in formats that have one zero.
    minus_zero = facts.mag_mask + 1
    nan_code = minus_zero if facts.signed and facts.nan_code == minus_zero else 0
    high, low, has_nan = _extremes(codes.ravel(order="K"), facts.mag_mask, nan_code)
    special = high > facts.max_mag or (nan_code > 0 and has_nan)
    return _scan_of_extremes(fmt, high, low + 1, special)


@functools.lru_cache(4096)
def _scan_of_extremes(fmt: FloatFormat, largest: int, smallest: int, special: bool) -> Scan:
    """The scan of an operand whose non-zero magnitudes are from `smallest` to `largest`."""
    if smallest > fmt.facts.mag_mask:  # every element is zero
        return NOTHING._replace(special=special)
    mag = np.asarray(min(largest, fmt.facts.max_mag), fmt.dtype)
    return Scan(float(fmt.decode(mag)), _quantum(smallest, fmt), special)


def _quantum(mag: int, fmt: FloatFormat) -> int:
    """The exponent of the last place of the number with a magnitude."""
    field = mag >> fmt.fraction_bits
    if field == 0 and fmt.lowest == "subnormal":
        field = 1
    return field - fmt.bias - fmt.fraction_bits


# -- codes → panels -----------------------------------------------------------------------------------


# Numba widens integers to 64 bits, which halves the lanes of a vector, and its loops over 16 elements do not
# always become vectors. So the conversions that touch every element are written in the vector language.


class Decoder(NamedTuple):
    """A format's numbers for decoding, all uint32."""

    low_bits: int  #: mask of all bits of a code but its sign
    up: int  #: shift of the fraction to float32's place
    rebias: int  #: added to a shifted code: the difference of the exponents' biases, and the scale
    gap: int  #: below it a code's value is code · quantum
    quantum: int  #: bits of a float32: of subnormal numbers, or 0
    to_sign: int  #: shift of the sign to float32's place


#: A `Decoder` in memory.
DECODER = layout(**dict.fromkeys(Decoder._fields, np.uint32))


class Words(NamedTuple):
    """How a kernel takes its random words w: (x >> down) << up | low, with x = w ^ (w >> fold), or w."""

    fold: int
    down: int
    up: int
    low: int


#: How random words are made.
WORDS = layout(
    drawn=np.int64,  # 0: there are none
    fold=np.uint32,  # see `Words`
    down=np.uint32,
    up=np.uint64,
    low=np.uint64,
    key=np.uint64,  # of `mix64`
)
#: All that panels of A, or of B, are filled by, beside codes.
SIDE = layout(
    decoder=DECODER,
    products=np.int64,  # of a step
    length=np.int64,  # products of a chunk
    lowest=np.int64,  # the lowest exponent in panels of exponents
    # Panels of binary16 numbers, see `half.py`.
    quantum=np.int64,  # exponent of the format's smallest number's last place
    fraction_bits=np.int64,  # of the format
    half_place=np.int64,  # exponent to which a panel's quantum is brought
    half_columns=np.int64,  # rows (of B: columns) of a panel
    half_most=np.float64,  # units of a quantum that binary16 holds there
    steps=WORDS,
    chunks=WORDS,
)


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
        rebias=((127 - fmt.bias + scale) << 23) & 0xFFFFFFFF,
        gap=gap,
        quantum=quantum,
        to_sign=31 - fmt.exponent_bits - fmt.fraction_bits,
    )


def _decode_lanes(lanes: Lanes, codes: Value, numbers: Any, gradual: bool) -> Value:
    """A vector of codes as float32.

    Args:
        numbers: a `Decoder` of vectors.
        gradual: the format has subnormal numbers.
    """
    codes = codes.widened(lanes.words)
    mag, small = codes & numbers.low_bits, lanes.const(0)
    if gradual:
        small = (lanes.from_int(mag) * numbers.quantum.floats()).words()
    normal = (mag << numbers.up) + numbers.rebias
    magnitude = small.where(mag.is_below(numbers.gap), normal)
    sign = (codes - mag << numbers.to_sign) & 1 << 31
    result: Value = (magnitude | sign).floats()
    return result


@intrinsic(prefer_literal=True)
def decode_block(typingctx, transposed_, codes, source, step, decoder, panels, target):  # type: ignore[no-untyped-def]
    """Decode a block of 16 vectors of 16 codes.

    Args:
        transposed_: a literal; True: with lanes and vectors exchanged.
        codes: an array with the dtype of codes.
        source: address of the first vector.
        step: bytes from one vector to the next.
        decoder: a `Decoder`.
        panels: an array with the dtype of panels.
        target: address of the first result; they follow one another.
    """
    element = vector(integer(codes.dtype.bitwidth), PANEL)
    size = panels.dtype.bitwidth // 8 * PANEL

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        code = Code(builder)
        lanes = Lanes(code, 32, PANEL)
        source, step, target = (code.value(values[i]) for i in (2, 3, 6))
        scalars = Decoder(*(code.extracted(values[4], i) for i in range(len(Decoder._fields))))
        rows = [code.pointer((source + step * i).ir, element).load(align=1) for i in range(PANEL)]
        if transposed_.literal_value:
            rows = transposed(rows)
        has_subnormals = scalars.quantum.differs(0)
        numbers = Decoder(*(number.splat(PANEL) for number in scalars))
        kind = vector(F64 if panels.dtype.bitwidth == 64 else F32, PANEL)
        with code.either(has_subnormals) as branches:
            for branch, gradual in zip(branches, (True, False)):
                with branch:
                    for i, row in enumerate(rows):
                        values = _decode_lanes(lanes, row, numbers, gradual).widened(kind)
                        code.pointer((target + size * i).ir, kind).store(values, align=4)
        return context.get_dummy_value()

    signature = types.void(
        transposed_, codes, types.int64, types.int64, decoder, panels, types.int64
    )
    return signature, codegen


@jit
def pack(codes, side, panels, first, count):
    """A matrix of codes (rows, k) as panels (p, k, PANEL) of floats, there `count` k from `first` on.

    Beyond the matrix' edge panels are zero. `codes` may be the transpose of a matrix (then rows are contiguous
    in memory, as in a panel) or not (then blocks of 16×16 are transposed). `side`: a record of SIDE.
    """
    rows, depth = codes.shape
    # In registers: the compiler must assume that what is written may change memory.
    d = side.decoder
    numbers = Decoder(d.low_bits, d.up, d.rebias, d.gap, d.quantum, d.to_sign)
    size, cell = np.int64(codes.itemsize), np.int64(panels.itemsize)
    row_step, k_step = np.int64(codes.strides[0]), np.int64(codes.strides[1])
    edge, spare = local_array(256, codes.dtype), local_array(256, panels.dtype)
    for p in range(-(-rows // PANEL)):
        row = PANEL * p
        height = min(PANEL, rows - row)
        place = np.int64(panels.ctypes.data) + (p * panels.shape[1] + first) * PANEL * cell
        for k in range(0, count, PANEL):
            wide = min(PANEL, depth - k)
            source = np.int64(codes.ctypes.data) + row * row_step + k * k_step
            target = place + k * PANEL * cell
            inside, step = height == PANEL and wide == PANEL, k_step
            if inside and k_step == size:
                decode_block(True, codes, source, row_step, numbers, panels, target)
                continue
            whole = inside and row_step == size
            if not whole:
                for i in range(256):
                    edge[i] = 0
                for j in range(wide):
                    for i in range(height):
                        edge[j * PANEL + i] = codes[row + i, k + j]
                source, target = np.int64(edge.ctypes.data), np.int64(spare.ctypes.data)
                step = PANEL * size
            decode_block(False, codes, source, step, numbers, panels, target)
            if not whole:
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
    """A format's numbers for encoding, all uint32; gap and units are bits of float32."""

    down: int  #: shift of the fraction from float32's place
    rebias: int  #: the difference of the exponents' biases, and the scale, in the code's place
    sign: int  #: the sign bit of a code
    gap: int  #: below it a code is a number of subnormals, …
    units: int  #: … each of which is 1 / units
    infinity: int  #: the code of +∞
    minus_infinity: int
    nan: int


#: An `Encoder` in memory.
ENCODER = layout(**dict.fromkeys(Encoder._fields, np.uint32))


# Compiled code takes these numbers as an array of one record: passing the record itself from Python costs more
# than encoding a small matrix.
@functools.lru_cache(256)
def encoder(fmt: Facts, scale: int) -> NDArray[np.void]:
    """The `Encoder` of a format, for values times 2^scale: an array of one record of ENCODER."""
    sign, gap, units = 1 << (fmt.exponent_bits + fmt.fraction_bits), 0, 0
    # Where subnormals are float32's own, moving fields gives them, too.
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
    return np.array([tuple(number & 0xFFFFFFFF for number in numbers)], ENCODER)


def _encode_lanes(code: Code, bits: Value, numbers: Any) -> Value:
    """A vector of float32 (its bits) as codes. Few are odd: too small for a normal number, or none.

    `numbers`: an `Encoder` of vectors.
    """
    lanes = Lanes(code, 32, PANEL)
    zero, infinite = lanes.const(0), lanes.const(0x7F800000)
    magnitude = bits & 0x7FFFFFFF
    moved = (magnitude >> numbers.down) - numbers.rebias
    moved = zero.where(moved < 0, moved)  # zero has no code of its own exponent
    negative = bits.is_above(1 << 31)
    sign = numbers.sign.where(negative, 0)
    usual = moved | sign
    odd = (magnitude - numbers.gap).is_at_least(infinite - numbers.gap)

    def unusual() -> list[Value]:
        # A conversion of what is too large is undefined, but not selected.
        small = lanes.truncated(magnitude.floats() * numbers.units.floats())
        result = (small | sign).where(magnitude.is_below(numbers.gap), usual)
        infinity = numbers.minus_infinity.where(negative, numbers.infinity)
        result = infinity.where(magnitude.equals(infinite), result)
        return [numbers.nan.where(magnitude.is_above(infinite), result)]

    return code.seldom(odd.mask().differs(0), unusual, [usual])[0]


@intrinsic
def encode_lanes(typingctx, source, encoder, codes, target):  # type: ignore[no-untyped-def]
    """Encode PANEL accumulators, see `encode`.

    Args:
        source: address of the float32.
        encoder: an `Encoder`.
        codes: an array with the dtype of codes.
        target: address of the codes.
    """
    element = vector(integer(codes.dtype.bitwidth), PANEL)

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        code = Code(builder)
        scalars = (code.extracted(values[1], i) for i in range(len(Encoder._fields)))
        numbers = Encoder(*(number.splat(PANEL) for number in scalars))
        bits = code.pointer(values[0], vector(I32, PANEL)).load(align=4)
        result = _encode_lanes(code, bits, numbers).cut(element)
        code.pointer(values[3], element).store(result, align=1)
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
    """`encode` by an array of one record of ENCODER."""
    e = encoder[0]
    numbers = Encoder(
        e.down, e.rebias, e.sign, e.gap, e.units, e.infinity, e.minus_infinity, e.nan
    )  # fmt: skip
    rows, columns = codes.shape
    spare = local_array(PANEL, codes.dtype)
    row_step, size = np.int64(codes.strides[0]), np.int64(codes.itemsize)
    contiguous = codes.strides[1] == codes.itemsize
    for i0 in range(0, rows, PANEL):
        for j in range(0, columns, PANEL):
            panel = (i0 // PANEL) * panels.shape[1] + j // PANEL
            source = np.int64(panels.ctypes.data) + panel * PANEL * PANEL * 4
            target = np.int64(codes.ctypes.data) + i0 * row_step + j * size
            whole = contiguous and j + PANEL <= columns
            for i in range(min(PANEL, rows - i0)):
                if whole:
                    encode_lanes(source, numbers, codes, target)
                else:
                    encode_lanes(source, numbers, codes, np.int64(spare.ctypes.data))
                    for c in range(min(PANEL, columns - j)):
                        codes[i0 + i, j + c] = spare[c]
                source += PANEL * 4
                target += row_step


# -- results → values ---------------------------------------------------------------------------------

#: How accumulators become values.
VALUES = layout(
    factor=np.float64,  # 2^(exponent of the values' scale − exponent of the accumulators')
    infinite=np.int64,  # 1: the format has infinities; 0: an infinite accumulator means NaN
)


@intrinsic
def value_lanes(typingctx, source, factor, values, target):  # type: ignore[no-untyped-def]
    """Convert PANEL accumulators to real numbers. −0 becomes +0.

    Args:
        source: address of the float32.
        factor: float32 or float64: the type of the product, which is rounded to that of the numbers.
        values: an array with the dtype of the numbers.
        target: address of the numbers.

    Returns:
        The lanes that are infinite or NaN, as bits of an int64.
    """
    bits = values.dtype.bitwidth

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        code = Code(builder)
        lanes, wide = Lanes(code, bits, PANEL), Lanes(code, factor.bitwidth, PANEL)
        sums = code.pointer(arguments[0], vector(F32, PANEL)).load(align=4)
        result = sums.widened(wide.floats) * code.value(arguments[1]).splat(PANEL) + 0.0
        if bits < factor.bitwidth:
            result = lanes.narrowed(result)
        code.pointer(arguments[3], lanes.floats).store(result, align=1)
        special = result.absolute().words().is_at_least(lanes.infinity().words())
        return special.mask().widened(I64).ir

    return types.int64(types.int64, factor, values, types.int64), codegen


@jit
def panels_to_values(panels, factor, infinite, values):
    """Panels of accumulators, see `encode`, as a matrix of real numbers.

    Args:
        factor: see `value_lanes`.
        infinite: see VALUES.
        values: float32 or float64 (rows, columns). A number that is none of its type is rounded to it.

    Returns:
        Whether one of the numbers is infinite or NaN.
    """
    special = np.int64(0)
    rows, columns = values.shape
    spare = local_array(PANEL, values.dtype)
    row_step, size = np.int64(values.strides[0]), np.int64(values.itemsize)
    contiguous = values.strides[1] == size
    for i in range(rows):
        panel = (i // PANEL) * panels.shape[1] * PANEL + i % PANEL
        source = np.int64(panels.ctypes.data) + panel * PANEL * 4
        target = np.int64(values.ctypes.data) + i * row_step
        for j in range(0, columns, PANEL):
            if contiguous and j + PANEL <= columns:
                special |= value_lanes(source, factor, values, target)
            else:
                special |= value_lanes(source, factor, values, np.int64(spare.ctypes.data))
                for c in range(min(PANEL, columns - j)):
                    values[i, j + c] = spare[c]
            source += PANEL * PANEL * 4
            target += PANEL * size
    if special and not infinite:
        for i in range(rows):
            for j in range(columns):
                total = panels[i // PANEL, j // PANEL, i % PANEL, j % PANEL]
                if abs(total) == np.inf:
                    values[i, j] = np.nan
    return special != 0


# -- random words -------------------------------------------------------------------------------------


def _word_writer(gap: int) -> Any:
    """An intrinsic that stores PANEL random words in the form of `Words`, whose arguments of `mix64` are `gap` apart.

    Its arguments: that of `mix64` for the first word; fold, down, up and low; the address to store to; and an
    array with the dtype of the stored words.
    """

    def write(typingctx, start, fold, down, up, low, address, target):  # type: ignore[no-untyped-def]
        element = vector(integer(target.dtype.bitwidth), PANEL)

        def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
            code = Code(builder)
            start, fold, down, up, low = (code.value(x) for x in values[:5])
            gaps = code.numbers([i * gap for i in range(PANEL)], I64)
            words = _mixed(start.splat(PANEL) + gaps)
            folded = words ^ words >> (fold & 31).splat(PANEL)
            words = folded.where(fold.differs(0), words)
            words = (words >> down.splat(PANEL)).widened(element)
            words = words << up.splat(PANEL) | low.splat(PANEL)
            code.pointer(values[5], element).store(words, align=4)
            return context.get_dummy_value()

        u32, kind = types.uint32, target.dtype
        return types.void(types.uint64, u32, u32, kind, kind, types.uintp, target), codegen

    return write


def _mixed(z: Value) -> Value:
    """`mix64` of 64-bit integers, of which the 32 high bits are wanted."""
    z = (z ^ z >> 30) * int(SPLITMIX_1)
    z = (z ^ z >> 27) * int(SPLITMIX_2)
    x = (z >> 32).cut(vector(I32, z.lanes))
    return x ^ x >> 31


#: Words of consecutive rows i …
words_of_rows = intrinsic(_word_writer(int(GOLDEN_GAMMA) << 32))
#: … and of consecutive elements j.
words_of_elements = intrinsic(_word_writer(int(GOLDEN_GAMMA)))


@jit
def fill_words(words, first, step0, steps_per_chunk, chunk_length, products, panels, at, count):
    """Fill panels (p, steps, PANEL) with words of rows (or columns) from `first` on.

    Step t is number t mod steps_per_chunk of its chunk; its word's j is the k of its first product.

    Args:
        words: a record of WORDS.
        step0, count: the first step, and how many.
        at: where the first one is in the panels.
    """
    kind = panels.dtype.type
    fold, down, up, low = words.fold, words.down, kind(words.up), kind(words.low)
    for p in range(panels.shape[0]):
        start = words.key + GOLDEN_GAMMA * (
            (np.uint64(first + p * PANEL) << np.uint64(32)) + np.uint64(1)
        )
        address = panels[p].ctypes.data + at * PANEL * panels.itemsize
        chunk = step0 // steps_per_chunk
        step = step0 - chunk * steps_per_chunk
        for t in range(count):
            argument = start + GOLDEN_GAMMA * np.uint64(chunk * chunk_length + step * products)
            place = address + t * PANEL * panels.itemsize
            words_of_rows(argument, fold, down, up, low, place, panels)
            step += 1
            if step == steps_per_chunk:
                step = 0
                chunk += 1


# -- all that panels hold -----------------------------------------------------------------------------


def steps_before(k: int, products: int, length: int) -> int:
    """The number of the step that begins at k: how many steps there are before k.

    Args:
        products: of a step.
        length: products of a chunk.
    """
    whole = k // length
    return whole * -(-length // products) - (whole * length - k) // products


step_number = jit(steps_before)


@jit
def fill_values(codes, side, k0, start, values):
    """Fill a range of k of panels with codes (rows, k): what every plan needs.

    Args:
        side: a record of SIDE.
        k0: place of the codes' first k in the whole of A (or of B's transpose); a step begins there.
        start: the panels' first k.
        values: of the panels, see `panels.Panels`.
    """
    products, length, depth = side.products, side.length, codes.shape[1]
    step0, k = step_number(start, products, length), 0
    while k < depth:
        # A chunk's last step may have fewer products than others. Zeros take the places of the rest.
        stop = depth
        if length % products:
            stop = min(depth, k + length - (k0 + k) % length)
        at = (step_number(k0 + k, products, length) - step0) * products
        pack(codes[:, k:stop], side, values, at, -(-(stop - k) // products) * products)
        k = stop


@jit
def fill_aligned(values, side, k0, depth, start, exponents):
    """Fill in what aligned sums need: the exponents of `depth` k from k0 on."""
    products = side.products
    at, steps = _steps_of(side, k0, depth, start)
    fill_exponents(values, side.lowest, exponents, at * products, steps * products)


@jit
def fill_drawn(side, first, k0, depth, start, words, chunk_words):
    """Fill in what stochastic sums need: the words of `depth` k from k0 on."""
    products, length = side.products, side.length
    if side.steps.drawn:
        at, steps = _steps_of(side, k0, depth, start)
        per, step = -(-length // products), step_number(k0, products, length)
        fill_words(side.steps, first, step, per, length, products, words, at, steps)
    if side.chunks.drawn:
        chunk, before, after = k0 // length, start // length, -(-(k0 + depth) // length)
        endless = np.int64(1) << 40  # more than there are chunks: they are numbered without a reset
        fill_words(
            side.chunks, first, chunk, endless, 0, 1, chunk_words, chunk - before, after - chunk
        )


@jit
def _steps_of(side, k0, depth, start):
    """The first step of `depth` k from k0 on, counted from the step of `start`, and how many there are."""
    products, length = side.products, side.length
    first, step0 = step_number(k0, products, length), step_number(start, products, length)
    return first - step0, step_number(k0 + depth, products, length) - first
