"""ONNX models: shapes by inference, weights from the initialisers, activations by running the model.

Every product of two tensors becomes a layer: Conv, ConvTranspose, Gemm, MatMul, Einsum, LSTM, GRU and
RNN, the quantised Conv and MatMul by shape alone. What is left out, and why, stands in the workload's
warnings. The reader needs the extra `onnx`.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from hfp8sim.errors import InputError, unknown
from hfp8sim.network.records import (
    MAX_SIZE,
    PHASES,
    Conv,
    Layer,
    Workload,
    distinct,
    same_padding,
)
from hfp8sim.workloads.readers import layouts, nests

MAX_MACS = 2 * 10**9
"""Forward multiply-accumulates up to which the model is run without being asked."""

_MAX_VALUES = 2**28  # elements of all intermediate tensors together, likewise

_NO_DGRAD = ("fwd", "wgrad")


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
        path: the model; weights in external files are read where they are there.
        batch: size of a free first dimension of the inputs; 1 if not given.
        dims: sizes of other free dimensions, by name.
        inputs: arrays by input name; the others are generated from `seed`.
        values: run the model (onnx's reference evaluator) to record activations; None does so up to
            `MAX_MACS` multiply-accumulates.
        seed: of generated inputs.

    Raises `InputError`, in one line, where the file is no model, a dimension stays free, an input
    does not fit, or nothing in the model is a matrix product.
    """
    onnx = _import_onnx()
    source = Path(path)
    model = _load(onnx, source)
    given = {name: np.asarray(array) for name, array in (inputs or {}).items()}
    try:
        warnings = _prepare(onnx, model, source, batch, dict(dims or {}), given)
        graph = _Graph(onnx, model, warnings)
        readings = _read(graph)
        if not readings:
            raise InputError("no layer in it: no Conv, Gemm, MatMul or other product was read")
        total = sum(prod(reading.layer.shape()) for reading in readings)
        run = graph.fits(total) if values is None else values
        notes = [f"ONNX model {source}"]
        origin = "from the model's initialisers"
        if run:
            origin += _run(onnx, graph, given, seed, readings)
        elif values is None:
            notes.append(
                f"activations not computed: {total / 1e9:.3g} GMAC forward or large tensors; "
                "load_onnx(..., values=True) or convert --inputs computes them"
            )
        names = distinct(reading.layer.name for reading in readings)
        layers = tuple(
            reading.finish(name, graph, origin)
            for name, reading in zip(names, readings, strict=True)
        )
        return Workload(
            source.stem, layers, tuple(notes), tuple(f"{source}: {w}" for w in warnings)
        )
    except InputError as error:
        raise InputError(f"{source}: {error}") from None


def _import_onnx() -> Any:
    try:
        import onnx
        import onnx.reference
        import onnx.shape_inference
    except ImportError:
        raise InputError('reading ONNX needs an extra: pip install "hfp8sim[onnx]"') from None
    return onnx


# --- the model and its shapes -----------------------------------------------------------------------


