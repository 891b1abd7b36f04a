"""Hypothesis strategies: formats, codes, values near boundaries, profiles, GEMM problems, programs.

from hypothesis import given
from hfp8sim.testing import strategies as hst

@given(hst.gemm_problems())
def test_mine(problem):
    assert my_gemm(problem) == problem.run()
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st
from numpy.typing import NDArray

from hfp8sim.errors import InputError
from hfp8sim.formats import MODES, FloatFormat, get_format
from hfp8sim.formats import formats as names
from hfp8sim.isa import INSTRUCTIONS, Program, encode
from hfp8sim.network import PHASES
from hfp8sim.ops import gemm
from hfp8sim.testing.boundaries import boundary_values, number_codes
from hfp8sim.units import Profile
from hfp8sim.units import profiles as profile_names
from hfp8sim.units.profile import get_profile
from hfp8sim.units.random import SOURCES


@st.composite
def formats(draw: st.DrawFn, max_bits: int = 16, accumulator: bool = False) -> FloatFormat:
    """Formats of at most `max_bits` bits: registered ones, and records of any valid facts.

    `accumulator`: only formats that can hold a sum, that is with a sign, a zero and a NaN.
    """
    shipped = [fmt for fmt in map(get_format, names()) if fmt.bits <= max_bits]
    if accumulator:
        shipped = [fmt for fmt in shipped if fmt.signed and fmt.zero != "none" and fmt.has_nan]
    if draw(st.booleans()):
        return draw(st.sampled_from(shipped))
    signed = accumulator or draw(st.booleans())
    exponent_bits = draw(st.integers(1, min(8, max_bits - signed)))
    fraction_bits = draw(st.integers(0, min(12, max_bits - signed - exponent_bits)))
    special = draw(
        st.sampled_from(["ieee", "fn", "nan-inf", "fnuz"] + ["none"] * (not accumulator))
    )
    middle = (1 << exponent_bits) // 2
    facts: dict[str, Any] = {
        "signed": signed,
        "special": special,
        "zero": "unsigned" if special == "fnuz" or not signed else "signed",
        "lowest": draw(st.sampled_from(["subnormal", "normal", "flush"])),
        "bias": draw(st.integers(middle - 4, middle + 4)),
    }
    try:
        return FloatFormat("any", exponent_bits, fraction_bits, **facts)
    except InputError:  # no code left for a number, or no sign for fnuz
        assume(False)
        raise


def codes(fmt: str | FloatFormat, numbers_only: bool = False) -> st.SearchStrategy[int]:
    """Codes of a format, both ends, powers of two and special codes more often than others."""
    record = get_format(fmt)
    top = (1 << record.bits) - 1
    half = 1 << (record.exponent_bits + record.fraction_bits)
    f = record.facts
    edges = [
        0,
        f.min_mag,
        f.normal_mag,
        f.max_mag - 1,
        f.max_mag,
        record.bias << record.fraction_bits,
    ]
    if not numbers_only:
        edges += [mag for mag in (f.max_mag + 1, f.inf_mag, half - 1) if 0 <= mag < half]
    edges = [mag for mag in edges if 0 <= mag < half]
    if record.signed:
        edges += [half + mag for mag in edges]
    any_code = st.sampled_from(edges) | st.integers(0, top)
    if not numbers_only:
        return any_code
    return any_code.filter(lambda code: bool(np.isfinite(record.decode(np.uint32(code)))))


@st.composite
def code_arrays(
    draw: st.DrawFn, fmt: str | FloatFormat, shape: tuple[int, ...], numbers_only: bool = False
) -> NDArray[np.unsignedinteger[Any]]:
    """Arrays of codes."""
    record = get_format(fmt)
    size = int(np.prod(shape))
    elements = draw(st.lists(codes(record, numbers_only), min_size=size, max_size=size))
    return np.array(elements, record.dtype).reshape(shape)


@st.composite
def values(draw: st.DrawFn, fmt: str | FloatFormat, nan: bool = True) -> float:
    """binary64 numbers, most of them at or beside a boundary of a rounding into the format.

    A number of the format, a midpoint or a quarter point, exactly or one binary64 step beside it; a number
    beyond either end; any binary64 number. NaN only if the format has one and `nan` is true.
    """
    record = get_format(fmt)
    kind = draw(st.sampled_from(["near", "between", "special", "fixed", "any"]))
    if kind == "special":
        nans = [np.nan] * (nan and record.has_nan)
        x = draw(st.sampled_from([0.0, np.inf, record.max, record.min_positive, *nans]))
        x = -x if draw(st.booleans()) else x
    elif kind == "fixed":
        x = draw(st.sampled_from(list(boundary_values(record, limit=32))))
    elif kind == "any":
        x = draw(st.floats(allow_nan=nan and record.has_nan))
    else:
        mags = number_codes(record, limit=1 << 10)
        i = draw(st.integers(0, len(mags) - 2)) if len(mags) > 1 else 0
        low, high = (float(v) for v in record.decode(mags[[i, min(i + 1, len(mags) - 1)]]))
        x = low + (high - low) * draw(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]))
        if kind == "near":
            x = float(np.nextafter(x, draw(st.sampled_from([-np.inf, np.inf]))))
        x = -x if draw(st.booleans()) else x
    assume(nan or x == x)
    return float(x)


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    """Arithmetic profiles with exact products: the registered ones, and other valid combinations of choices."""
    if draw(st.booleans()):
        return get_profile(draw(st.sampled_from(profile_names("exact"))))
    order = draw(st.sampled_from(["fused", "pair-first", "chain", "aligned"]))
    products = {"fused": st.integers(0, 2), "aligned": st.integers(1, 64)}.get(order, st.just(2))
    return Profile(
        "any",
        accumulator=draw(formats(accumulator=True)),
        between_chunks=draw(formats(accumulator=True)),
        chunk_length=draw(st.sampled_from([0, 1, 2, 3, 8, 64])),
        products_per_step=draw(products),
        sum_order=order,
        guard_bits=draw(st.integers(1, 48)) if order == "aligned" else 0,
        rounding=draw(st.sampled_from(MODES)),
        between_rounding=draw(st.sampled_from(MODES)),
        random_bits=draw(st.integers(1, 24)),
        random_source=draw(st.sampled_from(SOURCES)),
        overflow=draw(st.sampled_from(["saturate", "special"])),
    )


@dataclasses.dataclass(frozen=True)
class GemmProblem:
    """The operands, formats, profile and seed of a GEMM."""

    profile: Profile
    a_format: FloatFormat
    b_format: FloatFormat
    a: NDArray[np.unsignedinteger[Any]]  #: codes (M, K)
    b: NDArray[np.unsignedinteger[Any]]  #: codes (K, N)
    seed: int

    def run(self, **changes: Any) -> NDArray[np.unsignedinteger[Any]]:
        """hfp8sim's result: accumulator codes (M, N). `changes` are further arguments of `hs.gemm`."""
        arguments: dict[str, Any] = {
            "a_format": self.a_format,
            "b_format": self.b_format,
            "seed": self.seed,
        }
        return np.asarray(gemm(self.a, self.b, self.profile, **arguments | changes))


