"""The command line: thin. Bad input is one line on stderr and exit status 2, never a traceback.

Heavy modules are imported inside the commands, so that `hfp8sim --help` is immediate.
"""

from __future__ import annotations

import enum
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hfp8sim.errors import InputError

if TYPE_CHECKING:
    from hfp8sim.report.report import Report
    from hfp8sim.units import Profile

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="A bit-accurate, cycle-approximate emulator of an HFP8 accelerator: what every number would "
    "be, how far off it is, and how long it would take.",
)


class Output(enum.StrEnum):
    """Forms of a report."""

    table = "table"
    csv = "csv"
    json = "json"
    html = "html"


def _console(stderr: bool = False) -> Any:
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False, soft_wrap=False)
    if not stderr and not console.is_terminal:
        console.width = 140  # a file or a pipe: no line is cut
    return console


@contextmanager
def _progress(label: str) -> Iterator[Any]:
    """A progress bar on stderr, as a callback (done, all, what); silent where stderr is no terminal."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = _console(stderr=True)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[what]}"), console=console, transient=True,
        disable=not console.is_terminal,
    ) as bar:  # fmt: skip
        task = bar.add_task(label, total=None, what="")
        yield lambda done, total, what: bar.update(task, completed=done, total=total, what=what)


def settings(profile: str, assignments: list[str]) -> Profile:
    """A profile with `key=value` fields replaced, values typed as the field is."""
    from hfp8sim.errors import unknown
    from hfp8sim.units import get_profile
    from hfp8sim.units.profile import FIELDS

    chosen = get_profile(profile)
    fields: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise InputError(f"--set {assignment!r}: write it as key=value")
        if key not in FIELDS:
            raise unknown("profile field", key, FIELDS)
        fields[key] = value
        if isinstance(getattr(chosen, key), int):
            try:
                fields[key] = int(value)
            except ValueError:
                raise InputError(f"--set {key}={value}: {key} must be an integer") from None
    return chosen.replace(**fields) if fields else chosen


@app.command()
def run(
    workload: Annotated[str, typer.Argument(help="a shipped workload's name, or a file")],
    machine: Annotated[str, typer.Option(help="a preset's name, or a TOML file")] = "rapid-core",
    profile: Annotated[str, typer.Option(help="the arithmetic: see `hfp8sim profiles`")] = "hfp8",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="change a profile's field"),
    ] = None,
    phase: Annotated[str, typer.Option(help="phases, comma-separated")] = "fwd,dgrad,wgrad",
    time_model: Annotated[
        str | None,
        typer.Option(
            help="pipelined, scalesim-os, scalesim-ws or scalesim-is; the machine's by default"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="of drawn tensors and stochastic rounding")] = 0,
    threads: Annotated[
        int | None, typer.Option(help="worker threads; all cores by default")
    ] = None,
    max_macs: Annotated[
        int,
        typer.Option(help="emulate a sample of a layer's outputs beyond this many MACs; 0: never"),
    ] = 1 << 28,
    out: Annotated[Path | None, typer.Option(help="write the report into this directory")] = None,
    output: Annotated[Output, typer.Option("--format", help="form of the report")] = Output.table,
    timeline: Annotated[
        Path | None, typer.Option(help="write a Chrome/Perfetto trace here")
    ] = None,
) -> None:
    """Run a workload and report accuracy and throughput, layer by layer."""
    import dataclasses

    import hfp8sim as hs

    chosen = settings(profile, set_ or [])
    if max_macs < 0:
        raise InputError(f"--max-macs is {max_macs}, must be 0 or more")
    loaded = hs.load_workload(workload)
    with _progress(loaded.name) as progress:
        report = hs.simulate(
            loaded, machine, chosen, seed,
            phases=[p.strip() for p in phase.split(",") if p.strip()], time_model=time_model,
            threads=threads, max_macs=max_macs or None, progress=progress,
        )  # fmt: skip
    report = dataclasses.replace(report, facts={**report.facts, "command": shlex.join(sys.argv)})
    if timeline:
        from hfp8sim.files import write_text

        write_text(timeline, report.to_timeline())
    deliver(report, output, out)


def deliver(report: Report, output: Output, out: Path | None) -> None:
    """Print a report, or write it into a directory."""
    if output is Output.table and out is None:
        show(report)
        return
    from hfp8sim.files import write_text

    suffix = "txt" if output is Output.table else output.value
    if output is Output.table:
        content = table_text(report)
    else:
        content = {
            Output.csv: report.to_csv, Output.json: report.to_json, Output.html: report.to_html
        }[output]()  # fmt: skip
    if out is None:
        sys.stdout.write(content)
        return
    path = write_text(out / f"{report.facts['workload']}.{suffix}", content)
    print(path)


def table_text(report: Report) -> str:
    """The terminal's table as plain text."""
    import io

    from rich.console import Console

    text = io.StringIO()
    show(report, Console(file=text, width=140))
    return text.getvalue()


