"""State of the `pipelined` time model: when units are free, when rows are ready, and when the DRAM channel is busy.

Times are cycles since the segment began.
"""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import numpy as np

from hfp8sim._numba.jit import jit
from hfp8sim._numba.layouts import RANGE, SPAN, layout
from hfp8sim.machine.state import ceil_div
from hfp8sim.timing.parts import Parts

_MAX_REGIONS = 64
_MAX_INTERVALS = 256
_MAX_STORES = 64

#: The machine, as the model sees it.
MODEL = layout(
    rows=np.int64,  # of the array
    columns=np.int64,  # of the array
    corelets=np.int64,
    macs_8bit=np.int64,  # multiply-accumulates per lane and cycle
    macs_16bit=np.int64,
    post_lanes=np.int64,  # results of POST per cycle
    bytes_per_cycle=np.int64,  # of the DRAM channel
    ring_bytes_per_cycle=np.int64,  # of the ring, where every transfer passes
    latency=np.int64,  # cycles until the first byte of a load arrives
    refresh_ns=np.int64,  # of a refresh, in which the channel moves nothing
    refresh_interval_ns=np.int64,  # from one refresh to the next
    cores=np.int64,  # of the machine
    receivers=np.int64,  # cores that one fetch serves
    turnaround=np.int64,  # cycles that the channel loses per MiB of the smaller of reads and writes
)

#: Cycles by what the array did or waited for, a field for each of `Parts`.
PARTS = layout(**{f"{name}_cycles": np.int64 for name in Parts._fields})

#: The result of a segment, from one barrier to the next.
SEGMENT = layout(
    parts=PARTS,
    bytes_in=np.int64,  # DRAM to scratchpad
    bytes_out=np.int64,
    executed=np.int64,  # instructions
)

#: One instruction in the timeline.
TIMELINE_SPAN = layout(
    unit=np.int64,  # its number in `UNITS`
    start=np.int64,  # cycle since the segment began
    end=np.int64,
    index=np.int64,  # of the instruction's word
    segment=np.int64,
    bytes=np.int64,  # that it moves, or that POST writes
    group=RANGE,
    m=RANGE,
    n=RANGE,
    k=RANGE,
)

#: Rows of the scratchpad or of the accumulators that instructions wait for.
REGION = layout(
    rows=SPAN,
    ready=np.int64,  # when they hold what was written last
    free=np.int64,  # when everything that reads them has done so
    # Of accumulators only:
    began=np.int64,  # when POST began to read them
    blocked=np.int64,  # 1: POST had to wait for room in the scratchpad first
)
#: Regions in the order of their first use. If the table is full, `find_region` reuses one.
REGIONS = layout(count=np.int64, entries=(REGION, (_MAX_REGIONS,)))

#: Cycles in which the DRAM channel is busy.
INTERVAL = layout(start=np.int64, end=np.int64)
#: A store that has no cycles of the channel yet. Loads after it in the program may get earlier ones.
STORE = layout(
    rows=SPAN,  # that it reads
    ready=np.int64,  # when they are written
    cycles=np.int64,  # of the channel
    span=np.int64,  # its place in the timeline
)

#: Clocks. Each is the cycle from which on something is free or ready.
CLOCKS = layout(
    array_free=np.int64,  # all cycles before it are booked to a part
    load_free=np.int64,
    store_free=np.int64,
    post_free=np.int64,
    weights_free=np.int64,
    last_block=np.int64,  # start of the last block of weights in the array
    weights_start=np.int64,  # when the first block of the selected weights began to load
    weights_ready=np.int64,  # when it is in the shadow plane; 0: the weights have been used
    result_ready=np.int64,  # when the last sums have left the array
    loaded=np.int64,  # when the last load is complete
    floor=np.int64,  # nothing starts earlier: the latest times of regions that were dropped
)

#: The state of one core.
PIPELINE = layout(
    clocks=CLOCKS,
    scratchpad=REGIONS,
    accumulators=REGIONS,
    intervals=np.int64,  # number of busy intervals
    busy=(INTERVAL, (_MAX_INTERVALS,)),  # disjoint, in order
    peak=np.int64,  # most busy intervals since `steady` looked last
    waiting=np.int64,  # number of stores that wait
    stores=(STORE, (_MAX_STORES,)),  # in the order of the program
    cores=np.int64,  # that share the channel in this segment
    number=np.int64,  # of this core
    fetched=np.float64,  # bytes of this core's loads, each divided by the cores that share its fetch
    executed=np.int64,  # instructions that have a place in the timeline
)


