"""Fixed point ⟨IL, FL⟩ with nearest and stochastic conversion (Gupta et al., ICML 2015).

A number is a two's complement integer of IL + FL bits times ε = 2^−FL. IL counts the sign bit. Numbers lie
between −2^(IL−1) and 2^(IL−1) − ε; as in the paper, numbers outside saturate.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hfp8sim.errors import InputError, unknown
from hfp8sim.floating_point import standard_arithmetic
from hfp8sim.formats.codec import (
    Codes,
    check_codes,
    check_random,
    check_random_width,
    code_dtype,
    first_index,
    refuse_nan,
)

#: `nearest-down` is the paper's: a tie goes to the lower number. `stochastic` adds r random bits below the
#: lowest kept bit and truncates, as a two's complement adder does: P(up) = (x − ⌊x⌋)/ε.
FIXED_MODES = (
    "nearest-down", "nearest-even", "nearest-away", "toward-zero", "toward-positive",
    "toward-negative", "stochastic",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class FixedPoint:
    """Fixed point with `integer_bits` (sign included) and `fraction_bits`; at most 32 bits together."""

    integer_bits: int
    fraction_bits: int

    def __post_init__(self) -> None:
        il, fl = self.integer_bits, self.fraction_bits
        if not (il >= 1 and fl >= 0 and il + fl <= 32):
            raise InputError(f"fixed point ⟨{il}, {fl}⟩: needs IL ≥ 1, FL ≥ 0 and IL + FL ≤ 32")

    @property
    def name(self) -> str:
        """`fixed⟨IL,FL⟩`."""
        return f"fixed⟨{self.integer_bits},{self.fraction_bits}⟩"

    @property
    def bits(self) -> int:
        """Width of a code."""
        return self.integer_bits + self.fraction_bits

    @property
    def dtype(self) -> np.dtype[Any]:
        """The narrowest unsigned dtype that holds a code."""
        return code_dtype(self.bits)

    @property
    def epsilon(self) -> float:
        """The distance between adjacent numbers."""
        return float(2.0**-self.fraction_bits)

    @property
    def max(self) -> float:
        """The largest number."""
        return ((1 << (self.bits - 1)) - 1) * self.epsilon

    @property
    def min(self) -> float:
        """The lowest number."""
        return -(1 << (self.bits - 1)) * self.epsilon

    @standard_arithmetic
    def decode(self, codes: ArrayLike) -> NDArray[np.float64]:
        """The exact values of two's complement codes (unsigned integers), float64 of the same shape.

        Raises:
            InputError: another dtype, or an integer out of range.
        """
        integers = check_codes(codes, self.name, self.bits).astype(np.int64)
        return (integers - (integers >> (self.bits - 1) << self.bits)) * self.epsilon

    @standard_arithmetic
    def encode(
        self,
        x: ArrayLike,
        rounding: str = "nearest-even",
        overflow: str = "saturate",
        random_bits: ArrayLike | None = None,
        bits: int = 13,
    ) -> Codes:
        """Round real numbers: codes of x's shape. Arguments as of `FloatFormat.encode`.

        Raises:
            InputError: a NaN or, under `error`, an overflow, with the first index; a mode that is not one of
                `FIXED_MODES`; a policy other than `saturate` and `error`; random bits that are missing or
                out of range.
        """
        values = np.asarray(x, np.float64)
        if rounding not in FIXED_MODES:
            raise unknown("rounding mode of fixed point", rounding, FIXED_MODES)
        if overflow not in ("saturate", "error"):
            raise unknown("overflow policy of fixed point", overflow, ("saturate", "error"))
        refuse_nan(values, self.name)
        lowest, largest = -(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1
        # Clipped at two units beyond either end: far enough to overflow, near enough to stay exact.
        scaled = np.clip(values, 2 * self.min - 1, 2 * self.max + 2) / self.epsilon
        floor = np.floor(scaled)
        integers = floor + self._rounds_up(scaled, floor, rounding, random_bits, bits)
        if overflow == "error":
            beyond = (integers < lowest) | (integers > largest)
            if beyond.any():
                raise InputError(
                    f"overflow at {first_index(beyond)}: {self.name} ends at {self.min} and {self.max}"
                )
        codes = np.clip(integers, lowest, largest).astype(np.int64) & ((1 << self.bits) - 1)
        return np.asarray(codes, self.dtype)

    def _rounds_up(
        self,
        scaled: NDArray[np.float64],
        floor: NDArray[np.float64],
        rounding: str,
        random_bits: ArrayLike | None,
        r: int,
    ) -> NDArray[np.bool_]:
        """Whether the number goes to floor + 1.

        Magnitudes decide, because ν = scaled − floor of a small negative number is no float64 number.
        """
        negative = scaled < 0
        part = np.abs(scaled - np.trunc(scaled))  # ν, or 1 − ν of a negative number
        inexact, tie = part > 0, part == 0.5
        nearer = np.where(negative, part < 0.5, part > 0.5) & inexact
        match rounding:
            case "nearest-down":
                return np.asarray(nearer)
            case "nearest-even":
                return np.asarray(nearer | (tie & (floor % 2 == 1)))
            case "nearest-away":
                return np.asarray(nearer | (tie & ~negative))
            case "toward-zero":
                return np.asarray(inexact & negative)
            case "toward-positive":
                return np.asarray(inexact)
            case "toward-negative":
                return np.zeros(scaled.shape, np.bool_)
        # stochastic: floor(ν·2^r) + R carries out of the r bits
        top = 2.0 ** check_random_width(r)
        random = check_random(random_bits, scaled.shape, rounding, r)
        fraction = np.where(negative & inexact, top - np.ceil(part * top), np.floor(part * top))
        return np.asarray(fraction + random >= top)
