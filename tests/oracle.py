"""The exact slow twin of `hfp8sim.formats` and `hfp8sim.units`.

Written from docs/numerics.md, section by section, in Python integers and fractions, to be read beside
it. It shares no code with the package: formats and profiles are only looked at (any object with the
right attributes will do).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from fractions import Fraction

import numpy as np

INEXACT, OVERFLOW, UNDERFLOW, INVALID = 1, 2, 4, 8
MODES = (
    "nearest-even", "nearest-away", "toward-zero", "toward-positive", "toward-negative", "to-odd",
    "stochastic-a", "stochastic-b", "stochastic-c",
)  # fmt: skip
STOCHASTIC = MODES[6:]


class NoCode(Exception):
    """The format has no code for the result."""


def power(n: int) -> Fraction:
    """2^n."""
    return Fraction(1 << n) if n >= 0 else Fraction(1, 1 << -n)


def floor_log2(x: Fraction) -> int:
    """floor(log2 x), x > 0."""
    e = x.numerator.bit_length() - x.denominator.bit_length()
    return e if power(e) <= x else e - 1


def floor(x: Fraction) -> int:
    return x.numerator // x.denominator


# -- 1. A format is data ---------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class X:
    """What a code means: a number (with the sign of its zero), an infinity or a NaN."""

    kind: str  # "number", "infinity", "nan"
    negative: bool = False
    magnitude: Fraction = Fraction(0)

    @property
    def value(self) -> Fraction:
        assert self.kind == "number"
        return -self.magnitude if self.negative else self.magnitude


NAN = X("nan")


def number(value: Fraction | int) -> X:
    return X("number", value < 0, abs(Fraction(value)))


@functools.cache
def special_magnitudes(fmt) -> tuple[int | None, int | None, int]:
    """(infinity's magnitude, produced NaN's code, largest number's magnitude)."""
    e, f = fmt.exponent_bits, fmt.fraction_bits
    top = 2 ** (e + f) - 1
    minus_zero = 2 ** (e + f)
    all_ones_exponent = (2**e - 1) * 2**f
    match fmt.special, fmt.signed:
        case "none", _:
            return None, None, top
        case "ieee", _:
            return all_ones_exponent, all_ones_exponent + 2 ** (f - 1), all_ones_exponent - 1
        case (("fn" | "nan-inf"), _):
            return None, top, top - 1
        case "fnuz", _:
            return None, minus_zero, top
        case "p3109-extended", True:
            return top, minus_zero, top - 1
        case "p3109-extended", False:
            return top - 1, top, top - 2
        case "p3109-finite", True:
            return None, minus_zero, top
        case "p3109-finite", False:
            return None, top, top - 1
    raise AssertionError(fmt.special)


@functools.cache
def decode(fmt, code: int) -> X:
    e, f, b = fmt.exponent_bits, fmt.fraction_bits, fmt.bias
    mag = code % 2 ** (e + f)
    negative = bool(fmt.signed and code >= 2 ** (e + f))
    infinity, _, _ = special_magnitudes(fmt)
    top = 2 ** (e + f) - 1
    is_nan = {
        "none": False,
        "ieee": infinity is not None and mag > infinity,
        "fn": mag == top,
        "nan-inf": mag == top,
        "fnuz": mag == 0 and negative,
        "p3109-extended": (mag == 0 and negative) if fmt.signed else mag == top,
        "p3109-finite": (mag == 0 and negative) if fmt.signed else mag == top,
    }[fmt.special]
    if is_nan:
        return NAN
    if mag == infinity:
        return X("infinity", negative)
    field, fraction = divmod(mag, 2**f)
    if field > 0:
        return X("number", negative, (1 + Fraction(fraction, 2**f)) * power(field - b))
    if fraction == 0 and fmt.zero != "none":
        return X("number", negative and fmt.zero == "signed")
    match fmt.lowest:
        case "subnormal":
            return X("number", negative, fraction * power(1 - b - f))
        case "normal":
            return X("number", negative, (1 + Fraction(fraction, 2**f)) * power(-b))
        case "flush":
            return X("number", negative and fmt.zero == "signed")
    raise AssertionError(fmt.lowest)


@functools.cache
def smallest(fmt) -> Fraction:
    """The smallest positive number, found by looking at every code of the two lowest binades."""
    codes = range(2 ** min(fmt.fraction_bits + 1, fmt.exponent_bits + fmt.fraction_bits))
    if fmt.fraction_bits > 12:  # magnitudes ascend with codes
        codes = (0, 1, 2**fmt.fraction_bits)
    numbers = (decode(fmt, code) for code in codes)
    return min(x.magnitude for x in numbers if x.kind == "number" and x.magnitude > 0)


def encode_number(fmt, magnitude: Fraction) -> int:
    """The code (without sign) of a magnitude that is a number of the format, or lies beyond it."""
    f, b = fmt.fraction_bits, fmt.bias
    if magnitude == 0:
        return 0
    binade = floor_log2(magnitude)
    if fmt.lowest == "subnormal" and binade < 1 - b:
        mag = magnitude / power(1 - b - f)
    else:
        mag = (binade + b) * 2**f + (magnitude / power(binade) - 1) * 2**f
    assert mag.denominator == 1 and mag >= 0
    return int(mag)


# -- 2. Rounding happens in one place --------------------------------------------------------------


def round_to_integer_even(x: Fraction) -> int:
    return round(x)  # Python: to nearest, ties to even, exactly


def goes_away(mode: str, nu: Fraction, lower_is_odd: bool, negative: bool, r: int, R: int) -> bool:
    """Step 4."""
    match mode:
        case "nearest-even":
            return nu > Fraction(1, 2) or (nu == Fraction(1, 2) and lower_is_odd)
        case "nearest-away":
            return nu >= Fraction(1, 2)
        case "toward-zero":
            return False
        case "toward-positive":
            return nu > 0 and not negative
        case "toward-negative":
            return nu > 0 and negative
        case "to-odd":
            return nu > 0 and not lower_is_odd
        case "stochastic-a":
            return floor(nu * 2**r) + R >= 2**r
        case "stochastic-b":
            return floor(nu * 2 ** (r + 1)) + 2 * R + 1 >= 2 ** (r + 1)
        case "stochastic-c":
            return round_to_integer_even(nu * 2**r) + R >= 2**r
    raise AssertionError(mode)


def round_magnitude(fmt, x: Fraction, negative: bool, mode: str, r: int, R: int) -> Fraction:
    """Steps 2 to 5 for |X| = x > 0: a magnitude with unlimited exponents above."""
    f, b = fmt.fraction_bits, fmt.bias
    least = smallest(fmt)
    gradual = fmt.lowest == "subnormal"
    if not gradual and x < least:
        if fmt.zero == "none":
            return least
        if mode in ("toward-positive", "toward-negative", "to-odd", "toward-zero"):
            away = {"toward-positive": not negative, "toward-negative": negative}
            return least if away.get(mode, mode == "to-odd") else Fraction(0)
        if mode in STOCHASTIC:
            return least if goes_away(mode, x / least, False, negative, r, R) else Fraction(0)
    quantum = (max(floor_log2(x), 1 - b) if gradual else floor_log2(x)) - f
    scaled = x / power(quantum)
    lower = floor(scaled)
    if f:
        odd = lower % 2 == 1
    else:  # the exponent field is what the code ends in
        odd = lower > 0 and (quantum + b) % 2 == 1
    result = (lower + goes_away(mode, scaled - lower, odd, negative, r, R)) * power(quantum)
    return result if gradual or result >= least else Fraction(0)


def round_code(fmt, x: X, mode: str, overflow: str, r: int = 0, R: int = 0) -> tuple[int, int]:
    """round(exact value, format, mode, overflow policy, r, R) -> (code, flags)."""
    mode = "stochastic-a" if mode == "stochastic" else mode
    infinity, nan, largest = special_magnitudes(fmt)
    sign = 2 ** (fmt.exponent_bits + fmt.fraction_bits) if x.negative and fmt.signed else 0

    def overflowed(toward_zero: bool) -> tuple[int, int]:
        if overflow == "error":
            raise NoCode("overflow")
        if overflow == "saturate" or toward_zero:
            return sign | largest, OVERFLOW | INEXACT
        if infinity is not None:
            return sign | infinity, OVERFLOW | INEXACT
        if nan is None:
            raise NoCode("neither infinity nor NaN")
        return nan, OVERFLOW | INEXACT

    def invalid() -> tuple[int, int]:
        if overflow == "saturate":
            return 0, INVALID
        if overflow == "error" or nan is None:
            raise NoCode("invalid")
        return nan, INVALID

    if x.kind == "nan":
        if nan is None:
            raise NoCode("NaN")
        return nan, INVALID
    if x.negative and not fmt.signed and (x.kind == "infinity" or x.magnitude > 0):
        return invalid()
    if x.kind == "infinity":
        if overflow != "saturate" and infinity is not None:
            return sign | infinity, 0
        return overflowed(toward_zero=False)
    if x.magnitude == 0:
        if fmt.zero == "none":
            return invalid()
        return (sign if fmt.zero == "signed" else 0), 0

    magnitude = round_magnitude(fmt, x.magnitude, x.negative, mode, r, R)
    if magnitude > decode(fmt, largest).magnitude:
        inward = {"toward-zero": True, "to-odd": True}
        inward |= {"toward-positive": x.negative, "toward-negative": not x.negative}
        return overflowed(inward.get(mode, False))
    flags = 0
    if magnitude != x.magnitude:
        normal = power(1 - fmt.bias) if fmt.lowest == "subnormal" else smallest(fmt)
        flags = INEXACT | (UNDERFLOW if magnitude < normal else 0)
    if magnitude == 0:
        return (sign if fmt.zero == "signed" else 0), flags
    return sign | encode_number(fmt, magnitude), flags


def from_float(x: float) -> X:
    if x != x:
        return NAN
    if x in (float("inf"), float("-inf")):
        return X("infinity", x < 0)
    return X("number", bool(np.signbit(x)), abs(Fraction(float(x))))


# -- 3. The multiply-accumulate --------------------------------------------------------------------


def product(a: X, b: X) -> X:
    if a.kind == "nan" or b.kind == "nan":
        return NAN
    if a.kind == "infinity" or b.kind == "infinity":
        zero = X("number")
        if any(x.kind == "number" and x.magnitude == zero.magnitude for x in (a, b)):
            return NAN
        return X("infinity", a.negative != b.negative)
    return number(a.value * b.value)


def total(terms: list[X]) -> X:
    """The exact sum of terms, exceptional ones included."""
    infinities = {x.negative for x in terms if x.kind == "infinity"}
    if any(x.kind == "nan" for x in terms) or len(infinities) == 2:
        return NAN
    if infinities:
        return X("infinity", infinities.pop())
    return number(sum((x.value for x in terms), Fraction(0)))


def round_sum(fmt, x: X, mode, overflow, r, R) -> tuple[int, int]:
    """Round a sum: a zero result is +0 in every mode."""
    code, flags = round_code(fmt, x, mode, overflow, r, R)
    result = decode(fmt, code)
    if result.kind == "number" and result.magnitude == 0:
        code = 0
    return code, flags


def own_exponent(fmt, x: X) -> int:
    """floor(log2), a subnormal at its format's lowest exponent."""
    lowest = 1 - fmt.bias if fmt.lowest in ("subnormal", "flush") else -fmt.bias
    return max(floor_log2(x.magnitude), lowest)


def truncated(x: Fraction, quantum: Fraction) -> Fraction:
    n = floor(abs(x) / quantum) * quantum
    return -n if x < 0 else n


def step(profile, formats, acc: int, pairs: list[tuple[int, int]], R: list[int]):
    """One step: (code, flags of each rounding). R: the random integers of its roundings."""
    fmt_a, fmt_b, fmt, _ = formats
    rounding = (profile.rounding, profile.overflow, profile.random_bits)
    operands = [(decode(fmt_a, a), decode(fmt_b, b)) for a, b in pairs]
    products = [product(a, b) for a, b in operands]
    start = decode(fmt, acc)
    match profile.sum_order:
        case "fused":
            code, flags = round_sum(fmt, total([start, *products]), *rounding, R[0])
            return code, [flags]
        case "pair-first":
            pair, flags0 = round_sum(fmt, total(products), *rounding, R[0])
            code, flags1 = round_sum(fmt, total([start, decode(fmt, pair)]), *rounding, R[1])
            return code, [flags0, flags1]
        case "chain":
            products += [number(0)] * (2 - len(products))
            code, flags0 = round_sum(fmt, total([start, products[0]]), *rounding, R[0])
            code, flags1 = round_sum(fmt, total([decode(fmt, code), products[1]]), *rounding, R[1])
            return code, [flags0, flags1]
        case "aligned":
            terms = [start, *products]
            if all(x.kind == "number" for x in terms):
                exponents = [
                    own_exponent(fmt_a, a) + own_exponent(fmt_b, b)
                    for a, b in operands
                    if a.magnitude and b.magnitude
                ]
                if start.magnitude:
                    exponents.append(own_exponent(fmt, start))
                if exponents:
                    quantum = power(max(exponents) - profile.guard_bits)
                    terms = [number(truncated(x.value, quantum)) for x in terms]
            code, flags = round_sum(fmt, total(terms), *rounding, R[0])
            return code, [flags]
    raise AssertionError(profile.sum_order)


# -- 4. Random bits --------------------------------------------------------------------------------

G = 0x9E3779B97F4A7C15
ACCUMULATE_ROW, ACCUMULATE_COLUMN, BETWEEN_ROW, BETWEEN_COLUMN, CONVERT, UPDATE = range(6)


def mix64(z: int) -> int:
    z ^= z >> 30
    z = z * 0xBF58476D1CE4E5B9 % 2**64
    z ^= z >> 27
    z = z * 0x94D049BB133111EB % 2**64
    return z ^ z >> 31


def mix32(x: int) -> int:
    x ^= x >> 16
    x = x * 0x7FEB352D % 2**32
    x ^= x >> 15
    x = x * 0x846CA68B % 2**32
    return x ^ x >> 16


def absorb(h: int, x: int) -> int:
    return mix64(((h ^ x) + G) % 2**64)


def key(seed: int, stream: int, site: int) -> int:
    return absorb(absorb(absorb(0, seed), stream), site)


def word(key: int, i: int, j: int) -> int:
    return mix64((key + G * (i * 2**32 + j + 1)) % 2**64) >> 32


class Lane:
    """The hardware's look-alike: one output's Galois register."""

    def __init__(self, seed: int, stream: int, m: int, n: int) -> None:
        lane = (m % 8) * 64 + n % 64
        k = key(seed, stream, ACCUMULATE_ROW)
        self.x = word(k, (m // 8) * 2**16 + n // 64, lane) or 1

    def step(self) -> int:
        self.x = (self.x >> 1) ^ (0x80200003 if self.x & 1 else 0)
        return self.x


def conversion_random(seed: int, stream: int, t: int, r: int) -> int:
    return word(key(seed, stream, CONVERT), t >> 32, t % 2**32) >> (32 - r)


# -- A whole GEMM ----------------------------------------------------------------------------------


@dataclasses.dataclass
class Events:
    swamped: int = 0
    overflowed: int = 0
    underflowed: int = 0
    nan: int = 0
    draws: int = 0


def gemm(profile, formats, a, b, seed: int = 0, stream: int = 0):
    """(codes as nested lists, Events) of (M, K) times (K, N) operand codes.

    `formats` are those of A, of B, of the accumulator and of the running total of chunks.
    """
    (rows, depth), columns = np.shape(a), np.shape(b)[1]
    events = Events()
    keys = [key(seed, stream, site) for site in range(4)]
    result = []
    for m in range(rows):
        line = []
        for n in range(columns):
            pairs = [(int(a[m][k]), int(b[k][n])) for k in range(depth)]
            lane = Lane(seed, stream, m, n)
            line.append(_output(profile, formats, pairs, keys, lane, m, n, events))
        result.append(line)
    return result, events


def _output(profile, formats, pairs, keys, lane: Lane, m: int, n: int, events: Events) -> int:
    fmt_a, fmt_b, fmt, between = formats
    depth = len(pairs)

    def draw(mode: str, row_site: int, j: int) -> int:
        register = lane.step()  # by every rounding
        if mode not in (*STOCHASTIC, "stochastic"):
            return 0
        events.draws += 1
        if profile.random_source == "lfsr":
            w = register
        else:
            w = word(keys[row_site], m, j) ^ word(keys[row_site + 1], n, j)
            if profile.random_source == "counter":
                w = mix32(w)
        return w >> (32 - profile.random_bits)

    def count(flags: int) -> None:
        events.overflowed += bool(flags & OVERFLOW)
        events.underflowed += bool(flags & UNDERFLOW)

    length = profile.chunk_length or max(depth, 1)
    width = profile.products_per_step or length
    running = acc = 0
    for c, start in enumerate(range(0, depth, length)):
        acc = 0
        end = min(start + length, depth)
        for k in range(start, end, width):
            now = pairs[k : min(k + width, end)]
            R = [draw(profile.rounding, ACCUMULATE_ROW, k)]
            if profile.sum_order in ("pair-first", "chain"):
                R.append(draw(profile.rounding, ACCUMULATE_ROW, k + 1))
            code, flags = step(profile, formats, acc, now, R)
            for f in flags:
                count(f)
            products = total([product(decode(fmt_a, x), decode(fmt_b, y)) for x, y in now])
            if decode(fmt, acc).kind == "number" and products.kind == "number":
                events.swamped += products.magnitude != 0 and code == acc
            acc = code
        if profile.chunk_length:
            R0 = draw(profile.between_rounding, BETWEEN_ROW, c)
            terms = [decode(fmt, acc)] if c == 0 else [decode(between, running), decode(fmt, acc)]
            running, flags = round_sum(
                between, total(terms), profile.between_rounding, profile.overflow,
                profile.random_bits, R0,
            )  # fmt: skip
            count(flags)
    code, last = (running, between) if profile.chunk_length else (acc, fmt)
    events.nan += decode(last, code).kind == "nan"
    return code


# -- 6. Sites of a training step --------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Binary32:
    """Facts of binary32."""

    exponent_bits = 8
    fraction_bits = 23
    bias = 127
    signed = True
    zero = "signed"
    lowest = "subnormal"
    special = "ieee"


BINARY32 = Binary32()
PLACES = {
    "operand": 4, "update": 5, "unscale": 6, "decay": 7, "momentum": 8, "momentum-product": 9, "nesterov": 10,
    "second-moment": 11, "effective": 12, "residual": 13, "result": 14, "softmax": 15, "reduce": 16,
    "bias": 24, "norm": 25,
}  # fmt: skip


def binary32(x: float) -> X:
    """The binary32 number nearest to x, as an exact value."""
    return from_float(float(np.float32(x)))


def minus(x: X) -> X:
    return dataclasses.replace(x, negative=not x.negative)


def root(x: X) -> X:
    """√x to 100 bits; a tail below them becomes half a unit there, which rounds alike."""
    if x.kind == "nan" or (x.negative and (x.kind == "infinity" or x.magnitude > 0)):
        return NAN
    if x.kind == "infinity" or x.magnitude == 0:
        return x
    scale = power(200)
    square = x.magnitude * scale * scale
    low = math.isqrt(floor(square))
    return number((low + Fraction(int(low * low != square), 2)) / scale)


def ratio(x: X, y: X) -> X:
    """x / y."""
    if "nan" in (x.kind, y.kind) or x.kind == y.kind == "infinity":
        return NAN
    x_zero = x.kind == "number" and x.magnitude == 0
    y_zero = y.kind == "number" and y.magnitude == 0
    if x_zero and y_zero:
        return NAN
    if x.kind == "infinity" or y_zero:
        return X("infinity", x.negative != y.negative)
    if x_zero or y.kind == "infinity":
        return number(0)
    return number(x.value / y.value)


class Element:
    """One element of a training step: its sites, its random words, what its roundings met."""

    def __init__(self, seed: int, step: int, tensor: int, t: int) -> None:
        self.seed, self.t = seed, t
        self.stream = absorb(absorb(0, step), tensor)
        self.overflowed: dict[str, int] = {}
        self.underflowed: dict[str, int] = {}

    def random(self, place: str, r: int, hop: int = 0) -> int:
        k = key(self.seed, self.stream, PLACES[place])
        if hop:
            k = absorb(k, hop)
        return word(k, self.t >> 32, self.t % 2**32) >> (32 - r)

    def at(self, place: str, site, x: X, hop: int = 0) -> X:
        """x rounded at a site: anything with `record`, `rounding`, `overflow`, `random_bits`."""
        mode = "stochastic-a" if site.rounding == "stochastic" else site.rounding
        R = self.random(place, site.random_bits, hop) if mode in STOCHASTIC else 0
        code, flags = round_sum(site.record, x, mode, site.overflow, site.random_bits, R)
        self.overflowed[place] = self.overflowed.get(place, 0) + bool(flags & OVERFLOW)
        self.underflowed[place] = self.underflowed.get(place, 0) + bool(flags & UNDERFLOW)
        return decode(site.record, code)

    def fl(self, x: X) -> X:
        return decode(BINARY32, round_sum(BINARY32, x, "nearest-even", "special", 0, 0)[0])


def same_number(x: X, y: X) -> bool:
    if x.kind == y.kind == "number":
        return x.value == y.value
    return x == y and x.kind != "nan"


def update_element(rule, constants, W: X, r: X, v: X, n: X, G: X, e: Element):
    """One update: ((W', r', v', n'), stuck). `rule` and `constants` are only looked at.

    Raises:
        NoCode: a NaN into a format without one.
    """
    c = {f.name: binary32(getattr(constants, f.name)) for f in dataclasses.fields(constants)}
    residual = rule.rule.startswith("residual")

    def times(name: str, x: X) -> X:
        return product(c[name], x)

    S = rule.sites
    g = e.at("unscale", S["unscale"], ratio(G, c["scale"]))
    if c["decay"].magnitude:
        terms = [g, times("decay", W)] + ([minus(times("decay", r))] if residual else [])
        g = e.at("decay", S["decay"], total(terms))
    if rule.optimiser == "adam":
        v = e.at("momentum", S["momentum"], total([times("momentum", v), times("gain", g)]))
        square = product(g, g)
        second = total([times("second", n), times("second_gain", square)])
        n = e.at("second-moment", S["second-moment"], second)
        a = e.fl(root(n))
        a = e.fl(ratio(a, c["correction"]))
        a = e.fl(total([a, c["epsilon"]]))
        d = e.fl(ratio(v, a))
    elif c["momentum"].magnitude:
        kept = times("momentum", v)
        if rule.momentum_roundings == 2:
            kept = e.at("momentum-product", S["momentum"], kept)
        d = v = e.at("momentum", S["momentum"], total([kept, times("gain", g)]))
        if rule.nesterov:
            d = e.at("nesterov", S["momentum"], total([g, times("momentum", v)]))
    else:
        d = g

    kappa_W, alpha_d, kappa_r = times("shrink", W), times("rate", d), times("shrink", r)
    r1 = r
    match rule.rule:
        case "master" | "axpy":
            W1 = e.at("update", S["update"], total([kappa_W, minus(alpha_d)]))
        case "residual-wide":
            u = e.fl(total([kappa_W, minus(alpha_d), minus(kappa_r)]))
            W1 = e.at("update", S["update"], u)
            r1 = e.at("residual", S["residual"], total([W1, minus(u)]))
        case "residual-small":
            rho_W = product(number(1 - c["shrink"].value), W)
            t = e.at("effective", S["residual"], total([kappa_r, alpha_d, rho_W]))
            W1 = e.at("update", S["update"], total([W, minus(t)]))
            r1 = e.at("residual", S["residual"], total([W1, minus(W), t]))
        case "residual-naive":
            u = e.at("effective", S["residual"], total([kappa_W, minus(alpha_d), minus(kappa_r)]))
            W1 = e.at("update", S["update"], u)
            r1 = e.at("residual", S["residual"], total([W1, minus(u)]))

    moved = [kappa_W, minus(alpha_d)] + ([minus(kappa_r)] if residual else [])
    still = [W] + ([minus(r)] if residual else [])
    stays = same_number(W1, W) and (not residual or same_number(r1, r))
    stuck = stays and not same_number(e.fl(total(moved)), e.fl(total(still)))
    return (W1, r1, v, n), stuck


def reduce(site, gradients: list[list[X]], seed: int, step: int, tensor: int) -> list[X]:
    """The sum over learners of gradients[learner][element]."""
    N, P = len(gradients), len(gradients[0])
    result = [NAN] * P
    for c in range(N):
        for t in range(c * P // N, (c + 1) * P // N):
            e = Element(seed, step, tensor, t)
            value = gradients[(c + 1) % N][t]
            for hop in range(1, N):
                value = e.at(
                    "reduce", site, total([value, gradients[(c + 1 + hop) % N][t]]), hop
                )  # fmt: skip
            result[t] = value
    return result


def softmax_input(site, rows: list[list[X]], seed: int, step: int, tensor: int) -> list[list[X]]:
    """Each row's elements less its maximum; those of −∞ stay.

    Raises:
        NoCode: a NaN into a format without one.
    """
    result = []
    for number_of_row, row in enumerate(rows):
        largest = max(row, key=_order) if all(x.kind != "nan" for x in row) else NAN
        line = []
        for column, x in enumerate(row):
            if x.kind == "infinity" and x.negative:
                line.append(x)
                continue
            e = Element(seed, step, tensor, number_of_row * len(row) + column)
            line.append(e.at("softmax", site, total([x, minus(largest)])))
        result.append(line)
    return result


def rounded_sums(
    place: str, site, terms: list[list[X]], seed: int, step: int, tensor: int
) -> list[X]:
    """Sums of one or more tensors, terms[term][element], rounded at a place."""
    return [
        Element(seed, step, tensor, t).at(place, site, total(list(xs)))
        for t, xs in enumerate(zip(*terms, strict=True))
    ]


def _order(x: X) -> tuple[int, Fraction]:
    """Numbers in their order, infinities at the ends."""
    if x.kind == "infinity":
        return (-1 if x.negative else 1), Fraction(0)
    return 0, x.value
