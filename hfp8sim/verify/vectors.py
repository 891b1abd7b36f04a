"""Test vectors for hardware designs of the units: one line is one case (docs/vectors.md).

The C reference draws the operands and computes the results (`ref_vectors` in `c_ref/hfp8_ref.h`). A vector set is a
table of its rows; a column is a field of the vector. The same set is written as text that Verilog's `$readmemh`
reads, and as .npz. Equal arguments (unit, profile, phase, modes, count, seed) give equal sets.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from hfp8sim.errors import InputError, unknown
from hfp8sim.files import write_whole
from hfp8sim.formats import MODES, FloatFormat, get_format
from hfp8sim.formats.vocabulary import mode_number, overflow_number
from hfp8sim.units import Profile, get_profile
from hfp8sim.units.mac import SumOrder
from hfp8sim.verify import c_reference
from hfp8sim.verify.coverage import Coverage, Covered, Stage
from hfp8sim.version import __version__

#: Widths in bits of the fields that are not codes.
MODE_BITS, RANDOM_BITS, FLAG_BITS = 4, 24, 4
#: Products of a `dot` vector: two chunks of 64, and two more.
DOT_LENGTH = 130
#: Vectors of a `dot` set whose coverage is counted: that takes longer than to make them.
DOT_COVERED = 4096
#: The units, by name, with what a vector is. Their order gives the numbers in the key of the operands.
UNITS = {
    "convert": "binary32 to the operand format, saturating as the profile defines",
    "fma": "one step of one product: result = round(acc + a·b)",
    "fmma": "one step of two products, in the profile's sum order",
    "add": "the running total of chunks: result = round(total + chunk)",
    "dot": f"a whole dot product of {DOT_LENGTH} pairs through the chunk accumulator, as the profile rounds",
}
#: Rows that one call into C makes, and one call writes as text.
_ROWS = 1 << 16


@dataclasses.dataclass(frozen=True)
class Field:
    """A field of a vector: `count` numbers of `bits` bits; in text each takes whole hexadecimal digits."""

    name: str
    bits: int
    meaning: str
    offset: int  #: of the first number in a row
    count: int = 1

    @property
    def digits(self) -> int:
        """Hexadecimal digits of one number."""
        return -(-self.bits // 4)


@dataclasses.dataclass(frozen=True)
class VectorSet:
    """Vectors of one unit."""

    unit: str
    fields: tuple[Field, ...]
    rows: NDArray[np.uint32]  #: (n, words): `Field.offset` says which word is what
    about: dict[str, Any]  #: the version, and the arguments that give this set
    coverage: Coverage  #: of `dot`, that of the first `DOT_COVERED` vectors

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def columns(self) -> dict[str, NDArray[np.uint32]]:
        """By field, uint32: (n,), or (n, count) for a field of several numbers."""
        return {field.name: self.column(field) for field in self.fields}

    def column(self, field: Field) -> NDArray[np.uint32]:
        """The numbers of a field: (n,), or (n, count)."""
        if field.count == 1:
            return self.rows[:, field.offset]
        return self.rows[:, field.offset : field.offset + field.count]

    @property
    def width(self) -> int:
        """Bits of a line, and of a word of the Verilog memory."""
        return sum(4 * field.digits * field.count for field in self.fields)

    def header(self) -> list[str]:
        """The comment lines: arguments, declaration of the memory, bits of each field, coverage."""
        head = [
            f"{self.unit}: {json.dumps(self.about)}",
            f"reg [{self.width - 1}:0] vectors [0:{len(self) - 1}];",
        ]
        top = self.width
        for field in self.fields:
            low = top - 4 * field.digits * field.count
            parts = (
                f" = {field.count} × {4 * field.digits} bits, first one highest"
                if field.count > 1
                else ""
            )
            head.append(f"[{top - 1}:{low}] {field.name}{parts}: {field.meaning}")
            top = low
        head += self.coverage.lines()
        return [f"// {line}" for line in head]

    def text(self) -> Iterator[bytes]:
        """The whole text in pieces: the header, then one vector per line."""
        yield ("\n".join(self.header()) + "\n").encode()
        for first in range(0, len(self), _ROWS):
            yield self._lines(self.rows[first : first + _ROWS])

    def lines(self) -> list[str]:
        """The lines of the text."""
        return b"".join(self.text()).decode().splitlines()

    def _lines(self, rows: NDArray[np.uint32]) -> bytes:
        ffi, lib = c_reference.library()
        length = len(rows) * (self.width // 4 + len(self.fields))
        out = bytearray(length)
        offsets, counts, digits = (
            ffi.new("int32_t[]", [getattr(field, name) for field in self.fields])
            for name in ("offset", "count", "digits")
        )
        lib.ref_vector_text(
            c_reference.pointer(rows), len(rows), self.rows.shape[1], offsets, counts, digits,
            len(self.fields), ffi.from_buffer("char[]", out, require_writable=True),
        )  # fmt: skip
        return bytes(out)

    def write_text(self, path: str | Path) -> Path:
        """Write the `$readmemh` file."""
        return write_whole(path, lambda file: file.writelines(self.text()), binary=True)

    def write_npz(self, path: str | Path) -> Path:
        """Write the .npz: one array per field, and `about` and `coverage` as JSON text."""

        def write(file: IO[bytes]) -> None:
            arrays: dict[str, Any] = {
                "unit": self.unit,
                "about": json.dumps(self.about),
                "coverage": json.dumps(self.coverage.groups),
                **self.columns,
            }
            np.savez(file, **arrays)

        return write_whole(path, write, binary=True)


# -- requests ----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Request:
    """The arguments of `vectors`, with names resolved to records."""

    unit: str
    profile: Profile
    phase: str
    modes: tuple[str, ...]
    seed: int = 0

    @property
    def operands(self) -> tuple[FloatFormat, FloatFormat]:
        """Formats of a and b."""
        return self.profile.operand_formats(self.phase)

    @property
    def overflow(self) -> str:
        """The policy of the unit's roundings."""
        converts = self.unit == "convert"
        return self.profile.operand_overflow if converts else self.profile.overflow

    @property
    def sum_order(self) -> str:
        """Of `fmma`: the profile's, but for aligned sums, whose steps are not of two products."""
        return self.profile.sum_order if self.profile.sum_order != "aligned" else "fused"

    @property
    def draws(self) -> int:
        """Random numbers of a step."""
        return SumOrder.of(self.sum_order).roundings if self.unit == "fmma" else 1

    @property
    def result(self) -> FloatFormat:
        """The format of the result."""
        p = self.profile
        if self.unit == "convert":
            return self.operands[0]
        if self.unit == "dot":
            return p.result_format
        return get_format(p.between_chunks if self.unit == "add" else p.accumulator)

    def record(self) -> Any:
        """A `ref_vector_request *`."""
        ffi, lib = c_reference.library()
        profile = self.profile
        if self.unit == "fmma":
            order = self.sum_order
            profile = profile.replace(sum_order=order, products_per_step=2, guard_bits=0)
        record = ffi.new("ref_vector_request *")
        record.profile = c_reference.c_profile(profile, *self.operands)[0]
        record.unit = min(list(UNITS).index(self.unit), 3)
        record.overflow = overflow_number(self.overflow)
        record.random_bits = profile.random_bits
        record.mode_count = len(self.modes)
        record.modes = [mode_number(mode) for mode in self.modes]
        record.key = lib.ref_key(self.seed, 0, 1 << 32 | list(UNITS).index(self.unit))
        problem = lib.ref_vector_problem(record)
        if problem != ffi.NULL:
            raise InputError(f"profile {profile.name}: {ffi.string(problem).decode()}")
        return record

    def fields(self) -> tuple[Field, ...]:
        """The fields of a vector in the order of the text, with their places in a row."""
        if self.unit == "dot":
            return self._dot_fields()
        place = c_reference.word_offsets("ref_vector")
        r, result = self.profile.random_bits, self.result
        modes = ", ".join(f"{i} {mode}" for i, mode in enumerate(MODES))
        pair = 2 if self.unit == "fmma" else 1
        random = f"the {r} random bits of a stochastic rounding, else 0"
        return (
            Field("reads", 4, "bit k: the rounding reads number k of random", place["reads"]),
            Field("care", result.bits, "the bits of result that are defined", place["care"]),
            Field("mode", MODE_BITS, modes, place["mode"]),
            Field("random", RANDOM_BITS, random, place["random"], pair),
            *self._operand_fields(place, pair),
            Field("result", result.bits, f"{result.name} code", place["result"]),
            Field("flags", FLAG_BITS, "8 invalid, 4 underflow, 2 overflow, 1 inexact", place["flags"]),
        )  # fmt: skip

    def _operand_fields(self, place: dict[str, int], pair: int) -> tuple[Field, ...]:
        result = self.result
        if self.unit == "convert":
            return (Field("x", 32, "binary32", place["a"]),)
        if self.unit == "add":
            chunk = get_format(self.profile.accumulator)
            return (
                Field("total", result.bits, f"{result.name} code", place["acc"]),
                Field("chunk", chunk.bits, f"{chunk.name} code", place["a"]),
            )
        codes = "codes" if pair == 2 else "code"
        a, b = self.operands
        return (
            Field("a", a.bits, f"{a.name} {codes}", place["a"], pair),
            Field("b", b.bits, f"{b.name} {codes}", place["b"], pair),
            Field("acc", result.bits, f"{result.name} code", place["acc"]),
        )

    def _dot_fields(self) -> tuple[Field, ...]:
        a, b = self.operands
        return (
            Field("a", a.bits, f"{a.name} codes, k ascending", 0, DOT_LENGTH),
            Field("b", b.bits, f"{b.name} codes, k ascending", DOT_LENGTH, DOT_LENGTH),
            Field("result", self.result.bits, f"{self.result.name} code", 2 * DOT_LENGTH),
        )

    def about(self, count: int) -> dict[str, Any]:
        """What a file says of its origin."""
        about = {
            "hfp8sim": __version__, "profile": self.profile.name, "phase": self.phase,
            "overflow": self.overflow, "random_bits": self.profile.random_bits, "count": count,
            "seed": self.seed, "modes": list(self.modes),
        }  # fmt: skip
        return about | ({"sum_order": self.sum_order} if self.unit == "fmma" else {})

    def coverage(self, counts: Sequence[Any]) -> Coverage:
        """The sum of several `ref_coverage[2]`, with names; of units but `dot` the second ones are zero."""
        first, second = (_total([pair[i] for pair in counts]) for i in range(2))
        chunk = get_format(self.profile.accumulator)
        if self.unit == "dot":
            return Coverage.of_dot(self._stages(chunk, first, second))
        modes = tuple(sorted({mode_number(mode) for mode in self.modes}))
        operands = (chunk,) if self.unit == "add" else self.operands
        covered = Covered(self.unit, modes, self.result, operands, self.overflow, self.draws == 1)
        return Coverage.of_unit(covered, first)

    def _stages(
        self, accumulator: FloatFormat, steps: dict[str, Any], additions: dict[str, Any]
    ) -> Iterator[Stage]:
        """The stages of a `dot` in which numbers are added."""
        p = self.profile
        count, chunk = p.products_per_step, p.chunk_length
        unit = "fma" if count == 1 else "products"
        modes = (mode_number(p.rounding),)
        of_steps = Covered(unit, modes, accumulator, self.operands, self.overflow)
        yield Stage("step", of_steps, steps, is_first=count == 0 or 0 < chunk <= count)
        if 0 < chunk < DOT_LENGTH:
            between, modes = get_format(p.between_chunks), (mode_number(p.between_rounding),)
            of_additions = Covered("add", modes, between, (accumulator,), self.overflow)
            yield Stage("total", of_additions, additions)


