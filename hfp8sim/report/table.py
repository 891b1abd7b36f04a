"""The terminal's table of a report: the columns of the lowest ranks that fit, and what they mean."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hfp8sim.errors import printable
from hfp8sim.report.columns import BY_NAME, COLUMNS, Row, cell_text, lost_text, shape_text
from hfp8sim.report.findings import percent, sentences
from hfp8sim.report.headlines import headlines
from hfp8sim.report.names import plain, shortened_names
from hfp8sim.report.record import ReportRecord, calibrated, policy_text
from hfp8sim.report.step import print_step

#: Characters of a line where the output is no terminal.
TEXT_WIDTH = 100
#: Spaces between columns.
GAP = 2
#: Characters of a layer's name: the least, the least before columns of rank 3 and more are dropped, the most.
NAME_MIN, NAME_FAIR, NAME_MAX = 10, 16, 28

#: A table column: heading, rank (`Column.rank`), whether it is aligned right, and its text in a row.
Field = tuple[str, int, bool, Callable[[Row], str]]

#: The operands' names in the texts of the column `tensors`.
OPERANDS = ("activations", "weights", "errors")

#: What the table's figures mean, by heading.
LEGEND = {
    "operation": "what the layer computes; dw: a depthwise convolution, each filter for one channel",
    "util": "of the array's multiply-accumulates in these cycles",
    "bound by": "what takes most of the layer's time",
    "kB sent": "by a chip to others: gradients after wgrad, weights before fwd",
    "exposed µs": "of that exchange, what no computation hides",
    "SQNR": "in dB, against float64 of the unquantised tensors: what a user feels",
    "sum SQNR": "in dB, against float64 of the quantised operands: what the accumulator did",
    "swamped": "additions that left the sum as it was",
    "lost": "elements of the worse operand: clamped to its largest number (↑), or flushed to zero (↓)",
    "scaling": "calibrated operands: tensor@bias, or tensor·2^scale",
    "total": "its SQNRs are the lowest of all rows, its shares of operands the largest",
}


def render(report: ReportRecord, width: int = TEXT_WIDTH) -> str:
    """The report as text without colours, in lines of at most `width` characters."""
    return plain_text(lambda console: print_report(report, console), width)


def plain_text(show: Callable[[Console], object], width: int = TEXT_WIDTH) -> str:
    """What `show` prints to a console, without colours and without spaces at the ends of lines."""
    text = io.StringIO()
    show(Console(file=text, width=width, highlight=False))
    return "".join(line.rstrip() + "\n" for line in text.getvalue().splitlines())


def print_report(report: ReportRecord, console: Console) -> None:
    """What was run, the table, a summary, and what the figures mean."""
    console.print(heading(report))
    if report.partial:
        console.print(f"[bold]partial:[/] {len(report.layers)} of {report.planned} rows")
    for alert in report.alerts:
        console.print(Text(printable(alert), style="bold"))
    rows = table(report, console.width)
    console.print(rows)
    console.print(Text(summary(report)))
    console.print()
    print_step(report, console)
    console.print(footer(report, (str(column.header) for column in rows.columns)), style="dim")


def heading(report: ReportRecord) -> Text:
    """Workload, machine, profile, policy and seed in one line."""
    facts = report.facts
    machine, profile = facts["machine"], facts["profile"]
    return Text.assemble(
        (printable(facts["workload"]), "bold"), " on ", (machine["name"], "bold"),
        f" ({facts['peak_macs_per_cycle']} MAC/cycle at {machine['clock_mhz']} MHz, "
        f"{facts['time_model']}), profile ", (profile["name"], "bold"),
        printable(f", policy {policy_text(facts['policy'])}") if facts.get("policy") else "",
        f", seed {facts['seed']}",
        printable(f", calibrated by {facts['calibration']}") if calibrated(report) else "",
    )  # fmt: skip


# -- rows --------------------------------------------------------------------------------------------


def new_table() -> Table:
    """An empty table without lines."""
    return Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0))


def fields(report: ReportRecord) -> list[Field]:
    """The columns a terminal can show, in order. A column without any value is left out."""
    columns: list[Field] = []
    for column in COLUMNS:
        if column.rank and any(row.get(column.name) not in (None, "") for row in report.layers):
            numeric = column.kind is not str
            columns.append((column.short, column.rank, numeric, _writer(column.name)))
        if column.name == "phase":
            columns.append(("M×N×K", 2, True, shape_text))
        if column.name == "saturated_share" and any(map(lost_text, report.layers)):
            columns.append(("lost", 1, True, lost_text))
    return columns


def _writer(name: str) -> Callable[[Row], str]:
    """The text of column `name` in a row; empty where the total or an unused rule has no value."""

    def write(row: Row) -> str:
        if name not in row and row.get("phase") is None:
            return ""
        if name == "rule" and not row.get(name):
            return ""
        return cell_text(BY_NAME[name], row.get(name))

    return write


def table(report: ReportRecord, width: int = 100) -> Table:
    """One line for each layer and phase, and a total, in at most `width` characters.

    If that is too long, columns of the highest rank are dropped; then layer names are shortened.
    """
    rows = report.rows()
    columns, name_width = _fitting(fields(report), rows, width)
    grid = new_table()
    for title, _, numeric, _ in columns:
        grid.add_column(title, justify="right" if numeric else "left", no_wrap=True)
    short = shortened_names((str(row["layer"]) for row in rows[:-1]), name_width)
    for row in rows:
        last = row is rows[-1]
        cells = [write(row) for *_, write in columns]
        cells[0] = cells[0] if last else short[str(row["layer"])] or cells[0]
        grid.add_row(*plain(*cells), style="bold" if last else None, end_section=row is rows[-2])
    return grid


def _fitting(columns: list[Field], rows: list[Row], width: int) -> tuple[list[Field], int]:
    """The columns that fit into `width`, and the characters of the layers' names."""
    widths = {
        f[0]: max(cell_len(f[0]), *(cell_len(printable(f[3](row))) for row in rows))
        for f in columns
    }
    longest = widths.pop("layer")

    def others() -> int:
        return sum(widths[f[0]] + GAP for f in columns if f[0] != "layer")

    for rank in sorted({f[1] for f in columns} - {1}, reverse=True):
        if min(longest, NAME_MIN) + others() > width or (
            rank > 2 and min(longest, NAME_FAIR) + others() > width
        ):
            columns = [f for f in columns if f[1] != rank]
    return columns, max(NAME_MIN, min(longest, NAME_MAX, width - others()))


