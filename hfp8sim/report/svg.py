"""Charts as inline SVG, as wide as the page.

Positions are per cent, so that text and strokes keep their size on a phone and on paper. Colours are CSS
classes, so that they follow the page's light or dark scheme: page.html defines the series `s0`, `s1`, …
This module does not depend on reports.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from html import escape as escape_markup

from hfp8sim.errors import printable

#: Heights in pixels: of a bar's line, of the space between groups, and of the axis below.
LINE, ROW_GAP, AXIS = 11, 7, 18
#: Approximate width of a label's letter in pixels.
LETTER = 6.4
#: Bars of a chart's block. Page and column breaks fall between blocks, so that none cuts a bar.
BLOCK = 15
#: Per cent of the width that the longest bar takes; the rest is for its figure.
REACH = 80.0
#: Per cent of the width that a bar's figure may need on a phone.
FIGURE = 12.0


def escape(text: str) -> str:
    """The text as XML takes it, in which there are no control codes."""
    return escape_markup(printable(text))


def tag(name: str, content: str = "", /, **attributes: object) -> str:
    """An element; `class_` is `class`, and other underscores are hyphens."""
    attribute_text = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
    )
    return f"<{name}{attribute_text}>{content}</{name}>"


def label(text: str, **attributes: object) -> str:
    """A text element."""
    return tag("text", escape(text), **attributes)


def percent(value: float) -> str:
    """A position or width as per cent of the chart's width."""
    return f"{value:.3f}%"


def chart(
    name: str, description: str, height: float, content: Iterable[str], left: float = 0
) -> str:
    """An SVG element as wide as its frame without `left` pixels, which hold labels.

    `name` becomes its data-plot, `description` its title for screen readers.
    """
    return tag(
        "svg", tag("title", escape(description)) + "".join(content), class_="chart", data_plot=name,
        role="img", height=f"{height:g}",
        style=f"margin-left:{left:.0f}px;width:calc(100% - {left:.0f}px)",
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Segment:
    """A part of a bar: its series, its length, and its tooltip."""

    series: int
    value: float
    hint: str


@dataclasses.dataclass(frozen=True)
class Bar:
    """A bar of segments end to end, the figure behind it, and a mark across it if there is one."""

    segments: tuple[Segment, ...]
    figure: str
    mark: float | None = None
    mark_hint: str = ""


@dataclasses.dataclass(frozen=True)
class Group:
    """Bars that share a label."""

    label: str
    bars: tuple[Bar, ...]
    title: str = ""


def bars(
    name: str,
    description: str,
    groups: Sequence[Group],
    ticks: Sequence[tuple[float, str]],
    top: float,
) -> str:
    """Horizontal bars with a label in front of each group, in blocks of one scale.

    `top` is the value at full length; `ticks` are (value, text) of the axis.
    """
    left = max(len(group.label) for group in groups) * LETTER + 10
    blocks: list[list[Group]] = [[]]
    for group in groups:
        if blocks[-1] and sum(len(g.bars) for g in [*blocks[-1], group]) > BLOCK:
            blocks.append([])
        blocks[-1].append(group)
    charts = "".join(_block(name, description, part, ticks, top, left) for part in blocks)
    return tag("div", charts, class_="bars many" if len(blocks) > 1 else "bars")


def _block(
    name: str,
    description: str,
    groups: Sequence[Group],
    ticks: Sequence[tuple[float, str]],
    top: float,
    left: float,
) -> str:
    def across(value: float) -> float:
        return REACH * min(max(value, 0.0), top) / top if top else 0.0

    elements: list[str] = []
    y = 2.0
    for group in groups:
        middle = y + len(group.bars) * LINE / 2
        text = tag("title", escape(group.title or group.label)) + escape(group.label)
        elements.append(tag("text", text, class_="label", x=-6, y=f"{middle + 4:g}"))
        for bar in group.bars:
            elements += _bar(bar, y, across)
            y += LINE
        y += ROW_GAP
    grid: list[str] = []
    for value, text in ticks:
        x = percent(across(value))
        grid.append(tag("line", class_="grid", x1=x, x2=x, y1=0, y2=y))
        grid.append(label(text, class_="tick", x=x, y=y + 12))
    return chart(name, description, y + AXIS, grid + elements, left)


def _bar(bar: Bar, y: float, across: Callable[[float], float]) -> list[str]:
    """A bar's segments end to end, its mark, and its figure; `across` gives per cent of the width."""
    elements: list[str] = []
    end = 0.0
    for segment in bar.segments:
        width = across(segment.value)
        elements.append(
            tag(
                "rect", tag("title", escape(segment.hint)), class_=f"s{segment.series}",
                x=percent(end), y=f"{y + 1:g}", width=percent(width), height=LINE - 2,
            )
        )  # fmt: skip
        end += width
    figure = end
    if bar.mark is not None:
        mark = across(bar.mark)
        x, hint = percent(mark), tag("title", escape(bar.mark_hint))
        elements.append(tag("line", hint, class_="mark", x1=x, x2=x, y1=y, y2=y + LINE))
        if 0 <= mark - end < FIGURE:  # the figure would lie on the mark
            figure = mark
    elements.append(
        label(bar.figure, class_="figure", x=percent(figure), dx=5, y=f"{y + LINE - 2:g}")
    )
    return elements


def axis_number(value: float) -> str:
    """A number of an axis: thousands as k, millions as M, …"""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g} {letter}"
    return f"{value:g}"


