"""Where jobs run: this process, processes of this machine, or any executor with `submit`.

A pool takes jobs and gives answers in any order. A worker process that ends in the middle of a job loses that job
alone: the pool answers `Lost`, and the sweep sends the job again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import queue
import time
import warnings
from collections import deque
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor, CancelledError, ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

from hfp8sim.errors import InputError, one_line
from hfp8sim.sweeps.compute import compute_in_worker, compute_point, failure
from hfp8sim.sweeps.fork_server import ForkServer, end_with_parent, worker_environment
from hfp8sim.sweeps.jobs import Job
from hfp8sim.sweeps.ranges import Ranges
from hfp8sim.sweeps.store import Record

#: Seconds between two looks at futures that call nobody when they are done.
_INTERVAL = 0.05

#: Jobs that a worker process has at most: the one that it computes, and the next, for which it need not wait.
_SENT = 2


class Lost(NamedTuple):
    """The answer for a job whose worker ended before it."""

    reason: str


class Answer(NamedTuple):
    """What became of a job."""

    job: Job
    result: Record | Lost


class Task(NamedTuple):
    """What every job of a sweep is sent with."""

    folder: str | None
    repeat_failed: bool


class Pool(Protocol):
    """Takes jobs, gives answers."""

    def submit(self, jobs: Sequence[Job]) -> None:
        """Take jobs. Neighbours share a network and its tensors."""

    def answer(self, timeout: float) -> Answer | None:
        """An answer, or None after `timeout` seconds."""

    def close(self) -> None:
        """End the workers; jobs that are not done are dropped."""


class SerialPool:
    """This process: it computes one job for each answer."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._jobs: deque[Job] = deque()

    def submit(self, jobs: Sequence[Job]) -> None:
        self._jobs.extend(jobs)

    def answer(self, timeout: float) -> Answer | None:
        if not self._jobs:
            return None
        job = self._jobs.popleft()
        return Answer(job, compute_point(job, *self._task))

    def close(self) -> None:
        self._jobs.clear()


@dataclasses.dataclass(eq=False)
class _Worker:
    """A process: an executor of its own, so that its end is no other's."""

    number: int
    executor: Any
    sent: dict[str, Job] = dataclasses.field(
        default_factory=dict
    )  #: by key, the one it computes first


class ProcessPool:
    """Processes of this machine. Each has a range of neighbouring jobs.

    Args:
        server: that forks them; None for those of joblib's loky.
    """

    def __init__(self, task: Task, processes: int, server: ForkServer | None) -> None:
        self._task, self._server = task, server
        self._workers = [_Worker(number, _process(server)) for number in range(processes)]
        self._ranges = Ranges(processes)
        self._ended: queue.SimpleQueue[tuple[_Worker, Any, Job, Any]] = queue.SimpleQueue()

    def submit(self, jobs: Sequence[Job]) -> None:
        self._ranges.add(jobs)
        for worker in self._workers:
            self._feed(worker)

    def _feed(self, worker: _Worker) -> None:
        """Send a worker its next jobs; only one where others could need the second."""
        while len(worker.sent) < (_SENT if len(self._ranges) > len(self._workers) else 1):
            job = self._ranges.take(worker.number)
            if job is None or not self._send(worker, job):
                return

    def _send(self, worker: _Worker, job: Job) -> bool:
        """Send a job; False if the process has ended and its last job's answer is still to come."""
        call = compute_in_worker, job, *self._task
        try:
            future = worker.executor.submit(*call)
        except BrokenExecutor:
            if worker.sent:
                self._ranges.give_back(worker.number, [job])
                return False
            self._replace(worker)
            future = worker.executor.submit(*call)
        worker.sent[job.key] = job
        executor = worker.executor
        future.add_done_callback(lambda done: self._ended.put((worker, executor, job, done)))
        return True

    def answer(self, timeout: float) -> Answer | None:
        """As `Pool.answer`. Of a process that has ended, the first job is lost and the others are sent again."""
        try:
            worker, executor, job, future = self._ended.get(timeout=timeout)
        except queue.Empty:
            return None
        if executor is not worker.executor:
            return None
        result = _result(job, future)
        del worker.sent[job.key]
        if isinstance(result, Lost):
            self._ranges.give_back(worker.number, worker.sent.values())
            worker.sent.clear()
            self._replace(worker)
        self._feed(worker)
        return Answer(job, result)

    def _replace(self, worker: _Worker) -> None:
        """Give a worker a new process in place of one that has ended."""
        with contextlib.suppress(Exception):
            worker.executor.shutdown(wait=False, kill_workers=True)
        worker.executor = _process(self._server)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        with ThreadPoolExecutor(len(self._workers)) as threads:  # each waits for its process to end
            for worker in self._workers:
                threads.submit(worker.executor.shutdown, wait=True, kill_workers=True)


