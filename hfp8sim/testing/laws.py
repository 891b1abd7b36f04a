"""Laws: properties that every format and every GEMM has, as checks and as pytest tests.

    from hfp8sim.testing import laws
    test_mine = laws.for_format("mine-134")                       # pytest: one test for each law
    laws.check_format("mine-134", encode=my_encode)               # without pytest

With `encode` or `decode` the laws compare an implementation with the format's definition. An error names
the law and the first input that breaks it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hfp8sim.formats import MODES, FloatFormat, get_format
from hfp8sim.network.records import PHASES
from hfp8sim.ops import gemm
from hfp8sim.testing.boundaries import boundary_values, number_codes
from hfp8sim.units import Profile, get_profile

Codes = NDArray[np.unsignedinteger[Any]]
Values = NDArray[np.float64]

NEAREST = ("nearest-even", "nearest-away")
DIRECTED = ("toward-zero", "toward-positive", "toward-negative")
STOCHASTIC = ("stochastic-a", "stochastic-b", "stochastic-c")
#: The mode that rounds −x as a mode rounds x; modes that are not listed map to themselves.
MIRROR = {"toward-positive": "toward-negative", "toward-negative": "toward-positive"}


class Encode(Protocol):
    """The signature of `FloatFormat.encode`."""

    def __call__(
        self,
        x: Any,
        rounding: str = ...,
        overflow: str = ...,
        random_bits: Any = ...,
        bits: int = ...,
    ) -> Codes: ...


class LawBroken(AssertionError):
    """A law does not hold. The text names the first input that breaks it."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """A format and the implementation under test."""

    fmt: FloatFormat
    encode: Encode
    decode: Callable[[Any], Values]
    modes: tuple[str, ...] = MODES

    def rounded(
        self, x: Values, mode: str, random: NDArray[np.int64] | None = None, bits: int = 13,
        overflow: str = "saturate",
    ) -> Values:  # fmt: skip
        """x rounded and decoded again. Stochastic modes take `random`, or one fixed word for all x."""
        if mode in STOCHASTIC and random is None:
            random = np.full(x.shape, 1 << (bits - 1) | 5)
        return self.decode(self.encode(x, mode, overflow, random, bits))

    @property
    def values(self) -> Values:
        """The finite boundary values of the format, ascending."""
        x = boundary_values(self.fmt, limit=2048)
        x = np.unique(x[np.isfinite(x)])
        return x if self.fmt.signed else x[x >= (0 if self.fmt.zero != "none" else 5e-324)]

    @property
    def numbers(self) -> Values:
        """The format's numbers, ascending; of a format with more than 2^16 of them, a selection."""
        codes = number_codes(self.fmt, limit=1 << 16)
        values = self.decode(codes.astype(self.fmt.dtype))
        return np.unique(np.concatenate([values, -values]) if self.fmt.signed else values)


def _require(holds: Any, message: str, **values: Any) -> None:
    """Raise `LawBroken` for the first false element of `holds`.

    `message` is a format string of `values`. Of an array among them, the element at the first false
    position is taken.
    """
    flat = np.asarray(holds).ravel()
    bad = np.flatnonzero(~flat)
    if bad.size == 0:
        return
    first = int(bad[0])
    named = {
        name: value.ravel()[first].item() if isinstance(value, np.ndarray) else value
        for name, value in values.items()
    }
    raise LawBroken(f"{message.format(**named)} ({bad.size} of {flat.size} inputs)")


def decode_after_encode(s: Subject) -> None:
    """Every number encodes to its own code, in every mode, and every code of a number decodes."""
    mags = number_codes(s.fmt, limit=1 << 16)
    codes = [mags]
    if s.fmt.signed:
        sign = 1 << (s.fmt.exponent_bits + s.fmt.fraction_bits)
        codes.append((mags if s.fmt.zero == "signed" else mags[mags > 0]) + sign)
    every = np.concatenate(codes).astype(s.fmt.dtype)
    values = s.decode(every)
    _require(np.isfinite(values), "code {c:#x} is a number, but decodes to {v}", c=every, v=values)
    for mode in s.modes:
        random = np.full(every.shape, (1 << 13) - 1) if mode in STOCHASTIC else None
        back = s.encode(values, mode, "saturate", random, 13)
        _require(
            back == every, "{mode}: code {c:#x} = {v} came back as {b:#x}",
            mode=mode, c=every, v=values, b=back,
        )  # fmt: skip


