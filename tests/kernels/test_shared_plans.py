"""`kernels.shared_plan`: one plan for the operands of a layer, step after step."""

from __future__ import annotations

import numpy as np
import pytest

from hfp8sim import kernels
from hfp8sim.formats import get_format
from hfp8sim.ops.products import check_product
from hfp8sim.units import get_profile, profiles
from tests.kernels.cases import numbers

FORMAT = get_format("hfp8-143")


def test_operands_of_similar_range_share_a_plan() -> None:
    profile, quantum = get_profile("hfp8"), kernels.scan(np.array([[1]], np.uint8), FORMAT).quantum
    plans = {
        kernels.shared_plan(
            profile, FORMAT, FORMAT,
            kernels.Scan(float(largest), quantum + shift, False), kernels.Scan(3.0, quantum, False), 64,
        )
        for largest in (1.0, 1.5, 7.0, 14.0)
        for shift in (0, 1, 5)
    }  # fmt: skip
    assert len(plans) == 1
    rng = np.random.default_rng(4)
    a, b = (numbers(rng, FORMAT, (8, 64), "normal") for _ in range(2))
    products = (check_product(x, b.T, profile, None, None) for x in (a, a[:3]))
    assert {product.plan(events=False) for product in products} == plans


@pytest.mark.parametrize("name", profiles())
def test_shared_plan_has_the_kernel_of_the_operands_own(name: str) -> None:
    """No operand pays for the range of others; and a plan for a wider range covers a narrower one."""
    profile, rng = get_profile(name), np.random.default_rng(5)
    formats = profile.operand_formats("fwd")
    for kind in ("normal", "numbers", "wide"):
        codes = [numbers(rng, fmt, (4, 70), kind) for fmt in formats]
        scans = [kernels.scan(x, fmt) for x, fmt in zip(codes, formats)]
        for events in (False, True):
            own = kernels.plan(profile, *formats, *scans, 70, events)
            shared = kernels.shared_plan(profile, *formats, *scans, 70, events)
            assert shared.kernel == own.kernel


def test_tables_of_user_formats_are_bounded() -> None:
    """A plan holds no table; of the tables for pairs of formats a few are cached."""
    profile = get_profile("rapid")
    for bias in range(40):
        fmt = FORMAT.with_bias(bias)
        scan = kernels.scan(np.array([[56]], np.uint8), fmt)
        plan = kernels.plan(profile, fmt, fmt, scan, scan, 64, True)
        if plan.counts_zero_sums:
            assert plan.slope_ids is not None
            assert not any(
                isinstance(value, kernels.zero_products.SlopeIds) for value in vars(plan).values()
            )
    assert kernels.zero_products.slope_ids.cache_info().currsize <= 16
