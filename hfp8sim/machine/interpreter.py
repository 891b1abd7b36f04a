"""The loop that executes a program on one core: compiled code, and the tiles that it leaves to Python.

The loop moves boxes between DRAM and scratchpad. At the first matrix tile of a GEMM it returns, and
`multiplier` chooses how its tiles are computed. If a kernel computes them, the compiled loop continues with the
following tiles by itself (`tiles`), and with POST if codes are copied.

For short programs Python interprets the loop, which takes less time than to compile it. It then leaves every tile to
Python.
"""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import threading
from collections.abc import Callable

from hfp8sim import kernels
from hfp8sim._numba.interpreted import Budget, interpreted
from hfp8sim._numba.jit import jit
from hfp8sim.isa.dispatch import dispatch, functions_of
from hfp8sim.machine.check import refuse
from hfp8sim.machine.core import Core
from hfp8sim.machine.insns import FAMILIES, matmul, post
from hfp8sim.machine.sequencer import step
from hfp8sim.machine.state import FAULT, OUTCOME, fault_text

#: Instructions that a process interprets before it compiles the loop. They take 0.2 s, a compilation takes 4 s.
INTERPRETED = Budget(4000)
#: Multiply-accumulates between two returns to Python, which handles Ctrl-C only there.
_MACS_PER_CALL = kernels.MACS_PER_CALL
#: By opcode, what an instruction that writes data did, as text for the log.
_EFFECTS: dict[int, Callable[[Core], str]] = functions_of("effect", FAMILIES)


# -- the loop over instructions -------------------------------------------------------------------------------


#: Execute a resolved instruction by its opcode. Returns a member of `OUTCOME`.
_execute = dispatch("execute", FAMILIES, "context", "context.op.opcode", __name__)


@jit
def _run(context, limit, macs):
    """Execute instructions until Python must act.

    Args:
        context: a `Context`. Its `op` is the last instruction afterwards.
        limit: instructions to execute at most.
        macs: multiply-accumulates after which the loop returns.

    Returns:
        A member of `OUTCOME`.
    """
    work = context.work
    enough = work.macs + macs
    for _ in range(limit):
        fault = step(context.words, context.core, context.regs, context.boxes, context.op)
        if fault != FAULT.none:
            work.fault = fault
            return OUTCOME.fault
        work.instructions += 1
        outcome = _execute(context)
        if outcome != OUTCOME.next:
            return outcome
        if work.macs >= enough:
            return OUTCOME.interruptible
    return OUTCOME.limit


# -- returns to Python -------------------------------------------------------------------------------


def interpret_if_short(cores: list[Core], instructions: int) -> None:
    """Let Python interpret the loops of cores whose program is short, unless there is machine code for them.

    Args:
        instructions: that a core executes if it is alone.
    """
    if instructions <= INTERPRETED.left(_run, cores[0].context, instructions, _MACS_PER_CALL):
        INTERPRETED.spend(instructions)
        for core in cores:
            core.interpreted = True


def run(core: Core, limit: int, barrier: threading.Barrier) -> bool:
    """Execute at most `limit` instructions on a core; False if the program has ended.

    Args:
        barrier: where all cores wait for each other at a fence.

    Raises:
        InputError: an instruction that `step` refuses.
        BrokenBarrierError: the barrier was broken meanwhile.
    """
    loop = interpreted(_run) if core.interpreted else _run
    while True:
        if barrier.broken:
            raise threading.BrokenBarrierError
        executed = core.work.instructions
        outcome = loop(core.context, limit, _MACS_PER_CALL)
        core.update()
        limit -= core.work.instructions - executed
        if outcome == OUTCOME.multiply:
            matmul.compute_tile(core)
        elif outcome == OUTCOME.post:
            post.compute_results(core)
        elif outcome == OUTCOME.fence:
            barrier.wait()
        elif outcome == OUTCOME.fault:
            raise refuse(core.program, core.now.index, fault_text(core.work.fault))
        elif outcome == OUTCOME.halt:
            return False
        if limit == 0:
            return True


def effect(core: Core) -> str:
    """What the last instruction changed, for the log: rows, and a checksum of what they hold."""
    text = _EFFECTS.get(core.now.opcode)
    return text(core) if text else ""
