"""A report: rows of values under the columns of `columns`, and what is needed to reproduce them."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hfp8sim.analysis.accuracy import HISTOGRAM_BINS
from hfp8sim.errors import InputError
from hfp8sim.network.records import PHASES
from hfp8sim.report.columns import BY_NAME, COLUMNS, FLAT, Row, emulated, missing

#: Version of the JSON layout; docs/report.schema.json describes it.
SCHEMA_VERSION = 1

#: Keys of the JSON document that are not facts.
_OWN = (
    "schema",
    "notes",
    "planned_rows",
    "partial",
    "histogram_bins",
    "columns",
    "layers",
    "total",
)

#: Characters of a line of the table where it goes to no terminal.
TEXT_WIDTH = 100

#: The largest integer that is taken for a count.
MAX_INT = (1 << 63) - 1

#: Columns that every row has.
IDENTITY = ("layer", "phase", "groups", "m", "n", "k", "macs")

#: Facts that every report has.
NEEDED = ("workload", "machine", "peak_macs_per_cycle", "time_model", "profile", "seed", "versions")


@dataclasses.dataclass(frozen=True, repr=False)
class Report:
    """What a run measured. `print(report)` shows it as the command line does.

    `layers` holds one row (a dict by column name) for every layer and phase, in order; `total` one row of
    sums. `facts` says what was run: versions, workload, machine, profile, policy, seed, command. A run
    that was interrupted has fewer rows than were `planned`, and its report is `partial`. `timeline` makes
    the trace of a run that was made here.
    """

    layers: list[Row]
    facts: dict[str, Any]
    notes: tuple[str, ...] = ()
    planned: int | None = None
    timeline: Callable[[], str] | None = dataclasses.field(default=None, compare=False, repr=False)

    @property
    def partial(self) -> bool:
        """Whether rows are missing."""
        return self.planned is not None and len(self.layers) < self.planned

    @property
    def name(self) -> str:
        """The workload's name, as file names use it."""
        return file_name(str(self.facts["workload"]))

    @property
    def total(self) -> Row:
        """Sums and maxima over all rows; the rates follow from the sums."""
        row: Row = {"layer": "total"}
        for column in COLUMNS:
            values = [r[column.name] for r in self.layers if not missing(r.get(column.name))]
            if values and column.total != "none":
                row[column.name] = _combined(column.total, values)
        macs, time, cycles = (row.get(name) for name in ("macs", "time_us", "cycles"))
        if macs and time:
            row["tflops"] = 2 * macs / (time / 1e6) / 1e12
        if cycles:
            timed = [r for r in self.layers if r.get("cycles")]
            row["utilisation"] = sum(r["utilisation"] * r["cycles"] for r in timed) / cycles
            row["bound_by"] = _heaviest(timed)
        if row.get("steps"):
            row["swamped_share"] = row["swamped"] / row["steps"]
        counted = sum(emulated(r) for r in self.layers if not missing(r.get("gated")))
        if counted:
            row["gated_share"] = row["gated"] / counted
        return row

    def rows(self) -> list[Row]:
        """Every layer and phase, then the total."""
        return [*self.layers, self.total]

    def __repr__(self) -> str:
        rows = f"{len(self.layers)} of {self.planned}" if self.partial else f"{len(self.layers)}"
        return f"<Report on {self.facts.get('workload')}: {rows} rows>"

    def __str__(self) -> str:
        return self.to_text()

    def to_text(self, width: int = TEXT_WIDTH) -> str:
        """The table that the command line prints, in lines of at most `width` characters."""
        from hfp8sim.report.table import plain_text, print_report

        return plain_text(lambda shown: print_report(self, shown), width)

    def to_csv(self, names: Sequence[str] = FLAT) -> str:
        """Comma-separated rows with a header; floats as short as they round-trip, missing values empty."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(names)
        for row in self.rows():
            writer.writerow([plain(row.get(name), none="") for name in names])
        return out.getvalue()

    def to_scalesim(self) -> str:
        """The rows as SCALE-Sim's COMPUTE_REPORT.csv."""
        from hfp8sim.report.scalesim import compute_report

        return compute_report(self)

    def to_json(self) -> str:
        """The whole report as JSON (docs/report.schema.json); NaN and missing values are null."""
        document = {
            "schema": SCHEMA_VERSION,
            **self.facts,
            "partial": self.partial,
            "planned_rows": len(self.layers) if self.planned is None else self.planned,
            "notes": list(self.notes),
            "histogram_bins": list(HISTOGRAM_BINS),
            "columns": [{"name": c.name, "unit": c.unit, "meaning": c.meaning} for c in COLUMNS],
            "layers": [_json_row(row) for row in self.layers],
            "total": _json_row(self.total),
        }
        return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, content: str, where: str = "report") -> Report:
        """The report that `to_json` wrote; `where` stands before every complaint.

        Raises:
            InputError: no JSON, no report, another version of the layout, or values of a wrong kind.
        """
        try:
            document = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}: not a JSON file: {error}") from None
        if not isinstance(document, dict) or "schema" not in document or "layers" not in document:
            raise InputError(f"{where}: not a report of hfp8sim; `--format json` writes them")
        if document["schema"] != SCHEMA_VERSION:
            raise InputError(
                f"{where}: layout version {document['schema']!r}; this hfp8sim reads {SCHEMA_VERSION}"
            )
        for key in (*NEEDED, "notes", "planned_rows"):
            if key not in document:
                raise InputError(f"{where}: key {key!r} is missing")
        layers, planned = document["layers"], document["planned_rows"]
        if not isinstance(layers, list) or not layers or not isinstance(planned, int):
            raise InputError(f"{where}: layers must be a list of rows, planned_rows their number")
        notes = document["notes"]
        if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
            raise InputError(f"{where}: notes must be a list of texts")
        rows = [_row(row, f"{where}: row {i}") for i, row in enumerate(layers, 1)]
        facts = {key: value for key, value in document.items() if key not in _OWN}
        _check_facts(facts, where)
        return cls(rows, facts, tuple(notes), planned)

    @classmethod
    def load(cls, path: str | Path) -> Report:
        """The report in a JSON file; `InputError` where there is none."""
        try:
            content = Path(path).read_text("utf-8")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not a text file"
            raise InputError(f"{path}: {reason}") from None
        return cls.from_json(content, str(path))

    def to_html(self) -> str:
        """One self-contained page (needs the extra `report`)."""
        from hfp8sim.report.html import render

        return render(self)

    def to_timeline(self) -> str:
        """A Chrome/Perfetto trace of the run under the `pipelined` model, as JSON text.

        Raises:
            InputError: a report that was read from a file: it does not hold the instructions.
        """
        if self.timeline is None:
            raise InputError(
                "a report in JSON has no timeline; run the workload again with --timeline"
            )
        return self.timeline()


