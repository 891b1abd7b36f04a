"""Constants of an ONNX graph, computed before anything else: shapes behind them become known.

Constant nodes become stored tensors. Nodes of small constants, and `Shape` of a known shape, are computed.
A branch (`If`) whose condition is known is replaced by the nodes of the branch that is taken, and a loop
with products whose steps can be counted by its steps. Large constants, such as transposed or dequantised weights, are left to be computed when they are asked for.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from hfp8sim.errors import one_line
from hfp8sim.workloads.readers.onnx_evaluate import (
    Evaluator,
    NodeFailed,
    bodies,
    is_random,
    run_node,
)
from hfp8sim.workloads.readers.onnx_tensors import StoredTensors, UnreadableTensor

#: Elements of a constant up to which it is computed at once and shown to shape inference.
_SMALL = 4096
#: Nodes that a condition on given inputs may depend on.
_CONDITION_NODES = 256
#: Nodes that all steps of a loop together may have, to be written out one by one.
_UNROLLED_NODES = 8192
#: Nodes of the whole graph, beyond which no loop is written out.
_ALL_NODES = 2**16
#: Operators that are layers: they are not folded, and loops with them are written out.
_PRODUCTS = (
    "Conv", "ConvInteger", "ConvTranspose", "Einsum", "GRU", "Gemm", "LSTM", "MatMul", "MatMulInteger",
    "QLinearConv", "QLinearMatMul", "RNN",
)  # fmt: skip
#: Rounds of inference and folding; a round beyond the second one finds what the one before uncovered.
_ROUNDS = 32


def fold_constants(
    onnx: Any,
    model: Any,
    tensors: StoredTensors,
    arrays: Mapping[str, np.ndarray],
    declared: Sequence[Any] = (),
) -> list[str]:
    """Infer shapes and fold constants in turn until nothing changes; returns warnings.

    `arrays` are given inputs. They decide branches, but are no constants of the model. `declared` are
    types and shapes of intermediate values that inference cannot find.
    """
    for _ in range(_ROUNDS):
        # Intermediate shapes in the file may be those of another batch.
        del model.graph.value_info[:]
        model.graph.value_info.extend(declared)
        try:
            model.CopyFrom(infer_shapes(onnx, model))
        except Exception as error:  # several types, some raised from C++
            return [f"shape inference stopped: {one_line(error)}"]
        if not _Folder(onnx, model, tensors, arrays).fold():
            break
    return []


def infer_shapes(onnx: Any, model: Any, **options: Any) -> Any:
    """The model with the shapes that onnx infers.

    Contents of small tensors are propagated, too, unless the model has a node Size: onnx takes time and memory
    in proportion to the elements that such a node counts. `_Folder` computes those that are constant.
    """
    counts = any(node.op_type == "Size" for node in model.graph.node)
    return onnx.shape_inference.infer_shapes(model, data_prop=not counts, **options)


def known_shapes(model: Any) -> dict[str, tuple[int, ...]]:
    """Sizes of the values whose sizes are all known."""
    shapes = {}
    for entry in (*model.graph.input, *model.graph.value_info, *model.graph.output):
        tensor = entry.type.tensor_type
        if tensor.HasField("shape"):
            sizes = tuple(dim.dim_value for dim in tensor.shape.dim)
            if all(size > 0 for size in sizes):
                shapes[entry.name] = sizes
    return shapes


class _Folder:
    """One pass over the nodes of a graph, in order."""

    def __init__(
        self, onnx: Any, model: Any, tensors: StoredTensors, arrays: Mapping[str, np.ndarray]
    ) -> None:
        self.onnx, self.model, self.tensors, self.arrays = onnx, model, tensors, arrays
        self.shapes = known_shapes(model)
        self.small: dict[str, np.ndarray | None] = {}
        self.changed = False
        self.nodes = len(model.graph.node)
        self.counts: dict[str, int] = {}  #: the last number that was appended, by name
        self.stored: dict[str, str] = {}  #: names of arrays that this pass added
        versions = {imported.domain: imported.version for imported in model.opset_import}
        self.version = versions.get("", versions.get("ai.onnx", 1))

    def fold(self) -> bool:
        """Replace the graph's nodes; whether any was folded."""
        self.names = _all_names(self.model.graph)
        self.evaluator = Evaluator(self.onnx, self.model, self.tensors, self.shapes)
        waiting, kept = deque(self.model.graph.node), []
        while waiting:
            node = waiting.popleft()
            standard = node.domain in ("", "ai.onnx")
            taken = self._taken(node) if standard else None
            if taken is not None:
                waiting.extendleft(reversed(taken))
                self.changed = True
            elif standard and self._fold_node(node):
                self.changed = True
            else:
                kept.append(node)
        if self.changed:
            copies = [self._copy(node) for node in kept]
            del self.model.graph.node[:]
            self.model.graph.node.extend(copies)
        return self.changed

    def _taken(self, node: Any) -> list[Any] | None:
        """What a branch or a loop is replaced by; None if that is not known."""
        if node.op_type == "If":
            return self._branch(node)
        if node.op_type not in ("Scan", "Loop") or not _holds_products(node):
            return None
        try:
            return self._steps(node)
        except (IndexError, ValueError, TypeError):  # inputs and outputs that do not fit the body
            return None

    def _copy(self, node: Any) -> Any:
        copy = self.onnx.NodeProto()
        copy.CopyFrom(node)
        return copy

    def _fold_node(self, node: Any) -> bool:
        """Whether the node's outputs became stored tensors."""
        if node.op_type == "Constant" and len(node.attribute) == 1 and len(node.output) == 1:
            attribute = node.attribute[0]
            if attribute.name == "value":
                self._store(node.output[0], attribute.t)
                return True
            if attribute.name == "sparse_value":
                sparse = self.onnx.GraphProto().sparse_initializer.add()
                sparse.CopyFrom(attribute.sparse_tensor)
                sparse.values.name = node.output[0]
                self.model.graph.sparse_initializer.append(sparse)
                self.tensors.take(self.model.graph)
                return True
        if bodies(node) or is_random(node) or node.op_type in _PRODUCTS:
            return False  # a product of constants is a layer all the same
        inputs = self._inputs(node)
        if inputs is None:
            return False
        if any(prod(self.shapes.get(name, ())) > _SMALL for name in node.output):
            return False
        try:
            results = run_node(self.onnx, node, inputs, self.model.opset_import)
            arrays = [np.asarray(value) for value in results]
            if any(array.size > _SMALL or array.dtype == object for array in arrays):
                return False
            protos = [
                self.onnx.numpy_helper.from_array(array, name)
                for name, array in zip(node.output, arrays, strict=True)
            ]
        except (NodeFailed, TypeError, ValueError, KeyError, NotImplementedError):
            return False
        for name, proto in zip(node.output, protos, strict=True):
            if name:
                self._store(name, proto)
        return True

    def _inputs(self, node: Any) -> dict[str, Any] | None:
        """The node's operands if all are small constants; `Shape` and `Size` need the shape alone."""
        if node.op_type in ("Shape", "Size") and len(node.input) == 1:
            shape = self.shapes.get(node.input[0])
            if shape is None and node.input[0] in self.tensors.protos:
                shape = self.tensors.dims(node.input[0])
            if shape is not None:
                return {node.input[0]: np.broadcast_to(np.zeros((), np.float32), shape)}
        inputs = {name: self._small_value(name) for name in node.input if name}
        known = {name: value for name, value in inputs.items() if value is not None}
        return known if len(known) == len(inputs) else None

    def _small_value(self, name: str) -> np.ndarray | None:
        """A small stored tensor; None for any other value."""
        if name not in self.small:
            self.small[name] = None
            if name in self.tensors.protos and prod(self.tensors.dims(name)) <= _SMALL:
                # What cannot be read is said where the value is asked for.
                with contextlib.suppress(UnreadableTensor, ValueError):
                    self.small[name] = self.tensors.read(name)
        return self.small[name]

    def _store(self, name: str, proto: Any) -> None:
        self.tensors.put(self.model.graph, name, proto)
        self.small.pop(name, None)

    # --- branches ---------------------------------------------------------------------------------

    def _branch(self, node: Any) -> list[Any] | None:
        """The nodes of the branch that is taken; None if the condition is not known."""
        if len(node.input) != 1:
            return None
        condition = self._condition(node.input[0])
        graphs = {a.name: a.g for a in node.attribute}
        graph = graphs.get("then_branch" if condition else "else_branch")
        if condition is None or graph is None or len(graph.output) != len(node.output):
            return None
        return self._inlined(node, graph)

    def _condition(self, name: str) -> bool | None:
        value = self._small_value(name)
        if value is None:
            count = len(self.evaluator.ancestors([name], self.arrays))
            if 0 < count <= _CONDITION_NODES or name in self.arrays:
                found = Evaluator(self.onnx, self.model, self.tensors, self.shapes)
                value = found.compute([name], self.arrays).get(name)
        if value is None or np.size(value) != 1:
            return None
        return bool(np.asarray(value).item())

    def _inlined(self, node: Any, graph: Any) -> list[Any]:
        """Copies of a branch's nodes, and Identity nodes that give its results the node's names."""
        copies, results = self._instance(graph, {})
        return copies + self._identities(results, node.output)

    def _identities(self, sources: Sequence[str], targets: Sequence[str]) -> list[Any]:
        return [
            self.onnx.helper.make_node("Identity", [source], [target])
            for source, target in zip(sources, targets, strict=True)
            if target
        ]

    def _instance(
        self, graph: Any, bound: Mapping[str, str], suffix: str = ""
    ) -> tuple[list[Any], list[str]]:
        """Copies of a body's nodes with names that are free outside, and the names of its outputs.

        `bound` gives the outer value of each input. `suffix` is appended to the nodes' names.
        """
        stored = [t.name for t in graph.initializer]
        stored += [t.values.name for t in graph.sparse_initializer]
        inner = stored + [name for inside in graph.node for name in inside.output if name]
        new = dict(bound)
        new |= {name: self._new_name(name) for name in inner}
        for tensor in graph.initializer:
            self._store(new[tensor.name], tensor)
        for sparse in graph.sparse_initializer:
            copy = self.model.graph.sparse_initializer.add()
            copy.CopyFrom(sparse)
            copy.values.name = new[sparse.values.name]
        if graph.sparse_initializer:
            self.tensors.take(self.model.graph)
        copies = [self._copy(inside) for inside in graph.node]
        for copy in copies:
            _rename(copy, new)
            if suffix:
                copy.name = f"{copy.name or next(filter(None, copy.output), copy.op_type)}{suffix}"
        return copies, [new.get(output.name, output.name) for output in graph.output]

    # --- loops ------------------------------------------------------------------------------------

    def _steps(self, node: Any) -> list[Any] | None:
        """The nodes of a Scan or a Loop, step by step; None if their number is not known or large."""
        attributes = {a.name: a for a in node.attribute}
        if "body" not in attributes:
            return None
        unroll = self._scan if node.op_type == "Scan" else self._loop
        return unroll(node, attributes["body"].g, attributes)

    def _scan(self, node: Any, body: Any, attributes: Mapping[str, Any]) -> list[Any] | None:
        if self.version < 9 or "num_scan_inputs" not in attributes:
            return None
        scanned = attributes["num_scan_inputs"].i
        states = len(node.input) - scanned
        if not 0 < scanned <= len(node.input) or states > len(body.output):
            return None
        axes = list(attributes["scan_input_axes"].ints) if "scan_input_axes" in attributes else []
        axes = axes or [0] * scanned
        sources = node.input[states:]
        shapes = [self._shape(name) for name in sources]
        if len(axes) != scanned or any(
            shape is None or not -len(shape) <= axis < len(shape)
            for shape, axis in zip(shapes, axes, strict=True)
        ):
            return None
        counts = {shape[axis] for shape, axis in zip(shapes, axes, strict=True) if shape}
        if len(counts) != 1 or not self._is_short(count := counts.pop(), body):
            return None
        backward = _directions(attributes, "scan_input_directions", scanned)
        current, nodes, results = list(node.input[:states]), list[Any](), list[list[str]]()
        for step in range(count):
            slices = []
            for source, axis, from_end in zip(sources, axes, backward, strict=True):
                index = self._number(count - 1 - step if from_end else step)
                name = self._new_name(f"{source}_{step}")
                slices.append(name)
                make = self.onnx.helper.make_node
                nodes.append(make("Gather", [source, index], [name], axis=axis))
            bound = dict(zip((e.name for e in body.input), [*current, *slices], strict=True))
            copies, outputs = self._instance(body, bound, f"[{step}]")
            nodes += copies
            current = outputs[:states]
            results.append(outputs[states:])
        out_axes = (
            list(attributes["scan_output_axes"].ints) if "scan_output_axes" in attributes else []
        )
        reverse = _directions(attributes, "scan_output_directions", len(node.output) - states)
        nodes += self._identities(current, node.output[:states])
        return nodes + self._stacked(results, node.output[states:], out_axes, reverse)

    def _loop(self, node: Any, body: Any, attributes: Mapping[str, Any]) -> list[Any] | None:
        """The steps of a Loop whose number is constant and whose condition stays true."""
        count = self._small_value(node.input[0]) if node.input[0] else None
        given = node.input[1] if len(node.input) > 1 else ""
        condition = self._small_value(given) if given else np.array(True)
        if count is None or condition is None or not np.asarray(condition).all():
            return None
        steps = int(np.asarray(count).item())
        if not self._is_short(steps, body) or not _stays_true(self.onnx, body):
            return None
        truth = self._stored_array("true", np.array(True))
        current, nodes, results = list(node.input[2:]), list[Any](), list[list[str]]()
        for step in range(steps):
            operands = [self._number(step), truth, *current]
            bound = dict(zip((e.name for e in body.input), operands, strict=True))
            copies, outputs = self._instance(body, bound, f"[{step}]")
            nodes += copies
            current = outputs[1 : 1 + len(current)]
            results.append(outputs[1 + len(current) :])
        states = len(current)
        nodes += self._identities(current, node.output[:states])
        return nodes + self._stacked(results, node.output[states:], [], [])

    def _stacked(
        self,
        results: list[list[str]],
        targets: Sequence[str],
        axes: list[int],
        backward: list[bool],
    ) -> list[Any]:
        """Nodes that stack the results of all steps along a new axis."""
        nodes, make = list[Any](), self.onnx.helper.make_node
        for index, target in enumerate(targets):
            if not target:
                continue
            axis = axes[index] if axes else 0
            place = self._stored_array(f"axis_{axis}", np.array([axis], np.int64))
            parts = [self._new_name(f"{target}_{step}") for step in range(len(results))]
            for step, part in enumerate(parts):
                source = results[step][index]
                if self.version >= 13:
                    nodes.append(make("Unsqueeze", [source, place], [part]))
                else:
                    nodes.append(make("Unsqueeze", [source], [part], axes=[axis]))
            if backward and backward[index]:
                parts.reverse()
            nodes.append(make("Concat", parts, [target], axis=axis))
        return nodes

    def _is_short(self, steps: int, body: Any) -> bool:
        """Whether a loop may be written out; its nodes are then counted."""
        nodes = steps * max(1, len(body.node))
        if not 1 <= steps <= _UNROLLED_NODES or nodes > _UNROLLED_NODES:
            return False
        self.nodes += nodes
        return self.nodes <= _ALL_NODES

    def _shape(self, name: str) -> tuple[int, ...] | None:
        stored = name in self.tensors.protos
        return self.tensors.dims(name) if stored else self.shapes.get(name)

    def _new_name(self, name: str) -> str:
        """The name, followed by a number if it is in use."""
        unique, count = name, self.counts.get(name, 1)
        while unique in self.names:
            count += 1
            unique = f"{name}_{count}"
        self.counts[name] = count
        self.names.add(unique)
        return unique

    def _number(self, value: int) -> str:
        """The name of a stored whole number."""
        return self._stored_array(f"number_{value}", np.int64(value))

    def _stored_array(self, name: str, array: Any) -> str:
        """The name of a stored array; equal names must mean equal arrays."""
        if name not in self.stored:
            self.stored[name] = self._new_name(name)
            self._store(self.stored[name], self.onnx.numpy_helper.from_array(np.asarray(array)))
        return self.stored[name]


