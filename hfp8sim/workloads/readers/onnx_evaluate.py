"""Values of an ONNX graph: single nodes and whole parts of it, in onnx's evaluator or in onnxruntime."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from hfp8sim.errors import InputError, one_line
from hfp8sim.workloads.readers.onnx_tensors import MAX_ELEMENTS, StoredTensors, UnreadableTensor

#: onnx implements these from the given opset on; older versions are the same operator with fewer options.
_IMPLEMENTED_FROM = {"QuantizeLinear": 21, "DequantizeLinear": 21}
#: Steps of a Loop up to which it is run.
_MAX_STEPS = 10**6
#: Operators whose result differs from run to run.
_RANDOM = ("Bernoulli", "Multinomial")


class NodeFailed(Exception):
    """A node cannot be computed; the text is the reason."""


def is_random(node: Any) -> bool:
    """Whether a node's result is random, or depends on its body, so that it is no constant."""
    training = node.op_type == "Dropout" and len(node.input) > 2
    return "Random" in node.op_type or node.op_type in _RANDOM or training


def bodies(node: Any) -> list[Any]:
    """The graphs in a node's attributes."""
    return [
        body for a in node.attribute for body in (([a.g] if a.HasField("g") else []) + [*a.graphs])
    ]


def needed_names(node: Any) -> list[str]:
    """Values that a node needs: its inputs, and what its bodies use from outside."""
    names = [name for name in node.input if name]
    for body in bodies(node):
        inner = {entry.name for entry in (*body.input, *body.initializer)}
        inner |= {name for inside in body.node for name in inside.output}
        used = [name for inside in body.node for name in needed_names(inside)]
        names += [name for name in (*used, *(o.name for o in body.output)) if name not in inner]
    return list(dict.fromkeys(names))


def run_node(onnx: Any, node: Any, inputs: Mapping[str, Any], opsets: Sequence[Any]) -> list[Any]:
    """The outputs of one node in onnx's evaluator; `NodeFailed` where it cannot be computed."""
    _check_growth(node, inputs)
    if node.domain == "com.microsoft" and node.op_type in _IMPLEMENTED_FROM:
        own = onnx.NodeProto()
        own.CopyFrom(node)
        own.domain = ""  # ONNX's operator of today has all of its types
        node = own
    if node.op_type == "GlobalMaxPool":
        return [_largest_per_channel(inputs[node.input[0]])]
    helper = onnx.helper
    versions = {imported.domain: imported.version for imported in opsets}
    if node.op_type in _IMPLEMENTED_FROM and node.domain in ("", "ai.onnx"):
        versions[""] = max(versions.get("", 1), _IMPLEMENTED_FROM[node.op_type])
    outputs = [name for name in node.output if name]
    try:
        entries = [_entry(helper, name, value) for name, value in inputs.items()]
        results = [helper.make_empty_tensor_value_info(name) for name in outputs]
        graph = helper.make_graph([node], "node", entries, results)
        imports = [helper.make_opsetid(domain, version) for domain, version in versions.items()]
        model = helper.make_model(graph, opset_imports=imports)
        with np.errstate(all="ignore"):
            values = onnx.reference.ReferenceEvaluator(model).run(None, dict(inputs))
    except Exception as error:  # an operator that the evaluator lacks, or shapes that do not fit
        raise NodeFailed(f"{node.op_type}: {one_line(error, 120)}") from None
    by_name = dict(zip(outputs, values, strict=True))
    return [by_name.get(name) for name in node.output]


def _largest_per_channel(x: np.ndarray) -> np.ndarray:
    """GlobalMaxPool; the one of onnx 1.23 drops spatial axes beyond the second."""
    return np.asarray(x.max(tuple(range(2, x.ndim)), keepdims=True))


