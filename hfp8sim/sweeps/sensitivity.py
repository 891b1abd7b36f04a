"""How much each key of a sweep changes each measure."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from hfp8sim.report.columns import missing
from hfp8sim.sweeps.record import BITS, SweepRecord

#: Groups of a key with many numbers: as many quantiles.
_GROUPS = 6


class Sensitivity(NamedTuple):
    """The effect of a key on a measure, over all configurations.

    Attributes:
        share: the variance of the groups' means over the variance of all configurations: the first-order effect
            of the key, as in an analysis of variance, 0 … 1.
        lowest, highest: the lowest and the highest mean of a group.
        groups: (value or range of the key, mean, lowest, highest of the measure, configurations) of each.
    """

    key: str
    measure: str
    share: float
    lowest: float
    highest: float
    groups: tuple[tuple[str, float, float, float, int], ...]


def sensitivities(result: SweepRecord) -> list[Sensitivity]:
    """The effect of each varied key on the quality and on each cost but widths of formats, the largest first."""
    measures = [m for m in (result.quality, *result.costs) if m and m not in BITS]
    found = []
    for measure in measures:
        effects = [_effect(result, key, measure) for key in result.varied]
        found += sorted((e for e in effects if e is not None), key=lambda e: -e.share)
    return found


def _effect(result: SweepRecord, key: str, measure: str) -> Sensitivity | None:
    """The effect of a key on a measure; None where it cannot be told."""
    pairs = [
        (row[key], float(row[measure]))
        for row in result.configurations
        if not missing(row.get(measure)) and math.isfinite(row[measure])
    ]
    if len(pairs) < 2:
        return None
    groups = _grouped(pairs)
    if len(groups) < 2:
        return None
    whole = [value for _, value in pairs]
    mean = sum(whole) / len(whole)
    variance = sum((value - mean) ** 2 for value in whole)
    between = sum(len(own) * (sum(own) / len(own) - mean) ** 2 for _, own in groups)
    means = [sum(own) / len(own) for _, own in groups]
    return Sensitivity(
        key, measure, between / variance if variance else 0.0, min(means), max(means),
        tuple((text, sum(own) / len(own), min(own), max(own), len(own)) for text, own in groups),
    )  # fmt: skip


def _grouped(pairs: list[tuple[Any, float]]) -> list[tuple[str, list[float]]]:
    """The measure's values by the key's value; many numbers are put together in ranges of equal counts."""
    keys = {key for key, _ in pairs}
    numeric = all(isinstance(key, int | float) and not isinstance(key, bool) for key in keys)
    if not numeric or len(keys) <= 2 * _GROUPS:
        order = sorted(keys) if numeric else list(dict.fromkeys(key for key, _ in pairs))
        return [(str(key), [v for k, v in pairs if k == key]) for key in order]
    ordered = sorted(pairs, key=lambda pair: pair[0])
    groups = []
    for number in range(_GROUPS):
        start, stop = (i * len(ordered) // _GROUPS for i in (number, number + 1))
        own = ordered[start:stop]
        groups.append((f"{own[0][0]:.4g}–{own[-1][0]:.4g}", [value for _, value in own]))
    return groups
