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

from hfp8sim._jit import jit
from hfp8sim.formats import FloatFormat
from hfp8sim.formats.rounding import NORMAL, SUBNORMAL
from hfp8sim.units.mac_array.ir import PANEL
from hfp8sim.units.random import _G, _M1, _M2, _ONE, _S32

# -- what is in an operand ---------------------------------------------------------------------------


class Scan(NamedTuple):
    """What one look at all codes of an operand tells."""

    largest: float  #: no finite element has a larger magnitude
    quantum: int  #: all finite elements are multiples of 2^quantum
    special: bool  #: some element is not a number


@jit
def _extremes(codes, mask, odd_code):
    """Over a 1-D array: the largest mag, the smallest non-zero mag (less one), how often odd_code."""
    kind = codes.dtype.type
    low_bits, one, odd = kind(mask), kind(1), kind(odd_code)
    high, low, seen = kind(0), kind(0) - one, 0
    low = kind(low)
    for i in range(codes.size):
        mag = kind(codes[i] & low_bits)
        high = max(high, mag)
        low = min(low, kind(mag - one))
        seen += codes[i] == odd
    return np.int64(high), np.int64(low), seen


def scan(codes: NDArray[np.unsignedinteger[Any]], fmt: FloatFormat) -> Scan:
    """Look at a matrix of codes."""
    facts = fmt.facts
    width = facts.exponent_bits + facts.fraction_bits
    # NaN codes lie above the largest number, but for the code of −0 in formats that have one zero.
    minus_zero = facts.nan_code == 1 << width and facts.signed
    if codes.size == 0:
        return Scan(0.0, 0, False)
    flat = codes.ravel(order="K")
    high, low, seen = _extremes(flat, (1 << width) - 1, facts.nan_code if minus_zero else 0)
    special = high > facts.max_mag or bool(minus_zero and seen)
    smallest = low + 1
    if smallest > (1 << width) - 1:  # every element is zero
        return Scan(0.0, 0, special)
    return Scan(_magnitude(min(high, facts.max_mag), fmt), _quantum(smallest, fmt), special)


@functools.lru_cache(4096)
def _magnitude(mag: int, fmt: FloatFormat) -> float:
    return float(fmt.decode(np.asarray(mag, fmt.dtype)))


def _quantum(mag: int, fmt: FloatFormat) -> int:
    field = mag >> fmt.fraction_bits
    if field == 0 and fmt.lowest == "subnormal":
        field = 1
    return field - fmt.bias - fmt.fraction_bits


# -- codes → panels -----------------------------------------------------------------------------------


def _block_loader(transposed: bool) -> Any:
    """An intrinsic that copies a block of 16 rows of 16 elements, or its transpose."""

    def load(typingctx, source, stride, target):  # type: ignore[no-untyped-def]
        vector = ir.VectorType(ir.IntType(target.dtype.bitwidth), 16)
        index = ir.IntType(32)
        halves = [
            ir.Constant(
                ir.VectorType(index, 16), [first + i // 2 + 16 * (i % 2) for i in range(16)]
            )
            for first in (0, 8)
        ]

        def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
            source, stride, target = values
            rows = []
            for i in range(16):
                address = builder.add(source, builder.mul(stride, stride.type(i)))
                rows.append(builder.load(builder.inttoptr(address, vector.as_pointer()), align=1))
            # Four rounds of zipping row i with row i + 8 move every element to its mirror place.
            for _ in range(4 if transposed else 0):
                rows = [
                    builder.shuffle_vector(rows[i], rows[i + 8], half)
                    for i in range(8)
                    for half in halves
                ]
            array = context.make_array(signature.args[2])(context, builder, target)
            base = builder.bitcast(array.data, vector.as_pointer())
            for i, row in enumerate(rows):
                builder.store(row, builder.gep(base, [index(i)]), align=1)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, target), codegen

    return load


#: (address, bytes between rows, contiguous array of 256): fill the array from memory.
load_block = intrinsic(_block_loader(False))
load_transposed = intrinsic(_block_loader(True))


@intrinsic
def shift_right(typingctx, x, n):  # type: ignore[no-untyped-def]
    """x >> n for uint32 x and n < 32, in 32 bits. (Numba widens the operator to 64, which halves the
    lanes of a vector.)"""

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        return builder.lshr(*values)

    return types.uint32(types.uint32, types.uint32), codegen


