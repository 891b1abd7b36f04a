"""An ONNX file, read and completed: external weights, free dimensions, shapes of all values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hfp8sim.errors import InputError, one_line, unknown
from hfp8sim.network.records import MAX_SIZE


def import_onnx() -> Any:
    """The package `onnx`; `InputError` where it is not installed."""
    try:
        import onnx
        import onnx.reference
        import onnx.shape_inference
    except ImportError:
        raise InputError('reading ONNX needs an extra: pip install "hfp8sim[onnx]"') from None
    return onnx


def load_model(onnx: Any, source: Path) -> Any:
    """The model in the file, without external weights; `InputError` if it is none or damaged."""
    try:
        model = onnx.load(str(source), load_external_data=False)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}") from None
    except Exception as error:  # protobuf's own, which differ between its implementations
        raise InputError(f"no ONNX model, or torn: {one_line(error)}") from None
    if not model.HasField("graph") or not model.graph.node:
        raise InputError("no ONNX model, or one without a node")
    if not all(isinstance(name, str) for name in _names_in(model.graph)):
        raise InputError("torn: a name in it is no text")  # protobuf gives invalid UTF-8 as bytes
    return model


def _names_in(graph: Any) -> Iterator[Any]:
    """Every name that the reader uses."""
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
    for entry in (*graph.input, *graph.output):
        yield entry.name
        yield from (dim.dim_param for dim in entry.type.tensor_type.shape.dim)
    yield from (tensor.name for tensor in graph.initializer)


def prepare_model(
    onnx: Any,
    model: Any,
    folder: Path,
    batch: int | None,
    dims: dict[str, int],
    arrays: Mapping[str, np.ndarray],
) -> list[str]:
    """Complete the model in place; returns warnings on what could not be completed.

    Loads external weights from `folder`, fixes the free dimensions, inlines functions and infers the
    shapes of all values. Raises `InputError` for a dimension that stays free.
    """
    warnings: list[str] = []
    external = [t for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    if external:
        try:
            onnx.external_data_helper.load_external_data_for_model(model, str(folder))
        except Exception as error:  # missing, short or unreadable: the shapes are known without it
            warnings.append(f"external weights not read: {one_line(error)}")
    _fix_dimensions(model, batch, dims, arrays)
    try:
        if model.functions:
            import onnx.inliner

            model.CopyFrom(onnx.inliner.inline_local_functions(model))
        # Intermediate shapes in the file may be those of another batch.
        del model.graph.value_info[:]
        model.CopyFrom(onnx.shape_inference.infer_shapes(model, data_prop=True))
    except Exception as error:  # several types, some raised from C++
        warnings.append(f"shape inference stopped: {one_line(error)}")
    return warnings


def _fix_dimensions(
    model: Any, batch: int | None, dims: dict[str, int], arrays: Mapping[str, np.ndarray]
) -> None:
    """Give every free dimension of the inputs a size: that of an array, of `dims`, or the batch."""
    for name, size in {**dims, "batch": 1 if batch is None else batch}.items():
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= MAX_SIZE:
            raise InputError(f"dimension {name!r} is {size!r}; it must be a whole number from 1")
    initializers = {tensor.name for tensor in model.graph.initializer}
    inputs = {entry.name: entry for entry in model.graph.input if entry.name not in initializers}
    for name in arrays:
        if name not in inputs:
            raise unknown("input", name, list(inputs))
    free: set[str] = set()
    batched = False
    for name, entry in inputs.items():
        shape = entry.type.tensor_type.shape.dim
        array = arrays.get(name)
        if array is not None:
            _check_array(name, shape, array)
        for axis, dim in enumerate(shape):
            if dim.HasField("dim_value") and dim.dim_value > 0:
                continue
            free.add(dim.dim_param)
            if array is not None:
                dim.dim_value = array.shape[axis]
            elif dim.dim_param in dims:
                dim.dim_value = dims[dim.dim_param]
            elif axis == 0:
                dim.dim_value = 1 if batch is None else batch
                batched = True
            else:
                raise _free_dimension(name, dim.dim_param, axis)
    if batch is not None and not batched:
        raise InputError(f"batch is {batch}, but no input has a free first dimension")
    for name in dims:
        if name not in free:
            raise unknown("free dimension", name, sorted(filter(None, free)) or ["(none is free)"])


def _check_array(name: str, shape: Any, array: np.ndarray) -> None:
    """Raise `InputError` if an array does not have the axes and fixed sizes of its input."""
    if array.ndim != len(shape):
        raise InputError(f"input {name!r} has {array.ndim} axes; the model's has {len(shape)}")
    for axis, dim in enumerate(shape):
        fixed = dim.HasField("dim_value") and dim.dim_value > 0
        if fixed and array.shape[axis] != dim.dim_value:
            raise InputError(
                f"input {name!r} has size {array.shape[axis]} along axis {axis}; "
                f"the model's has {dim.dim_value}"
            )


def _free_dimension(name: str, label: str, axis: int) -> InputError:
    return InputError(
        f"input {name!r} has a free dimension {label or axis!r}; give its size, "
        f"as in dims={{{label or 'name'!r}: 128}} or --dim {label or 'name'}=128"
    )
