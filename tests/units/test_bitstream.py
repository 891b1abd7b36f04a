"""Stochastic bitstreams: plain loop, packed kernel and C give the same counts; the exact law; 3 dB per doubling."""

import numpy as np
import pytest

import hfp8sim as hs
from hfp8sim import InputError
from hfp8sim.kernels import bitstream as kernel
from hfp8sim.units import bitstream as unit
from hfp8sim.verify import c_reference as reference

FIXED = hs.get_format("fixed1.8")
PROFILE = hs.get_profile("bitstream")
WAYS = [(m, s) for m in ("unipolar", "bipolar") for s in ("shared", "independent")]


def codes(shape, seed=0):
    rng = np.random.default_rng(seed)
    return FIXED.encode(rng.uniform(-1, 1, shape))


def law(values, scale, length):
    """Empirical mean and variance of c/L."""
    return np.mean(values) * scale / length, np.var(values) * (scale / length) ** 2


@pytest.mark.parametrize(("multiplier", "streams"), WAYS)
@pytest.mark.parametrize("length", [1, 16, 64, 256])
def test_plain_packed_and_c_counts_agree(multiplier, streams, length):
    profile = PROFILE.replace(multiplier=multiplier, streams=streams, stream_length=length)
    a, b = codes((5, 7)), codes((7, 4), 1)
    bipolar, independent = multiplier == "bipolar", streams == "independent"
    left, right = unit.streams(a, FIXED, bipolar, "a"), unit.streams(b.T, FIXED, bipolar, "b")
    keys = unit.stream_keys_of(3, 9)
    plain = np.zeros((5, 4), np.int64)
    unit.plain_counts(*left, *right, keys, length, bipolar, independent, plain)
    fast = kernel.counts(left, right, keys, length, bipolar, independent)
    np.testing.assert_array_equal(fast, plain)
    c = reference.bitstream_counts(a, b, profile, FIXED, FIXED, 3, 9)
    np.testing.assert_array_equal(c, plain)
    result = hs.gemm(a, b, profile, seed=3, stream=9, out_dtype="float64")
    np.testing.assert_array_equal(result, plain / length)


def test_ranges_of_k_change_no_count(monkeypatch):
    left, right = (unit.streams(codes((3, 11), s), FIXED, False, "a") for s in (0, 1))
    keys = unit.stream_keys_of(1, 2)
    whole = kernel.counts(left, right, keys, 32, False, True)
    monkeypatch.setattr(kernel, "_BITS", 32 * 6 * 2)
    np.testing.assert_array_equal(kernel.counts(left, right, keys, 32, False, True), whole)


@pytest.mark.parametrize("streams", ["shared", "independent"])
@pytest.mark.parametrize("multiplier", ["unipolar", "bipolar"])
def test_counts_follow_the_exact_law(multiplier, streams):
    """a = b = 1/2, L = 64: mean 1/4; variance 0.0029297, bipolar 0.0146484. A count is a sum of independent bits."""
    mean, variance = unit.product_law(0.5, 0.5, 64, bipolar=multiplier == "bipolar")
    assert (mean, round(variance, 7)) == (0.25, 0.0146484 if multiplier == "bipolar" else 0.0029297)
    profile = PROFILE.replace(multiplier=multiplier, streams=streams, stream_length=64)
    a = np.full((1, 1), FIXED.encode(0.5), FIXED.dtype)
    draws = np.array([
        float(hs.gemm(a, a, profile, seed=seed, out_dtype="float64")[0, 0]) for seed in range(4000)
    ])  # fmt: skip
    error = np.sqrt(variance / draws.size)
    assert abs(draws.mean() - mean) < 4 * error
    assert draws.var() == pytest.approx(variance, rel=0.1)


def test_zero_and_one_multiply_exactly_in_unipolar_streams():
    fmt = hs.get_format("binary16")
    values = np.array([[0.0, 1.0, -1.0, 0.375]])
    a, b = fmt.encode(values.T), fmt.encode(np.array([[0.0, 1.0, -1.0]]))
    y = hs.gemm(a[1:3], b, PROFILE, a_format=fmt, b_format=fmt, out_dtype="float64")
    np.testing.assert_array_equal(y, [[0, 1, -1], [0, -1, 1]])
    assert not hs.gemm(a, b[:, :1], PROFILE, a_format=fmt, b_format=fmt, out_dtype="float64").any()


