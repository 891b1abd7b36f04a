"""The fold-serial closed forms of SCALE-Sim: `scalesim-os`, `-ws` and `-is` (docs/machine.md)."""

from __future__ import annotations

from hfp8sim.errors import InputError
from hfp8sim.machine.config import TIME_MODELS, Machine
from hfp8sim.network.gemm_shape import GemmShape
from hfp8sim.timing.parts import Parts

MODELS = tuple(name for name in TIME_MODELS if name.startswith("scalesim-"))


def array_size(machine: Machine, operand_bits: int = 8) -> tuple[int, int]:
    """Rows and columns of single multiply-accumulate cells in a core: (R, C)."""
    array = machine.array
    return array.rows * machine.macs_per_lane(operand_bits), array.columns * array.corelets


def fold_serial(shape: GemmShape, model: str, rows: int, columns: int) -> Parts:
    """The parts of a GEMM on an array of rows × columns, by the closed form of `model`.

    The total is SCALE-Sim's "Total Cycles": the index of the last cycle, one less than their number.
    It is taken from the last part that is not empty.
    """
    m, n, k = shape.m, shape.n, shape.k
    if model not in MODELS:
        raise InputError(f"{model!r} has no closed form; {', '.join(MODELS)} have")
    along_rows, along_columns, stream = {
        "scalesim-os": (m, n, k),
        "scalesim-ws": (k, n, m),
        "scalesim-is": (k, m, n),
    }[model]
    folds = shape.groups * -(-along_rows // rows) * -(-along_columns // columns)
    if folds == 0 or stream == 0:
        return Parts()
    parts = Parts(
        fill=folds * (rows - 1),
        compute=folds * stream,
        drain=folds * (columns - 1),
        weight_load=0 if model == "scalesim-os" else folds * rows,
    )
    last = "drain" if columns > 1 else "fill" if rows > 1 else "compute"
    return parts._replace(**{last: getattr(parts, last) - 1})


def share(shape: GemmShape, cores: int) -> GemmShape:
    """What the busiest of several cores gets: groups where there are enough, else rows of the result."""
    if shape.groups >= cores:
        return GemmShape(shape.m, shape.n, shape.k, -(-shape.groups // cores))
    return GemmShape(-(-shape.m // cores), shape.n, shape.k, shape.groups)
