"""Line charts and dot charts as SVG: inline in a page, or as a file of its own.

Series are colours of page.html, `s20` … `s27`. A file of its own brings the colours along. This module does
not depend on reports.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from hfp8sim.report.svg import chart, escape, label, percent, round_steps, superscript, tag

#: Colours that a file of its own needs, light and dark; the same as in page.html.
_LIGHT = ("#2b6cb0", "#d9822b", "#2f9e77", "#8e6bbf", "#c8457f", "#6b7785", "#a07a1f", "#3aa0b8")
_DARK = ("#6aa7e8", "#f0a75a", "#5cc9a0", "#b596e3", "#ec86b2", "#a7b1bd", "#d3b458", "#74cbe0")
#: The first colour's series, and how many there are.
FIRST_SERIES, SERIES = 20, len(_LIGHT)
#: Units of a chart's width inside the nested picture that holds the lines.
_WIDTH = 1000
#: Pixels of a file of its own: width, and the margins around the chart.
_PAGE, _LEFT, _RIGHT, _ABOVE, _BELOW = 720, 64, 16, 12, 44
#: Pixels of a line of the legend.
_LEGEND = 18
#: Approximate width of a legend's letter in pixels.
_LETTER = 6.6


def series(number: int) -> int:
    """The colour of curve `number`, from 0."""
    return FIRST_SERIES + number % SERIES


@dataclasses.dataclass(frozen=True)
class Curve:
    """One line of a chart: points (x, y), joined in order; `dots` are drawn as well, unjoined.

    Points that are not finite interrupt the line.
    """

    name: str
    points: tuple[tuple[float, float], ...] = ()
    dots: tuple[tuple[float, float], ...] = ()
    series: int = FIRST_SERIES


@dataclasses.dataclass(frozen=True)
class Axis:
    """One axis. `names` are texts at 0, 1, 2, … of an axis without numbers."""

    title: str
    log: bool = False
    names: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class _Scale:
    """Values to positions from 0 to 1."""

    low: float
    high: float
    log: bool

    @classmethod
    def of(cls, values: Sequence[float], axis: Axis) -> _Scale:
        """The range of some values with a margin."""
        if axis.names:
            return cls(-0.5, len(axis.names) - 0.5, False)
        if axis.log:
            logs = [math.log10(v) for v in values if v > 0] or [0.0, 1.0]
            low, high = min(logs), max(logs)
            margin = max(0.05 * (high - low), 0.03)
            return cls(low - margin, high + margin, True)
        low, high = min(values), max(values)
        margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
        return cls(low - margin, high + margin, False)

    def place(self, value: float) -> float | None:
        """Where a value is, from 0 to 1; None for a value that the axis cannot show."""
        if not math.isfinite(value) or (self.log and value <= 0):
            return None
        return ((math.log10(value) if self.log else value) - self.low) / (self.high - self.low)

    def ticks(self, axis: Axis) -> list[tuple[float, str]]:
        """Positions and texts of the axis."""
        if axis.names:
            return [((i - self.low) / (self.high - self.low), t) for i, t in enumerate(axis.names)]
        if self.log:
            return [(p, t) for v, t in self._powers() if (p := self.place(v)) is not None]
        span = round_steps(self.high - self.low)
        step = span[1] if len(span) > 1 else 1.0
        first = math.ceil(self.low / step)
        count = math.floor(self.high / step) - first + 1
        values = [step * (first + i) for i in range(count)]
        return [((v - self.low) / (self.high - self.low), f"{v:.6g}") for v in values]

    def _powers(self) -> list[tuple[float, str]]:
        """Powers of ten in the range; on a short axis also 2 and 5 times them, on a long one not all."""
        span = self.high - self.low
        factors = (1, 1.5, 2, 3, 4, 5, 6, 8) if span < 0.7 else (1, 2, 5) if span < 2.2 else (1,)
        stride = max(1, math.ceil(span / 8))
        powers = range(math.floor(self.low), math.ceil(self.high) + 1)
        numbers = [(f, p) for p in powers if p % stride == 0 for f in factors]
        return [
            (f * 10.0**p, f"{f * 10.0**p:g}" if -4 <= p <= 4 else "10" + superscript(p))
            for f, p in numbers
            if self.low <= math.log10(f) + p <= self.high
        ]


def curves(
    name: str, description: str, drawn: Sequence[Curve], x: Axis, y: Axis, height: int = 240
) -> str:
    """A chart of curves and dots, as wide as its frame; the frame needs 48 pixels at its left.

    Args:
        name: becomes its data-plot.
        description: its title for screen readers.
    """
    return chart(name, description, height + 34, _content(drawn, x, y, height))


def file(name: str, description: str, drawn: Sequence[Curve], x: Axis, y: Axis) -> str:
    """The same chart with a legend, as the text of an SVG file."""
    legend, lines = _legend([c for c in drawn if c.name])
    top, height = _ABOVE + lines * _LEGEND + 14, 260
    inner = tag(
        "svg", tag("title", escape(description)) + "".join(_content(drawn, x, y, height)),
        x=_LEFT, y=top, width=_PAGE - _LEFT - _RIGHT, height=height + _BELOW, overflow="visible",
    )  # fmt: skip
    whole = top + height + _BELOW
    picture = tag(
        "svg", _style() + tag("rect", class_="paper", width="100%", height="100%") + legend + inner,
        xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {_PAGE} {whole}", width=_PAGE, height=whole,
        role="img", data_plot=name,
    )  # fmt: skip
    return picture.replace("><", ">\n<") + "\n"


def _content(drawn: Sequence[Curve], x: Axis, y: Axis, height: int) -> list[str]:
    """Grid, lines, dots and titles."""
    places = [p for curve in drawn for p in (*curve.points, *curve.dots)]
    finite = [p for p in places if math.isfinite(p[0]) and math.isfinite(p[1])] or [(0.0, 0.0)]
    across, up = _Scale.of([p[0] for p in finite], x), _Scale.of([p[1] for p in finite], y)
    crowded = sum(map(len, x.names)) * _LETTER > _PAGE - _LEFT - _RIGHT
    elements = _grid(across.ticks(x), up.ticks(y), height, crowded)
    elements.append(
        tag(
            "svg", "".join(_line(c, across, up, height) for c in drawn),
            x="0", y="0", width="100%", height=height, viewBox=f"0 0 {_WIDTH} {height}",
            preserveAspectRatio="none",
        )
    )  # fmt: skip
    for curve in drawn:
        for dot in curve.dots:
            px, py = across.place(dot[0]), up.place(dot[1])
            if px is not None and py is not None:
                hint = tag("title", escape(f"{curve.name}: {dot[1]:.4g}"))
                elements.append(
                    tag("circle", hint, class_=f"s{curve.series}", cx=percent(100 * px),
                        cy=f"{height * (1 - py):.2f}", r=3)
                )  # fmt: skip
    elements.append(label(x.title, class_="end axis", x="100%", y=height + 30))
    elements.append(label(y.title, class_="start axis", x=-44, y=-6))
    return elements


def _grid(
    xs: Sequence[tuple[float, str]], ys: Sequence[tuple[float, str]], height: int, crowded: bool
) -> list[str]:
    """Grid lines with their texts; if these are crowded, every second one is a line lower."""
    elements = []
    for number, (place, text) in enumerate(xs):
        at = percent(100 * place)
        elements.append(tag("line", class_="grid", x1=at, x2=at, y1=0, y2=height))
        below = 14 + 13 * (number % 2 if crowded else 0)
        elements.append(label(text, class_="tick", x=at, y=height + below))
    for place, text in ys:
        level = f"{height * (1 - place):.2f}"
        elements.append(tag("line", class_="grid", x1="0%", x2="100%", y1=level, y2=level))
        elements.append(label(text, class_="label", x=-6, y=f"{height * (1 - place) + 4:.2f}"))
    return elements


def _line(curve: Curve, across: _Scale, up: _Scale, height: int) -> str:
    """The polylines of a curve, one for each part without a gap."""
    parts: list[list[str]] = [[]]
    for x, y in curve.points:
        px, py = across.place(x), up.place(y)
        if px is None or py is None:
            parts.append([])
        else:
            parts[-1].append(f"{_WIDTH * px:.1f},{height * (1 - py):.2f}")
    style = f"stroke:var(--s{curve.series})"
    return "".join(
        tag("polyline", class_="curve", points=" ".join(part), style=style)
        for part in parts
        if len(part) > 1
    )


def _legend(drawn: Sequence[Curve]) -> tuple[str, int]:
    """The names of the curves with their colours, and the lines that they take."""
    elements, x, line = [], float(_LEFT), 0
    for curve in drawn:
        width = 22 + _LETTER * len(curve.name) + 14
        if x + width > _PAGE and x > _LEFT:
            x, line = float(_LEFT), line + 1
        y = _ABOVE + line * _LEGEND
        elements.append(
            tag("rect", class_=f"s{curve.series}", x=f"{x:g}", y=y, width=12, height=12)
        )
        elements.append(label(curve.name, x=f"{x + 18:g}", y=y + 10))
        x += width
    return "".join(elements), line + 1 if drawn else 0


def _style() -> str:
    """The style of a file of its own."""

    def scheme(paper: str, ink: str, soft: str, line: str, colours: Sequence[str]) -> str:
        names = "".join(f"--s{series(i)}:{c};" for i, c in enumerate(colours))
        return f":root{{--paper:{paper};--ink:{ink};--soft:{soft};--line:{line};{names}}}"

    light = scheme("#ffffff", "#1c2430", "#5b6675", "#d9dee5", _LIGHT)
    dark = scheme("#12161c", "#e4e8ee", "#98a3b1", "#2c343f", _DARK)
    fills = "".join(f".s{series(i)}{{fill:var(--s{series(i)})}}" for i in range(SERIES))
    return tag(
        "style",
        light + f"@media (prefers-color-scheme:dark){{{dark}}}" + fills + CURVE_STYLE
        + ".paper{fill:var(--paper)}text{font:12px system-ui,sans-serif;fill:var(--ink)}"
        + ".grid{stroke:var(--line)}.label{text-anchor:end}.tick{text-anchor:middle}"
        + ".label,.tick,.axis{fill:var(--soft);font-size:11px}.end{text-anchor:end}",
    )  # fmt: skip


#: The style of lines and dots, in pages and files.
CURVE_STYLE = (
    ".curve{fill:none;stroke-width:1.6;vector-effect:non-scaling-stroke;stroke-linejoin:round}"
    "circle{fill-opacity:.65}"
)
