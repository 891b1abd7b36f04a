"""Tiles through the vector kernels, without leaving compiled code.

What a kernel needs for the tiles of one GEMM stands in a table of int64: addresses of compiled functions
and of memory, made by `multiplier` once for many tiles, and where the work stands. Ranges of k wait as
panels until the last one is there, or as many as there is room for: the kernel then need not carry sums
from one to the next.
"""
# mypy: disable-error-code="no-untyped-def,no-untyped-call,call-arg"

from __future__ import annotations

from hfp8sim._numba.calls import run
from hfp8sim._numba.jit import jit
from hfp8sim.isa.table import PORT
from hfp8sim.kernels import jobs
from hfp8sim.kernels import macrokernel as kernels
from hfp8sim.kernels.form import PANEL
from hfp8sim.kernels.pack import step_number
from hfp8sim.machine import movement
from hfp8sim.machine import sequencer as q

#: Places in the table, behind those of `jobs`: first what `multiplier` says.
(
    ALONE,  # whether tiles may go on from one to the next without it, …
    GROUP,  # … in this group (or any), …
    COPIES,  # … and POST, where nothing changes a code
    PRODUCTS, LENGTH,  # of a step, and of a chunk
    DEPTH,  # K
    PART, PART_STOP,  # rows of a tile that are to be done
    ROOM_M, ROOM_N, ROOM_K,  # that panels have
    RESULT_BYTES,  # of a code
) = range(jobs.END, jobs.END + 12)  # fmt: skip
#: Then where the work stands: the first k that waits; and whose panels they are, A's and B's: group, first
#: row (or column), rows, first k, and up to which k they are filled.
START = jobs.END + 12
HELD_A, HELD_B, SIZE = START + 1, START + 6, START + 11
_H_GROUP, _H_FIRST, _H_ROWS, _H_START, _H_UPTO = range(5)

ANY = -1
#: Rows of an unfolded image that become panels at a time: they do not leave the closest cache.
_UNFOLDED = 64


@jit
def spare_bytes(box, op, regs):
    """Bytes that an operand takes that is laid out anew before it becomes panels."""
    a, b, bytes_a, bytes_b = box[PORT.a], box[PORT.b], 0, 0
    if a[q.KIND] == q.IMAGE:
        rows = op[q.MT] if a[q.TRANSPOSED] else min(op[q.MT], _UNFOLDED)
        bytes_a = rows * op[q.KT] * a[q.ESIZE]
    if b[q.TRANSPOSED]:
        _, blocks, _ = movement.blocks_of_tile(regs, b, op)
        bytes_b = 0 if blocks == 1 else blocks * b[q.BOX_CT] * op[q.NT] * b[q.ESIZE]
    return max(bytes_a, bytes_b) + movement.MOVED


@jit
def has_room(t, box, op, regs, spare):
    """Whether a tile fits the memory there is."""
    rows = min(t[PART_STOP], op[q.MT]) - t[PART]
    return (
        rows <= t[ROOM_M] and op[q.NT] <= t[ROOM_N] and op[q.KT] <= t[ROOM_K]
        and spare_bytes(box, op, regs) <= spare.size
    )  # fmt: skip


@jit
def _holds(held, group, first, rows, start, stop):
    """Whether panels are filled up to k = stop; what they hold now is theirs from here on."""
    theirs = held[_H_GROUP] == group and held[_H_FIRST] == first
    if not (theirs and held[_H_ROWS] == rows and held[_H_START] == start):
        held[_H_GROUP], held[_H_FIRST], held[_H_ROWS] = group, first, rows
        held[_H_START] = held[_H_UPTO] = start
    done = held[_H_UPTO] >= stop
    held[_H_UPTO] = max(held[_H_UPTO], stop)
    return done


