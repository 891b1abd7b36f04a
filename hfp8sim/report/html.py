"""Reports and comparisons as one self-contained page: no network, no file beside it.

The page's text and style stand in page.html (jinja2); charts come from `svg`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

from hfp8sim.analysis.accuracy import HISTOGRAM_BINS
from hfp8sim.errors import InputError
from hfp8sim.network.records import PHASES
from hfp8sim.report import svg
from hfp8sim.report.columns import (
    BY_NAME,
    COLUMNS,
    GROUPS,
    PARTS,
    Column,
    Row,
    missing,
    shape_text,
    text,
)
from hfp8sim.report.compare import DEFAULT, OVERVIEW, RATIOS, change, policy_text
from hfp8sim.report.table import origin_texts, origins, scaled, shortened
from hfp8sim.timing.models import knows_memory

if TYPE_CHECKING:
    from hfp8sim.report.compare import SideBySide
    from hfp8sim.report.report import Report

#: Series of the phases and of the parts of a layer's cycles; their colours stand in page.html.
PART_SERIES = {part: 10 + number for number, part in enumerate(PARTS)}

#: Characters of a layer's name in front of its bars.
NAME = 17

#: The plots of a report, by their data-plot: title, and what is to be seen in it.
PLOTS = {
    "sqnr": (
        "Accuracy by layer",
        "Bars: SQNR in dB against float64 of the unquantised tensors, what a user feels. Marks: SQNR of "
        "the sums alone, against float64 of the quantised operands, what the accumulator did.",
    ),
    "utilisation": (
        "Utilisation by layer",
        "Multiply-accumulates done, of those the array could have done in the layer's cycles.",
    ),
    "roofline": (
        "Roofline",
        "A point is a layer in a phase, its area the share of all cycles. Left of the ridge memory limits "
        "a layer, right of it the array.",
    ),
    "phases": ("Where the cycles went", "Parts of the cycles of each phase."),
    "cycles": ("Cycles by layer", "The same parts, every layer to one scale."),
    "errors_user": (
        "Errors a user feels",
        "Share of all results by their error, in units of the last place (ulp) of the result's format, "
        "against float64 of the unquantised tensors.",
    ),
    "errors_sum": (
        "Errors of the sums",
        "The same against float64 of the quantised operands: what the accumulator did.",
    ),
}

#: The plots of a comparison.
COMPARED = {
    "sqnr": ("Accuracy by layer", "SQNR in dB against float64 of the unquantised tensors."),
    "sum_sqnr": ("Accuracy of the sums", "SQNR in dB against float64 of the quantised operands."),
    "cycles": ("Cycles by layer", "Total cycles of every layer and phase."),
    "phases": ("Where the cycles went", "Parts of all cycles, to one scale."),
}


def render(report: Report) -> str:
    """The page of a report; `InputError` where jinja2 is missing."""
    rows, facts = report.layers, report.facts
    timed = all(row.get("cycles") for row in rows)
    drawn = {"sqnr": _sqnr(rows)} if any("sqnr_db" in row for row in rows) else {}
    if timed:
        drawn |= {
            "utilisation": _utilisation(rows),
            "roofline": _roofline(report),
            "phases": _phases(rows),
            "cycles": _cycles(rows),
        }
    if any(row.get("error_ulps") for row in rows):
        drawn["errors_user"] = _errors(rows, "error_ulps", "errors_user")
        drawn["errors_sum"] = _errors(rows, "acc_error_ulps", "errors_sum")
    page: str = _template().render(
        kind="report",
        title=f"{facts['workload']} on {facts['machine']['name']}",
        report=report,
        lead=_lead(report),
        tiles=_tiles(report),
        figures={name: (*PLOTS[name], drawn[name]) for name in PLOTS if name in drawn},
        phases=[(PHASES.index(p), p) for p in PHASES if any(row["phase"] == p for row in rows)],
        parts=_part_legend(rows) if timed else [],
        tables=[_table(report, group) for group in GROUPS],
        operands=_operands(rows),
        run_facts=_run_facts(facts),
        columns=[c for c in COLUMNS if c.short],
        notes=report.notes,
    )
    return page


def render_comparison(both: SideBySide) -> str:
    """The page of a comparison; `InputError` where jinja2 is missing."""
    drawn = {
        "sqnr": _compared(both, "sqnr_db", "sqnr"),
        "sum_sqnr": _compared(both, "acc_sqnr_db", "sum_sqnr"),
    }
    parts: list[tuple[int, str, str]] = []
    if all(row.get("cycles") for report in both.reports for row in report.layers):
        drawn["cycles"] = _compared(both, "cycles", "cycles")
        totals = [(letter, report.total) for letter, report in zip(both.letters, both.reports)]
        drawn["phases"] = _stacks(
            "phases", totals, max(total["cycles"] for _, total in totals), COMPARED["phases"][1]
        )
        parts = _part_legend([total for _, total in totals])
    runs = list(zip(range(len(both.labels)), both.letters, both.labels, both.reports))
    page: str = _template().render(
        kind="comparison",
        title="Comparison of "
        + ", ".join(dict.fromkeys(r.facts["workload"] for r in both.reports)),
        runs=runs,
        overview=_overview(both),
        figures={name: (*COMPARED[name], drawn[name]) for name in COMPARED if name in drawn},
        parts=parts,
        tables=[_compared_table(both, name) for name in _shown(both)],
        run_facts=[(f"{letter}: {label}", _run_facts(r.facts)) for _, letter, label, r in runs],
    )
    return page


@functools.cache
def _template() -> Any:
    try:
        import jinja2
    except ImportError:
        raise InputError("HTML reports need jinja2: pip install 'hfp8sim[report]'") from None
    source = (resources.files(__package__) / "page.html").read_text("utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(source)


# -- a report's plots ------------------------------------------------------------------------------


def _by_layer(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """Rows by layer, forward first, in the network's order."""
    layers: dict[str, list[Row]] = {}
    for row in rows:
        layers.setdefault(row["layer"], []).append(row)
    ordered = sorted(rows, key=lambda row: row["phase"] != "fwd")
    if not any(row["phase"] == "fwd" for row in rows):  # backward phases come last layer first
        ordered.reverse()
    names = dict.fromkeys(row["layer"] for row in ordered)
    return [(n, sorted(layers[n], key=lambda row: PHASES.index(row["phase"]))) for n in names]


