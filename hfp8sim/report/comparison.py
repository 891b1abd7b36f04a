"""Two or more reports side by side as plain data: labels that tell the runs apart, and values by layer."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from typing import Any

from hfp8sim.errors import InputError, unknown
from hfp8sim.report.columns import BY_NAME, FLAT, Change, Row, missing
from hfp8sim.report.record import ReportRecord, policy_text

#: Columns that a comparison shows layer by layer unless others are asked for.
DEFAULT = ("sqnr_db", "acc_sqnr_db", "cycles")

#: Totals of a run that the overview shows.
OVERVIEW = (
    "cycles", "time_us", "tflops", "utilisation", "sqnr_db", "acc_sqnr_db", "swamped_share",
    "saturated_share", "flushed_share",
)  # fmt: skip

#: Facts that distinguish runs; the rest (command, versions, digest) does not.
_DISTINGUISHING = (
    "workload", "machine", "time_model", "profile", "policy", "seed", "phases", "max_macs", "time_only",
    "events_every", "calibration",
)  # fmt: skip

#: A layer and a phase; None is the total.
Key = tuple[str, str] | None


@dataclasses.dataclass(frozen=True)
class ComparisonRecord:
    """Reports with a letter and a label each; changes are measured from the first one."""

    reports: tuple[ReportRecord, ...]
    labels: tuple[str, ...]

    @property
    def letters(self) -> list[str]:
        """A, B, …, Z, AA, …"""
        return [_letter(i) for i in range(len(self.reports))]

    @property
    def keys(self) -> list[tuple[str, str]]:
        """(layer, phase) of every row that any report has, in the first one's order."""
        keys: dict[tuple[str, str], None] = {}
        for report in self.reports:
            keys.update({(row["layer"], row["phase"]): None for row in report.layers})
        return list(keys)

    def values(self, key: Key, name: str) -> list[Any]:
        """One column's values for a layer and phase (None: the total), one for each report."""
        return [rows.get(key, {}).get(name) for rows in self._rows]

    def has(self, name: str) -> bool:
        """Whether any row of any report has a value in the column `name`."""
        return any(not missing(value) for key in self.keys for value in self.values(key, name))

    def alerts(self) -> list[str]:
        """The reports' alerts, each once, after the letters of the runs that have it if not all do."""
        runs: dict[str, list[str]] = {}
        for letter, report in zip(self.letters, self.reports, strict=True):
            for alert in dict.fromkeys(report.alerts):
                runs.setdefault(alert, []).append(letter)
        count = len(self.reports)
        return [
            alert if len(letters) == count else f"{', '.join(letters)}: {alert}"
            for alert, letters in runs.items()
        ]

    def overview_columns(self) -> list[str]:
        """The columns of `OVERVIEW` for which any report has a total."""
        return [n for n in OVERVIEW if any(not missing(value) for value in self.values(None, n))]

    @functools.cached_property
    def _rows(self) -> list[dict[Key, Row]]:
        tables = []
        for report in self.reports:
            rows: dict[Key, Row] = {None: report.total}
            rows.update({(row["layer"], row["phase"]): row for row in report.layers})
            tables.append(rows)
        return tables


def check_reports(reports: Sequence[ReportRecord]) -> None:
    """`InputError` for fewer than two reports, or reports without a common layer and phase."""
    if not isinstance(reports, Sequence):
        raise InputError(f"a comparison takes a list of reports, not {reports!r:.60}")
    for report in reports:
        if not hasattr(report, "layers"):
            raise InputError(f"a comparison takes reports, not {report!r:.60}")
    if len(reports) < 2:
        raise InputError(f"a comparison needs at least two reports, not {len(reports)}")
    rows = ({(row["layer"], row["phase"]) for row in report.layers} for report in reports)
    if not set.intersection(*rows):
        raise InputError("these reports have no layer and phase in common")


def check_columns(names: Iterable[str]) -> tuple[str, ...]:
    """Column names that a comparison can show, `DEFAULT` for none; `InputError` for others."""
    columns = tuple(names)
    numeric = [name for name in FLAT if BY_NAME[name].short and BY_NAME[name].kind is not str]
    for name in columns:
        if name not in numeric:
            raise unknown("column", name, numeric)
    return columns or DEFAULT


def change_sign(name: str) -> str:
    """The sign between two runs' letters above a column of changes: B/A or B−A."""
    return "/" if BY_NAME[name].change is Change.RATIO else "−"


def distinguish(reports: Sequence[ReportRecord]) -> list[str]:
    """A label for each report: the facts in which it differs from the others, in few words.

    Where the names of machines or profiles differ, the names stand for all their values.
    """
    facts = [{key: report.facts.get(key) for key in _DISTINGUISHING} for report in reports]
    labels: list[list[str]] = [[] for _ in reports]
    for key in _DISTINGUISHING:
        for name, values in _differences(key, [fact[key] for fact in facts]):
            for label, value in zip(labels, values, strict=True):
                label.append(f"{name}={value}")
    return [", ".join(label) or "the same run" for label in labels]


def _differences(key: str, values: list[Any]) -> list[tuple[str, list[Any]]]:
    """How the reports differ in one fact: names, and for each a value per report."""
    if all(value == values[0] for value in values):
        return []
    if key in ("machine", "profile") and len({value["name"] for value in values}) > 1:
        values = [value["name"] for value in values]
    elif key == "policy":
        values = [policy_text(value) for value in values]
    elif isinstance(values[0], dict):
        return _different_fields(values)
    return [(key, [",".join(map(str, v)) if isinstance(v, list) else str(v) for v in values])]


def _different_fields(
    values: list[dict[str, Any]], prefix: str = ""
) -> list[tuple[str, list[Any]]]:
    """The fields (dotted where nested) in which records differ, with their values."""
    differences: list[tuple[str, list[Any]]] = []
    for name in values[0]:
        fields: list[Any] = [value.get(name) for value in values]
        if all(field == fields[0] for field in fields) or name in ("summary", "notes", "assumed"):
            continue
        if all(isinstance(field, dict) for field in fields):
            differences += _different_fields(fields, f"{prefix}{name}.")
        else:
            differences.append((prefix + name, fields))
    return differences


def _letter(index: int) -> str:
    letters = ""
    index += 1
    while index:
        index, digit = divmod(index - 1, 26)
        letters = chr(ord("A") + digit) + letters
    return letters
