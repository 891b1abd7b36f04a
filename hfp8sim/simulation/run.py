"""`simulate`: a workload through the machine, to a report. Values and time go separate ways."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

import hfp8sim
from hfp8sim.analysis.accuracy import Comparison
from hfp8sim.analysis.variance import chunked_retention, needed_bits
from hfp8sim.errors import InputError
from hfp8sim.floating_point import standard_arithmetic
from hfp8sim.formats import FloatFormat, formats, get_format
from hfp8sim.lowering import LayerPhase, lower_layer
from hfp8sim.machine import Machine, execute
from hfp8sim.network import Layer, Workload, phase_stream
from hfp8sim.network.records import PHASES, check_phases
from hfp8sim.ops import Events
from hfp8sim.ops.conversions import convert
from hfp8sim.report.columns import Row
from hfp8sim.report.record import Origin
from hfp8sim.report.report import Report
from hfp8sim.report.theory import PREDICTED
from hfp8sim.timing import get_model, time_layer
from hfp8sim.units import Profile, get_profile
from hfp8sim.units.policy import PolicyLike, Rules, assign, parse
from hfp8sim.workloads import operands

#: Multiply-accumulates of one layer and phase beyond which a sample of its outputs is emulated.
DEFAULT_MAX_MACS = 1 << 28


@dataclasses.dataclass(frozen=True)
class Task:
    """One layer in one phase, the profile that computes it, and the policy's rule that chose it."""

    layer: Layer
    phase: str
    profile: Profile
    stream: int
    rule: str = ""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during `simulate`; `report` holds the rows that were done."""

    def __init__(self, report: Report) -> None:
        super().__init__()
        self.report = report


def tasks(
    workload: Workload, phases: Iterable[str], profile: Profile, rules: Rules = ()
) -> Iterator[Task]:
    """The layers' phases in the order in which training meets them: forward through the network, then
    backward through it, each layer's input gradient before its weight gradient."""
    wanted = tuple(phases)
    numbered = list(enumerate(zip(workload.layers, assign(workload, profile, rules), strict=True)))
    for index, (layer, (chosen, rule)) in numbered:
        if "fwd" in wanted and "fwd" in layer.phases:
            yield Task(layer, "fwd", chosen, phase_stream(index, "fwd"), rule)
    for index, (layer, (chosen, rule)) in reversed(numbered):
        for phase in PHASES[1:]:
            if phase in wanted and phase in layer.phases:
                yield Task(layer, phase, chosen, phase_stream(index, phase), rule)


@standard_arithmetic
def simulate(
    workload: Workload | str,
    machine: Any = "rapid-core",
    profile: str | Profile = "hfp8",
    seed: int = 0,
    *,
    phases: Iterable[str] = PHASES,
    policy: PolicyLike | None = None,
    time_model: str | None = None,
    threads: int | None = None,
    max_macs: int | None = DEFAULT_MAX_MACS,
    time_only: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
    resume: Report | None = None,
    checkpoint: Callable[[Report], None] | None = None,
) -> Report:
    """Run a workload on a machine and report accuracy and throughput for every layer and phase.

    Args:
        workload: a record, or what `load_workload` takes.
        machine: a record, or what `get_machine` takes.
        profile: the arithmetic, a name or a record.
        seed: of drawn tensors and of stochastic roundings.
        phases: any of fwd, dgrad, wgrad.
        policy: layers that take another profile, by rule: see `hfp8sim.units.policy`.
        time_model: a name in `hfp8sim.timing.MODELS`; the machine's own by default.
        threads: worker threads; no result depends on them.
        max_macs: a layer's phase with more multiply-accumulates is emulated on a sample of its outputs
            (their sums stay whole); None emulates everything. Time is always that of the whole layer.
        time_only: compute no values: rows have their time and nothing of accuracy, events and theory.
        progress: called as (done, all, what) before each layer and phase; done and all in units of work.
        resume: a partial report of the same run; its rows are taken over.
        checkpoint: called with the report so far after each layer and phase but the last.

    Raises:
        InputError: anything unknown or out of range, in one line.
        Interrupted: Ctrl-C; it carries the report so far.
    """
    if isinstance(workload, str):
        workload = hfp8sim.load_workload(workload)
    machine = hfp8sim.get_machine(machine)
    profile, rules, wanted = get_profile(profile), parse(policy), check_phases(phases)
    if threads is not None and threads < 1:
        raise InputError(f"threads is {threads}, must be at least 1")
    model = get_model(time_model or machine.time_model).name
    todo = list(tasks(workload, wanted, profile, rules))
    if not todo:
        raise InputError(f"{workload.name} has no layer with phase {', '.join(wanted)}")
    known = facts(workload, machine, profile, rules, seed, model, wanted, max_macs, time_only)
    notes = (*workload.notes, *workload.warnings)
    rows: list[Row] = [] if resume is None else resumed(resume, known, todo)

    origin = Origin(
        tuple(LayerPhase(t.layer.replace(tensors={}), t.phase, t.profile, t.stream) for t in todo),
        machine,
        model,
        seed,
    )

    def so_far() -> Report:
        return Report(list(rows), known, notes, len(todo), origin)

    efforts = [effort(task, max_macs) for task in todo]
    try:
        for done, task in enumerate(todo[len(rows) :], len(rows)):
            if progress:
                what = f"{task.layer.name} {task.phase} ({done + 1} of {len(todo)})"
                progress(sum(efforts[:done]), sum(efforts), what)
            row = describe(task) | clock(task, machine, model)
            rows.append(row if time_only else row | measure(task, machine, seed, threads, max_macs))
            if checkpoint and len(rows) < len(todo):
                checkpoint(so_far())
    except KeyboardInterrupt:
        raise Interrupted(so_far()) from None
    if progress:
        progress(sum(efforts), sum(efforts), "")
    return so_far()


