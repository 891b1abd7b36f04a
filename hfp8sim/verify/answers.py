"""Answers of a unit of your own, compared with the C reference (docs/vectors.md).

A file of vectors names its unit, profile and phase. So its operands can be computed again: the results in the file
may come from any unit. Bits that the specification does not define are not compared.
"""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfp8sim.errors import InputError
from hfp8sim.formats import MODES
from hfp8sim.verify import c_reference
from hfp8sim.verify.check import Result
from hfp8sim.verify.coverage import Coverage
from hfp8sim.verify.vectors import DOT_LENGTH, UNITS, Field, Request, dot_parts, request
from hfp8sim.workloads.readers.npz import load_arrays

#: Values of a character in `_DIGITS`: a digit that is unknown to a simulator, and what is no digit.
_UNKNOWN, _OTHER = 16, 17
_DIGITS = np.full(256, _OTHER, np.uint8)
for _digit, _character in enumerate("0123456789abcdef"):
    _DIGITS[[ord(_character), ord(_character.upper())]] = _digit
_DIGITS[[ord(character) for character in "xXzZ?"]] = _UNKNOWN
#: Fields that a unit answers, and fields that follow from the others.
_ANSWERS, _MASKS = ("result", "flags"), ("reads", "care")


@dataclasses.dataclass(frozen=True)
class VectorFile:
    """A file of vectors: what it says of itself, and its fields as they are in the file."""

    path: Path
    request: Request
    about: dict[str, Any]
    columns: dict[str, NDArray[np.uint32]]  #: by field: (n,), or (n, count)
    unknown: dict[str, NDArray[np.bool_]]  #: by answer, where a digit is x or z

    def __len__(self) -> int:
        return len(self.columns["result"])


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What `compare` found."""

    results: list[tuple[str, Result]]  #: by rounding mode; one row for `dot`
    coverage: Coverage

    @property
    def differed(self) -> int:
        """Vectors whose answer is wrong."""
        return sum(result.differed for _, result in self.results)


# -- reading -----------------------------------------------------------------------------------------


def read_vectors(path: str | Path) -> VectorFile:
    """Read `UNIT.hex` or `UNIT.npz`, of this version or an older one.

    Raises:
        InputError: the file cannot be read, or is not one of vectors; its profile is unknown.
    """
    path = Path(path)
    if path.suffix == ".npz":
        return _read_npz(path)
    lines = _lines(path)
    head = re.match(r"// (\w+): (\{.*\})$", lines[0]) if lines else None
    if not head or head[1] not in UNITS:
        raise InputError(
            f"{path}: line 1 must be the comment `// UNIT: {{arguments}}` of a vector file"
        )
    about, asked = _asked(path, head[1], head[2])
    fields = [_placed(path, asked, *match.groups()) for match in map(_FIELD.match, lines) if match]
    digits = _digits(path, lines, sum(field.digits * field.count for field in fields))
    columns, unknown, first = {}, {}, 0
    for field in fields:
        last = first + field.digits * field.count
        part = digits[:, first:last].reshape(len(digits), field.count, field.digits)
        columns[field.name] = _numbers(part)
        unknown[field.name] = (part == _UNKNOWN).any(axis=(1, 2))
        if field.name not in _ANSWERS and unknown[field.name].any():
            raise InputError(
                f"{path}: vector {int(np.argmax(unknown[field.name]))}: {field.name} has a digit x"
            )
        first = last
    return _checked(VectorFile(path, asked, about, columns, unknown))


_FIELD = re.compile(r"// \[(\d+):(\d+)\] (\w+)(?: = (\d+) × \d+ bits)?")


def _placed(path: Path, asked: Request, high: str, low: str, name: str, count: str | None) -> Field:
    """The field of a comment line."""
    for field in asked.fields():
        if field.name == name:
            numbers = int(count or 1)
            if 4 * field.digits * numbers == int(high) - int(low) + 1 and numbers == field.count:
                return field
    raise InputError(
        f"{path}: {asked.unit} of {asked.profile.name} has no field {name} [{high}:{low}]"
    )


def _read_npz(path: Path) -> VectorFile:
    columns = load_arrays(path)
    unit, about, _ = (str(columns.pop(name, "")) for name in ("unit", "about", "coverage"))
    if unit not in UNITS:
        raise InputError(f"{path} is not a file of vectors")
    stated, asked = _asked(path, unit, about)
    no = np.zeros(columns["result"].size if "result" in columns else 0, np.bool_)
    return _checked(VectorFile(path, asked, stated, columns, dict.fromkeys(columns, no)))


def _asked(path: Path, unit: str, about: str) -> tuple[dict[str, Any], Request]:
    try:
        stated = json.loads(about)
        profile, phase = stated["profile"], stated["phase"]
        if not isinstance(profile, str) or not isinstance(phase, str):
            raise TypeError
    except (ValueError, KeyError, TypeError):
        raise InputError(
            f"{path}: its arguments must be a JSON object with profile and phase"
        ) from None
    try:
        asked = request(unit, profile, phase=phase)
        order = stated.get("sum_order", asked.sum_order)
        if order != asked.sum_order:
            profile = asked.profile.replace(sum_order=order, products_per_step=2)
            asked = dataclasses.replace(asked, profile=profile)
        bits = stated.get("random_bits", asked.profile.random_bits)
        if bits != asked.profile.random_bits:
            asked = dataclasses.replace(asked, profile=asked.profile.replace(random_bits=bits))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return stated, asked


def _checked(file: VectorFile) -> VectorFile:
    """The file, if it has the fields of its unit with numbers that they can hold; the numbers as uint32.

    The C reference computes with what it is given: it must get no other numbers.
    """
    size, columns = len(file.unknown.get("result", ())), {}
    for field in file.request.fields():
        column = file.columns.get(field.name)
        if column is None and field.name in (*_MASKS, "flags"):
            continue
        shape = (size, field.count) if field.count > 1 else (size,)
        if column is None or column.dtype.kind not in "ui" or column.shape != shape or not size:
            raise InputError(
                f"{file.path}: it must have whole numbers of shape {shape} for {field.name}"
            )
        limit = len(MODES) if field.name == "mode" else 1 << field.bits
        limit = 1 << 32 if field.name in _ANSWERS else limit
        outside = (column < 0) | (column >= limit)
        if outside.any():
            row = int(np.argmax(outside.reshape(size, -1).any(axis=1)))
            raise InputError(f"{file.path}: vector {row}: {field.name} must be 0..{limit - 1:#x}")
        columns[field.name] = column.astype(np.uint32)
    return dataclasses.replace(file, columns=columns)


def with_answers(file: VectorFile, path: str | Path) -> VectorFile:
    """The vectors of `file` with the answers of another file: a line each, `RESULT` or `RESULT_FLAGS` in hexadecimal.

    Raises:
        InputError: it cannot be read, or has another number of lines or digits.
    """
    path = Path(path)
    fields = {field.name: field for field in file.request.fields()}
    width, lines = fields["result"].digits, _lines(path)
    flags = "flags" in fields and _width(lines) > width
    digits = _digits(path, lines, width + flags)
    if len(digits) != len(file):
        raise InputError(f"{path}: {len(digits)} answers; {file.path} has {len(file)} vectors")
    parts = {"result": digits[:, :width]} | ({"flags": digits[:, width:]} if flags else {})
    columns = {name: column for name, column in file.columns.items() if name not in _ANSWERS}
    columns |= {name: _numbers(part[:, None]) for name, part in parts.items()}
    unknown = {name: (part == _UNKNOWN).any(axis=1) for name, part in parts.items()}
    return dataclasses.replace(file, columns=columns, unknown=unknown)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").splitlines()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not a text file") from None


_PARTED = str.maketrans("", "", "_ \t")


def _width(lines: list[str]) -> int:
    """Digits of the first line that has any."""
    return next((len(line.translate(_PARTED)) for line in lines if _is_row(line)), 0)


def _is_row(line: str) -> bool:
    return bool(line.strip()) and not line.startswith(("//", "#"))


def _digits(path: Path, lines: list[str], width: int) -> NDArray[np.uint8]:
    """The digits of all rows, (n, width)."""
    rows = [line.translate(_PARTED) for line in lines if _is_row(line)]
    text = "".join(rows).encode("ascii", "replace")
    if not rows:
        raise InputError(f"{path}: it has no vectors")
    if any(len(row) != width for row in rows):
        n, row = next((n, row) for n, row in enumerate(rows) if len(row) != width)
        raise InputError(f"{path}: vector {n} has {len(row)} digits; must be {width}")
    digits = _DIGITS[np.frombuffer(text, np.uint8)].reshape(len(rows), width)
    if (digits == _OTHER).any():
        n = int(np.argmax((digits == _OTHER).any(axis=1)))
        raise InputError(f"{path}: vector {n}: {rows[n]!r} is not hexadecimal")
    return digits


def _numbers(digits: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Numbers of digits (n, count, digits): (n, count), or (n,) for one. Unknown digits are 0."""
    known = np.where(digits == _UNKNOWN, 0, digits).astype(np.uint32)
    shifts = 4 * np.arange(digits.shape[-1] - 1, -1, -1, dtype=np.uint32)
    numbers = np.bitwise_or.reduce(known << shifts, axis=-1)
    return np.asarray(numbers[:, 0] if numbers.shape[1] == 1 else numbers)


