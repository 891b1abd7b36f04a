"""Networks: layers, their shapes, the matrix products of their three phases, and their random streams.

This package knows nothing of formats, profiles or machines.
"""

from hfp8sim.network.phases import Image, OperandView, PhaseGemm, phase_gemm
from hfp8sim.network.records import (
    KINDS,
    PHASES,
    TENSORS,
    Conv,
    GemmShape,
    Layer,
    Scaling,
    Workload,
    check_phase,
    check_phases,
    same_padding,
)
from hfp8sim.network.streams import phase_stream

__all__ = [
    "KINDS",
    "PHASES",
    "TENSORS",
    "Conv",
    "GemmShape",
    "Image",
    "Layer",
    "OperandView",
    "PhaseGemm",
    "Scaling",
    "Workload",
    "check_phase",
    "check_phases",
    "phase_gemm",
    "phase_stream",
    "same_padding",
]
