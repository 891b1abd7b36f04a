"""Planted bugs: their TOML files, and the places in the sources that they name.

`tests/mutants/<room>.toml` holds one `[[bug]]` table per planted bug. Its keys are the fields of `Bug`.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import json
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent
#: A function of the C reference: its first line starts in column 0, and so does its closing brace.
_C_FUNCTION = re.compile(r"^[A-Za-z_][^;{}#]*?\b(\w+)\([^;{}]*\)\s*\{.*?^\}", re.M | re.S)


class PlaceError(ValueError):
    """A bug cannot be planted: its file, its function or its text is not there exactly once."""


@dataclasses.dataclass(frozen=True)
class Bug:
    """One planted bug: a change of one place, and the tests that must fail after it."""

    what: str  #: the mistake, in words
    file: str  #: relative to the repository's root
    function: str  #: qualified name of the function or class that is changed; "" for the whole file
    old: str  #: occurs exactly once in that function
    new: str
    tests: tuple[str, ...]  #: pytest's names; without parameters: at least one parameter set fails
    compiled: bool = False  #: the tests run with Numba's compiler
    c: bool = False  #: the C reference is built again

    @property
    def room(self) -> str:
        """The room whose file is changed, and the name of the TOML file."""
        return room_of(self.file)


def room_of(file: str) -> str:
    """The room of a source file: `hfp8sim/units/mac.py` is in `units`, `c_ref/mac.c` in `c_ref`."""
    parts = file.split("/")
    return parts[1].removesuffix(".py") if parts[0] in ("hfp8sim", "tests") else parts[0]


# -- places


def python_functions(text: str) -> list[tuple[str, int, int]]:
    """Functions and classes of a Python source: (qualified name, first character, end)."""
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found: list[tuple[str, int, int]] = []

    def visit(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            name = prefix
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name = f"{prefix}.{child.name}" if prefix else child.name
                first = min([child.lineno, *(d.lineno for d in child.decorator_list)])
                found.append((name, starts[first - 1], starts[child.end_lineno or first]))
            visit(child, name)

    visit(ast.parse(text), "")
    return found


@functools.cache
def functions(path: Path, text: str) -> list[tuple[str, int, int]]:
    """`python_functions` of a Python source, or the same of a C source."""
    if path.suffix == ".py":
        return python_functions(text)
    return [(match[1], match.start(), match.end()) for match in _C_FUNCTION.finditer(text)]


def place(root: Path, bug: Bug) -> tuple[Path, str, int]:
    """Where a bug is planted: (path, its text, first character of `bug.old`). Raises PlaceError."""
    path = root / bug.file
    if not path.is_file():
        raise PlaceError(f"{bug.what}: there is no file {bug.file}")
    text = path.read_text(encoding="utf-8")
    spans = [(0, len(text))]
    if bug.function:
        spans = [span for name, *span in functions(path, text) if name == bug.function]
    if not spans:
        raise PlaceError(f"{bug.what}: {bug.file} has no function {bug.function}")
    starts = {
        match.start()
        for first, end in spans
        for match in re.finditer(f"(?={re.escape(bug.old)})", text[:end])
        if match.start() >= first and match.start() + len(bug.old) <= end
    }
    if len(starts) != 1:
        where = f"{bug.file}, {bug.function or 'the whole file'}"
        raise PlaceError(f"{bug.what}: {bug.old!r} is {len(starts)} times in {where}, not once")
    return path, text, starts.pop()


def plant(root: Path, bug: Bug) -> None:
    """Change one place of a copy of the repository. Raises PlaceError."""
    path, text, start = place(root, bug)
    path.write_text(text[:start] + bug.new + text[start + len(bug.old) :], encoding="utf-8")


# -- TOML


def load() -> list[Bug]:
    """All planted bugs, by room and in the order of their files."""
    return [bug for path in sorted(FOLDER.glob("*.toml")) for bug in load_file(path)]


def load_file(path: Path) -> list[Bug]:
    """The planted bugs of one TOML file."""
    rows = tomllib.loads(path.read_text(encoding="utf-8")).get("bug", [])
    return [Bug(**{"function": "", **row, "tests": tuple(row["tests"])}) for row in rows]


def dump(bugs: Iterable[Bug]) -> None:
    """Write all TOML files anew: every bug in the file of its room, in the order given.

    The comment at the head of a file stays; comments between its bugs do not. A file without bugs is removed.
    """
    rooms: dict[str, list[Bug]] = {path.stem: [] for path in FOLDER.glob("*.toml")}
    for bug in bugs:
        rooms.setdefault(bug.room, []).append(bug)
    for room, rows in rooms.items():
        path = FOLDER / f"{room}.toml"
        if not rows:
            path.unlink()
            continue
        head = f"# Planted bugs in {room}; tests/mutants/bugs.py explains the keys.\n"
        if path.is_file():
            head = path.read_text(encoding="utf-8").partition("\n[[bug]]")[0]
        path.write_text(head + "".join("\n" + toml(bug) for bug in rows), encoding="utf-8")


def toml(bug: Bug) -> str:
    """One bug as a TOML table; fields that have their default are left out."""
    lines = ["[[bug]]"]
    for field in dataclasses.fields(bug):
        value = getattr(bug, field.name)
        if value != field.default:
            lines.append(f"{field.name} = {_toml_value(value)}")
    return "\n".join(lines) + "\n"


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        if len(value) == 1:
            return f"[{_toml_value(value[0])}]"
        return "[\n" + "".join(f"    {_toml_value(v)},\n" for v in value) + "]"
    if "\n" in value and "'''" not in value:
        return f"'''\n{value}'''"
    if '"' not in value and "\\" not in value and "\n" not in value:
        return f'"{value}"'
    if "'" not in value and "\n" not in value:
        return f"'{value}'"
    return json.dumps(value, ensure_ascii=False)


# -- renaming


def renamed(bugs: Iterable[Bug], old: str, new: str, within: str = "") -> list[Bug]:
    """The bugs after a rename in the sources.

    `old` and `new` are both paths (a file or folder is moved), both `path::name` (a function, a method or a
    test is renamed or moved), or both identifiers (a name is replaced wherever a bug mentions it). A bug is
    left alone unless `within` occurs in its file.
    """
    if ("::" in old) != ("::" in new) or ("/" in old) != ("/" in new):
        raise ValueError("OLD and NEW must be two paths, two path::name, or two identifiers")
    return [_renamed(bug, old, new) if within in bug.file else bug for bug in bugs]


def _renamed(bug: Bug, old: str, new: str) -> Bug:
    if "::" in old:
        place = _moved(f"{bug.file}::{bug.function}", old, new, ".")
        file, function = place.split("::")
        tests = tuple(_moved(test, old, new, "[") for test in bug.tests)
        return dataclasses.replace(bug, file=file, function=function, tests=tests)
    if "/" in old:
        tests = tuple(_moved(test, old, new, "/", "::") for test in bug.tests)
        return dataclasses.replace(bug, file=_moved(bug.file, old, new, "/"), tests=tests)
    word = re.compile(rf"(?<!\w){re.escape(old)}(?!\w)")

    def replace(text: str) -> str:
        return word.sub(lambda _: new, text)

    def in_name(test: str) -> str:
        file, separator, name = test.partition("::")
        return file + separator + replace(name)

    return dataclasses.replace(
        bug,
        function=replace(bug.function),
        old=replace(bug.old),
        new=replace(bug.new),
        tests=tuple(in_name(test) for test in bug.tests),
    )


def _moved(name: str, old: str, new: str, *separators: str) -> str:
    """`name` with its beginning `old` replaced, where `old` ends at a separator or at the end."""
    if name == old or name.startswith(tuple(old + separator for separator in separators)):
        return new + name[len(old) :]
    return name
