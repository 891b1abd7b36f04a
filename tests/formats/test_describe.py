"""Descriptions of formats: properties, code tables, number lines, and the generated page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from docs.pages import formats as docs
from hfp8sim.formats import formats, get_format
from hfp8sim.formats.describe import (
    binades,
    code_table,
    exact_text,
    negative_codes,
    number_line,
    properties,
    short_text,
)

ROOT = Path(__file__).parents[2]


def test_the_page_is_current() -> None:
    hint = "python -m docs.pages formats.md"
    assert (ROOT / "docs/formats.md").read_text(encoding="utf-8") == docs.page(), hint


@pytest.mark.parametrize("name", formats())
def test_source(name: str) -> None:
    assert ("what it is", get_format(name).source) in properties(get_format(name))


@pytest.mark.parametrize(
    ("x", "exact", "short"),
    [
        (30.0, "30", "30"), (1.125 * 2.0**-11, "1.125·2^-11", "0.0005493"), (2.0**-9, "2^-9", "2^-9"),
        (-0.5, "−0.5", "0.5"), (-0.0, "−0", "−0"), (np.inf, "∞", "∞"), (-np.inf, "−∞", "−∞"),
        (np.nan, "NaN", "NaN"), (57344.0, "57344", "57344"), (1.5 * 2.0**40, "1.5·2^40", "1.649e12"),
    ],
)  # fmt: skip
def test_number_texts(x: float, exact: str, short: str) -> None:
    assert exact_text(x) == exact
    assert short_text(abs(x) if x == -0.5 else x) == short


@pytest.mark.parametrize("name", formats())
def test_binades(name: str) -> None:
    fmt = get_format(name)
    counts = binades(fmt)
    assert sum(counts.values()) == fmt.facts.max_mag - fmt.facts.min_mag + 1
    if fmt.bits <= 16:
        values = fmt.table()[fmt.facts.min_mag : fmt.facts.max_mag + 1]
        exponents, numbers = np.unique(np.frexp(values)[1] - 1, return_counts=True)
        assert counts == dict(zip(exponents.tolist(), numbers.tolist()))


def test_number_line() -> None:
    assert number_line(get_format("e2m1"), width=8)[0] == "▄▄██████"
    line, ticks, names = number_line(get_format("e5m2"), width=64)
    assert line.startswith("▂▂▄▄██") and len(line) == len(ticks) == 64
    for column, label in ((0, "2^-16"), (names.index("2^0"), "2^0"), (names.index("2^12"), "2^12")):
        assert ticks[column] == "┴" and names[column:].startswith(label)
    assert names.index("2^4") - names.index("2^0") == 8  # two cells a binade


def test_code_tables() -> None:
    table = code_table(get_format("hfp8-143"))
    assert len(table) == 16 and table[0][:2] == ["0", "0.0005493"] and table[-1][-1] == "30"
    assert code_table(get_format("e2m1")) == [["0", "0.5", "1", "1.5", "2", "3", "4", "6"]]
    assert code_table(get_format("e5m2"))[-1][-4:] == ["∞", "NaN", "NaN", "NaN"]
    sentence = "From 0x80 on the same, negative; 0x80 is NaN."
    assert negative_codes(get_format("e4m3fnuz")) == sentence
    assert negative_codes(get_format("e8m0")) == ""
