"""A report as SCALE-Sim's COMPUTE_REPORT.csv, for the scripts that read it.

Same columns, same spelling, same trailing comma. SCALE-Sim has no phases: `LayerID` counts the report's
rows, and `--phase fwd` gives the rows it would have. Its prefetch is a constant of its source; here it is part
of the time, so both totals are the row's cycles. Utilisation is of the peak of the formats that were multiplied.

Mapping Efficiency is the mean share of the array that a fold uses: S_R·S_C / (folds·R·C), with R and C as
in docs/machine.md, folds = ⌈S_R/R⌉·⌈S_C/C⌉ and (S_R, S_C) = (M, N) for output-, (K, N) for weight-, (K, M) for input-stationary.
Compute Util is utilisation in the cycles that are not stalls; SCALE-Sim's own divides by C − 1 cycles
too many per fold where weights or inputs are stationary.
"""

from __future__ import annotations

from hfp8sim.errors import InputError
from hfp8sim.formats import get_format
from hfp8sim.network import GemmShape
from hfp8sim.report.columns import Row
from hfp8sim.report.record import ReportRecord
from hfp8sim.timing.scalesim import DATAFLOWS, WEIGHT_STATIONARY

HEADER = (
    "LayerID",
    "Total Cycles (incl. prefetch)",
    "Total Cycles",
    "Stall Cycles",
    "Overall Util %",
    "Mapping Efficiency %",
    "Compute Util %",
)


def render(report: ReportRecord) -> str:
    """COMPUTE_REPORT.csv; `InputError` for a report without cycles."""
    if not all(row.get("cycles") for row in report.layers):
        raise InputError("this report has no cycles; SCALE-Sim's columns need them")
    array = report.facts["machine"]["array"]
    model = report.facts["time_model"]
    dataflow = DATAFLOWS.get(model, WEIGHT_STATIONARY)
    lines = [", ".join(HEADER)]
    for number, row in enumerate(report.layers):
        stalls = row["stall_in"] + row["stall_out"]
        cycles, busy = row["cycles"], row["cycles"] - stalls
        values = (
            number,
            cycles,
            cycles,
            stalls,
            100 * row["utilisation"],
            dataflow.efficiency(shape_of(row), *cells(row, array)),
            100 * row["utilisation"] * cycles / busy if busy else 0.0,
        )
        lines.append(", ".join(map(str, values)))
    return "".join(f"{line},\n" for line in lines)


def cells(row: Row, array: dict[str, int]) -> tuple[int, int]:
    """Rows and columns of single multiply-accumulate cells in a core, as the time models count them."""
    names = str(row.get("formats", "")).partition(" → ")[0].split(" × ")
    try:
        wide = max(get_format(name).bits for name in names) > 8
    except InputError:  # the report may name formats that are not registered here
        wide = False
    lanes = array.get("macs_16bit" if wide else "macs_8bit") or 1
    return array["rows"] * lanes, array["columns"] * (array.get("corelets") or 1)


def shape_of(row: Row) -> GemmShape:
    """The GEMM of a row."""
    return GemmShape(*(int(row[name]) for name in GemmShape._fields))
