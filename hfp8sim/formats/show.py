"""Formats on the terminal: `hfp8sim formats [NAME]`."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from hfp8sim.formats import describe as facts
from hfp8sim.formats.record import FloatFormat
from hfp8sim.formats.registry import get_format

#: What can be named beside the listed.
FAMILIES = """
Also: NAME@B, any format with exponent bias B; binary{K}p{P}{s|u}{e|f}, all of IEEE P3109 for K 3..16.
From Python: FixedPoint(IL, FL); hfp8sim.formats.mx, blocks of 32 with an E8M0 scale. See docs/formats.md."""


def listing() -> Table:
    """All registered formats, one per row."""
    made = Table(box=None, header_style="bold", pad_edge=False)
    for i, heading in enumerate(facts.OVERVIEW):
        made.add_column(heading, justify="right" if 2 <= i <= 4 else "left", no_wrap=i < 5)
    for row in facts.overview():
        made.add_row(*row)
    return made


def page(name: str | FloatFormat) -> Group:
    """One format: its facts, its code table (notable codes beyond 8 bits) and its number line."""
    fmt = get_format(name)
    rows = Table(box=None, show_header=False, pad_edge=False)
    for what, value in facts.facts(fmt):
        rows.add_row(Text(what, style="bold"), value)
    line = Group(*(Text(text, no_wrap=True) for text in facts.number_line(fmt)))
    return Group(
        Text(fmt.name, style="bold"), rows, Text(), _codes(fmt),
        Text(facts.negative_codes(fmt), style="dim"), Text(),
        Text("positive numbers by binade", style="dim"), line,
    )  # fmt: skip


def _codes(fmt: FloatFormat) -> Table:
    made = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 1))
    if fmt.bits > 8:
        for heading in ("code", "value", ""):
            made.add_column(heading)
        for name, code, value in facts.notable_codes(fmt):
            made.add_row(f"0x{code:0{-(-fmt.bits // 4)}X}", facts.number(value), name)
        return made
    made.add_column("code", no_wrap=True)
    for i in range(facts.COLUMNS):
        made.add_column(f"+{i}", justify="right", no_wrap=True)
    for i, values in enumerate(facts.code_table(fmt)):
        made.add_row(Text(f"0x{i * facts.COLUMNS:02X}", style="dim"), *values)
    return made
