"""Products in float64 without terms that are zero, against sums in order of k."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfp8sim.kernels import sparse
from hfp8sim.kernels.sparse import sparse_product

pytestmark = pytest.mark.skipif(
    not sparse.available(), reason="the processor has no AVX-512, or nothing is compiled"
)


@pytest.fixture(autouse=True)
def small_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse, "_LEAST_MACS", 0)
    monkeypatch.setattr(sparse, "_LEAST_COLUMNS", 1)


def in_order(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    sums = np.zeros((len(a), b.shape[1]))
    with np.errstate(invalid="ignore"):
        for column, row in zip(a.T.astype(np.float64), b.astype(np.float64), strict=True):
            sums += np.multiply.outer(column, row)
    return sums


def rectified(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.maximum(rng.normal(size=shape), 0).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    m=st.integers(4, 20), n=st.integers(1, 140), k=st.integers(4, 200), seed=st.integers(0, 99)
)  # fmt: skip
def test_sums_are_in_order_of_k(m: int, n: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rectified(rng, (m, k)), rng.normal(size=(k, n)).astype(np.float32)
    a[:, ::3] = 0
    product = sparse_product(a, b)
    assert product is not None
    np.testing.assert_array_equal(product, in_order(a, b))


@pytest.mark.parametrize("threads", [1, 3])
def test_more_rows_than_a_part(threads: int) -> None:
    rng = np.random.default_rng(1)
    a, b = rectified(rng, (600, 100)), rng.normal(size=(100, 70)).astype(np.float32)
    product = sparse_product(a, b, threads)
    np.testing.assert_array_equal(product, in_order(a, b))


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_zero_times_what_is_not_finite_is_nan(number: float) -> None:
    rng = np.random.default_rng(2)
    a, b = rectified(rng, (9, 60)), rng.normal(size=(60, 70)).astype(np.float32)
    b[5, 65] = b[50, 66] = number  # in a whole vector, and in a block's rest
    product = sparse_product(a, b)
    assert product is not None
    np.testing.assert_array_equal(product, in_order(a, b))
    assert np.isnan(product[:, 65:67]).any(0).all() and np.isfinite(product[:, :65]).all()


def test_dense_and_small_products_are_left_to_blas(monkeypatch: pytest.MonkeyPatch) -> None:
    ones = np.ones((8, 8), np.float32)
    assert sparse_product(ones, ones) is None
    assert sparse_product(np.eye(8, dtype=np.float32), ones) is not None
    monkeypatch.setattr(sparse, "_LEAST_MACS", 1 << 24)
    assert sparse_product(np.eye(8, dtype=np.float32), ones) is None
