"""Test vectors for hardware designs of the units: one line is one case (docs/vectors.md).

A vector set is a table; a column is a field of the vector. The same set is written as text that Verilog's
`$readmemh` reads, and as .npz. Equal arguments (unit, profile, phase, modes, count, seed) give equal sets.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from hfp8sim._numba.jit import jit
from hfp8sim.errors import InputError, unknown
from hfp8sim.files import write_whole
from hfp8sim.formats import MODES, FloatFormat, get_format
from hfp8sim.formats.codec import encode
from hfp8sim.formats.vocabulary import is_stochastic, mode_number, overflow_number
from hfp8sim.ops import gemm
from hfp8sim.testing.boundaries import boundary_values
from hfp8sim.units import Profile, get_profile
from hfp8sim.units.mac import (
    SUM_ORDERS,
    SumOrder,
    chain,
    fma,
    fmma,
    operand,
    pair_first,
    product,
)
from hfp8sim.units.random import fill_words, key
from hfp8sim.units.sums import Rounder

#: Widths in bits of the fields that are not codes.
MODE_BITS, RANDOM_BITS, FLAG_BITS = 4, 24, 4


@dataclasses.dataclass(frozen=True)
class Field:
    """A field of a vector: `count` numbers of `bits` bits; in text each takes whole hexadecimal digits."""

    name: str
    bits: int
    meaning: str
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
    columns: dict[str, NDArray[np.uint32]]  #: by field: (n,), or (n, count)
    about: dict[str, Any]  #: the arguments that the set was vector_set from

    def __len__(self) -> int:
        return len(self.columns[self.fields[0].name])

    @property
    def width(self) -> int:
        """Bits of a line, and of a word of the Verilog memory."""
        return sum(4 * field.digits * field.count for field in self.fields)

    def lines(self) -> list[str]:
        """The text: comments with the bit range of each field, then one vector per line."""
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
        rows = zip(*(self._text(field) for field in self.fields))
        return [f"// {line}" for line in head] + ["_".join(row) for row in rows]

    def _text(self, field: Field) -> list[str]:
        column = self.columns[field.name].reshape(len(self), field.count)
        return ["".join(f"{number:0{field.digits}x}" for number in row) for row in column.tolist()]

    def write_text(self, path: str | Path) -> Path:
        """Write the `$readmemh` file."""
        text = "\n".join(self.lines()) + "\n"
        return write_whole(path, lambda file: file.write(text))

    def write_npz(self, path: str | Path) -> Path:
        """Write the .npz: one array per field, and `about` as JSON text."""

        def write(file: IO[bytes]) -> None:
            arrays: dict[str, Any] = {
                "unit": self.unit,
                "about": json.dumps(self.about),
                **self.columns,
            }
            np.savez_compressed(file, **arrays)

        return write_whole(path, write, binary=True)


class _Source:
    """Words of the counter-based source, in order."""

    def __init__(self, seed: int, unit: str) -> None:
        if not 0 <= seed < 1 << 64:
            raise InputError(f"seed is {seed}, must be 0 ≤ seed < 2^64")
        site = 1 << 32 | list(UNITS).index(unit)  # no site of the emulator's own
        self._key = np.uint64(key(np.uint64(seed), np.uint64(0), np.uint64(site)))
        self._next = 0

    def words(self, *shape: int) -> NDArray[np.uint32]:
        """The next words."""
        words = np.empty(int(np.prod(shape)), np.uint32)
        fill_words(self._key, np.uint64(self._next), words)
        self._next += words.size
        return words.reshape(shape)

    def below(self, limit: int, *shape: int) -> NDArray[np.int64]:
        """Numbers below `limit`."""
        return (self.words(*shape).astype(np.uint64) * np.uint64(limit) >> np.uint64(32)).astype(
            np.int64
        )

    def codes(self, fmt: FloatFormat, *shape: int) -> NDArray[np.int64]:
        """Codes: half are any code, a quarter are numbers around 1, a quarter are next to the ends of the range."""
        f = fmt.facts
        sign = self.below(1 + fmt.signed, *shape) << (fmt.exponent_bits + fmt.fraction_bits)
        top = (1 << (fmt.exponent_bits + fmt.fraction_bits)) - 1
        near = max(fmt.bias - 8, 0) << fmt.fraction_bits
        edges = np.array([0, f.min_mag, f.normal_mag, f.max_mag - 1, f.max_mag, top])
        which = self.below(4, *shape)
        mags = np.where(
            which == 3,
            np.clip(edges[self.below(edges.size, *shape)], 0, top),
            np.where(
                which == 2,
                np.minimum(near + self.below(16 << fmt.fraction_bits, *shape), f.max_mag),
                self.below(top + 1, *shape),
            ),
        )
        return np.asarray(mags | sign)


@jit
def _fma_rows(a, b, acc, modes, random, fmt_a, fmt_b, fmt, policy, r, codes, flags):  # type: ignore[no-untyped-def]
    for i in range(codes.size):
        p = product(operand(a[i], fmt_a), operand(b[i], fmt_b))
        codes[i], flags[i] = fma(acc[i], p, Rounder(fmt, modes[i], policy, r, random[i]))


@jit
def _fmma_rows(a, b, acc, order, modes, random, fmt_a, fmt_b, fmt, policy, r, codes, flags):  # type: ignore[no-untyped-def]
    for i in range(codes.size):
        p = product(operand(a[i, 0], fmt_a), operand(b[i, 0], fmt_b))
        q = product(operand(a[i, 1], fmt_a), operand(b[i, 1], fmt_b))
        inner = Rounder(fmt, modes[i], policy, r, random[i, 0])
        outer = Rounder(fmt, modes[i], policy, r, random[i, 1])
        if order == SumOrder.PAIR_FIRST:
            code, first, second = pair_first(acc[i], p, q, inner, outer)
        elif order == SumOrder.CHAIN:
            code, first, second = chain(acc[i], p, q, inner, outer)
        else:
            code, first = fmma(acc[i], p, q, inner)
            second = 0
        codes[i], flags[i] = code, first | second


@jit
def _add_rows(totals, chunks, modes, random, chunk_fmt, fmt, policy, r, codes, flags):  # type: ignore[no-untyped-def]
    for i in range(codes.size):
        rounder = Rounder(fmt, modes[i], policy, r, random[i])
        codes[i], flags[i] = fma(totals[i], operand(chunks[i], chunk_fmt), rounder)


@dataclasses.dataclass(frozen=True)
class _Request:
    """The arguments of `vectors`, with names resolved to records."""

    profile: Profile
    a: FloatFormat
    b: FloatFormat
    modes: tuple[str, ...]
    count: int
    source: _Source

    @property
    def policy(self) -> int:
        return overflow_number(self.profile.overflow)

    def mode_column(self) -> NDArray[np.int64]:
        numbers = np.array([mode_number(mode) for mode in self.modes])
        return np.resize(numbers, self.count)

    def random_column(self, modes: NDArray[np.int64], *shape: int) -> NDArray[np.int64]:
        """Random integers where the mode draws any, else 0."""
        words = self.source.words(self.count, *shape) >> np.uint32(32 - self.profile.random_bits)
        draws = np.array([is_stochastic(int(mode)) for mode in modes]).reshape(
            self.count, *(1,) * len(shape)
        )
        return np.where(draws, words, 0).astype(np.int64)

    def accumulators(self, fmt: FloatFormat, addends: NDArray[np.float64]) -> NDArray[np.int64]:
        """Accumulator codes: half are any code, half are close to the addend, so that their bits overlap or cancel."""
        size = addends.shape
        finite = np.where(np.isfinite(addends), addends, 1.0)
        shift = self.source.below(24, *size) - 12
        sign = np.where(self.source.below(2, *size) == 0, -1.0, 1.0)
        near = fmt.encode(np.ldexp(finite, shift) * sign).astype(np.int64)
        top = (1 << fmt.bits) - 1
        near = np.clip(near + self.source.below(5, *size) - 2, 0, top)
        return np.where(self.source.below(2, *size) == 0, near, self.source.codes(fmt, *size))


def _tail(result: FloatFormat) -> tuple[Field, ...]:
    return (
        Field("result", result.bits, f"{result.name} code"),
        Field("flags", FLAG_BITS, "8 invalid, 4 underflow, 2 overflow, 1 inexact"),
    )


def _head(r: int, draws: int = 1) -> tuple[Field, ...]:
    return (
        Field("mode", MODE_BITS, ", ".join(f"{i} {mode}" for i, mode in enumerate(MODES))),
        Field(
            "random", RANDOM_BITS, f"the {r} random bits of a stochastic rounding, else 0", draws
        ),
    )


def _columns(**columns: NDArray[Any]) -> dict[str, NDArray[np.uint32]]:
    return {name: np.asarray(column).astype(np.uint32) for name, column in columns.items()}


def _convert(q: _Request) -> VectorSet:
    """binary32 to the operand format, saturating as the profile defines."""
    fmt, r = q.a, q.profile.random_bits
    near = boundary_values(fmt, limit=512)
    with np.errstate(over="ignore"):
        near = near[~np.isnan(near)].astype(np.float32)
    x = near[q.source.below(near.size, q.count)]
    bits = (
        x.view(np.uint32).astype(np.int64) + q.source.below(3, q.count) - 1
    )  # ±1 unit in the last place
    other = q.source.words(q.count).astype(np.int64)
    bits = np.where(q.source.below(3, q.count) == 0, other, bits) & 0xFFFFFFFF
    nan = (bits & 0x7F800000 == 0x7F800000) & (bits & 0x7FFFFF != 0)
    if not fmt.has_nan:
        bits = np.where(nan, 0x3F800000, bits)
    modes = q.mode_column()
    random = q.random_column(modes)
    codes, flags = np.zeros(q.count, np.uint32), np.zeros(q.count, np.uint8)
    with np.errstate(invalid="ignore"):
        values = bits.astype(np.uint32).view(np.float32).astype(np.float64)
    for mode in set(modes.tolist()):
        selected = modes == mode
        words = random[selected] if is_stochastic(int(mode)) else None
        codes[selected], flags[selected] = encode(
            values[selected], fmt, MODES[mode], q.profile.operand_overflow, words, r
        )
    fields = (
        *_head(r), Field("x", 32, "binary32"), *_tail(fmt),
    )  # fmt: skip
    return VectorSet(
        "convert",
        fields,
        _columns(mode=modes, random=random, x=bits, result=codes, flags=flags),
        {},
    )


def _fma(q: _Request) -> VectorSet:
    """One step of one product: result = round(acc + a·b)."""
    acc_fmt, r = get_format(q.profile.accumulator), q.profile.random_bits
    a, b = q.source.codes(q.a, q.count), q.source.codes(q.b, q.count)
    with np.errstate(invalid="ignore"):
        products = q.a.decode(a) * q.b.decode(b)
    acc, modes = q.accumulators(acc_fmt, products), q.mode_column()
    random = q.random_column(modes)
    codes, flags = np.empty(q.count, np.int64), np.empty(q.count, np.int64)
    _fma_rows(
        a, b, acc, modes, random, q.a.facts, q.b.facts, acc_fmt.facts, q.policy, r, codes, flags
    )
    fields = (
        *_head(r), Field("a", q.a.bits, f"{q.a.name} code"), Field("b", q.b.bits, f"{q.b.name} code"),
        Field("acc", acc_fmt.bits, f"{acc_fmt.name} code"), *_tail(acc_fmt),
    )  # fmt: skip
    columns = _columns(mode=modes, random=random, a=a, b=b, acc=acc, result=codes, flags=flags)
    return VectorSet("fma", fields, columns, {})


def _fmma(q: _Request) -> VectorSet:
    """One step of two products, in the profile's sum order."""
    order = q.profile.sum_order if q.profile.sum_order != "aligned" else "fused"
    acc_fmt, r = get_format(q.profile.accumulator), q.profile.random_bits
    a, b = q.source.codes(q.a, q.count, 2), q.source.codes(q.b, q.count, 2)
    with np.errstate(invalid="ignore"):
        products = (q.a.decode(a) * q.b.decode(b)).sum(axis=1)
    acc, modes = q.accumulators(acc_fmt, products), q.mode_column()
    random = q.random_column(modes, 2)
    if order == "fused":
        random[:, 1] = 0
    codes, flags = np.empty(q.count, np.int64), np.empty(q.count, np.int64)
    _fmma_rows(
        a, b, acc, SUM_ORDERS.index(order), modes, random, q.a.facts, q.b.facts, acc_fmt.facts,
        q.policy, r, codes, flags,
    )  # fmt: skip
    fields = (
        *_head(r, draws=2), Field("a", q.a.bits, f"{q.a.name} codes", 2),
        Field("b", q.b.bits, f"{q.b.name} codes", 2),
        Field("acc", acc_fmt.bits, f"{acc_fmt.name} code"), *_tail(acc_fmt),
    )  # fmt: skip
    columns = _columns(mode=modes, random=random, a=a, b=b, acc=acc, result=codes, flags=flags)
    return VectorSet("fmma", fields, columns, {"sum_order": order})


