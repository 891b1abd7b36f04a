"""The report's columns. Each is one row of `COLUMNS`; table, CSV, JSON, HTML, schema and pages follow.

A new column takes a row here and its value in `hfp8sim.simulation.measure`.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Callable, Sequence
from typing import Any

from hfp8sim.timing.parts import Parts

#: A row of a report: values by column name. A value that could not be computed is missing or None.
Row = dict[str, Any]

#: The groups of columns: name and title.
GROUPS = {
    "layer": "Layer",
    "time": "Time",
    "exchange": "Exchange between chips",
    "accuracy": "Accuracy",
    "events": "Events",
    "theory": "Theory and sample",
}

#: The named parts of a layer's cycles; they add up to `cycles` exactly.
PARTS = Parts._fields


class Change(enum.Enum):
    """How a comparison writes the change of a value from one run to another."""

    RATIO = "ratio"  #: other / first, for work and time
    POINTS = "points"  #: difference in percentage points, for shares
    DIFFERENCE = "difference"


@dataclasses.dataclass(frozen=True)
class Reduction:
    """How the total row combines the values of a column. `word` describes it in docs/columns.md."""

    word: str
    combine: Callable[[list[Any]], Any]


#: The total row's value of a column that no plain reduction gives: from all rows, and from the total row
#: as far as the reductions have filled it. None leaves the value out.
Derived = Callable[[Sequence[Row], Row], Any]


def _sum(values: list[Any]) -> Any:
    """The sum; of histograms, bin by bin. That of floats is the exact one, rounded: `sum` differs between Pythons."""
    if isinstance(values[0], list):
        return [sum(counts) for counts in zip(*values, strict=True)]
    return math.fsum(values) if isinstance(values[0], float) else sum(values)


SUM = Reduction("sum", _sum)
LARGEST = Reduction("largest", max)
LOWEST = Reduction("lowest", min)


@dataclasses.dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        group: a key of `GROUPS`.
        name: the key in rows, CSV and JSON.
        unit: of its values; empty for texts and for ratios.
        meaning: one sentence, shown in pages and in JSON.
        kind: the type of its values. `list` is a histogram (counts by `HISTOGRAM_BINS`), which only JSON
            and plots hold.
        total: how the total row gets its value; None where it has none.
        short: the heading in tables; columns without one are left out of them.
        rank: the terminal shows columns whose rank is not 0, and drops the highest ranks first where
            the line is too long.
        digits: decimals of a float in tables.
        write: the text of a value in tables, where it is not a plain number.
        change: how comparisons write a change.
    """

    group: str
    name: str
    unit: str
    meaning: str
    kind: type = float
    total: Reduction | Derived | None = None
    short: str = ""
    rank: int = 0
    digits: int = 2
    write: Callable[[Any], str] | None = None
    change: Change = Change.DIFFERENCE


# -- values of the total row that are derived -------------------------------------------------------


def _utilisation(rows: Sequence[Row], total: Row) -> float | None:
    """The mean over all cycles."""
    if not total.get("cycles"):
        return None
    spent = math.fsum(row["utilisation"] * row["cycles"] for row in rows if row.get("cycles"))
    return spent / float(total["cycles"])


def _tflops(rows: Sequence[Row], total: Row) -> float | None:
    macs, time = total.get("macs"), total.get("time_us")
    return 2 * macs / (time / 1e6) / 1e12 if macs and time else None


def _bound_by(rows: Sequence[Row], total: Row) -> str | None:
    """The limit under which most cycles were spent."""
    cycles: dict[str, int] = {}
    for row in rows:
        if row.get("cycles"):
            limit = str(row.get("bound_by", ""))
            cycles[limit] = cycles.get(limit, 0) + row["cycles"]
    return max(cycles, key=lambda limit: cycles[limit]) if total.get("cycles") else None


def _swamped_share(rows: Sequence[Row], total: Row) -> float | None:
    counted = total.get("steps") and "swamped" in total
    return total["swamped"] / total["steps"] if counted else None


def _counted_share(row: Row) -> float:
    """The share of a row's multiply-accumulates whose events were counted."""
    share = row.get("counted")
    return 1.0 if share is None else float(share)


def _gated_share(rows: Sequence[Row], total: Row) -> float | None:
    counted = math.fsum(
        emulated_macs(row) * _counted_share(row) for row in rows if not missing(row.get("gated"))
    )
    return total["gated"] / counted if counted else None


# -- texts of values in tables ----------------------------------------------------------------------


def _millions(value: float) -> str:
    return f"{value / 1e6:,.3f}" if value >= 500 else "<0.001"


def _microseconds(value: float) -> str:
    return f"{value:,.2f}"


