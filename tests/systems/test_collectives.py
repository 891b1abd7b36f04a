"""Messages and bytes of collectives, against schedules that are played out chip by chip."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfp8sim.systems import (
    PROTOCOLS,
    TOPOLOGIES,
    Exchange,
    Link,
    neighbours,
    ring_all_gather,
    ring_all_reduce,
    ring_reduce_scatter,
    server_pull,
    server_push,
    tree_all_reduce,
    tree_broadcast,
    tree_reduce,
)

#: Weights of ResNet-50 (He et al., CVPR 2016).
RESNET50 = 25_557_032


def played_ring(chips: int, size: int) -> Exchange:
    """A ring all-gather, round by round: each chip passes on what it got last until all have all chunks."""
    chunks = [(c + 1) * size // chips - c * size // chips for c in range(chips)]
    held, last = [{chip} for chip in range(chips)], list(range(chips))
    messages = path = total = 0
    while any(len(have) < chips for have in held):
        total += sum(chunks[number] for number in last)
        last = [last[chip - 1] for chip in range(chips)]
        for chip, number in enumerate(last):
            held[chip].add(number)
        messages, path = messages + 1, path + max(chunks)
    return Exchange(messages, path, total)


def played_broadcast(chips: int, size: int) -> Exchange:
    """A broadcast, round by round: each chip that has the vector sends it to one that does not."""
    informed, messages, total = 1, 0, 0
    while informed < chips:
        sends = min(informed, chips - informed)
        informed, messages, total = informed + sends, messages + 1, total + sends * size
    return Exchange(messages, messages * size, total)


@given(st.integers(1, 40), st.integers(0, 1000))
def test_rounds_and_bytes(chips: int, size: int) -> None:
    ring, tree = played_ring(chips, size), played_broadcast(chips, size)
    assert ring_reduce_scatter(size, chips) == ring_all_gather(size, chips) == ring
    assert ring_all_reduce(size, chips) == ring + ring
    assert tree_reduce(size, chips) == tree_broadcast(size, chips) == tree
    assert tree_all_reduce(size, chips) == tree + tree


def test_server_has_one_port() -> None:
    assert server_push(10, 4) == server_pull(10, 4) == Exchange(1, 40, 40)
    assert server_push(10, 1) == Exchange()


def test_neighbours_cost_the_same_on_every_ring() -> None:
    assert neighbours(10, 1) == Exchange()
    assert neighbours(10, 2) == Exchange(1, 10, 20)
    assert neighbours(10, 3) == Exchange(2, 20, 60)
    assert neighbours(10, 100) == Exchange(2, 20, 2000)


def test_time_is_latency_and_bandwidth() -> None:
    link = Link(gb_per_s=2, latency_us=3)
    assert ring_all_reduce(4_000_000, 4).seconds(link) == pytest.approx(6 * 3e-6 + 6e6 / 2e9)


@pytest.mark.parametrize(
    ("protocol", "sent"),
    [("fp32", 153_342_192), ("fp16", 76_671_096), ("hfp8", 57_503_322), ("8-bit", 38_335_548)],
)
def test_bytes_of_an_update_of_resnet50(protocol: str, sent: int) -> None:
    """Four chips on a ring: HFP8 sends three quarters of FP16's bytes and three eighths of FP32's."""
    exchange = PROTOCOLS[protocol].exchange(RESNET50, 4, TOPOLOGIES["ring"])
    assert exchange.path_bytes == sent
    assert exchange.total_bytes == 4 * sent


@pytest.mark.parametrize("topology", TOPOLOGIES.values(), ids=TOPOLOGIES)
def test_hfp8_sends_three_quarters_of_fp16(topology: object) -> None:
    hfp8, fp16, fp32 = (
        PROTOCOLS[name].exchange(1 << 20, 8, topology).path_bytes  # type: ignore[arg-type]
        for name in ("hfp8", "fp16", "fp32")
    )
    assert (hfp8 / fp16, hfp8 / fp32) == (0.75, 0.375)
