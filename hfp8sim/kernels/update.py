"""The fast update of weights: the steps of `hfp8sim.units.update`, a block of elements at a time.

Every step of a rule becomes a record. `update_range` goes through a block of elements that fits the first-level
cache, step by step; each step is two loops that the compiler turns into vector code.

1. The exact result as a float64 that is rounded *to odd* (Boldo and Melquiond, 2008): the exact value if float64
   holds it, else the neighbour whose last bit is 1. Products of binary32 numbers are exact in float64, and the errors of
   sums are found by TwoSum (Knuth). A later rounding to at most 51 bits gives the same as a rounding of the
   exact result: it reads at most 24 kept bits, one for ties and 24 random ones, and whether there is more.
2. The rounding to the site's format, by moving bits.

What is not covered (`program` gives None, and the caller takes the plain loop): directed modes, `to-odd`, and
stochastic variants other than A.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hfp8sim._numba.jit import jit, jit_inlined
from hfp8sim._numba.layouts import layout
from hfp8sim.formats.vocabulary import Overflow, Rounding, mode_number, overflow_number
from hfp8sim.kernels.pack import words_of_elements
from hfp8sim.units.random import GOLDEN_GAMMA
from hfp8sim.units.sites import Draw, Op, Site
from hfp8sim.units.update import Constants, Slot, Step, Update

#: Elements of a block.
BLOCK = 1024
#: Words that `words_of_elements` writes at once.
_WORDS = 16

#: How a site rounds: kinds of a `SITE`.
DIRECT, NEAREST_EVEN, NEAREST_AWAY, TOWARD_ZERO, STOCHASTIC = range(5)
_KINDS: dict[int, int] = {
    Rounding.NEAREST_EVEN: NEAREST_EVEN,
    Rounding.NEAREST_AWAY: NEAREST_AWAY,
    Rounding.TOWARD_ZERO: TOWARD_ZERO,
    Rounding.STOCHASTIC_A: STOCHASTIC,
}

#: The numbers of a site.
SITE = layout(
    kind=np.int64,  # DIRECT: to binary32, nearest-even, by the processor's own conversion
    drop=np.uint64,  # fraction bits of float64 that a normal number loses
    lowest=np.uint64,  # float64's exponent field of the smallest normal number; 0: no subnormal numbers
    quantum=np.float64,  # the distance between subnormal numbers
    r=np.uint64,  # random bits
    smallest=np.float64,  # the smallest number, if there are no subnormal ones; else 0 …
    gap=np.float64,  # … times 2^−r: the weight of a random unit below it
    normal=np.float64,  # the smallest normal number
    largest=np.float64,  # the largest number
    over=np.float64,  # what replaces a larger one
    infinity=np.float64,  # what infinity becomes …
    infinity_overflows=np.int64,  # … and 1 if that counts as an overflow
    nan=np.int64,  # 1 if the format has a NaN
)
#: A step of an update.
STEP = layout(
    op=np.int64,
    count=np.int64,  # terms
    tensors=(np.int64, 3),  # slots of x
    constants=(np.float64, 3),  # c, with their signs
    result=np.int64,  # slot
    site=SITE,
    key=np.uint64,  # of the random words, for STOCHASTIC
)
#: Counts of a step: overflows and underflows.
_COUNTS = 2

_SIGN = np.uint64(1 << 63)
_HIDDEN = np.uint64(1 << 52)
_FRACTION = np.uint64((1 << 52) - 1)
_ONE, _FIELD = np.uint64(1), np.uint64(52)
#: Shifts that leave less than half of any significand, and nothing of it.
_MOST, _WIDEST = np.uint64(62), np.uint64(63)
#: Masks that cut a float64 to 26 and to 24 significant bits.
_HIGH_26 = np.uint64(0xFFFFFFFFFFFFFFFF << 27 & 0xFFFFFFFFFFFFFFFF)
_HIGH_24 = np.uint64(0xFFFFFFFFFFFFFFFF << 29 & 0xFFFFFFFFFFFFFFFF)


# -- records -------------------------------------------------------------------------------------------


@functools.lru_cache(256)
def site_numbers(site: Site) -> tuple[Any, ...] | None:
    """The numbers of a site, or None where the plain loop must round."""
    fmt, mode, policy = (
        site.record,
        mode_number(site.rounding),
        overflow_number(site.overflow),
    )
    kind = _KINDS.get(mode)
    if kind is None:
        return None
    facts, f = fmt.facts, fmt.fraction_bits
    gradual = fmt.lowest == "subnormal" and f > 0
    infinity = np.inf if facts.inf_mag >= 0 else np.nan
    if policy == Overflow.SATURATE:
        infinity = fmt.max
    if fmt.name == "binary32" and kind == NEAREST_EVEN and policy == Overflow.SPECIAL:
        kind = DIRECT
    r = site.random_bits if kind == STOCHASTIC else 0
    return (
        kind,
        52 - f,
        1 - fmt.bias + 1023 if gradual else 0,
        2.0**facts.min_exp if gradual else 0.0,
        r,
        0.0 if gradual else fmt.min_positive,
        0.0 if gradual else fmt.min_positive * 2.0**-r,
        fmt.min_normal,
        fmt.max,
        fmt.max if kind == TOWARD_ZERO else infinity,
        infinity,
        int(policy == Overflow.SATURATE or facts.inf_mag < 0),
        int(fmt.has_nan),
    )


class Program(NamedTuple):
    """The steps of an update for compiled code."""

    steps: NDArray[np.void]  #: records of STEP
    residual: bool
    momentum: bool
    second: bool


def program(
    update: Update, constants: Constants, draw: Draw, stuck: bool = False
) -> Program | None:
    """The steps of an update as records, or None where the plain loop must compute them."""
    steps = update.steps(constants, stuck=stuck)
    state = update.state(constants)
    records = [step_record(step, update.site(step.place), constants, draw) for step in steps]
    if any(record is None for record in records):
        return None
    return Program(
        np.array(records, STEP), Slot.RESIDUAL in state, Slot.MOMENTUM in state, Slot.SECOND in state
    )  # fmt: skip


def step_record(step: Step, site: Site, constants: Constants, draw: Draw) -> tuple[Any, ...] | None:
    """A record of STEP, or None where the plain loop must compute it."""
    values = [term.sign * float(getattr(constants, term.constant)) for term in step.terms]
    return _record(step, site, values, draw, 0)


def sum_record(
    step: Step, site: Site, constants: list[float], draw: Draw, hop: int
) -> NDArray[np.void] | None:
    """An array of one record of STEP with these constants, or None where the plain loop must compute it."""
    record = _record(step, site, constants, draw, hop)
    return None if record is None else np.array([record], STEP)


def scratch(steps: int) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.bool_]]:
    """Slots, counts of each step, and marks of bad elements, for `update_range` and `sum_range`."""
    slots = np.zeros((len(Slot), BLOCK), np.float32)
    return slots, np.zeros((steps, _COUNTS), np.int64), np.zeros(BLOCK, np.bool_)


def _record(
    step: Step, site: Site, values: list[float], draw: Draw, hop: int
) -> tuple[Any, ...] | None:
    numbers = site_numbers(site)
    if numbers is None:
        return None
    op, terms = step.op, step.terms
    if op in (Op.QUOTIENT, Op.ROOT) and numbers[0] != DIRECT:
        return None
    if op == Op.RATIO and np.frexp(values[0])[0] == 0.5:
        op, values = Op.SUM, [1 / values[0]]  # a power of two
    spare = [0] * (3 - len(terms))
    slots = [int(term.slot) for term in terms]
    stochastic = numbers[0] == STOCHASTIC and step.place is not None
    return (
        int(op), len(terms), tuple(slots + spare), tuple(values + spare), int(step.result), numbers,
        int(draw.key(step.place, hop)) if stochastic and step.place is not None else 0,
    )  # fmt: skip


# -- exact results, rounded to odd ----------------------------------------------------------------------


@jit_inlined
def to_odd(s, e):
    """s + e rounded to odd, for s = fl(s + e)."""
    bits = np.float64(s).view(np.int64)
    away = (e > 0) == (s > 0)
    inexact = ((e > 0) | (e < 0)) & ((bits & 1) == 0)
    return np.int64(bits + ((1 if away else -1) if inexact else 0)).view(np.float64)


@jit_inlined
def two_sum(a, b):
    """fl(a + b) and its error (Knuth)."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


