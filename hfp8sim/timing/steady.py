"""Whole periods of a loop are skipped where the `pipelined` model repeats itself.

After a few iterations the units of a core work in a fixed rhythm: after every p iterations all rows, slots and
queues are as before, and the times of the units that work are later by the same number of cycles. From then on
p iterations cost what the p iterations before them cost, until the tiles change. `skip_periods` finds such a
period and adds it as often as it fits, so that a program's time takes few of its iterations to compute. Inner
loops are shortened this way within the iterations of the outer ones.

It looks at the state at the heads of a loop's iterations, `before` and `after` some of them, and asks for four
things:

1. What the core remembers is the same, but for positions of tiles in their matrices.
2. Every time *stays* (a unit that does not work, rows that nothing touches) or *moves*, by the same number of
   cycles. Every time that moves is later than every time that stays. The model compares times, takes the later of
   two, and adds cycles to it. So all comparisons end as before if all moving times grow.
3. The busy intervals of the channel do the same. If only loads or only stores are issued, intervals that end before
   all requests stay in the list for later; then their number grows by the same intervals in each period.
4. The following iterations move as many bytes as those p iterations earlier: full tiles, and as many lines of an
   image or blocks of an operand.

Then the same instructions take the same times, later by the period, by induction. The result is that of the
model without the skip, to the cycle; tests compare them. docs/machine.md describes the method.
"""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hfp8sim._numba.jit import jit
from hfp8sim._numba.layouts import layout, record
from hfp8sim.isa.table import COUNTER, COUNTERS, CSR, FLAG, LOW, MASK, OP, OPCODE_LOW, OPERANDS
from hfp8sim.machine.boxes import image_lines
from hfp8sim.machine.state import BOX, CORE, ceil_div
from hfp8sim.timing.pipeline import PIPELINE, SEGMENT

_LATEST = (1 << 63) - 1

#: What is known of an open loop.
TRACK = layout(
    passes=np.int64,  # iterations begun since the loop was opened, or since periods were skipped
    next_copy=np.int64,  # number of the iteration at whose head the state is copied
    counter=np.int64,  # the loop's counter in the copy; −1: there is no copy
    peak=np.int64,  # most busy intervals since the copy
    image=np.int64,  # whether the body loads from an image: a member of `_IMAGE`
    inner=(np.int64, (len(COUNTERS),)),  # of each counter, whether a loop in the body runs it
)
#: Values of `TRACK.image`. Both kinds of loads of one image are none that `lowering` writes.
_NO_IMAGE, _IMAGE, _TRANSPOSED, _BOTH = range(4)

#: What `_state_repeats` finds.
PERIOD = layout(
    cycles=np.int64,  # by which the times move
    stays=np.int64,  # the latest time that stays
    moves=np.int64,  # the earliest time that moves, before the period
    kept=np.int64,  # busy intervals that stay
    added=np.int64,  # busy intervals that the period adds
)


class Steady(NamedTuple):
    """Tables of `skip_periods`: the state as integers, a copy of it for each open loop.

    Arrays of integers are views of the records, so that all their fields are compared and advanced in one loop.
    """

    tracks: Any  #: a `TRACK` record for each depth; empty: nothing is skipped
    period: Any  #: a `PERIOD` record
    core: Any  #: the core's `CORE` record as int64
    boxes: Any  #: its `BOX` records as int64
    pipe: Any  #: its `PIPELINE` record as int64
    segments: Any  #: its `SEGMENT` records as int64 (segments, fields)
    pipes: Any  #: a copied `PIPELINE` record for each depth
    core_copies: Any  #: int64 (depths, fields); of `core`
    box_copies: Any  #: of `boxes`
    pipe_copies: Any  #: of `pipe`; the memory of `pipes`
    segment_copies: Any  #: of a row of `segments`


