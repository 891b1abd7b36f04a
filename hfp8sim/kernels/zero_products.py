"""The number of steps that add zero, computed from rows of A and columns of B in O((M + N)·K).

A step is swamped if it adds something other than zero and leaves the sum unchanged. With one comparison a
kernel can count the steps that leave the sum unchanged; a second one would test whether the addend is zero.
If no sum is ever NaN or infinite, a step that adds zero leaves the sum unchanged. A kernel may then count both
kinds of steps, and the steps that add zero are counted here and subtracted.

Steps of one product: a product is zero if one of its factors is. For one k, the products that are not zero
number (rows that are not zero) times (columns that are not zero).

Steps of two products: they sum to zero if the row's pair (a₀, a₁) and the column's pair (b₀, b₁) are
orthogonal, a₀·b₀ + a₁·b₁ = 0. For pairs other than (0, 0) this depends on slopes alone: a₀/a₁ = −b₁/b₀. Each
slope therefore has an id, and a step's count is, for each column, the number of rows with its id. Codes of 8 bits
make 2^16 pairs, few enough for a table of their ids.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hfp8sim._numba.calls import array_at
from hfp8sim._numba.jit import jit
from hfp8sim.formats import FloatFormat
from hfp8sim.kernels.form import PANEL

#: Operands of at most so many bits have tables of slope ids.
TABLE_BITS = 8
#: Slope ids: of the pair (0, 0), which is orthogonal to every pair; of all slopes that only rows have, and of
#: all that only columns have, which are orthogonal to nothing; and the first of those that both have.
ANY_SLOPE, ROWS_ONLY, COLUMNS_ONLY, FIRST_SHARED = range(4)
#: Counts of at most so many rows fit the smallest code dtype.
_BATCH = 255


def writable(codes: NDArray[np.unsignedinteger[Any]]) -> NDArray[np.unsignedinteger[Any]]:
    """The codes, or a copy of those that cannot be written, for which loops would be compiled once more."""
    return codes if codes.flags.writeable else codes.copy("K")


# -- one product -------------------------------------------------------------------------------------


def nonzero(codes: NDArray[np.unsignedinteger[Any]], fmt: FloatFormat) -> NDArray[np.int64]:
    """How many codes (rows, k) are not zero, for each k."""
    facts, counts = fmt.facts, np.zeros(codes.shape[1], np.int64)
    low_bits = (1 << (fmt.exponent_bits + fmt.fraction_bits)) - 1
    # The code of −0 is zero, except where a format has its NaN there. For the others this is a code that
    # `code & low_bits >= min_mag` finds anyway.
    nan_code = facts.nan_code if facts.nan_code == low_bits + 1 else low_bits
    _add_nonzero(writable(codes), low_bits, facts.min_mag, nan_code, counts)
    return counts


@jit
def _add_nonzero(codes, low_bits, min_mag, nan_code, counts):
    """Add to counts (k,) the codes that are at least min_mag, or nan_code.

    Everything, the counts of a batch too, has the dtype of the codes, for as many lanes as possible.
    """
    kind = codes.dtype.type
    mask, limit, nan = kind(low_bits), kind(min_mag), kind(nan_code)
    rows, depth = codes.shape
    if codes.strides[0] < codes.strides[1]:  # the codes of one k are adjacent
        for k in range(depth):
            column = codes.T[k]
            for i in range(0, rows, _BATCH):
                batch, count = column[i : min(i + _BATCH, rows)], kind(0)
                for j in range(batch.size):
                    code = batch[np.uintp(j)]
                    count = kind(count + kind((kind(code & mask) >= limit) | (code == nan)))
                counts[k] += np.int64(count)
        return
    batch_counts = np.zeros(depth, codes.dtype)
    for i in range(rows):
        for k in range(depth):
            code = codes[i, k]
            is_nonzero = kind((kind(code & mask) >= limit) | (code == nan))
            batch_counts[k] = kind(batch_counts[k] + is_nonzero)
        if i % _BATCH == _BATCH - 1 or i + 1 == rows:
            for k in range(depth):
                counts[k] += np.int64(batch_counts[k])
                batch_counts[k] = 0


@jit
def count_nonzero(panels, lane_bytes, row_panels, first, depth, counts):
    """How many rows of panels are not zero, for each of `depth` elements of k from `first` on.

    Args:
        panels: a `macrokernel.PANELS` whose lanes are float32 or float64, by `lane_bytes`.
        counts: int64, by the panels' k, filled in.
    """
    shape = row_panels, panels.depth, PANEL
    for k in range(first, first + depth):
        counts[k] = 0
    if lane_bytes == 4:
        _add_nonzero_lanes(array_at(panels.values, shape, np.float32), first, depth, counts)
    else:
        _add_nonzero_lanes(array_at(panels.values, shape, np.float64), first, depth, counts)


@jit
def _add_nonzero_lanes(values, first, depth, counts):
    for p in range(values.shape[0]):
        for k in range(first, first + depth):
            lanes = values[p, k]
            for i in range(PANEL):
                counts[k] += lanes[i] != 0


# -- two products ------------------------------------------------------------------------------------


class SlopeIds(NamedTuple):
    """Tables of slope ids, (2^8, 2^8): by the second code of a pair, then the first."""

    rows: NDArray[np.uint16]
    columns: NDArray[
        np.uint16
    ]  #: of a pair of a column: the id of the rows that are orthogonal to it
    size: int  #: all ids are below


@functools.lru_cache(16)  # 256 KiB each
def slope_ids(a_format: FloatFormat, b_format: FloatFormat) -> SlopeIds:
    """The slope ids of pairs of codes of A and of B. Only codes of numbers have meaningful ones."""
    a, b = _values(a_format), _values(b_format)
    with np.errstate(all="ignore"):
        rows, columns = _slopes(a[None, :], a[:, None]), _slopes(-b[:, None], b[None, :])
    shared = np.intersect1d(rows, columns)

    def ids(slopes: NDArray[np.float64], unshared: int) -> NDArray[np.uint16]:
        place = np.minimum(np.searchsorted(shared, slopes), shared.size - 1)
        numbers = np.where(shared[place] == slopes, FIRST_SHARED + place, unshared)
        return np.where(np.isnan(slopes), ANY_SLOPE, numbers).astype(np.uint16)

    return SlopeIds(ids(rows, ROWS_ONLY), ids(columns, COLUMNS_ONLY), FIRST_SHARED + shared.size)


def _values(fmt: FloatFormat) -> NDArray[np.float64]:
    table = fmt.table()
    return np.pad(table, (0, (1 << TABLE_BITS) - table.size))


def _slopes(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """x/y, with zero and infinity unsigned, and NaN for 0/0.

    Significands have at most 8 bits, so two slopes that differ do so by more than 2^−16 of themselves, and
    float64 keeps them apart.
    """
    slopes = x / y
    return np.where(np.isinf(slopes), np.inf, slopes) + 0.0


@jit
def pack_slope_ids(codes, ids, chunk_length, k0, panels):
    """Slope ids of the pairs of codes (rows, k) from k0 on, as panels (p, steps, PANEL).

    Args:
        ids: a table of `SlopeIds`.

    A chunk's last step may have one product; its second code is zero, as are rows beyond the last.
    """
    rows, depth = codes.shape
    for p in range(panels.shape[0]):
        row = PANEL * p
        height = min(PANEL, rows - row)
        if height < PANEL:
            panels[p] = ANY_SLOPE
        k, step = 0, 0
        while k < depth:
            single = k + 1 == depth or (k0 + k + 1) % chunk_length == 0
            for i in range(height):
                second = ids[0] if single else ids[codes[row + i, k + 1]]
                panels[p, step, i] = second[codes[row + i, k]]
            k, step = k + (1 if single else 2), step + 1


@jit
def count_orthogonal(rows, columns, size):
    """How many pairs of a row and of a column are orthogonal, over all steps.

    Args:
        rows, columns: panels (p, steps, PANEL) of slope ids below `size`.
    """
    rows_with = np.zeros(size, np.int32)  # by slope id, in one step
    count = 0
    for t in range(rows.shape[1]):
        for p in range(rows.shape[0]):
            for i in range(PANEL):
                rows_with[rows[p, t, i]] += 1
        zeros = rows_with[ANY_SLOPE]  # rows that are orthogonal to every column
        count += np.int64(zeros) * columns.shape[0] * PANEL
        # Every other row is orthogonal to a column of zeros.
        rows_with[ANY_SLOPE] = rows.shape[0] * PANEL - zeros
        for p in range(columns.shape[0]):
            for i in range(PANEL):
                count += rows_with[columns[p, t, i]]
        rows_with[ANY_SLOPE] = 0
        for p in range(rows.shape[0]):
            for i in range(PANEL):
                rows_with[rows[p, t, i]] = 0
    return count
