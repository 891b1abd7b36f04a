"""The compiled im2col against the NumPy one of `workloads.operands`."""

from __future__ import annotations

import numpy as np
import pytest

from hfp8sim._numba.copies import MOVE_BYTES
from hfp8sim.kernels.im2col import GEOMETRY, unfold
from hfp8sim.network import Conv
from hfp8sim.network.phases import Image
from hfp8sim.workloads.operands import unfold as unfold_numpy

#: Name → fields of a `Conv` of 9×7 images, 6 channels.
CONVOLUTIONS = {
    "3x3": {"kernel": (3, 3), "padding": (1, 1, 1, 1)},
    "short windows": {"kernel": (3, 2)},
    "strided": {"kernel": (3, 3), "stride": (2, 3), "padding": (1, 0, 2, 1)},
    "dilated": {"kernel": (2, 3), "dilation": (3, 2), "padding": (0, 2, 1, 1)},
    "groups": {"kernel": (3, 3), "groups": 3, "padding": (1, 1, 1, 1)},
    "gaps": {"kernel": (3, 3), "gaps": (2, 3), "padding": (2, 2, 2, 2)},
    "cropped": {"kernel": (2, 2), "gaps": (2, 1), "padding": (-1, 2, -2, 1)},
}


def image_of(conv: Conv) -> Image:
    """A convolution's images as the NumPy function takes them."""
    line = conv.width * conv.channels
    top, _, left, _ = conv.padding
    return Image(
        conv.height, conv.width, conv.channels // conv.groups, conv.channels, line, conv.height * line,
        conv.output, conv.kernel, conv.stride, (top, left), conv.dilation, conv.gaps,
    )  # fmt: skip


def geometry(image: Image, group: int, element_bytes: int) -> np.ndarray:
    """The `GEOMETRY` of a group of images that lie densely in memory."""
    g = np.zeros(1, GEOMETRY)
    g["image_height"], g["image_width"] = image.height, image.width
    g["channels"], g["pixel_pitch"] = image.channels, image.pixel_pitch
    g["first_channel"], g["element_bytes"] = group * image.channels, element_bytes
    g["kernel_width"] = image.kernel[1]
    for name, pair in {
        "grid": image.grid, "stride": image.stride, "dilation": image.dilation, "gap": image.divide,
    }.items():  # fmt: skip
        g[name + "_height"], g[name + "_width"] = pair
    g["pad_top"], g["pad_left"] = image.pad
    return g


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_blocks_agree_with_numpy(name: str, dtype: type) -> None:
    """The whole matrix, and blocks that begin and end anywhere."""
    conv = Conv(batch=2, height=9, width=7, channels=6, filters=6, **CONVOLUTIONS[name])
    rng = np.random.default_rng(1)
    images = rng.integers(1, 1 << 8, (2, 9, 7, 6)).astype(dtype)
    memory = np.zeros(images.nbytes + MOVE_BYTES, np.uint8)
    memory[: images.nbytes] = images.reshape(-1).view(np.uint8)
    view = image_of(conv)
    (p, q), (r, s), groups = view.grid, view.kernel, np.arange(conv.groups)
    indices = groups, np.arange(p * q), np.arange(r * s * view.channels)
    expected = np.concatenate([unfold_numpy(image, view, *indices) for image in images], axis=1)
    rows, columns = expected.shape[1:]
    blocks = [((0, rows), (0, columns)), ((rows // 2, rows - rows // 2), (0, columns))]
    for _ in range(20):
        row, column = int(rng.integers(rows)), int(rng.integers(columns))
        blocks.append(
            (
                (row, int(rng.integers(1, rows - row + 1))),
                (column, int(rng.integers(1, columns - column + 1))),
            )
        )
    for group in range(conv.groups):
        g = geometry(view, group, images.itemsize)
        for (row, m), (column, k) in blocks:
            out = np.full(m * k * images.itemsize + MOVE_BYTES, 0xEE, np.uint8)
            unfold(memory, 0, g, (row, m), (column, k), out)
            result = out[: m * k * images.itemsize].view(dtype).reshape(m, k)
            np.testing.assert_array_equal(
                result, expected[group, row : row + m, column : column + k]
            )
