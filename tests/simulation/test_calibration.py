"""Calibration: biases and scales equal those of trying all, and what runs with them is what the machine computes."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import hfp8sim as hs
from hfp8sim.errors import InputError
from hfp8sim.isa import disassemble
from hfp8sim.lowering import lower_layer
from hfp8sim.machine import execute
from hfp8sim.network import PHASES, Conv, Layer, Scaling, Workload, phase_stream
from hfp8sim.report.report import Report
from hfp8sim.simulation import calibrate, emulate, simulate
from hfp8sim.simulation.calibration import Method, fitting_shift, kept_magnitude, least_error
from hfp8sim.simulation.tasks import list_tasks
from hfp8sim.workloads import load_workload, save_trace

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "report.schema.json").read_text("utf-8"))
E4M3 = hs.get_format("hfp8-143")


def layer(x: np.ndarray, w: np.ndarray, dy: np.ndarray | None = None) -> Layer:
    tensors = {"x": x, "w": w} | ({} if dy is None else {"dy": dy})
    (m, k), n = x.shape, w.shape[1]
    tensors = {name: np.asarray(values, np.float32) for name, values in tensors.items()}
    return Layer("fc", "linear", m, n, k, tensors=tensors)


def network(seed: int = 0) -> Workload:
    """A convolution with activations up to some thousands, and a layer with errors around 2^-22."""
    rng = np.random.default_rng(seed)

    def normal(scale: float, *shape: int) -> np.ndarray:
        return (scale * rng.normal(size=shape)).astype(np.float32)

    conv = Conv(2, 5, 5, 3, 4, (3, 3))
    first = {"x": normal(600, 2, 5, 5, 3), "w": normal(0.01, 3, 3, 3, 4), "dy": normal(2**-22, 2, 3, 3, 4)}  # fmt: skip
    second = {"x": normal(0.5, 4, 90), "w": normal(0.1, 90, 6), "dy": normal(2**-20, 4, 6)}
    return Workload(
        "net",
        (
            Layer.from_conv("stem", conv, phases=("fwd", "wgrad"), tensors=first),
            Layer("fc", "linear", 4, 6, 90, tensors=second),
        ),
    )


def bias_of(values: np.ndarray, method: str) -> int:
    workload = Workload("net", (layer(values.reshape(1, -1), np.ones((values.size, 1))),))
    return calibrate(workload, method=method, phases=["fwd"])["fc"].calibration["x"].bias


# -- the choice ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("largest", [1840, 30, 30.001, 60, 61440, 1e9, 1.875, 1.0, 1e-3, 29.9, 15])
def test_max_is_the_largest_bias_without_saturation(largest: float) -> None:
    values = np.float32([0, largest / 3, -largest])
    kept = [b for b in range(16) if E4M3.with_bias(b).max >= np.float32(largest)]
    assert bias_of(values, "max") == max(kept, default=0)


@pytest.mark.parametrize("share", [50, 99, 99.9, 100])
def test_percentile_keeps_its_share_of_elements(share: float) -> None:
    values = np.random.default_rng(1).standard_cauchy(2000).astype(np.float32)
    beyond = {b: np.mean(np.abs(values) > E4M3.with_bias(b).max) for b in range(16)}
    kept = [b for b in range(16) if beyond[b] <= 1 - share / 100 + 1e-12]
    assert bias_of(values, f"percentile={share}") == max(kept, default=0)


@pytest.mark.parametrize("power", [1, 2, 3, 5])
def test_mse_is_the_least_of_all_biases(power: int) -> None:
    values = (np.random.default_rng(power).normal(size=3000) ** power * 3).astype(np.float32)
    errors = {
        b: np.sum((E4M3.with_bias(b).decode(E4M3.with_bias(b).encode(values, "nearest-away")) - values) ** 2)
        for b in range(16)
    }  # fmt: skip
    assert errors[bias_of(values, "mse")] == min(errors.values())


def test_mse_clips_an_outlier_that_costs_less_than_flushing_the_rest() -> None:
    """Bias 10 rounds 31.01 to 32 and 200,000 numbers of 0.0008 to zero: Σ = 0.98 + 0.128.
    Bias 11 clamps the one to 30, and keeps the others: Σ = 1.02 and little more."""
    values = np.full(200_001, 0.0008, np.float32)
    values[0] = 31.01
    assert bias_of(values, "max") == 10
    assert bias_of(values, "mse") == 11


def test_zeros_keep_the_profile_s_bias() -> None:
    assert bias_of(np.zeros(5, np.float32), "mse") == 11
    assert kept_magnitude(np.float32([0, 0, 0, 2]), Method.of("percentile=50")) == 2


def test_wider_range_than_the_register_is_clamped() -> None:
    assert bias_of(np.float32([1e6]), "max") == 0
    assert bias_of(np.float32([1e-6]), "mse") == 15


@pytest.mark.parametrize("name", ["e4m3fn", "e5m2", "hfp8-152"])
def test_scale_is_the_largest_that_fits(name: str) -> None:
    fmt = hs.get_format(name)
    for magnitude in (fmt.max, fmt.max * 1.001, 1.0, 3e-12, 1e30):
        shift = fitting_shift(magnitude, fmt)
        assert magnitude * 2.0**shift <= fmt.max < magnitude * 2.0 ** (shift + 1)


def test_least_error_stops_without_missing_the_best() -> None:
    values = np.random.default_rng(3).standard_cauchy(4000).astype(np.float32)
    profile, shifts = hs.get_profile("hfp8"), range(-11, 5)
    errors = []
    for shift in shifts:
        fmt = E4M3.with_bias(11 + shift)
        errors.append(np.sum((fmt.decode(fmt.encode(values, "nearest-away")) - values) ** 2))
    assert least_error(values, E4M3, profile, shifts) == shifts[int(np.argmin(errors))]


def test_wide_operands_are_not_calibrated() -> None:
    calibrated = calibrate(network(), policy="stem=fp16")
    assert calibrated["stem"].calibration == {}
    assert set(calibrated["fc"].calibration) == {"x", "w", "dy"}


def test_phases_limit_the_tensors() -> None:
    assert set(calibrate(network(), phases=["fwd"])["fc"].calibration) == {"x", "w"}


def test_drawn_tensors_are_calibrated_on_their_draws() -> None:
    """Weights of N(0, 2/512) and activations of max(0, N(0, 1)): no element of the run saturates."""
    workload = Workload("drawn", (Layer("fc", "linear", 64, 32, 512),))
    row = simulate(workload, phases=["fwd"], calibrate="max", seed=3).layers[0]
    assert row["saturated"] == 0 and row["scaling"].startswith("x@1")
    assert row["b_largest"] < 0.5 or "w@15" in row["scaling"]


@pytest.mark.parametrize("method", ["max", "mse"])
@pytest.mark.parametrize("profile", ["fp8-2018", "hfp8"])
def test_scales_leave_room_for_the_sums(profile: str, method: str) -> None:
    """All elements equal: the sums are as large as they can be, and none overflows."""
    x, w = np.full((4, 4096), 3e-4, np.float32), np.full((4096, 4), 5e-5, np.float32)
    dy = np.full((4, 4), 2.0**-19, np.float32)
    report = simulate(Workload("net", (layer(x, w, dy),)), profile=profile, calibrate=method)
    for row in report.layers:
        assert row["overflowed"] == row["nan"] == row["saturated"] == row["flushed"] == 0, row


# -- what runs with it ----------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", ["hfp8", "hopper-fp8"])
def test_run_equals_program_and_gemm(profile: str) -> None:
    """Of every layer and phase: the program with its registers, the direct product, and `gemm` by hand."""
    workload = calibrate(network(), profile, "max")
    report = simulate(network(), profile=profile, calibrate="max")
    assert report == simulate(workload, profile=profile)
    tasks = list_tasks(workload, PHASES, hs.get_profile(profile))
    assert {task.scaling for task in tasks} == {row["scaling"] for row in report.layers}
    for task in tasks:
        tensors = task.layer.tensors
        on_machine = emulate(task.layer, task.phase, tensors, task.profile, machine="edge-8x8")
        direct = emulate(task.layer, task.phase, tensors, task.profile)
        assert np.array_equal(on_machine.codes, direct.codes)
        program = lower_layer(task.layer, task.phase, "edge-8x8", task.profile)
        (codes,) = execute(program, dict(on_machine.operands), "edge-8x8").outputs.values()
        assert np.array_equal(codes, on_machine.codes)


def test_biased_row_equals_gemm_by_hand() -> None:
    """fwd of `fc` with the biases by NumPy, through `FloatFormat` and `gemm`."""
    tensors = network()["fc"].tensors
    x, w = tensors["x"], tensors["w"]
    biases = [max(b for b in range(16) if E4M3.with_bias(b).max >= np.abs(t).max()) for t in (x, w)]
    formats = [E4M3.with_bias(bias) for bias in biases]
    a, b = (fmt.encode(t, rounding="nearest-away") for fmt, t in zip(formats, (x, w), strict=True))
    codes = hs.gemm(a, b, "hfp8", a_format=formats[0], b_format=formats[1])
    calibrated = calibrate(network())
    task = next(t for t in list_tasks(calibrated, ["fwd"], hs.get_profile("hfp8")) if t.layer.name == "fc")  # fmt: skip
    assert task.scaling == f"x@{biases[0]} w@{biases[1]}"
    emulated = emulate(
        task.layer, "fwd", tensors, task.profile, machine="rapid-core", stream=phase_stream(1, "fwd")
    )  # fmt: skip
    assert np.array_equal(emulated.codes, codes)
    program = disassemble(lower_layer(task.layer, "fwd", "rapid-core", task.profile))
    assert f"hfp8-143@{biases[0]}" in program and f"hfp8-143@{biases[1]}" in program
    row = simulate(network(), calibrate="max").layers[1]
    assert row["formats"].startswith(f"hfp8-143@{biases[0]} × hfp8-143@{biases[1]}")


def test_clipped_activations_come_back() -> None:
    """63 of 100 activations are beyond 30, up to 1840; max takes bias 5, whose largest number is 1920."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-29, 29, (10, 10))
    x.ravel()[:63] = rng.uniform(32, 1840, 63)
    x.ravel()[0] = 1840
    workload = Workload("net", (layer(x, rng.normal(size=(10, 8))),))
    plain, calibrated = (
        simulate(workload, phases=["fwd"], calibrate=method) for method in (None, "max")
    )
    assert plain.layers[0]["a_saturated_share"] == 0.63
    assert "63 % of its activations beyond 30" in str(plain)
    row = calibrated.layers[0]
    assert row["scaling"].startswith("x@5 ") and row["a_largest"] == 1920
    assert row["saturated"] == 0 and row["sqnr_db"] > plain.layers[0]["sqnr_db"] + 15
    assert "beyond" not in str(calibrated) and "calibrated by max" in " ".join(str(calibrated).split())  # fmt: skip


