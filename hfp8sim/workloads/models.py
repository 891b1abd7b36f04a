"""Shipped networks, built from compact definitions: shapes only, any batch.

Each function follows the paper or the reference implementation that it names, with padding, strides
and groups as there. A first layer whose input is data has no dgrad; behind an embedding it has one.
Biases, normalisation, activations, pooling and embedding look-ups are no GEMMs and are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from hfp8sim.errors import InputError, located, unknown
from hfp8sim.network.records import MAX_SIZE, Conv, Layer, Workload

_NO_DGRAD = ("fwd", "wgrad")


class _ConvNet:
    """Builder of a convolutional network. It tracks the size and channels of the current tensor."""

    def __init__(self, batch: int, size: int, channels: int = 3) -> None:
        self.batch, self.size, self.channels = batch, size, channels
        self.layers: list[Layer] = []

    def conv(
        self,
        name: str,
        filters: int,
        kernel: int,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
    ) -> None:
        """A square convolution; its padding is half the kernel unless given."""
        self._add(name, self.channels, filters, kernel, stride, padding, groups)
        self.size, self.channels = self._output(kernel, stride, padding), filters

    def shortcut(self, name: str, channels: int, filters: int, size: int, stride: int) -> None:
        """A 1x1 convolution beside the main path, from `channels` at `size`."""
        main_size, self.size = self.size, size
        self._add(name, channels, filters, 1, stride, 0, 1)
        self.size = main_size

    def _add(
        self,
        name: str,
        channels: int,
        filters: int,
        kernel: int,
        stride: int,
        padding: int | None,
        groups: int,
    ) -> None:
        pad = kernel // 2 if padding is None else padding
        geometry = Conv(
            self.batch,
            self.size,
            self.size,
            channels,
            filters,
            (kernel, kernel),
            (stride, stride),
            (pad, pad, pad, pad),
            groups=groups,
        )
        first = {} if self.layers else {"phases": _NO_DGRAD}
        self.layers.append(Layer.from_conv(name, geometry, **first))

    def pool(self, kernel: int, stride: int, padding: int = 0) -> None:
        self.size = self._output(kernel, stride, padding)

    def _output(self, kernel: int, stride: int, padding: int | None) -> int:
        pad = kernel // 2 if padding is None else padding
        return (self.size + 2 * pad - kernel) // stride + 1

    def linear(self, name: str, n: int) -> None:
        """A fully connected layer on the flattened tensor."""
        k = self.size**2 * self.channels
        self.layers.append(Layer(name, "linear", self.batch, n, k))
        self.size, self.channels = 1, n


def alexnet(batch: int) -> list[Layer]:
    net = _ConvNet(batch, 224)
    net.conv("conv1", 64, 11, stride=4, padding=2)
    net.pool(3, 2)
    net.conv("conv2", 192, 5)
    net.pool(3, 2)
    net.conv("conv3", 384, 3)
    net.conv("conv4", 256, 3)
    net.conv("conv5", 256, 3)
    net.pool(3, 2)
    for name, n in (("fc6", 4096), ("fc7", 4096), ("fc8", 1000)):
        net.linear(name, n)
    return net.layers


def resnet18(batch: int) -> list[Layer]:
    net = _resnet_stem(batch)
    for stage, filters in enumerate((64, 128, 256, 512), start=1):
        for block in range(2):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            channels, size = net.channels, net.size
            net.conv(f"{name}.conv1", filters, 3, stride)
            net.conv(f"{name}.conv2", filters, 3)
            if channels != filters:
                net.shortcut(f"{name}.downsample", channels, filters, size, stride)
    return _classifier(net)


def resnet50(batch: int) -> list[Layer]:
    """ResNet-50 v1.5: the stride is in the 3x3 convolution, as in every current implementation."""
    net = _resnet_stem(batch)
    for stage, (width, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), start=1):
        for block in range(blocks):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            channels, size = net.channels, net.size
            net.conv(f"{name}.conv1", width, 1)
            net.conv(f"{name}.conv2", width, 3, stride)
            net.conv(f"{name}.conv3", 4 * width, 1)
            if channels != 4 * width:
                net.shortcut(f"{name}.downsample", channels, 4 * width, size, stride)
    return _classifier(net)


def _resnet_stem(batch: int) -> _ConvNet:
    net = _ConvNet(batch, 224)
    net.conv("conv1", 64, 7, stride=2)
    net.pool(3, 2, 1)
    return net


def _classifier(net: _ConvNet) -> list[Layer]:
    """Global average pooling and the fully connected layer."""
    net.size = 1
    net.linear("fc", 1000)
    return net.layers


def mobilenet_v2(batch: int) -> list[Layer]:
    net = _ConvNet(batch, 224)
    net.conv("conv1", 32, 3, stride=2)
    block = 0
    # Sandler et al., table 2: expansion, output channels, repeats, stride of the first.
    for expansion, filters, repeats, first_stride in (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):
        for repeat in range(repeats):
            block += 1
            width = expansion * net.channels
            if expansion > 1:
                net.conv(f"block{block}.expand", width, 1)
            stride = first_stride if repeat == 0 else 1
            net.conv(f"block{block}.depthwise", width, 3, stride, groups=width)
            net.conv(f"block{block}.project", filters, 1)
    net.conv("conv2", 1280, 1)
    return _classifier(net)


def densenet121(batch: int) -> list[Layer]:
    growth, net = 32, _resnet_stem(batch)
    for block, layers in enumerate((6, 12, 24, 16), start=1):
        channels = net.channels
        for layer in range(1, layers + 1):
            net.channels = channels + (layer - 1) * growth  # concatenation of all earlier outputs
            net.conv(f"block{block}.layer{layer}.conv1", 4 * growth, 1)
            net.conv(f"block{block}.layer{layer}.conv2", growth, 3)
        net.channels = channels + layers * growth
        if block < 4:
            net.conv(f"transition{block}", net.channels // 2, 1)
            net.pool(2, 2)
    return _classifier(net)


def _attention(
    name: str, batch: int, width: int, heads: int, queries: int, keys: int, fused: bool
) -> list[Layer]:
    """Projections, scores and context of one attention. Causal attention is counted in full.

    Args:
        width: of queries, keys and values, all heads together.
        queries, keys: lengths of the two sequences.
        fused: one product computes queries, keys and values.
    """
    rows, head_width = batch * queries, width // heads
    if fused:
        layers = [Layer(f"{name}.qkv", "linear", rows, 3 * width, width)]
    else:
        layers = [Layer(f"{name}.q", "linear", rows, width, width)]
        layers += [Layer(f"{name}.{part}", "linear", batch * keys, width, width) for part in "kv"]
    return [
        *layers,
        Layer(f"{name}.scores", "matmul", queries, keys, head_width, batch * heads),
        Layer(f"{name}.context", "matmul", queries, head_width, keys, batch * heads),
        Layer(f"{name}.out", "linear", rows, width, width),
    ]


def _feed_forward(name: str, rows: int, width: int, inner: int) -> list[Layer]:
    return [
        Layer(f"{name}.ff1", "linear", rows, inner, width),
        Layer(f"{name}.ff2", "linear", rows, width, inner),
    ]


def transformer_base(batch: int) -> list[Layer]:
    length, width, heads, inner, vocabulary = 32, 512, 8, 2048, 37_000
    layers: list[Layer] = []
    for i in range(1, 7):
        name = f"encoder{i}"
        layers += _attention(f"{name}.self", batch, width, heads, length, length, fused=False)
        layers += _feed_forward(name, batch * length, width, inner)
    for i in range(1, 7):
        name = f"decoder{i}"
        layers += _attention(f"{name}.self", batch, width, heads, length, length, fused=False)
        layers += _attention(f"{name}.cross", batch, width, heads, length, length, fused=False)
        layers += _feed_forward(name, batch * length, width, inner)
    return [*layers, Layer("generator", "linear", batch * length, vocabulary, width)]


def lstm_ptb(batch: int) -> list[Layer]:
    steps, width, vocabulary = 35, 650, 10_000
    layers = []
    for name in ("lstm1", "lstm2"):
        layers.append(Layer(f"{name}.input", "linear", batch * steps, 4 * width, width))
        layers.append(Layer(f"{name}.recurrent", "recurrent", batch, 4 * width, width, steps))
    return [*layers, Layer("softmax", "linear", batch * steps, vocabulary, width)]


def bert_base(batch: int) -> list[Layer]:
    length, width, heads = 128, 768, 12
    layers: list[Layer] = []
    for i in range(1, 13):
        layers += _attention(f"layer{i}", batch, width, heads, length, length, fused=False)
        layers += _feed_forward(f"layer{i}", batch * length, width, 4 * width)
    return [*layers, Layer("pooler", "linear", batch, width, width)]


def vit_b16(batch: int) -> list[Layer]:
    width, heads, tokens = 768, 12, 14 * 14 + 1
    net = _ConvNet(batch, 224)
    net.conv("patches", width, 16, stride=16, padding=0)
    layers = net.layers
    for i in range(1, 13):
        layers += _attention(f"layer{i}", batch, width, heads, tokens, tokens, fused=True)
        layers += _feed_forward(f"layer{i}", batch * tokens, width, 4 * width)
    return [*layers, Layer("head", "linear", batch, 1000, width)]


def gpt2_small(batch: int) -> list[Layer]:
    length, width, heads, vocabulary = 1024, 768, 12, 50_257
    layers: list[Layer] = []
    for i in range(1, 13):
        layers += _attention(f"layer{i}", batch, width, heads, length, length, fused=True)
        layers += _feed_forward(f"layer{i}", batch * length, width, 4 * width)
    return [*layers, Layer("lm_head", "linear", batch * length, vocabulary, width)]


class Model(NamedTuple):
    """A shipped network: its layers for a batch, one line about it, and where it is defined."""

    layers: Callable[[int], list[Layer]]
    about: str
    source: str


MODELS = {
    "alexnet": Model(
        alexnet,
        "AlexNet, one tower, 224x224 images",
        "Krizhevsky, arXiv 1404.5997, as in torchvision",
    ),
    "resnet18": Model(resnet18, "ResNet-18, 224x224 images", "He et al., arXiv 1512.03385"),
    "resnet50": Model(
        resnet50,
        "ResNet-50 v1.5, 224x224 images",
        "He et al., arXiv 1512.03385, stride in the 3x3 convolution",
    ),
    "mobilenet-v2": Model(
        mobilenet_v2,
        "MobileNetV2, depthwise convolutions, 224x224 images",
        "Sandler et al., arXiv 1801.04381",
    ),
    "densenet121": Model(
        densenet121, "DenseNet-121, 224x224 images", "Huang et al., arXiv 1608.06993"
    ),
    "transformer-base": Model(
        transformer_base,
        "Transformer base (WMT), 32 source and 32 target tokens",
        "Vaswani et al., arXiv 1706.03762, table 3",
    ),
    "lstm-ptb": Model(
        lstm_ptb,
        "2-layer LSTM (Penn Treebank), 650 units, 35 steps",
        "Zaremba et al., arXiv 1409.2329, the medium model",
    ),
    "bert-base": Model(
        bert_base, "BERT base encoder and pooler, 128 tokens", "Devlin et al., arXiv 1810.04805"
    ),
    "vit-b16": Model(
        vit_b16, "ViT-B/16, 224x224 images", "Dosovitskiy et al., arXiv 2010.11929, table 1"
    ),
    "gpt2-small": Model(
        gpt2_small, "GPT-2 small (124M), 1024 tokens", "Radford et al. 2019, the smallest model"
    ),
}


def build(name: str, batch: int = 1) -> Workload:
    """The shipped network `name` for a mini-batch of `batch` images or sequences.

    Raises `InputError` for an unknown name, and for a batch that is no positive integer or too large.
    """
    if name not in MODELS:
        raise unknown("network", name, list(MODELS))
    if isinstance(batch, bool) or not isinstance(batch, int) or not 1 <= batch <= MAX_SIZE:
        raise InputError(
            f"{name}: batch is {batch!r}; it must be a whole number from 1 to {MAX_SIZE}"
        )
    model = MODELS[name]
    with located(f"{name} with batch {batch}"):
        layers = model.layers(batch)
    notes = (model.about, model.source, f"batch {batch}; shapes only, no tensors")
    return Workload(name, tuple(layers), notes)