def show(report: Report, console: Any = None) -> None:
    """The terminal's table, with what was run above and what the figures mean below."""
    from hfp8sim.report.table import legend, table

    console = console or _console()
    facts = report.facts
    machine, profile = facts["machine"], facts["profile"]
    console.print(
        f"[bold]{facts['workload']}[/] on [bold]{machine['name']}[/] "
        f"({facts['peak_macs_per_cycle']} MAC/cycle at {machine['clock_mhz']} MHz, "
        f"{facts['time_model']}), profile [bold]{profile['name']}[/], seed {facts['seed']}"
    )
    console.print(table(report))
    console.print(f"\n[dim]{legend()}[/]")
    for note in report.notes:
        console.print(f"[dim]{note}[/]", markup=True)


@app.command()
def profiles() -> None:
    """List the arithmetic profiles."""
    from rich.table import Table

    from hfp8sim.formats import get_format
    from hfp8sim.units import get_profile
    from hfp8sim.units import profiles as names

    made = Table(box=None, header_style="bold", pad_edge=False)
    for heading in (
        "profile",
        "operands",
        "errors",
        "sum",
        "chunk",
        "step",
        "rounding",
        "what it is",
    ):
        made.add_column(heading)
    for name in names():
        p = get_profile(name)
        made.add_row(
            name, get_format(p.a_format).name, get_format(p.error_format).name,
            get_format(p.accumulator).name, str(p.chunk_length or "–"),
            str(p.products_per_step or "chunk"), p.rounding, p.summary,
        )  # fmt: skip
    _console().print(made)


@app.command()
def machines() -> None:
    """List the machine presets."""
    from rich.table import Table

    import hfp8sim as hs

    made = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("machine", "MAC/cycle", "clock", "peak", "what it is"):
        made.add_column(heading)
    for name in hs.machines():
        m = hs.get_machine(name)
        made.add_row(
            name,
            str(m.macs_per_cycle()),
            f"{m.clock_mhz} MHz",
            f"{m.peak_tflops():.1f} TFLOPS",
            m.summary,
        )
    _console().print(made)


@app.command()
def workloads() -> None:
    """List the shipped workloads."""
    from rich.table import Table

    import hfp8sim as hs
    from hfp8sim.workloads import workloads as names

    made = Table(box=None, header_style="bold", pad_edge=False)
    made.add_column("workload")
    for heading in ("layers", "MMAC forward", "parameters"):
        made.add_column(heading, justify="right")
    made.add_column("what it is")
    for name, summary in names().items():
        w = hs.load_workload(name)
        made.add_row(name, str(len(w)), f"{w.macs() / 1e6:,.1f}", f"{w.parameters:,}", summary)
    _console().print(made)


@app.callback()
def _main(
    version: Annotated[bool, typer.Option("--version", help="print the version and stop")] = False,
) -> None:
    pass


def main() -> None:
    """The console script `hfp8sim`."""
    if "--version" in sys.argv[1:2]:
        import hfp8sim

        print(f"hfp8sim {hfp8sim.__version__}")
        return
    try:
        status = app(standalone_mode=False)
    except InputError as error:
        print(f"hfp8sim: {error}", file=sys.stderr)
        sys.exit(2)
    except typer.TyperException as error:
        print(f"hfp8sim: {error.format_message()}", file=sys.stderr)
        sys.exit(2)
    except (typer.Abort, KeyboardInterrupt):
        print("hfp8sim: interrupted; nothing was written", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except MemoryError:
        print("hfp8sim: out of memory; --max-macs lowers what is emulated at once", file=sys.stderr)
        sys.exit(2)
    sys.exit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()
