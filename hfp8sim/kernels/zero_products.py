"""How many steps add zero, from rows of A and columns of B alone: O((M + N)·K), no output is looked at.

A kernel tells with one comparison whether a step left a sum what it was; with a second one it could tell
whether there was anything to add. Where no sum ever leaves the numbers, a step that adds zero does leave
it what it was, so that the kernel may count both kinds of steps alike, and those that add zero are taken
off afterwards.

One product is zero if one of its factors is. How many products of one k are not zero is how many rows are
not, times how many columns.

Two products sum to zero if the row's pair (a₀, a₁) and the column's (b₀, b₁) are orthogonal:
a₀·b₀ + a₁·b₁ = 0. Pairs are so by their directions: of all that are not (0, 0), those with the slope a₀/a₁ and
those with −b₁/b₀ = a₀/a₁. So each slope gets a number, and a step's count is for each column the number of rows
with its slope. Codes of 8 bits make 2^16 pairs, few enough for a table of their slopes' numbers.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hfp8sim._numba.jit import jit
from hfp8sim.formats import FloatFormat
from hfp8sim.kernels.form import PANEL

#: Operands of at most so many bits have tables of directions.
TABLE_BITS = 8
#: Numbers of directions. The pair (0, 0) has all of them; some have nothing orthogonal on the other side.
ALL, OF_ROWS_ONLY, OF_COLUMNS_ONLY, FIRST_SHARED = range(4)


# -- one product -------------------------------------------------------------------------------------


def nonzero(codes: NDArray[np.unsignedinteger[Any]], fmt: FloatFormat) -> NDArray[np.int64]:
    """How many codes (rows, k) are not zero, for each k."""
    facts, counts = fmt.facts, np.zeros(codes.shape[1], np.int64)
    low_bits = (1 << (fmt.exponent_bits + fmt.fraction_bits)) - 1
    # A NaN in the place of −0 is not zero. (No code is equal to ~0 in all bits and has other low bits.)
    minus_zero = facts.nan_code if facts.nan_code == low_bits + 1 else low_bits
    _add_nonzero(codes, low_bits, facts.min_mag, minus_zero, counts)
    return counts


@jit
def _add_nonzero(codes, low_bits, least, odd_code, counts):
    # All in the elements' own type, so that a vector holds as many as it can, and counted in it, too, as far
    # as that goes.
    kind = codes.dtype.type
    mask, limit, odd = kind(low_bits), kind(least), kind(odd_code)
    rows, depth = codes.shape
    if codes.strides[0] < codes.strides[1]:  # rows lie side by side
        for k in range(depth):
            of_k = codes.T[k]
            for i in range(0, rows, 255):
                part, many = of_k[i : min(i + 255, rows)], kind(0)
                for j in range(part.size):
                    code = part[np.uintp(j)]
                    many = kind(many + kind((kind(code & mask) >= limit) | (code == odd)))
                counts[k] += np.int64(many)
        return
    some = np.zeros(depth, codes.dtype)
    for i in range(rows):
        for k in range(depth):
            code = codes[i, k]
            some[k] = kind(some[k] + kind((kind(code & mask) >= limit) | (code == odd)))
        if i % 255 == 254 or i + 1 == rows:
            for k in range(depth):
                counts[k] += np.int64(some[k])
                some[k] = 0


# -- two products ------------------------------------------------------------------------------------


class Directions(NamedTuple):
    """Numbers of directions, (2^8, 2^8): by the second code of a pair, then the first."""

    rows: NDArray[np.uint16]
    columns: NDArray[np.uint16]  #: a column's is that of the rows that are orthogonal to it
    size: int  #: all numbers are below


@functools.lru_cache(64)
def directions(a_format: FloatFormat, b_format: FloatFormat) -> Directions:
    """The directions of pairs of a row's codes, and of a column's. Codes must be those of numbers."""
    a, b = _values(a_format), _values(b_format)
    with np.errstate(all="ignore"):
        rows, columns = _slopes(a[None, :], a[:, None]), _slopes(-b[:, None], b[None, :])
    shared = np.intersect1d(rows, columns)

    def numbers(slopes: NDArray[np.float64], others: int) -> NDArray[np.uint16]:
        place = np.minimum(np.searchsorted(shared, slopes), shared.size - 1)
        found = np.where(shared[place] == slopes, FIRST_SHARED + place, others)
        return np.where(np.isnan(slopes), ALL, found).astype(np.uint16)

    return Directions(
        numbers(rows, OF_ROWS_ONLY), numbers(columns, OF_COLUMNS_ONLY), FIRST_SHARED + shared.size
    )


def _values(fmt: FloatFormat) -> NDArray[np.float64]:
    table = fmt.table()
    return np.pad(table, (0, (1 << TABLE_BITS) - table.size))


def _slopes(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """x/y: zero and infinity without a sign, NaN for 0/0. Significands have 8 bits, so two slopes that differ
    do so by more than 2^−16 of themselves, and are not rounded to the same float64."""
    slopes = x / y
    return np.where(np.isinf(slopes), np.inf, slopes) + 0.0


@jit
def fill_directions(codes, numbers, length, k0, panels):
    """The numbers of the pairs of codes (rows, k) from k0 on, as panels (p, steps, PANEL). Chunks have `length`
    products; what is missing, of a chunk's last pair or a panel's last rows, is zero."""
    rows, depth = codes.shape
    for p in range(panels.shape[0]):
        row = PANEL * p
        height = min(PANEL, rows - row)
        if height < PANEL:
            panels[p] = ALL
        k, step = 0, 0
        while k < depth:
            last = k + 1 == depth or (k0 + k + 1) % length == 0  # the pair has one product
            for i in range(height):
                second = numbers[0] if last else numbers[codes[row + i, k + 1]]
                panels[p, step, i] = second[codes[row + i, k]]
            k, step = k + (1 if last else 2), step + 1


@jit
def count_orthogonal(rows, columns, size):
    """How many pairs of a row and of a column are orthogonal, over all steps: both come in panels of numbers
    below `size` (p, steps, PANEL)."""
    many = np.zeros(size, np.int32)  # rows of each direction, in a step
    count = 0
    for t in range(rows.shape[1]):
        for p in range(rows.shape[0]):
            for i in range(PANEL):
                many[rows[p, t, i]] += 1
        zeros = many[ALL]  # orthogonal to every column; and every row is so to a column of zeros
        count += np.int64(zeros) * columns.shape[0] * PANEL
        many[ALL] = rows.shape[0] * PANEL - zeros
        for p in range(columns.shape[0]):
            for i in range(PANEL):
                count += many[columns[p, t, i]]
        many[ALL] = 0
        for p in range(rows.shape[0]):
            for i in range(PANEL):
                many[rows[p, t, i]] = 0
    return count
