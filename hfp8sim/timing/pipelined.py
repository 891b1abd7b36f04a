"""The `pipelined` time model: the instruction stream through units that run beside each other.

Each unit takes its instructions in program order: transfers in, weights, array, post, transfers out. An
instruction starts when its unit is free, the rows it reads have been written, and the rows it writes
have been read by all before it. Both kinds of transfer share one channel, which serves them in the order
in which they ask for it. Nothing is simulated cycle by cycle: an instruction costs a few comparisons, so
time is linear in the instructions executed.

Every cycle is booked to one part as the array's time moves on: its own cycles to `compute` and
`weight_load`, a gap before a tile to what the tile waited for. docs/machine.md has the formulas.
"""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import numpy as np

from hfp8sim._numba.jit import jit
from hfp8sim.isa.table import CSR, OP
from hfp8sim.machine import sequencer as q

#: The units, in the order of a timeline's rows.
UNITS = ("DMA in", "weights", "array", "post", "DMA out")
_IN, _WEIGHTS, _ARRAY, _POST, _OUT = range(5)

#: Places in the model's numbers (int64).
ROWS, COLUMNS, CORELETS, MACS8, MACS16, LANES, BANDWIDTH, LATENCY = range(8)
MODEL_SIZE = 8

#: Places in a segment's results: the parts, bytes, and what was executed. A segment ends with FENCE.
(
    FILL, COMPUTE, DRAIN, WEIGHT_LOAD, STALL_IN, STALL_OUT, POST, BYTES_IN, BYTES_OUT, EXECUTED, LAST,
) = range(11)  # fmt: skip
SEGMENT_SIZE = 11

#: Places in a span of the timeline.
SPAN_UNIT, SPAN_START, SPAN_END, SPAN_INDEX, SPAN_SEGMENT, SPAN_BYTES, SPAN_TILE = range(7)
SPAN_SIZE = SPAN_TILE + q.KT + 1 - q.G0

#: Places in the clocks. Times of units are when they are free; ARRAY_FREE is how far time is booked.
(
    ARRAY_FREE, IN_FREE, OUT_FREE, POST_FREE, WEIGHTS_FREE, LAST_BLOCK, WEIGHTS_START, WEIGHTS_READY,
    RESULT_READY, LOADED, FLOOR, INTERVALS, REGIONS, ACC_REGIONS, WAITING,
) = range(15)  # fmt: skip
_CLOCKS = 15

#: A region of rows: [first, stop), when it was written, until when it is read. One of accumulators: when
#: its sums are ready, when POST has read them, when that began, and whether it had waited for room.
FIRST, STOP, WRITTEN, READ = range(4)
A_READY, A_FREE, A_BEGAN, A_WAITED = range(2, 6)
_MAX_REGIONS = 64
_MAX_INTERVALS = 256

#: A store that waits for its turn: the rows it reads, when they were written, the cycles it takes, and
#: its span. Loads that stand behind it in the program may ask for the channel before it.
S_READY, S_CYCLES, S_SPAN = range(2, 5)
_MAX_WAITING = 64


# -- rows and when they can be used -------------------------------------------------------------------


@jit
def written(regions, clocks, first, stop):
    """When rows [first, stop) have been written."""
    time = clocks[FLOOR]
    for i in range(clocks[REGIONS]):
        if regions[i, FIRST] < stop and first < regions[i, STOP]:
            time = max(time, regions[i, WRITTEN])
    return time


@jit
def unused(regions, clocks, first, stop):
    """When rows [first, stop) may be overwritten: written before, and read by all who want to."""
    time = clocks[FLOOR]
    for i in range(clocks[REGIONS]):
        if regions[i, FIRST] < stop and first < regions[i, STOP]:
            time = max(time, regions[i, WRITTEN], regions[i, READ])
    return time


@jit
def region(regions, clocks, counter, first, stop):
    """The region that begins at a row, made if there is none. When there are too many, the oldest is
    given up, and nothing starts before its times any more."""
    count = clocks[counter]
    oldest = 0
    for i in range(count):
        if regions[i, FIRST] == first:
            regions[i, STOP] = max(regions[i, STOP], stop)
            return i
        if regions[i, READ] < regions[oldest, READ]:
            oldest = i
    if count == regions.shape[0]:
        clocks[FLOOR] = max(clocks[FLOOR], regions[oldest, WRITTEN], regions[oldest, READ])
        i = oldest
    else:
        i = count
        clocks[counter] += 1
    regions[i, :] = 0
    regions[i, FIRST], regions[i, STOP] = first, stop
    return i


@jit
def read_until(regions, clocks, first, stop, time):
    """Rows [first, stop) are being read until some time."""
    for i in range(clocks[REGIONS]):
        if regions[i, FIRST] < stop and first < regions[i, STOP]:
            regions[i, READ] = max(regions[i, READ], time)


