"""The plots of reports and comparisons: rows into the bars, columns and points of `svg`.

Series 0… are the phases, 10… the parts of a layer's cycles, 20… the runs of a comparison; page.html holds
their colours.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from hfp8sim.analysis.accuracy import HISTOGRAM_BINS
from hfp8sim.network import PHASES
from hfp8sim.report import svg
from hfp8sim.report.columns import BY_NAME, PARTS, Row, cell_text, missing
from hfp8sim.report.comparison import ComparisonRecord
from hfp8sim.report.names import shortened_names
from hfp8sim.report.record import ReportRecord
from hfp8sim.timing.models import knows_memory

#: Series of the parts of a layer's cycles.
PART_SERIES = {part: 10 + number for number, part in enumerate(PARTS)}

#: Characters of a layer's name in front of its bars.
NAME = 17

#: The plots of a report, by their data-plot: title, and how to read it.
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


def timed(rows: Iterable[Row]) -> bool:
    """Whether every row has its cycles."""
    return all(row.get("cycles") for row in rows)


def report_plots(report: ReportRecord) -> dict[str, str]:
    """The SVG of every plot that the report has values for, by its name in `PLOTS`."""
    rows = report.layers
    plots = {"sqnr": _sqnr(rows)} if any("sqnr_db" in row for row in rows) else {}
    if timed(rows):
        plots |= {
            "utilisation": _utilisation(rows),
            "roofline": _roofline(report),
            "phases": _phases(rows),
            "cycles": _cycles(rows),
        }
    if any(row.get("error_ulps") for row in rows):
        plots["errors_user"] = _errors(rows, "error_ulps", "errors_user")
        plots["errors_sum"] = _errors(rows, "acc_error_ulps", "errors_sum")
    return plots


def comparison_plots(comparison: ComparisonRecord) -> dict[str, str]:
    """The SVG of every plot that the comparison has values for, by its name in `COMPARED`."""
    plots = {
        "sqnr": _compared(comparison, "sqnr_db", "sqnr"),
        "sum_sqnr": _compared(comparison, "acc_sqnr_db", "sum_sqnr"),
    }
    if all(timed(report.layers) for report in comparison.reports):
        plots["cycles"] = _compared(comparison, "cycles", "cycles")
        totals = [
            (letter, report.total) for letter, report in zip(comparison.letters, comparison.reports)
        ]
        longest = max(total["cycles"] for _, total in totals)
        plots["phases"] = _stacks("phases", totals, longest, COMPARED["phases"][1])
    return plots


def part_legend(rows: Sequence[Row]) -> list[tuple[int, str, str]]:
    """Series, name and share of each part of the rows' cycles that is not empty."""
    cycles = sum(row["cycles"] for row in rows)
    spent = {part: sum(row.get(part) or 0 for row in rows) for part in PARTS}
    return [
        (PART_SERIES[part], part.replace("_", " "), f"{100 * count / cycles:.1f}%")
        for part, count in spent.items()
        if count
    ]


# -- helpers -----------------------------------------------------------------------------------------


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


def _short_names(rows: Sequence[Row]) -> dict[str, str]:
    """The label of each layer."""
    return shortened_names((row["layer"] for row in rows), NAME)


def _hint(row: Row, *texts: str) -> str:
    return f"{row['layer']} {row['phase']}: {', '.join(texts)}"


def _finite(values: Iterable[Any]) -> list[float]:
    return [float(v) for v in values if not missing(v) and math.isfinite(v)]


def _ticks(top: float, unit: str = "") -> list[tuple[float, str]]:
    return [(value, svg.axis_number(value) + unit) for value in svg.round_steps(top)]


# -- bars --------------------------------------------------------------------------------------------


def _sqnr(rows: Sequence[Row]) -> str:
    columns = ("sqnr_db", "acc_sqnr_db")
    top = max(_finite(row.get(name) for row in rows for name in columns), default=0) or 1
    short = _short_names(rows)
    groups = [
        svg.Group(short[name], tuple(_sqnr_bar(row) for row in phases), name)
        for name, phases in _by_layer(rows)
    ]
    return svg.bars("sqnr", PLOTS["sqnr"][0], groups, _ticks(top, " dB"), top)


def _sqnr_bar(row: Row) -> svg.Bar:
    """The SQNR against the unquantised tensors, and a mark at that of the sums alone."""
    user, sums = row.get("sqnr_db"), row.get("acc_sqnr_db")
    figure = cell_text(BY_NAME["sqnr_db"], user)
    length = 0.0 if missing(user) else float(user or 0)
    segment = svg.Segment(PHASES.index(row["phase"]), length, _hint(row, f"SQNR {figure} dB"))
    hint = _hint(row, f"sums alone {cell_text(BY_NAME['acc_sqnr_db'], sums)} dB")
    return svg.Bar((segment,), figure, None if missing(sums) else sums, hint)


def _utilisation(rows: Sequence[Row]) -> str:
    short = _short_names(rows)
    groups = [
        svg.Group(short[name], tuple(_utilisation_bar(row) for row in phases), name)
        for name, phases in _by_layer(rows)
    ]
    return svg.bars("utilisation", PLOTS["utilisation"][0], groups, _ticks(100, "%"), 100.0)


def _utilisation_bar(row: Row) -> svg.Bar:
    figure = cell_text(BY_NAME["utilisation"], row["utilisation"])
    hint = _hint(row, figure, f"bound by {cell_text(BY_NAME['bound_by'], row['bound_by'])}")
    segment = svg.Segment(PHASES.index(row["phase"]), 100 * row["utilisation"], hint)
    return svg.Bar((segment,), figure)


