"""Paired differences and their confidence intervals."""

import math
import statistics

import pytest

from hfp8sim.analysis.paired import Sample, paired


def test_margin_is_that_of_student() -> None:
    # 5 values: t = 2.776 at 4 degrees of freedom.
    values = [1.0, 2.0, 3.0, 4.0, 5.0]
    sample = Sample.of(values)
    assert (sample.count, sample.mean) == (5, 3.0)
    assert sample.margin == pytest.approx(2.776 * statistics.stdev(values) / math.sqrt(5))
    assert Sample.of([1.0, 3.0]).margin == pytest.approx(12.706 * math.sqrt(2) / math.sqrt(2))
    assert Sample.of([float(i) for i in range(40)]).margin == pytest.approx(1.96 * statistics.stdev(range(40)) / math.sqrt(40))  # fmt: skip


def test_difference_beyond_the_margin_differs() -> None:
    assert Sample.of([1.0, 1.1, 0.9]).differs
    assert not Sample.of([1.0, -1.1, 0.9]).differs
    assert not Sample.of([1.0]).differs  # one measurement has no margin


def test_pairs_cancel_what_seeds_share() -> None:
    control = [1.0, 5.0, 9.0]
    sample = paired([1.5, 5.5, 9.5], control)
    assert (sample.mean, sample.deviation) == (0.5, 0.0)
    assert sample.differs


def test_no_finite_mean_never_differs() -> None:
    for values in ([], [math.inf, 1.0], [math.nan, 2.0]):
        sample = Sample.of(values)
        assert math.isnan(sample.mean)
        assert not sample.differs
