"""D-PSGD's mixing: golden values, spectral numbers, exchanges in 8 bits."""

import numpy as np
import pytest

from hfp8sim import InputError
from hfp8sim.ops import mixing as m
from hfp8sim.systems import wire
from hfp8sim.units.sites import Site

EIGHT = Site("hfp8-143", "nearest-away", "saturate")


def test_ring_of_four_golden_values():
    x = [np.array([v], np.float32) for v in (4, 0, 0, 0)]
    third = np.float32(4) * np.float32(1 / 3)
    y = m.mix(x, m.ring_matrix(4)).weights
    assert [float(v[0]) for v in y] == [third, third, 0, third]
    assert m.consensus_distance(x) == 12
    assert m.consensus_distance(y) == pytest.approx(12 / 9)


def test_ring_of_three_agrees_in_one_step():
    rng = np.random.default_rng(1)
    x = list(rng.standard_normal((3, 50)).astype(np.float32))
    result = m.mix(x, m.ring_matrix(3))
    for y in result.weights[1:]:
        np.testing.assert_array_equal(y, result.weights[0])
    assert abs(result.drift) < 1e-4


@pytest.mark.parametrize(
    ("learners", "value"),
    [(1, 0), (2, 0), (3, 0), (4, 1 / 3), (5, 0.539345), (8, 0.804738), (16, 0.949253), (32, 0.987190), (112, 0.998951)],
)  # fmt: skip
def test_spectral_numbers_of_rings(learners, value):
    assert m.spectral(m.ring_matrix(learners)) == pytest.approx(value, abs=1e-6)


def test_average_of_many_neighbours_adds_two_at_a_time():
    x = [np.array([v], np.float32) for v in (3386, 703, 358, 3452, 89)]
    result = m.mix(x, np.full((5, 5), 0.2)).weights
    w = np.float32(0.2)
    one = np.float32(np.float64(w) * 4447)
    two = np.float32(np.float64(one) + np.float64(w) * 3541)
    assert [float(y[0]) for y in result] == [two] * 5


def test_weights_in_8_bits_never_agree_and_differences_do():
    rng = np.random.default_rng(0)
    start = list(rng.standard_normal((8, 400)).astype(np.float32))
    matrix = m.ring_matrix(8)
    distance = {}
    for how in m.EXCHANGES:
        x, known = start, None
        for step in range(60):
            result = m.mix(x, matrix, exchange=EIGHT, how=how, replicas=known, step=step)
            x, known = result.weights, result.replicas
        distance[how] = m.consensus_distance(x) / m.consensus_distance(start)
    assert distance["direct"] > 1e-5
    assert distance["difference"] < 1e-7
    assert m.mix(x, matrix, exchange=EIGHT).sent == 400
    assert m.mix(x, matrix, exchange=EIGHT, how="difference").sent == 401


@pytest.mark.parametrize("how", m.EXCHANGES)
def test_sent_bytes_are_those_of_the_codes(how):
    """What neighbours have comes from these bytes: codes, and of differences one byte for a power of two."""
    x = list(np.random.default_rng(3).standard_normal((4, 50)).astype(np.float32))
    result = m.mix(x, m.ring_matrix(4), exchange=EIGHT, how=how)
    fmt = EIGHT.record
    layer = [wire.Weights("w", 50)]
    if how == "direct":
        contents = [fmt.encode(w, "nearest-away").tobytes() for w in x]
        heard = [np.frombuffer(c, fmt.dtype) for c in contents]
        third = np.float64(np.float32(1 / 3))
        own = third * (x[0].astype(np.float64) + fmt.decode(heard[1]) + fmt.decode(heard[3]))
        np.testing.assert_array_equal(result.weights[0], own.astype(np.float32))
        account = wire.gossip(layer, 4, 1)
    else:
        contents = []
        for replica in result.replicas:  # the first difference is from zero
            exponent = next(
                e
                for e in range(-128, 128)
                if np.array_equal(fmt.decode(fmt.encode(replica * 2.0**e)), replica * 2.0**e)
            )
            codes = fmt.encode(replica * 2.0**exponent)
            contents.append(codes.tobytes() + exponent.to_bytes(1, "little", signed=True))
        account = wire.gossip(layer, 4, 1, differences=True)
    assert {len(content) for content in contents} == {result.sent}
    assert account[0].bytes == 2 * result.sent


def test_differences_below_the_format_are_scaled_into_it():
    """1-4-3 with bias 11 has no number between 0 and 1.125·2^−11."""
    start = list(1e-6 * np.random.default_rng(0).standard_normal((8, 400)).astype(np.float32))
    x, known = start, None
    for step in range(60):
        result = m.mix(
            x, m.ring_matrix(8), exchange=EIGHT, how="difference", replicas=known, step=step
        )
        x, known = result.weights, result.replicas
    assert m.consensus_distance(x) < 1e-6 * m.consensus_distance(start)


def test_stochastic_exchange_draws_words_of_its_own_for_each_learner():
    x = [np.full(64, 1.0625, np.float32)] * 3
    site = Site("hfp8-143", "stochastic", "saturate")
    y = m.mix(x, m.ring_matrix(3), exchange=site, seed=1, step=1).weights
    assert not np.array_equal(y[0], y[1])
    again = m.mix(x, m.ring_matrix(3), exchange=site, seed=1, step=1).weights
    np.testing.assert_array_equal(again, y)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x: m.mix(x, [[1, 0]]), "must be square"),
        (lambda x: m.mix(x, [[0.5, 0.5], [0.4, 0.6]]), "must be symmetric"),
        (lambda x: m.mix(x, [[0.5, 0.4], [0.4, 0.5]]), "add up to 1, not 0.9"),
        (lambda x: m.mix(x, m.ring_matrix(3)), "needs an array of each"),
        (lambda x: m.mix(x, m.ring_matrix(2), how="gossip"), "unknown exchange 'gossip'"),
    ],
)
def test_bad_arguments_are_refused(call, text):
    with pytest.raises(InputError, match=text):
        call([np.zeros(2, np.float32)] * 2)
