"""`hfp8sim verify` compares with the C reference; `hfp8sim vectors` writes test vectors for hardware."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hfp8sim.cli.common import DIFFERED, INTERRUPTED, app, console, progress_bar, say
from hfp8sim.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from hfp8sim.verify import Check, Result


@app.command()
def verify(
    exhaustive: Annotated[
        bool, typer.Option("--exhaustive", help="everything that can be tried: minutes, resumable")
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="checks whose name contains this; repeatable")
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="list the checks and stop")] = False,
    threads: Annotated[int | None, typer.Option("--threads", help="all cores by default")] = None,
    state: Annotated[
        Path | None,
        typer.Option("--state", help="the file with the results so far of --exhaustive"),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="forget what was tried before")] = False,
) -> int:
    """Compare the compiled units and kernels with the C reference. Exit status 1 if anything differs.

    The fast tier takes less than a minute. --exhaustive tries every triple of a multiply-accumulate, every
    pair of an addition and every binary32 of a conversion; after an interrupt it resumes.
    """
    from hfp8sim import verify as module
    from hfp8sim.files import cache_folder

    checks = module.checks(exhaustive)
    for text in only or []:
        if not any(text in check.name for check in checks):
            raise InputError(f"no check's name contains {text!r}; --list shows them")
    checks = [c for c in checks if not only or any(text in c.name for text in only)]
    if listed:
        for check in checks:
            print(f"{check.name}: {check.inputs}; {check.against}")
        return 0
    state_path = state or (cache_folder() / "verify-state.json" if exhaustive else None)
    if state_path is not None and fresh:
        state_path.unlink(missing_ok=True)
    try:
        with progress_bar("verify") as progress:
            results = module.run(checks, threads=threads, state=state_path, progress=progress)
    except KeyboardInterrupt:
        say(f"interrupted; {state_path} holds the results so far" if state_path else "interrupted")
        sys.exit(INTERRUPTED)
    console().print(summary(results))
    return DIFFERED if any(result.differed for _, result in results) else 0


@app.command()
def vectors(
    units: Annotated[
        list[str] | None, typer.Argument(help="convert, fma, fmma, add, dot; all by default")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="folder for UNIT.hex and UNIT.npz")] = Path(
        "vectors"
    ),
    profile: Annotated[str, typer.Option("--profile", help="formats and choices")] = "hfp8",
    phase: Annotated[
        str, typer.Option("--phase", help="whose operands: fwd, dgrad, wgrad")
    ] = "fwd",
    modes: Annotated[
        str, typer.Option("--modes", help="rounding modes, comma-separated; all by default")
    ] = "",
    count: Annotated[int, typer.Option("--count", help="vectors per unit")] = 4096,
    seed: Annotated[int, typer.Option("--seed", help="of operands and random bits")] = 0,
) -> None:
    """Write test vectors for hardware: operands, mode, random bits, result and flags.

    Text for Verilog's $readmemh and .npz; docs/vectors.md describes both. Equal arguments give equal files.
    """
    from hfp8sim.verify.vectors import UNITS, write

    if count > 10_000_000:
        raise InputError(f"count is {count}, must be at most 10000000")
    chosen = [mode for mode in modes.split(",") if mode] or None
    for path in write(
        out, units or list(UNITS), profile, phase=phase, modes=chosen, count=count, seed=seed
    ):
        print(path)


def summary(results: Sequence[tuple[Check, Result]]) -> Table:
    """One row for each check, its first difference below it, and the total."""
    from rich.table import Table

    from hfp8sim.verify import Result

    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("unit", "inputs", "compared"):
        table.add_column(heading)
    for heading in ("tried", "differed"):
        table.add_column(heading, justify="right")
    total = Result()
    for check, result in results:
        total += result
        colour = "red" if result.differed else "green"
        differed = f"[{colour}]{result.differed:,}[/]"
        table.add_row(check.name, check.inputs, check.against, f"{result.tried:,}", differed)
        if result.first:
            table.add_row("", f"[red]first: {result.first}[/]")
    table.add_section()
    table.add_row("[bold]all[/]", "", "", f"{total.tried:,}", f"{total.differed:,}")
    return table
