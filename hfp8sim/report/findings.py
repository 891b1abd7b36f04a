"""What a report's operands lost, in words and worst first: saturated and flushed elements, and the loss scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hfp8sim.report.columns import Row, missing
from hfp8sim.report.record import ReportRecord, calibrated

#: Shares below this are not put in words.
NOTABLE = 0.01
#: Lines of each kind that the terminal shows.
MOST_LINES = 3

#: The roles of operands A and B in each phase.
ROLES = {
    "fwd": ("activations", "weights"),
    "dgrad": ("errors", "weights"),
    "wgrad": ("activations", "errors"),
}


class Loss(NamedTuple):
    """Elements of one operand of a layer that were clamped, or became zero."""

    share: float  #: of all elements if they were clamped, else of those that are not zero
    layer: str
    role: str  #: activations, weights or errors
    saturated: bool
    largest: float | None  #: the largest number that the operand can have
    scale: int | None = None  #: log2 of the loss scale for errors
    lost: float | None = None  #: share of the errors that this scale would lose

    def words(self) -> str:
        """As in `63 % of its activations beyond 30`."""
        if not self.saturated:
            return f"{percent(self.share)} of its {self.role} flushed to zero"
        beyond = "the largest number" if missing(self.largest) else f"{self.largest:.6g}"
        return f"{percent(self.share)} of its {self.role} beyond {beyond}"

    def sentence(self) -> str:
        """A line of its own, with the loss scale that would do where errors are flushed."""
        text = f"{self.layer}: {self.words()}"
        if self.saturated or self.scale is None or self.lost is None:
            return text
        if self.lost >= self.share:
            return f"{text}; no loss scale would keep more"
        kept = "all" if self.lost == 0 else f"all but {percent(self.lost)}"
        return f"{text}: a loss scale of 2^{self.scale} would keep {kept}"


def percent(share: float) -> str:
    """A share in per cent: whole from 10 on, below 0.1 with one digit that is not zero."""
    if share >= 0.0995:
        return f"{100 * share:.0f} %"
    return f"{100 * share:.1g} %" if share < 0.001 else f"{100 * share:.1f} %"


def row_losses(row: Row) -> list[Loss]:
    """The notable losses of a row's two operands, the largest share first."""
    losses = []
    for port, role in zip("ab", ROLES[row["phase"]], strict=True):
        for kind, saturated in (("saturated", True), ("flushed", False)):
            share = row.get(f"{port}_{kind}_share")
            if share is None or missing(share) or share < NOTABLE:
                continue
            scale = (row.get("loss_scale"), row.get("loss_scale_lost")) if role == "errors" else ()
            losses.append(
                Loss(share, row["layer"], role, saturated, row.get(f"{port}_largest"), *scale)
            )
    return sorted(losses, key=lambda loss: -loss.share)


def losses(report: ReportRecord, *, saturated: bool) -> list[Loss]:
    """The notable losses of a kind in all rows, each tensor of a layer once, the largest share first."""
    by_tensor: dict[tuple[str, str], Loss] = {}
    for row in report.layers:
        for loss in row_losses(row):
            if loss.saturated == saturated:
                key = loss.layer, loss.role
                by_tensor[key] = max(by_tensor.get(key, loss), loss, key=lambda x: x.share)
    return sorted(by_tensor.values(), key=lambda loss: -loss.share)


def worst_row(rows: Sequence[Row]) -> Row | None:
    """The row with the lowest SQNR; None if no values were computed."""
    measured = [row for row in rows if not missing(row.get("sqnr_db"))]
    return min(measured, key=lambda row: row["sqnr_db"]) if measured else None


def reasons(row: Row) -> str:
    """What the operands of a row lost, as in `63 % of its activations beyond 30`; "" for nothing notable."""
    return ", ".join(loss.words() for loss in row_losses(row))


def sentences(report: ReportRecord, most: int = MOST_LINES) -> list[str]:
    """A line for each tensor that lost a notable share: saturated ones, then flushed ones, worst first.

    Of each kind `most` are named, and the number of the others is given.
    """
    lines = []
    for saturated, word in ((True, "saturated"), (False, "flushed")):
        found = losses(report, saturated=saturated)
        lines += [loss.sentence() for loss in found[:most]]
        rest = len(found) - most
        if rest > 0:
            count = "1 more tensor is" if rest == 1 else f"{rest} more tensors are"
            lines.append(f"{count} {word} by 1 % or more")
    if lines and not calibrated(report):
        lines.append(
            "--calibrate max, percentile or mse chooses biases and scales from the tensors"
        )
    return lines
