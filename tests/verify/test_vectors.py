"""Test vectors: right by the oracle, the same every time, and readable as documented."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hfp8sim.errors import InputError
from hfp8sim.formats import MODES, get_format
from hfp8sim.network import PHASES
from hfp8sim.units import get_profile, profiles
from hfp8sim.verify import c_reference
from hfp8sim.verify import vectors as module
from hfp8sim.verify.vectors import UNITS, vectors, write
from hfp8sim.version import __version__
from tests import oracle

PROFILES = ("hfp8", "rapid", "fp8-2018", "fp16")


def formats_of(name: str, phase: str = "wgrad"):
    p = get_profile(name)
    return p, *p.operand_formats(phase), get_format(p.accumulator), get_format(p.between_chunks)


@pytest.mark.parametrize("name", PROFILES)
def test_fma(name: str) -> None:
    p, a, b, acc, _ = formats_of(name)
    v = vectors("fma", p, phase="wgrad", count=1500).columns
    for i in range(1500):
        terms = [oracle.decode(acc, int(v["acc"][i]))]
        terms.append(
            oracle.product(oracle.decode(a, int(v["a"][i])), oracle.decode(b, int(v["b"][i])))
        )
        mode = MODES[v["mode"][i]]
        expected = oracle.round_sum(
            acc, oracle.total(terms), mode, p.overflow, p.random_bits, int(v["random"][i])
        )
        assert (int(v["result"][i]), int(v["flags"][i])) == expected, i


@pytest.mark.parametrize("order", ["fused", "pair-first", "chain"])
def test_fmma(order: str) -> None:
    p = get_profile("rapid").replace(sum_order=order)
    a, b = p.operand_formats("fwd")
    formats = a, b, get_format(p.accumulator), get_format(p.between_chunks)
    v = vectors("fmma", p, count=1500).columns
    for i in range(1500):
        pairs = [(int(x), int(y)) for x, y in zip(v["a"][i], v["b"][i])]
        now = p.replace(rounding=MODES[v["mode"][i]])
        R = [int(n) for n in v["random"][i]]
        code, flags = oracle.step(now, formats, int(v["acc"][i]), pairs, R)
        assert (int(v["result"][i]), int(v["flags"][i])) == (code, flags[0] | flags[-1]), i


@pytest.mark.parametrize("name", [*PROFILES, "aiu", "hopper-fp8"])
def test_add(name: str) -> None:
    p, _, _, acc, total = formats_of(name)
    v = vectors("add", p, count=1000).columns
    for i in range(1000):
        terms = [oracle.decode(total, int(v["total"][i])), oracle.decode(acc, int(v["chunk"][i]))]
        mode = MODES[v["mode"][i]]
        expected = oracle.round_sum(
            total, oracle.total(terms), mode, p.overflow, p.random_bits, int(v["random"][i])
        )
        assert (int(v["result"][i]), int(v["flags"][i])) == expected, i


@pytest.mark.parametrize("name", [*PROFILES, "e5m2-fp32"])
def test_convert(name: str) -> None:
    p, a, *_ = formats_of(name)
    v = vectors("convert", p, phase="wgrad", count=1500).columns
    for i in range(1500):
        bits = int(v["x"][i])
        x = oracle.decode(get_format("binary32"), bits)
        expected = oracle.round_code(
            a, x, MODES[v["mode"][i]], p.operand_overflow, p.random_bits, int(v["random"][i])
        )
        assert (int(v["result"][i]), int(v["flags"][i])) == expected, hex(bits)


def test_dot() -> None:
    p, a, b, acc, total = formats_of("hfp8")
    v = vectors("dot", p, phase="wgrad", count=12).columns
    expected, _ = oracle.gemm(p, (a, b, acc, total), v["a"], v["b"][:1].T)
    np.testing.assert_array_equal(v["result"], np.array(expected)[:, 0])
    assert len(np.unique(v["result"])) > 10


def test_vectors_cover_all_cases() -> None:
    """All modes and flags, cancellation to zero, NaN, and every random bit at work."""
    vector_set = vectors("fma", "rapid")
    v = vector_set.columns
    assert set(v["mode"]) == set(range(len(MODES)))
    union = 0
    for flags in v["flags"]:
        union |= int(flags)
    assert union == 15
    acc = get_format("dlfloat16").decode(v["acc"])
    assert ((v["result"] == 0) & (acc != 0) & np.isfinite(acc)).any()
    assert np.bitwise_or.reduce(v["random"]) == 2**13 - 1
    assert not v["random"][v["mode"] < 6].any()


@pytest.mark.parametrize("unit", UNITS)
def test_text_equals_arrays(unit: str) -> None:
    vector_set = vectors(unit, "rapid", count=50, seed=3)
    lines = vector_set.lines()
    rows = [line for line in lines if not line.startswith("//")]
    places = [
        re.match(r"// \[(\d+):(\d+)\] (\w+)(?: = (\d+) × (\d+) bits)?", line)
        for line in lines
        if line.startswith("// [")
    ]
    assert len(rows) == 50 and len(places) == len(vector_set.fields)
    for i, row in enumerate(rows):
        word = int(row.replace("_", ""), 16)
        assert 4 * len(row.replace("_", "")) == vector_set.width
        for place in places:
            high, low, name = int(place[1]), int(place[2]), place[3]
            part = word >> low & (1 << (high - low + 1)) - 1
            count = int(place[4] or 1)
            bits = (high - low + 1) // count
            numbers = [part >> bits * (count - 1 - k) & (1 << bits) - 1 for k in range(count)]
            np.testing.assert_array_equal(vector_set.columns[name].reshape(50, -1)[i], numbers)


def test_files(tmp_path: Path) -> None:
    paths = write(tmp_path / "v", ["fma", "dot"], "hfp8", count=20, seed=5, modes=["nearest-away"])
    assert [p.name for p in paths] == ["fma.hex", "fma.npz", "dot.hex", "dot.npz"]
    vector_set = vectors("fma", "hfp8", count=20, seed=5, modes=["nearest-away"])
    assert paths[0].read_text(encoding="utf-8").splitlines() == vector_set.lines()
    with np.load(paths[1]) as stored:
        assert str(stored["unit"]) == "fma"
        assert json.loads(str(stored["about"]))["seed"] == 5
        for name, column in vector_set.columns.items():
            np.testing.assert_array_equal(stored[name], column)
    assert set(vector_set.columns["mode"]) == {1}


def test_vectors_depend_on_request() -> None:
    one, two = (vectors("fma", count=200, seed=s).columns["a"] for s in (1, 2))
    assert np.array_equal(one, vectors("fma", count=200, seed=1).columns["a"])
    assert not np.array_equal(one, two)
    assert not np.array_equal(one, vectors("fmma", count=200, seed=1).columns["a"][:, 0])


def test_vectors_are_stable() -> None:
    """The first vectors of three units, written down: a change of theirs is a change of the format."""
    heads = {
        unit: vectors(unit, count=2, seed=0).lines()[-2:] for unit in ("convert", "fma", "add")
    }
    assert heads == KNOWN


KNOWN = {
    "convert": ["0_ff_0_000000_a4c85d70_80_5", "0_ff_1_000000_c204764e_ff_3"],
    "fma": ["0_ffff_0_000000_40_1d_b2d0_b2b6_0", "0_ffff_1_000000_2b_ff_ccbc_ccbf_1"],
    "add": ["0_ffff_0_000000_07a7_7150_7150_1", "0_ffff_1_000000_3f51_3830_3f97_0"],
}


def test_vectors_do_not_depend_on_count() -> None:
    """Nor on threads: more than one part of rows is made."""
    few = vectors("fmma", count=100).rows
    many = [vectors("fmma", count=70_000, threads=n).rows for n in (1, 2)]
    assert np.array_equal(few, many[0][:100]) and np.array_equal(*many)
    ffi, lib = c_reference.library()
    rows, counts = ffi.new("ref_vector[]", 20), ffi.new("ref_coverage *")
    lib.ref_vectors(module.request("fmma").record(), 65_530, 20, rows, counts)  # across two parts
    expected = np.frombuffer(ffi.buffer(rows), np.uint32).reshape(20, -1)
    assert np.array_equal(many[0][65_530:65_550], expected)


def test_header_names_version() -> None:
    vector_set = vectors("fma", count=3)
    assert vector_set.about["hfp8sim"] == __version__
    assert f'"hfp8sim": "{__version__}"' in vector_set.lines()[0]


# -- coverage ----------------------------------------------------------------------------------------

#: Units whose coverage is counted.
COVERED = ("convert", "fma", "fmma", "add")


@pytest.mark.parametrize("name", profiles("exact"))
def test_default_vectors_reach_every_bin(name: str) -> None:
    for unit, phase, seed in itertools.product(COVERED, PHASES, (0, 1)):
        assert not vectors(unit, name, phase=phase, seed=seed).coverage.empty, (unit, phase, seed)


@pytest.mark.parametrize("name", ["hfp8", "rapid", "fp8-2018", "fp16"])
def test_default_dots_reach_every_place(name: str) -> None:
    """Operands near 1 leave only ends of exponent differences, and rare cancellations, empty."""
    for seed in (0, 1):
        coverage = vectors("dot", name, seed=seed).coverage
        assert len(coverage) > 90 and len(coverage.empty) < 8
        assert {text.split(":")[0].split()[1] for text in coverage.empty} <= {"difference", "cancellation"}  # fmt: skip


def test_dot_coverage_follows_the_profile() -> None:
    """No totals without chunks, and no sums of two terms where a step has all products."""
    flat = vectors("dot", get_profile("hfp8").replace(chunk_length=0), count=3).coverage
    assert not any(group.startswith("total") for group in flat.groups)
    whole = vectors("dot", "exact", count=3).coverage
    assert set(whole.groups) == {"step position", "step sign"}


def test_dot_coverage_counts_the_first_vectors() -> None:
    counts = [
        vectors("dot", count=module.DOT_COVERED + more, threads=1).coverage.groups
        for more in (-1, 0, 5)
    ]
    assert counts[0] != counts[1] == counts[2]


def test_bins_that_are_not_listed_stay_empty() -> None:
    """A bin is left out only if no vector falls into it."""
    ffi, lib = c_reference.library()
    for unit, name in itertools.product(COVERED, ("hfp8", "aiu", "fp8-2018", "hopper-fp8")):
        q = module.request(unit, name)
        rows, counts = ffi.new("ref_vector[]", 50_000), ffi.new("ref_coverage[2]")
        lib.ref_vectors(q.record(), 0, 50_000, rows, counts)
        listed = Counter()
        for group, bins in q.coverage([counts]).groups.items():
            listed[group] = sum(bins.values())
        for group, _ in ffi.typeof("ref_coverage").fields:
            assert listed[group] == sum(getattr(counts[0], group)), (unit, name, group)


def observe(expected: Counter, acc, terms, mode: str, before: int, after: int, flags: int) -> None:
    """Count the bins of one rounded sum of two terms, found again in fractions."""
    bits, x = acc.fraction_bits, oracle.total(terms)
    if all(t.kind == "number" and t.magnitude for t in terms):
        e, f = (oracle.floor_log2(t.magnitude) for t in terms)
        d = min(max(e - f, -bits - 3), bits + 3)
        expected[
            "difference", f"{'≤ ' if d == -bits - 3 else '≥ ' if d == bits + 3 else ''}{d}"
        ] += 1
        if terms[0].negative == terms[1].negative:
            carries = oracle.floor_log2(x.magnitude) > max(e, f)
            expected["carry", "carry" if carries else "no carry"] += 1
        elif x.magnitude == 0:
            expected["cancellation", "all"] += 1
        else:
            lost = min(max(e, f) - oracle.floor_log2(x.magnitude), bits + 2)
            expected["cancellation", f"{lost}"] += 1
        expected["swamped", mode] += int(after == before)
    if x.kind == "number" and x.magnitude:
        expected["sign", f"{mode}: {'negative' if x.negative else 'positive'}"] += 1
    if x.kind == "number" and x.magnitude >= oracle.smallest(acc):
        quanta = x.magnitude / oracle.power(oracle.floor_log2(x.magnitude) - bits)
        lower, fraction = divmod(quanta, 1)
        place = (
            "exact" if fraction == 0
            else "below half" if fraction < oracle.power(-1)
            else "above half" if fraction > oracle.power(-1)
            else f"tie, lower {'odd' if lower % 2 else 'even'}"
        )  # fmt: skip
        expected["position", f"{mode}: {place}"] += 1
        if fraction and lower == 2 ** (bits + 1) - 1 and not flags & 2:
            result = oracle.decode(acc, after).magnitude
            expected["carry", "rounding"] += int(result > x.magnitude)


#: Groups that `observe` counts.
OBSERVED = ("difference", "carry", "cancellation", "swamped", "position", "sign")


def test_coverage_equals_oracle() -> None:
    """Exponents, carries, cancellation and the place between two neighbours, found again in fractions."""
    p, a, b, acc, _ = formats_of("hfp8")
    vector_set = vectors("fma", p, phase="wgrad", count=3000)
    v = vector_set.columns
    expected = Counter()
    for i in range(3000):
        start = oracle.decode(acc, int(v["acc"][i]))
        addend = oracle.product(oracle.decode(a, int(v["a"][i])), oracle.decode(b, int(v["b"][i])))
        mode, before = MODES[v["mode"][i]], int(v["acc"][i])
        after, flags = int(v["result"][i]), int(v["flags"][i])
        observe(expected, acc, [start, addend], mode, before, after, flags)
    for group in OBSERVED:
        counts = vector_set.coverage.groups[group]
        assert counts == {label: expected[group, label] for label in counts}, group


def test_coverage_of_dot_equals_oracle() -> None:
    """Each step of the accumulator, and each addition of a chunk but the first."""
    p, a, b, acc, between = formats_of("hfp8")
    vector_set = vectors("dot", p, phase="wgrad", count=20)
    v = vector_set.columns
    expected = {"step": Counter(), "total": Counter()}
    for row in range(20):
        total = code = 0
        for k in range(130):
            pair = int(v["a"][row, k]), int(v["b"][row, k])
            product = oracle.product(oracle.decode(a, pair[0]), oracle.decode(b, pair[1]))
            terms, before = [oracle.decode(acc, code), product], code
            code, flags = oracle.round_sum(
                acc, oracle.total(terms), p.rounding, p.overflow, p.random_bits, 0
            )
            observe(expected["step"], acc, terms, p.rounding, before, code, flags)
            if k % 64 != 63 and k != 129:
                continue
            terms, before, code = (
                [oracle.decode(between, total), oracle.decode(acc, code)],
                total,
                0,
            )
            total, flags = oracle.round_sum(
                between, oracle.total(terms), p.between_rounding, p.overflow, p.random_bits, 0
            )
            if k > 63:
                observe(expected["total"], between, terms, p.between_rounding, before, total, flags)
        assert total == v["result"][row]
    for stage, group in itertools.product(expected, OBSERVED):
        counts = vector_set.coverage.groups[f"{stage} {group}"]
        assert counts == {label: expected[stage][group, label] for label in counts}, (stage, group)
        assert sum(counts.values()) > 0 or (stage, group) == ("total", "swamped")


def test_coverage_stands_in_files(tmp_path: Path) -> None:
    vector_set = vectors("add", count=50)
    hexadecimal, arrays = module.write_set(vector_set, tmp_path)
    lines = hexadecimal.read_text("utf-8").splitlines()
    empty = len(vector_set.coverage.empty)
    assert empty > 0  # 50 vectors do not reach every bin
    assert (
        f"// coverage: {len(vector_set.coverage) - empty} of {len(vector_set.coverage)} bins"
        in lines
    )
    groups = vector_set.coverage.groups
    assert f"// carry: no carry {groups['carry']['no carry']}; " in "\n".join(lines)
    with np.load(arrays) as stored:
        assert json.loads(str(stored["coverage"])) == groups


# -- masks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "nan"), [("hfp8", 0x7FFF), ("fp8-2018", 0x7F00), ("aiu", 0x7FFF)]
)
def test_care_leaves_sign_and_payload_of_nan_out(profile: str, nan: int) -> None:
    vector_set = vectors("fma", profile)
    v, acc = vector_set.columns, get_format(get_profile(profile).accumulator)
    is_nan = np.isnan(acc.decode(v["result"]))
    assert is_nan.any() and set(v["care"][~is_nan]) == {0xFFFF}
    assert set(v["care"][is_nan]) == {nan}


@pytest.mark.parametrize(("order", "stochastic"), [("fused", 1), ("chain", 3)])
def test_reads_marks_random_numbers(order: str, stochastic: int) -> None:
    profile = get_profile("rapid").replace(sum_order=order)
    v = vectors("fmma", profile, count=500).columns
    assert set(v["reads"][v["mode"] >= 6]) == {stochastic}
    assert set(v["reads"][v["mode"] < 6]) == {0}
    for k in range(2):
        unread = v["reads"] >> k & 1 == 0
        assert not v["random"][unread, k].any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"unit": "div"}, "unknown unit 'div'"),
        ({"unit": "fma", "profile": "hpf8"}, "unknown profile 'hpf8'"),
        ({"unit": "fma", "phase": "bwd"}, "unknown phase 'bwd'"),
        ({"unit": "fma", "modes": ["up"]}, "unknown rounding mode 'up'"),
        ({"unit": "fma", "count": 0}, "count is 0, must be at least 1"),
        ({"unit": "fma", "seed": -1}, "seed is -1"),
    ],
)
def test_errors(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        module.vectors(**arguments)
