"""`hfp8sim workloads` and `hfp8sim convert`: what there is to run, and the same in another file."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from hfp8sim.cli.common import (
    BatchOption,
    DimOption,
    WorkloadArgument,
    app,
    console,
    load,
    say,
    sizes,
)
from hfp8sim.errors import InputError


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
    inputs: Annotated[
        Path | None,
        typer.Option(help="run an ONNX model on the arrays of this .npz to record its tensors"),
    ] = None,
) -> None:
    """Write a workload as another file: a trace with all its tensors, or a list for SCALE-Sim."""
    from hfp8sim.cli.programs import read_arrays
    from hfp8sim.cli.run import listed
    from hfp8sim.workloads import load_onnx, save_workload

    if inputs is None:
        loaded = load(workload, batch, dim)
    elif workload.lower().endswith(".onnx"):
        arrays = read_arrays(inputs)
        loaded = load_onnx(workload, batch, sizes(dim), inputs=arrays, values=True)
    else:
        raise InputError(f"{workload}: --inputs goes with an ONNX model")
    for warning in loaded.warnings:
        say(warning)
    wrote = save_workload(target, loaded, kind and kind.value, listed(phase) if phase else None)
    print(f"{target}: {wrote}")


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
    console().print(made)
