"""Conversion from binary32, exhaustively."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfp8sim.formats import FloatFormat, get_format
from hfp8sim.formats.vocabulary import Rounding, mode_number, overflow_number
from hfp8sim.kernels.convert import convert_float32, rounder
from hfp8sim.verify import c_reference as reference
from hfp8sim.verify import sweeps
from hfp8sim.verify.check import Check, Result, differences

#: log2 of the encodings of a part.
_PART_BITS = 23
#: Encodings that are converted at once.
_SPAN = 1 << 17


@dataclasses.dataclass
class ConvertSweep:
    """All binary32 encodings into one format. Part: one sign and one exponent field."""

    fmt: FloatFormat
    rounding: str
    overflow: str
    bits: int = 13
    constant: bool = True

    def part(self, number: int) -> Result:
        """Encodings from number·2^23 on, without NaN if the format has none."""
        result = Result()
        for start in range(number << _PART_BITS, (number + 1) << _PART_BITS, _SPAN):
            result += self.span(start, _SPAN)
        return result

    def span(self, start: int, count: int) -> Result:
        """Encodings start … start + count − 1."""
        if start >> _PART_BITS & 0xFF == 0xFF and not self.fmt.has_nan:
            first = start >> _PART_BITS << _PART_BITS
            if start != first:
                return Result()
            count = 1  # the infinity
        mode, policy = mode_number(self.rounding), overflow_number(self.overflow)
        word = (start >> 8) * 2731 % (1 << self.bits)
        codes, flags = np.empty(count, np.uint32), np.empty(count, np.uint8)
        bits = sweeps.widened(start, count)
        if self.constant:
            row = sweeps.encode_row(self.fmt.facts, mode, policy, self.bits)
            row(bits, np.int64(word), codes, flags)
        else:
            sweeps.encode_row_any(
                bits, np.int64(word), self.fmt.facts, mode, policy, self.bits, codes, flags
            )
        expected = reference.convert_sweep(
            get_format("binary32"), start, count, self.fmt, mode, policy, self.bits, word
        )
        pairs: list[tuple[NDArray[Any], NDArray[Any]]] = [
            (codes, expected[0]),
            (flags, expected[1]),
        ]
        if (parameters := rounder(self.fmt, self.rounding, self.overflow, self.bits)) is not None:
            values = np.arange(start, start + count, dtype=np.uint32).view(np.float32)
            random = np.full(count, word, np.uint32) if mode == Rounding.STOCHASTIC_A else None
            fast = convert_float32(values, parameters, self.fmt.dtype, random).codes.astype(
                np.uint32
            )
            pairs.append((fast, expected[0]))
        return differences(lambda i: f"binary32 {start + i:#010x}, R = {word}", *pairs)


def convert_check(sweep: ConvertSweep) -> Check:
    """All 2^32 encodings of a sweep."""
    return Check(
        name=f"conversion to {sweep.fmt.name}, {sweep.rounding}, {sweep.overflow}",
        inputs="all 2^32 binary32 encodings",
        against="plain loop and vectors = C",
        parts=1 << (32 - _PART_BITS),
        part=sweep.part,
        exhaustive=True,
    )
