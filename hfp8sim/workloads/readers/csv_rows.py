"""Rows of the CSV files that simulators exchange, with the line each stands on.

Such files carry byte-order marks, non-breaking spaces, tabs or semicolons for commas, a trailing comma
or none, comments after the last comma, blank rows and section titles. Everything here is tolerant;
what a row means is the reader's business.
"""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from hfp8sim.errors import InputError
from hfp8sim.network.records import MAX_SIZE

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


_UNUSED = re.compile("sparsity|sparsityratio|type|.*(addr|address|offset)")


class Row(NamedTuple):
    """Cells of one line, stripped, without the empty ones at its end; its comment, if it has one."""

    line: int
    cells: tuple[str, ...]
    comment: str

    def cell(self, column: int | None) -> str:
        """The text in `column`, or "" where the row has none."""
        return self.cells[column] if column is not None and column < len(self.cells) else ""

    def label(self) -> str:
        """The row as a message shows it."""
        text = ", ".join(self.cells)
        return repr(text if len(text) <= 50 else text[:47] + "...")


def rows(path: str | os.PathLike[str]) -> list[Row]:
    """Every row of the file that is not blank."""
    return list(_split(read_text(path)))


def read_text(path: str | os.PathLike[str]) -> str:
    """The file's text, by its byte-order mark, else as UTF-8, else as Latin-1."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    encodings = [name for mark, name in _BOMS if data.startswith(mark)] + ["utf-8"]
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
        # str.strip takes non-breaking spaces off as well; a stray mark may stand inside a file
        # that was pasted together.
        cells = [
            c.replace("\ufeff", "").strip().strip('"').strip() for c in content.split(separator)
        ]
        while cells and not cells[-1]:
            cells.pop()
        if cells:
            yield Row(line, tuple(" ".join(c.split()) for c in cells), comment.strip())


def number(text: str) -> int | None:
    """A whole number, also when written `224.0` or `1e3`; None where the text is no such thing."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if abs(value) < 2**53 and value == int(value) else None


def key_of(title: str) -> str:
    """A column title without case, spaces and punctuation: `IFMAP Height` and `ifmap_height` agree."""
    return re.sub(r"[^a-z0-9]", "", title.lower())


def split_header(table: list[Row]) -> tuple[Row | None, list[Row]]:
    """The header, if there is one, and the other rows.

    It is the first row with more than one cell, if none of them but the first may be a number; a
    title may stand above it.
    """
    for index, row in enumerate(table):
        if len(row.cells) > 1:
            if any(number(cell) is not None for cell in row.cells[1:]):
                break
            return row, table[:index] + table[index + 1 :]
    return None, table


def find_columns(
    header: Row | None, names: Mapping[str, Sequence[str]], positions: dict[str, int]
) -> dict[str, int]:
    """Column of each field: by the header's titles if they name all of `positions`, else by place.

    `names` maps a field to the titles (as `key_of` gives them) it goes by. Fields outside `positions`
    are optional and found by title only.
    """
    titles = [key_of(cell) for cell in header.cells] if header else []
    found: dict[str, int] = {}
    for field, known in names.items():
        matches = [i for i, title in enumerate(titles) if title in known]
        if len(matches) == 1:
            found[field] = matches[0]
    if set(positions) <= set(found):
        return found
    optional = {f: c for f, c in found.items() if f not in positions}
    taken = set(positions.values())
    return positions | {f: c for f, c in optional.items() if c not in taken}


def sizes(
    path: str | os.PathLike[str], row: Row, columns: dict[str, int], fields: Iterable[str]
) -> dict[str, int] | str:
    """The named fields of a row as positive numbers, or why the row cannot be read as a layer.

    A size out of range is an `InputError`: such a row is a layer, and dropping it would change the
    network without a trace in its totals.
    """
    result = {}
    for field in fields:
        text = row.cell(columns.get(field))
        value = number(text)
        if value is None:
            return f"{field} is {text!r}, not a whole number" if text else f"{field} is missing"
        result[field] = value
    for field, value in result.items():
        _check(path, row, field, value, least=1)
    return result


def optional(
    path: str | os.PathLike[str],
    row: Row,
    columns: dict[str, int],
    field: str,
    least: int,
    odd: list[str],
) -> int | None:
    """A field that may be absent or empty; text in it is odd, a number out of range is refused."""
    text = row.cell(columns.get(field))
    if not text:
        return None
    value = number(text)
    if value is None:
        odd.append(f"{field} is {text!r}, not a whole number; ignored")
        return None
    _check(path, row, field, value, least)
    return value


def _check(path: str | os.PathLike[str], row: Row, field: str, value: int, least: int) -> None:
    if not least <= value <= MAX_SIZE:
        raise InputError(
            f"{path}:{row.line}: {field} is {value}; it must be from {least} to {MAX_SIZE}"
        )


def unused_columns(header: Row | None, used: Iterable[int]) -> set[int]:
    """Columns whose titles say that they do not concern a layer's shape."""
    titles = enumerate(header.cells) if header else ()
    return {i for i, t in titles if i not in set(used) and _UNUSED.fullmatch(key_of(t))}


def unused_note(header: Row | None, unused: set[int]) -> list[str]:
    """A note that names those columns, if there are any."""
    names = ", ".join(header.cells[i] for i in sorted(unused)) if header else ""
    return [f"columns not used: {names}"] if names else []


def unknown_cells(row: Row, known: set[int], odd: list[str]) -> None:
    """Cells in columns that nothing is known about are odd."""
    cells = [cell for i, cell in enumerate(row.cells) if cell and i not in known]
    if cells:
        odd.append(f"ignored {', '.join(map(repr, cells))} in columns without a known title")