def _hint(row: Row, *said: str) -> str:
    return f"{row['layer']} {row['phase']}: {', '.join(said)}"


def _finite(values: Iterable[Any]) -> list[float]:
    return [float(v) for v in values if not missing(v) and math.isfinite(v)]


def _ticks(top: float, unit: str = "") -> list[tuple[float, str]]:
    return [(value, svg.count(value) + unit) for value in svg.steps(top)]


def _sqnr(rows: Sequence[Row]) -> str:
    top = (
        max(_finite(row.get(n) for row in rows for n in ("sqnr_db", "acc_sqnr_db")), default=0) or 1
    )
    groups = []
    for name, phases in _by_layer(rows):
        bars = []
        for row in phases:
            user, sums = row.get("sqnr_db"), row.get("acc_sqnr_db")
            said = text(BY_NAME["sqnr_db"], user)
            segment = svg.Segment(
                PHASES.index(row["phase"]), 0.0 if missing(user) else float(user or 0),
                _hint(row, f"SQNR {said} dB"),
            )  # fmt: skip
            hint = _hint(row, f"sums alone {text(BY_NAME['acc_sqnr_db'], sums)} dB")
            bars.append(svg.Bar((segment,), said, None if missing(sums) else sums, hint))
        groups.append(svg.Group(shortened(name, NAME), tuple(bars), name))
    return svg.bars("sqnr", PLOTS["sqnr"][0], groups, _ticks(top, " dB"), top)


def _utilisation(rows: Sequence[Row]) -> str:
    groups = []
    for name, phases in _by_layer(rows):
        bars = []
        for row in phases:
            said = text(BY_NAME["utilisation"], row["utilisation"])
            hint = _hint(row, said, f"bound by {text(BY_NAME['bound_by'], row['bound_by'])}")
            segment = svg.Segment(PHASES.index(row["phase"]), 100 * row["utilisation"], hint)
            bars.append(svg.Bar((segment,), said))
        groups.append(svg.Group(shortened(name, NAME), tuple(bars), name))
    return svg.bars("utilisation", PLOTS["utilisation"][0], groups, _ticks(100, "%"), 100.0)


def _part_legend(rows: Sequence[Row]) -> list[tuple[int, str, str]]:
    """Series, name and share of each part that any cycle went to."""
    cycles = sum(row["cycles"] for row in rows)
    found = []
    for part in PARTS:
        spent = sum(row.get(part) or 0 for row in rows)
        if spent:
            found.append(
                (PART_SERIES[part], part.replace("_", " "), f"{100 * spent / cycles:.1f}%")
            )
    return found


