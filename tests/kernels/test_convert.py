"""The fast converter against the integer path, bit for bit, counts included."""

from __future__ import annotations

import numpy as np
import pytest

from hfp8sim.errors import InputError
from hfp8sim.formats import FloatFormat, formats, get_format
from hfp8sim.formats.codec import encode
from hfp8sim.formats.rounding import OVERFLOWED, UNDERFLOWED
from hfp8sim.kernels.convert import convert_float32, rounder
from hfp8sim.ops.conversions import conversion_bits, convert
from hfp8sim.units.random import CONVERT, key, word

MODES = ("nearest-even", "nearest-away", "toward-zero", "stochastic")
#: What any test of "all 8-bit formats" means; of the rest some are covered too.
EIGHT_BITS = [n for n in formats() if get_format(n).bits <= 8 and get_format(n).signed]


def boundaries(fmt: FloatFormat) -> np.ndarray:
    """float32 bits at, between and beside a format's numbers, and at powers of two and their neighbours."""
    table = fmt.decode(np.arange(1 << min(fmt.bits, 10), dtype=fmt.dtype))
    values = np.unique(np.abs(table[np.isfinite(table)]))
    tiny, largest = fmt.min_positive, fmt.max
    values = np.concatenate(
        [
            values,
            (values[1:] + values[:-1]) / 2,
            tiny * np.linspace(0, 1.3, 80),
            largest * np.array([1, 1.02, 1.04, 1.0625, 1.13, 1.5, 4]),
        ]
    )
    bits = values.astype(np.float32).view(np.uint32).astype(np.int64)
    powers = np.arange(256, dtype=np.int64) << 23
    bits = np.concatenate([bits, powers])
    bits = np.concatenate([bits + d for d in (-2, -1, 0, 1, 2)])
    bits = bits[(bits >= 0) & (bits < 1 << 31)]
    return np.concatenate([bits, bits | 1 << 31]).astype(np.uint32)


def sample(fmt: FloatFormat, n: int = 1 << 16) -> np.ndarray:
    """float32 numbers: boundaries, a stride through all bit patterns, and random ones."""
    rng = np.random.default_rng(3)
    stride = np.arange(0, 1 << 32, (1 << 32) // n + 11, dtype=np.int64)
    bits = np.concatenate([boundaries(fmt), stride, rng.integers(0, 1 << 32, n)])
    x = bits.astype(np.uint32).view(np.float32)
    return x if fmt.has_nan else x[~np.isnan(x)]


def compare(x: np.ndarray, fmt: FloatFormat, mode: str, overflow: str, r: int = 13) -> None:
    parameters = rounder(fmt, mode, overflow, r)
    assert parameters is not None, (fmt.name, mode, overflow, r)
    random = None
    if mode == "stochastic":
        random = np.random.default_rng(5).integers(0, 1 << r, x.size).astype(np.uint32)
    with np.errstate(invalid="ignore"):  # widening a signalling NaN
        expected, flags = encode(x, fmt, mode, overflow, random, r)
    result = convert_float32(x, parameters, fmt.dtype, random)
    wrong = np.flatnonzero(result.codes != expected)
    what = f"{fmt.name} {mode} {overflow}"
    assert not wrong.size, (what, x[wrong[0]], result.codes[wrong[0]], expected[wrong[0]])
    assert result.overflows == np.count_nonzero(flags & OVERFLOWED), what
    assert result.underflows == np.count_nonzero(flags & UNDERFLOWED), what
    assert result.nan == np.count_nonzero(np.isnan(x))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", EIGHT_BITS)
def test_every_8_bit_format(name: str, mode: str) -> None:
    fmt = get_format(name)
    x = sample(fmt)
    for overflow in ("saturate", "special"):
        if overflow == "saturate" or fmt.has_nan or fmt.has_inf:
            compare(x, fmt, mode, overflow)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["dlfloat16", "ieee-169", "binary16", "fp9-153", "hfp8-143@0"])
def test_wider_formats(name: str, mode: str) -> None:
    fmt = get_format(name)
    compare(sample(fmt), fmt, mode, "saturate")


