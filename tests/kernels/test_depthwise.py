"""Kernels with a lane a channel against `gemm`, a group at a time."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from hfp8sim.kernels import convolution, depthwise
from hfp8sim.network import PHASES, Conv
from hfp8sim.units import Profile, get_profile, profiles
from tests.ops.test_convolutions import HFP8, by_conv, by_gemm, tensors


def compare(
    conv: Conv, phase: str, profile: Profile, kind: str = "normal", threads: int = 1
) -> None:
    """Codes, and codes with events."""
    codes = tensors(conv, profile, phase, kind)
    expected, events = by_gemm(conv, phase, codes, profile)
    result = by_conv(conv, phase, codes, profile, threads=threads)
    np.testing.assert_array_equal(result, expected, err_msg=f"{conv}\n{profile}")
    result, counted = by_conv(conv, phase, codes, profile, "NCHW", threads=threads, events=True)
    np.testing.assert_array_equal(result, expected, err_msg=f"{conv}\n{profile}")
    assert counted == events, f"{conv}\n{profile}"


@pytest.fixture
def no_other_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Depthwise convolutions fail where there are no lanes for channels."""
    monkeypatch.setattr(convolution, "_Convolution", None)
    monkeypatch.setattr(convolution, "_Correlation", None)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("name", profiles("exact"))
@pytest.mark.usefixtures("no_other_path")
def test_every_profile_has_lanes_for_channels(name: str, phase: str) -> None:
    conv, profile = (
        Conv(2, 7, 6, 50, 50, (3, 3), padding=(1, 1, 1, 1), groups=50),
        get_profile(name),
    )
    codes = tensors(conv, profile, phase)
    result = by_conv(conv, phase, codes, profile, threads=1)
    np.testing.assert_array_equal(result, by_gemm(conv, phase, codes, profile)[0])


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (1, 3), (3, 2)])
def test_geometries_of_channels(stride: tuple[int, int], phase: str) -> None:
    """Chunks that hold all taps, and chunks that hold four; steps of one product, and of two."""
    for kernel, pad, dilation, (length, products) in itertools.product(
        ((1, 1), (3, 3), (2, 5)), (0, 1, 2), ((1, 1), (2, 3)), ((64, 1), (4, 1), (64, 2), (5, 2))
    ):
        profile = HFP8.replace(chunk_length=length, products_per_step=products)
        padding = (pad, max(pad - 1, 0), pad, pad)
        if dilation == (1, 1) or kernel != (2, 5):
            conv = Conv(2, 7, 8, 17, 17, kernel, stride, padding, dilation, 17)
            compare(conv, phase, profile)


@pytest.mark.parametrize("phase", PHASES)
def test_blocks_of_lines_and_ranges_of_pixels(phase: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depthwise, "_IMAGE_BYTES", 6000)
    monkeypatch.setattr(
        depthwise, "BLOCKING", depthwise.BLOCKING._replace(macs_worth_threads=1 << 8)
    )
    for stride, (length, products), threads in itertools.product(
        ((1, 1), (2, 2)), ((64, 1), (16, 2), (7, 2), (0, 2)), (1, 3)
    ):
        profile = HFP8.replace(chunk_length=length, products_per_step=products)
        conv = Conv(5, 11, 9, 70, 70, (3, 3), stride, (1, 1, 1, 1), groups=70)
        compare(conv, phase, profile, threads=threads)


FORMS = {
    "toward zero": {"rounding": "toward-zero"},
    "nearest-even": {"rounding": "nearest-even"},
    "saturated": {"overflow": "saturate"},
    "wide operands": {"a_format": "hfp8-152", "b_format": "hfp8-152"},
    "two directions": {"rounding": "toward-zero", "between_rounding": "nearest-even"},
    "flushed": {"accumulator": "fp9-153", "between_chunks": "fp9-153"},
    "aligned": {"products_per_step": 4, "sum_order": "aligned", "guard_bits": 2},
    "one aligned": {"products_per_step": 1, "sum_order": "aligned", "guard_bits": 2},
}  # fmt: skip


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("form", FORMS)
def test_forms_of_channels(form: str, phase: str) -> None:
    """Roundings and limits, and classes of outputs in which steps that add zero are left out."""
    for kind, length, stride in itertools.product(
        ("numbers", "wide", "extreme"), (64, 6), ((1, 1), (2, 2))
    ):
        profile = HFP8.replace(chunk_length=length, **FORMS[form])
        conv = Conv(2, 6, 7, 20, 20, (3, 3), stride, (1, 1, 1, 1), groups=20)
        compare(conv, phase, profile, kind)
