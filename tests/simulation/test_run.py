"""`simulate`: the values of its rows, sampling, and reports that are interrupted and resumed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import hfp8sim as hs
from hfp8sim.errors import InputError
from hfp8sim.network import Conv, Layer, Workload
from hfp8sim.report.columns import BY_NAME, PARTS
from hfp8sim.report.report import Report
from hfp8sim.simulation import Interrupted, predictions, simulate
from hfp8sim.simulation.provenance import digest, profile_fields

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "report.schema.json").read_text("utf-8"))


def network(seed: int = 0) -> Workload:
    """Three small layers with tensors of their own."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    conv = Conv(2, 5, 5, 3, 4, (3, 3))
    return Workload(
        "net",
        (
            Layer.from_conv(
                "stem", conv, phases=("fwd", "wgrad"),
                tensors={"x": normal(2, 5, 5, 3), "w": normal(3, 3, 3, 4), "dy": normal(2, 3, 3, 4)},
            ),
            Layer("heads", "matmul", 6, 5, 7, groups=3),
            Layer(
                "fc", "linear", 4, 6, 90,
                tensors={"x": normal(4, 90), "w": normal(90, 6), "dy": normal(4, 6)},
            ),
        ),
        ("a note",),
    )  # fmt: skip


@pytest.fixture(scope="module")
def report() -> Report:
    return simulate(network(), "rapid-core", "hfp8", seed=3)


def test_rows_are_in_training_order(report: Report) -> None:
    assert [(row["layer"], row["phase"]) for row in report.layers] == [
        ("stem", "fwd"), ("heads", "fwd"), ("fc", "fwd"),
        ("fc", "dgrad"), ("fc", "wgrad"), ("heads", "dgrad"), ("heads", "wgrad"), ("stem", "wgrad"),
    ]  # fmt: skip


def test_every_column_is_filled(report: Report) -> None:
    """All but those of an exchange between chips, which a report with a system has (tests/report/test_step.py)."""
    columns = {column.name for column in BY_NAME.values() if column.group != "exchange"}
    for row in report.layers:
        assert set(row) == columns
        # The loss scale is that of errors, which the forward phase has not.
        without = {"loss_scale", "loss_scale_lost"} if row["phase"] == "fwd" else set()
        assert {name for name in columns if row[name] is None} == without, row
        for name, value in row.items():
            if name not in without:
                assert type(value) is BY_NAME[name].kind, f"{name} is a {type(value)}"


def test_json_matches_the_published_schema(report: Report) -> None:
    document = json.loads(report.to_json())
    jsonschema.validate(document, SCHEMA)
    assert Report.from_json(report.to_json()) == report
    assert document["seed"] == 3 and document["workload"] == "net"
    assert document["versions"]["hfp8sim"] == hs.__version__
    assert document["machine"]["name"] == "rapid-core"
    assert document["profile"]["chunk_length"] == 64
    assert document["notes"] == ["a note"]


def test_cycles_are_the_sum_of_their_parts(report: Report) -> None:
    for row in report.layers:
        assert row["cycles"] == sum(row[part] for part in PARTS) > 0
        assert 0 < row["utilisation"] <= 1


def test_row_equals_gemm_by_hand(report: Report) -> None:
    """The row of `fc` forward, by hand."""
    layer = network()["fc"]
    profile = hs.get_profile("hfp8")
    x, w = layer.tensors["x"], layer.tensors["w"]
    operand, result = hs.get_format("hfp8-143"), hs.get_format("dlfloat16")
    a, b = (operand.encode(t, rounding="nearest-away") for t in (x, w))
    y = result.decode(hs.gemm(a, b, profile))
    row = report.layers[2]
    unquantised = x.astype(float) @ w.astype(float)
    quantised = operand.decode(a) @ operand.decode(b)
    for name, reference in (("sqnr_db", unquantised), ("acc_sqnr_db", quantised)):
        noise = np.sum((y - reference) ** 2)
        assert row[name] == pytest.approx(10 * np.log10(np.sum(reference**2) / noise))
    assert row["max_error"] == np.max(np.abs(y - unquantised))
    assert row["steps"] == 4 * 6 * 90
    assert sum(row["error_ulps"]) == sum(row["acc_error_ulps"]) == 4 * 6
    assert row["retention"] == pytest.approx(np.var(y) / np.var(quantised))


