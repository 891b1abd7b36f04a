"""Matrix tiles through the kernels, in compiled code.

This file computes where a tile's operands are; `hfp8sim.kernels` packs, multiplies and encodes them. The
record `TILES` is filled in by `multiplier` once for many tiles.
"""
# mypy: disable-error-code="no-untyped-def,no-untyped-call,call-arg,var-annotated"

from __future__ import annotations

import numpy as np

from hfp8sim import kernels
from hfp8sim._numba.calls import array_at
from hfp8sim._numba.copies import MOVE_BYTES
from hfp8sim._numba.jit import jit
from hfp8sim._numba.layouts import SPAN, layout
from hfp8sim.isa.table import PORT
from hfp8sim.machine import movement
from hfp8sim.machine.boxes import tile_blocks
from hfp8sim.machine.state import BOX_KIND
from hfp8sim.units.accumulator import DRAWS, EVENT_KINDS

#: What compiled code has counted in tiles.
COUNTS = layout(
    events=(
        np.int64,
        (EVENT_KINDS,),
    ),  # by `units.accumulator.EVENT_KINDS`, in sums that have ended
    gated=np.int64,  # multiply-accumulates with a zero operand
)

#: The stream of a GEMM's tiles, and what of it compiled code may do without `multiplier`.
TILES = layout(
    stream=kernels.STREAM,
    autonomous=np.int64,  # 1: the compiled loop may go on to other tiles of this GEMM
    group=np.int64,  # the group of its tiles; ANY: random words do not depend on it
    copies=np.int64,  # 1: POST copies codes as they are
    part=SPAN,  # rows of each tile that are computed
    result_bytes=np.int64,  # of a code
    # Counting.
    counts_tiles=np.int64,  # 1: `multiply` counts
    counts_zero_steps=np.int64,  # 1: the kernel counts steps that add zero as swamped
    draws=np.int64,  # random words of an output
    lane_bytes=np.int64,  # of an element of the panels
    nonzero_a=np.int64,  # address of how many rows of A's panels are not zero, by the panels' k
    nonzero_b=np.int64,
    counts=COUNTS,
)

ANY = -1
#: Rows of an image that are unfolded, then packed, at a time: they stay in the first-level cache.
_UNFOLDED_ROWS = 64


@jit
def spare_bytes(box, op, regs):
    """Bytes of the buffer in which an operand is rearranged before it is packed."""
    a, b, bytes_a, bytes_b = box[PORT.a], box[PORT.b], 0, 0
    if a.kind == BOX_KIND.image:
        rows = op.m.count if a.transposed else min(op.m.count, _UNFOLDED_ROWS)
        bytes_a = rows * op.k.count * a.element_bytes
    if b.transposed:
        _, blocks = tile_blocks(regs, op)
        bytes_b = 0 if blocks == 1 else blocks * b.columns.count * op.n.count * b.element_bytes
    return max(bytes_a, bytes_b) + MOVE_BYTES


@jit
def has_room(tiles, box, op, regs, spare):
    """Whether panels, accumulators and the spare buffer are large enough for a tile."""
    stream = tiles.stream
    rows = min(tiles.part.stop, op.m.count) - tiles.part.first
    return (
        rows <= stream.max_rows and op.n.count <= stream.max_columns and op.k.count <= stream.max_k
        and spare_bytes(box, op, regs) <= spare.size
    )  # fmt: skip


