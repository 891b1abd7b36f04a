"""How long a program takes, by any time model: a pure function of the program and the machine."""

from hfp8sim.timing.models import Span, time_gemm, time_program, timeline
from hfp8sim.timing.parts import LayerTime, Parts, Timing

__all__ = ["LayerTime", "Parts", "Span", "Timing", "time_gemm", "time_program", "timeline"]
