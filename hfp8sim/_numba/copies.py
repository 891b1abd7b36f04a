"""Copies of bytes in compiled code, each of which becomes plain vector moves."""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from hfp8sim._numba.jit import jit

#: Bytes that `move` copies. Its callers leave so many beyond the ends of their buffers.
MOVED = 32


def move(source, at, target, to):
    """Copy MOVED bytes by one vector, for runs that are shorter: what follows is overwritten by the next."""
    target[to : to + MOVED] = source[at : at + MOVED]


@intrinsic
def _move(typingctx, source, at, target, to):
    """`move` in compiled code."""

    def codegen(context, builder, signature, values):
        vector = ir.VectorType(ir.IntType(8), MOVED).as_pointer()
        arrays = [
            context.make_array(signature.args[i])(context, builder, values[i]) for i in (0, 2)
        ]
        places = [
            builder.bitcast(builder.gep(array.data, [place]), vector)
            for array, place in zip(arrays, (values[1], values[3]))
        ]
        builder.store(builder.load(places[0], align=1), places[1], align=1)
        return context.get_dummy_value()

    return types.void(source, types.int64, target, types.int64), codegen


@overload(move)
def _compiled_move(source, at, target, to):
    return lambda source, at, target, to: _move(source, at, target, to)


@jit
def copy(source, at, target, to, count):
    """Copy `count` elements from place `at` to place `to`; the two do not overlap."""
    # Unsigned places: a signed one may count from the end, which stops vectors. A loop: slices would be
    # checked for overlap.
    for i in range(count):
        target[np.uintp(to + i)] = source[np.uintp(at + i)]


@jit
def clear(target, to, count):
    """Set `count` elements from place `to` on to 0."""
    for i in range(count):
        target[np.uintp(to + i)] = 0


@jit
def copy_rows(source, at, pitch, target, to, target_pitch, rows, columns):
    """Copy rows of elements; the pitches are elements from row to row."""
    if pitch == columns and target_pitch == columns:  # one run in both
        rows, columns = min(rows, 1), rows * columns
    for r in range(rows):
        copy(source, at + r * pitch, target, to + r * target_pitch, columns)