def _holds_products(node: Any) -> bool:
    """Whether there is a product in a node's bodies."""
    return any(
        inside.op_type in _PRODUCTS or _holds_products(inside)
        for body in bodies(node)
        for inside in body.node
    )


def _directions(attributes: Mapping[str, Any], name: str, count: int) -> list[bool]:
    """Whether a scan goes backward, for each of its inputs or outputs."""
    given = list(attributes[name].ints) if name in attributes else []
    return [bool(direction) for direction in given] or [False] * count


def _stays_true(onnx: Any, body: Any) -> bool:
    """Whether a Loop's body hands its condition on, or gives a constant that is true."""
    name, entry = body.output[0].name, body.input[1].name
    producers = {output: node for node in body.node for output in node.output}
    stored = {tensor.name: tensor for tensor in body.initializer}
    while name != entry:
        node = producers.get(name)
        if name in stored:
            return bool(onnx.numpy_helper.to_array(stored[name]).all())
        if node is None:
            return False
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            return bool(onnx.numpy_helper.to_array(node.attribute[0].t).all())
        if node.op_type not in ("Identity", "Cast"):
            return False
        name = node.input[0]
    return True


def _all_names(graph: Any) -> set[str]:
    """Every value's name in a graph, those inside of bodies apart."""
    names = {entry.name for entry in (*graph.input, *graph.initializer, *graph.output)}
    for node in graph.node:
        names.update(node.input, node.output)
    return names


def _rename(node: Any, new: Mapping[str, str]) -> None:
    """Replace names in a node and in its bodies."""
    for names in (node.input, node.output):
        for index, name in enumerate(names):
            names[index] = new.get(name, name)
    for body in bodies(node):
        for inside in body.node:
            _rename(inside, new)
        for output in body.output:
            output.name = new.get(output.name, output.name)