def test_report_states_method_and_biases() -> None:
    report = simulate(network(), calibrate="percentile=99.5")
    assert report.facts["calibration"] == "percentile 99.5"
    assert all(row["scaling"] for row in report.layers)
    jsonschema.validate(json.loads(report.to_json()), SCHEMA)
    assert Report.from_json(report.to_json()) == report
    assert "calibrated by percentile 99.5" in report.to_html()
    assert simulate(network()).facts["calibration"] == "none"
    row = report.layers[-1]
    assert row["layer"] == "stem" and f'<td data-v="{row["scaling"]}">' in report.to_html()


def test_time_does_not_depend_on_calibration() -> None:
    plain, calibrated = simulate(network()), simulate(network(), calibrate="mse")
    assert plain.total["cycles"] == calibrated.total["cycles"]
    assert plain.total["bytes"] == calibrated.total["bytes"]


@pytest.mark.parametrize("name", ["net.npz", "net"])
def test_trace_keeps_calibration(tmp_path: Path, name: str) -> None:
    calibrated = calibrate(network(), "hfp8", "mse")
    save_trace(tmp_path / name, calibrated)
    read = load_workload(tmp_path / name)
    assert read.calibration == "mse"
    assert [x.calibration for x in read] == [x.calibration for x in calibrated]
    assert simulate(read).layers == simulate(network(), calibrate="mse").layers
    assert simulate(read, calibrate="none").layers == simulate(network()).layers