# -- the channel ---------------------------------------------------------------------------------------


@jit
def claim(busy, clocks, start, cycles):
    """Use the channel for some cycles from `start` on, between what it is busy with. Returns the end.

    `busy` holds disjoint intervals in order. All free cycles from `start` to the end are taken, so the
    intervals in between grow into one.
    """
    if cycles == 0:
        return start
    count = clocks[INTERVALS]
    low = 0
    while low < count and busy[low, 1] < start:
        low += 1
    begin = start
    if low < count and busy[low, 0] <= start:
        begin = busy[low, 0]
    time, left, high = start, cycles, low
    while high < count and busy[high, 0] < time + left:
        if busy[high, 0] > time:
            left -= busy[high, 0] - time
        time = max(time, busy[high, 1])
        high += 1
    end = time + left
    if low == high:  # a new interval between others
        if count == busy.shape[0]:  # forget the gap between the two oldest
            busy[1, 0] = busy[0, 0]
            for i in range(count - 1):
                busy[i, 0], busy[i, 1] = busy[i + 1, 0], busy[i + 1, 1]
            count -= 1
            low = max(low - 1, 0)
        for i in range(count, low, -1):
            busy[i, 0], busy[i, 1] = busy[i - 1, 0], busy[i - 1, 1]
        count += 1
    else:
        for i in range(high, count):
            busy[low + 1 + i - high, 0], busy[low + 1 + i - high, 1] = busy[i, 0], busy[i, 1]
        count -= high - low - 1
    busy[low, 0], busy[low, 1] = begin, end
    clocks[INTERVALS] = count
    return end


@jit
def forget(busy, clocks):
    """Drop intervals that no transfer can come before any more."""
    past = min(clocks[IN_FREE], clocks[OUT_FREE])
    gone = 0
    while gone < clocks[INTERVALS] and busy[gone, 1] < past:
        gone += 1
    if gone:
        for i in range(gone, clocks[INTERVALS]):
            busy[i - gone, 0], busy[i - gone, 1] = busy[i, 0], busy[i, 1]
        clocks[INTERVALS] -= gone


@jit
def let_out(stores, clocks, regions, busy, spans):
    """The store that has waited longest takes the channel."""
    start = max(clocks[OUT_FREE], stores[0, S_READY])
    end = claim(busy, clocks, start, stores[0, S_CYCLES])
    clocks[OUT_FREE] = end
    read_until(regions, clocks, stores[0, FIRST], stores[0, STOP], end)
    span = stores[0, S_SPAN]
    if span < spans.shape[0]:
        spans[span, SPAN_START], spans[span, SPAN_END] = start, end
    clocks[WAITING] -= 1
    for i in range(clocks[WAITING]):
        stores[i] = stores[i + 1]
    forget(busy, clocks)


@jit
def let_out_before(stores, clocks, regions, busy, spans, time):
    """The stores that ask for the channel until some time take it."""
    while clocks[WAITING] > 0 and max(clocks[OUT_FREE], stores[0, S_READY]) <= time:
        let_out(stores, clocks, regions, busy, spans)


@jit
def let_out_of(stores, clocks, regions, busy, spans, first, stop):
    """The stores that read rows [first, stop) take the channel, and those before them."""
    count = 0
    for i in range(clocks[WAITING]):
        if stores[i, FIRST] < stop and first < stores[i, STOP]:
            count = i + 1
    for _ in range(count):
        let_out(stores, clocks, regions, busy, spans)


# -- instructions ----------------------------------------------------------------------------------------


@jit
def pass_through(clocks, parts, model, ready):
    """Book the array's pipeline, from the last row of A to the last sum, which is `ready` then."""
    passing = max(ready - clocks[ARRAY_FREE], 0)
    filling = min(passing, model[ROWS] - 1)
    parts[FILL] += filling
    parts[DRAIN] += passing - filling
    clocks[ARRAY_FREE] += passing


@jit
def load(op, clocks, regions, busy, stores, spans, parts, model, cores):
    """LD: (start, end) in the timeline."""
    let_out_of(stores, clocks, regions, busy, spans, op[q.WRITE], op[q.WRITE_STOP])
    ready = max(clocks[IN_FREE], unused(regions, clocks, op[q.WRITE], op[q.WRITE_STOP]))
    let_out_before(stores, clocks, regions, busy, spans, ready)
    end = claim(busy, clocks, ready, q.ceil_div(op[q.BYTES] * cores, model[BANDWIDTH]))
    i = region(regions, clocks, REGIONS, op[q.WRITE], op[q.WRITE_STOP])
    regions[i, WRITTEN] = end + model[LATENCY] if op[q.BYTES] else ready
    clocks[IN_FREE] = end
    clocks[LOADED] = max(clocks[LOADED], regions[i, WRITTEN])
    parts[BYTES_IN] += op[q.BYTES]
    return ready, end


