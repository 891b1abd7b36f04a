"""The sums behind the measures of error, in one compiled pass over a result and its references.

The order of the additions depends on the shape of the result alone: the sums of a block are pairwise, the
blocks of a part are added in order, and so are the parts of a group. Threads share the parts.

Every loop over a block is elementwise, so that the compiler turns it into vector code; a sum halves its
block until one element is left.
"""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfp8sim._numba.jit import jit
from hfp8sim._numba.layouts import layout
from hfp8sim.floating_point import standard_arithmetic
from hfp8sim.formats import FloatFormat
from hfp8sim.kernels.workers import share, slices

#: Powers of two that bound the histogram's bins, in ulp: 2^LOWEST, …, 2^HIGHEST.
LOWEST, HIGHEST = -4, 12
#: Bins: no error at all, below 2^LOWEST, and one from each power on.
BINS = HIGHEST - LOWEST + 3

#: Elements of a block. Its sums are pairwise, and its arrays stay in the first-level cache.
_BLOCK = 1024
#: Elements of a part: what one thread adds, block by block.
_PART = 64 * _BLOCK

#: The exponent field of a reference that is zero: it counts as a number in [1/2, 1).
_ZERO_EXPONENT = 1022

#: Tables of counts, and elements from one to the next.
_TABLES, _TABLE = 4, 32
#: The bits of +∞. Those of numbers that are not negative are in the order of the numbers.
_INFINITY = 0x7FF << 52

#: Formats of at most so many bits are decoded by a table.
_TABLE_BITS = 16

#: Count, mean, and the sum of squared distances from the mean.
MOMENTS = layout(count=np.int64, average=np.float64, spread=np.float64)

#: Sums over a result y and a reference x. Results that are not finite are in `lost` and in nothing else.
SUMS = layout(
    count=np.int64,  # finite results
    lost=np.int64,  # results that are NaN or infinite
    signal=np.float64,  # Σx²
    noise=np.float64,  # Σ(y−x)²
    product=np.float64,  # Σxy
    power=np.float64,  # Σy²
    max_error=np.float64,  # max |y−x|
    ulps=np.float64,  # Σ|y−x|/ulp(x)
    max_ulps=np.float64,  # max |y−x|/ulp(x)
    result=MOMENTS,  # of y
    reference=MOMENTS,  # of x, where y is not finite too
    histogram=(np.int64, BINS),  # errors in ulp
)


# -- a block -----------------------------------------------------------------------------------------

#: Rows of a block's work: references, results, their distances from the first one, errors, errors in ulp, ones.
_X, _Y, _DX, _DY, _ERROR, _ULPS, _ONE, _PRODUCT, _TOTAL = range(9)
_ROWS = 9
#: Sums of products of two rows; a product with ones is a plain sum. The last two are of all references.
_PAIRS = (
    (_X, _X), (_X, _Y), (_Y, _Y), (_ERROR, _ERROR), (_ULPS, _ONE),
    (_DY, _ONE), (_DY, _DY), (_DX, _ONE), (_DX, _DX),
)  # fmt: skip


@jit
def _sum_products(rows, left, right, n):
    """The sum of the products of two rows' n elements, pairwise; row _PRODUCT is overwritten.

    Slices have offsets that LLVM knows not to be negative, without which it does not vectorise these loops.
    """
    x, y, sums = rows[left], rows[right], rows[_PRODUCT]
    half = (n + 1) // 2
    upper_x, upper_y = x[half:n], y[half:n]
    for i in range(upper_x.size):
        sums[i] = x[i] * y[i] + upper_x[i] * upper_y[i]
    if n % 2:
        sums[half - 1] = x[half - 1] * y[half - 1]
    while half > 1:
        n, half = half, (half + 1) // 2
        upper = sums[half:n]
        for i in range(upper.size):
            sums[i] += upper[i]
    return sums[0]


