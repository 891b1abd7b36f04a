"""`plan`: the choice of a GEMM's kernel, with the proof that it is exact.

Each function that raises `NoKernel` below is one proof obligation of docs/speed.md, section "Why each path is
exact". A GEMM for which no kernel is proved right has `kernel = None` and goes through the plain integer loop.

Notation, as there: p significand bits of the accumulator, h of a lane, w of a product (the sum of the
operands'), 2^g a common quantum of all products and sums, P a bound on one product's magnitude, S on a sum's.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from enum import StrEnum
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from hfp8sim._numba.calls import address
from hfp8sim.formats import FloatFormat, get_format
from hfp8sim.kernels import macrokernel
from hfp8sim.kernels.form import (
    Adder,
    Counting,
    Form,
    Lane,
    Mode,
    Opening,
    Order,
    Overflow,
    RoundingForm,
    Underflow,
)
from hfp8sim.kernels.half import Limits, Share, Window
from hfp8sim.kernels.jobs import packer
from hfp8sim.kernels.kernel import Kernel
from hfp8sim.kernels.microkernel import kernel_table
from hfp8sim.kernels.numbers import NUMBERS, Numbers, kernel_numbers
from hfp8sim.kernels.pack import NOTHING, Scan, Words, steps_before
from hfp8sim.kernels.target import Target, host_target
from hfp8sim.kernels.zero_products import TABLE_BITS, SlopeIds, slope_ids
from hfp8sim.units.profile import Profile

_LOWEST_NORMAL = -126  # exponent, of float32
_UNROUNDED = RoundingForm(Mode.NONE, Adder.NEAREST)


# -- the plan ----------------------------------------------------------------------------------------


class WordsOfSide(NamedTuple):
    """How the random words of rows, or of columns, are prepared; None: there are none."""

    of_steps: Words | None = None
    of_chunks: Words | None = None


_NO_WORDS = WordsOfSide()
_MODE_TEXT = {
    Mode.NONE: "unrounded",
    Mode.EVEN: "nearest-even",
    Mode.AWAY: "nearest-away",
    Mode.ZERO: "toward-zero",
    Mode.RANDOM: "stochastic",
    Mode.HASH: "stochastic by hash",
}
_ORDER_TEXT = {Order.FUSED: "", Order.SERIAL: " one by one", Order.ALIGNED: " aligned"}
_ADDER_TEXT = {
    Adder.NEAREST: "",
    Adder.CHOP: "chopping adder",
    Adder.ODD: "round-to-odd adder",
}
_OVERFLOW_TEXT = {
    Overflow.IMPOSSIBLE: "",
    Overflow.CLAMP: "clamps",
    Overflow.NAN: "records overflows to NaN",
    Overflow.REPLACE: "tests overflow",
}
_UNDERFLOW_TEXT = {
    Underflow.IMPOSSIBLE: "",
    Underflow.FLUSH: "flushes in hardware",
    Underflow.COMPARE: "tests underflow",
    Underflow.BIT: "tests underflow by a bit",
    Underflow.EDGE: "flushes in hardware but for the edge",
}


def _no_numbers() -> Numbers:
    return np.zeros(0, NUMBERS)


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """The choice for one GEMM, and all that its kernel needs. `str` gives one line."""

    kernel: Kernel | None  #: None: the plain integer loop
    why: str
    scale: int = 0  #: panels of A, and the accumulators, carry a factor of 2^scale
    numbers: Numbers = dataclasses.field(default_factory=_no_numbers)
    chunk_length: int = 0  #: products; the whole K where there are no chunks
    row_words: WordsOfSide = _NO_WORDS
    column_words: WordsOfSide = _NO_WORDS
    formats: tuple[FloatFormat, ...] = ()  #: of the operands
    window: Window | None = None  #: of tiles in lanes of binary16; None: there are none
    share: Share | None = None  #: how much of a product they compute, where that is known
    sparse: bool = False  #: zeros of A are left out where there are many

    @property
    def name(self) -> str:
        """A readable name of the path."""
        if self.kernel is None:
            return "plain integer loop"
        form, products = self.kernel.form, self.kernel.form.products
        steps = {0: "exact chunks", 1: "1 product"}.get(products, f"{products} products")
        parts = [
            f"float{form.lane}×{self.kernel.lanes} {_MODE_TEXT[form.intra.mode]}",
            steps + _ORDER_TEXT[form.order],
            _ADDER_TEXT[form.intra.adder],
            _OVERFLOW_TEXT[form.overflow],
            _UNDERFLOW_TEXT[form.underflow],
            "" if self.kernel.counting is Counting.NONE else "counts events",
            f"or float16×{self.kernel.of_halves.lanes} in its window" if self.window else "",
        ]
        return ", ".join(part for part in parts if part)

    def __str__(self) -> str:
        share = "" if self.share is None else f"; {self.share}"
        return f"{self.name}: {self.why}{share}"

    @functools.cached_property
    def products(self) -> int:
        """Products of a step, as panels are laid out."""
        return self.kernel.form.width if self.kernel else 1

    @functools.cached_property
    def steps_per_chunk(self) -> int:
        """Steps of a whole chunk."""
        return -(-self.chunk_length // self.products)

    @functools.cached_property
    def counts_zero_sums(self) -> bool:
        """Whether the kernel counts steps that add zero as swamped."""
        return self.kernel is not None and self.kernel.counting is Counting.UNCHANGED

    @property
    def slope_ids(self) -> SlopeIds | None:
        """Tables for counting steps of two products that add zero, if the kernel counts them as swamped."""
        return slope_ids(*self.formats) if self.counts_zero_sums and self.products == 2 else None

    @functools.cached_property
    def aligned(self) -> bool:
        """Whether the terms of a step are aligned: panels then have exponents."""
        return self.kernel is not None and self.kernel.form.order is Order.ALIGNED

    @functools.cached_property
    def function(self) -> int:
        """The address of the macrokernel."""
        return address(macrokernel.loop_nest(self.window is not None, self.sparse))

    @functools.cached_property
    def kernel_table(self) -> NDArray[np.void]:
        """An array of one `microkernel.KERNEL`."""
        assert self.kernel is not None
        return kernel_table(self.kernel)

    @functools.cached_property
    def half_table(self) -> NDArray[np.void]:
        """An array of one `microkernel.KERNEL` in lanes of binary16; the plan has a window."""
        assert self.kernel is not None
        return kernel_table(self.kernel.of_halves)

    @functools.cached_property
    def sparse_table(self) -> NDArray[np.void]:
        """An array of one `microkernel.KERNEL` that leaves out zeros of A; the plan is `sparse`."""
        assert self.kernel is not None
        return kernel_table(self.kernel.of_nonzeros)

    @functools.cached_property
    def leaving_out_zeros(self) -> Plan:
        """This plan, if possible with zeros of A left out where there are many.

        Steps that add zero must change no sum, and be counted as unchanged.
        """
        kernel = self.kernel
        if kernel is None or not kernel.target.sparse or not self.counts_zero_sums:
            return self
        if not kernel.form.one_product or kernel.form.lane is not Lane.FLOAT32:
            return self
        return dataclasses.replace(self, sparse=True)

    def packer(self, code_bytes: int) -> int:
        """The address of the function that packs codes of so many bytes."""
        half = self.window is not None
        return address(packer(code_bytes, int(self.lane), self.aligned, self.draws, half))

    @functools.cached_property
    def lane(self) -> Lane:
        """The float type of panels and of sums in a chunk."""
        return self.kernel.form.lane if self.kernel else Lane.FLOAT32

    @functools.cached_property
    def lane_float(self) -> type[np.float32] | type[np.float64]:
        """The type of a lane."""
        return np.float64 if self.lane is Lane.FLOAT64 else np.float32

    @functools.cached_property
    def lane_word(self) -> type[np.uint32] | type[np.uint64]:
        """The unsigned integer as wide as a lane."""
        return np.uint64 if self.lane is Lane.FLOAT64 else np.uint32

    @functools.cached_property
    def lane_bytes(self) -> int:
        """The size of a lane."""
        return self.lane.bytes

    def words(self, of_a: bool) -> WordsOfSide:
        """Of the rows (side A) or the columns (side B)."""
        return self.row_words if of_a else self.column_words

    def step_number(self, k: int) -> int:
        """The number of the step that begins at k: how many steps there are before k."""
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
    on: Target | None = None,
) -> Plan:
    """Choose the kernel of a GEMM of given operands.

    Args:
        profile: the arithmetic.
        a_format, b_format: of the operands.
        a, b: results of `scan`. If a GEMM is run piece by piece, they are those of the whole operands,
            or of a piece, if `chunk` and `total` describe the accumulators before it.
        depth: K, the number of products of an output.
        events: events are to be counted.
        chunk, total: facts of the accumulators' present values.
        on: the target; the processor's own by default.
    """
    if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        return Plan(None, "Numba is switched off")
    try:
        formats, scans = (a_format, b_format), (a, b, chunk, total)
        return _plan(_problem(profile, formats, scans, depth, on or host_target()), events)
    except NoKernel as reason:
        return Plan(None, str(reason))


@functools.lru_cache(4096)
def shared_plan(
    profile: Profile,
    a_format: FloatFormat,
    b_format: FloatFormat,
    a: Scan,
    b: Scan,
    depth: int,
    events: bool = False,
) -> Plan:
    """A plan with the kernel that `plan` chooses, made for a wider range of operands if that needs no other kernel.

    The tensors of one layer have other largest and smallest elements in each training step. They share a plan, and
    all that is cached by plan. Tried are the whole range of the formats, and the largest elements rounded up to a
    power of two. Arguments and errors are those of `plan`.
    """
    # Not cached twice.
    own = plan.__wrapped__(profile, a_format, b_format, a, b, depth, events)
    if own.kernel is None:
        return own
    for wider in (_whole_range, _rounded_range):
        scans = wider(a, a_format), wider(b, b_format)
        shared = plan(profile, a_format, b_format, *scans, depth, events)
        if shared.kernel == own.kernel:
            return shared
    return own


def _whole_range(_: Scan, fmt: FloatFormat) -> Scan:
    """Bounds on all numbers of a format."""
    return Scan(fmt.max, fmt.facts.min_exp, False)


def _rounded_range(scan: Scan, fmt: FloatFormat) -> Scan:
    """Wider bounds, which many operands have in common."""
    if scan.largest == 0:
        return scan
    largest = math.ldexp(1.0, math.ceil(math.log2(scan.largest)))
    return Scan(min(largest, fmt.max), fmt.facts.min_exp, False)


class NoKernel(Exception):
    """No kernel is proved right; the message is the reason."""


# -- what is to be computed --------------------------------------------------------------------------


class Problem(NamedTuple):
    """A GEMM, and the facts that proofs take."""

    profile: Profile
    formats: tuple[FloatFormat, FloatFormat]  #: of A and B
    acc: FloatFormat  #: of sums in a chunk
    total: FloatFormat  #: of running totals
    intra: Mode  #: rounding of the sums in a chunk
    inter: Mode  #: rounding of running totals
    a: Scan  #: of A
    chunk: Scan  #: of sums that are there already
    whole: Scan  #: of running totals that are there already
    length: int  #: products of a chunk
    chunks: int
    largest: float  #: P
    width: int  #: w
    quantum: int  #: g
    unrounded: int  #: the common quantum of sums in which nothing has been rounded yet
    target: Target

    @property
    def products(self) -> int:
        """Products of a step; 0: the whole chunk."""
        return self.profile.products_per_step

    @property
    def aligned(self) -> bool:
        """Whether the terms of a step are aligned."""
        return self.profile.sum_order == "aligned"

    @property
    def chunk_bound(self) -> float:
        """S: the largest magnitude that a chunk's sum can reach."""
        p = self.acc.precision
        if self.products == 0:
            return bound(1, self.length * self.largest, self.chunk.largest, p, self.intra)
        steps, growth = -(-self.length // self.products), self.products * self.largest
        return bound(steps, growth, self.chunk.largest, p, self.intra)

    def total_bound(self, mode: Mode) -> float:
        """The largest magnitude that a running total can reach if it is rounded so."""
        start = self.whole.largest
        return bound(self.chunks, self.chunk_bound, start, self.total.precision, mode)


def bound(n: int, p: float, start: float, precision: int, mode: Mode) -> float:
    """The largest magnitude that a sum can reach.

    Toward zero no rounding gains anything. To nearest one gains at most 2^−precision of the result, and
    nothing at all once p is less than half a unit in the last place: with p ≤ 2^u from 2^(u + precision + 1)
    on. Any other gains at most a unit in the last place.

    Args:
        n: additions, each with a rounding.
        p: what each adds, at most.
        start: the sum before the first one.
        precision: significand bits of the sum.
        mode: of the roundings.
    """
    slack = 1 + 2.0**-40  # for the roundings of this function
    if mode in (Mode.ZERO, Mode.NONE):
        return (start + n * p) * slack
    gain = 2.0**-precision if mode.nearest else 2.0 ** (1 - precision)
    grown = (start + n * p) * math.exp(min(n * gain * (1 + gain), 600.0)) * slack
    if mode.nearest and p > 0:
        grown = min(grown, max(start, math.ldexp(1.0, math.frexp(p)[1] + precision + 1)))
    return grown


def _problem(
    profile: Profile,
    formats: tuple[FloatFormat, FloatFormat],
    scans: tuple[Scan, Scan, Scan, Scan],
    depth: int,
    target: Target,
) -> Problem:
    """The facts about a GEMM, where kernels can be right for it at all."""
    a, b, chunk, whole = scans
    acc = get_format(profile.accumulator)
    total = get_format(profile.between_chunks) if profile.chunk_length else acc
    for fmt in (*formats, acc, total):
        _require_float32_format(fmt)
    if any(scan.special for scan in scans):
        raise NoKernel("some codes are not numbers")
    _require_supported_sums(profile)
    length = min(profile.chunk_length or depth, depth) or 1
    quantum = min(a.quantum + b.quantum, chunk.quantum, whole.quantum, 128)
    problem = Problem(
        profile, formats, acc, total, _mode(profile.rounding, profile.random_source),
        _mode(profile.between_rounding, profile.random_source), a, chunk, whole, length,
        -(-depth // length), a.largest * b.largest, formats[0].precision + formats[1].precision,
        quantum, quantum, target,
    )  # fmt: skip
    problem = problem._replace(quantum=_grid(problem))
    _require_encoding(total)
    if problem.quantum < _LOWEST_NORMAL:
        raise NoKernel("products reach below float32's normal range")
    return problem


def _require_float32_format(fmt: FloatFormat) -> None:
    """All numbers of the format are float32 numbers, all but subnormal ones normal ones."""
    if fmt.zero == "none" or fmt.lowest not in ("subnormal", "normal", "flush"):
        raise NoKernel(f"{fmt.name} has no zero, or an unusual lowest binade")
    top = (fmt.facts.max_mag >> fmt.fraction_bits) - fmt.bias
    if top > 127 or (0 if fmt.lowest == "normal" else 1) - fmt.bias < _LOWEST_NORMAL:
        raise NoKernel(f"{fmt.name} reaches beyond float32")


def _require_supported_sums(profile: Profile) -> None:
    """Kernels implement the order of the sums and the source of the random words."""
    if profile.sum_order not in ("fused", "aligned"):
        raise NoKernel(f"sum order {profile.sum_order} has no kernel")
    if profile.random_source == "lfsr" and profile.stochastic:
        raise NoKernel("an LFSR's state is sequential")


def _mode(mode: str, source: str) -> Mode:
    """The kernels' mode of a rounding mode and a source of random words."""
    if mode in ("stochastic", "stochastic-a", "stochastic-b"):
        return Mode.RANDOM if source == "row-column" else Mode.HASH
    modes = {"nearest-even": Mode.EVEN, "nearest-away": Mode.AWAY, "toward-zero": Mode.ZERO}
    if mode not in modes:
        raise NoKernel(f"{mode} has no kernel")
    return modes[mode]


def _grid(problem: Problem) -> int:
    """The quantum, lowered to that of sums that are no multiples of the products': the largest number, where
    a sum saturates, and the smallest, to which a stochastic rounding may lift one."""
    most = problem.chunk_bound
    whole = problem.total_bound(problem.inter) + most
    quantum = problem.quantum
    for fmt, mode, reached in (
        (problem.acc, problem.intra, most), (problem.total, problem.inter, whole)
    ):  # fmt: skip
        if reached > fmt.max:
            quantum = min(quantum, math.frexp(fmt.max)[1] - fmt.precision)
        if mode.stochastic and _below(fmt, problem.unrounded) is not Below.NOTHING:
            quantum = min(quantum, fmt.facts.min_exp)
    return quantum


def _require_encoding(fmt: FloatFormat) -> None:
    """Subnormal results can be scaled to integers by a float32 factor (or are float32's own subnormals)."""
    if fmt.lowest == "subnormal" and 127 - fmt.fraction_bits < fmt.bias - 1 < 126:
        raise NoKernel(f"subnormal numbers of {fmt.name} cannot be scaled to integers in float32")


# -- the choice --------------------------------------------------------------------------------------


def _plan(problem: Problem, events: bool) -> Plan:
    """The plan of a GEMM, by proofs in the order of docs/speed.md."""
    profile = problem.profile
    step = _step_form(problem)
    problem = problem._replace(intra=step.rounding.mode)  # NONE, where the adder rounds
    inter = _inter_form(problem)
    problem = problem._replace(inter=inter.mode)
    overflow, why_overflow = _overflow_form(problem, events)
    underflow = _underflow_form(problem, step.lane, events)
    overflow = _in_float32_range(problem, overflow, underflow.scale)
    _require_finite_aligned_sums(problem, overflow)
    _require_nan(problem, overflow)
    if events:
        _require_countable_overflows(problem, overflow)
    _require_rounding_before_cut(problem, underflow.form)
    if events and problem.aligned:
        raise NoKernel("the plain loop counts events of aligned sums")
    form = Form(
        step.lane, problem.products, step.order, step.rounding, inter, overflow, underflow.form,
        _opening(problem, step, underflow.form),
    )  # fmt: skip
    counting = _counting(problem, overflow) if events else Counting.NONE
    window = None if events else _window(problem, form, underflow.scale)
    rows, columns = _words_of_sides(problem, step.lane)
    numbers = kernel_numbers(
        form, problem.acc, problem.total, profile.overflow, profile.random_bits, underflow.scale,
        profile.guard_bits, window.limits if window else None,
    )  # fmt: skip
    why = "; ".join(text for text in (step.why, why_overflow, underflow.why) if text)
    kernel = Kernel.of(form, counting, problem.target)._replace(half=window is not None)
    return Plan(
        kernel, why, underflow.scale, numbers, problem.length, rows, columns, problem.formats, window
    )  # fmt: skip


def _opening(problem: Problem, step: StepForm, underflow: Underflow) -> Opening:
    """A chunk's first step adds a product to zero: exact, if that is a number of the accumulator."""
    fits = problem.width <= problem.acc.precision and problem.largest <= problem.acc.max
    rounds = step.rounding.mode is not Mode.NONE and step.rounding.adder is not Adder.ODD
    one_product = problem.products == 1 and step.order is Order.FUSED
    exact = one_product and rounds and fits and underflow is Underflow.IMPOSSIBLE
    return Opening.EXACT if exact else Opening.ROUNDED


def _counting(problem: Problem, overflow: Overflow) -> Counting:
    """How events are counted.

    One comparison a step is enough if adding zero leaves every sum unchanged, which holds for numbers, and if
    the steps that add zero can be counted from rows and columns.
    """
    narrow = max(fmt.bits for fmt in problem.formats) <= TABLE_BITS
    zeros_countable = problem.products == 1 or (problem.products == 2 and narrow)
    unchanged = zeros_countable and overflow is Overflow.IMPOSSIBLE
    return Counting.UNCHANGED if unchanged else Counting.EVENTS


# -- lanes of binary16 -------------------------------------------------------------------------------


def _window(problem: Problem, form: Form, scale: int) -> Window | None:
    """The window in which lanes of binary16 compute the same sums; None: they do not, or the target has none."""
    p, n, h = problem.acc.precision, problem.length, Lane.FLOAT16.precision
    chops = form.one_product and form.intra.mode in (Mode.AWAY, Mode.ZERO) and p < h
    # Products, too, are exact in a lane. Random words of chunks would need panels of their own.
    if problem.target.half is None or not chops or problem.width > h or form.inter.mode.stochastic:
        return None
    # Of more terms, float32 sums of magnitudes are no bound.
    places = _places(problem.formats, -13 - p)
    if n > 1 << 20 or not _are_factors_normal(problem.formats, places, scale):
        return None
    # A sum is less than 2^16, and the quantum is 2^(−13 − p).
    nearest, products = form.intra.mode.nearest, 28 if form.intra.mode.nearest else 29
    growth = _growth(n, p, nearest) * (1 + n * 2.0**-23)
    unit = most = 0.0
    if form.underflow is not Underflow.IMPOSSIBLE:
        unit = math.ldexp(max(problem.acc.min_positive, problem.total.min_positive), scale)
    most = math.inf
    if form.overflow is not Overflow.IMPOSSIBLE:
        chunks = problem.chunks * _growth(problem.chunks, problem.total.precision, True)
        most = math.ldexp(min(problem.acc.max, problem.total.max / chunks) / growth, scale)
    limits = Limits(2.0 ** (29 + p) / growth, 2.0**products, unit, most)
    return Window(limits, places)


def _growth(n: int, precision: int, nearest: bool) -> float:
    """The factor by which n roundings may lift a sum above that of its terms' magnitudes, see `bound`."""
    return bound(n, 1.0 / n, 0.0, precision, Mode.AWAY if nearest else Mode.ZERO)


def _are_factors_normal(
    formats: tuple[FloatFormat, FloatFormat], places: tuple[int, int], scale: int
) -> bool:
    """Whether all panels, A's times 2^scale, are normal float32 numbers, and so are the powers of two that bring
    their quanta to `places` and those that bring sums back."""
    low, high = (
        [exponent(fmt) + shift for fmt, shift in zip(formats, (scale, 0))]
        for exponent in (lambda fmt: fmt.facts.min_exp, lambda fmt: math.frexp(fmt.max)[1])
    )
    back = [[quantum - place for quantum, place in zip(quanta, places)] for quanta in (low, high)]
    exponents = [*low, *high, *back[0], *back[1], sum(back[0]), sum(back[1])]
    return all(abs(exponent) <= -_LOWEST_NORMAL for exponent in exponents)


def _places(formats: tuple[FloatFormat, FloatFormat], lowest: int) -> tuple[int, int]:
    """Exponents for the quanta of A's and of B's panels, whose sum is `lowest`, so that as much as possible of
    either format lies in binary16's range."""
    room = [16 - (math.frexp(fmt.max)[1] - fmt.facts.min_exp) for fmt in formats]
    of_a = (room[0] + lowest - room[1]) // 2
    of_a = min(max(of_a, -24, lowest - 16), 16, lowest + 24)
    return of_a, lowest - of_a


# -- sums of a step ----------------------------------------------------------------------------------


class StepForm(NamedTuple):
    """How a step is computed, and why that is right."""

    lane: Lane
    order: Order
    rounding: RoundingForm
    why: str


def _step_form(problem: Problem) -> StepForm:
    """The form of the steps: the first one that is proved."""
    if problem.aligned:
        return _aligned_sums(problem)
    if problem.products == 0:
        return _exact_chunks(problem)
    try:
        return _fused_sums(problem, Lane.FLOAT32)
    except NoKernel:
        return _fused_sums(problem, Lane.FLOAT64)


def _fused_sums(problem: Problem, lane: Lane) -> StepForm:
    """Products, and sums of two, are exact in the lane; so are all sums, or their rounding is right anyway."""
    p, h, profile = problem.acc.precision, lane.precision, problem.profile
    limit = math.ldexp(1.0, h + problem.quantum)  # sums up to here are exact in the lane
    pair = 2 * problem.largest
    if problem.products == 2 and pair > math.ldexp(1.0, h + problem.unrounded):
        raise NoKernel(f"a pair of products may need more than {h} bits")
    if problem.products == 1 and problem.width > h and not problem.target.fused:
        raise NoKernel("a product does not fit a lane, and there is no fused multiply-add")
    _require_random_bits(profile.rounding, problem.intra, profile.random_bits, h - p)
    most = problem.chunk_bound
    exact = most + problem.products * problem.largest <= limit
    narrow = problem.products == 1 and problem.width <= p  # products no wider than accumulators
    # One by one: nothing is infinite on the way, either.
    serial = problem.products == 2 and exact and most <= problem.acc.max
    rounding, why = _rounding_form(problem, problem.intra, p, lane, exact, narrow)
    return StepForm(lane, Order.SERIAL if serial else Order.FUSED, rounding, why)


def _exact_chunks(problem: Problem) -> StepForm:
    """A whole chunk is summed exactly in float64, and rounded once."""
    if problem.intra.stochastic:
        raise NoKernel("stochastic rounding of exact chunk sums has no kernel")
    most = problem.chunk.largest + problem.length * problem.largest
    if most > math.ldexp(1.0, 53 + problem.unrounded):
        raise NoKernel("an exact chunk sum may need more than 53 bits")
    if problem.intra is Mode.EVEN and problem.acc.precision > 25:
        raise NoKernel(f"nearest-even to {problem.acc.precision} bits has no kernel")
    rounding = RoundingForm(problem.intra, Adder.NEAREST)
    return StepForm(Lane.FLOAT64, Order.FUSED, rounding, "chunk sums are exact in float64")


def _aligned_sums(problem: Problem) -> StepForm:
    """All terms, cut to a common grid, are small integers: their sum is exact in float32."""
    profile, p = problem.profile, problem.acc.precision
    if problem.width > 24:
        raise NoKernel("a product does not fit float32")
    # Each of the terms is less than 4·2^guard units, and their sum must be a float32.
    if profile.guard_bits + 2 + math.ceil(math.log2(problem.products + 1)) > 24:
        raise NoKernel("an aligned sum may need more than 24 bits")
    if problem.quantum - profile.guard_bits - 24 < _LOWEST_NORMAL:
        raise NoKernel("an aligned sum reaches below float32's normal range")
    _require_random_bits(profile.rounding, problem.intra, profile.random_bits, 24 - p)
    rounding = _UNROUNDED
    if p < 24 or problem.intra is not Mode.EVEN:
        rounding = _exact_rounding_form(problem.intra, p, Lane.FLOAT32)
    why = "aligned sums are exact in float32"
    return StepForm(Lane.FLOAT32, Order.ALIGNED, rounding, why)


def _inter_form(problem: Problem) -> RoundingForm:
    """The rounding of the running total, whose sums are float32's."""
    profile, p, mode = problem.profile, problem.total.precision, problem.inter
    if not profile.chunk_length:
        return _UNROUNDED
    _require_random_bits(profile.between_rounding, mode, profile.random_bits, 24 - p)
    most = problem.total_bound(mode) + problem.chunk_bound
    exact = most <= math.ldexp(1.0, 24 + problem.quantum)
    narrow = problem.acc.precision <= p
    return _rounding_form(problem, mode, p, Lane.FLOAT32, exact, narrow)[0]


def _rounding_form(
    problem: Problem, mode: Mode, p: int, lane: Lane, exact: bool, narrow: bool
) -> tuple[RoundingForm, str]:
    """How to round a sum of two numbers of a lane to p bits as if it were exact, and why that is right.

    Args:
        exact: the sum itself is a number of the lane.
        narrow: neither addend has more than p bits.
    """
    h, directed = lane.precision, problem.target.directed
    if mode is Mode.EVEN and p == h:
        return _UNROUNDED, "the accumulator is as wide as a lane"
    # An inexact sum of narrow addends is neither a tie nor next to one.
    safe = narrow and p <= (h - 2) // 2
    if exact and (p <= (h - 2) // 2 if mode is Mode.EVEN else p < h):
        return _exact_rounding_form(mode, p, lane), "sums are exact in a lane"
    if mode is Mode.EVEN:
        if safe:
            return RoundingForm(mode, Adder.NEAREST), "a lane's sum cannot cross a tie"
        if directed and p <= h - 2:
            return RoundingForm(mode, Adder.ODD), "both neighbours of the sum are computed"
    elif p < h:
        if directed:
            why = "the chopped sum has all bits that the rounding reads"
            return RoundingForm(mode, Adder.CHOP), why
        if mode is Mode.AWAY and safe:
            return RoundingForm(mode, Adder.NEAREST), "a lane's sum cannot cross a tie"
    raise _lacking_bits(mode, p, h)


def _exact_rounding_form(mode: Mode, p: int, lane: Lane) -> RoundingForm:
    """How to round an exact sum: nearest-even by the processor's own rounding of 2^d·s − s, which must not
    overlap the sum; other modes by the sum's bits."""
    h = lane.precision
    if p > (h - 2) // 2 if mode is Mode.EVEN else p >= h:
        raise _lacking_bits(mode, p, h)
    return RoundingForm(mode, Adder.NEAREST)


def _lacking_bits(mode: Mode, p: int, h: int) -> NoKernel:
    return NoKernel(f"{h}-bit sums lack the bits for {_MODE_TEXT[mode]} to {p}")


def _require_random_bits(rounding: str, mode: Mode, r: int, dropped: int) -> None:
    """The bits that a stochastic rounding drops are at least as many as its random bits."""
    if not mode.stochastic:
        return
    needed = r + 1 if rounding == "stochastic-b" else r
    if needed > dropped:
        raise NoKernel(f"{needed} random bits, but a lane has {dropped} below the last kept one")
    if mode is Mode.HASH and (r > 16 or rounding == "stochastic-b"):
        raise NoKernel(f"{rounding} with {r} hashed bits has no kernel")


# -- limits ------------------------------------------------------------------------------------------


def _overflow_form(problem: Problem, events: bool) -> tuple[Overflow, str]:
    """What the kernel does about overflow, and why that is needed."""
    whole = problem.total_bound(problem.inter)
    if problem.chunk_bound <= problem.acc.max and whole <= problem.total.max:
        return Overflow.IMPOSSIBLE, ""
    why = "sums could overflow"
    policy = problem.profile.overflow
    if policy == "error":
        raise NoKernel(why)
    if events:
        return Overflow.REPLACE, why
    if policy == "saturate" or problem.intra is Mode.ZERO:
        return Overflow.CLAMP, why
    return (Overflow.REPLACE if problem.acc.has_inf else Overflow.NAN), why


class Below(StrEnum):
    """Which non-zero sums may lie below a format's smallest number."""

    NOTHING = "nothing"
    """None."""
    FRACTIONS = "fractions"
    """Fractions of a subnormal number: sums have to be rounded to a multiple of it (gradual underflow)."""
    ONE = "one"
    """A single multiple of the quantum, 2^−bias: the code of zero takes its place."""
    SOME = "some"
    """Several multiples of the quantum. Each becomes zero or the smallest number."""


def _below(fmt: FloatFormat, quantum: int) -> Below:
    """Which non-zero multiples of 2^quantum lie below a format's smallest number."""
    if quantum >= fmt.facts.min_exp + math.log2(fmt.facts.min_sig):
        return Below.NOTHING
    if fmt.lowest == "subnormal" and fmt.fraction_bits:
        return Below.FRACTIONS
    return Below.ONE if fmt.lowest == "normal" and quantum == -fmt.bias else Below.SOME


class UnderflowForm(NamedTuple):
    """What a kernel does about underflow, the scale of its numbers for that, and why it is needed."""

    form: Underflow
    scale: int = 0
    why: str = ""


def _underflow_form(problem: Problem, lane: Lane, events: bool) -> UnderflowForm:
    """What the kernel does about underflow: the cheapest test that is proved."""
    acc, total = problem.acc, problem.total
    below = {_below(fmt, problem.quantum) for fmt in (acc, total)}
    if below == {Below.NOTHING}:
        return UnderflowForm(Underflow.IMPOSSIBLE)
    why = "sums could underflow"
    if Below.FRACTIONS in below:
        raise NoKernel(f"{why} gradually")
    _require_probabilities(problem, lane, why)
    compare = UnderflowForm(Underflow.COMPARE, 0, why)
    stochastic = problem.intra.stochastic or problem.inter.stochastic
    # Exponents of aligned sums are compared with unscaled ones.
    if acc.bias != total.bias or stochastic or problem.aligned:
        return compare
    lowest = {acc.lowest, total.lowest}
    if lowest == {"flush"} and _scales(problem, acc.bias):
        return UnderflowForm(Underflow.BIT, acc.bias, why)  # the smallest number becomes 2
    # Of a pair of products, the first would be flushed before the second is added.
    target = problem.target
    flushes = target.flush and target.fused and lane is Lane.FLOAT32 and problem.products <= 1
    if lowest != {"normal"} or not flushes or events:
        return compare
    return _flushed(problem, below) or compare


def _flushed(problem: Problem, below: set[Below]) -> UnderflowForm | None:
    """The form whose scale makes the processor flush what is below the smallest number, if there is one."""
    bias = problem.acc.bias
    # Of all multiples of the quantum 2^−b, 2^−b alone lies between zero and the smallest number; the scale
    # brings the next one, 2^(1−b), to float32's smallest normal number.
    scale = _LOWEST_NORMAL - (1 - bias)
    if below == {Below.ONE} and _scales(problem, scale):
        return UnderflowForm(Underflow.FLUSH, scale, f"the processor flushes 2^{-bias}")
    # The smallest number is next to 2^−b, which the scale brings to that place.
    scale = _LOWEST_NORMAL + bias
    if below != {Below.ONE} and _scales(problem, scale):
        why = f"the processor flushes what is below 2^{-bias}"
        return UnderflowForm(Underflow.EDGE, scale, why)
    return None


def _require_probabilities(problem: Problem, lane: Lane, why: str) -> None:
    """Of a stochastic rounding (2^d − random)·2^−d·MIN, with which a sum below MIN is compared, is a number of
    the lane."""
    profile = problem.profile
    r = profile.random_bits + (profile.rounding == "stochastic-b")
    for fmt, mode, precision in (
        (problem.acc, problem.intra, lane.precision), (problem.total, problem.inter, 24)
    ):  # fmt: skip
        if mode.stochastic and r + 1 + fmt.precision > precision:
            raise NoKernel(f"a stochastic rounding with {r} bits could underflow")


def _scales(problem: Problem, scale: int) -> bool:
    """Whether all of A, times 2^scale, are float32 numbers, and the normal ones among them normal still. (A
    kernel's operands may be subnormal, but the decoder makes those of normal codes by moving fields.)"""
    low = (
        problem.formats[0].facts.emin + scale >= _LOWEST_NORMAL
        and problem.a.quantum + scale >= _LOWEST_NORMAL - 23
    )
    return low and problem.a.largest * 2.0**scale < 2.0**128


def _in_float32_range(problem: Problem, overflow: Overflow, scale: int) -> Overflow:
    """The form of overflow with which all sums on the way are float32 numbers."""
    if _range_suffices(problem, overflow, scale):
        return overflow
    # Nothing stops sums before the chunk ends where they are only recorded.
    if overflow is Overflow.NAN and _range_suffices(problem, Overflow.REPLACE, scale):
        return Overflow.REPLACE
    raise NoKernel("sums could leave float32's range")


def _range_suffices(problem: Problem, overflow: Overflow, scale: int) -> bool:
    """Whether all sums on the way, and 2^d times them, are float32 numbers."""
    chunk, whole = problem.chunk_bound, problem.total_bound(problem.inter)
    if overflow in (Overflow.CLAMP, Overflow.REPLACE):
        chunk = min(chunk, problem.acc.max + 2 * max(problem.products, 1) * problem.largest)
        whole = min(whole, problem.total.max + problem.acc.max)
    spare = 24 - min(problem.acc.precision, problem.total.precision)
    return max(chunk, whole) * 2.0 ** (scale + spare + 2) < 2.0**127


def _require_finite_aligned_sums(problem: Problem, overflow: Overflow) -> None:
    """Aligned terms become integers, which infinities are not."""
    if overflow is Overflow.REPLACE and problem.aligned:
        raise NoKernel("an infinite sum cannot be aligned")


def _require_nan(problem: Problem, overflow: Overflow) -> None:
    """A NaN stays one when a rounding's addend is added to its bits: it has a fraction for that."""
    fractions = problem.acc.fraction_bits, problem.total.fraction_bits
    if overflow in (Overflow.NAN, Overflow.REPLACE) and 0 in fractions:
        raise NoKernel("a NaN needs a fraction")


def _require_countable_overflows(problem: Problem, overflow: Overflow) -> None:
    """Each overflow is counted where it happens, once."""
    infinite = problem.acc.has_inf and not problem.total.has_inf
    if overflow is not Overflow.IMPOSSIBLE and infinite:
        raise NoKernel("infinite sums of chunks overflow once more, uncounted")


def _require_rounding_before_cut(problem: Problem, underflow: Underflow) -> None:
    """Sums below the smallest number become zero or that number when they are rounded. So they must be rounded."""
    if underflow in (Underflow.IMPOSSIBLE, Underflow.FLUSH):
        return
    roundings = [(problem.acc, problem.intra)]
    if problem.profile.chunk_length:
        roundings.append((problem.total, problem.inter))
    for fmt, mode in roundings:
        if mode is Mode.NONE and _below(fmt, problem.quantum) is not Below.NOTHING:
            raise NoKernel("unrounded sums may be below the smallest number")


# -- random words ------------------------------------------------------------------------------------


def _words_of_sides(problem: Problem, lane: Lane) -> tuple[WordsOfSide, WordsOfSide]:
    """How the words of rows and of columns reach their place below the last kept bit."""
    profile, r = problem.profile, problem.profile.random_bits
    steps = _words(
        problem.intra, profile.rounding, r, lane.fraction_bits - problem.acc.fraction_bits
    )
    chunks = _words(problem.inter, profile.between_rounding, r, 23 - problem.total.fraction_bits)
    return WordsOfSide(steps[0], chunks[0]), WordsOfSide(steps[1], chunks[1])


def _words(mode: Mode, rounding: str, r: int, dropped: int) -> tuple[Words | None, Words | None]:
    """How the words of rows, and of columns, reach their place in a rounding that drops so many bits."""
    if mode is Mode.HASH:
        words = Words(fold=16, down=0, up=0, low=0)
        return words, words
    if mode is not Mode.RANDOM:
        return None, None
    half = 1 << (dropped - r - 1) if rounding == "stochastic-b" else 0  # 2R + 1 instead of 2R
    row = Words(fold=0, down=32 - r, up=dropped - r, low=half)
    return row, row._replace(low=0)
