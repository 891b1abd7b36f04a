"""Python's cyclic garbage collector, switched off where objects are made by the thousand and all are kept."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager


@contextlib.contextmanager
def collector_off(on: Callable[[], None] = gc.enable) -> Iterator[None]:
    """No garbage collection inside, unless another thread starts one.

    For compiling: without it, a tenth of the time is spent looking for garbage.

    Args:
        on: switches the collector on again, if it was on before.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            on()


def loading() -> AbstractContextManager[None]:
    """`collector_off` for loading modules, whose objects count as old afterwards."""
    return collector_off(switch_on)


def switch_on() -> None:
    """Switch the collector on. All objects count as old: only a full collection looks at them again.

    Numba's modules are some 300,000 objects, all of which are kept. As young ones they would cost the first
    collection as much time as ten small products take.
    """
    if not gc.get_freeze_count():  # else unfreeze would include objects that the caller has frozen
        gc.freeze()  # moves all objects to a generation that is never looked at
        gc.unfreeze()  # moves them to the oldest one
    gc.enable()
