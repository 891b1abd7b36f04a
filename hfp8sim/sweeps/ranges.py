"""Jobs in ranges: each worker computes neighbours, which share a network and its tensors."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Sequence

from hfp8sim.sweeps.jobs import Job


class Ranges:
    """Waiting jobs, one range for each worker. A worker whose range is empty takes half of the longest one.

    This is work stealing with one queue a worker: the owner takes from the front, a thief takes the back half.
    """

    def __init__(self, workers: int) -> None:
        self._ranges: list[deque[Job]] = [deque() for _ in range(workers)]

    def __len__(self) -> int:
        """All waiting jobs."""
        return sum(map(len, self._ranges))

    def add(self, jobs: Sequence[Job]) -> None:
        """Add neighbouring jobs: a part to each range, the longest part to the shortest range."""
        count, workers = len(jobs), len(self._ranges)
        bounds = [-(-count * part // workers) for part in range(workers + 1)]
        parts = [jobs[first:stop] for first, stop in itertools.pairwise(bounds)]
        parts.sort(key=len, reverse=True)  # stable: equal parts stay in order
        for own, part in zip(sorted(self._ranges, key=len), parts):
            own.extend(part)

    def take(self, worker: int) -> Job | None:
        """The next job of a worker; None if no job waits."""
        own = self._ranges[worker]
        if not own:
            longest = max(self._ranges, key=len)
            stolen = [longest.pop() for _ in range((len(longest) + 1) // 2)]
            own.extend(reversed(stolen))
        return own.popleft() if own else None

    def give_back(self, worker: int, jobs: Iterable[Job]) -> None:
        """Put jobs that a worker has not computed back to the front of its range, in their order."""
        self._ranges[worker].extendleft(reversed(list(jobs)))
