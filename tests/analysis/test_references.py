"""The references of a report: both paths of the product of codes."""

import numpy as np
import pytest

from hfp8sim.analysis.references import product, product_of_codes
from hfp8sim.formats import get_format
from hfp8sim.kernels import integer, sparse

A_FORMAT, B_FORMAT = get_format("hfp8-143"), get_format("e2m3")


@pytest.mark.parametrize("least_macs", [0, 1 << 40])
@pytest.mark.parametrize("groups", [1, 3])
def test_product_of_codes_is_that_of_their_numbers(
    groups: int, least_macs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(integer, "_LEAST_MACS", least_macs)
    rng = np.random.default_rng(groups)
    a = A_FORMAT.encode(rng.normal(size=(groups, 9, 300)))
    b = B_FORMAT.encode(rng.normal(size=(groups, 300, 40)))
    exact = product_of_codes(a, b, A_FORMAT, B_FORMAT, threads=2)
    np.testing.assert_array_equal(exact, product(A_FORMAT.decode(a), B_FORMAT.decode(b)))


def test_groups_that_do_not_fit_are_multiplied_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integer, "_LEAST_MACS", 0)
    a = A_FORMAT.encode(np.ones((2, 6, 20)))
    b = A_FORMAT.encode(np.ones((2, 20, 30)) * np.array([0.5, 30.0])[:, None, None])
    exact = product_of_codes(a, b, A_FORMAT, A_FORMAT)
    np.testing.assert_array_equal(exact, product(A_FORMAT.decode(a), A_FORMAT.decode(b)))


@pytest.mark.parametrize("least_macs", [0, 1 << 40])
def test_product_of_numbers_is_that_of_each_group(
    least_macs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sparse, "_LEAST_MACS", least_macs)
    rng = np.random.default_rng(4)
    a = np.maximum(rng.normal(size=(2, 9, 100)), 0).astype(np.float32)
    b = rng.normal(size=(2, 100, 40)).astype(np.float32)
    wide = product(a.astype(np.float64), b.astype(np.float64))
    np.testing.assert_allclose(product(a, b, threads=2), wide, rtol=0, atol=1e-12)
    np.testing.assert_allclose(wide[1], a[1].astype(np.float64) @ b[1], rtol=0, atol=1e-12)
