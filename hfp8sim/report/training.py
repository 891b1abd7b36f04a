"""A training run over time: loss, loss scale, stuck weights at every step, and a report of every n-th step.

It is plain data, and it needs no PyTorch. `hfp8sim.training.Watch` fills it.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

from hfp8sim.errors import InputError
from hfp8sim.network import PHASES
from hfp8sim.report.columns import BY_NAME, FLAT, Row, cell_text, plain_value, total_row
from hfp8sim.report.csv import csv_text
from hfp8sim.report.curves import SERIES, Axis, Curve, curves, series
from hfp8sim.report.page import fill_page

#: The layout of the JSON file.
VERSION = 1
#: Columns of a step; those of a report follow them in CSV.
STEP_COLUMNS = ("step", "loss", "scale", "skipped", "stuck_share")
#: Columns of the table on the page.
_TABLE = (
    "sqnr_db", "acc_sqnr_db", "saturated_share", "flushed_share", "swamped_share", "loss_scale", "cycles",
    "time_us",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class StepRow:
    """One training step."""

    step: int  #: from 1
    loss: float
    scale: float  #: the loss scale that it used
    skipped: bool = False  #: a gradient was not finite
    stuck_share: float | None = (
        None  #: weights that stayed though binary32 would have moved them, 0 … 1
    )


@dataclasses.dataclass(frozen=True)
class StepReport:
    """The report of one step: a row for each layer and phase, as `hfp8sim run` gives it."""

    step: int
    rows: list[Row]
    stuck: dict[str, float] = dataclasses.field(default_factory=dict)  #: shares by layer

    @property
    def total(self) -> Row:
        """Sums and extremes over all rows."""
        return total_row(self.rows)


@dataclasses.dataclass
class TrainingLog:
    """A training run over time."""

    name: str
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    steps: list[StepRow] = dataclasses.field(default_factory=list)
    reports: list[StepReport] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(
        default_factory=list
    )  #: such as products that no report has

    def note(self, notes: Sequence[str]) -> None:
        """Add notes, each once."""
        self.notes += [note for note in notes if note not in self.notes]

    def keys(self) -> list[tuple[str, str]]:
        """Every (layer, phase) of the reports, in order."""
        return list(
            dict.fromkeys((r["layer"], r["phase"]) for one in self.reports for r in one.rows)
        )

    def series(self, column: str, layer: str, phase: str) -> list[tuple[float, float]]:
        """A report's column over the steps: (step, value); NaN where it is missing."""
        points = []
        for report in self.reports:
            for row in report.rows:
                if (row["layer"], row["phase"]) == (layer, phase):
                    value = row.get(column)
                    points.append((float(report.step), math.nan if value is None else float(value)))
        return points

    # -- forms ---------------------------------------------------------------------------------------

    def to_json(self) -> str:
        """Everything, as JSON; `from_json` reads it."""
        reports = [
            {
                "step": r.step,
                "stuck": r.stuck,
                "rows": [
                    {k: plain_value(row[k], none=None) for k in BY_NAME if k in row}
                    for row in r.rows
                ],
            }
            for r in self.reports
        ]
        steps = [
            [plain_value(getattr(s, name), none=None) for name in STEP_COLUMNS] for s in self.steps
        ]
        document = {
            "version": VERSION, "name": self.name, "facts": self.facts, "columns": list(STEP_COLUMNS),
            "steps": steps, "reports": reports, "notes": self.notes,
        }  # fmt: skip
        return json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, content: str, where: str = "log") -> TrainingLog:
        """The log that `to_json` wrote; `InputError` for anything else."""
        try:
            document = json.loads(content)
            if document["version"] != VERSION:
                raise InputError(f"{where}: not a training log of layout {VERSION}")
            steps = [StepRow(*map(_number, values)) for values in document["steps"]]
            reports = [
                StepReport(r["step"], [_numbers(row) for row in r["rows"]], r["stuck"])
                for r in document["reports"]
            ]
            return cls(document["name"], document["facts"], steps, reports, list(document["notes"]))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"{where}: not a training log: {error}") from None

    def to_csv(self) -> str:
        """A line for every layer and phase of every report, with its step's loss, scale and stuck share in front.

        Floats are as short as they round-trip; missing values are empty.
        """
        steps = {step.step: step for step in self.steps}
        lines: list[Sequence[Any]] = [(*STEP_COLUMNS, *FLAT)]
        for report in self.reports:
            step = steps.get(report.step)
            for row in report.rows:
                own = [getattr(step, name, None) for name in STEP_COLUMNS[:-1]]
                own.append(report.stuck.get(row["layer"]))
                values = [*own, *(row.get(name) for name in FLAT)]
                lines.append([plain_value(value, none="") for value in values])
        return csv_text(lines)

    def to_html(self) -> str:
        """One self-contained page; `InputError` where jinja2 is missing."""
        return fill_page(
            kind="training",
            title=f"Training of {self.name}",
            lead=self._lead(),
            alerts=self.notes,
            tiles=self._tiles(),
            figures=self._figures(),
            tables=[self._table()] if self.reports else [],
            last=self.reports[-1].step if self.reports else 0,
            columns=[BY_NAME[name] for name in _TABLE],
            run_facts=sorted((key, str(value)) for key, value in self.facts.items()),
        )

    # -- the page ------------------------------------------------------------------------------------

    def _lead(self) -> str:
        parts = [
            f"{key} {self.facts[key]}" for key in ("recipe", "machine", "seed") if key in self.facts
        ]
        return "; ".join([*parts, f"{len(self.steps)} steps, {len(self.reports)} of them reported"])

    def _tiles(self) -> list[tuple[str, str, str]]:
        """The most important figures: (figure, unit, meaning) of each."""
        tiles: list[tuple[str, str, str]] = []
        if self.steps:
            last = self.steps[-20:]
            loss = sum(step.loss for step in last) / len(last)
            tiles.append((f"{loss:.4g}", "nats", f"mean loss of the last {len(last)} steps"))
            skipped = sum(step.skipped for step in self.steps)
            tiles.append((str(skipped), "", "steps skipped: a gradient was not finite"))
            tiles.append((f"{self.steps[-1].scale:g}", "", "loss scale of the last step"))
            if self.steps[-1].stuck_share is not None:
                share = f"{100 * self.steps[-1].stuck_share:.1f}"
                tiles.append((share, "%", "of the weights stuck in the last step"))
        if self.reports:
            total, report = self.reports[-1].total, self.reports[-1]
            worst = min(report.rows, key=lambda row: _or(row.get("sqnr_db"), math.inf))
            figure = cell_text(BY_NAME["sqnr_db"], worst.get("sqnr_db"))
            where = f"lowest SQNR of step {report.step}: {worst['layer']} {worst['phase']}"
            tiles.append((figure, "dB", where))
            if total.get("cycles"):
                tiles.append(
                    (
                        f"{total['time_us']:,.1f}",
                        "µs",
                        f"{total['cycles']:,} cycles for its products",
                    )
                )
        return tiles

    def _figures(self) -> list[tuple[str, str, str, str, list[tuple[int, str]]]]:
        """Name, title, caption, drawing and legend of each figure."""
        figures = [
            self._over_steps("loss", "Loss", "Of each batch, in nats.", lambda s: s.loss, "nats"),
            self._over_steps("scale", "Loss scale", "What the loss was multiplied with.", lambda s: math.log2(s.scale), "log₂"),
        ]  # fmt: skip
        if any(step.stuck_share is not None for step in self.steps):
            caption = "Share of the weights that a step left where they were, though binary32 would have moved them."
            figures.append(
                self._over_steps("stuck", "Stuck weights", caption, lambda s: 100 * _or(s.stuck_share, math.nan), "%")
            )  # fmt: skip
        for column, title, caption in (
            ("sqnr_db", "SQNR", "In dB, against float64 of the unquantised tensors."),
            ("flushed_share", "Flushed to zero", "Of the operand with the larger share, in %."),
            ("saturated_share", "Saturated", "Of the operand with the larger share, in %."),
            ("swamped_share", "Swamped", "Additions that left the sum as it was, in %."),
        ):
            for phase in PHASES:
                drawn = self._layers_over_steps(column, phase)
                if drawn:
                    unit = "dB" if column == "sqnr_db" else "%"
                    figures.append(
                        _figure(f"{column}_{phase}", f"{title}, {phase}", caption, drawn, unit)
                    )
        return figures

    def _over_steps(
        self, name: str, title: str, caption: str, value: Callable[[StepRow], float], unit: str
    ) -> tuple[str, str, str, str, list[tuple[int, str]]]:  # fmt: skip
        points = tuple((float(step.step), value(step)) for step in self.steps)
        return _figure(name, title, caption, [Curve("", points, (), series(0))], unit)

    def _layers_over_steps(self, column: str, phase: str) -> list[Curve]:
        """A curve for each layer. None if all values are 0.

        Of more layers than there are colours, those whose last values are worst have curves.
        """
        factor, sign = (1.0, 1.0) if column == "sqnr_db" else (100.0, -1.0)
        layers = list(dict.fromkeys(layer for layer, _ in self.keys()))
        points = {
            layer: tuple((x, factor * y) for x, y in self.series(column, layer, phase))
            for layer in layers
        }
        known = [n for n in layers if any(math.isfinite(y) for _, y in points[n])]
        if not any(y for n in known for _, y in points[n]):
            return []
        worst = sorted(known, key=lambda n: sign * points[n][-1][1])[:SERIES]
        colours = {n: series(i) for i, n in enumerate(layers if len(layers) <= SERIES else worst)}
        return [Curve(n, points[n], points[n], colours[n]) for n in known if n in worst]

    def _table(self) -> dict[str, Any]:
        """Every layer and phase of the last report, with the change since the first."""
        first, last = self.reports[0], self.reports[-1]
        headings = [
            {"text": BY_NAME[n].short, "hint": BY_NAME[n].meaning, "number": True} for n in _TABLE
        ]
        headings.insert(
            1,
            {
                "text": f"since step {first.step}",
                "hint": "change of the SQNR in dB",
                "number": True,
            },
        )
        headings.append(
            {
                "text": "stuck",
                "hint": "share of the layer's weights that the step left",
                "number": True,
            }
        )
        before = {(row["layer"], row["phase"]): row for row in first.rows}
        rows = []
        for row in [*last.rows, last.total]:
            cells = [_cell(name, row.get(name)) for name in _TABLE]
            old = before.get((row["layer"], row.get("phase", "")), {}).get("sqnr_db")
            new = row.get("sqnr_db")
            change = new - old if new is not None and old is not None else math.nan
            finite = math.isfinite(change)
            cells.insert(
                1,
                {
                    "text": f"{change:+.1f}" if finite else "",
                    "sort": change if finite else "",
                    "number": True,
                },
            )
            stuck = last.stuck.get(row["layer"]) if row.get("phase") == "wgrad" else None
            cells.append(
                {
                    "text": "" if stuck is None else f"{100 * stuck:.1f}%",
                    "sort": _or(stuck, ""),
                    "number": True,
                }
            )
            rows.append({"layer": row["layer"], "phase": row.get("phase", ""), "cells": cells})
        return {"name": "last", "title": f"Step {last.step}", "headings": headings, "rows": rows}


def _or(value: Any, other: Any) -> Any:
    return other if value is None else value


def _cell(name: str, value: Any) -> dict[str, Any]:
    known = isinstance(value, int | float) and math.isfinite(value)
    return {"text": cell_text(BY_NAME[name], value), "sort": value if known else "", "number": True}


def _figure(
    name: str, title: str, caption: str, drawn: Sequence[Curve], unit: str
) -> tuple[str, str, str, str, list[tuple[int, str]]]:
    drawing = curves(name, title, drawn, Axis("step"), Axis(unit), 200)
    return name, title, caption, drawing, [(c.series, c.name) for c in drawn if c.name]


def _number(value: Any) -> Any:
    """A value of JSON: words are infinities, null is missing."""
    if value in ("inf", "-inf"):
        return math.inf if value == "inf" else -math.inf
    return value


def _numbers(row: dict[str, Any]) -> Row:
    return {name: _number(value) for name, value in row.items()}
