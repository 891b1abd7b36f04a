"""`simulate`: a workload through the machine, to a report. Values and time are computed separately."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from hfp8sim.errors import InputError, check_whole_number
from hfp8sim.floating_point import standard_arithmetic
from hfp8sim.machine import Machine, get_machine
from hfp8sim.network import PHASES, Workload, check_phases
from hfp8sim.network.records import MAX_SIZE
from hfp8sim.report.columns import Row
from hfp8sim.report.record import Origin
from hfp8sim.report.report import Report
from hfp8sim.report.step import with_exchange
from hfp8sim.simulation.calibration import calibrate as calibrated
from hfp8sim.simulation.checkpoint import Progress, resumed_rows
from hfp8sim.simulation.measure import identity_columns, measure, time_columns
from hfp8sim.simulation.provenance import Settings, facts
from hfp8sim.simulation.scaling import unused
from hfp8sim.simulation.tasks import Task, list_tasks
from hfp8sim.simulation.values import EVENT_ROWS
from hfp8sim.systems import System, load_system
from hfp8sim.timing import get_model
from hfp8sim.units import Profile, get_profile
from hfp8sim.units.accumulator import check_source
from hfp8sim.units.policy import PolicyLike, assign, parse
from hfp8sim.workloads import load_workload

#: Multiply-accumulates of one layer and phase beyond which a sample of its outputs is emulated.
DEFAULT_MAX_MACS = 1 << 28

#: The machine that runs a workload unless another is asked for.
DEFAULT_MACHINE = "rapid-core"

#: What every task costs beside its values, in multiply-accumulates; for the estimate of the time left.
_TASK_MACS = 1 << 21


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during `simulate`; `report` holds the rows that were finished."""

    def __init__(self, report: Report) -> None:
        super().__init__()
        self.report = report


