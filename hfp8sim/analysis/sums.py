"""The sums behind the measures of error, in one compiled pass over a result and its references.

The order of the additions depends on the shape of the result alone. A block has partial sums in `_LANES` lanes, which
are added pairwise. The blocks of a part are added in order, and so are the parts of a group. Threads share the parts.

Every loop over the elements of a block is elementwise, so that the compiler turns it into vector code.
"""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

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

#: Elements of a block, whose arrays stay in the first-level cache.
_BLOCK = 1024
#: Partial sums of each quantity.
_LANES = 64
#: Elements of a part: what one thread adds, block by block.
_PART = 64 * _BLOCK

#: The exponent field of a reference that is zero: it counts as a number in [1/2, 1).
_ZERO_EXPONENT = 1022

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
    max_error=np.float64,  # max |y−x|
    ulps=np.float64,  # Σ|y−x|/ulp(x)
    max_ulps=np.float64,  # max |y−x|/ulp(x)
    result=MOMENTS,  # of y
    reference=MOMENTS,  # of x, where y is not finite too
    histogram=(np.int64, BINS),  # errors in ulp
)


# -- a block -----------------------------------------------------------------------------------------

#: Rows of lanes for each reference: sums over references x, results y and errors, and maxima.
_SIGNAL, _PRODUCT, _NOISE, _ULPS, _MAX_ERROR, _MAX_ULPS = range(6)
_SUM_ROWS, _ROWS = 4, 6
#: Rows of lanes for moments: sums of distances from a number, and of their squares.
_DISTANCES, _SQUARES = range(2)

#: The bin of no error, after the last one: it makes an odd number of bins even.
_NO_BIN = BINS
#: Pairs of bins, the first one in the lower byte.
_PAIRS = (BINS + 1) << 8


class _Work(NamedTuple):
    """Memory of a thread."""

    x: NDArray[np.float64]  #: references of a block with a finite result, (_BLOCK,)
    y: NDArray[np.float64]  #: results of a block, those that are finite first, (_BLOCK,)
    places: NDArray[np.int64]  #: of finite results, (_BLOCK,)
    moments: NDArray[np.float64]  #: lanes of a block, (2 · _LANES,)
    lanes: NDArray[np.float64]  #: of a part, (references, _ROWS · _LANES)
    bins: NDArray[np.uint8]  #: of the errors of a block, (_BLOCK,)
    pairs: NDArray[np.uint16]  #: the same memory
    counts: NDArray[np.int32]  #: how often a part has each pair, (references, _PAIRS)


def _memory(references: int) -> _Work:
    bins = np.empty(_BLOCK, np.uint8)
    return _Work(
        np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK, np.int64),
        np.empty(2 * _LANES), np.zeros((references, _ROWS * _LANES)),
        bins, bins.view(np.uint16), np.zeros((references, _PAIRS), np.int32),
    )  # fmt: skip


@jit
def _add_distances(values, shift, lanes):
    """Add distances from `shift`, and their squares, to the lanes: element i to lane i % _LANES.

    The rows of lanes are parts of one array, so that LLVM knows how far they are apart. It does not vectorise the loop
    otherwise.
    """
    for start in range(0, values.size, _LANES):
        some = values[start : start + _LANES]
        for j in range(some.size):
            distance = some[j] - shift
            lanes[_DISTANCES * _LANES + j] += distance
            lanes[_SQUARES * _LANES + j] += distance * distance


@jit
def _add_errors(x, y, unit, lanes, bins):
    """Add x², xy and errors to the lanes, find the largest errors, and number the bin of each error in ulp.

    A bin comes from an error's bits, which is exact; a logarithm could round a power of two into a neighbouring bin.
    Errors that are NaN are not the largest.

    Args:
        unit: the exponent of the lowest binade with numbers of its own spacing, and the fraction bits.
    """
    lowest, fraction_bits = unit
    for start in range(0, x.size, _LANES):
        references, results = x[start : start + _LANES], y[start : start + _LANES]
        numbers = bins[start : start + _LANES]
        for j in range(references.size):
            a, b = references[j], results[j]
            exponent = _exponent_field(a) if a != 0 else _ZERO_EXPONENT
            exponent = max(exponent, lowest + 1023)
            inverse = np.int64(fraction_bits + 2046 - exponent << 52)  # 1/ulp, a power of two
            error = abs(b - a)
            ulps = error * inverse.view(np.float64)
            lanes[_SIGNAL * _LANES + j] += a * a
            lanes[_PRODUCT * _LANES + j] += a * b
            lanes[_NOISE * _LANES + j] += error * error
            lanes[_ULPS * _LANES + j] += ulps
            most, most_ulps = lanes[_MAX_ERROR * _LANES + j], lanes[_MAX_ULPS * _LANES + j]
            lanes[_MAX_ERROR * _LANES + j] = error if error > most else most
            lanes[_MAX_ULPS * _LANES + j] = ulps if ulps > most_ulps else most_ulps
            power = _exponent_field(ulps) - 1023
            number = min(max(power, LOWEST - 1), HIGHEST) - LOWEST + 2
            numbers[j] = number if ulps != 0 else 0


