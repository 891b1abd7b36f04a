"""Boundary values of rounding: inputs at which a converter is likely to be wrong, as plain arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hfp8sim.formats import FloatFormat, get_format


def number_codes(fmt: str | FloatFormat, limit: int = 4096) -> NDArray[np.int64]:
    """Codes of the non-negative numbers of a format, ascending.

    All of them if there are at most `limit`. Otherwise those near the ends of the two lowest and the two
    highest binades, those around 1, and `limit` evenly spaced ones.
    """
    record = get_format(fmt)
    low, high = record.facts.min_mag, record.facts.max_mag
    if high - low < limit:
        mags = np.arange(low, high + 1)
    else:
        step = 1 << record.fraction_bits
        ends = np.array([low, low + step, record.bias * step, high - step, high])
        near = (ends[:, None] + np.arange(-8, 9)).ravel()
        mags = np.unique(np.concatenate([near, np.linspace(low, high, limit).astype(np.int64)]))
    mags = mags[(mags >= low) & (mags <= high)]
    return mags if record.zero == "none" else np.concatenate([[0], mags])


def boundary_values(fmt: str | FloatFormat, limit: int = 4096) -> NDArray[np.float64]:
    """Numbers at and beside every boundary of a rounding into `fmt`, of both signs.

    These are the numbers of the format (see `number_codes`), the midpoints and quarter points between
    neighbours, points between zero and the smallest number, points beyond the largest number, the ends of
    binary64, each of these also one binary64 step to either side, and ±0, ±∞ and NaN.

    Returns:
        float64, 1-D; NaN only if the format has one.
    """
    with np.errstate(all="ignore"):  # points beyond the largest number may overflow float64
        return _boundary_values(get_format(fmt), limit)


def _boundary_values(record: FloatFormat, limit: int) -> NDArray[np.float64]:
    values = np.sort(record.decode(number_codes(record, limit)))
    gaps = np.diff(values)
    last_gap = values[-1] - values[-2] if values.size > 1 else values[-1]
    points = [
        values,
        values[:-1] + gaps / 2,
        values[:-1] + gaps / 4,
        record.min_positive * np.array([2.0**-30, 0.25, 0.5, 0.75, 0.9]),
        values[-1] + last_gap * np.array([0.25, 0.5, 1.0, 1.5, 2.0]),
        values[-1] * np.array([2.0, 1e3]),
        np.array([5e-324, 1e-300, 1e300, np.finfo(np.float64).max]),
    ]
    if (
        record.lowest == "normal"
    ):  # 2^-bias, which code 0 would mean without the zero, and the ties around it
        points.append(2.0 ** -float(record.bias) * np.array([0.5, 0.75, 1.0, 1 + 2.0**-10]))
    flat = np.concatenate(points)
    beside = [np.nextafter(flat, 0), np.nextafter(flat, np.inf)]
    flat = np.concatenate([flat, *beside, [0.0, np.inf]])
    both = np.concatenate([flat, -flat, [np.nan] if record.has_nan else []])
    return np.asarray(both, np.float64)
