"""Commands that make and show reports: `run`, `show` and `theory`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hfp8sim.cli.common import (
    INTERRUPTED,
    app,
    command_line,
    print_out,
    progress_bar,
    say,
    stoppable,
    write_out,
)
from hfp8sim.cli.options import (
    ALL_PHASES,
    REPORT_TABLE,
    BatchOption,
    ColumnsOption,
    DimOption,
    FormOption,
    OutOption,
    PhaseOption,
    PolicyOption,
    ProfileOption,
    RunOptions,
    SetOption,
    WorkloadArgument,
    WorkloadsArgument,
    chosen_profile,
    csv_columns,
    load,
    with_run_options,
)
from hfp8sim.errors import InputError
from hfp8sim.report.forms import FORMS

if TYPE_CHECKING:
    from hfp8sim.report.report import Report
    from hfp8sim.simulation.checkpoint import PartialReport


@app.command()
@with_run_options
def run(
    workload: WorkloadsArgument,
    options: RunOptions,
    out: OutOption = None,
    output: FormOption = REPORT_TABLE,
    columns: ColumnsOption = "",
    timeline: Annotated[
        Path | None, typer.Option(help="write a Chrome/Perfetto trace here")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="go on from the partial report in --out, if there is one"),
    ] = False,
    system: Annotated[
        Path | None,
        typer.Option(help="a TOML file of chips and links: the time of a training step on them"),
    ] = None,
) -> None:
    """Run workloads and report accuracy and throughput, layer by layer."""
    from hfp8sim.cli.several import expanded, run_several
    from hfp8sim.files import write_text

    form, several = output.value, expanded(workload)
    names = csv_columns(columns, form)
    _check_timeline(timeline, options)
    if resume and out is None:
        raise InputError("--resume needs --out, the directory with the partial report")
    if len(several) > 1:
        _check_several(timeline, out, form)
        arguments = _arguments(options, system)

        def run_one(path: str) -> Report:
            report, partial = _run_one(path, options, arguments, out, form, names, resume)
            if out is not None:
                deliver(report, form, out, names)
                partial.remove()
            return report

        run_several(several, run_one)
        return
    arguments = _arguments(options, system)
    report, partial = _run_one(several[0], options, arguments, out, form, names, resume)
    if timeline:
        write_text(timeline, report.to_timeline())
    deliver(report, form, out, names)
    partial.remove()


def _check_several(timeline: Path | None, out: Path | None, form: str) -> None:
    """`InputError` for options that go with one workload."""
    if timeline is not None:
        raise InputError("--timeline goes with one workload")
    if out is None and form != "table":
        raise InputError(f"--format {form} of several workloads needs --out, a directory")


def _arguments(options: RunOptions, system: Path | None) -> dict[str, object]:
    """What `simulate` takes, the same for every workload."""
    return options.common() | {
        "machine": options.machine, "profile": options.arithmetic(), "seed": options.seed,
        "calibrate": options.calibrate, "time_model": options.time_model, "system": system,
    }  # fmt: skip


def _run_one(
    workload: str,
    options: RunOptions,
    arguments: dict[str, object],
    out: Path | None,
    form: str,
    names: Sequence[str],
    resume: bool,
) -> tuple[Report, PartialReport]:
    """The report of one workload, and the partial report to remove when it is delivered."""
    from hfp8sim.simulation.checkpoint import PartialReport, with_command

    loaded = options.load(workload)
    for warning in (*loaded.alerts, *loaded.warnings) if form != "table" or out else ():
        say(warning)  # the table shows them as notes
    partial = PartialReport(out, loaded.name, command_line())
    before = partial.read() if resume else None
    run_arguments = arguments | {"workload": loaded, "resume": before}
    report = with_command(_simulated(run_arguments, partial, form, names), command_line())
    return report, partial


def _check_timeline(path: Path | None, options: RunOptions) -> None:
    """`InputError` if a timeline is asked for that is impossible or cannot be written, before the run starts."""
    from hfp8sim.files import check_target
    from hfp8sim.machine import get_machine
    from hfp8sim.timing import check_timeline

    if path is not None:
        check_timeline(options.time_model or get_machine(options.machine).time_model)
        check_target(path)


def _simulated(
    arguments: dict[str, object], partial: PartialReport, form: str, names: Sequence[str]
) -> Report:
    """The report of a run; after an interrupt the partial report is written and the process ends."""
    from hfp8sim.simulation import Interrupted, simulate

    label = partial.workload
    try:
        with (
            stoppable(lambda: write_partial(partial, form, names)) as stop,
            progress_bar(label) as bar,
        ):
            return simulate(
                **arguments,  # type: ignore[arg-type]
                progress=stop.interruptible(bar), checkpoint=partial.maybe_checkpoint,
            )  # fmt: skip
    except Interrupted as interrupt:
        partial.latest = interrupt.report
        write_partial(partial, form, names)
        sys.exit(INTERRUPTED)


def write_partial(partial: PartialReport, form: str, names: Sequence[str]) -> None:
    """Write the partial report of an interrupted run, into the directory or to the output."""
    from hfp8sim.simulation.checkpoint import with_command

    report = partial.latest
    if report is None or not report.layers:
        say("interrupted before the first row was done; nothing was written")
        return
    done = f"interrupted after {len(report.layers)} of {report.planned} rows"
    if partial.path is None:
        deliver(with_command(report, partial.command), form, None, names)
        say(f"{done}; with --out they are kept, and --resume continues from them")
    else:
        partial.write(report)
        say(f"{done}; {partial.path} holds them, --resume continues from them")


def deliver(report: Report, form: str, out: Path | None, names: Sequence[str] = ()) -> None:
    """Print a report, or write it into a directory."""
    from hfp8sim.report.table import print_report

    if form == "table" and out is None:
        print_out(lambda terminal: print_report(report, terminal))
        return
    content = FORMS[form].render(report, names)
    middle = ".partial" if report.partial else ""
    name = f"{report.name}{middle}.{FORMS[form].suffix}"
    write_out(content, None if out is None else out / name)


@app.command()
def show(
    report: Annotated[Path, typer.Argument(help="a report in JSON")],
    out: Annotated[Path | None, typer.Option(help="write it into this directory")] = None,
    output: FormOption = REPORT_TABLE,
    columns: ColumnsOption = "",
) -> None:
    """Show a report that was written as JSON, in any form."""
    from hfp8sim.report.report import Report

    deliver(Report.load(report), output.value, out, csv_columns(columns, output.value))


@app.command()
def theory(
    workload: WorkloadArgument,
    batch: BatchOption = None,
    dim: DimOption = None,
    profile: ProfileOption = "hfp8",
    set_: SetOption = None,
    policy: PolicyOption = "",
    phase: PhaseOption = ALL_PHASES,
    as_csv: Annotated[bool, typer.Option("--csv", help="comma-separated, all digits")] = False,
) -> None:
    """Say how many accumulator bits each layer's sums need by variance-retention theory."""
    from hfp8sim.report.theory import print_theory, render_csv
    from hfp8sim.simulation import predictions
    from hfp8sim.simulation.variants import split_list

    arithmetic = chosen_profile(profile, set_)
    loaded = load(workload, batch, dim)
    for alert in loaded.alerts:
        say(alert)
    rows = predictions(loaded, arithmetic, split_list(phase), policy)
    if as_csv:
        sys.stdout.write(render_csv(rows))
    else:
        print_out(lambda terminal: print_theory(rows, terminal))
