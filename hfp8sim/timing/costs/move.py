"""Cost of transfers: LD and ST."""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import math

from hfp8sim._numba.jit import jit
from hfp8sim.isa.table import CSR, PORT
from hfp8sim.machine.loops import core_grid, grid_place, has_grid
from hfp8sim.machine.state import ceil_div
from hfp8sim.timing.pipeline import (
    find_region,
    free_time,
    issue_store,
    issue_stores_before,
    issue_stores_of,
    ready_time,
    reserve_channel,
    transfer_cycles,
)


@jit
def sharing_cores(op, regs, pipe, model):
    """How many cores of a grid load the same box with this LD, and the place of this core among them.

    Operand A is the same along j, operand B and the bias along i. A dimension of which the tile has all is the
    same along its own axis of the grid too.
    """
    if not has_grid(regs):
        return 1, 0
    grid = core_grid(regs, model.cores)
    place = grid_place(grid, pipe.number)
    same_i = op.port != PORT.a or op.m.count == regs[CSR.m]
    same_j = op.port == PORT.a or op.n.count == regs[CSR.n]
    same_g = op.group.count == regs[CSR.groups]
    cores, number = 1, 0
    if same_g:
        cores, number = grid[0], place[0]
    if same_i:
        cores, number = cores * grid[1], number * grid[1] + place[1]
    if same_j:
        cores, number = cores * grid[2], number * grid[2] + place[2]
    return cores, number


@jit
def cost_ld(op, regs, pipe, segment, spans, model):
    """LD takes the channel once its rows may be overwritten. Its data arrives `latency` cycles later.

    Cores that load the same box share a fetch, as many as one fetch serves. The first of them counts its bytes.
    """
    clocks = pipe.clocks
    sharing, place = sharing_cores(op, regs, pipe, model)
    fetches = ceil_div(sharing, model.receivers)
    issue_stores_of(pipe, spans, op.write)
    start = max(clocks.load_free, free_time(pipe, op.write))
    issue_stores_before(pipe, spans, start)
    size = op.bytes * pipe.cores * fetches
    end = reserve_channel(pipe, start, transfer_cycles(size, sharing, 0, model))
    region = find_region(pipe, pipe.scratchpad, op.write)
    region.ready = end + model.latency if op.bytes else start
    clocks.load_free, clocks.loaded = end, max(clocks.loaded, region.ready)
    pipe.fetched += op.bytes * fetches / sharing
    if place % model.receivers == 0:
        segment.bytes_in += op.bytes
    return start, end


@jit
def _turnaround(op, pipe, segment, model):
    """Cycles that the channel loses to a store: as long as less was written than read, every byte counts."""
    matched = min(float(op.bytes), max(pipe.fetched - segment.bytes_out, 0.0))
    return math.ceil(matched * pipe.cores * model.turnaround / (1 << 20))


@jit
def cost_st(op, regs, pipe, segment, spans, model):
    """ST joins the stores that wait. `issue_store` fills in its times when no earlier request can come."""
    if pipe.waiting == pipe.stores.size:
        issue_store(pipe, spans)
    store = pipe.stores[pipe.waiting]
    store.rows = op.read
    store.ready = ready_time(pipe, op.read)
    turned = _turnaround(op, pipe, segment, model)
    store.cycles = transfer_cycles(op.bytes * pipe.cores, 1, turned, model)
    store.span = pipe.executed
    pipe.waiting += 1
    segment.bytes_out += op.bytes
    return 0, 0