@jit_inlined
def sum_of_two(a, b):
    """a + b rounded to odd."""
    s, e = two_sum(a, b)
    return to_odd(s, e)


@jit_inlined
def sum_of_three(a, b, c):
    """a + b + c rounded to odd; for what is not finite, the sum."""
    high, low = two_sum(b, c)
    top, rest = two_sum(a, high)
    tail = sum_of_two(rest, low)
    s = sum_of_two(top, tail)
    plain = a + (b + c)
    return s if plain - plain == 0 else plain


@jit_inlined
def ratio(x, c):
    """x / c rounded to odd; both are binary32 numbers, and c is positive."""
    q = x / c
    high = np.uint64(np.float64(q).view(np.uint64) & _HIGH_26).view(np.float64)
    return to_odd(q, (x - high * c) - (q - high) * c)


@jit
def exact_results(step, slots, size, s):
    """The exact results of a step, rounded to odd, of the first elements of the slots."""
    x, y, z = slots[step.tensors[0]], slots[step.tensors[1]], slots[step.tensors[2]]
    c, d, e = step.constants[0], step.constants[1], step.constants[2]
    if step.op == Op.RATIO:
        for i in range(size):
            s[i] = ratio(np.float64(x[i]), c)
    elif step.op == Op.OFFSET:
        for i in range(size):
            s[i] = sum_of_two(np.float64(x[i]), c)
    elif step.op == Op.SUM_OF_SQUARE:
        for i in range(size):
            square = np.float64(y[i]) * np.float64(y[i])
            high = np.uint64(np.float64(square).view(np.uint64) & _HIGH_24).view(np.float64)
            low = square - high if square - square == 0 else 0.0
            s[i] = sum_of_three(np.float64(x[i]) * c, high * d, low * d)
    elif step.count == 1:
        for i in range(size):
            s[i] = np.float64(x[i]) * c
    elif step.count == 2:
        for i in range(size):
            s[i] = sum_of_two(np.float64(x[i]) * c, np.float64(y[i]) * d)
    else:
        for i in range(size):
            s[i] = sum_of_three(
                np.float64(x[i]) * c, np.float64(y[i]) * d, np.float64(z[i]) * e
            )  # fmt: skip


