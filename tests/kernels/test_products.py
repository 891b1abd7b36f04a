"""The kernels' codes and events are those of the plain integer loop."""

from __future__ import annotations

import numpy as np
import pytest

from hfp8sim import kernels
from hfp8sim.formats import FloatFormat, get_format
from hfp8sim.kernels import (
    PANEL,
)
from hfp8sim.kernels.form import Lane, Order
from hfp8sim.ops.products import explain
from hfp8sim.units import accumulator as acc
from hfp8sim.units import get_profile
from hfp8sim.units.profile import Profile
from tests.kernels.cases import HFP8, MODES, PAIRS, compared, numbers, run, same
from tests.units.problems import operand


@pytest.mark.parametrize("events", [False, True], ids=["quiet", "events"])
@pytest.mark.parametrize("products", [0, 1, 2])
@pytest.mark.parametrize("mode", MODES)
def test_operand_formats_and_chunk_lengths(mode: str, products: int, events: bool) -> None:
    rng = np.random.default_rng(1)
    seen = 0
    for fmt_a, fmt_b in PAIRS:
        for chunk in (64, 7, 0):
            profile = HFP8.replace(rounding=mode, products_per_step=products, chunk_length=chunk)
            for kind in ("numbers", "normal", "wide", "extreme", "zero", "half wide"):
                a = numbers(rng, fmt_a, (19, 130), kind)
                b = numbers(rng, fmt_b, (130, 52), kind)
                if run(profile, fmt_a, fmt_b, a, b, events=events)[0] is not None:
                    same(profile, fmt_a, fmt_b, a, b, events=events, seed=7)
                    seen += 1
    assert seen >= (20 if products != 0 or mode != "stochastic-a" else 0)


@pytest.mark.parametrize("mode", [*MODES, "stochastic-b"])
@pytest.mark.parametrize("overflow", ["special", "saturate"])
def test_overflow_and_underflow(mode: str, overflow: str) -> None:
    """Narrow accumulators, so that sums run over the largest number and below the smallest."""
    rng = np.random.default_rng(2)
    names = set()
    for special, lowest in (("ieee", "normal"), ("nan-inf", "flush"), ("none", "normal")):
        if special == "none":
            continue
        fmt = FloatFormat("narrow", 4, 6, 7, special=special, lowest=lowest)
        for products in (1, 2):
            profile = Profile(
                "p", accumulator=fmt, between_chunks=fmt, chunk_length=16, rounding=mode,
                overflow=overflow, products_per_step=products, random_bits=10,
            )  # fmt: skip
            for spread in (0.02, 1.0, 8.0):
                a = get_format("e4m3fn").encode(rng.standard_normal((33, 100)) * spread)
                b = get_format("e4m3fn").encode(rng.standard_normal((100, 49)) * spread)
                for events in (False, True):
                    names.add(same(profile, "e4m3fn", "e4m3fn", a, b, events=events).name)
    assert any("underflow" in name for name in names)
    if mode not in ("stochastic-a", "stochastic-b"):
        assert any("underflow by a bit" in name for name in names)
        assert any("but for the edge" in name for name in names)
    assert any(w in name for name in names for w in ("clamps", "NaN", "overflow"))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fraction", range(1, 13))
def test_accumulator_widths(fraction: int, mode: str) -> None:
    """Significands of 2 to 13 bits: on the way the path changes from one proof to another."""
    rng = np.random.default_rng(fraction)
    for lowest in ("normal", "subnormal"):
        fmt = FloatFormat("acc", 7, fraction, 63, special="nan-inf", lowest=lowest)
        profile = HFP8.replace(
            accumulator=fmt, between_chunks=fmt, rounding=mode, chunk_length=24, random_bits=9
        )
        for fmt_a, fmt_b in (*PAIRS[:3], ("dlfloat16", "dlfloat16")):
            for kind in ("numbers", "wide"):
                if fmt_a == "dlfloat16" and lowest == "subnormal":
                    continue
                a, b = numbers(rng, fmt_a, (17, 75), kind), numbers(rng, fmt_b, (75, 50), kind)
                same(profile, fmt_a, fmt_b, a, b)


@pytest.mark.parametrize("mode", [*MODES, "stochastic-b"])
def test_first_product_of_a_chunk(mode: str) -> None:
    """Every product of two codes as a chunk's first, alone and before another; where it is no number of the
    accumulator (too wide, too large, too small) it is rounded as any other sum."""
    seen = set()
    accumulators = [
        ("1-6-9", get_format("dlfloat16")),
        ("too few bits", FloatFormat("acc", 7, 6, 63, special="nan-inf", lowest="normal")),
        ("too small", FloatFormat("acc", 6, 9, 55, special="nan-inf", lowest="normal")),
        ("too coarse", FloatFormat("acc", 5, 9, 7, special="nan-inf", lowest="normal")),
    ]
    for name, fmt in accumulators:
        profile = HFP8.replace(accumulator=fmt, between_chunks=fmt, rounding=mode, random_bits=9)
        for pair in PAIRS[:3]:
            a, b = (
                np.flatnonzero(np.isfinite(get_format(x).table())).astype(np.uint8) for x in pair
            )
            left, right = np.stack([a, a[::-1], a], 1), np.stack([b, b, np.roll(b, 50)])
            for chunk in (1, 2, 64):
                one = profile.replace(chunk_length=chunk)
                compared(one, *pair, left, right)
                kernel = explain(left, right, one, a_format=pair[0], b_format=pair[1]).kernel
                if kernel is not None and pair == PAIRS[0]:
                    seen.add((name, kernel.form.opening))
    rounded = {(name, "rounded") for name, _ in accumulators[1:]}
    assert seen == {("1-6-9", "exact"), *rounded}


