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
    from hfp8sim.verify.coverage import Coverage


_JUNIT = "write the results to this file as JUnit XML"


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
    junit: Annotated[Path | None, typer.Option("--junit", help=_JUNIT)] = None,
) -> int:
    """Compare the compiled units and kernels with the C reference. Exit status 1 if anything differs.

    The fast tier takes less than a minute. --exhaustive tries every triple of a multiply-accumulate, every
    pair of an addition and every binary32 of a conversion; after an interrupt it resumes.
    """
    from hfp8sim import verify as module
    from hfp8sim.files import cache_folder, check_target

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
    for path in (state, junit):
        if path is not None:
            check_target(path)
    if state_path is not None and fresh:
        state_path.unlink(missing_ok=True)
    try:
        with progress_bar("verify") as progress:
            results = module.run(checks, threads=threads, state=state_path, progress=progress)
    except KeyboardInterrupt:
        say(f"interrupted; {state_path} holds the results so far" if state_path else "interrupted")
        sys.exit(INTERRUPTED)
    console().print(summary(results))
    if junit is not None:
        from hfp8sim.verify.junit import write_junit

        write_junit(junit, "hfp8sim.verify", [(check.name, result) for check, result in results])
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
    forms: Annotated[str, typer.Option("--forms", help="hex, npz; comma-separated")] = "hex,npz",
    check: Annotated[
        Path | None,
        typer.Option("--check", help="compare the answers in this file instead of writing"),
    ] = None,
    of: Annotated[
        Path | None, typer.Option("--of", help="the vectors that --check answers, one a line")
    ] = None,
    flags: Annotated[
        bool, typer.Option("--flags/--no-flags", help="compare the flags of --check too")
    ] = True,
    junit: Annotated[Path | None, typer.Option("--junit", help=_JUNIT)] = None,
) -> int:
    """Write test vectors for hardware: operands, mode, random bits, result and flags.

    Text for Verilog's $readmemh and .npz; docs/vectors.md describes both. Equal arguments give equal files.
    With --check nothing is written: the results in a file of vectors are compared with the reference, in the
    bits that are defined. Exit status 1 if any differs.
    """
    if check is not None:
        if units:
            raise InputError("--check takes no units: the file names its own")
        return _check(check, of, flags, junit)
    if of is not None or junit is not None:
        raise InputError("--of and --junit need --check FILE")
    from hfp8sim.verify import vectors as module

    if count > 10_000_000:
        raise InputError(f"count is {count}, must be at most 10000000")
    if count > 1_000_000 and "dot" in (units or module.UNITS):
        raise InputError(f"count is {count}, must be at most 1000000 for dot; name the other units")
    if not forms:
        raise InputError("--forms is empty; it must be hex, npz or both")
    chosen = [mode for mode in modes.split(",") if mode] or None
    for unit in units or list(module.UNITS):
        vector_set = module.vectors(
            unit, profile, phase=phase, modes=chosen, count=count, seed=seed
        )
        for path in module.write_set(vector_set, out, [form for form in forms.split(",") if form]):
            print(path)
        _print_coverage(unit, vector_set.coverage)
    return 0


def _check(path: Path, of: Path | None, flags: bool, junit: Path | None) -> int:
    """Compare the answers in a file, print and write the results; the exit status."""
    from hfp8sim.verify.answers import compare, read_vectors, with_answers

    file = with_answers(read_vectors(of), path) if of is not None else read_vectors(path)
    found = compare(file, flags)
    console().print(_counted([(name, (), result) for name, result in found.results], ("mode",)))
    for name, result in found.results:
        if result.first:
            print(f"{name}, first: {result.first}")
    _print_coverage(file.request.unit, found.coverage)
    if junit is not None:
        from hfp8sim.verify.junit import write_junit

        about = {name: str(value) for name, value in file.about.items()}
        about["coverage"] = found.coverage.lines()[0]
        write_junit(junit, f"hfp8sim.vectors.{file.request.unit}", found.results, about)
    return DIFFERED if found.differed else 0


def _print_coverage(unit: str, coverage: Coverage) -> None:
    """One line a unit, and the bins that no vector reached."""
    print(f"{unit} {coverage.lines()[0]}")
    if coverage.empty:
        listed = ", ".join(coverage.empty[:8])
        more = len(coverage.empty) - 8
        print(f"  empty: {listed}" + (f" and {more} more" if more > 0 else ""))


def summary(results: Sequence[tuple[Check, Result]]) -> Table:
    """One row for each check, its first difference below it, and the total."""
    rows = [(check.name, (check.inputs, check.against), result) for check, result in results]
    return _counted(rows, ("unit", "inputs", "compared"))


def _counted(rows: Sequence[tuple[str, tuple[str, ...], Result]], headings: Sequence[str]) -> Table:
    """Rows of name, further texts and result, and the total."""
    from rich.table import Table

    from hfp8sim.verify import Result

    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in headings:
        table.add_column(heading)
    for heading in ("tried", "differed"):
        table.add_column(heading, justify="right")
    total = Result()
    for name, texts, result in rows:
        total += result
        colour = "red" if result.differed else "green"
        differed = f"[{colour}]{result.differed:,}[/]"
        table.add_row(name, *texts, f"{result.tried:,}", differed)
        if result.first and texts:
            table.add_row("", f"[red]first: {result.first}[/]")
    table.add_section()
    none = [""] * (len(headings) - 1)
    table.add_row("[bold]all[/]", *none, f"{total.tried:,}", f"{total.differed:,}")
    return table
