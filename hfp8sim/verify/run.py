"""Run checks on all cores, in parts, with a state file from which an interrupted run continues."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from hfp8sim import files
from hfp8sim._numba.sources import this_package
from hfp8sim.errors import InputError
from hfp8sim.ops import thread_count
from hfp8sim.verify.check import Check, Result

#: Seconds between two writes of the state file.
SAVE_EVERY = 5.0

Progress = Callable[[int, int, str], object]


#: More parts than any check has.
_MOST_PARTS = 1 << 20


def _parts(ranges: Any) -> set[int]:
    """The numbers in (first, last) pairs of a state file; TypeError or ValueError for anything else."""
    parts: set[int] = set()
    for first, last in ranges:
        if type(first) is not int or type(last) is not int or not 0 <= first <= last < _MOST_PARTS:
            raise ValueError
        parts.update(range(first, last + 1))
    return parts


class State:
    """Which parts have been tried and their results, in memory and in a file.

    A file that was written with other sources is not used.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.sources = sources_digest()
        self._lock = threading.Lock()
        self._done: dict[str, set[int]] = {}
        self._results: dict[str, Result] = {}
        if path is not None and path.exists():
            self._load(path)

    def _load(self, path: Path) -> None:
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            if stored["sources"] != self.sources:
                return
            for name, row in stored["checks"].items():
                self._done[name] = _parts(row["parts"])
                tried, differed, first = row["tried"], row["differed"], row["first"]
                if type(tried) is not int or type(differed) is not int or type(first) is not str:
                    raise TypeError
                self._results[name] = Result(tried, differed, first)
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise InputError(f"{path} is not a state file of `hfp8sim verify`") from None

    def missing(self, check: Check) -> list[int]:
        """Parts that have not been tried."""
        done = self._done.get(check.name, set())
        return [i for i in range(check.parts) if i not in done]

    def result(self, check: Check) -> Result:
        """The result of the parts that have been tried."""
        return self._results.get(check.name, Result())

    def add(self, check: Check, part: int, result: Result) -> None:
        """Add the result of a part."""
        with self._lock:
            self._done.setdefault(check.name, set()).add(part)
            self._results[check.name] = self.result(check) + result

    def save(self) -> None:
        """Write the file, whole or not at all."""
        if self.path is None:
            return
        with self._lock:
            rows = {
                name: {
                    "parts": _ranges(done),
                    "tried": self._results[name].tried,
                    "differed": self._results[name].differed,
                    "first": self._results[name].first,
                }
                for name, done in self._done.items()
            }
        files.write_text(self.path, json.dumps({"sources": self.sources, "checks": rows}) + "\n")


def _ranges(numbers: set[int]) -> list[list[int]]:
    ranges: list[list[int]] = []
    for i in sorted(numbers):
        if ranges and ranges[-1][1] == i - 1:
            ranges[-1][1] = i
        else:
            ranges.append([i, i])
    return ranges


def sources_digest() -> str:
    """A digest of all sources that a check can reach, including the built C reference.

    A change of any of them invalidates earlier results.
    """
    return this_package().digest("hfp8sim.verify")


def run(
    checks: Sequence[Check],
    *,
    threads: int | None = None,
    state: str | Path | None = None,
    progress: Progress | None = None,
) -> list[tuple[Check, Result]]:
    """Try all parts of all checks, except those whose results the state file holds.

    Args:
        checks: rows of `hfp8sim.verify.checks`.
        threads: worker threads; all cores by default.
        state: a file for results, from which an interrupted run continues.
        progress: called with (parts done, parts in all, name of the running check).

    Returns:
        Every check with its result, in order.

    Raises:
        InputError: the file is not a state file.
        KeyboardInterrupt: raised again after the state was saved.
    """
    results = State(Path(state) if state is not None else None)
    total = sum(check.parts for check in checks)
    done = total - sum(len(results.missing(check)) for check in checks)
    saved = time.monotonic()
    workers = thread_count(threads)
    try:
        with ThreadPoolExecutor(workers) as pool:
            pending: dict[Future[Result], tuple[Check, int]] = {}
            try:
                for check in checks:
                    for part in results.missing(check):
                        while len(pending) > workers:
                            done += _collect(pending, results)
                        pending[pool.submit(check.part, part)] = check, part
                        if progress is not None:
                            progress(done, total, check.name)
                        if time.monotonic() - saved > SAVE_EVERY:
                            results.save()
                            saved = time.monotonic()
                    while pending:
                        done += _collect(pending, results)
                    check.done()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    finally:
        results.save()
    if progress is not None:
        progress(done, total, "")
    return [(check, results.result(check)) for check in checks]


def _collect(pending: dict[Future[Any], tuple[Check, int]], results: State) -> int:
    finished, _ = wait(pending, return_when=FIRST_COMPLETED)
    for future in finished:
        check, part = pending.pop(future)
        results.add(check, part, future.result())
    return len(finished)