def effort(task: Task, max_macs: int | None) -> int:
    """About how long a task takes, for the time left: the multiply-accumulates it emulates, and some
    for what every task costs."""
    macs = task.layer.shape(task.phase).macs
    return (macs if max_macs is None else min(macs, max_macs)) + (1 << 21)


def resumed(report: Report, known: dict[str, Any], todo: list[Task]) -> list[Row]:
    """The rows of a partial report, if it is one of the same run; `InputError` says what differs."""
    for key in (*known, *(k for k in report.facts if k not in known)):
        if key == "command":
            continue
        there, here = report.facts.get(key), known.get(key)
        if key == "versions":  # those of Python and NumPy change no bit
            there, here = (v and {"hfp8sim": v.get("hfp8sim")} for v in (there, here))
        if there != here:
            raise InputError(f"cannot resume: {_difference(key, there, here)}")
    for row, task in zip(report.layers, todo):
        if (row["layer"], row["phase"]) != (task.layer.name, task.phase):
            raise InputError(
                f"cannot resume: the report has {row['layer']} {row['phase']} "
                f"where this run has {task.layer.name} {task.phase}"
            )
    if len(report.layers) > len(todo):
        raise InputError(f"cannot resume: {len(report.layers)} rows where there are {len(todo)}")
    return list(report.layers)


def _difference(key: str, there: Any, here: Any) -> str:
    """The first place where two facts differ, in words."""
    if isinstance(there, dict) and isinstance(here, dict):
        for name in (*here, *there):
            if there.get(name) != here.get(name):
                return _difference(f"{key}.{name}", there.get(name), here.get(name))
    if key == "digest":
        return "the workload has changed since"
    return f"{key} is {there!r} in the partial report and {here!r} in this run"


def describe(task: Task) -> Row:
    """The columns that need no computation."""
    shape = task.layer.shape(task.phase)
    a, b = task.profile.operand_formats(task.phase)
    return {
        "layer": task.layer.name, "phase": task.phase, "kind": task.layer.kind,
        "profile": task.profile.name, "rule": task.rule,
        "formats": f"{a.name} × {b.name} → {task.profile.result_format.name}",
        "groups": shape.groups, "m": shape.m, "n": shape.n, "k": shape.k, "macs": shape.macs,
    }  # fmt: skip


def clock(task: Task, machine: Any, model: str) -> Row:
    """The time columns: a function of shapes, machine and model alone."""
    time = time_layer(task.layer, task.phase, task.profile, machine, model)
    return {
        "cycles": time.cycles,
        **time.parts._asdict(),
        "utilisation": time.utilisation(machine),
        "time_us": machine.seconds(time.cycles) * 1e6,
        "tflops": time.tflops(machine),
        "bytes": time.bytes,
        "bytes_compulsory": time.compulsory,
        "bytes_capacity": time.bytes - time.compulsory,
        "bound_by": time.bound_by,
    }


@dataclasses.dataclass(frozen=True)
class Values:
    """What a layer's phase computed. Matrices are float64 with the groups in front, (G, M, N): the
    `result`, what the quantised operands give without rounding (`summed`), and what the tensors do
    (`felt`). `gated`: multiply-accumulates with a zero operand; `elements`: operand elements that were
    clamped or flushed."""

    result: NDArray[np.float64]
    summed: NDArray[np.float64]
    felt: NDArray[np.float64]
    events: Events
    gated: int
    elements: dict[str, int]
    depth: int
    provenance: str


