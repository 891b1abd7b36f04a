"""The pool of processes, with executors whose futures the test finishes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Future
from typing import Any, NamedTuple

import pytest

from hfp8sim.sweeps import pools
from hfp8sim.sweeps.pools import Lost, ProcessPool, Task


class Job(NamedTuple):
    """What a pool looks at."""

    key: str


class Executor:
    """One process: `calls` are the jobs that it has, the first of which it computes."""

    made: list[Executor]

    def __init__(self, server: None) -> None:
        self.calls: list[tuple[Job, Future[Any]]] = []
        self.broken = False
        self.made.append(self)

    def submit(self, function: Any, job: Job, *task: Any) -> Future[Any]:
        if self.broken:
            raise BrokenExecutor("it has ended")
        self.calls.append((job, Future()))
        return self.calls[-1][1]

    def finish(self) -> None:
        job, future = self.calls.pop(0)
        future.set_result({"key": job.key})

    def end(self) -> None:
        self.broken = True
        for _, future in self.calls:
            future.set_exception(BrokenExecutor("it has ended"))
        self.calls = []

    def shutdown(self, **options: bool) -> None:
        pass

    @property
    def keys(self) -> list[str]:
        return [job.key for job, _ in self.calls]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Executor]]:
    Executor.made = []
    monkeypatch.setattr(pools, "_process", Executor)
    yield Executor.made


def pool_of(processes: int, keys: str) -> ProcessPool:
    pool = ProcessPool(Task(None, False), processes, None)
    pool.submit([Job(key) for key in keys])  # type: ignore[misc]
    return pool


def answers(pool: ProcessPool) -> list[str]:
    """The keys of all answers that are there; of a lost job in capitals."""
    found = []
    for _ in range(10):
        answer = pool.answer(0.01)
        if answer is not None:
            key = answer.job.key
            found.append(key.upper() if isinstance(answer.result, Lost) else key)
    return found


def test_processes_compute_ranges_and_have_their_next_job(made: list[Executor]) -> None:
    pool = pool_of(2, "abcdefgh")
    assert [executor.keys for executor in made] == [["a", "b"], ["e", "f"]]
    made[0].finish()
    assert answers(pool) == ["a"]
    assert [executor.keys for executor in made] == [["b", "c"], ["e", "f"]]


def test_last_jobs_are_sent_one_by_one(made: list[Executor]) -> None:
    """A job that was sent ahead could not be computed by a process that is idle."""
    pool = pool_of(2, "abcd")
    assert [executor.keys for executor in made] == [["a", "b"], ["c"]]
    made[1].finish()
    assert answers(pool) == ["c"] and made[1].keys == ["d"]
    made[1].finish()
    made[0].finish()
    made[0].finish()
    assert answers(pool) == ["d", "a", "b"]


def test_ended_process_loses_the_job_that_it_computed(made: list[Executor]) -> None:
    """The job behind it is sent to the new process, and nobody blames it."""
    pool = pool_of(1, "abcd")
    assert made[0].keys == ["a", "b"]
    made[0].end()
    assert answers(pool) == ["A"]
    assert made[1].keys == ["b", "c"]
    pool.submit([Job("a")])  # type: ignore[list-item]
    for key in "bcda":
        made[1].finish()
        assert answers(pool) == [key]
    assert made[1].keys == [] and len(made) == 2


def test_process_that_ends_unnoticed_keeps_its_jobs(made: list[Executor]) -> None:
    """Another job comes before the pool has looked at the answers of the process that has ended."""
    pool = pool_of(1, "a")
    made[0].end()
    pool.submit([Job("b"), Job("c")])  # type: ignore[list-item]
    assert answers(pool) == ["A"]
    for key in "bc":
        assert made[1].keys == [key]
        made[1].finish()
        assert answers(pool) == [key]
    made[1].broken = True  # between two jobs: no future says so
    pool.submit([Job("d")])  # type: ignore[list-item]
    assert made[2].keys == ["d"]
