"""What a network is made of: layers, their shapes, and the matrix products of their three phases.

This room knows nothing of formats, profiles or machines.
"""

from hfp8sim.network.records import (
    KINDS,
    PHASES,
    TENSORS,
    Conv,
    GemmShape,
    Layer,
    Workload,
    check_phases,
    same_padding,
)

__all__ = [
    "KINDS",
    "PHASES",
    "TENSORS",
    "Conv",
    "GemmShape",
    "Layer",
    "Workload",
    "check_phases",
    "same_padding",
]
