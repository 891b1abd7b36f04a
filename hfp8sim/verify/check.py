"""A check of a space of inputs, and its result."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True)
class Result:
    """The number of inputs, the number on which the implementations differed, and the first such input."""

    tried: int = 0
    differed: int = 0
    first: str = ""

    def __add__(self, other: Result) -> Result:
        return Result(
            self.tried + other.tried, self.differed + other.differed, self.first or other.first
        )


@dataclasses.dataclass(frozen=True)
class Check:
    """One row of the table: a space of inputs, cut into parts that can be tried in any order."""

    name: str  #: of the unit and its setting
    inputs: str  #: the space of inputs, in words
    against: str  #: the implementations that are compared
    parts: int
    part: Callable[[int], Result] = dataclasses.field(repr=False)
    done: Callable[[], None] = dataclasses.field(default=lambda: None, repr=False)  #: frees memory
    exhaustive: bool = False  #: takes minutes


def differences(
    describe: Callable[[int], str], *pairs: tuple[NDArray[Any], NDArray[Any]]
) -> Result:
    """Compare arrays, element by element. An element differs if it differs in any pair.

    Args:
        describe: maps an element's flat index to a description of its input.
        pairs: arrays of the same size.
    """
    tried = pairs[0][0].size
    if all(np.array_equal(x, y) for x, y in pairs):
        return Result(tried)
    wrong = np.zeros(tried, np.bool_)
    for x, y in pairs:
        wrong |= x.ravel() != y.ravel()
    first = int(np.flatnonzero(wrong)[0])
    values = ", ".join(f"{int(x.flat[first]):#x} ≠ {int(y.flat[first]):#x}" for x, y in pairs)
    return Result(tried, int(wrong.sum()), f"{describe(first)}: {values}")
