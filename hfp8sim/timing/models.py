"""The registry of time models, and the two functions of every model: the time of a program, and of a GEMM.

A time model is one `TimeModel` in `MODELS`. To add one, write a function and register it:

    def roofline(shape: GemmShape, machine: Machine, operand_bits: int, compulsory: int) -> Parts:
        compute = ceil(shape.macs / machine.macs_per_cycle(operand_bits))
        transfer = ceil(compulsory / machine.memory.bytes_per_cycle)
        return Parts(compute=compute, stall_in=max(0, transfer - compute))

    register(TimeModel("roofline", "the longer of computing and moving", closed_form=roofline))

From then on `simulate(..., time_model="roofline")`, `time_layer`, `time_program`, the command line and
every report take it. A model that ships with the package is a row of `_SHIPPED` instead. Its name is also
listed in `hfp8sim.machine.TIME_MODELS`, so that a machine's file may choose it as its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from hfp8sim.errors import InputError, unknown
from hfp8sim.isa import Program
from hfp8sim.isa.segments import Segment, segments
from hfp8sim.lowering.splits import Split
from hfp8sim.machine.catalog import get_machine
from hfp8sim.machine.check import check
from hfp8sim.machine.config import TIME_MODELS, Machine
from hfp8sim.network import GemmShape
from hfp8sim.timing import multicast, pipelined_driver, scalesim
from hfp8sim.timing.parts import LayerTime, Parts, Timing
from hfp8sim.timing.pipelined_driver import Span

#: (shape, machine, bits of the wider operand, bytes of the tensors) → where the cycles go.
ClosedForm = Callable[[GemmShape, Machine, int, int], Parts]

#: (shape, machine, bits of the wider operand, bytes of the tensors, split) → where the cycles go.
SplitForm = Callable[[GemmShape, Machine, int, int, Split], Parts]

#: (program that passes `check`, machine) → the time of each segment that multiplies or moves anything.
ProgramTimer = Callable[[Program, Machine], tuple[LayerTime, ...]]

#: (program that passes `check`, machine) → when each unit works on each instruction.
Timeline = Callable[[Program, Machine], list[Span]]


@dataclasses.dataclass(frozen=True)
class TimeModel:
    """A function that gives the cycles of a layer, from its GEMM alone or from its program's instructions."""

    name: str
    summary: str  #: one line for tables and help texts
    closed_form: ClosedForm | None = None  #: exactly one of these two is given
    program_timer: ProgramTimer | None = None
    timeline: Timeline | None = None  #: None: the model reads no instructions
    knows_memory: bool = False  #: whether bandwidth and latency of DRAM change its cycles
    split_form: SplitForm | None = None  #: the closed form with a given split over the cores

    def __post_init__(self) -> None:
        if (self.closed_form is None) == (self.program_timer is None):
            raise InputError(
                f"time model {self.name!r} needs either closed_form or program_timer, and not both"
            )

    @property
    def needs_program(self) -> bool:
        """Whether a layer must be lowered before the model can time it."""
        return self.program_timer is not None

    @property
    def has_timeline(self) -> bool:
        """Whether the model gives the cycles in which each instruction runs."""
        return self.timeline is not None

    def time_program(self, program: Program, machine: Machine) -> Timing:
        """The time of a program that passes `check`, layer by layer."""
        if self.program_timer is not None:
            return Timing(self.name, machine, self.program_timer(program, machine))
        layers = [
            dataclasses.replace(
                self._time_segment(segment, machine), name=segment.name, phase=segment.phase
            )
            for segment in segments(program)
            if segment.works
        ]
        return Timing(self.name, machine, tuple(layers))

    def _time_segment(self, segment: Segment, machine: Machine) -> LayerTime:
        """The time of a segment's GEMM, with the split of its grid where the model knows splits."""
        shape, bits, compulsory = segment.shape, segment.operand_bits, segment.compulsory
        if self.split_form is None or not any(segment.grid):
            return self.time_gemm(shape, machine, bits, compulsory)
        split = Split(*(max(size, 1) for size in segment.grid))
        parts = self.split_form(shape, machine, bits, compulsory, split)
        return _closed_time(shape, parts, bits, compulsory)

    def time_gemm(
        self, shape: GemmShape, machine: Machine, operand_bits: int, compulsory: int
    ) -> LayerTime:
        """The time of a GEMM that moves `compulsory` bytes; `InputError` if the model needs a program."""
        if self.closed_form is None:
            raise InputError(f"{self.name!r} has no closed form; {_names_with_closed_form()} have")
        parts = self.closed_form(shape, machine, operand_bits, compulsory)
        return _closed_time(shape, parts, operand_bits, compulsory)


