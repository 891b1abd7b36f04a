"""`sweep`: the points of a plan, computed wherever there are workers, into one table."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hfp8sim.errors import InputError
from hfp8sim.ops import thread_count
from hfp8sim.sweeps.compute import TAKEN, failure, finished
from hfp8sim.sweeps.jobs import Job, Resolver
from hfp8sim.sweeps.keys import LISTS
from hfp8sim.sweeps.plan import Plan, Range, Values, load_plan
from hfp8sim.sweeps.pools import Lost, Pool, Task, make_pool
from hfp8sim.sweeps.record import Point
from hfp8sim.sweeps.result import SweepResult
from hfp8sim.sweeps.store import DONE, FAILED, Record, Store

#: Called as (work done, all work, description) after each point.
Progress = Callable[[int, int, str], None]

#: A point whose worker has ended so many times has failed.
ATTEMPTS = 3

#: Seconds between two looks at the answers, and between two tries at a point that another process computes.
_LOOK, _RETRY = 0.2, 0.5


class SweepInterrupted(KeyboardInterrupt):
    """Ctrl-C during `sweep`; `result` holds the points that were finished."""

    def __init__(self, result: SweepResult) -> None:
        super().__init__()
        self.result = result


def sweep(
    workloads: Any = (),
    *,
    networks: Any = (),
    recipes: Any = (),
    profiles: Any = (),
    machines: Any = (),
    systems: Any = (),
    seeds: Any = (),
    vary: Mapping[str, Sequence[Any] | Range] | None = None,
    fixed: Values | None = None,
    points: Sequence[Values] = (),
    samples: int | None = None,
    sample_seed: int = 0,
    where: Any = (),
    name: str = "sweep",
    quality: str | None = None,
    costs: Sequence[str] = (),
    n_jobs: int = 1,
    executor: Any = None,
    threads: int | None = None,
    out: str | Path | None = None,
    repeat_failed: bool = False,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> SweepResult:
    """Run workloads, or train networks, over every combination of settings, a list of them or a random sample.

    Args:
        workloads: names, files or records; one of them needs no list. The path of a sweep's TOML file, or a
            `Plan`, has all of the settings, and then none of those up to `costs` may be given.
        networks: networks to train, in place of workloads.
        recipes: of the trainings.
        profiles, machines: names, TOML files or records; `hfp8` and `rapid-core` by default.
        systems: chips and links: TOML files or records; adds the time of a training step of which each chip runs
            the workload.
        seeds: of drawn tensors, first weights and stochastic roundings; 0 by default.
        vary: values, or a `Range`, of any other key (docs/sweeps.md): `{"profile.chunk_length": [16, 64]}`.
        fixed: one value of other keys: `{"phases": "fwd"}`.
        points: a list of points instead of a grid: a dict of values by key for each.
        samples: so many random points instead of the grid.
        sample_seed: of the random points.
        where: constraints, all of which a point must satisfy: texts as in `"chunk_length <= 64"`, or functions
            of a mapping of values by key.
        name: of the sweep, in its report.
        quality, costs: the measures of the report's fronts; `sqnr_db` or `test_loss` against `cycles`, `bytes` and
            `accumulator_bits` by default.
        n_jobs: processes of this machine; −1 for as many as there are cores.
        executor: in their place, anything with `submit`: a Dask client, an executor of `concurrent.futures`.
        threads: worker threads of each process; by default the cores are divided among the processes.
        out: a folder that keeps a file for each point. A later start takes over what is there, and several
            machines can share it.
        repeat_failed: compute those points again that are there as failed.
        progress: called as (done, all, what) in units of work.
        stop: asked several times a second; True ends the sweep as Ctrl-C does.

    Returns the points in the order of the plan; none of them depends on `n_jobs`, `executor` or `threads`. A point
    that fails is in it with its reason.

    Raises:
        InputError: an unknown name or key, no point, a folder that cannot be written.
        SweepInterrupted: Ctrl-C; it carries the points so far.
    """
    plan = _plan(
        workloads,
        {
            "networks": networks, "recipes": recipes, "profiles": profiles, "machines": machines, "systems": systems,
            "seeds": seeds, "vary": vary, "fixed": fixed, "points": points, "samples": samples,
            "sample_seed": sample_seed, "where": where, "quality": quality, "costs": costs,
        },
        name,
    )  # fmt: skip
    processes = thread_count(None) if n_jobs == -1 else n_jobs
    if isinstance(n_jobs, bool) or not isinstance(n_jobs, int) or processes < 1:
        raise InputError(
            f"n_jobs is {n_jobs!r}, must be a number of processes, or -1 for all cores"
        )
    if threads is None and (processes > 1 or executor is not None):
        threads = 1 if executor is not None else max(1, thread_count(None) // processes)
    store = None if out is None else Store.make(out)
    run = _Sweep(plan, threads, store, repeat_failed)
    with contextlib.ExitStack() as stack:
        # The processes of a new sweep start while its points are resolved.
        new = store is None or store.is_empty()
        pool = run.pool(stack, processes, executor, len(run.values)) if new else None
        run.resolve()
        missing = run.take_over()
        if progress:
            progress(*run.progress())
        try:
            if missing:
                pool = pool or run.pool(stack, processes, executor, len(missing))
                _Drive(run, pool, progress, stop).run(missing)
        except KeyboardInterrupt:
            raise SweepInterrupted(run.result()) from None
    return run.result()


def _plan(source: Any, settings: dict[str, Any], name: str) -> Plan:
    """The plan of `sweep`'s arguments."""
    is_file = isinstance(source, str | Path) and str(source).endswith(".toml")
    if is_file or isinstance(source, Plan):
        given = [key for key, value in settings.items() if value not in (None, (), 0)]
        if given:
            raise InputError(f"{given[0]} is given beside a plan; change the plan instead")
        return source if isinstance(source, Plan) else load_plan(source)
    axes: dict[str, Any] = {}
    for plural, key in LISTS.items():
        values = _listed(source if plural == "workloads" else settings[plural])
        if values:
            axes[key] = values
    for key, value in (settings["vary"] or {}).items():
        if key in axes:
            raise InputError(f"{key} is given twice")
        axes[key] = value if isinstance(value, Range | str) else _listed(value)
    for key, value in (settings["fixed"] or {}).items():
        if key in axes:
            raise InputError(f"{key} is given twice")
        axes[key] = [value]
    return Plan(
        axes, tuple(dict(point) for point in settings["points"]), settings["samples"],
        settings["sample_seed"], tuple(_listed(settings["where"])), name, settings["quality"],
        tuple(_listed(settings["costs"])),
    )  # fmt: skip


