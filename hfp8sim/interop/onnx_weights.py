"""Weights of an ONNX model as codes: a DequantizeLinear where ONNX has the type, else a table of values.

Both are standard ONNX. Every runtime that implements them computes with exactly the numbers that the codes mean.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hfp8sim.errors import InputError, one_line
from hfp8sim.files import write_whole
from hfp8sim.formats import FloatFormat, get_format
from hfp8sim.ops import Operand

#: ONNX's types for weights, by format.
TYPES = {
    "e4m3fn": "FLOAT8E4M3FN", "e4m3fnuz": "FLOAT8E4M3FNUZ",
    "e5m2": "FLOAT8E5M2", "e5m2fnuz": "FLOAT8E5M2FNUZ",
}  # fmt: skip
#: The first version of the operator set, and of the file's layout, with DequantizeLinear of these types.
_OPSET, _IR = 19, 9
#: Operators that multiply by a weight.
_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def quantise_onnx(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    fmt: str | FloatFormat | Any = "e4m3fn",
    *,
    rounding: str = "nearest-even",
    scaled: bool = True,
) -> dict[str, Operand]:
    """Write a model whose weights are codes of a format.

    A weight is a stored float tensor of two or more axes that a Conv, ConvTranspose, Gemm or MatMul multiplies by. It
    becomes a tensor of codes, and a node that makes numbers of them again, under the weight's name:

    - formats e4m3fn, e5m2, e4m3fnuz, e5m2fnuz: DequantizeLinear with the scale 2^exponent (opset 19; an older model is
      converted);
    - others: Gather from a table of the values of all codes, the scale included. The model's metadata names the format.

    Args:
        source, target: `.onnx` files; target is written whole or not at all, without external data.
        fmt: a format of at most 8 bits: its name, its record, or a dtype.
        rounding: a mode of `hs.convert` that takes no random bits.
        scaled: whether each weight has the smallest scale 2^exponent at which none of its elements saturates, and at
            which its dtype, float32 or float16, holds the value of every code below that.

    Returns:
        The weights as operands, by name.

    Raises:
        InputError: onnx is not installed, a file that is no model or cannot be converted, a model without weights, a
            format of more than 8 bits.
    """
    onnx = _import_onnx()
    record = get_format(fmt)
    if record.bits > 8:
        raise InputError(f"{record.name} has {record.bits} bits; weights have at most 8")
    try:
        model = onnx.load(str(source))
    except Exception as error:  # whatever protobuf and the system raise
        raise InputError(f"{source}: not an ONNX model: {one_line(error)}") from None
    typed = record.name in TYPES
    if typed:
        model = _with_opset(onnx, model, source)
    weights: dict[str, Operand] = {}
    nodes: list[Any] = []
    graph = model.graph
    for tensor in list(_weights(onnx, graph)):
        values = onnx.numpy_helper.to_array(tensor)
        exponent = max(_exponent(values, record), _lowest(values, record)) if scaled else 0
        operand = Operand.encode(values, record, rounding=rounding, exponent=exponent)
        weights[tensor.name] = operand
        write = _dequantized if typed else _looked_up
        nodes += write(onnx, graph, tensor, operand)
        _remove(graph, tensor.name)
    if not weights:
        raise InputError(
            f"{source}: no stored weight of {', '.join(_PRODUCTS)}; nothing to quantise"
        )
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *rest])
    onnx.helper.set_model_props(
        model, {p.key: p.value for p in model.metadata_props} | {"hfp8sim.weights": record.name}
    )
    write_whole(Path(target), lambda file: file.write(model.SerializeToString()), binary=True)
    return weights


def _import_onnx() -> Any:
    try:
        import onnx
        import onnx.version_converter
    except ImportError:
        raise InputError('writing ONNX needs an extra: pip install "hfp8sim[onnx]"') from None
    return onnx


def _with_opset(onnx: Any, model: Any, source: object) -> Any:
    """The model in an operator set that has DequantizeLinear of 8-bit floats."""
    version = max((x.version for x in model.opset_import if x.domain in ("", "ai.onnx")), default=1)
    if version < _OPSET:
        try:
            model = onnx.version_converter.convert_version(model, _OPSET)
        except Exception as error:  # operators that the converter does not know
            raise InputError(
                f"{source}: has opset {version}, and cannot be converted to {_OPSET}: {one_line(error)}"
            ) from None
    model.ir_version = max(model.ir_version, _IR)
    return model


def _weights(onnx: Any, graph: Any) -> Iterator[Any]:
    """The stored tensors that products multiply by."""
    used = {name for node in graph.node if node.op_type in _PRODUCTS for name in node.input[:2]}
    kinds = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    for tensor in graph.initializer:
        if tensor.name in used and tensor.data_type in kinds and len(tensor.dims) > 1:
            yield tensor


def _exponent(values: np.ndarray, fmt: FloatFormat) -> int:
    """The smallest e with max|w| ≤ largest · 2^e; 0 for zeros."""
    largest = float(np.max(np.abs(values), initial=0))
    if not largest or not math.isfinite(largest):
        return 0
    exponent = math.frexp(largest / fmt.max)[1]
    return exponent - 1 if largest <= math.ldexp(fmt.max, exponent - 1) else exponent


def _lowest(values: np.ndarray, fmt: FloatFormat) -> int:
    """The smallest e at which all numbers of a format, times 2^e, are multiples of the dtype's smallest number."""
    smallest = math.frexp(float(np.finfo(values.dtype).smallest_subnormal))[1] - 1
    return smallest - fmt.facts.min_exp


def _dequantized(onnx: Any, graph: Any, tensor: Any, operand: Operand) -> list[Any]:
    """Codes and a scale, with the node that multiplies them."""
    name, kind = tensor.name, getattr(onnx.TensorProto, TYPES[operand.format.name])
    codes = onnx.TensorProto(name=f"{name}_codes", data_type=kind, dims=operand.shape)
    codes.raw_data = np.ascontiguousarray(operand.codes).tobytes()
    scale = np.array(2.0**operand.exponent, onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    graph.initializer.append(codes)
    graph.initializer.append(onnx.numpy_helper.from_array(scale, f"{name}_scale"))
    inputs = [f"{name}_codes", f"{name}_scale"]
    return [onnx.helper.make_node("DequantizeLinear", inputs, [name], f"{name}_dequantize")]


def _looked_up(onnx: Any, graph: Any, tensor: Any, operand: Operand) -> list[Any]:
    """Codes and a table of all values, with the nodes that look each code up."""
    name = tensor.name
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    table = np.ldexp(operand.format.table(), operand.exponent).astype(dtype)
    for suffix, array in (("codes", np.ascontiguousarray(operand.codes)), ("values", table)):
        graph.initializer.append(onnx.numpy_helper.from_array(array, f"{name}_{suffix}"))
    make = onnx.helper.make_node
    return [
        make(
            "Cast", [f"{name}_codes"], [f"{name}_index"], f"{name}_cast", to=onnx.TensorProto.INT32
        ),
        make("Gather", [f"{name}_values", f"{name}_index"], [name], f"{name}_look_up"),
    ]


def _remove(graph: Any, name: str) -> None:
    """Take a tensor out of the stored ones, and out of the inputs, where old models list them too."""
    for field in (graph.initializer, graph.input):
        for i in reversed([i for i, item in enumerate(field) if item.name == name]):
            del field[i]
