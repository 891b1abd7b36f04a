"""Test vectors: right by the oracle, the same every time, and readable as documented."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from hfp8sim.errors import InputError
from hfp8sim.formats import MODES, get_format
from hfp8sim.units import get_profile
from hfp8sim.verify import vectors as module
from hfp8sim.verify.vectors import UNITS, vectors, write
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
    "convert": ["0_000000_ea846240_ff_3", "1_000000_40a40001_6a_1"],
    "fma": ["0_000000_4d_7f_3d0a_453d_1", "1_000000_7c_ce_489e_47ec_0"],
    "add": ["0_000000_d077_c676_d08b_1", "1_000000_0001_8001_0000_0"],
}


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
