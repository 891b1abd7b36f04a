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
from hfp8sim.training.emulation import Products

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
    if isinstance(input, PackedSequence):
        raise InputError(
            f"layer {layer.products.name}: packed sequences are not emulated; pad them"
        )
    if layer.proj_size:
        raise InputError(f"layer {layer.products.name}: proj_size is not emulated")
    steps.follow(layer.weight_ih_l0, layer.products.emulation)
    lstm, single = isinstance(layer, nn.LSTM), input.ndim == 2
    x = input.unsqueeze(1) if single else input.transpose(0, 1) if layer.batch_first else input
    directions = 1 + layer.bidirectional
    count = layer.num_layers * directions
    if state is None:
        zeros = x.new_zeros(count, x.shape[1], layer.hidden_size)
        start: tuple[Tensor, ...] = (zeros, zeros) if lstm else (zeros,)
    else:
        start = state if lstm else (state,)
        start = tuple(s.unsqueeze(1) for s in start) if single else start
    finals: list[State] = []
    for depth in range(layer.num_layers):
        outputs = []
        for direction in range(directions):
            number = depth * directions + direction
            sequence = x.flip(0) if direction else x
            output, final = _direction(layer, number, sequence, tuple(s[number] for s in start))
            outputs.append(output.flip(0) if direction else output)
            finals.append(final)
        x = torch.cat(outputs, -1)
        if layer.dropout and depth + 1 < layer.num_layers:
            x = F.dropout(x, layer.dropout, layer.training)
    ends = tuple(torch.stack(parts) for parts in zip(*finals))
    y = x.squeeze(1) if single else x.transpose(0, 1) if layer.batch_first else x
    ends = tuple(e.squeeze(1) for e in ends) if single else ends
    return y, ends if lstm else ends[0]


def _direction(layer: Any, number: int, x: Tensor, state: State) -> tuple[Tensor, State]:
    """One layer in one direction over a sequence (T, batch, features)."""
    parameters: Any = layer._flat_weights[number * (4 if layer.bias else 2) :]
    w_ih, w_hh, *biases = parameters[: 4 if layer.bias else 2]
    b_ih, b_hh = biases or (None, None)
    length, step = x.shape[0], _step_of(layer)
    base = number * (1 + _MAX_STEPS)
    if length > _MAX_STEPS:
        raise InputError(f"layer {layer.products.name}: more than {_MAX_STEPS} time steps")
    gates = functional.linear(x, w_ih, b_ih, products=layer.products.part(base, f"input.{number}"))
    outputs = []
    for time in range(length):
        products = layer.products.part(base + 1 + time, f"hidden.{number}")
        hidden = functional.linear(state[0], w_hh, b_hh, products=products)
        state = step(gates[time], hidden, state)
        outputs.append(state[0])
    return torch.stack(outputs), state


#: Time steps of a sequence; each has a random stream of its own.
_MAX_STEPS = 1 << 14


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