def round_steps(top: float, most: int = 5) -> list[float]:
    """Round numbers from 0 to `top`, at most `most` steps: 1, 2 or 5 times a power of ten."""
    if top <= 0:
        return [0.0]
    power = 10 ** math.floor(math.log10(top / most))
    step = next(f * power for f in (1, 2, 5, 10) if f * power * most >= top)
    return [i * step for i in range(int(top / step + 1e-9) + 1)]


def columns(
    name: str,
    description: str,
    bins: Sequence[str],
    stacks: Sequence[Sequence[Segment]],
    height: int,
) -> str:
    """Vertical bars, a stack of segments for each bin, the bins' names below."""
    tallest = max((sum(s.value for s in stack) for stack in stacks), default=0.0) or 1.0
    width = 100.0 / len(bins)
    elements = [tag("line", class_="grid", x1="0%", x2="100%", y1=height, y2=height)]
    for number, (text, stack) in enumerate(zip(bins, stacks, strict=True)):
        y = float(height)
        for segment in stack:
            length = (height - 14) * segment.value / tallest
            y -= length
            elements.append(
                tag(
                    "rect", tag("title", escape(segment.hint)), class_=f"s{segment.series}",
                    x=percent((number + 0.08) * width), width=percent(0.84 * width), y=f"{y:.2f}",
                    height=f"{length:.2f}",
                )
            )  # fmt: skip
        middle = percent((number + 0.5) * width)
        tick = "tick" if number % 2 == 0 else "tick minor"  # phones hide the minor ones
        elements.append(label(text, class_=tick, x=middle, y=height + 13))
        whole = sum(segment.value for segment in stack)
        if whole == tallest:
            elements.append(label(f"{100 * whole:.0f}%", class_="tick", x=middle, y=f"{y - 3:.2f}"))
    return chart(name, description, height + AXIS, elements)


def sparkline(counts: Sequence[int]) -> str:
    """A histogram the size of a word."""
    tallest = max(counts) or 1
    bars = [
        tag("rect", x=4 * i, y=f"{14 - 14 * c / tallest:.1f}", width=3, height=f"{14 * c / tallest:.1f}")
        for i, c in enumerate(counts)
        if c
    ]  # fmt: skip
    return tag("svg", "".join(bars), class_="spark", width=4 * len(counts), height=14)


@dataclasses.dataclass(frozen=True)
class Point:
    """A point of a scatter chart; `size` is a radius in pixels."""

    x: float
    y: float
    series: int
    size: float
    hint: str


