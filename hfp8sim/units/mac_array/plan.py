"""Which kernel computes a GEMM, and why it is right: `plan`.

Every condition below is a proof obligation of docs/speed.md, section "Why each path is exact"; the names
of the arguments are those of the text. What no kernel is proved right for has `kernel = None` and goes
through the plain integer loop.

Notation: p significand bits of the accumulator, w of a product (the sum of the operands'), 2^g a common
quantum of all products, P a bound on one of them.
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

from hfp8sim.formats import FloatFormat, get_format
from hfp8sim.units.mac_array import ir
from hfp8sim.units.mac_array.ir import BETWEEN, NUMBERS, Kernel, float_bits
from hfp8sim.units.mac_array.pack import Scan, Words
from hfp8sim.units.profile import Profile

_FRACTION = {32: 23, 64: 52}  # fraction bits of a lane's float
_LOWEST_NORMAL = -126  # of float32


class Processor(NamedTuple):
    """What the kernels need to know of the processor that Numba compiles for."""

    lanes: int  #: float32 lanes of a vector
    fused: bool  #: has fused multiply-add
    control: bool  #: its rounding direction can be set (x86)


@functools.cache
def processor() -> Processor:
    """The processor, as Numba's own settings (NUMBA_CPU_NAME, NUMBA_CPU_FEATURES) describe it."""
    features = cpu_target.target_context.codegen().magic_tuple()[2].split(",")
    lanes = 16 if "+avx512f" in features else 8 if "+avx2" in features else 4
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    return Processor(lanes, "+fma" in features, x86)


class WordsOfSide(NamedTuple):
    """How the random words of rows, or of columns, are prepared; None: there are none."""

    of_steps: Words | None = None
    of_chunks: Words | None = None


