"""The report's columns: each is one row here, from which table, CSV, JSON, HTML and docs are made."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from hfp8sim.timing.parts import Parts

#: The groups the columns fall into: name and title.
GROUPS = {
    "layer": "Layer",
    "time": "Time",
    "accuracy": "Accuracy",
    "events": "Events",
    "theory": "Theory and sample",
}


@dataclasses.dataclass(frozen=True)
class Column:
    """One column.

    `kind` is the type of its values; `list` is a histogram (counts by `HISTOGRAM_BINS`), which stands in
    JSON and in the plots alone. `total` says how rows combine in the total row: `sum`, `max`, `min`, or `none`
    where the total has a value of its own (or none). `short` is the heading in tables; the terminal shows
    the columns whose `rank` is not 0, and leaves out those of the highest ranks where it is narrow.
    """

    group: str
    name: str
    unit: str
    meaning: str
    kind: type = float
    total: str = "none"
    short: str = ""
    rank: int = 0
    digits: int = 2


COLUMNS: tuple[Column, ...] = (
    Column("layer", "layer", "", "the layer's name", str, short="layer", rank=1),
    Column("layer", "phase", "", "fwd: Y = X·W; dgrad: dX = dY·Wᵀ; wgrad: dW = Xᵀ·dY", str, short="phase", rank=1),
    Column("layer", "kind", "", "what the layer is: linear, conv2d, matmul, …", str, short="kind"),
    Column("layer", "profile", "", "the arithmetic it was computed with", str, short="profile"),
    Column("layer", "rule", "", "the policy's rule that gave it this profile; empty without one", str, short="rule", rank=2),
    Column("layer", "formats", "", "formats of the two operands and of the result", str, short="formats"),
    Column("layer", "groups", "", "independent products of the sizes that follow", int),
    Column("layer", "m", "", "rows of the result", int),
    Column("layer", "n", "", "columns of the result", int),
    Column("layer", "k", "", "length of the sums", int),
    Column("layer", "macs", "MAC", "multiply-accumulates: groups·M·N·K", int, "sum", "MMAC", 5, 3),
    Column("time", "cycles", "cycle", "total time on the machine", int, "sum", "cycles", 1),
    Column("time", "fill", "cycle", "part of cycles: the first weights and the pipeline's filling", int, "sum", "fill"),
    Column("time", "compute", "cycle", "part of cycles: the array multiplies", int, "sum", "compute"),
    Column("time", "drain", "cycle", "part of cycles: the last sums leave the array", int, "sum", "drain"),
    Column("time", "weight_load", "cycle", "part of cycles: weights that no computation hides", int, "sum", "weight load"),
    Column("time", "stall_in", "cycle", "part of cycles: the array waits for operands", int, "sum", "stall in"),
    Column("time", "stall_out", "cycle", "part of cycles: the array waits for results to leave", int, "sum", "stall out"),
    Column("time", "post", "cycle", "part of cycles: rounding, activation and conversion of results", int, "sum", "post"),
    Column("time", "utilisation", "", "MACs done / MACs the array could have done in these cycles", short="util", rank=1),
    Column("time", "time_us", "µs", "cycles / clock", total="sum", short="µs", rank=5),
    Column("time", "tflops", "TFLOPS", "2·MACs / time", short="TFLOPS", rank=4),
    Column("time", "bytes", "B", "bytes between memory and scratchpad", int, "sum", "bytes"),
    Column("time", "bytes_compulsory", "B", "part of bytes: every element that the layer touches, once", int, "sum", "compulsory"),
    Column("time", "bytes_capacity", "B", "part of bytes: what moved again because it could not stay, or came along with others", int, "sum", "capacity"),
    Column("time", "bound_by", "", "what takes the largest part of the time", str, short="bound by", rank=1),
    Column("accuracy", "sqnr_db", "dB", "10·log10(Σx²/Σ(y−x)²), x the float64 result of the unquantised tensors: what a user feels", total="min", short="SQNR", rank=1, digits=1),
    Column("accuracy", "relative_error", "", "√(Σ(y−x)²/Σx²), against the unquantised tensors", short="rel. error", digits=5),
    Column("accuracy", "max_error", "", "the largest |y−x|, against the unquantised tensors", short="max error", digits=6),
    Column("accuracy", "cosine", "", "Σxy/√(Σx²·Σy²), against the unquantised tensors", short="cosine", digits=6),
    Column("accuracy", "acc_sqnr_db", "dB", "SQNR against the float64 result of the quantised operands: what the accumulator did", total="min", short="sum SQNR", rank=1, digits=1),
    Column("accuracy", "acc_relative_error", "", "relative error against the quantised operands", short="sum rel. error", digits=5),
    Column("accuracy", "acc_max_ulp", "ulp", "largest error in units of the result's last place, against the quantised operands", total="max", short="max ulp"),
    Column("accuracy", "acc_mean_ulp", "ulp", "mean error in units of the result's last place, against the quantised operands", short="mean ulp", digits=3),
    Column("accuracy", "error_ulps", "", "counts of results by their error in ulp, against the unquantised tensors", list, "sum"),
    Column("accuracy", "acc_error_ulps", "", "counts of results by their error in ulp, against the quantised operands", list, "sum"),
    Column("events", "saturated", "", "operand elements that were clamped to the largest number", int, "sum", "saturated"),
    Column("events", "flushed", "", "operand elements that underflowed", int, "sum", "flushed"),
    Column("events", "overflowed", "", "roundings of the sums that overflowed", int, "sum", "overflowed"),
    Column("events", "underflowed", "", "roundings of the sums that underflowed", int, "sum", "underflowed"),
    Column("events", "nan", "", "results that are NaN or NaN-Infinity", int, "sum", "NaN"),
    Column("events", "steps", "", "steps of the sums that were emulated, between-chunk additions not counted", int, "sum", "steps"),
    Column("events", "swamped", "", "steps whose products were not zero and left the sum unchanged", int, "sum", "swamped"),
    Column("events", "swamped_share", "", "swamped / steps", short="swamped", rank=3, digits=4),
    Column("events", "gated", "MAC", "emulated multiply-accumulates with a zero operand: their multiplier stands still", int, "sum", "gated MAC"),
    Column("events", "gated_share", "", "gated / emulated multiply-accumulates", short="gated", digits=4),
    Column("events", "draws", "", "random words drawn by the sums", int, "sum", "draws"),
    Column("theory", "retention_theory", "", "variance retention of these sums by theory (zero-mean terms)", short="retention, theory", digits=4),
    Column("theory", "retention", "", "measured: Var(result)/Var(float64 result of the quantised operands)", short="retention, measured", digits=4),
    Column("theory", "bits_normal", "bit", "fraction bits an accumulator needs by theory, without chunks; empty: more than 23", int, "max", "bits, one sum"),
    Column("theory", "bits_chunked", "bit", "the same in chunks of the profile's length; empty: no chunks, or more than 23", int, "max", "bits, chunked"),
    Column("theory", "sampled", "", "share of the results that were emulated and measured; time is always whole", short="sample"),
    Column("theory", "tensors", "", "where the operands came from", str, short="operands"),
)  # fmt: skip

BY_NAME = {column.name: column for column in COLUMNS}
#: Columns of CSV files: all but the histograms.
FLAT = tuple(column.name for column in COLUMNS if column.kind is not list)
#: The named parts of a layer's cycles; they add up to `cycles` exactly.
PARTS = Parts._fields

Row = dict[str, Any]


def _share(value: float) -> str:
    return f"{100 * value:.1f}%"


def _small_share(value: float) -> str:
    return "0" if value == 0 else "<0.01%" if value < 1e-4 else f"{100 * value:.2f}%"


#: How a value is written in tables, where it is not a plain number.
SPECIAL_TEXT: dict[str, Callable[[Any], str]] = {
    "macs": lambda v: f"{v / 1e6:,.3f}" if v >= 500 else "<0.001",
    "utilisation": _share,
    "swamped_share": _small_share,
    "gated_share": _share,
    "bound_by": lambda v: v.replace("_", " "),
    "sampled": lambda v: "all" if v == 1 else f"{100 * v:.2g}%",
    "time_us": lambda v: f"{v:,.2f}",
}


def missing(value: Any) -> bool:
    """Whether a row has no such value: None, or NaN where nothing can be said."""
    return value is None or (isinstance(value, float) and value != value)


def emulated(row: Row) -> int:
    """Multiply-accumulates of a row that were emulated: all, or those of a sample; 0 if nothing says."""
    share = float("nan") if row.get("sampled") is None else float(row["sampled"])
    return round(share * int(row["macs"])) if 0 <= share <= 1 else 0


def text(column: Column, value: Any) -> str:
    """A value as the terminal and HTML tables show it; a dash for what a row has no value for."""
    if missing(value) or value == "":
        return "–"
    if column.name in SPECIAL_TEXT:
        return SPECIAL_TEXT[column.name](value)
    if isinstance(value, float):
        if value in (float("inf"), float("-inf")):
            return "exact" if value > 0 else "−∞"
        if value and abs(value) < 0.5 * 10**-column.digits:
            return f"{value:.1e}"
        return f"{value:.{column.digits}f}" if abs(value) < 1e6 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def shape_text(row: Row) -> str:
    """M×N×K of a row, with the groups in front where there is more than one."""
    if row.get("m") is None:
        return ""
    size = f"{row['m']}×{row['n']}×{row['k']}"
    return f"{row['groups']}·{size}" if row["groups"] > 1 else size
