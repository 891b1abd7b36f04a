"""Code tables and encodings of other implementations (tests/data/README.md)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hfp8sim.formats import FloatFormat, get_format

DATA = Path(__file__).parents[1] / "data"
#: Key in the data → format; records for what the registry has under no name.
TABLES = {
    "float8_e4m3fn": "e4m3fn", "float8_e4m3": "e4m3", "float8_e5m2": "e5m2",
    "float8_e4m3fnuz": "e4m3fnuz", "float8_e5m2fnuz": "e5m2fnuz",
    "float8_e4m3b11fnuz": "e4m3b11fnuz", "float8_e3m4": "e3m4", "float8_e8m0fnu": "e8m0",
    "float6_e2m3fn": "e2m3", "float6_e3m2fn": "e3m2", "float4_e2m1fn": "e2m1",
    "gfloat_ieee_143_b7": "e4m3", "gfloat_ieee_152_b15": "e5m2", "gfloat_ieee_169_b31": "ieee-169",
    "gfloat_ieee_153_b15": FloatFormat("x", 5, 3, 15), "gfloat_fn_143_b7": "e4m3fn",
    "gfloat_fn_143_b4": FloatFormat("x", 4, 3, 4, special="fn"),
    "gfloat_fn_143_b11": FloatFormat("x", 4, 3, 11, special="fn"),
    "gfloat_ibm_143_b11_nonan": "hfp8-143", "gfloat_ibm_143_b11": "hfp8-143-hw",
    "gfloat_ibm_143_b7": "dl8-143", "gfloat_ibm_152_b15": "hfp8-152-hw",
    "gfloat_ibm_153_b15": "fp9-153", "gfloat_dlfloat16": "dlfloat16",
} | {f"p3109_k8p{p}s{d}": f"binary8p{p}s{d}" for p in range(1, 8) for d in "ef"}  # fmt: skip


def test_golden_tables_cover_registry() -> None:
    with np.load(DATA / "decode_tables.npz") as data:
        assert set(data) == set(TABLES)


@pytest.mark.parametrize("key", TABLES)
def test_code_tables(key: str) -> None:
    with np.load(DATA / "decode_tables.npz") as data:
        expected = data[key]
    result = get_format(TABLES[key]).table()
    assert result.shape == expected.shape
    np.testing.assert_array_equal(result, expected)
    number = ~np.isnan(expected) & (
        (expected != 0) | np.array(get_format(TABLES[key]).zero == "signed")
    )
    np.testing.assert_array_equal(np.signbit(result[number]), np.signbit(expected[number]))


@pytest.mark.parametrize("key", [k for k in TABLES if k.startswith("float")])
def test_ml_dtypes(key: str) -> None:
    with np.load(DATA / "encode_rne_ml_dtypes.npz") as data:
        x, expected = data[f"x_{key}"], data[f"code_{key}"]
    fmt = get_format(TABLES[key])
    policy = "special" if fmt.has_nan else "saturate"
    if not fmt.has_nan:  # ml_dtypes turns NaN into −0 there
        x, expected = x[~np.isnan(x)], expected[~np.isnan(x)]
    if key == "float8_e8m0fnu":
        check_scale(x, expected)
        return
    result = fmt.encode(x, "nearest-even", policy)
    nan = np.isnan(fmt.decode(expected))
    np.testing.assert_array_equal(np.isnan(fmt.decode(result)), nan)
    np.testing.assert_array_equal(result[~nan], expected[~nan])


def check_scale(x: np.ndarray, expected: np.ndarray) -> None:
    """E8M0: ties go to the even *code* here, and to the larger power of two in ml_dtypes, which also
    rounds the binary32 subnormals between 2^−127 and 1.5·2^−127 up (docs/peers.md)."""
    fmt = get_format("e8m0")
    result = fmt.encode(x, "nearest-even", "special")
    with np.errstate(invalid="ignore"):
        tie = (np.frexp(x)[0] == 0.75) & np.isfinite(x)
    low = (x > 2.0**-127) & (x < 1.5 * 2.0**-127)
    np.testing.assert_array_equal(result[~tie & ~low], expected[~tie & ~low])
    np.testing.assert_array_equal(fmt.encode(x[tie], "nearest-away", "special"), expected[tie])
    assert not (result[tie] % 2).any()
    assert tie.sum() > 100
    assert low.any() and not result[low].any() and (expected[low] == 1).all()


def test_ibm_dlfloat16() -> None:
    fmt = get_format("dlfloat16")
    with np.load(DATA / "dlfloat16_nnp1.npz") as data:
        table, x, expected = data["decode"], data["x"], data["code"]
    np.testing.assert_array_equal(fmt.table(), table)
    np.testing.assert_array_equal(
        np.signbit(fmt.table()[table == 0]), np.signbit(table[table == 0])
    )
    result = fmt.encode(x, "nearest-away", "special")
    nan = (expected & 0x7FFF) == 0x7FFF  # the sign of NaN-Infinity is don't care
    np.testing.assert_array_equal(result[nan], 0x7FFF)
    np.testing.assert_array_equal(result[~nan], expected[~nan])


@pytest.mark.parametrize(
    ("fmt", "x", "away", "even"),
    [
        ("hfp8-143", 1.0, 0x58, 0x58), ("hfp8-143", -1.0, 0xD8, 0xD8), ("hfp8-143", 0.1, 0x3D, 0x3D),
        ("hfp8-143", 17.0, 0x79, 0x78), ("hfp8-143", 29.0, 0x7F, 0x7E), ("hfp8-143", 1000.0, 0x7F, 0x7F),
        ("hfp8-143", 1.0625, 0x59, 0x58), ("hfp8-143", 1e-3, 0x08, 0x08), ("hfp8-143", 2.0**-11, 0, 0),
        ("hfp8-143", 1.0625 * 2.0**-11, 1, 0), ("hfp8-143-hw", 29.0, 0x7E, 0x7E),
        ("hfp8-143-hw", 1000.0, 0x7E, 0x7E), ("hfp8-152", 1.125, 0x3D, 0x3C), ("hfp8-152", 1e-4, 7, 7),
        ("hfp8-152", 61440.0, 0x7C, 0x7C), ("hfp8-152", 1e6, 0x7F, 0x7F), ("hfp8-152-hw", 1e6, 0x7E, 0x7E),
        ("dlfloat16", 65504.0, 0x5E00, 0x5E00), ("dlfloat16", 1 + 2.0**-10, 0x3E01, 0x3E00),
        ("dlfloat16", 1 + 3 * 2.0**-10, 0x3E02, 0x3E02), ("dlfloat16", 448.0, 0x4F80, 0x4F80),
        ("dlfloat16", 2.0**-31, 0, 0), ("dlfloat16", 2.0**-31 * (1 + 2.0**-10), 1, 0),
        ("dlfloat16", 20 / 7, 0x40DB, 0x40DB), ("dlfloat16", 8573157376.0, 0x7FFE, 0x7FFE),
    ],
)  # fmt: skip
def test_known_codes(fmt: str, x: float, away: int, even: int) -> None:
    """Computed by hand from the papers' definitions."""
    assert get_format(fmt).encode(x, "nearest-away") == away
    assert get_format(fmt).encode(x, "nearest-even") == even
