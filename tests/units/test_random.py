"""The random source: Numba, C and the oracle draw the same words."""

from __future__ import annotations

import numpy as np
import pytest

from hfp8sim.formats import get_format
from hfp8sim.formats.codec import encode
from hfp8sim.ops.conversions import conversion_bits, convert
from hfp8sim.units import random
from hfp8sim.verify import c_reference as reference
from tests import oracle

rng = np.random.default_rng(1)
EDGES = [0, 1, 2, 2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 1]
NUMBERS = EDGES + [int(n) for n in rng.integers(0, 2**64, 200, np.uint64)]


def test_mixers() -> None:
    _, lib = reference.library()
    for z in NUMBERS:
        assert int(random.mix64(np.uint64(z))) == oracle.mix64(z) == lib.ref_mix64(z)
        x = z % 2**32
        assert int(random.mix32(np.uint64(x))) == oracle.mix32(x) == lib.ref_mix32(x)


def test_known_words() -> None:
    """Written down once, so that the source cannot drift in all three places together."""
    # The first output of SplitMix64 with seed 0, as its authors print it.
    assert int(random.mix64(np.uint64(0x9E3779B97F4A7C15))) == 0xE220A8397B1DCDAF
    assert int(random.mix32(np.uint64(1))) == 0x688990C0
    assert int(random.key(np.uint64(0), np.uint64(0), np.uint64(0))) == 0x238275BC38FCBE91
    key = np.uint64(random.key(np.uint64(1), np.uint64(2), np.uint64(3)))
    assert int(random.word(key, 4, 5)) == 0xA1993E8E
    row = np.uint64(random.key(np.uint64(0), np.uint64(0), np.uint64(random.ACCUMULATE_ROW)))
    assert int(random.lfsr_start(row, 0, 0)) == 0x2130748A


def test_keys_and_words() -> None:
    _, lib = reference.library()
    for seed, stream in zip(NUMBERS, reversed(NUMBERS)):
        for site in range(6):
            expected = oracle.key(seed, stream, site)
            key = np.uint64(random.key(np.uint64(seed), np.uint64(stream), np.uint64(site)))
            assert int(key) == expected == lib.ref_key(seed, stream, site)
            i, j = seed % 2**32, stream % 2**32
            assert (
                int(random.word(key, i, j))
                == oracle.word(expected, i, j)
                == lib.ref_word(expected, i, j)
            )


def test_lane_registers() -> None:
    _, lib = reference.library()
    for m in (0, 1, 7, 8, 9, 1000):
        for n in (0, 63, 64, 65, 4097):
            key = np.uint64(
                random.key(np.uint64(5), np.uint64(6), np.uint64(random.ACCUMULATE_ROW))
            )
            x, lane = random.lfsr_start(key, m, n), oracle.Lane(5, 6, m, n)
            assert int(x) == lane.x == lib.ref_lfsr_start(5, 6, m, n)
            for _ in range(40):
                x = random.lfsr_step(np.uint64(x))
                before = lane.x
                assert int(x) == lane.step() == lib.ref_lfsr_step(before)


def test_lane_register_period() -> None:
    """x^32 + x^22 + x^2 + x + 1 is primitive: the register's step, as a matrix over GF(2), has order
    2^32 − 1 and none of that number's proper divisors (2^32 − 1)/p."""

    def multiply(x: list[int], y: list[int]) -> list[int]:
        out = []
        for row in x:
            total = 0
            for bit in range(32):
                if row >> bit & 1:
                    total ^= y[bit]
            out.append(total)
        return out

    def to_the(exponent: int) -> list[int]:
        result, base = identity, step
        while exponent:
            if exponent & 1:
                result = multiply(result, base)
            base = multiply(base, base)
            exponent >>= 1
        return result

    identity = [1 << bit for bit in range(32)]
    # Row b: what bit b of a register contributes to the next one.
    step = [int(random.lfsr_step(np.uint64(1 << bit))) for bit in range(32)]
    period = 2**32 - 1
    assert to_the(period) == identity
    for prime in (3, 5, 17, 257, 65537):
        assert period % prime == 0
        assert to_the(period // prime) != identity


@pytest.mark.parametrize("r", [1, 13, 24])
def test_conversion_words(r: int) -> None:
    bits = conversion_bits((3, 50), r, seed=7, stream=8)
    assert bits.shape == (3, 50)
    expected = [oracle.conversion_random(7, 8, t, r) for t in range(150)]
    np.testing.assert_array_equal(bits.ravel(), expected)
    ffi, lib = reference.library()
    out = np.empty(150, np.uint32)
    lib.ref_convert_random(7, 8, r, 0, 150, ffi.cast("uint32_t *", out.ctypes.data))
    np.testing.assert_array_equal(out, expected)


def test_convert() -> None:
    x = np.random.default_rng(2).standard_normal((40, 30)).astype(np.float32) / 500
    fmt = get_format("hfp8-143")
    codes, counts = convert(x, fmt, "stochastic-b", bits=9, seed=3, stream=4)
    expected, flags = encode(
        x, fmt, "stochastic-b", "saturate", conversion_bits(x.shape, 9, 3, 4), 9
    )
    np.testing.assert_array_equal(codes, expected)
    assert counts["underflowed"] == np.count_nonzero(flags & 4) > 0
    again, _ = convert(x, fmt, "stochastic-b", bits=9, seed=3, stream=4)
    np.testing.assert_array_equal(codes, again)
    other, _ = convert(x, fmt, "stochastic-b", bits=9, seed=4, stream=4)
    assert (codes != other).any()


def test_element_numbers_beyond_32_bits() -> None:
    key = np.uint64(random.key(np.uint64(1), np.uint64(2), np.uint64(random.CONVERT)))
    words = np.empty(6, np.uint32)
    random.fill_words(key, 2**32 - 3, words)
    expected = [oracle.word(int(key), t >> 32, t % 2**32) for t in range(2**32 - 3, 2**32 + 3)]
    np.testing.assert_array_equal(words, expected)
