"""Reports as JSON (docs/report.schema.json), and back. `parse` checks every value that it reads."""

from __future__ import annotations

import json
import math
from typing import Any

from hfp8sim.analysis.accuracy import HISTOGRAM_BINS
from hfp8sim.errors import InputError
from hfp8sim.network import PHASES
from hfp8sim.report.columns import BY_NAME, COLUMNS, Row, plain_value
from hfp8sim.report.record import IDENTITY, REQUIRED_FACTS, ReportRecord
from hfp8sim.report.step import system_of, training_step

#: Version of the JSON layout; docs/report.schema.json describes it.
SCHEMA_VERSION = 1

#: Keys of the document that are not facts of the run.
_DOCUMENT_KEYS = (
    "schema", "notes", "planned_rows", "partial", "histogram_bins", "columns", "layers", "total", "step",
)  # fmt: skip

#: The largest integer that is accepted as a count.
MAX_INT = (1 << 63) - 1

#: Facts that renderers read: dotted key, type, and whether it may be missing.
_FACT_TYPES: tuple[tuple[str, type, bool], ...] = (
    ("workload", str, False),
    ("time_model", str, False),
    ("seed", int, False),
    ("versions", dict, False),
    ("peak_macs_per_cycle", int, False),
    ("peak_macs_per_cycle_16bit", int, True),
    ("max_macs", int, True),
    ("time_only", bool, True),
    ("events_every", int, True),
    ("machine.name", str, False),
    ("machine.clock_mhz", int, False),
    ("machine.array.rows", int, False),
    ("machine.array.columns", int, False),
    ("machine.array.corelets", int, True),
    ("machine.array.macs_8bit", int, True),
    ("machine.array.macs_16bit", int, True),
    ("machine.memory.bytes_per_cycle", int, False),
    ("machine.memory.refresh_ns", int, True),
    ("machine.memory.refresh_interval_ns", int, True),
    ("machine.ring.bytes_per_cycle", int, True),
    ("profile.name", str, False),
    ("phases", list, True),
    ("policy", list, True),
    ("calibration", str, True),
)


def render(report: ReportRecord) -> str:
    """The whole report as JSON; NaN and missing values are null, infinities are words."""
    document = {
        "schema": SCHEMA_VERSION,
        **report.facts,
        "partial": report.partial,
        "planned_rows": len(report.layers) if report.planned is None else report.planned,
        "notes": list(report.notes),
        "histogram_bins": list(HISTOGRAM_BINS),
        "columns": [{"name": c.name, "unit": c.unit, "meaning": c.meaning} for c in COLUMNS],
        "layers": [_plain_row(row) for row in report.layers],
        "total": _plain_row(report.total),
    }
    step = training_step(report)
    if step is not None:
        document["step"] = step.facts()
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _plain_row(row: Row) -> Row:
    return {name: plain_value(row.get(name), none=None) for name in BY_NAME if name in row}


def parse(content: str, where: str = "report") -> ReportRecord:
    """The report in a JSON text that `render` wrote; `where` begins every message.

    Raises:
        InputError: no JSON, no report, another version of the layout, or values of a wrong kind.
    """
    document = _document(content, where)
    layers, planned = document["layers"], document["planned_rows"]
    if not isinstance(layers, list) or not layers or not isinstance(planned, int):
        raise InputError(f"{where}: layers must be a list of rows, planned_rows their number")
    notes = document["notes"]
    if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
        raise InputError(f"{where}: notes must be a list of texts")
    rows = [_row(row, f"{where}: row {i}") for i, row in enumerate(layers, 1)]
    facts = {key: value for key, value in document.items() if key not in _DOCUMENT_KEYS}
    _check_facts(facts, where)
    return ReportRecord(rows, facts, tuple(notes), planned)


def _document(content: str, where: str) -> dict[str, Any]:
    """The JSON object, with the version and the keys of a report."""
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
    for key in (*REQUIRED_FACTS, "notes", "planned_rows"):
        if key not in document:
            raise InputError(f"{where}: key {key!r} is missing")
    return document


