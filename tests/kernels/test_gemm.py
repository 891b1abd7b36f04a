"""Whole GEMMs and pieces of them: layouts, blocks, threads, buffers."""

from __future__ import annotations

import gc
import itertools
import threading
import weakref

import numpy as np
import pytest

from hfp8sim import kernels
from hfp8sim.formats import get_format
from hfp8sim.kernels import form as at
from hfp8sim.kernels import (
    gemm as driver,
)
from hfp8sim.ops import gemm
from hfp8sim.units import accumulator as acc
from hfp8sim.units import get_profile
from tests.kernels.cases import HFP8, PAIRS, numbers, run, same
from tests.units.problems import plain


@pytest.mark.parametrize(
    "shape",
    [(1, 1, 1), (1, 70, 200), (16, 64, 16), (17, 65, 15), (64, 3, 40), (5, 0, 4), (9, 66, 80)],
)
def test_shapes_and_layouts(shape: tuple[int, int, int]) -> None:
    m, k, n = shape
    rng = np.random.default_rng(m)
    a, b = numbers(rng, "hfp8-143", (m, k), "normal"), numbers(rng, "hfp8-143", (k, n), "normal")
    expected = plain(HFP8, "hfp8-143", "hfp8-143", a, b)[0]
    for left in (a, np.asfortranarray(a), np.repeat(a, 2, axis=1)[:, ::2], a[::-1][::-1]):
        for right in (b, np.asfortranarray(b), np.repeat(b, 2, axis=0)[::2]):
            result = run(HFP8, "hfp8-143", "hfp8-143", left, right)[0]
            np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("random_source", ["row-column", "counter"])
