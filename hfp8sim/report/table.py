"""The terminal's table: the most telling columns that fit its width, and what they mean."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hfp8sim.report.columns import BY_NAME, COLUMNS, Row, missing, shape_text, text
from hfp8sim.report.report import TEXT_WIDTH, Report

#: Spaces between columns.
GAP = 2
#: Characters of a layer's name: what it keeps in any case, what it keeps before other columns go, and the
#: most that it is given.
NAME_MIN, NAME_FAIR, NAME_MAX = 10, 16, 28

#: A table column: heading, rank (`Column.rank`), whether it is aligned right, and its text in a row.
Field = tuple[str, int, bool, Callable[[Row], str]]


def shortened(name: str, width: int) -> str:
    """A name in at most `width` characters.

    Its dotted parts are cut to their first letter and number from the left, as in `e.l11.a.self.query`;
    where that is not enough its middle goes.
    """
    parts = name.split(".")
    for i, part in enumerate(parts[:-1]):
        if len(".".join(parts)) <= width:
            break
        parts[i] = re.sub(r"^(\D)\D*(?=\d*$)", r"\1", part)
    name = ".".join(parts)
    if len(name) <= width:
        return name
    tail = (width - 1) // 2
    return name[: width - 1 - tail] + "…" + name[len(name) - tail :]


def fields(report: Report) -> list[Field]:
    """The columns a terminal can show, in order. One that no row has a value for is left out."""
    made: list[Field] = []
    for c in COLUMNS:
        if not c.rank or not any(row.get(c.name) not in (None, "") for row in report.layers):
            continue

        def value(row: Row, name: str = c.name) -> str:
            if name not in row and row.get("phase") is None:
                return ""  # the total has no such value
            return (
                "" if name == "rule" and not row.get(name) else text(BY_NAME[name], row.get(name))
            )

        made.append((c.short, c.rank, c.kind is not str, value))
        if c.name == "phase":
            made.append(("M×N×K", 2, True, shape_text))
    return made


def table(report: Report, width: int = 100) -> Table:
    """One line for each layer and phase, and a total, in at most `width` characters.

    Where it is too wide, columns of the highest rank go first; then layer names are shortened.
    """
    rows, chosen = report.rows(), fields(report)
    widths = {f[0]: max(cell_len(f[0]), *(cell_len(f[3](row)) for row in rows)) for f in chosen}
    longest = widths.pop("layer")

    def rest() -> int:
        return sum(widths[f[0]] + GAP for f in chosen if f[0] != "layer")

    for rank in sorted({f[1] for f in chosen} - {1}, reverse=True):
        if min(longest, NAME_MIN) + rest() > width or (
            rank > 2 and min(longest, NAME_FAIR) + rest() > width
        ):
            chosen = [f for f in chosen if f[1] != rank]
    name_width = max(NAME_MIN, min(longest, NAME_MAX, width - rest()))
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0))
    for heading, _, right, _ in chosen:
        made.add_column(heading, justify="right" if right else "left", no_wrap=True)
    for row in rows:
        last = row is rows[-1]
        cells = [f[3](row) for f in chosen]
        cells[0] = shortened(cells[0], name_width)
        made.add_row(*cells, style="bold" if last else None, end_section=row is rows[-2])
    return made


def scaled(value: float, unit: str, digits: int) -> tuple[str, str]:
    """A count in millions, or in thousands where it is less than one: figure and unit."""
    scale, prefix = (1e6, "M") if value >= 1e6 else (1e3, "k")
    return f"{value / scale:,.{digits}f}", prefix + unit


def summary(report: Report) -> str:
    """The run in one line: work, time, rate, traffic. Where there are values, the worst accuracy and the
    zeros in a second one."""
    total = report.total
    parts = [" ".join(scaled(total["macs"], "MAC", 1))]
    if total.get("time_us"):
        time = total["time_us"]
        took = f"{time:,.1f} µs" if time < 1e4 else f"{time / 1e3:,.1f} ms"
        peak = report.facts["peak_macs_per_cycle"] * report.facts["machine"]["clock_mhz"] * 2 / 1e6
        parts.append(f"{took}, {total['tflops']:.2f} of {peak:.2f} TFLOPS")
    if total.get("bytes"):
        moved, needed = (" ".join(scaled(total[x], "B", 2)) for x in ("bytes", "bytes_compulsory"))
        parts.append(f"{moved} moved, {needed} compulsory")
    lines = ["; ".join(parts)]
    judged = [row for row in report.layers if not missing(row.get("sqnr_db"))]
    if judged:
        worst = min(judged, key=lambda row: row["sqnr_db"])
        lines.append(f"lowest SQNR {worst['sqnr_db']:.1f} dB ({worst['layer']} {worst['phase']})")
        if total.get("gated_share") is not None:
            zeros = text(BY_NAME["gated_share"], total["gated_share"])
            lines[-1] += f"; {zeros} of the MACs gated, an operand being zero"
    return "\n".join(lines)


#: The operands' names in the texts of the column `tensors`.
WORDS = ("activations", "weights", "errors")


def origins(tensors: str) -> dict[str, list[str]]:
    """What stands in a row's `tensors`, without how it was sampled: by origin, the operands of it."""
    found: dict[str, list[str]] = {}
    for clause in filter(None, tensors.split("; ")):
        word, _, origin = clause.partition(" ")
        if word not in WORDS:
            word, origin = "", clause
        if not clause.startswith("sampled "):
            found.setdefault(origin, []).append(word)
    return found


