"""`run_plan`: the points of a plan through a pool of workers, into one table."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hfp8sim.errors import InputError
from hfp8sim.ops import thread_count
from hfp8sim.sweeps.compute import TAKEN, failure, finished
from hfp8sim.sweeps.fork_server import ForkServer
from hfp8sim.sweeps.jobs import Job, Resolver
from hfp8sim.sweeps.plan import Plan
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
    """Ctrl-C during a sweep; `result` holds the points that were finished."""

    def __init__(self, result: SweepResult) -> None:
        super().__init__()
        self.result = result


def run_plan(
    plan: Plan,
    server: ForkServer | None,
    *,
    n_jobs: int,
    executor: Any,
    threads: int | None,
    out: str | Path | None,
    repeat_failed: bool,
    progress: Progress | None,
    stop: Callable[[], bool] | None,
) -> SweepResult:
    """The points of a plan. The arguments are those of `sweep`.

    Args:
        server: that forks the worker processes; None for those of joblib's loky.

    Raises:
        InputError: an unknown name, no point, a folder that cannot be written.
        SweepInterrupted: Ctrl-C; it carries the points so far.
    """
    processes = thread_count(None) if n_jobs == -1 else n_jobs
    if threads is None and (processes > 1 or executor is not None):
        threads = 1 if executor is not None else max(1, thread_count(None) // processes)
    store = None if out is None else Store.make(out)
    run = _Sweep(plan, threads, store, repeat_failed)

    def pool(jobs: int) -> Pool:
        """A pool for so many jobs, which ends with the sweep."""
        task = Task(None if store is None else str(store.folder), repeat_failed)
        made = make_pool(task, min(processes, jobs), executor, server)
        stack.callback(made.close)
        return made

    with contextlib.ExitStack() as stack:
        # The processes of a new sweep start while its points are resolved.
        new = pool(len(run.values)) if store is None or store.is_empty() else None
        run.resolve()
        missing = run.take_over()
        if progress:
            progress(*run.progress())
        try:
            if missing:
                _Drive(run, new or pool(len(missing)), progress, stop).run(missing)
        except KeyboardInterrupt:
            raise SweepInterrupted(run.result()) from None
    return run.result()


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
