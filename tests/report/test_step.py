"""The training step of a report: from the run, from JSON, and in the table."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

import hfp8sim as hs
from hfp8sim.errors import InputError
from hfp8sim.report.step import training_step
from hfp8sim.systems import LayerWork, Link, System, layer_works, time_step, wire

SYSTEM = System("pair", 2, Link(0.5, 2), machine="edge-8x8")
NAMES = ("conv1", "conv2", "conv3", "fc1", "fc2")


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


def test_rows_have_the_wire_account_of_their_exchange(report: hs.Report) -> None:
    """Gradients are sent after wgrad, weights before fwd; bytes and messages are those of the account."""
    weights = [
        wire.Weights(layer.name, layer.parameters) for layer in hs.load_workload("digits-cnn")
    ]
    account = {(row.layer, row.collective): row for row in wire.hfp8(weights, 2)}
    rows = {(row["layer"], row["phase"]): row for row in report.layers}
    for layer in NAMES:
        for phase, collective in (("wgrad", "reduce-scatter"), ("fwd", "all-gather")):
            row, sent = rows[layer, phase], account[layer, collective]
            assert row["collective"] == collective
            assert (row["sent_bytes"], row["messages"]) == (sent.bytes, sent.messages)
        assert "collective" not in rows.get((layer, "dgrad"), {})
    step = training_step(report)
    assert step is not None
    assert report.total["messages"] == step.exchange.messages
    assert report.total["exposed_us"] == pytest.approx(step.exposed * 1e6)
    assert rows["fc2", "wgrad"]["exposed_us"] == 0 < rows["conv1", "wgrad"]["exposed_us"]


def test_every_form_shows_the_exchange(report: hs.Report) -> None:
    row = report.layers[0]
    line = next(csv.DictReader(io.StringIO(report.to_csv())))
    assert float(line["sent_bytes"]) == row["sent_bytes"] > 0
    assert float(line["exposed_us"]) == row["exposed_us"]
    assert json.loads(report.to_json())["layers"][0]["messages"] == row["messages"] == 1
    text = report.to_text()
    assert "kB sent" in text and "exposed µs" in text
    page = report.to_html()
    assert "<h2>A training step</h2>" in page and "Exchange between chips" in page
    alone = hs.simulate("digits-cnn", machine="edge-8x8", time_only=True)
    assert "kB sent" not in alone.to_text()
    assert "A training step" not in alone.to_html()


def test_layers_in_16_bits_distribute_two_bytes(report: hs.Report) -> None:
    other = hs.simulate("digits-cnn", time_only=True, system=SYSTEM, policy="first=fp16,last=fp16")
    for one, two in zip(report.layers, other.layers, strict=True):
        wide = one["phase"] == "fwd" and one["layer"] in (NAMES[0], NAMES[-1])
        assert two.get("sent_bytes") == (2 * one["sent_bytes"] if wide else one.get("sent_bytes"))


def test_one_chip_exchanges_nothing() -> None:
    total = hs.simulate("digits-cnn", time_only=True, system=SYSTEM.replace(chips=1)).total
    assert (total["sent_bytes"], total["messages"], total["exposed_us"]) == (0, 0, 0)


def test_interrupted_run_has_no_exchange(report: hs.Report) -> None:
    """What is exposed depends on all rows."""
    reports: list[hs.Report] = []
    hs.simulate("digits-cnn", time_only=True, system=SYSTEM, checkpoint=reports.append)
    assert reports and not any("sent_bytes" in row for row in reports[-1].layers)
    again = hs.simulate("digits-cnn", time_only=True, system=SYSTEM, resume=reports[3])
    assert again.layers == report.layers


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
        ("link", None, "system must have the keys of a system, weights and weight_bytes"),
        ("weights", [1], "system must have the keys of a system, weights and weight_bytes"),
        (
            "weights",
            {"conv1": 1},
            "weights and weight_bytes must be numbers of at least 0, by the same",
        ),
        (
            "weight_bytes",
            dict.fromkeys(NAMES, -1),
            "must be numbers of at least 0, by the same layers",
        ),
        ("chips", 0, "system: system pair: chips is 0"),
        ("colour", 1, "system must have the keys of a system, weights and weight_bytes"),
    ],
)
def test_damaged_system_is_refused(report: hs.Report, key: str, value: Any, message: str) -> None:
    document = json.loads(report.to_json())
    document["system"][key] = value
    with pytest.raises(InputError, match=message):
        hs.Report.from_json(json.dumps(document))