def monotone(s: Subject) -> None:
    """x ≤ y implies round(x) ≤ round(y), in every mode, with equal random bits."""
    x = s.values
    for mode in s.modes:
        y = s.rounded(x, mode)
        _require(
            y[:-1] <= y[1:], "{mode}: {x!r} → {y}, but {x2!r} → {y2}",
            mode=mode, x=x[:-1], y=y[:-1], x2=x[1:], y2=y[1:],
        )  # fmt: skip


def sign_symmetry(s: Subject) -> None:
    """round(−x) = −round(x); the two directed modes change places."""
    if not s.fmt.signed:
        return
    x = s.values
    x = x[x > 0]
    for mode in s.modes:
        mirrored = MIRROR.get(mode, mode)
        if mirrored in s.modes:
            y, z = s.rounded(x, mode), s.rounded(-x, mirrored)
            _require(
                y == -z, "{mode}: {x!r} → {y}, and its negative → {z}", mode=mode, x=x, y=y, z=z
            )


def _neighbours(s: Subject) -> tuple[Values, Values, Values]:
    """(x, nearest number at or below x, nearest number at or above x) for boundary values x.

    Values beyond the largest number are left out, and those whose neighbours are not in `number_codes`.
    """
    numbers, x = s.numbers, s.values
    x = x[(x >= numbers[0]) & (x <= numbers[-1])]
    if s.fmt.bits <= 16:
        index = np.searchsorted(numbers, x, side="right") - 1
        below, above = numbers[index], numbers[np.minimum(index + 1, numbers.size - 1)]
        return x, below, np.where(x == below, below, above)
    # `number_codes` has only some pairs of neighbours of a wide format.
    codes = number_codes(s.fmt, limit=1 << 16)
    pairs = codes[:-1][np.diff(codes) == 1]
    low, high = (s.decode(c.astype(s.fmt.dtype)) for c in (pairs, pairs + 1))
    index = np.maximum(np.searchsorted(low, np.abs(x), side="right") - 1, 0)
    inside = (np.abs(x) >= low[index]) & (np.abs(x) <= high[index])
    x, near, far = x[inside], low[index][inside], high[index][inside]
    near, far = np.where(np.abs(x) == far, far, near), np.where(np.abs(x) == near, near, far)
    return x, np.where(x >= 0, near, -far), np.where(x >= 0, far, -near)


_BETWEEN = "{mode}: {x!r} lies between {low} and {high}, but became {y}"


def faithful(s: Subject) -> None:
    """A result is one of the two neighbours, the right one in directed modes, and x if x is a number."""
    x, below, above = _neighbours(s)
    for mode in s.modes:
        y = s.rounded(x, mode)
        right = {
            "toward-positive": y == above,
            "toward-negative": y == below,
            "toward-zero": y == np.where(x >= 0, below, above),
        }.get(mode, (y == below) | (y == above))
        _require(right, _BETWEEN, mode=mode, x=x, low=below, high=above, y=y)


def nearest_is_nearest(s: Subject) -> None:
    """No number is nearer than the result of a nearest mode; ties go to the even code, or away.

    In a format without subnormals the law holds from the smallest number on.
    """
    x, below, above = _neighbours(s)
    if s.fmt.lowest != "subnormal":
        large = np.abs(x) >= s.fmt.min_positive
        x, below, above = x[large], below[large], above[large]
    down, up = x - below, above - x  # exact: neighbours lie within a factor of two
    tie = down == up
    for mode in NEAREST:
        if mode not in s.modes:
            continue
        codes = s.encode(x, mode, "saturate", None, 13)
        y = s.decode(codes)
        if mode == "nearest-away":
            at_tie = np.where(x >= 0, above, below)
        else:
            at_tie = y
            even = ~(tie & (down > 0)) | (codes % 2 == 0)
            _require(
                even, "{mode}: the tie {x!r} went to the odd code {c:#x}", mode=mode, x=x, c=codes
            )
        right = np.where(tie, at_tie, np.where(down < up, below, above))
        _require(y == right, _BETWEEN, mode=mode, x=x, low=below, high=above, y=y)


