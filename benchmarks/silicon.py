"""Rows of `make bench`: times of a real chip beside those of its preset. Nothing here is a measurement of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hfp8sim.machine import get_machine
from hfp8sim.timing import silicon

GROUP = "silicon: model over device"
DATA = Path(__file__).parents[1] / "tests/data/spyre_gemm.csv"


def rows() -> list[dict[str, Any]]:
    """A row for each agreement, then one for each product: the device's microseconds, and model over device."""
    machine = get_machine("spyre-32core")
    measured = silicon.read_measurements(DATA, machine)
    programs = silicon.program_rows(measured, machine)
    found: list[dict[str, Any]] = [
        _row(f"{name}: {agreement.rows}", agreement.median_log, "median |ln|", agreement.within_30)
        for name, agreement in silicon.agreements(measured, machine, programs).items()
    ]
    for row in silicon.best_rows(programs):
        bits, (_, m, n, k) = row.product
        found.append(_row(f"{m}×{n}×{k}, {bits} bits, program", row.device, "µs", row.ratio))
    return found


def _row(name: str, value: float, unit: str, ratio: float) -> dict[str, Any]:
    return {
        "group": GROUP, "name": name, "speed": value, "unit": unit, "ratio": ratio,
        "baseline": "within 30%" if unit != "µs" else "device", "target": None, "note": "",
    }  # fmt: skip
