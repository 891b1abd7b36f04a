"""Emulated layers: gradients against PyTorch's, and every product against `hs.gemm` on the same codes."""

import copy
import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import hfp8sim as hs  # noqa: E402
from hfp8sim import training  # noqa: E402
from hfp8sim.network import Conv  # noqa: E402
from tests.lowering.layers import im2col  # noqa: E402

#: binary32 operands and exact sums: what PyTorch computes, up to its own rounding.
EXACT = hs.get_profile("exact").replace(
    a_format="binary32", b_format="binary32", error_format="binary32", operand_rounding="nearest-even"
)  # fmt: skip


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Masked(nn.Module):
    """Attention with both masks."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        later = torch.ones(5, 5, dtype=torch.bool).triu(1)
        padding = torch.tensor([[False] * 5, [False] * 4 + [True]])
        added = torch.zeros(5, 5).masked_fill(later, -1e30)
        y = self.attention(x, x, x, attn_mask=later, key_padding_mask=padding)[0]
        return y + self.attention(x, x, x, attn_mask=added, average_attn_weights=False)[0]


class Attention(nn.Module):
    """Every product that a module may write itself."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(randn(6, 6, seed=3))

    def forward(self, a, b):
        scores = torch.einsum("bhid,bhjd->bhij", a, b).softmax(-1)
        y = scores @ b + torch.matmul(a, self.weight)
        y = y + nn.functional.scaled_dot_product_attention(a, b, b, is_causal=True, scale=0.3)
        y = y + nn.functional.linear(a, self.weight, self.weight[0])
        flat = y.flatten(0, 1)
        vector = flat[0, 0] @ self.weight + self.weight.mv(flat[0, 1])
        flat = torch.baddbmm(flat, scores.flatten(0, 1), b.flatten(0, 1), beta=0.5, alpha=2.0)
        return flat + torch.addmm(self.weight, self.weight, self.weight).sum(0) + vector


class Packed(nn.Module):
    """A recurrent layer on a packed sequence; all that it returns, with or without given first states."""

    def __init__(self, layer, states=0):
        super().__init__()
        self.layer = layer
        count = layer.num_layers * (1 + layer.bidirectional)
        sizes = (layer.proj_size or layer.hidden_size, layer.hidden_size)[:states]
        self.state = [randn(count, 8, size, seed=7) for size in sizes]

    def forward(self, *sequences):
        packed = nn.utils.rnn.pack_sequence(list(sequences), enforce_sorted=False)
        state = tuple(s[:, : len(sequences)].contiguous() for s in self.state)
        y, ends = self.layer(packed, (state if len(state) > 1 else state[0]) if state else None)
        ends = ends if isinstance(ends, tuple) else (ends,)
        padded, lengths = nn.utils.rnn.pad_packed_sequence(y)
        assert lengths.tolist() == [len(s) for s in sequences]
        return torch.cat([t.flatten() for t in (padded, *ends)])


class Softmaxes(nn.Module):
    """Every way to write a softmax."""

    def forward(self, x):
        y = torch.softmax(x, -1) + x.softmax(dim=0) + nn.functional.softmax(x, dim=1)
        return y + torch.softmax(x, 1, dtype=torch.float32) + nn.Softmax(dim=-1)(2 * x)