# -- roundings ------------------------------------------------------------------------------------------


@jit_inlined
def kept_bits(kind, m, n, r, random):
    """floor(m / 2^n), or one more as the mode says; all are uint64.

    n may be larger than a shift can be: then less than half, or one random unit, is left of m < 2^53.
    """
    if kind == STOCHASTIC:
        return ((m >> min(n - r, _WIDEST)) + random) >> r
    n = min(n, _MOST)
    if kind == NEAREST_EVEN:
        return (m + (_ONE << (n - _ONE)) - _ONE + ((m >> n) & _ONE)) >> n
    if kind == NEAREST_AWAY:
        return (m + (_ONE << (n - _ONE))) >> n
    return m >> n


@jit_inlined
def round_lanes(kind, gradual, s, site, words, out):
    """Round every number of s: overflows, underflows, NaN.

    Args:
        kind, gradual: constants: how to round, and whether the format has subnormal numbers.
    """
    drop, lowest, quantum, r = site.drop, site.lowest, site.quantum, site.r
    smallest, gap, normal, largest = site.smallest, site.gap, site.normal, site.largest
    over, infinity, infinity_overflows = site.over, site.infinity, site.infinity_overflows
    units = np.int64(1) << np.int64(r)
    overflows, underflows, nans = 0, 0, 0
    for i in range(out.size):
        x = abs(s[i])
        m = np.float64(x).view(np.uint64)
        random = np.uint64(words[i])
        a = np.uint64(kept_bits(kind, m, drop, r, random) << drop).view(np.float64)
        if gradual:
            field = m >> _FIELD
            below = lowest > field
            n = drop + (lowest - field if below else np.uint64(0))
            kept = kept_bits(kind, (m & _FRACTION) | _HIDDEN, n, r, random)
            tiny = np.float64(np.int64(kept)) * quantum if x > 0 else 0.0
            a = tiny if below else a
        else:
            if kind == STOCHASTIC:
                least = gap * np.float64(units - np.int64(random))
                a = (smallest if x >= least else 0.0) if x < smallest else a
            a = 0.0 if a < smallest else a
        a = a if x == x else x  # the payload of a NaN may have carried
        infinite = x == np.inf
        large = (a > largest) & ~infinite
        underflows += (a != x) & (a < normal)
        overflows += large | (infinite & (infinity_overflows != 0))
        a = over if large else (infinity if infinite else a)
        nans += x != x
        out[i] = np.float32(-a if s[i] < 0 else a) + np.float32(0)
    return overflows, underflows, nans


