"""Measures of error. With y the result and x the reference:

SQNR = 10·log10(Σx² / Σ(y−x)²) dB; relative error = √(Σ(y−x)² / Σx²); cosine = Σxy / √(Σx²·Σy²);
error in ulp = |y−x| / ulp(x), with ulp(x) the distance between neighbours of the result format at x.

docs/accuracy.md explains when to use which.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from hfp8sim.floating_point import standard_arithmetic
from hfp8sim.formats import FloatFormat

Array = NDArray[np.float64]

#: Powers of two that bound the histogram's bins, in ulp: 2^-4, 2^-3, …, 2^12.
HISTOGRAM_POWERS = tuple(range(-4, 13))
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


class AccuracySums:
    """The running sums behind `Accuracy`: a result can be added piece by piece."""

    def __init__(self, fmt: FloatFormat) -> None:
        self.fmt = fmt
        self.signal = self.noise = self.dot = self.power = self.ulp_sum = 0.0
        self.max_error = self.max_ulp = 0.0
        self.count = self.lost = 0
        self.histogram = np.zeros(len(HISTOGRAM_BINS), np.int64)

    @standard_arithmetic
    def add(self, result: Array, reference: Array) -> None:
        """Add a piece of the result and the same piece of the reference, arrays of one shape."""
        finite = np.isfinite(result)
        if not finite.all():
            self.lost += int(result.size - np.count_nonzero(finite))
            result, reference = result[finite], reference[finite]
        if not result.size:
            return
        error = np.abs(result - reference)
        self.count += result.size
        self.signal += float(np.vdot(reference, reference))
        self.power += float(np.vdot(result, result))
        self.dot += float(np.vdot(result, reference))
        self.noise += float(np.vdot(error, error))
        self.max_error = max(self.max_error, float(error.max()))
        in_ulps = error / ulp(reference, self.fmt)
        self.ulp_sum += float(in_ulps.sum())
        self.max_ulp = max(self.max_ulp, float(in_ulps.max()))
        self.histogram += histogram(in_ulps)

    @standard_arithmetic
    def accuracy(self) -> Accuracy:
        """The measures over all pieces."""
        if not self.count:
            nan = math.nan
            empty = tuple(self.histogram.tolist())
            return Accuracy(nan, nan, nan, nan, nan, nan, self.lost, empty)
        energy = math.sqrt(self.signal * self.power)
        return Accuracy(
            sqnr_db=sqnr_db(self.signal, self.noise),
            relative_error=math.sqrt(self.noise / self.signal) if self.signal else math.nan,
            max_error=self.max_error,
            max_ulp=self.max_ulp,
            mean_ulp=self.ulp_sum / self.count,
            cosine=self.dot / energy if energy else math.nan,
            lost=self.lost,
            histogram=tuple(self.histogram.tolist()),
        )


def histogram(in_ulps: Array) -> NDArray[np.int64]:
    """Counts of errors (≥ 0, in ulp) by `HISTOGRAM_BINS`.

    The bins come from frexp, which is exact; a logarithm could round a power of two into a neighbouring bin.
    """
    fraction, exponent = np.frexp(in_ulps)
    low, high = HISTOGRAM_POWERS[0], HISTOGRAM_POWERS[-1]
    # in_ulps is in [2^(exponent−1), 2^exponent)
    bins = np.clip(exponent - 1, low - 1, high) - low + 2
    bins[fraction == 0] = 0
    return np.bincount(bins.ravel(), minlength=len(HISTOGRAM_BINS)).astype(np.int64)


def sqnr_db(signal: float, noise: float) -> float:
    """Signal to quantisation noise in dB; +inf without noise, NaN without signal."""
    if not signal:
        return math.nan
    return 10 * math.log10(signal / noise) if noise else math.inf


def ulp(x: Array, fmt: FloatFormat) -> Array:
    """The distance between neighbours of `fmt` around x. Below the lowest binade it is that binade's."""
    facts = fmt.facts
    exponent = np.frexp(np.abs(x))[1] - 1
    lowest = facts.min_exp + facts.fraction_bits if fmt.lowest != "subnormal" else 1 - facts.bias
    distance: Array = np.ldexp(1.0, np.maximum(exponent, lowest) - facts.fraction_bits)
    return distance
