"""The command `study`: measure the training papers' claims again."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from hfp8sim.cli.common import app, command_line, list_table, print_out, progress_bar
from hfp8sim.errors import InputError


@app.command()
def study(
    name: Annotated[
        list[str] | None, typer.Argument(help="studies, or `all`; without a name they are listed")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="a size of seconds that shows nothing but that it runs")
    ] = False,
    seeds: Annotated[
        int | None, typer.Option(help="how many seeds; the study's own number by default")
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(help="minutes for each study; fewer seeds where it would exceed them"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="write NAME.json, NAME.csv and NAME.svg into this directory")
    ] = None,
) -> None:
    """Measure claims of the training papers again, and say whether they show at this size."""
    from hfp8sim.training.studies.frame import write
    from hfp8sim.training.studies.registry import get_study, studies

    if not name:
        if out is not None or quick:
            raise InputError("name the studies, or `all`: hfp8sim study updates")
        print_out(lambda terminal: terminal.print(_list()))
        return
    if budget is not None and not budget > 0:
        raise InputError(f"--budget is {budget:g}, must be positive")
    for one in [get_study(n) for n in (studies() if name == ["all"] else name)]:
        command = (
            f"hfp8sim study {one.name}" if len(name) > 1 or name == ["all"] else command_line()
        )
        with progress_bar(one.name) as bar:
            record = one.run(
                quick=quick,
                seeds=seeds,
                budget=math.inf if budget is None else budget,
                command=command,
                progress=bar,
            )
        print(record)
        if out is not None:
            for path in write(record, out):
                print(path)


def _list() -> Any:
    from hfp8sim.training.studies.registry import get_study, studies

    table = list_table(("study", "what it shows", "source"))
    for name in studies():
        one = get_study(name)
        table.add_row(one.name, one.title, one.source)
    return table
