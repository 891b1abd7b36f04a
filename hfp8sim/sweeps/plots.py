"""The charts of a sweep's page: fronts, small multiples, parallel coordinates, effects, curves of the loss.

Colours are CSS classes of the page. Horizontal positions are per cent, so that a chart fits a phone and paper.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

from hfp8sim.report import svg
from hfp8sim.report.columns import Row, missing
from hfp8sim.sweeps.record import Front, SweepRecord, oriented
from hfp8sim.sweeps.sensitivity import Sensitivity, sensitivities
from hfp8sim.sweeps.table import axis_title, heading, number_text

#: A ratio of the largest to the smallest number beyond which an axis is logarithmic.
_LOG_RATIO = 20.0
#: Lines of parallel coordinates, small charts, and curves in one chart at most.
_LINES, _FACETS, _CURVES = 300, 9, 8
#: Pixels left of a chart, for its numbers.
_LEFT = 52
#: Most points of a drawn curve.
_CURVE_POINTS = 60


@dataclasses.dataclass(frozen=True)
class Axis:
    """A numeric axis: the ends of its range, in powers of ten if it is logarithmic."""

    low: float
    high: float
    log: bool

    @classmethod
    def of(cls, values: Sequence[float]) -> Axis:
        """The axis of some numbers, with a margin; logarithmic for a large ratio of positive numbers."""
        low, high = min(values), max(values)
        log = low > 0 and high / low > _LOG_RATIO
        if log:
            low, high = math.log10(low), math.log10(high)
        margin = 0.06 * (high - low) or abs(high) * 0.05 or 1.0
        return cls(low - margin, high + margin, log)

    def share(self, value: float) -> float:
        """The position of a value, 0 at the low end and 1 at the high end."""
        number = math.log10(value) if self.log else value
        return (number - self.low) / (self.high - self.low)

    def ticks(self, most: int = 5) -> list[float]:
        """Round numbers on the axis."""
        if self.log:
            powers = range(math.floor(self.low), math.ceil(self.high) + 1)
            factors = (1, 2, 5) if self.high - self.low < 2.5 else (1,)
            numbers = [factor * 10.0**power for power in powers for factor in factors]
            return [x for x in numbers if self.low <= math.log10(x) <= self.high]
        step = svg.round_steps(self.high - self.low, most)[1]
        first = math.ceil(self.low / step)
        return [i * step for i in range(first, math.floor(self.high / step) + 1)]


def _finite(rows: Sequence[Row], name: str) -> list[float]:
    return [row[name] for row in rows if not missing(row.get(name)) and math.isfinite(row[name])]


def _line(x1: float, y1: float, x2: float, y2: float, class_: str) -> str:
    return svg.tag(
        "line", class_=class_, x1=svg.percent(x1), y1=f"{y1:.2f}", x2=svg.percent(x2), y2=f"{y2:.2f}"
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Frame:
    """Two axes and the height of a chart in pixels."""

    x: Axis
    y: Axis
    height: int

    def at(self, x: float, y: float) -> tuple[float, float]:
        """The place of a point: per cent across, pixels down."""
        return 100 * self.x.share(x), self.height * (1 - self.y.share(y))

    def grid(self, titles: tuple[str, str] = ("", ""), most: int = 5) -> list[str]:
        """Grid lines, their numbers, and the titles of the axes."""
        parts = []
        for number, value in enumerate(self.x.ticks(most)):
            x = 100 * self.x.share(value)
            tick = "tick minor" if number % 2 else "tick"
            parts.append(_line(x, 0, x, self.height, "grid"))
            text = svg.axis_number(value)
            parts.append(svg.label(text, class_=tick, x=svg.percent(x), y=self.height + 13))
        for value in self.y.ticks(most):
            y = self.height * (1 - self.y.share(value))
            parts.append(_line(0, y, 100, y, "grid"))
            parts.append(svg.label(svg.axis_number(value), class_="label", x=-6, y=f"{y + 4:.1f}"))
        if titles[0]:
            parts.append(svg.label(titles[0], class_="end axis", x="100%", y=self.height + 28))
        if titles[1]:
            parts.append(svg.label(titles[1], class_="start axis", x=-_LEFT + 4, y=-8))
        return parts

    def dot(self, x: float, y: float, class_: str, radius: float, hint: str) -> str:
        """A point with its tooltip."""
        across, down = self.at(x, y)
        return svg.tag(
            "circle", svg.tag("title", svg.escape(hint)), class_=class_, cx=svg.percent(across),
            cy=f"{down:.2f}", r=f"{radius:g}",
        )  # fmt: skip


def _measured(rows: Sequence[Row], *names: str) -> list[Row]:
    """The rows that have finite numbers of these names."""
    return [
        row
        for row in rows
        if all(not missing(row.get(name)) and math.isfinite(row[name]) for name in names)
    ]


def hint(record: SweepRecord, row: Row, *measures: str) -> str:
    """A configuration in words: its varied keys and some measures."""
    keys = [f"{key} = {row[key]}" for key in record.varied]
    numbers = [f"{heading(name)} {number_text(name, row.get(name))}" for name in measures]
    return "; ".join([*keys, *numbers])


def front_chart(record: SweepRecord, front: Front) -> str:
    """Every configuration by cost and quality, those of the front joined; "" without any."""
    quality, cost = front.quality, front.cost
    rows = _measured(record.configurations, quality, cost)
    if not rows:
        return ""
    frame = Frame(Axis.of(_finite(rows, cost)), Axis.of(_finite(rows, quality)), 280)
    chosen = {row["configuration"] for row in front.rows}
    parts = frame.grid((f"{axis_title(cost)} →", axis_title(quality)))
    parts += _steps(frame, front)
    for row in sorted(rows, key=lambda row: row["configuration"] in chosen):
        on_front = row["configuration"] in chosen
        style, radius = ("s20", 6.0) if on_front else ("other", 4.0)
        parts.append(
            frame.dot(row[cost], row[quality], style, radius, hint(record, row, quality, cost))
        )
    return svg.chart(f"front_{cost}", f"{heading(quality)} by {heading(cost)}", 316, parts, _LEFT)


def _steps(frame: Frame, front: Front) -> list[str]:
    """The border of what the front dominates."""
    parts = []
    rows = _measured(front.rows, front.quality, front.cost)
    places = [frame.at(row[front.cost], row[front.quality]) for row in rows]
    for (x1, y1), (x2, y2) in itertools.pairwise(places):
        parts += [_line(x1, y1, x2, y1, "front"), _line(x2, y1, x2, y2, "front")]
    return parts


# -- small multiples ---------------------------------------------------------------------------------


def facets(record: SweepRecord) -> tuple[str, list[tuple[str, str]]]:
    """Small charts of quality by cost to one scale: the key that they differ in, and (value, chart) of each.

    They are by workload or network where there are several, else by the key that changes the quality most.
    """
    quality, costs = record.quality, record.costs
    if not quality or not costs:
        return "", []
    cost = costs[0]
    case = next(
        (k for k in ("workload", "network") if len({r.get(k) for r in record.rows}) > 1), ""
    )
    rows = _measured(record.rows if case else record.configurations, quality, cost)
    key = case or _strongest(record, quality)
    if not key or not rows:
        return "", []
    values = sorted(dict.fromkeys(row[key] for row in rows), key=_order)
    if not 2 <= len(values) <= _FACETS:
        return "", []
    frame = Frame(Axis.of(_finite(rows, cost)), Axis.of(_finite(rows, quality)), 120)
    charts: list[Any] = []
    for value in values:
        parts = frame.grid(most=3)
        for row in sorted(rows, key=lambda row: row[key] == value):
            own = row[key] == value
            style, radius = ("s20", 4.0) if own else ("other", 2.5)
            text = hint(record, row, quality, cost)
            parts.append(frame.dot(row[cost], row[quality], style, radius, text))
        name = f"facet_{len(charts)}"
        charts.append((str(value), svg.chart(name, f"{key} {value}", 138, parts, _LEFT)))
    return key, charts


def _strongest(record: SweepRecord, quality: str) -> str:
    """The key with the largest effect on the quality, among those with few values."""
    for effect in sensitivities(record):
        few = len({row[effect.key] for row in record.configurations}) <= _FACETS
        if effect.measure == quality and few:
            return effect.key
    return ""


def _order(value: Any) -> tuple[int, Any]:
    return (0, value) if isinstance(value, int | float) else (1, str(value))


# -- parallel coordinates ----------------------------------------------------------------------------


def parallel(record: SweepRecord) -> str:
    """Parallel coordinates: a line for each configuration across its varied keys and measures; "" without any.

    Lines of the fronts are coloured. Where there are too many, every so many-th of the others is drawn.
    """
    measures = [name for name in (record.quality, *record.costs) if name]
    keys = record.varied
    rows = _measured(record.configurations, *measures) if measures else []
    if not rows or not keys:
        return ""
    chosen = {row["configuration"] for cost in record.costs for row in record.front(cost).rows}
    rest = [row for row in rows if row["configuration"] not in chosen]
    stride = max(1, -(-len(rest) // _LINES))
    names = [*keys, *measures]
    short = record.short_keys | {name: heading(name) for name in measures}
    scales = {name: _scale([row[name] for row in rows], name in measures) for name in names}
    places = [5 + 88 * i / max(len(names) - 1, 1) for i in range(len(names))]
    parts = []
    for row in [*rest[::stride], *(row for row in rows if row["configuration"] in chosen)]:
        ys = [_down(scales[name][0](row[name])) for name in names]
        segments = "".join(
            _line(places[i], ys[i], places[i + 1], ys[i + 1], "") for i in range(len(names) - 1)
        )
        style = "path front" if row["configuration"] in chosen else "path"
        title = svg.tag("title", svg.escape(hint(record, row, *measures)))
        parts.append(svg.tag("g", title + segments, class_=style))
    for number, (name, x) in enumerate(zip(names, places)):
        parts.append(_line(x, _down(1), x, _down(0), "coordinate"))
        full = svg.tag("title", svg.escape(name)) + svg.escape(short[name])
        lift = 26 if number % 2 else 12  # neighbours at two heights
        parts.append(svg.tag("text", full, class_="tick name", x=svg.percent(x), y=lift))
        for share, text in scales[name][1]:
            y = f"{_down(share) + 3:.1f}"
            parts.append(svg.label(text, class_="mark-text", x=svg.percent(x), dx=4, y=y))
    return svg.chart("parallel", "Parallel coordinates", _down(0) + 8, parts)


def _down(share: float) -> float:
    """The vertical position on a coordinate, below two lines of names."""
    return 36 + 240 * (1 - share)


def _scale(values: list[Any], measure: bool) -> tuple[Any, list[tuple[float, str]]]:
    """A coordinate: a function from a value to its share of the height, and (share, text) of its marks."""
    distinct = sorted(dict.fromkeys(values), key=_order)
    if measure or (len(distinct) > 8 and all(isinstance(v, int | float) for v in distinct)):
        axis = Axis.of([float(v) for v in values])
        marks = [(axis.share(x), svg.axis_number(x)) for x in axis.ticks(4)]
        return (lambda value: axis.share(float(value))), marks
    last = max(len(distinct) - 1, 1)
    spread = {value: 0.03 + 0.94 * i / last for i, value in enumerate(distinct)}
    return spread.__getitem__, [(share, str(value)[:14]) for value, share in spread.items()]


# -- effects -----------------------------------------------------------------------------------------


def share_bars(record: SweepRecord) -> str:
    """The share of each measure's variance that each key explains; "" without any."""
    effects = sensitivities(record)
    measures = list(dict.fromkeys(effect.measure for effect in effects))
    if not effects:
        return ""
    by_key: dict[str, list[Sensitivity]] = {}
    for effect in effects:
        by_key.setdefault(effect.key, []).append(effect)
    order = sorted(by_key, key=lambda key: -max(e.share for e in by_key[key]))
    groups = [
        svg.Group(
            record.short_keys[key][:24],
            tuple(
                svg.Bar(
                    (svg.Segment(20 + measures.index(e.measure), 100 * e.share, f"{key}: {heading(e.measure)}"),),
                    f"{100 * e.share:.0f}%",
                )
                for e in sorted(by_key[key], key=lambda e: measures.index(e.measure))
            ),
            key,
        )
        for key in order
    ]  # fmt: skip
    ticks = [(float(x), f"{x}%") for x in (0, 25, 50, 75, 100)]
    return svg.bars("sensitivity", "Share of the variance by key", groups, ticks, 100.0)