def _stack(name: str, row: Row, figure: str) -> svg.Bar:
    segments = []
    for part in PARTS:
        spent = row.get(part) or 0
        if spent:
            share = f"{100 * spent / row['cycles']:.1f}%"
            hint = f"{name}: {part.replace('_', ' ')} {spent:,} cycles, {share}"
            segments.append(svg.Segment(PART_SERIES[part], spent, hint))
    return svg.Bar(tuple(segments), figure)


def _stacks(plot: str, named: Sequence[tuple[str, Row]], top: float, described: str) -> str:
    groups = [
        svg.Group(name, (_stack(name, row, f"{row['cycles']:,}"),)) for name, row in named
    ]  # fmt: skip
    return svg.bars(plot, described, groups, _ticks(top), top)


def _phases(rows: Sequence[Row]) -> str:
    named = []
    for phase in PHASES:
        own = [row for row in rows if row["phase"] == phase]
        if own:
            summed = {part: sum(row.get(part) or 0 for row in own) for part in (*PARTS, "cycles")}
            named.append((phase, summed))
    whole = {part: sum(row[part] for _, row in named) for part in (*PARTS, "cycles")}
    if len(named) > 1:
        named.append(("all", whole))
    return _stacks("phases", named, whole["cycles"], PLOTS["phases"][0])


def _cycles(rows: Sequence[Row]) -> str:
    top = max(row["cycles"] for row in rows)
    groups = []
    for name, phases in _by_layer(rows):
        bars = tuple(
            _stack(f"{name} {row['phase']}", row, f"{row['cycles']:,} {row['phase']}")
            for row in phases
        )
        groups.append(svg.Group(shortened(name, NAME), bars, name))
    return svg.bars("cycles", PLOTS["cycles"][0], groups, _ticks(top), top)


def _roofline(report: Report) -> str:
    machine, rows = report.facts["machine"], report.layers
    clock = machine["clock_mhz"] * 1e6
    peak = 2 * report.facts["peak_macs_per_cycle"] * clock / 1e12
    cycles = sum(row["cycles"] for row in rows)
    points = [
        svg.Point(
            2 * row["macs"] / row["bytes"], row["tflops"], PHASES.index(row["phase"]),
            3 + 14 * math.sqrt(row["cycles"] / cycles),
            _hint(
                row, f"{2 * row['macs'] / row['bytes']:.1f} FLOP/B", f"{row['tflops']:.3g} TFLOPS",
                f"{100 * row['cycles'] / cycles:.1f}% of the cycles",
            ),
        )
        for row in sorted(rows, key=lambda row: -row["cycles"])
        if row.get("bytes") and row.get("tflops")
    ]  # fmt: skip
    if not points:
        return ""
    roofs = []
    low = min(point.x for point in points)
    ridge = low
    if knows_memory(report.facts["time_model"]):
        rate = machine["memory"]["bytes_per_cycle"] * clock / 1e12
        ridge = peak / rate
        low = min(low, ridge / 4)
        roofs.append((low, rate * low, ridge, peak, f"memory: {1e3 * rate:,.0f} GB/s"))
    high = max(2 * ridge, *(point.x for point in points))
    roofs.append((ridge, peak, high, peak, f"array: {peak:.2f} TFLOPS"))
    wide = 2 * (report.facts.get("peak_macs_per_cycle_16bit") or 0) * clock / 1e12
    if wide and wide != peak and len({row.get("profile") for row in rows}) > 1:
        roofs.append((ridge * wide / peak, wide, high, wide, f"16 bits: {wide:.2f} TFLOPS"))
    axes = ("FLOP per byte moved", "TFLOPS")
    return svg.log_axes("roofline", PLOTS["roofline"][0], points, roofs, axes)


def _bins() -> list[str]:
    """The histogram's bins as axis labels."""
    named = []
    for bin_ in HISTOGRAM_BINS:
        front, power, exponent = bin_.partition("2^")
        named.append(f"{front}2{svg.superscript(int(exponent))}" if power else bin_)
    return named


def _errors(rows: Sequence[Row], column: str, plot: str) -> str:
    """Shares of all results by error, stacked by phase."""
    counted = {
        phase: [row[column] for row in rows if row["phase"] == phase and row.get(column)]
        for phase in PHASES
    }
    whole = sum(sum(counts) for own in counted.values() for counts in own) or 1
    stacks = []
    for number, name in enumerate(_bins()):
        stack = []
        for series, phase in enumerate(PHASES):
            count = sum(counts[number] for counts in counted[phase])
            if count:
                hint = f"{phase}, {name} ulp: {count:,} results, {100 * count / whole:.2f}%"
                stack.append(svg.Segment(series, count / whole, hint))
        stacks.append(stack)
    return svg.columns(plot, PLOTS[plot][0], _bins(), stacks, 170)