def idempotent(s: Subject) -> None:
    """Rounding a rounded number changes nothing."""
    x = s.values
    for mode in s.modes:
        once = s.rounded(x, mode)
        twice = s.rounded(once, mode)
        _require(once == twice, "{mode}: {x!r} → {y} → {z}", mode=mode, x=x, y=once, z=twice)


def saturation(s: Subject) -> None:
    """Under `saturate` what lies beyond the largest number becomes it, infinities too."""
    top = s.fmt.max
    with np.errstate(over="ignore"):
        beyond = np.array([np.nextafter(top, np.inf), top * 1.01, top * 2, top * 2.0**20, np.inf])
    x = np.concatenate([beyond, -beyond]) if s.fmt.signed else beyond
    for mode in s.modes:
        y = s.rounded(x, mode)
        _require(
            y == np.copysign(top, x), "{mode}: {x!r} became {y}, but the largest number is {top}",
            mode=mode, x=x, y=y, top=top,
        )  # fmt: skip


def nan_and_zero(s: Subject) -> None:
    """NaN stays NaN where there is one; zero stays zero and keeps its sign where there are two."""
    for mode in s.modes:
        if s.fmt.has_nan:
            y = s.rounded(np.array([np.nan]), mode)
            _require(np.isnan(y), "{mode}: NaN became {y}", mode=mode, y=y)
        if s.fmt.zero != "none":
            x = np.array([0.0, -0.0])
            y = s.rounded(x, mode)
            signs = np.array([False, s.fmt.zero == "signed"])
            _require(
                (y == 0) & (np.signbit(y) == signs), "{mode}: {x} became {y}", mode=mode, x=x, y=y
            )


def stochastic_mean(s: Subject) -> None:
    """Over all 2^r random words a stochastic mode rounds up as often as it should.

    Let ν in [0, 1) be the position of x between its two neighbours in magnitude. Mode A rounds up for
    floor(ν·2^r) words, so its share is less than 2^−r below ν. The shares of B and C differ from ν by at
    most half of that. The law includes values between zero and the smallest number.
    """
    r = 6
    words = np.arange(1 << r)
    x, below, above = _neighbours(s)
    near, far = np.minimum(np.abs(below), np.abs(above)), np.maximum(np.abs(below), np.abs(above))
    keep = (far > near) & ((near > 0) | (np.abs(x) > far * 2.0**-40))
    x, near, far = x[keep][:4096], near[keep][:4096], far[keep][:4096]
    nu = (np.abs(x) - near) / (far - near)
    step, slack = 2.0**-r, 2.0**-40  # slack: ν is the result of a rounded division
    for mode in STOCHASTIC:
        if mode not in s.modes:
            continue
        y = s.rounded(np.repeat(x[:, None], words.size, 1), mode, np.tile(words, (x.size, 1)), r)
        share = (np.abs(y) == far[:, None]).mean(axis=1)
        short = nu - share
        if mode == "stochastic-a":
            right = (short > -slack) & (short < step + slack)
        else:
            right = np.abs(short) <= step / 2 + slack
        _require(
            right,
            "{mode}: {x!r} lies {nu:.6f} of the way from {near} to {far}, but goes there {share:.6f} of the time",
            mode=mode, x=x, nu=nu, near=near, far=far, share=share,
        )  # fmt: skip


#: The laws of a format, by name.
FORMAT_LAWS: dict[str, Callable[[Subject], None]] = {
    law.__name__: law
    for law in (
        decode_after_encode, monotone, sign_symmetry, faithful, nearest_is_nearest, idempotent,
        saturation, nan_and_zero, stochastic_mean,
    )
}  # fmt: skip


# -- GEMMs -------------------------------------------------------------------------------------------


class Gemm(Protocol):
    """The signature of `hs.gemm`, as far as the laws use it."""

    def __call__(
        self,
        a: Any,
        b: Any,
        profile: Profile,
        *,
        a_format: FloatFormat,
        b_format: FloatFormat,
        seed: int,
    ) -> Codes: ...


