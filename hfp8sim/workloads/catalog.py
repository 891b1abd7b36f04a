"""Workloads by name or path."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

from hfp8sim.errors import InputError, unknown
from hfp8sim.workloads import csv_rows
from hfp8sim.workloads.conv_csv import is_conv_table, load_conv_csv
from hfp8sim.workloads.gemm_csv import load_gemm_csv
from hfp8sim.workloads.records import Workload
from hfp8sim.workloads.trace import MANIFEST, load_trace

_TRACES = {"digits-cnn": "a small CNN trained on real 8x8 digits, one mini-batch with all tensors"}


def workloads() -> dict[str, str]:
    """The shipped workloads: name and one line on each."""
    return dict(_TRACES)


def load_workload(source: str | os.PathLike[str]) -> Workload:
    """A shipped workload by name, or one read from a path.

    Paths: a native trace (a `.npz` file or a directory with a manifest.json), or a GEMM list (`.csv`).
    Raises `InputError` of one line for everything that cannot be read.
    """
    name = os.fspath(source)
    if name in _TRACES:
        with resources.as_file(resources.files(__package__) / "data" / f"{name}.npz") as path:
            return load_trace(path)
    path = Path(name)
    if not path.exists():
        if path.suffix or len(path.parts) > 1:
            raise InputError(f"{path}: no such file; give a path that exists or a shipped workload")
        raise unknown("workload", name, list(workloads()))
    if path.is_dir() or path.suffix == ".npz":
        if path.is_dir() and not (path / MANIFEST).is_file():
            raise InputError(f"{path}: a directory without {MANIFEST}; it is no trace")
        return load_trace(path)
    if path.suffix.lower() in (".csv", ".txt", ".tsv"):
        return load_csv(path)
    raise InputError(
        f"{path}: unknown kind {path.suffix!r}; readable are .npz, .csv and directories"
    )


def load_csv(path: str | os.PathLike[str]) -> Workload:
    """A convolution list or a GEMM list, by the count of numbers in its rows."""
    table = csv_rows.rows(path)
    return load_conv_csv(path) if is_conv_table(table) else load_gemm_csv(path)
