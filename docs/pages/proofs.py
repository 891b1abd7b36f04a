"""The generated table of docs/proofs.md: how many planted bugs each room has."""

from __future__ import annotations

from pathlib import Path

from docs.pages.markdown import filled, table
from tests.mutants.bugs import Bug, load

PAGE = Path(__file__).parents[1] / "proofs.md"


def page() -> str:
    """The page with the counts of today."""
    return filled(PAGE.read_text("utf-8"), **{"planted bugs": counts()})


def counts() -> str:
    """Planted bugs and their tests, room by room, and the total."""
    bugs = load()
    rooms = sorted({bug.room for bug in bugs})
    rows = [_row(f"`{room}`", [bug for bug in bugs if bug.room == room]) for room in rooms]
    return table(("room", "planted bugs", "tests that find them"), [*rows, _row("all", bugs)])


def _row(name: str, bugs: list[Bug]) -> tuple[str, str, str]:
    tests = {test.split("[")[0] for bug in bugs for test in bug.tests}
    return name, str(len(bugs)), str(len(tests))
