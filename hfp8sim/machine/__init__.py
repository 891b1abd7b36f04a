"""The machine: its configuration, its executor, and how long it takes. See docs/machine.md."""

from hfp8sim.machine.check import check
from hfp8sim.machine.config import TIME_MODELS, Machine, get_machine, machines
from hfp8sim.machine.executor import Execution, execute
from hfp8sim.machine.parts import LayerTime, Parts, Timing
from hfp8sim.machine.shapes import GemmShape
from hfp8sim.machine.timing import Span, time_gemm, time_program, timeline

__all__ = [
    "TIME_MODELS",
    "Execution",
    "GemmShape",
    "LayerTime",
    "Machine",
    "Parts",
    "Span",
    "Timing",
    "check",
    "execute",
    "get_machine",
    "machines",
    "time_gemm",
    "time_program",
    "timeline",
]
