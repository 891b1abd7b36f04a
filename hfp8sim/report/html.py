"""Reports and comparisons as self-contained HTML pages: what page.html is filled with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hfp8sim.analysis.accuracy import HISTOGRAM_BINS
from hfp8sim.network import PHASES
from hfp8sim.report import svg
from hfp8sim.report.columns import (
    BY_NAME,
    COLUMNS,
    GROUPS,
    Column,
    Row,
    cell_text,
    change_text,
    missing,
    shape_text,
)
from hfp8sim.report.comparison import DEFAULT, ComparisonRecord, change_sign
from hfp8sim.report.findings import reasons, sentences, worst_row
from hfp8sim.report.headlines import headlines
from hfp8sim.report.page import fill_page
from hfp8sim.report.plots import (
    COMPARED,
    PLOTS,
    comparison_plots,
    part_legend,
    report_plots,
    timed,
)
from hfp8sim.report.record import ReportRecord, calibrated, policy_text
from hfp8sim.report.step import PROTOCOL_HEADINGS, protocol_rows, summary, training_step
from hfp8sim.report.table import origin_texts, origins, scaled

#: Lines of each kind on what operands lost.
_MOST_FINDINGS = 12
#: Columns of a comparison's page beside the default ones.
_EXTRA = ("utilisation", "acc_max_ulp", "swamped_share", "retention")


def render(report: ReportRecord) -> str:
    """The page of a report; `InputError` where jinja2 is missing."""
    rows, facts = report.layers, report.facts
    plots = report_plots(report)
    return fill_page(
        kind="report",
        title=f"{facts['workload']} on {facts['machine']['name']}",
        report=report,
        lead=_lead(report),
        tiles=_tiles(report),
        figures={name: (*PLOTS[name], plots[name]) for name in PLOTS if name in plots},
        phases=[(PHASES.index(p), p) for p in PHASES if any(row["phase"] == p for row in rows)],
        parts=part_legend(rows) if timed(rows) else [],
        step=_step(report),
        tables=[_table(report, group) for group in GROUPS],
        operands=_operands(rows),
        run_facts=_run_facts(facts),
        columns=[c for c in COLUMNS if c.short],
        alerts=report.alerts,
        headlines=headlines(report),
        findings=sentences(report, _MOST_FINDINGS),
        notes=report.remarks,
    )


def render_comparison(comparison: ComparisonRecord) -> str:
    """The page of a comparison; `InputError` where jinja2 is missing."""
    plots = comparison_plots(comparison)
    runs = list(
        zip(
            range(len(comparison.labels)), comparison.letters, comparison.labels, comparison.reports
        )
    )
    workloads = dict.fromkeys(report.facts["workload"] for report in comparison.reports)
    return fill_page(
        kind="comparison",
        title="Comparison of " + ", ".join(workloads),
        runs=runs,
        overview=_overview(comparison),
        alerts=comparison.alerts(),
        figures={name: (*COMPARED[name], plots[name]) for name in COMPARED if name in plots},
        parts=part_legend([r.total for r in comparison.reports]) if "phases" in plots else [],
        tables=[
            _compared_table(comparison, name)
            for name in (*DEFAULT, *_EXTRA)
            if comparison.has(name)
        ],
        run_facts=[(f"{letter}: {label}", _run_facts(r.facts)) for _, letter, label, r in runs],
    )


# -- a report ----------------------------------------------------------------------------------------


def _lead(report: ReportRecord) -> str:
    facts = report.facts
    machine = facts["machine"]
    parts = [
        f"{facts['peak_macs_per_cycle']:,} MAC/cycle at {machine['clock_mhz']:,} MHz",
        f"time model {facts['time_model']}",
        f"profile {facts['profile']['name']}",
    ]
    if facts.get("policy"):
        parts.append(f"policy {policy_text(facts['policy'])}")
    if calibrated(report):
        parts.append(f"calibrated by {facts['calibration']}")
    return "; ".join([*parts, f"seed {facts['seed']}"])


def _tiles(report: ReportRecord) -> list[tuple[str, str, str]]:
    """The most important figures: (figure, unit, meaning) of each."""
    total = report.total
    tiles = _accuracy_tiles(report.layers) + _time_tiles(report)
    tiles.append((*scaled(total["macs"], "MAC", 1), f"in {len(report.layers)} rows"))
    if total.get("swamped_share") is not None:
        share = cell_text(BY_NAME["swamped_share"], total["swamped_share"])
        unit = "%" if share.endswith("%") else ""
        tiles.append((share.rstrip("%"), unit, "of additions swamped"))
    for name, what in (("saturated_share", "saturated"), ("flushed_share", "flushed to zero")):
        if total.get(name) is not None:
            share = cell_text(BY_NAME[name], total[name])
            unit = "%" if share.endswith("%") else ""
            tiles.append((share.rstrip("%"), unit, f"of the worst operand {what}"))
    if total.get("gated_share") is not None:
        gated = f"{100 * total['gated_share']:.1f}"
        tiles.append((gated, "%", "of MACs gated: an operand is zero"))
    return tiles


def _accuracy_tiles(rows: Sequence[Row]) -> list[tuple[str, str, str]]:
    worst = worst_row(rows)
    if worst is None:
        return []
    figure = cell_text(BY_NAME["sqnr_db"], worst["sqnr_db"])
    where = f"lowest SQNR: {worst['layer']} {worst['phase']}"
    return [(figure, "dB", f"{where}, {reasons(worst)}" if reasons(worst) else where)]


def _time_tiles(report: ReportRecord) -> list[tuple[str, str, str]]:
    total, facts = report.total, report.facts
    if not total.get("time_us"):
        return []
    time = total["time_us"]
    figure, unit = (f"{time:,.1f}", "µs") if time < 1e4 else (f"{time / 1e3:,.1f}", "ms")
    peak = 2 * facts["peak_macs_per_cycle"] * facts["machine"]["clock_mhz"] / 1e6
    bound = cell_text(BY_NAME["bound_by"], total["bound_by"])
    utilisation = f"{100 * total['utilisation']:.1f}"
    compulsory = " ".join(scaled(total["bytes_compulsory"], "B", 2))
    return [
        (figure, unit, f"{total['cycles']:,} cycles"),
        (f"{total['tflops']:.2f}", "TFLOPS", f"of {peak:.2f}"),
        (utilisation, "%", f"utilisation; mostly bound by {bound}"),
        (*scaled(total["bytes"], "B", 2), f"moved to and from memory, {compulsory} compulsory"),
    ]


def _step(report: ReportRecord) -> dict[str, Any] | None:
    """The training step on a system in words, and every update protocol; None without one."""
    step = training_step(report)
    if step is None:
        return None
    rows = protocol_rows(report)
    return {"summary": summary(step), "headings": PROTOCOL_HEADINGS, "rows": rows}


def _operands(rows: Sequence[Row]) -> list[str]:
    """Where operands came from: each wording once. The column `sample` gives how many were taken."""
    return list(dict.fromkeys(filter(None, map(_origin, rows))))


def _origin(row: Row) -> str:
    return "; ".join(origin_texts(origins(row.get("tensors") or "")))


def _table(report: ReportRecord, group: str) -> dict[str, Any]:
    """One per-layer table: the columns of a group that have values."""
    columns = [
        c
        for c in COLUMNS
        if c.group == group
        and c.short
        and c.name not in ("layer", "phase")
        and any(row.get(c.name) not in (None, "") for row in report.layers)
    ]
    sparklines = group == "accuracy" and any(row.get("acc_error_ulps") for row in report.layers)
    operands = _operands(report.layers)
    rows = []
    for row in report.rows():
        cells = [_cell(column, row, operands) for column in columns]
        if group == "layer":
            shape = {"text": shape_text(row), "sort": row.get("macs", 0), "number": True}
            cells.insert(0, shape)
        if sparklines:
            counts = row.get("acc_error_ulps")
            drawing = svg.sparkline(counts) if counts else ""
            cells.append({"svg": drawing, "sort": "", "number": False})
        rows.append({"layer": row["layer"], "phase": row.get("phase", ""), "cells": cells})
    headings = _headings(group, columns, sparklines)
    return {"name": group, "title": GROUPS[group], "headings": headings, "rows": rows}


def _headings(group: str, columns: Sequence[Column], sparklines: bool) -> list[dict[str, Any]]:
    headings: list[dict[str, Any]] = []
    if group == "layer":
        headings.append({"text": "M×N×K", "hint": "sizes of the GEMM", "number": True})
    for c in columns:
        hint = f"{c.meaning} ({c.unit})" if c.unit else c.meaning
        headings.append({"text": c.short, "hint": hint, "number": c.kind is not str})
    if sparklines:
        hint = f"errors of the sums in ulp: {', '.join(HISTOGRAM_BINS)}"
        headings.append({"text": "errors of the sums", "hint": hint, "number": False})
    return headings


def _cell(column: Column, row: Row, operands: list[str]) -> dict[str, Any]:
    value = row.get(column.name)
    content = cell_text(column, value)
    if column.name == "tensors":
        content = f"[{operands.index(_origin(row)) + 1}]" if value else ""
    elif row.get("phase") is None and missing(value):
        content = ""
    elif column.name == "rule":
        content = value or ""
    sortable = value if isinstance(value, int | float) and not missing(value) else content
    return {"text": content, "sort": sortable, "number": column.kind is not str}


def _run_facts(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Every fact of the run, by dotted key, the command first."""
    return sorted(_flattened("", facts), key=lambda pair: pair[0] != "command")