def effect_legend(record: SweepRecord) -> list[tuple[int, str]]:
    """Series and name of each measure in `share_bars`."""
    measures = dict.fromkeys(effect.measure for effect in sensitivities(record))
    return [(20 + number, heading(name)) for number, name in enumerate(measures)]


def effect_charts(record: SweepRecord) -> list[tuple[str, str]]:
    """For each key, the mean of the quality by its value, with a bar from the lowest to the highest."""
    measure = record.quality or next(iter(record.costs), "")
    effects = [effect for effect in sensitivities(record) if effect.measure == measure][:_FACETS]
    numbers = [x for effect in effects for group in effect.groups for x in group[2:4]]
    if not numbers:
        return []
    axis, height = Axis.of(numbers), 130
    return [
        (effect.key, _effect_chart(effect, axis, height, i)) for i, effect in enumerate(effects)
    ]


def _effect_chart(effect: Sensitivity, axis: Axis, height: int, number: int) -> str:
    frame = Frame(Axis(0, 1, False), axis, height)
    parts = [part for part in frame.grid(most=3) if ('class="tick' not in part and 'x1="0' in part) or "label" in part]  # fmt: skip
    width = 100 / len(effect.groups)
    crowded = sum(len(text) for text, *_ in effect.groups) > 26
    places = []
    for i, (text, mean, low, high, count) in enumerate(effect.groups):
        x = (i + 0.5) * width
        y, top, bottom = (height * (1 - axis.share(v)) for v in (mean, high, low))
        parts.append(_line(x, top, x, bottom, "range"))
        title = f"{effect.key} = {text}: mean {number_text(effect.measure, mean)} of {count}"
        parts.append(
            svg.tag(
                "circle", svg.tag("title", svg.escape(title)), class_="s20", cx=svg.percent(x),
                cy=f"{y:.2f}", r=4,
            )
        )  # fmt: skip
        tick = "tick minor" if len(effect.groups) > 4 and i % 2 else "tick"
        below = 25 if crowded and i % 2 else 13  # neighbours at two heights
        parts.append(svg.label(text[:14], class_=tick, x=svg.percent(x), y=height + below))
        places.append((x, y))
    parts += [_line(*a, *b, "front") for a, b in itertools.pairwise(places)]
    return svg.chart(f"effect_{number}", f"{heading(effect.measure)} by {effect.key}", height + 30, parts, _LEFT)  # fmt: skip