def _add(q: _Request) -> VectorSet:
    """The running total of chunks: result = round(total + chunk)."""
    chunk_fmt, fmt = get_format(q.profile.accumulator), get_format(q.profile.between_chunks)
    r = q.profile.random_bits
    chunks = q.source.codes(chunk_fmt, q.count)
    totals, modes = q.accumulators(fmt, chunk_fmt.decode(chunks)), q.mode_column()
    random = q.random_column(modes)
    codes, flags = np.empty(q.count, np.int64), np.empty(q.count, np.int64)
    _add_rows(totals, chunks, modes, random, chunk_fmt.facts, fmt.facts, q.policy, r, codes, flags)
    fields = (
        *_head(r), Field("total", fmt.bits, f"{fmt.name} code"),
        Field("chunk", chunk_fmt.bits, f"{chunk_fmt.name} code"), *_tail(fmt),
    )  # fmt: skip
    columns = _columns(
        mode=modes, random=random, total=totals, chunk=chunks, result=codes, flags=flags
    )
    return VectorSet("add", fields, columns, {})


#: Products of a `dot` vector: two chunks of 64, and two more.
DOT_LENGTH = 130


def _dot(q: _Request) -> VectorSet:
    """A whole dot product of `DOT_LENGTH` pairs through the chunk accumulator, as the profile rounds.

    Vector i is output (i, 0) of a GEMM with seed 0, for the random words of stochastic profiles.
    """
    x, y = (np.ldexp(q.source.below(1 << 16, *shape) / 2.0**15 - 1, q.source.below(6, *shape))
            for shape in ((q.count, DOT_LENGTH), (DOT_LENGTH, 1)))  # fmt: skip
    a, b = (
        fmt.encode(v if fmt.signed else np.abs(v) + fmt.min_positive)
        for fmt, v in ((q.a, x), (q.b, y))
    )
    result = gemm(a, b, q.profile, a_format=q.a, b_format=q.b, seed=0)
    out = q.profile.result_format
    fields = (
        Field("a", q.a.bits, f"{q.a.name} codes, k ascending", DOT_LENGTH),
        Field("b", q.b.bits, f"{q.b.name} codes, k ascending", DOT_LENGTH),
        Field("result", out.bits, f"{out.name} code"),
    )
    columns = _columns(a=a, b=np.repeat(b.T, q.count, axis=0), result=result[:, 0])
    return VectorSet("dot", fields, columns, {})


