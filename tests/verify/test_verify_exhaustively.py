"""The part of `hfp8sim verify --exhaustive` that the tests run: the arithmetic of the profile `hfp8`."""

from __future__ import annotations

import dataclasses

import pytest

from hfp8sim import verify
from hfp8sim.verify import Result


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "name",
    [
        "multiply-accumulate hfp8-143 × hfp8-143 + dlfloat16, nearest-away",
        "addition dlfloat16, nearest-away",
    ],
)
def test_all_inputs(name: str) -> None:
    (check,) = (check for check in verify.checks(exhaustive=True) if check.name == name)
    ((_, result),) = verify.run([check], threads=1)
    assert result == Result(1 << 32)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["update of 1-6-9 weights, stochastic-a", "update residual-wide"])
def test_updates(name: str) -> None:
    """Every eleventh part, as all of them take minutes; `hfp8sim verify --exhaustive` runs all."""
    (check,) = (check for check in verify.checks(exhaustive=True) if check.name == name)
    parts = range(0, check.parts, 11)
    sampled = dataclasses.replace(check, parts=len(parts), part=lambda i: check.part(parts[i]))
    ((_, result),) = verify.run([sampled])
    assert result == Result(len(parts) << 16)
