"""ONNX models: shapes by inference, weights from the initialisers, activations by running the model.

Every product of two tensors becomes a layer: Conv, ConvTranspose, Gemm, MatMul, Einsum, LSTM, GRU and
RNN. The quantised Conv and MatMul are read by shape alone. The workload's warnings name what is left out,
and why. The reader needs the extra `onnx`.
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
from hfp8sim.network.records import Workload, distinct
from hfp8sim.workloads.readers.onnx_graph import Graph
from hfp8sim.workloads.readers.onnx_model import import_onnx, load_model, prepare_model
from hfp8sim.workloads.readers.onnx_nodes import NODE_READERS, PendingLayer, read_nodes

#: Forward multiply-accumulates up to which the model is run unless `values` says otherwise.
MAX_MACS = 2 * 10**9
#: Elements of all intermediate tensors together up to which it is run.
_MAX_ELEMENTS = 2**28


def load_onnx(
    path: str | os.PathLike[str],
    batch: int | None = None,
    dims: Mapping[str, int] | None = None,
    *,
    inputs: Mapping[str, np.ndarray] | None = None,
    values: bool | None = None,
    seed: int = 0,
) -> Workload:
    """Read an ONNX model.

    Args:
        path: the model. Weights in external files are read if the files exist.
        batch: size of a free first dimension of the inputs; 1 if not given.
        dims: sizes of other free dimensions, by name.
        inputs: arrays by input name; the others are generated from `seed`.
        values: whether to run the model in onnx's reference evaluator to record activations. None runs
            models of up to `MAX_MACS` multiply-accumulates.
        seed: of generated inputs.

    Raises `InputError`, in one line, if the file is no model, a dimension stays free, an input does not
    fit, or the model has no matrix product.
    """
    onnx = import_onnx()
    source = Path(path)
    arrays = {name: np.asarray(array) for name, array in (inputs or {}).items()}
    with located(source):
        model = load_model(onnx, source)
        warnings = prepare_model(onnx, model, source.parent, batch, dict(dims or {}), arrays)
        graph = Graph(onnx, model, warnings, NODE_READERS)
        pending = read_nodes(graph)
        if not pending:
            raise InputError("no layer in it: no Conv, Gemm, MatMul or other product was read")
        macs = sum(prod(layer.layer.shape()) for layer in pending)
        notes = [f"ONNX model {source}"]
        origin = "from the model's initialisers"
        if values or (values is None and _is_small(graph, macs)):
            origin += " and " + _compute_values(onnx, graph, arrays, seed, pending)
        elif values is None:
            notes.append(
                f"activations not computed: {macs / 1e9:.3g} GMAC forward or large tensors; "
                "load_onnx(..., values=True) or convert --inputs computes them"
            )
        names = distinct(layer.layer.name for layer in pending)
        layers = tuple(
            layer.finish(name, graph, origin) for name, layer in zip(names, pending, strict=True)
        )
        located_warnings = tuple(f"{source}: {warning}" for warning in warnings)
        return Workload(source.stem, layers, tuple(notes), located_warnings)


def _is_small(graph: Graph, macs: int) -> bool:
    """Whether running the model takes little time and memory."""
    names = [name for node in graph.model.graph.node for name in node.output if name]
    if any(name not in graph.shapes for name in names):
        return False
    return macs <= MAX_MACS and sum(prod(graph.shapes[n]) for n in names) <= _MAX_ELEMENTS


def _compute_values(
    onnx: Any,
    graph: Graph,
    arrays: Mapping[str, np.ndarray],
    seed: int,
    pending: list[PendingLayer],
) -> str:
    """Run the model and store the values that layers need in `graph`.

    Returns a description of the input. If the evaluator fails, a warning is added and the inputs alone are
    stored.
    """
    entries = [entry.name for entry in graph.model.graph.input]
    inputs = [name for name in entries if name not in graph.initializers]
    generated = [name for name in inputs if name not in arrays]
    feeds = dict(arrays)
    needed = dict.fromkeys(name for layer in pending for name in layer.inputs)
    outputs = [name for name in needed if name not in graph.initializers and name not in inputs]
    try:
        for name in generated:
            feeds[name] = _generate(onnx, graph, name, seed)
        values = dict(feeds)
        if outputs:
            with np.errstate(all="ignore"):
                session = onnx.reference.ReferenceEvaluator(graph.model)
                values |= dict(zip(outputs, session.run(outputs, feeds), strict=True))
    except Exception as error:  # an operator that the evaluator lacks, or a shape that does not fit
        graph.warnings.append(f"activations not computed: {one_line(error)}")
        values = feeds
    for name, value in values.items():
        if isinstance(value, np.ndarray) and value.shape == graph.shapes.get(name):
            graph.values[name] = value
    return f"a generated input, seed {seed}" if generated else "a given input"


def _generate(onnx: Any, graph: Graph, name: str, seed: int) -> np.ndarray:
    """A random input: standard normals, or integers that are valid indices of the tables they select from."""
    shape = graph.shape(name)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(graph.types[name])
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    if dtype.kind in "iu":
        rows = [
            graph.shapes[node.input[0]][_axis_of(node)]
            for node in graph.model.graph.node
            if node.op_type == "Gather" and node.input[1] == name and node.input[0] in graph.shapes
        ]
        return rng.integers(0, min(rows, default=2), shape).astype(dtype)
    if dtype.kind == "b":
        return np.ones(shape, bool)
    return rng.standard_normal(shape).astype(dtype)


def _axis_of(node: Any) -> int:
    """The axis attribute of a node, 0 if it has none."""
    return next((int(a.i) for a in node.attribute if a.name == "axis"), 0)
