"""Panels of binary16 numbers, and bounds on their sums: for tiles that are computed in lanes of half the width.

A panel of float32 numbers is copied into binary16 with a scale of its own, which brings its quantum (the power of
two of which all its elements are multiples) to a fixed place. All products and sums of a tile are then multiples of
one number near the lower end of binary16's range. Whether they stay below its upper end follows from two bounds on
each panel, in units of its quantum: the largest magnitude, and the largest sum of the magnitudes of a row in a
chunk. docs/speed.md, "Lanes of binary16", has the proof.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from hfp8sim._numba.calls import record_at
from hfp8sim._numba.jit import jit
from hfp8sim._numba.layouts import layout
from hfp8sim._numba.simd import F32, I32, I64, Code, Lanes, Value
from hfp8sim.kernels.form import PANEL

#: The exponent field of a float32 number 1, and its place.
_BIAS, _PLACE = 127, 23
#: The largest binary16 number.
LARGEST = 65504.0

#: Bounds on a panel, in units of its quantum; infinite if binary16 does not hold its elements.
BOUNDS = layout(
    largest=np.float64,  # magnitude of an element
    total=np.float64,  # of the magnitudes of one row (of B: column) in one chunk
    unit=np.float64,  # the quantum; of a panel of zeros a large number
    factor=np.int64,  # bits of a float32: its elements are binary16's numbers times this
)
BOUNDS_BYTES: int = BOUNDS.itemsize
#: The place of `factor` there, in words of eight bytes.
FACTOR_WORD: int = BOUNDS.fields["factor"][1] // 8  # type: ignore[index]


#: The unit of a panel of zeros.
_UNIT_OF_ZEROS = 2.0**120


class Limits(NamedTuple):
    """Where sums in lanes of binary16 are right."""

    sum: float  #: the sum of the magnitudes of a chunk's products, in a tile's quantum, is less, …
    product: float  #: … or each product is;
    unit: float  #: the tile's quantum is not less: no sum can underflow;
    most: float  #: and that sum, in absolute terms, is not larger: none can overflow


class Window(NamedTuple):
    """How a plan uses lanes of binary16."""

    limits: Limits
    places: tuple[int, int]  #: exponents to which the quanta of A's and of B's panels are brought


class Bounds(NamedTuple):
    """Bounds on one panel, or the widest ones of several, see BOUNDS."""

    largest: float
    total: float
    unit: float  #: the smallest
    largest_unit: float  #: of the panels that are not zero; 0 if all are


@jit
def bounds_of(address, first, count):
    """The `Bounds` on panels.

    Args:
        address: of the first panel's BOUNDS.
        first, count: the panels.
    """
    largest = total = most = 0.0
    least = np.inf
    for p in range(first, first + count):
        bounds = record_at(address + p * BOUNDS_BYTES, BOUNDS)
        largest, total = max(largest, bounds.largest), max(total, bounds.total)
        least = min(least, bounds.unit)
        if bounds.largest > 0:
            most = max(most, bounds.unit)
    return Bounds(largest, total, least, most)


@jit
def in_window(a, b, numbers):
    """Whether all sums of a tile stay in binary16's window.

    Args:
        a, b: `Bounds` on the panel of rows, and on the panels of columns.
        numbers: a record of NUMBERS.
    """
    most, limits = min(a.total * b.largest, a.largest * b.total), numbers.window
    near = most < limits.sums or a.largest * b.largest < limits.product
    unit, largest_unit = a.unit * b.unit, a.largest_unit * b.largest_unit
    return near and unit >= limits.unit and most * largest_unit <= limits.most


@jit
def tile_panels(left, wide, narrow):
    """Panels of columns of the next tile that is tried in binary16.

    Args:
        left: panels of columns that are left; at least 1.
        wide, narrow: of the kernel's tiles.
    """
    if left >= wide:
        return wide
    return min(left, narrow)


# -- float32 panels → binary16 panels ----------------------------------------------------------------


@jit
def fill_halves(panels, side, first, count):
    """Copy panels of float32 numbers into binary16, and find their bounds.

    Args:
        panels: a `macrokernel.PANELS`; all its k are packed, from the first k of the product on.
        side: a record of `pack.SIDE`.
        first, count: the panels.
    """
    depth, width = panels.depth, side.half_columns
    chunks, beside = -(-depth // side.length), width // PANEL
    for p in range(first, first + count):
        source = panels.values + p * depth * PANEL * 4
        largest, smallest, total = scan_panel(source, depth, side.length, chunks)
        quantum = side.quantum
        if largest:
            quantum = max(quantum, (smallest >> _PLACE) - _BIAS - side.fraction_bits)
        bounds = record_at(panels.bounds + p * BOUNDS_BYTES, BOUNDS)
        units = np.int64((1023 - quantum) << 52).view(np.float64)
        bounds.largest = np.float64(np.int32(largest).view(np.float32)) * units
        bounds.total = np.float64(total) * units
        bounds.unit = 1.0 / units if largest else _UNIT_OF_ZEROS
        bounds.factor = (_BIAS + quantum - side.half_place) << _PLACE
        if bounds.largest > side.half_most:
            bounds.largest = bounds.total = np.inf
            continue
        target = panels.halves + ((p // beside) * depth * width + (p % beside) * PANEL) * 2
        scale = (_BIAS + side.half_place - quantum) << _PLACE
        halve_rows(source, depth, scale, target, width * 2)


@intrinsic
def scan_panel(typingctx, source, rows, length, chunks):  # type: ignore[no-untyped-def]
    """Scan a panel (rows, PANEL) of float32.

    Args:
        source: its address.
        length, chunks: rows of a chunk, and how many chunks begin in the panel.

    Returns:
        The bits of the largest magnitude; those of the smallest that is not zero; and the largest sum of the
        magnitudes of a column in a chunk, float32.
    """
    together = 4  # rows whose sums are independent: an addition takes as many cycles

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        code = Code(builder)
        lanes = Lanes(code, 32, PANEL)
        source = code.pointer(values[0], F32)
        rows, length, chunks = (code.value(x) for x in values[1:])

        def scan(first: Value, state: list[Value], count: int) -> list[Value]:
            most, least, *sums = state
            for i in range(count):
                x = lanes.load(source, (first + i) * PANEL, lanes.floats).absolute()
                most, below = most.at_least(x.words()), x.words() - 1  # zero: the largest word
                least = below.where(below.is_below(least), least)
                sums[i] = sums[i] + x
            return [most, least, *sums]

        def chunk(number: Value, state: list[Value]) -> list[Value]:
            most, least, largest = state
            begin = number * length
            left = rows - begin
            count = length.where(length < left, left)
            state = [most, least, *[lanes.zero()] * together]
            fours = count >> 2
            state = code.repeat(fours, lambda i, s: scan(begin + i * together, s, together), state)
            rest = begin + fours * together
            state = code.repeat(count & 3, lambda i, s: scan(rest + i, s, 1), state)
            most, least, *sums = state
            total = (sums[0] + sums[1]) + (sums[2] + sums[3])
            return [most, least, total.where(largest < total, largest)]

        begun = [lanes.const(0), lanes.const(-1), lanes.zero()]
        most, least, largest = code.repeat(chunks, chunk, begun)
        most = _over_lanes(most, lambda x, y: x.at_least(y))
        least = _over_lanes(least, lambda x, y: x.where(x.is_below(y), y))
        largest = _over_lanes(largest, lambda x, y: x.where(y < x, y))
        results = [(most).widened(I64), (least + 1).widened(I64), largest]
        return context.make_tuple(builder, signature.return_type, [x.ir for x in results])

    result = types.Tuple((types.int64, types.int64, types.float32))
    return result(types.int64, types.int64, types.int64, types.int64), codegen


def _over_lanes(x: Value, operation: Any) -> Value:
    """The result of an operation on all lanes of a vector."""
    lanes, distance = x.lanes, x.lanes // 2
    while distance:
        x = operation(x, x.shuffled(x, [(i + distance) % lanes for i in range(lanes)]))
        distance //= 2
    return x.extracted(0)


@intrinsic
def halve_rows(typingctx, source, rows, scale, target, step):  # type: ignore[no-untyped-def]
    """Copy rows of PANEL float32 numbers, times a power of two, into binary16.

    Args:
        source: address of the first row; they follow one another.
        scale: bits of a float32 number.
        target: address of the first row's copy.
        step: bytes from one copy to the next.
    """

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        code = Code(builder)
        wide, narrow = Lanes(code, 32, PANEL), Lanes(code, 16, PANEL)
        source = code.pointer(values[0], F32)
        rows, bits, target, step = (code.value(x) for x in values[1:])
        scale = bits.cut(I32).splat(PANEL).floats()

        def copy(i: Value, state: list[Value]) -> list[Value]:
            x = wide.load(source, i * PANEL, wide.floats) * scale
            code.pointer((target + i * step).ir, narrow.float).store(narrow.narrowed(x), align=2)
            return []

        code.repeat(rows, copy, [])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64, types.int64), codegen


# -- how many tiles ----------------------------------------------------------------------------------


class Share(NamedTuple):
    """How many pairs of a panel of A and a panel of B are computed in lanes of binary16."""

    halves: int  #: such pairs
    beyond: int  #: pairs whose sums could leave the window
    few: int  #: pairs with too few columns for a vector of binary16

    def __str__(self) -> str:
        text = f"{self.halves} of {sum(self)} pairs of panels in binary16"
        if self.beyond:
            text += f", sums of {self.beyond} could be too large or too small"
        if self.few:
            text += f", {self.few} have too few columns"
        return text


def count_pairs(
    rows: NDArray[np.void], columns: NDArray[np.void], numbers: NDArray[np.void], wide: int, narrow: int
) -> Share:  # fmt: skip
    """The share of pairs of panels that a kernel's loop nest computes in binary16.

    Args:
        rows, columns: BOUNDS of the panels of A and of B.
        numbers: an array of one record of NUMBERS.
        wide, narrow: panels of columns of the kernel's tiles in binary16.
    """
    sizes = rows.size, columns.size
    return Share(*_count(rows.ctypes.data, columns.ctypes.data, sizes, numbers, wide, narrow))


@jit
def _count(rows, columns, sizes, numbers, wide, narrow):
    """`count_pairs` of BOUNDS at addresses."""
    j = halves = few = 0
    while j < sizes[1]:
        count = tile_panels(sizes[1] - j, wide, narrow)
        b = bounds_of(columns, j, count)
        for i in range(sizes[0]):
            if count < narrow:
                few += count
            elif in_window(bounds_of(rows, i, 1), b, numbers[0]):
                halves += count
        j += count
    return halves, sizes[0] * sizes[1] - halves - few, few
