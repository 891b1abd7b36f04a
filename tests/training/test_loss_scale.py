"""Loss scales: the state machine, step by step, and its refusals."""

import pytest

pytest.importorskip("torch")

from hfp8sim import InputError
from hfp8sim.training.loss_scale import LossScale


def scales(state, steps):
    """The scale that each step uses; `o` is a step that overflows."""
    used = []
    for step in steps:
        used.append(state.scale)
        state.after_step(overflow=step == "o")
    return [*used, state.scale]


def test_dynamic_scale_shrinks_at_overflows_and_grows_after_clean_steps():
    state = LossScale(1024, interval=3, floor=256, cap=4096)
    expected = [1024, 1024, 1024, 2048, 2048, 1024, 512, 256, 256, 256, 256]
    assert scales(state, "....oooo...") == [*expected, 512]


def test_scale_stays_at_its_cap_and_at_its_floor():
    assert scales(LossScale(2048, interval=1, cap=4096), "...") == [2048, 4096, 4096, 4096]
    assert scales(LossScale(2, interval=9, floor=1), "oo.") == [2, 1, 1, 1]


def test_static_scale_stays():
    assert scales(LossScale.of(1000), "..oo.") == [1000] * 6


def test_rising_floor_lifts_the_scale():
    """Mellempudi et al., 2019: the floor holds from its step on."""
    state = LossScale(64, interval=100, floors={3: 128, 5: 512})
    assert scales(state, ".....") == [64, 64, 128, 128, 512, 512]
    state = LossScale(64, interval=100, floors={3: 128})
    assert scales(state, "ooo.") == [64, 32, 128, 128, 128]


def test_state_goes_on_from_a_checkpoint():
    one, two = LossScale(1024, interval=3), LossScale(1024, interval=3)
    scales(one, "..o..")
    two.load(one.state())
    assert scales(one, ".o...") == scales(two, ".o...")


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"scale": 0}, "scale is 0"),
        ({"floor": float("nan")}, "floor is nan"),
        ({"floors": {3: -1}}, r"floors\[3\] is -1"),
        ({"growth": 1}, "growth is 1, must be more than 1"),
        ({"interval": -1}, "interval is -1"),
    ],
)
def test_bad_settings_are_refused(settings, text):
    with pytest.raises(InputError, match=text):
        LossScale(**settings)