@dataclasses.dataclass(frozen=True)
class GemmSubject:
    """A profile and the implementation of its GEMM under test."""

    profile: Profile
    gemm: Gemm

    def operands(
        self, phase: str, k: int, seed: int = 0
    ) -> tuple[FloatFormat, FloatFormat, Codes, Codes]:
        """Operands of a phase, numbers of all sizes: (a_format, b_format, a (7, k), b (k, 6))."""
        rng = np.random.default_rng([PHASES.index(phase), k, seed])
        fmt_a, fmt_b = self.profile.operand_formats(phase)

        def draw(fmt: FloatFormat, shape: tuple[int, int]) -> Codes:
            scale = np.exp2(rng.integers(-3, 3, shape).astype(float))
            return fmt.encode(rng.standard_normal(shape) * scale)

        return fmt_a, fmt_b, draw(fmt_a, (7, k)), draw(fmt_b, (k, 6))

    def run(
        self, fmt_a: FloatFormat, fmt_b: FloatFormat, a: Codes, b: Codes, seed: int = 0
    ) -> Codes:
        """The implementation's result."""
        return self.gemm(a, b, self.profile, a_format=fmt_a, b_format=fmt_b, seed=seed)


_DEPTHS = (1, 2, 63, 64, 65, 130)


def _equal(result: Codes, expected: Codes, case: str) -> None:
    """Raise `LawBroken` for the first output that differs; `case` says which product it is."""
    outputs = [f"[{i}, {j}]" for i, j in np.ndindex(*expected.shape)]
    _require(
        result == expected, "{case}: output {output} is {result:#x}, not {expected:#x}",
        case=case, output=np.array(outputs), result=result, expected=expected,
    )  # fmt: skip


def commutes(s: GemmSubject) -> None:
    """(A·B)ᵀ = Bᵀ·Aᵀ: products commute, and the order of k does not change. (Not with random bits.)"""
    if s.profile.stochastic:
        return
    for phase in PHASES:
        for k in _DEPTHS:
            fmt_a, fmt_b, a, b = s.operands(phase, k)
            _equal(s.run(fmt_b, fmt_a, b.T, a.T).T, s.run(fmt_a, fmt_b, a, b), f"{phase}, K = {k}")


def rows_are_independent(s: GemmSubject) -> None:
    """Each row of A gives its row of the result, whatever the others are. (Not with random bits.)"""
    if s.profile.stochastic:
        return
    for k in _DEPTHS:
        fmt_a, fmt_b, a, b = s.operands("fwd", k)
        order = np.array([3, 0, 6, 2])
        _equal(s.run(fmt_a, fmt_b, a[order], b), s.run(fmt_a, fmt_b, a, b)[order], f"K = {k}")


def negation(s: GemmSubject) -> None:
    """(−A)·B = −(A·B), a zero being +0. (Directed modes aside.)"""
    p = s.profile
    if {p.rounding, p.between_rounding} & {"toward-positive", "toward-negative"}:
        return
    for k in _DEPTHS:
        fmt_a, fmt_b, a, b = s.operands("wgrad", k)
        if not fmt_a.signed or fmt_a.zero != "signed":
            return
        flip = a.dtype.type(1 << (fmt_a.exponent_bits + fmt_a.fraction_bits))
        out = p.result_format
        plus, minus = (out.decode(s.run(fmt_a, fmt_b, x, b)) for x in (a, a ^ flip))
        holds = (plus == -minus) | (np.isnan(plus) & np.isnan(minus))
        _require(holds, "K = {k}: {plus}, but of the negative {minus}", k=k, plus=plus, minus=minus)


def zeros_add_nothing(s: GemmSubject) -> None:
    """Products that are zero, put at the end of the last chunk, change nothing; K = 0 gives +0."""
    length = s.profile.chunk_length or 64
    step = s.profile.products_per_step or length
    for k in (0, length - step, length + step):
        if k < 0:
            continue
        fmt_a, fmt_b, a, b = s.operands("fwd", k)
        zeros = np.zeros((7, 1), a.dtype)
        ones = np.full((1, 6), fmt_b.encode(1.0), b.dtype)
        result = s.run(fmt_a, fmt_b, np.hstack([a, zeros]), np.vstack([b, ones]))
        _equal(result, s.run(fmt_a, fmt_b, a, b), f"K = {k} and a zero")
        if k == 0:
            _equal(result, np.zeros_like(result), "K = 0")