def test_threads_and_repetition_change_nothing(report: Report) -> None:
    for threads in (1, 3):
        assert simulate(network(), "rapid-core", "hfp8", seed=3, threads=threads) == report


def test_stochastic_rounding_depends_on_the_seed_alone() -> None:
    profile = hs.get_profile("hfp8").replace(rounding="stochastic")
    first, again, other = (simulate(network(), profile=profile, seed=s) for s in (1, 1, 2))
    assert first == again
    column = [[row["acc_sqnr_db"] for row in r.layers] for r in (first, other)]
    assert column[0] != column[1]
    assert all(row["draws"] > 0 for row in first.layers)


def test_policy_rules_choose_profiles() -> None:
    report = simulate(network(), policy={"first": "fp16", "h*": "exact"})
    applied = {row["layer"]: (row["profile"], row["rule"]) for row in report.layers}
    assert applied == {"stem": ("fp16", "first"), "heads": ("exact", "h*"), "fc": ("hfp8", "")}
    assert [p["rule"] for p in report.facts["policy"]] == ["first", "h*"]
    plain = simulate(network())
    better = {r["layer"]: r["sqnr_db"] - q["sqnr_db"] for r, q in zip(report.layers, plain.layers)}
    assert better["stem"] > 10 and better["fc"] == 0


def test_sampled_rows_say_so() -> None:
    report = simulate(network(), phases=["fwd"], max_macs=400)
    for row in report.layers:
        assert 0 < row["sampled"] <= 400 / row["macs"]
        assert "sampled" in row["tensors"]
    whole = simulate(network(), phases=["fwd"])
    assert [r["cycles"] for r in report.layers] == [r["cycles"] for r in whole.layers]


def test_time_only_computes_the_same_time_and_no_values(report: Report) -> None:
    fast = simulate(network(), "rapid-core", "hfp8", seed=3, time_only=True)
    time_only_columns = {
        name for name, column in BY_NAME.items() if column.group in ("layer", "time")
    }
    assert fast.layers == [
        {n: row[n] for n in row if n in time_only_columns} for row in report.layers
    ]
    assert fast.facts["time_only"] and not report.facts["time_only"]
    jsonschema.validate(json.loads(fast.to_json()), SCHEMA)
    assert Report.from_json(fast.to_json()) == fast
    assert 'id="plot-cycles"' in fast.to_html() and 'id="plot-sqnr"' not in fast.to_html()


def test_gated_macs_are_counted() -> None:
    rng = np.random.default_rng(1)
    x, w = (rng.normal(size=shape).astype(np.float32) for shape in ((8, 90), (90, 6)))
    x[rng.random(x.shape) < 0.4], w[rng.random(w.shape) < 0.2] = 0, 0
    layer = Layer("fc", "linear", 8, 6, 90, tensors={"x": x, "w": w})
    without_tensors = Layer("drawn", "linear", 64, 32, 64)
    report = simulate(Workload("net", (layer, without_tensors)), phases=["fwd"], max_macs=8192)
    row, other = report.layers
    assert row["gated"] == np.count_nonzero((x == 0)[:, :, None] | (w == 0)[None]) > 0
    assert row["gated_share"] == row["gated"] / row["macs"]
    assert other["sampled"] == 1 / 16 and 0 < other["gated"] < 8192
    assert other["gated_share"] == other["gated"] / 8192
    whole = row["macs"] + 8192
    assert report.total["gated_share"] == (row["gated"] + other["gated"]) / whole


def test_bytes_are_compulsory_and_capacity_traffic(report: Report) -> None:
    for row in report.layers:
        assert row["bytes"] == row["bytes_compulsory"] + row["bytes_capacity"]
        assert row["bytes_capacity"] >= 0
    fc = report.layers[2]
    assert fc["bytes_compulsory"] == 4 * 90 + 90 * 6 + 2 * 4 * 6


# -- interrupt and resume --------------------------------------------------------------------------


def interrupted(after: int, **options: object) -> Report:
    """The report that Ctrl-C leaves when it comes in the row after the `after`-th."""
    calls = iter(range(100))

    def progress(done: int, total: int, what: str) -> None:
        if next(calls) == after:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as stopped:
        simulate(network(), seed=3, progress=progress, **options)  # type: ignore[arg-type]
    return stopped.value.report


