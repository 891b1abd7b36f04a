"""Random words as pure functions of what is rounded (docs/numerics.md, section 4).

The generators are counter-based, so tiles, threads and the order of work cannot change a bit. One source imitates
the LFSRs of hardware lanes. A word has 32 bits; a rounding with r random bits uses its top r bits.
"""

from __future__ import annotations

import numpy as np

from hfp8sim._numba.jit import jit

# Sites: the rounding that a word is for.
ACCUMULATE_ROW, ACCUMULATE_COLUMN = 0, 1  #: the accumulator, intra-chunk
BETWEEN_ROW, BETWEEN_COLUMN = 2, 3  #: the running total of chunks, inter-chunk
CONVERT = 4  #: a conversion; the operands of products
# `hfp8sim.units.sites` numbers the other sites of a training step, from 5 on.

#: Public names of the random sources of a GEMM; a name's index is its number.
SOURCES = ("row-column", "counter", "lfsr")
ROW_COLUMN, COUNTER, LFSR = 0, 1, 2
#: Rows and columns of lanes of the machine whose LFSRs are imitated.
LFSR_ROWS, LFSR_COLUMNS = 8, 64

#: Constants of SplitMix64 (Steele, Lea, Flood 2014): increment and multipliers.
GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)
SPLITMIX_1 = np.uint64(0xBF58476D1CE4E5B9)
SPLITMIX_2 = np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31, _S32 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32)
_ONE, _LOW32 = np.uint64(1), np.uint64(0xFFFFFFFF)
#: Multipliers of the 32-bit finaliser lowbias32 (Wellons 2018).
LOWBIAS_1, LOWBIAS_2 = np.uint64(0x7FEB352D), np.uint64(0x846CA68B)
_S15, _S16 = np.uint64(15), np.uint64(16)
#: Feedback mask of the Galois LFSR.
_GALOIS = np.uint64(0x80200003)


@jit
def mix64(z):
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection of uint64."""
    z = (z ^ (z >> _S30)) * SPLITMIX_1
    z = (z ^ (z >> _S27)) * SPLITMIX_2
    return z ^ (z >> _S31)


@jit
def mix32(x):
    """Wellons' lowbias32: a bijection of 32-bit words, held in uint64."""
    x = ((x ^ (x >> _S16)) * LOWBIAS_1) & _LOW32
    x = ((x ^ (x >> _S15)) * LOWBIAS_2) & _LOW32
    return x ^ (x >> _S16)


@jit
def absorb(h, x):
    """One step of the key schedule, both uint64."""
    return mix64((h ^ x) + GOLDEN_GAMMA)


@jit
def key(seed, stream, site):
    """The 64-bit key of one (seed, stream, site); seed and stream are any integers mod 2^64."""
    h = absorb(np.uint64(0), np.uint64(seed))
    return absorb(absorb(h, np.uint64(stream)), np.uint64(site))


@jit
def step_stream(step, tensor):
    """The random stream of a tensor's sites in a training step; both are any integers mod 2^64."""
    return absorb(absorb(np.uint64(0), np.uint64(step)), np.uint64(tensor))


@jit
def word(key, i, j):
    """The 32-bit word of a key at 0 ≤ i, j < 2^32, as uint64."""
    counter = (np.uint64(i) << _S32) + np.uint64(j) + _ONE
    return mix64(key + GOLDEN_GAMMA * counter) >> _S32


@jit
def lfsr_step(x):
    """One step of the 32-bit Galois register x^32 + x^22 + x^2 + x + 1, held in uint64."""
    return (x >> _ONE) ^ (_GALOIS if x & _ONE else np.uint64(0))


@jit
def lfsr_start(row_key, m, n):
    """The LFSR of the lane that computes output (m, n), before its first rounding."""
    lane = (m % LFSR_ROWS) * LFSR_COLUMNS + n % LFSR_COLUMNS
    block = (m // LFSR_ROWS) * 65536 + n // LFSR_COLUMNS
    start = word(row_key, block, lane)
    return start if start else _ONE  # a register of zeros never leaves zero


@jit
def fill_words(key, start, words):
    """Fill `words` (uint32) with the words of elements start, start + 1, … of a conversion."""
    for t in range(words.size):
        index = np.uint64(start) + np.uint64(t)
        words[t] = word(key, index >> _S32, index & _LOW32)
