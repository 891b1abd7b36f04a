"""Cost of POST."""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

from hfp8sim._numba.jit import jit
from hfp8sim.machine.state import ceil_div
from hfp8sim.timing.pipeline import (
    find_region,
    free_time,
    hold_until,
    issue_stores_of,
    ready_time,
)


@jit
def cost_post(op, regs, pipe, segment, spans, model):
    """POST starts when the sums and the bias are ready and its result has room in the scratchpad."""
    issue_stores_of(pipe, spans, op.write)
    sums = find_region(pipe, pipe.accumulators, op.sums)
    ready = max(pipe.clocks.post_free, sums.ready, ready_time(pipe, op.read_second))
    room = free_time(pipe, op.write)
    start = max(ready, room)
    end = start + ceil_div(op.m.count * op.n.count, model.post_lanes)
    sums.began, sums.free, sums.blocked = start, end, room > ready
    result = find_region(pipe, pipe.scratchpad, op.write)
    result.ready = end
    hold_until(pipe, op.read_second, end)
    pipe.clocks.post_free = end
    return start, end
