"""Traces: valid JSON of the trace-event format, one row per unit, one span per instruction."""

import json

import pytest

from hfp8sim.isa import decode
from hfp8sim.lowering import lower_workload
from hfp8sim.machine import get_machine, time_program, timeline
from hfp8sim.machine.pipeline import UNITS
from hfp8sim.report.timeline import trace
from hfp8sim.workloads import Layer


def test_a_trace_holds_every_span_with_its_disassembly_and_layer():
    machine = get_machine("rapid-4core")
    layer = Layer("fc", "linear", 700, 256, 512)
    program = lower_workload([(layer, "fwd", "hfp8"), (layer, "wgrad", "hfp8")])
    spans = timeline(program, machine)
    document = json.loads(trace(program, machine))
    names = [e for e in document["traceEvents"] if e["ph"] == "M"]
    events = [e for e in document["traceEvents"] if e["ph"] == "X"]
    rows = {(e["pid"], e["tid"]): e["args"]["name"] for e in names if e["name"] == "thread_name"}
    assert set(rows.values()) == set(UNITS)
    assert len(events) == len(spans) > 20
    for event, span in zip(events, spans, strict=True):
        assert rows[event["pid"], event["tid"]] == span.unit
        decoded = decode(int(program.words[event["args"]["instruction"]]))
        assert event["name"].split()[0] == decoded.row.mnemonic
        assert event["cat"] in ("fc fwd", "fc wgrad")
        assert event["ts"] * machine.clock_mhz == pytest.approx(span.start)
    end = max(e["ts"] + e["dur"] for e in events)
    assert end <= machine.seconds(time_program(program, machine).cycles) * 1e6 + 1e-9
