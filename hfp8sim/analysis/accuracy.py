"""Measures of error. With y the result and x the reference:

SQNR = 10·log10(Σx² / Σ(y−x)²) dB; relative error = √(Σ(y−x)² / Σx²); cosine = Σxy / √(Σx²·Σy²);
error in ulp = |y−x| / ulp(x), with ulp(x) the distance between neighbours of the result format at x.

docs/accuracy.md explains when to use which.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfp8sim.analysis.sums import HIGHEST, LOWEST
from hfp8sim.floating_point import standard_arithmetic

#: Powers of two that bound the histogram's bins, in ulp: 2^-4, 2^-3, …, 2^12.
HISTOGRAM_POWERS = tuple(range(LOWEST, HIGHEST + 1))
#: What the bins count, in order: no error at all, below 2^-4 ulp, [2^-4, 2^-3), …, 2^12 ulp and more.
HISTOGRAM_BINS = (
    "0",
    f"<2^{HISTOGRAM_POWERS[0]}",
    *(f"2^{power}" for power in HISTOGRAM_POWERS),
)


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """One result against one reference.

    Measures that divide by the reference's energy are NaN where it has none, and all measures are NaN where
    no result is finite.
    """

    sqnr_db: float  #: +inf for a perfect result
    relative_error: float
    max_error: float  #: the largest |y−x|
    max_ulp: float
    mean_ulp: float
    cosine: float
    lost: int  #: results that are NaN or infinite; the measures leave them out
    histogram: tuple[int, ...] = ()  #: errors in ulp, counted by `HISTOGRAM_BINS`


@standard_arithmetic
def accuracy(sums: NDArray[Any]) -> Accuracy:
    """The measures of a result against one reference.

    Args:
        sums: records of `analysis.sums.SUMS`, any shape: those of all parts of the result.
    """
    count, lost = int(sums["count"].sum()), int(sums["lost"].sum())
    histogram = tuple(sums["histogram"].reshape(-1, len(HISTOGRAM_BINS)).sum(0).tolist())
    if not count:
        nan = math.nan
        return Accuracy(nan, nan, nan, nan, nan, nan, lost, histogram)
    signal, noise, product, ulps = (
        float(sums[name].sum()) for name in ("signal", "noise", "product", "ulps")
    )
    moments = sums["result"]
    power = float((moments["spread"] + moments["count"] * moments["average"] ** 2).sum())
    energy = math.sqrt(signal * power)
    return Accuracy(
        sqnr_db=sqnr_db(signal, noise),
        relative_error=math.sqrt(noise / signal) if signal else math.nan,
        max_error=float(sums["max_error"].max()),
        max_ulp=float(sums["max_ulps"].max()),
        mean_ulp=ulps / count,
        cosine=product / energy if energy else math.nan,
        lost=lost,
        histogram=histogram,
    )


@standard_arithmetic
def retention(sums: NDArray[Any]) -> float | None:
    """Var(y) / Var(x), summed over the groups; of y only finite elements. None if x does not vary.

    Args:
        sums: records of `analysis.sums.SUMS` (groups, parts).
    """
    measured, ideal = float(_variances(sums["result"]).sum()), _variances(sums["reference"]).sum()
    return measured / float(ideal) if ideal else None


def _variances(moments: NDArray[Any]) -> NDArray[np.float64]:
    """The variance of each group, of `analysis.sums.MOMENTS` (groups, parts); 0 where nothing was counted."""
    counts = moments["count"]
    totals = np.maximum(counts.sum(1), 1)
    means = (counts * moments["average"]).sum(1) / totals
    distances = counts * (moments["average"] - means[:, None]) ** 2
    variances: NDArray[np.float64] = (moments["spread"] + distances).sum(1) / totals
    return variances


def sqnr_db(signal: float, noise: float) -> float:
    """Signal to quantisation noise in dB; +inf without noise, NaN without signal."""
    if not signal:
        return math.nan
    return 10 * math.log10(signal / noise) if noise else math.inf
