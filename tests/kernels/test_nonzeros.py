"""Kernels that leave out zeros of A have the plain loop's codes and events."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from hfp8sim import kernels
from hfp8sim.formats import get_format
from hfp8sim.kernels import Plan, nonzeros
from hfp8sim.kernels.kernel import Kernel
from hfp8sim.units import Profile
from hfp8sim.units import accumulator as acc
from tests.kernels.cases import HFP8, MODES
from tests.units.problems import operand, plain

FORMAT = get_format("hfp8-143")
#: An accumulator in which sums of these products underflow.
LOW = dataclasses.replace(get_format("dlfloat16"), bias=12)
has_kernel = pytest.mark.skipif(
    not kernels.host_target().sparse, reason="the processor has no such kernels"
)
#: Chunk lengths: shorter than a word, as long as one, longer, and all of K.
CHUNKS = (1, 7, 64, 100, 0)
#: (M, K, N): rows and columns that fill no panel, columns that leave panels over, and more than one tile.
SHAPES = ((1, 1, 64), (17, 63, 50), (33, 65, 80), (16, 130, 128), (5, 64, 64))


def with_zeros(rng: np.random.Generator, shape: tuple[int, int], kind: str) -> np.ndarray:
    """Codes of A. Kinds: `half` of them zero; `rows`, every other one all zero; `none` zero; `all`; `few` zero, with
    some negative."""
    a = np.maximum(operand(rng, FORMAT, shape, "normal"), 1)
    if kind == "rows":
        a[::2] = 0
    share = {"half": 0.5, "all": 1.0, "few": 0.3}.get(kind, 0.0)
    a[rng.random(shape) < share] = 0
    if kind == "few":
        a[(a == 0) & (rng.random(shape) < 0.5)] = 0x80
    return a


def sparse_plan(profile: Profile, a: np.ndarray, b: np.ndarray) -> Plan:
    """The plan that counts events and leaves out zeros."""
    scans = kernels.scan(a, FORMAT), kernels.scan(b, FORMAT)
    plan = kernels.plan(profile, FORMAT, FORMAT, *scans, a.shape[1], True)
    assert plan.leaving_out_zeros.sparse and plan.leaving_out_zeros is plan.leaving_out_zeros
    return plan.leaving_out_zeros


def compare(profile: Profile, a: np.ndarray, b: np.ndarray, threads: int = 1) -> None:
    """Codes and counts of `multiply` are the plain loop's."""
    plan = sparse_plan(profile, a, b)
    expected, events = plain(profile, FORMAT, FORMAT, a, b, seed=3)
    result, keys = np.zeros_like(expected), acc.stream_keys(3, 0, 1)
    formats = FORMAT, FORMAT, profile.result_format
    counts = kernels.multiply(plan, a, b, formats, keys, result, threads).counts
    np.testing.assert_array_equal(result, expected)
    assert tuple(counts) == (events.swamped, events.overflowed, events.underflowed)


@has_kernel
@pytest.mark.parametrize("kind", ["half", "rows", "none", "all", "few"])
@pytest.mark.parametrize("chunk", CHUNKS)
def test_shapes_and_zeros(chunk: int, kind: str) -> None:
    rng, profile = np.random.default_rng(chunk), HFP8.replace(chunk_length=chunk)
    for m, k, n in SHAPES:
        b = operand(rng, FORMAT, (k, n), "normal")
        b[:, ::5] = 0
        b[::7] = 0
        compare(profile, with_zeros(rng, (m, k), kind), b)


@has_kernel
@pytest.mark.parametrize("change", [
    *({"rounding": mode} for mode in MODES),
    {"rounding": "stochastic-b"},
    {"rounding": "stochastic", "random_source": "counter"},
    {"rounding": "nearest-even", "between_rounding": "stochastic"},
    {"accumulator": "binary32", "between_chunks": "binary32", "rounding": "nearest-even"},
    *({"accumulator": LOW, "between_chunks": LOW, "rounding": mode} for mode in MODES),
], ids=lambda change: "-".join(str(getattr(x, "name", x)) for x in change.values()))  # fmt: skip
def test_every_rounding(change: dict) -> None:
    """Random words stay those of their k."""
    rng = np.random.default_rng(8)
    profile = HFP8.replace(**change)
    a, b = with_zeros(rng, (35, 150), "half"), operand(rng, FORMAT, (150, 70), "normal")
    for threads in (1, 2):
        compare(profile, a, b, threads)