#: A line of a scatter chart: x1, y1, x2, y2, text.
Line = tuple[float, float, float, float, str]


def log_axes(
    name: str,
    description: str,
    points: Sequence[Point],
    lines: Sequence[Line],
    titles: tuple[str, str],
    height: int = 300,
) -> str:
    """A scatter chart with two logarithmic axes, whose titles are `titles`."""
    xs = [p.x for p in points] + [x for line in lines for x in (line[0], line[2])]
    ys = [p.y for p in points] + [y for line in lines for y in (line[1], line[3])]
    axes = _LogAxes(_decades(xs), _decades(ys), height)
    elements = axes.grid()
    for line in lines:
        elements += axes.line(*line)
    for point in points:
        elements.append(
            tag(
                "circle", tag("title", escape(point.hint)), class_=f"s{point.series}",
                cx=axes.across(point.x), cy=axes.up(point.y), r=f"{point.size:.1f}",
            )
        )  # fmt: skip
    elements.append(label(titles[0], class_="end axis", x="100%", y=height + 28))
    elements.append(label(titles[1], class_="start axis", x=-40, y=-6))
    return chart(name, description, height + 34, elements)


@dataclasses.dataclass(frozen=True)
class _LogAxes:
    """Two logarithmic axes: the decades of x and y, and the chart's height in pixels."""

    x: tuple[float, float]
    y: tuple[float, float]
    height: int

    def across(self, x: float) -> str:
        """The horizontal position of a value."""
        left, right = self.x
        return percent(100 * (math.log10(x) - left) / (right - left))

    def up(self, y: float) -> str:
        """The vertical position of a value."""
        bottom, top = self.y
        return f"{self.height * (1 - (math.log10(y) - bottom) / (top - bottom)):.2f}"

    def grid(self) -> list[str]:
        """Grid lines and their numbers."""
        elements = []
        for value in _round_numbers(*self.x):
            x = self.across(value)
            elements.append(tag("line", class_="grid", x1=x, x2=x, y1=0, y2=self.height))
            elements.append(label(_number(value), class_="tick", x=x, y=self.height + 13))
        for value in _round_numbers(*self.y):
            y = self.up(value)
            elements.append(tag("line", class_="grid", x1="0%", x2="100%", y1=y, y2=y))
            elements.append(label(_number(value), class_="label", x=-6, y=float(y) + 4))
        return elements

    def line(self, x1: float, y1: float, x2: float, y2: float, text: str) -> list[str]:
        """A line with its text: at the right end, or beside the upper half of a slope."""
        ends = {"x1": self.across(x1), "y1": self.up(y1), "x2": self.across(x2), "y2": self.up(y2)}
        drawing = tag("line", tag("title", escape(text)), class_="roof", **ends)
        if y1 == y2:
            return [drawing, label(text, class_="end", x="100%", y=float(self.up(y2)) - 5)]
        x, y = x1**0.35 * x2**0.65, y1**0.35 * y2**0.65
        return [drawing, label(text, class_="end", x=self.across(x), y=float(self.up(y)) - 8)]


def _decades(values: Sequence[float]) -> tuple[float, float]:
    """The range of an axis in powers of ten, with a margin at both ends."""
    low, high = math.log10(min(values)), math.log10(max(values))
    margin = max(0.06 * (high - low), 0.12)
    return low - margin, high + margin


def _round_numbers(low: float, high: float) -> list[float]:
    """The grid lines of an axis from 10^low to 10^high: powers of ten, on a short axis also 2 and 5
    times them."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    factors = (1, 2, 5) if high - low < 2.5 else (1,)
    numbers = [factor * 10.0**power for power in powers for factor in factors]
    return [value for value in numbers if low <= math.log10(value) <= high]


def _number(value: float) -> str:
    power = math.log10(value)
    return f"{value:g}" if -3 <= power <= 4 else "10" + superscript(round(power))


def superscript(number: int) -> str:
    """An exponent in small digits."""
    return str(number).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
