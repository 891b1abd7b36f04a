"""Operand views and random streams: element by element against the definition of the three products."""

import itertools

import numpy as np
import pytest

from hfp8sim.errors import InputError
from hfp8sim.network import PHASES, Conv, Layer, OperandView, phase_gemm, phase_stream
from tests.lowering.layers import unfolded
from tests.lowering.test_bits import LAYERS


def evaluated(view: OperandView, tensor: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Every element of an operand (groups, rows, columns), by the addresses of its view."""
    flat, result = tensor.reshape(-1), np.zeros(shape, tensor.dtype)
    for group, row, column in np.ndindex(*shape):
        i, j = (column, row) if view.transposed else (row, column)
        if view.image is not None:
            result[group, row, column] = pixel(view, flat, group, i, j)
            continue
        offset = group * view.group + i * view.pitch + j
        if view.block:
            block, inside = divmod(j, view.block)
            blocks = shape[1] // view.block
            block = blocks - 1 - block if view.turned else block
            offset = group * view.group + block * view.block_step + i * view.pitch + inside
        result[group, row, column] = flat[offset]
    return result


def pixel(view: OperandView, flat: np.ndarray, group: int, row: int, column: int) -> float:
    """One element of an unfolded image, by the formula in `Image`."""
    image = view.image
    assert image is not None
    (n, p), q = divmod(row // image.grid[1], image.grid[0]), row % image.grid[1]
    tap, channel = divmod(column, image.channels)
    r, s = divmod(tap, image.kernel[1])
    offset = n * image.image_pitch + group * image.channels + channel
    places = zip((p, q), (r, s), (image.height, image.width), (image.line_pitch, image.pixel_pitch))
    for axis, (position, at, size, pitch) in enumerate(places):
        gapped = position * image.stride[axis] + at * image.dilation[axis] - image.pad[axis]
        place, remainder = divmod(gapped, image.divide[axis])
        if remainder or not 0 <= place < size:
            return 0
        offset += place * pitch
    return flat[offset]


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("name", LAYERS)
def test_views_address_the_operands_of_every_geometry(name: str, phase: str) -> None:
    layer, rng = LAYERS[name], np.random.default_rng(5)
    work = phase_gemm(layer, phase)
    codes = {
        view.tensor: rng.integers(1, 2**31, layer.tensor_shape(view.tensor))
        for view in (work.a, work.b)
    }
    groups, m, n, k = work.gemm
    for view, expected, shape in zip(
        (work.a, work.b), unfolded(layer, phase, codes), ((groups, m, k), (groups, k, n))
    ):
        np.testing.assert_array_equal(evaluated(view, codes[view.tensor], shape), expected)
    assert work.c.tensor == {"fwd": "y", "dgrad": "dx", "wgrad": "dw"}[phase]
    assert np.prod(work.c.shape) == groups * m * n


def test_a_pointwise_convolution_is_a_plain_matrix_product() -> None:
    layer = Layer.from_conv("c", Conv(2, 5, 5, 12, 7, (1, 1)))
    assert all(phase_gemm(layer, phase).a.image is None for phase in PHASES)


def test_pixels_read_by_a_strided_convolution() -> None:
    layer = Layer.from_conv("c", Conv(1, 9, 9, 4, 4, (2, 2), stride=(4, 3)))
    image = phase_gemm(layer, "fwd").a.image
    assert image is not None
    assert image.pixels_read == 2 * 2 * 2 * 3  # lines 0, 1, 4, 5; pixels 0, 1, 3, 4, 6, 7


def test_unknown_phases_are_refused() -> None:
    for function in (lambda: phase_gemm(LAYERS["one"], "bwd"), lambda: phase_stream(0, "bwd")):
        with pytest.raises(InputError, match="unknown phase 'bwd'; did you mean fwd"):
            function()


def test_streams_of_layers_and_phases_do_not_overlap() -> None:
    assert phase_stream(0, "fwd") == 0
    assert phase_stream(3, "wgrad") == (3 << 32) + (2 << 28)
    streams = [phase_stream(layer, phase) for layer in (0, 1, 2, 1 << 31) for phase in PHASES]
    assert all(b - a >= 1 << 28 for a, b in itertools.pairwise(streams))
    assert phase_stream((1 << 32) - 1, "wgrad") < 1 << 64
    for layer in (-1, 1 << 32):
        with pytest.raises(InputError, match="layer number is"):
            phase_stream(layer, "fwd")
