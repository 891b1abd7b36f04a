"""Handlers of PyTorch functions that are more than one product: attention, recurrence, einsum.

A handler is called as `handler(recorder, function, *args, **kwargs)` with the arguments of the function. It
computes the function's result. Its products are recorded with names that tell their part of the function.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol
from unittest import mock

import torch
import torch.nn.functional as F

from hfp8sim.errors import InputError
from hfp8sim.workloads.readers import nests
from hfp8sim.workloads.readers.torch_products import Loops

Tensor = Any


class Recorder(Protocol):
    """What handlers call; see `torch_capture`."""

    def __enter__(self) -> Any: ...
    def __exit__(self, *error: Any) -> Any: ...
    def name(self, operator: str) -> str: ...
    def operator(self, name: str) -> AbstractContextManager[None]: ...
    def recorded(self) -> AbstractContextManager[None]: ...
    def time_steps(self, operator: str) -> AbstractContextManager[None]: ...
    def product(
        self, operator: str, a: Tensor, b: Tensor, result: Tensor, loops: Loops
    ) -> None: ...
    def time_step(
        self, name: str, kind: str, x: Tensor, w: Tensor, bias: Tensor | None
    ) -> Tensor: ...


# --- einsum -----------------------------------------------------------------------------------------


def _einsum(rec: Recorder, func: Any, equation: Any, *operands: Any) -> Tensor:
    """An einsum of two operands, in the order of its own axes. Others are read as the products they end in."""
    flat = operands[0] if len(operands) == 1 and isinstance(operands[0], tuple | list) else operands
    try:
        loops = nests.einsum_loops(equation if isinstance(equation, str) else "")
        a, b = flat
        nests.Product.of(a.shape, loops[0], b.shape, loops[1], loops[2])
    except (InputError, ValueError):
        with rec.operator("einsum"):
            return func(equation, *operands)
    with rec.recorded():
        result = func(equation, *operands)
    rec.product("einsum", a, b, result, loops)
    return result


def _function_name(func: Any) -> str:
    """The name without the underscores of operators such as `__matmul__`."""
    return str(func.__name__).strip("_")


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
    with rec.operator("scores"):
        scores = query @ key.transpose(-2, -1)
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
    with rec.operator("context"):
        return weights @ value


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

    For packed sequences and projected states PyTorch computes the steps.
    """
    operator = _function_name(func)
    packed = kwargs or len(rest) != 7 or not isinstance(rest[0], tuple | list)
    if packed or _projected(*rest):
        with rec.time_steps(operator), torch.backends.mkldnn.flags(enabled=False):
            return func(input, hx, *rest, **kwargs)
    parameters, _, layers, dropout, train, bidirectional, batch_first = rest
    directions = 2 if bidirectional else 1
    count = len(parameters) // (layers * directions)
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


def _projected(
    parameters: Any, has_biases: bool, layers: int, _: Any, __: Any, bidirectional: bool, ___: Any
) -> bool:
    """Whether the states of an LSTM are projected: then each layer has one more weight."""
    count = len(parameters) // (layers * (2 if bidirectional else 1))
    return count != (4 if has_biases else 2)


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


#: The handler of each function that is taken apart into its products, by the function's name.
HANDLERS: dict[str, Callable[..., Any]] = {
    "einsum": _einsum,
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