def measure(
    task: Task, machine: Machine, seed: int, threads: int | None, max_macs: int | None
) -> Row:
    """The value columns: the layer's tensors through the machine, and what came out."""
    values = run_values(task, machine, seed, threads, max_macs)
    result, events, k = values.result, values.events, values.depth
    felt, summed = Comparison(task.profile.result_format), Comparison(task.profile.result_format)
    felt.add(result, values.felt)
    summed.add(result, values.summed)
    seen, accumulated = felt.accuracy(), summed.accuracy()
    steps = result.size * steps_of(task.profile, k)
    spread = sum(float(np.var(r[np.isfinite(r)])) for r in result if np.isfinite(r).any())
    ideal = sum(float(np.var(r)) for r in values.summed)
    return {
        "sqnr_db": seen.sqnr_db, "relative_error": seen.relative_error,
        "max_error": seen.max_error, "cosine": seen.cosine,
        "acc_sqnr_db": accumulated.sqnr_db, "acc_relative_error": accumulated.relative_error,
        "acc_max_ulp": accumulated.max_ulp, "acc_mean_ulp": accumulated.mean_ulp,
        "error_ulps": list(seen.histogram), "acc_error_ulps": list(accumulated.histogram),
        "saturated": values.elements["saturated"], "flushed": values.elements["underflowed"],
        "overflowed": events.overflowed, "underflowed": events.underflowed, "nan": events.nan,
        "swamped": events.swamped, "steps": steps,
        "swamped_share": events.swamped / steps if steps else None,
        "gated": values.gated, "gated_share": values.gated / (result.size * k), "draws": events.draws,
        "retention": spread / ideal if ideal else None,
        "sampled": result.size * k / task.layer.shape(task.phase).macs,
        "tensors": values.provenance,
    } | theory(task.profile, task.phase, k)  # fmt: skip


#: The two tensors that a phase multiplies, operand A's first.
SOURCES = {"fwd": ("x", "w"), "dgrad": ("dy", "w"), "wgrad": ("x", "dy")}


def run_values(
    task: Task, machine: Machine, seed: int, threads: int | None, max_macs: int | None
) -> Values:
    """Quantise the tensors, run the layer's program on the machine, and compute both references.

    A layer whose tensors are known and that is not sampled runs as what it is, a convolution unfolded
    by the machine's addresses. Otherwise the (drawn, sampled) operand matrices run as a GEMM.
    """
    layer, phase, profile = task.layer, task.phase, task.profile
    a, b, provenance = operands(layer, phase, seed=seed, max_macs=max_macs)
    felt = np.matmul(a.astype(np.float64), b.astype(np.float64))
    sources = SOURCES[phase]
    whole = felt.size * a.shape[2] == layer.shape(phase).macs
    if not (whole and all(name in layer.tensors for name in sources)):
        (groups, m, k), n = a.shape, b.shape[2]
        names = ("x", "w")
        layer = Layer(
            layer.name, "gemm", m, n, k, groups, phases=("fwd",),
            tensors=dict(zip(names, (a, b) if groups > 1 else (a[0], b[0]))),
        )  # fmt: skip
        sources, phase = names, "fwd"
    codes: dict[str, Any] = {}
    seen, elements = {}, {"saturated": 0, "underflowed": 0}
    formats = profile.operand_formats(task.phase)
    for number, (name, fmt) in enumerate(zip(sources, formats)):
        codes[name], counts = quantise(
            layer.tensors[name], fmt, profile, seed, task.stream + number
        )
        seen[name] = fmt.decode(codes[name]).astype(np.float32)
        elements = {key: elements[key] + counts[key] for key in elements}
    # The program of the GEMM takes its operand formats from the phase that it stands for.
    arithmetic = (
        profile.replace(a_format=formats[0], b_format=formats[1]) if phase == "fwd" else profile
    )
    program = lower_layer(layer, phase, machine, arithmetic, seed=seed, stream=task.stream)
    done = execute(program, codes, machine, threads=threads, count=True)
    (output,) = done.outputs.values()
    shape = layer.shape(phase)
    result = profile.result_format.decode(output)
    if layer.conv is None:
        result = result.reshape(shape.groups, shape.m, shape.n)
    else:
        result = result.reshape(shape.m, shape.groups, shape.n).transpose(1, 0, 2)
    qa, qb, _ = operands(
        layer.replace(tensors={**layer.tensors, **seen}), phase, max_elements=1 << 62
    )
    summed = np.matmul(qa.astype(np.float64), qb.astype(np.float64))
    assert done.events is not None and done.gated is not None
    return Values(result, summed, felt, done.events, done.gated, elements, a.shape[2], provenance)