def small_integers_are_exact(s: GemmSubject) -> None:
    """Products of small whole numbers, and their sums, are exact in every mode."""
    acc, total = s.profile.accumulator, s.profile.result_format
    limit = 2 ** min(get_format(acc).precision, total.precision, s.profile.guard_bits or 24)
    for phase in PHASES:
        fmt_a, fmt_b = s.profile.operand_formats(phase)
        rng = np.random.default_rng(3)
        k = min(limit // 4, 200)  # several chunks
        x, y = rng.integers(-1, 3, (7, k)), rng.integers(-1, 3, (k, 6))
        if not (fmt_a.signed and fmt_b.signed):
            x, y = np.abs(x), np.abs(y)
        expected = x @ y
        if np.abs(x).sum(1).max() * 2 > limit:
            continue
        result = total.decode(s.run(fmt_a, fmt_b, fmt_a.encode(x), fmt_b.encode(y)))
        _require(
            result == expected, "{phase}: {result} instead of {expected}",
            phase=phase, result=result, expected=expected,
        )  # fmt: skip


def seeded(s: GemmSubject) -> None:
    """Equal seeds give equal results."""
    fmt_a, fmt_b, a, b = s.operands("fwd", 130)
    _equal(s.run(fmt_a, fmt_b, a, b, 5), s.run(fmt_a, fmt_b, a, b, 5), "seed 5, twice")


#: The laws of a GEMM, by name.
GEMM_LAWS: dict[str, Callable[[GemmSubject], None]] = {
    law.__name__: law
    for law in (
        commutes, rows_are_independent, negation, zeros_add_nothing, small_integers_are_exact, seeded,
    )
}  # fmt: skip


# -- applying them -------------------------------------------------------------------------------------


def _subject(
    fmt: str | FloatFormat, encode: Encode | None, decode: Callable[[Any], Values] | None,
    modes: tuple[str, ...] | None,
) -> Subject:  # fmt: skip
    record = get_format(fmt)
    return Subject(record, encode or record.encode, decode or record.decode, modes or MODES)


def check_format(
    fmt: str | FloatFormat,
    *,
    encode: Encode | None = None,
    decode: Callable[[Any], Values] | None = None,
    modes: tuple[str, ...] | None = None,
) -> None:
    """Apply all laws of a format.

    Args:
        fmt: the definition: a registered name or a record.
        encode, decode: the implementation under test; the package's own by default.
        modes: rounding modes that it implements; all by default.

    Raises `LawBroken`, which names the law and the first input that breaks it.
    """
    for name, law in FORMAT_LAWS.items():
        _apply(name, law, _subject(fmt, encode, decode, modes))


def check_gemm(profile: str | Profile, implementation: Gemm = gemm) -> None:
    """Apply all laws of a GEMM. `LawBroken` names the law and the first output that breaks it."""
    for name, law in GEMM_LAWS.items():
        _apply(name, law, GemmSubject(get_profile(profile), implementation))


def _apply(name: str, law: Callable[[Any], None], subject: Any) -> None:
    try:
        law(subject)
    except LawBroken as broken:
        raise LawBroken(f"{name}: {broken}") from None


def for_format(
    fmt: str | FloatFormat,
    *,
    encode: Encode | None = None,
    decode: Callable[[Any], Values] | None = None,
    modes: tuple[str, ...] | None = None,
) -> Callable[[str], None]:
    """A pytest test with one case for each law of a format. Arguments are those of `check_format`."""
    import pytest

    @pytest.mark.parametrize("law", FORMAT_LAWS)
    def test(law: str) -> None:
        FORMAT_LAWS[law](_subject(fmt, encode, decode, modes))

    return test


def for_gemm(profile: str | Profile, implementation: Gemm = gemm) -> Callable[[str], None]:
    """A pytest test with one case for each law of a GEMM. Arguments are those of `check_gemm`."""
    import pytest

    @pytest.mark.parametrize("law", GEMM_LAWS)
    def test(law: str) -> None:
        GEMM_LAWS[law](GemmSubject(get_profile(profile), implementation))

    return test