#: The units, by name.
UNITS: dict[str, Callable[[_Request], VectorSet]] = {
    "convert": _convert, "fma": _fma, "fmma": _fmma, "add": _add, "dot": _dot,
}  # fmt: skip


def vectors(
    unit: str,
    profile: str | Profile = "hfp8",
    *,
    phase: str = "fwd",
    modes: Sequence[str] | None = None,
    count: int = 4096,
    seed: int = 0,
) -> VectorSet:
    """Make the vectors of a unit.

    Args:
        unit: one of `UNITS`.
        profile: formats, random bits per rounding, overflow policy, sum order.
        phase: whose operand formats: fwd, dgrad or wgrad.
        modes: rounding modes, in turn; all by default (those of `dot` are the profile's).
        count: vectors.
        seed: of the operands and random bits.

    Raises:
        InputError: an unknown unit, profile, phase or mode, a count below 1.
    """
    if unit not in UNITS:
        raise unknown("unit", unit, list(UNITS))
    if count < 1:
        raise InputError(f"count is {count}, must be at least 1")
    record = get_profile(profile)
    fmt_a, fmt_b = record.operand_formats(phase)
    chosen = tuple(MODES[mode_number(mode)] for mode in (modes or MODES))
    request = _Request(record, fmt_a, fmt_b, chosen, count, _Source(seed, unit))
    vector_set = UNITS[unit](request)
    about = {
        "profile": record.name, "phase": phase, "overflow": _policy(unit, record),
        "random_bits": record.random_bits, "count": count, "seed": seed,
    } | vector_set.about  # fmt: skip
    return dataclasses.replace(vector_set, about=about)


def _policy(unit: str, profile: Profile) -> str:
    return profile.operand_overflow if unit == "convert" else profile.overflow


def write(
    folder: str | Path,
    units: Sequence[str] = tuple(UNITS),
    profile: str | Profile = "hfp8",
    **options: Any,
) -> list[Path]:
    """Write `UNIT.hex` and `UNIT.npz` for every unit into a folder; `options` are those of `vectors`."""
    paths = []
    for unit in units:
        vector_set = vectors(unit, profile, **options)
        paths += [
            vector_set.write_text(Path(folder) / f"{unit}.hex"), vector_set.write_npz(Path(folder) / f"{unit}.npz")
        ]  # fmt: skip
    return paths
