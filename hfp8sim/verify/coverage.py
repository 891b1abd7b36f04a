"""Coverage of a vector set: named bins, and how many vectors fell into each.

The C reference counts (`ref_coverage` in `c_ref/hfp8_ref.h`). Here are the names of its bins, and which of them a
unit can reach with its formats and modes: a bin that no input can reach is not listed. A vector of `dot` is many
roundings; its bins count those.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from hfp8sim.formats import MODES, FloatFormat
from hfp8sim.formats.vocabulary import takes_random_bits

#: The bins of `difference` are centred here; `cancellation` has the complete one last.
_CENTRE, _ALL_BITS = 32, 31
_KINDS = ("zero", "finite", "infinite", "nan")
_POSITIONS = ("exact", "below half", "tie, lower even", "tie, lower odd", "above half")
_DRAWS = (
    "R zero", "R all ones", "R other", "rounded down", "rounded up", "one below a carry", "just a carry",
)  # fmt: skip
_RANGES = (
    "underflow to zero", "smallest number", "lowest binade", "middle", "largest number",
    "positive overflow", "negative overflow",
)  # fmt: skip
_FLAGS = ("inexact", "overflow", "underflow", "invalid")


@dataclasses.dataclass(frozen=True)
class Covered:
    """What coverage depends on: the unit, its modes, and the formats of its terms and result."""

    unit: str  #: convert, fma, fmma, add, products
    modes: tuple[int, ...]
    target: FloatFormat  #: of the result, and of the accumulator or total
    operands: tuple[FloatFormat, ...]  #: whose codes are multiplied, added or converted
    overflow: str
    draws: bool = True  #: whether `random` bins apply: not in steps that round twice

    @property
    def sums(self) -> bool:
        """Whether two terms are added."""
        return self.unit != "convert"

    @property
    def any_products(self) -> bool:
        """Whether the exact sum of several products is added."""
        return self.unit in ("fmma", "products")


#: A bin: group, index in the group's counts, label. Or a counted one: group, count, label.
Bin = tuple[str, int, str]


def bins(of: Covered) -> Iterator[Bin]:
    """The bins that the unit can reach, by group."""
    yield from _terms(of)
    if of.sums:
        yield from _sums(of)
    yield "carry", 2, "rounding"
    for mode in of.modes:
        for i, position in enumerate(_POSITIONS):
            yield "position", len(_POSITIONS) * mode + i, f"{MODES[mode]}: {position}"
        for i, sign in enumerate(("positive", "negative")):
            yield "sign", 2 * mode + i, f"{MODES[mode]}: {sign}"
        if of.sums:
            yield "swamped", mode, MODES[mode]
        if takes_random_bits(mode) and of.draws:
            first = mode - MODES.index("stochastic-a")
            for i, draw in enumerate(_DRAWS):
                yield "random", len(_DRAWS) * first + i, f"{MODES[mode]}: {draw}"
    vanishes = not of.sums or _sum_can_underflow(of)
    for i, name in enumerate(_RANGES):
        if i or vanishes:
            yield "range", i, name
    for i, name in enumerate(_FLAGS):
        if (name != "underflow" or vanishes) and (name != "invalid" or _can_be_invalid(of)):
            yield "flags", i, name


def _terms(of: Covered) -> Iterator[Bin]:
    """Kinds of the terms, or of the operand of a conversion."""
    kinds = [k for k in range(4) if _has_kind(of.target, k)]
    for i in _operand_kinds(of):
        if not of.sums:
            yield "terms", i, _KINDS[i]
        else:
            for k in kinds:
                yield "terms", 4 * k + i, f"{_KINDS[k]} + {_KINDS[i]}"


def _has_kind(fmt: FloatFormat, kind: int) -> bool:
    """Whether a format has zero, finite numbers, infinity, NaN."""
    return (fmt.zero != "none", True, fmt.has_inf, fmt.has_nan)[kind]


def _operand_kinds(of: Covered) -> list[int]:
    """Kinds of what is added: a product, a sum of two products, or a chunk; or of what is converted."""
    if of.unit == "convert":  # of binary32; a NaN without a code is not tried
        return [k for k in range(4) if k < 3 or of.target.has_nan]
    one = [any(_has_kind(fmt, k) for fmt in of.operands) for k in range(4)]
    one[3] |= one[2] and one[0] and of.unit != "add"  # 0 · infinity
    one[3] |= one[2] and of.any_products  # infinity − infinity
    one[0] |= of.any_products
    return [k for k in range(4) if one[k]]


def _sums(of: Covered) -> Iterator[Bin]:
    if of.unit == "fmma":
        for i, name in enumerate(("equal signs", "opposite signs", "sum is zero")):
            yield "pair", i, name
    bits = of.target.fraction_bits
    for d in range(-bits - 3, bits + 4):
        prefix = "≤ " if d == -bits - 3 else "≥ " if d == bits + 3 else ""
        yield "difference", _CENTRE + d, f"{prefix}{d}"
    yield "carry", 0, "no carry"
    yield "carry", 1, "carry"
    for lost in range(min(bits + 2, _most_cancelled(of)) + 1):
        yield "cancellation", lost, f"{'≥ ' if lost == bits + 2 else ''}{lost}"
    yield "cancellation", _ALL_BITS, "all"


def _most_cancelled(of: Covered) -> int:
    """The most leading bits that a non-zero sum loses.

    Terms of m and n bits whose exponents differ by at most 1 have a sum of at least one unit of the finer one: it
    loses at most max(m, n) bits.
    """
    if of.any_products:  # a sum of products has any number of bits
        return of.target.fraction_bits + 2
    addend = sum(fmt.fraction_bits + 1 for fmt in of.operands)
    return max(addend, of.target.fraction_bits + 1)


def _can_be_invalid(of: Covered) -> bool:
    return of.sums or of.target.has_nan or not of.target.signed or of.target.zero == "none"


def _sum_can_underflow(of: Covered) -> bool:
    """Whether a non-zero sum can be inexact below the smallest normal number.

    A tiny sum of non-zero terms is the difference of two that nearly cancel: a multiple of the finer one's last bit.
    """
    acc = of.target
    addend_bit = sum(fmt.facts.emin - fmt.fraction_bits for fmt in of.operands)
    acc_bit = acc.facts.emin - acc.fraction_bits
    if acc.lowest == "subnormal":
        return addend_bit < acc_bit
    smallest = float(np.prod([fmt.min_positive for fmt in of.operands]))
    exponent = addend_bit if of.any_products else math.frexp(smallest)[1] - 1
    unit = min(addend_bit, max(exponent - 1 - acc.fraction_bits, acc_bit))
    return 2.0**unit < acc.min_positive


#: Groups of a stage of `dot`. Its operands are numbers near 1, so that no sum leaves the range.
_STAGE_GROUPS = ("difference", "carry", "cancellation", "position", "sign", "swamped")


@dataclasses.dataclass(frozen=True)
class Stage:
    """What rounds in a `dot`: the steps of the accumulator, or the additions to the running total."""

    name: str  #: precedes the names of the groups
    of: Covered
    counts: dict[str, Any]
    is_first: bool = False  #: whether every sum begins at zero: then no groups of two terms apply

    def counted(self) -> Iterator[Bin]:
        """Group with the stage's name, count, label."""
        groups = ("position", "sign") if self.is_first else _STAGE_GROUPS
        for group, index, label in bins(self.of):
            if group in groups:
                yield f"{self.name} {group}", int(self.counts[group][index]), label