# -- tables ----------------------------------------------------------------------------------------


def _lead(report: Report) -> str:
    facts = report.facts
    machine = facts["machine"]
    said = [
        f"{facts['peak_macs_per_cycle']:,} MAC/cycle at {machine['clock_mhz']:,} MHz",
        f"time model {facts['time_model']}",
        f"profile {facts['profile']['name']}",
    ]
    if facts.get("policy"):
        said.append(f"policy {policy_text(facts['policy'])}")
    return "; ".join([*said, f"seed {facts['seed']}"])


def _tiles(report: Report) -> list[tuple[str, str, str]]:
    """(figure, unit, what it is) of what matters most."""
    total, facts = report.total, report.facts
    tiles = []
    judged = [row for row in report.layers if not missing(row.get("sqnr_db"))]
    if judged:
        worst = min(judged, key=lambda row: row["sqnr_db"])
        said = text(BY_NAME["sqnr_db"], worst["sqnr_db"])
        tiles.append((said, "dB", f"lowest SQNR: {worst['layer']} {worst['phase']}"))
    if total.get("time_us"):
        time = total["time_us"]
        figure, unit = (f"{time:,.1f}", "µs") if time < 1e4 else (f"{time / 1e3:,.1f}", "ms")
        tiles.append((figure, unit, f"{total['cycles']:,} cycles"))
        peak = 2 * facts["peak_macs_per_cycle"] * facts["machine"]["clock_mhz"] / 1e6
        tiles.append((f"{total['tflops']:.2f}", "TFLOPS", f"of {peak:.2f}"))
        bound = text(BY_NAME["bound_by"], total["bound_by"])
        tiles.append(
            (f"{100 * total['utilisation']:.1f}", "%", f"utilisation; mostly bound by {bound}")
        )
        needed = " ".join(scaled(total["bytes_compulsory"], "B", 2))
        moved = f"moved to and from memory, {needed} compulsory"
        tiles.append((*scaled(total["bytes"], "B", 2), moved))
    tiles.append((*scaled(total["macs"], "MAC", 1), f"in {len(report.layers)} rows"))
    if total.get("swamped_share") is not None:
        said = text(BY_NAME["swamped_share"], total["swamped_share"])
        tiles.append((said.rstrip("%"), "%" if said.endswith("%") else "", "of additions swamped"))
    if total.get("gated_share") is not None:
        tiles.append(
            (f"{100 * total['gated_share']:.1f}", "%", "of MACs gated: an operand is zero")
        )
    return tiles


def _operands(rows: Sequence[Row]) -> list[str]:
    """Where operands came from: each wording once; the column `sample` tells how many were taken."""
    return list(dict.fromkeys(filter(None, map(_origin, rows))))


def _origin(row: Row) -> str:
    return "; ".join(origin_texts(origins(row.get("tensors") or "")))


def _cell(column: Column, row: Row, operands: list[str]) -> dict[str, Any]:
    value = row.get(column.name)
    shown = text(column, value)
    if column.name == "tensors":
        shown = f"[{operands.index(_origin(row)) + 1}]" if value else ""
    elif row.get("phase") is None and missing(value):
        shown = ""
    elif column.name == "rule":
        shown = value or ""
    sortable = value if isinstance(value, int | float) and not missing(value) else shown
    return {"text": shown, "sort": sortable, "number": column.kind is not str}


