"""Which kernel is chosen, and operands for which a proof could be wrong."""

from __future__ import annotations

import numpy as np
import pytest

from hfp8sim import kernels
from hfp8sim.formats import FloatFormat, get_format
from hfp8sim.kernels import (
    TARGETS,
    Scan,
    Target,
)
from hfp8sim.kernels.form import Mode
from hfp8sim.kernels.select import bound
from hfp8sim.units import get_profile
from hfp8sim.units.profile import Profile
from tests.kernels.cases import HFP8, MODES, PROCESSORS, compared, numbers, run, same
from tests.units.problems import operand


def test_adder_by_accumulator_width() -> None:
    def adder(fraction: int, mode: str, on: Target) -> str:
        fmt = FloatFormat("acc", 7, fraction, 63, special="nan-inf", lowest="normal")
        profile = HFP8.replace(accumulator=fmt, between_chunks=fmt, rounding=mode)
        scan = Scan(30.0, -14, False)
        fmt_a = get_format("hfp8-143")
        kernel = kernels.plan(profile, fmt_a, fmt_a, scan, scan, 1 << 40, on=on).kernel
        return "plain" if kernel is None else f"{kernel.form.lane} {kernel.form.intra.adder}"

    x86, foreign = TARGETS["avx512"], PROCESSORS["foreign"]
    even = [adder(m, "nearest-even", x86) for m in range(5, 13)]
    assert even == ["32 odd"] * 2 + ["32 near"] * 4 + ["32 odd"] * 2
    assert {adder(m, "nearest-away", x86) for m in range(1, 23)} == {"32 chop"}
    assert adder(9, "nearest-away", foreign) == "32 near"
    assert adder(12, "nearest-away", foreign) == adder(9, "toward-zero", foreign) == "plain"


@pytest.mark.parametrize(
    "pair", [("hfp8-143", "hfp8-143"), ("hfp8-143-hw", "hfp8-152-hw")], ids="×".join
)
def test_pairs_are_exact_in_float64(pair: tuple[str, str]) -> None:
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


def test_bound_holds_for_the_worst_roundings() -> None:
    """The bound on sums holds in the worst case: each term is the largest, and each rounding goes up as far as
    the mode allows."""
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
                    assert x <= bound(n, term, 0.0, p, Mode(kind)) * (1 + 1e-12)


@pytest.mark.parametrize("change, why", [
    ({"rounding": "to-odd"}, "no kernel"),
    ({"rounding": "stochastic", "random_source": "lfsr"}, "LFSR"),
    ({"rounding": "stochastic", "random_bits": 15}, "random bits"),
    ({"products_per_step": 2, "sum_order": "chain"}, "sum order"),
])  # fmt: skip
def test_rejected_profile_gives_the_reason(change: dict, why: str) -> None:
    fmt = get_format("hfp8-143")
    plan = kernels.plan(
        HFP8.replace(**change), fmt, fmt, Scan(30, -14, False), Scan(30, -14, False), 64
    )
    assert plan.kernel is None
    assert str(plan).startswith("plain integer loop: ") and why in str(plan)


def test_special_codes_have_no_kernel() -> None:
    a = np.full((2, 3), 0x7F, np.uint8)
    assert run("rapid", "hfp8-143-hw", "hfp8-143-hw", a, a.T)[0] is None


@pytest.mark.parametrize("source", ["row-column", "counter"])
@pytest.mark.parametrize("products", [1, 2])
@pytest.mark.parametrize("r", [5, 6])
def test_smallest_number_off_the_quantum(products: int, r: int, source: str) -> None:
    """A stochastic rounding lifts −1 quantum to −MIN, of which the next sum must see every bit."""
    fmt_a, fmt_b = get_format("hfp8-152"), get_format("hfp8-143")
    units = np.multiply.outer(fmt_a.table(), fmt_b.table()) * 2.0**31
    pairs = [np.argwhere(units == unit)[0] for unit in (54, -55, 65536, 45)]
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
def test_largest_number_off_the_quantum(change: dict) -> None:
    """Chunks stick at binary16's largest number, and the total sees every bit of it."""
    e5m2 = get_format("e5m2")
    profile = Profile(
        "p", accumulator="binary16", between_chunks="e8m13", chunk_length=1,
        between_rounding="toward-zero", **change,
    )  # fmt: skip
    a = e5m2.encode(np.full((1, 16384), 256.0))
    compared(profile, e5m2, e5m2, a, a.T)


@pytest.mark.parametrize("mode", MODES)
def test_nan_without_a_fraction(mode: str) -> None:
    """A rounding's addend would carry it out of the exponent."""
    acc1, e4m3 = FloatFormat("acc", 5, 0, 14, special="fn", lowest="flush"), get_format("e4m3fn")
    profile = HFP8.replace(
        accumulator=acc1, between_chunks=acc1, chunk_length=8, rounding=mode, random_bits=13
    )
    a = e4m3.encode(np.full((3, 24), 448.0))
    compared(profile, e4m3, e4m3, a, a.T)


def test_subnormals_beyond_float32s_scale() -> None:
    acc2, fmt = FloatFormat("acc", 7, 9, 125), get_format("hfp8-143")
    rng = np.random.default_rng(5)
    a, b = numbers(rng, fmt, (9, 40), "numbers"), numbers(rng, fmt, (40, 9), "numbers")
    a[0] = 0
    compared(HFP8.replace(accumulator=acc2, between_chunks=acc2), fmt, fmt, a, b)


@pytest.mark.parametrize("lowest", ["normal", "flush", "subnormal"])
def test_binade_below_float32s(lowest: str) -> None:
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


def test_vanishing_chunk_is_swamped() -> None:
    fmt_a, fmt_b = get_format("hfp8-152"), get_format("hfp8-143")
    units = np.multiply.outer(fmt_a.table(), fmt_b.table()) * 2.0**31
    pairs = [np.argwhere(units == unit)[0] for unit in (54, -55) * 2]
    a = np.tile(np.array([p[0] for p in pairs], np.uint8), (4, 1))
    b = np.tile(np.array([p[1] for p in pairs], np.uint8)[:, None], (1, 4))
    compared(HFP8.replace(products_per_step=0, chunk_length=2), fmt_a, fmt_b, a, b)
