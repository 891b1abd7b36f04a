"""Capture from PyTorch: the operands of every matrix product of one training step.

The model runs once, unchanged, under a `TorchFunctionMode` that sees each call of linear, convolution,
matmul, attention and recurrence, wherever in the model or the loss it stands. Fused attention and
recurrence are replaced by the products that they consist of; their results differ from the fused ones
by rounding alone. Gradients of the results are the errors.

Importing this module imports torch; `hfp8sim.workloads.capture` is the way in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from hfp8sim.errors import InputError
from hfp8sim.network.records import (
    PHASES,
    Conv,
    Layer,
    Workload,
    distinct,
    same_padding,
)
from hfp8sim.workloads.readers import nests, tensor_layouts

Tensor = Any
Arrange = Callable[[np.ndarray], np.ndarray]


def run(model: Any, batch: Any, loss: Callable[[Any], Any] | None, name: str) -> Workload:
    """See `hfp8sim.workloads.capture`."""
    if not isinstance(model, torch.nn.Module):
        raise InputError(f"model is {type(model).__name__}; it must be a torch.nn.Module")
    recorder = _Recorder(backward=loss is not None)
    with recorder.names_of(model), torch.enable_grad(), recorder:
        if isinstance(batch, Mapping):
            result = model(**batch)
        else:
            result = model(*batch) if isinstance(batch, tuple | list) else model(batch)
        value = loss(result) if loss is not None else None
    if value is not None:
        _backward(model, value)
    if not recorder.records:
        raise InputError("the model called no linear, convolution or matrix product")
    names = distinct(record.name for record in recorder.records)
    layers = [r.layer(n, recorder) for n, r in zip(names, recorder.records, strict=True)]
    notes = [f"captured from {type(model).__name__} with torch {torch.__version__}"]
    if loss is None:
        notes.append("no loss was given: forward only")
    return Workload(name, tuple(layers), tuple(notes), tuple(recorder.warnings))


def _backward(model: Any, value: Any) -> None:
    """Send the loss's gradient through the graph without touching any parameter's `.grad`."""
    if not isinstance(value, torch.Tensor) or value.numel() != 1:
        shape = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        raise InputError(f"the loss returned {shape}; it must return one number as a tensor")
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not value.requires_grad or not parameters:
        raise InputError("the loss depends on no parameter that requires a gradient")
    torch.autograd.grad(value, parameters, allow_unused=True)


def _numpy(tensor: Tensor) -> np.ndarray:
    return np.array(tensor.detach().to(torch.float32).cpu().numpy())


@dataclass
class _Record:
    """One layer while it is captured: its shape and the parts of its tensors, step by step."""

    name: str
    build: Callable[[str, int], Layer]
    w: np.ndarray
    phases: tuple[str, ...]
    x: list[np.ndarray] = field(default_factory=list)
    dy: list[np.ndarray | None] = field(default_factory=list)

    def step(self, x: np.ndarray, result: Tensor, arrange: Arrange, backward: bool) -> None:
        """Add one use of the layer, and wait for its result's gradient."""
        index = len(self.x)
        self.x.append(x)
        self.dy.append(None)

        def keep(gradient: Tensor) -> None:
            self.dy[index] = arrange(_numpy(gradient))

        if backward and result.requires_grad:
            result.register_hook(keep)

    def layer(self, name: str, recorder: _Recorder) -> Layer:
        bare = self.build(name, len(self.x))
        tensors = {"x": self._joined(bare, "x", self.x), "w": self.w}
        if recorder.backward:
            known = [part for part in self.dy if part is not None]
            if known:  # a step that got no gradient got a zero one
                parts = [np.zeros_like(known[0]) if part is None else part for part in self.dy]
                tensors["dy"] = self._joined(bare, "dy", parts)
            else:
                recorder.warnings.append(f"layer {name!r} got no gradient from the loss")
        return bare.replace(tensors=tensors, phases=self.phases if recorder.backward else ("fwd",))

    @staticmethod
    def _joined(bare: Layer, key: str, parts: list[np.ndarray]) -> np.ndarray:
        return np.concatenate([part[None] for part in parts]).reshape(bare.tensor_shape(key))


