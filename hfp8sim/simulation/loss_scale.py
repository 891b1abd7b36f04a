"""The loss scale that keeps errors from being flushed to zero, from the errors themselves."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hfp8sim.simulation.quantise import Quantised, quantise
from hfp8sim.units import Profile
from hfp8sim.units.profile import MAX_SCALE

#: A scale is enough if it loses at most this share of the errors that are not zero.
ENOUGH = 0.001


class LossScale(NamedTuple):
    """A loss scale 2^exponent, and what it loses."""

    exponent: int
    lost: float  #: errors that saturate or become zero, of those that are not zero


def loss_scale(
    errors: NDArray[Any], current: Quantised, exponent: int, profile: Profile
) -> LossScale:
    """The smallest loss scale that loses at most `ENOUGH` of the errors; failing that, the one that loses least.

    It is the current one if that is enough.

    Args:
        errors: float32 or float64 of any shape, without a scale.
        current: these errors as they were rounded.
        exponent: of the scale that they were rounded with.
        profile: how they are rounded.
    """
    if current.lost_share <= ENOUGH:
        return LossScale(exponent, current.lost_share)
    unscaled = current.format.with_bias(current.format.bias - exponent)

    def tried(s: int) -> LossScale:
        scaled = unscaled.with_bias(unscaled.bias + s)
        return LossScale(s, quantise(errors, scaled, profile).lost_share)

    magnitudes = np.abs(errors[errors != 0])
    binades = np.frexp(magnitudes)[1] - 1
    lowest = math.frexp(unscaled.min_positive)[1] - 1
    first = _estimate(binades, lowest, unscaled.emax)
    # An estimate by whole binades can be one step away from the exact answer.
    best = min((tried(s) for s in (first - 1, first, first + 1)), key=_order)
    return best if best.lost < current.lost_share else LossScale(exponent, current.lost_share)


def _order(scale: LossScale) -> tuple[float, int]:
    """Scales that are enough before others, the smallest first; of the others the one that loses least."""
    return (0.0 if scale.lost <= ENOUGH else scale.lost, scale.exponent)


def _estimate(binades: NDArray[np.int32], lowest: int, highest: int) -> int:
    """The exponent of the loss scale, if all errors below 2^lowest become zero and all from 2^(highest + 1) saturate.

    Args:
        binades: floor(log2) of the errors.
    """
    smallest, largest = int(binades.min()), int(binades.max())
    counts = np.bincount(binades - smallest)
    below = np.concatenate([[0], np.cumsum(counts)])  # below[i]: errors under 2^(smallest + i)
    # With a larger scale nothing is flushed, and with a smaller one everything is.
    scales = np.arange(lowest - largest, lowest - smallest + 1)
    flushed = below[np.clip(lowest - scales - smallest, 0, len(counts))]
    saturated = binades.size - below[np.clip(highest + 1 - scales - smallest, 0, len(counts))]
    lost = flushed + saturated
    fewest = max(int(lost.min()), math.floor(ENOUGH * binades.size))
    return int(np.clip(scales[np.argmax(lost <= fewest)], 1 - MAX_SCALE, MAX_SCALE - 1))
