"""Reports of made-up rows: every column filled, no emulation needed."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

from hfp8sim.analysis.accuracy import HISTOGRAM_BINS
from hfp8sim.network import PHASES
from hfp8sim.report.columns import COLUMNS, PARTS, Row
from hfp8sim.report.report import Report

LAYERS = ("conv1", "layer1.0.downsample.a_long_name_indeed", "fc")


def row(layer: str, phase: str, scale: float = 1.0) -> Row:
    """A row with plausible values; the same for the same arguments."""
    chance = random.Random(f"{layer} {phase}")
    m, n, k = (chance.randrange(1, 3000) for _ in range(3))
    macs = m * n * k
    parts = {part: int(scale * chance.randrange(1, 5000)) for part in PARTS}
    parts["compute"] = int(scale * macs) // 1024 + 1
    cycles = sum(parts.values())
    histogram = [chance.randrange(0, 1000) for _ in HISTOGRAM_BINS]
    return {
        "layer": layer, "phase": phase, "kind": "conv2d", "operation": "conv 3×3", "profile": "hfp8", "rule": "",
        "formats": "hfp8-143 × hfp8-143 → dlfloat16", "groups": 1, "m": m, "n": n, "k": k, "macs": macs,
        "cycles": cycles, **parts, "utilisation": macs / (2048 * cycles), "time_us": cycles / 1600,
        "tflops": 2 * macs / (cycles / 1.6e9) / 1e12, "bytes": 2 * (m * k + k * n + 2 * m * n), "bytes_compulsory": m * k + k * n + 2 * m * n,
        "bytes_capacity": m * k + k * n + 2 * m * n,
        "bound_by": max(parts, key=lambda part: parts[part]),
        "collective": "reduce-scatter" if phase == "wgrad" else "all-gather",
        "sent_bytes": chance.randrange(1, 9000) / 4, "messages": 3, "exposed_us": chance.random(),
        "sqnr_db": chance.uniform(15, 35), "relative_error": chance.random() / 10,
        "max_error": chance.random(), "cosine": 1 - chance.random() / 1000,
        "acc_sqnr_db": chance.uniform(45, 65), "acc_relative_error": chance.random() / 1000,
        "acc_max_ulp": chance.uniform(1, 5000), "acc_mean_ulp": chance.random() * 5,
        "error_ulps": histogram[::-1], "acc_error_ulps": histogram,
        "scaling": "",
        "saturated_share": 0.004, "flushed_share": 0.02,
        "a_saturated_share": 0.004, "b_saturated_share": 0.0, "a_flushed_share": 0.0005,
        "b_flushed_share": 0.02, "a_largest": 30.0, "b_largest": 30.0,
        "loss_scale": None if phase == "fwd" else 7, "loss_scale_lost": None if phase == "fwd" else 0.0004,
        "saturated": chance.randrange(9), "flushed": chance.randrange(999), "overflowed": 0,
        "underflowed": chance.randrange(9), "nan": 0, "steps": macs,
        "swamped": macs // 300, "swamped_share": (macs // 300) / macs, "gated": macs // 9,
        "gated_share": (macs // 9) / macs, "draws": 0,
        "retention_theory": 0.9998, "retention": 1.0003, "bits_normal": 8, "bits_chunked": 6,
        "counted": 1.0, "sampled": 1.0, "tensors": "activations captured; weights captured",
    }  # fmt: skip


def facts(**changed: Any) -> dict[str, Any]:
    """What was run."""
    profile = {"name": "hfp8", "chunk_length": 64, "rounding": "nearest-away"}
    return {
        "workload": "made-up",
        "digest": "0" * 64,
        "machine": {
            "name": "rapid-core",
            "clock_mhz": 1600,
            "array": {"rows": 8, "columns": 64, "corelets": 2, "macs_8bit": 2, "macs_16bit": 1},
            "memory": {"bytes_per_cycle": 64},
        },
        "peak_macs_per_cycle": 2048,
        "peak_macs_per_cycle_16bit": 1024,
        "time_model": "pipelined",
        "profile": profile,
        "policy": [],
        "seed": 0,
        "phases": list(PHASES),
        "max_macs": None,
        "time_only": False,
        "versions": {"hfp8sim": "0.1.0", "python": "3.11.7"},
        "command": "hfp8sim run made-up",
        **changed,
    }


def alone(report: Report) -> Report:
    """The same of a chip that exchanges nothing with others."""
    names = [column.name for column in COLUMNS if column.group == "exchange"]
    rows = [{k: v for k, v in row.items() if k not in names} for row in report.layers]
    return dataclasses.replace(report, layers=rows)


def sample(layers: tuple[str, ...] = LAYERS, scale: float = 1.0, **changed: Any) -> Report:
    """A report over all phases, in a run's order."""
    order = [(name, "fwd") for name in layers]
    order += [(name, phase) for name in layers[::-1] for phase in PHASES[1:]]
    rows = [row(name, phase, scale) for name, phase in order]
    return Report(rows, facts(**changed), ("a note",), len(rows))
