"""`hfp8sim formats`: the registry, and one format's facts, codes and number line."""

from __future__ import annotations

from typing import Annotated

import typer

from hfp8sim.cli.common import app, console


@app.command()
def formats(
    name: Annotated[str | None, typer.Argument(help="a format; without it all are listed")] = None,
) -> None:
    """List the number formats, or show one: facts, code table and number line."""
    from hfp8sim.cli.format_pages import FAMILIES, listing, page

    terminal = console()
    if name:
        terminal.print(page(name))
    else:
        terminal.print(listing())
        terminal.print(FAMILIES, style="dim", markup=False)