def _flattened(key: str, value: Any) -> list[tuple[str, str]]:
    """The plain values below a key, by dotted key; empty ones are left out."""
    if isinstance(value, dict):
        children = [(f"{key}.{name}" if key else name, inner) for name, inner in value.items()]
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        children = [(f"{key}.{number}", item) for number, item in enumerate(value, 1)]
    elif value in (None, "", []):
        return []
    else:
        return [(key, ", ".join(map(str, value)) if isinstance(value, list) else str(value))]
    return [pair for name, inner in children for pair in _flattened(name, inner)]


# -- a comparison ------------------------------------------------------------------------------------


def _overview(comparison: ComparisonRecord) -> dict[str, Any]:
    names = comparison.overview_columns()
    headings = [{"text": BY_NAME[n].short, "hint": BY_NAME[n].meaning} for n in names]
    rows = []
    for number, (letter, label, report) in enumerate(
        zip(comparison.letters, comparison.labels, comparison.reports)
    ):
        cells = [cell_text(BY_NAME[n], report.total.get(n)) for n in names]
        rows.append((20 + number % 8, letter, label, report.partial, cells))
    return {"headings": headings, "rows": rows}


def _compared_table(comparison: ComparisonRecord, name: str) -> dict[str, Any]:
    """Every layer and phase, a column per run and the change from the first."""
    column = BY_NAME[name]
    rows = []
    for key in [*comparison.keys, None]:
        layer, phase = key or ("total", "")
        cells = _compared_cells(column, comparison.values(key, name))
        rows.append({"layer": layer, "phase": phase, "cells": cells})
    first, sign = comparison.letters[0], change_sign(name)
    headings = [{"text": first, "hint": comparison.labels[0], "number": True}]
    for letter, label in zip(comparison.letters[1:], comparison.labels[1:]):
        headings.append({"text": letter, "hint": label, "number": True})
        hint = f"{label} against {comparison.labels[0]}"
        headings.append({"text": f"{letter}{sign}{first}", "hint": hint, "number": True})
    return {
        "name": name,
        "title": f"{column.short}{f' ({column.unit})' if column.unit else ''}",
        "headings": headings,
        "rows": rows,
        "hint": column.meaning,
    }


def _compared_cells(column: Column, values: list[Any]) -> list[dict[str, Any]]:
    """The first run's value, then each other run's value and its change."""
    any_value = not all(missing(value) for value in values)
    cells: list[dict[str, Any]] = []
    for number, value in enumerate(values):
        sortable = value if not missing(value) else ""
        content = cell_text(column, value) if any_value else ""
        cells.append({"text": content, "sort": sortable, "number": True})
        if number:
            change = change_text(column, values[0], value) if any_value else ""
            cells.append({"text": change, "sort": "", "number": True})
    return cells