#: A layer and the shapes of its inputs.
LAYERS = {
    "linear": (nn.Linear(7, 5), [(3, 4, 7)]),
    "linear-vector": (nn.Linear(7, 5, bias=False), [(7,)]),
    "conv": (nn.Conv2d(4, 6, 3, padding=1), [(2, 4, 6, 5)]),
    "conv-strided-grouped": (nn.Conv2d(4, 6, 3, stride=(2, 1), padding=1, groups=2), [(2, 4, 9, 8)]),
    "conv-dilated-same": (nn.Conv2d(4, 6, 2, dilation=3, padding="same"), [(2, 4, 9, 8)]),
    "conv-valid": (nn.Conv2d(4, 6, 2, padding="valid"), [(2, 4, 5, 5)]),
    "conv-circular": (nn.Conv2d(4, 6, (2, 3), padding=(1, 2), padding_mode="circular"), [(4, 9, 8)]),
    "conv-depthwise": (nn.Conv2d(6, 12, 3, stride=2, padding=1, groups=6), [(2, 6, 7, 7)]),
    "conv-1d": (nn.Conv1d(4, 6, 3, stride=2, padding=1, dilation=2), [(2, 4, 11)]),
    "conv-1d-same": (nn.Conv1d(4, 6, 4, padding="same"), [(4, 11)]),
    "conv-3d": (nn.Conv3d(4, 6, (2, 3, 1), padding=(1, 0, 2)), [(2, 4, 4, 5, 3)]),
    "conv-3d-strided-grouped": (
        nn.Conv3d(4, 6, 3, stride=(2, 1, 2), padding=1, groups=2), [(2, 4, 5, 4, 7)],
    ),
    "conv-3d-dilated-same": (nn.Conv3d(2, 3, 2, dilation=(3, 1, 2), padding="same"), [(2, 5, 4, 6)]),
    "conv-3d-depthwise": (nn.Conv3d(3, 6, 2, stride=2, groups=3, bias=False), [(2, 3, 5, 4, 4)]),
    "conv-3d-reflected": (nn.Conv3d(2, 3, 3, padding=1, padding_mode="reflect"), [(1, 2, 3, 3, 3)]),
    "conv-1d-depthwise": (nn.Conv1d(6, 6, 3, groups=6), [(2, 6, 9)]),
    "conv-1d-grouped": (nn.Conv1d(4, 6, 2, padding=1, groups=2, padding_mode="reflect"), [(2, 4, 9)]),
    "conv-strided-past-the-end": (nn.Conv2d(2, 3, 2, stride=(3, 2)), [(2, 2, 7, 6)]),
    "transposed-3d": (
        nn.ConvTranspose3d(4, 6, 3, (2, 1, 3), 1, output_padding=(1, 0, 2), groups=2), [(2, 4, 3, 4, 2)],
    ),
    "transposed-3d-dilated": (nn.ConvTranspose3d(2, 3, 2, 1, 0, dilation=2), [(2, 2, 3, 2)]),
    "transposed-depthwise": (nn.ConvTranspose2d(6, 6, 3, 2, 1, groups=6), [(2, 6, 4, 4)]),
    "transposed": (nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=1, groups=2), [(2, 4, 5, 6)]),
    "transposed-1d": (nn.ConvTranspose1d(4, 6, 3, stride=3, dilation=2), [(2, 4, 5)]),
    "attention": (Attention(), [(2, 2, 6, 6), (2, 2, 6, 6)]),
    "multihead": (nn.MultiheadAttention(8, 2, batch_first=True), [(2, 5, 8), (2, 6, 8), (2, 6, 8)]),
    "multihead-dims": (nn.MultiheadAttention(8, 2, kdim=5, vdim=7, bias=False), [(5, 8), (6, 5), (6, 7)]),
    "encoder": (nn.TransformerEncoderLayer(8, 2, 16, dropout=0, batch_first=True), [(2, 5, 8)]),
    "decoder": (nn.TransformerDecoderLayer(8, 2, 16, dropout=0), [(5, 2, 8), (4, 2, 8)]),
    "decoder-masked": (Masked(), [(2, 5, 8)]),
    "lstm": (nn.LSTM(5, 6, 2, bidirectional=True), [(4, 3, 5)]),
    "gru": (nn.GRU(5, 6, batch_first=True), [(3, 4, 5)]),
    "rnn-relu": (nn.RNN(5, 6, nonlinearity="relu", bias=False), [(4, 5)]),
    "rnn-cell": (nn.RNNCell(5, 6), [(3, 5)]),
    "lstm-cell": (nn.LSTMCell(5, 6), [(3, 5), ]),
    "lstm-projected": (nn.LSTM(5, 6, 2, bidirectional=True, proj_size=3), [(4, 3, 5)]),
    "lstm-packed": (Packed(nn.LSTM(5, 6, 2, bidirectional=True)), [(4, 5), (2, 5), (3, 5)]),
    "lstm-packed-first": (Packed(nn.LSTM(5, 6, proj_size=4), 2), [(4, 5), (2, 5), (4, 5)]),
    "gru-packed": (Packed(nn.GRU(5, 6, bidirectional=True, batch_first=True), 1), [(1, 5), (3, 5)]),
    "softmax": (Softmaxes(), [(2, 5)]),
    "gru-cell": (nn.GRUCell(5, 6), [(5,), (6,)]),
}  # fmt: skip


