"""Lists on narrow and on wide terminals."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from hfp8sim.cli.common import list_table
from hfp8sim.cli.format_pages import listing, page
from hfp8sim.cli.lists import column_groups
from hfp8sim.recipes import describe


def shown(renderable: object, width: int) -> list[str]:
    """The lines that a terminal of that width shows."""
    text = io.StringIO()
    Console(file=text, width=width, highlight=False).print(renderable)
    return [line.rstrip() for line in text.getvalue().splitlines()]


def recipes() -> object:
    table = list_table(describe.OVERVIEW_HEADINGS)
    for row in describe.overview_rows():
        table.add_row(*row)
    return table


def test_columns_are_grouped_by_their_widths() -> None:
    assert column_groups([4, 3, 3, 3], 19) == [[0, 1, 2, 3]]
    assert column_groups([4, 3, 3, 3], 18) == [[0, 1, 2], [0, 3]]
    assert column_groups([4, 30, 3, 30], 10) == [[0, 1], [0, 2], [0, 3]]


@pytest.mark.parametrize("width", [40, 80, 100, 140])
@pytest.mark.parametrize("make", [listing, recipes, lambda: page("hfp8-143")])
def test_lists_cut_no_cell(make, width: int) -> None:
    wide = " ".join(shown(make(), 1000)).split()
    narrow = shown(make(), width)
    assert all(len(line) <= width for line in narrow if "█" not in line and "─" not in line)
    if width >= 80:  # below, long words are broken
        assert set(wide) == set(" ".join(narrow).split())
    assert "…" not in "".join(narrow)


def test_further_columns_follow_below_with_the_first_one() -> None:
    table = list_table(("name", "size", "what it is"), ("size",))
    table.add_row("a", "1", "a text that is wrapped in a table of its own", style="bold")
    table.add_row("b", "22", "short")
    table.caption = "caption"
    assert shown(table, 20) == [
        "name  size", "a        1", "b       22", "",
        "name  what it is", "a     a text that is", "      wrapped in a", "      table of its", "      own",
        "b     short", "      caption",
    ]  # fmt: skip
    assert shown(table, 60)[0].split("  ") == ["name", "size", "what it is"]
