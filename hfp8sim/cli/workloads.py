"""`hfp8sim workloads` and `hfp8sim convert`: list the shipped workloads, write one as another file."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from hfp8sim.cli.common import app, check_not_source, console, list_table, say
from hfp8sim.cli.options import (
    BatchOption,
    CalibrateOnOption,
    CalibrateOption,
    DimOption,
    InputOption,
    InputsOption,
    PolicyOption,
    ProfileOption,
    SetOption,
    WorkloadArgument,
    calibrated,
    chosen_profile,
    load,
)


class Kind(enum.StrEnum):
    """Kinds of file that `convert` writes."""

    trace = "trace"
    conv = "conv"
    gemm = "gemm"


@app.command()
def convert(
    workload: WorkloadArgument,
    target: Annotated[
        Path, typer.Argument(help="a trace: .npz, or a directory; a SCALE-Sim list: .csv")
    ],
    kind: Annotated[
        Kind | None,
        typer.Option(
            "--as", help="kind of file; a .csv is conv where that list can say it, else gemm"
        ),
    ] = None,
    phase: Annotated[
        str, typer.Option("--phase", help="phases, comma-separated; all in a trace, fwd in a list")
    ] = "",
    batch: BatchOption = None,
    dim: DimOption = None,
    input_: InputOption = None,
    inputs: InputsOption = None,
    calibrate: CalibrateOption = None,
    calibrate_on: CalibrateOnOption = None,
    profile: ProfileOption = "hfp8",
    set_: SetOption = None,
    policy: PolicyOption = "",
) -> None:
    """Write a workload as another file: a trace with all its tensors, or a list for SCALE-Sim.

    With --calibrate the trace holds each operand's exponent bias or scale, for the formats of --profile.
    """
    from hfp8sim.simulation.variants import split_list
    from hfp8sim.workloads import save_workload

    check_not_source(target, workload, calibrate_on)
    loaded = load(workload, batch, dim, input_, inputs)
    arithmetic = chosen_profile(profile, set_)
    loaded = calibrated(loaded, arithmetic, calibrate, calibrate_on, policy=policy)
    for warning in (*loaded.alerts, *loaded.warnings):
        say(warning)
    if loaded.calibration and target.suffix.lower() == ".csv":
        say("a list holds no calibration; a trace (.npz) does")
    summary = save_workload(
        target, loaded, kind and kind.value, split_list(phase) if phase else None
    )
    print(f"{target}: {summary}")


@app.command()
def workloads() -> None:
    """List the shipped workloads."""
    from hfp8sim.workloads import load_workload
    from hfp8sim.workloads import workloads as names

    numbers = ("layers", "MMAC forward", "parameters")
    table = list_table(("workload", *numbers, "what it is"), numbers)
    for name, summary in names().items():
        loaded = load_workload(name)
        macs = f"{loaded.macs() / 1e6:,.1f}"
        table.add_row(name, str(len(loaded)), macs, f"{loaded.parameters:,}", summary)
    console().print(table)