@pytest.mark.parametrize(("multiplier", "streams"), WAYS)
def test_sqnr_rises_3_db_with_each_doubling(multiplier, streams):
    a, b = codes((24, 32)), codes((32, 24), 1)
    exact = FIXED.decode(a) @ FIXED.decode(b)
    sqnr = []
    for length in (16, 64, 256, 1024):
        profile = PROFILE.replace(multiplier=multiplier, streams=streams, stream_length=length)
        y = np.stack([hs.gemm(a, b, profile, seed=s, out_dtype="float64") for s in range(4)])
        sqnr.append(10 * np.log10(np.square(exact).mean() / np.square(y - exact).mean()))
    slopes = np.diff(sqnr) / 2  # two doublings each
    assert np.abs(slopes - 3.01).max() < 0.6
    assert np.mean(slopes) == pytest.approx(3.01, abs=0.2)


def test_shared_streams_correlate_products_of_a_row():
    """All products of an element of A share its stream: equal columns of B with one stream's words would be equal."""
    a, b = codes((1, 1)), codes((1, 2), 5)
    b[0, 1] = b[0, 0]
    results = {}
    for streams in unit.STREAMS:
        profile = PROFILE.replace(streams=streams, stream_length=16)
        y = np.array([hs.gemm(a, b, profile, seed=s, out_dtype="float64")[0] for s in range(2000)])
        results[streams] = np.corrcoef(y.T)[0, 1]
    assert results["shared"] > 0.15
    assert abs(results["independent"]) < 0.08


def test_stacks_draw_words_of_their_own():
    a, b = codes((2, 3, 8)), codes((2, 8, 3), 1)
    y = hs.batched(a, b, PROFILE, seed=1, stream=5)
    for g in range(2):
        np.testing.assert_array_equal(y[g], hs.gemm(a[g], b[g], PROFILE, seed=1, stream=5 + g))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"multiplier": "xor"}, "unknown multiplier 'xor'"),
        ({"streams": "own"}, "unknown kind of bit streams 'own'"),
        ({"stream_length": 48}, "stream_length is 48, must be a power of two"),
        ({"stream_length": 0}, "stream_length is 0, must be a power of two"),
        ({"multiplier": "exact"}, "stream_length needs multiplier="),
        ({"chunk_length": 64}, "products_per_step and chunk_length must be 0"),
        ({"rounding": "stochastic"}, "cannot be rounded stochastically"),
    ],
)
def test_profiles_that_cannot_be_are_refused(changes, text):
    with pytest.raises(InputError, match=text):
        PROFILE.replace(**changes)


def test_operands_that_no_stream_carries_are_refused():
    fmt = hs.get_format("binary32")
    one = fmt.encode(np.ones((1, 1)))
    for value, text in (
        (1.5, "operand a holds 1.5"),
        (2.0**-33, "operand a of format binary32 has"),
    ):
        x = fmt.encode(np.full((1, 1), value))
        with pytest.raises(InputError, match=text):
            hs.gemm(x, one, PROFILE, a_format=fmt, b_format=fmt)
        with pytest.raises(InputError, match="beyond ±1, or finer"):
            reference.bitstream_counts(x, one, PROFILE, fmt, fmt)
    with pytest.raises(InputError, match="convolutions take exact products"):
        hs.conv_fwd(
            FIXED.encode(np.zeros((1, 4, 4, 1))),
            FIXED.encode(np.zeros((1, 3, 3, 1))),
            profile=PROFILE,
        )
    with pytest.raises(InputError, match="a machine multiplies exactly"):
        hs.simulate("digits-cnn", profile=PROFILE)
    assert "bit streams are counted" in str(hs.explain(codes((2, 2)), codes((2, 2)), PROFILE))
