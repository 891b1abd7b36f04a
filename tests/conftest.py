"""What holds for every test."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from hfp8sim.formats.registry import FORMATS
from hfp8sim.machine import interpreter
from hfp8sim.recipes.record import RECIPES
from hfp8sim.timing.models import MODELS
from hfp8sim.units.profile import PROFILES

# Processes that tests start keep the bytecode of modules for the next ones, whatever the environment says.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Tests share the processors already: PyTorch's threads would wait for each other, and use up time while they wait.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Shells let what they start in the background, such as a job of CI, ignore Ctrl-C. Processes that tests interrupt must not.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No example is too slow: it may compile, or wait for a processor that others use.
settings.register_profile(
    "tests", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tests")

# Modules and tests are kept to the end: no search for garbage among them.
gc.disable()


def pytest_collection_finish() -> None:
    """Leave what collection has made out of every later search."""
    gc.freeze()
    gc.enable()


#: Files that take longest from an empty cache, begun first: of long files at the end one process would run alone.
LONGEST = (
    "kernels/test_products.py", "kernels/test_targets.py", "training/test_studies.py", "ops/test_products.py",
    "ops/test_convolutions.py", "cli/test_learners.py", "cli/test_cli.py", "training/distributed/test_learners.py",
    "sweeps/test_training.py", "sweeps/test_sweep.py", "training/test_quantisers.py", "lowering/test_bits.py",
    "kernels/test_depthwise.py", "training/test_layers.py", "units/test_update.py", "test_extras.py",
    "c_ref/test_c_ref.py", "_numba/test_disk_cache.py", "formats/test_codec.py", "test_docs.py", "verify/test_verify.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of the longest files first."""
    places = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    missing = [str(path) for path in places if not path.is_file()]
    assert not missing, f"LONGEST has no such file: {missing}"
    items.sort(key=lambda item: places.get(item.path, len(places)))


TABLES: list[dict[str, Any]] = [FORMATS.records, PROFILES.records, RECIPES.records, MODELS]


@pytest.fixture(autouse=True)
def registries_are_restored() -> Iterator[None]:
    """What a test registers is gone after it, so that tests run in any order."""
    kept = [dict(table) for table in TABLES]
    yield
    for table, records in zip(TABLES, kept, strict=True):
        table.clear()
        table.update(records)


@pytest.fixture(autouse=True)
def programs_run_compiled(registries_are_restored: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short programs, as tests have, would be interpreted.

    What a test patches is undone before the registries are restored, since it may be one of their records.
    """
    monkeypatch.setattr(interpreter.INTERPRETED, "steps", 0)
