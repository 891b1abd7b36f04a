"""What is known of an ONNX model's values: shapes, types, dependencies and arrays."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import numpy as np

from hfp8sim.errors import InputError, one_line


class NodeSkipped(Exception):
    """A node is not read; the text is the reason."""


class Graph:
    """Facts about a model's values, by name. Its shapes must have been inferred.

    Attributes:
        shapes: sizes, of the values whose sizes are all known.
        types: ONNX element types of inputs, outputs and intermediate values.
        initializers: the model's own tensors.
        values: arrays that are known: read initialisers, and what running the model gave.
        constant: names of values that depend on no input of the model.
        trained: names of values that depend on an input and on a trained parameter.
        warnings: what is left out, and why.
    """

    def __init__(
        self, onnx: Any, model: Any, warnings: list[str], products: Container[str]
    ) -> None:
        """`products` are the operators that are matrix products with trained parameters."""
        self.onnx, self.model, self.warnings = onnx, model, warnings
        graph = model.graph
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.types: dict[str, int] = {}
        for entry in [*graph.input, *graph.value_info, *graph.output]:
            tensor = entry.type.tensor_type
            self.types[entry.name] = tensor.elem_type
            if tensor.HasField("shape"):
                sizes = tuple(dim.dim_value for dim in tensor.shape.dim)
                if all(size > 0 for size in sizes):
                    self.shapes[entry.name] = sizes
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}
        for name, tensor in self.initializers.items():
            self.shapes.pop(name, None)  # the tensor's own sizes are valid, not those of its entry
            if all(size > 0 for size in tensor.dims):
                self.shapes[name] = tuple(tensor.dims)
        self.values: dict[str, np.ndarray] = {}
        self.constant, self.trained = self._dependencies(products)

    def _dependencies(self, products: Container[str]) -> tuple[set[str], set[str]]:
        """(`constant`, `trained`), in one pass over the nodes, which are in topological order."""
        constant, trained = set(self.initializers), set[str]()
        for node in self.model.graph.node:
            outputs, inputs = set(node.output), [name for name in node.input if name]
            has_body = any(a.HasField("g") or a.graphs for a in node.attribute)
            if not has_body and "Random" not in node.op_type and constant.issuperset(inputs):
                constant |= outputs
            embedding = node.op_type == "Gather" and inputs and inputs[0] in constant
            if has_body or embedding or node.op_type in products or trained.intersection(inputs):
                trained |= outputs
        return constant, trained - constant

    def shape(self, name: str) -> tuple[int, ...]:
        """The sizes of a value; `NodeSkipped` where they are not known."""
        if name not in self.shapes:
            raise NodeSkipped(f"the shape of {name!r} is not known")
        return self.shapes[name]

    def value(self, name: str) -> np.ndarray | None:
        """A value as float32; None if it is not known or not of a floating-point type."""
        if name not in self.values and name in self.initializers:
            tensor = self.initializers[name]
            if tensor.data_location == self.onnx.TensorProto.EXTERNAL and not tensor.raw_data:
                return None
            try:
                self.values[name] = self.onnx.numpy_helper.to_array(tensor)
            except Exception as error:  # damaged data of any type
                raise InputError(f"initialiser {name!r} is torn: {one_line(error)}") from None
        array = self.values.get(name)
        if array is None or array.dtype.kind not in "fV":  # V: bfloat16 and the 8-bit floats
            return None
        with np.errstate(over="ignore"):  # `Layer` refuses an infinity and names its index
            return np.asarray(array, np.float32)
