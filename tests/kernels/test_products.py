"""The fast kernels against the plain integer loop and their own plain-loop twin, bit for bit."""

from __future__ import annotations

import gc
import itertools
import os
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest

from hfp8sim import kernels
from hfp8sim.formats import FloatFormat, get_format
from hfp8sim.kernels import (
    PANEL,
    Plan,
    Processor,
    Scan,
)
from hfp8sim.kernels import form as at
from hfp8sim.kernels import (
    gemm as driver,
)
from hfp8sim.kernels import (
    model as twin,
)
from hfp8sim.kernels.select import bound
from hfp8sim.ops import gemm
from hfp8sim.ops.products import explain
from hfp8sim.units import accumulator as acc
from hfp8sim.units import get_profile
from hfp8sim.units.profile import Profile
from tests.units.problems import operand, plain

ROOT = Path(__file__).parents[2]
MODES = ("nearest-away", "nearest-even", "toward-zero", "stochastic-a")
#: A processor without anything, one with AVX2, and one whose rounding direction cannot be set.
PROCESSORS = {
    "baseline": Processor(4, False, True, "none"),
    "avx2": Processor(8, True, True, "none"),
    "foreign": Processor(4, True, False, "none"),
}
HFP8 = get_profile("hfp8")


def run(profile, fmt_a, fmt_b, a, b, *, seed=0, events=False, on=None, threads=1):
    """A kernel's codes and counts, or None where there is no kernel; and the plan."""
    profile, fmt_a, fmt_b = get_profile(profile), get_format(fmt_a), get_format(fmt_b)
    scans = kernels.scan(a, fmt_a), kernels.scan(b, fmt_b)
    plan = kernels.plan(profile, fmt_a, fmt_b, *scans, a.shape[1], events, on=on)
    if plan.kernel is None:
        return None, None, plan
    facts = acc.gemm_facts(profile, fmt_a, fmt_b, seed, 0)
    result = np.zeros((a.shape[0], b.shape[1]), profile.result_format.dtype)
    keys = (facts.row_key, facts.between_row_key), (facts.column_key, facts.between_column_key)
    formats = fmt_a, fmt_b, profile.result_format
    counts = kernels.multiply(plan, a, b, formats, keys, result, threads)
    return result, counts, plan


def same(profile, fmt_a, fmt_b, a, b, **how) -> Plan:
    """The kernel's codes and counts are the plain loop's; the plan."""
    codes, counts, plan = run(profile, fmt_a, fmt_b, a, b, **how)
    assert plan.kernel is not None, plan
    want, events = plain(profile, fmt_a, fmt_b, a, b, seed=how.get("seed", 0))
    np.testing.assert_array_equal(codes, want, err_msg=f"{plan}\n{profile}")
    if how.get("events"):
        got = tuple(counts)
        assert got == (events.swamped, events.overflowed, events.underflowed), f"{plan}\n{profile}"
    return plan


def numbers(rng, fmt, shape, kind):
    fmt = get_format(fmt)
    if kind == "half wide":  # ordinary rows among rows of anything
        codes = operand(rng, fmt, shape, "normal")
        codes[::3] = operand(rng, fmt, codes[::3].shape, "numbers")
        return codes
    return operand(rng, fmt, shape, kind)


# -- whole GEMMs -------------------------------------------------------------------------------------

PAIRS = (
    ("hfp8-143", "hfp8-143"), ("hfp8-152", "hfp8-143"), ("hfp8-152", "hfp8-152"),
    ("e4m3fn", "e5m2"), ("dlfloat16", "dlfloat16"),
)  # fmt: skip


@pytest.mark.parametrize("events", [False, True], ids=["quiet", "events"])
@pytest.mark.parametrize("products", [0, 1, 2])
@pytest.mark.parametrize("mode", MODES)
def test_every_pair_and_kind_of_operand(mode: str, products: int, events: bool) -> None:
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
def test_accumulators_of_every_width(fraction: int, mode: str) -> None:
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


def test_paths_change_where_float32_stops_being_exact() -> None:
    def adder(fraction: int, mode: str, on: Processor) -> str:
        fmt = FloatFormat("acc", 7, fraction, 63, special="nan-inf", lowest="normal")
        profile = HFP8.replace(accumulator=fmt, between_chunks=fmt, rounding=mode)
        scan = Scan(30.0, -14, False)
        fmt_a = get_format("hfp8-143")
        kernel = kernels.plan(profile, fmt_a, fmt_a, scan, scan, 1 << 40, on=on).kernel
        return "plain" if kernel is None else f"{kernel.bits} {kernel.adder}"

    x86, foreign = Processor(16, True, True, "none"), PROCESSORS["foreign"]
    even = [adder(m, "nearest-even", x86) for m in range(5, 13)]
    assert even == ["32 down"] * 2 + ["32 nearest"] * 4 + ["32 down"] * 2
    assert {adder(m, "nearest-away", x86) for m in range(1, 23)} == {"32 chop"}
    assert adder(9, "nearest-away", foreign) == "32 nearest"
    assert adder(12, "nearest-away", foreign) == adder(9, "toward-zero", foreign) == "plain"


@pytest.mark.parametrize("mode", [*MODES, "stochastic-b"])
def test_the_first_product_of_a_chunk(mode: str) -> None:
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
                    seen.add((name, kernel.opening))
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
        assert plan.kernel is not None and plan.kernel.bits == 64


