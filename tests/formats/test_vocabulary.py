"""The numbers of the vocabulary, and the facts that follow from a record."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from hfp8sim.formats import FloatFormat, formats, get_format
from hfp8sim.formats.rounding import is_nan
from hfp8sim.formats.vocabulary import (
    MODES,
    Lowest,
    Overflow,
    Rounding,
    Special,
    Term,
    Zero,
    is_stochastic,
    names,
)

HEADER = Path(__file__).parents[2] / "c_ref" / "hfp8_ref.h"


@pytest.mark.parametrize(
    ("terms", "prefix"),
    [
        (Rounding, "REF_"), (Overflow, "REF_"), (Zero, "REF_ZERO_"), (Lowest, "REF_LOWEST_"),
        (Special, "REF_SPECIAL_"),
    ],
)  # fmt: skip
def test_numbers_match_c_reference(terms: type[Term], prefix: str) -> None:
    defined = dict(re.findall(r"#define (REF_\w+) (\d+)", HEADER.read_text(encoding="utf-8")))
    assert {term.name: str(int(term)) for term in terms} == {
        term.name: defined[prefix + term.name] for term in terms
    }


def test_numbers_do_not_depend_on_order() -> None:
    """A mode that is inserted in the list takes the next free number; all others keep theirs."""

    class Extended(Term):
        NEAREST_EVEN = 0, ""
        NEAREST_DOWN = 2, ""
        NEAREST_AWAY = 1, ""

    assert names(Extended) == ("nearest-even", "nearest-away", "nearest-down")
    assert MODES[:3] == ("nearest-even", "nearest-away", "toward-zero")


def test_is_stochastic() -> None:
    assert [is_stochastic(i) for i in range(len(MODES))] == [
        mode.startswith("stochastic") for mode in MODES
    ]


EVERY = [get_format(name) for name in formats()] + [
    FloatFormat("flush-152", 5, 2, 15, lowest="flush", special="fn"),
    FloatFormat("normal-140", 4, 0, 7, lowest="normal", special="nan-inf"),
]


@pytest.mark.parametrize("fmt", EVERY, ids=lambda fmt: fmt.name)
def test_exponent_range(fmt: FloatFormat) -> None:
    """emin and emax are the exponents of the smallest normal and of the largest number."""
    assert (fmt.emin, fmt.emax) == tuple(np.frexp([fmt.min_normal, fmt.max])[1] - 1)
    assert fmt.facts.mag_mask.bit_length() + fmt.signed == fmt.bits


@pytest.mark.parametrize("fmt", [f for f in EVERY if f.bits <= 16], ids=lambda fmt: fmt.name)
def test_is_nan(fmt: FloatFormat) -> None:
    codes = [code for code in range(1 << fmt.bits) if is_nan(code, fmt.facts)]
    np.testing.assert_array_equal(codes, np.flatnonzero(np.isnan(fmt.table())))
    if fmt.has_inf:
        assert not is_nan(int(fmt.encode([np.inf], overflow="special")[0]), fmt.facts)
