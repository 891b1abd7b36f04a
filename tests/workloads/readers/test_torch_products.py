"""Capture sees what PyTorch multiplies: compared with its FLOP counter, function by function."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hfp8sim.errors import InputError
from hfp8sim.network import Workload
from hfp8sim.workloads import capture, load_workload, operands, save_trace

torch = pytest.importorskip("torch", reason="torch is not installed")
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402
from torch._subclasses import FakeTensorMode  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402


class Calls(nn.Module):
    """A model of one function of an input (4, 6), and of a weight of some shape."""

    def __init__(self, function: Callable[..., Any], *weight: int) -> None:
        super().__init__()
        self.function = function
        self.w = nn.Parameter(torch.randn(*(weight or (6, 5))))

    def forward(self, x: Any) -> Any:
        return self.function(x, self.w)


def energy(y: Any) -> Any:
    if isinstance(y, tuple | list):
        y = y[0]
    if isinstance(y, nn.utils.rnn.PackedSequence):
        y = y.data
    return y.float().square().mean()


def packed(x: Any) -> Any:
    return nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 3, 2]))


X = torch.randn(4, 6)
IMAGE, SIGNAL, SEQUENCE = torch.randn(2, 4, 9, 8), torch.randn(2, 4, 9), torch.randn(5, 3, 6)

#: Functions of (x, w), with the shape of w.
FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[int, ...]]] = {
    "matmul": (torch.matmul, (6, 5)),
    "matmul, keywords in another order": (lambda x, w: torch.matmul(other=w, input=x), (6, 5)),
    "@": (lambda x, w: x @ w, (6, 5)),
    "tensor.matmul": (lambda x, w: x.matmul(w), (6, 5)),
    "linalg.matmul": (torch.linalg.matmul, (6, 5)),
    "mm": (torch.mm, (6, 5)),
    "mm of a transpose": (lambda x, w: torch.mm(x, w.T), (5, 6)),
    "mm with the weight first": (lambda x, w: torch.mm(w, x.T), (5, 6)),
    "mv": (torch.mv, (6,)),
    "matmul of a vector": (lambda x, w: w @ x.T, (6,)),
    "linalg.vecdot of vectors": (lambda x, w: torch.linalg.vecdot(x[0], w), (6,)),
    "dot": (lambda x, w: torch.dot(x[0], w), (6,)),
    "vdot": (lambda x, w: torch.vdot(x[0], w), (6,)),
    "inner": (torch.inner, (5, 6)),
    "bmm": (lambda x, w: torch.bmm(x[None].expand(3, 4, 6), w), (3, 6, 5)),
    "matmul, broadcast": (lambda x, w: x[None, None].expand(2, 3, 4, 6) @ w, (3, 6, 5)),
    "matmul of one weight, frozen": (lambda x, w: torch.ones(3, 2, 6) @ w.detach() + w.sum(), (6, 5)),
    "addmm": (lambda x, w: torch.addmm(torch.ones(5), x, w), (6, 5)),
    "addmm_": (lambda x, w: torch.ones(4, 5).addmm_(x, w), (6, 5)),
    "addmv": (lambda x, w: torch.addmv(torch.ones(4), x, w), (6,)),
    "addbmm": (lambda x, w: torch.addbmm(torch.ones(4, 5), x.expand(3, 4, 6), w), (3, 6, 5)),
    "baddbmm": (lambda x, w: torch.baddbmm(torch.ones(5), x.expand(3, 4, 6), w), (3, 6, 5)),
    "einsum": (lambda x, w: torch.einsum("ik,kj->ij", x, w), (6, 5)),
    "einsum without arrow": (lambda x, w: torch.einsum("ik,kj", x, w), (6, 5)),
    "einsum with ellipsis": (lambda x, w: torch.einsum("...k,kj->...j", x, w), (6, 5)),
    "einsum of three": (lambda x, w: torch.einsum("ik,kj,jl->il", x, w, torch.ones(5, 2)), (6, 5)),
    "einsum of labels as numbers": (lambda x, w: torch.einsum(x, [0, 1], w, [1, 2]), (6, 5)),
    "tensordot": (lambda x, w: torch.tensordot(x, w, dims=([1], [0])), (6, 5)),
    "tensordot of two axes": (lambda x, w: torch.tensordot(x, w, 2), (4, 6, 5)),
    "chain_matmul": (lambda x, w: torch.chain_matmul(x, w, torch.ones(5, 3)), (6, 5)),
    "linalg.multi_dot": (lambda x, w: torch.linalg.multi_dot([x, w, torch.ones(5, 3)]), (6, 5)),
    "linalg.matrix_power": (lambda x, w: x @ torch.linalg.matrix_power(w, 3), (6, 6)),
    "cov": (lambda x, w: torch.cov(x @ w), (6, 5)),
    "corrcoef": (lambda x, w: torch.corrcoef(x @ w), (6, 5)),
    "linear": (F.linear, (5, 6)),
    "linear of a vector": (lambda x, w: F.linear(x[0], w), (5, 6)),
    "linear to one number": (F.linear, (6,)),
    "linear, three axes": (lambda x, w: F.linear(x.view(2, 2, 6), w, torch.ones(5)), (5, 6)),
    "linear, axes in another order": (
        lambda x, w: F.linear(x.view(2, 2, 6).transpose(0, 1), w, torch.ones(5)),
        (5, 6),
    ),
    "conv by unfold": (lambda x, w: w @ F.unfold(x.view(1, 1, 4, 6), 3), (5, 9)),
    "autocast": (
        lambda x, w: torch.autocast("cpu", torch.bfloat16)(lambda: x @ w)(),
        (6, 5),
    ),
    "float64": (lambda x, w: x.double() @ w.double(), (6, 5)),
    "integers": (lambda x, w: (x.long() @ torch.ones(6, 5, dtype=torch.long)) * (x @ w), (6, 5)),
    "vmap": (lambda x, w: torch.vmap(lambda row: row @ w)(x), (6, 5)),
    "vmap of a linear": (lambda x, w: torch.vmap(lambda row: F.linear(row, w))(x), (5, 6)),
    "vmap over weights": (lambda x, w: torch.vmap(lambda one: x @ one)(w), (3, 6, 5)),
    "grad inside": (lambda x, w: torch.func.grad(lambda t: (t @ w).square().sum())(x), (6, 5)),
    "autograd inside": (
        lambda x, w: torch.autograd.grad((x @ w).square().sum(), w, create_graph=True)[0],
        (6, 5),
    ),
    "a function of its own for outer products": (lambda x, w: x @ torch.outer(w, w), (6,)),
    "attention": (lambda x, w: F.scaled_dot_product_attention(*(x @ w).view(3, 1, 4, 5)), (6, 15)),
    "attention, vmap": (
        lambda x, w: torch.vmap(lambda q: F.scaled_dot_product_attention(q, q, q))(
            (x @ w).view(3, 1, 4, 5)
        ),
        (6, 15),
    ),
    "bfloat16": (lambda x, w: x.bfloat16() @ w.bfloat16(), (6, 5)),
    "no_grad": (lambda x, w: (x @ w) * torch.no_grad()(lambda: x @ w)(), (6, 5)),
    "checkpoint": (
        lambda x, w: torch.utils.checkpoint.checkpoint(torch.mm, x, w, use_reentrant=False),
        (6, 5),
    ),
    "checkpoint, reentrant": (
        lambda x, w: torch.utils.checkpoint.checkpoint(torch.mm, x, w, use_reentrant=True),
        (6, 5),
    ),
}  # fmt: skip

#: Modules with their argument.
MODULES: dict[str, tuple[Callable[[], Any], Any]] = {
    "Linear": (lambda: nn.Linear(6, 5), X),
    "LazyLinear": (lambda: nn.Sequential(nn.LazyLinear(5)), X),
    "Sequential": (lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(inplace=True), nn.Linear(5, 2)), X),
    "weight_norm": (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(6, 5)), X),
    "spectral_norm": (lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(6, 5)), X),
    "DataParallel": (lambda: nn.DataParallel(nn.Linear(6, 5)), X),
    "Conv1d": (lambda: nn.Conv1d(4, 5, 3), SIGNAL),
    "Conv1d, same": (lambda: nn.Conv1d(4, 5, 4, padding="same"), SIGNAL),
    "Conv2d": (lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1), IMAGE),
    "Conv2d, no batch": (lambda: nn.Conv2d(4, 6, 3), IMAGE[0]),
    "Conv2d, same, even": (lambda: nn.Conv2d(4, 6, (2, 4), padding="same"), IMAGE),
    "Conv2d, circular": (lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"), IMAGE),
    "Conv2d, grouped": (lambda: nn.Conv2d(4, 6, 3, groups=2, dilation=2), IMAGE),
    "Conv2d, depthwise": (lambda: nn.Conv2d(4, 8, 3, groups=4), IMAGE),
    "Conv2d, channels last": (
        lambda: nn.Conv2d(4, 6, 3).to(memory_format=torch.channels_last),
        IMAGE.to(memory_format=torch.channels_last),
    ),
    "LSTM": (lambda: nn.LSTM(6, 5), SEQUENCE),
    "LSTM, projected": (lambda: nn.LSTM(6, 5, proj_size=3), SEQUENCE),
    "LSTM, packed": (lambda: Packed(nn.LSTM(6, 5)), SEQUENCE),
    "GRU": (lambda: nn.GRU(6, 5, 2, bidirectional=True), SEQUENCE),
    "GRU, packed": (lambda: Packed(nn.GRU(6, 5, bidirectional=True)), SEQUENCE),
    "RNN": (lambda: nn.RNN(6, 5), SEQUENCE),
    "LSTMCell": (lambda: nn.LSTMCell(6, 5), X),
    "GRUCell": (lambda: nn.GRUCell(6, 5), X),
    "RNNCell": (lambda: nn.RNNCell(6, 5), X),
    "MultiheadAttention": (lambda: Attends(True), SEQUENCE),
    "MultiheadAttention, fused": (lambda: Attends(False), SEQUENCE),
    "MultiheadAttention, evaluated": (lambda: Attends(False).eval(), SEQUENCE),
    "TransformerEncoder": (
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 8, batch_first=True), 2),
        SEQUENCE,
    ),
    "TransformerEncoder, evaluated": (
        lambda: nn.TransformerEncoder(
            nn.TransformerEncoderLayer(6, 2, 8, batch_first=True), 2
        ).eval(),
        SEQUENCE,
    ),
    "Transformer": (
        lambda: nn.Transformer(6, 2, 1, 1, 8, dropout=0.0),
        (SEQUENCE, SEQUENCE),
    ),
    "EmbeddingBag": (
        lambda: nn.Sequential(nn.EmbeddingBag(10, 6), nn.Linear(6, 2)),
        torch.arange(8).view(2, 4),
    ),
    "AdaptiveLogSoftmaxWithLoss": (lambda: Classes(), X),
    "script": (lambda: torch.jit.script(nn.Sequential(nn.Linear(6, 5), nn.Tanh())), X),
    "script that ran before": (lambda: warm(nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 2))), X),
    "script inside a model": (
        lambda: nn.Sequential(nn.Linear(6, 6), warm(nn.Linear(6, 5)), nn.ReLU()),
        X,
    ),
    "script of an LSTM": (lambda: torch.jit.script(Outputs(nn.LSTM(6, 5))), SEQUENCE),
    "trace": (lambda: torch.jit.trace(nn.Linear(6, 5), X), X),
    "compile": (lambda: torch.compile(nn.Linear(6, 5), backend="eager"), X),
    "compile inside a model": (
        lambda: nn.Sequential(nn.Linear(6, 6), torch.compile(nn.Linear(6, 5), backend="eager")),
        X,
    ),
    "fx": (lambda: torch.fx.symbolic_trace(nn.Sequential(nn.Linear(6, 5), nn.ReLU())), X),
    "functional_call": (lambda: Called(), X),
}  # fmt: skip

#: What is not read, with its argument and what the capture says of it. Linear layers are added to each.
UNREAD: dict[str, tuple[Callable[[], Any], Any, str]] = {
    "Conv3d": (
        lambda: nn.Sequential(nn.Conv3d(1, 1, 2), nn.Flatten()),
        torch.randn(4, 1, 2, 2, 7),
        "conv3d in 0.0: it has 3 spatial axes",
    ),
    "ConvTranspose3d": (
        lambda: nn.Sequential(nn.ConvTranspose3d(1, 1, 1), nn.Flatten()),
        torch.randn(4, 1, 1, 1, 6),
        "conv_transpose3d in 0.0: it has 3 spatial axes",
    ),
    "Bilinear": (
        lambda: Calls(lambda x, w: F.bilinear(x, x, w), 6, 6, 6),
        X,
        "bilinear in 0: it mu",
    ),
    "cdist": (
        lambda: Calls(lambda x, w: torch.cdist(x, w)[:, :6], 30, 6),
        X,
        "cdist in 0: its product",
    ),
    "matrix_exp": (
        lambda: Calls(lambda x, w: x @ torch.matrix_exp(w), 6, 6),
        X,
        "matrix_exp in 0: ",
    ),
    "affine_grid": (
        lambda: Calls(lambda x, w: F.affine_grid(w, [4, 1, 1, 3]).reshape(4, 6) * x, 4, 2, 3),
        X,
        "affine_grid in 0: its product with the grid",
    ),
    "conv_tbc": (
        lambda: Calls(lambda x, w: torch.conv_tbc(x[:, None], w, torch.zeros(6))[:, 0], 1, 6, 6),
        X,
        "conv_tbc in 0: its axes are time, batch, channel",
    ),
    "complex": (
        lambda: Calls(lambda x, w: (x.cfloat() @ w.cfloat()).abs(), 6, 6),
        X,
        "matmul in 0: an operand is complex",
    ),
    "sparse": (
        lambda: Calls(lambda x, w: torch.sparse.mm(x.to_sparse(), w), 6, 6),
        X,
        "sparse_mm in 0: an operand is sparse",
    ),
    "sparse, csr": (
        lambda: Calls(lambda x, w: x.detach().to_sparse_csr() @ w, 6, 6),
        X,
        "matmul in 0: an operand is sparse or nested",
    ),
    "pinv": (
        lambda: Calls(lambda x, w: x @ torch.linalg.pinv(w), 6, 6),
        X,
        "linalg_pinv in 0: its products",
    ),
    "orthogonal": (
        lambda: nn.utils.parametrizations.orthogonal(nn.Linear(6, 6), orthogonal_map="householder"),
        X,
        "mm in the model: it belongs to LinalgHouseholderProductBackward0 of the backward pass alone",
    ),
    "script function that ran before": (
        lambda: Calls(warm_function(), 6, 6),
        X,
        "mm in the model: it belongs to torch::jit::(anonymous namespace)::DifferentiableGraphBackward",
    ),
    "custom function": (
        lambda: Calls(lambda x, w: Own.apply(x, w), 6, 6),
        X,
        "mm in the model: it belongs to OwnBackward of the backward pass alone",
    ),
}


class Own(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any, w: Any) -> Any:
        ctx.save_for_backward(x, w)
        return x @ w

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        x, w = ctx.saved_tensors
        return dy @ w.T, x.T @ dy


class Outputs(nn.Module):
    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)[0]


class Packed(nn.Module):
    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Any) -> Any:
        return self.layer(packed(x))[0]


class Attends(nn.Module):
    def __init__(self, weights: bool) -> None:
        super().__init__()
        self.attention, self.weights = nn.MultiheadAttention(6, 2), weights

    def forward(self, x: Any) -> Any:
        return self.attention(x, x, x, need_weights=self.weights)[0]


class Classes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.softmax = nn.AdaptiveLogSoftmaxWithLoss(6, 9, [3, 6])

    def forward(self, x: Any) -> Any:
        return self.softmax(x, torch.tensor([1, 4, 7, 2])).output


class Called(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 5)
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, x: Any) -> Any:
        weights = {"weight": self.inner.weight * self.factor, "bias": self.inner.bias}
        return torch.func.functional_call(self.inner, weights, (x,))


def warm(module: Any) -> Any:
    """A script that has run so often that it was optimised."""
    script = torch.jit.script(module)
    for _ in range(3):
        script(torch.randn(4, 6)).sum().backward()
    script.zero_grad()
    return script


def warm_function() -> Any:
    """A function in TorchScript that has run so often that it was optimised."""

    def multiply(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return torch.mm(x, w).relu().tanh()

    script = torch.jit.script(multiply)
    for _ in range(3):
        script(torch.randn(4, 6), torch.randn(6, 6, requires_grad=True)).sum().backward()
    return script


def called(model: Any, batch: Any) -> Any:
    return model(*batch) if isinstance(batch, tuple) else model(batch)


#: Forward multiply-accumulates, counted by hand, of what the FLOP counter does not know.
BY_HAND = {
    "mv": 4 * 6, "linalg.vecdot of vectors": 6, "dot": 6, "vdot": 6, "addmv": 4 * 6,
    "linear to one number": 4 * 6, "addmm_": 4 * 5 * 6, "addbmm": 3 * 4 * 5 * 6,
    "spectral_norm": 3 * 5 * 6 + 5 + 4 * 5 * 6,
}  # fmt: skip


def counted(model: Any, batch: Any) -> int:
    """FLOPs of the forward pass as PyTorch counts them, with nothing fused that its counter does not know."""
    math = torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)
    with (
        math,
        torch.backends.mkldnn.flags(enabled=False),
        FlopCounterMode(display=False) as counter,
    ):
        called(model, batch)
    return int(counter.get_total_flops())


def backward(model: Any, batch: Any) -> int:
    """FLOPs of the backward pass as PyTorch counts them."""
    value = energy(called(model, batch))
    with FlopCounterMode(display=False) as counter:
        value.backward()
    return int(counter.get_total_flops())


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def check(workload: Workload) -> None:
    """Every layer has its tensors, and nothing is missing."""
    assert workload.missing == ()
    for layer in workload:
        expected = {"x", "w", "dy"} if len(layer.phases) > 1 else {"x", "w"}
        assert set(layer.tensors) == expected, layer.name


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_is_read(name: str) -> None:
    function, shape = FUNCTIONS[name]
    model = Calls(function, *shape)
    workload = capture(model, X, energy)
    check(workload)
    assert 2 * workload.macs() == (2 * BY_HAND[name] if name in BY_HAND else counted(model, X))
    if name not in BY_HAND and "checkpoint" not in name:
        # The input needs no gradient, so each product's two gradients are counted as autograd makes them.
        assert 2 * workload.macs(("dgrad", "wgrad")) == backward(model, X)


@pytest.mark.parametrize("name", MODULES)
def test_module_is_read(name: str) -> None:
    make, batch = MODULES[name]
    model = make()
    called(model, batch)
    workload = capture(model, batch, energy)
    check(workload)
    assert 2 * workload.macs() == (2 * BY_HAND[name] if name in BY_HAND else counted(model, batch))
    trained = [x for x in workload if x.kind != "matmul" and "parametrizations" not in x.name]
    assert all("wgrad" in layer.phases for layer in trained)


@pytest.mark.parametrize("name", UNREAD)
def test_unread_product_is_missing(name: str) -> None:
    make, batch, text = UNREAD[name]
    workload = capture(nn.Sequential(make(), nn.Linear(6, 2)), batch, energy)
    assert len(workload.missing) == 1
    assert workload.missing[0].startswith(text)
    assert workload[-1].name == "1"


def test_missing_products_reach_the_trace(tmp_path: Path) -> None:
    make, batch, _ = UNREAD["Conv3d"]
    workload = capture(nn.Sequential(make(), nn.Linear(6, 2)), batch, energy)
    save_trace(tmp_path / "step.npz", workload)
    assert load_workload(tmp_path / "step.npz").missing == workload.missing
    with pytest.raises(
        InputError, match="no product of the model can be read: conv3d in 0: it has 3"
    ):
        capture(make(), batch, energy)


def weight_gradient(workload: Workload, weight: np.ndarray) -> np.ndarray:
    """The sum of the products for the gradient of a weight, over the layers that use it or its transpose."""
    total = np.zeros(weight.shape)
    for layer in workload:
        a, b, _ = operands(layer, "wgrad")
        gradient = (a.astype(np.float64) @ b.astype(np.float64))[0]
        if np.array_equal(layer.tensors["w"], weight):
            total += gradient
        elif np.array_equal(layer.tensors["w"].T, weight):
            total += gradient.T
    return total


@pytest.mark.parametrize(
    "name", ["vmap", "addmm", "tensordot", "autocast", "script that ran before", "LSTM, packed"]
)
def test_weight_gradients_are_those_of_autograd(name: str) -> None:
    if name in FUNCTIONS:
        model, batch = Calls(FUNCTIONS[name][0], *FUNCTIONS[name][1]), X
    else:
        model, batch = MODULES[name][0](), MODULES[name][1]
    workload = capture(model, batch, energy)
    energy(called(model, batch)).backward()
    for parameter in model.parameters():
        if parameter.dim() == 2:
            weight = parameter.detach()
            weight = weight.bfloat16().float() if name == "autocast" else weight
            ours, theirs = weight_gradient(workload, weight.numpy()), parameter.grad.numpy()
            atol = 0.01 * np.abs(theirs).max() if name == "autocast" else 1e-6
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol)


def test_empty_batch_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"every product of the model is empty, such as linear in 0 of \(0, 6\)"
    ):
        capture(nn.Sequential(nn.Linear(6, 2)), torch.zeros(0, 6), energy)


def test_empty_product_is_a_warning() -> None:
    model = Calls(lambda x, w: (x[:0] @ w).sum() + x @ w)
    workload = capture(model, X, energy)
    assert len(workload) == 1
    assert workload.missing == ()
    assert workload.warnings == (
        "matmul in the model multiplies empty tensors of shapes (0, 6) and (6, 5)",
    )


def test_meta_tensors_give_shapes() -> None:
    plain = capture(small_network(), IMAGE, energy)
    with torch.device("meta"):
        workload = capture(small_network(), torch.empty(2, 4, 9, 8), energy)
    assert "captured from tensors without values: shapes only" in workload.notes
    assert [(layer.shape(), layer.phases) for layer in workload] == [
        (layer.shape(), layer.phases) for layer in plain
    ]
    assert not any(layer.tensors for layer in workload)
    assert workload.warnings == workload.missing == ()


def test_fake_tensors_are_refused() -> None:
    with (
        FakeTensorMode(),
        pytest.raises(InputError, match="fake tensors; for shapes alone build it"),
    ):
        capture(small_network(), torch.empty(2, 4, 9, 8), energy)


def small_network() -> Any:
    return nn.Sequential(nn.Conv2d(4, 6, 3), nn.Flatten(), nn.Linear(252, 5))


def test_capture_leaves_torch_as_it_was() -> None:
    state = (
        torch.backends.mha.get_fastpath_enabled(),
        torch.backends.mkldnn.enabled,
        torch.backends.cuda.flash_sdp_enabled(),
        torch.utils.checkpoint.CheckpointFunction.apply,
    )
    capture(warm(nn.Linear(6, 5)), X, energy)
    with pytest.raises(RuntimeError):
        capture(nn.Linear(5, 5), X, energy)
    assert state == (
        torch.backends.mha.get_fastpath_enabled(),
        torch.backends.mkldnn.enabled,
        torch.backends.cuda.flash_sdp_enabled(),
        torch.utils.checkpoint.CheckpointFunction.apply,
    )
    assert not torch.nn.modules.module._global_forward_hooks
    assert not torch.nn.modules.module._global_forward_pre_hooks
