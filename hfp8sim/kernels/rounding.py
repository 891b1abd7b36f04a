"""One rounding of a vector of sums, as generated code."""

from __future__ import annotations

from hfp8sim._numba.simd import Lanes, Pointer, Value
from hfp8sim.kernels.counts import Counter
from hfp8sim.kernels.form import OVERFLOWED, UNDERFLOWED, Adder, Mode, Overflow, Underflow
from hfp8sim.kernels.kernel import Kernel
from hfp8sim.kernels.numbers import word_index
from hfp8sim.units.random import LOWBIAS_1, LOWBIAS_2

#: The numbers that a rounding mode takes, by mode.
_NUMBERS_OF_MODE = {
    Mode.NONE: (),
    Mode.EVEN: ("scale_add",),
    Mode.AWAY: ("half", "keep"),
    Mode.ZERO: ("keep",),
    Mode.RANDOM: ("keep",),
    Mode.HASH: ("keep", "hash_shift", "hash_keep"),
}


class Rounding:
    """One of a kernel's two roundings, with its numbers in registers.

    Args:
        lanes: vectors of the sums.
        numbers: address of the kernel's `NUMBERS`, as 64-bit words.
        part: `intra` or `inter`.
    """

    def __init__(self, lanes: Lanes, kernel: Kernel, numbers: Pointer, part: str) -> None:
        self.lanes, self.kernel, self.numbers, self.part = lanes, kernel, numbers, part
        form, inter = kernel.form, part == "inter"
        self.mode, self.adder = form.inter if inter else form.intra
        self.underflow, self.overflow = form.underflow, form.overflow
        if self.overflow is not Overflow.IMPOSSIBLE and (inter or form.exact_chunks):
            self.overflow = Overflow.REPLACE  # once a chunk: its cost does not matter
        #: Whether the largest magnitude of each sum is recorded. Overflow to NaN is sticky, so it is enough to
        #: test that magnitude at the chunk's end.
        self.watched = self.overflow is Overflow.NAN
        self.registers: dict[str, Value] = {}

    def load(self) -> None:
        """Load the numbers into registers, outside of the loop over steps."""
        names = _NUMBERS_OF_MODE[self.mode]
        if self.mode is Mode.EVEN and self.adder is Adder.ODD:
            names = ("half", "keep", "drop")
        if self.overflow is not Overflow.IMPOSSIBLE:
            names += ("largest", "over")
        if self.underflow is Underflow.COMPARE:
            names += ("smallest", "gap")
        if self.underflow.tests_bits:
            names += ("above",)
        for name in names:
            self.registers[name] = load_number(self.lanes, self.numbers, self.part, name)

    def number(self, name: str) -> Value:
        """One of the numbers that are floats."""
        if name in self.registers:
            return self.registers[name].floats()
        return load_number(self.lanes, self.numbers, self.part, name).floats()

    # -- sums

    def sum(self, a: Value, b: Value | None, c: Value) -> Value:
        """a·b + c (b None: a + c) by the adder.

        `Adder.ODD`: the direction is down, and −(−a − c) is the upper neighbour of the sum. Of two different
        neighbours the odd one is the sum rounded to odd.
        """
        low = a + c if b is None else a.times_plus(b, c)
        if self.adder is not Adder.ODD:
            return low
        high = -a + -c if b is None else (-a).times_plus(b, -c)
        lower, upper = low.words(), (-high).words()
        return lower.where((lower & 1).differs(0), upper).floats()

    # -- rounding

    def round(
        self, s: Value, random: Value | None, i: int, terms: list[Value], counter: Counter
    ) -> Value:
        """The sum s in the accumulator's precision and range.

        Args:
            random: the addend of a stochastic rounding.
            i: its index in the tile: sums may be rounded by different instructions.
            terms: those of the sum's terms that may be infinite: then an infinite sum is no overflow.
            counter: takes the events.
        """
        if self.mode is Mode.NONE:
            return self._limit_above(s, terms, counter)
        if self.mode is Mode.EVEN and self.adder is not Adder.ODD:
            uncut = rounded = self._nearest_even_in_floats(s, i)
        else:
            uncut, rounded = self._in_words(s, random)
        if self.underflow not in (Underflow.IMPOSSIBLE, Underflow.FLUSH):
            rounded = self._limit_below(s, uncut, rounded, random, counter)
        return self._limit_above(rounded, terms, counter)

    def _in_words(self, s: Value, random: Value | None) -> tuple[Value, Value]:
        """Add below the last kept bit, then cut: magnitudes are integers, and carries run into the exponent.

        Returns:
            The sum before the cut, and after it.
        """
        bits, numbers = s.words(), self.registers
        if self.mode is Mode.EVEN:
            last = bits >> numbers["drop"] & 1
            bits = bits + (numbers["half"] - 1 + last)
        elif self.mode is Mode.AWAY:
            bits = bits + numbers["half"]
        elif random is not None:
            bits = bits + random
        return bits.floats(), (bits & numbers["keep"]).floats()

    def _nearest_even_in_floats(self, s: Value, i: int) -> Value:
        """q − (q − s) with q = 2^d·s, where q − s = s·(2^d − 1) may be computed by a multiplication, too:
        each is correctly rounded. Sums alternate between the two spellings, see `Target.multiplied`."""
        # Of an infinity the spelling by multiplications makes a NaN.
        if i % 8 in self.kernel.target.multiplied and self.overflow is not Overflow.REPLACE:
            rest = s * self.number("scale_less_one")
            return s.times_plus(self.number("scale"), -rest)
        q = (s.words() + self.registers["scale_add"]).floats()
        return q - (q - s)

    def random(self, row: Value, column: Value) -> Value:
        """The addend of a stochastic rounding, from a row's and a column's word."""
        lanes, x = self.lanes, row ^ column
        if self.mode is Mode.RANDOM:
            return x
        # mix32. Its first x ^= x >> 16 is linear over xor, and both words have it already. Its last one
        # cannot reach the 16 highest bits, and no more are used.
        x = x * int(LOWBIAS_1)
        if lanes.bits == 64:
            x = x & 0xFFFFFFFF
        x = x ^ x >> 15
        x = x * int(LOWBIAS_2)
        if lanes.bits == 64:  # to the top of the lane, as in a lane of 32 bits
            x = x << 32
        return x >> self.registers["hash_shift"] & self.registers["hash_keep"]

    # -- limits

    def _limit_below(
        self, s: Value, uncut: Value, rounded: Value, random: Value | None, counter: Counter
    ) -> Value:
        """A rounded sum; zero where it is below the smallest number. A NaN stays."""
        # A number is below MIN before it is cut if it is so afterwards. The selection is of words, as the cut
        # is: the compiler makes one instruction of both.
        if self.underflow is not Underflow.COMPARE:
            above = uncut.words() & self.registers["above"]
            keep = above.differs(0)
            rounded = rounded.words().where(keep, 0).floats()
        elif self.mode.stochastic and random is not None:
            rounded = self._limit_below_stochastic(s, rounded, random)
        else:
            keep = uncut.absolute().not_below(self.number("smallest"))
            rounded = rounded.words().where(keep, 0).floats()
        if counter.counts_events:
            gone = rounded.equals(self.lanes.zero())
            counter.add(UNDERFLOWED, gone & s.differs(self.lanes.zero()))
        return rounded

    def _limit_below_stochastic(self, s: Value, rounded: Value, random: Value) -> Value:
        """Between zero and MIN the probability of MIN is |s|/MIN: MIN is taken where
        |s| ≥ (2^d − random)·2^−d·MIN, which is a number of the lane."""
        magnitude, smallest = s.absolute(), self.number("smallest")
        rest = self.lanes.const(0) - self.registers["keep"] - random
        limit = self.lanes.from_int(rest) * self.number("gap")
        up = magnitude >= limit
        inside = magnitude < smallest
        either = smallest.with_sign_of(s).where(up, self.lanes.zero())
        return either.where(inside, rounded)

    def _limit_above(self, s: Value, terms: list[Value], counter: Counter) -> Value:
        """A rounded sum within the largest number."""
        if self.overflow in (Overflow.IMPOSSIBLE, Overflow.NAN):
            return s
        largest = self.registers["largest"].floats()
        if self.overflow is Overflow.CLAMP:
            return self.lanes.nearer_to_zero(s, largest, self.kernel.vrange)
        infinity = self.lanes.infinity()
        over = s.absolute() > largest  # False for a NaN, which stays
        if self.mode is Mode.ZERO:  # an infinity stays, too: finite terms are never chopped to one
            over = over & (s.absolute() < infinity)
        if counter.counts_events:
            new = over
            for term in terms:
                new = new & (term.absolute() < infinity)
            counter.add(OVERFLOWED, new)
        return self.number("over").with_sign_of(s).where(over, s)

    def watch(self, most: Value, s: Value) -> Value:
        """The larger of `most` and |s|."""
        return self.lanes.larger_magnitude(most, s, self.kernel.vrange)

    def poison(self, s: Value, most: Value) -> Value:
        """NaN where a sum on the way to s was beyond the largest number."""
        over = most > self.number("largest")
        return self.number("over").where(over, s)


def load_number(lanes: Lanes, numbers: Pointer, *fields: str) -> Value:
    """A number of a kernel's `NUMBERS` in all lanes, as words."""
    value = (numbers + word_index(*fields)).load()
    return value.cut(lanes.word).splat(lanes.lanes)