def _total(records: Iterable[Any]) -> dict[str, NDArray[np.uint64]]:
    """The sum of some `ref_coverage`, by group."""
    ffi, _ = c_reference.library()
    total: dict[str, NDArray[np.uint64]] = {}
    for record in records:
        for group, _ in ffi.typeof("ref_coverage").fields:
            part = np.array(list(getattr(record, group)), np.uint64)
            total[group] = total[group] + part if group in total else part
    return total


def request(
    unit: str,
    profile: str | Profile = "hfp8",
    *,
    phase: str = "fwd",
    modes: Sequence[str] | None = None,
    seed: int = 0,
) -> Request:
    """Check the arguments of `vectors`; raises `InputError` as it does."""
    if unit not in UNITS:
        raise unknown("unit", unit, list(UNITS))
    if not 0 <= seed < 1 << 64:
        raise InputError(f"seed is {seed}, must be 0 ≤ seed < 2^64")
    record = get_profile(profile)
    record.operand_formats(phase)
    chosen = tuple(MODES[mode_number(mode)] for mode in (modes or MODES))
    return Request(unit, record, phase, chosen, seed)


def vectors(
    unit: str,
    profile: str | Profile = "hfp8",
    *,
    phase: str = "fwd",
    modes: Sequence[str] | None = None,
    count: int = 4096,
    seed: int = 0,
    threads: int | None = None,
) -> VectorSet:
    """Make the vectors of a unit. Vector i does not depend on `count` or `threads`.

    Args:
        unit: one of `UNITS`.
        profile: formats, random bits per rounding, overflow policy, sum order.
        phase: whose operand formats: fwd, dgrad or wgrad.
        modes: rounding modes, in turn; all by default (those of `dot` are the profile's).
        count: vectors.
        seed: of the operands and random bits.
        threads: all cores by default.

    Raises:
        InputError: an unknown unit, profile, phase or mode, a count below 1, no C reference.
    """
    if count < 1:
        raise InputError(f"count is {count}, must be at least 1")
    q = request(unit, profile, phase=phase, modes=modes, seed=seed)
    ffi, lib = c_reference.library()
    record = q.record()
    words = 2 * DOT_LENGTH + 1 if unit == "dot" else ffi.sizeof("ref_vector") // 4
    rows = np.empty((count, words), np.uint32)

    def fill(first: int) -> Any:
        part, covered = rows[first : first + _ROWS], ffi.new("ref_coverage[2]")
        if unit == "dot":
            fill_dot(part, first, covered)
        else:
            out = ffi.cast("ref_vector *", c_reference.pointer(part))
            lib.ref_vectors(record, first, len(part), out, covered)
        return covered

    def fill_dot(part: NDArray[np.uint32], first: int, covered: Any) -> None:
        for start, stop, counts in dot_parts(first, len(part), covered):
            pointer = c_reference.pointer(part[start:stop])
            c_reference.check_memory(
                lib.ref_dot_vectors(
                    record, first + start, stop - start, DOT_LENGTH, pointer, counts
                )
            )

    covered = in_parts(fill, count, threads)
    return VectorSet(unit, q.fields(), rows, q.about(count), q.coverage(covered))


