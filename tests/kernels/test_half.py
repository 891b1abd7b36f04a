"""Lanes of binary16: their panels and bounds, and that tiles in them change no bit of a product."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from llvmlite import binding, ir

import hfp8sim as hs
from hfp8sim import kernels
from hfp8sim.formats import FloatFormat, get_format
from hfp8sim.kernels import PANEL, TARGETS, Plan, select, target
from hfp8sim.kernels.form import Adder, Counting, Form, Lane, Mode, Overflow, Underflow
from hfp8sim.kernels.half import LARGEST, Share
from hfp8sim.kernels.kernel import Kernel
from hfp8sim.kernels.microkernel import build
from hfp8sim.kernels.stream import half_panels, share_of_halves
from hfp8sim.units import Profile, get_profile, profiles
from hfp8sim.verify.half import HalfSweep, half_target
from tests.kernels.cases import HFP8, numbers, same
from tests.kernels.test_kernel import AWAY, USUAL
from tests.units.problems import plain

#: The target of these tests: the processor's own, or one that replaces instructions of binary16 by others.
HALF = half_target()
#: A tile has columns of several panels: a last panel may be alone.
SEVERAL_PANELS = HALF is not None and HALF.half.tile[1] * HALF.lanes_of(Lane.FLOAT16) > PANEL
ROWS = [row for row in TARGETS.values() if row.half is not None]
pytestmark = pytest.mark.skipif(HALF is None, reason="needs AVX-512, or lanes of binary16")
MODES = ("nearest-away", "toward-zero")
PAIRS = (
    ("hfp8-143", "hfp8-143"), ("hfp8-152", "hfp8-143"), ("hfp8-143", "hfp8-152"),
    ("hfp8-152", "hfp8-152"), ("e4m3fn", "e5m2"),
)  # fmt: skip


def half_plan(profile: Profile, pair: tuple[str, str], a: np.ndarray, b: np.ndarray) -> Plan:
    """The plan of a product on the target of these tests."""
    fmt_a, fmt_b = map(get_format, pair)
    scans = kernels.scan(a, fmt_a), kernels.scan(b, fmt_b)
    return kernels.plan(profile, fmt_a, fmt_b, *scans, a.shape[1], on=HALF)


def mixed(rng: np.random.Generator, pair: tuple[str, str], m: int, k: int, n: int):
    """Operands with panels of ordinary numbers, of numbers of any size, of large ones and of zeros."""
    a, b = (numbers(rng, name, shape, "normal") for name, shape in zip(pair, ((m, k), (k, n))))
    a[16:32] = numbers(rng, pair[0], a[16:32].shape, "wide")
    a[32:48] = 0
    fmt_a, fmt_b = map(get_format, pair)
    a[48:] = fmt_a.encode(fmt_a.max / 4 + fmt_a.decode(a[48:]))
    b[:, 96:112] = fmt_b.encode(fmt_b.max / 4 * np.sign(fmt_b.decode(b[:, 96:112])))
    b[:, 112:120] = 0
    return a, b


# -- panels ------------------------------------------------------------------------------------------


def quantum(fmt: FloatFormat, values: np.ndarray) -> int:
    """The exponent of the last place of the smallest number that is not zero."""
    least = np.abs(values[values != 0]).min()
    lowest = int(fmt.lowest == "subnormal") - fmt.bias - fmt.fraction_bits
    return max(math.frexp(least)[1] - 1 - fmt.fraction_bits, lowest)


@pytest.mark.parametrize("of_a", [True, False], ids="AB")
@pytest.mark.parametrize("name", ["hfp8-143", "hfp8-152", "e4m3fn", "e5m2"])
def test_panels_and_bounds(name: str, of_a: bool) -> None:
    rng, fmt = np.random.default_rng(3), get_format(name)
    rows, k = 5 * PANEL, 70
    codes = numbers(rng, fmt, (rows, k), "normal")
    codes[16:32] = fmt.encode(fmt.max / 2 * rng.choice([-1, 1], (16, k)))
    codes[32:48] = numbers(rng, fmt, (16, k), "numbers")
    codes[48:64] = 0
    for chunk in (64, 16, 7, 1, 0):
        profile = HFP8.replace(chunk_length=chunk)
        plan = half_plan(profile, (name, name), codes[:16] * 0, codes[:16].T * 0)
        halves, bounds = half_panels(plan, codes, of_a=of_a)
        width, place = halves.shape[2], plan.window.places[0 if of_a else 1]
        assert width == (16 if of_a else 32)
        length = chunk or k
        for p in range(5):
            values = fmt.decode(codes[p * 16 : (p + 1) * 16])
            at = p * 16 % width
            found = halves[p * 16 // width, :, at : at + 16].view(np.float16).astype(float).T
            row = bounds[p]
            if not values.any():
                assert not found.any() and row["largest"] == row["total"] == 0
                continue
            unit = 2.0 ** quantum(fmt, values)
            units = np.abs(values) / unit
            if units.max() * 2.0**place > LARGEST:
                assert row["largest"] == row["total"] == math.inf
                continue
            starts = range(0, k, length)
            sums = max(units[:, i : i + length].sum(axis=1).max() for i in starts)
            assert row["largest"] == units.max() and row["unit"] == unit
            assert row["total"] == pytest.approx(sums, rel=length * 2.0**-23)
            np.testing.assert_array_equal(found, values / unit * 2.0**place)
            factor = np.array(row["factor"], np.uint32).view(np.float32)
            np.testing.assert_array_equal(found * factor, values)


# -- products ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_mixed_tiles_equal_the_plain_loop(pair: tuple[str, str], mode: str) -> None:
    """Tiles in binary16 beside others; chunks that a step, a panel or K ends; every number of panels of columns."""
    rng = np.random.default_rng(5)
    seen = Share(0, 0, 0)
    for m, k, n, chunk in (
        (70, 130, 16 * 13 + 3, 64), (16, 64, 16, 64), (17, 63, 32, 7), (1, 1, 96, 64),
        (50, 200, 16 * 9, 0), (33, 65, 16 * 8 - 1, 16), (40, 129, 48, 1),
    ):  # fmt: skip
        a, b = mixed(rng, pair, m, k, n)
        profile = HFP8.replace(rounding=mode, chunk_length=chunk, between_rounding="nearest-even")
        plan = same(profile, *pair, a, b, on=HALF)
        share = share_of_halves(plan, a, b)
        assert sum(share) == kernels.count_panels(m) * kernels.count_panels(n)
        seen = Share(*(x + y for x, y in zip(seen, share)))
    assert seen.halves and seen.beyond and bool(seen.few) == SEVERAL_PANELS, seen


@pytest.mark.parametrize(
    "profile", [p for p in profiles() if get_profile(p).products_per_step == 1]
)
def test_profiles_equal_the_plain_loop(profile: str) -> None:
    """Profiles of which lanes of binary16 have bits enough compute in them, on one and on two threads."""
    rng, one = np.random.default_rng(6), get_profile(profile)
    pair = one.a_format, one.b_format
    for m, n, threads in ((70, 200, 1), (200, 560, 2)):
        a, b = mixed(rng, pair, m, 40, n)
        narrow = sum(get_format(name).precision for name in pair) <= 11
        fits = narrow and one.rounding in MODES and one.sum_order == "fused"
        if half_plan(one, pair, a, b).kernel is None:
            assert not fits
            continue
        plan = same(one, *pair, a, b, on=HALF, threads=threads)
        assert (plan.window is not None) == fits, plan
        if fits:
            assert share_of_halves(plan, a, b).halves


@pytest.mark.parametrize("mode", MODES)
def test_sums_at_the_end_of_the_window(mode: str) -> None:
    """Sums a little below the bound, and above it. Where it is passed, a sum in binary16 would be infinite."""
    fmt = get_format("hfp8-143")
    seen = set()
    for value in (2.0, 4.0, 5.0, 5.5, 6.0, 7.0, 8.0, 16.0, 30.0):
        for k in (5, 16, 64):
            a = fmt.encode(np.full((16, k), value))
            a[:, 0] = fmt.encode(fmt.min_positive)  # the smallest quantum
            b = np.tile(a[:1].T, (1, 32))
            b[0] = fmt.encode(value)
            b[1] = fmt.encode(fmt.min_positive)
            profile = HFP8.replace(rounding=mode, chunk_length=0)
            plan = same(profile, fmt, fmt, a, b, on=HALF)
            seen.add(share_of_halves(plan, a, b).halves)
    assert seen == {0, 2}


def test_small_products_need_no_bound_on_sums() -> None:
    """A sum of thousands stops growing where a product is less than half a unit in its last place."""
    fmt = get_format("hfp8-143")
    a = fmt.encode(np.full((16, 9000), 0.5))
    a[:, 0] = fmt.encode(fmt.min_positive)  # 9000 products in its units are beyond the window
    for mode in MODES:
        plan = same(
            HFP8.replace(rounding=mode, chunk_length=0), fmt, fmt, a, np.tile(a.T, 2), on=HALF
        )
        assert share_of_halves(plan, a, np.tile(a.T, 2)).halves == 2


@pytest.mark.parametrize("overflow", ["special", "saturate"])
@pytest.mark.parametrize("lowest", ["normal", "flush"])
@pytest.mark.parametrize("mode", MODES)
def test_sums_beyond_the_accumulator(mode: str, lowest: str, overflow: str) -> None:
    """Where sums of some tiles may overflow or underflow, only others are computed in binary16."""
    rng, e4m3 = np.random.default_rng(8), get_format("e4m3fn")
    narrow = FloatFormat("narrow", 5, 6, 17, special="nan-inf", lowest=lowest)
    x, y = rng.standard_normal((96, 40)), rng.standard_normal((40, 200))
    x[:16] *= 100
    x[16:32] *= 2.0**-6
    x[32:] = np.sign(x[32:]) * 2.0 ** rng.integers(-2, 2, x[32:].shape)
    y[:, :96] = np.sign(y[:, :96]) * 2.0 ** rng.integers(-3, 1, y[:, :96].shape)
    x[80:], y[:, 0] = 256, 4  # the total of such chunks overflows, without an underflow anywhere
    y[:, 16:32] = 0
    x[24], x[24, :5], y[:5, 150] = (
        0,
        2.0**-9,
        2.0**-9,
    )  # each product underflows, their sum would not
    profile = HFP8.replace(
        rounding=mode, accumulator=narrow, between_chunks=narrow, chunk_length=8, overflow=overflow
    )
    a, b = e4m3.encode(x), e4m3.encode(y)
    plan = same(profile, e4m3, e4m3, a, b, on=HALF)
    assert plan.kernel.form.overflow is not Overflow.IMPOSSIBLE
    assert plan.kernel.form.underflow is not Underflow.IMPOSSIBLE
    share = share_of_halves(plan, a, b)
    assert share.halves > sum(share) // 2 and share.beyond, share


@pytest.fixture
def processor_with_halves(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bool], None]]:
    """Whether products are planned for a processor with lanes of binary16, or for one without."""
    caches = select.plan, select.shared_plan

    def choose(halves: bool) -> None:
        chosen = HALF if halves else HALF._replace(half=None)
        monkeypatch.setattr(select, "host_target", lambda: chosen)
        for cache in caches:
            cache.cache_clear()

    yield choose
    for cache in caches:
        cache.cache_clear()


def test_every_caller_gets_equal_bits(processor_with_halves: Callable[[bool], None]) -> None:
    """Whole products, batches, convolutions with skipped chunks, values out, and a machine's programs."""
    rng, fmt = np.random.default_rng(9), get_format("hfp8-143")

    def codes(*shape: int) -> np.ndarray:
        return fmt.encode(rng.standard_normal(shape))

    a, b, many = codes(40, 130), codes(130, 70), codes(3, 20, 130)
    x, w = codes(2, 9, 9, 64), codes(32, 3, 3, 64)
    results = []
    for halves in (True, False):
        processor_with_halves(halves)
        assert (hs.explain(a, b).window is not None) == halves
        errors = hs.get_format("hfp8-152").encode(np.ones((2, 5, 5, 32)) * 0.75)
        results.append([
            hs.gemm(a, b), hs.gemm(a, b, out_dtype="float32"), hs.batched(many, b),
            hs.gemm(a, b, events=True)[0],
            hs.conv_fwd(x, w, stride=2, padding=1),
            hs.conv_dgrad(errors, w, (9, 9), stride=2, padding=1, a_format="hfp8-152"),
            hs.conv_wgrad(x, errors, (3, 3), stride=2, padding=1),
            hs.simulate("digits-cnn", phases=("fwd",), threads=1).to_csv(),
        ])  # fmt: skip
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


