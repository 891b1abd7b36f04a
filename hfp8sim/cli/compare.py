"""`hfp8sim compare`: reports side by side, read from files or computed for varied options."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hfp8sim.cli.common import (
    app,
    command_line,
    nothing_written,
    print_out,
    progress_bar,
    say,
    stoppable,
    write_out,
)
from hfp8sim.cli.options import (
    COMPARISON_TABLE,
    ComparisonFormOption,
    RunOptions,
    with_run_options,
)
from hfp8sim.errors import InputError
from hfp8sim.report.forms import COMPARISON_FORMS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hfp8sim.report.report import Comparison, Report


@app.command()
@with_run_options
def compare(
    runs: Annotated[list[str], typer.Argument(help="reports in JSON; or a workload, with --vary")],
    options: RunOptions,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=V1,V2,…",
            help="run the workload once for each value of machine, profile, time_model, seed, "
            "calibrate, or a profile's field; several give every combination",
        ),
    ] = None,
    columns: Annotated[
        str, typer.Option(metavar="NAME,…", help="the columns to compare layer by layer")
    ] = "",
    out: Annotated[
        Path | None, typer.Option(help="write the comparison, and the runs as JSON, here")
    ] = None,
    output: ComparisonFormOption = COMPARISON_TABLE,
) -> None:
    """Compare two or more runs: their totals, and what changed in every layer."""
    from hfp8sim.files import check_folder
    from hfp8sim.report.comparison import check_columns
    from hfp8sim.report.report import Report
    from hfp8sim.report.report import compare as side_by_side
    from hfp8sim.simulation.variants import split_list

    names = check_columns(split_list(columns))
    if out is not None:
        check_folder(out)
    if vary:
        reports = _varied_reports(runs, vary, options)
        comparison = side_by_side(reports)
        if out is not None:
            for letter, report in zip(comparison.letters, reports, strict=True):
                write_out(report.to_json(), out / f"{report.name}.{letter}.json")
    elif len(runs) < 2:
        raise InputError(
            "a comparison needs two reports in JSON, or a workload and what to vary, as in "
            f"{runs[0]} --vary chunk_length=16,64"
        )
    else:
        comparison = side_by_side([Report.load(path) for path in runs])
    _deliver(comparison, output.value, out, names)


def _varied_reports(runs: Sequence[str], vary: list[str], options: RunOptions) -> list[Report]:
    """One report for each combination of the varied options."""
    from hfp8sim.simulation import simulate
    from hfp8sim.simulation.checkpoint import with_command
    from hfp8sim.simulation.variants import variants

    if len(runs) != 1:
        raise InputError("--vary takes one workload; without it, give reports in JSON")
    loaded, common = options.load(runs[0]), options.common()
    planned = variants(
        vary, options.machine, options.profile, options.set_ or [], options.time_model, options.seed,
        options.calibrate,
    )  # fmt: skip
    reports = []
    for variant in planned:
        with stoppable(nothing_written) as stop, progress_bar(variant.name) as bar:
            report = simulate(loaded, **variant.options, **common, progress=stop.interruptible(bar))
        reports.append(with_command(report, command_line()))
    return reports


def _deliver(comparison: Comparison, form: str, out: Path | None, names: Sequence[str]) -> None:
    """Print a comparison, or write it into a directory."""
    from hfp8sim.report.comparison_table import print_comparison

    if form == "table" and out is None:
        print_out(lambda terminal: print_comparison(comparison, names, terminal))
        return
    for alert in comparison.alerts():
        say(alert)  # the table shows them
    content = COMPARISON_FORMS[form].render(comparison, names)
    suffix = COMPARISON_FORMS[form].suffix
    write_out(content, None if out is None else out / f"comparison.{suffix}")
