"""Small sweeps for tests: networks whose points take milliseconds."""

from __future__ import annotations

import hfp8sim as hs
from hfp8sim.network import Layer, Workload
from hfp8sim.sweeps import Plan

GEMMS = Workload("gemms", (Layer("a", "gemm", 4, 5, 70), Layer("b", "linear", 8, 3, 33)))
WIDE = Workload("wide", (Layer("c", "gemm", 6, 9, 40),))


def small_plan(**changes: object) -> Plan:
    """Sixteen points of a small network."""
    axes = {
        "workload": [GEMMS],
        "phases": ["fwd"],
        "profile.chunk_length": [8, 16, 64, 0],
        "profile.guard_bits": [0],
        "machine": [hs.get_machine("edge-8x8")],
        "machine.memory.bytes_per_cycle": [4, 8],
        "seed": [0, 1],
    }
    return Plan(axes | changes)  # type: ignore[arg-type]
