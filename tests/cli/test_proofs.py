"""What `hfp8sim verify` prints."""

from __future__ import annotations

import io

from rich.console import Console

from hfp8sim.cli.proofs import summary
from hfp8sim.verify import Check, Result


def test_summary_states_counts_and_first_difference() -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    check = Check("adder", "all pairs", "A = B", 1, lambda i: Result())
    console.print(summary([(check, Result(1 << 32, 3, "x = 1: 0x2 ≠ 0x3"))]))
    text = console.export_text()
    assert "4,294,967,296" in text and "first: x = 1: 0x2 ≠ 0x3" in text and "all pairs" in text
