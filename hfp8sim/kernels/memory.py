"""Memory for panels and accumulators: aligned to cache lines, and reused."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from hfp8sim.kernels.target import BLOCKING

_T = TypeVar("_T")

#: A buffer larger than so many bytes is not reused.
REUSED_BYTES = BLOCKING.panel_bytes
_LINE = BLOCKING.line_bytes


class Fresh:
    """Uninitialised arrays that begin at a cache line, so that no vector of a panel lies in two lines."""

    def array(self, name: str, shape: tuple[int, ...], dtype: type[np.number[Any]]) -> NDArray[Any]:
        """An array; `name` is its purpose."""
        buffer = self._buffer(name, math.prod(shape) * np.dtype(dtype).itemsize)
        return np.ndarray(shape, dtype, buffer)

    def _buffer(self, name: str, size: int) -> NDArray[np.uint8]:
        buffer = np.empty(size + _LINE, np.uint8)
        address: int = buffer.__array_interface__["data"][0]
        return buffer[-address % _LINE :]


class Reused(Fresh):
    """Arrays with one buffer for each name. A later array of that name reuses it.

    To get new pages from the system would take longer than to fill them.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, NDArray[np.uint8]] = {}
        self._arrays: dict[str, NDArray[Any]] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: type[np.number[Any]]) -> NDArray[Any]:
        array = self._arrays.get(name)
        if array is None or array.shape != shape or array.dtype.type is not dtype:
            array = super().array(name, shape, dtype)
            if array.nbytes <= REUSED_BYTES:
                self._arrays[name] = array
        return array

    def _buffer(self, name: str, size: int) -> NDArray[np.uint8]:
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < size:
            buffer = super()._buffer(name, size)
            if size <= REUSED_BYTES:
                self._buffers[name] = buffer
        return buffer


class Workspace(Reused, threading.local):
    """Arrays that each thread reuses, and the objects that were last built from them.

    The objects of a workspace share its buffers, one for each name. They hold no memory of their own but a record
    and the headers of arrays. So a workspace holds MAX_OBJECTS of them at most, and a buffer of at most
    REUSED_BYTES for each name. What an object has left in a buffer is there only while it is the `latest`.
    """

    #: 2 to 5 kB each.
    MAX_OBJECTS = 512

    def __init__(self) -> None:
        super().__init__()
        self._objects: dict[object, Any] = {}  # the least recently used first
        self.latest: object = None  #: what `cached` returned last

    def clear(self) -> None:
        """Drop all buffers and objects: the next arrays lie in other memory."""
        for dropped in (self._objects, self._buffers, self._arrays):
            dropped.clear()
        self.latest = None

    def cached(self, key: object, size: int, build: Callable[[], _T]) -> _T:
        """The object of a key: a cached one, or a new one by `build`.

        An object with an array of more than REUSED_BYTES is not cached.

        Args:
            size: bytes of its largest array.
        """
        value: _T | None = self._objects.pop(key, None)
        if value is None:
            value = build()
        if size <= REUSED_BYTES:
            self._objects[key] = value
            if len(self._objects) > self.MAX_OBJECTS:
                del self._objects[next(iter(self._objects))]
        self.latest = value
        return value

    def _buffer(self, name: str, size: int) -> NDArray[np.uint8]:
        buffer = self._buffers.get(name)
        if buffer is not None and buffer.size < size:
            self._objects.clear()  # they would keep the smaller buffer alive
            self.latest = None
        return super()._buffer(name, size)
