"""Rows and columns of the CSV files that simulators exchange.

The parser accepts byte-order marks, non-breaking spaces, tabs or semicolons as separators, a trailing
comma or none, comments after `#`, blank rows and section titles. It keeps each row's line number. What a
row means is decided in `csv_lists`.
"""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from hfp8sim.errors import InputError

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
#: Titles of columns that do not concern a layer's shape.
_UNUSED_TITLES = re.compile("sparsity|sparsityratio|type|.*(addr|address|offset)")


class Row(NamedTuple):
    """One line: its number, its cells stripped and without empty ones at the end, and its comment."""

    line: int
    cells: tuple[str, ...]
    comment: str

    def cell(self, column: int | None) -> str:
        """The text in `column`, or "" where the row has none."""
        return self.cells[column] if column is not None and column < len(self.cells) else ""

    def label(self) -> str:
        """The row's text, quoted and shortened for a message."""
        text = ", ".join(self.cells)
        return repr(text if len(text) <= 50 else text[:47] + "...")


def read_rows(path: str | os.PathLike[str]) -> list[Row]:
    """Every row of the file that is not blank."""
    return list(_split(read_text(path)))


def read_text(path: str | os.PathLike[str]) -> str:
    """The file's text. The encoding follows its byte-order mark; without one it is UTF-8, else Latin-1."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    encodings = [name for mark, name in _BYTE_ORDER_MARKS if data.startswith(mark)] + ["utf-8"]
    for encoding in encodings:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    return data.decode("latin-1")


def _split(text: str) -> Iterator[Row]:
    for line, raw in enumerate(re.split(r"\r\n|\r|\n", text), start=1):
        content, _, comment = raw.partition("#")
        separator = next((s for s in (",", "\t", ";") if s in content), ",")
        cells = [_clean(cell) for cell in content.split(separator)]
        while cells and not cells[-1]:
            cells.pop()
        if cells:
            yield Row(line, tuple(cells), comment.strip())


def _clean(cell: str) -> str:
    """A cell without quotes, byte-order marks and repeated spaces.

    A byte-order mark may occur inside a file that was joined from several. `str.strip` and `str.split`
    treat non-breaking spaces as spaces.
    """
    return " ".join(cell.replace("\ufeff", "").strip().strip('"').split())


def whole_number(text: str) -> int | None:
    """The integer that the text denotes, also as `224.0` or `1e3`; None for any other text."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if abs(value) < 2**53 and value == int(value) else None


def normalised(title: str) -> str:
    """A column title without case, spaces and punctuation: `IFMAP Height` and `ifmap_height` agree."""
    return re.sub(r"[^a-z0-9]", "", title.lower())


def normalised_titles(header: Row | None) -> list[str]:
    """The normalised titles of all columns; none without a header."""
    return [normalised(cell) for cell in header.cells] if header else []


def split_header(rows: list[Row]) -> tuple[Row | None, list[Row]]:
    """The header, if there is one, and the other rows.

    The header is the first row with more than one cell, if none of its cells but the first may be a
    number. Rows above it, such as a file title, are kept among the other rows.
    """
    for index, row in enumerate(rows):
        if len(row.cells) > 1:
            if any(whole_number(cell) is not None for cell in row.cells[1:]):
                break
            return row, rows[:index] + rows[index + 1 :]
    return None, rows


def find_columns(
    header: Row | None, titles: Mapping[str, Sequence[str]], positions: Mapping[str, int]
) -> dict[str, int]:
    """The column of each field.

    Args:
        header: the row of titles, or None.
        titles: normalised titles of each field.
        positions: column of each required field in a file without titles.

    If the header names every required field exactly once, columns follow the titles. Otherwise required
    fields are at `positions`. Optional fields are found by title only, in columns that no required field
    takes.
    """
    present = normalised_titles(header)
    by_title: dict[str, int] = {}
    for field, names in titles.items():
        matches = [column for column, title in enumerate(present) if title in names]
        if len(matches) == 1:
            by_title[field] = matches[0]
    if set(positions) <= set(by_title):
        return by_title
    occupied = set(positions.values())
    optional = {
        field: column
        for field, column in by_title.items()
        if field not in positions and column not in occupied
    }
    return {**positions, **optional}


def unused_columns(header: Row | None, used: Iterable[int]) -> set[int]:
    """Columns not in `used` whose titles say that they do not concern a layer's shape."""
    columns = set(used)
    return {
        column
        for column, title in enumerate(normalised_titles(header))
        if column not in columns and _UNUSED_TITLES.fullmatch(title)
    }
