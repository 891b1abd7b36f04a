"""What specialises a kernel, and the table of numbers that everything else comes in."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

#: Rows of A and columns of B in a panel: element (k, i) of a panel stands at k·PANEL + i.
PANEL = 16
#: Panels of columns that the widest tile reaches over.
WIDEST = 3

#: Places in a kernel's table of numbers (int64): first those of the steps, and from BETWEEN on the same
#: for the running total of chunks. Where a number is a float, its bits stand there, in a lane's width.
(
    SCALE_ADD,  # d « fraction width: adding it to a float's bits multiplies by 2^d
    SCALE,  # 2^d
    SCALE_LESS,  # 2^d − 1
    HALF,  # half a unit in the last kept place, as an addend to the bits
    KEEP,  # mask of the kept bits
    DROP,  # d: how many bits are cut off
    MAX,  # largest number
    OVER,  # what an overflow becomes, without its sign
    MIN,  # smallest positive number
    GAP,  # MIN·2^−d: what a unit of random addend weighs below the smallest number
    HASH_SHIFT,  # a hashed word's way to its place …
    HASH_KEEP,  # … and the mask of its random bits
    LOWEST,  # lowest exponent of the accumulator
    GUARD,  # fraction bits that an aligned sum keeps
    ABOVE,  # bits that tell numbers from what is below the smallest one
) = range(15)
BETWEEN = 16
NUMBERS = 32

#: Kinds of events, in the order of the array of counts.
SWAMPED, OVERFLOWED, UNDERFLOWED = range(3)
EVENTS = 3
#: The exponent of a zero, in the panels of exponents that `aligned` sums read.
NO_EXPONENT = -(1 << 20)


class Kernel(NamedTuple):
    """What specialises a kernel. Its `name` is the compile-time argument of `tile`."""

    bits: int  #: of a lane's float: 32 or 64
    lanes: int  #: of a vector
    rows: int  #: of a register tile
    vectors: int  #: of a register tile, side by side
    products: (
        int  #: of a step: 1, 2 or (aligned) more; 0: exact sums, rounded when the chunk closes
    )
    order: (
        str  #: fused (a step's products first), serial (one by one: all sums are exact), or aligned
    )
    rounding: str  #: none, even, away, zero, random (row ^ column) or hash (a hash of that)
    adder: str  #: nearest, chop, or down: then both neighbours are computed and the odd one taken
    between: str  #: rounding of the running total, as `rounding`
    between_adder: str
    over: str  #: free (proved impossible), clamp, nan (which then stays), or replace
    #: free, flush (by the processor, where that is exact), test (bits tell), edge (both: the processor
    #: flushes what is below the edge, and bits tell what is on it), or cut (by comparison)
    under: str
    #: quiet, count, or unchanged: count, but steps that add zero as swamped ones too, see `zeros`
    events: str
    #: of a chunk, its first step: rounded, or exact: the accumulator holds every product
    opening: str
    extension: str  #: none, or avx512dq: instructions of that name may be used

    @property
    def name(self) -> str:
        return " ".join(str(field) for field in self)

    @classmethod
    def parse(cls, name: str) -> Kernel:
        fields = name.split(" ")
        return cls(*map(int, fields[:5]), *fields[5:])  # type: ignore[arg-type]

    @property
    def narrow(self) -> Kernel:
        """The kernel for the panels of columns that are left over by tiles more than one panel wide."""
        return self if self.panels == 1 else self._replace(rows=2 * self.rows, vectors=1)

    @property
    def panels(self) -> int:
        """Panels of columns that a tile reaches over."""
        return max(1, self.vectors * self.lanes // PANEL)

    @property
    def strict(self) -> bool:
        """Whether the processor's control register is changed."""
        return {self.adder, self.between_adder} != {"nearest"} or self.flushes

    @property
    def flushes(self) -> bool:
        """Whether the processor is told to flush what is below its normal numbers."""
        return self.under in ("flush", "edge")

    @property
    def lag(self) -> int:
        """Rows of the tile that are added to before a row's sums are rounded; 0: a step's sums are rounded in it.
        Only where rounding is all that happens to a sum, and rounding it again changes nothing."""
        plain = self.over in ("free", "nan") and self.under != "flush" and self.adder != "down"
        same_again = self.rounding in ("even", "away", "zero")
        one = self.products == 1 and self.order == "fused"
        lags = plain and same_again and one and self.events == "quiet"
        return 5 * self.rows // 8 if lags else 0

    @property
    def group(self) -> int:
        """How many sums are added, then rounded, before the code turns to others. A compiler would put all
        multiplications first, for their latency, and run out of registers, or mix the wrong things."""
        if self.events == "unchanged":
            return 8
        return 4 if self.products == 2 or self.events == "count" else self.rows * self.vectors

    @property
    def ordered(self) -> bool:
        """Whether the code keeps the order in which it is written."""
        return self.bits * self.lanes == 512 and (
            self.lag > 0 or self.group < self.rows * self.vectors
        )

    @property
    def exact_sums(self) -> bool:
        """Whether a chunk is summed exactly and rounded once."""
        return self.products == 0


def float_bits(value: float, bits: int) -> int:
    """The bits of a float32 or float64 as an unsigned integer."""
    if bits == 32:
        return int(np.float32(value).view(np.uint32))
    return int(np.float64(value).view(np.uint64))
