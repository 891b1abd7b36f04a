"""`simulate`: a workload through the machine, to a report. Values and time go separate ways."""

from __future__ import annotations

import dataclasses
import platform
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

import hfp8sim
from hfp8sim.analysis.accuracy import Comparison
from hfp8sim.analysis.variance import chunked_retention
from hfp8sim.errors import InputError, unknown
from hfp8sim.formats import get_format
from hfp8sim.report.columns import Row
from hfp8sim.report.report import Report
from hfp8sim.units import Events, Profile, gemm, get_profile
from hfp8sim.units.convert import convert
from hfp8sim.workloads import Layer, Workload, operands
from hfp8sim.workloads.records import PHASES

#: Multiply-accumulates of one layer and phase beyond which a sample of its outputs is emulated.
DEFAULT_MAX_MACS = 1 << 28


@dataclasses.dataclass(frozen=True)
class Task:
    """One layer in one phase, and the profile that computes it."""

    layer: Layer
    phase: str
    profile: Profile
    stream: int


def tasks(workload: Workload, phases: Iterable[str], profile: Profile) -> Iterator[Task]:
    """The layers' phases in the order in which training meets them: forward through the network, then
    backward through it, each layer's input gradient before its weight gradient."""
    wanted = tuple(phases)
    numbered = list(enumerate(workload.layers))
    for index, layer in numbered:
        if "fwd" in wanted and "fwd" in layer.phases:
            yield Task(layer, "fwd", profile, index << 32)
    for index, layer in reversed(numbered):
        for number, phase in enumerate(PHASES[1:], 1):
            if phase in wanted and phase in layer.phases:
                yield Task(layer, phase, profile, index << 32 | number << 28)


def check_phases(phases: Iterable[str]) -> tuple[str, ...]:
    """The phases, each known and at least one; `InputError` otherwise."""
    wanted = tuple(phases)
    for phase in wanted:
        if phase not in PHASES:
            raise unknown("phase", phase, list(PHASES))
    if not wanted:
        raise InputError(f"no phase given; choose from {', '.join(PHASES)}")
    return wanted


def simulate(
    workload: Workload | str,
    machine: Any = "rapid-core",
    profile: str | Profile = "hfp8",
    seed: int = 0,
    *,
    phases: Iterable[str] = PHASES,
    time_model: str | None = None,
    threads: int | None = None,
    max_macs: int | None = DEFAULT_MAX_MACS,
    progress: Callable[[int, int, str], None] | None = None,
) -> Report:
    """Run a workload on a machine and report accuracy and throughput for every layer and phase.

    Args:
        workload: a record, or what `load_workload` takes.
        machine: a record, or what `get_machine` takes.
        profile: the arithmetic, a name or a record.
        seed: of drawn tensors and of stochastic roundings.
        phases: any of fwd, dgrad, wgrad.
        time_model: `pipelined` or one of the `scalesim-*` models; the machine's own by default.
        threads: worker threads; no result depends on them.
        max_macs: a layer's phase with more multiply-accumulates is emulated on a sample of its outputs
            (their sums stay whole); None emulates everything. Time is always that of the whole layer.
        progress: called as (done, all, what) before each layer and phase.

    Raises:
        InputError: anything unknown or out of range, in one line.
    """
    if isinstance(workload, str):
        workload = hfp8sim.load_workload(workload)
    machine = hfp8sim.get_machine(machine)
    profile = get_profile(profile)
    time_model = time_model or machine.time_model
    todo = list(tasks(workload, check_phases(phases), profile))
    rows: list[Row] = []
    for done, task in enumerate(todo):
        if progress:
            progress(done, len(todo), f"{task.layer.name} {task.phase}")
        row = describe(task) | clock(task, machine, time_model)
        row |= measure(task, seed, threads, max_macs)
        rows.append(row)
    if progress:
        progress(len(todo), len(todo), "")
    notes = [*workload.notes, *workload.warnings]
    return Report(rows, facts(workload, machine, profile, seed, time_model), tuple(notes))


def describe(task: Task) -> Row:
    """The columns that need no computation."""
    shape = task.layer.shape(task.phase)
    a, b = task.profile.operand_formats(task.phase)
    return {
        "layer": task.layer.name, "phase": task.phase, "kind": task.layer.kind,
        "profile": task.profile.name,
        "formats": f"{a.name} × {b.name} → {task.profile.result_format.name}",
        "groups": shape.groups, "m": shape.m, "n": shape.n, "k": shape.k, "macs": shape.macs,
    }  # fmt: skip


