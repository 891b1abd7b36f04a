"""The registered formats: the shipped ones, and those that a user adds.

docs/formats.md lists their values and code points; it is generated.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hfp8sim.errors import InputError, check_whole_number, unknown
from hfp8sim.files import read_toml
from hfp8sim.formats.dtypes import FORMAT_OF_DTYPE, dtype_name
from hfp8sim.formats.record import FloatFormat
from hfp8sim.registry import Registry

FORMATS: Registry[FloatFormat] = Registry("format")


def register_format(fmt: FloatFormat) -> FloatFormat:
    """Make a format known by its name everywhere, and return it.

    Raises:
        InputError: another format has that name, or the name has a character that names may not have.
    """
    if not isinstance(fmt, FloatFormat):
        raise InputError(f"format {fmt!r:.60}; it must be a FloatFormat")
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", fmt.name):
        raise InputError(f"format name {fmt.name!r}: use lower-case letters, digits, '-', '_', '.'")
    return FORMATS.register(fmt)


def formats() -> list[str]:
    """Names of all registered formats, in order of registration."""
    return FORMATS.names()


def get_format(name: str | FloatFormat | Any) -> FloatFormat:
    """The format with that name, or of a dtype; a record is returned as it is.

    Args:
        name: a registered name; `NAME@B` for that format with exponent bias B; or a name of a family that is
            built on demand: IEEE P3109's, as `binary8p3se`, or fixed point's, as `fixed8.8`. Or a dtype of
            NumPy, ml_dtypes or PyTorch whose bits are codes of a format: `np.float16`, `torch.float8_e5m2`.

    Raises:
        InputError: an unknown name, a dtype without a format, or a bias that is no integer.
    """
    if isinstance(name, FloatFormat):
        return name
    if not isinstance(name, str) and (dtype := dtype_name(name)):
        if dtype not in FORMAT_OF_DTYPE:
            raise InputError(f"no format has the codes of dtype {dtype}")
        return FORMATS.records[FORMAT_OF_DTYPE[dtype]]
    base, at, bias = str(name).partition("@")
    fmt = FORMATS.records.get(base) or p3109_by_name(base) or fixed_by_name(base)
    if fmt is None:
        raise unknown("format", name, formats())
    if not at:
        return fmt
    if not re.fullmatch(r"-?\d+", bias):
        raise InputError(f"format {name!r}: the bias after '@' must be an integer")
    return fmt.with_bias(int(bias))


def is_registered(fmt: FloatFormat) -> bool:
    """Whether `get_format` finds this format by its name."""
    try:
        found: FloatFormat = get_format(fmt.name)
    except InputError:
        return False
    return found == fmt


P3109_SOURCE = "IEEE P3109, interim report v4.0"


def p3109(k: int, p: int, signed: bool = True, extended: bool = True) -> FloatFormat:
    """binary{K}p{P} of IEEE P3109 (interim report v4.0, 2026): K bits, P of precision.

    Raises:
        InputError: K outside 3..16, or a P that leaves no exponent bit, or more than 11.
    """
    k, p = check_whole_number(k, "K", 0), check_whole_number(p, "P", 0)
    for argument, value in (("signed", signed), ("extended", extended)):
        if not isinstance(value, bool):
            raise InputError(f"{argument} is {value!r:.60}; it must be True or False")
    name = f"binary{k}p{p}{'s' if signed else 'u'}{'e' if extended else 'f'}"
    exponent_bits = k - p if signed else k - p + 1
    if not 3 <= k <= 16 or not 1 <= p <= k - signed or exponent_bits > 11:
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
        source=P3109_SOURCE,
    )


def p3109_by_name(name: str) -> FloatFormat | None:
    """The P3109 format with that name, or None for a name of another form."""
    match = re.fullmatch(r"binary(\d+)p(\d+)([su])([ef])", name)
    if not match:
        return None
    k, p, sign, domain = match.groups()
    return p3109(int(k), int(p), sign == "s", domain == "e")


def fixed_by_name(name: str) -> FloatFormat | None:
    """`fixed{IL}.{FL}`: fixed point of IL + FL bits as sign and magnitude, or None for a name of another form.

    One exponent bit with subnormal numbers gives one distance between all numbers, 2^−FL, up to 2^(IL−1) − 2^−FL
    on either side. ⟨IL, FL⟩ in two's complement (`formats.fixed`) has −2^(IL−1) besides.
    """
    match = re.fullmatch(r"fixed(\d+)\.(\d+)", name)
    if not match:
        return None
    il, fl = map(int, match.groups())
    if il < 1 or not 3 <= il + fl <= 25:
        raise InputError(f"{name}: needs IL ≥ 1 and 3 ≤ IL + FL ≤ 25")
    return FloatFormat(
        name=name, exponent_bits=1, fraction_bits=il + fl - 2, bias=3 - il, special="none",
        source="fixed point, sign and magnitude (Gupta et al., ICML 2015: two's complement)",
    )  # fmt: skip


#: The keys of a `[format.NAME]` table and their types.
_KEYS = {
    "exponent_bits": int, "fraction_bits": int, "bias": int, "signed": bool,
    "zero": str, "lowest": str, "special": str, "source": str,
}  # fmt: skip
_REQUIRED = ("exponent_bits", "fraction_bits", "bias")


def load_formats(path: str | Path) -> list[FloatFormat]:
    """Register every `[format.NAME]` table of a TOML file; its keys are the fields of `FloatFormat`.

    Raises:
        InputError: the file cannot be read or is not TOML, a key is unknown, missing or of another type, or
            the values make no format.
    """
    tables = read_toml(path)
    if set(tables) != {"format"} or not isinstance(tables["format"], dict):
        raise InputError(f"{path}: expected tables [format.NAME] and nothing else")
    return [register_format(fmt) for fmt in formats_of_tables(path, tables["format"])]


def formats_of_tables(path: str | Path, tables: dict[str, object]) -> Iterator[FloatFormat]:
    """The formats of the tables `[format.NAME]` of a file; `InputError` for what makes none."""
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise InputError(f"{path}: [format.{name}] must be a table")
        for key, value in table.items():
            if key not in _KEYS:
                raise InputError(f"{path}: [format.{name}]: {unknown('key', key, list(_KEYS))}")
            if type(value) is not _KEYS[key]:
                expected = _KEYS[key].__name__
                raise InputError(f"{path}: [format.{name}]: {key} must be of type {expected}")
        for key in _REQUIRED:
            if key not in table:
                raise InputError(f"{path}: [format.{name}]: {key} is missing")
        yield FloatFormat(name=name, **table)


#: The shipped formats, in the order of `hs.formats()`. P3109's mandatory formats and scale follow below.
_SHIPPED = (
    # IBM: no subnormals, one merged NaN-Infinity or none (Sun et al. 2019; Agrawal et al. 2019, 2021).
    FloatFormat("hfp8-143", 4, 3, 11, lowest="normal", special="none",
                source="HFP8 forward, all codes numbers (Sun et al., NeurIPS 2019; choice)"),
    FloatFormat("hfp8-143-hw", 4, 3, 11, lowest="normal", special="nan-inf",
                source="HFP8 forward with the hardware's NaN-Infinity (choice)"),
    FloatFormat("hfp8-152", 5, 2, 15, lowest="normal", special="none",
                source="HFP8 backward, all codes numbers (choice)"),
    FloatFormat("hfp8-152-hw", 5, 2, 15, lowest="normal", special="nan-inf",
                source="HFP8 backward with the hardware's NaN-Infinity (choice)"),
    FloatFormat("fp9-153", 5, 3, 15, lowest="normal", special="nan-inf",
                source="what operands widen to before they are multiplied (Agrawal et al., ISSCC 2021)"),
    FloatFormat("dlfloat16", 6, 9, 31, lowest="normal", special="nan-inf",
                source="DLFloat, the accumulator (Agrawal et al., ARITH 2019; NNP data type 1)"),
    FloatFormat("dl8-143", 4, 3, 7, lowest="normal", special="nan-inf",
                source="1-4-3 of IBM's published software model"),
    # 1-6-9 in its IEEE-like reading (Wang et al. 2018 do not state the encoding).
    FloatFormat("ieee-169", 6, 9, 31,
                source="1-6-9 read as IEEE would (Wang et al., NeurIPS 2018)"),
    # OCP 8-bit (OFP8 v1.0) and microscaling (MX v1.0) elements and scale.
    FloatFormat("e4m3fn", 4, 3, 7, special="fn",
                source="OCP OFP8 v1.0 E4M3"),
    FloatFormat("e5m2", 5, 2, 15,
                source="OCP OFP8 v1.0 E5M2; Mellempudi et al., 2019"),
    FloatFormat("e3m2", 3, 2, 3, special="none",
                source="OCP MX v1.0 element"),
    FloatFormat("e2m3", 2, 3, 1, special="none",
                source="OCP MX v1.0 element"),
    FloatFormat("e2m1", 2, 1, 1, special="none",
                source="OCP MX v1.0 element"),
    FloatFormat("e8m0", 8, 0, 127, signed=False, zero="none", lowest="normal", special="fn",
                source="OCP MX v1.0 scale"),
    # Other 8-bit formats in use.
    FloatFormat("e4m3", 4, 3, 7,
                source="1-4-3 as IEEE 754 would have it"),
    FloatFormat("e3m4", 3, 4, 3,
                source="1-3-4 as IEEE 754 would have it"),
    FloatFormat("e4m3fnuz", 4, 3, 8, zero="unsigned", special="fnuz",
                source="Noune et al., 2022; AMD, Graphcore"),
    FloatFormat("e5m2fnuz", 5, 2, 16, zero="unsigned", special="fnuz",
                source="Noune et al., 2022; AMD, Graphcore"),
    FloatFormat("e4m3b11fnuz", 4, 3, 11, zero="unsigned", special="fnuz",
                source="Google's 1-4-3 with bias 11"),
    # Tesla's configurable formats at one of their 64 biases: `cfloat8-143@B` gives another.
    FloatFormat("cfloat8-143", 4, 3, 7, special="none",
                source="Tesla's configurable float at one of its 64 biases; subnormals as IEEE (choice)"),
    FloatFormat("cfloat8-152", 5, 2, 15, special="none",
                source="Tesla's configurable float at one of its 64 biases; subnormals as IEEE (choice)"),
    # Wider formats. e8m13 is the accumulator of Hopper's FP8 matrix core: 1-8-13, a truncated binary32.
    FloatFormat("binary16", 5, 10, 15,
                source="IEEE 754"),
    FloatFormat("bfloat16", 8, 7, 127,
                source="the upper half of binary32"),
    FloatFormat("tf32", 8, 10, 127,
                source="NVIDIA's 1-8-10"),
    FloatFormat("e8m13", 8, 13, 127,
                source="what Hopper's FP8 matrix core keeps of a binary32"),
    FloatFormat("binary32", 8, 23, 127,
                source="IEEE 754"),
)  # fmt: skip

for _fmt in _SHIPPED:
    register_format(_fmt)
for _fmt in (p3109(8, 3), p3109(8, 4), p3109(4, 2, extended=False)):
    register_format(_fmt)
_fmt = p3109(8, 1, signed=False, extended=False)
register_format(dataclasses.replace(_fmt, source=f"{P3109_SOURCE}: a scale"))
