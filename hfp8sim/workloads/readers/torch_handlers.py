"""Handlers of PyTorch functions: each computes the function's result and records its matrix products.

A handler is called as `handler(recorder, function, *args, **kwargs)` with the arguments of the function.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol
from unittest import mock

import torch
import torch.nn.functional as F

from hfp8sim.errors import InputError
from hfp8sim.network.records import Conv, same_padding
from hfp8sim.workloads.readers import nests, tensor_layouts

Tensor = Any
#: Labels of the axes of two operands and their product.
Loops = tuple[list[str], list[str], list[str]]


class Recorder(Protocol):
    """What handlers call; see `torch_capture`."""

    def __enter__(self) -> Any: ...
    def __exit__(self, *error: Any) -> Any: ...
    def name(self, operator: str) -> str: ...
    def warn(self, operator: str, reason: str) -> None: ...
    def product(
        self, operator: str, a: Tensor, b: Tensor, result: Tensor, loops: Loops
    ) -> None: ...
    def convolution(
        self, operator: str, x: Tensor, w: Tensor, result: Tensor, conv: Conv, transposed: bool
    ) -> None: ...
    def time_step(
        self, name: str, kind: str, x: Tensor, w: Tensor, bias: Tensor | None
    ) -> Tensor: ...


# --- matrix products --------------------------------------------------------------------------------


def _linear(rec: Recorder, func: Any, input: Tensor, weight: Tensor, bias: Any = None) -> Tensor:
    result = func(input, weight, bias)
    lead = [f"b{i}" for i in range(input.dim() - 1)]
    out = [*lead, *(["n"] if weight.dim() == 2 else [])]
    rec.product("linear", input, weight, result, ([*lead, "k"], ["n", "k"][-weight.dim() :], out))
    return result


def _matmul(rec: Recorder, func: Any, *args: Any, **kwargs: Any) -> Tensor:
    a, b = [*args, *kwargs.values()][:2]
    result = func(*args, **kwargs)
    rec.product(_function_name(func), a, b, result, nests.matmul_loops(a.dim(), b.dim()))
    return result


def _rmatmul(rec: Recorder, func: Any, b: Tensor, a: Tensor) -> Tensor:
    result = func(b, a)
    rec.product("matmul", a, b, result, nests.matmul_loops(a.dim(), b.dim()))
    return result


def _function_name(func: Any) -> str:
    """The name without the underscores of operators such as `__matmul__`."""
    return str(func.__name__).strip("_")


def _matmul_added(rec: Recorder, func: Any, *args: Any, **kwargs: Any) -> Tensor:
    """addmm and baddbmm: the product alone is recorded, without the tensor that is added to it."""
    result = func(*args, **kwargs)
    keyed = [kwargs[key] for key in ("mat1", "mat2", "batch1", "batch2") if key in kwargs]
    a, b = [*args[1:3], *keyed][:2]
    if kwargs.get("alpha", 1) != 1:
        rec.warn(
            _function_name(func), "scales its product, so its errors are those of the scaled one"
        )
    rec.product(_function_name(func), a, b, result, nests.matmul_loops(a.dim(), b.dim()))
    return result


def _einsum(rec: Recorder, func: Any, equation: Any, *operands: Any) -> Tensor:
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


# --- convolutions -----------------------------------------------------------------------------------


def _conv(
    rec: Recorder,
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
    dilations = _pair(dilation, spatial, 1)
    if padding == "same":  # PyTorch allows it with a stride of 1 only
        pads = [same_padding(1, kernel[axis], 1, dilations[axis]) for axis in range(2)]
    else:
        pads = [(pad, pad) for pad in _pair(0 if padding == "valid" else padding, spatial, 0)]
    conv = Conv(
        batch=batch,
        height=height,
        width=width,
        channels=weight.shape[1] * groups,
        filters=weight.shape[0],
        kernel=kernel,
        stride=_pair(stride, spatial, 1),
        padding=(*pads[0], *pads[1]),
        dilation=dilations,
        groups=groups,
    )
    rec.convolution(f"conv{spatial}d", input, weight, result, conv, transposed=False)
    return result


def _conv_transpose(
    rec: Recorder,
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
    rec.convolution(f"conv_transpose{spatial}d", input, weight, result, conv, transposed=True)
    return result


def _image(x: Tensor, spatial: int) -> tuple[int, int, int]:
    """(batch, height, width). A tensor without a batch axis has batch 1, a signal has height 1."""
    batch = x.shape[0] if x.dim() == spatial + 2 else 1
    sizes = tuple(x.shape[-spatial:])
    return (batch, *_pair(sizes, spatial, 1))


def _pair(value: Any, spatial: int, missing: int) -> tuple[int, int]:
    """(height, width) of one number or of one for each axis; the height of a signal is `missing`."""
    values = [int(v) for v in value] if isinstance(value, tuple | list) else [int(value)] * spatial
    values = values * spatial if len(values) == 1 else values
    return (missing, values[0]) if spatial == 1 else (values[0], values[1])


# --- attention --------------------------------------------------------------------------------------


def _attention(
    rec: Recorder,
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
    """softmax(q·kᵀ·scale + mask)·v; its two products are recorded as `scores` and `context`."""
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


def _multi_head_attention(rec: Recorder, func: Any, *args: Any, **kwargs: Any) -> Any:
    """Run PyTorch's Python implementation under the recorder, which then intercepts its products.

    The implementation first calls `has_torch_function`, which would dispatch to the recorder again; it is
    replaced by a function that returns False.
    """
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


def _recurrent(rec: Recorder, func: Any, input: Tensor, hx: Any, *rest: Any, **kwargs: Any) -> Any:
    """A stack of recurrent layers, computed step by step.

    Packed sequences and projected states are passed on to PyTorch, with a warning.
    """
    operator = _function_name(func)
    packed = kwargs or len(rest) != 7 or not isinstance(rest[0], tuple | list)
    if packed:
        rec.warn(operator, "with packed sequences is not read")
        return func(input, hx, *rest, **kwargs)
    parameters, has_biases, layers, dropout, train, bidirectional, batch_first = rest
    directions = 2 if bidirectional else 1
    count = len(parameters) // (layers * directions)
    if count != (4 if has_biases else 2):
        rec.warn(operator, "with projected states is not read")
        return func(input, hx, *rest)
    weights = [
        [*parameters[first : first + count], None, None][:4]
        for first in range(0, len(parameters), count)
    ]
    x = input.transpose(0, 1) if batch_first and input.dim() == 3 else input
    unbatched = x.dim() == 2
    x = x.unsqueeze(1) if unbatched else x
    state = [
        s.unsqueeze(1) if unbatched else s for s in (hx if isinstance(hx, tuple | list) else (hx,))
    ]
    x, final = _layers(rec, operator, x, state, weights, directions, dropout if train else 0.0)
    if unbatched:
        x, final = x.squeeze(1), [part.squeeze(1) for part in final]
    return (x.transpose(0, 1) if batch_first and not unbatched else x, *final)


def _layers(
    rec: Recorder,
    operator: str,
    x: Tensor,
    state: list[Tensor],
    weights: list[list[Any]],
    directions: int,
    dropout: float,
) -> tuple[Tensor, list[Tensor]]:
    """All layers and directions: (outputs of the last layer, final states).

    Args:
        x: (steps, batch, features).
        state: initial states, each (layers · directions, batch, hidden).
        weights: of each layer and direction, the input's, the state's, and two biases or None.
    """
    finals = []
    for first in range(0, len(weights), directions):
        outputs = []
        for index in range(first, first + directions):
            reverse = index > first
            label = f"l{first // directions}" + ("_reverse" if reverse else "")
            initial = tuple(s[index] for s in state)
            y, final = _unrolled(rec, operator, label, x, initial, weights[index], reverse)
            outputs.append(y)
            finals.append(final)
        x = torch.cat(outputs, -1)
        if dropout and first + directions < len(weights):
            x = torch.dropout(x, dropout, train=True)
    return x, [torch.stack(parts) for parts in zip(*finals, strict=True)]


def _unrolled(
    rec: Recorder,
    operator: str,
    label: str,
    x: Tensor,
    state: tuple[Tensor, ...],
    weights: list[Any],
    reverse: bool,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One layer in one direction: the products of all inputs at once, then the recurrence."""
    w_input, w_hidden, b_input, b_hidden = weights
    steps, batch = x.shape[:2]
    name = rec.name(f"{label}.input")
    inputs = rec.time_step(name, "linear", x.reshape(steps * batch, -1), w_input, b_input)
    inputs = inputs.reshape(steps, batch, -1)
    outputs: list[Any] = [None] * steps
    for t in reversed(range(steps)) if reverse else range(steps):
        hidden = rec.time_step(
            rec.name(f"{label}.recurrent"), "recurrent", state[0], w_hidden, b_hidden
        )
        state = _GATES[operator](inputs[t], hidden, state)
        outputs[t] = state[0]
    return torch.stack(outputs), state


def _cell(
    rec: Recorder,
    func: Any,
    input: Tensor,
    hx: Any,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Any = None,
    b_hh: Any = None,
) -> Any:
    """One step of a recurrent cell. Steps that share a weight become one layer."""
    operator = _function_name(func).removesuffix("_cell")
    state = tuple(hx) if isinstance(hx, tuple | list) else (hx,)
    x = rec.time_step(rec.name("input"), "linear", input, w_ih, b_ih)
    h = rec.time_step(rec.name("recurrent"), "recurrent", state[0], w_hh, b_hh)
    result = _GATES[operator](x, h, state)
    return result if len(result) > 1 else result[0]


#: The handler of each function that is a matrix product, by the function's name.
HANDLERS: dict[str, Callable[..., Any]] = {
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
#: Matrix products that are not recorded; a warning names them.
UNREAD_FUNCTIONS = {
    "conv3d",
    "conv_transpose3d",
    "bilinear",
    "addbmm",
    "tensordot",
    "chain_matmul",
    "dot",
}
