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
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hfp8sim._jit import jit
from hfp8sim.formats import FloatFormat
from hfp8sim.units.mac_array.kernel import PANEL

#: Operands of at most so many bits have tables of directions.
TABLE_BITS = 8
#: Numbers of directions. The pair (0, 0) has all of them; some have nothing orthogonal on the other side.
ALL, OF_ROWS_ONLY, OF_COLUMNS_ONLY, FIRST_SHARED = range(4)


# -- one product -------------------------------------------------------------------------------------


@jit
def add_nonzero(panels, counts):
    """Add to counts[k] how many elements of each k are not zero."""
    # By k and place in a panel first: vectors are added to vectors, not their lanes to each other.
    places = np.zeros(panels.shape[1] * PANEL, np.int32)
    for p in range(panels.shape[0]):
        values = panels[p].reshape(places.size)
        for i in range(places.size):
            places[i] += values[i] != 0
    for i in range(places.size):
        counts[i // PANEL] += places[i]


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
def fill_directions(codes, numbers, panels):
    """The numbers of the pairs of codes (rows, k), as panels (p, steps, PANEL). What is missing is zero."""
    rows, depth = codes.shape
    whole = depth // 2
    for p in range(panels.shape[0]):
        row = PANEL * p
        height = min(PANEL, rows - row)
        if height < PANEL:
            panels[p] = ALL
        for t in range(whole):
            for i in range(height):
                panels[p, t, i] = numbers[codes[row + i, 2 * t + 1], codes[row + i, 2 * t]]
        if whole < panels.shape[1]:  # the last step has one product
            for i in range(height):
                panels[p, whole, i] = numbers[0, codes[row + i, 2 * whole]]


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
        zeros = many[
            ALL
        ]  # they are orthogonal to every column, and every row is to a column of zeros
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
