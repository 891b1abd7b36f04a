"""The fold-serial closed forms of SCALE-Sim: `scalesim-os`, `-ws` and `-is` (docs/machine.md).

Two of a GEMM's three sizes, S_R and S_C, are laid along the array's rows and columns; the third one is
streamed. The array computes ⌈S_R/R⌉·⌈S_C/C⌉ folds one after the other.
"""

from __future__ import annotations

import dataclasses

from hfp8sim.machine.config import Machine
from hfp8sim.network import GemmShape
from hfp8sim.timing.parts import Parts


@dataclasses.dataclass(frozen=True)
class Dataflow:
    """Which size of a GEMM goes along which dimension of the array."""

    name: str  #: SCALE-Sim's abbreviation
    stationary: str  #: the matrix whose elements stay in the array
    rows: str  #: the field of `GemmShape` that is S_R
    columns: str  #: … that is S_C
    streamed: str  #: … that is T, the cycles of a fold without fill and drain
    preloads: bool  #: whether each fold first loads R rows of the stationary matrix

    @property
    def summary(self) -> str:
        """One line for tables and help texts."""
        return f"SCALE-Sim's closed form, {self.stationary} stationary"

    def sizes(self, shape: GemmShape) -> tuple[int, int, int]:
        """(S_R, S_C, T) of a GEMM."""
        return (
            getattr(shape, self.rows),
            getattr(shape, self.columns),
            getattr(shape, self.streamed),
        )

    def closed_form(
        self, shape: GemmShape, machine: Machine, operand_bits: int, compulsory: int
    ) -> Parts:
        """The parts of a GEMM on the busiest core of a machine; traffic takes no time."""
        rows, columns = array_size(machine, operand_bits)
        return self.fold_serial(busiest_share(shape, machine.cores), rows, columns)

    def fold_serial(self, shape: GemmShape, rows: int, columns: int) -> Parts:
        """The parts of a GEMM on an array of rows × columns multiply-accumulate cells.

        The total is SCALE-Sim's "Total Cycles": the index of the last cycle, one less than their
        number. The missing cycle is taken from the last part that is not empty.
        """
        along_rows, along_columns, streamed = self.sizes(shape)
        folds = shape.groups * -(-along_rows // rows) * -(-along_columns // columns)
        if folds == 0 or streamed == 0:
            return Parts()
        parts = Parts(
            fill=folds * (rows - 1),
            compute=folds * streamed,
            drain=folds * (columns - 1),
            weight_load=folds * rows if self.preloads else 0,
        )
        last = "drain" if columns > 1 else "fill" if rows > 1 else "compute"
        return parts._replace(**{last: getattr(parts, last) - 1})

    def efficiency(self, shape: GemmShape, rows: int, columns: int) -> float:
        """Per cent of the array's cells that a fold uses on average: 100·S_R·S_C / (folds·R·C)."""
        along_rows, along_columns, _ = self.sizes(shape)
        folds = -(-along_rows // rows) * -(-along_columns // columns)
        return 100 * along_rows * along_columns / (folds * rows * columns)


OUTPUT_STATIONARY = Dataflow("os", "outputs", rows="m", columns="n", streamed="k", preloads=False)
WEIGHT_STATIONARY = Dataflow("ws", "weights", rows="k", columns="n", streamed="m", preloads=True)
INPUT_STATIONARY = Dataflow("is", "inputs", rows="k", columns="m", streamed="n", preloads=True)

#: The dataflow of each time model.
DATAFLOWS = {
    f"scalesim-{dataflow.name}": dataflow
    for dataflow in (OUTPUT_STATIONARY, WEIGHT_STATIONARY, INPUT_STATIONARY)
}


def array_size(machine: Machine, operand_bits: int = 8) -> tuple[int, int]:
    """Rows and columns of multiply-accumulate cells in a core: (R, C)."""
    array = machine.array
    return array.rows * machine.macs_per_lane(operand_bits), array.columns * array.corelets


def busiest_share(shape: GemmShape, cores: int) -> GemmShape:
    """What the busiest of several cores computes: some of the groups, or some rows of each result."""
    if shape.groups >= cores:
        return shape._replace(groups=-(-shape.groups // cores))
    return shape._replace(m=-(-shape.m // cores))
