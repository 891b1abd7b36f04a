"""Python's cyclic garbage collector, switched off where objects are made by the thousand and all are kept."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def collector_off() -> Iterator[None]:
    """No garbage collection inside, unless another thread starts one.

    For loading modules and for compiling: without it, a tenth of their time is spent looking for garbage.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
