"""The terminal's table: the columns that have a short heading, in at most 100 characters."""

from __future__ import annotations

from rich.table import Table

from hfp8sim.report.columns import BY_NAME, COLUMNS, Row, text
from hfp8sim.report.report import Report


def shape_text(row: Row) -> str:
    """M×N×K of a row, with the groups in front where there is more than one."""
    if "m" not in row:
        return ""
    size = f"{row['m']}×{row['n']}×{row['k']}"
    return f"{row['groups']}·{size}" if row["groups"] > 1 else size


def table(report: Report) -> Table:
    """One line for each layer and phase, and a total."""
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    shown = [c for c in COLUMNS if c.short]
    made.add_column("layer", overflow="ellipsis", no_wrap=True, max_width=18)
    made.add_column("phase", no_wrap=True)
    made.add_column("M×N×K", no_wrap=True)
    numbers = [c for c in shown if c.name not in ("layer", "phase")]
    for column in numbers:
        made.add_column(
            column.short, justify="left" if column.kind is str else "right", no_wrap=True
        )
    for row in report.layers:
        made.add_row(
            row["layer"],
            row["phase"],
            shape_text(row),
            *(text(c, row.get(c.name)) for c in numbers),
        )
    total = report.total
    made.add_section()
    made.add_row("total", "", "", *(text(c, total.get(c.name)) if c.name in total else "" for c in numbers),
                 style="bold")  # fmt: skip
    return made


def legend() -> str:
    """What the table's figures mean, in a few lines."""
    return (
        f"util: {BY_NAME['utilisation'].meaning}. "
        f"SQNR (dB): {BY_NAME['sqnr_db'].meaning}. "
        f"sum SQNR (dB): {BY_NAME['acc_sqnr_db'].meaning}. "
        f"swamped: {BY_NAME['swamped'].meaning}."
    )
