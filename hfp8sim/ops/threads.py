"""The number of threads of an operation."""

from __future__ import annotations

import os
from typing import Final

from hfp8sim.errors import check_whole_number

#: Threads that are used at most, however many a caller asks for: more than any machine has cores.
MAX_THREADS: Final = 4096


def thread_count(threads: int | None) -> int:
    """The number of threads to use: all cores that this process may use for None, `MAX_THREADS` at most.

    Raises:
        InputError: threads < 1.
    """
    if threads is None:
        return (
            len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count() or 1
        )
    return min(check_whole_number(threads, "threads", 1), MAX_THREADS)
