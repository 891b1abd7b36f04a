"""The effect that chunks are for: Wang et al., NeurIPS 2018, Figure 3."""

from __future__ import annotations

import numpy as np
import pytest

from hfp8sim.formats import get_format
from hfp8sim.ops import gemm
from hfp8sim.units import get_profile
from tests.test_examples import load

_example = load("02")
draw_terms, running_sum = _example.draw_terms, _example.running_sum


@pytest.mark.parametrize("mode", ["nearest-even", "nearest-away"])
def test_long_sum_stalls(mode: str) -> None:
    """At 4096 half an ulp of 1-6-9 is 4, more than any term (1 + √3); without chunks it ends there."""
    x = draw_terms(65536, seed=0)
    profile = get_profile("fp16").replace(rounding=mode, chunk_length=0)
    assert running_sum(x, profile) == 4096.0


@pytest.mark.parametrize("mode", ["nearest-even", "nearest-away", "stochastic-a"])
def test_chunked_sum(mode: str) -> None:
    x = draw_terms(65536, seed=0)
    profile = get_profile("fp16").replace(rounding=mode, chunk_length=64)
    exact = get_format("dlfloat16").decode(x).sum()
    assert abs(running_sum(x, profile) / exact - 1) < 0.01


def test_swamped_count() -> None:
    x = draw_terms(65536, seed=0)[None, :]
    one = np.full((65536, 1), get_format("dlfloat16").encode(1.0), np.uint16)
    profile = get_profile("fp16")
    _, chunked = gemm(x, one, profile, events=True)
    _, plain = gemm(x, one, profile.replace(chunk_length=0), events=True)
    assert chunked.swamped < 1000 < 60000 < plain.swamped
