"""A comparison in the terminal: an overview of the runs, then every layer."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from hfp8sim.report.columns import BY_NAME, cell_text, change_text
from hfp8sim.report.comparison import DEFAULT, ComparisonRecord, Key, change_sign
from hfp8sim.report.table import GAP, NAME_MAX, NAME_MIN, new_table, plain_text, shortened


def render(both: ComparisonRecord, names: Sequence[str] | None = None) -> str:
    """The overview and the columns `names` (by default `DEFAULT`) as text, without colours."""
    return plain_text(lambda console: print_comparison(both, names or DEFAULT, console))


def print_comparison(both: ComparisonRecord, names: Sequence[str], console: Console) -> None:
    """The overview, then every layer."""
    console.print(overview(both))
    for table in layer_tables(both, names, console.width):
        console.print()
        console.print(table)


def overview(both: ComparisonRecord) -> Table:
    """One line for each run: its label and its totals."""
    table = new_table()
    table.add_column("")
    table.add_column("run", overflow="fold")
    names = both.overview_columns()
    for name in names:
        numeric = BY_NAME[name].kind is not str
        table.add_column(BY_NAME[name].short, justify="right" if numeric else "left", no_wrap=True)
    for letter, label, report in zip(both.letters, both.labels, both.reports, strict=True):
        total = report.total
        label += " (partial)" if report.partial else ""
        table.add_row(letter, label, *(cell_text(BY_NAME[n], total.get(n)) for n in names))
    return table


def layer_tables(
    both: ComparisonRecord, names: Sequence[str] = DEFAULT, width: int = 100
) -> list[Table]:
    """Every layer and phase, each column once per run, in as few tables as fit the width. A column
    without any value is left out."""
    tables: list[Table] = []
    fitting: list[str] = []
    for name in names:
        if not both.has(name):
            continue
        if fitting and NAME_MIN + _width(both, [*fitting, name]) > width:
            tables.append(_layer_table(both, fitting, width))
            fitting = []
        fitting.append(name)
    return [*tables, _layer_table(both, fitting, width)] if fitting else tables


def _cells(both: ComparisonRecord, key: Key, name: str) -> list[str]:
    """A value per run, and with two runs the change."""
    values = both.values(key, name)
    if all(value is None for value in values):
        return [""] * (len(values) + (len(values) == 2))
    cells = [cell_text(BY_NAME[name], value) for value in values]
    return [*cells, change_text(BY_NAME[name], *values)] if len(values) == 2 else cells


def _headings(both: ComparisonRecord, name: str) -> list[str]:
    headings = [f"{BY_NAME[name].short} {both.letters[0]}", *both.letters[1:]]
    return [*headings, f"B{change_sign(name)}A"] if len(both.reports) == 2 else headings


def _width(both: ComparisonRecord, names: Sequence[str]) -> int:
    """Characters of all columns but the layer's."""
    total = len("phase") + GAP
    for name in names:
        rows = [_headings(both, name), *(_cells(both, key, name) for key in [*both.keys, None])]
        total += sum(max(map(len, column)) + GAP for column in zip(*rows, strict=True))
    return total


def _layer_table(both: ComparisonRecord, names: Sequence[str], width: int) -> Table:
    table = new_table()
    table.add_column("layer", no_wrap=True)
    table.add_column("phase", no_wrap=True)
    for name in names:
        for heading in _headings(both, name):
            table.add_column(heading, justify="right", no_wrap=True)
    keys = both.keys
    longest = max(len(layer) for layer, _ in keys)
    name_width = max(NAME_MIN, min(longest, NAME_MAX, width - _width(both, names)))
    for key in keys:
        cells = [cell for name in names for cell in _cells(both, key, name)]
        table.add_row(shortened(key[0], name_width), key[1], *cells)
    table.add_section()
    cells = [cell for name in names for cell in _cells(both, None, name)]
    table.add_row("total", "", *cells, style="bold")
    return table
