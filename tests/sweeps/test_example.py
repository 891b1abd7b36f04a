"""The tutorial's example: a sweep of arrays and its plot."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.test_examples import load


def test_example_sweeps_arrays_and_draws_them(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    example = load("07")
    result = example.run(chunks=[64, 1024])
    assert result.failed == 0 and len(result) == 2 * (2 + 3)
    by_settings = {
        (row["profile.rounding"], row["profile.chunk_length"]): row["acc_sqnr_db"]
        for row in result.configurations
    }
    assert by_settings["nearest-even", 64] > by_settings["nearest-even", 1024] + 10
    example.draw(result, tmp_path / "plot.svg")
    assert (tmp_path / "plot.svg").read_text("utf-8").rstrip().endswith("</svg>")