def _entry(helper: Any, name: str, value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        dtype = helper.np_dtype_to_tensor_dtype(np.asarray(value).dtype)
        return helper.make_tensor_value_info(name, dtype, np.shape(value))
    return helper.make_empty_tensor_value_info(name)


def _check_growth(node: Any, inputs: Mapping[str, Any]) -> None:
    """`NodeFailed` where a node of a few numbers would give a huge tensor."""
    if node.op_type == "Loop" and node.input[0]:
        steps = np.asarray(inputs[node.input[0]]).max(initial=0)
        if steps > _MAX_STEPS:
            raise NodeFailed(f"Loop: its {steps} steps are too many")
    if node.op_type not in ("ConstantOfShape", "Expand", "Tile", "Range", "OneHot", "Pad"):
        return
    operands = [np.asarray(inputs[name]) for name in node.input if name]
    if node.op_type == "Pad" and len(node.input) > 3 and not node.input[2]:
        operands.insert(2, np.zeros(()))
    try:
        elements = _grown_elements(node.op_type, operands)
    except (ArithmeticError, ValueError, IndexError, TypeError) as error:
        raise NodeFailed(f"{node.op_type}: {one_line(error)}") from None
    if elements > MAX_ELEMENTS:
        raise NodeFailed(f"{node.op_type}: its result of {elements} elements is too large")


def _grown_elements(op_type: str, operands: list[np.ndarray]) -> int:
    first = operands[0]
    if op_type == "ConstantOfShape":
        return prod(int(size) for size in first.ravel())
    if op_type == "Range":
        start, limit, step = (float(operand.item()) for operand in operands)
        return int((limit - start) / step) + 1
    if op_type == "OneHot":
        return first.size * int(operands[1].item())
    if len(operands) < 2:
        return 0
    counts = [int(count) for count in operands[1].ravel()]
    if op_type == "Tile":
        return first.size * prod(counts)
    if op_type == "Expand":
        axes = max(first.ndim, len(counts))
        own, other = ([1] * (axes - len(shape)) + list(shape) for shape in (first.shape, counts))
        return prod(map(max, own, other))
    axes = len(counts) // 2
    where = operands[3].ravel() if len(operands) > 3 else np.arange(axes)
    sizes = list(first.shape)
    for place, axis in enumerate(where.tolist()):
        sizes[axis] += counts[place] + counts[axes + place]
    return prod(max(0, size) for size in sizes)


class Evaluator:
    """Computes values of a graph in onnx's evaluator, and frees what is no longer needed.

    Attributes:
        failures: the reason, by the name of a value that could not be computed.
    """

    def __init__(
        self, onnx: Any, model: Any, tensors: StoredTensors, shapes: Mapping[str, tuple[int, ...]]
    ) -> None:
        self.onnx, self.model, self.tensors, self.shapes = onnx, model, tensors, shapes
        self.failures: dict[str, str] = {}
        self.producer = {
            name: index
            for index, node in enumerate(model.graph.node)
            for name in node.output
            if name
        }

    def compute(self, names: Iterable[str], feeds: Mapping[str, Any]) -> dict[str, Any]:
        """The values of `names`, as far as they can be computed from stored tensors and `feeds`."""
        wanted = [name for name in dict.fromkeys(names) if name not in self.failures]
        order = self.ancestors(wanted, feeds)
        uses: dict[str, int] = dict.fromkeys(wanted, 1)
        for index in order:
            for name in needed_names(self.model.graph.node[index]):
                uses[name] = uses.get(name, 0) + 1
        known: dict[str, Any] = {}
        for index in order:
            self._step(self.model.graph.node[index], known, feeds, uses)
        for name in wanted:
            self._leaf(name, known, feeds)
        return {name: known[name] for name in wanted if name in known}

    def ancestors(self, names: Iterable[str], feeds: Mapping[str, Any]) -> list[int]:
        """Indices of the nodes that `names` depend on, in the graph's order."""
        found: set[int] = set()
        open_names = list(names)
        while open_names:
            name = open_names.pop()
            index = self.producer.get(name)
            if name in feeds or name in self.tensors.protos or index is None or index in found:
                continue
            found.add(index)
            open_names += needed_names(self.model.graph.node[index])
        return sorted(found)

    def _leaf(self, name: str, known: dict[str, Any], feeds: Mapping[str, Any]) -> None:
        """Put a fed or stored value into `known`, or a reason into `failures`."""
        if name in known or name in self.failures:
            return
        if name in feeds:
            known[name] = feeds[name]
        elif name in self.tensors.protos:
            try:
                known[name] = self.tensors.read(name)
            except UnreadableTensor as reason:
                self.failures[name] = f"{name!r}: {reason}"
        else:
            self.failures[name] = f"{name!r} depends on an input that has no value"

    def _step(
        self, node: Any, known: dict[str, Any], feeds: Mapping[str, Any], uses: dict[str, int]
    ) -> None:
        """Compute one node and drop operands that no later node needs."""
        names = needed_names(node)
        for name in names:
            self._leaf(name, known, feeds)
        try:
            self._check(node, names)
            inputs = {name: known[name] for name in names}
            results = run_node(self.onnx, node, inputs, self.model.opset_import)
            known |= {n: v for n, v in zip(node.output, results, strict=True) if n in uses}
        except NodeFailed as reason:
            self.failures |= {name: str(reason) for name in node.output if name}
        for name in names:
            uses[name] -= 1
            if not uses[name]:
                known.pop(name, None)

    def _check(self, node: Any, names: list[str]) -> None:
        for name in names:
            if name in self.failures:
                raise NodeFailed(self.failures[name])
        for name in node.output:
            if prod(self.shapes.get(name, ())) > MAX_ELEMENTS:
                raise NodeFailed(f"{node.op_type}: {name!r} is too large")


# --- whole models -----------------------------------------------------------------------------------


def complete_model(model: Any, tensors: StoredTensors) -> Any:
    """A copy of the model with its tensors in place of the stubs; external ones stay external.

    Raises `UnreadableTensor` for one outside the model's folder.
    """
    whole = type(model)()
    whole.CopyFrom(model)
    del whole.graph.initializer[:]
    for tensor in tensors.protos.values():
        if isinstance(tensor, tensors.onnx.SparseTensorProto):
            whole.graph.sparse_initializer.append(tensor)
        else:
            tensors.check_location(tensor)
            whole.graph.initializer.append(tensor)
    return whole


def run_in_onnxruntime(
    model: Any, tensors: StoredTensors, names: Sequence[str], feeds: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """The values of `names` from onnxruntime, node by node as the model says: nothing is fused."""
    import onnxruntime

    whole = complete_model(model, tensors)
    types = {e.name: e for e in (*whole.graph.value_info, *whole.graph.output)}
    outputs = [
        types.get(name) or tensors.onnx.helper.make_empty_tensor_value_info(name) for name in names
    ]
    del whole.graph.output[:]
    whole.graph.output.extend(outputs)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(tensors.folder.resolve())
    )
    session = onnxruntime.InferenceSession(
        whole.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    accepted = {entry.name for entry in session.get_inputs()}
    fed = {name: value for name, value in feeds.items() if name in accepted}
    return dict(zip(names, session.run(list(names), fed), strict=True))


def runner_words(name: str, onnx: Any) -> str:
    """The evaluator in words, with its version."""
    if name == "onnxruntime":
        import onnxruntime

        return f"onnxruntime {onnxruntime.__version__}"
    return f"the reference evaluator of onnx {onnx.__version__}"


def runners(evaluator: str | None) -> Iterator[str]:
    """The evaluators to try, in order: the one asked for, or onnxruntime if installed and then onnx."""
    if evaluator not in (None, "onnx", "onnxruntime"):
        raise InputError(f"evaluator is {evaluator!r}; it must be 'onnx' or 'onnxruntime'")
    if evaluator != "onnx":
        try:
            import onnxruntime  # noqa: F401

            yield "onnxruntime"
        except ImportError:
            if evaluator:
                raise InputError(
                    "onnxruntime is not installed: pip install onnxruntime, or evaluator='onnx'"
                ) from None
    if evaluator != "onnxruntime":
        yield "onnx"
