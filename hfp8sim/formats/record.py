"""A format is a frozen record of orthogonal facts; everything else is derived from them.

The meaning of each fact, with its source, stands in docs/numerics.md, section 1.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hfp8sim.errors import InputError, unknown

#: What a zero code means. The index is the number kernels and the C reference see.
ZEROS = ("signed", "unsigned", "none")
#: What exponent field 0 with a non-zero fraction means.
LOWEST = ("subnormal", "normal", "flush")
#: Which codes are not numbers.
SPECIALS = ("none", "ieee", "fn", "fnuz", "nan-inf", "p3109-extended", "p3109-finite")
#: Rounding modes; `stochastic` is another name of `stochastic-a`.
MODES = (
    "nearest-even", "nearest-away", "toward-zero", "toward-positive", "toward-negative", "to-odd",
    "stochastic-a", "stochastic-b", "stochastic-c",
)  # fmt: skip
#: What becomes of a rounded magnitude beyond the largest number.
OVERFLOW = ("saturate", "special", "error")


def mode_number(name: str) -> int:
    """The number of a rounding mode; `InputError` for an unknown one."""
    name = "stochastic-a" if name == "stochastic" else name
    if name not in MODES:
        raise unknown("rounding mode", name, (*MODES, "stochastic"))
    return MODES.index(name)


def overflow_number(name: str) -> int:
    """The number of an overflow policy; `InputError` for an unknown one."""
    if name not in OVERFLOW:
        raise unknown("overflow policy", name, OVERFLOW)
    return OVERFLOW.index(name)


class Facts(NamedTuple):
    """A format as kernels see it: integers only. `mag` is a code without its sign bit."""

    exponent_bits: int
    fraction_bits: int
    bias: int
    signed: int
    zero: int
    lowest: int
    special: int
    max_mag: int  #: largest number
    inf_mag: int  #: infinity, or −1
    nan_code: int  #: the NaN that is produced (a whole code), or −1
    min_mag: int  #: smallest positive number …
    min_sig: int  #: … whose value is min_sig · 2^min_exp
    min_exp: int
    normal_mag: int  #: smallest normal number


@dataclasses.dataclass(frozen=True)
class FloatFormat:
    """A binary floating-point format of at most 32 bits.

    A code is `sign · exponent · fraction`, an unsigned integer with the sign highest. Arrays of codes
    have the dtype `dtype`. Invalid combinations of facts raise `InputError` when the record is made.
    """

    name: str
    exponent_bits: int
    fraction_bits: int
    bias: int
    signed: bool = True
    zero: str = "signed"
    lowest: str = "subnormal"
    special: str = "ieee"

    def __post_init__(self) -> None:
        for what, value, known in (
            ("zero rule", self.zero, ZEROS),
            ("lowest-binade rule", self.lowest, LOWEST),
            ("special-code rule", self.special, SPECIALS),
        ):
            if value not in known:
                raise unknown(f"{what} of format {self.name}", value, known)
        if not 1 <= self.exponent_bits <= 11:
            raise InputError(
                f"format {self.name}: exponent_bits is {self.exponent_bits}, must be 1..11"
            )
        if not 0 <= self.fraction_bits <= 23:
            raise InputError(
                f"format {self.name}: fraction_bits is {self.fraction_bits}, must be 0..23"
            )
        no_minus_zero = self.special == "fnuz" or (self.special.startswith("p3109") and self.signed)
        if no_minus_zero and self.zero != "unsigned":
            raise InputError(f"format {self.name}: special={self.special!r} needs zero='unsigned'")
        if self.special == "fnuz" and not self.signed:
            raise InputError(f"format {self.name}: special='fnuz' needs a sign bit")
        if not self.signed and self.zero == "signed":
            raise InputError(f"format {self.name}: zero='signed' needs a sign bit")
        if self.special == "ieee" and self.fraction_bits == 0:
            raise InputError(f"format {self.name}: special='ieee' needs a fraction bit for its NaN")
        if self.zero == "none" and self.lowest != "normal":
            raise InputError(f"format {self.name}: zero='none' needs lowest='normal'")
        if self.facts.max_mag < self.facts.min_mag:
            raise InputError(f"format {self.name}: no code is left for a number")
        top = (self.facts.max_mag >> self.fraction_bits) - self.bias
        if top > 1023 or self.facts.min_exp < -1074:
            raise InputError(
                f"format {self.name}: with bias {self.bias} its numbers are multiples of "
                f"2^{self.facts.min_exp} below 2^{top + 1}, must be of 2^-1074 below 2^1024 (float64's)"
            )

    # -- derived -----------------------------------------------------------------------------------

    @functools.cached_property
    def facts(self) -> Facts:
        """The record as integers, for kernels and the C reference."""
        e, f, b = self.exponent_bits, self.fraction_bits, self.bias
        top = (1 << (e + f)) - 1
        infinity = ((1 << e) - 1) << f
        minus_zero = 1 << (e + f)
        max_mag, inf_mag, nan_code = {
            "none": (top, -1, -1),
            "ieee": (infinity - 1, infinity, infinity | 1 << max(f - 1, 0)),
            "fn": (top - 1, -1, top),
            "fnuz": (top, -1, minus_zero),
            "nan-inf": (top - 1, -1, top),
            "p3109-extended": (top - 1, top, minus_zero)
            if self.signed
            else (top - 2, top - 1, top),
            "p3109-finite": (top, -1, minus_zero) if self.signed else (top - 1, -1, top),
        }[self.special]
        if self.zero == "none":
            min_mag, min_sig, min_exp = 0, 1 << f, -b - f
        elif self.lowest == "subnormal" and f:
            min_mag, min_sig, min_exp = 1, 1, 1 - b - f
        elif self.lowest == "normal" and f:
            min_mag, min_sig, min_exp = 1, (1 << f) + 1, -b - f
        else:
            min_mag, min_sig, min_exp = 1 << f, 1 << f, 1 - b - f
        return Facts(
            e, f, b, int(self.signed),
            ZEROS.index(self.zero), LOWEST.index(self.lowest), SPECIALS.index(self.special),
            max_mag, inf_mag, nan_code, min_mag, min_sig, min_exp,
            1 << f if self.lowest == "subnormal" else min_mag,
        )  # fmt: skip

    @functools.cached_property
    def bits(self) -> int:
        """Width of a code."""
        return int(self.signed) + self.exponent_bits + self.fraction_bits

    @property
    def precision(self) -> int:
        """Bits of the significand, the leading one included."""
        return self.fraction_bits + 1

    @functools.cached_property
    def dtype(self) -> np.dtype[Any]:
        """The narrowest unsigned dtype that holds a code: uint8, uint16 or uint32."""
        return np.dtype(np.uint8 if self.bits <= 8 else np.uint16 if self.bits <= 16 else np.uint32)

    @property
    def max(self) -> float:
        """The largest number."""
        return float(self.decode(self.facts.max_mag))

    @property
    def min_positive(self) -> float:
        """The smallest positive number."""
        return float(self.facts.min_sig * 2.0**self.facts.min_exp)

    @property
    def min_normal(self) -> float:
        """The smallest positive normal number."""
        return float(self.decode(self.facts.normal_mag))

    @property
    def has_nan(self) -> bool:
        """Whether some code is a NaN (or the merged NaN-Infinity)."""
        return self.facts.nan_code >= 0

    @property
    def has_inf(self) -> bool:
        """Whether some code is an infinity."""
        return self.facts.inf_mag >= 0

    def with_bias(self, bias: int) -> FloatFormat:
        """The same format with another exponent bias, named `NAME@BIAS`."""
        if bias == self.bias:
            return self
        return dataclasses.replace(self, name=f"{self.name.split('@')[0]}@{bias}", bias=bias)

    # -- codes and values --------------------------------------------------------------------------

    def table(self) -> NDArray[np.float64]:
        """The value of every code, float64 of shape (2**bits,); formats of at most 16 bits."""
        if self.bits > 16:
            raise InputError(
                f"format {self.name} has {self.bits} bits: a code table needs at most 16"
            )
        return self.decode(np.arange(1 << self.bits, dtype=self.dtype))

    def decode(self, codes: ArrayLike) -> NDArray[np.float64]:
        """The exact values of `codes` (any unsigned integers below 2**bits), float64, same shape."""
        from hfp8sim.formats.codec import decode

        return decode(codes, self)

    def encode(
        self,
        x: ArrayLike,
        rounding: str = "nearest-even",
        overflow: str = "saturate",
        random_bits: ArrayLike | None = None,
        bits: int = 13,
    ) -> NDArray[np.unsignedinteger[Any]]:
        """Round real numbers into the format.

        Args:
            x: float32 or float64 numbers (anything numpy turns into float64 exactly), any shape.
            rounding: one of `MODES`, or `stochastic`.
            overflow: `saturate`, `special` or `error`.
            random_bits: stochastic modes: integers below 2**bits, one for each element.
            bits: stochastic modes: how many random bits each element gets, 1..24.

        Returns:
            Codes of dtype `self.dtype` and x's shape.

        Raises:
            InputError: a NaN into a format that has none, or an overflow under `error`; the message
                names the first index. Also an unknown mode or policy, `special` for a format without
                special codes, and random bits that are missing, uncalled for or out of range.
        """
        from hfp8sim.formats.codec import encode

        return encode(x, self, rounding, overflow, random_bits, bits)[0]
