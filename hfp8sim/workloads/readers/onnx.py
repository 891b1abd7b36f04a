"""ONNX models: shapes by inference, weights from the initialisers, activations by running the model.

Every product of two tensors becomes a layer: Conv, ConvTranspose, Gemm, MatMul, Einsum, LSTM, GRU and
RNN, the quantised forms of Conv and MatMul, and what ONNX's own definitions of Attention and its kin are
made of. The workload's `missing` names each product that is not read, and why. The reader needs the extra
`onnx`; it runs models in onnxruntime where that is installed, else in onnx's reference evaluator.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from hfp8sim.errors import InputError, located, one_line
from hfp8sim.network.records import Layer, Workload, distinct
from hfp8sim.workloads.readers.onnx_evaluate import (
    run_in_onnxruntime,
    runner_words,
    runners,
)
from hfp8sim.workloads.readers.onnx_fold import infer_shapes
from hfp8sim.workloads.readers.onnx_graph import Graph
from hfp8sim.workloads.readers.onnx_model import (
    Dims,
    fix_dimensions,
    import_onnx,
    load_model,
    prepare_model,
)
from hfp8sim.workloads.readers.onnx_nodes import NODE_READERS, Reading, read_nodes
from hfp8sim.workloads.readers.onnx_tensors import StoredTensors

#: Forward multiply-accumulates up to which the model is run unless `values` says otherwise.
MAX_MACS = 2 * 10**9
#: Elements of all intermediate and all stored tensors together up to which it is run.
_MAX_ELEMENTS = 2**28
#: Products, layers or operators that one line names.
_NAMED = 6


def load_onnx(
    path: str | os.PathLike[str],
    batch: int | None = None,
    dims: Dims | None = None,
    *,
    inputs: Mapping[str, np.ndarray] | None = None,
    values: bool | None = None,
    weights: bool = True,
    seed: int = 0,
    evaluator: str | None = None,
) -> Workload:
    """Read an ONNX model.

    Args:
        path: the model. Weights in external files are read if the files exist, one tensor at a time.
        batch: size of a free first dimension of the inputs; 1 if not given.
        dims: sizes of other free dimensions: by name, by input and axis as in `{"x:2": 48}`, or all
            sizes of an input as in `{"x": (1, 3, 48, 320)}`.
        inputs: arrays by input name; the others are generated from `seed`. A model with one input takes
            its array under the name "" too.
        values: whether to run the model to record activations. None runs models of up to `MAX_MACS`
            multiply-accumulates. False runs nothing, not even for shapes that inference cannot find.
        weights: whether to read weights. False leaves out all tensors, as timing alone needs none.
        seed: of generated inputs.
        evaluator: "onnx" or "onnxruntime"; by default onnxruntime if installed, else onnx.

    Raises `InputError`, in one line, if the file is no model, a dimension stays free, an input does not
    fit, or the model has no matrix product that can be read.
    """
    onnx = import_onnx()
    source = Path(path)
    arrays = {name: np.asarray(array) for name, array in (inputs or {}).items()}
    with located(source):
        candidates = list(runners(evaluator))
        model = load_model(onnx, source)
        arrays = _named(model, arrays)
        was_free = fix_dimensions(model, batch, dims or {}, arrays)
        tensors = StoredTensors(onnx, source.parent)
        warnings = prepare_model(onnx, model, tensors, arrays, was_free)
        graph = Graph(onnx, model, tensors, NODE_READERS)
        reading = read_nodes(graph)
        notes = [f"ONNX model {source}"]
        run = ""
        if weights and _is_wanted(graph, reading, values):
            execution = _Execution(onnx, graph, arrays, seed, warnings, notes)
            reading = execution.run(reading, candidates)
            run = execution.input_words
        elif weights and values is None and reading.layers:
            notes.append(
                f"activations not computed: {_macs(reading) / 1e9:.3g} GMAC forward or large tensors; "
                "load_onnx(..., values=True) or convert --inputs computes them"
            )
        if reading.shapeless:
            warnings += _why_shapeless(onnx, model)
        if not reading.layers:
            raise InputError(_no_layer(graph, reading))
        layers = _finished(graph, reading, run) if weights else _without_tensors(reading)
        return Workload(
            source.stem,
            layers,
            tuple(notes),
            tuple(f"{source}: {warning}" for warning in warnings),
            tuple(f"{source}: {reason}" for reason in reading.missing),
        )


def _named(model: Any, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays by name; the name "" is that of the only input."""
    if "" not in arrays:
        return arrays
    stored = {tensor.name for tensor in model.graph.initializer}
    names = [entry.name for entry in model.graph.input if entry.name not in stored]
    if len(names) != 1 or len(arrays) != 1:
        raise InputError(
            f"one array without a name is given; the model's inputs are {', '.join(names) or 'none'}"
        )
    return {names[0]: arrays[""]}


def _macs(reading: Reading) -> int:
    return sum(prod(layer.layer.shape()) for layer in reading.layers)


def _is_wanted(graph: Graph, reading: Reading, values: bool | None) -> bool:
    """Whether to run the model."""
    if values is not None:
        return values
    if not reading.layers and not reading.shapeless:
        return False
    names = [name for node in graph.model.graph.node for name in node.output if name]
    names += graph.input_names
    sizes = [prod(graph.shapes.get(name, ())) for name in names]
    sizes += [prod(graph.tensors.dims(name)) for name in graph.tensors.protos]
    return _macs(reading) <= MAX_MACS and sum(sizes) <= _MAX_ELEMENTS


