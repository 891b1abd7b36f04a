"""Recurrent layers and cells whose products are emulated.

The input projection of all time steps is one product; the hidden state's is one for each step. All steps
share one encoded weight matrix. Gates are binary32.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from hfp8sim.errors import InputError
from hfp8sim.training import functional, steps
from hfp8sim.training.emulation import NUMBERS_PER_MODULE, Products

Tensor = Any  #: PyTorch's, which need not be installed where types are checked
State = tuple[Tensor, ...]


def _rnn(nonlinearity: str) -> Any:
    act = torch.tanh if nonlinearity == "tanh" else torch.relu

    def step(gates: Tensor, hidden: Tensor, state: State) -> State:
        return (act(gates + hidden),)

    return step


def _lstm(gates: Tensor, hidden: Tensor, state: State) -> State:
    """PyTorch's order of gates: input, forget, cell, output."""
    i, f, g, o = (gates + hidden).chunk(4, -1)
    c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def _gru(gates: Tensor, hidden: Tensor, state: State) -> State:
    """PyTorch's order of gates: reset, update, new; the reset gate follows the hidden product."""
    reset, update, new = gates.chunk(3, -1)
    hidden_reset, hidden_update, hidden_new = hidden.chunk(3, -1)
    r, z = (reset + hidden_reset).sigmoid(), (update + hidden_update).sigmoid()
    n = (new + r * hidden_new).tanh()
    return ((1 - z) * n + z * state[0],)


def _step_of(layer: Any) -> Any:
    if isinstance(layer, nn.LSTM | nn.LSTMCell):
        return _lstm
    return _gru if isinstance(layer, nn.GRU | nn.GRUCell) else _rnn(layer.nonlinearity)


def _run(layer: Any, input: Any, state: Any) -> Any:
    """The forward pass of `nn.RNN`, `nn.LSTM` or `nn.GRU`."""
    steps.follow(layer.weight_ih_l0, layer.products.emulation)
    if isinstance(input, PackedSequence):
        return _run_packed(layer, input, state)
    lstm, single = isinstance(layer, nn.LSTM), input.ndim == 2
    x = input.unsqueeze(1) if single else input.transpose(0, 1) if layer.batch_first else input
    length, batch = x.shape[:2]
    start = _start(layer, x, batch, state, single)
    rows = [batch] * length
    y, ends = _run_layers(layer, x.flatten(0, 1), rows, start)
    y = y.unflatten(0, (length, batch))
    y = y.squeeze(1) if single else y.transpose(0, 1) if layer.batch_first else y
    ends = tuple(e.squeeze(1) for e in ends) if single else ends
    return y, ends if lstm else ends[0]


def _run_packed(layer: Any, input: PackedSequence, state: Any) -> Any:
    """The same of a packed sequence: sequences of falling length, whose rows lie one time step after the other."""
    x, sizes, order, inverse = input
    rows = sizes.tolist()
    start = _start(layer, x, rows[0], state, single=False)
    if order is not None:
        start = tuple(s.index_select(1, order) for s in start)
    y, ends = _run_layers(layer, x, rows, start)
    if inverse is not None:
        ends = tuple(e.index_select(1, inverse) for e in ends)
    return PackedSequence(y, sizes, order, inverse), ends if isinstance(layer, nn.LSTM) else ends[0]


def _start(layer: Any, x: Tensor, batch: int, state: Any, single: bool) -> State:
    """The first states, each (layers · directions, batch, …)."""
    if state is not None:
        start = state if isinstance(layer, nn.LSTM) else (state,)
        return tuple(s.unsqueeze(1) for s in start) if single else start
    count = layer.num_layers * (1 + layer.bidirectional)
    hidden = x.new_zeros(count, batch, layer.proj_size or layer.hidden_size)
    if not isinstance(layer, nn.LSTM):
        return (hidden,)
    return hidden, x.new_zeros(count, batch, layer.hidden_size)


def _run_layers(layer: Any, x: Tensor, rows: list[int], start: State) -> tuple[Tensor, State]:
    """All layers in all directions.

    Args:
        x: rows of all time steps, one step after the other.
        rows: of each time step; they do not rise.
        start: as `_start`.

    Returns:
        The output's rows, and the last states as `start`.
    """
    directions = 1 + layer.bidirectional
    finals: list[State] = []
    for depth in range(layer.num_layers):
        outputs = []
        for direction in range(directions):
            number = depth * directions + direction
            first = tuple(s[number] for s in start)
            output, final = _direction(layer, number, x, rows, first, backwards=direction == 1)
            outputs.append(output)
            finals.append(final)
        x = torch.cat(outputs, -1)
        if layer.dropout and depth + 1 < layer.num_layers:
            x = F.dropout(x, layer.dropout, layer.training)
    return x, tuple(torch.stack(parts) for parts in zip(*finals))


