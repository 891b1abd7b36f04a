"""Exact products of codes in lanes of int16: the reference of quantised operands, several times faster than in float64.

The numbers of a narrow format are integers in units of a power of two. A processor multiplies pairs of int16 and adds
the products to int32 in one or two instructions, 32 multiply-accumulates at a time (x86's VPDPWSSD, VPMADDWD). docs/accuracy.md
has the proof that the result is the exact product.

- B's unit is the format's quantum. All numbers of B must fit 16 bits.
- A's unit is coarser, if need be: the largest number of A then has `_A_BITS` bits. Elements of A that are no multiple of
  it are *exceptions*. They are zero in the panels, and their products are added afterwards, in float64.
- Sums of `_DEPTH` products are computed modulo 2^32. They are exact if ‖a‖·‖b‖ < 2^31 for all rows a and columns b, by the
  Cauchy–Schwarz inequality. Blocks of k are added in float64, exactly.

Panels are those of `microkernel`, but that an element is a pair of consecutive k.
"""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from hfp8sim._numba.jit import config, jit
from hfp8sim._numba.simd import I16, I32, Code, vector
from hfp8sim.formats import FloatFormat
from hfp8sim.kernels.memory import Workspace
from hfp8sim.kernels.target import processor_has
from hfp8sim.kernels.workers import share, slices
from hfp8sim.kernels.zeros import largest_word

Codes = NDArray[np.unsignedinteger[Any]]

#: The register tile: rows, and vectors of so many int32.
_ROWS, _VECTORS, _LANES = 6, 4, 16
_COLUMNS = _VECTORS * _LANES
#: Elements of k whose products are added in int32: a panel of B's block fits the first-level cache.
_DEPTH = 256
#: Rows of A that are packed together.
_BLOCK_ROWS = 64 * _ROWS
#: Bits of the largest number of A, without its sign. With 15 the sums of usual layers come close to 2^31.
_A_BITS = 14
#: In a table of int16: a code whose number does not fit.
_UNFIT = -(1 << 15)
#: More than one exception in so many elements of A are refused.
_ELEMENTS_PER_EXCEPTION = 64
#: Multiply-accumulates below which float64 takes less time than to load or compile this module's functions.
_LEAST_MACS = 1 << 24
#: Columns below which most lanes would be idle.
_LEAST_COLUMNS = _LANES
_WORKSPACE = Workspace()


class _Integers(NamedTuple):
    """The numbers of a format as integers."""

    table: NDArray[np.int16]  #: by code; `_UNFIT` where the number is no integer of 16 bits
    unit: float  #: a power of two
    numbers: NDArray[np.float64]  #: by code


@functools.lru_cache(64)
def _numbers(fmt: FloatFormat) -> NDArray[np.float64]:
    """The number of each code."""
    return fmt.table()


@functools.lru_cache(64)
def _integers(fmt: FloatFormat, exponent: int) -> _Integers:
    """The numbers of a format of at most 8 bits in units of 2^exponent."""
    unit = math.ldexp(1.0, exponent)
    numbers = _numbers(fmt)
    scaled = numbers / unit
    fits = np.isfinite(scaled) & (np.abs(scaled) < -_UNFIT)
    table = np.where(fits, scaled, 0).astype(np.int16)
    table[~fits | (table != scaled)] = _UNFIT
    return _Integers(table, unit, numbers)


@intrinsic
def _multiply_tile(typingctx, a, b, pairs, sums):  # type: ignore[no-untyped-def]
    """The products of a register tile over a range of k, modulo 2^32.

    Args:
        a: address of a panel of A: int16 (pairs, _ROWS, 2).
        b: address of a panel of B: int16 (pairs, _COLUMNS, 2).
        pairs: of elements of k.
        sums: address of the results: int32 (_ROWS, _COLUMNS).
    """

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        code = Code(builder)
        words, halves = vector(I32, _LANES), vector(I16, 2 * _LANES)
        rows, columns, target = (code.pointer(values[i], I32) for i in (0, 1, 3))

        def add_pair(i, sums):  # type: ignore[no-untyped-def]
            right = [
                (columns + (i * _COLUMNS + _LANES * v)).load(words, align=4).bitcast(halves)
                for v in range(_VECTORS)
            ]
            result = []
            for r in range(_ROWS):
                left = (rows + (i * _ROWS + r)).load(align=4).splat(_LANES).bitcast(halves)
                result += [
                    sums[r * _VECTORS + v]
                    + code.call("x86.avx512.pmaddw.d.512", words, left, right[v])
                    for v in range(_VECTORS)
                ]
            return result

        zeros = [code.number(0, words)] * (_ROWS * _VECTORS)
        for i, each in enumerate(code.repeat(code.value(values[2]), add_pair, zeros)):
            (target + i * _LANES).store(each, align=4)
        return context.get_dummy_value()

    address = types.int64
    return types.void(address, address, types.int64, address), codegen


