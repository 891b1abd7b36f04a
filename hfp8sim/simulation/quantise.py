"""A tensor into the codes of its operand format, and how much of it the format cannot hold."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfp8sim.formats import FloatFormat
from hfp8sim.formats.vocabulary import ZEROS, Zero
from hfp8sim.kernels.zeros import count_nonzero
from hfp8sim.ops import convert
from hfp8sim.units import Profile

Codes = NDArray[np.unsignedinteger[Any]]


@dataclasses.dataclass(frozen=True, eq=False)
class Quantised:
    """A tensor in a format.

    Attributes:
        codes: in the tensor's shape.
        format: in which the codes have the tensor's values, a scale included.
        nonzero: elements of the tensor that are not zero.
        saturated: elements that exceed the largest number.
        underflowed: elements that fall below the smallest normal number, inexactly.
        flushed: elements that are not zero and become zero.
    """

    codes: Codes
    format: FloatFormat
    nonzero: int
    saturated: int
    underflowed: int
    flushed: int

    @property
    def values(self) -> NDArray[np.float64]:
        """The codes as numbers, exact."""
        return self.format.decode(self.codes)

    @property
    def saturated_share(self) -> float:
        """`saturated`, of all elements."""
        return self.saturated / max(self.codes.size, 1)

    @property
    def flushed_share(self) -> float:
        """`flushed`, of the elements that are not zero."""
        return self.flushed / max(self.nonzero, 1)

    @property
    def lost_share(self) -> float:
        """Elements that saturate or become zero, of those that are not zero."""
        return (self.saturated + self.flushed) / max(self.nonzero, 1)


def quantise(
    tensor: NDArray[Any], fmt: FloatFormat, profile: Profile, *, seed: int = 0, stream: int = 0
) -> Quantised:
    """Round a tensor to `fmt` as the profile rounds operands.

    Args:
        tensor: float32 or float64 of any shape.
        seed, stream: of stochastic rounding.
    """
    codes, counts = convert(
        tensor, fmt, profile.operand_rounding, profile.operand_overflow,
        bits=profile.random_bits, seed=seed, stream=stream,
    )  # fmt: skip
    nonzero, flushed = count_nonzero(tensor), 0
    if ZEROS.index(fmt.zero) != Zero.NONE:
        flushed = nonzero - count_nonzero(codes, int(fmt.facts.mag_mask))
    return Quantised(
        codes, fmt, nonzero, counts["saturated"], counts["underflowed"], max(flushed, 0)
    )