@st.composite
def gemm_problems(
    draw: st.DrawFn,
    profile: str | Profile | None = None,
    a_format: str | FloatFormat | None = None,
    b_format: str | FloatFormat | None = None,
    max_side: int = 4,
    max_k: int = 40,
    numbers_only: bool = False,
) -> GemmProblem:
    """GEMM problems with M, N ≤ `max_side` and K ≤ `max_k`; formats and profile are drawn if None."""
    problem_profile = get_profile(profile) if profile is not None else draw(profiles())
    phase = draw(st.sampled_from(PHASES))
    pair = (
        problem_profile.operand_formats(phase)
        if draw(st.booleans())
        else (draw(formats()), draw(formats()))
    )
    fmt_a, fmt_b = (
        get_format(requested) if requested is not None else drawn_format
        for requested, drawn_format in zip((a_format, b_format), pair)
    )
    m, n = draw(st.integers(1, max_side)), draw(st.integers(1, max_side))
    k = draw(st.integers(0, max_k))
    a = draw(code_arrays(fmt_a, (m, k), numbers_only))
    b = draw(code_arrays(fmt_b, (k, n), numbers_only))
    return GemmProblem(problem_profile, fmt_a, fmt_b, a, b, draw(st.integers(0, 2**64 - 1)))


@st.composite
def instruction_words(draw: st.DrawFn) -> int:
    """Valid instruction words: any row of the table with any operands and flags."""
    row = draw(st.sampled_from(INSTRUCTIONS))
    operands = {field.name: draw(st.integers(0, field.mask)) for field in row.fields}
    flags = [flag.name for flag in row.flags if draw(st.booleans())]
    return encode(row.mnemonic, *flags, **operands)


@st.composite
def programs(draw: st.DrawFn, max_size: int = 12) -> Program:
    """Programs of any instructions that end in `halt`, for encoders and assemblers. They may not execute."""
    words = draw(st.lists(instruction_words(), max_size=max_size))
    return Program(np.array([*words, encode("halt")], np.uint64))
