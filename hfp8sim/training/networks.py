"""Networks to train: small enough for a laptop, of the kinds that the papers train.

`cnn` and `resnet20` are convolutional, `mobile` has depthwise layers (as MobileNetV2), `transformer` is a
language model of characters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from hfp8sim.errors import unknown

Tensor = Any  #: PyTorch's


def _convolution(
    channels: int, filters: int, size: int = 3, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    """Convolution and batch normalisation."""
    convolution = nn.Conv2d(channels, filters, size, stride, size // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(filters)]


def cnn(channels: int = 1, classes: int = 10, width: int = 16) -> nn.Module:
    """Three convolutions with batch normalisation, and a linear layer."""
    return nn.Sequential(
        *_convolution(channels, width), nn.ReLU(),
        *_convolution(width, 2 * width), nn.ReLU(), nn.MaxPool2d(2),
        *_convolution(2 * width, 4 * width), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, classes),
    )  # fmt: skip


class BasicBlock(nn.Module):
    """Two convolutions beside a shortcut (He et al., CVPR 2016)."""

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        self.inside = nn.Sequential(
            *_convolution(channels, filters, stride=stride),
            nn.ReLU(),
            *_convolution(filters, filters),
        )
        same = stride == 1 and channels == filters
        self.shortcut = (
            nn.Identity() if same else nn.Sequential(*_convolution(channels, filters, 1, stride))
        )

    def forward(self, x: Tensor) -> Tensor:
        """relu(inside(x) + shortcut(x))."""
        return torch.relu(self.inside(x) + self.shortcut(x))


def resnet20(channels: int = 3, classes: int = 10, width: int = 16) -> nn.Module:
    """ResNet-20 for images of about 32×32 pixels (He et al., CVPR 2016, section 4.2)."""
    blocks: list[nn.Module] = []
    inputs = width
    for stage in range(3):
        for number in range(3):
            filters = width << stage
            blocks.append(BasicBlock(inputs, filters, 2 if stage and not number else 1))
            inputs = filters
    return nn.Sequential(
        *_convolution(channels, width), nn.ReLU(), *blocks,
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes),
    )  # fmt: skip


class InvertedResidual(nn.Module):
    """Pointwise, depthwise and pointwise convolution (Sandler et al., CVPR 2018)."""

    def __init__(self, channels: int, filters: int, stride: int, expansion: int = 4) -> None:
        super().__init__()
        hidden = expansion * channels
        self.inside = nn.Sequential(
            *_convolution(channels, hidden, 1), nn.ReLU6(),
            *_convolution(hidden, hidden, 3, stride, groups=hidden), nn.ReLU6(),
            *_convolution(hidden, filters, 1),
        )  # fmt: skip
        self.has_shortcut = stride == 1 and channels == filters

    def forward(self, x: Tensor) -> Tensor:
        """inside(x), plus x where the shapes are equal."""
        y = self.inside(x)
        return x + y if self.has_shortcut else y


def mobile(channels: int = 1, classes: int = 10) -> nn.Module:
    """Five inverted residuals, as in MobileNetV2."""
    blocks = [InvertedResidual(*sizes) for sizes in
              ((16, 16, 1), (16, 24, 2), (24, 24, 1), (24, 32, 2), (32, 32, 1))]  # fmt: skip
    return nn.Sequential(
        *_convolution(channels, 16), nn.ReLU6(), *blocks, *_convolution(32, 64, 1), nn.ReLU6(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes),
    )  # fmt: skip


class TransformerBlock(nn.Module):
    """Attention and two linear layers, each behind a layer normalisation."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """x (batch, length, width), the same shape out; no position sees a later one."""
        length = x.shape[1]
        later = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        y = self.norm1(x)
        x = x + self.attention(y, y, y, attn_mask=later, need_weights=False)[0]
        return x + self.linear2(torch.nn.functional.gelu(self.linear1(self.norm2(x))))


class Transformer(nn.Module):
    """A language model: symbols (batch, length) to scores of the next symbol (batch, length, symbols)."""

    def __init__(
        self, symbols: int, width: int = 64, depth: int = 2, heads: int = 4, length: int = 64
    ) -> None:
        super().__init__()
        self.symbol, self.place = (
            nn.Embedding(symbols, width),
            nn.Parameter(torch.randn(length, width) * 0.02),
        )
        self.blocks = nn.Sequential(*(TransformerBlock(width, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, symbols, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Scores of the symbol after each."""
        x = self.symbol(tokens) + self.place[: tokens.shape[1]]
        return self.head(self.norm(self.blocks(x)))


def transformer(symbols: int, classes: int | None = None) -> nn.Module:
    """A language model of two layers, width 64, four heads, windows of 64 symbols."""
    return Transformer(symbols)


#: The networks by name; each takes the channels of its images and the classes.
NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "cnn": cnn,
    "resnet20": resnet20,
    "mobile": mobile,
    "transformer": transformer,
}


def make_network(name: str, *sizes: int) -> nn.Module:
    """A network by name; `InputError` for an unknown one."""
    maker = NETWORKS.get(name)
    if maker is None:
        raise unknown("network", name, [*NETWORKS])
    return maker(*sizes)
