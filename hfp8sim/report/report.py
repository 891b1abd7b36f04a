"""Reports and comparisons as callers use them: the data, and a method for each form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from hfp8sim.errors import InputError
from hfp8sim.floating_point import standard_arithmetic
from hfp8sim.report.columns import FLAT
from hfp8sim.report.comparison import ComparisonRecord, check_reports, distinguish
from hfp8sim.report.forms import COMPARISON_FORMS, FORMS
from hfp8sim.report.json import parse
from hfp8sim.report.notebook import render as render_notebook
from hfp8sim.report.record import ReportRecord
from hfp8sim.report.table import TEXT_WIDTH
from hfp8sim.report.table import render as render_table
from hfp8sim.report.timeline import render as render_timeline


class Report(ReportRecord):
    """What a run measured. `print(report)` shows it as the command line does.

    `layers` holds one row (a dict by column name) for every layer and phase, in order; `total` one row of
    sums. `facts` holds what was run: versions, workload, machine, profile, policy, seed, command. A run
    that was interrupted has fewer rows than were `planned`, and its report is `partial`.
    """

    def __repr__(self) -> str:
        rows = f"{len(self.layers)} of {self.planned}" if self.partial else f"{len(self.layers)}"
        return f"<Report on {self.facts.get('workload')}: {rows} rows>"

    def __str__(self) -> str:
        return self.to_text()

    def _repr_html_(self) -> str:
        """What a notebook shows: what was run, the table, and the worst findings."""
        return render_notebook(self)

    @standard_arithmetic
    def to_text(self, width: int = TEXT_WIDTH) -> str:
        """The table that the command line prints, in lines of at most `width` characters."""
        return render_table(self, width)

    @standard_arithmetic
    def to_csv(self, names: Sequence[str] = FLAT) -> str:
        """Comma-separated rows with a header; floats as short as they round-trip, missing values empty."""
        return FORMS["csv"].render(self, names)

    @standard_arithmetic
    def to_scalesim(self) -> str:
        """The rows as SCALE-Sim's COMPUTE_REPORT.csv; `InputError` for a report without cycles."""
        return FORMS["scalesim"].render(self, None)

    @standard_arithmetic
    def to_json(self) -> str:
        """The whole report as JSON (docs/report.schema.json); NaN and missing values are null."""
        return FORMS["json"].render(self, None)

    @standard_arithmetic
    def to_html(self) -> str:
        """One self-contained page; `InputError` without the extra `report`."""
        return FORMS["html"].render(self, None)

    @standard_arithmetic
    def to_timeline(self) -> str:
        """A Chrome/Perfetto trace of the run under the `pipelined` model, as JSON text.

        Raises:
            InputError: a report that was read from a file, which does not hold the instructions, or
                another time model.
        """
        return render_timeline(self)

    @classmethod
    @standard_arithmetic
    def from_json(cls, content: str, where: str = "report") -> Report:
        """The report that `to_json` wrote; `where` begins every message.

        Raises:
            InputError: no JSON, no report, another version of the layout, or values of a wrong kind.
        """
        record = parse(content, where)
        return cls(record.layers, record.facts, record.notes, record.planned)

    @classmethod
    def load(cls, path: str | Path) -> Report:
        """The report in a JSON file; `InputError` where there is none."""
        try:
            content = Path(path).read_text("utf-8")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not a text file"
            raise InputError(f"{path}: {reason}") from None
        return cls.from_json(content, str(path))


class Comparison(ComparisonRecord):
    """Two or more reports side by side; `hs.compare` makes it."""

    def _repr_html_(self) -> str:
        """What a notebook shows: the tables, as text."""
        return f"<pre>{escape(self.to_text())}</pre>"

    @standard_arithmetic
    def to_text(self, names: Sequence[str] = ()) -> str:
        """The tables that the command line prints; `names` are the columns shown layer by layer."""
        return COMPARISON_FORMS["table"].render(self, names)

    @standard_arithmetic
    def to_csv(self) -> str:
        """Every row of every report, with its run's label in front."""
        return COMPARISON_FORMS["csv"].render(self, None)

    @standard_arithmetic
    def to_html(self) -> str:
        """One self-contained page; `InputError` without the extra `report`."""
        return COMPARISON_FORMS["html"].render(self, None)


@standard_arithmetic
def compare(reports: Sequence[ReportRecord], labels: Iterable[str] | None = None) -> Comparison:
    """Put reports side by side. Labels name the facts in which the runs differ, unless they are given.

    Raises:
        InputError: fewer than two reports, or reports that have no layer and phase in common.
    """
    check_reports(reports)
    names = tuple(labels) if labels is not None else tuple(distinguish(reports))
    if len(names) != len(reports):
        raise InputError(f"{len(names)} labels for {len(reports)} reports")
    return Comparison(tuple(reports), names)
