"""The executor: runs a program in order and computes every bit of it.

No value depends on the number of cores. So the executor emulates as many cores as it has threads, whatever the
machine has, and they share the iterations of a distributed loop.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hfp8sim.floating_point import standard_arithmetic
from hfp8sim.isa import Program, image, instruction_text, outputs
from hfp8sim.isa.segments import segments
from hfp8sim.machine.catalog import get_machine
from hfp8sim.machine.check import MAX_STEPS, Findings, examine
from hfp8sim.machine.config import Machine
from hfp8sim.machine.core import Core
from hfp8sim.machine.interpreter import effect, interpret_if_short, run
from hfp8sim.machine.multiplier import Plans
from hfp8sim.ops import Events, no_counts, thread_count

Log = Callable[[str], object]

#: Seconds after which `execute` checks again whether interrupted cores have ended.
_JOIN_SECONDS = 0.1


@dataclasses.dataclass(frozen=True)
class Execution:
    """The result of a program's execution."""

    outputs: dict[
        str, NDArray[Any]
    ]  #: codes by symbol name, of the symbol's shape: views of `dram`
    dram: NDArray[np.uint8]
    instructions: int  #: executed by one core that is alone
    macs: int  #: multiply-accumulates
    gated: int | None  #: those of them with a zero operand; None unless counted
    events: Events | None  #: of the arithmetic; None unless counted


@standard_arithmetic
def execute(
    program: Program,
    inputs: dict[str, ArrayLike],
    machine: str | Machine = "rapid-core",
    *,
    threads: int | None = None,
    count: bool = False,
    log: Log | None = None,
) -> Execution:
    """Run a program.

    Args:
        inputs: codes of every input symbol.
        machine: its memories bound the program; nothing else of it changes values.
        threads: emulated cores; as many as this process may use by default. No value depends on it.
        count: also count events of the arithmetic and gated multiply-accumulates.
        log: called with one line per executed instruction, in order: number, index, text, effect.

    Raises:
        InputError: a program that `check` refuses, or inputs that are not those of its symbols.
    """
    machine = get_machine(machine)
    dram = image(program, inputs)
    findings = examine(program, machine, dram.size)
    threads = 1 if log is not None else thread_count(threads)
    busy = [min(segment.cores, threads) for segment in segments(program)]
    # Threads without a core of their own share the tiles of the others.
    helpers, plans = [threads // cores for cores in busy], Plans(count, findings.stale_operands)
    cores = [
        Core(program, machine, dram, number, max(busy), plans, count, helpers)
        for number in range(max(busy))
    ]
    interpret_if_short(cores, findings.instructions)
    if log is not None:
        _run_logged(cores[0], log)
    elif len(cores) == 1:
        run(cores[0], MAX_STEPS, threading.Barrier(1))
    else:
        _run_together(cores)
    return _execution(program, dram, findings, cores, count)


def _execution(
    program: Program, dram: NDArray[np.uint8], findings: Findings, cores: list[Core], count: bool
) -> Execution:
    """The results and counts of all cores."""
    counts, gated = zip(*(core.counts() for core in cores))
    events = Events.of(sum(counts, no_counts()), sum(core.nan for core in cores))
    return Execution(
        outputs(program, dram),
        dram,
        findings.instructions,
        sum(core.work.macs for core in cores),
        sum(gated) if count else None,
        events if count else None,
    )


def _run_logged(core: Core, log: Log) -> None:
    """Run a core that is alone, instruction by instruction, with a line of the log for each."""
    number, running = 0, True
    while running:
        running = run(core, 1, threading.Barrier(1))
        index = core.now.index
        text = " ".join(instruction_text(int(core.program.words[index])).split())
        log(f"{number:>8} {index:>5}  {text:<40} {effect(core)}".rstrip())
        number += 1


def _run_together(cores: list[Core]) -> None:
    """Run each core on a thread. Raise the first failure, or an interrupt, when no core runs any more."""
    together = _Together(cores)
    try:
        for core in cores:
            threading.Thread(target=together.run, args=(core,), daemon=True).start()
        for _ in cores:
            together.ended.get()
    except BaseException:
        together.stop()
        raise
    if together.failures:
        raise together.failures[0]


class _Together:
    """Cores that run at the same time, and wait for each other at a fence.

    `Thread.join` is not used: after an interrupt it takes a running thread for one that has ended.
    """

    def __init__(self, cores: list[Core]) -> None:
        self.barrier = threading.Barrier(
            len(cores)
        )  #: broken: all cores end at their next return to Python
        self.failures: list[BaseException] = []
        self.ended: SimpleQueue[None] = SimpleQueue()  #: an entry when a core has ended
        self._running: list[Core] = []

    @standard_arithmetic
    def run(self, core: Core) -> None:
        """Run a core to its end. A failure ends the other cores."""
        self._running.append(core)  # before the core looks at the barrier, see `stop`
        try:
            run(core, MAX_STEPS, self.barrier)
        except threading.BrokenBarrierError:
            pass
        except BaseException as error:
            self.failures.append(error)
            self.barrier.abort()
        finally:
            self._running.remove(core)
            self.ended.put(None)

    def stop(self) -> None:
        """End all cores and wait for that."""
        self.barrier.abort()  # before `_running` is read: a core that begins later ends at once
        while self._running:
            with contextlib.suppress(Empty):
                self.ended.get(timeout=_JOIN_SECONDS)
