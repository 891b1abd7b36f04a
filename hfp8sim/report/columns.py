"""The report's columns: each is one row here, from which table, CSV, JSON, HTML and docs are made."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Column:
    """One column. `total` says how layers combine in the total row: `sum`, `max`, or `none` where the
    total has a value of its own (or none). `short` is the heading in the terminal table; columns without
    one are left out there."""

    name: str
    unit: str
    meaning: str
    kind: type = float
    total: str = "none"
    short: str = ""
    digits: int = 2


COLUMNS: tuple[Column, ...] = (
    Column("layer", "", "the layer's name", str, short="layer"),
    Column("phase", "", "fwd: Y = X·W; dgrad: dX = dY·Wᵀ; wgrad: dW = Xᵀ·dY", str, short="phase"),
    Column("kind", "", "what the layer is: linear, conv2d, matmul, …", str),
    Column("profile", "", "the arithmetic it was computed with", str),
    Column("formats", "", "formats of the two operands and of the result", str),
    Column("groups", "", "independent products of the sizes that follow", int),
    Column("m", "", "rows of the result", int),
    Column("n", "", "columns of the result", int),
    Column("k", "", "length of the sums", int),
    Column("macs", "MAC", "multiply-accumulates, G·M·N·K", int, "sum", "MMAC", 3),
    Column("cycles", "cycle", "total time on the machine", int, "sum", "cycles"),
    Column("fill", "cycle", "part of cycles: the first weights and the pipeline's filling", int, "sum"),
    Column("compute", "cycle", "part of cycles: the array multiplies", int, "sum"),
    Column("drain", "cycle", "part of cycles: the last sums leave the array", int, "sum"),
    Column("weight_load", "cycle", "part of cycles: weights that no computation hides", int, "sum"),
    Column("stall_in", "cycle", "part of cycles: the array waits for operands", int, "sum"),
    Column("stall_out", "cycle", "part of cycles: the array waits for results to leave", int, "sum"),
    Column("post", "cycle", "part of cycles: rounding, activation and conversion of results", int, "sum"),
    Column("utilisation", "", "MACs done / MACs the array could have done in these cycles", short="util"),
    Column("time_us", "µs", "cycles / clock", total="sum", short="µs"),
    Column("tflops", "TFLOPS", "2·MACs / time", short="TFLOPS"),
    Column("bytes", "B", "bytes between memory and scratchpad", int, "sum"),
    Column("bound_by", "", "what takes the largest part of the time", str, short="bound by"),
    Column("sqnr_db", "dB", "result against float64 of the unquantised tensors: what a user feels", short="SQNR"),
    Column("relative_error", "", "the same: √(Σ(y−x)²/Σx²)", digits=5),
    Column("max_error", "", "the same: the largest |y−x|", digits=6),
    Column("cosine", "", "the same: Σxy/√(Σx²·Σy²)", digits=6),
    Column("acc_sqnr_db", "dB", "against float64 of the quantised operands: what the accumulator did", short="sum SQNR"),
    Column("acc_relative_error", "", "the same: √(Σ(y−x)²/Σx²)", digits=5),
    Column("acc_max_ulp", "ulp", "the same: the largest error in units of the result's last place"),
    Column("acc_mean_ulp", "ulp", "the same: the mean error in units of the result's last place", digits=3),
    Column("saturated", "", "operand elements that were clamped to the largest number", int, "sum"),
    Column("flushed", "", "operand elements that underflowed", int, "sum"),
    Column("overflowed", "", "roundings of the sums that overflowed", int, "sum"),
    Column("underflowed", "", "roundings of the sums that underflowed", int, "sum"),
    Column("nan", "", "results that are NaN or NaN-Infinity", int, "sum"),
    Column("swamped", "", "steps whose products were not zero and left the sum unchanged", int, "sum"),
    Column("swamped_share", "", "swamped / all steps that were emulated", short="swamped", digits=4),
    Column("draws", "", "random words drawn by the sums", int, "sum"),
    Column("retention_theory", "", "variance retention of these sums by theory (zero-mean terms)", digits=4),
    Column("retention", "", "measured: Var(result)/Var(float64 result of the quantised operands)", digits=4),
    Column("sampled", "", "share of the results that were emulated and measured; time is always whole", digits=4),
    Column("tensors", "", "where the operands came from", str),
)  # fmt: skip

BY_NAME = {column.name: column for column in COLUMNS}
#: The named parts of a layer's cycles; they add up to `cycles` exactly.
PARTS = ("fill", "compute", "drain", "weight_load", "stall_in", "stall_out", "post")

Row = dict[str, Any]


def _share(value: float) -> str:
    return f"{100 * value:.1f}%"


#: How a value is written in the terminal, where it is not a plain number.
SPECIAL_TEXT: dict[str, Callable[[Any], str]] = {
    "macs": lambda v: f"{v / 1e6:.3f}" if v < 1e8 else f"{v / 1e6:.0f}",
    "utilisation": _share,
    "swamped_share": lambda v: "0" if v == 0 else f"{100 * v:.2g}%",
    "time_us": lambda v: f"{v:.2f}" if v < 1e4 else f"{v:.0f}",
}


def text(column: Column, value: Any) -> str:
    """A value as the terminal and HTML tables show it; a dash for what a row has no value for."""
    if value is None or value == "":
        return "–"
    if isinstance(value, float) and value != value:
        return "–"
    if column.name in SPECIAL_TEXT:
        return SPECIAL_TEXT[column.name](value)
    if isinstance(value, float):
        if value in (float("inf"), float("-inf")):
            return "exact" if value > 0 else "−∞"
        return f"{value:.{column.digits}f}" if abs(value) < 1e6 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
