"""Drives the compiled `pipelined` model: a program on every core, its layers' times and its timeline."""
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfp8sim._numba.interpreted import interpreted
from hfp8sim._numba.layouts import record
from hfp8sim.isa import LINE, Program
from hfp8sim.isa.segments import Segment, segments
from hfp8sim.isa.table import LOW, MASK, OP, OPCODE_LOW, UNITS
from hfp8sim.machine.check import INTERPRETED, refuse
from hfp8sim.machine.config import Machine
from hfp8sim.machine.loops import start
from hfp8sim.machine.state import FAULT, RESOLVED, fault_text
from hfp8sim.timing import pipelined
from hfp8sim.timing.parts import LayerTime, Parts
from hfp8sim.timing.pipeline import MODEL, PARTS, PIPELINE, SEGMENT, TIMELINE_SPAN
from hfp8sim.timing.steady import no_steady_tables, steady_tables

_NO_SPANS = np.zeros(0, TIMELINE_SPAN)
#: Whether whole periods of loops are skipped. It changes no result.
SKIPPING = True


@dataclasses.dataclass(frozen=True)
class Span:
    """One instruction in the timeline: when a unit works on it, in cycles since the program's start."""

    core: int
    unit: str  #: one of `isa.table.UNITS`
    start: int
    end: int
    index: int  #: of the instruction's word
    layer: str  #: name and phase
    bytes: int  #: that it moves, or that POST writes
    tile: tuple[int, ...]  #: first and count of the groups, of m, n and k


def time_segments(program: Program, machine: Machine) -> tuple[LayerTime, ...]:
    """The time of every segment of a program that passes `check`, if it multiplies or moves anything."""
    results, _ = _run(program, machine, _NO_SPANS)
    return tuple(
        _layer_time(segment, results[:, number])
        for number, segment in enumerate(segments(program))
        if segment.works or results["bytes_in"][:, number].any()
    )


def list_spans(program: Program, machine: Machine) -> list[Span]:
    """Every instruction of a program that takes time, by core, in order of execution."""
    results, counts = _run(program, machine, _NO_SPANS)
    segment_cycles = _cycles(results).max(axis=0)
    starts = np.concatenate([[0], np.cumsum(segment_cycles)]).tolist()
    spans: list[Span] = []
    for core, count in enumerate(counts):
        rows = np.zeros(count, TIMELINE_SPAN)
        _run(program, machine, rows, only=core)
        for unit, first, last, index, number, size, *tile in rows.tolist():
            segment, offset = segments(program)[number], starts[number]
            spans.append(
                Span(
                    core=core,
                    unit=UNITS[unit],
                    start=offset + first,
                    end=offset + last,
                    index=index,
                    layer=f"{segment.name} {segment.phase}".strip(),
                    bytes=size,
                    tile=tuple(bound for dimension in tile for bound in dimension),
                )
            )
    return spans


def _run(
    program: Program, machine: Machine, spans: NDArray[Any], only: int | None = None
) -> tuple[NDArray[Any], list[int]]:
    """Run the compiled model on every core, or on `only` one.

    Args:
        spans: `TIMELINE_SPAN` records, filled with the first instructions of the core.

    Returns:
        `SEGMENT` records (cores, segments), and the number of timeline spans of each core.
    """
    active = np.array([min(each.cores, machine.cores) for each in segments(program)], np.int64)
    cores = int(active.max(initial=1))
    results = np.zeros((cores, len(active)), SEGMENT)
    counts = []
    for core in range(cores) if only is None else (only,):
        skipping = SKIPPING and spans.size == 0 and machine.ring.turnaround == 0
        fault, index, count = _run_core(
            program, machine, core, active, results[core], spans, skipping
        )
        if (
            fault != FAULT.none and skipping
        ):  # To name the first instruction that fails, execute all.
            fault, index, count = _run_core(
                program, machine, core, active, results[core], spans, False
            )
        if fault != FAULT.none:
            raise refuse(program, index, fault_text(fault))
        counts.append(count)
    # A core beyond the active ones of a segment does nothing in it.
    for number, busy_cores in enumerate(active):
        results[busy_cores:, number] = np.zeros(1, SEGMENT)
    return results, counts


