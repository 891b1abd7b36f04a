"""The training step of a report: from the run, from JSON, and in the table."""

from __future__ import annotations

import json
from typing import Any

import pytest

import hfp8sim as hs
from hfp8sim.errors import InputError
from hfp8sim.report.step import training_step
from hfp8sim.systems import LayerWork, Link, System, layer_works, time_step

SYSTEM = System("pair", 2, Link(0.5, 2), machine="edge-8x8")


@pytest.fixture(scope="module")
def report() -> hs.Report:
    return hs.simulate("digits-cnn", time_only=True, system=SYSTEM)


def test_step_is_that_of_the_rows(report: hs.Report) -> None:
    seconds = {(row["layer"], row["phase"]): row["time_us"] * 1e-6 for row in report.layers}
    works = layer_works(hs.load_workload("digits-cnn"), seconds)
    step = training_step(report)
    assert step == time_step(works, SYSTEM)
    assert step is not None and step.compute == pytest.approx(report.total["time_us"] * 1e-6)
    assert report.facts["machine"]["name"] == "edge-8x8"
    first = works[0]
    assert isinstance(first, LayerWork) and first.weights > 0


def test_json_keeps_the_system(report: hs.Report) -> None:
    document = json.loads(report.to_json())
    step = training_step(report)
    assert step is not None and document["step"] == step.facts()
    again = hs.Report.from_json(report.to_json())
    assert again.facts == report.facts
    assert training_step(again) == step


def test_table_compares_update_protocols(report: hs.Report) -> None:
    text = report.to_text()
    assert "pair: 2 chips, ring of 0.5 GB/s and 2 µs, hfp8 update; a step takes" in text
    rows = [line.split() for line in text.splitlines()]
    sent = {row[0]: float(row[1]) for row in rows if row and row[0] in ("fp32", "fp16", "hfp8")}
    assert sent["hfp8"] == pytest.approx(sent["fp16"] * 3 / 4, abs=0.1)
    assert training_step(hs.simulate("digits-cnn", time_only=True)) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"machine": "rapid-core4"}, "system pair has machine edge-8x8; leave out machine rapid-core4"),
        ({"phases": ["fwd"]}, "a system needs the whole training step: phases fwd, dgrad, wgrad"),
        ({"system": "none.toml"}, "none.toml: No such file"),
    ],
)  # fmt: skip
def test_impossible_step_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        hs.simulate("digits-cnn", time_only=True, **{"system": SYSTEM, **arguments})


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("link", None, "system must have the keys of a system and weights"),
        ("weights", [1], "system must have the keys of a system and weights"),
        ("weights", {"conv1": -1}, "weights must be numbers of at least 0, by layer"),
        ("chips", 0, "system: system pair: chips is 0"),
        ("colour", 1, "system must have the keys of a system and weights"),
    ],
)
def test_damaged_system_is_refused(report: hs.Report, key: str, value: Any, message: str) -> None:
    document = json.loads(report.to_json())
    document["system"][key] = value
    with pytest.raises(InputError, match=message):
        hs.Report.from_json(json.dumps(document))
