"""ONNX nodes as layers: a function for each operator that is a matrix product."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hfp8sim.errors import InputError, one_line
from hfp8sim.network.records import PHASES, Conv, Layer, same_padding
from hfp8sim.workloads.readers import nests, tensor_layouts
from hfp8sim.workloads.readers.onnx_evaluate import bodies, needed_names
from hfp8sim.workloads.readers.onnx_graph import Graph, NodeSkipped, ShapeUnknown

#: Changes the order of an array's axes.
Arrange = Callable[[np.ndarray], np.ndarray]

#: What each tensor of a layer is, in words.
_ROLES = {"x": "activations", "w": "weights"}


@dataclass(frozen=True)
class Source:
    """A value of the model, and the scale and zero point that make it real where it is quantised."""

    name: str
    scale: str = ""
    zero: str = ""
    axis: int = -1  #: the axis that a scale or zero point of several elements belongs to

    def read(self, graph: Graph) -> np.ndarray | None:
        """The real values as float32; None where they are not known."""
        array = graph.value(self.name)
        if (
            array is None or array.dtype.kind not in "fViu"
        ):  # V: bfloat16, 8-bit floats, 4-bit integers
            return None
        with np.errstate(over="ignore"):  # `Layer` refuses an infinity and names its index
            real = np.asarray(array, np.float32)
        for name, combine in ((self.zero, np.subtract), (self.scale, np.multiply)):
            if name:
                parameter = graph.value(name)
                if parameter is None:
                    return None
                real = combine(real, self._spread(np.asarray(parameter, np.float32), real.ndim))
        return real

    def _spread(self, parameter: np.ndarray, axes: int) -> np.ndarray:
        """A scale or zero point as it applies to every element along `axis`."""
        if parameter.ndim != 1 or parameter.size == 1 or axes < 2:
            return parameter if parameter.ndim != 1 or parameter.size > 1 else parameter[0]
        shape = [1] * axes
        shape[self.axis] = parameter.size
        return parameter.reshape(shape)

    @property
    def names(self) -> list[str]:
        """All values of the model that it is made of."""
        return [name for name in (self.name, self.scale, self.zero) if name]


@dataclass(frozen=True)
class States(Source):
    """The state that a recurrent node multiplies at every step, from all states that it gives."""

    initial: str = ""  #: the first state; zeros if there is none
    direction: int = 0
    backward: bool = False
    batch_first: bool = False

    def read(self, graph: Graph) -> np.ndarray | None:
        """(steps, batch, hidden) in the order of the computation."""
        states = super().read(graph)
        if states is None:
            return None
        if self.batch_first:
            states = states.transpose(1, 2, 0, 3)
        own = states[::-1, self.direction] if self.backward else states[:, self.direction]
        first = np.zeros_like(own[0])
        if self.initial:
            given = Source(self.initial).read(graph)
            if given is None:
                return None
            first = given[:, self.direction] if self.batch_first else given[self.direction]
        return np.concatenate([first[None], own[:-1]])

    @property
    def names(self) -> list[str]:
        """The node's result and the first state."""
        return [name for name in (self.name, self.initial) if name]


@dataclass
class PendingLayer:
    """A layer without its tensors, which are known only after the model has run."""

    layer: Layer
    parts: dict[str, tuple[Source, Arrange]] = field(repr=False)

    @property
    def inputs(self) -> list[str]:
        """Names of the values that its tensors are made of."""
        return [name for source, _ in self.parts.values() for name in source.names]

    def finish(self, name: str, graph: Graph, run: str) -> Layer:
        """The layer with its name, and with the tensors whose values can be found.

        `run` says on which input the model ran; it is "" if it did not. A tensor that should be known and
        is not leaves its reason in the layer's `unread`.
        """
        tensors, unread, origins = {}, {}, dict[str, None]()
        for key, (source, arrange) in self.parts.items():
            array = source.read(graph)
            constant = source.name in graph.constant
            if array is not None:
                tensors[key] = arrange(array)
                origins["the model's initialisers" if constant else run or "a given input"] = None
            elif constant or run:
                unread[key] = _reason(graph, source)
        order = sorted(origins, key=lambda words: words != "the model's initialisers")
        origin = "from " + " and ".join(order) if order else "shape alone, from the model"
        return self.layer.replace(name=name, tensors=tensors, origin=origin, unread=unread)