@jit
def round_results(s, site, words, out):
    """Round a block of exact results: overflows, underflows, NaN."""
    gradual = site.lowest > 0
    if site.kind == STOCHASTIC and gradual:
        return round_lanes(STOCHASTIC, True, s, site, words, out)
    if site.kind == STOCHASTIC:
        return round_lanes(STOCHASTIC, False, s, site, words, out)
    if site.kind == NEAREST_EVEN and gradual:
        return round_lanes(NEAREST_EVEN, True, s, site, words, out)
    if site.kind == NEAREST_EVEN:
        return round_lanes(NEAREST_EVEN, False, s, site, words, out)
    if site.kind == NEAREST_AWAY and gradual:
        return round_lanes(NEAREST_AWAY, True, s, site, words, out)
    if site.kind == NEAREST_AWAY:
        return round_lanes(NEAREST_AWAY, False, s, site, words, out)
    if site.kind == TOWARD_ZERO and gradual:
        return round_lanes(TOWARD_ZERO, True, s, site, words, out)
    if site.kind == TOWARD_ZERO:
        return round_lanes(TOWARD_ZERO, False, s, site, words, out)
    overflows, underflows = 0, 0
    largest, normal = site.largest, site.normal
    for i in range(out.size):
        x = np.float32(s[i]) + np.float32(0)
        a = np.float64(abs(x))
        overflows += (a > largest) & (abs(s[i]) < np.inf)
        underflows += (a < normal) & (a != abs(s[i]))
        out[i] = x
    return overflows, underflows, 0


# -- a range of elements ----------------------------------------------------------------------------------


@jit
def draw_words(key, first, r, words):
    """R of elements first, first + 1, … of a tensor, in whole vectors."""
    down, zero = np.uint32(32) - np.uint32(r), np.uint32(0)
    for t in range(0, words.size, _WORDS):
        counter = np.uint64(first + t) + np.uint64(1)
        words_of_elements(
            key + GOLDEN_GAMMA * counter, zero, down, zero, zero, words.ctypes.data + 4 * t, words
        )


@jit
def run_step(steps, k, slots, size, first, s, words, counts, bad):
    """Step k of a block of elements, the first of which is `first`."""
    step = steps[k]
    out = slots[step.result][:size]
    if step.op == Op.QUOTIENT:
        x, y = slots[step.tensors[0]], slots[step.tensors[1]]
        for i in range(size):
            out[i] = x[i] / y[i] + np.float32(0)
        return
    if step.op == Op.ROOT:
        x = slots[step.tensors[0]]
        for i in range(size):
            out[i] = np.sqrt(x[i]) + np.float32(0)
        return
    exact_results(step, slots, size, s)
    if step.site.kind == STOCHASTIC:
        draw_words(step.key, first, step.site.r, words)
    over, under, nan = round_results(s[:size], step.site, words, out)
    counts[k, 0] += over
    counts[k, 1] += under
    if nan > 0 and step.site.nan == 0:
        for i in range(size):
            bad[i] = bad[i] or out[i] != out[i]


