"""Capture from PyTorch: the three products of every layer are what autograd computed."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hfp8sim.errors import InputError
from hfp8sim.network import Layer, Workload
from hfp8sim.workloads import capture, operands, readers

try:
    import torch
    import torch.nn.functional as F
    from torch import nn
except ImportError:
    torch = None

needs_torch = pytest.mark.skipif(torch is None, reason="torch is not installed")


def test_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "hfp8sim.workloads.readers.torch_capture", raising=False)
    monkeypatch.delattr(readers, "torch_capture", raising=False)
    with pytest.raises(InputError, match=r'pip install "hfp8sim\[torch\]"'):
        capture(None, None)


def product(layer: Layer, phase: str) -> np.ndarray:
    a, b, words = operands(layer, phase)
    assert "drawn" not in words
    return a.astype(np.float64) @ b.astype(np.float64)


def weight_gradient(layer: Layer) -> np.ndarray:
    """In torch's layout: (out, in), or (F, C/groups, R, S)."""
    dw = product(layer, "wgrad")
    if layer.conv is None:
        return dw[0].T
    r, s = layer.conv.kernel
    grouped = dw.reshape(layer.groups, r, s, -1, layer.n)
    return grouped.transpose(0, 4, 3, 1, 2).reshape(layer.conv.filters, -1, r, s)


def close(mine: np.ndarray, theirs: Any) -> None:
    theirs = theirs.detach().numpy()
    scale = max(np.abs(theirs).max(), 1e-3)
    np.testing.assert_allclose(mine.reshape(theirs.shape), theirs, rtol=0, atol=3e-6 * scale)


def gradients(model: Any, batch: Any, loss: Callable) -> dict[str, Any]:
    """Parameter gradients of the plain model, without capture."""
    model.zero_grad()
    loss(model(batch)).backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    return gradients


def energy(y: Any) -> Any:
    return (y if isinstance(y, torch.Tensor) else y[0]).square().mean()


def captured(model: Any, batch: Any) -> tuple[Workload, dict[str, Any]]:
    theirs = gradients(model, batch, energy)
    workload = capture(model, batch, energy)
    assert all(p.grad is None for p in model.parameters())
    assert workload.warnings == ()
    return workload, theirs


@needs_torch
def test_convolutional_network() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 8, (3, 2), groups=4, dilation=(1, 2), bias=False),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 6, 3, padding="same", padding_mode="circular"),
        nn.Flatten(),
        nn.Linear(6 * 3 * 3, 10),
    )
    workload, theirs = captured(model, torch.randn(4, 3, 10, 10))
    assert [layer.name for layer in workload] == ["0", "2", "4", "6"]
    assert [layer.kind for layer in workload] == ["conv2d"] * 3 + ["linear"]
    assert workload[0].phases == ("fwd", "wgrad")
    assert workload[1].phases == ("fwd", "dgrad", "wgrad")
    for layer in workload:
        close(weight_gradient(layer), theirs[f"{layer.name}.weight"])


@needs_torch
@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.ConvTranspose2d(
            4, 6, 3, stride=(2, 3), padding=(1, 0), output_padding=1, groups=2
        ),
        lambda: nn.ConvTranspose2d(4, 6, (2, 3), dilation=2, padding=1),
        lambda: nn.Conv2d(4, 6, 3, stride=3, padding=2),
    ],
)
def test_convolution_phases(make: Callable) -> None:
    torch.manual_seed(2)
    module, x = make(), torch.randn(2, 4, 5, 6, requires_grad=True)
    y = module(x)
    energy(y).backward()
    layer = capture(module, x, energy)[0]
    assert layer.name == type(module).__name__.lower().replace("transpose2d", "_transpose2d")
    n, (p, q) = 2, layer.conv.output
    forward = product(layer, "fwd").reshape(layer.groups, n, p, q, -1).transpose(1, 0, 4, 2, 3)
    close(forward.reshape(y.shape), y - module.bias[:, None, None])
    dx = product(layer, "dgrad").reshape(layer.groups, n, 5, 6, -1).transpose(1, 0, 4, 2, 3)
    close(dx, x.grad)


@needs_torch
def test_one_dimensional_convolutions() -> None:
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv1d(3, 4, 3, 2, 1), nn.ConvTranspose1d(4, 5, 3, 2), nn.Conv1d(5, 2, 1)
    )
    workload, theirs = captured(model, torch.randn(2, 3, 9))
    assert workload[0].shape() == (1, 10, 4, 9)
    close(weight_gradient(workload[0]), theirs["0.weight"])
    close(weight_gradient(workload[2]), theirs["2.weight"])