def steady_tables(core: Any, boxes: NDArray[Any], pipe: Any, segments: NDArray[Any]) -> Steady:
    """Tables for a core's `CORE` record, `BOX` records, `PIPELINE` record and `SEGMENT` records.

    Records must come from `layouts.record` or `state.new_core`: their memory is shared.
    """
    depths = len(COUNTERS)
    pipes = np.zeros(depths, PIPELINE)

    def copies(kind: np.dtype[Any], count: int = 1) -> NDArray[np.int64]:
        return np.zeros((depths, count * kind.itemsize // 8), np.int64)

    return Steady(
        np.zeros(depths, TRACK), record(PERIOD),
        core.base.view(np.int64), boxes.view(np.int64), pipe.base.view(np.int64),
        segments.view(np.int64).reshape(segments.size, -1), pipes, copies(CORE),
        copies(BOX, boxes.size), pipes.view(np.int64).reshape(depths, -1), copies(SEGMENT),
    )  # fmt: skip


def no_steady_tables() -> Steady:
    """Empty tables: nothing is skipped."""
    none, rows = np.zeros(0, np.int64), np.zeros((0, 0), np.int64)
    return Steady(
        np.zeros(0, TRACK), record(PERIOD), none, none, none, rows, np.zeros(0, PIPELINE),
        rows, rows, rows, rows,
    )  # fmt: skip


def _names(kind: np.dtype[Any]) -> list[str]:
    """The innermost field name of each of a layout's integers."""
    names: list[str] = []
    for name in kind.names or ():
        field = kind[name]
        base, count = (field.subdtype[0], int(np.prod(field.shape))) if field.subdtype else (field, 1)  # fmt: skip
        names += (_names(base) if base.names else [name]) * count
    return names


#: Fields that hold a position of a tile. They decide nothing that takes time.
_POSITIONS = ("first", "group", "next_k", "counters")
_CORE_FIXED = np.array([name not in _POSITIONS for name in _names(CORE)])
_BOX_FIXED = np.array([name not in _POSITIONS for name in _names(BOX)] * len(OPERANDS))
_BUSY = PIPELINE.fields["busy"][1] // 8  # type: ignore[index]
_BUSY_STOP = _BUSY + PIPELINE["busy"].itemsize // 8
_FETCHED = PIPELINE.fields["fetched"][1] // 8  # type: ignore[index]


# -- times -------------------------------------------------------------------------------------------


@jit
def _moves_or_stays(period, before, after):
    """Whether a time moves by the period or stays. The latest that stays and the earliest that moves are noted."""
    if after == before:
        period.stays = max(period.stays, before)
        return True
    if after - before == period.cycles:
        period.moves = min(period.moves, before)
        return True
    return False


@jit
def _clocks_repeat(period, a, b):
    """Whether all clocks move or stay."""
    return (
        _moves_or_stays(period, a.array_free, b.array_free)
        and _moves_or_stays(period, a.load_free, b.load_free)
        and _moves_or_stays(period, a.store_free, b.store_free)
        and _moves_or_stays(period, a.post_free, b.post_free)
        and _moves_or_stays(period, a.weights_free, b.weights_free)
        and _moves_or_stays(period, a.last_block, b.last_block)
        and _moves_or_stays(period, a.weights_start, b.weights_start)
        and _moves_or_stays(period, a.weights_ready, b.weights_ready)
        and _moves_or_stays(period, a.result_ready, b.result_ready)
        and _moves_or_stays(period, a.loaded, b.loaded)
        and _moves_or_stays(period, a.floor, b.floor)
    )


@jit
def _equal_spans(a, b):
    return a.first == b.first and a.stop == b.stop


@jit
def _regions_repeat(period, before, after):
    """Whether the regions are the same and their times move or stay. In a full table regions are replaced."""
    if before.count != after.count or after.count == after.entries.size:
        return False
    for i in range(after.count):
        a, b = before.entries[i], after.entries[i]
        if not (
            _equal_spans(a.rows, b.rows)
            and a.blocked == b.blocked
            and _moves_or_stays(period, a.ready, b.ready)
            and _moves_or_stays(period, a.free, b.free)
            and _moves_or_stays(period, a.began, b.began)
        ):
            return False
    return True


@jit
def _stores_repeat(period, before, after):
    """Whether the same stores wait, and the times from which they do move or stay."""
    if before.waiting != after.waiting:
        return False
    for i in range(after.waiting):
        a, b = before.stores[i], after.stores[i]
        same = _equal_spans(a.rows, b.rows) and a.cycles == b.cycles
        if not (same and _moves_or_stays(period, a.ready, b.ready)):
            return False
    return True


# -- the channel -------------------------------------------------------------------------------------


@jit
def _all_intervals_repeat(period, before, after, horizon):
    """Whether there are as many busy intervals and their times move or stay.

    A start before `horizon`, from which on there are requests, decides nothing.
    """
    if before.intervals != after.intervals:
        return False
    for i in range(after.intervals):
        a, b = before.busy[i], after.busy[i]
        if not _moves_or_stays(period, a.end, b.end):
            return False
        past = a.start == b.start and a.start <= horizon
        if not (past or _moves_or_stays(period, a.start, b.start)):
            return False
    return True


@jit
def _last_intervals_repeat(period, before, after, horizon):
    """Whether intervals that end before all requests stay, all later ones move, and any number is added between them.

    Only loads or only stores are issued, from `horizon` on in the first period.
    """
    kept, added = 0, after.intervals - before.intervals
    while kept < before.intervals and before.busy[kept].end < horizon:
        a, b = before.busy[kept], after.busy[kept]
        if kept >= after.intervals or a.start != b.start or a.end != b.end:
            return False
        kept += 1
    if added < 0:
        return False
    for i in range(kept, before.intervals):
        a, b = before.busy[i], after.busy[i + added]
        past = added == 0 and a.start == b.start and a.start <= horizon
        if b.end - a.end != period.cycles or not (past or b.start - a.start == period.cycles):
            return False
    if added > 0 and after.busy[kept + added - 1].end >= horizon + period.cycles:
        return False
    period.kept, period.added = kept, added
    return True


@jit
def _channel_repeats(period, before, after):
    """Whether the busy intervals of the channel repeat."""
    loads = after.clocks.load_free != before.clocks.load_free
    stores = after.clocks.store_free != before.clocks.store_free
    if not (loads or stores):  # no request
        return True
    if loads and stores:
        horizon = min(before.clocks.load_free, before.clocks.store_free)
        return _all_intervals_repeat(period, before, after, horizon)
    horizon = before.clocks.load_free if loads else before.clocks.store_free
    if _last_intervals_repeat(period, before, after, horizon):
        return True
    return _all_intervals_repeat(period, before, after, horizon)


@jit
def _state_repeats(period, before, after):
    """Whether all times move or stay, and those that move are the later ones. Fills in the period."""
    a, b = before.clocks, after.clocks
    cycles = max(b.array_free - a.array_free, b.load_free - a.load_free)
    cycles = max(cycles, b.store_free - a.store_free, b.post_free - a.post_free)
    period.cycles, period.stays, period.moves = cycles, 0, _LATEST
    period.kept = period.added = 0
    return (
        cycles > 0
        and _clocks_repeat(period, a, b)
        and _regions_repeat(period, before.scratchpad, after.scratchpad)
        and _regions_repeat(period, before.accumulators, after.accumulators)
        and _stores_repeat(period, before, after)
        and _channel_repeats(period, before, after)
        and period.moves > period.stays
    )


# -- tiles -------------------------------------------------------------------------------------------


@jit
def _tile_size(regs, counter):
    """A tile's size in the dimension of a counter, and the matrix's."""
    if counter == COUNTER.i:
        return regs[CSR.tile_m], regs[CSR.m]
    if counter == COUNTER.j:
        return regs[CSR.tile_n], regs[CSR.n]
    if counter == COUNTER.k:
        return regs[CSR.tile_k], regs[CSR.k]
    return 1, regs[CSR.groups]


@jit
def _equal_lines(regs, a, b, size, taps):
    """Whether `size` rows from a and from b on of an unfolded image touch as many lines, whatever the taps.

    They do where they lie at the same place of their images, or where neither is cut off at an image's edge.

    Args:
        taps: lines of filter taps.
    """
    q, p = regs[CSR.grid_width], regs[CSR.grid_height]
    low, high = a // q, (a + size - 1) // q
    shift = b // q - low
    if (b + size - 1) // q - high != shift:
        return False
    if shift % p == 0:
        return True
    if low // p != high // p or (low + shift) // p != (high + shift) // p:
        return False
    step = ((low + shift) % p - low % p) * regs[CSR.stride_height]
    reach = (taps - 1) * regs[CSR.dilation_height] - regs[CSR.pad_height]
    last = (regs[CSR.image_height] - 1) * regs[CSR.divide_height]
    first_line = min(low % p, (low + shift) % p) * regs[CSR.stride_height]
    last_line = max(high % p, (high + shift) % p) * regs[CSR.stride_height]
    inside = first_line >= regs[CSR.pad_height] and last_line + reach <= last
    return inside and step % regs[CSR.divide_height] == 0


@jit
def _equal_taps(regs, a, b, size):
    """Whether `size` columns from a and from b on of an unfolded image have the same lines of taps and as many
    channels."""
    depth, line = regs[CSR.image_channels], regs[CSR.image_channels] * regs[CSR.kernel_width]
    one_tap = a // depth == (a + size - 1) // depth
    return (
        a // line == b // line
        and (a + size - 1) // line == (b + size - 1) // line
        and one_tap == (b // depth == (b + size - 1) // depth)
    )


@jit
def _equal_boxes(core, regs, track, counter, a, b, size):
    """Whether tiles of an image from row or column a and b on load as many bytes.

    If no loop in the body runs the other counter, its range is known. Otherwise all of its ranges count.
    """
    if track.image == _BOTH:
        return False
    rows = (counter == COUNTER.i) == (track.image == _IMAGE)
    other = COUNTER.k if counter == COUNTER.i else COUNTER.i
    other_size, extent = _tile_size(regs, other)
    if track.inner[other]:
        if rows:
            line = regs[CSR.image_channels] * regs[CSR.kernel_width]
            return _equal_lines(regs, a, b, size, (extent - 1) // line + 1)
        return _equal_taps(regs, a, b, size)
    first, count = 0, extent
    if core.running[other]:
        first = core.counters[other] * other_size
        count = min(other_size, extent - first)
    if rows:
        x, y = image_lines(regs, a, size, first, count), image_lines(regs, b, size, first, count)
    else:
        x, y = image_lines(regs, first, count, a, size), image_lines(regs, first, count, b, size)
    return x[1] == y[1] and x[3] == y[3]


@jit
def _equal_blocks(regs, a, b, size):
    """Whether `size` k's from a and from b on lie in as many blocks of a transposed operand B."""
    depth = regs[CSR.b_block]
    return (a + size - 1) // depth - a // depth == (b + size - 1) // depth - b // depth


@jit
def _steps_within(unit, a, b, size, step):
    """By how many steps tiles from a and from b on may move and stay in their units: one line of the grid, one tap
    or one block. There they load what they load now."""
    room = min(unit - a % unit, unit - b % unit) - size
    return room // step if room > 0 else 0


@jit
def _equal_iterations(core, regs, track, before, loop):
    """From this iteration on, how many have tiles of the same sizes as a period earlier.

    The loop's last iteration, whose tile may be smaller, is counted too: it is not skipped.
    """
    counter, value = loop.counter, core.counters[loop.counter]
    size, _ = _tile_size(regs, counter)
    most = ceil_div(loop.count - value, loop.stride)
    image = track.image != _NO_IMAGE and (counter == COUNTER.i or counter == COUNTER.k)
    blocks = regs[CSR.b_block] > 0 and counter == COUNTER.k
    if not (image or blocks):
        return most
    number, step = 0, loop.stride * size
    while number < most:
        a, b = before * size + number * step, value * size + number * step
        if image and not _equal_boxes(core, regs, track, counter, a, b, size):
            return number
        if blocks and not _equal_blocks(regs, a, b, size):
            return number
        same = _LATEST
        if blocks:
            same = _steps_within(regs[CSR.b_block], a, b, size, step)
        if image and (counter == COUNTER.i) == (track.image == _IMAGE):
            same = min(same, _steps_within(regs[CSR.grid_width], a, b, size, step))
        elif image:
            same = min(same, _steps_within(regs[CSR.image_channels], a, b, size, step))
        number += same + 1
    return min(number, most)


# -- loops -------------------------------------------------------------------------------------------


@jit
def _read_body(words, loop, track):
    """Note what the words of a loop's body load and which loops they open."""
    track.image = _NO_IMAGE
    for counter in range(track.inner.size):
        track.inner[counter] = 0
    for i in range(loop.start, loop.stop):
        word, opcode = words[i], words[i] >> OPCODE_LOW
        if opcode == OP.loop:
            track.inner[word >> LOW.counter & MASK.counter] = 1
        elif opcode == OP.ld and word & FLAG.image:
            track.image |= _TRANSPOSED if word & FLAG.t else _IMAGE


@jit
def _copy_state(words, core, pipe, steady, depth, segment):
    """Copy the state at the head of an iteration."""
    track, loop = steady.tracks[depth], core.loops[depth]
    _read_body(words, loop, track)
    track.counter, track.next_copy = core.counters[loop.counter], 2 * track.next_copy
    for i in range(steady.tracks.size):
        steady.tracks[i].peak = max(steady.tracks[i].peak, pipe.peak)
    track.peak = pipe.peak = pipe.intervals
    steady.core_copies[depth, :] = steady.core
    steady.box_copies[depth, :] = steady.boxes
    steady.pipe_copies[depth, :] = steady.pipe
    steady.segment_copies[depth, :] = steady.segments[segment]


@jit
def _equal_fields(copy, state, fixed):
    """Whether all fixed fields of records are those of their copy."""
    different = 0
    for i in range(state.size):
        different |= (state[i] != copy[i]) & fixed[i]
    return not different


@jit
def _advance(state, copy, first, stop, periods):
    """Add the difference to a copy, several times."""
    for i in range(first, stop):
        state[i] += periods * (state[i] - copy[i])


@jit
def _repeat_intervals(period, before, pipe, periods):
    """Add the busy intervals of several periods."""
    cycles, kept, added = period.cycles, period.kept, period.added
    if added == 0:
        for i in range(pipe.intervals):
            a, b = before.busy[i], pipe.busy[i]
            b.start += periods * (b.start - a.start)
            b.end += periods * (b.end - a.end)
        return
    total = before.intervals + added
    for i in range(total - 1, kept - 1, -1):  # The last ones move.
        if i >= kept + added:
            place, later = i + periods * added, periods * cycles
            pipe.busy[place].start = pipe.busy[i].start + later
            pipe.busy[place].end = pipe.busy[i].end + later
    for i in range(kept + added, kept + (periods + 1) * added):
        pipe.busy[i].start = pipe.busy[i - added].start + cycles
        pipe.busy[i].end = pipe.busy[i - added].end + cycles


@jit
def _skip(pipe, steady, depth, segment, periods):
    """Add several periods to the state."""
    period, before, peak = steady.period, steady.pipes[depth], pipe.peak
    _advance(steady.core, steady.core_copies[depth], 0, steady.core.size, periods)
    _advance(steady.boxes, steady.box_copies[depth], 0, steady.boxes.size, periods)
    row = steady.segments[segment]
    _advance(row, steady.segment_copies[depth], 0, row.size, periods)
    _repeat_intervals(period, before, pipe, periods)
    _advance(steady.pipe, steady.pipe_copies[depth], 0, _BUSY, periods)
    fetched = steady.pipe[_FETCHED]
    _advance(steady.pipe, steady.pipe_copies[depth], _BUSY_STOP, steady.pipe.size, periods)
    steady.pipe[_FETCHED] = fetched
    pipe.peak = peak + periods * period.added


@jit
def _count_periods(core, regs, pipe, steady, depth):
    """Periods that can be skipped; at least one iteration of the loop is left."""
    track, loop, before = steady.tracks[depth], core.loops[depth], steady.pipes[depth]
    if not (
        _equal_fields(steady.core_copies[depth], steady.core, _CORE_FIXED)
        and _equal_fields(steady.box_copies[depth], steady.boxes, _BOX_FIXED)
        and _state_repeats(steady.period, before, pipe)
    ):
        return 0
    length = (core.counters[loop.counter] - track.counter) // loop.stride
    periods = max(_equal_iterations(core, regs, track, track.counter, loop) - 1, 0) // length
    if steady.period.added > 0:
        room = pipe.busy.size - 1 - max(track.peak, pipe.peak)
        periods = min(periods, room // steady.period.added)
    return max(periods, 0)


@jit
def skip_periods(words, core, regs, pipe, steady, segment, opened):
    """At the head of an iteration of the innermost open loop: skip whole periods if there is one.

    The state is copied at the heads of iterations 2, 4, 8, … and compared with the last copy at every head
    (Brent, *An improved Monte Carlo factorization algorithm*, BIT 20, 1980).

    Args:
        words, core, regs: as in `sequencer.step`.
        pipe: the core's `PIPELINE` record.
        steady: the `Steady` tables of the core.
        segment: number of the segment.
        opened: whether this is the loop's first iteration.
    """
    depth = core.depth - 1
    track, loop = steady.tracks[depth], core.loops[depth]
    if opened:
        track.passes, track.next_copy, track.counter = 0, 2, -1
    track.passes += 1
    if track.counter >= 0:
        periods = _count_periods(core, regs, pipe, steady, depth)
        if periods > 0:
            _skip(pipe, steady, depth, segment, periods)
            track.passes, track.next_copy, track.counter = 0, 2, -1
            return
    if (
        track.passes == track.next_copy
        and core.counters[loop.counter] + 2 * loop.stride < loop.count
    ):
        _copy_state(words, core, pipe, steady, depth, segment)
