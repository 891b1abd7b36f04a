"""The executor: runs a program in order and computes every bit of it.

No value depends on the number of cores. So the executor emulates as many cores as it has threads, whatever the
machine has, and they share the iterations of a distributed loop.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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
from hfp8sim.machine.interpreter import effect, run
from hfp8sim.machine.multiplier import Plans
from hfp8sim.ops import Events, no_counts, thread_count

Log = Callable[[str], object]


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
    with ThreadPoolExecutor(threads) as pool:
        cores = [
            Core(program, machine, dram, number, max(busy), plans, count, helpers)
            for number in range(max(busy))
        ]
        if log is not None:
            _run_logged(cores[0], log)
        elif len(cores) == 1:
            run(cores[0], MAX_STEPS, lambda: None)
        else:
            _run_together(cores, pool)
    return _execution(program, dram, findings, cores, count)


def _execution(
    program: Program, dram: NDArray[np.uint8], findings: Findings, cores: list[Core], count: bool
) -> Execution:
    """The results and counts of all cores."""
    counts = sum((core.events for core in cores), no_counts())
    events = Events.of(counts, sum(core.nan for core in cores))
    return Execution(
        outputs(program, dram),
        dram,
        findings.instructions,
        sum(core.work.macs for core in cores),
        sum(core.gated for core in cores) if count else None,
        events if count else None,
    )


def _run_logged(core: Core, log: Log) -> None:
    """Run a core that is alone, instruction by instruction, with a line of the log for each."""
    number, running = 0, True
    while running:
        running = run(core, 1, lambda: None)
        index = core.now.index
        text = " ".join(instruction_text(int(core.program.words[index])).split())
        log(f"{number:>8} {index:>5}  {text:<40} {effect(core)}".rstrip())
        number += 1


def _run_together(cores: list[Core], pool: ThreadPoolExecutor) -> None:
    """Run each core on a thread; at a fence they wait for each other. Raise the first failure."""
    barrier = threading.Barrier(len(cores))
    futures = [pool.submit(_run_core, core, barrier) for core in cores]
    failures = [error for future in futures if (error := future.exception()) is not None]
    # A failure breaks the barrier, so the other cores raise `BrokenBarrierError`.
    for error in sorted(failures, key=lambda e: isinstance(e, threading.BrokenBarrierError)):
        raise error


@standard_arithmetic
def _run_core(core: Core, barrier: threading.Barrier) -> None:
    """Run one of several cores to its end."""
    try:
        run(core, MAX_STEPS, barrier.wait)
    except BaseException:
        barrier.abort()
        raise
