"""Layer names in tables and charts: any text, on one line, in a given width, and distinct."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from hfp8sim.errors import printable


def plain(*texts: str) -> list[Text]:
    """Texts for a table's cells: no markup is read in them, and control codes are shown as escapes."""
    return [Text(printable(text)) for text in texts]


def shortened(name: str, width: int) -> str:
    """A name on one line that takes at most `width` cells of a terminal.

    Its dotted parts are cut to their first letter and number from the left, as in `e.l11.a.self.query`;
    if that is not enough, the middle is left out.
    """
    parts = printable(name).split(".")
    for i, part in enumerate(parts[:-1]):
        if cell_len(".".join(parts)) <= width:
            break
        parts[i] = re.sub(r"^(\D)\D*(?=\d*$)", r"\1", part)
    name = ".".join(parts)
    if cell_len(name) <= width:
        return name
    tail = (width - 1) // 2
    head = set_cell_size(name, width - 1 - tail).rstrip()
    return f"{head}…{set_cell_size(name[::-1], tail).rstrip()[::-1]}"


def shortened_names(names: Iterable[str], width: int) -> dict[str, str]:
    """Each name shortened to `width` cells; those that would be equal end in `~2`, `~3`, …"""
    short: dict[str, str] = {}
    counts: dict[str, int] = {}
    used: set[str] = set()
    for name in names:
        if name in short:
            continue
        text = base = shortened(name, width)
        while text in used:
            counts[base] = counts.get(base, 1) + 1
            suffix = f"~{counts[base]}"
            text = shortened(name, width - len(suffix)) + suffix
        used.add(text)
        short[name] = text
    return short