class Coverage:
    """Counts of the bins that a vector set can reach."""

    def __init__(self, counts: Iterable[Bin]) -> None:
        self.groups: dict[str, dict[str, int]] = {}
        for group, count, label in counts:
            self.groups.setdefault(group, {})[label] = count

    @classmethod
    def of_unit(cls, of: Covered, counts: dict[str, Any]) -> Coverage:
        """The coverage of a unit that rounds once: all of its bins."""
        return cls((group, int(counts[group][index]), label) for group, index, label in bins(of))

    @classmethod
    def of_dot(cls, stages: Iterable[Stage]) -> Coverage:
        """The coverage of whole dot products."""
        return cls(counted for stage in stages for counted in stage.counted())

    def __len__(self) -> int:
        return sum(map(len, self.groups.values()))

    @property
    def empty(self) -> list[str]:
        """`group: label` of bins without a vector."""
        return [
            f"{group}: {label}"
            for group, counts in self.groups.items()
            for label, count in counts.items()
            if not count
        ]

    def lines(self) -> list[str]:
        """One line a group: its bins with their counts."""
        head = f"coverage: {len(self) - len(self.empty)} of {len(self)} bins"
        return [head] + [
            f"{group}: " + "; ".join(f"{label} {count}" for label, count in counts.items())
            for group, counts in self.groups.items()
        ]
