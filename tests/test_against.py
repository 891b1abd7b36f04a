"""`python -m benchmarks.against`: turns, ratios and checkouts."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import against


def test_checkouts_alternate_and_adjacent_runs_are_compared() -> None:
    order: list[str] = []

    def turn(side: str, seconds: float) -> against.Turn:
        def run() -> float:
            order.append(side)
            return seconds * (1 + len(order) // 2)  # the machine slows down

        return run

    row = against.row("a row", turn("A", 3.0), turn("B", 1.5))
    assert "".join(order).startswith("ABBAABBA")
    assert row.ratio == pytest.approx(2.0, rel=0.1)
    assert row.low <= row.ratio <= row.high
    assert (row.other, row.here) == (3.0, 3.0)


def test_checkout_is_a_folder_or_a_commit(tmp_path: Path) -> None:
    assert against.checkout_of(str(tmp_path)) == tmp_path
    with pytest.raises(SystemExit, match="no-such is neither a folder nor a commit"):
        against.checkout_of("no-such")