def _reason(graph: Graph, source: Source) -> str:
    """Why a value could not be found."""
    for name in source.names:
        if name in graph.failures:
            return graph.failures[name]
    return f"{source.name!r} has no numeric values"


@dataclass
class Reading:
    """What the nodes of a model gave.

    Attributes:
        layers: the products that could be read, in the model's order.
        missing: nodes with products that could not be read, each with the reason.
        shapeless: values whose shapes are not known, and whose products are therefore missing.
    """

    layers: list[PendingLayer] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    shapeless: list[str] = field(default_factory=list)


def read_nodes(graph: Graph) -> Reading:
    """The layers of every node that is a matrix product."""
    reading = Reading()
    for index, node in enumerate(graph.model.graph.node):
        label = node.name or next((name for name in node.output if name), f"{node.op_type}_{index}")
        title = f"node {label!r} of type {node.op_type}"
        read = _reader(node)
        if read is None:
            if reason := _unread_products(graph, node):
                reading.missing.append(f"{title}: {reason}")
            continue
        try:
            reading.layers += read(graph, Node(graph, node, label))
        except (NodeSkipped, InputError) as reason:
            reading.missing.append(f"{title}: {reason}")
            if isinstance(reason, ShapeUnknown):
                reading.shapeless += [name for name in node.input if name]
    return reading


def _reader(node: Any) -> Callable[[Graph, Node], list[PendingLayer]] | None:
    """The function that reads a node; None where it is no known product."""
    if node.domain in ("", "ai.onnx"):
        return NODE_READERS.get(node.op_type)
    if node.domain == "com.microsoft":
        return MICROSOFT_READERS.get(node.op_type)
    return None


def _unread_products(graph: Graph, node: Any) -> str:
    """Why products in a node are not read; "" if there are none."""
    if inner := _inner_products(node):
        where = f"{inner} product{'s' if inner > 1 else ''} inside of it"
        if node.op_type == "If":
            inputs = _inputs_of(graph, node.input[0]) if node.input else []
            given = f" the input {', '.join(map(repr, inputs))}" if inputs else "computed values"
            return f"{where} not read, since its condition depends on {given.strip()}"
        return f"{where} not read, since the number of its steps is not constant, or large"
    if node.domain in ("", "ai.onnx", "ai.onnx.preview"):
        return "products inside of it are not read" if node.op_type in UNREAD_OPERATORS else ""
    if (node.domain, node.op_type) in WITHOUT_PRODUCTS or node.domain == "ai.onnx.preview.training":
        return ""
    if node.domain == "ai.onnx.ml":
        return "its products are not read" if node.op_type in ML_PRODUCTS else ""
    return f"the operators of {node.domain!r} are not known here; it may hold products"


def _inner_products(node: Any) -> int:
    """Products in the bodies of a node, and operators that may hold some."""
    return sum(
        _inner_products(inside)
        or int(_reader(inside) is not None or inside.op_type in UNREAD_OPERATORS)
        for body in bodies(node)
        for inside in body.node
    )


def _inputs_of(graph: Graph, name: str) -> list[str]:
    """Inputs of the model that a value depends on."""
    order = graph.evaluator.ancestors([name], {})
    used = {n for index in order for n in needed_names(graph.model.graph.node[index])} | {name}
    return [entry for entry in graph.input_names if entry in used]