def _direction(
    layer: Any, number: int, x: Tensor, rows: list[int], start: State, backwards: bool
) -> tuple[Tensor, State]:
    """One layer in one direction: the output's rows and the last state."""
    w_ih, w_hh, b_ih, b_hh, w_hr = _parameters(layer, number)
    step, products = _step_of(layer), layer.products
    if len(rows) > _MAX_STEPS:
        raise InputError(f"layer {products.name}: more than {_MAX_STEPS} time steps")
    base = number * (1 + _MAX_STEPS)
    if backwards:
        x, rows = torch.cat(x.split(rows)[::-1]), rows[::-1]
    gates = functional.linear(x, w_ih, b_ih, products=products.part(base, f"input.{number}"))
    state, ended, outputs = tuple(s[: rows[0]] for s in start), [], []
    for time, (count, gate) in enumerate(zip(rows, gates.split(rows))):
        now = state[0].shape[0]
        if count < now:  # forwards: the shortest sequences have ended
            ended.append(tuple(s[count:] for s in state))
            state = tuple(s[:count] for s in state)
        elif count > now:  # backwards: longer sequences begin
            state = tuple(torch.cat([s, first[now:count]]) for s, first in zip(state, start))
        part = products.part(base + 1 + time, f"hidden.{number}")
        hidden = functional.linear(state[0], w_hh, b_hh, products=part)
        state = step(gate, hidden, state)
        if w_hr is not None:
            part = products.part(_PROJECTIONS + base + time, f"projection.{number}")
            state = (functional.linear(state[0], w_hr, products=part), *state[1:])
        outputs.append(state[0])
    finals = tuple(torch.cat(parts) for parts in zip(state, *reversed(ended)))
    return torch.cat(outputs[::-1] if backwards else outputs), finals


def _parameters(layer: Any, number: int) -> tuple[Any, Any, Any, Any, Any]:
    """Weights, biases or None, and the projection or None, of one layer in one direction."""
    count = 2 + 2 * layer.bias + bool(layer.proj_size)
    w_ih, w_hh, *others = layer._flat_weights[number * count : (number + 1) * count]
    w_hr = others.pop() if layer.proj_size else None
    b_ih, b_hh = others or (None, None)
    return w_ih, w_hh, b_ih, b_hh, w_hr


def weight_parts(layer: Any, products: Products) -> dict[str, list[tuple[Products, Tensor]]]:
    """For each weight parameter, the products that it enters; a hidden one those of its first time step."""
    if isinstance(layer, nn.RNNCellBase):
        return {
            "weight_ih": [(products.part(0, "input"), layer.weight_ih)],
            "weight_hh": [(products.part(1, "hidden"), layer.weight_hh)],
        }
    parts = {}
    for number in range(layer.num_layers * (1 + layer.bidirectional)):
        base, depth = number * (1 + _MAX_STEPS), number // (1 + layer.bidirectional)
        suffix = f"_l{depth}" + ("_reverse" if layer.bidirectional and number % 2 else "")
        kinds = [(0, "input", "weight_ih"), (1, "hidden", "weight_hh")]
        if layer.proj_size:
            kinds.append((_PROJECTIONS, "projection", "weight_hr"))
        for offset, kind, name in kinds:
            part = products.part(base + offset, f"{kind}.{number}")
            parts[name + suffix] = [(part, getattr(layer, name + suffix))]
    return parts


#: Time steps of a sequence; each has a random stream of its own.
_MAX_STEPS = 1 << 14
#: The first number of an LSTM's projections; input and hidden products have smaller ones.
_PROJECTIONS = NUMBERS_PER_MODULE // 2


def _run_cell(cell: Any, input: Tensor, state: Any) -> Any:
    """The forward pass of `nn.RNNCell`, `nn.LSTMCell` or `nn.GRUCell`."""
    steps.follow(cell.weight_ih, cell.products.emulation)
    lstm, single = isinstance(cell, nn.LSTMCell), input.ndim == 1
    x = input.unsqueeze(0) if single else input
    if state is None:
        zeros = x.new_zeros(x.shape[0], cell.hidden_size)
        state = (zeros, zeros) if lstm else (zeros,)
    else:
        state = state if lstm else (state,)
        state = tuple(s.unsqueeze(0) for s in state) if single else state
    gates = functional.linear(
        x, cell.weight_ih, cell.bias_ih, products=cell.products.part(0, "input")
    )
    hidden = functional.linear(
        state[0], cell.weight_hh, cell.bias_hh, products=cell.products.part(1, "hidden")
    )
    state = _step_of(cell)(gates, hidden, state)
    state = tuple(s.squeeze(0) for s in state) if single else state
    return state if lstm else state[0]


class RNN(nn.RNN):
    """`torch.nn.RNN`, emulated."""

    products: Products

    @torch.compiler.disable
    def forward(self, input: Any, hx: Any = None) -> Any:
        """As `torch.nn.RNN`."""
        return _run(self, input, hx)


class LSTM(nn.LSTM):
    """`torch.nn.LSTM`, emulated."""

    products: Products

    @torch.compiler.disable
    def forward(self, input: Any, hx: Any = None) -> Any:
        """As `torch.nn.LSTM`."""
        return _run(self, input, hx)


class GRU(nn.GRU):
    """`torch.nn.GRU`, emulated."""

    products: Products

    @torch.compiler.disable
    def forward(self, input: Any, hx: Any = None) -> Any:
        """As `torch.nn.GRU`."""
        return _run(self, input, hx)


class RNNCell(nn.RNNCell):
    """`torch.nn.RNNCell`, emulated."""

    products: Products

    @torch.compiler.disable
    def forward(self, input: Tensor, hx: Any = None) -> Any:
        """As `torch.nn.RNNCell`."""
        return _run_cell(self, input, hx)


class LSTMCell(nn.LSTMCell):
    """`torch.nn.LSTMCell`, emulated."""

    products: Products

    @torch.compiler.disable
    def forward(self, input: Tensor, hx: Any = None) -> Any:
        """As `torch.nn.LSTMCell`."""
        return _run_cell(self, input, hx)


class GRUCell(nn.GRUCell):
    """`torch.nn.GRUCell`, emulated."""

    products: Products

    @torch.compiler.disable
    def forward(self, input: Tensor, hx: Any = None) -> Any:
        """As `torch.nn.GRUCell`."""
        return _run_cell(self, input, hx)
