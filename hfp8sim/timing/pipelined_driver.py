"""Drives the compiled `pipelined` model: a program on every core, its layers' times and its timeline."""
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from hfp8sim.isa import LINE, Program
from hfp8sim.isa.segments import Segment, segments
from hfp8sim.machine import sequencer as q
from hfp8sim.machine.check import check, refuse
from hfp8sim.machine.config import Machine, get_machine
from hfp8sim.timing import pipelined as pipeline
from hfp8sim.timing.parts import LayerTime, Parts

_NO_SPANS = np.zeros((0, pipeline.SPAN_SIZE), np.int64)


@dataclasses.dataclass(frozen=True)
class Span:
    """One instruction in the timeline: when a unit worked on it, in cycles since the program's start."""

    core: int
    unit: str
    start: int
    end: int
    index: int  #: of its word
    layer: str
    bytes: int  #: that it moves, or that lie in the rows it writes
    tile: tuple[int, ...]  #: first and count of the groups, of m, n and k


def time_segments(program: Program, machine: Machine) -> tuple[LayerTime, ...]:
    """The time of every segment of a program that passes `check`, if it multiplies or moves anything."""
    stretches = segments(program)
    results, _ = _run(program, machine, stretches, _NO_SPANS)
    return tuple(
        _slowest(segment, results[:, number], machine)
        for number, segment in enumerate(stretches)
        if segment.works or results[:, number, pipeline.BYTES_IN].any()
    )


def timeline(program: Program, machine: str | Machine = "rapid-core") -> list[Span]:
    """Every instruction that took time under `pipelined`, by core and unit, in order of execution.

    Raises:
        InputError: an unknown machine, or a program that `check` refuses.
    """
    machine = get_machine(machine)
    check(program, machine)
    stretches = segments(program)
    results, counts = _run(program, machine, stretches, _NO_SPANS)
    lengths = results[:, :, : len(Parts._fields)].sum(axis=2).max(axis=0)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    spans: list[Span] = []
    for core, count in enumerate(counts):
        rows = np.zeros((count, pipeline.SPAN_SIZE), np.int64)
        _run(program, machine, stretches, rows, only=core)
        for unit, start, end, index, number, size, *tile in rows.tolist():
            layer = stretches[number]
            begin = int(offsets[number])
            label = f"{layer.name} {layer.phase}".strip()
            spans.append(
                Span(
                    core, pipeline.UNITS[unit], begin + start, begin + end, index, label, size,
                    tuple(tile),
                )
            )  # fmt: skip
    return spans


def _run(
    program: Program, machine: Machine, stretches: tuple[Segment, ...], spans: NDArray[np.int64],
    only: int | None = None,
) -> tuple[NDArray[np.int64], list[int]]:  # fmt: skip
    """Results (cores, segments, SEGMENT_SIZE) and executed instructions of every core."""
    words, size = program.words.astype(np.int64), program.dram_lines * LINE
    active = np.array([min(segment.cores, machine.cores) for segment in stretches], np.int64)
    numbers = model_numbers(machine)
    cores = int(active.max(initial=1))
    results = np.zeros((cores, len(stretches), pipeline.SEGMENT_SIZE), np.int64)
    counts = []
    for core in range(cores) if only is None else (only,):
        state, regs, box = q.start(words, core, machine.cores, machine.array.columns, size)
        error, index, count = pipeline.run(
            words, state, regs, box, numbers, active, results[core], spans
        )
        if error != q.OK:
            raise refuse(program, int(index), q.ERRORS[error])
        counts.append(int(count))
    # A core beyond those that a stretch has work for does nothing in it.
    for number, busy in enumerate(active):
        results[busy:, number] = 0
    return results, counts


def model_numbers(machine: Machine) -> NDArray[np.int64]:
    """The machine as the pipelined model sees it."""
    array, memory = machine.array, machine.memory
    numbers = np.zeros(pipeline.MODEL_SIZE, np.int64)
    numbers[pipeline.ROWS], numbers[pipeline.COLUMNS] = array.rows, array.columns
    numbers[pipeline.CORELETS], numbers[pipeline.LANES] = array.corelets, machine.post.lanes
    numbers[pipeline.MACS8], numbers[pipeline.MACS16] = array.macs_8bit, array.macs_16bit
    numbers[pipeline.BANDWIDTH], numbers[pipeline.LATENCY] = memory.bytes_per_cycle, memory.latency
    return numbers


def _slowest(segment: Segment, results: NDArray[np.int64], machine: Machine) -> LayerTime:
    """A segment's time: the parts of the core that takes longest, the traffic of all."""
    cycles = results[:, : len(Parts._fields)].sum(axis=1)
    longest = results[int(np.argmax(cycles))]
    places = (getattr(pipeline, name.upper()) for name in Parts._fields)
    return LayerTime(
        segment.name, segment.phase, segment.shape,
        Parts(*(int(longest[place]) for place in places)),
        int(results[:, pipeline.BYTES_IN].sum()), int(results[:, pipeline.BYTES_OUT].sum()),
        segment.compulsory, segment.operand_bits, int(results[:, pipeline.EXECUTED].sum()),
    )  # fmt: skip
