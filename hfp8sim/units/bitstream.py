"""The stochastic-bitstream multiplier: products as counts of ones (docs/numerics.md, section 3, "Stochastic bitstreams").

In the spirit of the 2014 paper on learning machines with digital stochastic circuits (arXiv 1409.2620), of which only the
abstract could be read: everything here is a choice, from the standard theory of stochastic computing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hfp8sim._numba.jit import jit
from hfp8sim.errors import InputError
from hfp8sim.formats import FloatFormat
from hfp8sim.units.random import key, mix32, word

#: Multipliers by name, with their meaning.
MULTIPLIERS = {
    "exact": "exact products",
    "unipolar": "AND of bit streams of magnitudes, signs apart",
    "bipolar": "XNOR of bit streams of signed values",
}
#: How streams are drawn, by name.
STREAMS = {
    "shared": "one stream for each element of A and of B, used by all its products",
    "independent": "two streams for each product",
}
#: The longest stream.
MAX_LENGTH = 1 << 16
#: Sites of the random words: rows and columns of A's streams, then of B's; shared streams take the first of each.
A_ROW, A_COLUMN, B_ROW, B_COLUMN = 20, 21, 22, 23
#: Bits of a random word: a stream's bit is 1 if its word is below this many bits' worth of the probability.
_WORD = 32


class Streams(NamedTuple):
    """The streams of a matrix's elements."""

    thresholds: NDArray[np.uint64]  #: a bit is 1 if its word is below; 0 … 2^32
    signs: NDArray[np.int64]  #: of the products; 1 where the stream carries the sign


def streams(
    codes: NDArray[np.unsignedinteger], fmt: FloatFormat, bipolar: bool, name: str
) -> Streams:
    """The streams of codes.

    Args:
        name: of the operand, in errors.

    Raises:
        InputError: a value beyond ±1, NaN, or one that a word of 32 bits cannot tell from its neighbours.
    """
    values = fmt.decode(codes)
    bad = ~(np.abs(values) <= 1)
    if bad.any():
        raise InputError(
            f"operand {name} holds {values[bad][0]:g}: a bit stream carries numbers from −1 to 1"
        )
    chances = (1 + values) / 2 if bipolar else np.abs(values)
    scaled = chances * 2.0**_WORD
    if (scaled != np.floor(scaled)).any():
        raise InputError(
            f"operand {name} of format {fmt.name} has numbers finer than a stream's words of {_WORD} bits"
        )
    signs = np.ones(values.shape, np.int64) if bipolar else np.where(values < 0, -1, 1)
    return Streams(scaled.astype(np.uint64), np.asarray(signs, np.int64))


def stream_keys_of(seed: int, stream: int) -> NDArray[np.uint64]:
    """Keys of the four sites' random words."""
    sites = (A_ROW, A_COLUMN, B_ROW, B_COLUMN)
    return np.array(
        [key(np.uint64(seed), np.uint64(stream), np.uint64(site)) for site in sites], np.uint64
    )


@jit
def stream_words(keys, m, n, j, independent):
    """The words of A's and B's stream bit j in product row m and column n."""
    if not independent:
        return word(keys[0], m, j), word(keys[2], n, j)
    u = mix32(word(keys[0], m, j) ^ word(keys[1], n, j))
    w = mix32(word(keys[2], m, j) ^ word(keys[3], n, j))
    return u, w


@jit
def product_count(a, b, keys, m, n, k, length, bipolar, independent):
    """The counter of one product after `length` bits: ones of AND, or of XNOR.

    Args:
        a, b: thresholds of the two streams.
        m, n, k: of the product; bit t of it has number k·length + t.
    """
    count = 0
    for t in range(length):
        u, w = stream_words(keys, m, n, k * length + t, independent)
        x, y = u < a, w < b
        count += (x == y) if bipolar else (x and y)
    return count


@jit
def plain_counts(a, a_signs, b, b_signs, keys, length, bipolar, independent, out):
    """Sums of signed counts of all products, one bit after the other.

    Args:
        a, a_signs: (M, K) of A; b, b_signs: (N, K) of B, transposed.
        out: int64 (M, N): Σ_k ±c, or of bipolar streams Σ_k (2c − length).
    """
    for m in range(out.shape[0]):
        for n in range(out.shape[1]):
            total = 0
            for k in range(a.shape[1]):
                c = product_count(a[m, k], b[n, k], keys, m, n, k, length, bipolar, independent)
                total += 2 * c - length if bipolar else a_signs[m, k] * b_signs[n, k] * c
            out[m, n] = total


def product_law(a: float, b: float, length: int, *, bipolar: bool = False) -> tuple[float, float]:
    """Mean and variance of a product of streams: unipolar ab and |ab|(1 − |ab|)/L, bipolar ab and (1 − (ab)²)/L."""
    p = abs(a * b)
    return a * b, (1 - p * p) / length if bipolar else p * (1 - p) / length
