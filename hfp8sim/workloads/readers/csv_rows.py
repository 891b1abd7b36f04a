"""Rows and columns of the CSV files that simulators exchange.

The parser accepts what spreadsheets write: every common encoding, byte-order marks, non-breaking spaces,
commas, tabs or semicolons as separators, quoted cells that hold separators, and numbers such as `"1,024"`. It
accepts a trailing comma or none, comments after `#`, blank rows and section titles. It keeps each row's line
number. What a row means is decided in `csv_lists`.
"""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from hfp8sim.errors import InputError

#: Longer marks first: that of UTF-32 begins with that of UTF-16.
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SEPARATORS = (",", "\t", ";")
#: Numbers of a row from which on it is taken for a layer: those of a GEMM.
_LEAST_NUMBERS = 3
#: Titles of columns that do not concern a layer's shape.
_UNUSED_TITLES = re.compile("sparsity|sparsityratio|.*(addr|address|offset)")


class Row(NamedTuple):
    """One row: the line where it begins, its cells without empty ones at the end, and its comment."""

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

    @property
    def numbers(self) -> int:
        """Whole numbers in it, the name not counted."""
        return sum(whole_number(cell) is not None for cell in self.cells[1:])


def read_rows(path: str | os.PathLike[str]) -> list[Row]:
    """Every row of the file that is not blank.

    The separator is the one with which the most rows have the numbers of a layer. A row in which it does
    not occur may have another one. Raises `InputError` for a file that cannot be read, and for a quote that
    runs over rows.
    """
    text = read_text(path)
    parsed = [list(_split(path, text, separator)) for separator in _SEPARATORS]
    parsed.sort(key=_layers, reverse=True)
    by_line = [{row.line: row for row in rows} for rows in parsed[1:]]
    rows = []
    for row in parsed[0]:
        others = [other[row.line] for other in by_line if row.line in other]
        better = [other for other in others if other.numbers >= _LEAST_NUMBERS]
        rows.append(better[0] if len(row.cells) == 1 and better else row)
    return rows


def _layers(rows: list[Row]) -> int:
    """How many of the rows have the numbers of a layer."""
    return sum(row.numbers >= _LEAST_NUMBERS for row in rows)


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a file in whatever encoding a spreadsheet or an editor wrote it.

    The encoding follows the byte-order mark. Without one it is UTF-16 where every other byte of the first
    ones is 0, else UTF-8 if the file is that. Otherwise it is Mac Roman where lines end with a carriage
    return alone, as spreadsheets on a Mac write it, else Windows-1252.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    for encoding in _encodings(data):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    return data.decode("latin-1")


def _encodings(data: bytes) -> list[str]:
    """Encodings to try, the likeliest first."""
    marks = [name for mark, name in _BYTE_ORDER_MARKS if data.startswith(mark)]
    first = data[:64]
    if not marks and len(first) >= 4 and first.count(0) * 2 >= len(first) - 1:
        marks = ["utf-16-le" if first[1] == 0 else "utf-16-be"]
    single = "mac-roman" if b"\r" in data and b"\n" not in data else "cp1252"
    return [*marks, "utf-8", single]


_LINE_END = re.compile(r"\r\n|\r|\n")
_SPACE = r"[^\S\t\r\n]*"
_REST_OF_LINE = re.compile(r"[^\r\n]*")


class _Syntax(NamedTuple):
    """Patterns of one cell, for one separator."""

    separator: str
    quoted: re.Pattern[str]  #: its text, in which quotes are doubled, is group 1
    first: re.Pattern[str]  #: of a row's first cell, which may hold a #, but not begin with one
    plain: re.Pattern[str]  #: of another cell

    @classmethod
    def of(cls, separator: str) -> _Syntax:
        text = rf"[^{separator}\r\n]"
        return cls(
            separator,
            re.compile(rf'{_SPACE}"((?:[^"]|"")*)"{_SPACE}(?=[{separator}#\r\n]|\Z)'),
            re.compile(rf"{_SPACE}(?:(?!#){text}+)?"),
            re.compile(rf"[^#{separator}\r\n]*"),
        )


def _split(path: str | os.PathLike[str], text: str, separator: str) -> Iterator[Row]:
    """The rows of a text that are not blank.

    A cell that begins with a quote ends with the next one that is not doubled. If something else than a
    separator follows that one, the quotes are ordinary characters. A `#` that begins a cell, or that is in
    any cell but the first, begins a comment.
    """
    syntax = _Syntax.of(separator)
    text = text.replace("\ufeff", "")  # also inside, where a file was joined from several
    place, line = 0, 1
    while place < len(text):
        cells, after = _cells(text, place, syntax)
        for cell in cells:
            _check_quoted(path, line, cell)
        end = _REST_OF_LINE.match(text, after)
        assert end is not None  # it matches the empty text
        comment = end[0].removeprefix("#").strip()
        while cells and not cells[-1].strip():
            cells.pop()
        if cells:
            yield Row(line, tuple(cells), comment)
        line_end = _LINE_END.match(text, end.end())
        after = line_end.end() if line_end else len(text)
        line += len(_LINE_END.findall(text, place, after))
        place = after


def _cells(text: str, place: int, syntax: _Syntax) -> tuple[list[str], int]:
    """The cells from `place` to the end of the row or a comment, and the place of that end."""
    cells: list[str] = []
    while True:
        if cell := syntax.quoted.match(text, place):
            cells.append(cell[1].replace('""', '"'))
        else:
            cell = (syntax.plain if cells else syntax.first).match(text, place)
            assert cell is not None  # both match the empty text
            cells.append(cell[0].strip().strip('"').strip())
        if not text.startswith(syntax.separator, cell.end()):
            return cells, cell.end()
        place = cell.end() + 1


def _check_quoted(path: str | os.PathLike[str], line: int, cell: str) -> None:
    """`InputError` if a quoted cell holds a row of numbers: a quote is missing, and the row would be lost."""
    for part in _LINE_END.split(cell)[1:]:
        if any(part.count(separator) >= _LEAST_NUMBERS for separator in _SEPARATORS):
            raise InputError(f"{path}:{line}: a quoted cell runs over rows; a quote is missing")


#: Digits in groups of three: `1,024`, `1'024`, `1 024` with a space that does not break.
_GROUPED = re.compile("[+-]?[0-9]{1,3}(?:([,'\u2019\u00a0\u202f])[0-9]{3})(?:\\1[0-9]{3})*")
#: One thousand and twenty-four, or one and 24 thousandths?
_AMBIGUOUS = re.compile(r"[+-]?[0-9]{1,3}(?:\.[0-9]{3})+")


def whole_number(text: str) -> int | None:
    """The integer that the text denotes, also as `224.0`, `1e3` or `1,024`; None for any other text.

    A point before three digits separates thousands or decimals, depending on the language of the program that
    wrote it. Such a text is none.
    """
    text = text.strip()
    if "_" in text or _AMBIGUOUS.fullmatch(text):
        return None
    if _GROUPED.fullmatch(text):
        text = re.sub("[^0-9+-]", "", text)
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