@has_kernel
def test_threads_share_rows() -> None:
    rng = np.random.default_rng(9)
    a, b = with_zeros(rng, (640, 128), "half"), operand(rng, FORMAT, (128, 144), "normal")
    for threads in (1, 2):
        compare(HFP8, a, b, threads)


@has_kernel
@pytest.mark.parametrize("mode", ["nearest-away", "stochastic-a"])
@pytest.mark.parametrize("max_k", [51, 90, 150])
def test_ranges_of_k(max_k: int, mode: str) -> None:
    """A chunk may be open between two ranges, some of which leave out zeros and some do not."""
    rng, profile = np.random.default_rng(max_k), HFP8.replace(chunk_length=40, rounding=mode)
    cuts = 0, 1, 13, 40, 51, 102, 150
    a, b = with_zeros(rng, (37, cuts[-1]), "half"), operand(rng, FORMAT, (cuts[-1], 69), "normal")
    a[:, 13:51] = np.maximum(a[:, 13:51], 1)
    plan = sparse_plan(profile, a, b)
    expected, events = plain(profile, FORMAT, FORMAT, a, b, seed=3)
    keys = acc.gemm_facts(profile, FORMAT, FORMAT, 3, 0).keys
    formats = FORMAT, FORMAT, profile.result_format
    stream = kernels.Stream(plan, formats, keys, 37, 69, cuts[-1], max_k=max_k)
    result, zero_steps = np.zeros_like(expected), 0
    for rows in (slice(0, 16), slice(16, 37)):
        for k0, k1 in itertools.pairwise(cuts):
            left, right = a[rows, k0:k1], b[k0:k1].T
            stream.add(kernels.view(left, rows.start), kernels.view(right), k0, k1 - k0)
            zero_steps += kernels.zero_steps(plan, left, right, k0)
        stream.codes(result[rows])
    np.testing.assert_array_equal(result, expected)
    assert stream.counts[kernels.SWAMPED] - zero_steps == events.swamped


def test_lists() -> None:
    """Bit b of word (w, i) is that of element (64·w + b, i)."""
    rng = np.random.default_rng(4)
    for steps in (1, 63, 64, 65, 130):
        values = np.where(rng.random((steps, 16)) < 0.5, 0, rng.standard_normal((steps, 16)))
        values = values.astype(np.float32)
        values[0, :2] = -0.0, np.inf
        words = np.full((nonzeros.words_of(steps), 16), ~np.uint64(0))
        count = nonzeros.list_panel(values.ctypes.data, steps, words.ctypes.data)
        assert count == np.count_nonzero(values)
        bits = (words[:, None] >> np.arange(64, dtype=np.uint64)[:, None] & np.uint64(1)).reshape(
            -1, 16
        )
        np.testing.assert_array_equal(bits[:steps], values != 0)
        assert not bits[steps:].any()


@pytest.mark.parametrize(
    "fmt, change, value",
    [
        ("hfp8-143", {"products_per_step": 2}, 1.0),
        ("hfp8-143", {"accumulator": "e4m3fn"}, 16.0),
        ("e5m2", {}, np.inf),
        ("e5m2", {}, np.nan),
    ],
)
def test_plans_that_leave_out_nothing(fmt: str, change: dict, value: float) -> None:
    """Steps of two products, sums that may be infinite, and operands of which zero times one is no zero."""
    fmt = get_format(fmt)
    scan = kernels.scan(np.full((8, 8), fmt.encode(value)), fmt)
    plan = kernels.plan(HFP8.replace(**change), fmt, fmt, scan, scan, 8, True)
    assert plan.leaving_out_zeros is plan
    quiet = kernels.plan(
        HFP8, FORMAT, FORMAT, kernels.scan(np.full((8, 8), 9, np.uint8), FORMAT), scan, 8
    )
    assert quiet.leaving_out_zeros is quiet


def test_name() -> None:
    """A name tells the kernel apart, and only targets that have it know it."""
    name = "f32_sparse_away_chop_1x4v_unchanged__avx512dq"
    kernel = Kernel.parse(name)
    assert kernel.sparse and kernel.name == name and kernel.narrow is kernel
    assert Kernel.parse("f32_away_chop_16x1v_group8_unchanged__avx512dq").of_nonzeros == kernel
    with pytest.raises(ValueError, match="no kernel is named"):
        Kernel.parse("f32_sparse_away_chop_1x4v_unchanged__sse2")
