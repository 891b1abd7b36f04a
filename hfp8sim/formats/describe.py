"""A format described for people: properties, code tables and number lines, as data.

The command line and the pages in docs/ print what these functions return.
"""

from __future__ import annotations

import math

import numpy as np

from hfp8sim.formats.record import FloatFormat
from hfp8sim.formats.registry import formats, get_format
from hfp8sim.formats.vocabulary import Lowest, Special, Zero


def widths(fmt: FloatFormat) -> str:
    """Widths of sign, exponent and fraction: `1-4-3`."""
    return f"{int(fmt.signed)}-{fmt.exponent_bits}-{fmt.fraction_bits}"


def exact_text(x: float) -> str:
    """The shortest exact text of a number: `30`, `1.125·2^-11`."""
    if math.isnan(x):
        return "NaN"
    if math.isinf(x):
        return "∞" if x > 0 else "−∞"
    if x == 0:
        return "−0" if math.copysign(1, x) < 0 else "0"
    plain = f"{x:.10g}"
    if float(plain) == x and len(plain) <= 10:
        return plain.replace("-", "−", 1) if x < 0 else plain
    mantissa, exponent = math.frexp(abs(x))
    sign = "−" if x < 0 else ""
    head = f"{2 * mantissa:.10g}"
    return f"{sign}2^{exponent - 1}" if head == "1" else f"{sign}{head}·2^{exponent - 1}"


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'s' if n != 1 else ''}"


