"""Compiled functions run by Python's interpreter, where that takes less time than to compile them.

Control code has much source, and a program of a layer has some dozens of instructions. To compile the code that
walks over programs takes seconds, which only long programs are worth.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

from numba.core.dispatcher import Dispatcher

from hfp8sim._numba.argument_types import type_of
from hfp8sim._numba.disk_cache import DiskCache
from hfp8sim._numba.jit import without_warnings
from hfp8sim._numba.mirrors import mirror, write_back


class Budget:
    """Steps that a process may still interpret. It is shared by all functions that draw on it.

    Args:
        steps: at most. To interpret so many should take about as long as to compile.
    """

    #: Whether anything is interpreted, see `nothing_interpreted`.
    enabled = True

    def __init__(self, steps: int) -> None:
        self.steps = steps
        #: Functions known to be compiled, and the Python types of the arguments. Arrays have the same dtypes each time.
        self._compiled: set[tuple[Any, ...]] = set()
        #: Functions and types that were found not to be, and how many signatures of the function were compiled then.
        self._missing: dict[tuple[Any, ...], int] = {}

    def left(self, function: Any, *arguments: Any) -> int:
        """Steps left for a compiled function; 0 if a call with such arguments compiles nothing."""
        call = (function, *map(type, arguments))
        if call in self._compiled or not self.enabled:
            return 0
        compiled = len(getattr(function, "overloads", ()))
        if self._missing.get(call) != compiled:
            if _is_compiled(function, arguments):
                self._compiled.add(call)
                return 0
            self._missing[call] = compiled
        return self.steps

    def spend(self, steps: int) -> None:
        """Count steps that were interpreted."""
        self.steps -= steps


@contextmanager
def nothing_interpreted() -> Iterator[None]:
    """Compile what short programs leave to the interpreter, as long programs do."""
    Budget.enabled = False
    try:
        yield
    finally:
        Budget.enabled = True


def _is_compiled(function: Any, arguments: tuple[Any, ...]) -> bool:
    """Whether machine code for such arguments exists, in this process or on disk."""
    if not isinstance(function, Dispatcher):  # with NUMBA_DISABLE_JIT=1
        return True
    signature = tuple(map(type_of, arguments))
    cache = getattr(function, "_cache", None)
    return signature in function.overloads or (
        isinstance(cache, DiskCache) and cache.holds(signature, function.targetctx)
    )


@functools.cache
def interpreted(function: Any) -> Callable[..., Any]:
    """A compiled function as plain Python, as are the functions that it calls by a global name, but for those
    under `jit_loop`.

    Its records and arrays of integers are mirrors, which are copied back at the end.
    """
    if not isinstance(function, Dispatcher):
        return function  # type: ignore[no-any-return]
    plain = without_warnings(_plain(function))

    def interpret(*arguments: Any) -> Any:
        mirrors = [mirror(argument) for argument in arguments]
        result = plain(*mirrors)
        for argument, mirrored in zip(arguments, mirrors, strict=True):
            write_back(argument, mirrored)
        return result

    return interpret


@functools.cache
def _plain(function: Any) -> Any:
    source = function.py_func
    names = dict(source.__globals__)
    for name in source.__code__.co_names:
        if getattr(names.get(name), "interpretable", False):
            names[name] = _plain(names[name])
    return FunctionType(
        source.__code__, names, source.__name__, source.__defaults__, source.__closure__
    )