@pytest.mark.parametrize("source", ["row-column", "counter"])
@pytest.mark.parametrize("r", [1, 8, 13, 14])
def test_random_bits(source: str, r: int) -> None:
    rng = np.random.default_rng(r)
    a, b = (
        numbers(rng, "hfp8-143", (18, 140), "normal"),
        numbers(rng, "hfp8-143", (140, 33), "normal"),
    )
    for products in (1, 2):
        for accumulator in ("dlfloat16", "ieee-169"):
            profile = HFP8.replace(
                rounding="stochastic", random_source=source, random_bits=r, accumulator=accumulator,
                between_chunks=accumulator, products_per_step=products,
            )  # fmt: skip
            same(profile, "hfp8-143", "hfp8-143", a, b, seed=r)


@pytest.mark.parametrize("source", ["row-column", "counter"])
@pytest.mark.parametrize("fraction", [19, 20, 21, 22, 23])
def test_random_bits_of_wide_accumulators(source: str, fraction: int) -> None:
    """In lanes of 64 bits a word of 32 goes up, stays or goes down, by the accumulator's width."""
    rng = np.random.default_rng(fraction)
    wide = FloatFormat(f"wide-{fraction}", 8, fraction, 127)
    a = numbers(rng, "e5m2", (18, 40), "numbers")
    b = numbers(rng, "e5m2", (40, 33), "normal")
    for products in (1, 2):
        profile = HFP8.replace(
            rounding="stochastic", random_source=source, random_bits=16, accumulator=wide,
            between_chunks=wide, products_per_step=products, chunk_length=0,
        )  # fmt: skip
        plan = same(profile, "e5m2", "e5m2", a, b, seed=fraction, events=True)
        assert plan.kernel is not None and plan.kernel.form.lane is Lane.FLOAT64


@pytest.mark.parametrize("between", ["binary32", "e8m13", "bfloat16", "ieee-169"])
@pytest.mark.parametrize("modes", [("nearest-away", "nearest-even"), ("toward-zero", "nearest-even"),
                                   ("nearest-even", "stochastic"), ("stochastic", "toward-zero")])  # fmt: skip
def test_inter_chunk_format_and_mode(between: str, modes: tuple[str, str]) -> None:
    rng = np.random.default_rng(3)
    a, b = numbers(rng, "e4m3fn", (20, 200), "normal"), numbers(rng, "e4m3fn", (200, 18), "normal")
    for accumulator in ("dlfloat16", "binary16"):
        profile = HFP8.replace(
            accumulator=accumulator, between_chunks=between, rounding=modes[0],
            between_rounding=modes[1], random_bits=8,
        )  # fmt: skip
        if between == "binary32" and modes[1] != "nearest-even":
            continue  # all of a float32's bits are kept: there is nothing to chop
        same(profile, "e4m3fn", "e4m3fn", a, b, seed=5)


@pytest.mark.parametrize("mode", ["toward-zero", "nearest-away", "nearest-even", "stochastic"])
@pytest.mark.parametrize("products, guard", [(1, 5), (4, 3), (32, 13), (20, 17)])
def test_aligned_sums(products: int, guard: int, mode: str) -> None:
    rng = np.random.default_rng(guard)
    for name in ("e8m13", "dlfloat16"):
        if name == "e8m13" and mode == "nearest-even":
            continue
        profile = get_profile("hopper-fp8").replace(
            products_per_step=products, guard_bits=guard, accumulator=name, rounding=mode,
            random_bits=9, between_chunks="binary32", between_rounding="nearest-even",
        )  # fmt: skip
        for fmt in ("e4m3fn", "e5m2", "hfp8-143"):
            for kind in ("normal", "wide", "zero", "half wide"):
                a, b = numbers(rng, fmt, (17, 300), kind), numbers(rng, fmt, (300, 18), kind)
                same(profile, fmt, fmt, a, b, seed=guard)


def test_hopper_has_a_kernel() -> None:
    rng = np.random.default_rng(0)
    a, b = (
        numbers(rng, "e4m3fn", (17, 300), "numbers"),
        numbers(rng, "e4m3fn", (300, 33), "numbers"),
    )
    assert same("hopper-fp8", "e4m3fn", "e4m3fn", a, b).kernel.form.order is Order.ALIGNED


