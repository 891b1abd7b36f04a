"""Workloads by name or path: what is shipped, and which reader takes which file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path

from hfp8sim.errors import InputError, unknown
from hfp8sim.network.records import Workload
from hfp8sim.workloads.models import MODELS, build
from hfp8sim.workloads.readers import csv_rows
from hfp8sim.workloads.readers.conv_csv import is_conv_table, load_conv_csv
from hfp8sim.workloads.readers.gemm_csv import load_gemm_csv
from hfp8sim.workloads.readers.onnx import load_onnx
from hfp8sim.workloads.readers.problems import load_problem
from hfp8sim.workloads.readers.trace import MANIFEST, load_trace

_TRACES = {
    "digits-cnn": "a small CNN trained on real 8x8 digits; a mini-batch of 32 with all tensors"
}


def load_csv(path: str | os.PathLike[str]) -> Workload:
    """A convolution list or a GEMM list, by the count of numbers in its rows."""
    table = csv_rows.rows(path)
    return load_conv_csv(path) if is_conv_table(table) else load_gemm_csv(path)


_READERS: dict[str, Callable[[Path], Workload]] = {
    ".npz": load_trace,
    ".csv": load_csv,
    ".tsv": load_csv,
    ".txt": load_csv,
    ".yaml": load_problem,
    ".yml": load_problem,
}


def workloads() -> dict[str, str]:
    """The shipped workloads: name and one line on each."""
    return _TRACES | {name: model.about for name, model in MODELS.items()}


def load_workload(
    source: str | os.PathLike[str],
    batch: int | None = None,
    dims: Mapping[str, int] | None = None,
) -> Workload:
    """A shipped workload by name, or one read from a path.

    Names are those of `workloads()`. A network that ships as shapes takes a mini-batch, as `batch=32`
    or `"resnet50@32"`; without one it is 1. Paths are read by their ending:

        .npz, or a directory with a manifest.json   native trace
        .csv .tsv .txt                              list of convolutions or GEMMs
        .onnx                                       model; batch and `dims` set its free dimensions
        .yaml .yml                                  ZigZag or Timeloop problem

    Raises `InputError` of one line for everything that cannot be read.
    """
    text = os.fspath(source)
    name, asked = _split_batch(text)
    if name in MODELS:
        if dims:
            raise InputError(f"{name} has no free dimension; dims are for ONNX models")
        if asked is not None and batch is not None and asked != batch:
            raise InputError(f"{text!r} and batch={batch} disagree; give one of them")
        chosen = batch if asked is None else asked
        return build(name, 1 if chosen is None else chosen)
    path = Path(text)
    if path.suffix.lower() == ".onnx":
        _must_exist(path)
        return load_onnx(path, batch, dims)
    if batch is not None or dims:
        raise InputError(f"{text}: batch and dims are for ONNX models and for {', '.join(MODELS)}")
    if text in _TRACES:
        with resources.as_file(resources.files(__package__) / "data" / f"{text}.npz") as shipped:
            return load_trace(shipped)
    return _read(path)


def _split_batch(text: str) -> tuple[str, int | None]:
    """`name@32` in its parts, where the name is a network's."""
    name, at, batch = text.rpartition("@")
    if not at or name not in MODELS:
        return text, None
    if not batch.isdecimal():
        raise InputError(f"{text!r}: the batch after @ must be a whole number, as in {name}@32")
    return name, int(batch)


def _must_exist(path: Path) -> None:
    try:
        if path.exists():
            return
    except (OSError, ValueError) as error:  # a name too long, or with a zero byte
        raise InputError(f"{str(path)[:80]!r}: no usable path: {error}") from None
    if path.suffix.lower() in (".onnx", *_READERS) or len(path.parts) > 1:
        raise InputError(f"{path}: no such file; give a path that exists or a shipped workload")
    raise unknown("workload", str(path), list(workloads()))


def _read(path: Path) -> Workload:
    _must_exist(path)
    if path.is_dir():
        if not (path / MANIFEST).is_file():
            raise InputError(f"{path}: a directory without {MANIFEST}; it is no trace")
        return load_trace(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            f"{path}: no reader for {path.suffix!r} files; there is one for .onnx, {', '.join(_READERS)} "
            "and for trace directories"
        )
    return reader(path)
