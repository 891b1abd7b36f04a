"""docs/peers.md: every reproduction on it runs, and shows what the text says."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "docs/peers.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("number", range(1, len(BLOCKS)))
def test_reproduction(number: int) -> None:
    scope: dict[str, object] = {}
    exec(BLOCKS[0], scope)
    exec(BLOCKS[number], scope)


def test_the_versions_are_the_installed_ones() -> None:
    """Where a release mends something, the page must say so: compare again before changing this."""
    for name, package in (
        ("ml_dtypes", "ml_dtypes"),
        ("gfloat", "gfloat"),
        ("APyTypes", "apytypes"),
    ):
        assert f"{name} {version(package)}" in PAGE


def test_every_claim_has_a_reproduction() -> None:
    """A bold sentence between the first heading and "Measured elsewhere" is followed by a program."""
    live = PAGE.split("## ml_dtypes")[1].split("## Measured elsewhere")[0]
    assert len(re.findall(r"^\*\*", live, re.MULTILINE)) == len(BLOCKS) - 1