def _kilobytes(value: float) -> str:
    return f"{value / 1e3:,.1f}" if value >= 50 or value == 0 else "<0.1"


def _words(value: str) -> str:
    return value.replace("_", " ")


def _share(value: float) -> str:
    return f"{100 * value:.1f}%"


def _small_share(value: float) -> str:
    return "0" if value == 0 else "<0.01%" if value < 1e-4 else f"{100 * value:.2f}%"


def _loss_share(value: float) -> str:
    return "0" if value == 0 else "<0.1%" if value < 1e-3 else _share(value)


def _power_of_two(value: int) -> str:
    return f"2^{value}"


def _sample(value: float) -> str:
    return "all" if value == 1 else f"{100 * value:.2g}%"


COLUMNS: tuple[Column, ...] = (
    Column("layer", "layer", "", "the layer's name", str, short="layer", rank=1),
    Column("layer", "operation", "", "what the layer computes: conv 3×3 with its filter, dw for depthwise, grouped, linear, matmul, gemm, recurrent", str, short="operation", rank=4),
    Column("layer", "phase", "", "fwd: Y = X·W; dgrad: dX = dY·Wᵀ; wgrad: dW = Xᵀ·dY", str, short="phase", rank=1),
    Column("layer", "kind", "", "what the layer is: linear, conv2d, matmul, …", str, short="kind"),
    Column("layer", "profile", "", "the arithmetic of the computation", str, short="profile"),
    Column("layer", "rule", "", "the policy's rule that gave it this profile; empty without one", str, short="rule", rank=2),
    Column("layer", "formats", "", "formats of the two operands and of the result", str, short="formats"),
    Column("layer", "scaling", "", "calibrated operands: tensor@bias of the exponent, or tensor·2^scale; empty: the profile's own", str, short="scaling", rank=2),
    Column("layer", "groups", "", "independent products of the sizes that follow", int),
    Column("layer", "m", "", "rows of the result", int),
    Column("layer", "n", "", "columns of the result", int),
    Column("layer", "k", "", "length of the sums", int),
    Column("layer", "macs", "MAC", "multiply-accumulates: groups·M·N·K", int, SUM, "MMAC", 5, 3, write=_millions, change=Change.RATIO),
    Column("time", "cycles", "cycle", "total time on the machine", int, SUM, "cycles", 1, change=Change.RATIO),
    Column("time", "fill", "cycle", "part of cycles: sums pass down the array for the first time", int, SUM, "fill"),
    Column("time", "compute", "cycle", "part of cycles: the array multiplies", int, SUM, "compute"),
    Column("time", "drain", "cycle", "part of cycles: the last sums leave the array", int, SUM, "drain"),
    Column("time", "weight_load", "cycle", "part of cycles: weights that no computation hides", int, SUM, "weight load"),
    Column("time", "stall_in", "cycle", "part of cycles: the array waits for operands", int, SUM, "stall in"),
    Column("time", "stall_out", "cycle", "part of cycles: the array waits for results to leave", int, SUM, "stall out"),
    Column("time", "post", "cycle", "part of cycles: rounding, activation and conversion of results", int, SUM, "post"),
    Column("time", "utilisation", "", "MACs done / MACs the array could have done in these cycles", short="util", rank=1, total=_utilisation, write=_share, change=Change.POINTS),
    Column("time", "time_us", "µs", "cycles / clock", total=SUM, short="µs", rank=5, write=_microseconds, change=Change.RATIO),
    Column("time", "tflops", "TFLOPS", "2·MACs / time", short="TFLOPS", rank=5, total=_tflops),
    Column("time", "bytes", "B", "bytes between memory and scratchpad", int, SUM, "bytes", change=Change.RATIO),
    Column("time", "bytes_compulsory", "B", "part of bytes: every element that the layer touches, once", int, SUM, "compulsory", change=Change.RATIO),
    Column("time", "bytes_capacity", "B", "part of bytes: elements loaded again because they did not fit, and unneeded ones that a load includes", int, SUM, "capacity", change=Change.RATIO),
    Column("time", "bound_by", "", "what takes the largest part of the time", str, short="bound by", rank=1, total=_bound_by, write=_words),
    Column("exchange", "collective", "", "what chips exchange on a system after this computation's gradients (wgrad), or before it for its weights (fwd)", str, short="exchange", rank=4),
    Column("exchange", "sent_bytes", "B", "bytes of that exchange that a chip sends, the mean of all chips", total=SUM, short="kB sent", rank=3, write=_kilobytes, change=Change.RATIO),
    Column("exchange", "messages", "", "messages of that exchange, one after the other", int, SUM, "messages", 4, change=Change.RATIO),
    Column("exchange", "exposed_us", "µs", "time of that exchange that no computation hides", total=SUM, short="exposed µs", rank=3, write=_microseconds, change=Change.RATIO),
    Column("accuracy", "sqnr_db", "dB", "10·log10(Σx²/Σ(y−x)²), x the float64 result of the unquantised tensors: what a user feels", total=LOWEST, short="SQNR", rank=1, digits=1),
    Column("accuracy", "relative_error", "", "√(Σ(y−x)²/Σx²), against the unquantised tensors", short="rel. error", digits=5),
    Column("accuracy", "max_error", "", "the largest |y−x|, against the unquantised tensors", short="max error", digits=6),
    Column("accuracy", "cosine", "", "Σxy/√(Σx²·Σy²), against the unquantised tensors", short="cosine", digits=6),
    Column("accuracy", "acc_sqnr_db", "dB", "SQNR against the float64 result of the quantised operands: what the accumulator did", total=LOWEST, short="sum SQNR", rank=1, digits=1),
    Column("accuracy", "acc_relative_error", "", "relative error against the quantised operands", short="sum rel. error", digits=5),
    Column("accuracy", "acc_max_ulp", "ulp", "largest error in units of the result's last place, against the quantised operands", total=LARGEST, short="max ulp"),
    Column("accuracy", "acc_mean_ulp", "ulp", "mean error in units of the result's last place, against the quantised operands", short="mean ulp", digits=3),
    Column("accuracy", "error_ulps", "", "counts of results by their error in ulp, against the unquantised tensors", list, SUM),
    Column("accuracy", "acc_error_ulps", "", "counts of results by their error in ulp, against the quantised operands", list, SUM),
    Column("events", "saturated_share", "", "share of an operand's elements that were clamped to the largest number; the larger share of the two operands", total=LARGEST, short="sat.", digits=4, write=_loss_share, change=Change.POINTS),
    Column("events", "flushed_share", "", "share of an operand's elements, zeros not counted, that became zero; the larger share of the two operands", total=LARGEST, short="flushed", digits=4, write=_loss_share, change=Change.POINTS),
    Column("events", "a_saturated_share", "", "of operand A (fwd: activations, dgrad: errors, wgrad: activations), the share of elements that were clamped", total=LARGEST, short="A sat.", digits=4, write=_loss_share, change=Change.POINTS),
    Column("events", "b_saturated_share", "", "of operand B (fwd: weights, dgrad: weights, wgrad: errors), the share of elements that were clamped", total=LARGEST, short="B sat.", digits=4, write=_loss_share, change=Change.POINTS),
    Column("events", "a_flushed_share", "", "of operand A, the share of elements that became zero, of those that are not zero", total=LARGEST, short="A flushed", digits=4, write=_loss_share, change=Change.POINTS),
    Column("events", "b_flushed_share", "", "of operand B, the share of elements that became zero, of those that are not zero", total=LARGEST, short="B flushed", digits=4, write=_loss_share, change=Change.POINTS),
    Column("events", "a_largest", "", "the largest number that operand A can have: its format's, with bias and scale", short="A largest", digits=6),
    Column("events", "b_largest", "", "the largest number that operand B can have: its format's, with bias and scale", short="B largest", digits=6),
    Column("events", "loss_scale", "", "log2 of the smallest loss scale that keeps all but 0.1 % of the errors, or else of the one that keeps most; dgrad and wgrad only", int, short="loss scale", write=_power_of_two),
    Column("events", "loss_scale_lost", "", "share of the errors that saturate or become zero with that loss scale, of those that are not zero", short="lost with it", digits=4, write=_loss_share, change=Change.POINTS),
    Column("events", "saturated", "", "operand elements that were clamped to the largest number", int, SUM, "saturated elements"),
    Column("events", "flushed", "", "operand elements that were not zero and became zero", int, SUM, "flushed elements"),
    Column("events", "overflowed", "", "roundings of the sums that overflowed", int, SUM, "overflowed"),
    Column("events", "underflowed", "", "roundings of the sums that underflowed", int, SUM, "underflowed"),
    Column("events", "nan", "", "results that are NaN or NaN-Infinity", int, SUM, "NaN"),
    Column("events", "steps", "", "steps of the sums that were emulated, between-chunk additions not counted", int, SUM, "steps"),
    Column("events", "swamped", "", "steps whose products were not zero and left the sum unchanged", int, SUM, "swamped"),
    Column("events", "swamped_share", "", "swamped / steps", short="swamped", rank=3, digits=4, total=_swamped_share, write=_small_share, change=Change.POINTS),
    Column("events", "gated", "MAC", "emulated multiply-accumulates with a zero operand: their multiplier is idle", int, SUM, "gated MAC"),
    Column("events", "gated_share", "", "gated / emulated multiply-accumulates", short="gated", digits=4, total=_gated_share, write=_share, change=Change.POINTS),
    Column("events", "draws", "", "random words drawn by the sums", int, SUM, "draws"),
    Column("events", "counted", "", "share of the emulated results whose events, steps and gated MACs were counted", write=_sample, change=Change.POINTS),
    Column("theory", "retention_theory", "", "variance retention of these sums by theory (zero-mean terms)", short="retention, theory", digits=4),
    Column("theory", "retention", "", "measured: Var(result)/Var(float64 result of the quantised operands)", short="retention, measured", digits=4),
    Column("theory", "bits_normal", "bit", "fraction bits an accumulator needs by theory, without chunks; empty: more than 23", int, LARGEST, "bits, one sum"),
    Column("theory", "bits_chunked", "bit", "the same in chunks of the profile's length; empty: no chunks, or more than 23", int, LARGEST, "bits, chunked"),
    Column("theory", "sampled", "", "share of the results that were emulated and measured; time is always whole", short="sample", write=_sample, change=Change.POINTS),
    Column("theory", "tensors", "", "where the operands came from", str, short="operands"),
)  # fmt: skip