@pytest.mark.parametrize("after", [0, 1, 5, 7])
def test_resumed_report_equals_uninterrupted_one(report: Report, after: int) -> None:
    part = interrupted(after)
    assert part.partial and part.layers == report.layers[:after]
    if after:
        jsonschema.validate(json.loads(part.to_json()), SCHEMA)
        part = Report.from_json(part.to_json())
    seen: list[str] = []
    whole = simulate(
        network(), seed=3, resume=part, progress=lambda done, total, what: seen.append(what)
    )
    assert whole == report and not whole.partial
    assert len(seen) == len(report.layers) - after + 1  # the rest, and the end


def test_interrupted_is_a_keyboard_interrupt() -> None:
    """`except KeyboardInterrupt` still catches it."""
    assert issubclass(Interrupted, KeyboardInterrupt)


def test_checkpoints_hold_the_rows_so_far(report: Report) -> None:
    kept: list[Report] = []
    simulate(network(), seed=3, checkpoint=kept.append)
    assert [len(part.layers) for part in kept] == list(range(1, len(report.layers)))
    assert kept[2].layers == report.layers[:3] and kept[2].partial


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"seed": 4}, "seed is 3 in the partial report and 4 in this run"),
        ({"profile": "fp16"}, "profile.name is 'hfp8'"),
        (
            {"profile": hs.get_profile("hfp8").replace(chunk_length=8)},
            "profile.chunk_length is 64 in the partial report and 8 in this run",
        ),
        ({"machine": "edge-8x8"}, "machine.name"),
        ({"policy": "first=fp16"}, "policy is []"),
        ({"phases": ["fwd"]}, "phases is"),
        ({"max_macs": 5000}, "max_macs is"),
        ({"time_model": "scalesim-ws"}, "time_model is 'pipelined'"),
        ({"workload": network(seed=1)}, "the workload has changed since"),
    ],
)
def test_resume_refuses_another_run(options: dict[str, object], says: str) -> None:
    arguments = {"workload": network(), "seed": 3, "resume": interrupted(2)} | options
    with pytest.raises(InputError) as refused:
        simulate(**arguments)  # type: ignore[arg-type]
    assert str(refused.value).startswith("cannot resume: ") and says in str(refused.value)


def test_resume_accepts_another_python_but_not_another_hfp8sim() -> None:
    part = interrupted(2)
    versions = part.facts["versions"]
    simulate(
        network(), seed=3,
        resume=dataclasses.replace(part, facts={**part.facts, "versions": versions | {"python": "9"}}),
    )  # fmt: skip
    changed = {**part.facts, "versions": versions | {"hfp8sim": "9"}}
    with pytest.raises(InputError, match=r"versions\.hfp8sim"):
        simulate(network(), seed=3, resume=dataclasses.replace(part, facts=changed))


def test_resume_refuses_rows_of_other_layers() -> None:
    part = interrupted(2)
    torn = dataclasses.replace(part, layers=part.layers[::-1])
    with pytest.raises(InputError, match="heads fwd where this run has stem fwd"):
        simulate(network(), seed=3, resume=torn)


# -- the rest --------------------------------------------------------------------------------------


def test_digest_is_of_shapes_and_tensors() -> None:
    base = network()
    renamed = dataclasses.replace(base, name="other")
    fewer = dataclasses.replace(base, layers=base.layers[:2])
    assert digest(base) == digest(network()) == digest(renamed)
    assert len({digest(w) for w in (base, network(1), fewer)}) == 3


def test_unregistered_format_is_recorded_with_all_fields() -> None:
    """A format without a registered name could not be found again by it."""
    narrow = hs.FloatFormat("narrow", 6, 5, 31)
    fields = profile_fields(hs.get_profile("hfp8").replace(accumulator=narrow))
    assert fields["accumulator"] == dataclasses.asdict(narrow)
    assert fields["a_format"] == "hfp8-143"
    assert profile_fields(hs.get_profile("hfp8").replace(accumulator=hs.get_format("e5m2"))) == (
        profile_fields(hs.get_profile("hfp8").replace(accumulator="e5m2"))
    )


