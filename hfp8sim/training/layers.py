"""Layers of PyTorch whose products are emulated.

Each is a subclass of the layer it replaces: parameters, buffers and `state_dict` are the same, and
`isinstance(m, nn.Linear)` stays true. `conversion.convert` changes a module's class and sets `products`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from hfp8sim.training import functions, steps
from hfp8sim.training.emulation import Products

Tensor = Any  #: PyTorch's, which need not be installed where types are checked
_eager = torch.compiler.disable  # compiled code would trace into NumPy


def begin(layer: Any, input: Tensor) -> Tensor:
    """Count the steps of a layer's optimiser, and clip its input where activations are quantised by PACT."""
    emulation, name = layer.products.emulation, layer.products.name
    steps.follow(layer.weight, emulation)
    alpha = None if emulation.observing else emulation.scales.alpha_parameter(name, input)
    return input if alpha is None else functions.Clip.apply(input, alpha)


class Linear(nn.Linear):
    """`torch.nn.Linear`, emulated."""

    products: Products

    @_eager
    def forward(self, input: Tensor) -> Tensor:
        """As `torch.nn.Linear`."""
        x = begin(self, input)
        result: Tensor = functions.Linear.apply(x, self.weight, self.bias, self.products)
        return result


def convolve(layer: Any, input: Tensor) -> Tensor:
    """The forward pass of a convolution, without batch or with."""
    axes = len(layer.kernel_size)
    input = begin(layer, input)
    single = input.ndim == axes + 1
    x = input.unsqueeze(0) if single else input
    padding = _padding(layer)
    if layer.padding_mode != "zeros":
        x = F.pad(x, layer._reversed_padding_repeated_twice, mode=layer.padding_mode)
        padding = (0,) * (2 * axes)
    elif min(padding) < 0:
        raise AssertionError("torch's convolutions have no negative padding")
    geometry = {
        "stride": layer.stride if axes > 1 else layer.stride[0],
        "padding": padding,
        "dilation": layer.dilation if axes > 1 else layer.dilation[0],
        "groups": layer.groups,
    }
    y: Tensor = functions.Convolution.apply(x, layer.weight, layer.bias, geometry, layer.products)
    return y.squeeze(0) if single else y


def _padding(layer: Any) -> tuple[int, ...]:
    """Pixels before and after each axis: (left, right), (top, bottom, left, right), or with front and back before them."""
    if layer.padding == "valid":
        return (0,) * (2 * len(layer.kernel_size))
    if layer.padding == "same":  # as torch: an odd pixel goes to the end
        sides: list[int] = []
        for size, dilation in zip(layer.kernel_size, layer.dilation):
            total = dilation * (size - 1)
            sides += [total // 2, total - total // 2]
        return tuple(sides)
    return tuple(side for side in layer.padding for _ in range(2))


class Conv1d(nn.Conv1d):
    """`torch.nn.Conv1d`, emulated."""

    products: Products

    @_eager
    def forward(self, input: Tensor) -> Tensor:
        """As `torch.nn.Conv1d`."""
        return convolve(self, input)


class Conv2d(nn.Conv2d):
    """`torch.nn.Conv2d`, emulated."""

    products: Products

    @_eager
    def forward(self, input: Tensor) -> Tensor:
        """As `torch.nn.Conv2d`."""
        return convolve(self, input)


class Conv3d(nn.Conv3d):
    """`torch.nn.Conv3d`, emulated."""

    products: Products

    @_eager
    def forward(self, input: Tensor) -> Tensor:
        """As `torch.nn.Conv3d`."""
        return convolve(self, input)


def convolve_transposed(layer: Any, input: Tensor, output_size: list[int] | None) -> Tensor:
    """The forward pass of a transposed convolution."""
    axes = len(layer.kernel_size)
    input = begin(layer, input)
    single = input.ndim == axes + 1
    x = input.unsqueeze(0) if single else input
    extra = layer._output_padding(
        input, output_size, layer.stride, layer.padding, layer.kernel_size, axes, layer.dilation
    )
    size = tuple(
        (x.shape[2 + i] - 1) * layer.stride[i] - 2 * layer.padding[i]
        + layer.dilation[i] * (layer.kernel_size[i] - 1) + extra[i] + 1
        for i in range(axes)
    )  # fmt: skip
    one = axes == 1
    geometry = {
        "stride": layer.stride[0] if one else layer.stride,
        "padding": layer.padding[0] if one else layer.padding,
        "dilation": layer.dilation[0] if one else layer.dilation,
        "groups": layer.groups,
    }
    y: Tensor = functions.TransposedConvolution.apply(
        x, layer.weight, layer.bias, size, geometry, layer.products
    )
    return y.squeeze(0) if single else y


class ConvTranspose1d(nn.ConvTranspose1d):
    """`torch.nn.ConvTranspose1d`, emulated."""

    products: Products

    @_eager
    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """As `torch.nn.ConvTranspose1d`."""
        return convolve_transposed(self, input, output_size)


class ConvTranspose2d(nn.ConvTranspose2d):
    """`torch.nn.ConvTranspose2d`, emulated."""

    products: Products

    @_eager
    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """As `torch.nn.ConvTranspose2d`."""
        return convolve_transposed(self, input, output_size)


class ConvTranspose3d(nn.ConvTranspose3d):
    """`torch.nn.ConvTranspose3d`, emulated."""

    products: Products

    @_eager
    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """As `torch.nn.ConvTranspose3d`."""
        return convolve_transposed(self, input, output_size)
