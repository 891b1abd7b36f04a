"""The registry: every shipped model, and one more model that is registered for the test."""

import dataclasses
import typing

import pytest

import hfp8sim as hs
from hfp8sim.cli.options import TimeModelOption
from hfp8sim.errors import InputError
from hfp8sim.lowering import lower_layer
from hfp8sim.machine import TIME_MODELS, get_machine
from hfp8sim.network import GemmShape, Layer, Workload
from hfp8sim.report.columns import PARTS
from hfp8sim.timing import (
    MODELS,
    Parts,
    TimeModel,
    get_model,
    register,
    time_gemm,
    time_layer,
    time_program,
    timeline,
)
from hfp8sim.timing.trace import trace


def roofline(shape, machine, operand_bits, compulsory):
    """The longer of computing at peak and of moving every tensor once."""
    compute = -(-shape.macs // machine.macs_per_cycle(operand_bits))
    transfer = -(-compulsory // machine.memory.bytes_per_cycle)
    return Parts(compute=compute, stall_in=max(0, transfer - compute))


ROOFLINE = TimeModel("roofline", "peak or bandwidth", closed_form=roofline, knows_memory=True)


@pytest.fixture
def registered():
    register(ROOFLINE)
    return ROOFLINE


NETWORK = Workload(
    "net", (Layer("wide", "linear", 512, 512, 512), Layer("vector", "linear", 1, 512, 512))
)


def test_registered_model_runs_and_reports(registered):
    report = hs.simulate(NETWORK, time_model="roofline", time_only=True)
    assert report.facts["time_model"] == "roofline"
    machine = get_machine()
    for row in report.layers:
        assert row["cycles"] == sum(row[part] for part in PARTS)
        macs, moved = row["macs"] / machine.macs_per_cycle(), row["bytes"] / 64
        assert row["cycles"] == max(macs, moved)
    bounds = {row["layer"]: row["bound_by"] for row in report.layers if row["phase"] == "fwd"}
    assert bounds == {"wide": "compute", "vector": "stall_in"}
    for text in (report.to_html(), report.to_csv(), report.to_scalesim(), report.to_json()):
        assert text
    with pytest.raises(InputError, match="roofline has no timeline; use pipelined"):
        report.to_timeline()


def test_closed_form_of_program_equals_that_of_layer(registered):
    layer = NETWORK["vector"]
    (from_program,) = time_program(lower_layer(layer), model="roofline").layers
    assert from_program == time_layer(layer, model="roofline")
    assert from_program.parts.total == -(-from_program.compulsory // 64)


def test_cached_times_belong_to_the_model_not_to_its_name(registered, monkeypatch):
    layer = NETWORK["wide"]
    before = time_layer(layer, model="roofline").cycles
    doubled = dataclasses.replace(
        ROOFLINE, closed_form=lambda *arguments: Parts(compute=2 * roofline(*arguments).total)
    )
    monkeypatch.setitem(MODELS, "roofline", doubled)
    assert time_layer(layer, model="roofline").cycles == 2 * before


def test_machines_may_choose_exactly_the_shipped_models():
    assert tuple(MODELS) == TIME_MODELS
    for name, model in MODELS.items():
        assert get_model(name) is model and model.name == name
        assert model.summary and model.has_timeline == model.needs_program
        assert model.knows_memory == (not name.startswith("scalesim"))


def test_bad_models_are_refused():
    with pytest.raises(InputError, match="needs either closed_form or program_timer, and not both"):
        TimeModel("nothing", "")
    with pytest.raises(InputError, match="there is a time model 'pipelined' already"):
        register(dataclasses.replace(ROOFLINE, name="pipelined"))


def test_unknown_models_are_refused():
    layer = Layer("x", "linear", 4, 4, 4)
    with pytest.raises(InputError, match="unknown time model 'scalesim-rs'; did you mean scalesim"):
        time_layer(layer, "fwd", "hfp8", "rapid-core", "scalesim-rs")
    with pytest.raises(InputError, match="unknown time model 'roofline'"):
        hs.simulate(NETWORK, time_model="roofline")
    with pytest.raises(InputError, match=r"'pipelined' has no closed form; scalesim-os, .* have"):
        time_gemm(GemmShape(1, 1, 1, 1), "rapid-core", "pipelined")


def test_time_columns_of_a_report():
    network = Workload("net", (Layer("x", "linear", 64, 64, 64),))
    (row,) = hs.simulate(network, phases=["dgrad"], time_only=True).layers
    assert row["cycles"] == sum(row[name] for name in Parts._fields)
    assert row["time_us"] == pytest.approx(row["cycles"] / 1600)
    assert row["tflops"] == pytest.approx(2 * 64**3 / row["time_us"] / 1e6)
    assert row["utilisation"] == pytest.approx(64**3 / row["cycles"] / 2048)
    assert row["bound_by"] == "stall_in" and row["bytes"] == 4096 * 4


def test_help_text_names_the_shipped_models():
    _, option = typing.get_args(TimeModelOption)
    assert all(name in option.help for name in MODELS)


def test_timeline_needs_a_model_that_has_one():
    program = lower_layer(NETWORK["vector"])
    assert timeline(program) and trace(program, get_machine())
    with pytest.raises(InputError, match="scalesim-ws has no timeline; use pipelined"):
        timeline(program, model="scalesim-ws")
    with pytest.raises(InputError, match="unknown time model 'none'"):
        trace(program, get_machine(), "none")