@jit
def select_weights(op, clocks, regions, model):
    """LDW: the first block goes into the shadow plane once the last block before it has started."""
    start = max(
        clocks[LAST_BLOCK],
        clocks[WEIGHTS_FREE],
        written(regions, clocks, op[q.READ], op[q.READ_STOP]),
    )
    clocks[WEIGHTS_START], clocks[WEIGHTS_READY] = start, start + model[ROWS]
    clocks[WEIGHTS_FREE] = start + model[ROWS]
    return start, start + model[ROWS]


@jit
def multiply(op, regs, clocks, regions, sums, parts, model):
    """MM and CV."""
    wide = max(q.format_bits(regs[CSR.a_format]), q.format_bits(regs[CSR.b_format])) > 8
    depth = model[ROWS] * (model[MACS16] if wide else model[MACS8])
    blocks = q.ceil_div(op[q.KT], depth) * q.ceil_div(op[q.NT], model[COLUMNS])
    stream = q.ceil_div(op[q.MT], model[CORELETS])
    block = max(stream, model[ROWS])
    if clocks[WEIGHTS_READY] == 0 and blocks > 1:  # the same tile of weights again
        select_weights_again(op, clocks, regions, model)
    operands = max(
        written(regions, clocks, op[q.READ], op[q.READ_STOP]),
        written(regions, clocks, op[q.READ2], op[q.READ2_STOP]),
    )
    i = region(sums, clocks, ACC_REGIONS, op[q.ACC], op[q.ACC_STOP])
    room = sums[i, A_FREE]
    start = max(clocks[ARRAY_FREE], operands, clocks[WEIGHTS_READY], room, clocks[FLOOR])
    gap = start - clocks[ARRAY_FREE]
    if gap > 0:
        if start == operands or start == clocks[FLOOR]:
            parts[STALL_IN] += gap
        elif start == clocks[WEIGHTS_READY]:
            loading = min(gap, start - clocks[WEIGHTS_START])
            parts[WEIGHT_LOAD] += loading
            parts[STALL_IN] += gap - loading
        else:
            wait_for_sums(clocks, sums, i, parts, model, start)
    parts[COMPUTE] += blocks * stream
    parts[WEIGHT_LOAD] += blocks * (block - stream)
    end = start + blocks * block
    clocks[ARRAY_FREE], clocks[LAST_BLOCK] = end, max(end - block, start)
    clocks[RESULT_READY] = end + model[ROWS] + model[COLUMNS] - 2
    clocks[WEIGHTS_READY] = 0
    sums[i, A_READY] = clocks[RESULT_READY]
    read_until(regions, clocks, op[q.READ], op[q.READ_STOP], end)
    read_until(regions, clocks, op[q.READ2], op[q.READ2_STOP], clocks[LAST_BLOCK])
    return start, end


@jit
def select_weights_again(op, clocks, regions, model):
    """The first block of a tile that stays selected is loaded anew, as if by LDW."""
    start = max(
        clocks[LAST_BLOCK], clocks[WEIGHTS_FREE],
        written(regions, clocks, op[q.READ2], op[q.READ2_STOP]),
    )  # fmt: skip
    clocks[WEIGHTS_START], clocks[WEIGHTS_READY] = start, start + model[ROWS]
    clocks[WEIGHTS_FREE] = start + model[ROWS]


@jit
def wait_for_sums(clocks, sums, i, parts, model, until):
    """Book the array's wait for POST to free its accumulators."""
    pass_through(clocks, parts, model, min(sums[i, A_READY], until))
    waited = max(min(sums[i, A_BEGAN], until) - clocks[ARRAY_FREE], 0)
    parts[STALL_OUT if sums[i, A_WAITED] else POST] += waited
    parts[POST] += until - clocks[ARRAY_FREE] - waited
    clocks[ARRAY_FREE] = until


@jit
def finish(op, clocks, regions, busy, stores, spans, sums, model):
    """POST."""
    let_out_of(stores, clocks, regions, busy, spans, op[q.WRITE], op[q.WRITE_STOP])
    i = region(sums, clocks, ACC_REGIONS, op[q.ACC], op[q.ACC_STOP])
    ready = max(
        clocks[POST_FREE], sums[i, A_READY], written(regions, clocks, op[q.READ2], op[q.READ2_STOP])
    )
    room = unused(regions, clocks, op[q.WRITE], op[q.WRITE_STOP])
    start = max(ready, room)
    end = start + q.ceil_div(op[q.MT] * op[q.NT], model[LANES])
    sums[i, A_BEGAN], sums[i, A_FREE], sums[i, A_WAITED] = start, end, room > ready
    j = region(regions, clocks, REGIONS, op[q.WRITE], op[q.WRITE_STOP])
    regions[j, WRITTEN] = end
    read_until(regions, clocks, op[q.READ2], op[q.READ2_STOP], end)
    clocks[POST_FREE] = end
    return start, end


