"""The generated page of profiles."""

from __future__ import annotations

from pathlib import Path

from docs.pages import profiles as docs
from hfp8sim.units.profile import FIELDS

ROOT = Path(__file__).parents[2]


def test_the_page_is_current() -> None:
    hint = "python -m docs.pages profiles.md"
    assert (ROOT / "docs/profiles.md").read_text(encoding="utf-8") == docs.page(), hint


def test_every_field_has_a_meaning() -> None:
    assert set(docs._MEANING) == set(FIELDS)