@pytest.mark.parametrize("field", ["a_format", "error_format", "accumulator", "between_chunks"])
def test_format_need_not_be_registered(field: str) -> None:
    """A record gives the rows of the same format by its name."""
    named = hs.get_format("dlfloat16" if "format" not in field else "hfp8-152")
    record = dataclasses.replace(named, name="mine")
    by_name, by_record = (
        simulate(network(), profile=hs.get_profile("hfp8").replace(**{field: fmt}), seed=3)
        for fmt in (named, record)
    )
    assert "mine" not in hs.formats()
    assert by_record.facts["profile"][field] == dataclasses.asdict(record)
    for row, other in zip(by_name.layers, by_record.layers, strict=True):
        assert row | {"formats": ""} == other | {"formats": ""}


@pytest.mark.parametrize(
    ("profile", "k", "steps"),
    [
        ("hfp8", 130, 130),
        ("rapid", 130, 65),
        ("rapid", 129, 65),
        ("aiu", 130, 3),
        ("exact", 130, 1),
    ],
)
def test_steps_per_output(profile: str, k: int, steps: int) -> None:
    assert hs.get_profile(profile).steps(k) == steps


def test_predictions_from_shapes_alone() -> None:
    rows = predictions(Workload("w", (Layer("fc", "linear", 8, 8, 4608),)), "fp8-2018")
    forward = rows[0]
    assert (forward["product_bits"], forward["accumulator_bits"]) == (5, 9)
    assert (forward["bits_normal"], forward["bits_chunked"]) == (9, 5)
    assert forward["retention_normal"] == pytest.approx(0.999748, abs=1e-6)
    assert [row["phase"] for row in rows] == ["fwd", "dgrad", "wgrad"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"workload": "resnet5"}, "unknown workload 'resnet5'; did you mean resnet50"),
        ({"machine": "rapid"}, "unknown machine 'rapid'"),
        ({"profile": "hfp9"}, "unknown profile 'hfp9'"),
        ({"phases": ["forward"]}, "unknown phase 'forward'"),
        ({"phases": []}, "no phase given"),
        ({"time_model": "magic"}, "unknown time model 'magic'"),
        ({"seed": -1}, "seed is -1"),
        ({"threads": 0}, "threads is 0"),
        ({"policy": "stam=fp16"}, "unknown policy rule 'stam'; did you mean stem"),
        ({"max_macs": 10}, "one dot product of length"),
    ],
)
def test_simulate_refuses_bad_arguments_in_one_line(options: dict[str, object], says: str) -> None:
    with pytest.raises(InputError) as refused:
        simulate(**({"workload": network()} | options))  # type: ignore[arg-type]
    assert says in str(refused.value) and "\n" not in str(refused.value)


def test_simulate_refuses_a_phase_that_no_layer_has() -> None:
    only = Workload("w", (Layer("a", "linear", 2, 2, 2, phases=("fwd",)),))
    with pytest.raises(InputError, match="no layer with phase dgrad"):
        simulate(only, phases=["dgrad"])


def test_events_of_a_sample_of_the_rows():
    """Blocks 0 and 2 of 200 rows; all else is as without sampling, and every form says what was counted."""
    rng = np.random.default_rng(3)
    x, w = (rng.normal(size=s).astype(np.float32) for s in ((200, 300), (300, 40)))
    x[rng.random(x.shape) < 0.2] = 0
    net = Workload("net", (Layer("fc", "linear", 200, 40, 300, tensors={"x": x, "w": w}),))
    whole, some = (simulate(net, phases=["fwd"], events_every=n) for n in (1, 2))
    row, sample = whole.layers[0], some.layers[0]
    sampled = {"swamped", "overflowed", "underflowed", "steps", "draws", "gated", "counted"}
    shares = {"swamped_share", "gated_share"}
    assert {name for name in row if row[name] != sample[name]} <= sampled | shares
    assert (row["counted"], sample["counted"]) == (1, 128 / 200)
    assert sample["steps"] == row["steps"] * 128 // 200
    part = np.concatenate([x[:64], x[128:192]])
    layer = Layer("fc", "linear", 128, 40, 300, tensors={"x": part, "w": w})
    alone = simulate(Workload("net", (layer,)), phases=["fwd"]).layers[0]
    assert all(alone[name] == sample[name] for name in (sampled | shares) - {"counted"})
    assert some.total["gated_share"] == pytest.approx(sample["gated_share"])
    text = "sampled: events are counted in one of 2 blocks of 64 rows"
    assert some.alerts == [text] and not whole.alerts and text in str(some)
    with pytest.raises(InputError, match=r"events_every is 0, must be 1\.\.2147483647"):
        simulate(net, events_every=0)