@jit
def _add_moments(moments, n, shift, total, squares):
    """Add n elements, given Σ(x−shift) and Σ(x−shift)², to MOMENTS (Chan et al., 1979)."""
    if n == 0:
        return
    spread = max(squares - total * total / n, 0.0)
    count, distance = moments.count + n, shift + total / n - moments.average
    moments.spread += spread + distance * distance * (moments.count * (n / count))
    moments.average += distance * (n / count)
    moments.count = count


@jit
def drop_lost(rows, bits, n):
    """Move the elements with a finite result to the front of rows _X and _Y; return how many they are."""
    lost = 0
    for i in range(n):
        lost += (bits[_Y, i] >> 52) & 0x7FF == 0x7FF
    if lost == 0:
        return n
    finite = 0
    for i in range(n):
        if (bits[_Y, i] >> 52) & 0x7FF != 0x7FF:
            rows[_X, finite], rows[_Y, finite] = rows[_X, i], rows[_Y, i]
            finite += 1
    return finite


@jit
def measure_errors(rows, bits, n, unit):
    """Rows _ERROR and _ULPS from _X and _Y.

    Args:
        rows, bits: the work as float64, and its bits as int64.
        unit: the exponent of the lowest binade with numbers of its own spacing, and the fraction bits.
    """
    for i in range(n):  # the bits of 1/ulp, a power of two
        exponent = (bits[_X, i] >> 52) & 0x7FF if rows[_X, i] != 0 else _ZERO_EXPONENT
        exponent = max(exponent, unit[0] + 1023)
        bits[_ULPS, i] = (unit[1] + 2046 - exponent) << 52
    for i in range(n):
        rows[_ERROR, i] = abs(rows[_Y, i] - rows[_X, i])
        rows[_ULPS, i] *= rows[_ERROR, i]


@jit
def count_errors(rows, bits, n, sums):
    """Count errors in ulp by bins, and find the largest errors; rows _PRODUCT and _TOTAL are overwritten.

    The bins come from the bits, which is exact; a logarithm could round a power of two into a neighbouring bin.
    Neighbours are counted in different tables: an addition need not wait for the one before it. Errors that are NaN
    are not the largest.
    """
    places, counts = bits[_PRODUCT], bits[_TOTAL]
    most, largest = 0, 0
    for i in range(n):
        error, ulps = bits[_ERROR, i], bits[_ULPS, i]
        power = ((ulps >> 52) & 0x7FF) - 1023
        number = min(max(power, LOWEST - 1), HIGHEST) - LOWEST + 2
        places[i] = (number if ulps else 0) + (i & _TABLES - 1) * _TABLE
        most = max(most, ulps if ulps <= _INFINITY else 0)
        largest = max(largest, error if error <= _INFINITY else 0)
    counts[: _TABLES * _TABLE] = 0
    for i in range(n):
        counts[np.uintp(places[i])] += 1
    for table in range(_TABLES):
        for number in range(BINS):
            sums.histogram[number] += counts[table * _TABLE + number]
    places[0], places[1] = most, largest
    sums.max_ulps = max(sums.max_ulps, rows[_PRODUCT, 0])
    sums.max_error = max(sums.max_error, rows[_PRODUCT, 1])


@jit
def _add_block(rows, bits, n, unit, sums):
    """Add the n elements of rows _X and _Y to a record of SUMS; arguments are those of `measure_errors`."""
    shift_x = rows[_X, 0]
    for i in range(n):
        rows[_DX, i] = rows[_X, i] - shift_x
    finite = drop_lost(rows, bits, n)
    shift_y = rows[_Y, 0]
    for i in range(finite):
        rows[_DY, i] = rows[_Y, i] - shift_y
    measure_errors(rows, bits, finite, unit)
    count_errors(rows, bits, finite, sums)
    for k in range(len(_PAIRS)):
        size = n if k >= len(_PAIRS) - 2 else finite
        left, right = _PAIRS[k]
        rows[_TOTAL, k] = _sum_products(rows, left, right, size) if size else 0.0
    sums.count += finite
    sums.lost += n - finite
    sums.signal += rows[_TOTAL, 0]
    sums.product += rows[_TOTAL, 1]
    sums.power += rows[_TOTAL, 2]
    sums.noise += rows[_TOTAL, 3]
    sums.ulps += rows[_TOTAL, 4]
    _add_moments(sums.result, finite, shift_y, rows[_TOTAL, 5], rows[_TOTAL, 6])
    _add_moments(sums.reference, n, shift_x, rows[_TOTAL, 7], rows[_TOTAL, 8])


