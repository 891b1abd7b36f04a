"""What there is to say about a format, as data: for the command line and for the docs."""

from __future__ import annotations

import math

import numpy as np

from hfp8sim.formats.record import FloatFormat
from hfp8sim.formats.registry import formats, get_format

#: Where the shipped formats come from.
SOURCES = {
    "hfp8-143": "HFP8 forward, all codes numbers (Sun et al., NeurIPS 2019; choice)",
    "hfp8-143-hw": "HFP8 forward with the hardware's NaN-Infinity (choice)",
    "hfp8-152": "HFP8 backward, all codes numbers (choice)",
    "hfp8-152-hw": "HFP8 backward with the hardware's NaN-Infinity (choice)",
    "fp9-153": "what operands widen to before they are multiplied (Agrawal et al., ISSCC 2021)",
    "dlfloat16": "DLFloat, the accumulator (Agrawal et al., ARITH 2019; NNP data type 1)",
    "dl8-143": "1-4-3 of IBM's published software model",
    "ieee-169": "1-6-9 read as IEEE would (Wang et al., NeurIPS 2018)",
    "e4m3fn": "OCP OFP8 v1.0 E4M3",
    "e5m2": "OCP OFP8 v1.0 E5M2; Mellempudi et al., 2019",
    "e3m2": "OCP MX v1.0 element",
    "e2m3": "OCP MX v1.0 element",
    "e2m1": "OCP MX v1.0 element",
    "e8m0": "OCP MX v1.0 scale",
    "e4m3": "1-4-3 as IEEE 754 would have it",
    "e3m4": "1-3-4 as IEEE 754 would have it",
    "e4m3fnuz": "Noune et al., 2022; AMD, Graphcore",
    "e5m2fnuz": "Noune et al., 2022; AMD, Graphcore",
    "e4m3b11fnuz": "Google's 1-4-3 with bias 11",
    "cfloat8-143": "Tesla's configurable float at one of its 64 biases; subnormals as IEEE (choice)",
    "cfloat8-152": "Tesla's configurable float at one of its 64 biases; subnormals as IEEE (choice)",
    "binary16": "IEEE 754",
    "bfloat16": "the upper half of binary32",
    "tf32": "NVIDIA's 1-8-10",
    "e8m13": "what Hopper's FP8 matrix core keeps of a binary32",
    "binary32": "IEEE 754",
    "binary8p3se": "IEEE P3109, interim report v4.0",
    "binary8p4se": "IEEE P3109, interim report v4.0",
    "binary4p2sf": "IEEE P3109, interim report v4.0",
    "binary8p1uf": "IEEE P3109, interim report v4.0: a scale",
}

_LOWEST = {
    "subnormal": "subnormal numbers, f·2^(1−b−F)",
    "normal": "normal numbers, (1+f/2^F)·2^(−b)",
    "flush": "zero",
}
_SPECIAL = {
    "none": "no special codes",
    "ieee": "top exponent: infinities and NaNs",
    "fn": "all ones: NaN",
    "fnuz": "code of −0: NaN",
    "nan-inf": "all ones: NaN-Infinity",
    "p3109-extended": "P3109: infinities and one NaN",
    "p3109-finite": "P3109: one NaN",
}


def split(fmt: FloatFormat) -> str:
    """Widths of sign, exponent and fraction: `1-4-3`."""
    return f"{int(fmt.signed)}-{fmt.exponent_bits}-{fmt.fraction_bits}"


def number(x: float) -> str:
    """A number, as short as it can be said: `30`, `1.125·2^-11`."""
    if not math.isfinite(x) or x == 0:
        return {math.inf: "∞", -math.inf: "−∞"}.get(
            x, "NaN" if x != x else "−0" if math.copysign(1, x) < 0 else "0"
        )
    plain = f"{x:.10g}"
    if float(plain) == x and len(plain) <= 10:
        return plain.replace("-", "−", 1) if x < 0 else plain
    mantissa, exponent = math.frexp(abs(x))
    sign = "−" if x < 0 else ""
    head = f"{2 * mantissa:.10g}"
    return f"{sign}2^{exponent - 1}" if head == "1" else f"{sign}{head}·2^{exponent - 1}"


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'s' if n != 1 else ''}"


