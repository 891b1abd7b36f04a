"""A comparison in the terminal: an overview of the runs, then every layer."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hfp8sim.errors import printable
from hfp8sim.report.columns import BY_NAME, cell_text, change_text
from hfp8sim.report.comparison import DEFAULT, ComparisonRecord, Key, change_sign
from hfp8sim.report.names import plain, shortened_names
from hfp8sim.report.table import GAP, NAME_MAX, NAME_MIN, new_table, plain_text


def render(comparison: ComparisonRecord, names: Sequence[str] | None = None) -> str:
    """The overview and the columns `names` (by default `DEFAULT`) as text, without colours."""
    return plain_text(lambda console: print_comparison(comparison, names or DEFAULT, console))


def print_comparison(comparison: ComparisonRecord, names: Sequence[str], console: Console) -> None:
    """The runs' alerts, the overview, then every layer."""
    for alert in comparison.alerts():
        console.print(Text(printable(alert), style="bold"))
    console.print(overview(comparison))
    for table in layer_tables(comparison, names, console.width):
        console.print()
        console.print(table)


def overview(comparison: ComparisonRecord) -> Table:
    """One line for each run: its label and its totals."""
    table = new_table()
    table.add_column("")
    table.add_column("run", overflow="fold")
    names = comparison.overview_columns()
    for name in names:
        numeric = BY_NAME[name].kind is not str
        table.add_column(BY_NAME[name].short, justify="right" if numeric else "left", no_wrap=True)
    for letter, label, report in zip(
        comparison.letters, comparison.labels, comparison.reports, strict=True
    ):
        total = report.total
        label += " (partial)" if report.partial else ""
        cells = (cell_text(BY_NAME[n], total.get(n)) for n in names)
        table.add_row(*plain(letter, label, *cells))
    return table


def layer_tables(
    comparison: ComparisonRecord, names: Sequence[str] = DEFAULT, width: int = 100
) -> list[Table]:
    """Every layer and phase, each column once per run, in as few tables as fit the width. A column
    without any value is left out."""
    tables: list[Table] = []
    fitting: list[str] = []
    for name in names:
        if not comparison.has(name):
            continue
        if fitting and NAME_MIN + _width(comparison, [*fitting, name]) > width:
            tables.append(_layer_table(comparison, fitting, width))
            fitting = []
        fitting.append(name)
    return [*tables, _layer_table(comparison, fitting, width)] if fitting else tables


def _cells(comparison: ComparisonRecord, key: Key, name: str) -> list[str]:
    """A value per run, and with two runs the change."""
    values = comparison.values(key, name)
    if all(value is None for value in values):
        return [""] * (len(values) + (len(values) == 2))
    cells = [cell_text(BY_NAME[name], value) for value in values]
    return [*cells, change_text(BY_NAME[name], *values)] if len(values) == 2 else cells


def _headings(comparison: ComparisonRecord, name: str) -> list[str]:
    headings = [f"{BY_NAME[name].short} {comparison.letters[0]}", *comparison.letters[1:]]
    return [*headings, f"B{change_sign(name)}A"] if len(comparison.reports) == 2 else headings


def _width(comparison: ComparisonRecord, names: Sequence[str]) -> int:
    """Characters of all columns but the layer's."""
    total = len("phase") + GAP
    for name in names:
        rows = [
            _headings(comparison, name),
            *(_cells(comparison, key, name) for key in [*comparison.keys, None]),
        ]
        total += sum(max(map(cell_len, column)) + GAP for column in zip(*rows, strict=True))
    return total


def _layer_table(comparison: ComparisonRecord, names: Sequence[str], width: int) -> Table:
    table = new_table()
    table.add_column("layer", no_wrap=True)
    table.add_column("phase", no_wrap=True)
    for name in names:
        for heading in _headings(comparison, name):
            table.add_column(heading, justify="right", no_wrap=True)
    keys = comparison.keys
    longest = max(cell_len(printable(layer)) for layer, _ in keys)
    name_width = max(NAME_MIN, min(longest, NAME_MAX, width - _width(comparison, names)))
    short = shortened_names((layer for layer, _ in keys), name_width)
    for key in keys:
        cells = [cell for name in names for cell in _cells(comparison, key, name)]
        table.add_row(*plain(short[key[0]], key[1], *cells))
    table.add_section()
    cells = [cell for name in names for cell in _cells(comparison, None, name)]
    table.add_row("total", "", *cells, style="bold")
    return table