@needs_torch
@pytest.mark.parametrize("fast", [False, True])
def test_attention(fast: bool) -> None:
    """With weights returned it runs on bmm, without on the fused function."""

    class Attend(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: Any) -> Any:
            return self.attention(x, x, x, need_weights=not fast)[0]

    torch.manual_seed(4)
    model = Attend()
    x = torch.randn(3, 5, 8)
    workload, theirs = captured(model, x)
    parts = ("scores", "context") if fast else ("bmm", "bmm#2")
    assert [layer.name for layer in workload] == [
        "attention.linear",
        *(f"attention.{part}" for part in parts),
        "attention.linear#2",
    ]
    assert [tuple(layer.shape()) for layer in workload] == [
        (1, 15, 24, 8),
        (6, 5, 5, 4),
        (6, 5, 4, 5),
        (1, 15, 8, 8),
    ]
    assert [layer.kind for layer in workload] == ["linear", "matmul", "matmul", "linear"]
    close(weight_gradient(workload[0]), theirs["attention.in_proj_weight"])
    close(weight_gradient(workload[3]), theirs["attention.out_proj.weight"])
    # The errors hang together: dV of the context product feeds the third part of the projection,
    # whose rows run over positions and then the batch.
    context, projection = workload[2], workload[0]
    value_gradient = product(context, "wgrad").reshape(3, 2, 5, 4).transpose(2, 0, 1, 3)
    errors = projection.tensors["dy"].reshape(5, 3, 24)[..., 16:]
    np.testing.assert_allclose(value_gradient.reshape(5, 3, 8), errors, rtol=0, atol=1e-7)


@needs_torch
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"is_causal": True},
        {"scale": 0.3},
        {"attn_mask": "bool"},
        {"attn_mask": "float"},
        {"enable_gqa": True},
    ],
)
def test_attention_equals_fused(options: dict) -> None:
    torch.manual_seed(5)
    q, k, v = torch.randn(2, 4, 6, 8), torch.randn(2, 4, 7, 8), torch.randn(2, 4, 7, 5)
    if options.get("enable_gqa"):
        k, v = k[:, :2], v[:, :2]
    if "attn_mask" in options:
        mask = torch.rand(6, 7) > 0.3
        mask[:, 0] = True
        options = {"attn_mask": mask if options["attn_mask"] == "bool" else mask.float()}

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(8))

        def forward(self, x: Any) -> Any:
            self.result = F.scaled_dot_product_attention(x * self.scale, k, v, **options)
            return self.result

    model = Model()
    fused = model(q).detach()
    workload = capture(model, q, energy)
    close(model.result.detach().numpy(), fused)
    assert [tuple(layer.shape()) for layer in workload] == [(8, 6, 7, 8), (8, 6, 5, 7)]


RECURRENT = [
    ("LSTM", {}),
    ("GRU", {}),
    ("RNN", {}),
    ("RNN", {"nonlinearity": "relu"}),
    ("LSTM", {"num_layers": 2, "bidirectional": True, "batch_first": True}),
    ("GRU", {"num_layers": 2, "bias": False}),
]


@needs_torch
@pytest.mark.parametrize(("kind", "options"), RECURRENT)
def test_recurrent_layers(kind: str, options: dict) -> None:
    torch.manual_seed(6)
    model = getattr(nn, kind)(5, 4, **options)
    x = torch.randn(3, 7, 5) if options.get("batch_first") else torch.randn(7, 3, 5)
    workload, theirs = captured(model, x)
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    assert workload["l0.input"].shape() == (1, 21, 4 * gates, 5)
    assert workload["l0.recurrent"].shape() == (7, 3, 4 * gates, 4)
    assert not workload["l0.recurrent"].tensors["x"][0].any()  # the first state
    for layer in workload:
        label, _, part = layer.name.partition(".")
        parameter = f"weight_{'ih' if part == 'input' else 'hh'}_{label}"
        close(weight_gradient(layer), theirs[parameter])


@needs_torch
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_unrolled_equals_torch(kind: str) -> None:
    torch.manual_seed(7)
    results = []

    class Keep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = getattr(nn, kind)(5, 4, 2, bidirectional=True)

        def forward(self, x: Any) -> Any:
            y, state = self.rnn(x)
            results.append([y, *(state if isinstance(state, tuple) else (state,))])
            return y

    model = Keep()
    for x in (torch.randn(7, 3, 5), torch.randn(7, 5)):
        results.clear()
        model(x)
        capture(model, x, energy)
        for plain, unrolled in zip(*results, strict=True):
            close(unrolled.detach().numpy(), plain)