def facts(fmt: FloatFormat) -> list[tuple[str, str]]:
    """(what, value) rows: the record's facts, and what follows from them."""
    f = fmt.facts
    digits = -(-fmt.bits // 4)

    def code(value: int) -> str:
        return f"0x{value:0{digits}X}" if value >= 0 else "–"

    zero = {"signed": "+0 and −0", "unsigned": "one", "none": "none"}[fmt.zero]
    rows = [
        ("what it is", SOURCES.get(fmt.name, "")),
        ("bits (sign-exponent-fraction)", f"{fmt.bits} ({split(fmt)})"),
        ("bias", str(fmt.bias)),
        ("zero", zero),
        ("exponent field 0", _LOWEST[fmt.lowest] if fmt.fraction_bits else "no numbers but zero"),
        ("special codes", _SPECIAL[fmt.special]),
        ("largest number", f"{number(fmt.max)} = {code(f.max_mag)}"),
        ("smallest normal number", f"{number(fmt.min_normal)} = {code(f.normal_mag)}"),
        ("smallest number", f"{number(fmt.min_positive)} = {code(f.min_mag)}"),
        ("infinity", code(f.inf_mag)),
        ("NaN (produced)", code(f.nan_code)),
        ("precision", f"{_count(fmt.precision, 'bit')}, {fmt.precision * math.log10(2):.1f} decimal digits"),
        ("range", f"{math.log2(fmt.max / fmt.min_positive):.1f} binades, "
                  f"{20 * math.log10(fmt.max / fmt.min_positive):.0f} dB"),
    ]  # fmt: skip
    if fmt.zero == "none":
        rows[4] = ("exponent field 0", "a number, 2^(−b)")
    if not rows[0][1]:
        del rows[0]
    return rows


def short(x: float) -> str:
    """A number for tables: four significant digits."""
    if not math.isfinite(x) or x == 0:
        return number(x)
    if x == int(x) and abs(x) < 1e6:
        return f"{x:.0f}"
    if math.frexp(x)[0] == 0.5:
        return number(x)
    text = f"{x:.4g}"
    mantissa, _, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else text


#: Columns of a code table.
COLUMNS = 8


def code_table(fmt: FloatFormat) -> list[list[str]]:
    """Formats of at most 8 bits: values of the codes without a sign bit, `COLUMNS` in a row."""
    count = 1 << (fmt.exponent_bits + fmt.fraction_bits)
    values = [short(float(x)) for x in fmt.table()[:count]]
    return [values[i : i + COLUMNS] for i in range(0, count, COLUMNS)]


def negative_codes(fmt: FloatFormat) -> str:
    """What the codes with a sign bit are, in a sentence; empty for unsigned formats."""
    if not fmt.signed:
        return ""
    first = 1 << (fmt.exponent_bits + fmt.fraction_bits)
    zero = number(float(fmt.decode(np.uint32(first))))
    return f"From 0x{first:X} on the same, negative; 0x{first:X} is {zero}."


def notable_codes(fmt: FloatFormat) -> list[tuple[str, int, float]]:
    """(name, code, value) of the codes worth knowing."""
    f = fmt.facts
    rows = [("zero", 0)] if fmt.zero != "none" else []
    rows.append(("smallest", f.min_mag))
    if f.normal_mag != f.min_mag:
        rows.append(("smallest normal", f.normal_mag))
    one = int(fmt.encode(1.0)) if fmt.min_positive <= 1 <= fmt.max else -1
    rows += [("one", one), ("largest", f.max_mag), ("infinity", f.inf_mag), ("NaN", f.nan_code)]
    return [(name, code, float(fmt.decode(np.uint32(code)))) for name, code in rows if code >= 0]


def binades(fmt: FloatFormat) -> dict[int, int]:
    """How many numbers lie in [2^e, 2^(e+1)), by e, ascending."""
    f = fmt.facts
    counts: dict[int, int] = {}
    for field in range((f.max_mag >> f.fraction_bits) + 1):
        first, last = field << f.fraction_bits, ((field + 1) << f.fraction_bits) - 1
        here = min(last, f.max_mag) - max(first, f.min_mag) + 1
        if here <= 0:
            continue
        if field or fmt.lowest != "subnormal":
            counts[field - f.bias] = here
        else:
            counts |= {1 - f.bias - f.fraction_bits + i: 1 << i for i in range(f.fraction_bits)}
    return counts


def number_line(fmt: FloatFormat, width: int = 72) -> list[str]:
    """Where the positive numbers are, on a logarithmic axis: three lines of text.

    The first shows by the height of its bars how many numbers a binade has, compared with the fullest;
    the third names powers of two below the ticks of the second.
    """
    counts = binades(fmt)
    low, span = min(counts), max(counts) - min(counts) + 1
    cells = max(1, width // span)  # characters of a binade, or
    per = -(-span // width)  # binades of a character
    fullest = max(counts.values())
    bars = " ▁▂▃▄▅▆▇█"
    columns = -(-span // per)
    line = ""
    for i in range(columns):
        most = max(counts.get(low + i * per + k, 0) for k in range(per))
        line += bars[math.ceil(8 * most / fullest)] * cells
    ticks, names = ["─"] * len(line), [" "] * (len(line) + 8)
    step = next(
        n
        for n in (1, 2, 4, 5, 8, 10, 16, 20, 32, 50, 64, 100, 128, 256, 512)
        if n * cells >= 8 * per
    )
    for i in range(columns * per):
        if (low + i) % step == 0:
            at = i // per * cells
            ticks[at] = "┴"
            for k, letter in enumerate(f"2^{low + i}"):
                names[at + k] = letter
    return [line, "".join(ticks), "".join(names).rstrip()]


def overview() -> list[tuple[str, ...]]:
    """Registered formats: (name, widths, bias, largest, smallest, special codes, what it is)."""
    return [
        (
            fmt.name, split(fmt), str(fmt.bias), number(fmt.max), number(fmt.min_positive),
            _SPECIAL[fmt.special], SOURCES.get(fmt.name, ""),
        )
        for fmt in map(get_format, formats())
    ]  # fmt: skip


#: Headings of `overview`.
OVERVIEW = ("format", "s-e-f", "bias", "largest", "smallest", "special codes", "what it is")
