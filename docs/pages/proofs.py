"""The generated part of docs/proofs.md: how many planted bugs each room has."""

from __future__ import annotations

from pathlib import Path

from docs.pages.reference import table
from tests.mutants.bugs import load

PAGE = Path(__file__).parents[1] / "proofs.md"
MARKERS = "<!-- planted bugs -->", "<!-- end of planted bugs -->"


def counts() -> str:
    """Planted bugs and their tests, room by room, and the total."""
    bugs = load()
    rooms = sorted({bug.room for bug in bugs})
    rows = [_row(f"`{room}`", [bug for bug in bugs if bug.room == room]) for room in rooms]
    return table(("room", "planted bugs", "tests that find them"), [*rows, _row("all", bugs)])


def _row(name: str, bugs: list) -> tuple[str, str, str]:  # type: ignore[type-arg]
    tests = {test.split("[")[0] for bug in bugs for test in bug.tests}
    return name, str(len(bugs)), str(len(tests))


def page() -> str:
    """docs/proofs.md with the counts of today between its markers."""
    head, _, rest = PAGE.read_text("utf-8").partition(MARKERS[0])
    return f"{head}{MARKERS[0]}\n{counts()}{MARKERS[1]}{rest.partition(MARKERS[1])[2]}"
