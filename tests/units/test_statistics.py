"""The random source, statistically. Bounds are derived, and so is the rate of false alarms.

Every statistic below is a mean of n independent numbers in an interval of width w under the hypothesis
that words are uniform and, where the source promises it, independent. Hoeffding: it is off its
expectation by more than w·sqrt(ln(2/α)/(2n)) with a probability of at most α. With `STATISTICS` of them in
all (the tests count them) and α = `FALSE_ALARM` / `STATISTICS` each, a perfect source would fail this file
with a probability of at most `FALSE_ALARM`. Seeds are fixed, so the verdict is the same every time.

The words of `row-column` are pairwise independent, not more; its samples are taken where they share no
row and no column word, so that they are independent there too.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from hfp8sim.formats import get_format
from hfp8sim.formats.codec import encode
from hfp8sim.ops import gemm
from hfp8sim.ops.conversions import conversion_bits
from hfp8sim.units import get_profile
from hfp8sim.units import random as source

FALSE_ALARM = 1e-9
STATISTICS = 4000


def bound(n: int, width: float = 1.0) -> float:
    """Hoeffding's, for the mean of n independent numbers in an interval of that width."""
    return width * math.sqrt(math.log(2 * STATISTICS / FALSE_ALARM) / (2 * n))


class Count:
    """How many statistics were looked at."""

    looked_at = 0


def mean_is(values: np.ndarray, expected: float, width: float = 1.0, axis: int = 0) -> None:
    means = values.mean(axis=axis)
    Count.looked_at += means.size
    assert np.abs(means - expected).max() < bound(values.shape[axis], width), means


def words(site: int, i, j, seed: int = 1, stream: int = 0) -> np.ndarray:
    """word(key(seed, stream, site), i, j) for arrays i, j."""
    key = np.uint64(source.key(np.uint64(seed), np.uint64(stream), np.uint64(site)))
    i, j = np.broadcast_arrays(np.asarray(i, np.uint64), np.asarray(j, np.uint64))
    with np.errstate(over="ignore"):
        z = key + np.uint64(0x9E3779B97F4A7C15) * ((i << np.uint64(32)) + j + np.uint64(1))
        z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return ((z ^ z >> np.uint64(31)) >> np.uint64(32)).astype(np.uint32)


def mix32(x: np.ndarray) -> np.ndarray:
    x = (x ^ x >> np.uint32(16)) * np.uint32(0x7FEB352D)
    x = (x ^ x >> np.uint32(15)) * np.uint32(0x846CA68B)
    return x ^ x >> np.uint32(16)


def drawn(kind: str, m, n, k, seed: int = 1, stream: int = 0) -> np.ndarray:
    """The words of outputs (m, n) at k."""
    row = words(source.ACCUMULATE_ROW, m, k, seed, stream)
    w = row ^ words(source.ACCUMULATE_COLUMN, n, k, seed, stream)
    return mix32(w) if kind == "counter" else w


N = 1 << 18
I = np.arange(N)  # noqa: E741


def test_words_match_emulator() -> None:
    for i, j in ((0, 0), (5, 9), (2**31, 2**32 - 1)):
        key = np.uint64(source.key(np.uint64(1), np.uint64(0), np.uint64(2)))
        assert int(words(2, i, j)) == int(source.word(key, i, j))
        assert int(mix32(words(2, [i], j))[0]) == int(source.mix32(np.uint64(words(2, i, j))))


@pytest.mark.parametrize("kind", ["row-column", "counter"])
def test_rounding_bias(kind: str) -> None:
    """A number ν = j/2^8 of the way up goes up in a share ν of the roundings, for all 256 residues."""
    R = drawn(kind, I, I, 3) >> np.uint32(24)
    up = R[:, None] + np.arange(256)[None, :] >= 256
    mean_is(up - np.arange(256) / 256, 0.0)


@pytest.mark.parametrize("kind", ["row-column", "counter"])
def test_bit_balance(kind: str) -> None:
    bits = drawn(kind, I, I, 7)[:, None] >> np.arange(32, dtype=np.uint32) & np.uint32(1)
    mean_is(bits, 0.5)


#: Pairs of words that a correlation could hide in; the samples of a pair share no row and no column.
NEIGHBOURS = {
    "along m": lambda kind: (drawn(kind, 2 * I, I, 5), drawn(kind, 2 * I + 1, I + N, 5)),
    "along m, same n": lambda kind: (drawn(kind, 2 * I, I, 5), drawn(kind, 2 * I + 1, I, 5)),
    "along n, same m": lambda kind: (drawn(kind, I, 2 * I, 5), drawn(kind, I, 2 * I + 1, 5)),
    "along k": lambda kind: (drawn(kind, I, I, 5), drawn(kind, I, I, 6)),
    "along k, 64 apart": lambda kind: (drawn(kind, I, I, 5), drawn(kind, I, I, 69)),
    "m and k exchanged": lambda kind: (drawn(kind, I, I, 5), drawn(kind, np.full(N, 5), I, I + 6)),
    "streams": lambda kind: (drawn(kind, I, I, 5), drawn(kind, I, I, 5, stream=1)),
    "seeds": lambda kind: (drawn(kind, I, I, 5), drawn(kind, I, I, 5, seed=2)),
    "seed and stream exchanged": lambda kind: (
        drawn(kind, I, I, 5, seed=3, stream=4), drawn(kind, I, I, 5, seed=4, stream=3)
    ),
    "sites": lambda kind: (words(0, I, 5), words(2, I, 5)),
    "row and column": lambda kind: (words(0, I, 5), words(1, I, 5)),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["row-column", "counter"])
