"""GEMM problems for the unit tests, and the three-way comparison."""

from __future__ import annotations

import numpy as np

from hfp8sim.formats import FloatFormat, get_format
from hfp8sim.ops import Events, gemm, plain_gemm
from hfp8sim.units import Profile, accumulator, get_profile
from hfp8sim.verify import c_reference as reference
from tests import oracle


def edge_codes(fmt: FloatFormat) -> np.ndarray:
    """Zero, smallest, largest, special codes and their neighbours, powers of two; both signs."""
    top = (1 << (fmt.exponent_bits + fmt.fraction_bits)) - 1
    f = fmt.fraction_bits
    one = fmt.bias << f
    near = [0, fmt.facts.max_mag, top, 1 << f, one, top >> 1, top - (1 << f) + 1]
    mags = {m + d for m in near for d in (-1, 0, 1, 2) if 0 <= m + d <= top}
    mags |= {
        e << f for e in range(0, 1 << fmt.exponent_bits, max(1, (1 << fmt.exponent_bits) // 16))
    }
    mags = sorted(mags)
    signs = (0, top + 1) if fmt.signed else (0,)
    return np.array([s | m for s in signs for m in mags], fmt.dtype)


def operand(rng: np.random.Generator, fmt: FloatFormat, shape, kind: str) -> np.ndarray:
    """Codes of one kind: `any`, `edges`, `numbers` (no special codes), `normal` (a bell curve),
    `zero`, `extreme` (±largest) or `wide` (cancelling giants among dwarfs)."""
    finite = finite_codes(fmt)
    match kind:
        case "any":
            return rng.integers(0, 1 << fmt.bits, shape).astype(fmt.dtype)
        case "edges":
            return rng.choice(edge_codes(fmt), shape)
        case "numbers":
            return rng.choice(finite, shape)
        case "normal":
            scale = min(1.0, fmt.max / 4)
            x = rng.standard_normal(shape) * scale
            return fmt.encode(np.abs(x) + fmt.min_positive if not fmt.signed else x)
        case "zero":
            return np.zeros(shape, fmt.dtype)
        case "extreme":
            sign = rng.integers(0, 2, shape) if fmt.signed else np.zeros(shape, np.int64)
            return (fmt.facts.max_mag | sign << (fmt.exponent_bits + fmt.fraction_bits)).astype(
                fmt.dtype
            )
        case "wide":
            giants = np.array([fmt.facts.max_mag, fmt.facts.max_mag - 1])
            dwarfs = np.array([fmt.facts.min_mag, fmt.facts.min_mag + 1, fmt.facts.normal_mag])
            mags = np.where(
                rng.random(shape) < 0.4, rng.choice(giants, shape), rng.choice(dwarfs, shape)
            )
            sign = rng.integers(0, 2, shape) if fmt.signed else np.zeros(shape, np.int64)
            return (mags | sign << (fmt.exponent_bits + fmt.fraction_bits)).astype(fmt.dtype)
    raise AssertionError(kind)


KINDS = ("any", "edges", "numbers", "normal", "zero", "extreme", "wide")


def finite_codes(fmt: FloatFormat) -> np.ndarray:
    """Codes of numbers: all for narrow formats, a fixed sample for wide ones."""
    if fmt.bits <= 16:
        codes = np.arange(1 << fmt.bits)
    else:
        codes = np.random.default_rng(0).integers(0, 1 << fmt.bits, 4096)
    return codes[np.isfinite(fmt.decode(codes.astype(fmt.dtype)))].astype(fmt.dtype)


def all_formats(profile: Profile, a: FloatFormat, b: FloatFormat):
    return a, b, get_format(profile.accumulator), get_format(profile.between_chunks)


def plain(profile: Profile, fmt_a, fmt_b, a, b, *, seed=0, stream=0, threads=1):
    """The plain integer loop, whatever kernel `hs.gemm` would choose: (codes, events)."""
    profile = get_profile(profile)
    fmt_a, fmt_b = get_format(fmt_a), get_format(fmt_b)
    facts = accumulator.gemm_facts(profile, fmt_a, fmt_b, seed, stream)
    result = np.zeros((a.shape[0], b.shape[1]), profile.result_format.dtype)
    counts = plain_gemm(a, b, facts, result, threads)
    nan = int(np.isnan(profile.result_format.decode(result)).sum())
    return result, Events.of(counts, nan)


def compare(profile: Profile, fmt_a, fmt_b, a, b, *, seed=0, stream=0, fast=True) -> None:
    """`hs.gemm` = the plain loop = the C reference = the oracle, in codes and events. Without `fast`
    the kernels that `hs.gemm` may choose are left out (each is compiled when first used)."""
    profile, fmt_a, fmt_b = get_profile(profile), get_format(fmt_a), get_format(fmt_b)
    what = f"{profile}\n{fmt_a.name} {fmt_b.name} {a.shape} {b.shape} seed={seed} stream={stream}"
    codes, events = plain(profile, fmt_a, fmt_b, a, b, seed=seed, stream=stream)

    exact, counts = oracle.gemm(
        profile, all_formats(profile, fmt_a, fmt_b), a, b, seed=seed, stream=stream
    )
    exact = np.array(exact, codes.dtype).reshape(codes.shape)
    np.testing.assert_array_equal(codes, exact, err_msg=f"plain loop, oracle: {what}")
    assert events == Events(**vars(counts)), what

    how = {"a_format": fmt_a, "b_format": fmt_b, "seed": seed, "stream": stream}
    c_codes, c_events, _ = reference.gemm(a, b, profile, **how)
    np.testing.assert_array_equal(codes, c_codes, err_msg=f"plain loop, C: {what}")
    assert events == c_events, what

    if not fast:
        return
    gemm_codes, gemm_events = gemm(a, b, profile, **how, threads=1, events=True)
    np.testing.assert_array_equal(gemm_codes, codes, err_msg=f"hs.gemm, plain loop: {what}")
    assert gemm_events == events, what
    np.testing.assert_array_equal(gemm(a, b, profile, **how, threads=2), codes, err_msg=what)
