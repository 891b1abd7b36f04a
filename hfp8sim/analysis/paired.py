"""Paired comparisons of a few runs: the same seeds in two arms, their differences, and whether chance explains them."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence

#: 97.5 % points of Student's t distribution by degrees of freedom, 1 … 10; more count as infinitely many.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
_T_INFINITE = 1.960


@dataclasses.dataclass(frozen=True)
class Sample:
    """Mean and spread of a few measurements."""

    count: int
    mean: float
    deviation: float  #: the sample's standard deviation; NaN of one measurement

    @classmethod
    def of(cls, values: Sequence[float]) -> Sample:
        """Mean and deviation of values; not a number if one of them is not finite."""
        if not values:
            return cls(0, math.nan, math.nan)
        if not all(map(math.isfinite, values)):
            return cls(len(values), math.nan, math.nan)
        deviation = statistics.stdev(values) if len(values) > 1 else math.nan
        return cls(len(values), statistics.fmean(values), deviation)

    @property
    def margin(self) -> float:
        """Half the width of the 95 % confidence interval of the mean (Student's t); NaN of one measurement."""
        freedom = self.count - 1
        if freedom < 1:
            return math.nan
        t = _T[freedom - 1] if freedom <= len(_T) else _T_INFINITE
        return t * self.deviation / math.sqrt(self.count)

    @property
    def differs(self) -> bool:
        """Whether 0 is outside the 95 % confidence interval of the mean."""
        return abs(self.mean) > self.margin


def paired(values: Sequence[float], control: Sequence[float]) -> Sample:
    """The sample of the differences values − control, seed by seed."""
    return Sample.of([a - b for a, b in zip(values, control, strict=True)])