def file_name(workload: str) -> str:
    """A workload's name with what file names do not take replaced."""
    kept = (c if c.isalnum() or c in "-_.@" else "_" for c in workload)
    return "".join(kept).lstrip(".")[:100] or "report"


def _combined(how: str, values: list[Any]) -> Any:
    if how in ("max", "min"):
        return max(values) if how == "max" else min(values)
    if isinstance(values[0], list):
        return [sum(counts) for counts in zip(*values, strict=True)]
    return sum(values)


def _heaviest(rows: list[Row]) -> str:
    """The `bound_by` under which most cycles were spent."""
    cycles: dict[str, int] = {}
    for row in rows:
        key = str(row.get("bound_by", ""))
        cycles[key] = cycles.get(key, 0) + row["cycles"]
    return max(cycles, key=lambda key: cycles[key])


def plain(value: Any, none: Any) -> Any:
    """A value as CSV and JSON hold it: `none` for what is missing, words for infinities."""
    if missing(value):
        return none
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return value


def _json_row(row: Row) -> Row:
    return {name: plain(row.get(name), none=None) for name in BY_NAME if name in row}


def _row(given: Any, where: str) -> Row:
    """A row of a JSON document, every value of its column's kind."""
    if not isinstance(given, dict):
        raise InputError(f"{where} is {given!r}; it must be an object by column name")
    row: Row = {}
    for name, value in given.items():
        column = BY_NAME.get(name)
        if column is None:
            raise InputError(f"{where}: unknown column {name!r}")
        if column.kind is float and value in ("inf", "-inf"):
            value = float(value)
        if column.kind is float and _is(int, value):
            value = float(value)
        if value is not None and not _is(column.kind, value):
            raise InputError(f"{where}: {name} is {value!r}; it must be {column.kind.__name__}")
        row[name] = value
    for name in IDENTITY:
        if row.get(name) is None:
            raise InputError(f"{where}: {name} is missing")
        if isinstance(row[name], int) and row[name] < 1:
            raise InputError(f"{where}: {name} is {row[name]}; it must be at least 1")
    if row["phase"] not in PHASES:
        raise InputError(
            f"{where}: phase is {row['phase']!r}; it must be one of {', '.join(PHASES)}"
        )
    timed = [column.name for column in COLUMNS if column.group == "time"]
    if any(row.get(name) is not None for name in timed):
        for name in timed:
            value = row.get(name)
            if value is None:
                raise InputError(f"{where}: {name} is missing, though others of the time are there")
            if not isinstance(value, str) and not (math.isfinite(value) and value >= 0):
                raise InputError(f"{where}: {name} is {value}; it must be a number of at least 0")
        if not row["cycles"] or not row["time_us"]:
            raise InputError(f"{where}: cycles and time_us must be more than 0")
    return row