class Node:
    """A node's inputs and attributes. Attributes of the wrong type raise `NodeSkipped`."""

    def __init__(self, graph: Graph, node: Any, label: str) -> None:
        self.label, self.op_type = label, node.op_type
        self.inputs, self.outputs = list(node.input), list(node.output)
        try:
            self.attributes = {
                a.name: graph.onnx.helper.get_attribute_value(a) for a in node.attribute
            }
        except Exception as error:  # an attribute without a type, or of an unknown one
            raise NodeSkipped(f"unreadable attribute: {one_line(error)}") from None

    def input(self, index: int) -> str:
        """The name of an input that must be present."""
        if index >= len(self.inputs) or not self.inputs[index]:
            raise NodeSkipped(f"input {index} is missing")
        return str(self.inputs[index])

    def optional(self, index: int) -> str:
        """The name of an input, "" if it is missing."""
        return str(self.inputs[index]) if index < len(self.inputs) else ""

    def integer(self, name: str, default: int) -> int:
        value = self.attributes.get(name, default)
        if not isinstance(value, int):
            raise NodeSkipped(f"attribute {name} is {value!r}, not a whole number")
        return value

    def integers(self, name: str, default: Sequence[int]) -> list[int]:
        """An attribute of as many integers as `default` has; empty and absent ones give `default`."""
        value = self.attributes.get(name) or list(default)
        if not isinstance(value, list) or len(value) != len(default):
            raise NodeSkipped(f"attribute {name} is {value!r}; it must have {len(default)} numbers")
        if not all(isinstance(v, int) for v in value):
            raise NodeSkipped(f"attribute {name} is {value!r}; it must hold whole numbers")
        return value

    def text(self, name: str, default: str) -> str:
        value = self.attributes.get(name, default)
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


# --- convolutions -----------------------------------------------------------------------------------


#: Phases of a layer whose input needs no gradient.
_NO_DGRAD = ("fwd", "wgrad")
#: The input that holds the weights.
_WEIGHT_INPUTS = {"QLinearConv": 3}  #: 1 for all others


def _phases(graph: Graph, x: str) -> tuple[str, ...]:
    """All phases, without dgrad if `x` depends on no trained parameter."""
    return PHASES if x in graph.trained else _NO_DGRAD


