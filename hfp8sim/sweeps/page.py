"""The HTML page of a sweep: what sweeps/page.html is filled with."""

from __future__ import annotations

from typing import Any

from hfp8sim.report.columns import Row
from hfp8sim.report.page import fill_page
from hfp8sim.report.svg import escape
from hfp8sim.sweeps import plots
from hfp8sim.sweeps.best import Best, best
from hfp8sim.sweeps.record import SweepRecord, meaning, oriented
from hfp8sim.sweeps.sensitivity import Sensitivity, sensitivities
from hfp8sim.sweeps.store import DONE, FAILED
from hfp8sim.sweeps.table import axis_title, failures, heading, number_text, unit

#: Rows of the page's tables at most; the CSV has all.
_ROWS = 400
#: The least share of a measure's variance that a headline names.
_NAMED_SHARE = 0.05
#: Measures of the table of configurations beside the quality and the costs.
_MORE = (
    "time_us",
    "utilisation",
    "acc_sqnr_db",
    "swamped_share",
    "accuracy",
    "loss",
    "stuck_share",
)


def render(record: SweepRecord) -> str:
    """The page of a sweep; `InputError` where jinja2 is missing."""
    fronts = [record.front(cost) for cost in record.costs] if record.quality else []
    facet_key, facets = plots.facets(record)
    return fill_page(
        "sweeps/page.html",
        title=record.plan.name,
        lead=record.summary,
        tiles=_tiles(record),
        headlines=headlines(record),
        fronts=[
            (front.cost, heading(front.quality), heading(front.cost), chart)
            for front in fronts
            if (chart := plots.front_chart(record, front))
        ],
        best=[_best_row(record, entry) for entry in best(record)],
        best_headings=_headings(record),
        facet_key=facet_key,
        facets=facets,
        parallel=plots.parallel(record),
        parallel_width=90 * (len(record.varied) + len(record.costs) + 1),
        sensitivity=plots.share_bars(record),
        sensitivity_legend=plots.effect_legend(record),
        effects=plots.effect_charts(record),
        effect_measure=axis_title(record.quality or next(iter(record.costs), "") or "cycles"),
        curves=plots.loss_curves(record),
        failures=failures(record),
        table=_configurations(record),
        meanings=[(heading(name), meaning(name)) for name in _measures(record)],
        settings=_settings(record),
    )


def headlines(record: SweepRecord) -> list[str]:
    """In words, for each measure: the key that changes it most, and the value with the best mean."""
    strongest: dict[str, Sensitivity] = {}
    for effect in sensitivities(record):  # the largest of each measure comes first
        if effect.share >= _NAMED_SHARE:
            strongest.setdefault(effect.measure, effect)
    return [_headline(record, effect) for effect in strongest.values()]


def _headline(record: SweepRecord, effect: Sensitivity) -> str:
    name, key = heading(effect.measure), record.short_keys[effect.key]
    value, *_ = min(effect.groups, key=lambda group: oriented(effect.measure, group[1]))
    lowest, highest = (number_text(effect.measure, x) for x in (effect.lowest, effect.highest))
    means = f"go from {lowest} to {highest}" if lowest != highest else f"are all {lowest}"
    means = f"{means} {unit(effect.measure)}".rstrip()
    return (
        f"{name}: {key} changes it most, {100 * effect.share:.0f}% of its variance. "
        f"The means of its values {means}, and {key} = {value} is best."
    )


def table_html(record: SweepRecord) -> str:
    """The best configurations as a plain HTML table."""
    headings = [text for text, _ in _headings(record)]
    rows = [_best_row(record, entry)["cells"] for entry in best(record)]
    head = "".join(f"<th>{escape(text)}</th>" for text in headings)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(text)}</td>" for text in cells) + "</tr>" for cells in rows
    )
    caption = escape(f"{record.plan.name}: {record.summary}")
    return f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _measures(record: SweepRecord) -> list[str]:
    """The measures of the page's tables."""
    names = dict.fromkeys([record.quality, *record.costs, *_MORE])
    return [name for name in names if name and any(name in row for row in record.configurations)]


def _headings(record: SweepRecord) -> list[tuple[str, str]]:
    """(text, meaning) of the columns of a configuration."""
    return [(short, key) for key, short in record.short_keys.items()] + [
        (heading(name), meaning(name)) for name in _measures(record)
    ]


def _cells(record: SweepRecord, row: Row) -> list[str]:
    keys = [str(row[key]) for key in record.varied]
    return keys + [number_text(name, row.get(name)) for name in _measures(record)]


def _best_row(record: SweepRecord, entry: Best) -> dict[str, Any]:
    return {
        "number": entry.row["configuration"],
        "cells": _cells(record, entry.row),
        "command": entry.command,
        "files": list(entry.files.items()),
    }


def _configurations(record: SweepRecord) -> dict[str, Any]:
    """Every configuration with its measures; failed ones have none."""
    rows = record.configurations
    shown = [
        {
            "number": row["configuration"],
            "cells": [
                {"text": text, "sort": "" if value is None else value, "number": number}
                for text, value, number in zip(
                    _cells(record, row),
                    [row.get(name) for name in (*record.varied, *_measures(record))],
                    [False] * len(record.varied) + [True] * len(_measures(record)),
                )
            ],
        }
        for row in rows[:_ROWS]
    ]
    return {"headings": _headings(record), "rows": shown, "left_out": max(0, len(rows) - _ROWS), "keys": len(record.varied)}  # fmt: skip


def _tiles(record: SweepRecord) -> list[tuple[str, str, str]]:
    """The most important figures: (figure, unit, meaning) of each."""
    done = sum(row["status"] == DONE for row in record.rows)
    tiles = [(f"{done:,}", "points", f"of {len(record):,}; {len(record.configurations):,} configurations")]  # fmt: skip
    failed = sum(row["status"] == FAILED for row in record.rows)
    if failed:
        tiles.append((f"{failed:,}", "points", "failed"))
    for number, cost in enumerate(record.costs if record.quality else []):
        front = record.front(cost).rows
        if front and number == 0:
            text = number_text(record.quality, front[-1][record.quality])
            tiles.append((text, unit(record.quality), f"best {heading(record.quality)}, at {number_text(cost, front[-1][cost])} {heading(cost)}"))  # fmt: skip
        if front:
            text = number_text(cost, front[0][cost])
            tiles.append((text, unit(cost), f"least {heading(cost)}, at {number_text(record.quality, front[0][record.quality])} {unit(record.quality)}"))  # fmt: skip
    return tiles


def _settings(record: SweepRecord) -> list[tuple[str, str]]:
    """The values of every key, and the constraints."""
    values = [
        (key, ", ".join(dict.fromkeys(str(row.get(key)) for row in record.rows)))
        for key in record.plan.keys
    ]
    rules = [
        ("where", rule if isinstance(rule, str) else "a function") for rule in record.plan.where
    ]
    return [(key, text if len(text) < 300 else f"{text[:297]}…") for key, text in values] + rules