def _row(value: Any, where: str) -> Row:
    """A row of the document, every value of its column's kind."""
    if not isinstance(value, dict):
        raise InputError(f"{where} is {value!r}; it must be an object by column name")
    row = {name: _value(name, item, where) for name, item in value.items()}
    for name in IDENTITY:
        if row.get(name) is None:
            raise InputError(f"{where}: {name} is missing")
        if isinstance(row[name], int) and row[name] < 1:
            raise InputError(f"{where}: {name} is {row[name]}; it must be at least 1")
    if row["phase"] not in PHASES:
        raise InputError(
            f"{where}: phase is {row['phase']!r}; it must be one of {', '.join(PHASES)}"
        )
    _check_time(row, where)
    return row


def _value(name: str, value: Any, where: str) -> Any:
    """One value of a row, as its column holds it."""
    column = BY_NAME.get(name)
    if column is None:
        raise InputError(f"{where}: unknown column {name!r}")
    if column.kind is float and (value in ("inf", "-inf") or _is(int, value)):
        value = float(value)
    if value is not None and not _is(column.kind, value):
        raise InputError(f"{where}: {name} is {value!r}; it must be {column.kind.__name__}")
    return value


def _check_time(row: Row, where: str) -> None:
    """Either no time at all, or all of its columns with sensible values."""
    names = [column.name for column in COLUMNS if column.group == "time"]
    if all(row.get(name) is None for name in names):
        return
    for name in names:
        value = row.get(name)
        if value is None:
            raise InputError(f"{where}: {name} is missing, though others of the time are there")
        if not isinstance(value, str) and not (math.isfinite(value) and value >= 0):
            raise InputError(f"{where}: {name} is {value}; it must be a number of at least 0")
    if not row["cycles"] or not row["time_us"]:
        raise InputError(f"{where}: cycles and time_us must be more than 0")


def _is(kind: type, value: Any) -> bool:
    """Whether a value is of a column's kind; a list must be a histogram."""
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


def _check_system(value: Any, where: str) -> None:
    """The chips and links of a training step, and the weights of each layer."""
    try:
        weights, widths = value["weights"], value["weight_bytes"]
        system_of(value)
        numbers = [*weights.values(), *widths.values()]
    except (AttributeError, KeyError, TypeError):
        raise InputError(
            f"{where} must have the keys of a system, weights and weight_bytes"
        ) from None
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    if weights.keys() != widths.keys() or not all(_is(int, n) and n >= 0 for n in numbers):
        raise InputError(
            f"{where}: weights and weight_bytes must be numbers of at least 0, by the same layers"
        )


def _check_facts(facts: dict[str, Any], where: str) -> None:
    for key, kind, optional in _FACT_TYPES:
        value: Any = facts
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is None and optional:
            continue
        if not _is(kind, value) and not (kind is list and isinstance(value, list)):
            raise InputError(f"{where}: {key} is {value!r}; it must be {kind.__name__}")
        lowest = 0 if key == "machine.memory.refresh_ns" else 1
        if kind is int and key != "seed" and value < lowest:
            raise InputError(f"{where}: {key} is {value}; it must be at least {lowest}")
    memory = facts["machine"]["memory"]
    refresh, interval = memory.get("refresh_ns", 0), memory.get("refresh_interval_ns", 1)
    if refresh >= interval:
        raise InputError(
            f"{where}: machine.memory.refresh_ns is {refresh}; it must be less than "
            f"refresh_interval_ns, {interval}"
        )
    if "system" in facts:
        _check_system(facts["system"], f"{where}: system")
    for number, rule in enumerate(facts.get("policy") or [], 1):
        try:
            valid = isinstance(rule["rule"], str) and isinstance(rule["profile"]["name"], str)
        except (KeyError, TypeError):
            valid = False
        if not valid:
            raise InputError(f"{where}: policy {number} must have a rule and a profile with a name")
