"""Conversion of the frameworks' tensor layouts, images NCHW and filters FCRS, to NHWC and RSCF."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hfp8sim.network.records import Conv


def nhwc(images: np.ndarray) -> np.ndarray:
    """(N, C, H, W) to (N, H, W, C)."""
    return images.transpose(0, 2, 3, 1)


def filters(weights: np.ndarray) -> np.ndarray:
    """A convolution's (F, C/groups, R, S) to (R, S, C/groups, F)."""
    return weights.transpose(2, 3, 1, 0)


def rotated_filters(weights: np.ndarray, groups: int) -> np.ndarray:
    """A transposed convolution's (C, F/groups, R, S) to (R, S, C/groups, F), rotated by 180 degrees."""
    c, f, r, s = weights.shape
    rotated = weights.reshape(groups, c // groups, f, r, s)[..., ::-1, ::-1]
    return rotated.transpose(3, 4, 1, 0, 2).reshape(r, s, c // groups, groups * f)


def transposed_conv(
    image: Sequence[int],
    weights: Sequence[int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilation: tuple[int, int],
    groups: int,
) -> Conv:
    """The geometry of a transposed convolution: a convolution of the input with gaps.

    Args:
        image: the shape (N, C, H, W).
        weights: the shape (C, F/groups, R, S).
        stride: of the transposed convolution; it becomes the distance between input pixels.
        padding: pixels that are cut off the result at (top, bottom, left, right).
    """
    reach = [dilation[axis] * (weights[2 + axis] - 1) for axis in range(2)]
    top, bottom, left, right = padding
    return Conv(
        batch=image[0],
        height=image[2],
        width=image[3],
        channels=image[1],
        filters=weights[1] * groups,
        kernel=(weights[2], weights[3]),
        padding=(reach[0] - top, reach[0] - bottom, reach[1] - left, reach[1] - right),
        dilation=dilation,
        groups=groups,
        gaps=stride,
    )
