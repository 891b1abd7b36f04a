"""Lists of layers in CSV files: one loop over rows for every kind of list.

`conv_csv` and `gemm_csv` declare a `ListKind` each: the columns, and the function that makes a layer of
one row.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from hfp8sim.errors import InputError, located, one_line
from hfp8sim.network.records import MAX_SIZE, Layer, Workload, distinct
from hfp8sim.workloads.readers import csv_rows
from hfp8sim.workloads.readers.csv_rows import Row


class ListKind(NamedTuple):
    """What one kind of list consists of."""

    name: str  #: in the workload's notes: "GEMM list"
    titles: Mapping[str, Sequence[str]]  #: normalised column titles of each field
    positions: Mapping[str, int]  #: columns of the required fields without titles
    read_layer: Callable[[Fields], Layer]  #: the layer of a row; raises `Unreadable`, `NoProduct`
    row_format: str  #: what rows must read, for the error text of a list without a layer
    absent_notes: Mapping[str, str] = {}  #: note for each field that has no column


class Unreadable(Exception):
    """The row is a product of which no layer can be made; the text is the reason."""


class NoProduct(Exception):
    """The row is a layer without a product, such as pooling; the text is the reason."""


class Fields:
    """The fields of one row, by name.

    `remarks` collects what deserves a warning, `notes` what the workload says once for all such rows.
    """

    def __init__(self, row: Row, columns: dict[str, int]) -> None:
        self.row, self.columns = row, columns
        self.remarks: list[str] = []
        self.notes: list[str] = []

    @property
    def name(self) -> str:
        """The layer's name, or its line number where the row gives none."""
        name = self.row.cell(self.columns["name"])
        return name if name.strip() else f"line {self.row.line}"

    def text(self, field: str) -> str:
        """The text of an optional field, or "" where the row has none."""
        return self.row.cell(self.columns.get(field))

    def required(self, *fields: str) -> dict[str, int]:
        """Sizes from 1.

        Raises `Unreadable` for text that is no number and for a missing cell, and `InputError` for a size
        out of range: such a row is a layer, and skipping it would change the network silently.
        """
        sizes = {}
        for field in fields:
            text = self.text(field)
            value = csv_rows.whole_number(text)
            if value is None:
                raise Unreadable(
                    f"{field} is {text!r}, not a whole number"
                    if text.strip()
                    else f"{field} is missing"
                )
            sizes[field] = value
        for field, value in sizes.items():
            self._check(field, value, least=1)
        return sizes

    def optional(self, field: str, least: int = 1) -> int | None:
        """A number from `least`, or None where the cell is absent, empty or no number.

        Text that is no number is remarked. A number out of range raises `InputError`.
        """
        text = self.text(field)
        if not text.strip():
            return None
        value = csv_rows.whole_number(text)
        if value is None:
            self.remarks.append(f"{field} is {text!r}, not a whole number; ignored")
            return None
        self._check(field, value, least)
        return value

    def _check(self, field: str, value: int, least: int) -> None:
        if not least <= value <= MAX_SIZE:
            raise InputError(f"{field} is {value}; it must be from {least} to {MAX_SIZE}")


def load_list(
    path: str | os.PathLike[str], kind: ListKind, rows: list[Row] | None = None
) -> Workload:
    """The workload of a list.

    Rows with numbers that are no layer are products that are missing. Rows without a number, such as section
    titles, are skipped with a warning. Both name the line.

    Args:
        rows: the file's rows if they are already read.

    Raises `InputError` for a size out of range and for a list without a layer.
    """
    header, rows = csv_rows.split_header(csv_rows.read_rows(path) if rows is None else rows)
    columns = csv_rows.find_columns(header, kind.titles, kind.positions)
    unused = csv_rows.unused_columns(header, columns.values())
    layers: list[Layer] = []
    warnings: list[str] = []
    missing: list[str] = []
    row_notes: list[str] = []
    for row in rows:
        fields, place = Fields(row, columns), f"{path}:{row.line}"
        try:
            with located(place):
                layers.append(kind.read_layer(fields))
            row_notes += fields.notes
            remarks = fields.remarks + _unknown_cells(row, unused.union(columns.values()))
        except NoProduct as reason:
            remarks = [f"{row.label()} is no product: {reason}; skipped"]
        except Unreadable as reason:
            remarks, text = [], f"{row.label()} is no layer: {reason}"
            if row.numbers:
                missing.append(f"{place}: {text}")
            else:
                remarks = [f"{text}; skipped"]
        if remarks:
            warnings.append(f"{place}: {'; '.join(remarks)}")
    if not layers:
        first = f"; {missing[0]}" if missing else ""
        raise InputError(f"{path}: no layer in it; rows must read {kind.row_format}{first}")
    names = distinct(layer.name for layer in layers)
    renamed = (layer.replace(name=name) for layer, name in zip(layers, names, strict=True))
    notes = [f"{kind.name} {path}"]
    notes += [note for field, note in kind.absent_notes.items() if field not in columns]
    notes += dict.fromkeys(row_notes)
    if header is not None and unused:
        titles = ", ".join(one_line(header.cells[column]) for column in sorted(unused))
        notes.append(f"columns not used: {titles}")
    return Workload(Path(path).stem, tuple(renamed), tuple(notes), tuple(warnings), tuple(missing))


def _unknown_cells(row: Row, expected: set[int]) -> list[str]:
    """A remark on cells in columns without a known title, if there are any."""
    cells = [
        cell for column, cell in enumerate(row.cells) if cell.strip() and column not in expected
    ]
    if not cells:
        return []
    return [f"ignored {', '.join(map(repr, cells))} in columns without a known title"]
