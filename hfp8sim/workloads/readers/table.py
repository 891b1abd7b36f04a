"""The table of readers: which files each one reads. A new kind of file is one row of `READERS`.

`load_workload`, its error texts and the list in docs/workloads.md follow from the table.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from hfp8sim.errors import InputError
from hfp8sim.network.records import Workload
from hfp8sim.workloads.readers import csv_rows
from hfp8sim.workloads.readers.conv_csv import CONV_LIST, is_conv_list
from hfp8sim.workloads.readers.csv_lists import load_list
from hfp8sim.workloads.readers.gemm_csv import GEMM_LIST
from hfp8sim.workloads.readers.onnx import load_onnx
from hfp8sim.workloads.readers.problems import load_problem
from hfp8sim.workloads.readers.trace import MANIFEST, load_trace


class Reader(NamedTuple):
    """One kind of file that `load_workload` reads."""

    suffixes: tuple[str, ...]  #: endings of such files, in lower case with the dot
    #: `load(path)`; if `has_dimensions`, `load(path, batch, dims, inputs=, values=, weights=)`
    load: Callable[..., Workload]
    about: str  #: what such a file is, as Markdown for docs/workloads.md
    tensors: str  #: which tensors it holds, in words
    manifest: str = ""  #: a directory that holds this file is read too; "": no directory is
    has_dimensions: bool = False  #: accepts `batch` and `dims`
    skips_values: bool = False  #: accepts `values=False`: shapes alone


def load_csv(path: str | os.PathLike[str]) -> Workload:
    """Read a convolution list or a GEMM list; titles and numbers of its rows decide which it is."""
    rows = csv_rows.read_rows(path)
    return load_list(path, CONV_LIST if is_conv_list(rows) else GEMM_LIST, rows)


READERS: list[Reader] = [
    Reader(
        (".npz",),
        load_trace,
        "[native trace](#native-trace)",
        "yes",
        manifest=MANIFEST,
        skips_values=True,
    ),
    Reader((".csv", ".tsv", ".txt"), load_csv, "[list of convolutions or GEMMs](#csv-lists)", "no"),
    Reader(
        (".onnx",),
        load_onnx,
        "[ONNX model](#onnx)",
        "weights, and activations of an input",
        has_dimensions=True,
    ),
    Reader(
        (".yaml", ".yml"),
        load_problem,
        "[ZigZag workload or Timeloop problem](#zigzag-and-timeloop)",
        "no",
    ),
]


def known_suffixes(readers: Iterable[Reader]) -> list[str]:
    """Every ending that one of the readers reads."""
    return [suffix for reader in readers for suffix in reader.suffixes]


def find_reader(path: Path) -> Reader:
    """The reader for a path that exists, by its ending, or by its manifest if it is a directory.

    Raises `InputError` where no reader fits.
    """
    if path.is_dir():
        manifests = {reader.manifest: reader for reader in READERS if reader.manifest}
        for manifest, reader in manifests.items():
            if (path / manifest).is_file():
                return reader
        raise InputError(f"{path}: a directory without {' or '.join(manifests)}; it is no trace")
    for reader in READERS:
        if path.suffix.lower() in reader.suffixes:
            return reader
    raise InputError(
        f"{path}: no reader for {path.suffix!r} files; there is one for "
        f"{', '.join(known_suffixes(READERS))} and for trace directories"
    )