_NO_WORDS = WordsOfSide()


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """The choice for one GEMM, and all that a kernel must be told."""

    kernel: Kernel | None  #: None: the plain integer loop
    why: str  #: one line
    scale: int = 0  #: panels of A, and the accumulators, carry a factor of 2^scale
    numbers: NDArray[np.int64] = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    chunk_length: int = 0  #: products; the whole K where there are no chunks
    row_words: WordsOfSide = _NO_WORDS
    column_words: WordsOfSide = _NO_WORDS

    @property
    def name(self) -> str:
        """A short name of the path."""
        k = self.kernel
        if k is None:
            return "plain integer loop"
        steps = _ROUNDING_NAMES[k.rounding]
        adder = {"nearest": "", "chop": ", chopping adder", "down": ", round-to-odd adder"}[k.adder]
        products = {0: "exact chunks", 1: "1 product", 2: "2 products"}[k.products]
        limits = "".join(
            f", {word}" for word in (k.over, k.under, k.events) if word not in ("free", "quiet")
        )
        return f"float{k.bits}×{k.lanes} {steps}, {products}{adder}{limits}"

    def __str__(self) -> str:
        return f"{self.name}: {self.why}"

    @property
    def products(self) -> int:
        """Products of a step, as panels are laid out."""
        return max(self.kernel.products, 1) if self.kernel else 1

    @property
    def steps_per_chunk(self) -> int:
        """Steps of a whole chunk."""
        return -(-self.chunk_length // self.products)

    @property
    def lane_float(self) -> type[np.float32] | type[np.float64]:
        """The type of a lane."""
        return np.float64 if self.kernel and self.kernel.bits == 64 else np.float32

    @property
    def lane_word(self) -> type[np.uint32] | type[np.uint64]:
        """The unsigned integer as wide as a lane."""
        return np.uint64 if self.kernel and self.kernel.bits == 64 else np.uint32

    def words(self, of_a: bool) -> WordsOfSide:
        """Of the rows (side A) or the columns (side B)."""
        return self.row_words if of_a else self.column_words

    def step_number(self, k: int) -> int:
        """The number of the step that begins at k."""
        chunk, rest = divmod(k, self.chunk_length)
        return chunk * self.steps_per_chunk + rest // self.products

    def steps(self, depth: int) -> tuple[int, int]:
        """How many steps and how many chunks K = depth has."""
        whole, rest = divmod(depth, self.chunk_length)
        if self.kernel and not self.kernel.products:
            return whole + (rest > 0), whole + (rest > 0)
        return whole * self.steps_per_chunk + -(-rest // self.products), whole + (rest > 0)


_ROUNDING_NAMES = {
    "none": "unrounded",
    "even": "nearest-even",
    "away": "nearest-away",
    "zero": "toward-zero",
    "random": "stochastic",
    "hash": "stochastic, a hash for each",
}


class _Reject(Exception):
    """No kernel: the reason."""


def bound(n: int, p: float, precision: int, rounding: str) -> float:
    """The largest magnitude that n roundings of a sum that grows by at most p each can reach.

    Toward zero nothing grows. To nearest a rounding gains at most 2^−precision of the result, and none
    at all once p is below half a unit in the last place: with p ≤ 2^u the sum stays below
    2^(u + precision + 1). Else a rounding gains one unit at most.
    """
    if p == 0.0 or n == 0:
        return 0.0
    if rounding in ("zero", "none"):
        return n * p * (1 + 2.0**-40)
    gain = 2.0**-precision if rounding in ("even", "away") else 2.0 ** (1 - precision)
    grown = n * p * math.exp(min(n * gain * (1 + gain), 600.0)) * (1 + 2.0**-40)
    if rounding in ("even", "away"):
        grown = min(grown, math.ldexp(1.0, math.frexp(p)[1] + precision + 1))
    return grown


@functools.lru_cache(4096)
def plan(
    profile: Profile,
    a_format: FloatFormat,
    b_format: FloatFormat,
    a: Scan,
    b: Scan,
    depth: int,
    events: bool = False,
    on: Processor | None = None,
) -> Plan:
    """Choose the kernel of a GEMM of given operands, K = depth.

    Args:
        profile: the arithmetic.
        a_format, b_format: of the operands.
        a, b: what `scan` saw in them: in the whole of them, if the GEMM is run piece by piece.
        depth: K of the whole GEMM.
        events: steps that change nothing are to be counted.
        on: the processor; this one by default.
    """
    if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        return Plan(None, "Numba is switched off")
    try:
        return _choose(profile, a_format, b_format, a, b, depth, events, on or processor())
    except _Reject as reason:
        return Plan(None, str(reason))


def _choose(
    profile: Profile, a_format: FloatFormat, b_format: FloatFormat, a: Scan, b: Scan,
    depth: int, events: bool, on: Processor,
) -> Plan:  # fmt: skip
    acc, total = get_format(profile.accumulator), get_format(profile.between_chunks)
    if not profile.chunk_length:
        total = acc
    for fmt in (a_format, b_format, acc, total):
        _require_float32(fmt)
    if a.special or b.special:
        raise _Reject("operands hold codes that are not numbers")
    if profile.sum_order != "fused":
        raise _Reject(f"sum order {profile.sum_order} has no kernel")
    if profile.random_source == "lfsr" and profile.stochastic:
        raise _Reject("the LFSR's state is sequential")

    length = profile.chunk_length or max(depth, 1)
    products = profile.products_per_step
    chunks = -(-depth // length)
    largest = a.largest * b.largest  # P
    quantum = a.quantum + b.quantum  # g
    if quantum < _LOWEST_NORMAL:
        raise _Reject("products reach below float32's normal range")
    width = a_format.precision + b_format.precision  # w
    steps = length if products == 1 else -(-length // max(products, 1))
    step_largest = largest * max(products, 1)

    between = "none" if not profile.chunk_length else profile.between_rounding
    candidates = ((32, 64) if products == 1 else (64,)) if products else (64,)
    reasons = []
    for bits in candidates:
        try:
            step_kind, adder, why = _step(
                profile, acc, bits, products, width, largest, quantum, length, on
            )
            break
        except _Reject as reason:
            reasons.append(str(reason))
    else:
        raise _Reject("; ".join(dict.fromkeys(reasons)))

    chunk_bound = bound(steps if products else 1, step_largest if products else largest * length,
                        acc.precision, step_kind)  # fmt: skip
    chunk_bound = max(chunk_bound, 0.0)
    between_kind, between_adder = _between(
        profile, between, acc, total, chunk_bound, chunks, quantum, on
    )
    total_bound = bound(chunks, chunk_bound, total.precision, between_kind)

    over, how_over = _over(profile, acc, total, step_kind, chunk_bound, total_bound)
    under, scale, how_under = _under(acc, total, step_kind, between_kind, quantum, events, on)
    reach = max(
        chunk_bound if over == "free" else acc.max + 2 * step_largest,
        total_bound if over == "free" else total.max + acc.max,
    )
    spare = 24 - min(acc.precision, total.precision)  # the scaling of `even`
    if reach * 2.0 ** (scale + spare + 2) >= 2.0**127:
        raise _Reject("sums could leave float32's range")
    if events and (over != "free" or under != "free"):
        raise _Reject("overflows and underflows are counted by the plain loop")

    kernel = Kernel(
        bits, *_geometry(bits, step_kind, adder, over, under, events, on), products, step_kind, adder,
        between_kind, between_adder, over, under, "count" if events and products else "quiet",
    )  # fmt: skip
    r = profile.random_bits
    numbers = _numbers(kernel, acc, total, profile.overflow, r, scale)
    row, column = _words(step_kind, profile.rounding, r, _FRACTION[bits] - acc.fraction_bits)
    row2, column2 = _words(between_kind, between, r, 23 - total.fraction_bits)
    return Plan(
        kernel, "; ".join(x for x in (why, how_over, how_under) if x), scale,
        numbers, length, WordsOfSide(row, row2), WordsOfSide(column, column2),
    )  # fmt: skip


def _require_float32(fmt: FloatFormat) -> None:
    """All numbers of the format are float32 numbers, and none of them subnormal beyond reach."""
    facts = fmt.facts
    if fmt.zero == "none" or fmt.lowest not in ("subnormal", "normal", "flush"):
        raise _Reject(f"{fmt.name} has no zero, or an unusual lowest binade")
    top = (facts.max_mag >> fmt.fraction_bits) - fmt.bias
    if top > 127 or -fmt.bias < _LOWEST_NORMAL - 1:
        raise _Reject(f"{fmt.name} reaches beyond float32")


def _step(
    profile: Profile, acc: FloatFormat, bits: int, products: int, width: int, largest: float,
    quantum: int, length: int, on: Processor,
) -> tuple[str, str, str]:  # fmt: skip
    """(rounding, adder, why) of the steps in lanes of so many bits; `_Reject` where none is right."""
    p, mode, held = acc.precision, profile.rounding, _FRACTION[bits] + 1
    stochastic = mode.startswith("stochastic")
    units = math.ldexp(1.0, held + quantum)  # sums up to here are exact in a lane
    kind = {"nearest-even": "even", "nearest-away": "away", "toward-zero": "zero"}.get(mode, "")
    if stochastic:
        kind = "random" if profile.random_source == "row-column" else "hash"
    if not kind or mode == "stochastic-c":
        raise _Reject(f"{mode} has no kernel")
    if products == 0:
        if stochastic:
            raise _Reject("stochastic rounding of exact chunk sums has no kernel")
        if length * largest > units:
            raise _Reject("an exact chunk sum may need more than 53 bits")
        return kind, "nearest", "chunk sums are exact in float64"
    if products == 2 and 2 * largest > units:
        raise _Reject("a pair of products may need more than 53 bits")
    if products == 1 and width > held and not on.fused:
        raise _Reject("a product does not fit float32, and there is no fused multiply-add")

    steps = -(-length // products)
    most = bound(steps, largest * products, p, kind) + largest * products
    exact = most <= units
    if stochastic:
        _require_random_bits(mode, kind, profile.random_bits, held - p)
    if kind == "even":
        if p == held and products == 1:
            return "none", "nearest", "the accumulator is a lane"
        if p <= (held - 2) // 2:
            if exact:
                return "even", "nearest", f"sums are exact in float{bits}"
            if products == 1 and width <= p:
                return (
                    "even",
                    "nearest",
                    f"a float{bits} sum cannot cross a tie ({width}-bit products)",
                )
        if on.control and p <= held - 2:
            return "even", "down", "both neighbours of the sum are computed"
    elif p <= held - 1:
        if exact:
            return kind, "nearest", f"sums are exact in float{bits}"
        if on.control:
            return kind, "chop", "the chopped sum has all bits that the rounding looks at"
        if kind == "away" and products == 1 and width <= p <= (held - 2) // 2:
            return kind, "nearest", f"a float{bits} sum cannot cross a tie ({width}-bit products)"
    raise _Reject(f"float{bits} sums lack the bits for {mode} to {p}")


def _require_random_bits(mode: str, kind: str, r: int, dropped: int) -> None:
    seen = r + 1 if mode == "stochastic-b" else r
    if seen > dropped:
        raise _Reject(f"{seen} random bits, but a lane has {dropped} below the last kept one")
    if kind == "hash" and (r > 16 or mode == "stochastic-b"):
        raise _Reject(f"{mode} with {r} hashed bits has no kernel")


def _between(
    profile: Profile, mode: str, acc: FloatFormat, total: FloatFormat, chunk: float, chunks: int,
    quantum: int, on: Processor,
) -> tuple[str, str]:  # fmt: skip
    """(rounding, adder) of the running total, always in float32 lanes."""
    if mode == "none":
        return "none", "nearest"
    p = total.precision
    kind = {"nearest-even": "even", "nearest-away": "away", "toward-zero": "zero"}.get(mode, "")
    if mode.startswith("stochastic"):
        kind = "random" if profile.random_source == "row-column" else "hash"
    if not kind or mode == "stochastic-c":
        raise _Reject(f"{mode} between chunks has no kernel")
    if kind in ("random", "hash"):
        _require_random_bits(mode, kind, profile.random_bits, 24 - p)
    exact = bound(chunks, chunk, p, kind) + chunk <= math.ldexp(1.0, 24 + quantum)
    if kind == "even":
        if p == 24:
            return "none", "nearest"
        if p <= 11 and (exact or acc.precision <= p):
            return "even", "nearest"
        if on.control and p <= 22:
            return "even", "down"
    elif p <= 23:
        if exact:
            return kind, "nearest"
        if on.control:
            return kind, "chop"
        if kind == "away" and acc.precision <= p <= 11:
            return kind, "nearest"
    raise _Reject(f"float32 sums lack the bits for {mode} to {p} between chunks")


def _over(
    profile: Profile, acc: FloatFormat, total: FloatFormat, kind: str, chunk: float, whole: float
) -> tuple[str, str]:
    """What the kernel does about overflow."""
    if chunk <= acc.max and whole <= total.max:
        return "free", ""
    if profile.overflow == "error":
        raise _Reject("an overflow must be found")
    if kind == "none":
        raise _Reject("an unrounded sum could overflow")
    return "limit", "sums could overflow"


def _under(
    acc: FloatFormat, total: FloatFormat, kind: str, between: str, quantum: int, events: bool,
    on: Processor,
) -> tuple[str, int, str]:  # fmt: skip
    """(what the kernel does about underflow, scale, why)."""
    wants = [_under_one(fmt, quantum) for fmt in (acc, total)]
    if wants == ["free", "free"]:
        return "free", 0, ""
    if "gradual" in wants:
        raise _Reject("sums could need gradual underflow")
    if kind in ("random", "hash") or between in ("random", "hash"):
        raise _Reject("a stochastic rounding could underflow")
    if wants == ["flush", "flush"] and acc.bias == total.bias and on.control and on.fused:
        # 2^−b alone lies below the smallest number and above nothing; every other multiple of the
        # quantum is at least 2^(1−b), which the scale brings to float32's smallest normal.
        return (
            "flush",
            _LOWEST_NORMAL - (1 - acc.bias),
            f"2^{-acc.bias} is flushed by the processor",
        )
    return "cut", 0, "sums could underflow"


def _under_one(fmt: FloatFormat, quantum: int) -> str:
    facts = fmt.facts
    smallest = math.ldexp(facts.min_sig, facts.min_exp)
    if math.ldexp(1.0, quantum) >= smallest:
        return "free"
    if fmt.lowest == "subnormal" and fmt.fraction_bits:
        return "gradual"
    return "flush" if fmt.lowest == "normal" and quantum == -fmt.bias else "cut"


def _geometry(
    bits: int, kind: str, adder: str, over: str, under: str, events: bool, on: Processor
) -> tuple[int, int, int]:
    """(lanes, rows, vectors) of a register tile."""
    lanes = on.lanes * 32 // bits
    crowded = kind == "hash" or adder == "down" or over != "free" or under == "cut" or events
    rows = 16 if on.lanes == 16 and not crowded else 8
    return lanes, rows, 1


def _words(kind: str, mode: str, r: int, dropped: int) -> tuple[Words | None, Words | None]:
    """How the words of rows and of columns reach their place below the last kept bit."""
    if kind == "hash":
        words = Words(fold=16, down=0, up=0, low=0)
        return words, words
    if kind != "random":
        return None, None
    half = 1 << (dropped - r - 1) if mode == "stochastic-b" else 0  # 2R + 1 instead of R
    row = Words(fold=0, down=32 - r, up=dropped - r, low=half)
    return row, row._replace(low=0)


@functools.lru_cache(256)
def _numbers(
    kernel: Kernel, acc: FloatFormat, total: FloatFormat, overflow: str, r: int, scale: int
) -> NDArray[np.int64]:
    """A kernel's table of numbers."""
    numbers = np.zeros(NUMBERS, np.uint64)
    _fill_numbers(numbers, kernel.bits, acc, kernel.rounding, overflow, r, scale)
    _fill_numbers(numbers[BETWEEN:], 32, total, kernel.between, overflow, r, scale)
    numbers.flags.writeable = False
    return numbers.view(np.int64)


def _fill_numbers(
    numbers: NDArray[np.uint64],
    bits: int,
    fmt: FloatFormat,
    kind: str,
    overflow: str,
    r: int,
    scale: int,
) -> None:
    """The numbers of one rounding, see `ir`."""
    fraction = _FRACTION[bits]
    d = fraction - fmt.fraction_bits
    numbers[ir.SCALE_ADD] = d << fraction
    numbers[ir.SCALE_BITS] = float_bits(math.ldexp(1.0, d), bits)
    numbers[ir.SCALE_LESS_BITS] = float_bits(math.ldexp(1.0, d) - 1, bits)
    numbers[ir.HALF] = 1 << max(d - 1, 0)
    numbers[ir.KEEP] = (1 << bits) - (1 << d)
    numbers[ir.DROP] = d
    largest = math.ldexp(fmt.max, scale)
    over = largest
    if overflow != "saturate" and kind != "zero":
        over = math.inf if fmt.has_inf else math.nan
    if largest < 2.0**127:  # else it cannot be reached
        numbers[ir.MAX_BITS] = float_bits(largest, bits)
        numbers[ir.OVER_BITS] = float_bits(over, bits)
    numbers[ir.MIN_BITS] = float_bits(math.ldexp(fmt.min_positive, scale), bits)
    if kind == "hash":
        numbers[ir.HASH_SHIFT] = abs(32 - d)
        numbers[ir.HASH_KEEP] = (1 << d) - (1 << (d - r))
