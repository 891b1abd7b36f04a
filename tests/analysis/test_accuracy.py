"""Accuracy measures against their formulas, written out plainly, and their edges."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfp8sim.analysis.accuracy import (
    HISTOGRAM_BINS,
    HISTOGRAM_POWERS,
    Accuracy,
    AccuracySums,
    histogram,
    sqnr_db,
    ulp,
)
from hfp8sim.formats import formats, get_format

DLFLOAT = get_format("dlfloat16")


def measured(result: list[float], reference: list[float], fmt: str = "dlfloat16") -> Accuracy:
    comparison = AccuracySums(get_format(fmt))
    comparison.add(np.array(result), np.array(reference))
    return comparison.accuracy()


def test_against_the_formulas() -> None:
    y, x = [1.0, 2.0, 4.5], [1.0, 2.5, 4.0]
    actual = measured(y, x)
    signal, noise = 1 + 6.25 + 16, 0.25 + 0.25
    assert actual.sqnr_db == pytest.approx(10 * math.log10(signal / noise))
    assert actual.relative_error == pytest.approx(math.sqrt(noise / signal))
    assert actual.cosine == pytest.approx((1 + 5 + 18) / math.sqrt(signal * (1 + 4 + 20.25)))
    assert actual.max_error == 0.5
    # 1-6-9: neighbours of 2.5 are 2^(1-9) apart, those of 4 2^(2-9)
    assert actual.max_ulp == 0.5 / 2**-8
    assert actual.mean_ulp == (0 + 0.5 / 2**-8 + 0.5 / 2**-7) / 3
    assert actual.lost == 0


def test_pieces_add_up_to_the_whole() -> None:
    rng = np.random.default_rng(0)
    y, x = rng.normal(size=(2, 100))
    whole, parts = AccuracySums(DLFLOAT), AccuracySums(DLFLOAT)
    whole.add(y, x)
    for i in range(0, 100, 7):
        parts.add(y[i : i + 7], x[i : i + 7])
    one, other = whole.accuracy(), parts.accuracy()
    assert one.histogram == other.histogram
    assert (one.max_error, one.max_ulp) == (other.max_error, other.max_ulp)
    assert other.sqnr_db == pytest.approx(one.sqnr_db, rel=1e-12)


def test_perfect_result_and_zero_reference() -> None:
    assert measured([1.0, -3.0], [1.0, -3.0]).sqnr_db == math.inf
    silent = measured([0.0], [0.0])
    assert math.isnan(silent.sqnr_db) and math.isnan(silent.cosine)
    assert math.isnan(sqnr_db(0.0, 1.0))


def test_nonfinite_results_are_counted_and_left_out() -> None:
    actual = measured([math.nan, math.inf, 2.0], [1.0, 1.0, 2.0])
    assert (actual.lost, actual.max_error) == (2, 0.0)
    nothing = measured([math.nan], [1.0])
    assert nothing.lost == 1 and math.isnan(nothing.max_ulp) and sum(nothing.histogram) == 0


@pytest.mark.parametrize("name", [n for n in formats() if get_format(n).bits <= 16])
def test_ulp_is_the_distance_to_the_next_number(name: str) -> None:
    """For every number of every format that is not its largest."""
    fmt = get_format(name)
    values = np.unique(np.abs(fmt.table()[np.isfinite(fmt.table())]))
    values = values[values >= fmt.min_positive]
    if fmt.lowest != "subnormal":  # the lowest binade lacks its first number
        values = values[values >= fmt.min_normal]
    actual = ulp(values[:-1], fmt)
    assert np.array_equal(actual, np.diff(values))


@given(st.floats(min_value=0, max_value=1e30, allow_subnormal=False))
def test_every_error_falls_into_its_bin(error: float) -> None:
    (bin_,) = np.flatnonzero(histogram(np.array([error])))
    low, high = HISTOGRAM_POWERS[0], HISTOGRAM_POWERS[-1]
    if error == 0:
        assert HISTOGRAM_BINS[bin_] == "0"
    elif error < 2.0**low:
        assert bin_ == 1
    else:
        power = int(HISTOGRAM_BINS[bin_].removeprefix("2^"))
        assert 2.0**power <= error and (power == high or error < 2.0 ** (power + 1))


def test_power_of_two_is_the_lower_bound_of_its_bin() -> None:
    powers = np.array([2.0**p for p in HISTOGRAM_POWERS])
    assert histogram(powers).tolist() == [0, 0, *[1] * len(powers)]
    below = histogram(np.nextafter(powers, 0))
    assert below.tolist() == [0, *[1] * len(powers), 0]