@jit
def _pack_a(stream, regs, box, op, scratchpad, row_bytes, first, rows, spare):
    """Pack the tile's rows from `first` on."""
    k0, kt, m = op.k.first, op.k.count, op.m.first + first
    if box.kind != BOX_KIND.image:
        byte, row_step, k_step = movement.locate_a(box, op, first, row_bytes)
        view = np.int64(scratchpad.ctypes.data) + byte, row_step, k_step, m, rows
        kernels.pack_codes(stream.a, view, k0, kt, stream.start, 0)
        return
    esize, address = box.element_bytes, np.int64(spare.ctypes.data)
    if box.transposed:
        movement.unfold(scratchpad, row_bytes, box, regs, op.group.first, k0, kt, m, rows, spare)
        view = address, esize, rows * esize, m, rows
        kernels.pack_codes(stream.a, view, k0, kt, stream.start, 0)
        return
    for i in range(0, rows, _UNFOLDED_ROWS):
        count = min(rows - i, _UNFOLDED_ROWS)
        movement.unfold(
            scratchpad, row_bytes, box, regs, op.group.first, m + i, count, k0, kt, spare
        )
        view = address, kt * esize, esize, m + i, count
        kernels.pack_codes(stream.a, view, k0, kt, stream.start, i // kernels.PANEL)


@jit
def _pack_b(stream, regs, box, op, scratchpad, row_bytes, spare):
    """Pack the tile's columns."""
    address, place = np.int64(scratchpad.ctypes.data), movement.locate_b(regs, box, op, row_bytes)
    if box.transposed and tile_blocks(regs, op)[1] > 1:
        address = np.int64(spare.ctypes.data)
        place = movement.join_blocks(regs, box, op, scratchpad, row_bytes, spare)
    view = address + place[0], place[1], place[2], op.n.first, op.n.count
    kernels.pack_codes(stream.b, view, op.k.first, op.k.count, stream.start, 0)


@jit
def _forget_events(stream):
    """Begin new sums: those before them may not have ended."""
    events = array_at(stream.kernel.counts, (kernels.EVENTS,), np.int64)
    for i in range(kernels.EVENTS):
        events[i] = 0


@jit
def _panel_range(stream, k0, stop):
    """Where panels have k0 … stop: the first element of k, and how many."""
    products, length = stream.products, stream.chunk_length
    before = kernels.step_number(k0, products, length)
    first = before - kernels.step_number(stream.start, products, length)
    return first * products, (kernels.step_number(stop, products, length) - before) * products


@jit
def _count_nonzero(tiles, panels, rows, k0, stop, address):
    """Count the rows of panels that are not zero, for k from k0 to `stop`."""
    first, depth = _panel_range(tiles.stream, k0, stop)
    counts = array_at(address, (panels.depth,), np.int64)
    row_panels = -(-rows // kernels.PANEL)
    kernels.count_nonzero(panels, tiles.lane_bytes, row_panels, first, depth, counts)


@jit
def _count_tile(tiles, rows, columns, k0, stop):
    """Count a tile's gated multiply-accumulates, and the events of its sums if they have ended.

    Products that are not zero: for each k, rows that are not zero times columns that are not zero.
    """
    stream, counts = tiles.stream, tiles.counts
    first, depth = _panel_range(stream, k0, stop)
    a = array_at(tiles.nonzero_a, (stream.a.panels.depth,), np.int64)
    b = array_at(tiles.nonzero_b, (stream.b.panels.depth,), np.int64)
    nonzero = 0
    for k in range(first, first + depth):
        nonzero += a[k] * b[k]
    counts.gated += rows * columns * (stop - k0) - nonzero
    events = array_at(stream.kernel.counts, (kernels.EVENTS,), np.int64)
    if tiles.counts_zero_steps:
        tiles_of_panels = -(-rows // kernels.PANEL) * -(-columns // kernels.PANEL)
        lanes = tiles_of_panels * kernels.PANEL * kernels.PANEL  # `**` would be compiled for it
        events[kernels.SWAMPED] -= lanes * (stop - k0) - nonzero
    if stop == stream.depth:
        for i in range(kernels.EVENTS):
            counts.events[i] += events[i]
        counts.events[DRAWS] += rows * columns * tiles.draws


@jit
def multiply(tiles, regs, boxes, op, scratchpad, row_bytes, spare):
    """MM and CV of a tile that `has_room`."""
    stream, k0, stop = tiles.stream, op.k.first, op.k.first + op.k.count
    first, columns = min(tiles.part.first, op.m.count), op.n.count
    rows = min(tiles.part.stop, op.m.count) - first
    if k0 == 0:
        _forget_events(stream)
    kernels.begin_range(stream, rows, columns, k0, op.k.count)
    group, m, start = op.group.first, op.m.first + first, stream.start
    if not kernels.is_packed(stream.packed_a, group, m, rows, start, stop):
        _pack_a(stream, regs, boxes[PORT.a], op, scratchpad, row_bytes, first, rows, spare)
        if tiles.counts_tiles:
            _count_nonzero(tiles, stream.a.panels, rows, k0, stop, tiles.nonzero_a)
    if not kernels.is_packed(stream.packed_b, group, op.n.first, columns, start, stop):
        _pack_b(stream, regs, boxes[PORT.b], op, scratchpad, row_bytes, spare)
        if tiles.counts_tiles:
            _count_nonzero(tiles, stream.b.panels, columns, k0, stop, tiles.nonzero_b)
    kernels.end_range(stream, rows, columns, stop)
    if tiles.counts_tiles:
        _count_tile(tiles, rows, columns, k0, stop)


@jit
def multiply_tile(table, regs, boxes, op, scratchpad, row_bytes, spare):
    """`multiply` for Python: `table` is an array of one `TILES`.

    Returns:
        The bytes that `spare` must have if it has fewer: nothing is done then. Else 0.
    """
    bytes_needed = spare_bytes(boxes, op, regs)
    if bytes_needed > spare.size:
        return bytes_needed
    multiply(table[0], regs, boxes, op, scratchpad, row_bytes, spare)
    return 0


@jit
def is_autonomous(tiles, op):
    """Whether nothing but the tile has changed since `multiplier` filled in the record. Instructions that
    change anything else clear `autonomous`."""
    return tiles.autonomous != 0 and (tiles.group == ANY or op.group.first == tiles.group)


@jit
def post(tiles, op, scratchpad, row_bytes):
    """POST of a tile whose codes it copies as they are."""
    address = np.int64(scratchpad.ctypes.data) + op.write.first * row_bytes
    row_step = op.n.count * tiles.result_bytes
    kernels.write_results(tiles.stream.out, address, row_step, op.m.count, op.n.count)