def test_calibration_of_other_formats_is_not_used_and_said() -> None:
    report = simulate(calibrate(network()), profile="e5m2-fp32")
    (alert,) = report.alerts
    assert alert == (
        "not used: the calibration of 'stem', 'fc' is for other formats than the profile's"
    )
    assert report.layers == simulate(network(), profile="e5m2-fp32").layers
    assert simulate(calibrate(network())).alerts == []


def test_calibration_on_another_batch() -> None:
    other = network(seed=9)
    assert calibrate(network(), on=other)["fc"].calibration == calibrate(other)["fc"].calibration
    assert calibrate(network(), on=other).calibration == "max on net"
    report = simulate(network(), calibrate="max", calibrate_on=other)
    assert report.layers == simulate(calibrate(network(), on=other)).layers


def test_resume_needs_the_same_calibration() -> None:
    whole = simulate(network(), calibrate="max")
    partial = Report(whole.layers[:2], whole.facts, whole.notes, len(whole.layers))
    assert simulate(network(), calibrate="max", resume=partial).layers == whole.layers
    with pytest.raises(InputError, match="cannot resume"):
        simulate(network(), calibrate="none", resume=partial)
    first, other = (
        simulate(network(), calibrate="max", calibrate_on=network(seed)) for seed in (5, 9)
    )
    partial = Report(first.layers[:2], first.facts, first.notes, len(first.layers))
    assert first.layers != other.layers
    with pytest.raises(InputError, match="the workload has changed since"):
        simulate(network(), calibrate="max", calibrate_on=network(9), resume=partial)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"calibrate": "most"}, "unknown calibration 'most'"),
        ({"calibrate": "percentile=0"}, "a P above 0 and at most 100"),
        ({"calibrate": "percentile=x"}, "write percentile=P"),
        ({"calibrate": "max=3"}, "write percentile=P"),
        ({"calibrate": "max", "time_only": True}, "needs values, and time_only computes none"),
        ({"calibrate_on": "digits-cnn"}, "calibrate_on needs a method"),
        ({"calibrate": "max", "calibrate_on": "digits-cnn"}, "unknown layer 'stem'"),
    ],
    ids=lambda value: "" if isinstance(value, str) else "-".join(map(str, value.values())),
)
def test_bad_arguments_are_refused_in_one_line(arguments: dict[str, object], says: str) -> None:
    with pytest.raises(InputError) as refused:
        simulate(network(), **arguments)  # type: ignore[arg-type]
    assert says in str(refused.value) and "\n" not in str(refused.value)


def test_bad_scalings_are_refused() -> None:
    plain = network()["fc"]
    for scaling in (Scaling("hfp8-143", 5000), Scaling("hfp8-143", 5, 9999), Scaling("hfp8-143", True)):  # fmt: skip
        with pytest.raises(InputError, match="layer 'fc', calibration of x"):
            plain.replace(calibration={"x": scaling})
    with pytest.raises(InputError, match="unknown tensor 'y'"):
        plain.replace(calibration={"y": Scaling("hfp8-143", 5)})
