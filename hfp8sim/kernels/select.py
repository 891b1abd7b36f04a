"""Which kernel computes a GEMM, and why it is right: `plan`.

Every condition below is a proof obligation of docs/speed.md, section "Why each path is exact". What no
kernel is proved right for has `kernel = None` and goes through the plain integer loop.

Notation, as there: p significand bits of the accumulator, w of a product (the sum of the operands'), 2^g a
common quantum of all products and sums, P a bound on one product's magnitude.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import platform
from typing import NamedTuple

import numba
import numpy as np
from numba.core.registry import cpu_target
from numpy.typing import NDArray

from hfp8sim._numba.calls import address
from hfp8sim.formats import FloatFormat, get_format
from hfp8sim.kernels import form as at
from hfp8sim.kernels.form import BETWEEN, NUMBERS, Kernel, float_bits
from hfp8sim.kernels.macrokernel import runner
from hfp8sim.kernels.pack import NOTHING, Scan, Words, steps_before
from hfp8sim.kernels.zero_products import TABLE_BITS, SlopeIds, slope_ids
from hfp8sim.units.profile import Profile

_FRACTION = {32: 23, 64: 52}  # fraction bits of a lane's float
_LOWEST_NORMAL = -126  # exponent, of float32


# -- the processor -----------------------------------------------------------------------------------


class Processor(NamedTuple):
    """What the kernels need to know of the processor that Numba compiles for."""

    lanes: int  #: float32 lanes of a vector
    fused: bool  #: has fused multiply-add
    control: bool  #: its rounding direction can be set (x86)
    extension: str  #: none, or avx512dq


@functools.cache
def processor() -> Processor:
    """The processor, as Numba's own settings (NUMBA_CPU_NAME, NUMBA_CPU_FEATURES) describe it."""
    features = cpu_target.target_context.codegen().magic_tuple()[2].split(",")
    lanes = 16 if "+avx512f" in features else 8 if "+avx2" in features else 4
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    extension = "avx512dq" if lanes == 16 and "+avx512dq" in features else "none"
    return Processor(lanes, "+fma" in features, x86, extension)


# -- the plan ----------------------------------------------------------------------------------------


class WordsOfSide(NamedTuple):
    """How the random words of rows, or of columns, are prepared; None: there are none."""

    of_steps: Words | None = None
    of_chunks: Words | None = None