def origin_texts(found: dict[str, list[str]]) -> list[str]:
    """`activations and weights captured`: a text for each origin."""
    texts = []
    for origin, (*first, last) in found.items():
        words = f"{', '.join(first)} and {last}" if first else last
        texts.append(f"{words} {origin}".strip())
    return texts


def provenance(report: Report) -> list[str]:
    """Where the operands of all rows came from: captured, drawn from what, and how many are samples."""
    found: dict[str, list[str]] = {}
    for row in report.layers:
        for origin, words in origins(row.get("tensors") or "").items():
            known = found.setdefault(origin, [])
            known += [word for word in words if word not in known]
    said = origin_texts(found)
    sampled = sum("; sampled " in (row.get("tensors") or "") for row in report.layers)
    if sampled:
        said.append(f"{sampled} of {len(report.layers)} rows sampled, their sums whole")
    return said


#: What the table's figures mean, by heading.
LEGEND = {
    "util": "of the array's multiply-accumulates in these cycles",
    "bound by": "what takes most of the layer's time",
    "SQNR": "in dB, against float64 of the unquantised tensors: what a user feels",
    "sum SQNR": "in dB, against float64 of the quantised operands: what the accumulator did",
    "swamped": "additions that left the sum as it was",
    "total": "its SQNRs are the lowest of all rows",
}


def footer(report: Report, headings: Iterable[str]) -> Table:
    """What stands below a table with these headings: the operands, what the figures mean, and notes."""
    shown = set(headings)
    if {"SQNR", "sum SQNR"} & shown:
        shown.add("total")
    made = Table.grid(padding=(0, GAP, 0, 0))
    made.add_column(no_wrap=True)
    made.add_column()
    groups = {"operands": provenance(report)}
    groups |= {term: [text] for term, text in LEGEND.items() if term in shown}
    groups |= {"notes": list(report.notes)}
    for term, texts in groups.items():
        for number, line in enumerate(texts):
            made.add_row(Text("" if number else term), Text(line))
    return made


def print_report(report: Report, shown: Console) -> None:
    """The table, with what was run above it and what the figures mean below."""
    from hfp8sim.report.compare import policy_text

    facts = report.facts
    machine, profile = facts["machine"], facts["profile"]
    head = Text.assemble(
        (facts["workload"], "bold"), " on ", (machine["name"], "bold"),
        f" ({facts['peak_macs_per_cycle']} MAC/cycle at {machine['clock_mhz']} MHz, "
        f"{facts['time_model']}), profile ", (profile["name"], "bold"),
        f", policy {policy_text(facts['policy'])}" if facts.get("policy") else "",
        f", seed {facts['seed']}",
    )  # fmt: skip
    shown.print(head)
    if report.partial:
        shown.print(f"[bold]partial:[/] {len(report.layers)} of {report.planned} rows")
    rows = table(report, shown.width)
    shown.print(rows)
    shown.print(Text(summary(report)))
    shown.print()
    shown.print(footer(report, (str(column.header) for column in rows.columns)), style="dim")


def plain_text(show: Callable[[Console], object], width: int = TEXT_WIDTH) -> str:
    """What `show` prints to a console, without colours and without spaces at the ends of lines."""
    text = io.StringIO()
    show(Console(file=text, width=width, highlight=False))
    return "".join(line.rstrip() + "\n" for line in text.getvalue().splitlines())
