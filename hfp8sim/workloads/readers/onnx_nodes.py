"""ONNX nodes as layers: a function for each operator that is a matrix product."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hfp8sim.errors import InputError, one_line
from hfp8sim.network.records import PHASES, Conv, Layer, same_padding
from hfp8sim.workloads.readers import nests, tensor_layouts
from hfp8sim.workloads.readers.onnx_graph import Graph, NodeSkipped

#: Arranges the values of a graph as a layer's tensors, by key; None for a value that is not known.
Tensors = Callable[[Graph], Mapping[str, "np.ndarray | None"]]
#: Changes the order of an array's axes.
Arrange = Callable[[np.ndarray], np.ndarray]


@dataclass
class PendingLayer:
    """A layer without its tensors, which are known only after the model has run."""

    layer: Layer
    inputs: tuple[str, ...]  #: names of the values that its tensors are made of
    tensors: Tensors = field(repr=False)

    def finish(self, name: str, graph: Graph, origin: str) -> Layer:
        """The layer with its name, and with the tensors whose values `graph` knows."""
        tensors = {key: value for key, value in self.tensors(graph).items() if value is not None}
        return self.layer.replace(name=name, tensors=tensors, origin=origin)


def read_nodes(graph: Graph) -> list[PendingLayer]:
    """The layers of every node that is a matrix product, in the model's order.

    Nodes that cannot be read are named in `graph.warnings`.
    """
    layers: list[PendingLayer] = []
    for index, node in enumerate(graph.model.graph.node):
        label = node.name or next((name for name in node.output if name), f"{node.op_type}_{index}")
        title = f"node {label!r} of type {node.op_type}"
        if node.domain not in ("", "ai.onnx") or any(a.HasField("g") for a in node.attribute):
            graph.warnings.append(f"{title} is not looked into; skipped")
            continue
        if node.op_type in UNREAD_OPERATORS:
            graph.warnings.append(
                f"node {label!r}: products inside {node.op_type} are not read; skipped"
            )
        read = NODE_READERS.get(node.op_type)
        if read is None:
            continue
        try:
            layers += read(graph, Node(graph, node, label))
        except (NodeSkipped, InputError) as reason:
            graph.warnings.append(f"{title}: {reason}; skipped")
    return layers


class Node:
    """A node's inputs and attributes. Attributes of the wrong type raise `NodeSkipped`."""

    def __init__(self, graph: Graph, node: Any, label: str) -> None:
        self.label, self.op_type = label, node.op_type
        self.inputs = list(node.input)
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
_WEIGHT_INPUTS = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3, "ConvTranspose": 1}


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
        self.x_name, self.w_name = node.input(0), node.input(_WEIGHT_INPUTS[node.op_type])
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

        def tensors(values: Graph) -> dict[str, np.ndarray | None]:
            return {
                "x": _arranged(values.value(self.x_name), self.x, tensor_layouts.nhwc),
                "w": _arranged(values.value(self.w_name), self.w, arrange_weights),
            }

        layer = Layer.from_conv(self.node.label, conv, phases=_phases(graph, self.x_name))
        return [PendingLayer(layer, (self.x_name, self.w_name), tensors)]


def _arranged(
    array: np.ndarray | None, shape: Sequence[int], arrange: Arrange
) -> np.ndarray | None:
    return None if array is None else arrange(array.reshape(shape))


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
    return _product(graph, node.label, (a, a_loops), (b, b_loops), ["m", "n"])


def _matmul(graph: Graph, node: Node) -> list[PendingLayer]:
    """NumPy's matmul: leading axes are a batch, missing ones and those of size 1 are repeated."""
    a, b = (node.input(i) for i in ((0, 3) if node.op_type == "QLinearMatMul" else (0, 1)))
    a_shape, b_shape = graph.shape(a), graph.shape(b)
    if not a_shape or not b_shape:
        raise NodeSkipped("an operand is a scalar")
    a_loops, b_loops, out = nests.matmul_loops(len(a_shape), len(b_shape))
    return _product(graph, node.label, (a, a_loops), (b, b_loops), out)


def _einsum(graph: Graph, node: Node) -> list[PendingLayer]:
    a_loops, b_loops, out = nests.einsum_loops(node.text("equation", ""))
    return _product(graph, node.label, (node.input(0), a_loops), (node.input(1), b_loops), out)


#: A value's name and the labels of its axes.
Operand = tuple[str, list[str]]


def _product(
    graph: Graph, label: str, a: Operand, b: Operand, out: list[str]
) -> list[PendingLayer]:
    """A product of two tensors with labelled axes. If only the first is constant, it is the weight."""
    if a[0] in graph.constant and b[0] not in graph.constant:
        a, b = b, a
    product = nests.Product.of(graph.shape(a[0]), a[1], graph.shape(b[0]), b[1], out)
    shape = product.shape
    constant = b[0] in graph.constant
    kind = ("linear" if shape.groups == 1 else "gemm") if constant else "matmul"

    def tensors(values: Graph) -> dict[str, np.ndarray | None]:
        x, w = values.value(a[0]), values.value(b[0])
        return {
            "x": None if x is None else product.a(x),
            "w": None if w is None else product.b(w),
        }

    phases = _phases(graph, a[0])
    layer = Layer(label, kind, shape.m, shape.n, shape.k, shape.groups, phases=phases)
    return [PendingLayer(layer, (a[0], b[0]), tensors)]


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
        layers.append(PendingLayer(inputs, (x, w), _recurrent_tensors(direction, w, inputs, x)))
        layers.append(PendingLayer(state, (r,), _recurrent_tensors(direction, r, state)))
    return layers


def _recurrent_tensors(direction: int, w: str, layer: Layer, x: str = "") -> Tensors:
    """Tensors of one direction: its part of the weights, and the inputs if `x` names them."""

    def tensors(values: Graph) -> dict[str, np.ndarray | None]:
        weights, image = values.value(w), values.value(x)
        return {
            "x": None if image is None else image.reshape(layer.tensor_shape("x")),
            "w": None if weights is None else weights[direction].T,
        }

    return tensors


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
#: Operators with products inside that are not read.
UNREAD_OPERATORS = ("Attention", "DeformConv", "LinearAttention")
