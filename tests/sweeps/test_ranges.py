"""Ranges of jobs: neighbours stay together, nothing is lost, and an idle worker takes from the longest range."""

from __future__ import annotations

import random
from typing import Any

import pytest

from hfp8sim.sweeps.ranges import Ranges


def taken(ranges: Ranges, worker: int, count: int) -> list[Any]:
    return [ranges.take(worker) for _ in range(count)]


def test_workers_take_contiguous_ranges() -> None:
    ranges = Ranges(3)
    ranges.add(range(10))  # type: ignore[arg-type]
    assert len(ranges) == 10
    own = [taken(ranges, worker, 3) for worker in range(3)]
    assert all(part == list(range(part[0], part[0] + 3)) for part in own)
    assert len(ranges) == 1


def test_idle_worker_takes_the_back_half_of_the_longest_range() -> None:
    ranges = Ranges(2)
    ranges.add(range(20))  # type: ignore[arg-type]
    assert taken(ranges, 0, 10) == list(range(10))
    assert ranges.take(1) == 10
    assert ranges.take(0) == 15  # 11…19 are left: the back half begins here
    assert taken(ranges, 1, 4) == [11, 12, 13, 14]
    assert taken(ranges, 0, 2) == [16, 17]
    assert len(ranges) == 2


def test_returned_jobs_come_first() -> None:
    ranges = Ranges(2)
    ranges.add(range(8))  # type: ignore[arg-type]
    first = taken(ranges, 0, 2)
    ranges.give_back(0, first)
    assert taken(ranges, 0, 4) == [0, 1, 2, 3]


def test_a_single_job_goes_to_the_shortest_range() -> None:
    ranges = Ranges(2)
    ranges.add(range(8))  # type: ignore[arg-type]
    taken(ranges, 1, 2)
    ranges.add([99])  # type: ignore[list-item]
    assert taken(ranges, 1, 3) == [6, 7, 99]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_every_job_is_taken_once(workers: int) -> None:
    """In any order of the workers, with jobs that return and jobs that come late."""
    generator = random.Random(workers)
    ranges = Ranges(workers)
    ranges.add(range(57))  # type: ignore[arg-type]
    seen: list[Any] = []
    late = list(range(57, 60))
    while len(seen) < 60:
        worker = generator.randrange(workers)
        job = ranges.take(worker)
        if job is None or generator.random() < 0.1:
            if job is not None:
                ranges.give_back(worker, [job])
            if late:
                ranges.add([late.pop()])  # type: ignore[list-item]
        else:
            seen.append(job)
    assert sorted(seen) == list(range(60)) and ranges.take(0) is None
