"""A plot of measured products as an SVG file: model over device, for each split, beside a bare roofline."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hfp8sim.machine.config import Machine
from hfp8sim.report.svg import label, tag
from hfp8sim.timing.silicon import Measurement, products, roofline_row

#: Sizes in pixels.
_WIDTH, _ROW, _LEFT, _RIGHT, _TOP, _BOTTOM = 760, 17, 170, 20, 40, 24
#: The axis: ratios from the lowest to the highest, on a logarithmic scale.
_LOW, _HIGH = 0.4, 2.5
_TICKS = (0.5, 0.7, 1.0, 1.3, 2.0)

_STYLE = """
text { font: 11px sans-serif; fill: #333 } .grid { stroke: #ddd } .one { stroke: #888 }
.band { fill: #e8f2e8 } .whole { fill: #2a6f97 } .cut { fill: none; stroke: #c47f00 }
.program { fill: #b3261e } .bare { stroke: #666 }
@media (prefers-color-scheme: dark) { text { fill: #ddd } .band { fill: #24352a } .grid { stroke: #444 } }
"""


def _x(ratio: float) -> float:
    """The place of a ratio; one beyond the axis is at its end."""
    share = math.log(min(max(ratio, _LOW), _HIGH) / _LOW) / math.log(_HIGH / _LOW)
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _axis(height: float) -> list[str]:
    """The band of 30 per cent around one, and the ticks."""
    parts = [tag("rect", x=_x(0.7), y=_TOP, width=_x(1.3) - _x(0.7), height=height, class_="band")]
    for tick in _TICKS:
        x = f"{_x(tick):.1f}"
        kind = "one" if tick == 1 else "grid"
        parts.append(tag("line", x1=x, x2=x, y1=_TOP, y2=_TOP + height, class_=kind))
        parts.append(label(f"{tick:g}", x=x, y=_TOP + height + 15, text_anchor="middle"))
    return parts


def _row(number: int, rows: Sequence[Measurement], programs: Sequence[Measurement], machine: Machine) -> list[str]:  # fmt: skip
    """The marks of one product: a circle for each split, a diamond for a program, a cross for the roofline."""
    bits, (_, m, n, k) = rows[0].product
    y = _TOP + _ROW * (number + 0.5)
    parts = [label(f"{m}×{n}×{k}, {bits} bits", x=_LEFT - 8, y=y + 4, text_anchor="end")]
    for row in reversed(rows):  # the fastest on top
        size = 4.5 if row is rows[0] else 2.5
        kind = "whole" if row.split.k == 1 else "cut"
        parts.append(tag("circle", cx=f"{_x(row.ratio):.1f}", cy=y, r=size, class_=kind))
    for row in programs[:1]:
        x = _x(row.ratio)
        points = " ".join(
            f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in ((0, -4), (4, 0), (0, 4), (-4, 0))
        )
        parts.append(tag("polygon", points=points, class_="program"))
    x = _x(roofline_row(rows[0], machine).ratio)
    parts.append(tag("path", d=f"M{x - 3:.1f} {y - 3}l6 6m0 -6l-6 6", class_="bare"))
    return parts


def render(
    rows: Sequence[Measurement], machine: Machine, programs: Sequence[Measurement] = ()
) -> str:
    """The SVG file.

    Args:
        rows: what `read_measurements` gives.
        programs: what `program_rows` gives, or nothing: then no program is drawn.
    """
    measured, timed = products(rows), products(programs)
    height = _ROW * len(measured)
    parts = [tag("style", _STYLE), *_axis(height)]
    legend = (
        f"{machine.name}, model over device: ● a split (large: the fastest on the device), ○ one that cuts K,",
        "◆ the program of the fastest split, × a bare roofline of it",
    )
    parts += [label(line, x=8, y=14 + 15 * number) for number, line in enumerate(legend)]
    for number, (product, found) in enumerate(measured.items()):
        parts += _row(number, found, timed.get(product, []), machine)
    view = f"0 0 {_WIDTH} {_TOP + height + _BOTTOM}"
    return tag("svg", "\n".join(parts), xmlns="http://www.w3.org/2000/svg", viewBox=view) + "\n"
