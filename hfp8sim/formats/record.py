"""A format is a frozen record of orthogonal facts; everything else is derived from them.

docs/numerics.md, section 1, defines each fact and gives its source.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from hfp8sim.errors import InputError, unknown
from hfp8sim.formats.codec import Codes, code_dtype, decode, encode
from hfp8sim.formats.dtypes import numpy_dtype
from hfp8sim.formats.notebook import html_table, number_line
from hfp8sim.formats.vocabulary import LOWEST, SPECIALS, ZEROS, Facts, Lowest, Special


@dataclasses.dataclass(frozen=True)
class FloatFormat:
    """A binary floating-point format of at most 32 bits.

    A code is `sign · exponent · fraction`, an unsigned integer with the sign highest. Arrays of codes
    have the dtype `dtype`. The constructor raises `InputError` for facts that contradict each other.
    """

    name: str
    exponent_bits: int  #: E, 1..11
    fraction_bits: int  #: F, 0..23
    bias: int  #: b
    signed: bool = True  #: whether there is a sign bit
    zero: str = "signed"  #: one of `ZEROS`
    lowest: str = "subnormal"  #: one of `LOWEST`
    special: str = "ieee"  #: one of `SPECIALS`
    source: str = dataclasses.field(
        default="", compare=False, repr=False
    )  #: who defined it, and where

    def __post_init__(self) -> None:
        for what, value, known in (
            ("zero rule", self.zero, ZEROS),
            ("lowest-binade rule", self.lowest, LOWEST),
            ("special-code rule", self.special, SPECIALS),
        ):
            if value not in known:
                raise unknown(f"{what} of format {self.name}", value, known)
        problem = self._width_problem() or self._rule_problem() or self._range_problem()
        if problem:
            raise InputError(f"format {self.name}: {problem}")

    def _width_problem(self) -> str:
        for name in ("exponent_bits", "fraction_bits", "bias"):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or isinstance(value, bool):
                return f"{name} is {value!r:.60}, must be a whole number"
        if not 1 <= self.exponent_bits <= 11:
            return f"exponent_bits is {self.exponent_bits}, must be 1..11"
        if not 0 <= self.fraction_bits <= 23:
            return f"fraction_bits is {self.fraction_bits}, must be 0..23"
        return ""

    def _rule_problem(self) -> str:
        """Why the rules for zero, lowest binade and special codes contradict each other, or ""."""
        no_minus_zero = self.special == "fnuz" or (self.special.startswith("p3109") and self.signed)
        if no_minus_zero and self.zero != "unsigned":
            return f"special={self.special!r} needs zero='unsigned'"
        if self.special == "fnuz" and not self.signed:
            return "special='fnuz' needs a sign bit"
        if not self.signed and self.zero == "signed":
            return "zero='signed' needs a sign bit"
        if self.special == "ieee" and self.fraction_bits == 0:
            return "special='ieee' needs a fraction bit for its NaN"
        if self.zero == "none" and self.lowest != "normal":
            return "zero='none' needs lowest='normal'"
        return ""

    def _range_problem(self) -> str:
        """Why float64 cannot hold the numbers, or ""."""
        if self.facts.max_mag < self.facts.min_mag:
            return "no code is left for a number"
        if self.emax > 1023 or self.facts.min_exp < -1074:
            return (
                f"with bias {self.bias} its numbers are multiples of 2^{self.facts.min_exp} "
                f"below 2^{self.emax + 1}, must be of 2^-1074 below 2^1024 (float64's)"
            )
        return ""

    # -- derived -----------------------------------------------------------------------------------

    @functools.cached_property
    def facts(self) -> Facts:
        """The record as integers, for compiled code."""
        e, f = self.exponent_bits, self.fraction_bits
        max_mag, inf_mag, nan_code = self._special_codes()
        min_mag, min_sig, min_exp = self._smallest()
        normal_mag = 1 << f if self.lowest == "subnormal" else min_mag
        return Facts(
            exponent_bits=e, fraction_bits=f, bias=self.bias, signed=int(self.signed),
            zero=ZEROS.index(self.zero), lowest=LOWEST.index(self.lowest),
            mag_mask=(1 << (e + f)) - 1,
            max_mag=max_mag, inf_mag=inf_mag, nan_code=nan_code,
            min_mag=min_mag, min_sig=min_sig, min_exp=min_exp,
            normal_mag=normal_mag, emin=(normal_mag >> f) - self.bias,
        )  # fmt: skip

    def _special_codes(self) -> tuple[int, int, int]:
        """(max_mag, inf_mag, nan_code) of `Facts`."""
        e, f = self.exponent_bits, self.fraction_bits
        top = (1 << (e + f)) - 1
        infinity = ((1 << e) - 1) << f
        minus_zero = 1 << (e + f)
        match self.special:
            case "none":
                return top, -1, -1
            case "ieee":
                return infinity - 1, infinity, infinity | 1 << max(f - 1, 0)
            case "fn" | "nan-inf":
                return top - 1, -1, top
            case "fnuz":
                return top, -1, minus_zero
            case "p3109-extended":
                return (top - 1, top, minus_zero) if self.signed else (top - 2, top - 1, top)
            case _:  # p3109-finite
                return (top, -1, minus_zero) if self.signed else (top - 1, -1, top)

    def _smallest(self) -> tuple[int, int, int]:
        """(min_mag, min_sig, min_exp) of `Facts`."""
        f, b = self.fraction_bits, self.bias
        if self.zero == "none":
            return 0, 1 << f, -b - f
        if self.lowest == "subnormal" and f:
            return 1, 1, 1 - b - f
        if self.lowest == "normal" and f:
            return 1, (1 << f) + 1, -b - f
        return 1 << f, 1 << f, 1 - b - f

    @functools.cached_property
    def bits(self) -> int:
        """Width of a code."""
        return int(self.signed) + self.exponent_bits + self.fraction_bits

    @property
    def precision(self) -> int:
        """Bits of the significand, the leading one included."""
        return self.fraction_bits + 1

    @property
    def emin(self) -> int:
        """Exponent of the smallest positive normal number, floor(log2)."""
        return self.facts.emin

    @property
    def emax(self) -> int:
        """Exponent of the largest number, floor(log2)."""
        return (self.facts.max_mag >> self.fraction_bits) - self.bias

    @functools.cached_property
    def dtype(self) -> np.dtype[Any]:
        """The narrowest unsigned dtype that holds a code: uint8, uint16 or uint32."""
        return code_dtype(self.bits)

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The dtype of NumPy or ml_dtypes whose bits are this format's codes: `codes.view(fmt.numpy_dtype)`.

        Raises:
            InputError: there is none, or it is ml_dtypes' and that is not installed.
        """
        return numpy_dtype(self.name)

    @functools.cached_property
    def max(self) -> float:
        """The largest number."""
        return float(self.decode(self.facts.max_mag))

    @functools.cached_property
    def min_positive(self) -> float:
        """The smallest positive number."""
        return float(self.facts.min_sig * 2.0**self.facts.min_exp)

    @functools.cached_property
    def min_normal(self) -> float:
        """The smallest positive normal number."""
        return float(self.decode(self.facts.normal_mag))

    @property
    def has_nan(self) -> bool:
        """Whether some code is a NaN or the merged NaN-Infinity."""
        return self.facts.nan_code >= 0

    @property
    def has_inf(self) -> bool:
        """Whether some code is an infinity."""
        return self.facts.inf_mag >= 0

    def with_bias(self, bias: int) -> FloatFormat:
        """The same format with another exponent bias, named `NAME@BIAS`."""
        if bias == self.bias:
            return self
        name = f"{self.name.split('@')[0]}@{bias}"
        return dataclasses.replace(self, name=name, bias=bias, source="")

    def _repr_html_(self) -> str:
        """What a notebook shows: the facts, and a line for each number where there are few."""
        rows = [
            (
                "sign, exponent, fraction",
                f"{int(self.signed)}, {self.exponent_bits}, {self.fraction_bits} bits",
            ),
            ("bias", self.bias),
            ("largest number", f"{self.max:.6g}"),
            ("smallest normal number", f"{self.min_normal:.6g}"),
            ("smallest number", f"{self.min_positive:.6g}"),
            ("exponent field 0", Lowest.of(self.lowest).meaning),
            ("special codes", Special.of(self.special).meaning),
            *([("source", self.source)] if self.source else []),
        ]
        line = number_line(self) if self.bits <= 8 else ""
        return html_table(rows, caption=self.name) + line

    # -- codes and values --------------------------------------------------------------------------

    def table(self) -> NDArray[np.float64]:
        """The value of every code, float64 of shape (2**bits,); formats of at most 16 bits."""
        if self.bits > 16:
            raise InputError(
                f"format {self.name} has {self.bits} bits: a code table needs at most 16"
            )
        return self.decode(np.arange(1 << self.bits, dtype=self.dtype))

    def decode(
        self, codes: ArrayLike, *, dtype: DTypeLike = np.float64, out: NDArray[Any] | None = None
    ) -> NDArray[Any]:
        """The values of codes, in an array of the same shape.

        Args:
            codes: unsigned integers below 2**bits, of any unsigned dtype and shape; or an array or tensor of the
                dtype of ml_dtypes or PyTorch that has this format's codes.
            dtype: float64, which is exact, or float32. A value that no float32 holds is rounded to nearest, ties to
                even.
            out: an array of that dtype and the codes' shape to fill in and return.

        Raises:
            InputError: codes of another dtype, or an integer out of range; another `dtype`; `out` of another
                shape or dtype.
        """
        return decode(codes, self, dtype, out)

    def encode(
        self,
        x: ArrayLike,
        rounding: str = "nearest-even",
        overflow: str = "saturate",
        random_bits: ArrayLike | None = None,
        bits: int = 13,
    ) -> Codes:
        """Round real numbers to the format.

        Args:
            x: real numbers of any shape, in a dtype that float64 holds exactly; those of ml_dtypes and PyTorch too.
            rounding: one of `MODES`, or `stochastic`.
            overflow: one of `OVERFLOW`.
            random_bits: for stochastic modes: integers below 2**bits, broadcast to x's shape.
            bits: for stochastic modes: the number of random bits of an element, 1..24.

        Returns:
            Codes of dtype `self.dtype` and x's shape.

        Raises:
            InputError: a NaN and the format has none, or an overflow under `error`; the message
                names the first index. Also an unknown mode or policy, `special` for a format without
                special codes, and random bits that are missing, not taken by the mode or out of range.
        """
        return encode(x, self, rounding, overflow, random_bits, bits)[0]
