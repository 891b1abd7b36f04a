"""GEMM lists: `Layer, M, N, K,` rows, as SCALE-Sim's `-i gemm` reads them."""

from __future__ import annotations

import os

from hfp8sim.network.records import Layer, Workload
from hfp8sim.workloads.readers.csv_lists import Fields, ListKind, load_list


def load_gemm_csv(path: str | os.PathLike[str]) -> Workload:
    """Read a GEMM list: columns by title where the header has M, N and K, else in that order.

    A `groups` or `batch` column makes each row that many independent products. Rows with numbers that are
    no layer are in `missing`; rows without are skipped with a warning. An N:M sparsity column is not used, since the
    machine computes every product. Raises `InputError` for a size out of range and for a file without
    a layer.
    """
    return load_list(path, GEMM_LIST)


def _read_layer(fields: Fields) -> Layer:
    size = fields.required("m", "n", "k")
    groups = fields.optional("groups") or 1
    return Layer(fields.name, "gemm", size["m"], size["n"], size["k"], groups)


GEMM_LIST = ListKind(
    name="GEMM list",
    titles={
        "name": ("layer", "layername", "name", "layerid", "op", "operator"),
        "m": ("m",),
        "n": ("n",),
        "k": ("k",),
        "groups": ("groups", "group", "g", "batch", "batchsize", "b", "count"),
    },
    positions={"name": 0, "m": 1, "n": 2, "k": 3},
    read_layer=_read_layer,
    row_format="'name, M, N, K' with whole numbers from 1",
)
