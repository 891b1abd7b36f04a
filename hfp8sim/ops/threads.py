"""The number of threads of an operation."""

from __future__ import annotations

import os

from hfp8sim.errors import check_whole_number


def thread_count(threads: int | None) -> int:
    """The number of threads to use: all cores that this process may use for None.

    Raises:
        InputError: threads < 1.
    """
    if threads is None:
        return (
            len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count() or 1
        )
    return check_whole_number(threads, "threads", 1)
