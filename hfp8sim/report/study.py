"""A study as plain data: a paper's claim, what was measured, and whether the claim shows; with its forms of output.

A study compares arms. Each arm is measured with each seed, and at each point of a sweep if there is one.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Sequence
from typing import Any

from hfp8sim.analysis.paired import Sample, paired
from hfp8sim.errors import InputError
from hfp8sim.report.curves import Axis, Curve, file, series

#: The layout of the JSON file.
VERSION = 1
#: Half the width of the mark at a mean, in steps of an axis of arms.
_MARK = 0.28


@dataclasses.dataclass(frozen=True)
class Metric:
    """A measured quantity, or the quantity that a sweep changes."""

    name: str
    unit: str = ""
    digits: int = 4  #: decimals in tables
    log: bool = False  #: whether its axis is logarithmic

    @property
    def title(self) -> str:
        """Name and unit."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    def text(self, value: float) -> str:
        """A value in a table."""
        if not math.isfinite(value):
            return "–" if math.isnan(value) else "∞" if value > 0 else "−∞"
        return f"{value:.{self.digits}f}".replace("-", "−")


@dataclasses.dataclass(frozen=True)
class Check:
    """One statement of the verdict, with its measured figures, and whether it holds."""

    text: str
    holds: bool


Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class StudyRecord:
    """What a study measured.

    `rows` hold `arm`, `seed`, the sweep's quantity if there is one, and the metrics by name.
    """

    name: str
    title: str
    claim: str  #: what the source claims, in our words
    source: str
    setup: str  #: what is measured here
    arms: dict[str, str]  #: by name, what each is; the first is the control
    metrics: tuple[Metric, ...]  #: the first is plotted
    rows: list[Row]
    sweep: Metric | None = None
    checks: tuple[Check, ...] = ()
    facts: dict[str, Any] = dataclasses.field(
        default_factory=dict
    )  #: machine, versions, date, command

    # -- values --------------------------------------------------------------------------------------

    @property
    def seeds(self) -> list[int]:
        """The seeds in order."""
        return sorted({row["seed"] for row in self.rows})

    @property
    def points(self) -> list[Any]:
        """The values of the sweep in order; one None without a sweep."""
        if self.sweep is None:
            return [None]
        return sorted({row[self.sweep.name] for row in self.rows})

    def values(self, metric: str, arm: str, at: Any = None) -> list[float]:
        """A metric of an arm, seed by seed, at a point of the sweep."""
        key = self.sweep.name if self.sweep else None
        return [
            row[metric]
            for row in sorted(self.rows, key=lambda row: row["seed"])
            if row["arm"] == arm and (key is None or row[key] == at) and metric in row
        ]

    def sample(self, metric: str, arm: str, at: Any = None) -> Sample:
        """Mean and deviation over the seeds."""
        return Sample.of(self.values(metric, arm, at))

    def mean(self, metric: str, arm: str, at: Any = None) -> float:
        """The mean over the seeds."""
        return self.sample(metric, arm, at).mean

    def difference(self, metric: str, arm: str, control: str, at: Any = None) -> Sample:
        """The sample of arm − control over equal seeds."""
        return paired(self.values(metric, arm, at), self.values(metric, control, at))

    @property
    def verdict(self) -> str:
        """`shown` if every check holds, `not shown` if none does, else `partly shown`."""
        held = sum(check.holds for check in self.checks)
        if held == len(self.checks):
            return "shown"
        return "partly shown" if held else "not shown"

    # -- forms ---------------------------------------------------------------------------------------

    def to_json(self) -> str:
        """Everything, as JSON."""
        values = dataclasses.asdict(self) | {"version": VERSION, "verdict": self.verdict}
        rows = values.pop("rows")
        head = json.dumps(values, indent=1, ensure_ascii=False)
        lines = ",\n".join("  " + json.dumps(row, ensure_ascii=False) for row in rows)
        return head[: head.rindex("\n}")] + ',\n "rows": [\n' + lines + "\n ]\n}\n"

    @classmethod
    def from_json(cls, content: str, where: str = "study") -> StudyRecord:
        """The record that `to_json` wrote; `InputError` for anything else."""
        try:
            values = json.loads(content)
            if values.pop("version") != VERSION:
                raise InputError(f"{where}: not a study of layout {VERSION}")
            values.pop("verdict")
            values["metrics"] = tuple(Metric(**metric) for metric in values["metrics"])
            values["sweep"] = Metric(**values["sweep"]) if values["sweep"] else None
            values["checks"] = tuple(Check(**check) for check in values["checks"])
            return cls(**values)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"{where}: not a study: {error}") from None

    def to_csv(self) -> str:
        """The rows under a header."""
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return text.getvalue()

    def to_svg(self) -> str:
        """The first metric by arm, or over the sweep, as an SVG file: a dot is a seed, a line joins means."""
        metric = self.metrics[0].name
        axis = Axis(self.metrics[0].title, self.metrics[0].log)
        if self.sweep is None:
            drawn = [
                Curve("", self._mark(n, metric, arm), self._dots(n, metric, arm, None), series(n))
                for n, arm in enumerate(self.arms)
            ]
            return file(self.name, self.title, drawn, Axis("", names=tuple(self.arms)), axis)
        drawn = [
            Curve(
                arm,
                tuple((at, self.mean(metric, arm, at)) for at in self.points),
                tuple(dot for at in self.points for dot in self._dots(at, metric, arm, at)),
                series(number),
            )
            for number, arm in enumerate(self.arms)
        ]
        return file(self.name, self.title, drawn, Axis(self.sweep.title, self.sweep.log), axis)

    def _dots(self, x: float, metric: str, arm: str, at: Any) -> tuple[tuple[float, float], ...]:
        return tuple((x, value) for value in self.values(metric, arm, at))

    def _mark(self, number: int, metric: str, arm: str) -> tuple[tuple[float, float], ...]:
        """A short line at an arm's mean."""
        mean = self.mean(metric, arm)
        return (number - _MARK, mean), (number + _MARK, mean)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Headings and rows of texts: mean ± deviation of every metric, by arm and point of the sweep.

        A sweep of one metric has a row for each point and a column for each arm.
        """
        if self.sweep is not None and len(self.metrics) == 1:
            (metric,) = self.metrics
            points = [
                [f"{at:g}", *(self._cell(metric, arm, at) for arm in self.arms)]
                for at in self.points
            ]
            return [f"{self.sweep.title}: {metric.title}", *self.arms], points
        headings = ([self.sweep.title] if self.sweep else []) + ["arm"]
        headings += [metric.title for metric in self.metrics]
        rows = []
        for at in self.points:
            for arm in self.arms:
                cells = [self._cell(metric, arm, at) for metric in self.metrics]
                if any(cells):
                    rows.append(([f"{at:g}"] if self.sweep else []) + [arm, *cells])
        return headings, rows

    def _cell(self, metric: Metric, arm: str, at: Any) -> str:
        """Mean ± deviation; without a finite mean, all values."""
        values = self.values(metric.name, arm, at)
        sample = Sample.of(values)
        if not values:
            return ""
        if math.isnan(sample.mean):
            return ", ".join(map(metric.text, values))
        spread = "" if math.isnan(sample.deviation) else f" ± {metric.text(sample.deviation)}"
        return metric.text(sample.mean) + spread

    def __str__(self) -> str:
        """The study as the command line prints it."""
        headings, rows = self.table()
        lines = [f"{self.title} ({self.source})", f"claim: {self.claim}", f"here: {self.setup}", ""]
        lines += columns_of_text([headings, *rows])
        lines += [
            "",
            *(f"{'yes' if check.holds else 'NO':>5}  {check.text}" for check in self.checks),
        ]
        size = " (quick size)" if self.facts.get("quick") else ""
        return "\n".join([*lines, "", f"verdict at this scale{size}: {self.verdict}"]) + "\n"


def columns_of_text(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of texts as aligned lines."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(t.ljust(w) for t, w in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
