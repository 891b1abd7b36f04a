"""Small sums that planted bugs have shown to be worth a test of their own."""

from __future__ import annotations

import numpy as np
import pytest

from hfp8sim.formats import get_format
from hfp8sim.units import Profile
from tests.units.problems import compare

WIDE = get_format("binary32")


def codes(*values: float) -> np.ndarray:
    return WIDE.encode(values)


@pytest.mark.parametrize("mode", ["toward-zero", "nearest-even", "to-odd"])
def test_three_terms_that_cancel(mode: str) -> None:
    """acc + p₁ + p₂ where the two largest cancel to less than the third, or are no exact sum."""
    profile = Profile(
        "p", accumulator="binary32", between_chunks="binary32", chunk_length=0, products_per_step=2,
        rounding=mode,
    )  # fmt: skip
    tiny, huge, odd = 2.0**-60, 2.0**60, 1 + 2.0**-23
    for first, second, third in (
        (huge, -huge, tiny), (huge * odd, tiny * odd, -huge), (huge, tiny, tiny), (odd, huge, -tiny),
        (huge * odd, -huge, -tiny), (1.0, -(1 - 2.0**-24), -tiny), (huge, 2.0**-3, -tiny),
    ):  # fmt: skip
        a = codes(first, 0.0, second, third)[None, :]
        compare(profile, WIDE, WIDE, a, codes(1.0, 1.0, odd, odd)[:, None])


def test_exact_sums_of_wide_products() -> None:
    """48-bit products at every place of the register's limbs."""
    profile = Profile(
        "p", accumulator="binary32", between_chunks="binary32", chunk_length=0, products_per_step=0
    )
    full = 2 - 2.0**-23
    for shift in range(33):
        a = codes(full * 2.0**shift, -full, full)[None, :]
        compare(profile, WIDE, WIDE, a, codes(full, full, full * 2.0**-31)[:, None])


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_exact_sums_with_a_distant_tail(sign: float) -> None:
    """A tie that something 200 binades below decides."""
    profile = Profile(
        "p", accumulator="dlfloat16", between_chunks="dlfloat16", chunk_length=0, products_per_step=0,
        rounding="nearest-even",
    )  # fmt: skip
    for tail in (2.0**-100, -(2.0**-100), 0.0):
        a = codes(sign, sign * 2.0**-10, tail)[None, :]
        compare(profile, WIDE, WIDE, a, codes(1.0, 1.0, 2.0**-100)[:, None])
