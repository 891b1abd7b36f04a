"""Fixed point ⟨IL, FL⟩ with nearest and stochastic conversion (Gupta et al., ICML 2015).

A number is a two's complement integer of IL + FL bits times ε = 2^−FL, so it lies between −2^(IL−1) and
2^(IL−1) − ε; IL counts the sign bit. What lies outside saturates, as in the paper.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hfp8sim.errors import InputError, unknown
from hfp8sim.formats.codec import MAX_RANDOM_BITS, first_index

#: `nearest-down` is the paper's: ties go to the lower number. `stochastic` adds r random bits below the
#: last kept one and drops what lies below it, as a two's complement adder does: P(up) = (x − ⌊x⌋)/ε.
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
        """As `fixed⟨IL,FL⟩`."""
        return f"fixed⟨{self.integer_bits},{self.fraction_bits}⟩"

    @property
    def bits(self) -> int:
        """Width of a code."""
        return self.integer_bits + self.fraction_bits

    @property
    def dtype(self) -> np.dtype[Any]:
        """The narrowest unsigned dtype that holds a code."""
        return np.dtype(np.uint8 if self.bits <= 8 else np.uint16 if self.bits <= 16 else np.uint32)

    @property
    def epsilon(self) -> float:
        """The distance of neighbours."""
        return float(2.0**-self.fraction_bits)

    @property
    def max(self) -> float:
        """The largest number."""
        return ((1 << (self.bits - 1)) - 1) * self.epsilon

    @property
    def min(self) -> float:
        """The lowest number."""
        return -(1 << (self.bits - 1)) * self.epsilon

    def decode(self, codes: ArrayLike) -> NDArray[np.float64]:
        """The exact values of two's complement codes (unsigned integers), float64."""
        array = np.asarray(codes)
        if array.dtype.kind not in "ui" or (
            array.size and (int(array.min()) < 0 or int(array.max()) >> self.bits)
        ):
            raise InputError(f"{self.name} codes must be integers in 0..{(1 << self.bits) - 1}")
        integers = array.astype(np.int64)
        return (integers - (integers >> (self.bits - 1) << self.bits)) * self.epsilon

    def encode(
        self,
        x: ArrayLike,
        rounding: str = "nearest-even",
        overflow: str = "saturate",
        random_bits: ArrayLike | None = None,
        bits: int = 13,
    ) -> NDArray[np.unsignedinteger[Any]]:
        """Round real numbers: codes of x's shape. Arguments as of `FloatFormat.encode`.

        Raises:
            InputError: a NaN or, under `error`, an overflow (with the first index); a mode that is not one of
                `FIXED_MODES`, a policy other than `saturate` and `error`, random bits missing or out of
                range.
        """
        values = np.asarray(x, np.float64)
        if rounding not in FIXED_MODES:
            raise unknown("rounding mode of fixed point", rounding, FIXED_MODES)
        if overflow not in ("saturate", "error"):
            raise unknown("overflow policy of fixed point", overflow, ("saturate", "error"))
        if (nan := np.isnan(values)).any():
            raise InputError(f"NaN at {first_index(nan)}: {self.name} has no code for it")
        limits = float(-(1 << (self.bits - 1))), float((1 << (self.bits - 1)) - 1)
        # Beyond the ends by two units at most, where all that follows is exact.
        scaled = np.clip(values, 2 * self.min - 1, 2 * self.max + 2) / self.epsilon
        whole = np.trunc(scaled)
        rest = np.abs(scaled - whole)
        low = whole - ((scaled < 0) & (rest > 0))
        integers = low + self._up(rest, low, scaled < 0, rounding, random_bits, bits)
        if (
            overflow == "error"
            and (beyond := (integers < limits[0]) | (integers > limits[1])).any()
        ):
            first = first_index(beyond)
            raise InputError(f"overflow at {first}: {self.name} ends at {self.min} and {self.max}")
        codes = np.clip(integers, *limits).astype(np.int64) & ((1 << self.bits) - 1)
        return np.asarray(codes, self.dtype)

    def _up(
        self, rest: NDArray[np.float64], low: NDArray[np.float64], negative: NDArray[np.bool_],
        rounding: str, random_bits: ArrayLike | None, bits: int,
    ) -> NDArray[np.bool_]:  # fmt: skip
        """Whether a number goes up that lies ν above `low`: ν is `rest`, or 1 − rest if negative."""
        inexact = rest > 0
        if rounding == "stochastic":
            part, top = rest * 2.0**bits, 2.0**bits
            kept = np.where(negative & inexact, top - np.ceil(part), np.floor(part))  # floor(ν·2^r)
            return np.asarray(kept + self._random(rest.shape, random_bits, bits) >= top)
        tie = rest == 0.5
        near = np.where(negative, rest < 0.5, rest > 0.5) & inexact
        up = {
            "nearest-down": near,
            "nearest-even": near | (tie & (low % 2 == 1)),
            "nearest-away": near | (tie & ~negative),
            "toward-zero": inexact & negative,
            "toward-positive": inexact,
            "toward-negative": np.zeros(rest.shape, np.bool_),
        }
        return np.asarray(up[rounding])

    def _random(
        self, shape: tuple[int, ...], random_bits: ArrayLike | None, bits: int
    ) -> NDArray[np.float64]:
        if random_bits is None:
            raise InputError("stochastic rounding needs random_bits, one integer per element")
        if not 1 <= bits <= MAX_RANDOM_BITS:
            raise InputError(f"random bits per rounding is {bits}, must be 1..{MAX_RANDOM_BITS}")
        random = np.broadcast_to(np.asarray(random_bits), shape)
        if random.size and (int(random.min()) < 0 or int(random.max()) >> bits):
            raise InputError(f"random_bits must lie in 0..{(1 << bits) - 1} (bits={bits})")
        return random.astype(np.float64)
