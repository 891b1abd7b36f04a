"""Variance retention: how many accumulator bits a sum needs (Sakr et al., ICLR 2019, theorem 1).

A sum of n zero-mean terms with `m_p` fraction bits each is accumulated in `m_acc` fraction bits. Terms much
smaller than the running sum are swamped, wholly or in part, and the variance of the result falls. `retention`
is Var(swamped sum) / Var(ideal sum), from the theorem of that paper.

The theory assumes zero-mean terms: sums of one sign (activations after a ReLU) stall much earlier.
"""

from __future__ import annotations

import functools
import math

from hfp8sim._numba.jit import jit
from hfp8sim.floating_point import standard_arithmetic

#: A format is wide enough while exp(n·(1 − retention)) stays below this (the paper's rule).
LOST_VARIANCE_LIMIT = 50.0


def _two_q(x: float) -> float:
    """2·Q(x), the probability that a standard normal exceeds x in magnitude."""
    return math.erfc(x / math.sqrt(2.0))


@jit
def _fully_swamped(ratio: float, loss: float, n: int) -> tuple[float, float]:
    """Σ q_i and Σ (i − loss)·q_i over the steps i = 2 … n−1 beyond `loss`, where q_i is the probability
    that full swamping, |sum| ≥ `ratio`·|term|, first happens at step i."""
    weight = retained = 0.0
    # Below √i = ratio/38.5 the probability is 0: erfc of a larger argument underflows in binary64.
    root = ratio / 38.5
    first = max(2, int(loss) + 1, int(root * root) + 1)
    before = math.erfc(ratio / math.sqrt(2.0 * (first - 1)))
    for i in range(first, n):
        now = math.erfc(ratio / math.sqrt(2.0 * i))
        q = now * (1.0 - before)
        weight += q
        retained += (i - loss) * q
        before = now
    return weight, retained


@functools.lru_cache(maxsize=4096)
@standard_arithmetic
def retention(m_acc: int, m_p: int, n: int) -> float:
    """VRR(m_acc, m_p, n) of an ordinary sum of n terms, in [0, 1]."""
    if n <= 2:
        return 1.0
    ratio = 2.0**m_acc

    def alpha(j: int) -> float:
        """The variance that partial swamping up to stage j loses, in terms of the sum."""
        lost = sum(2.0**t * (2.0**t - 1) * (2.0 ** (t + 1) - 1) for t in range(1, j))
        return 2.0 ** (m_acc - 3 * m_p) / 3 * lost

    weight, retained = _fully_swamped(ratio, alpha(m_p + 1), n)
    for j in range(2, m_p + 1):
        loss = alpha(j)
        if n > loss:
            stage = 2.0 ** (m_acc - m_p + j)
            chance = stage * _two_q(stage / 2 / math.sqrt(n)) * (1 - _two_q(stage / math.sqrt(n)))
            weight += chance
            retained += (n - loss) * chance
    none = 1 - _two_q(2.0 ** (m_acc - m_p + 1) / math.sqrt(n))
    return (retained + n * none) / (n * (weight + none)) if weight + none else 0.0


def _stages(m_acc: int, m_p: int, n: int, chunk: int) -> list[tuple[int, int, int]]:
    """(m_acc, m_p, n) of the intra-chunk sum, and of the inter-chunk sum where there are several chunks.

    The result of a chunk has log2(chunk) more significant bits than a product.
    """
    if not chunk or n <= chunk:
        return [(m_acc, m_p, n)]
    carried = min(m_acc, m_p + round(math.log2(chunk)))
    return [(m_acc, m_p, chunk), (m_acc, carried, -(-n // chunk))]


@standard_arithmetic
def chunked_retention(m_acc: int, m_p: int, n: int, chunk: int) -> float:
    """VRR of a chunk-based sum: chunks of `chunk` terms, then the chunks; 0 means no chunks."""
    return math.prod(retention(*stage) for stage in _stages(m_acc, m_p, n, chunk))


@standard_arithmetic
def lost_variance(m_acc: int, m_p: int, n: int) -> float:
    """v(n) = exp(n·(1 − VRR)); +inf where it overflows."""
    exponent = n * (1 - retention(m_acc, m_p, n))
    return math.exp(exponent) if exponent < 700 else math.inf


@standard_arithmetic
def needed_bits(m_p: int, n: int, chunk: int = 0, most: int = 23) -> int | None:
    """The smallest number of accumulator fraction bits, from m_p up, with v < 50 for a sum of n terms;
    None if `most` bits are not enough. With chunks each of the two sums must meet the rule."""
    for m_acc in range(m_p, most + 1):
        if (
            max(lost_variance(*stage) for stage in _stages(m_acc, m_p, n, chunk))
            < LOST_VARIANCE_LIMIT
        ):
            return m_acc
    return None