BY_NAME = {column.name: column for column in COLUMNS}
#: Columns of CSV files: all but the histograms.
FLAT = tuple(column.name for column in COLUMNS if column.kind is not list)


def missing(value: Any) -> bool:
    """Whether a row has no such value: None, or NaN where the measure is undefined."""
    return value is None or (isinstance(value, float) and value != value)


def emulated_macs(row: Row) -> int:
    """Multiply-accumulates of a row that were emulated: all, or those of a sample; 0 if it is unknown."""
    share = float("nan") if row.get("sampled") is None else float(row["sampled"])
    return round(share * int(row["macs"])) if 0 <= share <= 1 else 0


def total_row(rows: Sequence[Row]) -> Row:
    """The total of rows: reductions first, then the values that are derived from them."""
    total: Row = {"layer": "total"}
    for column in COLUMNS:
        values = [row[column.name] for row in rows if not missing(row.get(column.name))]
        if values and isinstance(column.total, Reduction):
            total[column.name] = column.total.combine(values)
    for column in COLUMNS:
        if column.total is not None and not isinstance(column.total, Reduction):
            value = column.total(rows, total)
            if value is not None:
                total[column.name] = value
    return total


def cell_text(column: Column, value: Any) -> str:
    """A value as the terminal and HTML tables show it; a dash for a missing one."""
    if missing(value) or value == "":
        return "–"
    if column.write is not None:
        return column.write(value)
    if isinstance(value, float):
        if value in (float("inf"), float("-inf")):
            return "exact" if value > 0 else "−∞"
        if value and abs(value) < 0.5 * 10**-column.digits:
            return f"{value:.1e}"
        return f"{value:.{column.digits}f}" if abs(value) < 1e6 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def change_text(column: Column, first: Any, other: Any) -> str:
    """How `other` compares with `first`: a ratio for work and time, a difference for the rest."""
    if missing(first) or missing(other):
        return "–"
    ratio = column.change is Change.RATIO
    if first == other:
        return "×1.00" if ratio else "="
    if ratio:
        return f"×{other / first:.2f}" if first else "–"
    if column.change is Change.POINTS:
        return f"{100 * (other - first):+.1f}"
    difference = f"{other - first:+.{column.digits if isinstance(other, float) else 0}f}"
    return difference if float(difference) else difference[1:]


def shape_text(row: Row) -> str:
    """M×N×K of a row, with the groups in front where there is more than one."""
    if row.get("m") is None:
        return ""
    size = f"{row['m']}×{row['n']}×{row['k']}"
    return f"{row['groups']}·{size}" if row["groups"] > 1 else size


def lost_text(row: Row) -> str:
    """The larger of a row's shares of saturated (↑) and flushed (↓) elements, as in `63%↑`; "" without values."""
    saturated, flushed = row.get("saturated_share"), row.get("flushed_share")
    if saturated is None or flushed is None:
        return ""
    share = 100 * max(saturated, flushed)
    if share == 0:
        return "0"
    return f"{share:.{0 if share >= 9.95 else 1}f}%{'↑' if saturated >= flushed else '↓'}"


def plain_value(value: Any, none: Any) -> Any:
    """A value as CSV and JSON hold it: `none` for a missing one, words for infinities."""
    if missing(value):
        return none
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return "inf" if value > 0 else "-inf"
    return value
