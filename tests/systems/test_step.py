"""The time of a training step: what of the exchange the computation hides."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfp8sim.errors import InputError
from hfp8sim.network import Layer
from hfp8sim.systems import (
    LayerWork,
    Link,
    Step,
    System,
    layer_works,
    load_system,
    ring_all_gather,
    ring_reduce_scatter,
    time_step,
)

#: One weight takes a second in each half of the exchange: two chips, 1-byte formats, half a byte a second.
SLOW = System("slow", 2, Link(0.5e-9), protocol="8-bit")


def step(works: list[tuple[float, float, int]], system: System = SLOW) -> Step:
    """The step of layers (forward, backward, weights), where 2·n weights take n/0.5 seconds."""
    return time_step([LayerWork(f"l{i}", *work) for i, work in enumerate(works)], system)


def test_exchange_starts_when_gradient_and_link_are_ready() -> None:
    # Weights of 2 take 2 seconds each way. Backward: l2 ends at 1, l1 at 4, l0 at 5.
    result = step([(1, 1, 2), (1, 3, 2), (1, 1, 2)])
    assert [layer.ready for layer in result.layers] == [5, 4, 1]
    assert [layer.reduced for layer in result.layers] == [8, 6, 3]
    assert result.exposed_reduce == 3
    # The backward pass ends at 5, in the middle of l1's sum.
    assert [layer.exposed_reduce for layer in result.layers] == [2, 1, 0]
    # Forward: l0 waits 2, ends at 3; l1 arrives at 4, ends at 5; l2 arrives at 6.
    assert [layer.exposed_distribute for layer in result.layers] == [2, 1, 1]
    assert (result.compute, result.exposed, result.seconds) == (8, 7, 15)
    assert result.efficiency == 8 / 15


def test_exchange_without_overlap_is_exposed() -> None:
    result = step([(1, 1, 2), (1, 3, 2)], SLOW.replace(overlap=False))
    assert (result.exposed_reduce, result.exposed_distribute) == (4, 4)
    assert [layer.exposed_reduce for layer in result.layers] == [2, 2]
    assert [layer.exposed_distribute for layer in result.layers] == [2, 2]
    assert result.seconds == 6 + 8


def test_layer_without_weights_exchanges_nothing() -> None:
    result = step([(1, 1, 2), (1, 5, 0)])
    assert result.layers[1].exchange.messages == 0
    assert result.layers[1].exposed_distribute == 0
    assert result.exposed_reduce == 2


def test_one_chip_exposes_nothing() -> None:
    result = step([(1, 1, 100)], SLOW.replace(chips=1))
    assert (result.exposed, result.efficiency) == (0, 1)


@st.composite
def works(draw: st.DrawFn) -> list[tuple[float, float, int]]:
    """Layers whose times are small whole numbers."""
    small = st.integers(0, 9)
    return draw(st.lists(st.tuples(small, small, small), min_size=1, max_size=6))


@given(works(), st.integers(1, 9), st.sampled_from(["ring", "tree", "server"]))
def test_exposed_part_is_bounded(
    layers: list[tuple[float, float, int]], chips: int, topology: str
) -> None:
    system = SLOW.replace(chips=chips, topology=topology)
    result, bare = step(layers, system), step(layers, system.replace(overlap=False))
    whole = result.exchange.seconds(system.link)
    assert whole == pytest.approx(result.latency_part + result.bandwidth_part)
    assert bare.exposed == pytest.approx(whole)
    assert 0 <= result.exposed <= whole * (1 + 1e-9)
    for case in (result, bare):
        assert sum(x.exposed_reduce for x in case.layers) == pytest.approx(case.exposed_reduce)
        assert sum(x.exposed_distribute for x in case.layers) == case.exposed_distribute
    last = [sum(layer.reduce.seconds(system.link) for layer in result.layers[:1])]
    assert result.exposed_reduce >= last[0] * (1 - 1e-9)
    assert result.seconds >= result.compute


# -- published speed-ups -----------------------------------------------------------------------------

#: Speed-up of a training step when its exchange vanishes, by TFLOPS of a worker and growth of the mini-batch
#: over the smallest (Chen et al., ScaleCom, NeurIPS 2020, Fig. 6: ResNet-50).
SPEED_UPS = {(100, 1): 2.0, (100, 4): 1.23, (300, 1): 4.1, (300, 4): 1.75}
#: Floating-point operations of a training step of ResNet-50 for one image, and the gradient's bytes in FP16.
STEP_FLOP, GRADIENT = 24.6e9, 51.1e6
IMAGES, GB_PER_S = 8, 32
#: The one parameter: the share of a worker's peak that its computation sustains.
UTILISATION = 0.62


def speed_up(tflops: int, growth: int) -> float:
    """Of a worker that sends its gradient up and gets the sum back, while nothing else happens."""
    link = Link(GB_PER_S)
    compute = growth * IMAGES * STEP_FLOP / (tflops * 1e12 * UTILISATION)
    exchange = 2 * link.seconds(1, int(GRADIENT))
    system = System("worker", 2, link, protocol="fp16", overlap=False)
    work = LayerWork("all", compute / 3, compute * 2 / 3, int(GRADIENT))  # 2 · S/2 · 2 bytes
    result = time_step([work], system)
    assert result.exposed == pytest.approx(exchange)
    return result.seconds / result.compute


@pytest.mark.parametrize(("worker", "published"), SPEED_UPS.items())
def test_published_speed_ups(worker: tuple[int, int], published: float) -> None:
    """One parameter gives all four within three per cent."""
    assert speed_up(*worker) == pytest.approx(published, rel=0.03)


# -- layers and files --------------------------------------------------------------------------------


def test_layers_and_their_times() -> None:
    layers = [
        Layer("first", "linear", 4, 3, 5, phases=("fwd", "wgrad")),
        Layer("scores", "matmul", 4, 3, 5, groups=2),
    ]
    times = {(name, phase): 2.0 for name in ("first", "scores") for phase in ("fwd", "dgrad", "wgrad")}  # fmt: skip
    assert layer_works(layers, times) == [
        LayerWork("first", 2, 2, 15),
        LayerWork("scores", 2, 4, 0),
    ]
    del times["first", "wgrad"]
    with pytest.raises(InputError, match="layer 'first': the time of wgrad is missing"):
        layer_works(layers, times)


TEXT = (
    'name = "pair"\nchips = 2\nmachine = "rapid-4core"\n[link]\ngb_per_s = 32\nlatency_us = 1.5\n'
)


def test_system_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "pair.toml").write_text(TEXT)
    system = load_system(tmp_path / "pair.toml")
    assert system == System("pair", 2, Link(32, 1.5), machine="rapid-4core")
    assert load_system(system) is system
    assert ring_reduce_scatter(8, 2).seconds(system.link) == pytest.approx(1.5e-6 + 4 / 32e9)
    assert ring_all_gather(8, 1).seconds(system.link) == 0


def test_machine_beside_a_system(tmp_path: Path) -> None:
    source = Path(__file__).parents[2] / "hfp8sim/machine/presets/edge-8x8.toml"
    (tmp_path / "own.toml").write_text(source.read_text())
    (tmp_path / "pair.toml").write_text(TEXT.replace("rapid-4core", "own.toml"))
    assert load_system(tmp_path / "pair.toml").machine == str(tmp_path / "own.toml")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("chips = 2", "chips = 0", "chips is 0, must be an integer 1"),
        ("chips = 2", "chips = true", "chips is True, must be an integer"),
        ("chips = 2\n", "", "key 'chips' is missing"),
        ("gb_per_s = 32", "gb_per_s = 0", "link.gb_per_s is 0, must be a number of more than 0"),
        ("gb_per_s = 32\n", "", "key 'link.gb_per_s' is missing"),
        ("1.5", "-1", "link.latency_us is -1, must be a number of 0 or more"),
        ("1.5", "inf", "link.latency_us is inf"),
        ("latency_us", "latency", "unknown key 'link.latency'"),
        ("machine =", "maschine =", "unknown key 'maschine'"),
        ("rapid-4core", "rapid-5core", "unknown machine 'rapid-5core'"),
        ("chips = 2", 'chips = 2\ntopology = "star"', "unknown topology 'star' of system pair"),
        ("chips = 2", 'chips = 2\nprotocol = "fp64"', "unknown update protocol 'fp64'"),
        ("chips = 2", "chips = 2\noverlap = 1", "overlap is 1, must be a boolean"),
        ("chips = 2", "chips = 2\nsummary = 1", "summary must be a string"),
        ("[link]", "link = 3\n[other]", r"\[link\] must be a table"),
        ("chips = 2", "chips = ", "not a TOML file"),
    ],
)  # fmt: skip
def test_damaged_system_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in TEXT
    (tmp_path / "s.toml").write_text(TEXT.replace(old, new))
    with pytest.raises(InputError, match=message):
        load_system(tmp_path / "s.toml")


def test_system_refuses_other_records() -> None:
    with pytest.raises(InputError, match="system s: link is 3; it must be a Link"):
        System("s", 4, 3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="system name is 3; it must be a text"):
        System(3, 4, Link(1.0))  # type: ignore[arg-type]


def test_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        load_system(tmp_path / "none.toml")


def test_facts_are_plain() -> None:
    facts = step([(1, 1, 2)]).facts()
    assert facts["step"] == facts["compute"] + facts["exposed_reduce"] + facts["exposed_distribute"]
    assert facts["system"] == dataclasses.asdict(SLOW)
    assert facts["layers"][0]["path_bytes"] == facts["path_bytes"] == 2
