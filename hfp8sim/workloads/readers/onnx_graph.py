"""What is known of an ONNX model's values: shapes, types, dependencies and arrays."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

import numpy as np

from hfp8sim.workloads.readers.onnx_evaluate import Evaluator, bodies, is_random
from hfp8sim.workloads.readers.onnx_fold import known_shapes
from hfp8sim.workloads.readers.onnx_tensors import StoredTensors


class NodeSkipped(Exception):
    """A node is not read; the text is the reason."""


class ShapeUnknown(NodeSkipped):
    """A node is not read since shape inference does not find an operand's shape."""


class Graph:
    """Facts about a model's values, by name. Its shapes must have been inferred.

    Attributes:
        shapes: sizes, of the values whose sizes are all known.
        types: ONNX element types of inputs, outputs and intermediate values.
        tensors: the model's own tensors.
        values: arrays of values that depend on an input: inputs, and what running the model gave.
        was_run: whether the model was run to find values and shapes.
        constant: names of values that depend on no input of the model.
        trained: names of values that depend on an input and on a trained parameter.
        failures: why a value could not be found, by its name.
    """

    def __init__(
        self, onnx: Any, model: Any, tensors: StoredTensors, products: Container[str]
    ) -> None:
        """`products` are the operators that are matrix products with trained parameters."""
        self.onnx, self.model, self.tensors = onnx, model, tensors
        self.shapes = known_shapes(model)
        entries = (*model.graph.input, *model.graph.value_info, *model.graph.output)
        self.types = {entry.name: entry.type.tensor_type.elem_type for entry in entries}
        for name, tensor in tensors.protos.items():
            self.shapes.pop(name, None)  # the tensor's own sizes are valid, not those of its entry
            if all(size > 0 for size in tensor.dims):
                self.shapes[name] = tuple(tensor.dims)
        self.values: dict[str, np.ndarray] = {}
        self.was_run = False
        self.evaluator = Evaluator(onnx, model, tensors, self.shapes)
        self.failures = self.evaluator.failures
        self.constant, self.trained = self._dependencies(products)

    @property
    def input_names(self) -> list[str]:
        """The model's inputs that are no stored tensors."""
        entries = self.model.graph.input
        return [entry.name for entry in entries if entry.name not in self.tensors.protos]

    def _dependencies(self, products: Container[str]) -> tuple[set[str], set[str]]:
        """(`constant`, `trained`), in one pass over the nodes, which are in topological order."""
        constant, trained = set(self.tensors.protos), set[str]()
        for node in self.model.graph.node:
            outputs, inputs = set(node.output), [name for name in node.input if name]
            has_body = bool(bodies(node))
            if not has_body and not is_random(node) and constant.issuperset(inputs):
                constant |= outputs
            embedding = node.op_type == "Gather" and inputs and inputs[0] in constant
            if has_body or embedding or node.op_type in products or trained.intersection(inputs):
                trained |= outputs
        return constant, trained - constant

    def shape(self, name: str) -> tuple[int, ...]:
        """The sizes of a value; `ShapeUnknown` where they are not known."""
        if name not in self.shapes:
            reason = f": {self.failures[name]}" if name in self.failures else ""
            how = reason if self.was_run else " without running the model"
            raise ShapeUnknown(f"the shape of {name!r} is not known{how}")
        return self.shapes[name]

    def adopt(self, values: Mapping[str, Any]) -> None:
        """Take over values of a run, and their shapes where inference did not find them."""
        for name, value in values.items():
            if not isinstance(value, np.ndarray):
                continue
            if value.size and name not in self.shapes:
                self.shapes[name] = value.shape
            if value.shape == self.shapes.get(name):
                self.values[name] = value
                self.failures.pop(name, None)
            else:
                self.failures[name] = (
                    f"running the model gave {name!r} shape {value.shape}, "
                    f"not {self.shapes.get(name)}"
                )

    def value(self, name: str) -> np.ndarray | None:
        """A value of a numeric type as stored, computed from the model's tensors if it is constant.

        None if it is not known; `failures` has the reason if it should be.
        """
        if name in self.values:
            return self.values[name]
        if name not in self.constant:
            return None
        found = self.evaluator.compute([name], {}).get(name)
        return np.asarray(found) if isinstance(found, np.ndarray | np.generic) else None
