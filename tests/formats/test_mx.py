"""Microscaling blocks: the standard's rule in rational arithmetic, and gfloat's blocks."""

from __future__ import annotations

from fractions import Fraction

import gfloat
import numpy as np
import pytest
from gfloat import formats as peer

from hfp8sim.errors import InputError
from hfp8sim.formats import get_format
from hfp8sim.formats.mx import ELEMENTS, Blocks, element_format, quantise, top_exponent
from tests import oracle

EMAX = {
    "mxfp8-e5m2": 15,
    "mxfp8-e4m3": 8,
    "mxfp6-e3m2": 4,
    "mxfp6-e2m3": 2,
    "mxfp4": 2,
    "mxint8": 0,
}
FLOATS = [name for name in ELEMENTS if name != "mxint8"]


def samples() -> np.ndarray:
    """Blocks of every size of number: 64 × 32."""
    rng = np.random.default_rng(4)
    x = rng.standard_normal((64, 32)) * np.exp2(rng.integers(-140, 140, (64, 1)).astype(float))
    x *= np.exp2(rng.integers(-6, 6, x.shape).astype(float))
    x[3] = 0
    x[4, 1:] = 0
    x[5] = 2.0**-1074
    x[6] = 1.5 * 2.0**1000
    return x


def test_top_exponents() -> None:
    assert {name: top_exponent(element_format(name)) for name in ELEMENTS} == EMAX


@pytest.mark.parametrize("mode", ["nearest-even", "nearest-away", "toward-zero", "toward-positive"])
@pytest.mark.parametrize("name", FLOATS)
def test_single_rounding(name: str, mode: str) -> None:
    x, fmt = samples(), element_format(name)
    blocks = quantise(x, name, mode)
    for row, codes, (scale,) in zip(x, blocks.codes, blocks.scales):
        largest = max(abs(Fraction(v)) for v in row)
        exponent = oracle.floor_log2(largest) - EMAX[name] if largest else -127
        exponent = min(max(exponent, -127), 127)
        assert scale == exponent + 127
        for v, code in zip(row, codes):
            scaled = abs(Fraction(v)) / oracle.power(exponent)
            number = oracle.X("number", bool(np.signbit(v)), scaled)
            assert code == oracle.round_code(fmt, number, mode, "saturate")[0]


@pytest.mark.parametrize("name", FLOATS)
def test_gfloat_blocks(name: str) -> None:
    x = samples()[7:]
    info = {
        "mxfp8-e5m2": peer.format_info_ocp_e5m2, "mxfp8-e4m3": peer.format_info_ocp_e4m3,
        "mxfp6-e3m2": peer.format_info_ocp_e3m2, "mxfp6-e2m3": peer.format_info_ocp_e2m3,
        "mxfp4": peer.format_info_ocp_e2m1,
    }[name]  # fmt: skip
    block = gfloat.BlockFormatInfo("mx", info, 32, peer.format_info_ocp_e8m0)
    expected = [gfloat.quantize_block(block, row, gfloat.compute_scale_amax) for row in x]
    np.testing.assert_array_equal(quantise(x, name).dequantise(), expected)


def test_int8() -> None:
    x = np.array([[1.0, -1.0, 0.5, 1.99, -1.99, 2.0**-6, 2.0**-7, 0.0] + [0.0] * 24])
    blocks = quantise(x, "mxint8")
    np.testing.assert_array_equal(blocks.scales, [[127]])
    np.testing.assert_array_equal(
        blocks.dequantise()[0, :8], [1, -1, 0.5, 1.984375, -1.984375, 2.0**-6, 0, 0]
    )


def test_special_blocks() -> None:
    x = np.ones((2, 40))
    x[0, 5], x[1, 33] = np.nan, np.inf
    x[0, 35] = -3.0
    blocks = quantise(x, "mxfp4")
    np.testing.assert_array_equal(blocks.scales, [[255, 126], [125, 255]])
    back = blocks.dequantise()
    assert np.isnan(back[0, :32]).all() and np.isnan(back[1, 32:]).all()
    np.testing.assert_array_equal(back[0, 32:], x[0, 32:])
    np.testing.assert_array_equal(back[1, :32], x[1, :32])
    assert not blocks.codes[0, :32].any()
    empty = quantise(np.zeros((3, 0)), "e4m3fn")
    assert empty.codes.shape == (3, 0) and empty.scales.shape == (3, 0)


def test_formats_and_block_sizes() -> None:
    x = np.random.default_rng(5).standard_normal((10, 32))
    blocks = quantise(x, get_format("hfp8-143"), "stochastic", block=8, random_bits=0)
    assert isinstance(blocks, Blocks) and blocks.scales.shape == (10, 4)
    error = np.abs(blocks.dequantise() - x).reshape(10, 4, 8)
    largest = np.abs(x).reshape(10, 4, 8).max(-1, keepdims=True)
    assert (error <= largest * 2.0**-3).all()


def test_bad_input() -> None:
    with pytest.raises(InputError, match="x is a scalar"):
        quantise(1.0)
    with pytest.raises(InputError, match="block is 0"):
        quantise([1.0], block=0)
    with pytest.raises(InputError, match="unknown format 'mxfp5'"):
        quantise([1.0], "mxfp5")