def _stack(name: str, row: Row, figure: str) -> svg.Bar:
    """A row's cycles, part by part."""
    segments = []
    for part in PARTS:
        spent = row.get(part) or 0
        if spent:
            share = f"{100 * spent / row['cycles']:.1f}%"
            hint = f"{name}: {part.replace('_', ' ')} {spent:,} cycles, {share}"
            segments.append(svg.Segment(PART_SERIES[part], spent, hint))
    return svg.Bar(tuple(segments), figure)


def _stacks(plot: str, named: Sequence[tuple[str, Row]], top: float, description: str) -> str:
    groups = [svg.Group(name, (_stack(name, row, f"{row['cycles']:,}"),)) for name, row in named]
    return svg.bars(plot, description, groups, _ticks(top), top)


def _phases(rows: Sequence[Row]) -> str:
    """The cycles of each phase, and of all where there are several."""
    sums = []
    for phase in PHASES:
        own = [row for row in rows if row["phase"] == phase]
        if own:
            summed = {part: sum(row.get(part) or 0 for row in own) for part in (*PARTS, "cycles")}
            sums.append((phase, summed))
    whole = {part: sum(row[part] for _, row in sums) for part in (*PARTS, "cycles")}
    if len(sums) > 1:
        sums.append(("all", whole))
    return _stacks("phases", sums, whole["cycles"], PLOTS["phases"][0])


def _cycles(rows: Sequence[Row]) -> str:
    top = max(row["cycles"] for row in rows)
    short = _short_names(rows)
    groups = []
    for name, phases in _by_layer(rows):
        bars = tuple(
            _stack(f"{name} {row['phase']}", row, f"{row['cycles']:,} {row['phase']}")
            for row in phases
        )
        groups.append(svg.Group(short[name], bars, name))
    return svg.bars("cycles", PLOTS["cycles"][0], groups, _ticks(top), top)


def _compared(comparison: ComparisonRecord, column: str, plot: str) -> str:
    """A bar per run for every layer and phase."""
    values = {key: comparison.values(key, column) for key in comparison.keys}
    top = max(_finite(v for own in values.values() for v in own), default=0) or 1
    short = shortened_names((layer for layer, _ in values), NAME - 6)
    groups = []
    for (layer, phase), own in values.items():
        bars = []
        for series, value in enumerate(own):
            figure = cell_text(BY_NAME[column], value)
            hint = f"{comparison.labels[series]}: {layer} {phase} {figure}"
            length = 0.0 if missing(value) else float(value)
            bars.append(svg.Bar((svg.Segment(20 + series % 8, length, hint),), figure))
        label = f"{short[layer]} {phase}"
        groups.append(svg.Group(label, tuple(bars), f"{layer} {phase}"))
    unit = " dB" if column != "cycles" else ""
    return svg.bars(plot, COMPARED[plot][0], groups, _ticks(top, unit), top)


# -- roofline ----------------------------------------------------------------------------------------


def _roofline(report: ReportRecord) -> str:
    """Rate over operational intensity, below the limits of memory and array."""
    points = _roofline_points(report.layers)
    if not points:
        return ""
    axes = ("FLOP per byte moved", "TFLOPS")
    roofs = _roofs(report, points)
    return svg.log_axes("roofline", PLOTS["roofline"][0], points, roofs, axes)


def _roofline_points(rows: Sequence[Row]) -> list[svg.Point]:
    cycles = sum(row["cycles"] for row in rows)
    return [
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


def _transfer_bytes_per_cycle(machine: dict[str, Any]) -> float:
    """`Machine.transfer_bytes_per_cycle` of a report's machine; an older report has no refresh and no ring."""
    memory, ring = machine["memory"], machine.get("ring", {})
    interval = memory.get("refresh_interval_ns", 1)
    sustained = memory["bytes_per_cycle"] * (interval - memory.get("refresh_ns", 0)) / interval
    return float(min(sustained, ring.get("bytes_per_cycle", math.inf)))


def _roofs(report: ReportRecord, points: Sequence[svg.Point]) -> list[svg.Line]:
    """Lines: the memory's slope, the array's peak, and its peak in 16 bits."""
    machine, facts = report.facts["machine"], report.facts
    clock = machine["clock_mhz"] * 1e6
    peak = 2 * facts["peak_macs_per_cycle"] * clock / 1e12
    roofs = []
    low = min(point.x for point in points)
    ridge = low
    if knows_memory(facts["time_model"]):
        rate = _transfer_bytes_per_cycle(machine) * clock / 1e12
        ridge = peak / rate
        low = min(low, ridge / 4)
        roofs.append((low, rate * low, ridge, peak, f"memory: {1e3 * rate:,.0f} GB/s"))
    high = max(2 * ridge, *(point.x for point in points))
    roofs.append((ridge, peak, high, peak, f"array: {peak:.2f} TFLOPS"))
    wide = 2 * (facts.get("peak_macs_per_cycle_16bit") or 0) * clock / 1e12
    if wide and wide != peak and len({row.get("profile") for row in report.layers}) > 1:
        roofs.append((ridge * wide / peak, wide, high, wide, f"16 bits: {wide:.2f} TFLOPS"))
    return roofs


# -- histograms --------------------------------------------------------------------------------------


def _bins() -> list[str]:
    """The histogram's bins as axis labels."""
    labels = []
    for bin_ in HISTOGRAM_BINS:
        front, power, exponent = bin_.partition("2^")
        labels.append(f"{front}2{svg.superscript(int(exponent))}" if power else bin_)
    return labels


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
