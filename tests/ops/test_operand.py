"""`hs.Operand`: what it holds, its views, and products of it."""

from __future__ import annotations

import numpy as np
import pytest

from hfp8sim.errors import InputError
from hfp8sim.formats import get_format
from hfp8sim.ops import Operand, convert, gemm
from hfp8sim.ops import operand as module

FORMAT = get_format("hfp8-143")


def reals(*shape: int, seed: int = 0) -> np.ndarray:
    """Normal numbers, float32."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_encode_gives_the_codes_and_counts_of_convert() -> None:
    x = reals(40, 30) * np.float32(2.0) ** np.arange(-15, 15)
    for rounding in ("nearest-away", "stochastic"):
        operand = Operand.encode(x, "hfp8-143", rounding=rounding, seed=3, stream=5)
        codes, counts = convert(x, "hfp8-143", rounding, seed=3, stream=5)
        np.testing.assert_array_equal(operand.codes, codes)
        assert {"saturated": operand.saturated, "underflowed": operand.underflowed} == counts
    assert operand.saturated and operand.underflowed
    assert (operand.format, operand.exponent, operand.shape) == (FORMAT, 0, (40, 30))


@pytest.mark.parametrize("exponent", [-150, -3, 0, 1, 20])
def test_scale_is_a_factor_of_two_to_the_exponent(exponent: int) -> None:
    x = reals(50, 20)
    operand = Operand.encode(np.ldexp(np.float64(x), exponent), FORMAT, exponent=exponent)
    np.testing.assert_array_equal(operand.codes, FORMAT.encode(x))
    expected = np.ldexp(FORMAT.decode(operand.codes), exponent)
    np.testing.assert_array_equal(operand.values(np.float64), expected)
    assert operand.values().dtype == np.float32


def test_views_share_codes_and_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    operand = Operand.encode(reals(6, 8), FORMAT, exponent=2)
    views = operand.T, operand.reshape(3, 16), operand.transpose(1, 0), operand[2:, ::2]
    assert [view.shape for view in views] == [(8, 6), (3, 16), (8, 6), (4, 4)]
    assert all(np.shares_memory(view.codes, operand.codes) for view in views)
    assert all(view.exponent == 2 and view.format is FORMAT for view in views)
    scan = views[0].scan
    monkeypatch.setattr(module.kernels, "scan", None)
    assert all(view.scan is scan for view in (operand, *views))


def test_products_of_operands_equal_products_of_codes() -> None:
    a, b = (Operand.encode(reals(9, 9, seed=i), FORMAT, rounding="nearest-away") for i in (1, 2))
    expected = gemm(a.codes, b.codes.T)
    np.testing.assert_array_equal(gemm(a, b.T), expected)
    np.testing.assert_array_equal(gemm(a.codes, b.T, a_format="hfp8-143"), expected)
    wide = Operand.encode(reals(9, 4), "dlfloat16")
    result = gemm(a, wide, "hfp8")
    np.testing.assert_array_equal(result, gemm(a.codes, wide.codes, b_format="dlfloat16"))
    exact = gemm(a, wide, "exact", out_dtype="float32")
    np.testing.assert_array_equal(
        exact, (a.values("float64") @ wide.values("float64")).astype(np.float32)
    )


def test_operand_is_immutable() -> None:
    operand = Operand(np.zeros(3, np.uint8), FORMAT)
    with pytest.raises(AttributeError):
        operand.exponent = 1  # type: ignore[misc]
    assert repr(operand) == "Operand(hfp8-143, shape=(3,))"
    assert (
        repr(Operand(np.zeros(3, np.uint8), FORMAT, -2)) == "Operand(hfp8-143 · 2^-2, shape=(3,))"
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Operand(np.zeros(3), FORMAT), "codes must hold hfp8-143 codes"),
        (lambda: Operand(np.full(3, 256), FORMAT), r"codes holds codes outside 0\.\.255"),
        (lambda: Operand([0], "hfp8-413"), "unknown format 'hfp8-413'"),
        (lambda: Operand([0], FORMAT, 5000), r"exponent is 5000, must be -400\.\.400"),
        (lambda: Operand([0], FORMAT, 1.5), "exponent is 1.5; it must be a whole number"),  # type: ignore[arg-type]
        (lambda: Operand([0], FORMAT, -401), r"exponent is -401, must be -400\.\.400"),
        (
            lambda: Operand.encode([0.0], FORMAT, exponent="1"),  # type: ignore[arg-type]
            "exponent is '1'; it must be a whole number",
        ),
        (lambda: Operand.encode([0.0], FORMAT, exponent=401), "exponent is 401, must be -400"),
        (lambda: Operand.encode([0.0], FORMAT, exponent=-401), "exponent is -401, must be -400"),
        (
            lambda: gemm(Operand([[0]], FORMAT), [[0]], a_format="hfp8-152"),
            "a is an operand of hfp8-143 codes, but a_format is hfp8-152",
        ),
        (
            lambda: gemm(Operand([0], FORMAT), [[0]]),
            r"a must be a matrix, not an array of shape \(1,\)",
        ),
    ],
)
def test_bad_input(make, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