@standard_arithmetic
def simulate(
    workload: Workload | str,
    machine: str | Machine = DEFAULT_MACHINE,
    profile: str | Profile = "hfp8",
    seed: int = 0,
    *,
    phases: Iterable[str] = PHASES,
    policy: PolicyLike | None = None,
    time_model: str | None = None,
    threads: int | None = None,
    max_macs: int | None = DEFAULT_MAX_MACS,
    time_only: bool = False,
    events_every: int = 1,
    calibrate: str | None = None,
    calibrate_on: Workload | str | None = None,
    progress: Progress | None = None,
    resume: Report | None = None,
    checkpoint: Callable[[Report], None] | None = None,
    system: str | Path | System | None = None,
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
        events_every: count events in one of so many blocks of 64 rows of each product, and steps with them;
            the column `counted` has the share. The alerts say so.
        calibrate: choose the exponent bias, or the scale, of every operand tensor: `max`, `percentile`,
            `percentile=P` or `mse`, see `hfp8sim.calibrate`. `none` drops those that the workload has; None
            keeps them.
        calibrate_on: the workload to calibrate on; by default `workload` itself.
        progress: called as (done, all, what) before each layer and phase; done and all in units of work.
        resume: a partial report of the same run; its rows are taken over.
        checkpoint: called with the report so far after each layer and phase but the last.
        system: several chips, each of which runs the workload as its share of the mini-batch: a record, or what
            `load_system` takes. The report then has the time of a training step, and what each layer's exchange of
            gradients and weights sends and exposes. A system that names a machine decides it.

    Raises:
        InputError: anything unknown or out of range, in one line.
        Interrupted: Ctrl-C; it carries the report so far.
    """
    if not isinstance(workload, Workload):
        workload = load_workload(workload)
    check_source(seed, 0)
    if threads is not None:
        check_whole_number(threads, "threads", 1)
    if max_macs is not None:
        check_whole_number(max_macs, "max_macs", 1)
    check_whole_number(events_every, "events_every", 1, MAX_SIZE)
    phases = check_phases(phases)
    chips = None if system is None else _checked_system(system, machine, phases)
    machine = get_machine(chips.machine if chips is not None and chips.machine else machine)
    if time_only and calibrate not in (None, "none"):
        raise InputError(f"calibrate={calibrate!r} needs values, and time_only computes none")
    if time_only and events_every != 1:
        raise InputError(f"events_every={events_every} needs values, and time_only computes none")
    if calibrate is None and calibrate_on is not None:
        raise InputError("calibrate_on needs a method: calibrate max, percentile or mse")
    if calibrate is not None:
        workload = calibrated(
            workload, profile, calibrate, phases=phases, policy=policy, seed=seed, on=calibrate_on
        )
    settings = Settings(
        workload, machine, get_profile(profile), parse(policy), seed,
        get_model(time_model or machine.time_model).name,
        phases, max_macs, time_only, workload.calibration, events_every, chips,
    )  # fmt: skip
    run = _Run(settings, threads, resume)
    try:
        run.compute(progress, checkpoint)
    except KeyboardInterrupt:
        raise Interrupted(run.report()) from None
    return run.report()


def _checked_system(
    system: str | Path | System, machine: str | Machine, phases: tuple[str, ...]
) -> System:
    """The system; `InputError` if a training step on it could not be timed."""
    chips = load_system(system)
    if chips.machine and machine not in (DEFAULT_MACHINE, chips.machine):
        name = machine if isinstance(machine, str) else machine.name
        raise InputError(
            f"system {chips.name} has machine {chips.machine}; leave out machine {name}"
        )
    if phases != PHASES:
        raise InputError(f"a system needs the whole training step: phases {', '.join(PHASES)}")
    return chips


class _Run:
    """The rows of a run as they are computed."""

    def __init__(self, settings: Settings, threads: int | None, resume: Report | None) -> None:
        self.settings, self.threads = settings, threads
        workload = settings.workload
        self.tasks = list_tasks(workload, settings.phases, settings.profile, settings.rules)
        if not self.tasks:
            raise InputError(
                f"{workload.name} has no layer with phase {', '.join(settings.phases)}"
            )
        assigned = assign(workload, settings.profile, settings.rules)
        self.facts = facts(settings)
        idle = unused(zip(workload, (own for own, _ in assigned), strict=True))
        every = settings.events_every
        sampled = f"sampled: events are counted in one of {every} blocks of {EVENT_ROWS} rows"
        self.notes = (
            *([sampled] if every > 1 and not settings.time_only else []),
            *workload.alerts, *([idle] if idle else []), *workload.notes, *workload.warnings
        )  # fmt: skip
        self.origin = Origin(
            tuple(task.lowering() for task in self.tasks),
            settings.machine, settings.time_model, settings.seed,
        )  # fmt: skip
        self.rows: list[Row] = []
        if resume is not None:
            self.rows = resumed_rows(resume, self.facts, self.tasks)

    def report(self) -> Report:
        """The report so far."""
        report = Report(list(self.rows), self.facts, self.notes, len(self.tasks), self.origin)
        return with_exchange(report)

    def compute(
        self, progress: Progress | None, checkpoint: Callable[[Report], None] | None
    ) -> None:
        """Compute the rows that are missing."""
        work = [_work(task, self.settings.max_macs) for task in self.tasks]
        for done in range(len(self.rows), len(self.tasks)):
            task = self.tasks[done]
            if progress:
                what = f"{task.name} ({done + 1} of {len(self.tasks)})"
                progress(sum(work[:done]), sum(work), what)
            self.rows.append(self._row(task))
            if checkpoint and done + 1 < len(self.tasks):
                checkpoint(self.report())
        if progress:
            progress(sum(work), sum(work), "")

    def _row(self, task: Task) -> Row:
        settings = self.settings
        row = identity_columns(task) | time_columns(task, settings.machine, settings.time_model)
        if settings.time_only:
            return row
        return row | measure(
            task, settings.machine, settings.seed, self.threads, settings.max_macs,
            settings.events_every,
        )  # fmt: skip


def _work(task: Task, max_macs: int | None) -> int:
    """About how long a task takes, in multiply-accumulates."""
    return (task.macs if max_macs is None else min(task.macs, max_macs)) + _TASK_MACS
