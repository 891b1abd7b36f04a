"""The number of threads of an operation."""

from __future__ import annotations

import os

from hfp8sim.errors import InputError


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
    if threads < 1:
        raise InputError(f"threads is {threads}, must be at least 1")
    return threads
