"""Tables that compiled code reads and writes, as records with named fields.

A table is declared once, with `layout`; its fields are read by name in Python, in compiled code, through an
address (`record_at(address, LAYOUT)`) and, with NUMBA_DISABLE_JIT=1, in the same text uncompiled.

In compiled code a record is a bare pointer: it does not keep its array alive. Numba frees an array after its
last use by name, so after `r = np.zeros(1, KIND)[0]` r points to freed memory. Take a record from an array that is a
parameter (`def fill(array): r = array[0]`), which the caller keeps alive.

All fields have eight bytes: a smaller one would put the next field at a place that Numba does not accept.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np


def layout(**fields: Any) -> np.dtype[Any]:
    """A record dtype with C alignment: `layout(first=np.int64, count=np.int64, tile=RANGE)`.

    A field's type is a scalar dtype, another layout, or (dtype, shape) for an array.

    Raises:
        TypeError: a field is named like a method of `np.record` (`fill`, `base`, `data`, …): uncompiled code
            would read the method in its place.
    """
    for name in fields:
        if hasattr(np.record, name):
            raise TypeError(
                f"a field must not be named {name!r}: np.record has a method of that name"
            )
    plain = np.dtype(list(fields.items()), align=True)
    return np.dtype(
        (np.record, plain)
    )  # np.record: fields are attributes without the compiler, too


def record(kind: np.dtype[Any]) -> Any:
    """One record of a layout, all fields zero, for Python."""
    return np.zeros(1, kind)[0]


def tuple_type(name: str, kind: np.dtype[Any]) -> Any:
    """A named tuple with the fields of a layout, for `tuple_type(…)(*record.item())`: fast to read in Python.

    A nested record becomes a plain tuple.
    """
    make: Any = namedtuple
    return make(name, kind.names)


def constants(kind: str, values: dict[str, int]) -> Any:
    """Numbers by name, as a named tuple: an attribute in Python, a compile-time constant in a kernel."""
    make: Any = namedtuple
    return make(kind, list(values))(*values.values())


def enumerate_names(kind: str, *names: str) -> Any:
    """`constants` that number the names from 0."""
    return constants(kind, {name: number for number, name in enumerate(names)})


#: A range of rows, columns or k: the first one and how many.
RANGE = layout(first=np.int64, count=np.int64)
#: A range of addresses or rows: the first one and the one after the last.
SPAN = layout(first=np.int64, stop=np.int64)
