"""Two or more reports side by side: what differs between the runs, and what it did to every layer."""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
from collections.abc import Iterable, Sequence
from typing import Any

from rich.table import Table

from hfp8sim.errors import InputError, unknown
from hfp8sim.report.columns import BY_NAME, FLAT, Row, missing, text
from hfp8sim.report.report import Report, plain
from hfp8sim.report.table import GAP, NAME_MAX, NAME_MIN, shortened

#: Columns that a comparison shows layer by layer unless others are asked for.
DEFAULT = ("sqnr_db", "acc_sqnr_db", "cycles")

#: Totals of a run that the overview shows.
OVERVIEW = ("cycles", "time_us", "tflops", "utilisation", "sqnr_db", "acc_sqnr_db", "swamped_share")

#: Columns whose change is told as a ratio; others as a difference.
RATIOS = ("macs", "cycles", "time_us", "bytes", "bytes_compulsory", "bytes_capacity")

#: Facts that say what was run; the rest (command, versions, digest) does not distinguish runs.
_TELLING = (
    "workload", "machine", "time_model", "profile", "policy", "seed", "phases", "max_macs", "time_only",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class SideBySide:
    """Reports with a letter and a label each; the first is what the others are measured by."""

    reports: tuple[Report, ...]
    labels: tuple[str, ...]

    @property
    def letters(self) -> list[str]:
        """A, B, …, Z, AA, …"""
        return [_letter(i) for i in range(len(self.reports))]

    @property
    def keys(self) -> list[tuple[str, str]]:
        """(layer, phase) of every row that any report has, in the first one's order."""
        seen: dict[tuple[str, str], None] = {}
        for report in self.reports:
            seen.update({(row["layer"], row["phase"]): None for row in report.layers})
        return list(seen)

    def values(self, key: tuple[str, str] | None, name: str) -> list[Any]:
        """One column's values for a layer and phase (None: the total), a report each."""
        return [rows.get(key, {}).get(name) for rows in self._rows]

    @functools.cached_property
    def _rows(self) -> list[dict[tuple[str, str] | None, Row]]:
        found = []
        for report in self.reports:
            rows: dict[tuple[str, str] | None, Row] = {None: report.total}
            rows.update({(row["layer"], row["phase"]): row for row in report.layers})
            found.append(rows)
        return found

    def to_csv(self) -> str:
        """Every row of every report, its run's label in front."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(("run", *FLAT))
        for report, label in zip(self.reports, self.labels, strict=True):
            for row in report.rows():
                writer.writerow([label, *(plain(row.get(name), none="") for name in FLAT)])
        return out.getvalue()

    def to_html(self) -> str:
        """One self-contained page (needs the extra `report`)."""
        from hfp8sim.report.html import render_comparison

        return render_comparison(self)


def compare(reports: Sequence[Report], labels: Iterable[str] | None = None) -> SideBySide:
    """Put reports side by side. Labels say what distinguishes them, unless they are given.

    Raises:
        InputError: fewer than two reports, or reports that have no layer and phase in common.
    """
    if len(reports) < 2:
        raise InputError(f"a comparison needs at least two reports, not {len(reports)}")
    common = set.intersection(
        *({(row["layer"], row["phase"]) for row in report.layers} for report in reports)
    )
    if not common:
        raise InputError("these reports have no layer and phase in common")
    named = tuple(labels) if labels is not None else tuple(distinguish(reports))
    if len(named) != len(reports):
        raise InputError(f"{len(named)} labels for {len(reports)} reports")
    return SideBySide(tuple(reports), named)


def distinguish(reports: Sequence[Report]) -> list[str]:
    """A label for each report: the facts in which it differs from the others, in few words.

    Where the names of machines or profiles differ they are said instead of all their values.
    """
    facts = [{key: report.facts.get(key) for key in _TELLING} for report in reports]
    parts: list[list[str]] = [[] for _ in reports]
    for key in _TELLING:
        values: list[Any] = [fact[key] for fact in facts]
        if all(value == values[0] for value in values):
            continue
        if key in ("machine", "profile") and len({v["name"] for v in values}) > 1:
            values = [value["name"] for value in values]
        elif key == "policy":
            values = [policy_text(value) for value in values]
        elif isinstance(values[0], dict):
            for name, shown in _fields(values):
                for part, value in zip(parts, shown, strict=True):
                    part.append(f"{name}={value}")
            continue
        for part, value in zip(parts, values, strict=True):
            part.append(f"{key}={_words(value)}")
    return [", ".join(part) or "the same run" for part in parts]


def policy_text(policy: list[dict[str, Any]] | None) -> str:
    """A policy as the command line writes it."""
    rules = (f"{rule['rule']}={rule['profile']['name']}" for rule in policy or [])
    return ",".join(rules) or "none"


def _words(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _fields(values: list[dict[str, Any]], prefix: str = "") -> list[tuple[str, list[Any]]]:
    """The fields (dotted where nested) in which records differ, with their values."""
    found: list[tuple[str, list[Any]]] = []
    for name in values[0]:
        here: list[Any] = [value.get(name) for value in values]
        if all(value == here[0] for value in here) or name in ("summary", "notes", "assumed"):
            continue
        if all(isinstance(value, dict) for value in here):
            found += _fields(here, f"{prefix}{name}.")
        else:
            found.append((prefix + name, here))
    return found


def check_columns(names: Iterable[str]) -> tuple[str, ...]:
    """Column names that a comparison can show; `InputError` for others."""
    chosen = tuple(names)
    known = [name for name in FLAT if BY_NAME[name].short and BY_NAME[name].kind is not str]
    for name in chosen:
        if name not in known:
            raise unknown("column", name, known)
    return chosen or DEFAULT


def change(name: str, first: Any, other: Any) -> str:
    """How `other` compares with `first`: a ratio for work and time, a difference for the rest."""
    if missing(first) or missing(other):
        return "–"
    if first == other:
        return "=" if name not in RATIOS else "×1.00"
    if name in RATIOS:
        return f"×{other / first:.2f}" if first else "–"
    if name in ("utilisation", "swamped_share", "gated_share", "sampled"):
        return f"{100 * (other - first):+.1f}"
    said = f"{other - first:+.{BY_NAME[name].digits if isinstance(other, float) else 0}f}"
    return said if float(said) else said[1:]


def overview(both: SideBySide) -> Table:
    """One line for each run: what distinguishes it, and its totals."""
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0))
    made.add_column("")
    made.add_column("run", overflow="fold")
    shown = [n for n in OVERVIEW if any(not missing(v) for v in both.values(None, n))]
    for name in shown:
        right = BY_NAME[name].kind is not str
        made.add_column(BY_NAME[name].short, justify="right" if right else "left", no_wrap=True)
    for letter, label, report in zip(both.letters, both.labels, both.reports, strict=True):
        total = report.total
        label += " (partial)" if report.partial else ""
        made.add_row(letter, label, *(text(BY_NAME[n], total.get(n)) for n in shown))
    return made


def layer_tables(both: SideBySide, names: Sequence[str] = DEFAULT, width: int = 100) -> list[Table]:
    """Every layer and phase, each column once per run: as few tables as fit the width. A column that no
    run has a value for is left out."""
    tables: list[Table] = []
    chosen: list[str] = []
    for name in names:
        if all(missing(value) for key in both.keys for value in both.values(key, name)):
            continue
        if chosen and NAME_MIN + _width(both, [*chosen, name]) > width:
            tables.append(_layers(both, chosen, width))
            chosen = []
        chosen.append(name)
    return [*tables, _layers(both, chosen, width)] if chosen else tables


def _cells(both: SideBySide, key: tuple[str, str] | None, name: str) -> list[str]:
    """A value per run, and with two runs the change."""
    values = both.values(key, name)
    if all(value is None for value in values):
        return [""] * (len(values) + (len(values) == 2))
    cells = [text(BY_NAME[name], value) for value in values]
    return [*cells, change(name, *values)] if len(values) == 2 else cells


def _headings(both: SideBySide, name: str) -> list[str]:
    short = BY_NAME[name].short
    headings = [f"{short} {both.letters[0]}", *both.letters[1:]]
    return [*headings, "B/A" if name in RATIOS else "B−A"] if len(both.reports) == 2 else headings


def _width(both: SideBySide, names: Sequence[str]) -> int:
    """Characters of all columns but the layer's."""
    total = len("phase") + GAP
    for name in names:
        rows = [_headings(both, name), *(_cells(both, key, name) for key in [*both.keys, None])]
        total += sum(max(map(len, column)) + GAP for column in zip(*rows, strict=True))
    return total


def _layers(both: SideBySide, names: Sequence[str], width: int) -> Table:
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0))
    made.add_column("layer", no_wrap=True)
    made.add_column("phase", no_wrap=True)
    for name in names:
        for heading in _headings(both, name):
            made.add_column(heading, justify="right", no_wrap=True)
    keys = both.keys
    longest = max(len(layer) for layer, _ in keys)
    name_width = max(NAME_MIN, min(longest, NAME_MAX, width - _width(both, names)))
    for key in keys:
        cells = [cell for name in names for cell in _cells(both, key, name)]
        made.add_row(shortened(key[0], name_width), key[1], *cells)
    made.add_section()
    cells = [cell for name in names for cell in _cells(both, None, name)]
    made.add_row("total", "", *cells, style="bold")
    return made


def _letter(index: int) -> str:
    letters = ""
    index += 1
    while index:
        index, digit = divmod(index - 1, 26)
        letters = chr(ord("A") + digit) + letters
    return letters
