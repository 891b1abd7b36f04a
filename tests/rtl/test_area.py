"""The stored gates and depths of docs/rtl.md are those of the present sources."""

from __future__ import annotations

import pytest

from benchmarks.area import VARIANTS, digest, measure, stored, tool
from tests.rtl.tools import YOSYS, need


def test_numbers_are_of_these_sources():
    assert stored()["sources"] == digest(), "run python -m benchmarks.area, then make pages"
    assert list(stored()["variants"]) == [variant.name for variant in VARIANTS]


@pytest.mark.rtl
@need(YOSYS)
@pytest.mark.parametrize("unit", ["hfp8_lfsr", "hfp8_convert"])
def test_synthesis_gives_the_stored_numbers(unit):
    if stored()["tool"] != tool():
        pytest.skip(f"the stored numbers are those of {stored()['tool']}, this is {tool()}")
    variant = next(variant for variant in VARIANTS if variant.unit == unit)
    assert measure(variant) == stored()["variants"][variant.name]
