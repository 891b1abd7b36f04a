"""Convolutions of three dimensions, as convolutions of images whose depth is unfolded into channels.

k runs over (r, s, c, d): the depth d of the kernel is fastest, behind the channel. Each is one product for each group, as those of images.
An operand is encoded once; its codes are gathered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfp8sim.ops import Operand
from hfp8sim.training.encoding import Encoded, Values

#: A convolution of images, or one of its gradients, with its geometry as keywords.
Call = Callable[..., Values]


def _codes(x: Encoded, codes: NDArray[Any]) -> Encoded:
    """Other codes of a tensor's format and scale."""
    return x.with_operand(Operand(codes, x.operand.format, x.operand.exponent))


def _with_zeros(x: Encoded, before: int, after: int) -> NDArray[Any]:
    """Codes (N, C, D, H, W) with slices of zeros along the depth."""
    fmt = x.operand.format
    zero = int(fmt.encode(np.zeros(1, np.float32))[0])
    sides = ((0, 0), (0, 0), (before, after), (0, 0), (0, 0))
    return np.pad(x.operand.codes, sides, constant_values=zero)


def _gather(x: Encoded, codes: NDArray[Any], places: NDArray[np.int64]) -> Encoded:
    """Images (N · depth, C · kernel, H, W) of slices (depth, kernel) of volumes (N, C, D, H, W)."""
    n, c, _, h, w = codes.shape
    depth, kernel = places.shape
    slices = codes[:, :, places].transpose(0, 2, 1, 3, 4, 5)
    return _codes(x, slices.reshape(n * depth, c * kernel, h, w))


def _images(x: Encoded) -> Encoded:
    """Volumes (N, C, D, H, W) as images (N · D, C, H, W)."""
    codes = x.operand.codes
    n, c, depth, h, w = codes.shape
    return _codes(x, codes.transpose(0, 2, 1, 3, 4).reshape(n * depth, c, h, w))


def _volumes(values: Values, depth: int) -> Values:
    """Images (N · D, C, H, W) as volumes (N, C, D, H, W)."""
    return values.reshape(-1, depth, *values.shape[1:]).swapaxes(1, 2)


class Geometry:
    """The geometry along the depth, and that of the images as keywords of their calls."""

    def __init__(self, stride: Any, padding: Any, dilation: Any, groups: int) -> None:
        sides = padding if len(padding) == 6 else [side for side in padding for _ in range(2)]
        self.stride, self.dilation = int(stride[0]), int(dilation[0])
        self.padding = int(sides[0]), int(sides[1])
        self.images = {
            "stride": tuple(stride[1:]), "padding": tuple(sides[2:]), "dilation": tuple(dilation[1:]),
            "groups": groups,
        }  # fmt: skip

    def outputs(self, depth: int, kernel: int) -> int:
        """The depth of a result."""
        extent: int = self.dilation * (kernel - 1) + 1
        return (depth + sum(self.padding) - extent) // self.stride + 1

    def inputs_of(self, x: Encoded, kernel: int) -> Encoded:
        """The images that each output slice is computed from."""
        first = np.arange(self.outputs(x.shape[2], kernel)) * self.stride
        places = first[:, None] + np.arange(kernel) * self.dilation
        return _gather(x, _with_zeros(x, *self.padding), places)

    def errors_of(self, error: Encoded, kernel: int, depth: int) -> Encoded:
        """The errors that each of `depth` input slices gets; zeros where an output slice does not exist."""
        outputs = error.shape[2]
        steps = np.arange(depth)[:, None] + self.padding[0] - np.arange(kernel) * self.dilation
        places, rest = np.divmod(steps, self.stride)
        places[(rest != 0) | (places < 0) | (places >= outputs)] = outputs
        return _gather(error, _with_zeros(error, 0, 1), places)


def convolve(call: Call, x: Encoded, w: Encoded, geometry: dict[str, Any]) -> Values:
    """Volumes (N, C, D, H, W) with weights (O, C/groups, kernel, R, S): (N, O, …)."""
    along = Geometry(**geometry)
    count, channels, kernel, *size = w.shape
    weights = w.with_operand(w.operand.reshape(count, channels * kernel, *size))
    values = call(along.inputs_of(x, kernel), weights, **along.images)
    return _volumes(values, along.outputs(x.shape[2], kernel))


def convolve_gradient(
    call: Call, error: Encoded, w: Encoded, input_size: tuple[int, ...], geometry: dict[str, Any]
) -> Values:
    """The gradient of the volumes, of depth, height and width `input_size`."""
    along = Geometry(**geometry)
    count, channels, kernel, *size = w.shape
    turned = w.operand.transpose(0, 2, 1, 3, 4).reshape(count * kernel, channels, *size)
    errors = along.errors_of(error, kernel, input_size[0])
    values = call(errors, w.with_operand(turned), tuple(input_size[1:]), **along.images)
    return _volumes(values, input_size[0])


def correlate(
    call: Call, x: Encoded, error: Encoded, kernel_size: tuple[int, ...], geometry: dict[str, Any]
) -> Values:
    """The gradient of the weights (O, C/groups, kernel, R, S)."""
    along = Geometry(**geometry)
    kernel, *size = kernel_size
    values = call(along.inputs_of(x, kernel), _images(error), tuple(size), **along.images)
    return values.reshape(values.shape[0], -1, kernel, *size)
