"""Loops of the sequencer, the tile that their counters select, and the sharing of iterations among cores."""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfp8sim._numba.interpreted import interpreted
from hfp8sim._numba.jit import jit
from hfp8sim.isa.table import COUNTER, CSR, FLAG, LOW, MASK, OP, OPCODE_LOW
from hfp8sim.machine.state import new_core, set_range

_OPCODE_LOW = OPCODE_LOW


@jit
def _set_tile_range(target, core, counter, size, extent):
    """One dimension of the tile: all of it while no loop runs the counter."""
    if core.running[counter]:
        first = core.counters[counter] * size
        set_range(target, first, min(size, extent - first))
    else:
        set_range(target, 0, extent)


@jit
def set_tile(core, regs, op):
    """Assign the current tile to `op`; False if it lies outside the matrix."""
    _set_tile_range(op.group, core, COUNTER.g, 1, regs[CSR.groups])
    _set_tile_range(op.m, core, COUNTER.i, regs[CSR.tile_m], regs[CSR.m])
    _set_tile_range(op.n, core, COUNTER.j, regs[CSR.tile_n], regs[CSR.n])
    _set_tile_range(op.k, core, COUNTER.k, regs[CSR.tile_k], regs[CSR.k])
    some_k = op.k.count > 0 or regs[CSR.k] == 0
    return op.group.count > 0 and op.m.count > 0 and op.n.count > 0 and some_k


@jit
def has_grid(regs):
    """Whether the registers make the cores a grid."""
    return regs[CSR.split_g] + regs[CSR.split_i] + regs[CSR.split_j] > 0


@jit
def core_grid(regs, cores):
    """The grid of cores along g, i and j; of fewer cores than the registers name, a smaller one."""
    g = min(max(regs[CSR.split_g], 1), cores)
    i = min(max(regs[CSR.split_i], 1), cores // g)
    return g, i, min(max(regs[CSR.split_j], 1), cores // (g * i))


@jit
def grid_place(grid, number):
    """The place of a core in a grid along g, i and j."""
    _, i, j = grid
    return number // (i * j), number // j % i, number % j


@jit
def _own_iterations(core, regs, counter):
    """A core's first iteration of a spread loop and the step to its next one."""
    if not has_grid(regs):
        return core.number, core.cores
    grid = core_grid(regs, core.cores)
    g, i, j = grid_place(grid, core.number)
    if g >= grid[0]:  # beyond the grid: no iteration
        return MASK.count + 1, 1
    if counter == COUNTER.g:
        return g, grid[0]
    if counter == COUNTER.i:
        return i, grid[1]
    return j, grid[2]


@jit
def open_loop(word, core, regs):
    """Open a loop whose body begins at `core.pc`, or skip the body if this core has no iteration of it."""
    body, count = word >> LOW.body & MASK.body, word & MASK.count
    counter = word >> LOW.counter & MASK.counter
    first, stride = 0, 1
    if word & FLAG.spread:
        first, stride = _own_iterations(core, regs, counter)
    if body == 0 or first >= count or core.idle:
        core.pc += body
        return
    loop = core.loops[core.depth]
    loop.counter, loop.start, loop.stop = counter, core.pc, core.pc + body
    loop.count, loop.stride = count, stride
    core.running[counter], core.counters[counter] = 1, first
    core.depth += 1


@jit
def close_loops(core):
    """At the end of a loop's body, repeat it or leave the loop. Loops that end at the same word follow."""
    while core.depth > 0:
        loop = core.loops[core.depth - 1]
        if core.pc != loop.stop:
            return
        core.counters[loop.counter] += loop.stride
        if core.counters[loop.counter] < loop.count:
            core.pc = loop.start
            return
        core.running[loop.counter] = 0
        core.depth -= 1


@jit
def is_idle(words, core):
    """Whether this core has no work up to the next fence: core 0 alone executes what no distributed loop holds."""
    if core.number == 0:
        return 0
    for i in range(core.pc, words.size):
        opcode = words[i] >> _OPCODE_LOW
        if opcode == OP.loop and words[i] & FLAG.spread:
            return 0
        if opcode == OP.fence or opcode == OP.halt:
            return 1
    return 1


def start(
    words: NDArray[np.int64], number: int, cores: int, row_bytes: int, dram_bytes: int
) -> tuple[Any, NDArray[np.int64], NDArray[Any]]:
    """(core, registers, boxes) before the first instruction, as `state.new_core`, for one core of several."""
    core, regs, boxes = new_core(number, cores, row_bytes, dram_bytes)
    core.idle = interpreted(is_idle)(words, core) if number > 0 else 0  # it is 0 for core 0
    return core, regs, boxes
