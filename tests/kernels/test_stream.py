"""A `Stream`: ranges of k added in order, for one block of outputs after another."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from hfp8sim import kernels
from hfp8sim.formats import get_format
from hfp8sim.units import get_profile
from hfp8sim.units.accumulator import gemm_facts
from tests.units.problems import operand, plain

#: Ranges of k that begin steps of two products, in chunks of 7.
CUTS = (0, 2, 7, 13, 14, 21, 51, 102, 150)


@pytest.mark.parametrize("max_k", [51, 90, 150])
@pytest.mark.parametrize("mode", ["nearest-away", "stochastic"])
def test_ranges_of_k(mode: str, max_k: int) -> None:
    """Panels that hold a range, several ranges, or all of K."""
    rng, fmt = np.random.default_rng(max_k), get_format("hfp8-143")
    profile = get_profile("hfp8").replace(rounding=mode, products_per_step=2, chunk_length=7)
    m, k, n = 37, CUTS[-1], 41
    a, b = operand(rng, fmt, (m, k), "normal"), operand(rng, fmt, (k, n), "normal")
    expected, events = plain(profile, fmt, fmt, a, b, seed=4)
    scans = kernels.scan(a, fmt), kernels.scan(b, fmt)
    plan = kernels.plan(profile, fmt, fmt, *scans, k, events=True)
    keys = gemm_facts(profile, fmt, fmt, 4, 0).keys
    formats = fmt, fmt, profile.result_format
    stream = kernels.Stream(plan, formats, keys, 21, 34, k, max_k=max_k)
    result, zero_steps = np.zeros_like(expected), 0
    for rows, columns in itertools.product(
        (slice(0, 16), slice(16, 37)), (slice(0, 7), slice(7, 41))
    ):
        for k0, k1 in itertools.pairwise(CUTS):
            of_a, of_b = a[rows, k0:k1], b[k0:k1, columns].T
            views = kernels.view(of_a, rows.start), kernels.view(of_b, columns.start)
            stream.add(*views, k0, k1 - k0)
            zero_steps += kernels.zero_steps(plan, of_a, of_b, k0)
        stream.codes(result[rows, columns])
    np.testing.assert_array_equal(result, expected)
    assert stream.counts[kernels.SWAMPED] - zero_steps == events.swamped


def test_other_keys_draw_other_words() -> None:
    rng, fmt = np.random.default_rng(3), get_format("hfp8-143")
    profile = get_profile("hfp8").replace(rounding="stochastic")
    a, b = operand(rng, fmt, (20, 70), "normal"), operand(rng, fmt, (70, 18), "normal")
    plan = kernels.plan(
        profile, fmt, fmt, kernels.scan(a, fmt), kernels.scan(b, fmt), 70, events=False
    )
    formats = fmt, fmt, profile.result_format
    stream = kernels.Stream(plan, formats, gemm_facts(profile, fmt, fmt, 0, 0).keys, 20, 18, 70)
    for seed in (1, 2):
        stream.set_keys(gemm_facts(profile, fmt, fmt, seed, 0).keys)
        stream.add(kernels.view(a), kernels.view(b.T), 0, 70)
        result = np.zeros((20, 18), formats[2].dtype)
        stream.codes(result)
        np.testing.assert_array_equal(result, plain(profile, fmt, fmt, a, b, seed=seed)[0])
