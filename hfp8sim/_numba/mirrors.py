"""Records as plain Python objects, for code that Python interprets: a field of a NumPy record takes ten times as
long to read."""

from __future__ import annotations

import functools
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import numpy as np


class Row(list[Any]):
    """A mirror of a one-dimensional array. A record is copied when it is assigned, as in NumPy."""

    def __setitem__(self, place: Any, value: Any) -> None:
        element = self[place]
        if isinstance(element, Mirror):
            element.assign(value)
        elif isinstance(element, int):
            super().__setitem__(place, value)
        else:
            raise TypeError("single elements of a mirror can be assigned")

    @property
    def size(self) -> int:
        """How many elements there are."""
        return len(self)


class Mirror:
    """A mirror of a record, with its fields as attributes. A nested record is copied when it is assigned, as in
    NumPy."""

    __slots__ = ()
    _kind: Any  #: the layout
    _slots: Any  #: name of the slot, and dtype, of each field

    def assign(self, other: Any) -> None:
        """Copy all fields."""
        for name in self._kind.names:
            setattr(self, name, getattr(other, name))


def mirror(value: Any) -> Any:
    """The mirror of a record, of a one-dimensional array of records or int64, or of a named tuple of such values;
    any other value as it is."""
    if isinstance(value, np.record):
        return _mirrored(value.item(), value.dtype)
    if isinstance(value, np.ndarray) and value.ndim == 1 and _has_mirror(value.dtype):
        return _row(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(mirror, value))
    return value


def write_back(value: Any, mirrored: Any) -> None:
    """Copy a mirror to the record or array that it was made of."""
    if isinstance(mirrored, Mirror):
        for name in value.dtype.names:
            value[name] = _numbers(getattr(mirrored, name))
    elif isinstance(mirrored, Row) and value.flags.writeable:
        value[:] = mirrored if value.dtype == np.int64 else _numbers(mirrored)
    elif isinstance(mirrored, tuple):
        for element, its_mirror in zip(value, mirrored):
            write_back(element, its_mirror)


def _row(array: Any) -> Row:
    if array.dtype == np.int64:
        return Row(array.tolist())
    return Row(_mirrored(item, array.dtype) for item in array.tolist())


def _has_mirror(kind: np.dtype[Any]) -> bool:
    return kind == np.int64 or kind.names is not None


def _mirrored(value: Any, kind: np.dtype[Any]) -> Any:
    """The mirror of a value as `item` gives it: an integer, a tuple of fields, or an array."""
    if kind.subdtype is not None:
        return _row(value)
    if kind.names is None:
        return int(value)
    result = _mirror_type(kind)()
    for (slot, field), item in zip(result._slots, value, strict=True):
        setattr(result, slot, _mirrored(item, field))
    return result


def _numbers(mirrored: Any) -> Any:
    """A mirror as tuples, lists and integers, which NumPy assigns."""
    if isinstance(mirrored, Mirror):
        return tuple(_numbers(getattr(mirrored, name)) for name in mirrored._kind.names or ())
    return [_numbers(item) for item in mirrored] if isinstance(mirrored, Row) else mirrored


@functools.cache
def _mirror_type(kind: np.dtype[Any]) -> Any:
    """The class of the mirrors of a layout. The slot of a nested record is behind a property, which copies."""
    fields = [(name, kind[name]) for name in kind.names or ()]
    slots = [(f"_{name}" if field.names else name, field) for name, field in fields]
    namespace: dict[str, Any] = {"__slots__": tuple(slot for slot, _ in slots)}
    for name, field in fields:
        if field.names:
            read = attrgetter(f"_{name}")
            namespace[name] = property(read, functools.partial(_assign, read))
    made: Any = type("Mirror", (Mirror,), namespace)
    made._kind, made._slots = kind, slots
    return made


def _assign(read: Callable[[Any], Mirror], owner: Mirror, value: Any) -> None:
    """Assign a nested record."""
    read(owner).assign(value)
