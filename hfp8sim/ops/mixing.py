"""Averages with neighbours: D-PSGD (Lian et al., NeurIPS 2017), with weights exchanged in any format.

docs/distributed.md says what is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hfp8sim.errors import InputError, check_whole_number, unknown
from hfp8sim.floating_point import standard_arithmetic
from hfp8sim.ops.updates import rounded_sum
from hfp8sim.units.sites import BINARY32, Place, Site, Values

#: How weights are exchanged.
EXCHANGES = {
    "direct": "weights, rounded to the exchange's format",
    "difference": "differences from what neighbours already have, scaled to the exchange's format",
}
#: Exponents of a scale of differences fit one byte.
_MOST_SCALE = 127
_TOLERANCE = 1e-6


@standard_arithmetic
def ring_matrix(learners: int) -> NDArray[np.float64]:
    """The mixing matrix of a ring, (N, N): a third for a learner and for each of its two neighbours.

    Two learners average, one keeps its weights.
    """
    check_whole_number(learners, "learners", 1)
    if learners <= 2:
        return np.full((learners, learners), 1 / learners)
    matrix = np.zeros((learners, learners))
    for i in range(learners):
        for j in (i - 1, i, i + 1):
            matrix[i, j % learners] = 1 / 3
    return matrix


@standard_arithmetic
def check_mixing(matrix: ArrayLike) -> NDArray[np.float64]:
    """A mixing matrix; `InputError` if it is not square, symmetric, non-negative and doubly stochastic."""
    w = np.asarray(matrix, np.float64)
    if w.ndim != 2 or w.shape[0] != w.shape[1] or not len(w):
        raise InputError(f"a mixing matrix must be square, not of shape {w.shape}")
    if not (np.isfinite(w).all() and (w >= 0).all() and np.array_equal(w, w.T)):
        raise InputError("a mixing matrix must be symmetric, with entries of at least 0")
    if np.abs(w.sum(axis=0) - 1).max() > _TOLERANCE:
        raise InputError(f"columns of a mixing matrix must add up to 1, not {w.sum(axis=0).max()}")
    return w


@standard_arithmetic
def spectral(matrix: ArrayLike) -> float:
    """max(|λ₂|, |λ_n|) of a mixing matrix; ρ is its square, the spectral gap one minus it. 0 for one learner."""
    values = np.sort(np.abs(np.linalg.eigvalsh(check_mixing(matrix))))
    return float(values[-2]) if len(values) > 1 else 0.0


@standard_arithmetic
def consensus_distance(weights: Sequence[Values]) -> float:
    """Σ ‖x_i − mean‖² over learners, in binary64."""
    x = np.stack([np.asarray(w, np.float64).reshape(-1) for w in weights])
    return float(np.square(x - x.mean(axis=0)).sum())


class Mixed(NamedTuple):
    """A mixing step."""

    weights: list[Values]  #: y of each learner
    replicas: list[Values]  #: x̂ of each learner, as its neighbours have it; of `difference`
    drift: float  #: Σ y − Σ x over learners and elements, in binary64
    sent: int  #: bytes that a learner sends to one neighbour


@standard_arithmetic
def mix(
    weights: Sequence[Values],
    matrix: ArrayLike,
    *,
    exchange: Site = BINARY32,
    site: Site = BINARY32,
    how: str = "direct",
    replicas: Sequence[Values] | None = None,
    seed: int = 0,
    step: int = 0,
    tensor: int = 0,
) -> Mixed:
    """Average the weights of learners with their neighbours.

    Args:
        weights: x of each learner, float32 of one shape.
        matrix: W, symmetric and doubly stochastic.
        exchange: how what is sent is rounded.
        site: how the average is rounded; binary32 with `difference`.
        how: a key of `EXCHANGES`.
        replicas: of `difference`: what neighbours have of each learner; zeros at the start for None.
        seed, step, tensor: of stochastic sites.

    Raises:
        InputError: arrays of different shapes, a matrix that cannot mix, an unknown exchange.
    """
    w = check_mixing(matrix)
    if len(weights) != len(w) or any(np.shape(x) != np.shape(weights[0]) for x in weights):
        raise InputError(f"mixing of {len(w)} learners needs an array of each, all of one shape")
    if how not in EXCHANGES:
        raise unknown("exchange", how, list(EXCHANGES))
    shape = np.shape(weights[0])
    flat = [np.ascontiguousarray(x, np.float32).reshape(-1) for x in weights]
    known = [np.zeros_like(x) for x in flat]
    if replicas is not None:
        known = [np.ascontiguousarray(x, np.float32).reshape(-1) for x in replicas]
    sent = -(-exchange.record.bits // 8) * flat[0].size
    if how == "direct":
        heard = [_exchanged(x, exchange, seed, step, tensor, i) for i, x in enumerate(flat)]
        mixed = [
            _average(w[i], [flat[i] if j == i else heard[j] for j in range(len(w))], site, seed, step, tensor, i)
            for i in range(len(w))
        ]  # fmt: skip
    else:
        known = [
            _advanced(x, old, exchange, seed, step, tensor, i)
            for i, (x, old) in enumerate(zip(flat, known, strict=True))
        ]
        mixed = [_drawn_together(w[i], flat[i], known, i) for i in range(len(w))]
        sent += 1
    drift = sum(float((y.astype(np.float64) - x).sum()) for x, y in zip(flat, mixed, strict=True))
    return Mixed(
        [y.reshape(shape) for y in mixed], [x.reshape(shape) for x in known], drift, sent
    )  # fmt: skip


def _exchanged(x: Values, site: Site, seed: int, step: int, tensor: int, learner: int) -> Values:
    return rounded_sum(
        Place.EXCHANGE, site, [(1.0, x)], seed=seed, step=step, tensor=tensor, hop=learner + 1
    )


def _average(
    row: NDArray[np.float64], heard: list[Values], site: Site, seed: int, step: int, tensor: int,
    learner: int,
) -> Values:  # fmt: skip
    """Σ_j W_ij·x_j: three terms with one rounding, then two at a time."""
    terms = [(float(np.float32(c)), heard[j]) for j, c in enumerate(row) if c > 0]
    total, rest = None, terms
    while rest:
        take = 3 if total is None else 2
        now = ([] if total is None else [(1.0, total)]) + rest[:take]
        total = rounded_sum(
            Place.MIX, site, now, seed=seed, step=step, tensor=tensor, hop=learner + 1
        )
        rest = rest[take:]
    assert total is not None
    return total


def _advanced(
    x: Values, old: Values, site: Site, seed: int, step: int, tensor: int, learner: int
) -> Values:
    """x̂ after its learner has sent its difference from x."""
    difference = x - old
    largest = float(np.abs(difference).max(initial=0.0))
    if largest == 0 or not np.isfinite(largest):
        return old
    exponent = int(np.floor(np.log2(site.record.max / largest)))
    exponent = max(-_MOST_SCALE, min(_MOST_SCALE, exponent))
    scale = np.float32(2.0**exponent)
    sent = _exchanged(difference * scale, site, seed, step, tensor, learner)
    return old + sent / scale


def _drawn_together(
    row: NDArray[np.float64], x: Values, known: list[Values], learner: int
) -> Values:
    """fl[x_i + Σ_j W_ij·(x̂_j − x̂_i)], formed in binary64."""
    total = x.astype(np.float64)
    mine = known[learner].astype(np.float64)
    for j, c in enumerate(row):
        if c > 0 and j != learner:
            total += float(np.float32(c)) * (known[j].astype(np.float64) - mine)
    return total.astype(np.float32)
