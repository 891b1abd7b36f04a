"""`hfp8sim sweep`: many runs or trainings, by a file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hfp8sim.cli.common import BAD_INPUT, INTERRUPTED, app, print_out, progress_bar, say
from hfp8sim.collector import collector_off
from hfp8sim.errors import InputError

if TYPE_CHECKING:
    from hfp8sim.sweeps.result import SweepResult

#: Seconds between two lines of progress where there is no terminal.
_LINE_EVERY = 60.0


@app.command()
def sweep(
    plan: Annotated[Path, typer.Argument(help="a TOML file: docs/sweeps.md has its keys")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="keep each point and write tables, report and best points here; a second start goes on"
        ),
    ] = None,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", help="processes; -1: as many as there are cores")
    ] = -1,
    threads: Annotated[
        int | None, typer.Option(help="worker threads of each process; changes no bit")
    ] = None,
    dask: Annotated[
        str, typer.Option(metavar="ADDRESS", help="run on this Dask scheduler, or `local`")
    ] = "",
    repeat_failed: Annotated[
        bool, typer.Option("--repeat-failed", help="compute failed points of --out again")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="print the points and compute none")
    ] = False,
    form: Annotated[
        str, typer.Option("--format", help="table or csv, on the standard output")
    ] = "table",
) -> None:
    """Run every point of a plan: a grid, a list or a random sample of settings."""
    if form not in ("table", "csv"):
        raise InputError(f"--format is {form}, must be table or csv")
    if dry_run:
        sys.stdout.write(_listed(plan))
        return
    result = _result(plan, out, jobs, threads, dask, repeat_failed)
    if form == "csv":
        sys.stdout.write(result.to_csv())
    else:
        from hfp8sim.sweeps.table import print_result

        print_out(lambda terminal: print_result(result, terminal))
    if out is not None:
        for path in result.save(out):
            if path.parent == out:
                print(path)
    if result.unfinished:
        again = "the same command goes on" if out else "with --out they are kept"
        say(f"interrupted: {result.summary}; {again}")
        sys.exit(INTERRUPTED)
    if result.failed == len(result):
        say(f"every point failed: {result.rows[0]['reason']}")
        sys.exit(BAD_INPUT)


def _result(
    path: Path, out: Path | None, jobs: int, threads: int | None, dask: str, repeat_failed: bool
) -> SweepResult:
    """The points of a plan's file; those that are finished if the command is interrupted."""
    from hfp8sim.sweeps.run import workers

    notice = "stopping; the points that are done are kept" if out else "stopping"
    with _dask(dask) as executor, workers(jobs, executor, out) as server:
        with collector_off():  # the processes load these modules at the same time
            from hfp8sim.simulation.checkpoint import stoppable
            from hfp8sim.sweeps import load_plan
            from hfp8sim.sweeps.drive import SweepInterrupted, run_plan

        plan = load_plan(path)
        with (
            _progress(plan.name) as bar,
            stoppable(lambda: say(notice), lambda: None) as stop,
        ):
            try:
                return run_plan(
                    plan, server, n_jobs=jobs, executor=executor, threads=threads, out=out,
                    repeat_failed=repeat_failed, progress=bar, stop=lambda: stop.requested,
                )  # fmt: skip
            except SweepInterrupted as interrupted:
                return interrupted.result


def _listed(path: Path) -> str:
    """The points of a plan's file as CSV, without computing any."""
    from hfp8sim.report.csv import csv_text
    from hfp8sim.sweeps import load_plan
    from hfp8sim.sweeps.jobs import Resolver
    from hfp8sim.sweeps.keys import cell

    plan = load_plan(path)
    keys = plan.keys
    points = plan.values(Resolver().lookup)
    rows = [[number, *(cell(p.get(key)) for key in keys)] for number, p in enumerate(points)]
    return csv_text([["point", *keys], *rows])


@contextmanager
def _progress(name: str) -> Iterator[Callable[[int, int, str], None]]:
    """A bar with the time left on a terminal; elsewhere a line each minute, for the logs of a cluster."""
    with progress_bar(name) as bar:
        if sys.stderr.isatty():
            yield bar
        else:
            yield _Lines(name)


class _Lines:
    """Progress as lines, at most one each `_LINE_EVERY` seconds."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._start = self._last = time.monotonic()
        self._first: int | None = None  #: work that was there at the start

    def __call__(self, done: int, total: int, what: str) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = done
        if now - self._last < _LINE_EVERY:
            return
        self._last = now
        rate = (done - self._first) / (now - self._start)
        left = f", about {(total - done) / rate / 60:.0f} min left" if rate else ""
        say(f"{self._name}: {what}{left}")


@contextmanager
def _dask(address: str) -> Iterator[Any]:
    """A Dask client of a scheduler, or of a cluster of this machine's processes; None without an address."""
    if not address:
        yield None
        return
    try:
        from distributed import Client
    except ImportError:
        raise InputError('--dask needs an extra: pip install "hfp8sim[dask]"') from None
    try:
        client = Client(threads_per_worker=1) if address == "local" else Client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise InputError(f"--dask {address}: no scheduler answers: {error}") from None
    with client:
        yield client
