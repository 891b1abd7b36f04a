"""Tables of lists that lose nothing on a narrow terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Column, Table

#: Characters to which a column of text is wrapped before it moves into a table of its own.
WRAPPED_WIDTH = 24
#: Spaces between two columns.
_GAP = 2


class ListTable(Table):
    """A table that cuts no cell: columns that do not fit follow in a table below, beside the first column again."""

    def __init__(self) -> None:
        super().__init__(box=None, header_style="bold", pad_edge=False)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = [_width(column, console, options) for column in self.columns]
        groups = column_groups(widths, options.max_width)
        if len(groups) == 1:
            yield from super().__rich_console__(console, options)
            return
        for number, group in enumerate(groups):
            yield from console.render(self._part(group, last=number == len(groups) - 1), options)
            if number < len(groups) - 1:
                yield from console.render("", options)

    def _part(self, group: Sequence[int], last: bool) -> Table:
        """A table of some columns; the caption is below the last one."""
        part = Table(
            box=None, header_style=self.header_style, pad_edge=False,
            caption=self.caption if last else None, caption_justify=self.caption_justify,
        )  # fmt: skip
        columns = [self.columns[index] for index in group]
        for column in columns:
            part.add_column(
                column.header, justify=column.justify, no_wrap=column.no_wrap,
                overflow=column.overflow,
            )  # fmt: skip
        for row, cells in zip(
            self.rows, zip(*(column.cells for column in columns), strict=True), strict=True
        ):
            part.add_row(*cells, style=row.style)
        return part


def column_groups(widths: Sequence[int], room: int) -> list[list[int]]:
    """Columns by their numbers in groups that fit into `room` characters; each group begins with column 0."""
    groups: list[list[int]] = [[0]]
    used = widths[0]
    for column, width in enumerate(widths[1:], start=1):
        if used + _GAP + width > room and len(groups[-1]) > 1:
            groups.append([0])
            used = widths[0]
        groups[-1].append(column)
        used += _GAP + width
    return groups


def _width(column: Column, console: Console, options: ConsoleOptions) -> int:
    """Characters that a column needs: all of its longest cell, or `WRAPPED_WIDTH` if its text may be wrapped."""
    unlimited = options.update(width=10_000)
    sizes = [Measurement.get(console, unlimited, cell) for cell in (column.header, *column.cells)]
    longest = max(size.maximum for size in sizes)
    if column.no_wrap:
        return longest
    return max(min(longest, WRAPPED_WIDTH), *(size.minimum for size in sizes))
