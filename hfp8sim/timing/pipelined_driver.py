"""Drives the compiled `pipelined` model: a program on every core, its layers' times and its timeline."""
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfp8sim._numba.layouts import record
from hfp8sim.isa import LINE, Program
from hfp8sim.isa.segments import Segment, segments
from hfp8sim.isa.table import UNITS
from hfp8sim.machine.check import refuse
from hfp8sim.machine.config import Machine
from hfp8sim.machine.loops import start
from hfp8sim.machine.state import FAULT, RESOLVED, fault_text
from hfp8sim.timing import pipelined
from hfp8sim.timing.parts import LayerTime, Parts
from hfp8sim.timing.pipeline import MODEL, PARTS, PIPELINE, SEGMENT, TIMELINE_SPAN

_NO_SPANS = np.zeros(0, TIMELINE_SPAN)


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
        if segment.works or results["bytes_in"][:, number].any()
    )


def list_spans(program: Program, machine: Machine) -> list[Span]:
    """Every instruction of a program that takes time, by core, in order of execution."""
    stretches = segments(program)
    results, counts = _run(program, machine, stretches, _NO_SPANS)
    lengths = _cycles(results).max(axis=0)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    spans: list[Span] = []
    for core, count in enumerate(counts):
        rows = np.zeros(count, TIMELINE_SPAN)
        _run(program, machine, stretches, rows, only=core)
        for unit, first, last, index, number, size, *tile in rows.tolist():
            layer = stretches[number]
            begin = int(offsets[number])
            label = f"{layer.name} {layer.phase}".strip()
            spans.append(
                Span(
                    core, UNITS[unit], begin + first, begin + last, index, label, size,
                    tuple(number for each in tile for number in each),
                )
            )  # fmt: skip
    return spans


def _run(
    program: Program, machine: Machine, stretches: tuple[Segment, ...], spans: NDArray[Any],
    only: int | None = None,
) -> tuple[NDArray[Any], list[int]]:  # fmt: skip
    """`SEGMENT` records (cores, segments) and executed instructions of every core."""
    words, size = program.words.astype(np.int64), program.dram_lines * LINE
    active = np.array([min(segment.cores, machine.cores) for segment in stretches], np.int64)
    numbers = model_numbers(machine)
    cores = int(active.max(initial=1))
    results = np.zeros((cores, len(stretches)), SEGMENT)
    counts = []
    for core in range(cores) if only is None else (only,):
        state, regs, boxes = start(words, core, machine.cores, machine.array.columns, size)
        fault, index, count = pipelined.run(
            words,
            state,
            regs,
            boxes,
            record(RESOLVED),
            record(PIPELINE),
            numbers,
            active,
            results[core],
            spans,
        )
        if fault != FAULT.none:
            raise refuse(program, int(index), fault_text(fault))
        counts.append(int(count))
    # A core beyond those that a stretch has work for does nothing in it.
    for number, busy in enumerate(active):
        results[busy:, number] = np.zeros(1, SEGMENT)
    return results, counts


def model_numbers(machine: Machine) -> Any:
    """The machine as the pipelined model sees it, a `MODEL` record."""
    array, memory, model = machine.array, machine.memory, record(MODEL)
    model.rows, model.columns, model.corelets = array.rows, array.columns, array.corelets
    model.macs_8bit, model.macs_16bit = array.macs_8bit, array.macs_16bit
    model.post_lanes = machine.post.lanes
    model.bytes_per_cycle, model.latency = memory.bytes_per_cycle, memory.latency
    return model


def _cycles(results: NDArray[Any]) -> NDArray[np.int64]:
    """All cycles of segments."""
    parts = results["parts"]
    return sum((parts[name] for name in PARTS.names or ()), np.zeros(results.shape, np.int64))


def _slowest(segment: Segment, results: NDArray[Any], machine: Machine) -> LayerTime:
    """A segment's time: the parts of the core that takes longest, the traffic of all."""
    longest = results[int(np.argmax(_cycles(results)))]
    return LayerTime(
        segment.name, segment.phase, segment.shape,
        Parts(*longest["parts"].item()),
        int(results["bytes_in"].sum()), int(results["bytes_out"].sum()),
        segment.compulsory, segment.operand_bits, int(results["executed"].sum()),
    )  # fmt: skip
