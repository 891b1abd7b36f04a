"""`emulate`: through the machine and directly, the bits, events and counts are the same."""

from __future__ import annotations

import numpy as np
import pytest

import hfp8sim as hs
from hfp8sim.errors import InputError
from hfp8sim.network import PHASES, Conv, Layer, phase_stream
from hfp8sim.simulation import Emulated, emulate
from hfp8sim.simulation.values import result_matrices, result_tensor

LAYERS = {
    "linear": Layer("fc", "linear", 5, 6, 90),
    "groups": Layer("heads", "matmul", 6, 5, 7, groups=3),
    "recurrent": Layer("steps", "recurrent", 4, 6, 5, groups=3),
    "conv": Layer.from_conv("conv", Conv(2, 5, 6, 4, 6, (3, 3), (2, 1), (1, 0, 1, 2), groups=2)),
    "depthwise": Layer.from_conv("dw", Conv(1, 5, 5, 3, 3, (3, 3), padding=(1, 1, 1, 1), groups=3)),
}  # fmt: skip


def tensors(layer: Layer) -> dict[str, np.ndarray]:
    """Normal tensors with zeros among them."""
    rng = np.random.default_rng(5)
    emulations = {}
    for name in ("x", "w", "dy"):
        values = rng.normal(size=layer.tensor_shape(name)).astype(np.float32)
        values[rng.random(values.shape) < 0.2] = 0
        emulations[name] = values
    return emulations


def run(layer: Layer, phase: str, profile: str | hs.Profile, machine: str | None) -> Emulated:
    stream = phase_stream(7, phase)
    return emulate(layer, phase, tensors(layer), profile, seed=3, stream=stream, machine=machine)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("stochastic", [False, True], ids=["nearest", "stochastic"])
def test_machine_and_direct_product_agree(name: str, phase: str, stochastic: bool) -> None:
    profile = hs.get_profile("hfp8")
    if stochastic:
        profile = profile.replace(rounding="stochastic", operand_rounding="stochastic")
    layer = LAYERS[name]
    direct = run(layer, phase, profile, None)
    on_machine = run(layer, phase, profile, "edge-8x8")
    assert direct.codes.dtype == on_machine.codes.dtype
    assert np.array_equal(direct.codes, on_machine.codes)
    assert direct.events == on_machine.events
    assert direct.gated == on_machine.gated
    assert direct.saturated == on_machine.saturated
    assert direct.underflowed == on_machine.underflowed
    output = {"fwd": "dy", "dgrad": "x", "wgrad": "w"}[phase]
    assert direct.codes.shape == layer.tensor_shape(output) or layer.kind == "recurrent"
    if stochastic:
        assert direct.events is not None and direct.events.draws > 0


def test_emulate_equals_gemm_of_encoded_operands() -> None:
    layer, values = LAYERS["linear"], tensors(LAYERS["linear"])
    operand = hs.get_format("hfp8-143")
    x, w = (operand.encode(values[name], rounding="nearest-away") for name in ("x", "w"))
    emulated = emulate(layer, "fwd", values, "hfp8")
    assert np.array_equal(emulated.codes, hs.gemm(x, w, "hfp8"))
    assert list(emulated.operands) == ["x", "w"]
    assert np.array_equal(emulated.operands["w"], w)
    assert np.array_equal(emulated.values, hs.get_format("dlfloat16").decode(emulated.codes))
    zeros = (operand.decode(x) == 0)[:, :, None] | (operand.decode(w) == 0)[None]
    assert emulated.gated == np.count_nonzero(zeros)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("name", ["linear", "conv"])
@pytest.mark.parametrize("profile", ["hfp8", "hopper-fp8"])
def test_scaled_operands_on_machine_and_directly(name: str, phase: str, profile: str) -> None:
    """Biases and scales: the program's registers and the direct product give the same bits."""
    scaled = hs.get_profile(profile).replace(a_scale=-3, b_scale=4, error_scale=9)
    if profile == "hfp8":
        scaled = scaled.replace(a_format="hfp8-143@8", b_format="hfp8-143@9")
    layer = LAYERS[name]
    direct, on_machine = run(layer, phase, scaled, None), run(layer, phase, scaled, "edge-8x8")
    assert np.array_equal(direct.codes, on_machine.codes)
    assert direct.events == on_machine.events
    exact = run(layer, phase, "exact", None).values
    assert np.corrcoef(direct.values.ravel(), exact.ravel())[0, 1] > 0.99
    assert 0.9 < np.std(direct.values) / np.std(exact) < 1.1  # the scale is divided out


