"""The timeline of a run: its programs made again, one after the other, as a Chrome/Perfetto trace."""

from __future__ import annotations

from hfp8sim.errors import InputError
from hfp8sim.lowering import lower_workload
from hfp8sim.report.record import ReportRecord
from hfp8sim.timing import check_timeline
from hfp8sim.timing.trace import trace


def render(report: ReportRecord) -> str:
    """The trace as JSON text, of the program that `hfp8sim lower` writes for the same run.

    Raises:
        InputError: a report that was read from a file, or a time model without instructions.
    """
    if report.origin is None:
        raise InputError("a report in JSON has no timeline; run the workload again with --timeline")
    layers, machine, model, seed = report.origin
    check_timeline(model)
    return trace(lower_workload(list(layers), machine, seed=seed), machine, model)
