"""Variance retention: how many accumulator bits a sum needs (Sakr et al., ICLR 2019).

A sum of n zero-mean terms, each with `m_p` fraction bits, is kept in an accumulator of `m_acc` fraction
bits. Terms much smaller than the running sum are swamped, wholly or in part, and the variance of the
result falls. `retention` is Var(swamped sum) / Var(ideal sum), from the theorem of that paper.

The theory assumes zero-mean terms: sums of one sign (activations after a ReLU) stall much earlier.
"""

from __future__ import annotations

import functools
import math

import numpy as np

#: A format is wide enough while exp(n·(1 − retention)) stays below this.
LOST_VARIANCE_LIMIT = 50.0


def _two_q(x: np.ndarray | float) -> np.ndarray:
    """2·Q(x), the chance that a standard normal exceeds x in magnitude."""
    return np.asarray(np.vectorize(math.erfc, otypes=[float])(np.asarray(x) / math.sqrt(2)))


@functools.lru_cache(maxsize=4096)
def retention(m_acc: int, m_p: int, n: int) -> float:
    """VRR(m_acc, m_p, n) of an ordinary sum of n terms, in [0, 1]."""
    if n <= 2:
        return 1.0
    one = 2.0**m_acc

    def alpha(j: int) -> float:
        t = np.arange(1, j, dtype=float)
        return 2.0 ** (m_acc - 3 * m_p) / 3 * float(np.sum(2**t * (2**t - 1) * (2 ** (t + 1) - 1)))

    whole = alpha(m_p + 1)
    i = np.arange(2, n, dtype=float)
    i = i[i > whole]
    # Full swamping happens first at step i; the chance is nil until √i nears 2^m_acc / 38.
    i = i[i > (one / 38.5) ** 2]
    q = _two_q(one / np.sqrt(i)) * (1 - _two_q(one / np.sqrt(i - 1))) if i.size else np.zeros(0)
    weight, kept = float(q.sum()), float(((i - whole) * q).sum())
    for j in range(2, m_p + 1):
        loss = alpha(j)
        if n > loss:
            stage = 2.0 ** (m_acc - m_p + j)
            chance = _two_q(stage / 2 / math.sqrt(n)) * (1 - _two_q(stage / math.sqrt(n)))
            weight += stage * float(chance)
            kept += (n - loss) * stage * float(chance)
    none = 1 - float(_two_q(2.0 ** (m_acc - m_p + 1) / math.sqrt(n)))
    return (kept + n * none) / (n * (weight + none)) if weight + none else 0.0


def chunked_retention(m_acc: int, m_p: int, n: int, chunk: int) -> float:
    """VRR of a chunk-based sum: chunks of `chunk` terms, then the chunks; 0 means no chunks."""
    if not chunk or n <= chunk:
        return retention(m_acc, m_p, n)
    carried = min(m_acc, m_p + round(math.log2(chunk)))
    return retention(m_acc, m_p, chunk) * retention(m_acc, carried, -(-n // chunk))


def lost_variance(m_acc: int, m_p: int, n: int) -> float:
    """v(n) = exp(n·(1 − VRR)); +inf where it overflows."""
    exponent = n * (1 - retention(m_acc, m_p, n))
    return math.exp(exponent) if exponent < 700 else math.inf


def needed_bits(m_p: int, n: int, chunk: int = 0, most: int = 23) -> int | None:
    """The smallest number of accumulator fraction bits with v < 50 for a sum of n terms; None if `most`
    does not do. With chunks the rule is applied to each of the two stages."""
    for m_acc in range(m_p, most + 1):
        if not chunk or n <= chunk:
            stages = [lost_variance(m_acc, m_p, n)]
        else:
            carried = min(m_acc, m_p + round(math.log2(chunk)))
            stages = [
                lost_variance(m_acc, m_p, chunk),
                lost_variance(m_acc, carried, -(-n // chunk)),
            ]
        if max(stages) < LOST_VARIANCE_LIMIT:
            return m_acc
    return None