# -- comparing ---------------------------------------------------------------------------------------


def compare(file: VectorFile, flags: bool = True) -> Comparison:
    """Compare the answers in a file with those of the C reference, in the bits that are defined.

    Args:
        file: vectors with answers.
        flags: compare the flags too, where the file has any.
    """
    expected, coverage = _expected(file)
    fields = {field.name: field for field in file.request.fields()}
    care = expected.get("care", np.uint32((1 << fields["result"].bits) - 1))
    wrong = ((file.columns["result"] ^ expected["result"]) & care != 0) | file.unknown["result"]
    flags = flags and "flags" in file.columns
    if flags:
        wrong |= (file.columns["flags"] != expected["flags"]) | file.unknown["flags"]
    modes = file.columns.get("mode")
    results = []
    for mode in [None] if modes is None else np.unique(modes):
        chosen = wrong if mode is None else wrong & (modes == mode)
        tried = len(file) if mode is None else int((modes == mode).sum())
        first = _difference(file, expected, int(np.argmax(chosen)), flags) if chosen.any() else ""
        name = file.request.profile.rounding if mode is None else MODES[mode]
        results.append((f"{file.request.unit} {name}", Result(tried, int(chosen.sum()), first)))
    return Comparison(results, coverage)


def _expected(file: VectorFile) -> tuple[dict[str, NDArray[np.uint32]], Coverage]:
    """The reference's fields for the operands of a file."""
    ffi, lib = c_reference.library()
    asked, record = file.request, file.request.record()
    width = 2 * DOT_LENGTH + 1 if asked.unit == "dot" else ffi.sizeof("ref_vector") // 4
    rows = np.zeros((len(file), width), np.uint32)
    for field in asked.fields():
        if field.name not in (*_ANSWERS, *_MASKS):
            place = rows[:, field.offset : field.offset + field.count]
            place[...] = file.columns[field.name].reshape(place.shape)
    covered = ffi.new("ref_coverage[2]")
    if asked.unit == "dot":
        profile = ffi.addressof(record, "profile")
        for start, stop, counts in dot_parts(0, len(rows), covered):
            pointer = c_reference.pointer(rows[start:stop])
            c_reference.check_memory(
                lib.ref_dot_answers(profile, start, stop - start, DOT_LENGTH, pointer, counts)
            )
    else:
        out = ffi.cast("ref_vector *", c_reference.pointer(rows))
        lib.ref_vector_answers(record, len(rows), out, covered)
    columns = {field.name: rows[:, field.offset] for field in asked.fields()}
    if asked.unit == "dot":
        return columns, asked.coverage([covered])
    modes = tuple(MODES[mode] for mode in np.unique(file.columns["mode"]))
    return columns, dataclasses.replace(asked, modes=modes).coverage([covered])


def _difference(
    file: VectorFile, expected: dict[str, NDArray[np.uint32]], row: int, flags: bool
) -> str:
    """Vector number `row` in words."""
    operands, answers = [], []
    for field in file.request.fields():
        name = field.name
        if name in _ANSWERS:
            if name == "result" or flags:
                digits = f"0{field.digits}x"
                unknown = file.unknown[name][row]
                answer = "unknown" if unknown else f"{int(file.columns[name][row]):{digits}}"
                answers.append(f"{name} {answer} ≠ {int(expected[name][row]):{digits}}")
        elif name not in _MASKS and field.count <= 2:
            numbers = np.atleast_1d(file.columns[name][row])
            operands.append(f"{name} {' '.join(f'{int(n):0{field.digits}x}' for n in numbers)}")
    return f"vector {row}: {', '.join(operands + answers)}"
