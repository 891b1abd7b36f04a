"""Accuracy measures against their formulas, written out plainly, and their edges."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfp8sim.analysis import sums
from hfp8sim.analysis.accuracy import (
    HISTOGRAM_BINS,
    HISTOGRAM_POWERS,
    Accuracy,
    accuracy,
    retention,
    sqnr_db,
)
from hfp8sim.formats import formats, get_format

DLFLOAT = get_format("dlfloat16")


def measured(result: list[float], reference: list[float], fmt: str = "dlfloat16") -> Accuracy:
    y, x = np.array(result)[None], np.array(reference)[None]
    return accuracy(sums.add(y, get_format(fmt), [x]))


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


def plainly(y: np.ndarray, x: np.ndarray) -> tuple[list[float], float]:
    """SQNR, relative error, cosine and retention by NumPy, of finite results."""
    signal, noise, power = (float(np.vdot(v, v)) for v in (x, y - x, y))
    values = [10 * math.log10(signal / noise), math.sqrt(noise / signal)]
    ideal = sum(map(np.var, x)) or math.nan
    return [*values, np.vdot(x, y) / math.sqrt(signal * power)], sum(map(np.var, y)) / ideal


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 7), (1, 700, 300), (2, 1, 70001), (300, 2, 3)])
def test_codes_against_the_formulas_for_every_number_of_threads(shape) -> None:
    """Shapes of less than a block, of several parts, and of many groups; a mean far from zero."""
    rng = np.random.default_rng(sum(shape))
    x = 3 + rng.normal(size=shape)
    other = x + 0.01 * rng.normal(size=shape)
    codes = DLFLOAT.encode(x + 0.02 * rng.normal(size=shape), rounding="nearest-even")
    y = DLFLOAT.decode(codes)
    both = sums.add(codes, DLFLOAT, (x, other))
    assert all(sums.add(codes, DLFLOAT, (x, other), n).tobytes() == both.tobytes() for n in (2, 5))
    for reference, part in zip((x, other), both):
        assert sums.add(y, DLFLOAT, [reference])[0].tobytes() == part.tobytes()
        measures, kept = plainly(y, reference)
        actual = accuracy(part)
        assert [actual.sqnr_db, actual.relative_error, actual.cosine] == pytest.approx(
            measures, rel=1e-12
        )
        assert actual.max_error == np.abs(y - reference).max()
        assert sum(actual.histogram) == y.size
        if y[0].size > 1:
            assert retention(part) == pytest.approx(kept, rel=1e-11)


def test_lost_results_of_a_large_array_are_left_out() -> None:
    """Everywhere in the blocks; a reference varies where its result is lost, too."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2, 3, 5000))
    y = x + 0.1
    y[rng.random(x.shape) < 0.3] = math.nan
    y[1, 2, -1] = math.inf
    kept = np.isfinite(y)
    total = sums.add(y, DLFLOAT, [x])[0]
    actual = accuracy(total)
    assert actual.lost == np.count_nonzero(~kept)
    signal, noise = float(np.sum(x[kept] ** 2)), float(np.sum((y - x)[kept] ** 2))
    assert actual.relative_error == pytest.approx(math.sqrt(noise / signal), rel=1e-12)
    variances = [np.var(values[finite]) for values, finite in zip(y, kept)]
    assert retention(total) == pytest.approx(sum(variances) / sum(map(np.var, x)), rel=1e-12)


def test_retention_of_references_that_do_not_vary() -> None:
    constant = np.full((2, 3, 4), 5.0)
    assert retention(sums.add(constant * 1.5, DLFLOAT, [constant])[0]) is None


def test_references_that_are_nan_are_not_the_largest_error() -> None:
    """Nor do they hide one: in the same lane of partial sums, too."""
    for between in (0, 63):
        equal = [2.0] * between
        actual = measured([1.0, *equal, 2.0, 4.0], [1.5, *equal, math.nan, 4.0])
        assert actual.max_error == 0.5 and actual.max_ulp == 0.5 / 2**-9


def test_every_error_of_a_block_is_counted() -> None:
    """Equal ones that follow one another, too, and the last one of an odd number."""
    powers = np.array([2.0**p for p in HISTOGRAM_POWERS])
    assert histogram(np.repeat(powers, 51)).tolist() == [0, 0, *[51] * len(powers)]


@pytest.mark.parametrize("shape", [(2, 70001), (30, 701)])
def test_references_have_histograms_of_their_own(shape) -> None:
    """Groups of several parts, and several groups that one thread adds."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=shape)
    y = x + 0.01 * rng.normal(size=x.shape)
    other = y + 1e-4
    both = sums.add(y, DLFLOAT, (x, other))
    for reference, part in zip((x, other), both):
        ulps = np.abs(y - reference) * 2.0 ** (9 - np.floor(np.log2(np.abs(reference))))
        powers = np.clip(np.floor(np.log2(ulps)), HISTOGRAM_POWERS[0] - 1, HISTOGRAM_POWERS[-1])
        expected = np.bincount(
            (powers.astype(int) - HISTOGRAM_POWERS[0] + 2).ravel(), minlength=len(HISTOGRAM_BINS)
        )
        assert accuracy(part).histogram == tuple(expected)


def test_wide_codes_are_decoded_without_a_table() -> None:
    fmt = get_format("binary32")
    x = np.random.default_rng(2).normal(size=(1, 3, 40))
    total = sums.add(fmt.encode(x, rounding="nearest-even"), fmt, [x])
    assert accuracy(total).max_ulp <= 0.5


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
    total = sums.add(values[None, 1:], fmt, [values[None, :-1]])
    assert total["max_ulps"].max() == 1 and total["ulps"].sum() == len(values) - 1


def test_reference_of_zero_counts_as_one_in_the_binade_below_one() -> None:
    assert measured([2.0**-9], [0.0]).max_ulp == measured([0.5 + 2.0**-9], [0.5]).max_ulp


def histogram(in_ulps: np.ndarray) -> np.ndarray:
    """Counts by bins of errors in ulp: of results whose reference is zero, which counts as 1/2."""
    results = in_ulps[None] * 2.0 ** -(DLFLOAT.fraction_bits + 1)
    return sums.add(results, DLFLOAT, [np.zeros_like(results)])["histogram"].sum((0, 1, 2))


@given(st.floats(min_value=0, max_value=1e30, allow_subnormal=False))
@settings(deadline=None)  # the first example may compile
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
