"""The shipped formats, and those a user adds. Values and code points: docs/formats.md (generated)."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from hfp8sim.errors import InputError, unknown
from hfp8sim.formats.record import FloatFormat

_REGISTRY: dict[str, FloatFormat] = {}


def register_format(fmt: FloatFormat) -> FloatFormat:
    """Make a format known by its name everywhere; `InputError` if the name means another one."""
    known = _REGISTRY.get(fmt.name)
    if known is not None and known != fmt:
        raise InputError(f"format name {fmt.name!r} is taken by a different format")
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", fmt.name):
        raise InputError(f"format name {fmt.name!r}: use lower-case letters, digits, '-', '_', '.'")
    _REGISTRY[fmt.name] = fmt
    return fmt


def formats() -> list[str]:
    """Names of all registered formats, in order of registration."""
    return list(_REGISTRY)


def get_format(name: str | FloatFormat) -> FloatFormat:
    """A format by name. `name@B` is the format with exponent bias B; `binary8p3se` and its like
    (IEEE P3109: K 3..16, any P) are built on demand. A record is handed through."""
    if isinstance(name, FloatFormat):
        return name
    base, at, bias = str(name).partition("@")
    fmt = _REGISTRY.get(base) or p3109_by_name(base)
    if fmt is None:
        raise unknown("format", name, formats())
    if not at:
        return fmt
    if not re.fullmatch(r"-?\d+", bias):
        raise InputError(f"format {name!r}: the bias after '@' must be an integer")
    return fmt.with_bias(int(bias))


def p3109(k: int, p: int, signed: bool = True, extended: bool = True) -> FloatFormat:
    """IEEE P3109 (interim report v4.0, 2026) binary{K}p{P}: K bits, P of precision."""
    name = f"binary{k}p{p}{'s' if signed else 'u'}{'e' if extended else 'f'}"
    exponent_bits = k - p if signed else k - p + 1
    if not 3 <= k <= 16 or not 1 <= p <= k - signed or not 1 <= exponent_bits <= 11:
        raise InputError(
            f"{name}: K must be 3..16 and P such that 1..11 exponent bits are left (float64 holds no more)"
        )
    return FloatFormat(
        name=name,
        exponent_bits=exponent_bits,
        fraction_bits=p - 1,
        bias=1 << (exponent_bits - 1),
        signed=signed,
        zero="unsigned",
        lowest="subnormal",
        special="p3109-extended" if extended else "p3109-finite",
    )


def p3109_by_name(name: str) -> FloatFormat | None:
    """The P3109 format of that name, or None if the name is not of that kind."""
    match = re.fullmatch(r"binary(\d+)p(\d+)([su])([ef])", name)
    if not match:
        return None
    k, p, sign, domain = match.groups()
    return p3109(int(k), int(p), sign == "s", domain == "e")


def load_formats(path: str | Path) -> list[FloatFormat]:
    """Register every `[format.NAME]` table of a TOML file; keys are the facts of `FloatFormat`."""
    try:
        with open(path, "rb") as file:
            tables = tomllib.load(file)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a TOML file: {error}") from None
    if set(tables) != {"format"} or not isinstance(tables["format"], dict):
        raise InputError(f"{path}: expected tables [format.NAME] and nothing else")
    return [register_format(f) for f in _from_tables(path, tables["format"])]


def _from_tables(path: str | Path, tables: dict[str, object]) -> Iterator[FloatFormat]:
    kinds = {"exponent_bits": int, "fraction_bits": int, "bias": int, "signed": bool}
    kinds |= {"zero": str, "lowest": str, "special": str}
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise InputError(f"{path}: [format.{name}] must be a table")
        for key, value in table.items():
            if key not in kinds:
                raise InputError(f"{path}: [format.{name}]: {unknown('key', key, list(kinds))}")
            if type(value) is not kinds[key]:
                want = kinds[key].__name__
                raise InputError(f"{path}: [format.{name}]: {key} must be of type {want}")
        for key in ("exponent_bits", "fraction_bits", "bias"):
            if key not in table:
                raise InputError(f"{path}: [format.{name}]: {key} is missing")
        yield FloatFormat(name=name, **table)


def _ship(name: str, e: int, f: int, bias: int, **facts: object) -> None:
    register_format(FloatFormat(name, e, f, bias, **facts))  # type: ignore[arg-type]


# IBM: no subnormals, one merged NaN-Infinity or none (Sun et al. 2019; Agrawal et al. 2019, 2021).
_ship("hfp8-143", 4, 3, 11, lowest="normal", special="none")
_ship("hfp8-143-hw", 4, 3, 11, lowest="normal", special="nan-inf")
_ship("hfp8-152", 5, 2, 15, lowest="normal", special="none")
_ship("hfp8-152-hw", 5, 2, 15, lowest="normal", special="nan-inf")
_ship("fp9-153", 5, 3, 15, lowest="normal", special="nan-inf")
_ship("dlfloat16", 6, 9, 31, lowest="normal", special="nan-inf")
_ship("dl8-143", 4, 3, 7, lowest="normal", special="nan-inf")
# 1-6-9 in its IEEE-like reading (Wang et al. 2018 do not state the encoding).
_ship("ieee-169", 6, 9, 31)
# OCP 8-bit (OFP8 v1.0) and microscaling (MX v1.0) elements and scale.
_ship("e4m3fn", 4, 3, 7, special="fn")
_ship("e5m2", 5, 2, 15)
_ship("e3m2", 3, 2, 3, special="none")
_ship("e2m3", 2, 3, 1, special="none")
_ship("e2m1", 2, 1, 1, special="none")
_ship("e8m0", 8, 0, 127, signed=False, zero="none", lowest="normal", special="fn")
# Other 8-bit formats in use.
_ship("e4m3", 4, 3, 7)
_ship("e3m4", 3, 4, 3)
_ship("e4m3fnuz", 4, 3, 8, zero="unsigned", special="fnuz")
_ship("e5m2fnuz", 5, 2, 16, zero="unsigned", special="fnuz")
_ship("e4m3b11fnuz", 4, 3, 11, zero="unsigned", special="fnuz")
# Tesla's configurable formats at one of their 64 biases: `cfloat8-143@B` gives another.
_ship("cfloat8-143", 4, 3, 7, special="none")
_ship("cfloat8-152", 5, 2, 15, special="none")
# Wider formats. e8m13 is what Hopper's FP8 matrix core keeps (1-8-13 of a binary32).
_ship("binary16", 5, 10, 15)
_ship("bfloat16", 8, 7, 127)
_ship("tf32", 8, 10, 127)
_ship("e8m13", 8, 13, 127)
_ship("binary32", 8, 23, 127)
# IEEE P3109's mandatory formats and its scale; the rest of the family is built on demand.
for _name in ("binary8p3se", "binary8p4se", "binary4p2sf", "binary8p1uf"):
    _fmt = p3109_by_name(_name)
    assert _fmt is not None
    register_format(_fmt)
