"""Lists of layers in CSV files: one loop over rows for every kind of list.

`conv_csv` and `gemm_csv` declare a `ListKind` each: the columns, and the function that makes a layer of
one row.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from hfp8sim.errors import InputError
from hfp8sim.network.records import MAX_SIZE, Layer, Workload, distinct
from hfp8sim.workloads.readers import csv_rows
from hfp8sim.workloads.readers.csv_rows import Row


class ListKind(NamedTuple):
    """What one kind of list consists of."""

    name: str  #: in the workload's notes: "GEMM list"
    titles: Mapping[str, Sequence[str]]  #: normalised column titles of each field
    positions: Mapping[str, int]  #: columns of the required fields without titles
    read_layer: Callable[[Fields], Layer]  #: the layer of one row; raises `NotALayer`
    row_format: str  #: what rows must read, for the error text of a list without a layer
    absent_notes: Mapping[str, str] = {}  #: note for each field that has no column


class NotALayer(Exception):
    """The row is no layer and is skipped; the text is the reason."""


class Fields:
    """The fields of one row, by name. `remarks` collects what deserves a warning."""

    def __init__(self, path: str | os.PathLike[str], row: Row, columns: dict[str, int]) -> None:
        self.path, self.row, self.columns = path, row, columns
        self.remarks: list[str] = []

    @property
    def name(self) -> str:
        """The layer's name, or its line number where the row gives none."""
        return self.row.cell(self.columns["name"]) or f"line {self.row.line}"

    def required(self, *fields: str) -> dict[str, int]:
        """Sizes from 1.

        Raises `NotALayer` for text that is no number and for a missing cell, and `InputError` for a size
        out of range: such a row is a layer, and skipping it would change the network silently.
        """
        sizes = {}
        for field in fields:
            text = self.row.cell(self.columns.get(field))
            value = csv_rows.whole_number(text)
            if value is None:
                raise NotALayer(
                    f"{field} is {text!r}, not a whole number" if text else f"{field} is missing"
                )
            sizes[field] = value
        for field, value in sizes.items():
            self._check(field, value, least=1)
        return sizes

    def optional(self, field: str, least: int = 1) -> int | None:
        """A number from `least`, or None where the cell is absent, empty or no number.

        Text that is no number is remarked. A number out of range raises `InputError`.
        """
        text = self.row.cell(self.columns.get(field))
        if not text:
            return None
        value = csv_rows.whole_number(text)
        if value is None:
            self.remarks.append(f"{field} is {text!r}, not a whole number; ignored")
            return None
        self._check(field, value, least)
        return value

    def _check(self, field: str, value: int, least: int) -> None:
        if not least <= value <= MAX_SIZE:
            raise InputError(
                f"{self.path}:{self.row.line}: {field} is {value}; "
                f"it must be from {least} to {MAX_SIZE}"
            )


def load_list(
    path: str | os.PathLike[str], kind: ListKind, rows: list[Row] | None = None
) -> Workload:
    """The workload of a list. Rows that are no layer are skipped with a warning that names the line.

    Args:
        rows: the file's rows if they are already read.

    Raises `InputError` for a size out of range and for a list without a layer.
    """
    header, rows = csv_rows.split_header(csv_rows.read_rows(path) if rows is None else rows)
    columns = csv_rows.find_columns(header, kind.titles, kind.positions)
    unused = csv_rows.unused_columns(header, columns.values())
    layers: list[Layer] = []
    warnings: list[str] = []
    for row in rows:
        fields = Fields(path, row, columns)
        try:
            layers.append(kind.read_layer(fields))
            remarks = fields.remarks + _unknown_cells(row, unused.union(columns.values()))
        except NotALayer as reason:
            remarks = [f"{row.label()} is no layer: {reason}; skipped"]
        if remarks:
            warnings.append(f"{path}:{row.line}: {'; '.join(remarks)}")
    if not layers:
        raise InputError(f"{path}: no layer in it; rows must read {kind.row_format}")
    names = distinct(layer.name for layer in layers)
    renamed = (layer.replace(name=name) for layer, name in zip(layers, names, strict=True))
    notes = [f"{kind.name} {path}"]
    notes += [note for field, note in kind.absent_notes.items() if field not in columns]
    if header is not None and unused:
        titles = ", ".join(header.cells[column] for column in sorted(unused))
        notes.append(f"columns not used: {titles}")
    return Workload(Path(path).stem, tuple(renamed), tuple(notes), tuple(warnings))


def _unknown_cells(row: Row, expected: set[int]) -> list[str]:
    """A remark on cells in columns without a known title, if there are any."""
    cells = [cell for column, cell in enumerate(row.cells) if cell and column not in expected]
    if not cells:
        return []
    return [f"ignored {', '.join(map(repr, cells))} in columns without a known title"]
