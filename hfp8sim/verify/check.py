"""What a check is, and what came out of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True)
class Result:
    """How many inputs were tried, on how many the implementations differed, and the first such one."""

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
    inputs: str  #: what is tried
    against: str  #: who is compared with whom
    parts: int
    part: Callable[[int], Result] = dataclasses.field(repr=False)
    done: Callable[[], None] = dataclasses.field(default=lambda: None, repr=False)  #: frees memory
    exhaustive: bool = False  #: minutes long


def differences(
    describe: Callable[[int], str], *pairs: tuple[NDArray[Any], NDArray[Any]]
) -> Result:
    """Compare arrays, element by element; an element differs if it does in any pair.

    Args:
        describe: the input of an element (flat index), for the message.
        pairs: arrays of one size; `tried` counts elements of the first.
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