# -- around the rows ---------------------------------------------------------------------------------


def scaled(value: float, unit: str, digits: int) -> tuple[str, str]:
    """A count in millions, or in thousands where it is less than one million: figure and unit."""
    scale, prefix = (1e6, "M") if value >= 1e6 else (1e3, "k")
    return f"{value / scale:,.{digits}f}", prefix + unit


def summary(report: ReportRecord) -> str:
    """The run in one line: work, time, rate, traffic. Then its worst findings, the share of multiply-accumulates
    with a zero operand, and what saturated and what was flushed."""
    total = report.total
    parts = [" ".join(scaled(total["macs"], "MAC", 1))]
    if total.get("time_us"):
        time = total["time_us"]
        duration = f"{time:,.1f} µs" if time < 1e4 else f"{time / 1e3:,.1f} ms"
        peak = report.facts["peak_macs_per_cycle"] * report.facts["machine"]["clock_mhz"] * 2 / 1e6
        parts.append(f"{duration}, {total['tflops']:.2f} of {peak:.2f} TFLOPS")
    if total.get("bytes"):
        moved, compulsory = (
            " ".join(scaled(total[x], "B", 2)) for x in ("bytes", "bytes_compulsory")
        )
        parts.append(f"{moved} moved, {compulsory} compulsory")
    lines = ["; ".join(parts), *headlines(report)]
    gated = total.get("gated_share")
    if gated is not None:
        lines.append(f"in {percent(gated)} of the MACs an operand is zero: the multiplier is gated")
    return "\n".join(map(printable, [*lines, *sentences(report)]))


def origins(tensors: str) -> dict[str, list[str]]:
    """The operands named in a row's `tensors`, by origin. How they were sampled is left out."""
    by_origin: dict[str, list[str]] = {}
    for clause in filter(None, tensors.split("; ")):
        operand, _, origin = clause.partition(" ")
        if operand not in OPERANDS:
            operand, origin = "", clause
        if not clause.startswith("sampled "):
            by_origin.setdefault(origin, []).append(operand)
    return by_origin


def origin_texts(by_origin: dict[str, list[str]]) -> list[str]:
    """`activations and weights captured`: a text for each origin."""
    texts = []
    for origin, (*first, last) in by_origin.items():
        operands = f"{', '.join(first)} and {last}" if first else last
        texts.append(f"{operands} {origin}".strip())
    return texts


def provenance(report: ReportRecord) -> list[str]:
    """Where the operands of all rows came from: captured, or drawn from what; and how many are samples."""
    by_origin: dict[str, list[str]] = {}
    for row in report.layers:
        for origin, operands in origins(row.get("tensors") or "").items():
            listed = by_origin.setdefault(origin, [])
            listed += [operand for operand in operands if operand not in listed]
    texts = origin_texts(by_origin)
    sampled = sum("; sampled " in (row.get("tensors") or "") for row in report.layers)
    if sampled:
        texts.append(f"{sampled} of {len(report.layers)} rows sampled, their sums whole")
    return texts


def footer(report: ReportRecord, headings: Iterable[str]) -> Table:
    """Below a table with these headings: the operands, what the figures mean, and notes."""
    terms = set(headings)
    if {"SQNR", "sum SQNR"} & terms:
        terms.add("total")
    grid = Table.grid(padding=(0, GAP, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column()
    groups = {"operands": provenance(report)}
    groups |= {term: [meaning] for term, meaning in LEGEND.items() if term in terms}
    groups |= {"notes": report.remarks}
    for term, texts in groups.items():
        for number, line in enumerate(texts):
            grid.add_row(*plain("" if number else term, line))
    return grid