class _Recorder(TorchFunctionMode):  # type: ignore[misc]
    """Records every product that passes; calls everything else as it is."""

    def __init__(self, backward: bool) -> None:
        super().__init__()
        self.backward = backward
        self.records: list[_Record] = []
        self.warnings: list[str] = []
        self._modules: list[tuple[str, Any]] = []
        self._cells: dict[tuple[int, tuple[int, ...], str], _Record] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        operator = str(getattr(func, "__name__", func))
        handler = _HANDLERS.get(operator)
        if handler is not None:
            return handler(self, func, *args, **kwargs)
        if operator in _UNREAD:
            self.warn(operator, "is not read")
        return func(*args, **kwargs)

    def warn(self, operator: str, reason: str) -> None:
        message = f"{operator} in {self.place() or 'the model'} {reason}; skipped"
        if message not in self.warnings:
            self.warnings.append(message)

    # --- names

    def names_of(self, model: Any) -> _Names:
        return _Names(model, self._modules)

    def place(self) -> str:
        return self._modules[-1][0] if self._modules else ""

    def name(self, operator: str) -> str:
        """The module's name where the call is all that it does, else with the operator behind it."""
        if not self._modules or not self._modules[-1][0]:
            return operator
        name, module = self._modules[-1]
        alone = not list(module.children()) and isinstance(
            getattr(module, "weight", None), torch.Tensor
        )
        return name if alone else f"{name}.{operator}"

    # --- records

    def product(
        self,
        operator: str,
        a: Tensor,
        b: Tensor,
        result: Tensor,
        loops: tuple[list[str], list[str], list[str]],
    ) -> None:
        """Record a product of two tensors whose axes are labelled; a parameter is the weight."""
        a_loops, b_loops, out = loops
        if _is_weight(a) and not _is_weight(b):
            (a, a_loops), (b, b_loops) = (b, b_loops), (a, a_loops)
        try:
            product = nests.Product.of(a.shape, a_loops, b.shape, b_loops, out)
        except InputError as error:
            return self.warn(operator, f"is no matrix product: {error}")
        groups, m, n, k = product.shape
        kind = ("linear" if groups == 1 else "gemm") if _is_weight(b) else "matmul"

        def build(name: str, _: int) -> Layer:
            return Layer(name, kind, m, n, k, groups)

        record = _Record(self.name(operator), build, product.b(_numpy(b)), _phases(a, b))
        record.step(product.a(_numpy(a)), result, product.out, self.backward)
        self.records.append(record)

    def convolution(
        self, operator: str, x: Tensor, w: Tensor, result: Tensor, conv: Conv, turned: bool
    ) -> None:
        images = _numpy(x).reshape(conv.batch, conv.channels, conv.height, conv.width)
        weights = _numpy(w)
        weights = weights.reshape(*weights.shape[:2], *conv.kernel)
        arranged = (
            tensor_layouts.rotated_filters(weights, conv.groups)
            if turned
            else tensor_layouts.filters(weights)
        )

        def build(name: str, _: int) -> Layer:
            return Layer.from_conv(name, conv)

        def gradient(dy: np.ndarray) -> np.ndarray:
            return tensor_layouts.nhwc(dy.reshape(conv.batch, conv.filters, *conv.output))

        record = _Record(self.name(operator), build, arranged, _phases(x, w))
        record.step(tensor_layouts.nhwc(images), result, gradient, self.backward)
        self.records.append(record)

    def step(self, name: str, kind: str, x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
        """One step of a recurrent layer, x · wᵀ + bias, added to the steps with the same weight."""
        result = F.linear(x, w, bias)
        m, (n, k) = x.shape[0], w.shape

        def build(name: str, steps: int) -> Layer:
            if kind == "recurrent":
                return Layer(name, kind, m, n, k, steps)
            return Layer(name, kind, m * steps, n, k)

        key = (id(w), tuple(x.shape), name)
        if key not in self._cells:
            self._cells[key] = _Record(name, build, _numpy(w).T, _phases(x, w))
            self.records.append(self._cells[key])
        record = self._cells[key]
        record.phases = tuple(p for p in PHASES if p in {*record.phases, *_phases(x, w)})
        record.step(_numpy(x), result, lambda dy: dy, self.backward)
        return result


class _Names:
    """While open, the innermost running module of a model stands at the end of `stack`."""

    def __init__(self, model: Any, stack: list[tuple[str, Any]]) -> None:
        self.model, self.stack, self.hooks = model, stack, list[Any]()

    def __enter__(self) -> None:
        for name, module in self.model.named_modules():
            self.hooks.append(module.register_forward_pre_hook(self._enter(name)))
            self.hooks.append(module.register_forward_hook(self._leave, always_call=True))

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()

    def _enter(self, name: str) -> Callable[..., None]:
        return lambda module, _: self.stack.append((name, module))

    def _leave(self, *_: object) -> None:
        if self.stack:
            self.stack.pop()


def _is_weight(tensor: Tensor) -> bool:
    """A parameter, or a view of one."""
    base = tensor._base if tensor._base is not None else tensor
    return isinstance(base, torch.nn.Parameter)


def _phases(x: Tensor, w: Tensor) -> tuple[str, ...]:
    wanted = {"fwd": True, "dgrad": x.requires_grad, "wgrad": w.requires_grad}
    return tuple(phase for phase in PHASES if wanted[phase])


# --- handlers: each computes the function's result and records what it multiplied ---------------------


def _linear(rec: _Recorder, func: Any, input: Tensor, weight: Tensor, bias: Any = None) -> Tensor:
    result = func(input, weight, bias)
    lead = [f"b{i}" for i in range(input.dim() - 1)]
    out = [*lead, *(["n"] if weight.dim() == 2 else [])]
    rec.product("linear", input, weight, result, ([*lead, "k"], ["n", "k"][-weight.dim() :], out))
    return result


def _matmul(rec: _Recorder, func: Any, *args: Any, **kwargs: Any) -> Tensor:
    a, b = [*args, *kwargs.values()][:2]
    result = func(*args, **kwargs)
    rec.product(_plain(func), a, b, result, nests.matmul_loops(a.dim(), b.dim()))
    return result


def _rmatmul(rec: _Recorder, func: Any, b: Tensor, a: Tensor) -> Tensor:
    result = func(b, a)
    rec.product("matmul", a, b, result, nests.matmul_loops(a.dim(), b.dim()))
    return result


def _plain(func: Any) -> str:
    return str(func.__name__).strip("_")


def _matmul_added(rec: _Recorder, func: Any, *args: Any, **kwargs: Any) -> Tensor:
    """addmm, baddbmm: the sum with a third tensor behind the product is no part of it."""
    result = func(*args, **kwargs)
    keyed = [kwargs[key] for key in ("mat1", "mat2", "batch1", "batch2") if key in kwargs]
    a, b = [*args[1:3], *keyed][:2]
    if kwargs.get("alpha", 1) != 1:
        rec.warn(_plain(func), "scales its product, so its errors are those of the scaled one")
    rec.product(_plain(func), a, b, result, nests.matmul_loops(a.dim(), b.dim()))
    return result


def _einsum(rec: _Recorder, func: Any, equation: Any, *operands: Any) -> Tensor:
    result = func(equation, *operands)
    flat = operands[0] if len(operands) == 1 and isinstance(operands[0], tuple | list) else operands
    try:
        loops = nests.einsum_loops(equation if isinstance(equation, str) else "")
    except InputError as error:
        if len(flat) > 1:
            rec.warn("einsum", f"is not read: {error}")
        return result
    a, b = flat
    rec.product("einsum", a, b, result, loops)
    return result


def _conv(
    rec: _Recorder,
    func: Any,
    input: Tensor,
    weight: Tensor,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    result = func(input, weight, bias, stride, padding, dilation, groups)
    spatial = weight.dim() - 2
    batch, height, width = _image(input, spatial)
    kernel = _pair(tuple(weight.shape[2:]), spatial, 1)
    steps, reach = _pair(stride, spatial, 1), _pair(dilation, spatial, 1)
    if padding == "same":
        pads = [same_padding(1, kernel[axis], 1, reach[axis]) for axis in range(2)]
    else:
        given = _pair(0 if padding == "valid" else padding, spatial, 0)
        pads = [(given[axis], given[axis]) for axis in range(2)]
    conv = Conv(
        batch=batch,
        height=height,
        width=width,
        channels=weight.shape[1] * groups,
        filters=weight.shape[0],
        kernel=kernel,
        stride=steps,
        padding=(*pads[0], *pads[1]),
        dilation=reach,
        groups=groups,
    )
    rec.convolution(f"conv{spatial}d", input, weight, result, conv, turned=False)
    return result


def _conv_transpose(
    rec: _Recorder,
    func: Any,
    input: Tensor,
    weight: Tensor,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    result = func(input, weight, bias, stride, padding, output_padding, groups, dilation)
    spatial = weight.dim() - 2
    batch, height, width = _image(input, spatial)
    pad, extra = _pair(padding, spatial, 0), _pair(output_padding, spatial, 0)
    shape = (*weight.shape[:2], *_pair(tuple(weight.shape[2:]), spatial, 1))
    conv = tensor_layouts.transposed_conv(
        (batch, weight.shape[0], height, width),
        shape,
        _pair(stride, spatial, 1),
        (pad[0], pad[0] - extra[0], pad[1], pad[1] - extra[1]),
        _pair(dilation, spatial, 1),
        groups,
    )
    rec.convolution(f"conv_transpose{spatial}d", input, weight, result, conv, turned=True)
    return result


def _image(x: Tensor, spatial: int) -> tuple[int, int, int]:
    """Batch, height and width; a lone image has no batch axis, a signal no height."""
    batch = x.shape[0] if x.dim() == spatial + 2 else 1
    sizes = tuple(x.shape[-spatial:])
    return (batch, *_pair(sizes, spatial, 1))


def _pair(value: Any, spatial: int, missing: int) -> tuple[int, int]:
    """One number or one per axis, as two; a signal's missing height is `missing`."""
    values = [int(v) for v in value] if isinstance(value, tuple | list) else [int(value)] * spatial
    values = values * spatial if len(values) == 1 else values
    return (missing, values[0]) if spatial == 1 else (values[0], values[1])


def _attention(
    rec: _Recorder,
    func: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(q·kᵀ·scale + mask)·v, its two products recorded."""
    if enable_gqa:
        repeats = query.shape[-3] // key.shape[-3]
        key, value = (t.repeat_interleave(repeats, -3) for t in (key, value))
    keys = key.transpose(-2, -1)
    scores = query @ keys
    rec.product("scores", query, keys, scores, nests.matmul_loops(query.dim(), keys.dim()))
    weights = scores * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if is_causal:
        later = torch.ones(weights.shape[-2:], dtype=torch.bool, device=weights.device).triu(1)
        weights = weights.masked_fill(later, -math.inf)
    if attn_mask is not None:
        if attn_mask.dtype == torch.bool:
            weights = weights.masked_fill(~attn_mask, -math.inf)
        else:
            weights = weights + attn_mask
    weights = torch.dropout(weights.softmax(-1), dropout_p, train=True)
    context = weights @ value
    rec.product("context", weights, value, context, nests.matmul_loops(weights.dim(), value.dim()))
    return context


def _multi_head_attention(rec: _Recorder, func: Any, *args: Any, **kwargs: Any) -> Any:
    """Written in Python: run its body with the recorder on, where it asks once more for overrides."""
    with mock.patch.object(F, "has_torch_function", lambda *_: False), rec:
        return func(*args, **kwargs)


# --- recurrence -------------------------------------------------------------------------------------


def _lstm_gates(x: Tensor, h: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    i, f, g, o = (x + h).chunk(4, -1)
    c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def _gru_gates(x: Tensor, h: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    (xr, xz, xn), (hr, hz, hn) = x.chunk(3, -1), h.chunk(3, -1)
    z, n = (xz + hz).sigmoid(), (xn + (xr + hr).sigmoid() * hn).tanh()
    return ((1 - z) * n + z * state[0],)


def _tanh_gate(x: Tensor, h: Tensor, _: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return ((x + h).tanh(),)


def _relu_gate(x: Tensor, h: Tensor, _: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return ((x + h).relu(),)


_GATES = {"lstm": _lstm_gates, "gru": _gru_gates, "rnn_tanh": _tanh_gate, "rnn_relu": _relu_gate}


def _recurrent(rec: _Recorder, func: Any, input: Tensor, hx: Any, *rest: Any, **kwargs: Any) -> Any:
    """A stack of recurrent layers, step by step.

    Packed sequences and projected states run as they are, with a warning.
    """
    operator = _plain(func)
    packed = kwargs or len(rest) != 7 or not isinstance(rest[0], tuple | list)
    if packed:
        rec.warn(operator, "with packed sequences is not read")
        return func(input, hx, *rest, **kwargs)
    parameters, has_biases, layers, dropout, train, bidirectional, batch_first = rest
    state = hx if isinstance(hx, tuple | list) else (hx,)
    directions = 2 if bidirectional else 1
    each = len(parameters) // (layers * directions)
    if each != (4 if has_biases else 2):
        rec.warn(operator, "with projected states is not read")
        return func(input, hx, *rest)
    x = input.transpose(0, 1) if batch_first and input.dim() == 3 else input
    lone = x.dim() == 2  # one sequence without a batch axis
    x = x.unsqueeze(1) if lone else x
    state = [s.unsqueeze(1) for s in state] if lone else state
    finals = []
    for layer in range(layers):
        outputs = []
        for direction in range(directions):
            index = layer * directions + direction
            weights = [*parameters[index * each : (index + 1) * each], None, None][:4]
            label = f"l{layer}" + ("_reverse" if direction else "")
            start = tuple(s[index] for s in state)
            y, final = _unrolled(rec, operator, label, x, start, weights, reverse=direction == 1)
            outputs.append(y)
            finals.append(final)
        x = torch.cat(outputs, -1)
        if dropout and train and layer + 1 < layers:
            x = torch.dropout(x, dropout, train=True)
    last = [torch.stack(parts) for parts in zip(*finals, strict=True)]
    if lone:
        x, last = x.squeeze(1), [part.squeeze(1) for part in last]
    return (x.transpose(0, 1) if batch_first and not lone else x, *last)


def _unrolled(
    rec: _Recorder,
    operator: str,
    label: str,
    x: Tensor,
    state: tuple[Tensor, ...],
    weights: list[Any],
    reverse: bool,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One layer in one direction: all inputs in one product, then the recurrence."""
    w_input, w_hidden, b_input, b_hidden = weights
    steps, batch = x.shape[:2]
    into = rec.name(f"{label}.input")
    inputs = rec.step(into, "linear", x.reshape(steps * batch, -1), w_input, b_input)
    inputs = inputs.reshape(steps, batch, -1)
    outputs: list[Any] = [None] * steps
    for t in reversed(range(steps)) if reverse else range(steps):
        hidden = rec.step(rec.name(f"{label}.recurrent"), "recurrent", state[0], w_hidden, b_hidden)
        state = _GATES[operator](inputs[t], hidden, state)
        outputs[t] = state[0]
    return torch.stack(outputs), state


def _cell(
    rec: _Recorder,
    func: Any,
    input: Tensor,
    hx: Any,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Any = None,
    b_hh: Any = None,
) -> Any:
    """One step of a cell; the steps that share a weight become one layer."""
    operator = _plain(func).removesuffix("_cell")
    state = tuple(hx) if isinstance(hx, tuple | list) else (hx,)
    x = rec.step(rec.name("input"), "linear", input, w_ih, b_ih)
    h = rec.step(rec.name("recurrent"), "recurrent", state[0], w_hh, b_hh)
    result = _GATES[operator](x, h, state)
    return result if len(result) > 1 else result[0]


_HANDLERS: dict[str, Callable[..., Any]] = {
    "linear": _linear,
    "matmul": _matmul,
    "__matmul__": _matmul,
    "__rmatmul__": _rmatmul,
    "mm": _matmul,
    "bmm": _matmul,
    "mv": _matmul,
    "addmm": _matmul_added,
    "baddbmm": _matmul_added,
    "einsum": _einsum,
    "conv1d": _conv,
    "conv2d": _conv,
    "conv_transpose1d": _conv_transpose,
    "conv_transpose2d": _conv_transpose,
    "scaled_dot_product_attention": _attention,
    "multi_head_attention_forward": _multi_head_attention,
    "lstm": _recurrent,
    "gru": _recurrent,
    "rnn_tanh": _recurrent,
    "rnn_relu": _recurrent,
    "lstm_cell": _cell,
    "gru_cell": _cell,
    "rnn_tanh_cell": _cell,
    "rnn_relu_cell": _cell,
}
_UNREAD = {"conv3d", "conv_transpose3d", "bilinear", "addbmm", "tensordot", "chain_matmul", "dot"}
