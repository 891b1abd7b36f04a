"""The generated pages say what the code says, and the formats command shows it."""

import subprocess
import sys
from pathlib import Path

import pytest

from hfp8sim.units.pages import PAGES

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("page", PAGES)
def test_page_is_current(page):
    assert (DOCS / page).read_text(encoding="utf-8") == PAGES[page](), (
        "run: python -m hfp8sim.units.pages"
    )


def test_formats_command():
    shown = subprocess.run(
        [sys.executable, "-m", "hfp8sim", "formats", "hfp8-143"], capture_output=True, text=True
    )
    assert shown.returncode == 0
    assert "30" in shown.stdout and "0x78" in shown.stdout
    wrong = subprocess.run(
        [sys.executable, "-m", "hfp8sim", "formats", "hfp8-134"], capture_output=True, text=True
    )
    assert wrong.returncode == 2
    assert "did you mean hfp8-143" in wrong.stderr and wrong.stderr.count("\n") == 1
