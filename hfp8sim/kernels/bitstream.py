"""The fast path of bit streams: 64 bits of a stream in a word, products by AND or XNOR and a count of ones.

The results are those of `hfp8sim.units.bitstream.plain_counts`, bit for bit. Independent streams have no shared bits to pack: there
the words of rows and columns are drawn once, and each product mixes them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hfp8sim._numba.jit import jit, jit_inlined
from hfp8sim.units.bitstream import Streams
from hfp8sim.units.random import word

_ONE, _ALL = np.uint64(1), np.uint64(0xFFFFFFFFFFFFFFFF)
_M1, _M2, _M4 = (np.uint64(m) for m in (0x5555555555555555, 0x3333333333333333, 0x0F0F0F0F0F0F0F0F))
_H01 = np.uint64(0x0101010101010101)
_S1, _S2, _S4, _S56 = np.uint64(1), np.uint64(2), np.uint64(4), np.uint64(56)
#: Bits of all streams of one k-range that are drawn at once, at most.
_BITS = 1 << 24
_MIX_1, _MIX_2 = np.uint32(0x7FEB352D), np.uint32(0x846CA68B)
_S15, _S16 = np.uint32(15), np.uint32(16)


@jit_inlined
def ones(x):
    """The number of ones in 64 bits; the compiler knows this pattern."""
    x = x - ((x >> _S1) & _M1)
    x = (x & _M2) + ((x >> _S2) & _M2)
    x = (x + (x >> _S4)) & _M4
    return np.int64((x * _H01) >> _S56)


@jit
def pack_streams(thresholds, key, length, packed):
    """The bits of streams, 64 in a word: packed[i, k, t // 64], bit t % 64."""
    for i in range(thresholds.shape[0]):
        for k in range(thresholds.shape[1]):
            for v in range(packed.shape[2]):
                bits = np.uint64(0)
                for t in range(64 * v, min(64 * v + 64, length)):
                    if word(key, i, k * length + t) < thresholds[i, k]:
                        bits |= _ONE << np.uint64(t - 64 * v)
                packed[i, k, v] = bits


@jit
def shared_counts(a, a_signs, b, b_signs, length, bipolar, out):
    """`plain_counts` of packed shared streams."""
    last = _ALL if length >= 64 else (_ONE << np.uint64(length)) - _ONE
    for m in range(out.shape[0]):
        for n in range(out.shape[1]):
            total = 0
            for k in range(a.shape[1]):
                c = 0
                for v in range(a.shape[2]):
                    x, y = a[m, k, v], b[n, k, v]
                    c += ones(~(x ^ y) & last if bipolar else x & y)
                total += 2 * c - length if bipolar else a_signs[m, k] * b_signs[n, k] * c
            out[m, n] = total


@jit
def fill_stream_words(key, first, words):
    """The words of bits first, first + 1, … of each row, uint32 (rows, bits)."""
    for i in range(words.shape[0]):
        for j in range(words.shape[1]):
            words[i, j] = np.uint32(word(key, i, first + j))


@jit_inlined
def _mix(x):
    """`units.random.mix32` of 32-bit words."""
    x = np.uint32((x ^ (x >> _S16)) * _MIX_1)
    x = np.uint32((x ^ (x >> _S15)) * _MIX_2)
    return np.uint32(x ^ (x >> _S16))


@jit
def independent_counts(
    a, a_signs, b, b_signs, u_rows, u_columns, w_rows, w_columns, length, bipolar, out
):
    """`plain_counts` of independent streams, added to `out`; words are those of a range of k."""
    for m in range(out.shape[0]):
        for n in range(out.shape[1]):
            total = 0
            for k in range(a.shape[1]):
                x, y, j = a[m, k], b[n, k], k * length
                c = 0
                for t in range(j, j + length):
                    p = np.uint64(_mix(u_rows[m, t] ^ u_columns[n, t])) < x
                    q = np.uint64(_mix(w_rows[m, t] ^ w_columns[n, t])) < y
                    c += (p == q) if bipolar else (p & q)
                total += 2 * c - length if bipolar else a_signs[m, k] * b_signs[n, k] * c
            out[m, n] += total


def counts(
    a: Streams, b: Streams, keys: NDArray[np.uint64], length: int, bipolar: bool, independent: bool
) -> NDArray[np.int64]:
    """Sums of signed counts, int64 (M, N).

    Args:
        a, b: streams (M, K) of A, and (N, K) of B, transposed.
        keys: of the four sites.
    """
    rows, depth = a.thresholds.shape
    columns = b.thresholds.shape[0]
    out = np.zeros((rows, columns), np.int64)
    if not independent:
        packed = []
        for side, key in ((a, keys[0]), (b, keys[2])):
            words = np.empty((*side.thresholds.shape, -(-length // 64)), np.uint64)
            pack_streams(side.thresholds, key, length, words)
            packed.append(words)
        shared_counts(packed[0], a.signs, packed[1], b.signs, length, bipolar, out)
        return out
    step = max(1, _BITS // (length * max(rows + columns, 1)))
    for k in range(0, depth, step):
        part = slice(k, min(k + step, depth))
        size = (part.stop - part.start) * length
        drawn = []
        for number, key in enumerate(keys):
            words = np.empty((columns if number % 2 else rows, size), np.uint32)
            fill_stream_words(key, k * length, words)
            drawn.append(words)
        u_rows, u_columns, w_rows, w_columns = drawn
        independent_counts(
            np.ascontiguousarray(a.thresholds[:, part]), np.ascontiguousarray(a.signs[:, part]),
            np.ascontiguousarray(b.thresholds[:, part]), np.ascontiguousarray(b.signs[:, part]),
            u_rows, u_columns, w_rows, w_columns, length, bipolar, out,
        )  # fmt: skip
    return out