@jit
def store(op, clocks, regions, busy, stores, spans, parts, model, cores, span):
    """ST: it waits, until it is known what asks for the channel before it."""
    if clocks[WAITING] == stores.shape[0]:
        let_out(stores, clocks, regions, busy, spans)
    i = clocks[WAITING]
    stores[i, FIRST], stores[i, STOP] = op[q.READ], op[q.READ_STOP]
    stores[i, S_READY] = written(regions, clocks, op[q.READ], op[q.READ_STOP])
    stores[i, S_CYCLES] = q.ceil_div(op[q.BYTES] * cores, model[BANDWIDTH])
    stores[i, S_SPAN] = span
    clocks[WAITING] += 1
    parts[BYTES_OUT] += op[q.BYTES]


@jit
def come_to_rest(clocks, regions, busy, stores, spans, parts, model):
    """FENCE and HALT: book what is left until every unit is done."""
    while clocks[WAITING] > 0:
        let_out(stores, clocks, regions, busy, spans)
    end = max(clocks[ARRAY_FREE], clocks[RESULT_READY], clocks[POST_FREE], clocks[OUT_FREE])
    end = max(end, clocks[IN_FREE], clocks[LOADED], clocks[WEIGHTS_FREE])
    pass_through(clocks, parts, model, clocks[RESULT_READY])
    post = max(min(clocks[POST_FREE], end) - clocks[ARRAY_FREE], 0)
    parts[POST] += post
    out = max(min(clocks[OUT_FREE], end) - clocks[ARRAY_FREE] - post, 0)
    parts[STALL_OUT] += out
    parts[STALL_IN] += end - clocks[ARRAY_FREE] - post - out
    clocks[:] = 0


@jit
def run(words, state, regs, box, model, active, segments, spans):
    """Time the program on one core, from FENCE to FENCE; each segment begins at 0.

    Args:
        model: int64 (MODEL_SIZE,), the machine.
        active: cores that share the channel, for each segment.
        segments: int64 (n, SEGMENT_SIZE), filled.
        spans: int64 (instructions, SPAN_SIZE), filled as far as it goes.

    Returns:
        (error of the sequencer, index of its instruction, instructions executed).
    """
    op = np.zeros(q.OP_SIZE, np.int64)
    clocks = np.zeros(_CLOCKS, np.int64)
    regions = np.zeros((_MAX_REGIONS, 4), np.int64)
    sums = np.zeros((_MAX_REGIONS, 6), np.int64)
    busy = np.zeros((_MAX_INTERVALS, 2), np.int64)
    stores = np.zeros((_MAX_WAITING, 5), np.int64)
    segment = count = 0
    while True:
        error = q.step(words, state, regs, box, op)
        if error != q.OK:
            return error, op[q.INDEX], count
        code, parts, cores = op[q.CODE], segments[segment], active[segment]
        parts[EXECUTED] += 1
        unit, start, end = -1, 0, 0
        if code == OP.ld:
            unit = _IN
            start, end = load(op, clocks, regions, busy, stores, spans, parts, model, cores)
        elif code == OP.ldw:
            unit = _WEIGHTS
            start, end = select_weights(op, clocks, regions, model)
        elif (code == OP.mm or code == OP.cv) and op[q.KT] > 0:
            unit = _ARRAY
            start, end = multiply(op, regs, clocks, regions, sums, parts, model)
        elif code == OP.post:
            unit = _POST
            start, end = finish(op, clocks, regions, busy, stores, spans, sums, model)
        elif code == OP.st:
            unit = _OUT
            store(op, clocks, regions, busy, stores, spans, parts, model, cores, count)
        elif code == OP.fence or state[q.HALTED]:
            come_to_rest(clocks, regions, busy, stores, spans, parts, model)
            parts[LAST] = op[q.INDEX]
            segment += 1
            if state[q.HALTED]:
                return q.OK, 0, count
        if unit >= 0:
            if count < spans.shape[0]:
                spans[count, SPAN_UNIT], spans[count, SPAN_INDEX] = unit, op[q.INDEX]
                spans[count, SPAN_START], spans[count, SPAN_END] = start, end
                spans[count, SPAN_SEGMENT], spans[count, SPAN_BYTES] = segment, op[q.BYTES]
                spans[count, SPAN_TILE:] = op[q.G0 : q.KT + 1]
            count += 1
