"""AdaComp and ScaleCom: golden values, packets, error feedback, states that swamp."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfp8sim import InputError
from hfp8sim.ops import compressors as c
from hfp8sim.systems import wire
from hfp8sim.units.sites import BINARY32, Site

R = np.array([0.25, 0.5, 0, -0.5, -1, 0.25, 0, 0.5], np.float32)
D = np.array([0.5, -0.25, 0.125, 1, -0.5, 0, 0.25, -0.75], np.float32)
HALF = Site()  # 1-6-9


@pytest.mark.parametrize("site", [BINARY32, HALF], ids=["binary32", "1-6-9"])
def test_adacomp_golden_values(site):
    """Index 3 is no bin's largest (0.5 < 0.75); the soft threshold sends it. All numbers are exact in 1-6-9."""
    packet, rest = c.adacomp(R, D, bin_length=4, site=site)
    assert packet.scale == 1.125
    assert packet.indices.tolist() == [0, 3, 4]
    assert packet.values.tolist() == [1.125, 0, 0, 1.125, -1.125, 0, 0, 0]
    assert rest.tolist() == [-0.375, 0.25, 0.125, -0.625, -0.375, 0.25, 0.25, -0.25]
    assert len(packet.pack()) == 4 + 3
    assert packet.compression == pytest.approx(256 / 56)
    np.testing.assert_array_equal(packet.values + rest, R + D)
    hard, _ = c.adacomp(R, D, bin_length=4, soft=1.0)
    assert hard.indices.tolist() == [0, 4]


@pytest.mark.parametrize(("length", "rate"), [(50, 40.0), (500, 200.0)])
def test_five_elements_in_a_bin_give_the_headline_rates(length, rate):
    bins = 400
    indices = (np.arange(bins)[:, None] * length + np.arange(5)).reshape(-1)
    packet = c.Packet(bins * length, length, np.float32(1), indices, np.ones(5 * bins, np.int8))
    assert packet.compression == pytest.approx(rate, rel=3e-3)  # the scale's four bytes