@pytest.mark.parametrize("between", ["binary32", "e8m13", "bfloat16", "ieee-169"])
@pytest.mark.parametrize("modes", [("nearest-away", "nearest-even"), ("toward-zero", "nearest-even"),
                                   ("nearest-even", "stochastic"), ("stochastic", "toward-zero")])  # fmt: skip
def test_between_chunks_another_format_and_mode(between: str, modes: tuple[str, str]) -> None:
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


def test_hopper_is_fast() -> None:
    rng = np.random.default_rng(0)
    a, b = (
        numbers(rng, "e4m3fn", (17, 300), "numbers"),
        numbers(rng, "e4m3fn", (300, 33), "numbers"),
    )
    assert same("hopper-fp8", "e4m3fn", "e4m3fn", a, b).kernel.order == "aligned"


@pytest.mark.parametrize(
    "shape",
    [(1, 1, 1), (1, 70, 200), (16, 64, 16), (17, 65, 15), (64, 3, 40), (5, 0, 4), (9, 66, 80)],
)
def test_shapes_threads_and_layouts(shape: tuple[int, int, int]) -> None:
    m, k, n = shape
    rng = np.random.default_rng(m)
    a, b = numbers(rng, "hfp8-143", (m, k), "normal"), numbers(rng, "hfp8-143", (k, n), "normal")
    want = plain(HFP8, "hfp8-143", "hfp8-143", a, b)[0]
    for left in (a, np.asfortranarray(a), np.repeat(a, 2, axis=1)[:, ::2], a[::-1][::-1]):
        for right in (b, np.asfortranarray(b), np.repeat(b, 2, axis=0)[::2]):
            got = run(HFP8, "hfp8-143", "hfp8-143", left, right)[0]
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("random_source", ["row-column", "counter"])
def test_blocking_changes_nothing(random_source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of one call, rows of one block, and columns whose panels are held at once."""
    rng = np.random.default_rng(45)
    profile = HFP8.replace(rounding="stochastic", random_source=random_source)
    a, b = (
        numbers(rng, "hfp8-143", (210, 90), "normal"),
        numbers(rng, "hfp8-143", (90, 75), "normal"),
    )
    want = plain(profile, "hfp8-143", "hfp8-143", a, b, seed=6)[0]
    monkeypatch.setattr(driver, "MACS_WORTH_THREADS", 1)
    for change in (
        {"MACS_PER_CALL": 1 << 18},
        {"_BLOCK_BYTES": 1, "_BLOCK_ROWS": 32},
        {"_PANEL_BYTES": 20_000},
    ):
        for name, value in change.items():
            monkeypatch.setattr(driver, name, value)
        monkeypatch.setattr(driver, "_WORKSPACE", kernels.Workspace())  # nothing is cached
        for threads in (1, 2):
            got = run(profile, "hfp8-143", "hfp8-143", a, b, seed=6, threads=threads)[0]
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    "name, fmt, events", [("hfp8", "hfp8-143", True), ("hopper-fp8", "e4m3fn", False)]
)
def test_threads_give_the_same_bits(name: str, fmt: str, events: bool) -> None:
    rng = np.random.default_rng(8)
    a, b = numbers(rng, fmt, (300, 256), "normal"), numbers(rng, fmt, (256, 130), "normal")
    profile = get_profile(name)
    if name == "hfp8":
        profile = profile.replace(rounding="stochastic")
    one = run(profile, fmt, fmt, a, b, threads=1, events=events)
    for threads in (2, 3):
        more = run(profile, fmt, fmt, a, b, threads=threads, events=events)
        np.testing.assert_array_equal(one[0], more[0])
        assert tuple(one[1]) == tuple(more[1])
    np.testing.assert_array_equal(one[0], plain(profile, fmt, fmt, a, b, threads=2)[0])


@pytest.mark.parametrize("threads", [1, 2])
def test_products_of_one_shape_draw_their_own_words(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is cached from product to product is the shape's: not words, nor codes, nor formats."""
    monkeypatch.setattr(driver, "MACS_WORTH_THREADS", 1)
    rng, profile = np.random.default_rng(19), HFP8.replace(rounding="stochastic")
    for seed in (1, 2, 1):
        for pair in PAIRS[:3]:
            a, b = (
                numbers(rng, pair[0], (40, 70), "normal"),
                numbers(rng, pair[1], (70, 20), "normal"),
            )
            same(profile, *pair, a, b, seed=seed, threads=threads)


def test_failed_product_drops_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """After an interrupt a helper might still write into it."""
    rng, workspace = np.random.default_rng(2), kernels.Workspace()
    monkeypatch.setattr(driver, "_WORKSPACE", workspace)
    a, b = (
        numbers(rng, "hfp8-143", (20, 70), "normal"),
        numbers(rng, "hfp8-143", (70, 30), "normal"),
    )
    gemm(a, b, threads=1)
    before = workspace.array("b values", (1,), np.float32)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(driver, "_multiply_rows", stop)
        gemm(a, b, threads=1)
    np.testing.assert_array_equal(
        gemm(a, b, threads=1), plain(HFP8, "hfp8-143", "hfp8-143", a, b)[0]
    )
    assert not np.shares_memory(workspace.array("b values", (1,), np.float32), before)


def test_helpers_free_what_ended_callers_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "MACS_WORTH_THREADS", 1)
    rng, prepared = np.random.default_rng(2), []
    a, b = (
        numbers(rng, "hfp8-143", (90, 70), "normal"),
        numbers(rng, "hfp8-143", (70, 50), "normal"),
    )

    def call() -> None:
        run(HFP8, "hfp8-143", "hfp8-143", a, b, threads=2)
        prepared.append(weakref.ref(driver._WORKSPACE._objects["gemm"][1]))

    caller = threading.Thread(target=call)
    caller.start()
    caller.join()
    gc.collect()
    assert prepared[0]() is None


