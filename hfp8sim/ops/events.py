"""Events of the arithmetic, counted over all outputs of a GEMM."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfp8sim._numba.jit import jit
from hfp8sim.formats import FloatFormat
from hfp8sim.formats.rounding import is_nan
from hfp8sim.units.accumulator import DRAWS, EVENT_KINDS, OVERFLOWS, SWAMPED, UNDERFLOWS

#: The place of each count in the units' array of event counts.
_PLACES = {
    "swamped": SWAMPED,
    "overflowed": OVERFLOWS,
    "underflowed": UNDERFLOWS,
    "draws": DRAWS,
}


@dataclasses.dataclass(frozen=True)
class Events:
    """Counts of events in a GEMM.

    `swamped`: steps whose products summed to something other than zero and left the finite accumulator
    unchanged. `overflowed`, `underflowed`: roundings that raised the flag. `nan`: outputs that are NaN.
    `draws`: random words used.
    """

    swamped: int = 0
    overflowed: int = 0
    underflowed: int = 0
    nan: int = 0
    draws: int = 0

    @classmethod
    def of(cls, counts: NDArray[np.int64], nan: int) -> Events:
        """From the units' counts (EVENT_KINDS,), and the number of outputs that are NaN."""
        values = counts.tolist()
        return cls(nan=nan, **{name: values[place] for name, place in _PLACES.items()})

    def __add__(self, other: Events) -> Events:
        sums = (x + y for x, y in zip(dataclasses.astuple(self), dataclasses.astuple(other)))
        return Events(*sums)


def no_counts() -> NDArray[np.int64]:
    """The units' event counts, all zero."""
    return np.zeros(EVENT_KINDS, np.int64)


def count_nan(codes: NDArray[np.unsignedinteger[Any]], fmt: FloatFormat) -> int:
    """How many codes are NaN, or the code that means NaN or infinity."""
    return int(_count_nan(np.ascontiguousarray(codes).reshape(codes.size), fmt.facts))


@jit
def _count_nan(codes, facts):
    n = 0
    for i in range(codes.size):
        n += is_nan(np.int64(codes[i]), facts)
    return n