_NO_WORDS = WordsOfSide()
_ROUNDING_NAMES = {
    "none": "unrounded",
    "even": "nearest-even",
    "away": "nearest-away",
    "zero": "toward-zero",
    "random": "stochastic",
    "hash": "stochastic by hash",
}
_ORDER_NAMES = {"serial": "one by one", "aligned": "aligned"}
_ADDER_NAMES = {"nearest": "", "chop": "chopping adder", "down": "round-to-odd adder"}
_OVER_NAMES = {"free": "", "clamp": "clamps", "nan": "watches for NaN", "replace": "tests overflow"}
_UNDER_NAMES = {
    "free": "",
    "flush": "flushes in hardware",
    "cut": "tests underflow",
    "test": "tests underflow by a bit",
    "edge": "flushes in hardware but for the edge",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """The choice for one GEMM, and all that a kernel must be told. `str` gives one line."""

    kernel: Kernel | None  #: None: the plain integer loop
    why: str
    scale: int = 0  #: panels of A, and the accumulators, carry a factor of 2^scale
    numbers: NDArray[np.int64] = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    chunk_length: int = 0  #: products; the whole K where there are no chunks
    row_words: WordsOfSide = _NO_WORDS
    column_words: WordsOfSide = _NO_WORDS
    formats: tuple[FloatFormat, ...] = ()  #: of the operands

    @property
    def name(self) -> str:
        """A short name of the path."""
        k = self.kernel
        if k is None:
            return "plain integer loop"
        steps = {0: "exact chunks", 1: "1 product"}.get(k.products, f"{k.products} products")
        parts = [
            f"float{k.bits}×{k.lanes} {_ROUNDING_NAMES[k.rounding]}",
            steps if k.order == "fused" else f"{steps} {_ORDER_NAMES[k.order]}",
            _ADDER_NAMES[k.adder], _OVER_NAMES[k.over], _UNDER_NAMES[k.under],
            "counts events" if k.events != "quiet" else "",
        ]  # fmt: skip
        return ", ".join(part for part in parts if part)

    def __str__(self) -> str:
        return f"{self.name}: {self.why}"

    @functools.cached_property
    def products(self) -> int:
        """Products of a step, as panels are laid out."""
        return max(self.kernel.products, 1) if self.kernel else 1

    @functools.cached_property
    def steps_per_chunk(self) -> int:
        """Steps of a whole chunk."""
        return -(-self.chunk_length // self.products)

    @functools.cached_property
    def counts_zero_sums(self) -> bool:
        """Whether the kernel counts steps that add zero as swamped."""
        return self.kernel is not None and self.kernel.events == "unchanged"

    @functools.cached_property
    def slope_ids(self) -> SlopeIds | None:
        """Tables for counting steps of two products that add zero, if the kernel counts them as swamped."""
        return slope_ids(*self.formats) if self.counts_zero_sums and self.products == 2 else None

    @functools.cached_property
    def aligned(self) -> bool:
        """Whether the terms of a step are aligned: panels then have exponents."""
        return self.kernel is not None and self.kernel.order == "aligned"

    @functools.cached_property
    def function(self) -> int:
        """The address of the kernel's loop nest."""
        assert self.kernel is not None
        return address(runner(self.kernel))

    @functools.cached_property
    def lane_float(self) -> type[np.float32] | type[np.float64]:
        """The type of a lane."""
        return np.float64 if self.kernel and self.kernel.bits == 64 else np.float32

    @functools.cached_property
    def lane_word(self) -> type[np.uint32] | type[np.uint64]:
        """The unsigned integer as wide as a lane."""
        return np.uint64 if self.kernel and self.kernel.bits == 64 else np.uint32

    @functools.cached_property
    def lane_bytes(self) -> int:
        """The size of a lane."""
        return self.lane_float().itemsize

    def words(self, of_a: bool) -> WordsOfSide:
        """Of the rows (side A) or the columns (side B)."""
        return self.row_words if of_a else self.column_words

    def step_number(self, k: int) -> int:
        """The number of the step that begins at k; of steps there are before k."""
        return steps_before(k, self.products, self.chunk_length)

    def most_steps(self, depth: int) -> int:
        """Steps that a range of so many k has at most, wherever it begins."""
        if self.chunk_length % self.products == 0:
            return -(-depth // self.products)
        return depth // self.products + depth // self.chunk_length + 2

    @functools.cached_property
    def draws(self) -> bool:
        """Whether panels have random words."""
        return self.row_words != _NO_WORDS


@functools.lru_cache(4096)
def plan(
    profile: Profile,
    a_format: FloatFormat,
    b_format: FloatFormat,
    a: Scan,
    b: Scan,
    depth: int,
    events: bool = False,
    chunk: Scan = NOTHING,
    total: Scan = NOTHING,
    on: Processor | None = None,
) -> Plan:
    """Choose the kernel of a GEMM of given operands.

    Args:
        profile: the arithmetic.
        a_format, b_format: of the operands.
        a, b: what `scan` saw in them; where a GEMM is run piece by piece, in the whole of them, or in a
            piece, if `chunk` and `total` tell what was there before it.
        depth: how many k there are in all.
        events: events are to be counted.
        chunk, total: what `scan` saw in the accumulators that are there already.
        on: the processor; this one by default.
    """
    if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        return Plan(None, "Numba is switched off")
    try:
        choice = _Choice(profile, a_format, b_format, a, b, depth, chunk, total, on or processor())
        return choice.plan(events)
    except _Reject as reason:
        return Plan(None, str(reason))


class _Reject(Exception):
    """No kernel: the reason."""


def bound(n: int, p: float, start: float, precision: int, kind: str) -> float:
    """The largest magnitude that a sum which begins at `start` and grows by at most p before each of n
    roundings can reach.

    Toward zero no rounding gains anything. To nearest one gains at most 2^−precision of the result, and
    nothing at all once p is less than half a unit in the last place: with p ≤ 2^u from 2^(u + precision + 1)
    on. Any other gains at most a unit in the last place.
    """
    slack = 1 + 2.0**-40  # of this function's own arithmetic
    if kind in ("zero", "none"):
        return (start + n * p) * slack
    gain = 2.0**-precision if kind in ("even", "away") else 2.0 ** (1 - precision)
    grown = (start + n * p) * math.exp(min(n * gain * (1 + gain), 600.0)) * slack
    if kind in ("even", "away") and p > 0:
        grown = min(grown, max(start, math.ldexp(1.0, math.frexp(p)[1] + precision + 1)))
    return grown


def _kind(mode: str, source: str) -> str:
    """The name of a rounding mode in kernels; `_Reject` where there is none."""
    if mode in ("stochastic", "stochastic-a", "stochastic-b"):
        return "random" if source == "row-column" else "hash"
    kinds = {"nearest-even": "even", "nearest-away": "away", "toward-zero": "zero"}
    if mode not in kinds:
        raise _Reject(f"{mode} has no kernel")
    return kinds[mode]


class _Choice:
    """One GEMM's way to its plan."""

    def __init__(
        self, profile: Profile, a_format: FloatFormat, b_format: FloatFormat, a: Scan, b: Scan,
        depth: int, chunk: Scan, total: Scan, on: Processor,
    ) -> None:  # fmt: skip
        self.profile, self.on, self.chunk, self.whole = profile, on, chunk, total
        self.a = a
        self.formats = a_format, b_format
        self.acc = get_format(profile.accumulator)
        self.total = get_format(profile.between_chunks) if profile.chunk_length else self.acc
        self.length = min(profile.chunk_length or depth, depth) or 1
        self.products = profile.products_per_step
        self.chunks = -(-depth // self.length)
        self.largest = a.largest * b.largest  # P
        self.quantum = min(a.quantum + b.quantum, chunk.quantum, total.quantum, 128)  # g
        self.unrounded = self.quantum  # of sums that nothing has been rounded in
        self.width = a_format.precision + b_format.precision  # w
        for fmt in (a_format, b_format, self.acc, self.total):
            _require_float32(fmt)
        if a.special or b.special or chunk.special or total.special:
            raise _Reject("some codes are not numbers")
        if profile.sum_order not in ("fused", "aligned"):
            raise _Reject(f"sum order {profile.sum_order} has no kernel")
        if profile.random_source == "lfsr" and profile.stochastic:
            raise _Reject("an LFSR's state is sequential")
        self._require_grid()
        out = self.total
        if out.lowest == "subnormal" and 127 - out.fraction_bits < out.bias - 1 < 126:
            raise _Reject(f"subnormal numbers of {out.name} are no float32's to encode")
        if self.quantum < _LOWEST_NORMAL:
            raise _Reject("products reach below float32's normal range")

    def _require_grid(self) -> None:
        """Bring the quantum down to that of sums that are no multiples of the products': the largest
        number, where a sum gets stuck, and the smallest, to which a stochastic rounding may lift one."""
        profile = self.profile
        kind = _kind(profile.rounding, profile.random_source)
        between = _kind(profile.between_rounding, profile.random_source)
        most = self._chunk_bound(kind)
        whole = bound(self.chunks, most, self.whole.largest, self.total.precision, between) + most
        for fmt, one, reached in ((self.acc, kind, most), (self.total, between, whole)):
            if reached > fmt.max:
                top = math.frexp(fmt.max)[1] - fmt.precision
                self.quantum = min(self.quantum, top)
            if one in ("random", "hash") and _underflow(fmt, self.unrounded) != "free":
                self.quantum = min(self.quantum, fmt.facts.min_exp)

    def plan(self, events: bool) -> Plan:
        bits, order, kind, adder, why = self._step()
        most = self._chunk_bound(kind)
        between, between_adder = self._between(most)
        whole = bound(self.chunks, most, self.whole.largest, self.total.precision, between)
        over, above = self._over(kind, most, whole, events)
        under, scale, below = self._under(bits, kind, between, events)
        if over == "nan" and not self._in_range(over, most, whole, scale):
            over = "replace"  # sums that nothing stops until the chunk closes would go too far
        if not self._in_range(over, most, whole, scale):
            raise _Reject("sums could leave float32's range")
        if over == "replace" and self.profile.sum_order == "aligned":
            raise _Reject("an infinite sum cannot be aligned")
        if over in ("nan", "replace") and 0 in (self.acc.fraction_bits, self.total.fraction_bits):
            raise _Reject("a NaN needs a fraction")
        if events and over != "free" and self.acc.has_inf and not self.total.has_inf:
            raise _Reject("infinite sums of chunks overflow once more, uncounted")
        roundings = [(self.acc, kind)] + [(self.total, between)] * bool(self.profile.chunk_length)
        for fmt, one in roundings:
            cut = under not in ("free", "flush") and _underflow(fmt, self.quantum) != "free"
            if cut and one == "none":
                raise _Reject("what is not rounded is not cut")
        if events and self.profile.sum_order == "aligned":
            raise _Reject("the plain loop counts events of aligned sums")
        r, overflow = self.profile.random_bits, self.profile.overflow
        kernel = Kernel(
            bits, self.on.lanes * 32 // bits, 8, 1, self.products, order, kind,
            adder, between, between_adder, over, under, self._events(over) if events else "quiet",
            self._opening(order, kind, adder, under),
            self.on.extension if bits == 32 and over in ("clamp", "nan") else "none",
        )  # fmt: skip
        kernel = self._shaped(kernel)
        row, column = _words(
            kind, self.profile.rounding, r, _FRACTION[bits] - self.acc.fraction_bits
        )
        row2, column2 = _words(
            between, self.profile.between_rounding, r, 23 - self.total.fraction_bits
        )
        numbers = _numbers(
            kernel, self.acc, self.total, overflow, r, scale, self.profile.guard_bits
        )
        return Plan(
            kernel, "; ".join(x for x in (why, above, below) if x), scale, numbers, self.length,
            WordsOfSide(row, row2), WordsOfSide(column, column2), self.formats,
        )  # fmt: skip

    def _opening(self, order: str, kind: str, adder: str, under: str) -> str:
        """Whether a chunk's first step is exact: zero and a product that is a number of the accumulator."""
        fits = self.width <= self.acc.precision and self.largest <= self.acc.max and under == "free"
        rounds = order == "fused" and kind != "none" and adder != "down"
        return "exact" if self.products == 1 and rounds and fits else "rounded"

    def _events(self, over: str) -> str:
        """How events are counted: without a look at what each step adds, where zeros leave every sum what it
        was (all are numbers), and rows and columns tell how often zero is added."""
        narrow = max(fmt.bits for fmt in self.formats) <= TABLE_BITS
        known = self.products == 1 or (self.products == 2 and narrow)
        return "unchanged" if known and over == "free" else "count"

    def _shaped(self, kernel: Kernel) -> Kernel:
        """The kernel with as large a tile as registers hold, beside operands and what a rounding needs: the
        more sums there are, the less a step waits for the one before."""
        if self.on.lanes < 16:  # 16 registers
            return kernel
        clamps = kernel.over == "clamp" and kernel.extension == "none"
        if (
            kernel.order == "aligned"
            or kernel.rounding == "hash"
            or kernel.adder == "down"
            or clamps
        ):
            return kernel
        quiet = kernel.events == "quiet" and kernel.over != "replace" and kernel.under != "cut"
        if kernel.bits == 64 or kernel.products != 1 or not quiet:
            return kernel._replace(rows=8 if kernel.over == "nan" else 16)
        if kernel.over == "nan":
            return kernel._replace(rows=4, vectors=3)
        return kernel._replace(vectors=3)

    # -- the steps

    def _step(self) -> tuple[int, str, str, str, str]:
        """(bits of a lane, order, rounding, adder, why) of the steps."""
        if self.profile.sum_order == "aligned":
            return 32, "aligned", *self._aligned()
        if self.products == 0:
            return 64, "fused", *self._exact_chunks()
        try:
            return 32, *self._fused(32)
        except _Reject:
            return 64, *self._fused(64)

    def _fused(self, bits: int) -> tuple[str, str, str, str]:
        """(order, rounding, adder, why) of a step acc + p, or acc + (p₀ + p₁), in lanes of so many bits."""
        profile, on, p, held = self.profile, self.on, self.acc.precision, _FRACTION[bits] + 1
        kind = _kind(profile.rounding, profile.random_source)
        limit = math.ldexp(1.0, held + self.quantum)  # sums up to here are exact in a lane
        if self.products == 2 and 2 * self.largest > math.ldexp(1.0, held + self.unrounded):
            raise _Reject(f"a pair of products may need more than {held} bits")
        if self.products == 1 and self.width > held and not on.fused:
            raise _Reject("a product does not fit a lane, and there is no fused multiply-add")
        if kind in ("random", "hash"):
            _require_random_bits(profile.rounding, kind, profile.random_bits, held - p)
        most = self._chunk_bound(kind)
        exact = most + self.products * self.largest <= limit
        narrow = self.products == 1 and self.width <= p  # products no wider than accumulators
        serial = (
            self.products == 2 and exact and most <= self.acc.max
        )  # (nothing is infinite, either)
        order = "serial" if serial else "fused"
        return order, *_form(kind, p, held, exact, narrow, on.control)

    def _exact_chunks(self) -> tuple[str, str, str]:
        kind = _kind(self.profile.rounding, self.profile.random_source)
        if kind in ("random", "hash"):
            raise _Reject("stochastic rounding of exact chunk sums has no kernel")
        if self.chunk.largest + self.length * self.largest > math.ldexp(1.0, 53 + self.unrounded):
            raise _Reject("an exact chunk sum may need more than 53 bits")
        if kind == "even" and self.acc.precision > 25:
            raise _Reject(f"nearest-even to {self.acc.precision} bits has no kernel")
        return kind, "nearest", "chunk sums are exact in float64"

    def _aligned(self) -> tuple[str, str, str]:
        profile, p = self.profile, self.acc.precision
        kind = _kind(profile.rounding, profile.random_source)
        if self.width > 24:
            raise _Reject("a product does not fit float32")
        # Each of the terms is less than 4·2^guard units, and their sum must be a float32.
        if profile.guard_bits + 2 + math.ceil(math.log2(self.products + 1)) > 24:
            raise _Reject("an aligned sum may need more than 24 bits")
        if self.quantum - profile.guard_bits - 24 < _LOWEST_NORMAL:
            raise _Reject("an aligned sum reaches below float32's normal range")
        if kind in ("random", "hash"):
            _require_random_bits(profile.rounding, kind, profile.random_bits, 24 - p)
        if p == 24 and kind == "even":
            return "none", "nearest", "aligned sums are exact in float32"
        return *_form(kind, p, 24, True, False, False)[:2], "aligned sums are exact in float32"

    def _chunk_bound(self, kind: str) -> float:
        """The largest magnitude that a chunk's sum can reach."""
        p = self.acc.precision
        if self.products == 0:
            return bound(1, self.length * self.largest, self.chunk.largest, p, kind)
        grow = self.products * self.largest
        return bound(-(-self.length // self.products), grow, self.chunk.largest, p, kind)

    # -- between chunks, always in float32

    def _between(self, chunk: float) -> tuple[str, str]:
        """(rounding, adder) of the running total."""
        if not self.profile.chunk_length:
            return "none", "nearest"
        profile, p = self.profile, self.total.precision
        kind = _kind(profile.between_rounding, profile.random_source)
        if kind in ("random", "hash"):
            _require_random_bits(profile.between_rounding, kind, profile.random_bits, 24 - p)
        most = bound(self.chunks, chunk, self.whole.largest, p, kind) + chunk
        exact = most <= math.ldexp(1.0, 24 + self.quantum)
        narrow = self.acc.precision <= p
        return _form(kind, p, 24, exact, narrow, self.on.control)[:2]

    # -- limits

    def _over(self, kind: str, chunk: float, whole: float, events: bool) -> tuple[str, str]:
        """(what the kernel does about overflow, why)."""
        if chunk <= self.acc.max and whole <= self.total.max:
            return "free", ""
        why = "sums could overflow"
        if self.profile.overflow == "error":
            raise _Reject(why)
        if events:
            return "replace", why
        if self.profile.overflow == "saturate" or kind == "zero":
            return "clamp", why
        return "replace" if self.acc.has_inf else "nan", why

    def _under(self, bits: int, kind: str, between: str, events: bool) -> tuple[str, int, str]:
        """(what the kernel does about underflow, scale, why)."""
        wants = {_underflow(fmt, self.quantum) for fmt in (self.acc, self.total)}
        if wants == {"free"}:
            return "free", 0, ""
        why = "sums could underflow"
        if "gradual" in wants:
            raise _Reject(f"{why} gradually")
        r = self.profile.random_bits + (self.profile.rounding == "stochastic-b")
        for fmt, one, held in ((self.acc, kind, _FRACTION[bits] + 1), (self.total, between, 24)):
            # (2^d − random)·2^−d·MIN must be a number of the lane.
            if one in ("random", "hash") and r + 1 + fmt.precision > held:
                raise _Reject(f"a stochastic rounding with {r} bits could underflow")
        bias, plain = self.acc.bias, {kind, between} <= {"none", "even", "away", "zero"}
        # (exponents are compared with unscaled ones)
        if bias != self.total.bias or not plain or self.profile.sum_order == "aligned":
            return "cut", 0, why
        lowest = {self.acc.lowest, self.total.lowest}
        if lowest == {"flush"} and self._scales(bias):
            return "test", bias, why  # the scale brings the smallest number to 2
        # One product of a pair would be flushed before it is added.
        flushes = self.on.control and self.on.fused and bits == 32 and self.products <= 1
        if lowest == {"normal"} and flushes and not events:
            # Of all multiples of the quantum 2^−b, it alone lies between zero and the smallest number; the scale
            # brings the next one, 2^(1−b), to float32's smallest normal number.
            scale = _LOWEST_NORMAL - (1 - bias)
            if wants == {"flush"} and self._scales(scale):
                return "flush", scale, f"the processor flushes 2^{-bias}"
            # The smallest number is next to 2^−b, which the scale brings to that place.
            scale = _LOWEST_NORMAL + bias
            if wants != {"flush"} and self._scales(scale):
                return "edge", scale, f"the processor flushes what is below 2^{-bias}"
        return "cut", 0, why

    def _scales(self, scale: int) -> bool:
        """Whether all of A, times 2^scale, are float32 numbers, and those that are not subnormal now are not then
        (a kernel's operands may be subnormal, but their codes' fields would not do for it)."""
        fmt = self.formats[0]
        lowest = (1 if fmt.lowest == "subnormal" else 0) - fmt.bias
        low = lowest + scale >= _LOWEST_NORMAL and self.a.quantum + scale >= _LOWEST_NORMAL - 23
        return low and self.a.largest * 2.0**scale < 2.0**128

    def _in_range(self, over: str, chunk: float, whole: float, scale: int) -> bool:
        """Whether all sums on the way, and 2^d times them, are float32 numbers."""
        if over in ("clamp", "replace"):
            chunk = min(chunk, self.acc.max + 2 * max(self.products, 1) * self.largest)
            whole = min(whole, self.total.max + self.acc.max)
        spare = 24 - min(self.acc.precision, self.total.precision)
        return max(chunk, whole) * 2.0 ** (scale + spare + 2) < 2.0**127


def _form(
    kind: str, p: int, held: int, exact: bool, narrow: bool, control: bool
) -> tuple[str, str, str]:
    """(rounding, adder, why) that round a sum of two numbers of a lane to p bits as if it were exact.

    Args:
        held: bits that a lane holds.
        exact: the sum itself is a number of the lane.
        narrow: neither addend has more than p bits.
        control: the adder's direction can be set.
    """
    safe = narrow and p <= (held - 2) // 2
    if kind == "even":
        if p == held:
            return "none", "nearest", "the accumulator is as wide as a lane"
        if p <= (held - 2) // 2 and (exact or safe):
            why = "sums are exact in a lane" if exact else "a lane's sum cannot cross a tie"
            return kind, "nearest", why
        if control and p <= held - 2:
            return kind, "down", "both neighbours of the sum are computed"
    elif p < held:
        if exact:
            return kind, "nearest", "sums are exact in a lane"
        if control:
            return kind, "chop", "the chopped sum has all bits that the rounding looks at"
        if kind == "away" and safe:
            return kind, "nearest", "a lane's sum cannot cross a tie"
    raise _Reject(f"{held}-bit sums lack the bits for {_ROUNDING_NAMES[kind]} to {p}")


def _require_float32(fmt: FloatFormat) -> None:
    """All numbers of the format are float32 numbers, all but subnormal ones normal ones."""
    if fmt.zero == "none" or fmt.lowest not in ("subnormal", "normal", "flush"):
        raise _Reject(f"{fmt.name} has no zero, or an unusual lowest binade")
    top = (fmt.facts.max_mag >> fmt.fraction_bits) - fmt.bias
    if top > 127 or (0 if fmt.lowest == "normal" else 1) - fmt.bias < _LOWEST_NORMAL:
        raise _Reject(f"{fmt.name} reaches beyond float32")


def _require_random_bits(mode: str, kind: str, r: int, dropped: int) -> None:
    seen = r + 1 if mode == "stochastic-b" else r
    if seen > dropped:
        raise _Reject(f"{seen} random bits, but a lane has {dropped} below the last kept one")
    if kind == "hash" and (r > 16 or mode == "stochastic-b"):
        raise _Reject(f"{mode} with {r} hashed bits has no kernel")


def _underflow(fmt: FloatFormat, quantum: int) -> str:
    """What a non-zero multiple of 2^quantum can do to the format's lowest binade."""
    if quantum >= fmt.facts.min_exp + math.log2(fmt.facts.min_sig):
        return "free"
    if fmt.lowest == "subnormal" and fmt.fraction_bits:
        return "gradual"
    return "flush" if fmt.lowest == "normal" and quantum == -fmt.bias else "cut"


def _words(kind: str, mode: str, r: int, dropped: int) -> tuple[Words | None, Words | None]:
    """How the words of rows and of columns reach their place below the last kept bit."""
    if kind == "hash":
        words = Words(fold=16, down=0, up=0, low=0)
        return words, words
    if kind != "random":
        return None, None
    half = 1 << (dropped - r - 1) if mode == "stochastic-b" else 0  # 2R + 1 instead of 2R
    row = Words(fold=0, down=32 - r, up=dropped - r, low=half)
    return row, row._replace(low=0)


@functools.lru_cache(1024)
def _numbers(
    kernel: Kernel,
    acc: FloatFormat,
    total: FloatFormat,
    overflow: str,
    r: int,
    scale: int,
    guard: int,
) -> NDArray[np.int64]:
    """A kernel's table of numbers."""
    numbers = np.zeros(NUMBERS, np.uint64)
    _fill_numbers(numbers, kernel.bits, acc, kernel.rounding, overflow, r, scale)
    _fill_numbers(numbers[BETWEEN:], 32, total, kernel.between, overflow, r, scale)
    lowest = (1 if acc.lowest == "subnormal" else 0) - acc.bias
    numbers[at.LOWEST], numbers[at.GUARD] = lowest % (1 << 64), guard
    numbers.flags.writeable = False
    return numbers.view(np.int64)


def _above(fmt: FloatFormat, bits: int) -> int:
    """The bits of which a lane's magnitude has one if it is not below the smallest number, which the scale
    has brought to 2, or next to the lane's smallest normal number. (Smaller ones have been flushed.)"""
    fraction = _FRACTION[bits]
    if fmt.lowest != "normal":
        return 1 << (bits - 2)
    return (1 << (bits - 1)) - (1 << (fraction - fmt.fraction_bits)) - (1 << fraction)


def _fill_numbers(
    numbers: NDArray[np.uint64],
    bits: int,
    fmt: FloatFormat,
    kind: str,
    overflow: str,
    r: int,
    scale: int,
) -> None:
    """The numbers of one rounding."""
    fraction = _FRACTION[bits]
    d = fraction - fmt.fraction_bits
    numbers[at.SCALE_ADD] = d << fraction
    numbers[at.SCALE] = float_bits(math.ldexp(1.0, d), bits)
    numbers[at.SCALE_LESS] = float_bits(math.ldexp(1.0, d) - 1, bits)
    numbers[at.HALF] = 1 << max(d - 1, 0)
    numbers[at.KEEP] = (1 << bits) - (1 << d)
    numbers[at.DROP] = d
    largest = math.ldexp(fmt.max, scale)
    over = largest
    if overflow != "saturate" and kind != "zero":
        over = math.inf if fmt.has_inf else math.nan
    if largest < 2.0**128:  # (else it is out of reach)
        numbers[at.MAX] = float_bits(largest, bits)
        numbers[at.OVER] = float_bits(over, bits)
    smallest = math.ldexp(fmt.min_positive, scale)
    numbers[at.MIN] = float_bits(smallest, bits)
    numbers[at.ABOVE] = _above(fmt, bits)
    numbers[at.GAP] = float_bits(math.ldexp(smallest, -d), bits)
    if kind == "hash":
        numbers[at.HASH_SHIFT] = bits - d
        numbers[at.HASH_KEEP] = (1 << d) - (1 << (d - r))
