"""Memory for panels and accumulators: aligned, and used again."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

_T = TypeVar("_T")

#: Bytes that are kept for one purpose, at most.
KEPT_BYTES = 1 << 25
#: Bytes of a cache line.
_LINE = 64


class Fresh:
    """Uninitialised arrays that begin with a cache line: no vector of a panel then lies in two."""

    def array(self, what: str, shape: tuple[int, ...], dtype: type[np.number[Any]]) -> NDArray[Any]:
        """An array; `what` is its purpose."""
        memory = self._bytes(what, math.prod(shape) * np.dtype(dtype).itemsize)
        return np.ndarray(shape, dtype, memory)

    def _bytes(self, what: str, size: int) -> NDArray[np.uint8]:
        memory = np.empty(size + _LINE, np.uint8)
        address: int = memory.__array_interface__["data"][0]
        return memory[-address % _LINE :]


class Reused(Fresh):
    """Such arrays in memory that is used again, one for each purpose at a time: new pages from the system
    would take longer than what is written into them."""

    def __init__(self) -> None:
        self._kept: dict[str, NDArray[np.uint8]] = {}
        self._last: dict[str, NDArray[Any]] = {}

    def array(self, what: str, shape: tuple[int, ...], dtype: type[np.number[Any]]) -> NDArray[Any]:
        last = self._last.get(what)
        if last is None or last.shape != shape or last.dtype.type is not dtype:
            last = super().array(what, shape, dtype)
            if last.nbytes <= KEPT_BYTES:
                self._last[what] = last
        return last

    def _bytes(self, what: str, size: int) -> NDArray[np.uint8]:
        memory = self._kept.get(what)
        if memory is None or memory.size < size:
            memory = super()._bytes(what, size)
            if size <= KEPT_BYTES:
                self._kept[what] = memory
        return memory


class Workspace(Reused, threading.local):
    """Memory that each thread uses again, and the last things that were made in it."""

    def __init__(self) -> None:
        super().__init__()
        self._things: dict[str, tuple[object, Any]] = {}

    def forget(self) -> None:
        """Let go of everything: what comes next is made anew, in other memory."""
        for kept in (self._things, self._kept, self._last):
            kept.clear()

    def keep(self, what: str, key: object, size: int, make: Callable[[], _T]) -> _T:
        """What `make` makes (of so many bytes), or made when it was last asked for with this key: many products
        follow one another that are of one shape."""
        last = self._things.get(what)
        if last is None or last[0] != key:
            last = key, make()
            if size <= KEPT_BYTES:
                self._things[what] = last
        made: _T = last[1]
        return made
