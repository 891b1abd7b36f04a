"""What a kernel computes (`Form`), how its sums are laid out in registers (`Tiling`), and shared constants.

A form is proved from number formats, bounds and depth alone (`select.py`; docs/speed.md, "Why each path is
exact"). No processor occurs in it; all facts about processors are in `target.py`.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import NamedTuple

#: Rows of A, or columns of B, in a panel: element (k, i) of a panel is at index k·PANEL + i.
PANEL = 16
#: Panels of columns that the widest register tile of float32 or float64 lanes covers.
WIDEST = 3
#: Columns of B in a panel of binary16 numbers, see `half.py`. A panel of A's has PANEL rows.
HALF_COLUMNS = 32
#: Steps of a row that a word lists, see `nonzeros.list_panel`.
WORD = 64

#: Kinds of events, in the order of the array of counts.
SWAMPED, OVERFLOWED, UNDERFLOWED = range(3)
EVENTS = 3
#: The exponent of a zero in the panels of exponents that aligned sums read.
NO_EXPONENT = -(1 << 20)


class Lane(IntEnum):
    """The float type of a vector's lane; the value is its width in bits."""

    FLOAT16 = 16
    FLOAT32 = 32
    FLOAT64 = 64

    @property
    def bytes(self) -> int:
        """Width in bytes."""
        return self.value // 8

    @property
    def fraction_bits(self) -> int:
        """Fraction bits of the float: 10, 23 or 52."""
        return {Lane.FLOAT16: 10, Lane.FLOAT32: 23, Lane.FLOAT64: 52}[self]

    @property
    def precision(self) -> int:
        """Bits of the significand, the leading one included: 11, 24 or 53."""
        return self.fraction_bits + 1


class Order(StrEnum):
    """How the products of a step are added."""

    FUSED = "fused"
    """The products are added exactly, then their sum to the accumulator: acc + (p₀ + p₁)."""
    SERIAL = "serial"
    """The products are added one by one. All these sums are exact in a lane."""
    ALIGNED = "aligned"
    """All terms are cut to a common grid below the largest exponent, then added as integers."""


class Mode(StrEnum):
    """A rounding mode. The value is its name in kernel names."""

    NONE = "none"
    """The accumulator is as wide as a lane: the adder's own rounding is the rounding."""
    EVEN = "even"
    """To nearest, ties to even."""
    AWAY = "away"
    """To nearest, ties away from zero."""
    ZERO = "zero"
    """Toward zero."""
    RANDOM = "random"
    """Stochastic; the random word is the row's word xor the column's word."""
    HASH = "hash"
    """Stochastic; the random word is a hash of the row's word xor the column's word."""

    @property
    def stochastic(self) -> bool:
        """Whether random words are added."""
        return self in (Mode.RANDOM, Mode.HASH)

    @property
    def nearest(self) -> bool:
        """Whether the error is at most half a unit in the last place (ulp)."""
        return self in (Mode.EVEN, Mode.AWAY)


class Adder(StrEnum):
    """How a lane's adder rounds the sum, before the sum is rounded to the accumulator's precision."""

    NEAREST = "near"
    """To nearest, ties to even: the processor's usual rounding direction."""
    CHOP = "chop"
    """Toward zero."""
    ODD = "odd"
    """To odd: computed rounded down and rounded up; of two different results the odd one is taken."""


class Overflow(StrEnum):
    """What happens to a sum beyond the accumulator's largest number."""

    IMPOSSIBLE = "bounded"
    """No sum can be so large."""
    CLAMP = "clamp"
    """It becomes the largest number."""
    NAN = "nan"
    """It becomes NaN. The largest magnitude is recorded, and tested when the chunk ends."""
    REPLACE = "replace"
    """It is replaced by a given value (the largest number, infinity or NaN) in each step."""


class Underflow(StrEnum):
    """What happens to a sum below the accumulator's smallest number."""

    IMPOSSIBLE = "normal"
    """No sum but zero can be so small."""
    FLUSH = "flush"
    """The processor flushes it to zero: it is subnormal in the lane."""
    BIT = "bit"
    """It is detected by a bit of the lane's exponent field: the smallest number is scaled to 2."""
    EDGE = "edge"
    """The processor flushes smaller sums; the sum just below the smallest number is detected by its bits."""
    COMPARE = "compare"
    """Each sum is compared with the smallest number."""

    @property
    def flushes(self) -> bool:
        """Whether the processor's flush-to-zero mode is used."""
        return self in (Underflow.FLUSH, Underflow.EDGE)

    @property
    def tests_bits(self) -> bool:
        """Whether a sum that is too small is detected by its bits."""
        return self in (Underflow.BIT, Underflow.EDGE)


class Opening(StrEnum):
    """How the first step of a chunk, which adds to zero, is computed."""

    ROUNDED = "rounded"
    """As any other step."""
    EXACT = "exact"
    """Without a rounding: the accumulator can represent every product."""


class Counting(StrEnum):
    """How events are counted."""

    NONE = "quiet"
    """They are not."""
    EVENTS = "events"
    """Each step is compared with the sum before it, and with what it adds."""
    UNCHANGED = "unchanged"
    """Each step is compared with the sum before it alone. Steps that add zero are then counted as swamped
    too; `zero_products.py` counts those."""


class RoundingForm(NamedTuple):
    """One of a kernel's two roundings: of sums in a chunk, or of the running total of chunks."""

    mode: Mode
    adder: Adder


class Form(NamedTuple):
    """The arithmetic of a kernel."""

    lane: Lane  #: the float type of the sums in a chunk; running totals are always float32
    products: int  #: products per step; 0: a chunk is summed exactly, and rounded when it ends
    order: Order
    intra: RoundingForm  #: intra-chunk: of the sum of a step
    inter: RoundingForm  #: inter-chunk: of the running total
    overflow: Overflow
    underflow: Underflow
    opening: Opening

    @property
    def width(self) -> int:
        """Elements of k that a step reads."""
        return max(self.products, 1)

    @property
    def exact_chunks(self) -> bool:
        """Whether a chunk is summed exactly and rounded once."""
        return self.products == 0

    @property
    def one_product(self) -> bool:
        """Whether a step is one multiply-add."""
        return self.products == 1 and self.order is Order.FUSED

    @property
    def directed(self) -> bool:
        """Whether a rounding direction other than to nearest is used."""
        return {self.intra.adder, self.inter.adder} != {Adder.NEAREST}

    @property
    def idempotent(self) -> bool:
        """Whether rounding is all that happens to a sum, and rounding it again changes nothing."""
        return (
            self.one_product
            and self.intra.mode in (Mode.EVEN, Mode.AWAY, Mode.ZERO)
            and self.intra.adder is not Adder.ODD
            and self.overflow in (Overflow.IMPOSSIBLE, Overflow.NAN)
            and self.underflow is not Underflow.FLUSH
        )


class Tiling(NamedTuple):
    """How the sums of a register tile are arranged, and in what order they are computed."""

    rows: int  #: of the register tile
    vectors: int  #: vectors of columns in a row of it
    #: Rows that are added to before a row is rounded (software pipelining); 0: each step rounds its own sums.
    lag: int
    #: Scheduling group: sums whose multiply-adds are issued together, followed by their roundings.
    group: int
