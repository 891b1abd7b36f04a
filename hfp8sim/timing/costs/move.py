"""Cost of transfers: LD and ST."""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

from hfp8sim._numba.jit import jit
from hfp8sim.machine.state import ceil_div
from hfp8sim.timing.pipeline import (
    find_region,
    free_time,
    issue_store,
    issue_stores_before,
    issue_stores_of,
    ready_time,
    reserve_channel,
)


@jit
def cost_ld(op, regs, pipe, segment, spans, model):
    """LD takes the channel once its rows may be overwritten. Its data arrives `latency` cycles later."""
    clocks = pipe.clocks
    issue_stores_of(pipe, spans, op.write)
    start = max(clocks.load_free, free_time(pipe, op.write))
    issue_stores_before(pipe, spans, start)
    end = reserve_channel(pipe, start, ceil_div(op.bytes * pipe.cores, model.bytes_per_cycle))
    region = find_region(pipe, pipe.scratchpad, op.write)
    region.ready = end + model.latency if op.bytes else start
    clocks.load_free, clocks.loaded = end, max(clocks.loaded, region.ready)
    segment.bytes_in += op.bytes
    return start, end


@jit
def cost_st(op, regs, pipe, segment, spans, model):
    """ST joins the stores that wait. `issue_store` fills in its times when no earlier request can come."""
    if pipe.waiting == pipe.stores.size:
        issue_store(pipe, spans)
    store = pipe.stores[pipe.waiting]
    store.rows = op.read
    store.ready = ready_time(pipe, op.read)
    store.cycles = ceil_div(op.bytes * pipe.cores, model.bytes_per_cycle)
    store.span = pipe.executed
    pipe.waiting += 1
    segment.bytes_out += op.bytes
    return 0, 0
