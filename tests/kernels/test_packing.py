"""Operands into panels, results into codes."""

from __future__ import annotations

import numpy as np
import pytest

from hfp8sim import kernels
from hfp8sim.formats import get_format
from hfp8sim.kernels import (
    PANEL,
    Plan,
    Scan,
)
from tests.kernels.cases import HFP8
from tests.units.problems import operand


@pytest.mark.parametrize("name", ["hfp8-143", "hfp8-152-hw", "e5m2", "e4m3fnuz", "e2m1", "dlfloat16",
                                  "binary16", "bfloat16", "ieee-169", "binary32"])  # fmt: skip
def test_packed_values(name: str) -> None:
    rng = np.random.default_rng(29)
    fmt = get_format(name)
    codes = operand(rng, fmt, (21, 37), "normal")
    plan = Plan(kernels.plan(HFP8, get_format("e4m3fn"), get_format("e4m3fn"), Scan(1, 0, False),
                               Scan(1, 0, False), 37).kernel, "", chunk_length=64)  # fmt: skip
    keys = (np.uint64(0), np.uint64(0))
    for matrix in (codes, np.asfortranarray(codes)):
        values = kernels.pack_operand(plan, matrix, fmt, keys, of_a=True).values
        expected = np.zeros((32, 37))
        expected[:21] = fmt.decode(codes)
        np.testing.assert_array_equal(values.transpose(0, 2, 1).reshape(32, 37), expected)


@pytest.mark.parametrize(
    "name", ["dlfloat16", "ieee-169", "binary16", "bfloat16", "binary32", "e8m13", "e4m3fn"]
)
@pytest.mark.parametrize("scale", [0, -20])
def test_encode_every_number(name: str, scale: int) -> None:
    fmt = get_format(name)
    if scale and fmt.exponent_bits == 8:
        pytest.skip("no room to scale in")
    codes = np.arange(1 << min(fmt.bits, 16), dtype=np.uint64)
    if fmt.bits > 16:
        codes = codes * np.uint64(65521) % np.uint64(1 << fmt.bits)
    codes = codes.astype(fmt.dtype)
    values = np.ldexp(fmt.decode(codes), scale)
    panels = np.zeros((1, -(-codes.size // PANEL), PANEL, PANEL), np.float32)
    panels[0, :, 0, :] = values.reshape(-1, PANEL)
    result = np.empty((1, codes.size), fmt.dtype)
    kernels.encode(panels, fmt.facts, scale, result)
    expected = codes.copy()
    expected[np.isnan(values)] = fmt.facts.nan_code
    expected[values == 0] = 0
    np.testing.assert_array_equal(result[0], expected)


def test_scan() -> None:
    fmt = get_format("hfp8-143")
    assert kernels.scan(np.zeros((3, 4), np.uint8), fmt)[0] == 0.0
    assert kernels.scan(fmt.encode([[0.5, -2.0, 0.0]]), fmt) == (2.0, -4, False)
    hw = get_format("hfp8-143-hw")
    assert kernels.scan(np.array([[0x7F, 1]], np.uint8), hw).special
    fnuz = get_format("e4m3fnuz")
    assert kernels.scan(np.array([[0x80, 1]], np.uint8), fnuz).special
    assert not kernels.scan(np.array([[0x81, 0]], np.uint8), fnuz).special
    e5m2 = get_format("e5m2")
    assert kernels.scan(np.array([[1, 0x7B]], np.uint8), e5m2) == (57344.0, -16, False)
    assert kernels.scan(np.array([[0xFC]], np.uint8), e5m2).special
