"""The table of planted bugs is complete, and fits the sources. (`make mutants` plants them.)"""

from __future__ import annotations

import re

import pytest

from tests.mutants import BOOKKEEPING, MUTANTS, ROOMS, ROOT, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.what)
def test_the_place_is_there(mutant: Mutant) -> None:
    assert (ROOT / mutant.file).read_text(encoding="utf-8").count(mutant.old) == 1
    assert mutant.new != mutant.old


def test_every_test_of_the_arithmetic_has_killed_a_bug() -> None:
    named = {test.split("[")[0] for mutant in MUTANTS for test in mutant.tests}
    written = {
        f"{path.relative_to(ROOT).as_posix()}::{name}"
        for room in ROOMS
        for path in (ROOT / "tests" / room).glob("test_*.py")
        for name in re.findall(r"^(?:def )?(test_\w+)(?:\(| = )", path.read_text("utf-8"), re.M)
    }
    proved = {test for test in written if test.split("::")[1] not in BOOKKEEPING}
    assert proved <= named, sorted(proved - named)
    assert {test for test in named if test.split("/")[1] in ROOMS} <= written
