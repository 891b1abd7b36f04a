"""The training step of a report on a system: its time, from the rows and the facts."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hfp8sim.errors import printable
from hfp8sim.report.record import ReportRecord
from hfp8sim.systems import PROTOCOLS, LayerWork, Link, Step, System, time_step

#: Layers that the table shows: those with the most bytes.
_MOST_LAYERS = 8


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
        )
        for name, weights in facts["weights"].items()
    ]
    return time_step(works, system_of(facts), protocol)


def system_of(facts: dict[str, Any]) -> System:
    """The system of a report's fact `system`; `InputError`, `TypeError` or `KeyError` for a damaged one."""
    fields = {key: value for key, value in facts.items() if key != "weights"}
    return System(**fields | {"link": Link(**fields["link"])})


def print_step(report: ReportRecord, console: Console) -> None:
    """The step in words, the update protocols side by side, and the layers that send most."""
    step = training_step(report)
    if step is None:
        return
    console.print(Text(summary(step)))
    console.print(_protocols(report))
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


def _table(*headings: str) -> Table:
    """An empty table whose first column is a name and whose others are numbers."""
    grid = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for number, heading in enumerate(headings):
        grid.add_column(heading, justify="right" if number else "left", no_wrap=True)
    return grid


def _protocols(report: ReportRecord) -> Table:
    """Every update protocol on this system."""
    grid = _table("update", "MB a chip", "step ms", "exposed ms", "efficiency")
    for name in PROTOCOLS:
        step = training_step(report, name)
        assert step is not None
        grid.add_row(
            name, f"{step.exchange.total_bytes / step.system.chips / 1e6:,.1f}",
            f"{step.seconds * 1e3:,.3f}", f"{step.exposed * 1e3:,.3f}", f"{step.efficiency:.1%}",
        )  # fmt: skip
    return grid


def _layers(step: Step) -> Table:
    """The layers that send most, in the order of the network."""
    most = sorted(step.layers, key=lambda layer: -layer.exchange.path_bytes)[:_MOST_LAYERS]
    grid = _table("exchange of", "weights", "MB", "ms", "ready ms", "summed ms", "waits ms")
    for layer in step.layers:
        if layer in most:
            exchange = layer.exchange
            grid.add_row(
                printable(layer.name), f"{layer.weights:,}", f"{exchange.path_bytes / 1e6:.3f}",
                f"{exchange.seconds(step.system.link) * 1e3:.3f}", f"{layer.ready * 1e3:.3f}",
                f"{layer.reduced * 1e3:.3f}", f"{layer.waited * 1e3:.3f}",
            )  # fmt: skip
    return grid
