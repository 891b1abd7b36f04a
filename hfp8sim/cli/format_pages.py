"""The pages that `hfp8sim formats [NAME]` prints."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from hfp8sim.cli.lists import ListTable
from hfp8sim.formats import describe
from hfp8sim.formats.record import FloatFormat
from hfp8sim.formats.registry import get_format

#: Names beyond the listed ones.
FAMILIES = """
Also: NAME@B, any format with exponent bias B; binary{K}p{P}{s|u}{e|f}, all of IEEE P3109 for K 3..16.
fixedIL.FL, fixed point as sign and magnitude. From Python: FixedPoint(IL, FL); hfp8sim.formats.mx, blocks of 32 with an E8M0 scale. See docs/formats.md."""


def listing() -> Table:
    """All registered formats, one per row."""
    table = ListTable()
    for i, heading in enumerate(describe.OVERVIEW_HEADINGS):
        table.add_column(
            heading, justify="right" if 2 <= i <= 4 else "left", no_wrap=i < 5, overflow="fold"
        )
    for row in describe.overview_rows():
        table.add_row(*row)
    return table


def page(name: str | FloatFormat) -> Group:
    """One format: its facts, its code table (notable codes beyond 8 bits) and its number line."""
    fmt = get_format(name)
    rows = Table(box=None, show_header=False, pad_edge=False)
    rows.add_column(overflow="fold")
    rows.add_column(overflow="fold")
    for what, value in describe.properties(fmt):
        rows.add_row(Text(what, style="bold"), value)
    line = Group(*(Text(text, no_wrap=True) for text in describe.number_line(fmt)))
    return Group(
        Text(fmt.name, style="bold"), rows, Text(), _codes(fmt),
        Text(describe.negative_codes(fmt), style="dim"), Text(),
        Text("positive numbers by binade", style="dim"), line,
    )  # fmt: skip


def _codes(fmt: FloatFormat) -> Table:
    if fmt.bits > 8:
        table = Table(box=None, header_style="dim", pad_edge=False)
        for heading in ("code", "value", ""):
            table.add_column(heading)
        for name, code, value in describe.notable_codes(fmt):
            table.add_row(f"0x{code:0{-(-fmt.bits // 4)}X}", describe.exact_text(value), name)
        return table
    table = ListTable()
    table.header_style = "dim"
    table.add_column("code", no_wrap=True)
    for i in range(describe.COLUMNS):
        table.add_column(f"+{i}", justify="right", no_wrap=True)
    for i, values in enumerate(describe.code_table(fmt)):
        table.add_row(Text(f"0x{i * describe.COLUMNS:02X}", style="dim"), *values)
    return table
