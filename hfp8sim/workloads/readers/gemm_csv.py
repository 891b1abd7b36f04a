"""GEMM lists: `Layer, M, N, K,` rows, as SCALE-Sim's `-i gemm` reads them."""

from __future__ import annotations

import os
from pathlib import Path

from hfp8sim.errors import InputError
from hfp8sim.network.records import Layer, Workload, distinct
from hfp8sim.workloads.readers import csv_rows
from hfp8sim.workloads.readers.csv_rows import Row

_NAMES = {
    "name": ("layer", "layername", "name", "layerid", "op", "operator"),
    "m": ("m",),
    "n": ("n",),
    "k": ("k",),
    "groups": ("groups", "group", "g", "batch", "batchsize", "b", "count"),
}
_POSITIONS = {"name": 0, "m": 1, "n": 2, "k": 3}


def load_gemm_csv(path: str | os.PathLike[str]) -> Workload:
    """Read a GEMM list: columns by title where the header has M, N and K, else in that order.

    A `groups` or `batch` column makes each row that many independent products. Rows that are no layer
    are skipped with a warning that names the line. An N:M sparsity column is not used, since the
    machine computes every product. Raises `InputError` for a size out of range and for a file without
    a layer.
    """
    header, table = csv_rows.split_header(csv_rows.rows(path))
    columns = csv_rows.find_columns(header, _NAMES, _POSITIONS)
    unused = csv_rows.unused_columns(header, columns.values())
    layers: list[Layer] = []
    warnings: list[str] = []
    for row in table:
        layer, odd = _read(path, row, columns, unused)
        if layer is not None:
            layers.append(layer)
        if odd:
            warnings.append(f"{path}:{row.line}: {'; '.join(odd)}")
    if not layers:
        raise InputError(
            f"{path}: no layer in it; rows must read 'name, M, N, K' with whole numbers from 1"
        )
    names = distinct(layer.name for layer in layers)
    named = [layer.replace(name=name) for layer, name in zip(layers, names, strict=True)]
    notes = [f"GEMM list {path}", *csv_rows.unused_note(header, unused)]
    return Workload(Path(path).stem, tuple(named), tuple(notes), tuple(warnings))


def _read(
    path: str | os.PathLike[str], row: Row, columns: dict[str, int], unused: set[int]
) -> tuple[Layer | None, list[str]]:
    """The layer in a row (None: it is none) and what is odd about the row."""
    odd: list[str] = []
    read = csv_rows.sizes(path, row, columns, ("m", "n", "k"))
    if isinstance(read, str):
        return None, [f"{row.label()} is no layer: {read}; skipped"]
    groups = csv_rows.optional(path, row, columns, "groups", 1, odd)
    csv_rows.unknown_cells(row, set(columns.values()) | unused, odd)
    name = row.cell(columns["name"]) or f"line {row.line}"
    return Layer(name, "gemm", read["m"], read["n"], read["k"], groups or 1), odd