def clock(task: Task, machine: Any, model: str) -> Row:
    """The time columns: a function of shapes, machine and model alone."""
    from hfp8sim.lowering import layer_time

    row: Row = layer_time(task.layer, task.phase, task.profile, machine, model)
    return row


def measure(task: Task, seed: int, threads: int | None, max_macs: int | None) -> Row:
    """The value columns: the layer's operands through the units, and what came out."""
    profile, layer = task.profile, task.layer
    a, b, provenance = operands(layer, task.phase, seed=seed, max_macs=max_macs)
    fmt_a, fmt_b = profile.operand_formats(task.phase)
    result_format = profile.result_format
    codes_a, counts_a = quantise(a, fmt_a, profile, seed, task.stream)
    codes_b, counts_b = quantise(b, fmt_b, profile, seed, task.stream + 1)
    felt, summed = Comparison(result_format), Comparison(result_format)
    events, steps = Events(), 0
    spread = spread_ideal = 0.0
    for g in range(a.shape[0]):
        codes, happened = gemm(
            codes_a[g], codes_b[g], profile, a_format=fmt_a, b_format=fmt_b,
            seed=seed, stream=task.stream + g, threads=threads, events=True,
        )  # fmt: skip
        result = result_format.decode(codes)
        ideal = fmt_a.decode(codes_a[g]) @ fmt_b.decode(codes_b[g])
        felt.add(result, a[g].astype(np.float64) @ b[g].astype(np.float64))
        summed.add(result, ideal)
        events += happened
        steps += codes.size * steps_of(profile, a.shape[2])
        spread += float(np.var(result[np.isfinite(result)])) if np.isfinite(result).any() else 0.0
        spread_ideal += float(np.var(ideal))
    seen, accumulated = felt.accuracy(), summed.accuracy()
    emulated = a.shape[0] * a.shape[1] * b.shape[2] * a.shape[2]
    return {
        "sqnr_db": seen.sqnr_db, "relative_error": seen.relative_error,
        "max_error": seen.max_error, "cosine": seen.cosine,
        "acc_sqnr_db": accumulated.sqnr_db, "acc_relative_error": accumulated.relative_error,
        "acc_max_ulp": accumulated.max_ulp, "acc_mean_ulp": accumulated.mean_ulp,
        "saturated": counts_a["saturated"] + counts_b["saturated"],
        "flushed": counts_a["underflowed"] + counts_b["underflowed"],
        "overflowed": events.overflowed, "underflowed": events.underflowed, "nan": events.nan,
        "swamped": events.swamped, "steps": steps,
        "swamped_share": events.swamped / steps if steps else None, "draws": events.draws,
        "retention_theory": predicted_retention(profile, task.phase, a.shape[2]),
        "retention": spread / spread_ideal if spread_ideal else None,
        "sampled": emulated / layer.shape(task.phase).macs, "tensors": provenance,
    }  # fmt: skip


def quantise(
    x: NDArray[np.float32], fmt: Any, profile: Profile, seed: int, stream: int
) -> tuple[NDArray[Any], dict[str, int]]:
    """An operand tensor in its format, by the profile's rules."""
    return convert(
        x, fmt, profile.operand_rounding, profile.operand_overflow,
        bits=profile.random_bits, seed=seed, stream=stream,
    )  # fmt: skip


def steps_of(profile: Profile, k: int) -> int:
    """Roundings inside chunks of one output of sums of length k."""
    length = profile.chunk_length or max(k, 1)
    width = profile.products_per_step or length
    whole, rest = divmod(k, length)
    return whole * -(-length // width) + -(-rest // width)


def predicted_retention(profile: Profile, phase: str, k: int) -> float:
    """The theory's variance retention for sums of length k; exact sums retain everything."""
    if profile.products_per_step == 0:
        return 1.0
    a, b = profile.operand_formats(phase)
    m_acc = get_format(profile.accumulator).fraction_bits
    m_p = min(a.fraction_bits + b.fraction_bits + 1, m_acc)
    return chunked_retention(m_acc, m_p, k, profile.chunk_length)


def facts(
    workload: Workload, machine: Any, profile: Profile, seed: int, model: str
) -> dict[str, Any]:
    """Everything that is needed to run it again."""
    fields = dataclasses.asdict(profile)
    fields |= {k: v["name"] for k, v in fields.items() if isinstance(v, dict)}
    return {
        "workload": workload.name,
        "machine": dataclasses.asdict(machine),
        "peak_macs_per_cycle": machine.macs_per_cycle(),
        "time_model": model,
        "profile": fields,
        "seed": seed,
        "versions": {
            "hfp8sim": hfp8sim.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "numba": sys.modules["numba"].__version__,
        },
    }
