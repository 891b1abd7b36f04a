"""One line for each of several reports: what a run of many networks prints."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from hfp8sim.report.columns import BY_NAME, cell_text, missing
from hfp8sim.report.names import plain, shortened_names
from hfp8sim.report.record import ReportRecord
from hfp8sim.report.table import LEGEND, new_table

#: Columns of the total rows that the overview shows, if any report has a value.
_COLUMNS = (
    "macs", "cycles", "utilisation", "tflops", "bound_by", "sqnr_db", "acc_sqnr_db",
    "swamped_share",
)  # fmt: skip
#: Characters of a network's name.
_NAME_WIDTH = 28


def overview(reports: Sequence[ReportRecord]) -> Table:
    """A table with the total row of each report; names are the workloads'."""
    totals = [report.total for report in reports]
    names = [str(report.facts["workload"]) for report in reports]
    columns = [
        BY_NAME[name]
        for name in _COLUMNS
        if any(not missing(total.get(name)) and total[name] != "" for total in totals)
    ]
    grid = new_table()
    grid.add_column("workload", no_wrap=True)
    for column in columns:
        numeric = column.kind is not str
        grid.add_column(column.short, justify="right" if numeric else "left", no_wrap=True)
    short = shortened_names(names, _NAME_WIDTH)
    for name, total in zip(names, totals):
        grid.add_row(*plain(short[name], *(cell_text(c, total.get(c.name)) for c in columns)))
    return grid


def legend(reports: Sequence[ReportRecord]) -> str:
    """What the overview's figures mean, one line for each heading that it has and that is explained."""
    headings = [str(column.header) for column in overview(reports).columns]
    lines = [(heading, LEGEND[heading]) for heading in headings if heading in LEGEND]
    width = max((len(heading) for heading, _ in lines), default=0)
    return "\n".join(f"{heading:<{width}}  {meaning}" for heading, meaning in lines)