@jit
def _fill_a(t, regs, box, op, scratchpad, row_bytes, first, rows, spare):
    """Panels of the tile's rows from `first` on."""
    job, function = t[jobs.A : jobs.B], t[jobs.FILL_A]
    k0, kt, m = op[q.K0], op[q.KT], op[q.M0] + first
    if box[q.KIND] != q.IMAGE:
        at, row_step, k_step = movement.locate_a(box, op, first, row_bytes)
        place = scratchpad.ctypes.data + at, row_step, k_step
        jobs.fill(function, job, place, rows, kt, m, k0, t[START])
        return
    esize, address = box[q.ESIZE], spare.ctypes.data
    if box[q.TRANSPOSED]:
        movement.unfold(scratchpad, row_bytes, box, regs, op[q.G0], k0, kt, m, rows, spare)
        jobs.fill(function, job, (address, esize, rows * esize), rows, kt, m, k0, t[START])
        return
    for i in range(0, rows, _UNFOLDED):
        many = min(rows - i, _UNFOLDED)
        movement.unfold(scratchpad, row_bytes, box, regs, op[q.G0], m + i, many, k0, kt, spare)
        part, place = jobs.from_row(job, i), (address, kt * esize, esize)
        jobs.fill(function, part, place, many, kt, m + i, k0, t[START])


@jit
def _fill_b(t, regs, box, op, scratchpad, row_bytes, spare):
    """Panels of the tile's columns."""
    address, place = scratchpad.ctypes.data, movement.locate_b(regs, box, op, row_bytes)
    if box[q.TRANSPOSED] and movement.blocks_of_tile(regs, box, op)[1] > 1:
        address = spare.ctypes.data
        place = movement.join_blocks(regs, box, op, scratchpad, row_bytes, spare)
    place = address + place[0], place[1], place[2]
    job = t[jobs.B : jobs.RUN]
    jobs.fill(t[jobs.FILL_B], job, place, op[q.NT], op[q.KT], op[q.N0], op[q.K0], t[START])


@jit
def _run(t, rows, columns, stop):
    """Multiply what waits, up to k = stop."""
    job, start, last = t[jobs.RUN : jobs.OUT], t[START], stop == t[DEPTH]
    step0 = step_number(start, t[PRODUCTS], t[LENGTH])
    step1 = step_number(stop, t[PRODUCTS], t[LENGTH])
    per = -(-t[LENGTH] // t[PRODUCTS])
    job[kernels.ROW_PANELS], job[kernels.COLUMN_PANELS] = -(-rows // PANEL), -(-columns // PANEL)
    job[kernels.STEPS], job[kernels.LEFT] = step1 - step0, per - step0 % per
    job[kernels.LENGTH], job[kernels.CLOSE] = per, last
    job[kernels.FRESH], job[kernels.CARRIED] = start == 0, not (start == 0 and last)
    run(t[jobs.KERNEL], job)


@jit
def multiply(t, regs, boxes, op, scratchpad, row_bytes, spare):
    """MM and CV of a tile that `has_room`."""
    k0, stop = op[q.K0], op[q.K0] + op[q.KT]
    first, columns = min(t[PART], op[q.MT]), op[q.NT]
    rows = min(t[PART_STOP], op[q.MT]) - first
    if k0 == 0:
        t[START] = 0
    elif stop > t[START] + t[ROOM_K]:
        _run(t, rows, columns, k0)
        t[START] = k0
    place, group, start = op[q.M0] + first, op[q.G0], t[START]
    if not _holds(t[HELD_A:HELD_B], group, place, rows, start, stop):
        _fill_a(t, regs, boxes[PORT.a], op, scratchpad, row_bytes, first, rows, spare)
    if not _holds(t[HELD_B:SIZE], group, op[q.N0], columns, start, stop):
        _fill_b(t, regs, boxes[PORT.b], op, scratchpad, row_bytes, spare)
    if stop == t[DEPTH]:
        _run(t, rows, columns, stop)


@jit
def may_go_on(t, op):
    """Whether nothing but the tile has changed since `multiplier` made the table. (Who changes something else,
    clears ALONE.)"""
    return t[ALONE] != 0 and (t[GROUP] == ANY or op[q.G0] == t[GROUP])


@jit
def post(t, op, scratchpad, row_bytes):
    """POST where codes come out as they are."""
    out, row_step = t[jobs.OUT : jobs.END], op[q.NT] * t[RESULT_BYTES]
    address = scratchpad.ctypes.data + op[q.WRITE] * row_bytes
    jobs.encode(t[jobs.ENCODE], out, address, op[q.MT], op[q.NT], row_step)
