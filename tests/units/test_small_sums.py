"""Small sums that planted bugs have shown to be worth a test of their own."""

from __future__ import annotations

import numpy as np
import pytest

from hfp8sim.formats import MODES, get_format
from hfp8sim.units import Profile, get_profile
from tests.units.problems import compare

WIDE = get_format("binary32")


def codes(*values: float) -> np.ndarray:
    return WIDE.encode(values)


@pytest.mark.parametrize("mode", ["toward-zero", "nearest-even", "to-odd"])
def test_three_terms_cancel(mode: str) -> None:
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


def test_exact_sum_of_wide_products() -> None:
    """48-bit products at every place of the register's limbs."""
    profile = Profile(
        "p", accumulator="binary32", between_chunks="binary32", chunk_length=0, products_per_step=0
    )
    full = 2 - 2.0**-23
    for shift in range(33):
        a = codes(full * 2.0**shift, -full, full)[None, :]
        compare(profile, WIDE, WIDE, a, codes(full, full, full * 2.0**-31)[:, None])


def test_exact_negative_sum_loses_no_bit() -> None:
    """One unit of the register's lowest bit is far below −1; rounded toward zero it would still show."""
    profile = Profile(
        "p", accumulator="binary32", between_chunks="binary32", chunk_length=0, products_per_step=0,
        rounding="toward-zero",
    )  # fmt: skip
    compare(profile, WIDE, WIDE, codes(-1.0)[None, :], codes(1.0)[:, None])


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_exact_sum_with_distant_tail(sign: float) -> None:
    """A tie that something 200 binades below decides."""
    profile = Profile(
        "p", accumulator="dlfloat16", between_chunks="dlfloat16", chunk_length=0, products_per_step=0,
        rounding="nearest-even",
    )  # fmt: skip
    for tail in (2.0**-100, -(2.0**-100), 0.0):
        a = codes(sign, sign * 2.0**-10, tail)[None, :]
        compare(profile, WIDE, WIDE, a, codes(1.0, 1.0, 2.0**-100)[:, None])


@pytest.mark.parametrize("mode", MODES)
def test_underflow_to_positive_zero(mode: str) -> None:
    """A negative sum below the smallest number, in a chunk and between chunks."""
    fmt = get_format("dlfloat16")
    for length in (0, 64):
        profile = get_profile("fp16").replace(rounding=mode, chunk_length=length)
        compare(profile, fmt, fmt, fmt.encode([[-(2.0**-30)]]), fmt.encode([[2.0**-30]]))


def test_aligned_subnormal_operand() -> None:
    """2^−9·448 has exponent −6 + 8 in `aligned` sums, so 13 bits below it end above 2^−12."""
    fmt = get_format("e4m3fn")
    a, b = fmt.encode([[2.0**-9, 2.0**-6]]), fmt.encode([[448.0], [2.0**-6]])
    compare(get_profile("hopper-fp8"), fmt, fmt, a, b)


def test_infinite_product_is_not_swamped() -> None:
    """Saturated, ∞ + 1 leaves a sum at the largest number as it was; but nothing finite was swamped."""
    fmt = get_format("e5m2")
    profile = get_profile("fp16").replace(overflow="saturate", chunk_length=0, products_per_step=2)
    a = fmt.encode([[fmt.max] * 4 + [np.inf, 1.0]], overflow="special")
    compare(profile, fmt, fmt, a, fmt.encode([[fmt.max]] * 4 + [[1.0]] * 2))
