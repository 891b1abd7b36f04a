"""Exact products in lanes of int16 against float64, which is exact where its sums have at most 53 bits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfp8sim.formats import FloatFormat, get_format
from hfp8sim.kernels import integer
from hfp8sim.kernels.integer import integer_product

pytestmark = pytest.mark.skipif(
    not integer.available(), reason="the processor has no lanes of int16, or nothing is compiled"
)

HFP8, E4M3, NARROW = get_format("hfp8-143"), get_format("e4m3fn"), get_format("e2m3")
UNSIGNED_ZERO = get_format("e4m3fnuz")  # where −0 would be, it has NaN


@pytest.fixture(autouse=True)
def small_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integer, "_LEAST_MACS", 0)
    monkeypatch.setattr(integer, "_LEAST_COLUMNS", 1)


def expected(a: np.ndarray, b: np.ndarray, a_format: FloatFormat, b_format: FloatFormat) -> np.ndarray:  # fmt: skip
    return a_format.decode(a) @ b_format.decode(b)


def normal_codes(rng: np.random.Generator, shape: tuple[int, ...], scale: float) -> np.ndarray:
    return HFP8.encode(scale * rng.normal(size=shape))


@pytest.mark.parametrize("fmt", [HFP8, E4M3, NARROW, UNSIGNED_ZERO], ids=lambda fmt: fmt.name)
def test_every_product_of_two_codes(fmt: FloatFormat) -> None:
    """All codes of A, those with exceptions and NaN among them, times all of B that fit 16 bits."""
    a = np.arange(1 << fmt.bits, dtype=np.uint8)[:, None]
    numbers = fmt.table()
    fits = np.abs(numbers) < np.ldexp(1.0, 15 + fmt.facts.min_exp)
    b = np.flatnonzero(fits).astype(np.uint8)[None]
    zeros = np.zeros((1 << fmt.bits, 127), np.uint8)  # else there are too many exceptions
    columns = np.concatenate([b, np.zeros((127, b.size), np.uint8)])
    product = integer_product(np.concatenate([a, zeros], 1), columns, fmt, fmt)
    assert product is not None
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(product, np.multiply.outer(numbers, numbers[fits]))


@settings(max_examples=60, deadline=None)
@given(
    m=st.integers(1, 20), n=st.integers(1, 140), k=st.integers(1, 600), seed=st.integers(0, 99),
    threads=st.integers(1, 3), fmt=st.sampled_from([HFP8, NARROW]),
)  # fmt: skip
def test_any_shape(m: int, n: int, k: int, seed: int, threads: int, fmt: FloatFormat) -> None:
    rng = np.random.default_rng(seed)
    a, b = (fmt.encode(s * rng.normal(size=size)) for s, size in ((0.5, (m, k)), (0.03, (k, n))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(integer, "_ELEMENTS_PER_EXCEPTION", 1)  # else a few may be too many
        product = integer_product(a, b, fmt, fmt, threads)
    assert product is not None
    np.testing.assert_array_equal(product, expected(a, b, fmt, fmt))


def test_more_rows_than_a_block() -> None:
    rng = np.random.default_rng(1)
    a, b = normal_codes(rng, (1000, 300), 1), normal_codes(rng, (300, 70), 0.1)
    product = integer_product(a, b, HFP8, HFP8)
    np.testing.assert_array_equal(product, expected(a, b, HFP8, HFP8))


def test_exceptions_are_added() -> None:
    """Next to a large number, the smallest ones are no multiples of A's unit."""
    rng = np.random.default_rng(3)
    a, b = np.zeros((20, 300), np.uint8), normal_codes(rng, (300, 80), 0.1)
    a[3, 5], a[3, 6], a[19, 299] = HFP8.encode([30.0, HFP8.min_positive, -HFP8.min_positive])
    product = integer_product(a, b, HFP8, HFP8)
    assert product is not None
    np.testing.assert_array_equal(product, expected(a, b, HFP8, HFP8))
    assert product[19].any()


def test_too_many_exceptions_are_refused() -> None:
    a, b = HFP8.encode(np.full((20, 64), HFP8.min_positive)), HFP8.encode(np.ones((64, 80)))
    a[0, 0] = HFP8.encode(30.0)
    assert integer_product(a, b, HFP8, HFP8) is None


def test_sums_that_may_exceed_31_bits_are_refused() -> None:
    """256 products of 2^13 and 2^11 units."""
    a, b = HFP8.encode(np.full((6, 256), 16.0)), HFP8.encode(np.full((256, 64), 0.125))
    assert integer_product(a, b, HFP8, HFP8) is None
    assert integer_product(a[:, :4], b[:4], HFP8, HFP8) is not None


def test_sums_just_below_the_limit_are_exact() -> None:
    """Equal numbers, for which Cauchy and Schwarz's bound is the sum itself: k·15·2^10·9·2^11 units."""
    step = HFP8.facts.min_exp
    a = HFP8.encode(np.full((6, 8), np.ldexp(1.875, step + 17)))
    b = HFP8.encode(np.full((8, 64), np.ldexp(1.125, step + 14)))
    for k in range(1, 9):
        product = integer_product(a[:, :k], b[:k], HFP8, HFP8)
        bound = k * 15 * 2**10 * 9 * 2**11
        assert (product is None) == (bound >= 2**31)
        if product is not None:
            np.testing.assert_array_equal(product, expected(a[:, :k], b[:k], HFP8, HFP8))


def test_last_of_an_odd_number_of_products_counts_once() -> None:
    """5·15·2^10·13·2^11 units: half a pair more would exceed 31 bits."""
    step = HFP8.facts.min_exp
    a = HFP8.encode(np.full((6, 5), np.ldexp(1.875, step + 17)))
    b = HFP8.encode(np.full((5, 64), np.ldexp(1.625, step + 14)))
    assert integer_product(a, b, HFP8, HFP8) is not None


def test_a_large_row_in_an_early_block_is_refused() -> None:
    a, b = np.zeros((500, 512), np.uint8), HFP8.encode(np.full((512, 64), 0.25))
    a[0, :256] = HFP8.encode(16.0)
    assert integer_product(a, b, HFP8, HFP8) is None
    a[0, 4:256] = 0
    assert integer_product(a, b, HFP8, HFP8) is not None


def test_nan_of_b_is_refused() -> None:
    fmt = UNSIGNED_ZERO
    a, b = fmt.encode(np.ones((6, 8))), fmt.encode(np.full((8, 64), 0.25))
    assert integer_product(a, b, fmt, fmt) is not None
    b[3, 4] = 0x80
    assert np.isnan(expected(a, b, fmt, fmt)).any()
    assert integer_product(a, b, fmt, fmt) is None


def test_wide_formats_and_small_products_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    half = get_format("binary16")
    ones = half.encode(np.ones((8, 8)))
    assert integer_product(ones, ones, half, half) is None
    monkeypatch.setattr(integer, "_LEAST_MACS", 1 << 24)
    small = HFP8.encode(np.ones((8, 8)))
    assert integer_product(small, small, HFP8, HFP8) is None
