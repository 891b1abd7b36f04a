"""The wire account: the table of the protocols, exact chunks, compressors, and what gain needs what."""

import math

import numpy as np
import pytest

from hfp8sim import InputError
from hfp8sim.ops import compressors
from hfp8sim.systems import PROTOCOLS, TOPOLOGIES, wire

RESNET50 = [wire.Weights("resnet50", 25_557_032)]


@pytest.mark.parametrize(
    ("rows", "megabytes"),
    [
        (wire.all_reduce(RESNET50, 4, 4), 153.3), (wire.all_reduce(RESNET50, 4, 2), 76.7),
        (wire.hfp8(RESNET50, 4), 57.5), (wire.hfp8(RESNET50, 4, gradient=1), 38.3),
    ],
)  # fmt: skip
def test_bytes_of_resnet50(rows, megabytes):
    assert wire.total(rows) / 1e6 == pytest.approx(megabytes, abs=0.05)


@pytest.mark.parametrize(("learners", "bytes_"), [(8, 2.625), (64, 2.953125)])
def test_hfp8_bytes_of_a_weight(learners, bytes_):
    assert wire.total(wire.hfp8([wire.Weights("w", 6400)], learners)) / 6400 == bytes_


def test_account_agrees_with_the_time_models_exchanges():
    size, chips = 6400, 8
    for name, gradient, weight in (("fp32", 4, 4), ("fp16", 2, 2), ("hfp8", 2, 1), ("8-bit", 1, 1)):
        exchange = PROTOCOLS[name].exchange(size, chips, TOPOLOGIES["ring"])
        rows = wire.hfp8([wire.Weights("w", size, weight)], chips, gradient)
        assert exchange.path_bytes == wire.total(rows)
        assert exchange.messages == sum(row.messages for row in rows)


def test_layers_in_16_bits_gather_two_bytes():
    rows = wire.hfp8(wire.layer_weights([("a", 100, False), ("b", 100, True)], ["b"]), 2)
    assert [row.bytes for row in rows] == [100, 50, 100, 100]
    with pytest.raises(InputError, match="no layer 'c'"):
        wire.layer_weights([("a", 1, False)], ["c"])


@pytest.mark.parametrize("protocol", [wire.hfp8, wire.adacomp, wire.scalecom, wire.gossip])
def test_protocols_refuse_no_learner(protocol):
    with pytest.raises(InputError, match="learners is 0, must be at least 1"):
        protocol([wire.Weights("a", 3)], 0)


def test_adacomp_sends_no_more_than_the_weights():
    """A bias of three elements has one bin, of which there are no five elements to send."""
    (row,) = wire.adacomp([wire.Weights("a", 3)], 2)
    assert row.bytes == wire.adacomp_bytes(3, 50, 3)


def test_one_learner_sends_nothing():
    for rows in (wire.hfp8(RESNET50, 1), wire.adacomp(RESNET50, 1), wire.scalecom(RESNET50, 1)):
        assert wire.total(rows) == 0


@pytest.mark.parametrize("bin_length", [50, 500])
def test_adacomp_bytes_are_those_of_packets(bin_length):
    rng = np.random.default_rng(1)
    packet, _ = compressors.adacomp(
        np.zeros(5000, np.float32),
        rng.standard_normal(5000).astype(np.float32),
        bin_length=bin_length,
    )
    bins = np.unique(packet.indices // bin_length).size
    assert bins == 5000 // bin_length  # without a residue every bin's largest is sent
    assert len(packet.pack()) == wire.adacomp_bytes(5000, bin_length, packet.indices.size)


def test_scalecom_bytes_are_those_of_its_indices():
    for size, rate in ((1000, 100), (1234, 50), (30, 100)):
        rows = wire.scalecom([wire.Weights("w", size)], 4, rate)
        k = max(math.ceil(size / rate), 1)
        assert rows[0].bytes == compressors.index_bytes(size, k, chunks=True) * 3 / 4
        assert rows[1].bytes == 2 * 2 * k * 3 / 4
    (any_, _) = wire.scalecom([wire.Weights("w", 1000)], 4, 100, chunks=False)
    assert any_.bytes == compressors.index_bytes(1000, 10) * 3 / 4


def test_gossip_does_not_depend_on_the_number_of_learners():
    assert [wire.total(wire.gossip(RESNET50, n)) / 25_557_032 for n in (1, 2, 3, 64)] == [
        0,
        4,
        8,
        8,
    ]


def test_gains_follow_from_the_bytes_that_are_exposed():
    """With the reduce-scatter hidden, HFP8 saves half of the gather: x/(2(1 + x)); 32 % need x = 1.8."""
    nothing, hidden, eight = wire.GAINS
    assert (nothing.share, hidden.share, eight.share) == (0.25, 0.5, 0.5)
    assert hidden.saved(1.0) == 0.25
    assert hidden.needed(0.32) == pytest.approx(1.78, abs=0.01)
    assert nothing.needed(0.3) == math.inf
    assert eight.needed(0.6) == math.inf
    for gain in (nothing, hidden):
        for saved in (0.1, 0.2):
            assert gain.saved(gain.needed(saved)) == pytest.approx(saved)
    sixteen, hfp8 = (
        wire.total(rows) for rows in (wire.all_reduce(RESNET50, 4, 2), wire.hfp8(RESNET50, 4))
    )
    assert 1 - hfp8 / sixteen == nothing.share


def test_faster_is_not_less_time():
    """60 % faster is 37.5 % less time. Half of the exposed exchange saved gives it at x = 3, and 60 % less never."""
    assert wire.saved_by(0.6) == pytest.approx(0.375)
    assert wire.saved_by(1.0) == 0.5
    _, hidden, _ = wire.GAINS
    x = hidden.needed(wire.saved_by(0.6))
    assert x == pytest.approx(3)
    assert (1 + x) / (1 + x / 2) == pytest.approx(1.6)
