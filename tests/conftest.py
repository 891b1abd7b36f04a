"""What holds for every test."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from typing import Any

import pytest

from hfp8sim.formats.registry import FORMATS
from hfp8sim.recipes.record import RECIPES
from hfp8sim.timing.models import MODELS
from hfp8sim.units.profile import PROFILES

# Processes that tests start keep the bytecode of modules for the next ones, whatever the environment says.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Modules and tests are kept to the end: no search for garbage among them.
gc.disable()


def pytest_collection_finish() -> None:
    """Leave what collection has made out of every later search."""
    gc.freeze()
    gc.enable()


TABLES: list[dict[str, Any]] = [FORMATS.records, PROFILES.records, RECIPES.records, MODELS]


@pytest.fixture(autouse=True)
def registries_are_restored() -> Iterator[None]:
    """What a test registers is gone after it, so that tests run in any order."""
    kept = [dict(table) for table in TABLES]
    yield
    for table, records in zip(TABLES, kept, strict=True):
        table.clear()
        table.update(records)