def _listed(values: Any) -> list[Any]:
    """Several values as a list, numbers as Python's; one value as a list of one."""
    if not isinstance(values, list | tuple | range | np.ndarray):
        return [values]
    return [value.item() if isinstance(value, np.generic) else value for value in values]


class _Sweep:
    """The points of a plan as they are computed."""

    def __init__(
        self, plan: Plan, threads: int | None, store: Store | None, repeat_failed: bool
    ) -> None:
        self.plan, self.store, self.repeat_failed = plan, store, repeat_failed
        self._resolver = Resolver(threads)
        self.values = plan.values(self._resolver.lookup)
        self.points: list[Point] = []
        self.jobs: dict[str, Job] = {}  #: to compute, by key
        self.records: dict[str, Record] = {}  #: computed, by key
        self._all_work = self._work = self._failed = 0

    def pool(self, stack: contextlib.ExitStack, processes: int, executor: Any, jobs: int) -> Pool:
        """A pool for so many jobs, which the stack closes."""
        folder = None if self.store is None else str(self.store.folder)
        pool = make_pool(Task(folder, self.repeat_failed), min(processes, jobs), executor)
        stack.callback(pool.close)
        return pool

    def resolve(self) -> None:
        """Make the job of each point; values that do not fit together make a failed point."""
        for number, values in enumerate(self.values):
            self._resolver.check_names(values)
            try:
                job = self._resolver.job(values)
                bits = self._resolver.bits(values)
            except InputError as error:
                self.points.append(Point(number, values, None, str(error), {}))
                continue
            self.points.append(Point(number, values, job.key, "", bits))
            self.jobs[job.key] = job
        self._all_work = sum(job.work for job in self.jobs.values())

    def take_over(self) -> list[Job]:
        """Take over the points that are there. Returns the jobs of the others."""
        missing = []
        for job in self.jobs.values():
            record = None if self.store is None else finished(self.store, job, self.repeat_failed)
            if record is not None:
                self.keep(job, record)
            else:
                missing.append(job)
        return missing

    def result(self) -> SweepResult:
        """The points so far."""
        return SweepResult(self.plan, self.points, self.records)

    def keep(self, job: Job, record: Record) -> None:
        """Take a finished point over, and write it where its worker had no folder."""
        self.records[job.key] = record
        self._work += job.work
        self._failed += record["status"] == FAILED
        if self.store and record["status"] == DONE and not self.store.path(job.key).exists():
            self.store.write(job.key, record)

    def progress(self) -> tuple[int, int, str]:
        """Work done, all work, and a description."""
        done, all_points = len(self.records), len(self.jobs)
        what = f"{done} of {all_points} points" + (
            f", {self._failed} failed" if self._failed else ""
        )
        return self._work, self._all_work, what


class _Drive:
    """Jobs through a pool, until each has its record."""

    def __init__(
        self, sweep: _Sweep, pool: Pool, progress: Progress | None, stop: Callable[[], bool] | None
    ) -> None:
        self._sweep, self._pool, self._progress, self._stop = sweep, pool, progress, stop
        self._running = 0  #: jobs that the pool has
        self._taken: list[Job] = []  #: another process computes these
        self._attempts: Counter[str] = Counter()
        self._retried = time.monotonic()

    def run(self, jobs: list[Job]) -> None:
        """Compute the jobs."""
        self._submit(jobs)
        while self._running or self._taken:
            if self._stop and self._stop():
                raise KeyboardInterrupt
            if self._running:
                answer = self._pool.answer(_LOOK)
                if answer is not None:
                    self._running -= 1
                    self._take(*answer)
            else:
                time.sleep(_LOOK)
            self._retry()

    def _submit(self, jobs: list[Job]) -> None:
        self._running += len(jobs)
        self._pool.submit(jobs)

    def _take(self, job: Job, result: Record | Lost) -> None:
        """Keep a record; send a lost job again, and put one aside that another process computes."""
        if isinstance(result, Lost):
            self._attempts[job.key] += 1
            if self._attempts[job.key] < ATTEMPTS:
                self._submit([job])
                return
            result = failure(job, f"its worker ended {ATTEMPTS} times, at last: {result.reason}")
        if result == TAKEN:
            self._taken.append(job)
            return
        self._finish(job, result)

    def _finish(self, job: Job, record: Record) -> None:
        self._sweep.keep(job, record)
        if self._progress:
            self._progress(*self._sweep.progress())

    def _retry(self) -> None:
        """Read the points that other processes have finished; send the others again."""
        if not self._taken or time.monotonic() - self._retried < _RETRY:
            return
        self._retried = time.monotonic()
        taken, self._taken = self._taken, []
        for job in taken:
            record = self._sweep.store.read(job.key) if self._sweep.store else None
            if record is not None:
                self._finish(job, record)
            else:
                self._submit([job])
