"""Copies of bytes in compiled code, each of which becomes plain vector moves."""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from hfp8sim._numba.jit import jit, jit_loop

#: Bytes that `move` copies. Its callers allocate so many spare bytes at the ends of their buffers.
MOVE_BYTES = 32


def move(source, source_start, target, target_start):
    """Copy MOVE_BYTES bytes by one vector. For a shorter run, the next copy overwrites the bytes after it."""
    target[target_start : target_start + MOVE_BYTES] = source[
        source_start : source_start + MOVE_BYTES
    ]


@intrinsic
def _move(typingctx, source, source_start, target, target_start):
    """`move` in compiled code."""

    def codegen(context, builder, signature, values):
        vector = ir.VectorType(ir.IntType(8), MOVE_BYTES).as_pointer()
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
def _compiled_move(source, source_start, target, target_start):
    return lambda source, source_start, target, target_start: _move(
        source, source_start, target, target_start
    )


@jit
def copy(source, source_start, target, target_start, count):
    """Copy `count` elements from `source_start` to `target_start`; the two ranges do not overlap."""
    # Unsigned places: a signed one may count from the end, which stops vectors. A loop: slices would be
    # checked for overlap.
    for i in range(count):
        target[np.uintp(target_start + i)] = source[np.uintp(source_start + i)]


@jit
def clear(target, target_start, count):
    """Set `count` elements from `target_start` on to 0."""
    for i in range(count):
        target[np.uintp(target_start + i)] = 0


@jit_loop
def copy_rows(source, source_start, pitch, target, target_start, target_pitch, rows, columns):
    """Copy rows of elements; the pitches are elements from row to row."""
    if pitch == columns and target_pitch == columns:  # one run in both
        rows, columns = min(rows, 1), rows * columns
    for r in range(rows):
        copy(source, source_start + r * pitch, target, target_start + r * target_pitch, columns)