@given(
    st.integers(1, 400), st.sampled_from([1, 2, 5, 50, 63, 64, 500]), st.integers(0, 99),
    st.floats(0, 1), st.sampled_from([BINARY32, HALF, Site("dlfloat16", "stochastic")]),
)  # fmt: skip
def test_packet_round_trip_and_error_feedback(size, length, seed, density, site):
    """Bytes decode to the same packet. Packet and residue add up to R + D, but for the site's rounding."""
    rng = np.random.default_rng(seed)
    r, d = (rng.standard_normal((2, size)) * (rng.random(size) < density)).astype(np.float32)
    r = np.float32(1) * c.add_memory(np.zeros_like(r), r, site)
    packet, rest = c.adacomp(r, d, bin_length=length, site=site)
    data = packet.pack()
    again = c.Packet.unpack(data, size, length)
    assert again.pack() == data
    np.testing.assert_array_equal(again.values, packet.values)
    lost = np.abs(packet.values.astype(np.float64) + rest - (r.astype(np.float64) + d))
    step = 2.0**-23 if site is BINARY32 else 2.0**-8
    assert (lost <= 4 * step * (np.abs(packet.values) + np.abs(rest) + 1e-9)).all()
    empty = -(-size // length) - np.unique(packet.indices // length).size
    width = c.symbol_bytes(length)
    most, least = packet.indices.size + empty, packet.indices.size + -(-empty // 4)
    assert 4 + width * least <= len(data) <= 4 + width * most


@pytest.mark.parametrize("data", [b"", b"12345", b"1234\xff\x00", b"1234" + b"\x02" * 9])
def test_damaged_packets_are_refused(data):
    with pytest.raises(InputError, match="are no packet of 100 elements in bins of 50"):
        c.Packet.unpack(data, 100, 50)


def test_bin_of_zeros_sends_nothing():
    d = np.zeros(12, np.float32)
    d[5] = 2
    packet, _ = c.adacomp(np.zeros_like(d), d, bin_length=4)
    assert packet.indices.tolist() == [5]
    assert len(packet.pack()) == 4 + 3  # two bins without elements, around one with


def test_residue_in_16_bits_swamps():
    """A gradient below half a unit of the residue's last place is lost in 1-6-9, and kept in binary32."""
    r, d = np.full(8, 4, np.float32), np.full(8, 2.0**-9, np.float32)
    r[0] = 64  # what is sent
    assert c.adacomp(r, d, bin_length=8, site=HALF)[0].swamped == 8
    packet, rest = c.adacomp(r, d, bin_length=8)
    assert packet.swamped == 0
    assert rest[1] == np.float32(4 + 2.0**-9)


def test_packets_add_in_order_of_learners():
    packets = [
        c.Packet(1, 1, np.float32(s), np.array([0]), np.array([1], np.int8))
        for s in (1, 2.0**-10, 2.0**-10)
    ]
    assert c.sum_of_packets(packets, HALF)[0] == 1 + 2 * 2.0**-9  # each tie goes away
    assert c.sum_of_packets(packets[::-1], HALF)[0] == 1 + 2.0**-9


X = [
    np.array([4, -1, 0, 2, 3, -5], np.float32),
    np.array([1, -2, 3, 0.5, 2.5, -4], np.float32),
]


def test_scalecom_golden_values():
    zeros = [np.zeros(6, np.float32)] * 2
    mean = (X[0] + X[1]) / 2
    assert c.top_k(mean, 2).tolist() == [4, 5]
    first = c.scalecom(zeros, X, 2, step=0)
    assert first.indices.tolist() == [0, 5]
    assert first.mean.tolist() == [2.5, 0, 0, 0, 0, -4.5]
    lost, bound = c.contraction(mean, first.indices)
    assert c.hamming_share(mean, first.indices) == 0.5
    assert (lost, bound) == (pytest.approx(0.339564, abs=1e-6), pytest.approx(0.653427, abs=1e-6))
    assert c.contraction(mean, c.top_k(mean, 2))[0] == pytest.approx(0.306854, abs=1e-6)
    second = c.scalecom(zeros, X, 2, step=1)
    assert second.indices.tolist() == [2, 5]
    assert c.contraction(mean, second.indices)[0] == pytest.approx(0.439252, abs=1e-6)


def test_low_pass_filter_golden_value():
    """0.9 · 0.5 + 0.1 · 1.5 = 0.6: no binary number. The constants are rounded to binary32 first."""
    m, p = np.array([0.5, 0.5], np.float32), np.array([1.5, 9], np.float32)
    exact = float(np.float32(0.9)) * 0.5 + float(np.float32(0.1)) * 1.5
    new = c.filter_memory(m, p, np.array([1]), 0.1)
    assert new.tolist() == [np.float32(exact), np.float32(float(np.float32(0.9)) * 0.5)]
    assert new[0] == pytest.approx(0.6, rel=1e-7)
    assert c.filter_memory(m, p, np.array([1]), 0.1, HALF)[0] == HALF.record.decode(
        HALF.record.encode(0.6, "nearest-away")
    )


@given(st.integers(1, 5), st.integers(1, 40), st.integers(0, 50), st.booleans())
def test_shared_mask_commutes_with_the_mean(learners, size, seed, chunks):
    """What all learners sent and what they keep is what they had: nothing is lost with β = 1."""
    rng = np.random.default_rng(seed)
    memories, gradients = rng.integers(-64, 64, (2, learners, size)).astype(np.float32)
    k = int(rng.integers(1, size + 1))
    result = c.scalecom(list(memories), list(gradients), k, step=seed, chunks=chunks)
    total = np.sum(memories + gradients, axis=0)
    np.testing.assert_allclose(
        result.mean * learners + np.sum(result.memories, axis=0), total, rtol=1e-6, atol=1e-5
    )
    dense = np.zeros(size, bool)
    dense[result.indices] = True
    assert not result.mean[~dense].any()
    if not chunks:
        assert len(result.indices) == k


def test_contraction_bound_holds_on_average_and_not_always():
    """The bound is one of an expectation: the d largest that the leader misses are any of the k."""
    y = np.array([9, 5, 4, 3, 2, 1, 1, 0.5], np.float32)
    best = set(c.top_k(y, 4).tolist())
    lost, bounds = [], []
    for kept in itertools.combinations(sorted(best), 2):
        indices = np.array([*kept, 4, 5])
        value, bound = c.contraction(y, indices)
        lost.append(value)
        bounds.append(bound)
    assert len(set(bounds)) == 1
    assert np.mean(lost) < bounds[0] < max(lost)


def test_chunked_choice_takes_the_largest_of_each_chunk():
    p = np.array([1, -3, 2, 5, 0, 0, 7], np.float32)
    assert c.top_k(p, 3, chunks=True).tolist() == [1, 3, 6]
    assert c.top_k(np.array([1, 1, 1], np.float32), 2).tolist() == [0, 1]
    assert c.index_bytes(7, 3, chunks=True) == 1  # 3 chunks of 3 elements, 2 bits each
    assert c.index_bytes(7, 3) == 12


@given(st.integers(1, 700), st.integers(1, 120), st.booleans(), st.integers(0, 99))
def test_indices_round_trip_in_the_bytes_of_the_account(size, rate, chunks, seed):
    """As many indices as the account has values; all bits of a place are used, also in a short last chunk."""
    k = -(-size // rate)
    p = np.random.default_rng(seed).standard_normal(size).astype(np.float32)
    indices = c.top_k(p, k, chunks=chunks)
    data = c.pack_indices(indices, size, k, chunks=chunks)
    np.testing.assert_array_equal(c.unpack_indices(data, size, k, chunks=chunks), indices)
    first, second = wire.scalecom([wire.Weights("w", size)], 2, rate, width=4, chunks=chunks)
    assert first.bytes == len(data) / 2
    assert second.bytes == 2 * 4 * len(indices) / 2
    with pytest.raises(
        InputError, match=f"{len(data) + 1} bytes are no indices of {k} among {size}"
    ):
        c.unpack_indices(data + b"0", size, k, chunks=chunks)


def test_places_in_chunks_fill_bytes_from_the_lowest_bit():
    """Places 1, 0, 2 of chunks of 3 in two bits each."""
    assert c.pack_indices(np.array([1, 3, 8]), 9, 3, chunks=True) == bytes([0b10_00_01])
    assert c.pack_indices(np.array([1, 3, 8]), 9, 3) == bytes([1, 0, 0, 0, 3, 0, 0, 0, 8, 0, 0, 0])


def test_small_beta_swamps_sooner_in_16_bits():
    """β = 0.1 adds a tenth of the new part to the memory: 1-6-9 loses what it keeps with β = 1."""
    m = np.full(1, 1, np.float32)
    p = np.full(1, 1 + 2.0**-8, np.float32)
    none = np.array([], np.int64)
    assert c.filter_memory(m, p, none, 0.1, HALF)[0] == 1
    assert c.filter_memory(m, p, none, 1.0, HALF)[0] == 1 + 2.0**-8
    assert c.filter_memory(m, p, none, 0.1)[0] > 1


def test_cosine_distance_of_equal_and_opposite_memories():
    x = np.arange(1, 5, dtype=np.float32)
    assert c.cosine_distance([x, 2 * x, x]) == pytest.approx(0)
    assert c.cosine_distance([x, -x]) == pytest.approx(2)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: c.adacomp(R, D[:3]), r"shape \(8,\), must be \(3,\)"),
        (lambda: c.adacomp(R, D, bin_length=16384), "bin length of AdaComp is 16384"),
        (lambda: c.top_k(R, 9), "k of ScaleCom is 9"),
        (lambda: c.filter_memory(R, D, np.array([0]), 0.0), "beta of ScaleCom is 0.0"),
    ],
)
def test_bad_arguments_are_refused(call, text):
    with pytest.raises(InputError, match=text):
        call()
