"""Traces: valid JSON in the trace-event format, one row per unit, one span per instruction."""

import itertools
import json

import pytest

from hfp8sim.isa import decode
from hfp8sim.isa.table import UNITS
from hfp8sim.lowering import LayerPhase, lower_layer, lower_workload
from hfp8sim.machine import get_machine
from hfp8sim.network import Layer
from hfp8sim.timing import time_program, timeline
from hfp8sim.timing.trace import GRID, tile_text, trace


def test_events_have_every_span_with_disassembly_and_layer():
    machine = get_machine("rapid-4core")
    layer = Layer("fc", "linear", 700, 256, 512)
    program = lower_workload([LayerPhase(layer, phase, "hfp8", 0) for phase in ("fwd", "wgrad")])
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
        assert 0 <= event["ts"] - span.start / machine.clock_mhz < 1 / GRID
        assert abs(event["dur"] - (span.end - span.start) / machine.clock_mhz) < 1 / GRID
        assert event["args"]["start"] == span.start
        assert event["args"]["cycles"] == span.end - span.start
    last = max(e["args"]["start"] + e["args"]["cycles"] for e in events)
    assert last == time_program(program, machine).cycles
    assert [e["args"]["tile"] for e in events] == [tile_text(span.tile) for span in spans]
    assert json.loads(trace(program, machine))["otherData"]["time_model"] == "pipelined"


def test_tile_text():
    assert tile_text((2, 1, 64, 32, 0, 5, 8, 8)) == "g 2 m 64+32 n 0+5 k 8+8"
    assert tile_text((0, 3, 0, 1, 0, 1, 0, 1)) == "g 0+3 m 0+1 n 0+1 k 0+1"


@pytest.mark.parametrize("clock", [1, 999, 1000, 1600, 3300])
def test_spans_do_not_overlap_in_any_viewer(clock):
    """Speedscope adds floats, Perfetto int(1000·ts) and int(1000·dur); both nest overlapping spans."""
    machine = get_machine("rapid-core").replace(clock_mhz=clock)
    program = lower_layer(Layer("fc", "linear", 3000, 300, 700), "fwd", machine)
    rows = {}
    for event in json.loads(trace(program, machine))["traceEvents"]:
        if event["ph"] == "X":
            rows.setdefault(event["tid"], []).append(event)
    assert len(rows) == len(UNITS)
    for spans in rows.values():
        for before, after in itertools.pairwise(spans):
            end = int(1000.0 * before["ts"]) + int(1000.0 * before["dur"])
            assert end <= int(1000.0 * after["ts"])
            assert before["dur"] > 0 and before["ts"] + before["dur"] <= after["ts"]
            for time in (before["ts"], before["dur"]):  # floats add such numbers exactly
                assert (time * GRID).is_integer()
