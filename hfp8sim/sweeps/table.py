"""A sweep's result as the terminal shows it: what failed, the fronts, and what each key changes."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from hfp8sim.report.columns import BY_NAME, Row, cell_text
from hfp8sim.report.names import plain
from hfp8sim.sweeps.record import SweepRecord
from hfp8sim.sweeps.sensitivity import sensitivities
from hfp8sim.sweeps.store import FAILED

#: Lines of each table at most.
_MOST = 12


def print_result(result: SweepRecord, terminal: Any) -> None:
    """Print the summary, failures, one front for each cost, and the sensitivities."""
    terminal.print(f"{result.plan.name}: {result.summary}", markup=False)
    for number, reason in failures(result)[:_MOST]:
        terminal.print(f"  point {number} failed: {reason}", markup=False)
    quality = result.quality
    for cost in result.costs if quality else []:
        front = result.front(cost)
        if not front.rows:
            continue
        terminal.print()
        terminal.print(_front_table(result, list(front.rows), quality, cost))
    ranked = sensitivities(result)
    if ranked:
        terminal.print()
        table = _table("key", "measure", "share of the variance", "lowest mean", "highest mean")
        for entry in ranked[:_MOST]:
            table.add_row(
                *plain(entry.key, entry.measure), f"{100 * entry.share:.0f}%",
                number_text(entry.measure, entry.lowest), number_text(entry.measure, entry.highest),
            )  # fmt: skip
        terminal.print(table)


def failures(result: SweepRecord) -> list[tuple[str, str]]:
    """The failed points with their reasons; points that share a reason are listed together."""
    by_reason: dict[str, list[int]] = {}
    for row in result.rows:
        if row["status"] == FAILED:
            by_reason.setdefault(row["reason"], []).append(row["point"])
    listed = []
    for reason, numbers in by_reason.items():
        more = f" and {len(numbers) - 3} more" if len(numbers) > 3 else ""
        listed.append((", ".join(map(str, numbers[:3])) + more, reason))
    return listed


def _front_table(result: SweepRecord, rows: list[Row], quality: str, cost: str) -> Table:
    """A front: the configuration's varied keys and its two measures."""
    keys = result.varied
    table = _table(*result.short_keys.values(), heading(quality), heading(cost), left=len(keys))
    shown = rows if len(rows) <= _MOST else [*rows[: _MOST - 1], rows[-1]]
    for row in shown:
        table.add_row(
            *plain(*(str(row[key]) for key in keys)),
            number_text(quality, row[quality]),
            number_text(cost, row[cost]),
        )
    table.title = f"best {heading(quality)} for each number of {heading(cost)}"
    if len(rows) > len(shown):
        table.title += f": {len(shown)} of {len(rows)}"
    return table


def heading(measure: str) -> str:
    """A measure's name in a heading."""
    column = BY_NAME.get(measure)
    if column is not None and column.short:
        return column.short
    return measure.replace("_us", " µs").replace("_", " ")


def unit(measure: str) -> str:
    """A measure's unit; empty where its heading has it, and for shares and counts."""
    own = {
        "cycles": "cycles",
        "test_loss": "nats",
        "loss": "nats",
        "accumulator_bits": "bits",
        "step_us": "µs",
    }
    column = BY_NAME.get(measure)
    return own.get(measure) or (column.unit if column is not None else "")


def axis_title(measure: str) -> str:
    """A measure's heading with its unit, as in `SQNR, dB`."""
    own = unit(measure)
    return heading(measure) if not own or own in heading(measure) else f"{heading(measure)}, {own}"


def number_text(measure: str, value: Any) -> str:
    """A measure's value in a table."""
    if measure in BY_NAME:
        whole = BY_NAME[measure].kind is int and isinstance(value, float)
        return cell_text(BY_NAME[measure], round(value) if whole else value)
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}"


def _table(*headings: str, left: int = 1) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, title_justify="left")
    for number, text in enumerate(headings):
        table.add_column(text, justify="left" if number < left else "right")
    return table