# -- rows --------------------------------------------------------------------------------------------


@jit
def overlap(a, b):
    """Whether two ranges of rows have a row in common."""
    return a.first < b.stop and b.first < a.stop


@jit
def ready_time(pipe, rows):
    """When rows of the scratchpad have been written."""
    time = pipe.clocks.floor
    for i in range(pipe.scratchpad.count):
        region = pipe.scratchpad.entries[i]
        if overlap(region.rows, rows):
            time = max(time, region.ready)
    return time


@jit
def free_time(pipe, rows):
    """When rows of the scratchpad may be overwritten: written before, and read by all that need them."""
    time = pipe.clocks.floor
    for i in range(pipe.scratchpad.count):
        region = pipe.scratchpad.entries[i]
        if overlap(region.rows, rows):
            time = max(time, region.ready, region.free)
    return time


@jit
def hold_until(pipe, rows, time):
    """Rows of the scratchpad are read until some time."""
    for i in range(pipe.scratchpad.count):
        region = pipe.scratchpad.entries[i]
        if overlap(region.rows, rows):
            region.free = max(region.free, time)


@jit
def find_region(pipe, regions, rows):
    """The region that begins at the first of some rows; a new one if there is none.

    If the table is full, the region that was free first is dropped. `clocks.floor` keeps its times: nothing starts
    before them.
    """
    oldest = 0
    for i in range(regions.count):
        region = regions.entries[i]
        if region.rows.first == rows.first:
            region.rows.stop = max(region.rows.stop, rows.stop)
            return region
        if region.free < regions.entries[oldest].free:
            oldest = i
    if regions.count == regions.entries.size:
        region, clocks = regions.entries[oldest], pipe.clocks
        clocks.floor = max(clocks.floor, region.ready, region.free)
    else:
        region = regions.entries[regions.count]
        regions.count += 1
    region.rows = rows
    region.ready = region.free = region.began = region.blocked = 0
    return region


# -- the channel -------------------------------------------------------------------------------------


@jit
def _drop_oldest_gap(pipe):
    """Join the two oldest busy intervals, so that there is room for another one."""
    busy = pipe.busy
    busy[1].start = busy[0].start
    for i in range(pipe.intervals - 1):
        busy[i] = busy[i + 1]
    pipe.intervals -= 1


@jit
def _insert_interval(pipe, place, start, end):
    """Insert a busy interval before number `place`."""
    if pipe.intervals == pipe.busy.size:
        _drop_oldest_gap(pipe)
        place = max(place - 1, 0)
    for i in range(pipe.intervals, place, -1):
        pipe.busy[i] = pipe.busy[i - 1]
    pipe.intervals += 1
    pipe.peak = max(pipe.peak, pipe.intervals)
    pipe.busy[place].start, pipe.busy[place].end = start, end


@jit
def _merge_intervals(pipe, low, high, start, end):
    """Replace the busy intervals [low, high) by one."""
    for i in range(high, pipe.intervals):
        pipe.busy[low + 1 + i - high] = pipe.busy[i]
    pipe.intervals -= high - low - 1
    pipe.busy[low].start, pipe.busy[low].end = start, end


@jit
def reserve_channel(pipe, start, cycles):
    """Reserve the first free cycles of the channel from `start` on. Returns the end of the last one.

    All free cycles between `start` and the end are taken, so the busy intervals in between become one.
    """
    if cycles == 0:
        return start
    busy, count, low = pipe.busy, pipe.intervals, 0
    while low < count and busy[low].end < start:
        low += 1
    begin = start
    if low < count and busy[low].start <= start:
        begin = busy[low].start
    time, left, high = start, cycles, low
    while high < count and busy[high].start < time + left:
        if busy[high].start > time:
            left -= busy[high].start - time
        time = max(time, busy[high].end)
        high += 1
    end = time + left
    if low == high:
        _insert_interval(pipe, low, begin, end)
    else:
        _merge_intervals(pipe, low, high, begin, end)
    return end


