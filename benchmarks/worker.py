"""One checkout's side of `benchmarks.against`: prepares rows of its own `benchmarks.cases`, and times turns of them.

    python benchmarks/worker.py CHECKOUT

Reads one JSON request a line and writes one JSON reply a line: `["names"]`, `["prepare", name]`,
`["turn", name, seconds]`. It runs the code of any checkout, also of one that has no such file: of the checkout it
needs `benchmarks.cases.all_cases()` alone, whose cases have `name`, `group` and `prepare()`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

#: A turn has at least so many runs: the first finds its data where the other process's turn left the caches.
RUNS = 3


def serve(cases: dict[str, Any], replies: Any) -> None:
    """Answer requests until standard input ends."""
    name, run = "", lambda: None
    for line in sys.stdin:
        request = json.loads(line)
        if request[0] == "names":
            reply: object = list(cases)
        elif request[0] == "prepare":
            name, run = request[1], cases[request[1]].prepare()
            run()  # compiles
            reply = seconds_of(run)
        else:
            assert request[1] == name
            reply = best_of(run, request[2])
        print(json.dumps(reply), file=replies, flush=True)


def best_of(run: Callable[[], object], seconds: float) -> float:
    """The best time of as many runs as fit in so many seconds, but of `RUNS` at least."""
    end = time.perf_counter() + seconds
    times = [seconds_of(run) for _ in range(RUNS)]
    while time.perf_counter() < end:
        times.append(seconds_of(run))
    return min(times)


def seconds_of(run: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    """The command. What the checkout prints goes to standard error."""
    replies, sys.stdout = sys.stdout, sys.stderr
    sys.path[0] = sys.argv[1]  # instead of this file's folder
    from benchmarks.cases import all_cases

    serve({f"{case.group}: {case.name}": case for case in all_cases()}, replies)


if __name__ == "__main__":
    main()