def dot_parts(first: int, count: int, covered: Any) -> Iterator[tuple[int, int, Any]]:
    """Rows of a part of a `dot` set, from and to, with the records that count their coverage, or NULL."""
    ffi, _ = c_reference.library()
    cut = min(max(DOT_COVERED - first, 0), count)
    for start, stop, counts in ((0, cut, covered), (cut, count, ffi.NULL)):
        if start < stop:
            yield start, stop, counts


def in_parts(work: Any, count: int, threads: int | None) -> list[Any]:
    """Call `work(first)` for each part of `_ROWS` rows, on several threads; the results in order."""
    from hfp8sim.ops import thread_count

    with ThreadPoolExecutor(thread_count(threads)) as pool:
        return list(pool.map(work, range(0, count, _ROWS)))


def write(
    folder: str | Path,
    units: Sequence[str] = tuple(UNITS),
    profile: str | Profile = "hfp8",
    **options: Any,
) -> list[Path]:
    """Write `UNIT.hex` and `UNIT.npz` for every unit into a folder; `options` are those of `vectors`."""
    sets = (vectors(unit, profile, **options) for unit in units)
    return [path for vector_set in sets for path in write_set(vector_set, folder)]


def write_set(
    vector_set: VectorSet, folder: str | Path, forms: Sequence[str] = ("hex", "npz")
) -> list[Path]:
    """Write a set into a folder as `UNIT.hex`, `UNIT.npz` or both; `InputError` for another form."""
    writers = {"hex": vector_set.write_text, "npz": vector_set.write_npz}
    for form in forms:
        if form not in writers:
            raise unknown("form", form, list(writers))
    return [writers[form](Path(folder) / f"{vector_set.unit}.{form}") for form in forms]