def _closed_time(shape: GemmShape, parts: Parts, operand_bits: int, compulsory: int) -> LayerTime:
    """The time of a GEMM under a closed form: each tensor moves once."""
    return LayerTime("", "", shape, parts, compulsory, 0, compulsory, operand_bits, 0)


_SHIPPED = (
    TimeModel(
        "pipelined",
        "the instruction stream through units that work at the same time",
        program_timer=pipelined_driver.time_segments,
        timeline=pipelined_driver.list_spans,
        knows_memory=True,
    ),
    *(
        TimeModel(name, dataflow.summary, closed_form=dataflow.closed_form)
        for name, dataflow in scalesim.DATAFLOWS.items()
    ),
    TimeModel(
        "multicast",
        "cores that cut M, N and K and share operands over a ring, in closed form",
        closed_form=multicast.closed_form,
        knows_memory=True,
        split_form=multicast.time_split,
    ),
)

#: Every time model by its name.
MODELS: dict[str, TimeModel] = {model.name: model for model in _SHIPPED}


def register(model: TimeModel) -> None:
    """Add a time model; `InputError` if the name is already in use."""
    if model.name in MODELS:
        raise InputError(f"there is a time model {model.name!r} already; choose another name")
    MODELS[model.name] = model


def get_model(name: str) -> TimeModel:
    """The time model of a name; `InputError` for an unknown one."""
    if name not in MODELS:
        raise unknown("time model", name, list(MODELS))
    return MODELS[name]


def check_timeline(name: str) -> None:
    """`InputError` for an unknown time model, or one that reads no instructions."""
    if not get_model(name).has_timeline:
        others = " or ".join(other for other, model in MODELS.items() if model.has_timeline)
        raise InputError(f"time model {name} has no timeline; use {others}")


def knows_memory(name: str) -> bool:
    """Whether memory changes the cycles of a model; False for a model that is not registered here."""
    return name in MODELS and MODELS[name].knows_memory


def time_program(
    program: Program, machine: str | Machine = "rapid-core", model: str | None = None
) -> Timing:
    """The time of a program, layer by layer. A layer reaches from fence to fence and does some work.

    Args:
        model: a name in `MODELS`; the machine's own by default.

    Raises:
        InputError: an unknown machine or model, or a program that `check` refuses.
    """
    machine = get_machine(machine)
    chosen = get_model(model or machine.time_model)
    check(program, machine)
    return chosen.time_program(program, machine)


def time_gemm(
    shape: GemmShape, machine: str | Machine, model: str, operand_bits: int = 8, compulsory: int = 0
) -> LayerTime:
    """The time of a GEMM under a model with a closed form.

    Args:
        operand_bits: of the wider operand's format.
        compulsory: bytes of the operands and the result; they become the traffic.

    Raises:
        InputError: an unknown machine or model, or a model that needs a program.
    """
    return get_model(model).time_gemm(shape, get_machine(machine), operand_bits, compulsory)


def timeline(
    program: Program, machine: str | Machine = "rapid-core", model: str = TIME_MODELS[0]
) -> list[Span]:
    """Every instruction that takes time, by core and unit, in order of execution.

    Raises:
        InputError: an unknown machine or model, a model without a timeline, or a program that `check`
            refuses.
    """
    machine = get_machine(machine)
    check_timeline(model)
    check(program, machine)
    list_spans = get_model(model).timeline
    assert list_spans is not None
    return list_spans(program, machine)


def _names_with_closed_form() -> str:
    return ", ".join(name for name, model in MODELS.items() if not model.needs_program)