def _run_core(
    program: Program,
    machine: Machine,
    core: int,
    active: NDArray[np.int64],
    results: NDArray[Any],
    spans: NDArray[Any],
    skipping: bool,
) -> tuple[int, int, int]:
    """Run the compiled model on one core.

    Args:
        active: cores that share the channel, for each segment.
        results: `SEGMENT` records (segments,), filled.
        skipping: whether whole periods of loops are skipped (`steady`).

    Returns:
        As `pipelined.run`.
    """
    words, size = program.words.astype(np.int64), program.dram_lines * LINE
    state, regs, boxes = start(words, core, machine.cores, machine.array.columns, size)
    pipe, model = record(PIPELINE), _model_record(machine)
    pipe.number = core
    arguments: tuple[Any, ...] = (
        words, state, regs, boxes, record(RESOLVED), pipe, model, active, results, spans,
        no_steady_tables(),
    )  # fmt: skip
    instructions = _count_instructions(words)
    if instructions <= INTERPRETED.left(pipelined.run, *arguments):
        INTERPRETED.spend(instructions)
        return interpreted(pipelined.run)(*arguments)  # type: ignore[no-any-return]
    if skipping:
        arguments = (*arguments[:-1], steady_tables(state, boxes, pipe, results))
    fault, index, count = pipelined.run(*arguments)
    return int(fault), int(index), int(count)


def _count_instructions(words: NDArray[np.int64]) -> int:
    """Instructions that one core executes if it is alone."""
    total, factors, stops = 0, [1], [words.size]
    for index, word in enumerate(words.tolist()):
        while index == stops[-1]:
            factors.pop()
            stops.pop()
        total += factors[-1]
        if word >> OPCODE_LOW == OP.loop:
            factors.append(factors[-1] * (word & MASK.count))
            stops.append(index + 1 + (word >> LOW.body & MASK.body))
    return total


def _model_record(machine: Machine) -> Any:
    """The machine as a `MODEL` record."""
    array, memory, model = machine.array, machine.memory, record(MODEL)
    model.rows, model.columns, model.corelets = array.rows, array.columns, array.corelets
    model.macs_8bit, model.macs_16bit = array.macs_8bit, array.macs_16bit
    model.post_lanes = machine.post.lanes
    model.bytes_per_cycle, model.latency = memory.bytes_per_cycle, memory.latency
    model.ring_bytes_per_cycle = machine.ring.bytes_per_cycle
    model.refresh_ns, model.refresh_interval_ns = memory.refresh_ns, memory.refresh_interval_ns
    model.cores, model.receivers = machine.cores, machine.ring.receivers
    model.turnaround = machine.ring.turnaround
    return model


def _cycles(results: NDArray[Any]) -> NDArray[np.int64]:
    """All cycles of segments: the sum of their parts."""
    parts = results["parts"]
    return sum((parts[name] for name in PARTS.names or ()), np.zeros(results.shape, np.int64))


def _layer_time(segment: Segment, results: NDArray[Any]) -> LayerTime:
    """A segment's time from its `SEGMENT` records (cores,): cycles of the slowest core, traffic of all."""
    slowest = results[int(np.argmax(_cycles(results)))]
    return LayerTime(
        name=segment.name,
        phase=segment.phase,
        shape=segment.shape,
        parts=Parts(*slowest["parts"].item()),
        bytes_in=int(results["bytes_in"].sum()),
        bytes_out=int(results["bytes_out"].sum()),
        compulsory=segment.compulsory,
        operand_bits=segment.operand_bits,
        instructions=int(results["executed"].sum()),
    )
