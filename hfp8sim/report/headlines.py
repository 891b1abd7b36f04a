"""The worst findings of a report in words: where the time goes beyond the work, and what costs accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hfp8sim.report.columns import PARTS, Row, missing
from hfp8sim.report.findings import percent, reasons, worst_row
from hfp8sim.report.record import ReportRecord

#: Findings that a report begins with.
MOST = 2
#: Shares of the time below this are not put in words.
NOTABLE_TIME = 0.05
#: If the sums' own SQNR is at most so many dB above the whole SQNR, the accumulator limits the accuracy.
#: At 6 dB it causes a quarter of the error's energy.
ACCUMULATOR_DB = 6.0

#: The layers of an operation, by the first word of the column `operation`.
FAMILIES = {
    "conv": "convolutions", "dw": "depthwise convolutions", "grouped": "grouped convolutions",
    "linear": "fully connected layers", "matmul": "products of two activations", "gemm": "GEMMs",
    "recurrent": "recurrent layers",
}  # fmt: skip

#: What the array does in each part of the cycles but `compute`.
PART_WORDS = {
    "fill": "sums pass down the array for the first time",
    "drain": "the last sums leave the array",
    "weight_load": "the array waits for weights",
    "stall_in": "the array waits for operands",
    "stall_out": "the array waits for results to leave",
    "post": "the array waits for results to be rounded and converted",
}


class _Group(NamedTuple):
    """Rows that share a name, with their shares of the cycles and of the multiply-accumulates."""

    name: str
    verb: str
    time: float
    work: float
    utilisation: float

    @property
    def excess(self) -> float:
        """The share of the time that the work does not explain."""
        return self.time - self.work

    def sentence(self) -> str:
        return (
            f"{self.name} {self.verb} {percent(self.time)} of the time for {percent(self.work)} "
            f"of the work, at {percent(self.utilisation)} utilisation"
        )


def headlines(report: ReportRecord, most: int = MOST) -> list[str]:
    """The worst findings, one line each: of time and of accuracy in turns, the worst of each first."""
    lines = _accuracy_lines(report.layers), _time_lines(report.layers)
    ordered = [
        line for number in range(most) for kind in lines for line in kind[number : number + 1]
    ]
    return ordered[:most]


def _time_lines(rows: Sequence[Row]) -> list[str]:
    """The group that takes most beyond its work, and the part in which the array waits longest."""
    timed = [row for row in rows if row.get("cycles")]
    cycles = sum(row["cycles"] for row in timed)
    if not cycles:
        return []
    found = []
    groups = _families(timed) or _rows(timed)
    worst = max(groups, key=lambda group: group.excess, default=None)
    if worst and worst.excess >= NOTABLE_TIME:
        found.append((worst.excess, worst.sentence()))
    spent = {part: sum(row.get(part) or 0 for row in timed) / cycles for part in PARTS}
    part = max(PART_WORDS, key=lambda name: spent[name])
    if spent[part] >= NOTABLE_TIME:
        found.append((spent[part], f"for {percent(spent[part])} of the time {PART_WORDS[part]}"))
    return [line for _, line in sorted(found, reverse=True)]


def _families(rows: Sequence[Row]) -> list[_Group]:
    """The rows by operation; none if all have the same."""
    families: dict[str, list[Row]] = {}
    for row in rows:
        word = str(row.get("operation") or row.get("kind") or "").split(" ")[0]
        families.setdefault(FAMILIES.get(word, word), []).append(row)
    if len(families) < 2:
        return []
    return [_group(name, "take", own, rows) for name, own in families.items()]


def _rows(rows: Sequence[Row]) -> list[_Group]:
    """Each row alone; none if there is one."""
    if len(rows) < 2:
        return []
    return [_group(f"{row['layer']} {row['phase']}", "takes", [row], rows) for row in rows]


def _group(name: str, verb: str, own: Sequence[Row], rows: Sequence[Row]) -> _Group:
    cycles = sum(row["cycles"] for row in own)
    return _Group(
        name, verb, cycles / sum(row["cycles"] for row in rows),
        sum(row["macs"] for row in own) / sum(row["macs"] for row in rows),
        sum((row.get("utilisation") or 0.0) * row["cycles"] for row in own) / cycles,
    )  # fmt: skip


def _accuracy_lines(rows: Sequence[Row]) -> list[str]:
    """The lowest SQNR with its cause, and the sums that err most if the accumulator is not that cause."""
    worst = worst_row(rows)
    if worst is None:
        return []
    cause = _accumulator_words(worst) if _accumulator_limits(worst) else reasons(worst)
    place = f"{worst['layer']} {worst['phase']}"
    lines = [f"lowest SQNR {worst['sqnr_db']:.1f} dB ({place})" + (f": {cause}" if cause else "")]
    limited = [row for row in rows if row is not worst and _accumulator_limits(row)]
    if limited:
        row = min(limited, key=lambda row: row["acc_sqnr_db"])
        lines.append(f"in {row['layer']} {row['phase']} {_accumulator_words(row)}")
    return lines


def _accumulator_limits(row: Row) -> bool:
    """Whether the sums cause a notable part of a row's error."""
    sums, whole = row.get("acc_sqnr_db"), row.get("sqnr_db")
    if sums is None or whole is None or missing(sums) or missing(whole):
        return False
    return bool(sums - whole <= ACCUMULATOR_DB)


def _accumulator_words(row: Row) -> str:
    share = row.get("swamped_share")
    swamped = f", {percent(share)} of the additions swamped" if share and not missing(share) else ""
    return f"the accumulator alone reaches {row['acc_sqnr_db']:.1f} dB{swamped}"