@needs_torch
@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell", "RNNCell"])
def test_cells_share_a_layer(kind: str) -> None:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = getattr(nn, kind)(5, 4)

        def forward(self, x: Any) -> Any:
            state = None
            for step in x:
                state = self.cell(step, state)
            return state

    torch.manual_seed(8)
    workload, theirs = captured(Loop(), torch.randn(6, 3, 5))
    assert [layer.name for layer in workload] == ["cell.input", "cell.recurrent"]
    assert [layer.groups for layer in workload] == [1, 6]
    close(weight_gradient(workload[0]), theirs["cell.weight_ih"])
    close(weight_gradient(workload[1]), theirs["cell.weight_hh"])


@needs_torch
def test_explicit_products() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.randn(8, 6))
            self.bias = nn.Parameter(torch.randn(6))

        def forward(self, x: Any) -> Any:
            y = torch.addmm(self.bias, x, self.w)
            z = self.w @ y.T  # the weight is the first operand
            return torch.einsum("ij,kj->ik", z, z) + y.sum()

    torch.manual_seed(9)
    workload, theirs = captured(Model(), torch.randn(5, 8))
    assert [(layer.name, layer.kind, tuple(layer.shape())) for layer in workload] == [
        ("addmm", "linear", (1, 5, 6, 8)),
        ("matmul", "linear", (1, 5, 8, 6)),
        ("einsum", "matmul", (1, 8, 8, 5)),
    ]
    dw = product(workload[0], "wgrad")[0] + product(workload[1], "wgrad")[0].T
    close(dw, theirs["w"])


@needs_torch
def test_transformer_layer_with_named_arguments() -> None:
    torch.manual_seed(10)
    model = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    workload = capture(model, {"src": torch.randn(2, 4, 8)}, energy, name="block")
    assert workload.name == "block"
    assert [layer.name for layer in workload] == [
        "self_attn.linear",
        "self_attn.scores",
        "self_attn.context",
        "self_attn.linear#2",
        "linear1",
        "linear2",
    ]


@needs_torch
def test_frozen_and_unused_layers() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.frozen, self.unused, self.last = (nn.Linear(4, 4) for _ in range(3))
            self.frozen.requires_grad_(False)

        def forward(self, x: Any) -> Any:
            hidden = self.frozen(x)
            self.unused(hidden)
            return self.last(hidden)

    workload = capture(Model(), torch.randn(2, 4), energy)
    assert [layer.phases for layer in workload] == [("fwd",), ("fwd", "wgrad"), ("fwd", "wgrad")]
    assert set(workload["unused"].tensors) == {"x", "w"}
    assert "layer 'unused' got no gradient from the loss" in workload.warnings


@needs_torch
def test_unread_operators_are_missing() -> None:
    model = nn.Sequential(nn.Conv3d(1, 1, 1), nn.Flatten(), nn.Linear(8, 2))
    workload = capture(model, torch.randn(1, 1, 2, 2, 2), energy)
    assert [layer.name for layer in workload] == ["2"]
    assert workload.missing == ("conv3d in 0: it has 3 spatial axes; a layer has at most two",)


@needs_torch
def test_no_loss_is_forward_only() -> None:
    workload = capture(nn.Linear(4, 3), torch.randn(2, 4))
    assert workload[0].phases == ("fwd",)
    assert set(workload[0].tensors) == {"x", "w"}


@needs_torch
@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda y: y, r"the loss returned \(2, 3\)"),
        (lambda y: 3.0, "the loss returned float"),
        (lambda y: y.detach().sum(), "depends on no parameter"),
        (lambda y: y.sum() / 0, "must be finite"),
    ],
)
def test_bad_losses(loss: Callable, message: str) -> None:
    with pytest.raises(InputError, match=message):
        capture(nn.Linear(4, 3), torch.randn(2, 4), loss)


@needs_torch
def test_bad_models() -> None:
    with pytest.raises(InputError, match=r"must be a torch\.nn\.Module"):
        capture(3, torch.randn(2, 4))
    with pytest.raises(InputError, match="called no linear"):
        capture(nn.ReLU(), torch.randn(2, 4))
    model = nn.Linear(4, 3)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):  # the model's own error
        capture(model, torch.randn(2, 5), energy)
    assert not model._forward_pre_hooks and not model._forward_hooks