# -- pieces ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("products, chunk", [(1, 64), (1, 7), (1, 0), (2, 7), (2, 64), (0, 16)])
@pytest.mark.parametrize("mode", ["nearest-away", "stochastic"])
def test_pieces_of_m_n_and_k(mode: str, products: int, chunk: int) -> None:
    """Ranges in any cut give what the whole gives, state and random words included."""
    if products == 0 and mode == "stochastic":
        pytest.skip("no kernel")
    rng = np.random.default_rng(products * 100 + chunk)
    profile = HFP8.replace(rounding=mode, products_per_step=products, chunk_length=chunk)
    fmt = get_format("hfp8-143")
    m, k, n = 37, 150, 41
    a, b = numbers(rng, fmt, (m, k), "normal"), numbers(rng, fmt, (k, n), "normal")
    want, events = plain(profile, fmt, fmt, a, b, seed=4)
    facts = acc.gemm_facts(profile, fmt, fmt, 4, 0)
    plan = kernels.plan(profile, fmt, fmt, kernels.scan(a, fmt), kernels.scan(b, fmt), k, True)
    step = max(products, 1)
    starts = [t for c in range(0, k, chunk or k) for t in range(c, min(c + (chunk or k), k), step)]
    if products == 0:
        starts = list(range(0, k, chunk))
    cuts = [0, *sorted(rng.choice(starts[1:], 5, replace=False)), k]
    got, swamped = np.zeros_like(want), 0
    for rows in (slice(0, 16), slice(16, 37)):
        for columns in (slice(0, 7), slice(7, 41)):
            state = kernels.allocate_accumulators(
                plan, rows.stop - rows.start, columns.stop - columns.start
            )
            for k0, k1 in itertools.pairwise(cuts):
                left = kernels.pack_operand(
                    plan, a[rows, k0:k1], fmt, (facts.row_key, facts.between_row_key),
                    of_a=True, first=rows.start, k0=k0,
                )  # fmt: skip
                right = kernels.pack_operand(
                    plan, b[k0:k1, columns].T, fmt, (facts.column_key, facts.between_column_key),
                    of_a=False, first=columns.start, k0=k0,
                )  # fmt: skip
                counts = kernels.accumulate(plan, left, right, state, k0=k0, last=k1 == k)
                swamped += counts[at.SWAMPED]
                swamped -= kernels.zero_steps(plan, a[rows, k0:k1], b[k0:k1, columns].T, k0)
            kernels.encode(state.total, profile.result_format.facts, plan.scale, got[rows, columns])
    np.testing.assert_array_equal(got, want)
    assert swamped == events.swamped


@pytest.mark.parametrize("mode", ["nearest-away", "nearest-even"])
@pytest.mark.parametrize("k", [64, 3000])
def test_a_whole_product_begins_with_zeros(mode: str, k: int) -> None:
    """Whatever was in the memory of its state; a long k is cut into blocks, which begin with the sums."""
    rng = np.random.default_rng(31)
    profile, fmt = HFP8.replace(rounding=mode), get_format("hfp8-143")
    a, b = numbers(rng, fmt, (21, k), "normal"), numbers(rng, fmt, (k, 70), "normal")
    want = plain(profile, fmt, fmt, a, b)[0]
    plan = kernels.plan(profile, fmt, fmt, kernels.scan(a, fmt), kernels.scan(b, fmt), k)
    keys = (np.uint64(0), np.uint64(0))
    left = kernels.pack_operand(plan, a, fmt, keys, of_a=True)
    right = kernels.pack_operand(plan, b.T, fmt, keys, of_a=False)
    state = kernels.allocate_accumulators(plan, *want.shape, whole=True)
    state.chunk.fill(np.nan)
    for _ in range(2):
        state.total.fill(np.nan)
        kernels.accumulate(plan, left, right, state, last=True)
        got = np.empty_like(want)
        kernels.encode(state.total, profile.result_format.facts, plan.scale, got)
        np.testing.assert_array_equal(got, want)


# -- the twin ----------------------------------------------------------------------------------------


def addends(plan: Plan, kind: str, a_words, b_words, base: int) -> np.ndarray:
    """Random addends of all outputs and steps, (M, N, steps), from words of rows and columns."""
    table = [int(x) for x in plan.numbers[base : base + at.BETWEEN]]

    def rows(words):
        return words.transpose(0, 2, 1).reshape(-1, words.shape[1]).astype(np.uint64)

    x = rows(a_words)[:, None, :] ^ rows(b_words)[None, :, :]
    if kind == "hash":
        low = np.uint64(0xFFFFFFFF)
        x = x * np.uint64(0x7FEB352D) & low
        x = (x ^ x >> np.uint64(15)) * np.uint64(0x846CA68B) & low
        d = table[at.DROP]
        x = x >> np.uint64(32 - d) if d <= 32 else x << np.uint64(d - 32)
        x &= np.uint64(table[at.HASH_KEEP])
    return x


