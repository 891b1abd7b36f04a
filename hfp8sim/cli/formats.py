"""Commands that list what the package ships: `formats`, `profiles` and `machines`."""

from __future__ import annotations

from typing import Annotated

import typer

from hfp8sim.cli.common import app, console, list_table


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


@app.command()
def profiles() -> None:
    """List the arithmetic profiles."""
    from hfp8sim.formats import get_format
    from hfp8sim.units import get_profile
    from hfp8sim.units import profiles as names

    table = list_table(
        ("profile", "operands", "errors", "sum", "chunk", "step", "rounding", "what it is")
    )
    for name in names():
        profile = get_profile(name)
        table.add_row(
            name, get_format(profile.a_format).name, get_format(profile.error_format).name,
            get_format(profile.accumulator).name, str(profile.chunk_length or "–"),
            str(profile.products_per_step or "chunk"), profile.rounding, profile.summary,
        )  # fmt: skip
    console().print(table)


@app.command()
def machines() -> None:
    """List the machine presets and the time models."""
    from hfp8sim.machine import get_machine
    from hfp8sim.machine import machines as names
    from hfp8sim.timing import MODELS

    presets = list_table(("machine", "MAC/cycle", "clock", "peak", "what it is"))
    for name in names():
        machine = get_machine(name)
        presets.add_row(
            name, str(machine.macs_per_cycle()), f"{machine.clock_mhz} MHz",
            f"{machine.peak_tflops():.1f} TFLOPS", machine.summary,
        )  # fmt: skip
    models = list_table(("time model", "what it is"))
    for name, model in MODELS.items():
        models.add_row(name, model.summary)
    terminal = console()
    terminal.print(presets)
    terminal.print()
    terminal.print(models)