def _load(onnx: Any, source: Path) -> Any:
    """The model, with its external weights where they can be read."""
    try:
        model = onnx.load(str(source), load_external_data=False)
    except OSError as error:
        raise InputError(f"{source}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # protobuf's own, whichever implementation is installed
        raise InputError(f"{source}: no ONNX model, or torn: {_line(error)}") from None
    if not model.HasField("graph") or not model.graph.node:
        raise InputError(f"{source}: no ONNX model, or one without a node")
    if not all(
        isinstance(text, str) for text in _texts(model.graph)
    ):  # protobuf leaves them as bytes
        raise InputError(f"{source}: torn: a name in it is no text")
    return model


def _texts(graph: Any) -> Iterator[Any]:
    """Every name that the reader looks at."""
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
    for entry in (*graph.input, *graph.output):
        yield entry.name
        yield from (dim.dim_param for dim in entry.type.tensor_type.shape.dim)
    yield from (tensor.name for tensor in graph.initializer)


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."


def _prepare(
    onnx: Any,
    model: Any,
    source: Path,
    batch: int | None,
    dims: dict[str, int],
    given: Mapping[str, np.ndarray],
) -> list[str]:
    """Load external weights, fix the free dimensions, infer every shape; return the warnings."""
    warnings: list[str] = []
    external = [t for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    if external:
        try:
            onnx.external_data_helper.load_external_data_for_model(model, str(source.parent))
        except Exception as error:  # missing, short or unreadable: shapes are known without
            warnings.append(f"external weights not read: {_line(error)}")
    _fix_dimensions(model, batch, dims, given)
    try:
        if model.functions:
            import onnx.inliner

            model.CopyFrom(onnx.inliner.inline_local_functions(model))
        # Intermediate shapes in the file may be those of another batch.
        del model.graph.value_info[:]
        model.CopyFrom(onnx.shape_inference.infer_shapes(model, data_prop=True))
    except Exception as error:  # several types, some raised from C++
        warnings.append(f"shape inference stopped: {_line(error)}")
    return warnings


def _fix_dimensions(
    model: Any, batch: int | None, dims: dict[str, int], given: Mapping[str, np.ndarray]
) -> None:
    """Give every free dimension of the inputs a size: from an array, by name, or the batch."""
    for name, size in {**dims, "batch": 1 if batch is None else batch}.items():
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= MAX_SIZE:
            raise InputError(f"dimension {name!r} is {size!r}; it must be a whole number from 1")
    known = {tensor.name for tensor in model.graph.initializer}
    entries = [entry for entry in model.graph.input if entry.name not in known]
    for name in given:
        if name not in [entry.name for entry in entries]:
            raise unknown("input", name, [entry.name for entry in entries])
    used: set[str] = set()
    batched = False
    for entry in entries:
        shape = entry.type.tensor_type.shape.dim
        array = given.get(entry.name)
        if array is not None and array.ndim != len(shape):
            raise InputError(
                f"input {entry.name!r} has {array.ndim} axes; the model's has {len(shape)}"
            )
        for axis, dim in enumerate(shape):
            if dim.HasField("dim_value") and dim.dim_value > 0:
                if array is not None and array.shape[axis] != dim.dim_value:
                    raise InputError(
                        f"input {entry.name!r} has size {array.shape[axis]} along axis {axis}; "
                        f"the model's has {dim.dim_value}"
                    )
                continue
            label = dim.dim_param
            used.add(label)
            if array is not None:
                dim.dim_value = array.shape[axis]
            elif label in dims:
                dim.dim_value = dims[label]
            elif axis == 0:
                dim.dim_value = 1 if batch is None else batch
                batched = True
            else:
                raise InputError(
                    f"input {entry.name!r} has a free dimension {label or axis!r}; give its size, "
                    f"as in dims={{{label or 'name'!r}: 128}} or --dim {label or 'name'}=128"
                )
    if batch is not None and not batched:
        raise InputError(f"batch is {batch}, but no input has a free first dimension")
    for name in dims:
        if name not in used:
            raise unknown("free dimension", name, sorted(filter(None, used)) or ["(none is free)"])


class _Graph:
    """Shapes, constants and dependencies of a model's values, by name."""

    def __init__(self, onnx: Any, model: Any, warnings: list[str]) -> None:
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
            self.shapes.pop(name, None)  # the initialiser itself decides
            if all(size > 0 for size in tensor.dims):
                self.shapes[name] = tuple(tensor.dims)
        self.values: dict[str, np.ndarray] = {}
        self.constant, self.learned = self._depend()

    def _depend(self) -> tuple[set[str], set[str]]:
        """Values that need no input, and values that a trained parameter before them decides."""
        constant, learned = set(self.initializers), set[str]()
        for node in self.model.graph.node:
            outputs, feeds = set(node.output), [name for name in node.input if name]
            inner = any(a.HasField("g") or a.graphs for a in node.attribute)
            if not inner and "Random" not in node.op_type and set(feeds) <= constant:
                constant |= outputs
            embedding = node.op_type == "Gather" and feeds and feeds[0] in constant
            if inner or embedding or node.op_type in _READERS or learned & set(feeds):
                learned |= outputs
        return constant, learned - constant

    def shape(self, name: str) -> tuple[int, ...]:
        if name not in self.shapes:
            raise _Skip(f"the shape of {name!r} is not known")
        return self.shapes[name]

    def value(self, name: str) -> np.ndarray | None:
        """A float32 array where the value is known and a float."""
        if name not in self.values and name in self.initializers:
            tensor = self.initializers[name]
            if tensor.data_location == self.onnx.TensorProto.EXTERNAL and not tensor.raw_data:
                return None
            try:
                self.values[name] = self.onnx.numpy_helper.to_array(tensor)
            except Exception as error:  # damaged data of any type
                raise InputError(f"initialiser {name!r} is torn: {_line(error)}") from None
        array = self.values.get(name)
        if array is None or array.dtype.kind not in "fV":  # V: bfloat16 and the 8-bit floats
            return None
        with np.errstate(over="ignore"):  # Layer refuses the infinity, by name
            return np.asarray(array, np.float32)

    def fits(self, macs: int) -> bool:
        """Whether running the model is cheap enough to do without being asked."""
        names = [name for node in self.model.graph.node for name in node.output if name]
        if any(name not in self.shapes for name in names):
            return False
        return macs <= MAX_MACS and sum(prod(self.shapes[n]) for n in names) <= _MAX_VALUES


class _Skip(Exception):
    """A node that cannot be read, with the reason."""


# --- nodes to layers --------------------------------------------------------------------------------


Tensors = Callable[[_Graph], Mapping[str, "np.ndarray | None"]]


@dataclass
class _Reading:
    """A layer still without tensors, the values it needs, and how to arrange them."""

    layer: Layer
    needs: tuple[str, ...]
    tensors: Tensors = field(repr=False)

    def finish(self, name: str, graph: _Graph, origin: str) -> Layer:
        known = {key: value for key, value in self.tensors(graph).items() if value is not None}
        return self.layer.replace(name=name, tensors=known, origin=origin)


def _read(graph: _Graph) -> list[_Reading]:
    """Every node that is a matrix product, in the model's order."""
    readings: list[_Reading] = []
    for index, node in enumerate(graph.model.graph.node):
        label = node.name or next((name for name in node.output if name), f"{node.op_type}_{index}")
        if node.domain not in ("", "ai.onnx") or any(a.HasField("g") for a in node.attribute):
            graph.warnings.append(
                f"node {label!r} of type {node.op_type} is not looked into; skipped"
            )
            continue
        if node.op_type in _UNREAD:
            graph.warnings.append(
                f"node {label!r}: products inside {node.op_type} are not read; skipped"
            )
        reader = _READERS.get(node.op_type)
        if reader is None:
            continue
        try:
            readings += reader(graph, _Node(graph, node, label))
        except _Skip as reason:
            graph.warnings.append(f"node {label!r} of type {node.op_type}: {reason}; skipped")
        except InputError as error:
            graph.warnings.append(f"node {label!r} of type {node.op_type}: {error}; skipped")
    return readings


class _Node:
    """A node's inputs and attributes."""

    def __init__(self, graph: _Graph, node: Any, label: str) -> None:
        self.label, self.op_type = label, node.op_type
        self.inputs, self.outputs = list(node.input), list(node.output)
        try:
            self.attributes = {
                a.name: graph.onnx.helper.get_attribute_value(a) for a in node.attribute
            }
        except Exception as error:  # an attribute of no type, or of one that is not known
            raise _Skip(f"unreadable attribute: {_line(error)}") from None

    def input(self, index: int) -> str:
        if index >= len(self.inputs) or not self.inputs[index]:
            raise _Skip(f"input {index} is missing")
        return str(self.inputs[index])

    def integer(self, name: str, default: int) -> int:
        value = self.attributes.get(name, default)
        if not isinstance(value, int):
            raise _Skip(f"attribute {name} is {value!r}, not a whole number")
        return value

    def integers(self, name: str, default: Sequence[int]) -> list[int]:
        value = self.attributes.get(name) or list(default)
        if not isinstance(value, list) or len(value) != len(default):
            raise _Skip(f"attribute {name} is {value!r}; it must have {len(default)} numbers")
        if not all(isinstance(v, int) for v in value):
            raise _Skip(f"attribute {name} is {value!r}; it must hold whole numbers")
        return value

    def text(self, name: str, default: str) -> str:
        value = self.attributes.get(name, default)
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _phases(graph: _Graph, x: str) -> tuple[str, ...]:
    """Without dgrad where no trained parameter stands before `x`."""
    return PHASES if x in graph.learned else _NO_DGRAD


def _axes(node: _Node, x: tuple[int, ...], w: tuple[int, ...]) -> tuple[int, list[int], list[int]]:
    """Number of spatial axes (1 or 2), and both shapes with a height of 1 where there was one axis."""
    spatial = len(x) - 2
    if spatial not in (1, 2) or len(w) != len(x):
        raise _Skip(f"it has {spatial} spatial axes; convolutions here have one or two")
    wide = [1] * (2 - spatial)
    return spatial, [*x[:2], *wide, *x[2:]], [*w[:2], *wide, *w[2:]]


def _conv(graph: _Graph, node: _Node) -> list[_Reading]:
    weight = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}[node.op_type]
    x, w = node.input(0), node.input(weight)
    spatial, xs, ws = _axes(node, graph.shape(x), graph.shape(w))
    stride, dilation, pads = _windows(node, spatial, xs, ws)
    groups = node.integer("group", 1)
    if groups < 1 or ws[1] * groups != xs[1]:
        raise _Skip(
            f"{xs[1]} channels do not match weights of shape {tuple(ws)} in {groups} groups"
        )
    geometry = Conv(
        batch=xs[0],
        height=xs[2],
        width=xs[3],
        channels=xs[1],
        filters=ws[0],
        kernel=(ws[2], ws[3]),
        stride=(stride[0], stride[1]),
        padding=(pads[0], pads[1], pads[2], pads[3]),
        dilation=(dilation[0], dilation[1]),
        groups=groups,
    )

    def tensors(known: _Graph) -> dict[str, np.ndarray | None]:
        image, weights = _reshaped(known.value(x), xs), _reshaped(known.value(w), ws)
        return {
            "x": None if image is None else layouts.nhwc(image),
            "w": None if weights is None else layouts.filters(weights),
        }

    layer = Layer.from_conv(node.label, geometry, phases=_phases(graph, x))
    return [_Reading(layer, (x, w), tensors)]


def _windows(
    node: _Node, spatial: int, xs: list[int], ws: list[int]
) -> tuple[list[int], list[int], list[int]]:
    """Strides, dilations and pads (top, bottom, left, right) of a convolution."""
    wide = [1] * (2 - spatial)
    stride = wide + node.integers("strides", [1] * spatial)
    dilation = wide + node.integers("dilations", [1] * spatial)
    if min(stride + dilation) < 1:
        raise _Skip(f"strides {stride} and dilations {dilation} must be from 1")
    given = node.integers("pads", [0] * (2 * spatial))
    before, after = [0] * (2 - spatial) + given[:spatial], [0] * (2 - spatial) + given[spatial:]
    auto = node.text("auto_pad", "NOTSET")
    if auto.startswith("SAME"):
        for axis in range(2):
            small, large = same_padding(xs[2 + axis], ws[2 + axis], stride[axis], dilation[axis])
            swap = auto == "SAME_LOWER"
            before[axis], after[axis] = (large, small) if swap else (small, large)
    elif auto == "VALID":
        before, after = [0, 0], [0, 0]
    return stride, dilation, [before[0], after[0], before[1], after[1]]


def _conv_transpose(graph: _Graph, node: _Node) -> list[_Reading]:
    """A convolution of the gapped input with the turned filters."""
    x, w = node.input(0), node.input(1)
    spatial, xs, ws = _axes(node, graph.shape(x), graph.shape(w))
    wide, none = [1] * (2 - spatial), [0] * (2 - spatial)
    stride = wide + node.integers("strides", [1] * spatial)
    dilation = wide + node.integers("dilations", [1] * spatial)
    extra = none + node.integers("output_padding", [0] * spatial)
    groups = node.integer("group", 1)
    if groups < 1 or ws[0] != xs[1] or xs[1] % groups:
        raise _Skip(
            f"{xs[1]} channels do not match weights of shape {tuple(ws)} in {groups} groups"
        )
    reach = [dilation[a] * (ws[2 + a] - 1) for a in range(2)]
    given = node.integers("pads", [0] * (2 * spatial))
    before, after = none + given[:spatial], none + given[spatial:]
    auto, sizes = node.text("auto_pad", "NOTSET"), node.attributes.get("output_shape")
    if auto.startswith("SAME") or sizes:
        target = none + node.integers("output_shape", [1] * spatial) if sizes else None
        for a in range(2):
            full = stride[a] * (xs[2 + a] - 1) + extra[a] + reach[a] + 1
            total = full - (target[a] if target and a >= 2 - spatial else xs[2 + a] * stride[a])
            half = (total // 2, total - total // 2)
            before[a], after[a] = half if auto == "SAME_UPPER" else half[::-1]
    elif auto == "VALID":
        before, after = [0, 0], [0, 0]
    geometry = layouts.transposed(
        xs,
        ws,
        (stride[0], stride[1]),
        (before[0], after[0] - extra[0], before[1], after[1] - extra[1]),
        (dilation[0], dilation[1]),
        groups,
    )

    def tensors(known: _Graph) -> dict[str, np.ndarray | None]:
        image, weights = _reshaped(known.value(x), xs), _reshaped(known.value(w), ws)
        return {
            "x": None if image is None else layouts.nhwc(image),
            "w": None if weights is None else layouts.turned_filters(weights, groups),
        }

    layer = Layer.from_conv(node.label, geometry, phases=_phases(graph, x))
    return [_Reading(layer, (x, w), tensors)]


def _reshaped(array: np.ndarray | None, shape: Iterable[int]) -> np.ndarray | None:
    return None if array is None else array.reshape(tuple(shape))


def _gemm(graph: _Graph, node: _Node) -> list[_Reading]:
    a, b = node.input(0), node.input(1)
    a_shape, b_shape = graph.shape(a), graph.shape(b)
    if len(a_shape) != 2 or len(b_shape) != 2:
        raise _Skip(f"operands of shapes {a_shape} and {b_shape} are no matrices")
    a_loops = ["k", "m"] if node.integer("transA", 0) else ["m", "k"]
    b_loops = ["n", "k"] if node.integer("transB", 0) else ["k", "n"]
    return _product(graph, node.label, (a, a_loops), (b, b_loops), ["m", "n"])


def _matmul(graph: _Graph, node: _Node) -> list[_Reading]:
    """NumPy's matmul: leading axes are a batch, missing ones and those of size 1 are repeated."""
    a, b = (node.input(i) for i in ((0, 3) if node.op_type == "QLinearMatMul" else (0, 1)))
    a_shape, b_shape = graph.shape(a), graph.shape(b)
    if not a_shape or not b_shape:
        raise _Skip("an operand is a scalar")
    a_loops, b_loops, out = nests.matmul_loops(len(a_shape), len(b_shape))
    return _product(graph, node.label, (a, a_loops), (b, b_loops), out)


def _einsum(graph: _Graph, node: _Node) -> list[_Reading]:
    a_loops, b_loops, out = nests.einsum_loops(node.text("equation", ""))
    return _product(graph, node.label, (node.input(0), a_loops), (node.input(1), b_loops), out)


Operand = tuple[str, list[str]]


def _product(graph: _Graph, label: str, a: Operand, b: Operand, out: list[str]) -> list[_Reading]:
    """A product of two tensors with labelled axes; the constant one is the weight, wherever it stands."""
    if a[0] in graph.constant and b[0] not in graph.constant:
        a, b = b, a
    product = nests.Product.of(graph.shape(a[0]), a[1], graph.shape(b[0]), b[1], out)
    groups, m, n, k = product.shape
    constant = b[0] in graph.constant
    kind = ("linear" if groups == 1 else "gemm") if constant else "matmul"

    def tensors(known: _Graph) -> dict[str, np.ndarray | None]:
        x, w = known.value(a[0]), known.value(b[0])
        return {
            "x": None if x is None else product.a(x),
            "w": None if w is None else product.b(w),
        }

    layer = Layer(label, kind, m, n, k, groups, phases=_phases(graph, a[0]))
    return [_Reading(layer, (a[0], b[0]), tensors)]


def _recurrent(graph: _Graph, node: _Node) -> list[_Reading]:
    """Per direction: one product for the inputs of all steps, and the recurrence, step by step."""
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[node.op_type]
    x, w, r = node.input(0), node.input(1), node.input(2)
    x_shape, r_shape = graph.shape(x), graph.shape(r)
    if len(x_shape) != 3 or len(r_shape) != 3 or r_shape[1] != gates * r_shape[2]:
        raise _Skip(f"shapes {x_shape} and {r_shape} are not those of {node.op_type}")
    steps, batch, width = x_shape
    if node.integer("layout", 0):
        steps, batch = batch, steps
    hidden = r_shape[2]

    def inputs(direction: int) -> Tensors:
        def tensors(known: _Graph) -> dict[str, np.ndarray | None]:
            weights = known.value(w)
            return {
                "x": _reshaped(known.value(x), (steps * batch, width)),
                "w": None if weights is None else weights[direction].T,
            }

        return tensors

    def recurrence(direction: int) -> Tensors:
        def tensors(known: _Graph) -> dict[str, np.ndarray | None]:
            weights = known.value(r)
            return {"w": None if weights is None else weights[direction].T}

        return tensors

    readings = []
    for direction in range(r_shape[0]):
        name = node.label + (f".{direction}" if r_shape[0] > 1 else "")
        n = gates * hidden
        into = Layer(f"{name}.input", "linear", steps * batch, n, width, phases=_phases(graph, x))
        back = Layer(f"{name}.recurrent", "recurrent", batch, n, hidden, steps)
        readings.append(_Reading(into, (x, w), inputs(direction)))
        readings.append(_Reading(back, (r,), recurrence(direction)))
    return readings


_READERS: dict[str, Callable[[_Graph, _Node], list[_Reading]]] = {
    "Conv": _conv,
    "ConvInteger": _conv,
    "QLinearConv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "MatMulInteger": _matmul,
    "QLinearMatMul": _matmul,
    "Einsum": _einsum,
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
}
_UNREAD = ("Attention", "DeformConv", "LinearAttention")


# --- values -----------------------------------------------------------------------------------------


def _run(
    onnx: Any,
    graph: _Graph,
    given: Mapping[str, np.ndarray],
    seed: int,
    readings: list[_Reading],
) -> str:
    """Run the model and keep the values that layers need; return where they came from, in words."""
    entries = [entry.name for entry in graph.model.graph.input]
    fed = [name for name in entries if name not in graph.initializers]
    generated = [name for name in fed if name not in given]
    feeds = dict(given)
    needed = dict.fromkeys(name for reading in readings for name in reading.needs)
    wanted = [name for name in needed if name not in graph.initializers and name not in fed]
    try:
        for name in generated:
            feeds[name] = _generate(onnx, graph, name, seed)
        found = dict(feeds)
        if wanted:
            with np.errstate(all="ignore"):
                session = onnx.reference.ReferenceEvaluator(graph.model)
                found |= dict(zip(wanted, session.run(wanted, feeds), strict=True))
    except Exception as error:  # an operator that the evaluator lacks, or a shape that does not fit
        graph.warnings.append(f"activations not computed: {_line(error)}")
        found = feeds
    for name, value in found.items():
        if isinstance(value, np.ndarray) and value.shape == graph.shapes.get(name):
            graph.values[name] = value
    kind = "a generated input" if generated else "a given input"
    return f" and {kind}" + (f", seed {seed}" if generated else "")


def _generate(onnx: Any, graph: _Graph, name: str, seed: int) -> np.ndarray:
    """Unit normals for a float input; small numbers for an integer one, within what it indexes."""
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
