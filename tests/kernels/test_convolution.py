"""Blocks, ranges and memory of convolutions. Their bits are tested in `tests/ops/test_convolutions.py`."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import hfp8sim as hs
from hfp8sim import kernels
from hfp8sim.kernels import convolution
from hfp8sim.kernels.convolution import copy_images, range_length, range_stops
from hfp8sim.network import PHASES, Conv
from tests.ops.test_convolutions import HFP8, by_conv, by_gemm, tensors


@pytest.mark.parametrize("products", [1, 2, 4])
@pytest.mark.parametrize("chunk_length", [7, 8, 64, 100])
def test_ranges_begin_steps(chunk_length: int, products: int) -> None:
    for depth in (1, 20, 64, 300):
        length = range_length(21, chunk_length, products)
        stops = list(range_stops(depth, length, chunk_length))
        starts = [0, *stops[:-1]]
        assert stops[-1] == depth
        assert all(0 < stop - start <= length for start, stop in zip(starts, stops))
        assert all(start % chunk_length % products == 0 for start in starts)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_images_of_any_strides_are_copied(dtype: type) -> None:
    codes = np.random.default_rng(1).integers(0, 256, (3, 8, 10, 12)).astype(dtype)
    views = codes, codes[:, ::2], codes[:, :, ::-2], codes[..., 3:7], codes.transpose(0, 2, 3, 1)
    for images in views:
        copied = copy_images(images)[: images.nbytes].view(dtype).reshape(images.shape)
        np.testing.assert_array_equal(copied, images)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("rounding", ["nearest-away", "stochastic"])
def test_blocks_change_no_bit(rounding: str, phase: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small blocks: parts of images, several ranges of k, several blocks of columns, more parts than threads."""
    profile = HFP8.replace(rounding=rounding, chunk_length=12, products_per_step=2)
    conv = Conv(5, 9, 8, 6, 40, (3, 3), (2, 1), (1, 1, 1, 0), groups=2)
    codes = tensors(conv, profile, phase)
    expected, events = by_gemm(conv, phase, codes, profile, seed=2)
    monkeypatch.setattr(convolution, "_IMAGE_BYTES", 200)
    monkeypatch.setattr(convolution, "_SUM_BYTES", 1 << 10)
    monkeypatch.setattr(convolution, "_RANGE", 40)
    monkeypatch.setattr(convolution, "_COUNTED_BYTES", 1 << 8)
    small = convolution.BLOCKING._replace(
        panel_bytes=1 << 11, block_bytes=1, block_rows=16, macs_worth_threads=1 << 10
    )
    monkeypatch.setattr(convolution, "BLOCKING", small)
    for threads in (1, 3):
        result, counted = by_conv(conv, phase, codes, profile, seed=2, threads=threads, events=True)
        np.testing.assert_array_equal(result, expected)
        assert counted == events


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("name", ["hfp8", "fp16"])
def test_memory_is_not_that_of_the_unfolded_image(name: str, phase: str) -> None:
    """Beside its operands and its result a convolution takes a tenth of the unfolded image."""
    profile = hs.get_profile(name)
    conv = Conv(64, 32, 32, 16, 16, (5, 5), padding=(2, 2, 2, 2))
    codes = tensors(conv, profile, phase)
    unfolded = 64 * 32 * 32 * 16 * 25 * next(iter(codes.values())).itemsize
    by_conv(conv, phase, codes, profile, threads=1)  # loads the code
    convolution._WORKSPACE.clear()
    tracemalloc.start()
    try:
        result = by_conv(conv, phase, codes, profile, threads=1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak - result.nbytes < unfolded / 10


@pytest.mark.parametrize(
    ("fields", "smaller"),
    [
        ({}, True),  # one chunk of 36 products
        ({"chunk_length": 4}, True),
        ({"chunk_length": 6, "products_per_step": 2}, True),
        ({"chunk_length": 0}, True),
        ({"chunk_length": 0, "products_per_step": 0}, True),
        ({"chunk_length": 4, "products_per_step": 4, "sum_order": "aligned", "guard_bits": 2}, True),
        ({"chunk_length": 0, "products_per_step": 2, "sum_order": "aligned", "guard_bits": 2}, False),
        ({"chunk_length": 4, "rounding": "stochastic"}, False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stride", [(2, 2), (3, 1), (4, 5)])
def test_zeros_between_errors_are_left_out(
    stride: tuple[int, int], fields: dict, smaller: bool
) -> None:
    """Of an input gradient, the chunks (or steps of a single chunk) that are zero for all outputs of a class."""
    profile = HFP8.replace(**{"rounding": "nearest-even"} | fields)
    conv = Conv(3, 9, 11, 5, 4, (3, 3), stride, (1, 1, 1, 1), (1, 2))
    back = conv.input_gradient()
    codes = tensors(conv, profile, "dgrad")
    filters = np.zeros((1, 5, 36), np.uint8)
    formats = profile.operand_formats("dgrad")
    scans = kernels.scan(codes["dy"], formats[0]), kernels.scan(codes["w"], formats[1])
    plan = kernels.plan(profile, *formats, *scans, 36)
    classes = convolution.classes_of(plan, back, filters)
    steps = [each.filters.shape[2] for each in classes]
    assert sum(each.pixels for each in classes) == 9 * 11
    assert (min(steps) < 36) == smaller
    expected, events = by_gemm(conv, "dgrad", codes, profile)
    for threads in (1, 2):
        result, counted = by_conv(conv, "dgrad", codes, profile, threads=threads, events=True)
        np.testing.assert_array_equal(result, expected)
        assert counted == events
        result = by_conv(conv, "dgrad", codes, profile, "NCHW", threads=threads)
        np.testing.assert_array_equal(result, expected)


def test_stride_2_takes_a_quarter_of_the_products() -> None:
    """Where a tap has whole chunks, all zeros between errors are left out."""
    back = Conv(1, 8, 8, 3, 64, (3, 3), (2, 2), (1, 1, 1, 1)).input_gradient()
    number = hs.get_format("hfp8-143")
    one = kernels.Scan(1.0, -3, False)
    plan = kernels.plan(HFP8, number, number, one, one, 576)
    classes = convolution.classes_of(plan, back, np.zeros((1, 3, 576), np.uint8))
    products = sum(each.pixels * each.filters.shape[2] for each in classes)
    assert 4 * products == 64 * 576
