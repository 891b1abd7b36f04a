"""The generated page of profiles."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from docs.pages import profiles as docs
from hfp8sim.units.profile import MEANINGS, Profile

ROOT = Path(__file__).parents[2]


def test_the_page_is_current() -> None:
    hint = "python -m docs.pages profiles.md"
    assert (ROOT / "docs/profiles.md").read_text(encoding="utf-8") == docs.page(), hint


def test_every_field_has_a_meaning() -> None:
    fields = {field.name for field in dataclasses.fields(Profile)}
    assert set(MEANINGS) == fields - {"summary"}