@jit
def _load(slots, slot, tensor, start, size):
    row, part = slots[slot], tensor[start : start + size]
    for i in range(size):
        row[i] = part[i]


@jit
def _store(slots, slot, tensor, start, size, bad):
    row, part = slots[slot], tensor[start : start + size]
    for i in range(size):
        part[i] = part[i] if bad[i] else row[i]


@jit
def _count_stuck(slots, size, residual):
    """Elements whose state stays, though binary32 would move the effective weight."""
    stuck = 0
    moved, still = slots[Slot.MOVED], slots[Slot.STILL]
    old, new = slots[Slot.WEIGHT], slots[Slot.NEW_WEIGHT]
    old_rest, new_rest = slots[Slot.RESIDUAL], slots[Slot.NEW_RESIDUAL]
    for i in range(size):
        stays = new[i] == old[i] and (not residual or new_rest[i] == old_rest[i])
        stuck += stays and moved[i] != still[i]
    return stuck


@jit
def update_range(
    steps, weight, residual, momentum, second, gradient, start, stop, stuck, slots, counts, bad
):
    """Update elements start … stop − 1 of tensors in place.

    Args:
        steps: records of STEP.
        weight, residual, momentum, second, gradient: contiguous float32; those that the steps do not use
            are empty.
        stuck: count stuck elements.
        slots: scratch, float32 of shape (slots, BLOCK).
        counts: int64 of shape (steps, 2), to which overflows and underflows are added.
        bad: scratch, bool of BLOCK elements.

    Returns:
        Stuck elements, and the first element that has no code, or −1.
    """
    s, words = np.empty(BLOCK, np.float64), np.zeros(BLOCK, np.uint32)
    total, invalid = 0, -1
    for first in range(start, stop, BLOCK):
        size = min(BLOCK, stop - first)
        bad[:] = False
        _load(slots, Slot.WEIGHT, weight, first, size)
        _load(slots, Slot.GRADIENT, gradient, first, size)
        if residual.size:
            _load(slots, Slot.RESIDUAL, residual, first, size)
        if momentum.size:
            _load(slots, Slot.MOMENTUM, momentum, first, size)
        if second.size:
            _load(slots, Slot.SECOND, second, first, size)
        for k in range(steps.size):
            run_step(steps, k, slots, size, first, s, words, counts, bad)
        if stuck:
            total += _count_stuck(slots, size, residual.size > 0)
        if invalid < 0:
            for i in range(size):
                if bad[i]:
                    invalid = first + i
                    break
        _store(slots, Slot.NEW_WEIGHT, weight, first, size, bad)
        if residual.size:
            _store(slots, Slot.NEW_RESIDUAL, residual, first, size, bad)
        if momentum.size:
            _store(slots, Slot.MOMENTUM, momentum, first, size, bad)
        if second.size:
            _store(slots, Slot.SECOND, second, first, size, bad)
    return total, invalid


@jit
def sum_range(steps, x, y, z, out, start, stop, first, slots, counts, bad):
    """Round one site of elements start … stop − 1 of up to three tensors.

    Args:
        steps: one record of STEP, whose terms are slots 0, 1 and 2 and whose result is slot 3.
        x, y, z: contiguous float32; those that the step does not use are empty.
        out: float32 of their size.
        first: the row-major number of element 0 in the whole tensor.
        slots, counts, bad: as of `update_range`.

    Returns:
        The first element that has no code, or −1.
    """
    s, words = np.empty(BLOCK, np.float64), np.zeros(BLOCK, np.uint32)
    invalid = -1
    for i in range(start, stop, BLOCK):
        size = min(BLOCK, stop - i)
        bad[:] = False
        _load(slots, 0, x, i, size)
        if y.size:
            _load(slots, 1, y, i, size)
        if z.size:
            _load(slots, 2, z, i, size)
        run_step(steps, 0, slots, size, first + i, s, words, counts, bad)
        part = out[i : i + size]
        for j in range(size):
            part[j] = slots[3, j]
            if bad[j] and invalid < 0:
                invalid = i + j
    return invalid