@pytest.mark.parametrize("pair", NEIGHBOURS)
def test_adjacent_outputs_uncorrelated(pair: str, kind: str) -> None:
    """Linear correlation, and agreement of every two equal bits."""
    x, y = NEIGHBOURS[pair](kind)
    u, v = (w / 2.0**32 - 0.5 for w in (x, y))
    mean_is(u * v, 0.0, width=0.5)
    agree = (x ^ y)[:, None] >> np.arange(32, dtype=np.uint32) & np.uint32(1)
    mean_is(agree, 0.5)


def test_words_at_the_corners_of_a_rectangle() -> None:
    """What numerics.md warns of: with `row-column` the corners of a rectangle xor to zero; `counter`
    has no such law."""
    m, n = I[: 1 << 10], I[1 << 10 : 1 << 11]
    for kind, zero in (("row-column", True), ("counter", False)):
        corners = drawn(kind, m, n, 3) ^ drawn(kind, m, n + 1, 3)
        corners ^= drawn(kind, m + 1, n, 3) ^ drawn(kind, m + 1, n + 1, 3)
        assert (corners == 0).all() == zero


def test_lane_registers() -> None:
    """The look-alike imitates a register that shifts by one: each word holds 31 bits of the last one, so
    neighbours in time correlate by 1/2. In the long run, and from lane to lane, it is fair."""
    row = np.uint64(source.key(np.uint64(1), np.uint64(0), np.uint64(source.ACCUMULATE_ROW)))
    starts = np.array(
        [source.lfsr_start(row, m, n) for m in range(64) for n in range(64)], np.uint64
    )
    first = np.array([source.lfsr_step(x) for x in starts], np.uint64)
    second = np.array([source.lfsr_step(x) for x in first], np.uint64)
    u, v = (x / 2.0**32 - 0.5 for x in (first, second))
    mean_is(12 * u * v, 0.5, width=6.0)
    mean_is(u, 0.0)
    mean_is(u.reshape(-1, 2)[:, 0] * u.reshape(-1, 2)[:, 1], 0.0, width=0.5)  # lanes of one row


def test_conversions() -> None:
    """Elements of a tensor: fair for every residue, uncorrelated from one to the next."""
    R = conversion_bits((N,), 8, seed=5, stream=6)
    mean_is((R[:, None] + np.arange(256)[None, :] >= 256) - np.arange(256) / 256, 0.0)
    u = R / 256.0 - 127.5 / 256
    mean_is(u[::2] * u[1::2], 0.0, width=0.5)
    x = np.full(N, 1 + 3 / 64)
    codes, _ = encode(x, get_format("e4m3fn"), "stochastic-a", "saturate", R, 8)
    mean_is(get_format("e4m3fn").decode(codes) - x, 0.0, width=1 / 8)


@pytest.mark.parametrize("kind", source.SOURCES)
@pytest.mark.parametrize("mode", ["stochastic-a", "stochastic-b", "stochastic-c"])
def test_unbiased_sums(kind: str, mode: str) -> None:
    """600 terms of 0.3 in 1-6-9, rounded stochastically after each, over 4096 seeds.

    The error is a martingale but for the r-bit words: a rounding of mode A is low by at most 2^−r of an
    ulp on average, one of B or C off by half of that. A sum below 256 has an ulp of at most 1/4, so its
    error lies in ±600/4, by Azuma mostly within a far smaller interval; the bound used is Hoeffding's
    over the seeds with that smaller interval, and twice as many false alarms.
    """
    fmt, terms, seeds, r = get_format("dlfloat16"), 600, 512, 13
    profile = get_profile("fp16").replace(
        rounding=mode, chunk_length=0, random_source=kind, random_bits=r
    )
    x = np.full((1, terms), fmt.encode(0.3), np.uint16)
    ones = np.full((terms, 1), fmt.encode(1.0), np.uint16)
    exact = terms * float(fmt.decode(x)[0, 0])
    ulp = 0.25
    sums = np.array(
        [fmt.decode(gemm(x, ones, profile, seed=s, threads=1))[0, 0] for s in range(seeds)]
    )
    # Azuma: one sum is off by more than this with a probability below FALSE_ALARM/(2·STATISTICS·seeds).
    reach = ulp * math.sqrt(2 * terms * math.log(4 * STATISTICS * seeds / FALSE_ALARM))
    assert np.abs(sums - exact).max() < reach + terms * ulp * 2.0**-r
    if kind == "lfsr":
        return  # correlated in time by design: no martingale
    error = (sums - exact).mean()
    Count.looked_at += 1
    low, high = (1, 0) if mode == "stochastic-a" else (0.5, 0.5)
    margin = bound(seeds, 2 * reach)
    assert -low * terms * ulp * 2.0**-r - margin < error < high * terms * ulp * 2.0**-r + margin


def test_statistics_are_at_most_as_many_as_declared() -> None:
    assert Count.looked_at <= STATISTICS


def test_bad_source_fails() -> None:
    """A bit stuck one time in forty, a correlation of a tenth: found."""
    R = drawn("counter", I, I, 3) >> np.uint32(24)
    stuck = np.where(I % 40 == 0, R | 1, R)
    with pytest.raises(AssertionError):
        mean_is((stuck & 1)[:, None], 0.5)
    u = R / 256.0 - 0.5
    with pytest.raises(AssertionError):
        mean_is(u * (0.1 * u + 0.9 * np.roll(u, 1)), 0.0, width=0.5)
