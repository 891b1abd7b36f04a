"""Workloads by name or path: what is shipped, and which reader takes which file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import numpy as np

from hfp8sim.errors import InputError, unknown
from hfp8sim.floating_point import standard_arithmetic
from hfp8sim.network.records import Workload
from hfp8sim.workloads.models import MODELS, build
from hfp8sim.workloads.readers.onnx_model import Dims
from hfp8sim.workloads.readers.table import READERS, find_reader, known_suffixes
from hfp8sim.workloads.readers.trace import load_trace

#: Shipped networks with their tensors: name and one line on each. The files are in `data/`.
_TRACES = {
    "digits-cnn": "a small CNN trained on real 8x8 digits; a mini-batch of 32 with all tensors"
}


def workloads() -> dict[str, str]:
    """The shipped workloads: name and one line on each."""
    return _TRACES | {name: model.about for name, model in MODELS.items()}


@standard_arithmetic
def load_workload(
    source: str | os.PathLike[str],
    batch: int | None = None,
    dims: Dims | None = None,
    *,
    inputs: Mapping[str, np.ndarray] | None = None,
    values: bool | None = None,
    weights: bool = True,
) -> Workload:
    """A shipped workload by name, or one read from a path.

    Names are those of `workloads()`. Paths are read by their ending, or as a directory with a
    manifest.json, by the table `hfp8sim.workloads.readers.table.READERS`.

    Args:
        source: a name or a path. `"resnet50@32"` is `"resnet50"` with `batch=32`.
        batch: the mini-batch of a network that ships as shapes, or the size of an ONNX model's free
            first dimension; 1 if not given.
        dims: sizes of an ONNX model's other free dimensions; see `load_onnx`.
        inputs: arrays of an ONNX model's inputs, by name.
        values: whether to run an ONNX model for its activations; None decides by its size.
        weights: whether to read tensors of a trace and weights of an ONNX model. False is for time alone:
            nothing is evaluated.

    Raises `InputError` of one line for everything that cannot be read.
    """
    if not isinstance(source, str | os.PathLike):
        raise InputError(f"workload is {source!r:.60}; it must be a name, a path or a Workload")
    text = str(os.fspath(source))
    name, suffix = _split_batch(text)
    if inputs and Path(text).suffix.lower() != ".onnx":
        raise InputError(f"{text}: inputs are for ONNX models")
    if name in MODELS:
        if dims:
            raise InputError(f"{name} has no free dimension; dims are for ONNX models")
        if suffix is not None and batch is not None and suffix != batch:
            raise InputError(f"{text!r} and batch={batch} disagree; give one of them")
        size = batch if suffix is None else suffix
        return build(name, 1 if size is None else size)
    path = Path(text)
    if text in _TRACES:
        _refuse_dimensions(text, batch, dims)
        with resources.as_file(resources.files(__package__) / "data" / f"{text}.npz") as shipped:
            return load_trace(shipped, values=weights)
    _check_path(path)
    reader = find_reader(path)
    if reader.has_dimensions:
        return reader.load(path, batch, dims, inputs=inputs, values=values, weights=weights)
    _refuse_dimensions(text, batch, dims)
    return reader.load(path, values=weights) if reader.skips_values else reader.load(path)


def _split_batch(text: str) -> tuple[str, int | None]:
    """(name, batch) of `name@32`, if the name is a shipped network; else the text and None."""
    name, separator, batch = text.rpartition("@")
    if not separator or name not in MODELS:
        return text, None
    if not batch.isdecimal():
        raise InputError(f"{text!r}: the batch after @ must be a whole number, as in {name}@32")
    return name, int(batch)


def _check_path(path: Path) -> None:
    """Raise `InputError` if nothing exists at the path; a mistyped name gives the nearest names."""
    try:
        if path.exists():
            return
    except (OSError, ValueError) as error:  # a name too long, or with a zero byte
        raise InputError(f"{str(path)[:80]!r}: no usable path: {error}") from None
    if path.suffix.lower() in known_suffixes(READERS) or len(path.parts) > 1:
        raise InputError(f"{path}: no such file; give a path that exists or a shipped workload")
    raise unknown("workload", str(path), list(workloads()))


def _refuse_dimensions(text: str, batch: int | None, dims: Dims | None) -> None:
    if batch is not None or dims:
        raise InputError(f"{text}: batch and dims are for ONNX models and for {', '.join(MODELS)}")