def test_scale_equals_bias_while_sums_fit() -> None:
    """Multiplying by 2^s before rounding, and dividing the sums, is a bias larger by s."""
    layer, base = LAYERS["linear"], hs.get_profile("hfp8")
    biased = run(layer, "wgrad", base.replace(error_format="hfp8-152@21"), None)
    scaled = run(layer, "wgrad", base.replace(error_scale=6), None)
    assert np.array_equal(biased.operands["dy"], scaled.operands["dy"])
    assert np.array_equal(biased.values, scaled.values)
    (codes,) = [hs.get_format("hfp8-152").encode(tensors(layer)["dy"] * 64, "nearest-away")]
    assert np.array_equal(codes, scaled.operands["dy"])


def test_scaled_sums_are_those_of_gemm_divided() -> None:
    layer = LAYERS["linear"]
    profile = hs.get_profile("hfp8").replace(a_format="hfp8-143@6", b_scale=5)
    emulated = emulate(layer, "fwd", tensors(layer), profile, machine="edge-8x8")
    x = hs.get_format("hfp8-143@6").encode(tensors(layer)["x"], "nearest-away")
    w = hs.get_format("hfp8-143").encode(tensors(layer)["w"] * 32, "nearest-away")
    sums = hs.get_format("dlfloat16").decode(hs.gemm(x, w, profile))
    assert np.array_equal(emulated.values, sums / 32)


def test_counts_of_each_operand() -> None:
    """3 of 8 activations beyond 30; of 4 weights that are not zero, 1 rounds to zero."""
    layer = Layer("fc", "linear", 2, 2, 4)
    x = np.float32([[31, -40, 30, 1], [0, 1e9, 30.9, 2]])
    w = np.float32([[1, 0], [0, 0.0002], [3, 0.0006], [0, 0]])
    emulated = emulate(layer, "fwd", {"x": x, "w": w}, "hfp8")
    activations, weights = emulated.quantised.values()
    assert (activations.saturated, activations.flushed) == (3, 0)
    assert activations.saturated_share == 3 / 8
    assert (weights.saturated, weights.flushed, weights.nonzero) == (0, 1, 4)
    assert weights.flushed_share == 1 / 4
    assert (emulated.saturated, emulated.flushed) == (3, 1)


def test_subnormal_numbers_are_not_flushed() -> None:
    """e5m2 holds 2^-16, and 1.2·2^-16 inexactly: they underflow and stay. 2^-18 becomes zero."""
    layer = Layer("fc", "linear", 1, 1, 3)
    x = np.float32([[2.0**-16, 1.2 * 2.0**-16, 2.0**-18]])
    emulated = emulate(layer, "fwd", {"x": x, "w": np.ones((3, 1), np.float32)}, "e5m2-fp32")
    assert emulated.underflowed == 2 and emulated.flushed == 1


def test_counting_is_optional() -> None:
    for machine in (None, "edge-8x8"):
        emulated = emulate(
            LAYERS["groups"], "fwd", tensors(LAYERS["groups"]), "hfp8", machine=machine, count=False
        )
        assert emulated.events is None and emulated.gated is None
        assert np.array_equal(emulated.codes, run(LAYERS["groups"], "fwd", "hfp8", None).codes)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("name", LAYERS)
def test_result_matrices_and_tensor_are_inverse(name: str, phase: str) -> None:
    layer = LAYERS[name]
    groups, m, n, _ = layer.shape(phase)
    matrices = np.arange(groups * m * n).reshape(groups, m, n)
    assert np.array_equal(
        result_matrices(layer, phase, result_tensor(layer, phase, matrices)), matrices
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"phase": "back"}, "unknown phase 'back'"),
        ({"profile": "hfp9"}, "unknown profile 'hfp9'"),
        ({"machine": "rapid"}, "unknown machine 'rapid'"),
        ({"tensors": {"x": np.ones((5, 90), np.float32)}}, "layer 'fc': tensor 'w' is missing"),
        ({"tensors": {"x": np.ones((90, 5), np.float32)}}, "shape is (90, 5); it must be (5, 90)"),
        ({"seed": -1}, "seed is -1"),
        ({"threads": 0}, "threads is 0"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_emulate_refuses_bad_arguments_in_one_line(
    changes: dict[str, object], expected: str
) -> None:
    layer = LAYERS["linear"]
    arguments = {"layer": layer, "phase": "fwd", "tensors": tensors(layer), "profile": "hfp8"}
    with pytest.raises(InputError) as refused:
        emulate(**(arguments | changes))  # type: ignore[arg-type]
    assert expected in str(refused.value) and "\n" not in str(refused.value)