def floats_of_twin(plan: Plan, left, right, shape, depth: int) -> np.ndarray:
    """All outputs by the plain-loop twin."""
    kernel = plan.kernel
    rows, columns = shape
    width, per = plan.products, plan.steps_per_chunk
    a = left.values.transpose(0, 2, 1).reshape(-1, left.values.shape[1])
    b = right.values.transpose(0, 2, 1).reshape(-1, right.values.shape[1])
    steps = a.shape[1] // width
    inner = np.zeros((rows, columns, steps), np.uint64)
    outer = np.zeros((rows, columns, -(-steps // per)), np.uint64)
    if kernel.rounding in ("random", "hash"):
        inner = addends(plan, kernel.rounding, left.words, right.words, 0)
    if kernel.between in ("random", "hash"):
        outer = addends(plan, kernel.between, left.chunk_words, right.chunk_words, at.BETWEEN)
    exponents = np.zeros((rows, columns, a.shape[1]), np.int64)
    if kernel.order == "aligned":
        ea, eb = (
            x.exponents.transpose(0, 2, 1).reshape(-1, x.exponents.shape[1]) for x in (left, right)
        )
        exponents = ea[:, None, :].astype(np.int64) + eb[None, :, :]
    result = np.zeros(shape, np.float32)
    for m in range(rows):
        for n in range(columns):
            chain = [
                twin.Step(
                    [(float(a[m, i]), float(b[n, i])) for i in range(t * width, t * width + width)],
                    [int(e) for e in exponents[m, n, t * width : t * width + width]],
                    int(inner[m, n, t]),
                )
                for t in range(steps)
            ]
            chunks = [chain[t : t + per] for t in range(0, steps, per)]
            between = [int(x) for x in outer[m, n]]
            result[m, n] = twin.output(kernel, plan.numbers, chunks, between)[0]
    return result


@pytest.mark.parametrize("case", [
    {"rounding": "nearest-away"}, {"rounding": "nearest-even"}, {"rounding": "toward-zero"},
    {"rounding": "stochastic"}, {"rounding": "stochastic-b", "random_bits": 10},
    {"rounding": "stochastic", "random_source": "counter"},
    {"rounding": "nearest-away", "products_per_step": 2},
    {"rounding": "nearest-even", "products_per_step": 2, "chunk_length": 7},
    {"rounding": "stochastic", "products_per_step": 2},
    {"rounding": "stochastic", "products_per_step": 2, "random_source": "counter"},
    {"products_per_step": 0, "between_chunks": "binary32", "between_rounding": "nearest-even"},
    {"chunk_length": 0}, {"overflow": "saturate"}, {"accumulator": "binary16", "random_bits": 10},
    {"products_per_step": 8, "sum_order": "aligned", "guard_bits": 9, "rounding": "toward-zero"},
    {"rounding": "nearest-even", "between_rounding": "toward-zero"},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("pair", [("hfp8-143", "hfp8-143"), ("hfp8-152", "hfp8-143"),
                                  ("dlfloat16", "dlfloat16"), ("e5m2", "e5m2")], ids=str)  # fmt: skip
def test_twin(case: dict, pair: tuple[str, str]) -> None:
    """The same floats, before anything is encoded: an off-grid sum would show."""
    rng = np.random.default_rng(11)
    profile = HFP8.replace(**case)
    fmt_a, fmt_b = map(get_format, pair)
    facts = acc.gemm_facts(profile, fmt_a, fmt_b, 6, 0)
    m, k, n = 3, 70, 4
    seen = 0
    for kind in ("normal", "numbers", "wide"):
        a, b = numbers(rng, fmt_a, (m, k), kind), numbers(rng, fmt_b, (k, n), kind)
        scans = kernels.scan(a, fmt_a), kernels.scan(b, fmt_b)
        plan = kernels.plan(profile, fmt_a, fmt_b, *scans, k)
        if plan.kernel is None:
            continue
        seen += 1
        keys = (facts.row_key, facts.between_row_key), (facts.column_key, facts.between_column_key)
        left = kernels.pack_operand(plan, a, fmt_a, keys[0], of_a=True)
        right = kernels.pack_operand(plan, b.T, fmt_b, keys[1], of_a=False)
        state = kernels.allocate_accumulators(plan, m, n)
        kernels.accumulate(plan, left, right, state, last=True)
        want = floats_of_twin(plan, left, right, (m, n), k)
        np.testing.assert_array_equal(state.total[0, 0, :m, :n], want, err_msg=str(plan))
    assert seen or pair[0] not in ("hfp8-143",)


# -- every accumulator -------------------------------------------------------------------------------


@pytest.mark.parametrize("sample", [40, pytest.param(None, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("pair", PAIRS[:3], ids="×".join)
def test_all_accumulators_with_distinct_products(
    pair: tuple[str, str], mode: str, sample: int | None
) -> None:
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
        want = plain_step(profile, facts, a_code, b_code, codes)
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
            np.testing.assert_array_equal(floats[valid], dlfloat.decode(want)[valid], str(plan))
            got = np.empty((1, codes.size), np.uint16)
            kernels.encode(state.total, dlfloat.facts, plan.scale, got)
            np.testing.assert_array_equal(got[0][valid], want[valid], str(plan))


def plain_step(profile, facts, a_code: int, b_code: int, codes) -> np.ndarray:
    """fma of one pair with every accumulator by the plain loop, random words of row 0."""
    a, b = np.full((1, 1), a_code, np.uint32), np.full((1, codes.size), b_code, np.uint32)
    chunk, total = codes.astype(np.uint32)[None, :].copy(), np.zeros((1, codes.size), np.uint32)
    acc.gemm_tile(
        a, b, chunk, total, np.zeros((1, 1), np.uint64), 0, 0, 0, 1 << 30, facts,
        np.zeros(acc.EVENT_KINDS, np.int64),
    )  # fmt: skip
    return chunk[0].astype(np.uint16)


@pytest.mark.parametrize(
    "pair", [("hfp8-143", "hfp8-143"), ("hfp8-143-hw", "hfp8-152-hw")], ids="×".join
)
def test_pairs_of_products_are_exact_in_float64(pair: tuple[str, str]) -> None:
    """All pairs of distinct products, where the plan says so: float64's sum is the integers' sum."""
    fmt_a, fmt_b = map(get_format, pair)
    scans = [kernels.scan(np.arange(127, dtype=np.uint8)[None, :], fmt) for fmt in (fmt_a, fmt_b)]
    quantum = scans[0].quantum + scans[1].quantum
    products = np.unique(np.multiply.outer(fmt_a.table(), fmt_b.table()))
    products = products[np.isfinite(products)]
    if 2 * scans[0].largest * scans[1].largest > 2.0 ** (53 + quantum):
        top = 2.0 ** (52 + quantum)
        products = products[np.abs(products) <= top]
    units = [int(p) for p in np.ldexp(products, -quantum)]
    big = np.array(units, object)
    for i, p in enumerate(products):
        sums = np.ldexp(p + products, -quantum)
        if i % 16 == 0:
            assert [int(s) for s in sums] == list(big + units[i])
        assert (sums == np.rint(sums)).all() and (np.abs(sums) <= 2.0**53).all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("pair", [("hfp8-143", "hfp8-143"), ("hfp8-143", "hfp8-152")], ids="×".join)
def test_two_products_on_adversarial_sums(pair: tuple[str, str], mode: str) -> None:
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


# -- other processors --------------------------------------------------------------------------------


@pytest.mark.parametrize("processor", PROCESSORS)
@pytest.mark.parametrize("mode", MODES)
def test_processors_in_name(processor: str, mode: str) -> None:
    rng = np.random.default_rng(17)
    on = PROCESSORS[processor]
    for fmt, accumulator in (
        ("hfp8-143", "dlfloat16"),
        ("e5m2", "ieee-169"),
        ("dlfloat16", "dlfloat16"),
    ):
        a, b = numbers(rng, fmt, (19, 100), "normal"), numbers(rng, fmt, (100, 17), "normal")
        for products in (1, 2):
            profile = HFP8.replace(
                rounding=mode, accumulator=accumulator, between_chunks=accumulator,
                products_per_step=products, overflow="saturate",
            )  # fmt: skip
            if run(profile, fmt, fmt, a, b, on=on)[0] is None:
                assert not on.control
                continue
            plan = same(profile, fmt, fmt, a, b, on=on)
            assert plan.kernel.lanes * plan.kernel.bits == on.lanes * 32
            assert on.control or not plan.kernel.strict


_SCRIPT = """
import zlib, numpy as np
from hfp8sim.formats import get_format
from hfp8sim import kernels
from hfp8sim.ops import gemm
from hfp8sim.units import get_profile
from hfp8sim.ops import explain
from tests.kernels.test_products import HFP8, MODES, numbers, run
rng = np.random.default_rng(19)
crc = 0
cases = [HFP8.replace(rounding=mode, products_per_step=p) for mode in MODES for p in (1, 2)]
cases += [get_profile("hopper-fp8"), get_profile("aiu"), HFP8.replace(rounding="stochastic", random_source="counter")]
for profile in cases:
    for kind in ("normal", "half wide"):
        fmt = get_format(profile.a_format)
        a, b = numbers(rng, fmt, (20, 140), kind), numbers(rng, fmt, (140, 52), kind)
        result, _, plan = run(profile, fmt, fmt, a, b)
        assert result is not None, plan
        crc = zlib.crc32(result.tobytes(), crc)
print(kernels.processor().lanes, crc)
"""

#: Instruction sets by Numba's own settings; every processor that runs these tests has the first.
_SETS = {
    "baseline": ("x86-64", "", 4),
    "avx2": ("haswell", "+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+lzcnt,+popcnt,+movbe", 8),
    "avx512": (
        "skylake-avx512",
        "+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+lzcnt,+popcnt,+movbe,+avx512f,+avx512bw,+avx512dq,+avx512vl,+avx512cd",
        16,
    ),
}


def test_instruction_sets_give_the_same_bits(tmp_path: Path) -> None:
    from llvmlite import binding

    have = kernels.processor()
    if not have.control:
        pytest.skip("an x86 processor's instruction sets")
    host = binding.get_host_cpu_features()
    crcs = {}
    running = {}
    for name, (cpu, features, lanes) in _SETS.items():
        if all(host.get(f[1:], False) for f in features.split(",") if f):
            settings = {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": features}
            environment = os.environ | settings | {"HFP8SIM_CACHE_DIR": str(tmp_path / name)}
            command = [sys.executable, "-c", _SCRIPT]
            running[name, lanes] = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
            )
    for (name, lanes), process in running.items():
        out, _ = process.communicate(timeout=600)
        assert process.returncode == 0, name
        seen_lanes, crcs[name] = map(int, out.split())
        assert seen_lanes == lanes
    assert len(crcs) >= 1
    assert len(set(crcs.values())) == 1, crcs


def test_the_rounding_direction_is_put_back() -> None:
    rng = np.random.default_rng(23)
    a, b = (
        numbers(rng, "hfp8-152", (16, 64), "numbers"),
        numbers(rng, "hfp8-143", (64, 16), "numbers"),
    )
    b[0], a[:, 0] = 1, 1  # so that a sum can underflow, and the processor is asked to flush

    def direction() -> tuple[float, ...]:
        one, tiny = np.float32(1), np.float32(1e-40)
        third = np.float32(1) / np.float32(3)
        return (
            float(one + np.float32(2**-24) * np.float32(1.5)), float(-one - np.float32(2**-25)),
            float(third), float(-third), float(tiny * one),
        )  # fmt: skip

    before = direction()
    assert before[0] > 1 and before[4] > 0

    def work() -> None:
        for mode in MODES:
            profile = HFP8.replace(rounding=mode)
            codes, _, plan = run(profile, "hfp8-152", "hfp8-143", a, b)
            assert codes is not None, plan
            assert direction() == before, plan

    work()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_a_second_process_compiles_nothing(tmp_path: Path) -> None:
    """Kernels are found in the disk cache again (an intrinsic made for each would never be), and what only a
    compiler needs is not imported for them."""
    script = (
        "import sys\n"
        "from tests.kernels.test_products import *\n"
        "rng = np.random.default_rng(0)\n"
        "a, b = numbers(rng, 'hfp8-143', (20, 70), 'normal'), numbers(rng, 'hfp8-143', (70, 20), 'normal')\n"
        "assert run(HFP8, 'hfp8-143', 'hfp8-143', a, b)[0] is not None\n"
        "assert ('numba.np.arraymath' in sys.modules) == (sys.argv[1] == 'first')\n"
    )
    environment = os.environ | {"HFP8SIM_CACHE_DIR": str(tmp_path)}

    def files() -> dict[str, int]:
        return {f.name: f.stat().st_mtime_ns for f in tmp_path.rglob("*.nb?")}

    for turn in ("first", "second"):
        command = [sys.executable, "-c", script, turn]
        subprocess.run(command, cwd=ROOT, env=environment, check=True)
        if turn == "first":
            first = files()
    assert any("runner" in name for name in first)
    assert files() == first


# -- pieces of the machinery -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hfp8-143", "hfp8-152-hw", "e5m2", "e4m3fnuz", "e2m1", "dlfloat16",
                                  "binary16", "bfloat16", "ieee-169", "binary32"])  # fmt: skip
def test_panels_hold_the_values(name: str) -> None:
    rng = np.random.default_rng(29)
    fmt = get_format(name)
    codes = operand(rng, fmt, (21, 37), "normal")
    plan = Plan(kernels.plan(HFP8, get_format("e4m3fn"), get_format("e4m3fn"), Scan(1, 0, False),
                               Scan(1, 0, False), 37).kernel, "", chunk_length=64)  # fmt: skip
    keys = (np.uint64(0), np.uint64(0))
    for matrix in (codes, np.asfortranarray(codes)):
        values = kernels.pack_operand(plan, matrix, fmt, keys, of_a=True).values
        want = np.zeros((32, 37))
        want[:21] = fmt.decode(codes)
        np.testing.assert_array_equal(values.transpose(0, 2, 1).reshape(32, 37), want)


@pytest.mark.parametrize(
    "name", ["dlfloat16", "ieee-169", "binary16", "bfloat16", "binary32", "e8m13", "e4m3fn"]
)
@pytest.mark.parametrize("scale", [0, -20])
def test_encode_takes_every_number(name: str, scale: int) -> None:
    fmt = get_format(name)
    if scale and fmt.exponent_bits == 8:
        pytest.skip("no room to scale in")
    codes = np.arange(1 << min(fmt.bits, 16), dtype=np.uint64)
    if fmt.bits > 16:
        codes = codes * np.uint64(65521) % np.uint64(1 << fmt.bits)
    codes = codes.astype(fmt.dtype)
    values = np.ldexp(fmt.decode(codes), scale)
    panels = np.zeros((1, -(-codes.size // PANEL), PANEL, PANEL), np.float32)
    panels[0, :, 0, :] = values.reshape(-1, PANEL)
    got = np.empty((1, codes.size), fmt.dtype)
    kernels.encode(panels, fmt.facts, scale, got)
    want = codes.copy()
    want[np.isnan(values)] = fmt.facts.nan_code
    want[values == 0] = 0
    np.testing.assert_array_equal(got[0], want)


def test_memory_is_reused_for_the_same_name_only() -> None:
    memory = kernels.Reused()
    one, other = (memory.array(what, (3, 16), np.float32) for what in ("one", "other"))
    assert not np.shares_memory(one, other)
    assert memory.array("one", (3, 16), np.float32) is one
    assert np.shares_memory(memory.array("one", (5,), np.float64), one)
    assert not np.shares_memory(memory.array("one", (1 << 20,), np.float64), one)
    assert all(x.__array_interface__["data"][0] % 64 == 0 for x in (one, other))


def test_scan() -> None:
    fmt = get_format("hfp8-143")
    assert kernels.scan(np.zeros((3, 4), np.uint8), fmt)[0] == 0.0
    assert kernels.scan(fmt.encode([[0.5, -2.0, 0.0]]), fmt) == (2.0, -4, False)
    hw = get_format("hfp8-143-hw")
    assert kernels.scan(np.array([[0x7F, 1]], np.uint8), hw).special
    fnuz = get_format("e4m3fnuz")
    assert kernels.scan(np.array([[0x80, 1]], np.uint8), fnuz).special
    assert not kernels.scan(np.array([[0x81, 0]], np.uint8), fnuz).special
    e5m2 = get_format("e5m2")
    assert kernels.scan(np.array([[1, 0x7B]], np.uint8), e5m2) == (57344.0, -16, False)
    assert kernels.scan(np.array([[0xFC]], np.uint8), e5m2).special


def test_bounds_hold() -> None:
    """The bound on sums, against the worst that roundings can do: each term the largest, each rounded up
    as far as the mode may go."""
    for p in (3, 5, 10):
        for term in (1.0, 1.25, 3.7):
            for kind in ("zero", "even", "away", "random"):
                x = 0.0
                for n in range(1, 400):
                    x += term
                    unit = 2.0 ** (np.floor(np.log2(x)) - p + 1)
                    down = np.floor(x / unit) * unit
                    up = down + unit * (x > down)
                    x = {"zero": down, "random": up}.get(kind, down if x - down < unit / 2 else up)
                    assert x <= bound(n, term, 0.0, p, kind) * (1 + 1e-12)


@pytest.mark.parametrize("change, why", [
    ({"rounding": "to-odd"}, "no kernel"),
    ({"rounding": "stochastic", "random_source": "lfsr"}, "LFSR"),
    ({"rounding": "stochastic", "random_bits": 15}, "random bits"),
    ({"products_per_step": 2, "sum_order": "chain"}, "sum order"),
])  # fmt: skip
def test_reasons_for_the_plain_loop(change: dict, why: str) -> None:
    fmt = get_format("hfp8-143")
    plan = kernels.plan(
        HFP8.replace(**change), fmt, fmt, Scan(30, -14, False), Scan(30, -14, False), 64
    )
    assert plan.kernel is None
    assert str(plan).startswith("plain integer loop: ") and why in str(plan)


def test_codes_that_are_not_numbers_take_the_plain_loop() -> None:
    a = np.full((2, 3), 0x7F, np.uint8)
    assert run("rapid", "hfp8-143-hw", "hfp8-143-hw", a, a.T)[0] is None


# -- where a proof could go wrong --------------------------------------------------------------------


def compared(profile, fmt_a, fmt_b, a, b, seed=0) -> None:
    """`gemm` is the plain loop, codes and events, by whatever path."""
    fmt_a, fmt_b = get_format(fmt_a), get_format(fmt_b)
    want, events = plain(profile, fmt_a, fmt_b, a, b, seed=seed)
    how = {"a_format": fmt_a, "b_format": fmt_b, "seed": seed, "threads": 1}
    np.testing.assert_array_equal(gemm(a, b, profile, **how), want)
    got, counted = gemm(a, b, profile, **how, events=True)
    np.testing.assert_array_equal(got, want)
    assert counted == events


@pytest.mark.parametrize("source", ["row-column", "counter"])
@pytest.mark.parametrize("products", [1, 2])
@pytest.mark.parametrize("r", [5, 6])
def test_a_smallest_number_off_the_quantum(products: int, r: int, source: str) -> None:
    """A stochastic rounding lifts −1 quantum to −MIN, of which the next sum must see every bit."""
    fmt_a, fmt_b = get_format("hfp8-152"), get_format("hfp8-143")
    units = np.multiply.outer(fmt_a.table(), fmt_b.table()) * 2.0**31
    pairs = [np.argwhere(units == wanted)[0] for wanted in (54, -55, 65536, 45)]
    a = np.tile(np.array([p[0] for p in pairs], np.uint8), (40, 1))
    b = np.tile(np.array([p[1] for p in pairs], np.uint8)[:, None], (1, 40))
    profile = HFP8.replace(
        rounding="stochastic", random_bits=r, random_source=source, products_per_step=products,
        chunk_length=4,
    )  # fmt: skip
    compared(profile, fmt_a, fmt_b, a, b, seed=1)


@pytest.mark.parametrize("change", [
    {"rounding": "nearest-away", "overflow": "saturate"}, {"rounding": "toward-zero"},
], ids=str)  # fmt: skip
def test_a_largest_number_off_the_quantum(change: dict) -> None:
    """Chunks stick at binary16's largest number, and the total sees every bit of it."""
    e5m2 = get_format("e5m2")
    profile = Profile(
        "p", accumulator="binary16", between_chunks="e8m13", chunk_length=1,
        between_rounding="toward-zero", **change,
    )  # fmt: skip
    a = e5m2.encode(np.full((1, 16384), 256.0))
    compared(profile, e5m2, e5m2, a, a.T)


@pytest.mark.parametrize("mode", MODES)
def test_a_nan_without_a_fraction(mode: str) -> None:
    """A rounding's addend would carry it out of the exponent."""
    acc1, e4m3 = FloatFormat("acc", 5, 0, 14, special="fn", lowest="flush"), get_format("e4m3fn")
    profile = HFP8.replace(
        accumulator=acc1, between_chunks=acc1, chunk_length=8, rounding=mode, random_bits=13
    )
    a = e4m3.encode(np.full((3, 24), 448.0))
    compared(profile, e4m3, e4m3, a, a.T)


def test_subnormal_sums_that_float32_cannot_scale() -> None:
    acc2, fmt = FloatFormat("acc", 7, 9, 125), get_format("hfp8-143")
    rng = np.random.default_rng(5)
    a, b = numbers(rng, fmt, (9, 40), "numbers"), numbers(rng, fmt, (40, 9), "numbers")
    a[0] = 0
    compared(HFP8.replace(accumulator=acc2, between_chunks=acc2), fmt, fmt, a, b)


@pytest.mark.parametrize("lowest", ["normal", "flush", "subnormal"])
def test_a_binade_below_float32s(lowest: str) -> None:
    """2^−127 and its neighbours, times numbers so large that the products are ordinary ones."""
    rng, fmt = np.random.default_rng(3), FloatFormat("o", 8, 4, 127, special="ieee", lowest=lowest)
    wide = FloatFormat("acc", 8, 9, 127, special="ieee", lowest="flush")
    a = rng.integers(0, 64, (20, 40)).astype(np.uint16)
    b = (rng.integers(0, 64, (40, 20)) + (200 << 4)).astype(np.uint16)
    compared(HFP8.replace(accumulator=wide, between_chunks=wide), fmt, fmt, a, b)


@pytest.mark.parametrize("between", ["binary16", "dlfloat16"])
@pytest.mark.parametrize("mode", ["toward-zero", "nearest-even"])
@pytest.mark.parametrize("then", [0.0, -200.0])
def test_infinite_chunks(mode: str, between: str, then: float) -> None:
    e5m2 = get_format("e5m2")
    b = np.full((8, 3), 200.0)
    b[4:] = then
    profile = HFP8.replace(
        accumulator="binary16", between_chunks=between, rounding="nearest-even",
        between_rounding=mode, chunk_length=4,
    )  # fmt: skip
    compared(profile, e5m2, e5m2, e5m2.encode(np.full((3, 8), 200.0)), e5m2.encode(b))


@pytest.mark.parametrize("mode", ["nearest-even", "nearest-away", "toward-zero"])
def test_infinite_aligned_sums(mode: str) -> None:
    e5m2 = get_format("e5m2")
    profile = get_profile("hopper-fp8").replace(accumulator="binary16", rounding=mode)
    rng = np.random.default_rng(0)
    a, b = (e5m2.encode(60 * rng.standard_normal(shape)) for shape in ((16, 256), (256, 16)))
    compared(profile, e5m2, e5m2, a, b)


@pytest.mark.parametrize("chunk", [0, 16])
@pytest.mark.parametrize("lowest", ["normal", "flush"])
def test_24_bit_accumulators_underflow(lowest: str, chunk: int) -> None:
    rng = np.random.default_rng(0)
    wide = FloatFormat("wide", 5, 23, 8, special="nan-inf", lowest=lowest)
    profile = HFP8.replace(
        accumulator=wide, between_chunks=wide, rounding="nearest-even", chunk_length=chunk
    )
    a, b = (operand(rng, get_format("hfp8-152"), shape, "wide") for shape in ((5, 40), (40, 5)))
    compared(profile, "hfp8-152", "hfp8-152", a & 0x83, b & 0x87)


@pytest.mark.parametrize("chunk", [1000, 2**40, 2**58 + 1, 2**62])
def test_chunks_longer_than_k(chunk: int) -> None:
    fmt, rng = get_format("hfp8-143"), np.random.default_rng(0)
    a, b = (fmt.encode(rng.standard_normal(shape)) for shape in ((20, 700), (700, 20)))
    for products in (1, 2):
        profile = HFP8.replace(chunk_length=chunk, products_per_step=products)
        assert same(profile, fmt, fmt, a, b).kernel is not None


def test_exact_chunks_that_vanish_are_swamped() -> None:
    fmt_a, fmt_b = get_format("hfp8-152"), get_format("hfp8-143")
    units = np.multiply.outer(fmt_a.table(), fmt_b.table()) * 2.0**31
    pairs = [np.argwhere(units == wanted)[0] for wanted in (54, -55) * 2]
    a = np.tile(np.array([p[0] for p in pairs], np.uint8), (4, 1))
    b = np.tile(np.array([p[1] for p in pairs], np.uint8)[:, None], (1, 4))
    compared(HFP8.replace(products_per_step=0, chunk_length=2), fmt_a, fmt_b, a, b)