@jit
def decode_block(codes, fmt, scale, bits, values):
    """Values of 256 codes times 2^scale into `values` (the first of them, if it is shorter).

    `bits` is room for 256 uint32.
    """
    low_bits = np.uint32((1 << (fmt.exponent_bits + fmt.fraction_bits)) - 1)
    up = np.uint32(1 << (23 - fmt.fraction_bits))
    base = np.uint32((127 - fmt.bias + scale) << 23)
    # Below `gap` an element is mag times the smallest quantum: subnormals, or only zero.
    gap = np.uint32(1) if fmt.lowest == NORMAL else np.uint32(1 << fmt.fraction_bits)
    quantum = np.float32(0.0)
    if fmt.lowest == SUBNORMAL:
        quantum = np.float32(math.ldexp(1.0, 1 - fmt.bias - fmt.fraction_bits + scale))
    for t in range(256):
        code = np.uint32(codes[t])
        mag = np.uint32(code & low_bits)
        normal = np.uint32(np.uint32(mag * up) + base)
        small = np.float32(np.float32(np.int32(mag)) * quantum).view(np.uint32)
        magnitude = small if mag < gap else normal
        bits[t] = np.uint32(magnitude | np.uint32(0x80000000)) if code > low_bits else magnitude
    floats = bits.view(np.float32)
    if values.size == 256:
        for t in range(256):
            values[t] = floats[t]
    else:
        for t in range(values.size):
            values[t] = floats[t]


@jit
def pack(codes, fmt, scale, panels):
    """A matrix of codes (rows, k) as panels (p, k, PANEL) of floats, times 2^scale.

    Beyond the matrix' edge panels are zero. `codes` may be the transpose of a matrix (then rows lie
    together in memory, as a panel wants them) or not (then blocks of 16×16 are transposed).
    """
    rows, depth = codes.shape
    block = np.zeros(256, codes.dtype)
    bits = np.zeros(256, np.uint32)
    size = np.int64(codes.itemsize)
    row_step, k_step = np.int64(codes.strides[0]), np.int64(codes.strides[1])
    for p in range(panels.shape[0]):
        row = PANEL * p
        height = min(PANEL, rows - row)
        flat = panels[p].reshape(panels.shape[1] * PANEL)
        for k in range(0, panels.shape[1], PANEL):
            wide = min(PANEL, depth - k)
            source = np.int64(codes.ctypes.data) + row * row_step + k * k_step
            inside = height == PANEL and wide == PANEL
            if inside and k_step == size:
                load_transposed(source, row_step, block)
            elif inside and row_step == size:
                load_block(source, k_step, block)
            else:
                block[:] = 0
                for j in range(wide):
                    for i in range(height):
                        block[j * PANEL + i] = codes[row + i, k + j]
            decode_block(block, fmt, scale, bits, flat[k * PANEL : k * PANEL + 256])


# -- results → codes ----------------------------------------------------------------------------------


@jit
def encode_block(values, fmt, scale, codes):
    """A block of accumulators (float32 of rows × PANEL, times 2^scale, each a number of the format,
    an infinity or NaN) as codes; `codes` is as large as the part of the block that is wanted."""
    down = np.uint32(23 - fmt.fraction_bits)
    rebias = np.uint32((127 - fmt.bias + scale) << fmt.fraction_bits)
    sign_bit = np.uint32(1 << (fmt.exponent_bits + fmt.fraction_bits))
    # Subnormals, where the format has them below float32's, count multiples of the smallest.
    gap = np.float32(0.0)
    units = np.float32(0.0)
    if fmt.lowest == SUBNORMAL and 1 - fmt.bias + scale > -126:
        gap = np.float32(math.ldexp(1.0, 1 - fmt.bias + scale))
        units = np.float32(math.ldexp(1.0, fmt.bias - 1 + fmt.fraction_bits - scale))
    infinity = np.uint32(fmt.inf_mag if fmt.inf_mag >= 0 else fmt.nan_code)
    infinity_sign = sign_bit if fmt.inf_mag >= 0 else np.uint32(0)
    nan = np.uint32(fmt.nan_code)
    words = values.view(np.uint32)
    for i in range(codes.shape[0]):
        for j in range(codes.shape[1]):
            magnitude = np.uint32(words[i, j] & np.uint32(0x7FFFFFFF))
            negative = words[i, j] > np.uint32(0x7FFFFFFF)
            small = abs(values[i, j])
            code = np.uint32(shift_right(magnitude, down) - rebias)
            counted = np.uint32(np.int32(np.float32(small * units)))
            code = counted if small < gap else code
            code = np.uint32(code | sign_bit) if negative else code
            code = np.uint32(0) if magnitude == 0 else code
            odd = np.uint32(infinity | infinity_sign) if negative else infinity
            code = odd if magnitude == np.uint32(0x7F800000) else code
            codes[i, j] = nan if magnitude > np.uint32(0x7F800000) else code


