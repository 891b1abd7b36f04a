"""The only file that states Numba options.

Every kernel of hfp8sim is a plain function of integers and arrays under `@jit`: with
`NUMBA_DISABLE_JIT=1` the same source runs uncompiled.

Compiled code is kept on disk (`disk_cache.py`), so that a second process starts fast. A kernel must not call
itself: the cache loses the address of a recursive function, and the process that loads it crashes.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import numba
import numpy as np
from numba.core import event

from hfp8sim._numba.disk_cache import DiskCache, NoCache, root_folder
from hfp8sim._numba.linking import LinkedDispatcher
from hfp8sim.collector import collector_off

config: Any = numba.config

F = TypeVar("F", bound=Callable[..., Any])

_ROOT = root_folder()


def jit(function: F) -> F:
    """Compile `function` with Numba: cached, releasing the GIL, IEEE division, no bounds checks."""
    return _compiled(function)


def jit_loop(function: F) -> F:
    """`jit` for a loop over elements. It is compiled even where `interpreted` runs the function that calls it.

    Its arguments are numbers, and arrays of which there are no mirrors.
    """
    compiled: Any = _compiled(function)
    compiled.interpretable = False
    return compiled  # type: ignore[no-any-return]


def jit_inlined(function: F) -> F:
    """`jit` for a function with one hot caller: always inlined there, because its records of format facts
    are dozens of words that would be pushed at every call."""
    return _compiled(function, forceinline=True)


def _compiled(function: F, **options: Any) -> F:
    if config.DISABLE_JIT:
        return without_warnings(function)
    options = {"nopython": True, "nogil": True, "error_model": "numpy", **options}
    compiled: Any = LinkedDispatcher(function, targetoptions=options)
    compiled._cache = NoCache() if _ROOT is None else DiskCache(_ROOT, function)
    return compiled  # type: ignore[no-any-return]


def without_warnings(function: F) -> F:
    """The function without NumPy's warnings: compiled integers wrap around in silence, too."""

    @functools.wraps(function)
    def silent(*arguments: Any) -> Any:
        with np.errstate(all="ignore"):
            return function(*arguments)

    return silent  # type: ignore[return-value]


class _WithoutCollector(event.Listener):
    """Switches the garbage collector off while Numba compiles, which holds one lock for all threads."""

    def __init__(self) -> None:
        self.contexts: list[ExitStack] = []

    def on_start(self, event: object) -> None:
        self.contexts.append(ExitStack())
        self.contexts[-1].enter_context(collector_off())

    def on_end(self, event: object) -> None:
        self.contexts.pop().close()


event.register("numba:compile", _WithoutCollector())


class _FirstCompilation(event.Listener):
    """Calls a function when the first compilation starts."""

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def on_start(self, event: object) -> None:
        callback, self.callback = self.callback, None
        if callback:
            callback()

    def on_end(self, event: object) -> None:
        pass


@contextmanager
def on_compile(callback: Callable[[], object]) -> Iterator[None]:
    """Call `callback` once, before the first compilation inside; loading from the cache does not count."""
    with event.install_listener("numba:compile", _FirstCompilation(callback)):
        yield
