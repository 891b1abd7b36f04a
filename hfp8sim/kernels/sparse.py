"""Products in float64 of a float32 matrix with many zeros: the reference of operands behind a ReLU.

A row of A is a list of its elements that are not zero. The register tile is one row of the result: for each element of the list,
a row of B is multiplied and added. Every sum is that of its products in order of k. Products of float32 are exact in
float64, so that a fused multiply-add changes nothing, and the result does not depend on the processor.

Terms with a zero of A are left out, since they leave a sum as it is, unless B has infinities or NaN.
"""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from hfp8sim._numba.jit import config, jit
from hfp8sim._numba.simd import F32, F64, I16, I32, I64, Code, Lanes, vector
from hfp8sim.kernels.memory import Workspace
from hfp8sim.kernels.target import processor_has
from hfp8sim.kernels.workers import share, slices
from hfp8sim.kernels.zeros import count_nonzero

#: The register tile: vectors of float64.
_VECTORS, _LANES = 8, 8
_COLUMNS = _VECTORS * _LANES
#: Rows of B's block, which stays in the first-level cache.
_DEPTH = 48
#: Elements of A that are listed at once.
_LISTED = 16
#: Rows of A whose lists are made at once.
_ROWS = 256
#: Multiply-accumulates below which BLAS takes less time than to load or compile this module's functions.
_LEAST_MACS = 1 << 24
#: Columns below which most lanes would be idle.
_LEAST_COLUMNS = _COLUMNS // 2
#: The share of elements of A that are not zero, above which BLAS is faster.
_LARGEST_SHARE = 0.75
_WORKSPACE = Workspace()


@intrinsic
def _add_terms(typingctx, elements, places, count, block, sums):  # type: ignore[no-untyped-def]
    """Add multiples of rows of B's block to a row of sums.

    Args:
        elements: address of elements of a row of A, float32, as many as the block has rows.
        places: address of the numbers of those to be multiplied, uint16.
        count: of them.
        block, sums: addresses of float64 (_DEPTH, _COLUMNS) and (_COLUMNS,).
    """

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        code = Code(builder)
        lanes = Lanes(code, 64, _LANES)
        kinds = F32, I16, F64, F64
        left, where, right, row = (
            code.pointer(values[i], kind) for i, kind in zip((0, 1, 3, 4), kinds)
        )
        starts = [lanes.load(row, _LANES * v, lanes.floats) for v in range(_VECTORS)]

        def add_term(i, sums):  # type: ignore[no-untyped-def]
            k = (where + i).load().widened(I64)
            factor, place = (left + k).load().widened(F64).splat(_LANES), right + k * _COLUMNS
            return [
                factor.times_plus(lanes.load(place, _LANES * v, lanes.floats), each)
                for v, each in enumerate(sums)
            ]

        for v, each in enumerate(code.repeat(code.value(values[2]), add_term, starts)):
            lanes.store(each, row, _LANES * v)
        return context.get_dummy_value()

    address = types.int64
    return types.void(address, address, types.int64, address, address), codegen


