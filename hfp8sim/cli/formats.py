"""`hfp8sim formats`: the registry, and one format's facts, codes and number line."""

from __future__ import annotations

from typing import Annotated

import typer

from hfp8sim.cli.common import app, console


@app.command()
def formats(
    name: Annotated[
        str | None, typer.Argument(help="a format; all of them are listed without")
    ] = None,
) -> None:
    """List the number formats, or show one: facts, code table and number line."""
    from hfp8sim.formats.show import FAMILIES, listing, page

    shown = console()
    if name:
        shown.print(page(name))
    else:
        shown.print(listing())
        shown.print(FAMILIES, style="dim", markup=False)
