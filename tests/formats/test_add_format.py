"""A format is added with one record, and works everywhere at once."""

from __future__ import annotations

import numpy as np

import hfp8sim as hs
from hfp8sim.formats.describe import properties
from hfp8sim.testing import laws
from tests.units.problems import compare


def test_add_format() -> None:
    hs.register_format(
        hs.FloatFormat(
            "mine-134", exponent_bits=3, fraction_bits=4, bias=3, special="fn", source="a paper"
        )
    )
    mine = hs.get_format("mine-134")
    laws.check_format(mine)
    profile = hs.get_profile("hfp8").replace(a_format="mine-134", b_format="mine-134")
    a = mine.encode(np.linspace(-2, 2, 3 * 70).reshape(3, 70))
    b = mine.encode(np.linspace(-1, 3, 70 * 2).reshape(70, 2))
    compare(profile, mine, mine, a, b)  # fast kernel = plain loop = C reference = exact oracle
    assert ("what it is", "a paper") in properties(mine)