@jit
def encode(panels, fmt, scale, codes):
    """Panels of accumulators (row panels, column panels, PANEL, PANEL) as a matrix of codes."""
    for i in range(panels.shape[0]):
        rows = codes[i * PANEL : (i + 1) * PANEL]
        for j in range(panels.shape[1]):
            encode_block(panels[i, j], fmt, scale, rows[:, j * PANEL : (j + 1) * PANEL])


# -- random words -------------------------------------------------------------------------------------


class Words(NamedTuple):
    """How a kernel wants its random words w: (x >> down) << up | low, with x = w ^ (w >> fold), or w."""

    fold: int
    down: int
    up: int
    low: int


@intrinsic
def words_of_lanes(typingctx, start, fold, down, up, low, address, target):  # type: ignore[no-untyped-def]
    """PANEL words of consecutive rows, treated as `Words` says, stored at an address.

    `start` is the argument of `mix64` for the first row; the next row's is G·2^32 larger. `target` is an
    array that says what the elements are, uint32 or uint64.
    """
    wide, narrow = ir.VectorType(ir.IntType(64), PANEL), ir.VectorType(ir.IntType(32), PANEL)
    element = ir.VectorType(ir.IntType(target.dtype.bitwidth), PANEL)

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        def splat(value, vector):  # type: ignore[no-untyped-def]
            one = builder.insert_element(
                ir.Constant(vector, ir.Undefined), value, ir.IntType(32)(0)
            )
            pattern = ir.Constant(ir.VectorType(ir.IntType(32), PANEL), [0] * PANEL)
            return builder.shuffle_vector(one, one, pattern)

        def constant(vector, value):  # type: ignore[no-untyped-def]
            return ir.Constant(vector, [value] * PANEL)

        def xorshift(x, n):  # type: ignore[no-untyped-def]
            return builder.xor(x, builder.lshr(x, n))

        start, fold, down, up, low, address, _ = values
        gap = (int(_G) << 32) & (1 << 64) - 1
        lanes = ir.Constant(wide, [i * gap & (1 << 64) - 1 for i in range(PANEL)])
        z = builder.add(splat(start, wide), lanes)
        z = builder.mul(xorshift(z, constant(wide, 30)), constant(wide, int(_M1)))
        z = builder.mul(xorshift(z, constant(wide, 27)), constant(wide, int(_M2)))
        # mix64's last step, in the 32 bits that are wanted of it.
        x = builder.trunc(builder.lshr(z, constant(wide, 32)), narrow)
        x = xorshift(x, constant(narrow, 31))
        folded = xorshift(x, splat(builder.and_(fold, fold.type(31)), narrow))
        x = builder.select(builder.icmp_unsigned("!=", fold, fold.type(0)), folded, x)
        x = builder.lshr(x, splat(down, narrow))
        if element != narrow:
            x = builder.zext(x, element)
        x = builder.or_(builder.shl(x, splat(up, element)), splat(low, element))
        builder.store(x, builder.inttoptr(address, element.as_pointer()), align=4)
        return context.get_dummy_value()

    u32 = types.uint32
    return types.void(
        types.uint64, u32, u32, target.dtype, target.dtype, types.uintp, target
    ), codegen


@jit
def fill_words(key, first, step0, steps_per_chunk, chunk_length, products, how, panels):
    """Words of rows `first`… (or columns) for steps step0…, as panels (p, steps, PANEL).

    Step t is number t mod steps_per_chunk of its chunk; its word's j is the k of its first product.
    """
    kind = panels.dtype.type
    up, low = kind(how.up), kind(how.low)
    for p in range(panels.shape[0]):
        start = key + _G * ((np.uint64(first + p * PANEL) << _S32) + _ONE)
        address = panels[p].ctypes.data
        chunk = step0 // steps_per_chunk
        step = step0 - chunk * steps_per_chunk
        for t in range(panels.shape[1]):
            at = start + _G * np.uint64(chunk * chunk_length + step * products)
            place = address + t * PANEL * panels.itemsize
            words_of_lanes(at, how.fold, how.down, up, low, place, panels)
            step += 1
            if step == steps_per_chunk:
                step = 0
                chunk += 1