def _process(server: ForkServer | None) -> Any:
    """An executor with one process, which starts now."""
    if server is not None:
        return server.executor()
    try:
        from joblib.externals.loky.process_executor import ProcessPoolExecutor
    except ImportError:
        raise InputError("n_jobs needs joblib: pip install joblib") from None
    # loky replaces a process whose memory has grown by 300 MB, and warns where its next job waits; none is lost.
    warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
    executor = ProcessPoolExecutor(
        max_workers=1,
        env=worker_environment(),
        initializer=end_with_parent,
        initargs=(os.getpid(),),
    )
    executor.submit(int)  # the process starts now, and imports this module
    return executor


class ExecutorPool:
    """An executor of the caller's, with `submit` and futures: of `concurrent.futures`, Dask, submitit, …

    The caller's executor is not shut down. A worker that it restarts is its own matter; a job that it gives up is
    `Lost`.
    """

    def __init__(self, task: Task, executor: Any) -> None:
        self._task, self._executor = task, executor
        self._options: dict[str, Any] = {}
        if _is_dask(executor):
            self._options = {"pure": False}
        self._waiting: dict[int, tuple[Job, Any]] = {}  # futures without callbacks
        self._open: dict[int, Any] = {}
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._count = 0

    def submit(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._submit(job)

    def _submit(self, job: Job) -> None:
        try:
            future = self._executor.submit(compute_point, job, *self._task, **self._options)
        except (BrokenExecutor, RuntimeError) as error:
            raise InputError(f"the executor takes no more points: {one_line(error)}") from None
        number, self._count = self._count, self._count + 1
        self._open[number] = future
        if hasattr(future, "add_done_callback"):
            future.add_done_callback(lambda done: self._finish(number, job, done))
        else:
            self._waiting[number] = job, future

    def _finish(self, number: int, job: Job, future: Any) -> None:
        self._open.pop(number, None)
        self._answers.put(Answer(job, _result(job, future)))

    def answer(self, timeout: float) -> Answer | None:
        deadline = time.monotonic() + timeout
        while True:
            for number, (job, future) in list(self._waiting.items()):
                if future.done():
                    del self._waiting[number]
                    self._finish(number, job, future)
            left = deadline - time.monotonic()
            with contextlib.suppress(queue.Empty):
                wait = min(left, _INTERVAL) if self._waiting else left
                return self._answers.get(timeout=max(wait, 0.0))
            if left <= 0:
                return None

    def close(self) -> None:
        for future in list(self._open.values()):
            with contextlib.suppress(Exception):
                future.cancel()


def _is_dask(executor: Any) -> bool:
    """Whether an executor is a Dask client, of which this module imports nothing."""
    return type(executor).__module__.partition(".")[0] == "distributed" and hasattr(
        executor, "scatter"
    )


def _result(job: Job, future: Any) -> Record | Lost:
    """The record of a finished future. An exception is of the executor: `compute_point` raises none."""
    try:
        result: Record = future.result()
        return result
    except CancelledError:
        return Lost("its computation was cancelled")
    except (BrokenExecutor, MemoryError, ConnectionError) as error:
        return Lost(one_line(error))
    except Exception as error:
        if type(error).__name__ in ("KilledWorker", "CommClosedError", "FutureCancelledError"):
            return Lost(one_line(error))
        return failure(job, one_line(f"{type(error).__name__}: {error}"))


def make_pool(task: Task, n_jobs: int, executor: Any, server: ForkServer | None) -> Pool:
    """The pool of a sweep: the caller's executor, or `n_jobs` processes, or this process for one.

    Args:
        server: as of `ProcessPool`.
    """
    if executor is not None:
        if not hasattr(executor, "submit"):
            raise InputError(f"executor is {type(executor).__name__}, which has no submit")
        return ExecutorPool(task, executor)
    if n_jobs == 1:
        return SerialPool(task)
    return ProcessPool(task, n_jobs, server)
