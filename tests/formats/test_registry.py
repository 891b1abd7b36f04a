"""The registry: names, the P3109 family, formats of one's own, and records that make no sense."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import hfp8sim as hs
from hfp8sim.errors import InputError
from hfp8sim.formats import FloatFormat, formats, get_format, load_formats, p3109, register_format
from hfp8sim.formats.fixed import FixedPoint
from tests import oracle


def test_published_ranges() -> None:
    expected = {
        "hfp8-143": (30.0, 1.125 * 2.0**-11), "hfp8-143-hw": (28.0, 1.125 * 2.0**-11),
        "hfp8-152": (114688.0, 1.25 * 2.0**-15), "hfp8-152-hw": (98304.0, 1.25 * 2.0**-15),
        "fp9-153": (114688.0, 1.125 * 2.0**-15), "dlfloat16": (8573157376.0, 513 / 512 * 2.0**-31),
        "dl8-143": (448.0, 0.0087890625), "e4m3fn": (448.0, 2.0**-9), "e5m2": (57344.0, 2.0**-16),
        "e3m4": (15.5, 2.0**-6), "e8m0": (2.0**127, 2.0**-127), "binary16": (65504.0, 2.0**-24),
        "e4m3b11fnuz": (30.0, 2.0**-13), "e2m3": (7.5, 0.125), "e3m2": (28.0, 0.0625),
        "e2m1": (6.0, 0.5), "binary8p1uf": (2.0**126, 2.0**-127), "binary4p2sf": (3.0, 0.25),
        "cfloat8-143@31": (1.875 * 2.0**-16, 2.0**-33),
    }  # fmt: skip
    assert {n: (get_format(n).max, get_format(n).min_positive) for n in expected} == expected


def test_bias_suffix() -> None:
    fmt = get_format("hfp8-143@7")
    assert (fmt.name, fmt.bias) == ("hfp8-143@7", 7)
    assert get_format("hfp8-143@11") == get_format("hfp8-143")
    finite = np.arange(1, 128, dtype=np.uint8)
    np.testing.assert_array_equal(fmt.decode(finite), 16 * get_format("hfp8-143").decode(finite))
    assert fmt.with_bias(3).name == "hfp8-143@3"


@pytest.mark.parametrize("bias", range(-1, 16))
def test_operands_fit_fp9(bias: int) -> None:
    """1-4-3 with any bias −1..15, and 1-5-2, fit the multiplier's 1-5-3."""
    wide = get_format("fp9-153")
    for fmt in (get_format(f"hfp8-143-hw@{bias}"), get_format("hfp8-152-hw")):
        values = fmt.table()
        np.testing.assert_array_equal(wide.decode(wide.encode(values, overflow="special")), values)


def test_products_fit_dlfloat16() -> None:
    acc = get_format("dlfloat16")
    for a, b in (("hfp8-143", "hfp8-143"), ("hfp8-143", "hfp8-152")):
        products = np.multiply.outer(get_format(a).table(), get_format(b).table())
        np.testing.assert_array_equal(acc.decode(acc.encode(products)), products)


def family():
    for k in range(3, 17):
        for signed in (True, False):
            for p in range(1, k + (not signed)):
                if (k - p if signed else k - p + 1) <= 11:
                    for extended in (True, False):
                        yield k, p, signed, extended


def test_p3109_family() -> None:
    """Interim report v4.0, sections 3 and 4.7: bias, one zero, one NaN, infinities, 1.0 in the middle."""
    seen = 0
    for k, p, signed, extended in family():
        try:
            fmt = p3109(k, p, signed, extended)
        except InputError:
            assert p == k - signed and k <= 3 and extended  # nothing would be left for numbers
            continue
        seen += 1
        assert get_format(fmt.name) == fmt
        assert fmt.bits == k and fmt.precision == p
        assert fmt.bias == 2 ** (k - p - signed)
        nan = 2 ** (k - 1) if signed else 2**k - 1
        infinity = (2 ** (k - 1) - 1 if signed else 2**k - 2) if extended else -1
        assert (fmt.facts.nan_code, fmt.facts.inf_mag) == (nan, infinity)
        assert oracle.decode(fmt, nan).kind == "nan"
        if k > 3:
            middle = 2 ** (k - 2) if signed else 2 ** (k - 1)
            assert fmt.decode(np.uint32(middle)) == 1.0
    assert seen > 400


