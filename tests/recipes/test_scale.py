"""Loss scales as state machines."""

from __future__ import annotations

import pytest

from hfp8sim.errors import InputError
from hfp8sim.recipes.scale import LayerScale, LossScale


def used(scale: LossScale, steps: str) -> list[float]:
    """The scale that each step uses and the one after; `o` overflows."""
    state, result = scale.begin(), []
    for step in steps:
        result.append(state.scale)
        state = scale.advance(state, step == "o")
    return [*result, state.scale]


def test_dynamic_scale() -> None:
    scale = LossScale(start=1024, interval=3, floor=256, cap=4096)
    expected = [1024, 1024, 1024, 2048, 2048, 1024, 512, 256, 256, 256, 256, 512]
    assert used(scale, "....oooo...") == expected


def test_cap_and_factors() -> None:
    scale = LossScale(start=4, interval=1, growth=3, backoff=4, cap=30)
    assert used(scale, "...o") == [4, 12, 30, 30, 7.5]


def test_rising_floor() -> None:
    """The floor lifts the scale at once, and holds against overflows."""
    scale = LossScale(start=8, floor=1, floors=((2, 16), (5, 64)))
    assert used(scale, "ooooooo") == [8, 16, 16, 16, 64, 64, 64, 64]
    assert LossScale(start=8, floors=((0, 32),)).begin().scale == 32


def test_static_scale_and_none() -> None:
    assert used(LossScale("static", start=1000), ".o.") == [1000] * 4
    assert used(LossScale("none"), ".o") == [1] * 3


def test_layer_scale() -> None:
    """From 2^10 to errors of 1e-6: 15 steps, a factor of two each, until the largest is in [32, 64]."""
    machine, scale, steps = LayerScale(), 1024.0, 0
    while (new := machine.advance(scale, 1e-6)) != scale:
        scale, steps = new, steps + 1
    assert steps == 15 and 32 <= scale * 1e-6 <= 64
    assert machine.advance(1.0, 64.0) == 1.0 and machine.advance(1.0, 64.1) == 0.5
    assert machine.advance(1.0, 32.0) == 1.0 and machine.advance(1.0, 31.9) == 2.0
    assert machine.advance(2.0**-18, 1e30) == 2.0**-18 and machine.advance(2.0**61, 0.0) == 2.0**61


@pytest.mark.parametrize(
    "fields, error",
    [
        ({"kind": "often"}, "unknown kind of loss scale 'often'"),
        ({"start": 0}, "loss_scale.start is 0, must be positive"),
        ({"start": True}, "must be a number"),
        ({"interval": 0}, "must be an integer ≥ 1"),
        ({"growth": 0.5}, "growth must be at least 1"),
        ({"backoff": 1}, "backoff above 1"),
        ({"start": 2**25}, "floor ≤ start ≤ cap"),
        ({"floors": ((5, 1), (2, 2))}, "must ascend"),
        ({"floors": ((0, -1),)}, "must be positive and finite"),
        ({"floors": ((0, 2**25),)}, "at most the cap"),
        ({"floors": (3,)}, "pairs of a step and a floor"),
    ],
)
def test_bad_scales_are_named(fields, error: str) -> None:
    with pytest.raises(InputError, match=error):
        LossScale(**fields)
