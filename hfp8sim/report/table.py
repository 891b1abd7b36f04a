"""The terminal's table: the most telling columns that fit its width, and what they mean."""

from __future__ import annotations

import re
from collections.abc import Callable

from rich.cells import cell_len
from rich.table import Table

from hfp8sim.report.columns import BY_NAME, COLUMNS, Row, missing, shape_text, text
from hfp8sim.report.report import Report

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


def summary(report: Report) -> str:
    """The run in one line: work, time, rate, traffic. Where there are values, the worst accuracy and the
    zeros in a second one."""
    total = report.total
    parts = [f"{total['macs'] / 1e6:,.1f} MMAC"]
    if total.get("time_us"):
        time = total["time_us"]
        took = f"{time:,.1f} µs" if time < 1e4 else f"{time / 1e3:,.1f} ms"
        peak = report.facts["peak_macs_per_cycle"] * report.facts["machine"]["clock_mhz"] * 2 / 1e6
        parts.append(f"{took}, {total['tflops']:.2f} of {peak:.2f} TFLOPS")
    if total.get("bytes"):
        moved, needed = (total[name] / 1e6 for name in ("bytes", "bytes_compulsory"))
        parts.append(f"{moved:,.2f} MB moved, {needed:,.2f} compulsory")
    lines = ["; ".join(parts)]
    judged = [row for row in report.layers if not missing(row.get("sqnr_db"))]
    if judged:
        worst = min(judged, key=lambda row: row["sqnr_db"])
        lines.append(f"lowest SQNR {worst['sqnr_db']:.1f} dB ({worst['layer']} {worst['phase']})")
        if total.get("gated_share") is not None:
            zeros = text(BY_NAME["gated_share"], total["gated_share"])
            lines[-1] += f"; {zeros} of the MACs gated, an operand being zero"
    return "\n".join(lines)


def provenance(report: Report) -> str:
    """Where the operands came from, in one line for all rows: captured, drawn from what, or sampled."""
    said: dict[str, list[str]] = {}
    sampled = 0
    for row in report.layers:
        for clause in (row.get("tensors") or "").split("; "):
            if clause.startswith("sampled "):
                sampled += 1
            elif clause:
                general = re.sub(r"N\(0, [^)]*²\)", "N(0, σ²)", clause)
                wordings = said.setdefault(general, [])
                wordings += [clause] * (clause not in wordings)
    parts = [wordings[0] if len(wordings) == 1 else general for general, wordings in said.items()]
    if sampled:
        parts.append(f"{sampled} of {len(report.layers)} rows sampled, their sums whole")
    return "; ".join(parts)


def legend(report: Report) -> str:
    """What the table's figures mean, of columns that have any."""
    said = {
        "cycles": "util: of the array's multiply-accumulates in these cycles; bound by: what limits the layer",
        "sqnr_db": "SQNR (dB): against float64 of the unquantised tensors, what a user feels",
        "acc_sqnr_db": "sum SQNR: against float64 of the quantised operands, what the accumulator did",
        "swamped": "swamped: additions that left the sum as it was; the total's SQNRs are the lowest",
    }
    return "\n".join(
        line for name, line in said.items() if any(name in row for row in report.layers)
    )
