"""Workloads: operand matrices, readers and writers of files, shipped networks.

Nothing here depends on formats, machines or profiles: workloads are shapes and float32 tensors.
"""

from collections.abc import Callable
from typing import Any

from hfp8sim.errors import InputError
from hfp8sim.network.records import (
    KINDS,
    PHASES,
    TENSORS,
    Conv,
    GemmShape,
    Layer,
    Workload,
    same_padding,
)
from hfp8sim.workloads.catalog import load_workload, workloads
from hfp8sim.workloads.operands import MAX_ELEMENTS, Operands, distribution, operands, unfold
from hfp8sim.workloads.readers.conv_csv import load_conv_csv
from hfp8sim.workloads.readers.gemm_csv import load_gemm_csv
from hfp8sim.workloads.readers.onnx import load_onnx
from hfp8sim.workloads.readers.problems import load_problem
from hfp8sim.workloads.readers.table import load_csv
from hfp8sim.workloads.readers.trace import load_trace, save_trace
from hfp8sim.workloads.writers import save_conv_csv, save_gemm_csv, save_workload

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
    "capture",
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
    "save_conv_csv",
    "save_gemm_csv",
    "save_trace",
    "save_workload",
    "unfold",
    "workloads",
]


def capture(
    model: Any,
    batch: Any,
    loss: Callable[[Any], Any] | None = None,
    name: str = "captured",
) -> Workload:
    """One training step of a PyTorch model as a workload with all its tensors.

    Records the operands of the forward pass, the input gradients and the weight gradients of every
    linear layer, convolution, attention product and recurrent cell.

    Args:
        model: a `torch.nn.Module`; it runs once, in its present mode. Parameters and their `.grad` do not
            change; buffers, such as running means, change as in any forward pass.
        batch: the model's argument: a tensor, a tuple of arguments, or a dict of named arguments.
        loss: maps the model's result to a tensor of one number; None captures the forward pass only.
        name: the workload's name.

    Raises `InputError` if torch is not installed, for a loss that is no number, and for a value that is not finite.
    """
    try:
        from hfp8sim.workloads.readers import torch_capture as pytorch
    except ImportError:
        raise InputError('capture needs an extra: pip install "hfp8sim[torch]"') from None
    return pytorch.run(model, batch, loss, name)