@jit
def pack_columns(b, panels):
    """Copy B into panels of columns, float32 (panels, K, _COLUMNS); whether all its elements are finite."""
    finite = True
    for k in range(b.shape[0]):
        for j in range(0, b.shape[1], _COLUMNS):
            source, target = b[k, j : j + _COLUMNS], panels[j // _COLUMNS, k]
            for c in range(source.size):
                target[c] = source[c]
                finite &= source[c] - source[c] == 0
    return finite


@intrinsic
def _list_vector(typingctx, elements, k, places):  # type: ignore[no-untyped-def]
    """Number the elements of a vector that are not zero.

    Args:
        elements: address of _LISTED float32.
        k: number of the first one.
        places: address of their numbers, uint16; after the last one, others are written, _LISTED in all.

    Returns:
        How many there are.
    """

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        code = Code(builder)
        lanes = Lanes(code, 32, _LISTED)
        bits = lanes.load(code.pointer(values[0], F32), 0, lanes.words) & 0x7FFFFFFF
        numbers = code.value(values[1]).cut(I32).splat(_LISTED) + code.numbers(range(_LISTED), I32)
        some = bits.differs(0)
        name = f"x86.avx512.mask.compress.v{_LISTED}i32"
        numbers = code.call(name, lanes.words, numbers, lanes.const(0), some)
        code.pointer(values[2], I16).store(numbers.cut(vector(I16, _LISTED)), align=2)
        return some.count().ir

    address = types.int64
    return types.int64(address, types.int64, address), codegen


@jit
def _list_terms(row, skip, i, places, counts):
    """Number the elements of row number i of A in each block of k; those that are not zero, if `skip`."""
    for block in range(len(counts)):
        some, own, n = row[block * _DEPTH : (block + 1) * _DEPTH], places[block, i], 0
        elements, numbers = np.int64(some.ctypes.data), np.int64(own.ctypes.data)
        listed = some.size // _LISTED * _LISTED if skip else 0
        for k in range(0, listed, _LISTED):  # the vector ends within the block's memory: n ≤ k
            n += _list_vector(elements + 4 * k, k, numbers + 2 * n)
        for k in range(listed, some.size):
            own[n] = np.uint16(k)
            n += some[k] != 0 or not skip
        counts[block, i] = n


@jit
def multiply_rows(a, panels, skip, span, work, product):
    """Some rows of a product, at most _ROWS.

    Args:
        a: float32 (M, K).
        panels: of B, by `pack_columns`.
        skip: whether terms with a zero of A are left out.
        span: the first row, and the row after the last.
        work: memory: numbers of elements, uint16 (blocks of k, _ROWS, _DEPTH), and their counts, int64 (blocks of k, _ROWS);
            a block of B, float64 (_DEPTH, _COLUMNS); sums, float64 (_ROWS, _COLUMNS).
        product: float64 (M, N).
    """
    places, counts, block, sums = work
    (first, stop), depth = span, a.shape[1]
    for i in range(stop - first):
        _list_terms(a[first + i], skip, i, places, counts)
    for panel in range(len(panels)):
        for i in range(stop - first):
            for c in range(_COLUMNS):
                sums[i, c] = 0.0
        for number in range(len(counts)):
            some = panels[panel, number * _DEPTH : (number + 1) * _DEPTH]
            for k in range(len(some)):
                source, target = some[k], block[k]
                for c in range(_COLUMNS):
                    target[c] = source[c]
            left, where = np.int64(a[first:].ctypes.data), np.int64(places[number].ctypes.data)
            right, row = np.int64(block.ctypes.data), np.int64(sums.ctypes.data)
            for i in range(stop - first):
                _add_terms(
                    left + 4 * (i * depth + number * _DEPTH), where + 2 * i * _DEPTH,
                    counts[number, i], right, row + 8 * i * _COLUMNS,
                )  # fmt: skip
        for i in range(stop - first):
            target = product[first + i, panel * _COLUMNS : (panel + 1) * _COLUMNS]
            for c in range(target.size):
                target[c] = sums[i, c]


@jit
def multiply_blocks(a, panels, skip, span, work, product):
    """`multiply_rows` for any number of rows."""
    for first in range(span[0], span[1], _ROWS):
        multiply_rows(a, panels, skip, (first, min(first + _ROWS, span[1])), work, product)


def sparse_product(
    a: NDArray[np.float32], b: NDArray[np.float32], threads: int = 1
) -> NDArray[np.float64] | None:
    """The product of two matrices, each sum in order of k.

    Args:
        a, b: (M, K) and (K, N).
        threads: worker threads; the product does not depend on them.

    Returns:
        float64 (M, N); None if BLAS is expected to be faster.
    """
    (m, depth), n = a.shape, b.shape[1]
    if m * depth * n < _LEAST_MACS or n < _LEAST_COLUMNS or not available():
        return None
    if count_nonzero(a) > _LARGEST_SHARE * a.size:
        return None
    memory, blocks = _WORKSPACE, -(-depth // _DEPTH)
    panels = memory.array("b", (-(-n // _COLUMNS), depth, _COLUMNS), np.float32)
    skip = pack_columns(b, panels)
    product = np.empty((m, n))

    def multiply(rows: slice) -> None:
        work = (
            memory.array("places", (blocks, _ROWS, _DEPTH), np.uint16),
            np.empty((blocks, _ROWS), np.int64),
            memory.array("block", (_DEPTH, _COLUMNS), np.float64),
            memory.array("sums", (_ROWS, _COLUMNS), np.float64),
        )
        multiply_blocks(a, panels, skip, (rows.start, rows.stop), work, product)

    per_thread = -(-m // threads)
    share(multiply, slices(m, -(-per_thread // _ROWS) * _ROWS), threads)
    return product


def available() -> bool:
    """Whether the processor has the registers that the tile needs, and functions are compiled."""
    return not config.DISABLE_JIT and processor_has("avx512f")
