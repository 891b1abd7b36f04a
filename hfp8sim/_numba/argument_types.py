"""Numba's types of arguments, found without what Numba does for each array: it loads `numpy.ma`, which takes as long
as ten small products."""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba.core import types
from numba.core.typing.typeof import Purpose, typeof
from numba.np import numpy_support


def type_of(argument: Any) -> Any:
    """Numba's type of an argument of a compiled function.

    Raises:
        numba.core.errors.NumbaError, ValueError: no function under `@jit` takes such an argument.
    """
    if type(argument) is np.ndarray:
        layout, readonly = numpy_support.map_layout(argument), not argument.flags.writeable
        return types.Array(_element(argument.dtype), argument.ndim, layout, readonly=readonly)
    if isinstance(argument, tuple):
        return types.BaseTuple.from_types([type_of(each) for each in argument], type(argument))
    if isinstance(argument, np.void):
        return _element(argument.dtype)
    return typeof(argument, Purpose.argument)


@functools.cache
def _element(dtype: np.dtype[Any]) -> Any:
    """The type of an element. For a record it takes long to find."""
    return numpy_support.from_dtype(dtype)