def _finished(graph: Graph, reading: Reading, run: str) -> tuple[Layer, ...]:
    names = distinct(pending.layer.name for pending in reading.layers)
    return tuple(
        pending.finish(name, graph, run)
        for name, pending in zip(names, reading.layers, strict=True)
    )


def _without_tensors(reading: Reading) -> tuple[Layer, ...]:
    names = distinct(pending.layer.name for pending in reading.layers)
    return tuple(
        pending.layer.replace(name=name, origin="shape alone, from the model")
        for name, pending in zip(names, reading.layers, strict=True)
    )


def _why_shapeless(onnx: Any, model: Any) -> list[str]:
    """What stops shape inference, if a node's operands do not fit: such as the two of an addition."""
    try:
        infer_shapes(onnx, model, strict_mode=True)
    except Exception as error:  # several types, some raised from C++
        return [f"shape inference: {one_line(error)}"]
    return []


def _no_layer(graph: Graph, reading: Reading) -> str:
    """Why a model gives no layer."""
    if reading.missing:
        return f"no layer in it that can be read: {_listed(reading.missing, '; ')}"
    operators = dict.fromkeys(node.op_type for node in graph.model.graph.node)
    return f"no layer in it: no product among its operators {_listed(list(operators))}"


def _listed(texts: list[str], separator: str = ", ") -> str:
    """The first few texts and the number of the others."""
    rest = len(texts) - _NAMED
    return separator.join(texts[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")


class _Execution:
    """One run of the model, for the activations and for the shapes that inference did not find."""

    def __init__(
        self,
        onnx: Any,
        graph: Graph,
        arrays: Mapping[str, np.ndarray],
        seed: int,
        warnings: list[str],
        notes: list[str],
    ) -> None:
        self.onnx, self.graph, self.warnings, self.notes = onnx, graph, warnings, notes
        self.feeds = dict(arrays)
        generated = []
        for name in graph.input_names:
            if name in self.feeds:
                continue
            try:
                self.feeds[name] = _generate(onnx, graph, name, seed)
                generated.append(name)
            except Exception as error:  # a type without arrays, a shape that is not known
                graph.failures[name] = f"input {name!r} has no value: {one_line(error)}"
        self.input_words = (
            f"a generated input, seed {seed}" if generated or not arrays else "a given input"
        )

    def run(self, reading: Reading, candidates: list[str]) -> Reading:
        """Run the model and store what the layers need in the graph; the layers with all shapes known."""
        graph = self.graph
        named = [name for layer in reading.layers for name in layer.inputs] + reading.shapeless
        skip = graph.constant | set(self.feeds)
        wanted = [name for name in dict.fromkeys(named) if name and name not in skip]
        found = self._values(wanted, candidates) if wanted else {}
        before = set(graph.shapes)
        graph.adopt(self.feeds | found)
        graph.was_run = True
        if not reading.shapeless:
            return reading
        computed = [name for name in reading.shapeless if name in graph.constant]
        graph.adopt(graph.evaluator.compute(computed, {}))
        if new := set(graph.shapes) - before:
            self.notes.append(
                f"shapes of {_listed(sorted(map(repr, new)))} are those of {self.input_words}"
            )
        return read_nodes(graph)

    def _values(self, wanted: list[str], candidates: list[str]) -> dict[str, Any]:
        """The values of `wanted` from the first evaluator that runs the model."""
        graph = self.graph
        for candidate in candidates:
            if candidate == "onnxruntime":
                try:
                    found = run_in_onnxruntime(graph.model, graph.tensors, wanted, self.feeds)
                except Exception as error:  # of many types, for what it does not support
                    self.warnings.append(f"onnxruntime cannot run it: {one_line(error)}")
                    continue
            else:
                found = graph.evaluator.compute(wanted, self.feeds)
            if found:
                words = runner_words(candidate, self.onnx)
                self.notes.append(f"activations computed by {words}")
            return found
        return {}


def _generate(onnx: Any, graph: Graph, name: str, seed: int) -> np.ndarray:
    """A random input: standard normals, or integers that are valid indices of the tables they select from."""
    shape = graph.shape(name)
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(graph.types[name]))
    if dtype.kind not in "fViub":
        raise InputError(f"its type {dtype} is no number")
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    if dtype.kind in "iu":
        rows = [
            graph.shapes[node.input[0]][_axis_of(node)]
            for node in graph.model.graph.node
            if node.op_type == "Gather" and node.input[1] == name and node.input[0] in graph.shapes
        ]
        if not rows and dtype.itemsize == 1:  # a quantised image
            limits = np.iinfo(dtype)
            return rng.integers(limits.min, limits.max + 1, shape).astype(dtype)
        return rng.integers(0, min(rows, default=2), shape).astype(dtype)
    if dtype.kind == "b":
        return np.ones(shape, bool)
    return rng.standard_normal(shape).astype(dtype)


def _axis_of(node: Any) -> int:
    """The axis attribute of a node, 0 if it has none."""
    return next((int(a.i) for a in node.attribute if a.name == "axis"), 0)