def test_blocking_changes_no_bit(random_source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of one call, rows of one block, and columns whose panels are held at once."""
    rng = np.random.default_rng(45)
    profile = HFP8.replace(rounding="stochastic", random_source=random_source)
    a, b = (
        numbers(rng, "hfp8-143", (210, 90), "normal"),
        numbers(rng, "hfp8-143", (90, 75), "normal"),
    )
    expected = plain(profile, "hfp8-143", "hfp8-143", a, b, seed=6)[0]
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
            result = run(profile, "hfp8-143", "hfp8-143", a, b, seed=6, threads=threads)[0]
            np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(
    "name, fmt, events", [("hfp8", "hfp8-143", True), ("hopper-fp8", "e4m3fn", False)]
)
def test_threads(name: str, fmt: str, events: bool) -> None:
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
def test_reused_buffers(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
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
        patch.setattr(driver, "_multiply_groups", stop)
        gemm(a, b, threads=1)
    np.testing.assert_array_equal(
        gemm(a, b, threads=1), plain(HFP8, "hfp8-143", "hfp8-143", a, b)[0]
    )
    assert not np.shares_memory(workspace.array("b values", (1,), np.float32), before)


def test_workers_free_memory_of_ended_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "MACS_WORTH_THREADS", 1)
    rng, prepared = np.random.default_rng(2), []
    a, b = (
        numbers(rng, "hfp8-143", (90, 70), "normal"),
        numbers(rng, "hfp8-143", (70, 50), "normal"),
    )

    def call() -> None:
        run(HFP8, "hfp8-143", "hfp8-143", a, b, threads=2)
        prepared.extend(map(weakref.ref, driver._WORKSPACE._objects.values()))

    caller = threading.Thread(target=call)
    caller.start()
    caller.join()
    gc.collect()
    assert [each() for each in prepared] == [None]


def test_streams_of_repeated_shapes_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training step multiplies one shape after another, and then all of them again."""
    workspace, built = kernels.Workspace(), []
    monkeypatch.setattr(driver, "_WORKSPACE", workspace)
    monkeypatch.setattr(workspace, "MAX_OBJECTS", 3)
    stream = driver.Stream
    monkeypatch.setattr(driver, "Stream", lambda *a, **k: built.append(1) or stream(*a, **k))
    fmt = get_format("hfp8-143")
    codes = numbers(np.random.default_rng(2), fmt, (100, 8), "normal")
    plan = kernels.plan(HFP8, fmt, fmt, *[kernels.scan(codes, fmt)] * 2, 8)

    def multiply(rows: int) -> None:
        formats, result = (fmt, fmt, HFP8.result_format), np.zeros((rows, 5), np.uint16)
        kernels.multiply(plan, codes[:rows], codes[:5].T, formats, acc.stream_keys(0, 0, 1), result)
        expected = plain(HFP8, fmt, fmt, codes[:rows], codes[:5].T)[0]
        np.testing.assert_array_equal(result, expected)

    multiply(100)  # the largest buffers
    for _ in range(2):
        for rows in (100, 70, 40):
            multiply(rows)
    assert len(built) == 3
    multiply(20)
    multiply(70)
    assert len(built) == 4
    multiply(100)  # the one that was used least recently has been dropped
    assert len(built) == 5
    assert len(workspace._objects) == 3


def test_larger_buffers_drop_what_used_the_smaller_ones() -> None:
    workspace = kernels.Workspace()
    first = workspace.cached("first", 8, lambda: [workspace.array("memory", (8,), np.uint8)])
    assert workspace.cached("first", 8, list) is first
    workspace.array("memory", (200,), np.uint8)
    assert workspace.cached("first", 8, list) == []
    large = kernels.memory.REUSED_BYTES + 1
    assert workspace.cached("large", large, lambda: [1]) == [1]
    assert workspace.cached("large", large, list) == []


@pytest.mark.parametrize("products, chunk", [(1, 64), (1, 7), (1, 0), (2, 7), (2, 64), (0, 16)])
@pytest.mark.parametrize("mode", ["nearest-away", "stochastic"])
def test_ranges_of_k_give_the_whole_product(mode: str, products: int, chunk: int) -> None:
    """Ranges in any cut give what the whole gives, state and random words included."""
    if products == 0 and mode == "stochastic":
        pytest.skip("no kernel")
    rng = np.random.default_rng(products * 100 + chunk)
    profile = HFP8.replace(rounding=mode, products_per_step=products, chunk_length=chunk)
    fmt = get_format("hfp8-143")
    m, k, n = 37, 150, 41
    a, b = numbers(rng, fmt, (m, k), "normal"), numbers(rng, fmt, (k, n), "normal")
    expected, events = plain(profile, fmt, fmt, a, b, seed=4)
    facts = acc.gemm_facts(profile, fmt, fmt, 4, 0)
    plan = kernels.plan(profile, fmt, fmt, kernels.scan(a, fmt), kernels.scan(b, fmt), k, True)
    step = max(products, 1)
    starts = [t for c in range(0, k, chunk or k) for t in range(c, min(c + (chunk or k), k), step)]
    if products == 0:
        starts = list(range(0, k, chunk))
    cuts = [0, *sorted(rng.choice(starts[1:], 5, replace=False)), k]
    result, swamped = np.zeros_like(expected), 0
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
            kernels.encode(
                state.total, profile.result_format.facts, plan.scale, result[rows, columns]
            )
    np.testing.assert_array_equal(result, expected)
    assert swamped == events.swamped


@pytest.mark.parametrize("mode", ["nearest-away", "nearest-even"])
@pytest.mark.parametrize("k", [64, 3000])
def test_whole_product_begins_at_zero(mode: str, k: int) -> None:
    """Whatever was in the memory of its state; a long k is cut into blocks, which begin with the sums."""
    rng = np.random.default_rng(31)
    profile, fmt = HFP8.replace(rounding=mode), get_format("hfp8-143")
    a, b = numbers(rng, fmt, (21, k), "normal"), numbers(rng, fmt, (k, 70), "normal")
    expected = plain(profile, fmt, fmt, a, b)[0]
    plan = kernels.plan(profile, fmt, fmt, kernels.scan(a, fmt), kernels.scan(b, fmt), k)
    keys = (np.uint64(0), np.uint64(0))
    left = kernels.pack_operand(plan, a, fmt, keys, of_a=True)
    right = kernels.pack_operand(plan, b.T, fmt, keys, of_a=False)
    state = kernels.allocate_accumulators(plan, *expected.shape, whole=True)
    state.chunk.fill(np.nan)
    for _ in range(2):
        state.total.fill(np.nan)
        kernels.accumulate(plan, left, right, state, last=True)
        result = np.empty_like(expected)
        kernels.encode(state.total, profile.result_format.facts, plan.scale, result)
        np.testing.assert_array_equal(result, expected)


def test_buffers_are_reused_by_name() -> None:
    memory = kernels.Reused()
    one, other = (memory.array(what, (3, 16), np.float32) for what in ("one", "other"))
    assert not np.shares_memory(one, other)
    assert memory.array("one", (3, 16), np.float32) is one
    assert np.shares_memory(memory.array("one", (5,), np.float64), one)
    assert not np.shares_memory(memory.array("one", (1 << 20,), np.float64), one)
    assert all(x.__array_interface__["data"][0] % 64 == 0 for x in (one, other))
