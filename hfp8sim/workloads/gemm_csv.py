"""GEMM lists: `Layer, M, N, K,` rows, as SCALE-Sim's `-i gemm` reads them."""

from __future__ import annotations

import os
from pathlib import Path

from hfp8sim.errors import InputError
from hfp8sim.workloads import csv_rows
from hfp8sim.workloads.csv_rows import Row
from hfp8sim.workloads.records import Layer, Workload, distinct

_NAMES = {
    "name": ("layer", "layername", "name", "layerid", "op", "operator"),
    "m": ("m",),
    "n": ("n",),
    "k": ("k",),
    "groups": ("groups", "group", "g", "batch", "batchsize", "b", "count"),
}
_POSITIONS = {"name": 0, "m": 1, "n": 2, "k": 3}


def is_gemm_header(row: Row) -> bool:
    """True where the titles M, N and K are all there."""
    return {"m", "n", "k"} <= {csv_rows.key_of(cell) for cell in row.cells}


def load_gemm_csv(path: str | os.PathLike[str]) -> Workload:
    """Read a GEMM list: columns by title where the header has M, N and K, else in that order.

    A `groups` or `batch` column makes each row that many independent products. Rows that are no layer
    are skipped with a warning that names the line; an N:M sparsity column is ignored with one, since
    the machine computes every product. Raises `InputError` for a size below 1 and for a file without
    a layer.
    """
    table = csv_rows.rows(path)
    header = table[0] if table and csv_rows.is_header(table[0]) else None
    columns = csv_rows.find_columns(header, _NAMES, _POSITIONS)
    known = max(columns.values()) + 1
    found, warnings = [], []
    for row in table[1:] if header else table:
        read = csv_rows.sizes(path, row, columns, ("m", "n", "k"))
        if isinstance(read, str):
            warnings.append(f"{path}:{row.line}: {row.label()} is no layer: {read}; skipped")
            continue
        groups, odd = 1, []
        if "groups" in columns and row.cell(columns["groups"]):
            given = csv_rows.sizes(path, row, columns, ("groups",))
            if isinstance(given, str):
                odd.append(f"{given}; taken as 1")
            else:
                groups = given["groups"]
        extra = [cell for cell in row.cells[known:] if cell]
        if extra:
            odd.append(f"ignored {', '.join(map(repr, extra))} after the last known column")
        if odd:
            warnings.append(f"{path}:{row.line}: {'; '.join(odd)}")
        found.append((row, groups, read))
    if not found:
        raise InputError(
            f"{path}: no layer in it; rows must read 'name, M, N, K' with whole numbers from 1"
        )
    names = distinct(row.cell(columns["name"]) or f"line {row.line}" for row, _, _ in found)
    layers = []
    for name, (row, groups, read) in zip(names, found, strict=True):
        try:
            layers.append(Layer(name, "gemm", read["m"], read["n"], read["k"], groups))
        except InputError as error:
            raise InputError(f"{path}:{row.line}: {error}") from None
    return Workload(Path(path).stem, tuple(layers), (f"GEMM list {path}",), tuple(warnings))