class _Windows:
    """Shapes and attributes of a convolution node, with two spatial axes.

    A node with one spatial axis gets a height of 1. Shapes are those of the frameworks: images
    (N, C, H, W), weights (F, C/groups, R, S), or (C, F/groups, R, S) of a transposed convolution.
    """

    def __init__(self, graph: Graph, node: Node) -> None:
        self.node = node
        self.x_name, self.w_name = node.input(0), node.input(_WEIGHT_INPUTS.get(node.op_type, 1))
        x, w = graph.shape(self.x_name), graph.shape(self.w_name)
        self.axes = len(x) - 2
        if self.axes not in (1, 2) or len(w) != len(x):
            raise NodeSkipped(f"it has {self.axes} spatial axes; convolutions here have one or two")
        self.x, self.w = self._two_axes(x, lead=2), self._two_axes(w, lead=2)
        self.stride = self.sizes("strides")
        self.dilation = self.sizes("dilations")
        if min(self.stride + self.dilation) < 1:
            raise NodeSkipped(f"strides {self.stride} and dilations {self.dilation} must be from 1")
        self.groups = node.integer("group", 1)
        transposed = node.op_type == "ConvTranspose"
        channels = self.w[0] if transposed else self.w[1] * self.groups
        if self.groups < 1 or channels != self.x[1] or self.x[1] % self.groups:
            raise NodeSkipped(
                f"{self.x[1]} channels do not match weights of shape {tuple(self.w)} "
                f"in {self.groups} groups"
            )
        pads = node.integers("pads", [0] * (2 * self.axes))
        height = [0] * (2 - self.axes)
        self.before, self.after = height + pads[: self.axes], height + pads[self.axes :]
        self.auto_pad = node.text("auto_pad", "NOTSET")
        if self.auto_pad == "VALID":
            self.before, self.after = [0, 0], [0, 0]

    def _two_axes(self, values: Sequence[int], lead: int = 0, height: int = 1) -> list[int]:
        """`values` with `height` inserted behind the `lead` axes if the node has one spatial axis."""
        return [*values[:lead], *[height] * (2 - self.axes), *values[lead:]]

    def sizes(self, name: str, default: int = 1) -> tuple[int, int]:
        """An attribute with a number for each spatial axis."""
        values = self.node.integers(name, [default] * self.axes)
        height, width = self._two_axes(values, height=default)
        return height, width

    def pad_like_conv(self) -> None:
        """Compute the padding of `auto_pad = SAME_…`: the output has ceil(size / stride) pixels."""
        if not self.auto_pad.startswith("SAME"):
            return
        for axis in range(2):
            small, large = same_padding(
                self.x[2 + axis], self.w[2 + axis], self.stride[axis], self.dilation[axis]
            )
            lower = self.auto_pad == "SAME_LOWER"
            self.before[axis], self.after[axis] = (large, small) if lower else (small, large)

    def pad_like_conv_transpose(self, extra: tuple[int, int]) -> None:
        """Compute the padding that follows from `output_shape` or from `auto_pad = SAME_…`."""
        given = self.node.attributes.get("output_shape")
        if not given and not self.auto_pad.startswith("SAME"):
            return
        output = [size * stride for size, stride in zip(self.x[2:], self.stride, strict=True)]
        if given:
            output[2 - self.axes :] = self.node.integers("output_shape", [1] * self.axes)
        for axis in range(2):
            reach = self.dilation[axis] * (self.w[2 + axis] - 1) + 1
            unpadded = self.stride[axis] * (self.x[2 + axis] - 1) + extra[axis] + reach
            total = unpadded - output[axis]
            halves = (total // 2, total - total // 2)
            upper = self.auto_pad == "SAME_UPPER"
            self.before[axis], self.after[axis] = halves if upper else halves[::-1]

    def layer(self, graph: Graph, conv: Conv, arrange_weights: Arrange) -> list[PendingLayer]:
        """The layer of this node."""

        layer = Layer.from_conv(self.node.label, conv, phases=_phases(graph, self.x_name))
        x, w = _sources(self.node, self.x_name, self.w_name, axes=(1, 0))
        parts = {
            "x": (x, lambda array: tensor_layouts.nhwc(array.reshape(self.x))),
            "w": (w, lambda array: arrange_weights(array.reshape(self.w))),
        }
        return [PendingLayer(layer, parts)]


def _sources(node: Node, x: str, w: str, axes: tuple[int, int]) -> tuple[Source, Source]:
    """The two operands of a node with the scales and zero points of a quantised one.

    `axes` are those that a scale of several elements belongs to.
    """
    if node.op_type in ("QLinearConv", "QLinearMatMul"):
        x_scale, x_zero, w_scale, w_zero = (node.input(index) for index in (1, 2, 4, 5))
        return Source(x, x_scale, x_zero, axes[0]), Source(w, w_scale, w_zero, axes[1])
    if node.op_type in ("ConvInteger", "MatMulInteger"):
        x_zero, w_zero = (node.optional(index) for index in (2, 3))
        return Source(x, "", x_zero, axes[0]), Source(w, "", w_zero, axes[1])
    return Source(x), Source(w)


def _conv(graph: Graph, node: Node) -> list[PendingLayer]:
    windows = _Windows(graph, node)
    windows.pad_like_conv()
    batch, channels, height, width = windows.x
    conv = Conv(
        batch=batch,
        height=height,
        width=width,
        channels=channels,
        filters=windows.w[0],
        kernel=(windows.w[2], windows.w[3]),
        stride=windows.stride,
        padding=(windows.before[0], windows.after[0], windows.before[1], windows.after[1]),
        dilation=windows.dilation,
        groups=windows.groups,
    )
    return windows.layer(graph, conv, tensor_layouts.filters)


def _conv_transpose(graph: Graph, node: Node) -> list[PendingLayer]:
    """A convolution of the input with gaps between its pixels, with the filters rotated by 180 degrees."""
    windows = _Windows(graph, node)
    extra = windows.sizes("output_padding", 0)
    windows.pad_like_conv_transpose(extra)
    before, after = windows.before, windows.after
    conv = tensor_layouts.transposed_conv(
        windows.x,
        windows.w,
        windows.stride,
        (before[0], after[0] - extra[0], before[1], after[1] - extra[1]),
        windows.dilation,
        windows.groups,
    )
    return windows.layer(graph, conv, lambda w: tensor_layouts.rotated_filters(w, windows.groups))


# --- matrix products --------------------------------------------------------------------------------


def _gemm(graph: Graph, node: Node) -> list[PendingLayer]:
    a, b = node.input(0), node.input(1)
    a_shape, b_shape = graph.shape(a), graph.shape(b)
    if len(a_shape) != 2 or len(b_shape) != 2:
        raise NodeSkipped(f"operands of shapes {a_shape} and {b_shape} are no matrices")
    a_loops = ["k", "m"] if node.integer("transA", 0) else ["m", "k"]
    b_loops = ["n", "k"] if node.integer("transB", 0) else ["k", "n"]
    return _product(graph, node, (a, a_loops), (b, b_loops), ["m", "n"])


def _matmul(graph: Graph, node: Node) -> list[PendingLayer]:
    """NumPy's matmul: leading axes are a batch, missing ones and those of size 1 are repeated."""
    a, b = (node.input(i) for i in ((0, 3) if node.op_type == "QLinearMatMul" else (0, 1)))
    a_shape, b_shape = graph.shape(a), graph.shape(b)
    if not a_shape or not b_shape:
        raise NodeSkipped("an operand is a scalar")
    a_loops, b_loops, out = nests.matmul_loops(len(a_shape), len(b_shape))
    for loops, transposed in ((a_loops, "transA"), (b_loops, "transB")):  # of FusedMatMul
        if node.integer(transposed, 0) and len(loops) > 1:
            loops[-2:] = loops[:-3:-1]
    if node.integer("transBatchA", 0) or node.integer("transBatchB", 0):
        raise NodeSkipped("transBatchA and transBatchB are not read")
    return _product(graph, node, (a, a_loops), (b, b_loops), out)


def _einsum(graph: Graph, node: Node) -> list[PendingLayer]:
    if len(node.inputs) == 1:  # a transposition, a diagonal or a sum, no product
        return []
    ranks = [len(graph.shape(name)) for name in node.inputs]
    equation = _explicit(node.text("equation", ""), ranks)
    a_loops, b_loops, out = nests.einsum_loops(equation)
    return _product(graph, node, (node.input(0), a_loops), (node.input(1), b_loops), out)


def _explicit(equation: str, ranks: Sequence[int]) -> str:
    """An equation with its result, and with letters in place of `...`."""
    terms, arrow, result = equation.replace(" ", "").partition("->")
    parts = terms.split(",")
    if len(parts) != len(ranks):
        return equation
    free = [letter for letter in string.ascii_letters if letter not in equation]
    counts = [
        rank - len(part) + 3 for part, rank in zip(parts, ranks, strict=True) if "..." in part
    ]
    width = max(counts, default=0)
    if min(counts, default=0) < 0 or width > len(free):
        return equation
    lead = "".join(free[:width])
    for index, (part, rank) in enumerate(zip(parts, ranks, strict=True)):
        parts[index] = part.replace("...", lead[width - max(0, rank - len(part) + 3) :])
    if not arrow:
        letters = [letter for letter in sorted(set("".join(parts))) if letter not in lead]
        result = "..." + "".join(x for x in letters if "".join(parts).count(x) == 1)
    return f"{','.join(parts)}->{result.replace('...', lead)}"


#: A value's name and the labels of its axes.
Operand = tuple[str, list[str]]


def _product(
    graph: Graph, node: Node, a: Operand, b: Operand, out: list[str]
) -> list[PendingLayer]:
    """A product of two tensors with labelled axes. If only the first is constant, it is the weight."""
    sources = _sources(node, a[0], b[0], axes=(-2, -1))
    if a[0] in graph.constant and b[0] not in graph.constant:
        a, b, sources = b, a, sources[::-1]
    product = nests.Product.of(graph.shape(a[0]), a[1], graph.shape(b[0]), b[1], out)
    shape = product.shape
    constant = b[0] in graph.constant
    kind = ("linear" if shape.groups == 1 else "gemm") if constant else "matmul"
    phases = _phases(graph, a[0])
    layer = Layer(node.label, kind, shape.m, shape.n, shape.k, shape.groups, phases=phases)
    return [PendingLayer(layer, {"x": (sources[0], product.a), "w": (sources[1], product.b)})]


def _recurrent(graph: Graph, node: Node) -> list[PendingLayer]:
    """Two layers for each direction: the products of all inputs, and the recurrence over the steps."""
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[node.op_type]
    x, w, r = node.input(0), node.input(1), node.input(2)
    x_shape, r_shape = graph.shape(x), graph.shape(r)
    if len(x_shape) != 3 or len(r_shape) != 3 or r_shape[1] != gates * r_shape[2]:
        raise NodeSkipped(f"shapes {x_shape} and {r_shape} are not those of {node.op_type}")
    steps, batch, width = x_shape
    if node.integer("layout", 0):
        steps, batch = batch, steps
    hidden = r_shape[2]
    layers = []
    for direction in range(r_shape[0]):
        name = node.label + (f".{direction}" if r_shape[0] > 1 else "")
        inputs = Layer(
            f"{name}.input", "linear", steps * batch, gates * hidden, width,
            phases=_phases(graph, x),
        )  # fmt: skip
        state = Layer(f"{name}.recurrent", "recurrent", batch, gates * hidden, hidden, steps)
        weights = Source(w), _weights_of(direction)
        image = Source(x), _reshaped(inputs.tensor_shape("x"))
        layers.append(PendingLayer(inputs, {"x": image, "w": weights}))
        parts: dict[str, tuple[Source, Arrange]] = {"w": (Source(r), _weights_of(direction))}
        if not node.optional(4):  # the lengths of the sequences, if they differ
            backward = direction == 1 or node.text("direction", "forward") == "reverse"
            source = States(
                node.outputs[0], initial=node.optional(5), direction=direction,
                backward=backward, batch_first=bool(node.integer("layout", 0)),
            )  # fmt: skip
            parts["x"] = source, _reshaped(state.tensor_shape("x"))
        layers.append(PendingLayer(state, parts))
    return layers


def _reshaped(shape: tuple[int, ...]) -> Arrange:
    """Gives an array the shape."""
    return lambda array: array.reshape(shape)


def _weights_of(direction: int) -> Arrange:
    """Takes one direction's part of the weights, reduction first."""
    return lambda weights: weights[direction].T


#: The function that reads a node of each operator.
NODE_READERS: dict[str, Callable[[Graph, Node], list[PendingLayer]]] = {
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
#: The same for the operators of onnxruntime's own domain that are one of those with an activation.
MICROSOFT_READERS: dict[str, Callable[[Graph, Node], list[PendingLayer]]] = {
    "FusedConv": _conv,
    "FusedGemm": _gemm,
    "FusedMatMul": _matmul,
}
#: Operators with products inside that are not read.
UNREAD_OPERATORS = (
    "Attention", "CausalConvWithState", "DeformConv", "FlexAttention", "LinearAttention"
)  # fmt: skip
#: Operators of ai.onnx.ml with products inside.
ML_PRODUCTS = ("LinearClassifier", "LinearRegressor", "SVMClassifier", "SVMRegressor")
#: Operators of other domains that hold no product.
WITHOUT_PRODUCTS = {
    ("com.microsoft", name)
    for name in (
        "BiasAdd", "BiasGelu", "BiasSplitGelu", "DequantizeLinear", "FastGelu", "Gelu", "GroupNorm",
        "Inverse", "Pad", "QLinearAdd", "QLinearAveragePool", "QLinearConcat",
        "QLinearGlobalAveragePool", "QLinearLeakyRelu", "QLinearMul", "QLinearSigmoid",
        "QLinearSoftmax", "QuantizeLinear", "QuickGelu", "RotaryEmbedding", "SkipGroupNorm",
        "SkipLayerNormalization", "SkipSimplifiedLayerNormalization", "Trilu", "Unique",
        "EmbedLayerNormalization",
    )
}  # fmt: skip
