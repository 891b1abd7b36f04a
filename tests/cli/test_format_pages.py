"""The pages that `hfp8sim formats` prints."""

from __future__ import annotations

import pytest
from rich.console import Console

from hfp8sim.cli.format_pages import listing, page
from hfp8sim.formats import formats, get_format
from hfp8sim.formats.describe import exact_text, widths


def printed(renderable: object, width: int = 100) -> str:
    console = Console(width=width, force_terminal=False)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


@pytest.mark.parametrize("name", [*formats(), "hfp8-143@7", "binary6p3se"])
def test_format_page(name: str) -> None:
    text = printed(page(name))
    fmt = get_format(name)
    assert text.startswith(name) and f"({widths(fmt)})" in text and "█" in text
    assert exact_text(fmt.max) in text and "…" not in text
    assert all(len(line.rstrip()) <= 100 for line in text.splitlines())


def test_format_listing() -> None:
    text = printed(listing(), width=160)
    assert all(f"\n{name} " in text for name in formats())
