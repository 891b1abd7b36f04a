"""Workloads: what the emulator runs. Layer records, operand matrices, readers, shipped networks.

This room knows nothing of formats, machines or profiles: everything in it is float32 and shapes.
"""

from hfp8sim.workloads.catalog import load_csv, load_workload, workloads
from hfp8sim.workloads.conv_csv import load_conv_csv
from hfp8sim.workloads.gemm_csv import load_gemm_csv
from hfp8sim.workloads.onnx_reader import load_onnx
from hfp8sim.workloads.operands import MAX_ELEMENTS, Operands, distribution, operands, unfold
from hfp8sim.workloads.problems import load_problem
from hfp8sim.workloads.records import (
    KINDS,
    PHASES,
    TENSORS,
    Conv,
    GemmShape,
    Layer,
    Workload,
    same_padding,
)
from hfp8sim.workloads.trace import load_trace, save_trace

__all__ = [
    "KINDS",
    "MAX_ELEMENTS",
    "PHASES",
    "TENSORS",
    "Conv",
    "GemmShape",
    "Layer",
    "Operands",
    "Workload",
    "distribution",
    "load_conv_csv",
    "load_csv",
    "load_gemm_csv",
    "load_onnx",
    "load_problem",
    "load_trace",
    "load_workload",
    "operands",
    "same_padding",
    "save_trace",
    "unfold",
    "workloads",
]