def quantise(
    x: NDArray[np.float32], fmt: FloatFormat, profile: Profile, seed: int, stream: int
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


def theory(profile: Profile, phase: str, k: int) -> Row:
    """What theory says of sums of length k: the variance they retain and the fraction bits they need,
    as one sum and in the profile's chunks. Chunks that are summed exactly retain everything."""
    m_acc, m_p = sum_bits(profile, phase)
    chunk, exact = profile.chunk_length, profile.products_per_step == 0
    return {
        "retention_theory": 1.0 if exact else chunked_retention(m_acc, m_p, k, chunk),
        "bits_normal": needed_bits(m_p, k),
        "bits_chunked": needed_bits(m_p, k, chunk) if chunk else None,
    }


def sum_bits(profile: Profile, phase: str) -> tuple[int, int]:
    """Fraction bits of the accumulator, and of the products as they enter it."""
    a, b = profile.operand_formats(phase)
    m_acc = get_format(profile.accumulator).fraction_bits
    return m_acc, min(a.fraction_bits + b.fraction_bits + 1, m_acc)


@standard_arithmetic
def predictions(
    workload: Workload | str,
    profile: str | Profile = "hfp8",
    phases: Iterable[str] = PHASES,
    policy: PolicyLike | None = None,
) -> list[Row]:
    """What variance-retention theory says of every layer's sums; shapes are enough.

    A row has the keys of `PREDICTED`: the retention of the profile's accumulator and the fraction bits
    that would be enough, as one sum (`normal`) and in chunks of the profile's length.
    """
    if isinstance(workload, str):
        workload = hfp8sim.load_workload(workload)
    rows = []
    for task in tasks(workload, check_phases(phases), get_profile(profile), parse(policy)):
        k, chunk = task.layer.shape(task.phase).k, task.profile.chunk_length
        m_acc, m_p = sum_bits(task.profile, task.phase)
        said = theory(task.profile, task.phase, k)
        values = (
            task.layer.name, task.phase, k, task.profile.name, task.rule, m_p, m_acc, chunk,
            chunked_retention(m_acc, m_p, k, 0),
            chunked_retention(m_acc, m_p, k, chunk) if chunk else None,
            said["bits_normal"], said["bits_chunked"],
        )  # fmt: skip
        rows.append(dict(zip(PREDICTED, values, strict=True)))
    return rows


def facts(
    workload: Workload,
    machine: Any,
    profile: Profile,
    rules: Rules,
    seed: int,
    model: str,
    phases: tuple[str, ...],
    max_macs: int | None,
    time_only: bool,
) -> dict[str, Any]:
    """Everything that is needed to run it again, of JSON's own types."""
    known = {
        "workload": workload.name,
        "digest": digest(workload),
        "machine": dataclasses.asdict(machine),
        "peak_macs_per_cycle": machine.macs_per_cycle(),
        "peak_macs_per_cycle_16bit": machine.macs_per_cycle(16),
        "time_model": model,
        "profile": profile_fields(profile),
        "policy": [{"rule": rule, "profile": profile_fields(other)} for rule, other in rules],
        "seed": seed,
        "phases": list(phases),
        "max_macs": max_macs,
        "time_only": time_only,
        "versions": {
            "hfp8sim": hfp8sim.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "numba": sys.modules["numba"].__version__,
        },
    }
    plain: dict[str, Any] = json.loads(json.dumps(known))
    return plain


def profile_fields(profile: Profile) -> dict[str, Any]:
    """A profile's fields; formats by name, or all their facts where they are not registered."""

    def plain(value: Any) -> Any:
        if not isinstance(value, FloatFormat):
            return value
        registered = value.name in formats() and get_format(value.name) == value
        return value.name if registered else dataclasses.asdict(value)

    return {f.name: plain(getattr(profile, f.name)) for f in dataclasses.fields(profile)}


def digest(workload: Workload) -> str:
    """SHA-256 of a workload's layers and tensors: two runs with the same digest ran the same thing."""
    found = hashlib.sha256()
    for layer in workload:
        fields = (layer.name, layer.kind, layer.groups, layer.m, layer.n, layer.k, layer.phases)
        found.update(repr((fields, layer.conv)).encode())
        for key in sorted(layer.tensors):
            found.update(key.encode())
            found.update(np.ascontiguousarray(layer.tensors[key]).data)
    return found.hexdigest()