def _is(kind: type, value: Any) -> bool:
    if kind is list:
        return (
            isinstance(value, list)
            and len(value) == len(HISTOGRAM_BINS)
            and all(_is(int, count) for count in value)
        )
    if kind is int:
        return (
            isinstance(value, int) and not isinstance(value, bool) and -MAX_INT <= value <= MAX_INT
        )
    return isinstance(value, kind)


#: Facts that the forms of a report read: dotted key, type, and whether it may be missing.
_READ: tuple[tuple[str, type, bool], ...] = (
    ("workload", str, False),
    ("time_model", str, False),
    ("seed", int, False),
    ("versions", dict, False),
    ("peak_macs_per_cycle", int, False),
    ("peak_macs_per_cycle_16bit", int, True),
    ("max_macs", int, True),
    ("time_only", bool, True),
    ("machine.name", str, False),
    ("machine.clock_mhz", int, False),
    ("machine.array.rows", int, False),
    ("machine.array.columns", int, False),
    ("machine.array.corelets", int, True),
    ("machine.array.macs_8bit", int, True),
    ("machine.array.macs_16bit", int, True),
    ("machine.memory.bytes_per_cycle", int, False),
    ("profile.name", str, False),
    ("phases", list, True),
    ("policy", list, True),
)


def _check_facts(facts: dict[str, Any], where: str) -> None:
    for key, kind, optional in _READ:
        value: Any = facts
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is None and optional:
            continue
        if not _is(kind, value) and not (kind is list and isinstance(value, list)):
            raise InputError(f"{where}: {key} is {value!r}; it must be {kind.__name__}")
        if kind is int and key != "seed" and value < 1:
            raise InputError(f"{where}: {key} is {value}; it must be at least 1")
    for number, rule in enumerate(facts.get("policy") or [], 1):
        try:
            named = isinstance(rule["rule"], str) and isinstance(rule["profile"]["name"], str)
        except (KeyError, TypeError):
            named = False
        if not named:
            raise InputError(f"{where}: policy {number} must have a rule and a profile with a name")
