"""One rounding of a vector of sums, as the kernel generator writes it."""

from __future__ import annotations

from llvmlite import ir

from hfp8sim._numba.simd import Lanes
from hfp8sim.kernels import form as at
from hfp8sim.kernels.counts import Marks
from hfp8sim.kernels.form import Kernel

_HASH1, _HASH2 = 0x7FEB352D, 0x846CA68B  # mix32, docs/numerics.md section 4


class Rounding:
    """One of a kernel's two roundings, with its numbers in registers."""

    def __init__(self, lanes: Lanes, kernel: Kernel, numbers: ir.Value, base: int) -> None:
        self.l, self.kernel, self.numbers, self.base = lanes, kernel, numbers, base
        between = base == at.BETWEEN
        self.kind = kernel.between if between else kernel.rounding
        self.adder = kernel.between_adder if between else kernel.adder
        self.over = kernel.over
        if kernel.over != "free" and (between or kernel.exact_sums):
            self.over = "replace"  # once a chunk: any way, told by OVER
        #: A NaN stays, whatever is added: it is enough to know in the end how far the sums went.
        self.watched = self.over == "nan"
        self.kept: dict[int, ir.Value] = {}

    def load(self) -> None:
        """Bring the numbers into registers (here, not inside the loop)."""
        wanted = {
            "none": [],
            "even": [at.SCALE_ADD],
            "away": [at.HALF, at.KEEP],
            "zero": [at.KEEP],
            "random": [at.KEEP],
            "hash": [at.KEEP, at.HASH_SHIFT, at.HASH_KEEP],
        }[self.kind]
        if self.kind == "even" and self.adder == "down":
            wanted = [at.HALF, at.KEEP, at.DROP]
        if self.over != "free":
            wanted = [*wanted, at.MAX, at.OVER]
        if self.kernel.under == "cut":
            wanted = [*wanted, at.MIN, at.GAP]
        if self.kernel.under in ("test", "edge"):
            wanted = [*wanted, at.ABOVE]
        if self.kernel.order == "aligned" and self.base == 0:
            wanted = [*wanted, at.LOWEST, at.GUARD]
        for place in wanted:
            self.kept[place] = self._number(place)

    def _number(self, place: int) -> ir.Value:
        b = self.l.b
        value = b.load(b.gep(self.numbers, [ir.IntType(64)(self.base + place)]))
        if self.l.bits == 32:
            value = b.trunc(value, ir.IntType(32))
        return self.l.splat(value)

    def number(self, place: int) -> ir.Value:
        """One of the numbers that are floats."""
        kept = self.kept[place] if place in self.kept else self._number(place)
        return self.l.as_floats(kept)

    # -- sums

    def sum(self, a: ir.Value, b: ir.Value | None, c: ir.Value) -> ir.Value:
        """a·b + c (b None: a + c) by the adder.

        `down` rounds down: −(−a − c) is then the upper neighbour of a + c. Of two different neighbours one
        is odd, and stands for everything between them: rounding to odd.
        """
        lanes = self.l
        low = lanes.add(a, c) if b is None else lanes.fma(a, b, c)
        if self.adder != "down":
            return low
        minus = lanes.b.fneg
        high = lanes.add(minus(a), minus(c)) if b is None else lanes.fma(minus(a), b, minus(c))
        low, high = lanes.as_words(low), lanes.as_words(minus(high))
        odd = lanes.b.icmp_unsigned("!=", lanes.b.and_(low, lanes.const(1)), lanes.const(0))
        return lanes.as_floats(lanes.b.select(odd, low, high))

    # -- rounding

    def round(
        self, s: ir.Value, random: ir.Value | None, i: int, terms: list[ir.Value], marks: Marks
    ) -> ir.Value:
        """The sum s in the accumulator's precision and range.

        Args:
            random: the addend of a stochastic rounding.
            i: its number in the tile (sums may be rounded by different instructions).
            terms: of the sum, that may be infinite: then an infinite sum is no overflow.
        """
        if self.kind == "none":
            return self._limit_above(s, terms, marks)
        if self.kind == "even" and self.adder != "down":
            uncut = rounded = self._nearest_even_in_floats(s, i)
        else:
            uncut, rounded = self._in_words(s, random)
        if self.kernel.under in ("cut", "test", "edge"):
            rounded = self._limit_below(s, uncut, rounded, random, marks)
        return self._limit_above(rounded, terms, marks)

    def _in_words(self, s: ir.Value, random: ir.Value | None) -> tuple[ir.Value, ir.Value]:
        """Add below the last kept bit, then cut: magnitudes are integers, carries run into exponents.
        (before the cut, after it)"""
        lanes, b = self.l, self.l.b
        bits = lanes.as_words(s)
        if self.kind == "even":
            last = b.and_(b.lshr(bits, self.kept[at.DROP]), lanes.const(1))
            bits = b.add(bits, b.add(b.sub(self.kept[at.HALF], lanes.const(1)), last))
        elif self.kind == "away":
            bits = b.add(bits, self.kept[at.HALF])
        elif self.kind in ("random", "hash"):
            bits = b.add(bits, random)
        return lanes.as_floats(bits), lanes.as_floats(b.and_(bits, self.kept[at.KEEP]))

    def _nearest_even_in_floats(self, s: ir.Value, i: int) -> ir.Value:
        """q − (q − s) with q = 2^d·s. Two spellings of the same bits load different execution ports, so
        sums alternate: q − s = s·(2^d − 1), each correctly rounded."""
        lanes = self.l
        if i % 8 in (0, 2, 5) and self.over != "replace":  # (of an ∞ this spelling makes NaN)
            rest = lanes.mul(s, self.number(at.SCALE_LESS))
            return lanes.fma(s, self.number(at.SCALE), lanes.b.fneg(rest))
        q = lanes.as_floats(lanes.b.add(lanes.as_words(s), self.kept[at.SCALE_ADD]))
        return lanes.sub(q, lanes.sub(q, s))

    def random(self, row: ir.Value, column: ir.Value) -> ir.Value:
        """The addend of a stochastic rounding from a row's and a column's word."""
        lanes, b = self.l, self.l.b
        x = b.xor(row, column)
        if self.kind == "random":
            return x
        # mix32. Its first x ^= x >> 16 is linear over xor, and is already in both words; its last one
        # cannot reach the 16 highest bits, and no more are used.
        x = b.mul(x, lanes.const(_HASH1))
        if lanes.bits == 64:
            x = b.and_(x, lanes.const(0xFFFFFFFF))
        x = b.xor(x, b.lshr(x, lanes.const(15)))
        x = b.mul(x, lanes.const(_HASH2))
        if lanes.bits == 64:  # to the top of the lane, as in one of 32 bits
            x = b.shl(x, lanes.const(32))
        return b.and_(b.lshr(x, self.kept[at.HASH_SHIFT]), self.kept[at.HASH_KEEP])

    # -- limits

    def _limit_below(
        self, s: ir.Value, uncut: ir.Value, rounded: ir.Value, random: ir.Value | None, marks: Marks
    ) -> ir.Value:
        lanes, b = self.l, self.l.b
        # A number is below MIN before it is cut if it is so afterwards. (A NaN stays.) The selection is of
        # words, as the cut is: one instruction.
        if self.kernel.under != "cut":
            above = b.and_(lanes.as_words(uncut), self.kept[at.ABOVE])
            keep = b.icmp_unsigned("!=", above, lanes.const(0))
            rounded = lanes.as_floats(b.select(keep, lanes.as_words(rounded), lanes.const(0)))
        elif self.kind in ("random", "hash"):
            # Between zero and MIN, |s|/MIN is the probability of MIN: it is taken where
            # |s| ≥ (2^d − random)·2^−d·MIN, which is a number of the lane.
            magnitude, smallest = lanes.absolute(s), self.number(at.MIN)
            rest = b.sub(b.sub(lanes.const(0), self.kept[at.KEEP]), random)
            limit = lanes.mul(lanes.from_int(rest), self.number(at.GAP))
            up = b.fcmp_ordered(">=", magnitude, limit)
            inside = b.fcmp_ordered("<", magnitude, smallest)
            either = b.select(up, lanes.with_sign_of(smallest, s), lanes.zero())
            rounded = b.select(inside, either, rounded)
        else:
            keep = b.fcmp_unordered(">=", lanes.absolute(uncut), self.number(at.MIN))
            rounded = lanes.as_floats(b.select(keep, lanes.as_words(rounded), lanes.const(0)))
        if marks.wanted:
            gone = b.fcmp_ordered("==", rounded, lanes.zero())
            lost = b.and_(gone, b.fcmp_ordered("!=", s, lanes.zero()))
            marks.add(at.UNDERFLOWED, lanes, lost)
        return rounded

    def _limit_above(self, s: ir.Value, terms: list[ir.Value], marks: Marks) -> ir.Value:
        lanes, b = self.l, self.l.b
        largest = self.kept.get(at.MAX)
        if self.over == "free" or self.watched or largest is None:
            return s
        largest = lanes.as_floats(largest)
        if self.over == "clamp":
            return lanes.nearer_to_zero(s, largest, self.kernel.extension)
        over = b.fcmp_ordered(">", lanes.absolute(s), largest)  # (a NaN stays)
        if self.kind == "zero":  # and so does an infinity: finite terms never chop to one
            over = b.and_(over, b.fcmp_ordered("<", lanes.absolute(s), lanes.infinity()))
        if marks.wanted:
            new = over
            for term in terms:
                new = b.and_(new, b.fcmp_ordered("<", lanes.absolute(term), lanes.infinity()))
            marks.add(at.OVERFLOWED, lanes, new)
        return b.select(over, lanes.with_sign_of(self.number(at.OVER), s), s)

    def watch(self, most: ir.Value, s: ir.Value) -> ir.Value:
        """The larger of `most` and |s|."""
        return self.l.larger_magnitude(most, s, self.kernel.extension)

    def poison(self, s: ir.Value, most: ir.Value) -> ir.Value:
        """NaN where a sum on the way to s went beyond the largest number."""
        over = self.l.b.fcmp_ordered(">", most, self.number(at.MAX))
        return self.l.b.select(over, self.number(at.OVER), s)