# -- curves of the loss ------------------------------------------------------------------------------


def loss_curves(record: SweepRecord) -> list[tuple[str, str, list[tuple[int, str]]]]:
    """For each network, the training loss by step of each recipe's best configuration: title, chart, legend."""
    curves: dict[str, dict[str, tuple[float, list[float]]]] = {}
    for row, point in zip(record.rows, record.points):
        own = record.records.get(point.key or "", {}).get("history") or []
        if not own or missing(row.get("test_loss")):
            continue
        network, recipe = str(row.get("network")), str(row.get("recipe", "hfp8"))
        best = curves.setdefault(network, {}).get(recipe)
        if best is None or oriented("test_loss", row["test_loss"]) < best[0]:
            curves[network][recipe] = row["test_loss"], [float(x) for x in own]
    charts: list[Any] = []
    for network, by_recipe in curves.items():
        named = list(by_recipe.items())[:_CURVES]
        smooth = {recipe: _smoothed(history) for recipe, (_, history) in named}
        values = [y for history in smooth.values() for _, y in history]
        frame = Frame(Axis(0, max(x for h in smooth.values() for x, _ in h), False), Axis.of(values), 180)  # fmt: skip
        parts = frame.grid(("steps →", "training loss"))
        for series, history in enumerate(smooth.values()):
            places = [frame.at(x, y) for x, y in history]
            parts += [_line(*a, *b, f"curve c{20 + series}") for a, b in itertools.pairwise(places)]
        chart = svg.chart(f"loss_{len(charts)}", f"training loss of {network}", 216, parts, _LEFT)
        charts.append((network, chart, [(20 + i, recipe) for i, (recipe, _) in enumerate(named)]))
    return charts


def _smoothed(history: list[float]) -> list[tuple[float, float]]:
    """(step, mean loss) of at most `_CURVE_POINTS` stretches of steps."""
    size = max(1, -(-len(history) // _CURVE_POINTS))
    return [
        (start + size / 2, sum(history[start : start + size]) / len(history[start : start + size]))
        for start in range(0, len(history), size)
    ]