@jit
def _pair(table, even, odd):
    """The numbers of two codes as an element of a panel: int32, the first one in the lower half."""
    return np.int64(table[even]) & 0xFFFF | np.int64(table[odd]) << 16


@jit
def _numbers_of(pair):
    """The two numbers of an element of a panel."""
    word = np.int64(pair)
    return word << 48 >> 48, word >> 16


@jit
def pack_columns(b, table, panels, norms):
    """Pack B.

    Args:
        b: codes (K, N).
        table: `_Integers.table` of their format.
        panels: int32 (blocks of k, panels of columns, _DEPTH // 2, _COLUMNS).
        norms: memory for int64 (N,).

    Returns:
        The largest squared norm of a column of a block; −1 if a number does not fit.
    """
    most, unfit = 0, False
    for block in range(panels.shape[0]):
        for j in range(b.shape[1]):
            norms[j] = 0
        start = block * _DEPTH
        depth = min(_DEPTH, b.shape[0] - start)
        for k in range(0, depth, 2):
            # The second number of a last pair is zero, whatever A's panel has there.
            whole = k + 1 < depth
            kept, even, odd = -1 if whole else 0xFFFF, b[start + k], b[start + k + whole]
            for j in range(0, b.shape[1], _COLUMNS):
                target, some = panels[block, j // _COLUMNS, k // 2], even[j : j + _COLUMNS]
                others, own = odd[j : j + _COLUMNS], norms[j : j + _COLUMNS]
                for c in range(some.size):
                    target[c] = _pair(table, some[c], others[c]) & kept
                for c in range(some.size):
                    x, y = _numbers_of(target[c])
                    unfit |= (x == _UNFIT) | (y == _UNFIT)
                    own[c] += x * x + y * y
        for j in range(b.shape[1]):
            most = max(most, norms[j])
    return -1 if unfit else most


@jit
def _pack_rows(a, first, rows, start, depth, table, panels, line, exceptions, count):
    """Pack rows of A, from `first` on, and elements of k, from `start` on.

    Args:
        line: memory for a row: int32 (_DEPTH // 2,), and the same as int16.
        exceptions: int64 (most, 2): row and k of elements that do not fit.
        count: of exceptions so far.

    Returns:
        The largest squared norm of a row; how many exceptions there are, at most one more than `exceptions` has room for.
    """
    most, (pairs, halves) = 0, line
    for i in range(rows):
        codes = a[first + i, start : start + depth]
        for p in range(depth // 2):
            pairs[p] = _pair(table, codes[2 * p], codes[2 * p + 1])
        if depth % 2:
            pairs[depth // 2] = _pair(table, codes[depth - 1], codes[depth - 1]) & 0xFFFF
        norm, unfit = 0, False
        packed = pairs[: (depth + 1) // 2]
        for p in range(packed.size):
            x, y = _numbers_of(packed[p])
            unfit |= (x == _UNFIT) | (y == _UNFIT)
            norm += x * x + y * y
        if unfit:
            norm = 0
            for k in range(depth):
                if halves[k] == _UNFIT:
                    halves[k] = 0
                    if count < len(exceptions):
                        exceptions[count, 0], exceptions[count, 1] = first + i, start + k
                    count = min(count + 1, len(exceptions) + 1)
                norm += np.int64(halves[k]) * np.int64(halves[k])
        target, row = panels[i // _ROWS], i % _ROWS
        for p in range(packed.size):
            target[p, row] = packed[p]
        most = max(most, norm)
    return most, count


@jit
def _add_sums(sums, unit, first, product):
    """Add int32 in a unit to float64, which are not yet written if these are the `first`."""
    if first:
        for c in range(product.size):
            product[c] = np.float64(sums[c]) * unit
    else:
        for c in range(product.size):
            product[c] += np.float64(sums[c]) * unit


@jit
def multiply_rows(a, b, span, table, panels, numbers, unit, work, product):
    """Some rows of a product.

    Args:
        a, b: codes (M, K), (K, N).
        span: the first row, and the row after the last.
        table: `_Integers.table` of A's format.
        panels: of B, by `pack_columns`.
        numbers: of A's codes and of B's codes.
        unit: of the sums.
        work: memory: panels of A, int32 (_BLOCK_ROWS // _ROWS, _DEPTH // 2, _ROWS); `line` of `_pack_rows`; a tile of sums,
            int32 (_ROWS, _COLUMNS); exceptions, int64 (most, 2).
        product: float64 (M, N).

    Returns:
        The largest squared norm of a row of a block; −1 if there are too many exceptions.
    """
    rows_packed, line, sums, exceptions = work
    most, found, (depth, columns) = 0, 0, b.shape
    a_address, b_address = np.int64(rows_packed.ctypes.data), np.int64(panels.ctypes.data)
    for top in range(span[0], span[1], _BLOCK_ROWS):
        rows = min(_BLOCK_ROWS, span[1] - top)
        for block in range(panels.shape[0]):
            k = block * _DEPTH
            size = min(_DEPTH, depth - k)
            norm, found = _pack_rows(
                a, top, rows, k, size, table, rows_packed, line, exceptions, found
            )
            most = max(most, norm)
            if found > len(exceptions):
                return -1
            for j in range(0, columns, _COLUMNS):
                number = block * panels.shape[1] + j // _COLUMNS
                right = b_address + number * _DEPTH * _COLUMNS * 2
                for i in range(0, rows, _ROWS):
                    left = a_address + i * _DEPTH * 2
                    _multiply_tile(left, right, (size + 1) // 2, np.int64(sums.ctypes.data))
                    for r in range(min(_ROWS, rows - i)):
                        _add_sums(sums[r], unit, block == 0, product[top + i + r, j : j + _COLUMNS])
    for number in range(found):
        i, k = exceptions[number, 0], exceptions[number, 1]
        x = numbers[0][a[i, k]]
        for j in range(columns):
            product[i, j] += x * numbers[1][b[k, j]]
    return most


def integer_product(
    a: Codes, b: Codes, a_format: FloatFormat, b_format: FloatFormat, threads: int = 1
) -> NDArray[np.float64] | None:
    """The exact product of two matrices of codes.

    Args:
        a, b: codes (M, K) and (K, N) of formats of at most 8 bits; `a` may have NaN and infinities.
        threads: worker threads; the product does not depend on them.

    Returns:
        float64 (M, N), in which all sums are exact. None if lanes of int16 would not be exact, not be faster, or
        the processor has none.
    """
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    (m, depth), n = a.shape, b.shape[1]
    if m * depth * n < _LEAST_MACS or n < _LEAST_COLUMNS or not available():
        return None
    units = _units(a, b, a_format, b_format)
    if units is None:
        return None
    left, right = units
    memory = _WORKSPACE
    shape = -(-depth // _DEPTH), -(-n // _COLUMNS), _DEPTH // 2, _COLUMNS
    panels = memory.array("b", shape, np.int32)
    column_norm = pack_columns(b, right.table, panels, np.empty(n, np.int64))
    if column_norm < 0:
        return None
    product, norms = np.empty((m, n)), []

    numbers, unit = (left.numbers, right.numbers), left.unit * right.unit

    def multiply(rows: slice) -> None:
        room = max((rows.stop - rows.start) * depth // _ELEMENTS_PER_EXCEPTION, 1)
        line = memory.array("line", (_DEPTH // 2,), np.int32)
        work = (
            memory.array("a", (_BLOCK_ROWS // _ROWS, _DEPTH // 2, _ROWS), np.int32),
            (line, line.view(np.int16)),
            memory.array("sums", (_ROWS, _COLUMNS), np.int32),
            np.empty((room, 2), np.int64),
        )
        span = rows.start, rows.stop
        norms.append(multiply_rows(a, b, span, left.table, panels, numbers, unit, work, product))

    share(multiply, slices(m, -(-m // threads)), threads)
    if min(norms) < 0 or max(norms) * column_norm >= 1 << 62:
        return None
    return product


def available() -> bool:
    """Whether the processor has the instructions, and functions are compiled."""
    return not config.DISABLE_JIT and processor_has("avx512bw")


def _units(
    a: Codes, b: Codes, a_format: FloatFormat, b_format: FloatFormat
) -> tuple[_Integers, _Integers] | None:
    """The integers of A and of B; None if numbers of B do not fit, or sums in float64 may be inexact."""
    if max(a_format.bits, b_format.bits) > 8:
        return None
    largest = [_largest(codes, fmt) for codes, fmt in ((a, a_format), (b, b_format))]
    quanta = [fmt.facts.min_exp for fmt in (a_format, b_format)]
    bits = [math.frexp(x)[1] - quantum for x, quantum in zip(largest, quanta)]
    if bits[1] > 15 or sum(bits) + a.shape[1].bit_length() > 53 or abs(sum(quanta)) > 900:
        return None
    coarser = max(bits[0] - _A_BITS, 0)
    return _integers(a_format, quanta[0] + coarser), _integers(b_format, quanta[1])


def _largest(codes: Codes, fmt: FloatFormat) -> float:
    """The largest magnitude of a number among codes."""
    facts = fmt.facts
    magnitude = int(largest_word(codes.reshape(-1), int(facts.mag_mask)))
    return abs(float(_numbers(fmt)[min(magnitude, facts.max_mag)]))
