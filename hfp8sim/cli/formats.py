"""Commands that list what the package ships: `formats`, `profiles` and `machines`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from hfp8sim.cli.common import app, console, list_table, write_out
from hfp8sim.errors import InputError


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
def machines(
    name: Annotated[
        str | None, typer.Argument(help="a machine or its file; without it all are listed")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            help="a CSV file of measured products, to compare the time model `multicast` with"
        ),
    ] = None,
    programs: Annotated[
        bool,
        typer.Option(
            "--programs", help="with --against: also lower each product, and time its program"
        ),
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(help="with --against: write a plot here, an SVG file")
    ] = None,
) -> None:
    """List the machine presets and the time models, or show one machine: its values, and how public they are."""
    if against is not None and name is None:
        raise InputError("--against needs the name of a machine")
    if against is None and (programs or plot is not None):
        raise InputError("--programs and --plot go with --against")
    if name is None:
        _list_machines()
    elif against is None:
        _show_machine(name)
    else:
        _compare_machine(name, against, programs, plot)


def _list_machines() -> None:
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


def _show_machine(name: str) -> None:
    from hfp8sim.machine import get_machine
    from hfp8sim.machine.config import number_fields

    machine = get_machine(name)
    table = list_table(("key", "value", "is", "meaning"))
    for key, field in number_fields():
        status = machine.status(key)
        table.add_row(key, str(machine[key]), status, field.metadata["meaning"])
    terminal = console()
    terminal.print(f"{machine.name}: {machine.summary}", markup=False)
    terminal.print(table)


def _compare_machine(name: str, against: Path, programs: bool, plot: Path | None) -> None:
    from hfp8sim.machine import get_machine
    from hfp8sim.timing import silicon

    machine = get_machine(name)
    rows = silicon.read_measurements(against, machine)
    timed = silicon.program_rows(rows, machine) if programs else []
    by_product = silicon.products(timed)
    headings = (
        "bits", "M×N×K", "splits", "fastest", "device µs", "model µs", "model", *["program"] * programs,
        "all splits", "roofline", "rank", "without K", "preferred",
    )  # fmt: skip
    table = list_table(headings)
    for product, measured in silicon.products(rows).items():
        (bits, shape), best = product, measured[0]
        whole = [row for row in measured if row.split.k == 1]
        program = [f"{row.ratio:.2f}" for row in by_product.get(product, [])[:1]]
        agreement = silicon.Agreement.of([row.ratio for row in measured])
        spread = f"{agreement.lowest:.2f}–{agreement.highest:.2f}" if len(measured) > 1 else "–"
        table.add_row(
            str(bits), "×".join(map(str, shape[1:])), str(len(measured)),
            "×".join(map(str, best.split[1:])), f"{best.device:.1f}", f"{best.model:.1f}",
            f"{best.ratio:.2f}", *program, spread, f"{silicon.roofline_row(best, machine).ratio:.2f}",
            _decimal(silicon.rank_correlation(measured)), _decimal(silicon.rank_correlation(whole)),
            f"{silicon.regret(measured):.2f}" if len(measured) > 1 else "–",
        )  # fmt: skip
    terminal = console()
    terminal.print(table)
    for what, found in silicon.agreements(rows, machine, timed).items():
        terminal.print(
            f"{what}: {found.rows}; median |ln(model/device)| {found.median_log:.3f}; "
            f"{found.within_30:.1%} within 30%; {found.lowest:.2f} to {found.highest:.2f}",
            highlight=False,
        )
    if plot is not None:
        from hfp8sim.report.silicon_plot import render

        write_out(render(rows, machine, timed), plot)


def _decimal(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"
