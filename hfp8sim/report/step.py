"""The training step of a report on a system: its time, from the rows and the facts, and the columns of its exchange."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hfp8sim.errors import printable
from hfp8sim.report.columns import Row
from hfp8sim.report.record import ReportRecord
from hfp8sim.systems import (
    PROTOCOLS,
    TOPOLOGIES,
    Exchange,
    LayerWork,
    Link,
    Step,
    System,
    time_step,
)

#: Layers that the table shows: those with the most bytes.
_MOST_LAYERS = 8
#: Keys of a report's fact `system` that are by layer, and no part of the system.
_BY_LAYER = ("weights", "weight_bytes")

AnyReport = TypeVar("AnyReport", bound=ReportRecord)


def training_step(report: ReportRecord, protocol: str | None = None) -> Step | None:
    """The time of a training step; None for a report without a system, or of an interrupted run.

    Args:
        protocol: how weights are updated; the system's own by default.
    """
    facts: dict[str, Any] | None = report.facts.get("system")
    if facts is None or report.partial:
        return None
    times = {(row["layer"], row["phase"]): row["time_us"] * 1e-6 for row in report.layers}
    works = [
        LayerWork(
            name,
            times.get((name, "fwd"), 0.0),
            times.get((name, "dgrad"), 0.0) + times.get((name, "wgrad"), 0.0),
            weights,
            facts["weight_bytes"][name],
        )
        for name, weights in facts["weights"].items()
    ]
    return time_step(works, system_of(facts), protocol)


def system_of(facts: dict[str, Any]) -> System:
    """The system of a report's fact `system`; `InputError`, `TypeError` or `KeyError` for a damaged one."""
    fields = {key: value for key, value in facts.items() if key not in _BY_LAYER}
    return System(**fields | {"link": Link(**fields["link"])})


def with_exchange(report: AnyReport) -> AnyReport:
    """The report with the columns of the exchange, if it has a training step."""
    step = training_step(report)
    if step is None:
        return report
    columns = exchange_columns(step)
    rows = [row | columns.get((row["layer"], row["phase"]), {}) for row in report.layers]
    return dataclasses.replace(report, layers=rows)


def exchange_columns(step: Step) -> dict[tuple[str, str], Row]:
    """What chips exchange, by layer and phase: gradients belong to wgrad, weights to fwd."""
    reduce, distribute = TOPOLOGIES[step.system.topology].names
    columns: dict[tuple[str, str], Row] = {}

    def add(layer: str, phase: str, collective: str, exchange: Exchange, exposed: float) -> None:
        columns[layer, phase] = {
            "collective": collective,
            "sent_bytes": exchange.total_bytes / step.system.chips,
            "messages": exchange.messages,
            "exposed_us": exposed * 1e6,
        }

    for layer in (layer for layer in step.layers if layer.weights):
        add(layer.name, "wgrad", reduce, layer.reduce, layer.exposed_reduce)
        add(layer.name, "fwd", distribute, layer.distribute, layer.exposed_distribute)
    return columns


def print_step(report: ReportRecord, console: Console) -> None:
    """The step in words, the update protocols side by side, and the layers that send most."""
    step = training_step(report)
    if step is None:
        return
    console.print(Text(summary(step)))
    console.print(_table(*PROTOCOL_HEADINGS, rows=protocol_rows(report)))
    console.print(_layers(step))
    console.print()


def summary(step: Step) -> str:
    """The step in one line."""
    system, exchange = step.system, step.exchange
    return printable(
        f"{system.name}: {system.chips} chips, {system.topology} of {system.link.gb_per_s:g} GB/s and "
        f"{system.link.latency_us:g} µs, {step.protocol.name} update; a step takes {_ms(step.seconds)}: "
        f"{_ms(step.compute)} computation and {_ms(step.exposed)} exposed exchange of "
        f"{exchange.path_bytes / 1e6:,.1f} MB ({_ms(step.latency_part)} latency, {_ms(step.bandwidth_part)} "
        f"bandwidth); efficiency {step.efficiency:.1%}"
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.3f} ms"


def _table(*headings: str, rows: Iterable[Sequence[str]]) -> Table:
    """A table whose first column is a name and whose others are numbers."""
    grid = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for number, heading in enumerate(headings):
        grid.add_column(heading, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        grid.add_row(*row)
    return grid


#: Headings of `protocol_rows`.
PROTOCOL_HEADINGS = (
    "update", "MB a chip", "step ms", "exposed ms", "efficiency", "against fp16",
)  # fmt: skip


def protocol_rows(report: ReportRecord) -> list[tuple[str, ...]]:
    """Every update protocol on the report's system."""
    steps = {name: training_step(report, name) for name in PROTOCOLS}
    base = steps["fp16"]
    return [
        (
            name, f"{step.exchange.total_bytes / step.system.chips / 1e6:,.3f}",
            f"{step.seconds * 1e3:,.3f}", f"{step.exposed * 1e3:,.3f}", f"{step.efficiency:.1%}",
            f"{round(step.seconds / base.seconds - 1, 3) or 0:+.1%} time",
        )
        for name, step in steps.items()
        if step is not None and base is not None
    ]  # fmt: skip


def _layers(step: Step) -> Table:
    """The layers that send most, in the order of the network."""
    most = sorted(step.layers, key=lambda layer: -layer.exchange.path_bytes)[:_MOST_LAYERS]
    headings = ("exchange of", "weights", "MB", "ms", "ready ms", "summed ms", "waits ms")
    rows = [
        (
            printable(layer.name), f"{layer.weights:,}", f"{layer.exchange.path_bytes / 1e6:.3f}",
            f"{layer.exchange.seconds(step.system.link) * 1e3:.3f}", f"{layer.ready * 1e3:.3f}",
            f"{layer.reduced * 1e3:.3f}", f"{layer.exposed_distribute * 1e3:.3f}",
        )
        for layer in step.layers
        if layer in most
    ]  # fmt: skip
    return _table(*headings, rows=rows)
