"""The timeline of a program, in the trace format that Chrome's viewer and Perfetto open.

One process per core, one row per unit, one span per instruction, named by its disassembly.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from hfp8sim.isa import Program, instruction_text
from hfp8sim.isa.table import UNITS
from hfp8sim.machine import TIME_MODELS, Machine
from hfp8sim.timing import Span, timeline

#: Times are whole multiples of 1/GRID microseconds. Floats represent and add those exactly, so that a
#: span's `ts + dur` equals the next one's `ts`. Viewers nest the next span in one that ends later by any
#: rounding error. Starts are rounded up, so that truncation to nanoseconds keeps whole nanoseconds.
GRID = 2**14


def trace_events(
    spans: Iterable[Span], program: Program, clock_mhz: int
) -> Iterator[dict[str, Any]]:
    """The events of a trace: a complete event for each span, after the names of its core and unit.

    Args:
        spans: `timing.timeline` of the program.
        clock_mhz: the machine's clock. Traces count microseconds; `args` has the exact cycles.
    """
    named: set[tuple[int, str]] = set()
    texts: dict[int, str] = {}
    for span in spans:
        row = {"pid": span.core, "tid": UNITS.index(span.unit)}
        for key, event, arguments in (
            ((span.core, ""), "process_name", {"name": f"core {span.core}"}),
            ((span.core, span.unit), "thread_name", {"name": span.unit}),
            ((span.core, span.unit), "thread_sort_index", {"sort_index": UNITS.index(span.unit)}),
        ):
            if key not in named:
                yield {"ph": "M", "name": event, "args": arguments, **row}
        named |= {(span.core, ""), (span.core, span.unit)}
        if span.index not in texts:
            text = instruction_text(int(program.words[span.index]))
            texts[span.index] = " ".join(text.split())
        start, end = (-(-cycle * GRID // clock_mhz) / GRID for cycle in (span.start, span.end))
        yield {
            "ph": "X",
            "name": texts[span.index],
            "cat": span.layer,
            "ts": start,
            "dur": end - start,
            "args": {
                "layer": span.layer,
                "instruction": span.index,
                "tile": tile_text(span.tile),
                **({"bytes": span.bytes} if span.bytes else {}),
                "start": span.start,
                "cycles": span.end - span.start,
            },
            **row,
        }


def tile_text(tile: tuple[int, ...]) -> str:
    """A tile in words, `g 0 m 64+64 n 0+32 k 0+144`: first and count of each dimension; one group has no
    count."""
    pairs = list(zip("gmnk", tile[::2], tile[1::2], strict=True))
    return " ".join(
        f"{name} {first}" + (f"+{count}" if name != "g" or count > 1 else "")
        for name, first, count in pairs
    )


def trace(program: Program, machine: Machine, model: str = TIME_MODELS[0]) -> str:
    """A program's timeline under a time model, as JSON text; errors are those of `timing.timeline`."""
    events = trace_events(timeline(program, machine, model), program, machine.clock_mhz)
    lines = ",\n".join(json.dumps(event) for event in events)
    about = json.dumps(
        {"machine": machine.name, "clock_mhz": machine.clock_mhz, "time_model": model}
    )
    return f'{{"traceEvents": [\n{lines}\n],\n"otherData": {about}}}\n'
