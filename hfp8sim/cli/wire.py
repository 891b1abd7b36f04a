"""The tables of `hfp8sim wire`: bytes and messages that learners send in a training step of a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hfp8sim.cli.common import list_table, print_out
from hfp8sim.cli.options import load
from hfp8sim.errors import InputError, check_whole_number
from hfp8sim.report.record import ReportRecord
from hfp8sim.report.step import PROTOCOL_HEADINGS, protocol_rows
from hfp8sim.simulation import simulate
from hfp8sim.systems import load_system
from hfp8sim.systems import wire as account
from hfp8sim.systems.wire import Weights


def show(
    workload: str, learners: int, system: Path | None, machine: str, layers: bool, batch: int | None
) -> None:
    """Print the tables of a network."""
    record = None if system is None else load_system(system)
    count = check_whole_number(learners if record is None else record.chips, "learners", 1)
    network = load(workload, batch, None, time_only=True)
    weighted = [layer for layer in network if layer.parameters and "wgrad" in layer.phases]
    if not weighted:
        raise InputError(f"{workload} has no layer with weights")
    names = [(x.name, x.parameters, x.kind != "conv2d") for x in weighted]
    rows = account.layer_weights(names, {weighted[0].name, weighted[-1].name})
    tables = [_protocols(rows, count), _gains()]
    if layers:
        tables.insert(1, _layers(rows, count))
    if record is not None:
        report = simulate(network, machine=machine, time_only=True, system=record)
        tables.append(_times(report))
    print_out(lambda terminal: _print_tables(terminal, tables))


def _print_tables(terminal: Any, tables: list[Any]) -> None:
    """The tables with a blank line between two."""
    terminal.print(tables[0])
    for table in tables[1:]:
        terminal.print()
        terminal.print(table)


def _protocols(rows: list[Weights], learners: int) -> Any:
    """A row for each protocol."""
    plain = [account.Weights(r.name, r.count, 1, r.linear) for r in rows]
    protocols = {
        "binary32 all-reduce": account.all_reduce(rows, learners, 4),
        "16-bit all-reduce": account.all_reduce(rows, learners, 2),
        "HFP8, all layers in 8 bits": account.hfp8(plain, learners),
        "HFP8, first and last layer in 16 bits": account.hfp8(rows, learners),
        "8-bit gradients, 8-bit weights": account.hfp8(plain, learners, gradient=1),
        "AdaComp, 5 elements of each bin": account.adacomp(rows, learners),
        "ScaleCom, 1 element of 100": account.scalecom(rows, learners),
        "D-PSGD on a ring, binary32": account.gossip(rows, learners),
        "D-PSGD on a ring, 8-bit differences": account.gossip(rows, learners, 1, differences=True),
    }
    base = account.total(protocols["16-bit all-reduce"])
    total = sum(row.count for row in rows)
    headings = (f"{learners} learners, {total:,} weights", "MB sent", "relative", "messages")
    table = list_table(headings, headings[1:])
    for name, sent in protocols.items():
        size = account.total(sent)
        relative = f"{size / base:.2f}" if base else "–"
        messages = sum(row.messages for row in sent)
        table.add_row(name, f"{size / 1e6:.3f}", relative, f"{messages:,}")
    return table


def _layers(rows: list[Weights], learners: int) -> Any:
    """HFP8's bytes by layer and collective."""
    headings = ("layer", "collective", "bytes sent", "messages")
    table = list_table(headings, headings[2:])
    for row in account.hfp8(rows, learners):
        table.add_row(row.layer, row.collective, f"{row.bytes:,.0f}", str(row.messages))
    return table


def _gains() -> Any:
    """Which assumption gives which gain."""
    columns = {f"{saved:.0%} saved": saved for saved in (0.3, 0.38, 0.6)}
    columns |= {f"{faster:.0%} faster": account.saved_by(faster) for faster in (0.3, 0.6)}
    headings = ("HFP8 for 16-bit all-reduce", "at most", *columns)
    table = list_table(headings, headings[1:], wrap=False)
    for row in account.GAINS:
        needed = [row.needed(saved) for saved in columns.values()]
        cells = ["never" if x == float("inf") else f"x = {x:.1f}" for x in needed]
        table.add_row(row.assumption, f"{row.share:.0%}", *cells)
    table.caption = (
        "of the time of a step; x: the exposed exchange of 16-bit all-reduce over the computation"
    )
    table.caption_justify = "left"
    return table


def _times(report: ReportRecord) -> Any:
    """The time of a step by protocol, on a system."""
    first, *headings = PROTOCOL_HEADINGS
    table = list_table((f"{first} on {report.facts['system']['name']}", *headings), tuple(headings))
    for row in protocol_rows(report):
        table.add_row(*row)
    return table
