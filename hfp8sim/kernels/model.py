"""What the kernels compute, as plain loops: read this first.

The generated code of `tile` does exactly this, sixteen outputs at a time. One output is a chain of steps,
each a sum in a lane's precision (24 or 53 bits) followed by a rounding of its bits; the numbers are those of
`Plan.numbers`. There is nothing about formats here: that the results are the machine's is the business of
`plan`. Python floats stand for lanes of either width. (A chunk's first product that is a number of the
accumulator is rounded to itself: `tile` leaves that out.)
"""

from __future__ import annotations

import math
import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hfp8sim.kernels import form as at
from hfp8sim.kernels.form import BETWEEN, Kernel


class Lane(NamedTuple):
    """A lane's float: how many bits, of which how many are fraction."""

    bits: int
    fraction: int

    def pack(self, x: float) -> int:
        """The bits of a float."""
        if self.bits == 64:
            return int(struct.unpack("<q", struct.pack("<d", x))[0])
        return int(struct.unpack("<i", struct.pack("<f", x))[0])

    def unpack(self, bits: int) -> float:
        """The float of given bits (of which only the lowest count)."""
        bits &= (1 << self.bits) - 1
        code = ("<Q", "<d") if self.bits == 64 else ("<I", "<f")
        return float(struct.unpack(code[1], struct.pack(code[0], bits))[0])


FLOAT32, FLOAT64 = Lane(32, 23), Lane(64, 52)


# -- sums --------------------------------------------------------------------------------------------


def two_sum(x: float, y: float) -> tuple[float, float]:
    """x + y to nearest, and the error, exactly (Knuth)."""
    s = x + y
    t = s - x
    return s, (x - (s - t)) + (y - t)


def chopped(x: float, y: float, lane: Lane) -> tuple[float, bool]:
    """x + y cut toward zero to the lane's precision, and whether anything was cut off."""
    s, error = two_sum(x, y)
    inexact = error != 0
    if inexact and (error < 0) == (s > 0):  # rounded away from zero: one back
        s = FLOAT64.unpack(FLOAT64.pack(s) - 1)
    cut = FLOAT64.fraction - lane.fraction
    bits = FLOAT64.pack(s)
    kept = bits >> cut << cut
    return FLOAT64.unpack(kept), inexact or kept != bits


def add(x: float, y: float, adder: str, lane: Lane) -> float:
    """x + y by one of the adders: nearest, chop, or down (rounding to odd)."""
    if not math.isfinite(x + y):
        return x + y
    cut, inexact = chopped(x, y, lane)
    if adder == "chop":
        return cut
    if adder == "down":
        return lane.unpack(lane.pack(cut) | inexact)
    if lane.bits == 64:
        return x + y
    # Odd in 53 bits, so that rounding again, to 24, is as good as rounding once.
    wide, inexact = chopped(x, y, FLOAT64)
    return FLOAT32.unpack(FLOAT32.pack(FLOAT64.unpack(FLOAT64.pack(wide) | inexact)))


# -- a rounding --------------------------------------------------------------------------------------


def round_bits(s: float, kind: str, addend: int, lane: Lane, numbers: list[int]) -> float:
    """Cut a sum's bits to the accumulator's precision; magnitudes are integers, carries run on."""
    if kind == "none" or not math.isfinite(s):
        return s
    bits = lane.pack(s)
    if kind == "even":
        odd = bits >> numbers[at.DROP] & 1
        bits += numbers[at.HALF] - 1 + odd
    elif kind == "away":
        bits += numbers[at.HALF]
    elif kind in ("random", "hash"):
        bits += addend
    return lane.unpack(bits & numbers[at.KEEP])


def limit(
    s: float, rounded: float, kind: str, addend: int, kernel: Kernel, lane: Lane, numbers: list[int]
) -> float:
    """What the lowest binade and the largest number make of a rounded sum."""
    smallest, largest = lane.unpack(numbers[at.MIN]), lane.unpack(numbers[at.MAX])
    if kernel.under != "free" and kind != "none":
        if kind in ("random", "hash") and abs(s) < smallest:
            up = abs(s) >= ((1 << numbers[at.DROP]) - addend) * lane.unpack(numbers[at.GAP])
            rounded = math.copysign(smallest, s) if up else 0.0
        elif abs(rounded) < smallest:
            rounded = 0.0
    if kernel.over != "free" and abs(rounded) > largest:
        rounded = math.copysign(lane.unpack(numbers[at.OVER]), rounded)
    return rounded


def aligned(
    acc: float, pairs: list[tuple[float, float]], exponents: list[int], numbers: list[int]
) -> float:
    """The sum of the accumulator and a step's products, cut below their largest exponent."""
    largest = max([max(math.frexp(acc)[1] - 1, numbers[at.LOWEST])] if acc else [at.NO_EXPONENT])
    largest = max([largest, *exponents])
    if largest < at.NO_EXPONENT // 2:
        return 0.0
    unit = 2.0 ** (largest - numbers[at.GUARD])
    return sum(int(term / unit) for term in [acc, *(a * b for a, b in pairs)]) * unit


# -- an output ---------------------------------------------------------------------------------------


class Step(NamedTuple):
    """One step's operands for one output."""

    pairs: list[tuple[float, float]]  #: of A and B
    exponents: list[int]  #: of the products, for aligned sums
    addend: int  #: of a stochastic rounding


def output(
    kernel: Kernel, table: NDArray[np.int64], chunks: list[list[Step]], between: list[int]
) -> tuple[float, int]:
    """One output from its chunks of steps and the chunks' random addends: (value, swamped steps)."""
    lane = FLOAT32 if kernel.bits == 32 else FLOAT64
    inner, outer = [int(x) for x in table[:BETWEEN]], [int(x) for x in table[BETWEEN:]]
    total, swamped = 0.0, 0
    for steps, random in zip(chunks, between, strict=True):
        acc = 0.0
        for step in steps:
            before = acc
            if kernel.order == "aligned":
                s = aligned(acc, step.pairs, step.exponents, inner)
            else:  # products, and pairs of them, are exact
                s = add(acc, sum(a * b for a, b in step.pairs), kernel.adder, lane)
            if kernel.exact_sums:
                acc = s
                continue
            acc = round_bits(s, kernel.rounding, step.addend, lane, inner)
            acc = limit(s, acc, kernel.rounding, step.addend, kernel, lane, inner)
            swamped += acc == before and sum(a * b for a, b in step.pairs) != 0
        if kernel.exact_sums:
            s, acc = acc, round_bits(acc, kernel.rounding, 0, lane, inner)
            acc = limit(s, acc, kernel.rounding, 0, kernel, lane, inner)
            acc = FLOAT32.unpack(FLOAT32.pack(acc))
        s = add(total, acc, kernel.between_adder, FLOAT32)
        total = round_bits(s, kernel.between, random, FLOAT32, outer)
        total = limit(s, total, kernel.between, random, kernel, FLOAT32, outer)
    return total, swamped