def test_events_are_counted_in_float32() -> None:
    fmt, scan = get_format("hfp8-143"), kernels.Scan(1.0, -14, False)
    plans = [kernels.plan(HFP8, fmt, fmt, scan, scan, 64, e, on=HALF) for e in (False, True)]
    assert [plan.kernel.half for plan in plans] == [True, False]


@pytest.mark.parametrize("change", [
    {"rounding": "nearest-even"}, {"rounding": "stochastic"}, {"products_per_step": 2},
    {"accumulator": "e8m13", "between_chunks": "e8m13"}, {"between_rounding": "stochastic"},
    {"chunk_length": 0},
], ids=str)  # fmt: skip
def test_profiles_without_a_window(change: dict) -> None:
    """Modes and widths that binary16 has too few bits for; and chunks too long for a float32 bound."""
    fmt, scan = get_format("hfp8-143"), kernels.Scan(1.0, -14, False)
    depth = 1 << 21 if change == {"chunk_length": 0} else 64
    plan = kernels.plan(HFP8.replace(**change), fmt, fmt, scan, scan, depth, on=HALF)
    assert plan.kernel is not None and plan.window is None and not plan.kernel.half
    wide = get_format("dlfloat16")
    assert kernels.plan(HFP8, wide, fmt, scan, scan, 64, on=HALF).window is None


