"""How long a program takes, by any time model. A pure function of the stream and the machine."""
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from hfp8sim.errors import unknown
from hfp8sim.isa import LINE, Program
from hfp8sim.isa.segments import Segment, segments
from hfp8sim.machine import sequencer as q
from hfp8sim.machine.check import check, refuse
from hfp8sim.machine.config import TIME_MODELS, Machine, get_machine
from hfp8sim.network.gemm_shape import GemmShape
from hfp8sim.timing import pipelined as pipeline
from hfp8sim.timing import scalesim
from hfp8sim.timing.parts import LayerTime, Parts, Timing

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


def check_model(name: str) -> str:
    """The name of a time model; `InputError` for an unknown one."""
    if name not in TIME_MODELS:
        raise unknown("time model", name, TIME_MODELS)
    return name


def time_program(
    program: Program, machine: str | Machine = "rapid-core", model: str | None = None
) -> Timing:
    """The time of a program, layer by layer (from fence to fence; a stretch without work is left out).

    Args:
        model: one of `TIME_MODELS`; the machine's own by default.

    Raises:
        InputError: an unknown machine or model, or a program that `check` refuses.
    """
    machine = get_machine(machine)
    model = check_model(model or machine.time_model)
    check(program, machine)
    return time_sound(program, machine, model)


def time_sound(program: Program, machine: Machine, model: str) -> Timing:
    """`time_program` of a program that is known to pass `check`, such as a lowered one."""
    stretches = segments(program)
    if model != "pipelined":
        layers = [_closed_form(segment, machine, model) for segment in stretches if segment.works]
        return Timing(model, machine, tuple(layers))
    results, _ = _run(program, machine, stretches, _NO_SPANS)
    layers = [
        _slowest(segment, results[:, number], machine)
        for number, segment in enumerate(stretches)
        if segment.works or results[:, number, pipeline.BYTES_IN].any()
    ]
    return Timing(model, machine, tuple(layers))


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


def _closed_form(segment: Segment, machine: Machine, model: str) -> LayerTime:
    time = time_gemm(segment.shape, machine, model, segment.operand_bits, segment.compulsory)
    return dataclasses.replace(time, name=segment.name, phase=segment.phase)


def time_gemm(
    shape: GemmShape, machine: str | Machine, model: str, operand_bits: int = 8, compulsory: int = 0
) -> LayerTime:
    """The time of a GEMM under a `scalesim-*` model: a closed form, without traffic of its own."""
    machine = get_machine(machine)
    rows, columns = scalesim.array_size(machine, operand_bits)
    parts = scalesim.fold_serial(scalesim.share(shape, machine.cores), model, rows, columns)
    return LayerTime("", "", shape, parts, compulsory, 0, compulsory, operand_bits, 0)
