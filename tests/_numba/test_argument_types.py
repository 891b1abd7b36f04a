"""Numba's types of arguments, found without Numba's own search."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from numba.core.typing.typeof import Purpose, typeof

from hfp8sim._numba.argument_types import type_of
from hfp8sim._numba.layouts import RANGE, layout

TWO = layout(a=RANGE, b=RANGE, spans=(RANGE, 2), numbers=(np.int64, 3))


class Pair(NamedTuple):
    array: Any
    number: Any


def locked(array: Any) -> Any:
    array.flags.writeable = False
    return array


RECORDS, GRID = np.zeros(6, RANGE), np.zeros((4, 4), np.uint8)


@pytest.mark.parametrize(
    "argument",
    [
        RECORDS[0], np.zeros(1, TWO)[0],
        RECORDS, RECORDS.reshape(2, 3), RECORDS[::2], RECORDS.reshape(2, 3).T, locked(RECORDS.copy()),
        GRID, GRID.T, GRID[::2, 1:], locked(GRID.copy()), np.zeros((2, 0, 3)), np.float16(1) * np.ones(2, np.float16),
        3, 1 << 63, 1.5, True, None, np.uint32(3), np.float32(1), np.dtype(np.int32),
        (), (1, 2), (GRID, RECORDS[0]), (GRID, (GRID.T, 1)), Pair(GRID, 1), Pair(1, 2),
    ],
    ids=lambda argument: type(argument).__name__,
)  # fmt: skip
def test_type_is_that_of_numba(argument: Any) -> None:
    assert type_of(argument) == typeof(argument, Purpose.argument)