def _table(report: Report, group: str) -> dict[str, Any]:
    """One per-layer table: the columns of a group that have values."""
    rows = report.rows()
    operands = _operands(report.layers)
    chosen = [
        c
        for c in COLUMNS
        if c.group == group
        and c.short
        and c.name not in ("layer", "phase")
        and any(row.get(c.name) not in (None, "") for row in report.layers)
    ]
    spark = group == "accuracy" and any(row.get("acc_error_ulps") for row in report.layers)
    headings = (
        [{"text": "M×N×K", "hint": "sizes of the GEMM", "number": True}] if group == "layer" else []
    )
    for c in chosen:
        hint = f"{c.meaning} ({c.unit})" if c.unit else c.meaning
        headings.append({"text": c.short, "hint": hint, "number": c.kind is not str})
    if spark:
        hint = f"errors of the sums in ulp: {', '.join(HISTOGRAM_BINS)}"
        headings.append({"text": "errors of the sums", "hint": hint, "number": False})
    body = []
    for row in rows:
        cells = [{"text": shape_text(row), "sort": row.get("macs", 0), "number": True}]
        cells = cells if group == "layer" else []
        cells += [_cell(c, row, operands) for c in chosen]
        if spark:
            counts = row.get("acc_error_ulps")
            cells.append(
                {"svg": svg.sparkline(counts) if counts else "", "sort": "", "number": False}
            )
        body.append({"layer": row["layer"], "phase": row.get("phase", ""), "cells": cells})
    return {"name": group, "title": GROUPS[group], "headings": headings, "rows": body}


def _run_facts(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Everything that was run, by dotted key."""
    found: list[tuple[str, str]] = []

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{prefix}.{key}" if prefix else key, inner)
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            for number, item in enumerate(value, 1):
                walk(f"{prefix}.{number}", item)
        elif value not in (None, "", []):
            found.append(
                (prefix, ", ".join(map(str, value)) if isinstance(value, list) else str(value))
            )

    walk("", facts)
    return sorted(found, key=lambda pair: pair[0] != "command")


# -- a comparison ----------------------------------------------------------------------------------


def _compared(both: SideBySide, column: str, plot: str) -> str:
    """A bar per run for every layer and phase."""
    values = {key: both.values(key, column) for key in both.keys}
    top = max(_finite(v for own in values.values() for v in own), default=0) or 1
    groups = []
    for (layer, phase), own in values.items():
        bars = []
        for series, value in enumerate(own):
            said = text(BY_NAME[column], value)
            hint = f"{both.labels[series]}: {layer} {phase} {said}"
            length = 0.0 if missing(value) else float(value)
            bars.append(svg.Bar((svg.Segment(20 + series % 8, length, hint),), said))
        label = f"{shortened(layer, NAME - 6)} {phase}"
        groups.append(svg.Group(label, tuple(bars), f"{layer} {phase}"))
    unit = " dB" if column != "cycles" else ""
    return svg.bars(plot, COMPARED[plot][0], groups, _ticks(top, unit), top)


def _overview(both: SideBySide) -> dict[str, Any]:
    names = [n for n in OVERVIEW if any(not missing(v) for v in both.values(None, n))]
    headings = [{"text": BY_NAME[n].short, "hint": BY_NAME[n].meaning} for n in names]
    rows = []
    for number, (letter, label, report) in enumerate(zip(both.letters, both.labels, both.reports)):
        cells = [text(BY_NAME[n], report.total.get(n)) for n in names]
        rows.append((20 + number % 8, letter, label, report.partial, cells))
    return {"headings": headings, "rows": rows}


def _shown(both: SideBySide) -> list[str]:
    extra = ("utilisation", "acc_max_ulp", "swamped_share", "retention")
    return [
        name
        for name in (*DEFAULT, *extra)
        if any(not missing(v) for key in both.keys for v in both.values(key, name))
    ]


def _compared_table(both: SideBySide, name: str) -> dict[str, Any]:
    """Every layer and phase, a column per run and the change from the first."""
    column, body = BY_NAME[name], []
    for key in [*both.keys, None]:
        values = both.values(key, name)
        known = not all(missing(value) for value in values)
        cells = [(text(column, value) if known else "", value) for value in values]
        changes = [(change(name, values[0], value) if known else "", "") for value in values[1:]]
        layer, phase = key or ("total", "")
        shown = [
            {"text": said, "sort": value if not missing(value) else "", "number": True}
            for pair in zip(cells, [("", ""), *changes], strict=True)
            for said, value in pair
        ]
        del shown[1]
        body.append({"layer": layer, "phase": phase, "cells": shown})
    sign = "/" if name in RATIOS else "−"
    headings = [{"text": both.letters[0], "hint": both.labels[0], "number": True}]
    for letter, label in zip(both.letters[1:], both.labels[1:]):
        headings.append({"text": letter, "hint": label, "number": True})
        hint = f"{label} against {both.labels[0]}"
        headings.append({"text": f"{letter}{sign}{both.letters[0]}", "hint": hint, "number": True})
    title = f"{column.short}{f' ({column.unit})' if column.unit else ''}"
    return {
        "name": name,
        "title": title,
        "headings": headings,
        "rows": body,
        "hint": column.meaning,
    }