@pytest.mark.parametrize("sample", [40, pytest.param(None, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("pair", PAIRS[:3], ids="×".join)
def test_all_accumulators(pair: tuple[str, str], mode: str, sample: int | None) -> None:
    """A step from every number of DLFloat16 with a sample of all distinct products, or each of them,
    floats and codes: by the kernel for these operands, on the multiples of their quantum, and by the one
    for anything."""
    fmt_a, fmt_b = map(get_format, pair)
    dlfloat = get_format("dlfloat16")
    codes = np.arange(1 << 16, dtype=np.uint16)
    values = dlfloat.decode(codes)
    numbers_only = np.isfinite(values) & (codes != 0x8000)
    every = [np.arange(256, dtype=np.uint8)[None, :] for _ in range(2)]
    scans = [kernels.scan(x, fmt) for x, fmt in zip(every, (fmt_a, fmt_b))]
    profile = HFP8.replace(rounding=mode, chunk_length=0)
    facts = acc.gemm_facts(profile, fmt_a, fmt_b, 3, 0)
    loose = [s._replace(quantum=dlfloat.facts.min_exp // 2) for s in scans]
    plans = [kernels.plan(profile, fmt_a, fmt_b, *s, 1 << 30) for s in (scans, loose)]
    quantum = 2.0 ** (scans[0].quantum + scans[1].quantum)
    reachable = numbers_only & (np.fmod(np.nan_to_num(values), quantum) == 0)

    table = np.multiply.outer(fmt_a.table(), fmt_b.table())
    distinct, first = np.unique(table, return_index=True)
    keep = np.random.default_rng(5).permutation(len(distinct))[:sample]
    places = np.append(first[keep], [np.abs(table).argmax(), 1 * 256 + 1, 1 * 256 + 2])
    for place in places:
        a_code, b_code = divmod(int(place), 256)
        # One step, from every accumulator as the open chunk, laid along the columns.
        expected = plain_step(profile, facts, a_code, b_code, codes)
        for plan, valid in zip(plans, (reachable, numbers_only)):
            assert plan.kernel is not None, plan
            left = kernels.pack_operand(
                plan, np.full((1, 1), a_code, np.uint8), fmt_a, (facts.row_key,) * 2, of_a=True
            )
            right = kernels.pack_operand(
                plan, np.full((codes.size, 1), b_code, np.uint8), fmt_b, (facts.column_key,) * 2,
                of_a=False,
            )  # fmt: skip
            state = kernels.allocate_accumulators(plan, 1, codes.size)
            lanes = np.ldexp(values, plan.scale).astype(plan.lane_float)
            state.chunk[0, :, 0, :] = lanes.reshape(-1, PANEL)
            kernels.accumulate(plan, left, right, state, last=True)
            floats = np.ldexp(state.total[0, :, 0, :].reshape(-1).astype(np.float64), -plan.scale)
            np.testing.assert_array_equal(floats[valid], dlfloat.decode(expected)[valid], str(plan))
            result = np.empty((1, codes.size), np.uint16)
            kernels.encode(state.total, dlfloat.facts, plan.scale, result)
            np.testing.assert_array_equal(result[0][valid], expected[valid], str(plan))


def plain_step(profile, facts, a_code: int, b_code: int, codes) -> np.ndarray:
    """fma of one pair with every accumulator by the plain loop, random words of row 0."""
    a, b = np.full((1, 1), a_code, np.uint32), np.full((1, codes.size), b_code, np.uint32)
    chunk, total = codes.astype(np.uint32)[None, :].copy(), np.zeros((1, codes.size), np.uint32)
    acc.gemm_tile(
        a, b, chunk, total, np.zeros((1, 1), np.uint64), 0, 0, 0, 1 << 30, facts,
        np.zeros(acc.EVENT_KINDS, np.int64),
    )  # fmt: skip
    return chunk[0].astype(np.uint16)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("pair", [("hfp8-143", "hfp8-143"), ("hfp8-143", "hfp8-152")], ids="×".join)
def test_cancelling_pairs(pair: tuple[str, str], mode: str) -> None:
    """Accumulators beside ties and beside minus the pair, where digits cancel."""
    rng = np.random.default_rng(13)
    fmt_a, fmt_b = map(get_format, pair)
    profile = HFP8.replace(rounding=mode, products_per_step=2, chunk_length=0)
    m, steps, n = 64, 24, 64
    a = operand(rng, fmt_a, (m, 2 * steps), "numbers")
    b = operand(rng, fmt_b, (2 * steps, n), "numbers")
    b[b & 0x7F > 0x70] &= 0x8F  # keeps pairs within 53 bits
    for t in range(2, steps, 2):  # a step that takes back what an earlier one brought
        source = rng.integers(0, t)
        a[::2, 2 * t : 2 * t + 2] = a[::2, 2 * source : 2 * source + 2] ^ 0x80
        b[2 * t : 2 * t + 2] = b[2 * source : 2 * source + 2]
        b[2 * t + 1, ::3] = 1  # … all but the smallest addend
    same(profile, fmt_a, fmt_b, a, b, events=True)