@jit
def _prune(pipe):
    """Drop busy intervals that end before every later transfer starts."""
    past, ended = min(pipe.clocks.load_free, pipe.clocks.store_free), 0
    while ended < pipe.intervals and pipe.busy[ended].end < past:
        ended += 1
    if ended:
        for i in range(ended, pipe.intervals):
            pipe.busy[i - ended] = pipe.busy[i]
        pipe.intervals -= ended


@jit
def _with_refresh(cycles, model):
    """Cycles of the channel until it has worked for `cycles`: refresh takes its share of the time."""
    interval = model.refresh_interval_ns
    return ceil_div(cycles * interval, interval - model.refresh_ns)


@jit
def transfer_cycles(size, shares, turned, model):
    """Cycles in which a share of some bytes passes the channel, or the ring if that takes longer.

    Args:
        turned: cycles that the channel needs to turn around.
    """
    channel = ceil_div(size, shares * model.bytes_per_cycle) + turned
    ring = ceil_div(size, shares * model.ring_bytes_per_cycle)
    return max(_with_refresh(channel, model), ring)


# -- stores ------------------------------------------------------------------------------------------


@jit
def issue_store(pipe, spans):
    """Issue the store that has waited longest: reserve its cycles of the channel."""
    store, clocks = pipe.stores[0], pipe.clocks
    start = max(clocks.store_free, store.ready)
    end = reserve_channel(pipe, start, store.cycles)
    clocks.store_free = end
    hold_until(pipe, store.rows, end)
    if store.span < spans.size:
        spans[store.span].start, spans[store.span].end = start, end
    pipe.waiting -= 1
    for i in range(pipe.waiting):
        pipe.stores[i] = pipe.stores[i + 1]
    _prune(pipe)


@jit
def issue_stores_before(pipe, spans, time):
    """Issue the stores whose rows are ready no later than some time."""
    while pipe.waiting > 0 and max(pipe.clocks.store_free, pipe.stores[0].ready) <= time:
        issue_store(pipe, spans)


@jit
def issue_stores_of(pipe, spans, rows):
    """Issue the stores that read some rows, and all stores before them."""
    count = 0
    for i in range(pipe.waiting):
        if overlap(pipe.stores[i].rows, rows):
            count = i + 1
    for _ in range(count):
        issue_store(pipe, spans)


# -- the array's pipeline ----------------------------------------------------------------------------


@jit
def book_pipeline_delay(pipe, parts, model, ready):
    """Book the cycles from the last row of A to the last sum, which leaves the array at `ready`."""
    clocks = pipe.clocks
    delay = max(ready - clocks.array_free, 0)
    filling = min(delay, model.rows - 1)
    parts.fill_cycles += filling
    parts.drain_cycles += delay - filling
    clocks.array_free += delay


@jit
def _reset(pipe):
    """The state at the start of a segment."""
    clocks = pipe.clocks
    clocks.array_free = clocks.load_free = clocks.store_free = clocks.post_free = 0
    clocks.weights_free = clocks.last_block = clocks.weights_start = clocks.weights_ready = 0
    clocks.result_ready = clocks.loaded = clocks.floor = 0
    pipe.scratchpad.count = pipe.accumulators.count = pipe.intervals = 0
    pipe.peak = 0
    pipe.fetched = 0


@jit
def drain(pipe, spans, parts, model):
    """Book what is left until every unit is done, and reset the state for the next segment."""
    while pipe.waiting > 0:
        issue_store(pipe, spans)
    clocks = pipe.clocks
    end = max(
        clocks.array_free, clocks.result_ready, clocks.post_free, clocks.store_free,
        clocks.load_free, clocks.loaded, clocks.weights_free,
    )  # fmt: skip
    book_pipeline_delay(pipe, parts, model, clocks.result_ready)
    post = max(min(clocks.post_free, end) - clocks.array_free, 0)
    out = max(min(clocks.store_free, end) - clocks.array_free - post, 0)
    parts.post_cycles += post
    parts.stall_out_cycles += out
    parts.stall_in_cycles += end - clocks.array_free - post - out
    _reset(pipe)