# -- parts -------------------------------------------------------------------------------------------


@jit
def _copy(array, first, n, rows, row):
    """Copy n elements of an array into a row."""
    for i in range(first, first + n):
        rows[row, i - first] = array[i]


@jit
def _add_parts(part, stop, result, references, size, unit, work, sums):
    """Add parts [part, stop).

    Args:
        result: codes (uint16, 1-D) and the value of each code; or no codes, and values (float64, 1-D).
        references: two arrays (float64, 1-D), the second one perhaps empty.
        size: elements of a group.
        work: ones (_ROWS, _BLOCK), and their bits.
        sums: SUMS (references, parts).
    """
    (codes, values), (rows, bits) = result, work
    parts = (size + _PART - 1) // _PART
    while part < stop:
        first = part // parts * size
        start, end = first + part % parts * _PART, first + min((part % parts + 1) * _PART, size)
        for i in range(start, end, _BLOCK):
            n = min(_BLOCK, end - i)
            for k in range(len(sums)):
                _copy(references[k], i, n, rows, _X)
                if codes.size:
                    for j in range(n):
                        rows[_Y, j] = values[codes[i + j]]
                else:
                    _copy(values, i, n, rows, _Y)
                _add_block(rows, bits, n, unit, sums[k, part])
        part += 1


@standard_arithmetic
def add(
    result: NDArray[Any],
    fmt: FloatFormat,
    references: Sequence[NDArray[np.float64]],
    threads: int = 1,
) -> NDArray[Any]:
    """The sums of a result in a format over one reference, or two, group by group.

    Args:
        result: (G, M, N), contiguous: codes of `fmt.dtype`, or float64 values.
        references: one or two contiguous float64 arrays of the same shape.
        threads: worker threads; the sums do not depend on them.

    Returns:
        SUMS (references, G, parts): the sums of each part of each group.
    """
    groups, size = len(result), int(np.prod(result.shape[1:]))
    codes, values = np.empty(0, np.uint16), result.reshape(-1)
    if result.dtype != np.float64 and fmt.bits <= _TABLE_BITS:
        codes, values = values.astype(np.uint16, copy=False), value_table(fmt)
    elif result.dtype != np.float64:
        values = fmt.decode(values)
    first, second = (*(each.reshape(-1) for each in references), np.empty(0))[:2]
    parts = -(-size // _PART)
    sums = np.zeros((len(references), groups * parts), SUMS)
    unit = lowest_exponent(fmt), fmt.fraction_bits

    def work(some: slice) -> None:
        rows = np.ones((_ROWS, _BLOCK))
        _add_parts(
            some.start, some.stop, (codes, values), (first, second), size, unit,
            (rows, rows.view(np.int64)), sums,
        )  # fmt: skip

    share(work, slices(groups * parts, -(-groups * parts // (8 * threads))), threads)
    return sums.reshape(len(references), groups, parts)


@functools.lru_cache(8)
def value_table(fmt: FloatFormat) -> NDArray[np.float64]:
    """The value of every code of a format of at most 16 bits; read-only."""
    table = fmt.table()
    table.flags.writeable = False
    return table


def lowest_exponent(fmt: FloatFormat) -> int:
    """The exponent of the lowest binade whose numbers have a spacing of their own."""
    facts = fmt.facts
    if fmt.lowest == "subnormal":
        return int(1 - facts.bias)
    return int(facts.min_exp + facts.fraction_bits)