@jit
def _exponent_field(x):
    """The exponent field of a float64."""
    return (np.float64(x).view(np.int64) >> 52) & 0x7FF


@jit
def _add_lanes(lanes):
    """Add the lanes of each row pairwise: the sum becomes the row's first element.

    Slices have offsets that LLVM knows not to be negative, without which it does not vectorise these loops.
    """
    for start in range(0, lanes.size, _LANES):
        sums, half = lanes[start : start + _LANES], _LANES
        while half > 1:
            upper = sums[half // 2 : half]
            for j in range(upper.size):
                sums[j] += upper[j]
            half //= 2


@jit
def _add_moments(values, lanes, moments):
    """Add values to MOMENTS (Chan et al., 1979)."""
    n = values.size
    if n == 0:
        return
    shift = values[0]
    for j in range(lanes.size):
        lanes[j] = 0.0
    _add_distances(values, shift, lanes)
    _add_lanes(lanes)
    total, squares = lanes[_DISTANCES * _LANES], lanes[_SQUARES * _LANES]
    spread = max(squares - total * total / n, 0.0)
    count, distance = moments.count + n, shift + total / n - moments.average
    moments.spread += spread + distance * distance * (moments.count * (n / count))
    moments.average += distance * (n / count)
    moments.count = count


@jit
def _find_finite(y, places):
    """How many elements are finite; their places, if not all are."""
    finite = 0
    for i in range(y.size):
        finite += y[i] - y[i] == 0
    if finite < y.size:
        finite = 0
        for i in range(y.size):
            if y[i] - y[i] == 0:
                places[finite] = i
                finite += 1
    return finite


@jit
def _pick(values, places, picked):
    """Copy the elements at some places, one after another; `picked` may be the same array as `values`."""
    for i in range(picked.size):
        picked[i] = values[places[i]]


# -- parts -------------------------------------------------------------------------------------------


@jit
def _add_block(result, references, i, n, unit, work, sums, part):
    """Add elements [i, i + n) to a part; arguments are those of `_add_parts`."""
    (codes, values), y = result, work.y[:n]
    if codes.size:
        for j in range(n):
            y[j] = values[codes[i + j]]
    else:
        for j in range(n):
            y[j] = values[i + j]
    finite = _find_finite(y, work.places)
    if finite < n:
        y = work.y[:finite]
        _pick(work.y, work.places, y)
    _add_moments(y, work.moments, sums[0, part].result)
    for k in range(len(sums)):
        one, x = sums[k, part], references[k][i : i + n]
        one.count += finite
        one.lost += n - finite
        _add_moments(x, work.moments, one.reference)
        if finite < n:
            _pick(x, work.places, work.x[:finite])
            x = work.x[:finite]
        _add_errors(x, y, unit, work.lanes[k], work.bins)
        if finite % 2:
            work.bins[finite] = _NO_BIN
        counts = work.counts[k]
        for pair in work.pairs[: (finite + 1) // 2]:
            counts[np.intp(pair)] += 1


@jit
def _finish_part(lanes, counts, sums):
    """Put lanes and counts of a part into a record of SUMS; they are zero afterwards."""
    _add_lanes(lanes[: _SUM_ROWS * _LANES])
    sums.signal, sums.product = lanes[_SIGNAL * _LANES], lanes[_PRODUCT * _LANES]
    sums.noise, sums.ulps = lanes[_NOISE * _LANES], lanes[_ULPS * _LANES]
    for j in range(_LANES):
        sums.max_error = max(sums.max_error, lanes[_MAX_ERROR * _LANES + j])
        sums.max_ulps = max(sums.max_ulps, lanes[_MAX_ULPS * _LANES + j])
    for j in range(lanes.size):
        lanes[j] = 0.0
    for upper in range(BINS + 1):
        for lower in range(BINS + 1):
            pair = upper << 8 | lower
            if upper != _NO_BIN:
                sums.histogram[upper] += counts[pair]
            if lower != _NO_BIN:
                sums.histogram[lower] += counts[pair]
            counts[pair] = 0


@jit
def _add_parts(part, stop, result, references, size, unit, work, sums):
    """Add parts [part, stop).

    Args:
        result: codes (uint16, 1-D) and the value of each code; or no codes, and values (float64, 1-D).
        references: two arrays (float64, 1-D), the second one perhaps empty.
        size: elements of a group.
        unit: see `_add_errors`.
        work: a `_Work`.
        sums: SUMS (references, parts).
    """
    parts = (size + _PART - 1) // _PART
    while part < stop:
        first = part // parts * size
        start, end = first + part % parts * _PART, first + min((part % parts + 1) * _PART, size)
        for i in range(start, end, _BLOCK):
            n = min(_BLOCK, end - i)
            _add_block(result, references, i, n, unit, work, sums, part)
        for k in range(len(sums)):
            one, first_one = sums[k, part], sums[0, part]
            _finish_part(work.lanes[k], work.counts[k], one)
            one.result.count, one.result.average = first_one.result.count, first_one.result.average
            one.result.spread = first_one.result.spread
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
        _add_parts(
            some.start, some.stop, (codes, values), (first, second), size, unit,
            _memory(len(references)), sums,
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