@pytest.mark.parametrize("r", [1, 2, 8, 18, 20, 24])
@pytest.mark.parametrize("name", ["e4m3fn", "e5m2", "hfp8-143", "hfp8-152"])
def test_random_bits(name: str, r: int) -> None:
    fmt = get_format(name)
    if rounder(fmt, "stochastic", "saturate", r) is None:
        assert (
            r > 18 and fmt.lowest == "normal"
        )  # its smallest number times R needs more than 24 bits
        return
    compare(sample(fmt, 1 << 14), fmt, "stochastic", "saturate", r)


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 1023, 1024, 1025, 3000])
def test_sizes_and_random_words(size: int) -> None:
    """`convert` draws the words of docs/numerics.md; from float64 the same."""
    rng = np.random.default_rng(size)
    x = (rng.standard_normal((size, 3)) * 4).astype(np.float32)
    for mode in MODES:
        fast, counts = convert(x, "hfp8-143", mode, seed=6, stream=2)
        wide, wide_counts = convert(x.astype(np.float64), "hfp8-143", mode, seed=6, stream=2)
        random = conversion_bits(x.shape, 13, 6, 2) if mode == "stochastic" else None
        slow, flags = encode(x, get_format("hfp8-143"), mode, "saturate", random, 13)
        np.testing.assert_array_equal(fast, slow)
        np.testing.assert_array_equal(wide, slow)
        assert counts == wide_counts
        assert counts["saturated"] == np.count_nonzero(flags & OVERFLOWED)
        assert counts["underflowed"] == np.count_nonzero(flags & UNDERFLOWED)
        assert fast.dtype == slow.dtype and fast.shape == x.shape
    if size == 17:
        site = key(np.uint64(6), np.uint64(2), np.uint64(CONVERT))
        random = [word(site, 0, t) >> 19 for t in range(x.size)]
        expected = encode(
            x, get_format("hfp8-143"), "stochastic", "saturate", np.reshape(random, x.shape), 13
        )
        np.testing.assert_array_equal(
            convert(x, "hfp8-143", "stochastic", seed=6, stream=2)[0], expected[0]
        )


def test_layouts() -> None:
    x = np.random.default_rng(0).standard_normal((40, 30)).astype(np.float32)
    expected, _ = convert(x, "e5m2")
    np.testing.assert_array_equal(convert(np.asfortranarray(x), "e5m2")[0], expected)
    np.testing.assert_array_equal(convert(x[::2, ::3], "e5m2")[0], expected[::2, ::3])
    np.testing.assert_array_equal(convert(x[0, 0], "e5m2")[0], expected[0, 0])


def test_nan_into_a_format_without_one_is_named() -> None:
    x = np.ones((3, 20), np.float32)
    x[1, 7] = np.nan
    with pytest.raises(InputError, match=r"NaN at \[1, 7\]"):
        convert(x, "hfp8-143")
    assert convert(x, "hfp8-143-hw")[0][1, 7] == 0x7F


@pytest.mark.parametrize("fmt, mode, overflow", [
    ("e8m0", "nearest-even", "saturate"), ("e4m3fn", "to-odd", "saturate"),
    ("e4m3fn", "toward-positive", "saturate"), ("e4m3fn", "nearest-even", "error"),
    ("bfloat16", "nearest-even", "saturate"), ("e4m3fn", "stochastic-b", "saturate"),
])  # fmt: skip
def test_unsupported_conversions_have_no_vector_code(fmt: str, mode: str, overflow: str) -> None:
    assert rounder(get_format(fmt), mode, overflow, 13) is None


@pytest.mark.exhaustive
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["e4m3fn", "e5m2", "hfp8-143", "hfp8-152-hw"])
def test_every_float32_that_rounding_can_tell_apart(name: str, mode: str) -> None:
    """Three kept bits and thirteen random ones: of the other seven only matters whether they are zero.
    (`hfp8sim verify --exhaustive` tries all 2^32.)"""
    fmt = get_format(name)
    heads = np.arange(1 << 25, dtype=np.uint32) << np.uint32(7)
    for rest in (0, 1, 0x7F):
        for part in np.split(heads | np.uint32(rest), 8):
            x = part.view(np.float32)
            compare(x if fmt.has_nan else x[~np.isnan(x)], fmt, mode, "saturate")