# -- the plan ----------------------------------------------------------------------------------------


def test_plan_says_how_many_tiles(processor_with_halves: Callable[[bool], None]) -> None:
    processor_with_halves(True)
    rng = np.random.default_rng(1)
    a, b = mixed(rng, PAIRS[0], 64, 70, 16 * 9)
    b[:, :16] = numbers(rng, PAIRS[0][1], (70, 16), "wide")
    plan = hs.explain(a, b)
    halves, beyond, few = plan.share
    assert halves + beyond + few == 4 * 9 and halves and beyond
    assert bool(few) == SEVERAL_PANELS
    text = str(plan)
    assert text.startswith(
        f"float32×{HALF.lanes} nearest-away, 1 product, chopping adder, or float16×"
    )
    expected = f"; {halves} of 36 pairs of panels in binary16, sums of {beyond} could be too large or too small"
    assert text.endswith(expected + (f", {few} have too few columns" if few else ""))


# -- kernels and targets -----------------------------------------------------------------------------


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_names(row: target.Target) -> None:
    for mode, inter in itertools.product(
        (Mode.AWAY, Mode.ZERO), (AWAY, AWAY._replace(adder=Adder.NEAREST))
    ):
        form: Form = USUAL._replace(intra=AWAY._replace(mode=mode), inter=inter)
        kernel = Kernel.of(form, Counting.NONE, row)._replace(half=True)
        assert kernel.of_halves.form.lane is Lane.FLOAT16
        for each in (kernel, kernel.narrow, kernel.of_halves, kernel.of_halves.narrow):
            assert Kernel.parse(each.name) == each


