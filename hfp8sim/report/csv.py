"""Reports and comparisons as comma-separated rows."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from hfp8sim.report.columns import FLAT, Row, plain_value
from hfp8sim.report.comparison import ComparisonRecord
from hfp8sim.report.record import ReportRecord


def render(report: ReportRecord, names: Sequence[str] | None = None) -> str:
    """A header, every layer and phase, and the total, under the columns `names`; all but histograms by default.

    Floats are as short as they round-trip; missing values are empty.
    """
    names = names or FLAT
    return csv_text([tuple(names), *(_values(row, names) for row in report.rows())])


def render_comparison(comparison: ComparisonRecord) -> str:
    """Every row of every report, with the run's label in front."""
    return csv_text(_labelled(comparison))


def _labelled(comparison: ComparisonRecord) -> Iterator[Sequence[Any]]:
    yield ("run", *FLAT)
    for report, label in zip(comparison.reports, comparison.labels, strict=True):
        for row in report.rows():
            yield (label, *_values(row, FLAT))


def _values(row: Row, names: Sequence[str]) -> list[Any]:
    return [plain_value(row.get(name), none="") for name in names]


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as CSV text, lines ending in a newline alone."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