def properties(fmt: FloatFormat) -> list[tuple[str, str]]:
    """(property, value) rows of text: the facts of the record, and what follows from them."""
    f = fmt.facts
    digits = -(-fmt.bits // 4)

    def code(value: int) -> str:
        return f"0x{value:0{digits}X}" if value >= 0 else "–"

    source = [("what it is", fmt.source)] if fmt.source else []
    return [
        *source,
        ("bits (sign-exponent-fraction)", f"{fmt.bits} ({widths(fmt)})"),
        ("bias", str(fmt.bias)),
        ("zero", Zero.of(fmt.zero).meaning),
        ("exponent field 0", _lowest_binade(fmt)),
        ("special codes", _special_codes(fmt)),
        ("largest number", f"{exact_text(fmt.max)} = {code(f.max_mag)}"),
        ("smallest normal number", f"{exact_text(fmt.min_normal)} = {code(f.normal_mag)}"),
        ("smallest number", f"{exact_text(fmt.min_positive)} = {code(f.min_mag)}"),
        ("infinity", code(f.inf_mag)),
        ("NaN (produced)", code(f.nan_code)),
        ("precision", f"{_count(fmt.precision, 'bit')}, {fmt.precision * math.log10(2):.1f} decimal digits"),
        ("range", f"{math.log2(fmt.max / fmt.min_positive):.1f} binades, "
                  f"{20 * math.log10(fmt.max / fmt.min_positive):.0f} dB"),
    ]  # fmt: skip


def _lowest_binade(fmt: FloatFormat) -> str:
    if fmt.zero == "none":
        return "a number, 2^(−b)"
    if not fmt.fraction_bits:
        return "no numbers but zero"
    return Lowest.of(fmt.lowest).meaning


def _special_codes(fmt: FloatFormat) -> str:
    return Special.of(fmt.special).meaning


def short_text(x: float) -> str:
    """A number for tables: four significant digits."""
    if not math.isfinite(x) or x == 0:
        return exact_text(x)
    if x == int(x) and abs(x) < 1e6:
        return f"{x:.0f}"
    if math.frexp(x)[0] == 0.5:
        return exact_text(x)
    text = f"{x:.4g}"
    mantissa, _, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else text


#: Columns of a code table.
COLUMNS = 8


def code_table(fmt: FloatFormat) -> list[list[str]]:
    """Texts of the values of all codes without a sign bit, `COLUMNS` in a row; at most 8 bits."""
    count = fmt.facts.mag_mask + 1
    values = [short_text(float(x)) for x in fmt.table()[:count]]
    return [values[i : i + COLUMNS] for i in range(0, count, COLUMNS)]


def negative_codes(fmt: FloatFormat) -> str:
    """A sentence about the codes with a sign bit; empty for unsigned formats."""
    if not fmt.signed:
        return ""
    first = fmt.facts.mag_mask + 1
    zero = exact_text(float(fmt.decode(np.uint32(first))))
    return f"From 0x{first:X} on the same, negative; 0x{first:X} is {zero}."


def notable_codes(fmt: FloatFormat) -> list[tuple[str, int, float]]:
    """(name, code, value) of zero, one, the extreme numbers and the special codes."""
    f = fmt.facts
    rows = [("zero", 0)] if fmt.zero != "none" else []
    rows.append(("smallest", f.min_mag))
    if f.normal_mag != f.min_mag:
        rows.append(("smallest normal", f.normal_mag))
    one = int(fmt.encode(1.0)) if fmt.min_positive <= 1 <= fmt.max else -1
    rows += [("one", one), ("largest", f.max_mag), ("infinity", f.inf_mag), ("NaN", f.nan_code)]
    return [(name, code, float(fmt.decode(np.uint32(code)))) for name, code in rows if code >= 0]


def binades(fmt: FloatFormat) -> dict[int, int]:
    """The count of numbers in [2^e, 2^(e+1)) for each exponent e, ascending."""
    f = fmt.facts
    counts: dict[int, int] = {}
    for field in range((f.max_mag >> f.fraction_bits) + 1):
        first, last = field << f.fraction_bits, ((field + 1) << f.fraction_bits) - 1
        count = min(last, f.max_mag) - max(first, f.min_mag) + 1
        if count <= 0:
            continue
        if field or fmt.lowest != "subnormal":
            counts[field - f.bias] = count
        else:
            counts |= {1 - f.bias - f.fraction_bits + i: 1 << i for i in range(f.fraction_bits)}
    return counts


def number_line(fmt: FloatFormat, width: int = 72) -> list[str]:
    """The positive numbers on a logarithmic axis, as three lines of text.

    The first line has a bar for each binade; its height is the binade's count of numbers, relative to the
    fullest binade. The second line has ticks, the third the powers of two below them.

    Args:
        width: characters of the axis; a range of more binades puts several into one character.
    """
    counts = binades(fmt)
    low, span = min(counts), max(counts) - min(counts) + 1
    cells = max(1, width // span)  # characters per binade …
    per_cell = -(-span // width)  # … or binades per character
    columns = -(-span // per_cell)
    fullest = max(counts.values())
    line = ""
    for column in range(columns):
        first = low + column * per_cell
        count = max(counts.get(first + i, 0) for i in range(per_cell))
        line += _BARS[math.ceil(8 * count / fullest)] * cells
    return [line, *_axis(low, columns * per_cell, cells, per_cell)]


_BARS = " ▁▂▃▄▅▆▇█"
_TICK_STEPS = (1, 2, 4, 5, 8, 10, 16, 20, 32, 50, 64, 100, 128, 256, 512)


def _axis(low: int, binade_count: int, cells: int, per_cell: int) -> tuple[str, str]:
    """Ticks and labels of the binades from 2^low on; a label takes at least 8 characters."""
    columns = binade_count // per_cell * cells
    ticks, labels = ["─"] * columns, [" "] * (columns + 8)
    step = next(step for step in _TICK_STEPS if step * cells >= 8 * per_cell)
    for i in range(binade_count):
        if (low + i) % step == 0:
            column = i // per_cell * cells
            label = f"2^{low + i}"
            ticks[column] = "┴"
            labels[column : column + len(label)] = label
    return "".join(ticks), "".join(labels).rstrip()


def overview_rows() -> list[tuple[str, ...]]:
    """Registered formats: (name, widths, bias, largest, smallest, special codes, what it is)."""
    return [
        (
            fmt.name, widths(fmt), str(fmt.bias), exact_text(fmt.max), exact_text(fmt.min_positive),
            _special_codes(fmt), fmt.source,
        )
        for fmt in map(get_format, formats())
    ]  # fmt: skip


#: Headings of `overview_rows`.
OVERVIEW_HEADINGS = (
    "format",
    "s-e-f",
    "bias",
    "largest",
    "smallest",
    "special codes",
    "what it is",
)