def test_names_of_targets_without_halves() -> None:
    for name in ("f16_away_chop_8x3v_lag5__avx512dq", "f32_half_away_chop_8x3v_lag5__avx512dq"):
        with pytest.raises(ValueError, match="no kernel is named"):
            Kernel.parse(name)
    kernel = Kernel.of(USUAL, Counting.NONE, TARGETS["avx512fp16"])._replace(half=True)
    assert kernel.name == "f32_half_away_chop_8x3v_lag5__avx512fp16"
    assert kernel.of_halves.name == "f16_away_chop_8x3v_lag5__avx512fp16"
    assert kernel.of_halves.narrow.name == "f16_away_chop_16x1v_lag10__avx512fp16"


def test_processor_chooses_its_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lanes of binary16 are chosen where there are instructions for them; those without, by name only."""
    for name, row in (("avx512fp16", "avx512dq"), ("neonfp16", "neon")):
        features = TARGETS[name].features | {"+avx512vl"}
        monkeypatch.setattr(target.platform, "machine", lambda row=row: TARGETS[row].machines[0])
        for missing, expected in ((set(), name), ({"+avx512fp16", "+fullfp16"}, row)):
            found = ",".join(features - missing)
            monkeypatch.setattr(target, "_features", lambda found=found: found)
            assert target.host_target.__wrapped__().name == expected
    monkeypatch.setattr(target.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(target, "_features", lambda: ",".join(TARGETS["avx512half"].features))
    monkeypatch.setenv("HFP8SIM_TARGET", "avx512half")
    assert target.host_target.__wrapped__() is TARGETS["avx512half"]
    monkeypatch.setattr(target, "_features", lambda: "+avx2")
    with pytest.raises(hs.InputError, match=r"must be generic or model$"):
        target.host_target.__wrapped__()


def assembly(kernel: Kernel, triple: str, cpu: str) -> str:
    """The assembly text of a kernel for a processor."""
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    machine = binding.Target.from_triple(triple).create_target_machine(cpu, opt=3)
    module = ir.Module()
    module.triple, module.data_layout = triple, str(machine.target_data)
    build(module, kernel).linkage = "external"
    compiled = binding.parse_assembly(str(module))
    compiled.verify()
    text: str = machine.emit_assembly(compiled)
    return text


@pytest.mark.parametrize("name, triple, cpu, instruction, call", [
    ("avx512fp16", "x86_64-unknown-linux-gnu", "sapphirerapids", "vfmadd231ph", "call"),
    ("neonfp16", "aarch64-unknown-linux-gnu", "cortex-a76", "fmla\tv", "\tbl\t"),
], ids=["x86", "arm"])  # fmt: skip
@pytest.mark.parametrize("mode", [Mode.AWAY, Mode.ZERO])
def test_native_instructions(
    mode: Mode, name: str, triple: str, cpu: str, instruction: str, call: str
) -> None:
    """LLVM has instructions of binary16 for all of a kernel, which keeps its sums in registers."""
    form = USUAL._replace(intra=AWAY._replace(mode=mode))
    kernel = Kernel.of(form, Counting.NONE, TARGETS[name])._replace(half=True).of_halves
    try:
        text = assembly(kernel, triple, cpu)
    except RuntimeError as error:
        pytest.skip(f"this LLVM has no such target: {error}")
    lines = [line for line in text.splitlines() if instruction in line]
    assert len(lines) >= kernel.tiling.rows * kernel.tiling.vectors
    assert call not in text
    assert not [line for line in lines if "sp)" in line or "[sp" in line]


# -- arithmetic --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("pair", PAIRS[:4], ids="-".join)
def test_sums_equal_the_c_reference(pair: tuple[str, str], mode: str) -> None:
    """A part of the distinct products with all accumulators; `verify --exhaustive` has all."""
    sweep = HalfSweep(*map(get_format, pair), get_format("dlfloat16"), mode, HALF)
    for number in (0, sweep.parts - 1):
        result = sweep.part(number)
        assert result.differed == 0, result.first
        assert result.tried > 1e6


def test_window_is_as_wide_as_it_can_be() -> None:
    """One place lower, a subnormal number has an odd last bit, which the rounding would take away."""
    fmt = get_format("hfp8-143")
    sweep = HalfSweep(fmt, fmt, get_format("dlfloat16"), "nearest-away", HALF)
    a, b = sweep.plan.window.places
    low = sweep.plan.window._replace(places=(a - 1, b))
    sweep.plan = dataclasses.replace(sweep.plan, window=low)
    assert sweep.part(0).differed > 0


def test_directions_are_restored() -> None:
    from tests.kernels.test_targets import direction

    rng = np.random.default_rng(4)
    a, b = mixed(rng, PAIRS[0], 64, 70, 16 * 9)
    before = direction()
    assert before[0] > 1 and before[4] > 0  # to nearest, subnormal results kept
    for mode in MODES:
        same(HFP8.replace(rounding=mode), *PAIRS[0], a, b, on=HALF)
        assert direction() == before
    assert plain(HFP8, *PAIRS[0], a, b)[0].shape == (64, 144)
