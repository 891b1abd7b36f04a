"""What every test has: registries of its own."""

from __future__ import annotations

import pytest

from hfp8sim.formats.registry import FORMATS
from hfp8sim.recipes.record import RECIPES
from hfp8sim.units.profile import PROFILES


@pytest.fixture(autouse=True)
def registry_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it, so that tests run in any order."""
    for registry in FORMATS, PROFILES, RECIPES:
        monkeypatch.setattr(registry, "records", dict(registry.records))
