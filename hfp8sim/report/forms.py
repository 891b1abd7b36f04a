"""The forms that reports and comparisons are written in. A new form is one row here and its renderer.

`--format` of the command line, the methods `to_*` and the reference pages derive from these tables. Renderers
are imported when they are called, so that listing the forms costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hfp8sim.report.comparison import ComparisonRecord
    from hfp8sim.report.record import ReportRecord

T = TypeVar("T")


class Form(NamedTuple, Generic[T]):
    """A form of output: its name, the ending of its files, and its renderer.

    `render` takes the report or comparison, and the names of its columns; with None, or where the form has no
    choice of columns, it takes the form's own.
    """

    name: str
    suffix: str
    render: Callable[[T, Sequence[str] | None], str]


def _table(report: ReportRecord, names: Sequence[str] | None = None) -> str:
    from hfp8sim.report.table import render

    return render(report)


def _csv(report: ReportRecord, names: Sequence[str] | None = None) -> str:
    from hfp8sim.report.csv import render

    return render(report, names)


def _json(report: ReportRecord, names: Sequence[str] | None = None) -> str:
    from hfp8sim.report.json import render

    return render(report)


def _html(report: ReportRecord, names: Sequence[str] | None = None) -> str:
    from hfp8sim.report.html import render

    return render(report)


def _scalesim(report: ReportRecord, names: Sequence[str] | None = None) -> str:
    from hfp8sim.report.scalesim import render

    return render(report)


def _comparison_table(comparison: ComparisonRecord, names: Sequence[str] | None = None) -> str:
    from hfp8sim.report.comparison_table import render

    return render(comparison, names)


def _comparison_csv(comparison: ComparisonRecord, names: Sequence[str] | None = None) -> str:
    from hfp8sim.report.csv import render_comparison

    return render_comparison(comparison)


def _comparison_html(comparison: ComparisonRecord, names: Sequence[str] | None = None) -> str:
    from hfp8sim.report.html import render_comparison

    return render_comparison(comparison)


#: Forms of a report, by name.
FORMS: dict[str, Form[ReportRecord]] = {
    form.name: form
    for form in (
        Form("table", "txt", _table),
        Form("csv", "csv", _csv),
        Form("json", "json", _json),
        Form("html", "html", _html),
        Form("scalesim", "scalesim.csv", _scalesim),
    )
}

#: Forms of a comparison, by name.
COMPARISON_FORMS: dict[str, Form[ComparisonRecord]] = {
    form.name: form
    for form in (
        Form("table", "txt", _comparison_table),
        Form("csv", "csv", _comparison_csv),
        Form("html", "html", _comparison_html),
    )
}
