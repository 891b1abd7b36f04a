"""The loss scale: the smallest that keeps all but 0.1 % of the errors, as trying every scale finds it."""

from __future__ import annotations

import numpy as np
import pytest

import hfp8sim as hs
from hfp8sim.simulation.loss_scale import ENOUGH, LossScale, loss_scale
from hfp8sim.simulation.quantise import quantise


def found(errors: np.ndarray, profile: hs.Profile) -> LossScale:
    fmt, scale = hs.get_format(profile.error_format), profile.error_scale
    scaled = fmt.with_bias(fmt.bias + scale)
    return loss_scale(errors, quantise(errors, scaled, profile), scale, profile)


def lost_by(errors: np.ndarray, profile: hs.Profile, scale: int) -> float:
    """The share lost with a scale, by NumPy and `FloatFormat`."""
    fmt = hs.get_format(profile.error_format)
    scaled = errors[errors != 0].astype(float) * 2.0**scale
    values = fmt.decode(fmt.encode(scaled, profile.operand_rounding))
    beyond = hs.get_format(profile.error_format).encode(scaled, profile.operand_rounding, "special") if fmt.has_nan else None  # fmt: skip
    lost = np.abs(scaled) > fmt.max if beyond is None else ~np.isfinite(fmt.decode(beyond))
    return float(np.mean((values == 0) | lost))


@pytest.mark.parametrize("profile", ["hfp8", "hopper-fp8", "aiu"])
@pytest.mark.parametrize(("mean", "spread"), [(-20, 2), (-30, 5), (-8, 1), (14, 1), (-12, 9)])
def test_scale_equals_that_of_trying_all(profile: str, mean: float, spread: float) -> None:
    rng = np.random.default_rng(4)
    errors = np.exp2(rng.normal(mean, spread, 4000)).astype(np.float32)
    errors[::7] = 0
    chosen = hs.get_profile(profile)
    best = found(errors, chosen)
    tried = {s: lost_by(errors, chosen, s) for s in range(-40, 60)}
    assert best.lost == pytest.approx(tried[best.exponent], abs=1e-3)
    if tried[0] <= ENOUGH:
        assert best.exponent == 0
    elif min(tried.values()) <= ENOUGH:
        assert best.exponent == min(s for s, lost in tried.items() if lost <= ENOUGH)
    else:
        assert best.lost <= min(tried.values()) + 2e-3


def test_scale_of_the_profile_counts() -> None:
    errors = np.exp2(np.linspace(-30, -18, 100)).astype(np.float32)
    needed = found(errors, hs.get_profile("hfp8"))
    scaled = hs.get_profile("hfp8").replace(error_scale=needed.exponent)
    assert needed.exponent > 0 and found(errors, scaled) == needed
    too_small = hs.get_profile("hfp8").replace(error_scale=needed.exponent - 3)
    assert found(errors, too_small) == needed


def test_errors_that_are_all_zero_need_no_scale() -> None:
    assert found(np.zeros(4, np.float32), hs.get_profile("hfp8")) == LossScale(0, 0.0)
