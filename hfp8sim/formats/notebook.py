"""Records as notebooks show them: tables and drawings in HTML without scripts, in the notebook's own colours."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from hfp8sim.formats.codec import Format, decode

#: Height of a number line's lines, in pixels, and the distance of labels in binades.
_TICK, _LABELS = 14, 4


def html_table(
    rows: Iterable[Sequence[object]], headings: Sequence[str] = (), caption: str = ""
) -> str:
    """A table; the first cell of each row is its heading. Every text is escaped."""
    head = "".join(f'<th style="text-align:left">{escape(text)}</th>' for text in headings)
    body = "".join(
        f'<tr><th style="text-align:left">{escape(str(first))}</th>'
        + "".join(f'<td style="text-align:left">{escape(str(cell))}</td>' for cell in cells)
        + "</tr>"
        for first, *cells in rows
    )
    top = f"<thead><tr>{head}</tr></thead>" if head else ""
    title = (
        f'<caption style="text-align:left"><b>{escape(caption)}</b></caption>' if caption else ""
    )
    return f"<table>{title}{top}<tbody>{body}</tbody></table>"


def number_line(fmt: Format) -> str:
    """An SVG with a line for each positive number, on a logarithmic axis; formats of at most 8 bits."""
    numbers = [x for x in decode(range(1 << fmt.bits), fmt).tolist() if 0 < x < math.inf]  # type: ignore[arg-type]
    low, high = math.floor(math.log2(min(numbers))), math.ceil(math.log2(max(numbers)))

    def across(x: float) -> str:
        return f"{3 + 94 * (math.log2(x) - low) / max(high - low, 1):.2f}%"

    lines = "".join(
        f'<line x1="{across(x)}" x2="{across(x)}" y1="0" y2="{_TICK}" stroke="currentColor"/>'
        for x in dict.fromkeys(numbers)
    )
    step = -(-(high - low) // _LABELS // 2) or 1
    labels = "".join(
        f'<text x="{across(2.0**e)}" y="{_TICK + 14}" font-size="11" text-anchor="middle" '
        f'fill="currentColor">2<tspan dy="-4" font-size="8">{e}</tspan></text>'
        for e in range(low, high + 1, step)
    )
    return (
        f'<svg width="100%" height="{_TICK + 20}" role="img"><title>positive numbers of '
        f"{escape(fmt.name)} on a logarithmic axis</title>{lines}{labels}</svg>"
    )