def results(model, inputs, dtype=torch.float32):
    """The first output, the gradients of the inputs and of all parameters, for a fixed error."""
    model.zero_grad()
    inputs = [x.clone().requires_grad_() for x in inputs]
    y = model(*inputs)
    while isinstance(y, tuple):
        y = y[0]
    y.backward(randn(*y.shape, seed=9).to(dtype))
    return [y.detach(), *(x.grad for x in inputs), *(p.grad for p in model.parameters())]


@pytest.mark.parametrize("name", LAYERS)
def test_exact_products_give_the_gradients_of_pytorch(name):
    """binary32 operands and exact sums equal PyTorch's to 1e-6 of the largest element."""
    model, shapes = LAYERS[name]
    inputs = [randn(*shape, seed=n) for n, shape in enumerate(shapes)]
    emulated = training.convert(copy.deepcopy(model), EXACT)
    for ours, theirs in zip(results(emulated, inputs), results(model, inputs), strict=True):
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
        assert (ours - theirs).abs().max() <= 1e-6 * theirs.abs().max() + 1e-30
    for ours, theirs in zip(results(training.restore(emulated), inputs), results(model, inputs)):
        assert torch.equal(ours, theirs)


def geometries(axes):
    """Strides, paddings, dilations and groups, with channels and filters that they divide."""
    paddings = (0, 1, "same") if axes == 2 else (0, 1)
    for stride, padding, dilation, groups in itertools.product(
        (1, 2, 3), paddings, (1, 2), (1, 2, 4)
    ):
        if padding != "same" or stride == 1:
            yield {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_gradients_of_every_geometry_are_those_of_pytorch(axes, transposed):
    """Every stride, padding, dilation and group count with each other."""
    kind = getattr(nn, f"Conv{'Transpose' * transposed}{axes}d")
    inputs = [randn(2, 4, *(5, 6, 7)[:axes], seed=axes)]
    for number, geometry in enumerate(geometries(axes)):
        if transposed and geometry["padding"] == "same":
            continue
        torch.manual_seed(number)
        model = kind(4, 8, 2 + number % 2, bias=number % 3 > 0, **geometry)
        emulated = training.convert(copy.deepcopy(model), EXACT)
        # PyTorch in binary64: its binary32 sums for the bias are off by more than 1e-6.
        exact = results(model.double(), [x.double() for x in inputs], torch.float64)
        for ours, theirs in zip(results(emulated, inputs), exact, strict=True):
            assert ours.shape == theirs.shape
            worst = (ours - theirs).abs().max()
            assert worst <= 1e-6 * theirs.abs().max() + 1e-30, geometry


# -- bits ----------------------------------------------------------------------------------------------


def codes(x, profile, phase, side):
    """A tensor's codes as an operand of a phase."""
    fmt = profile.operand_formats(phase)[side]
    array = np.ascontiguousarray(x.detach().numpy())
    return fmt.encode(array, profile.operand_rounding, profile.operand_overflow)


def product(a, b, profile, phase):
    """`hs.gemm` on the codes of both operands, decoded."""
    formats = dict(zip(("a_format", "b_format"), profile.operand_formats(phase)))
    result = hs.gemm(codes(a, profile, phase, 0), codes(b, profile, phase, 1), profile, **formats)
    return torch.from_numpy(profile.result_format.decode(result).astype(np.float32))


@pytest.mark.parametrize("profile", ["hfp8", "rapid", "fp16", "hopper-fp8", "aiu"])
def test_products_of_a_linear_layer_equal_gemm(profile):
    profile = hs.get_profile(profile)
    layer = training.convert(nn.Linear(150, 20, bias=False), profile)
    x, dy = randn(33, 150, seed=1), randn(33, 20, seed=2) * 1e-3
    w = layer.weight
    x.requires_grad_()
    y = layer(x)
    y.backward(dy)
    assert torch.equal(y, product(x, w.T, profile, "fwd"))
    assert torch.equal(x.grad, product(dy, w, profile, "dgrad"))
    assert torch.equal(w.grad, product(x.T, dy, profile, "wgrad").T)


@pytest.mark.parametrize("profile", ["hfp8", "rapid"])
def test_products_of_a_convolution_equal_gemm(profile):
    """k runs over (r, s, c) forward, (r, s, f) in the input's gradient, (n, p, q) in the weights'."""
    profile = hs.get_profile(profile)
    layer = training.convert(nn.Conv2d(12, 9, 3, stride=2, padding=1, bias=False), profile)
    conv = Conv(2, 9, 8, 12, 9, (3, 3), stride=(2, 2), padding=(1, 1, 1, 1))
    x, w = randn(2, 12, 9, 8, seed=1).requires_grad_(), layer.weight
    y = layer(x)
    dy = randn(*y.shape, seed=2)
    y.backward(dy)
    unfolded = torch.from_numpy(im2col(x.detach().permute(0, 2, 3, 1).numpy(), conv)[0])
    errors = dy.permute(0, 2, 3, 1).reshape(-1, 9)
    forward = product(unfolded, w.permute(2, 3, 1, 0).reshape(-1, 9), profile, "fwd")
    assert torch.equal(y.permute(0, 2, 3, 1).reshape(-1, 9), forward)
    weights = product(unfolded.T, errors, profile, "wgrad").reshape(3, 3, 12, 9)
    assert torch.equal(w.grad, weights.permute(3, 2, 0, 1))
    unfolded = torch.from_numpy(im2col(dy.permute(0, 2, 3, 1).numpy(), conv.input_gradient())[0])
    turned = w.flip(2, 3).permute(2, 3, 0, 1).reshape(-1, 12)
    inputs = product(unfolded, turned, profile, "dgrad").reshape(2, 9, 8, 12)
    assert torch.equal(x.grad, inputs.permute(0, 3, 1, 2))


def test_products_of_a_volume_equal_gemm():
    """k runs over (r, s, c, d) forward, (r, s, f, d) in the input's gradient, (n, z, p, q) in the weights'."""
    profile = hs.get_profile("hfp8")
    layer = training.convert(
        nn.Conv3d(5, 6, (3, 2, 2), stride=(2, 1, 1), padding=(1, 0, 0), bias=False), profile
    )
    x, w = randn(2, 5, 5, 4, 4, seed=1).requires_grad_(), layer.weight
    y = layer(x)
    dy = randn(*y.shape, seed=2)
    y.backward(dy)
    padded = nn.functional.pad(x.detach(), (0, 0, 0, 0, 1, 1))
    patches = padded.unfold(2, 3, 2).unfold(3, 2, 1).unfold(4, 2, 1)  # (n, c, z, p, q, d, r, s)
    unfolded = patches.permute(0, 2, 3, 4, 6, 7, 1, 5).reshape(-1, 60)
    forward = product(unfolded, w.permute(3, 4, 1, 2, 0).reshape(60, 6), profile, "fwd")
    rows = y.permute(0, 2, 3, 4, 1).reshape(-1, 6)
    assert torch.equal(rows, forward)
    errors = dy.permute(0, 2, 3, 4, 1).reshape(-1, 6)
    weights = product(unfolded.T, errors, profile, "wgrad").reshape(2, 2, 5, 3, 6)
    assert torch.equal(w.grad, weights.permute(4, 2, 3, 0, 1))
    # Errors spread over the depth by the stride, and zeros around them: a convolution with the turned weights.
    spread = torch.zeros(2, 6, 5, *dy.shape[3:])
    spread[:, :, ::2] = dy
    spread = nn.functional.pad(spread, (1, 1, 1, 1, 1, 1))
    patches = spread.unfold(2, 3, 1).unfold(3, 2, 1).unfold(4, 2, 1)
    unfolded = patches.flip(5).permute(0, 2, 3, 4, 6, 7, 1, 5).reshape(-1, 72)
    turned = w.flip(3, 4).permute(3, 4, 0, 2, 1).reshape(72, 5)
    inputs = product(unfolded, turned, profile, "dgrad").reshape(2, 5, 4, 4, 5)
    assert torch.equal(x.grad, inputs.permute(0, 4, 1, 2, 3))


def test_products_of_attention_equal_gemm():
    profile = hs.get_profile("hfp8")

    class Scores(nn.Module):
        def forward(self, q, k):
            return q @ k.transpose(-1, -2)

    model = training.convert(Scores(), profile)
    q, k = randn(2, 3, 17, 70, seed=1), randn(2, 3, 19, 70, seed=2)
    y = model(q, k)
    for b, h in np.ndindex(2, 3):
        assert torch.equal(y[b, h], product(q[b, h], k[b, h].T, profile, "fwd"))