@pytest.mark.parametrize(
    "name", ["binary17p3se", "binary2p1se", "binary16p4se", "binary8p8se", "binary8p0se"]
)
def test_p3109_limits(name: str) -> None:
    with pytest.raises(
        InputError, match=r"K must be 3\.\.16 and P such that 1\.\.11 exponent bits"
    ):
        get_format(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("e4m3f", "unknown format 'e4m3f'; did you mean e4m3fn"),
        ("hfp8-143@x", "bias after '@' must be an integer"),
        ("hfp8-143@5000", r"with bias 5000 its numbers are multiples of 2\^-5003 below 2\^-4984"),
        ("", "unknown format ''"),
    ],
)
def test_unknown_names(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        get_format(name)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"special": "inf"}, "unknown special-code rule of format x 'inf'"),
        ({"lowest": "denormal"}, "unknown lowest-binade rule"),
        ({"zero": "plus"}, "unknown zero rule"),
        ({"exponent_bits": 0}, r"exponent_bits is 0, must be 1\.\.11"),
        ({"exponent_bits": 12}, r"exponent_bits is 12, must be 1\.\.11"),
        ({"exponent_bits": 11}, r"below 2\^2040, must be of 2\^-1074 below 2\^1024"),
        ({"fraction_bits": 24}, r"fraction_bits is 24, must be 0\.\.23"),
        ({"special": "fnuz"}, "needs zero='unsigned'"),
        ({"special": "p3109-finite"}, "needs zero='unsigned'"),
        ({"signed": False}, "zero='signed' needs a sign bit"),
        ({"signed": False, "zero": "unsigned", "special": "fnuz"}, "needs a sign bit"),
        ({"fraction_bits": 0}, "special='ieee' needs a fraction bit"),
        ({"zero": "none"}, "zero='none' needs lowest='normal'"),
        (
            {"exponent_bits": 1, "fraction_bits": 1, "lowest": "flush"},
            "no code is left for a number",
        ),
    ],
)
def test_contradictory_facts(facts: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        FloatFormat(**{"name": "x", "exponent_bits": 4, "fraction_bits": 3, "bias": 7} | facts)


def test_register_format() -> None:
    mine = FloatFormat("mine-134", exponent_bits=3, fraction_bits=4, bias=3, special="fn")
    assert register_format(mine) is mine and register_format(mine) is mine
    assert "mine-134" in formats()
    codes = hs.get_format("mine-134").encode([[1.0, 2.0]])
    profile = hs.get_profile("hfp8").replace(a_format="mine-134", b_format=mine)
    result = hs.gemm(codes, codes.T, profile)
    assert hs.get_format("dlfloat16").decode(result)[0, 0] == 5.0
    with pytest.raises(InputError, match="format name 'mine-134' is taken by a different format"):
        register_format(FloatFormat("mine-134", 3, 4, 4))
    with pytest.raises(InputError, match="use lower-case letters"):
        register_format(FloatFormat("Mine!", 3, 4, 3))


def test_load_formats(tmp_path: Path) -> None:
    path = tmp_path / "formats.toml"
    path.write_text(
        "[format.mine-142]\nexponent_bits = 4\nfraction_bits = 2\nbias = 7\n"
        'special = "nan-inf"\nlowest = "normal"\n'
        "[format.scale-5]\nexponent_bits = 5\nfraction_bits = 0\nbias = 15\nsigned = false\n"
        'zero = "none"\nlowest = "normal"\nspecial = "fn"\n'
    )
    first, second = load_formats(path)
    assert first == FloatFormat("mine-142", 4, 2, 7, special="nan-inf", lowest="normal")
    assert get_format("scale-5") == second and second.bits == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[format.x", "not a TOML file"),
        ("[formats.x]\n", r"expected tables \[format.NAME\]"),
        ("format = 3\n", r"expected tables \[format.NAME\]"),
        ("[format]\nx = 3\n", r"\[format.x\] must be a table"),
        ("[format.x]\nexponent_bits = 4\nbias = 7\n", "fraction_bits is missing"),
        ("[format.x]\nexponent = 4\n", "unknown key 'exponent'; did you mean exponent_bits"),
        ('[format.x]\nexponent_bits = "4"\n', "exponent_bits must be of type int"),
        ("[format.x]\nexponent_bits = true\n", "exponent_bits must be of type int"),
        ("[format.x]\nexponent_bits = 4\nfraction_bits = 99\nbias = 7\n", "fraction_bits is 99"),
        ("[format.e5m2]\nexponent_bits = 4\nfraction_bits = 3\nbias = 7\n", "is taken"),
    ],
)
def test_bad_toml(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "formats.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        load_formats(path)
    with pytest.raises(InputError, match="No such file"):
        load_formats(tmp_path / "none.toml")


def test_fixed_point_by_name() -> None:
    """The numbers of ⟨IL, FL⟩ but the lowest one, at one distance."""
    for il, fl in ((8, 8), (4, 0), (1, 4), (3, 9)):
        fmt, twos_complement = get_format(f"fixed{il}.{fl}"), FixedPoint(il, fl)
        assert fmt.bits == il + fl
        values = np.unique(fmt.table())
        expected = twos_complement.decode(np.arange(1 << fmt.bits, dtype=twos_complement.dtype))
        np.testing.assert_array_equal(values, np.unique(expected)[1:])
    for name in ("fixed0.8", "fixed1.1", "fixed20.20"):
        with pytest.raises(InputError, match="needs IL ≥ 1 and 3 ≤ IL"):
            get_format(name)
