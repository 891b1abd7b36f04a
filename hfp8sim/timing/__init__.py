"""How long a program or a layer takes, by any time model. Time depends on shapes, formats and the machine alone."""

from hfp8sim.timing.layers import time_layer
from hfp8sim.timing.models import (
    MODELS,
    TimeModel,
    check_timeline,
    get_model,
    register,
    time_gemm,
    time_program,
    timeline,
)
from hfp8sim.timing.parts import LayerTime, Parts, Timing
from hfp8sim.timing.pipelined_driver import Span

__all__ = [
    "MODELS",
    "LayerTime",
    "Parts",
    "Span",
    "TimeModel",
    "Timing",
    "check_timeline",
    "get_model",
    "register",
    "time_gemm",
    "time_layer",
    "time_program",
    "timeline",
]
