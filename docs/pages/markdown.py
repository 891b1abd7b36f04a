"""Markdown that the generated pages share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; a `|` in a cell is escaped."""
    lines = [headings, ("---",) * len(headings), *rows]
    return "".join(f"| {' | '.join(_escaped(cell) for cell in row)} |\n" for row in lines)


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")


def filled(page: str, **parts: str) -> str:
    """A page with each part between its two markers, `<!-- NAME -->` and `<!-- /NAME -->`.

    Raises ValueError where the page does not have both markers once.
    """
    for name, part in parts.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.S)
        page, count = pattern.subn(lambda found, part=part: found[1] + part + found[2], page)  # type: ignore[misc]
        if count != 1:
            raise ValueError(f"the page has {count} places for {name}, not one")
    return page
