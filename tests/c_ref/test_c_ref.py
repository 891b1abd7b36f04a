"""The C reference by itself: golden values, the specification's examples, its own self-test.

That it equals the Python units bit for bit is tested beside those.
"""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

SOURCES = Path(__file__).resolve().parents[2] / "c_ref"
COMPILER = shutil.which("cc")

if COMPILER is None:
    pytest.skip("no C compiler", allow_module_level=True)

from hfp8sim._c_ref import ffi, lib  # noqa: E402

EVEN, AWAY, TO_ZERO, UP, DOWN, TO_ODD, STOCHASTIC_A, STOCHASTIC_B, STOCHASTIC_C = range(9)
SATURATE, SPECIAL, ERROR = range(3)
INEXACT, OVERFLOW, UNDERFLOW, INVALID, NO_CODE = 1, 2, 4, 8, 16
FUSED, PAIR_FIRST, CHAIN, ALIGNED = range(4)
ROW_COLUMN, COUNTER, LFSR = range(3)


def record(exponent_bits, fraction_bits, bias, *, signed=1, zero=0, lowest=0, special=0):
    return ffi.new(
        "ref_format *", (exponent_bits, fraction_bits, bias, signed, zero, lowest, special)
    )


HFP8_143 = record(4, 3, 11, lowest=1)
HFP8_143_HW = record(4, 3, 11, lowest=1, special=4)
HFP8_152 = record(5, 2, 15, lowest=1)
DLFLOAT16 = record(6, 9, 31, lowest=1, special=4)
E4M3FN = record(4, 3, 7, special=2)
E5M2 = record(5, 2, 15, special=1)
E8M0 = record(8, 0, 127, signed=0, zero=2, special=2)
BINARY32 = record(8, 23, 127, special=1)
BINARY64 = record(11, 52, 1023, special=1)


def pointer(array, kind):
    return ffi.from_buffer(f"{kind}[]", array, require_writable=True)


def convert(
    x, target, mode=AWAY, overflow=SATURATE, random_bits=0, random=0, source=None
) -> tuple[int, int]:
    """Code and flags of a Python number (or of a code of ``source``)."""
    if source is None:
        source, x = BINARY64, int(np.float64(x).view(np.uint64))
    flags = ffi.new("uint32_t *")
    code = lib.ref_convert(source, x, target, mode, overflow, random_bits, random, flags)
    return code, flags[0]


def value(fmt, code) -> float:
    return float(np.uint64(lib.ref_decode(fmt, code)).view(np.float64))


def codes_of(values, fmt) -> np.ndarray:
    return np.array([[convert(x, fmt)[0] for x in row] for row in values], np.uint32)


def profile(**changes):
    facts = {
        "a": DLFLOAT16,
        "b": DLFLOAT16,
        "accumulator": DLFLOAT16,
        "between": DLFLOAT16,
        "chunk_length": 0,
        "products_per_step": 1,
        "sum_order": FUSED,
        "guard_bits": 0,
        "rounding": AWAY,
        "between_rounding": AWAY,
        "random_bits": 13,
        "random_source": ROW_COLUMN,
        "overflow": SPECIAL,
        **changes,
    }
    for name in ("a", "b", "accumulator", "between"):
        facts[name] = facts[name][0]
    return ffi.new("ref_profile *", facts)


def gemm(p, a, b, seed=0, stream=0):
    """Codes, event counts and flags of each output."""
    a, b = np.ascontiguousarray(a, np.uint32), np.ascontiguousarray(b, np.uint32)
    m, k = a.shape
    n = b.shape[1]
    out, flags = np.full((m, n), 0xFFFFFFFF, np.uint32), np.zeros((m, n), np.uint8)
    events = ffi.new("ref_events *")
    status = lib.ref_gemm(
        p,
        pointer(a, "uint32_t"),
        pointer(b, "uint32_t"),
        m,
        n,
        k,
        seed,
        stream,
        pointer(out, "uint32_t"),
        events,
        pointer(flags, "uint8_t"),
    )
    assert status == 0
    counts = {name: getattr(events, name) for name, _ in ffi.typeof("ref_events").fields}
    return out, SimpleNamespace(**counts), flags


# ---- the sources ------------------------------------------------------------------------------


def test_integers_only():
    files = sorted(SOURCES.glob("*.[ch]"))
    assert len(files) == 16
    for file in files:
        assert not re.search(r"\b(float|double|float\.h|math\.h|tgmath\.h)\b", file.read_text()), (
            file
        )


def test_readme_lists_functions():
    header = (SOURCES / "hfp8_ref.h").read_text()
    functions = set(re.findall(r"\b(ref_\w+)\(", header))
    listed = set(re.findall(r"`(ref_\w+)`", (SOURCES / "README.md").read_text()))
    assert {name for name in functions if hasattr(lib, name)} == listed


def test_selftest_with_sanitizers(tmp_path):
    probe = tmp_path / "probe.c"
    probe.write_text("int main(void) { return 0; }\n")
    has_sanitizers = subprocess.run(
        [COMPILER, "-fsanitize=address,undefined", probe, "-o", tmp_path / "probe"],
        capture_output=True,
    )
    target = "sanitize" if has_sanitizers.returncode == 0 else "selftest"
    process = subprocess.run(
        ["make", "-C", SOURCES, target, f"OUT={tmp_path}"], capture_output=True, text=True
    )
    assert process.returncode == 0, process.stdout + process.stderr
    assert "all good" in process.stdout


# ---- golden values ----------------------------------------------------------------------------

# value: nearest-away, nearest-even, and nearest-away with all-ones reserved; all saturate
HFP8_143_ROWS = [
    (1.0, 0x58, 0x58, 0x58),
    (-1.0, 0xD8, 0xD8, 0xD8),
    (0.1, 0x3D, 0x3D, 0x3D),
    (1 / 3, 0x4B, 0x4B, 0x4B),
    (np.pi, 0x65, 0x65, 0x65),
    (17, 0x79, 0x78, 0x79),
    (27, 0x7E, 0x7E, 0x7E),
    (29, 0x7F, 0x7E, 0x7E),
    (30, 0x7F, 0x7F, 0x7E),
    (31, 0x7F, 0x7F, 0x7E),
    (33, 0x7F, 0x7F, 0x7E),
    (1000, 0x7F, 0x7F, 0x7E),
    (1.0625, 0x59, 0x58, 0x59),
    (0.46875, 0x4F, 0x4F, 0x4F),
    (-0.4375, 0xCE, 0xCE, 0xCE),
    (1e-3, 0x08, 0x08, 0x08),
    (2.0**-11, 0x00, 0x00, 0x00),
    (1.0625 * 2.0**-11, 0x01, 0x00, 0x01),
    (np.nextafter(1.0625 * 2.0**-11, 0), 0x00, 0x00, 0x00),
    (1.125 * 2.0**-11, 0x01, 0x01, 0x01),
    (2.0**-12, 0x00, 0x00, 0x00),
]


@pytest.mark.parametrize(("x", "away", "even", "reserved"), HFP8_143_ROWS)
def test_conversion_to_hfp8_143(x, away, even, reserved):
    assert convert(x, HFP8_143, AWAY)[0] == away
    assert convert(x, HFP8_143, EVEN)[0] == even
    assert convert(x, HFP8_143_HW, AWAY)[0] == reserved


def test_largest_and_smallest_values():
    assert value(HFP8_143, 0x7F) == 30
    assert value(HFP8_143_HW, 0x7E) == 28
    assert value(HFP8_143, 0x01) == 1.125 * 2.0**-11
    assert value(HFP8_152, 0x7F) == 114688
    assert value(DLFLOAT16, 0x7FFE) == 8573157376
    assert value(DLFLOAT16, 0x0001) == 2.0**-31 * (1 + 2.0**-9)
    assert value(E4M3FN, 0x7E) == 448
    assert value(E8M0, 0x00) == 2.0**-127
    assert np.isnan(value(DLFLOAT16, 0x7FFF)) and np.isnan(value(DLFLOAT16, 0xFFFF))
    assert np.signbit(value(DLFLOAT16, 0x8000)) and value(DLFLOAT16, 0x8000) == 0


DLFLOAT16_ROWS = [  # binary32 bits, code, flags (nearest-away, special)
    (0x3F800000, 0x3E00, 0),
    (0xBF800000, 0xBE00, 0),
    (0x4036DB6E, 0x40DB, INEXACT),
    (0x80000000, 0x8000, 0),
    (0x00800000, 0x0000, INEXACT | UNDERFLOW),
    (0x7F7FFFFF, 0x7FFF, INEXACT | OVERFLOW),
    (0xFFC00000, 0x7FFF, INVALID),
    (0x4FFF8000, 0x7FFE, 0),
    (0x4FFF9FFF, 0x7FFE, INEXACT),
    (0x4FFFA000, 0x7FFF, INEXACT | OVERFLOW),
    (0x30004000, 0x0001, 0),
    (0x30000000, 0x0000, INEXACT | UNDERFLOW),
    (0x30002000, 0x0001, INEXACT),
    (0x30001FFF, 0x0000, INEXACT | UNDERFLOW),
    (0x3F802000, 0x3E01, INEXACT),
    (0x3F806000, 0x3E02, INEXACT),
    (0xBF802000, 0xBE01, INEXACT),
    (0x3F801FFF, 0x3E00, INEXACT),
    (0x501502F9, 0x7FFF, INEXACT | OVERFLOW),
]


@pytest.mark.parametrize(("bits", "code", "flags"), DLFLOAT16_ROWS)
def test_conversion_to_dlfloat16(bits, code, flags):
    assert convert(bits, DLFLOAT16, AWAY, SPECIAL, source=BINARY32) == (code, flags)


def nnp1(bits: np.ndarray) -> np.ndarray:
    """IBM's published binary32 to NNP data type 1 conversion, as it is written (NaN-Infinity
    without its sign)."""
    exponent = ((bits >> 23) & 0xFF).astype(np.int64) - 127 + 31
    fraction = (bits & 0x7FFFFF).astype(np.int64) + 0x2000
    carry = fraction > 0x7FFFFF
    exponent += carry
    fraction[carry] = 0
    code = ((bits >> 31) << 15).astype(np.int64)
    magnitude = bits & 0x7FFFFFFF
    number = (exponent >= 0) & (magnitude <= 0x4FFF9FFF)
    code[number] |= (exponent << 9 | fraction >> 14)[number]
    code[magnitude > 0x4FFF9FFF] = 0x7FFF
    return code


def test_nnp1_routine():
    rng = np.random.default_rng(1)
    # every halfway case and its neighbours, in one binade each of seven; and any bits
    fraction = np.arange(0, 1 << 23, 1 << 13, dtype=np.uint32)
    binades = [95, 96, 97, 127, 158, 159, 160]
    halves = (np.array(binades, np.uint32)[:, None] << np.uint32(23)) | fraction
    bits = np.concatenate(
        [halves.ravel() + np.uint32(d) for d in (0, 1)]
        + [halves.ravel() - np.uint32(1), rng.integers(0, 1 << 32, 200_000, dtype=np.uint32)]
    )
    bits = np.concatenate([bits, bits ^ np.uint32(0x80000000)])
    out = np.zeros(bits.size, np.uint32)
    error = lib.ref_convert_array(
        BINARY32,
        pointer(bits, "uint32_t"),
        bits.size,
        DLFLOAT16,
        AWAY,
        SPECIAL,
        0,
        ffi.NULL,
        pointer(out, "uint32_t"),
        ffi.NULL,
    )
    assert error == -1
    np.testing.assert_array_equal(out, nnp1(bits))


@pytest.mark.parametrize(
    ("a", "b", "c", "result"),
    [
        (0x3F00, 0x4000, 0x4100, 0x4300),
        (0x3E01, 0x3E01, 0xBE02, 0x1A00),  # 2^-18 stays: the product is exact
        (0x5600, 0x3E00, 0x3E00, 0x5600),
        (0x5600, 0x3E00, 0x4200, 0x5601),
        (0x5600, 0x3E00, 0xC000, 0x5600),  # 4094 is a tie
        (0x5E00, 0x5E00, 0x0000, 0x7E00),  # 2^32 is a number
        (0x5E00, 0x6000, 0x0000, 0x7FFF),
        (0x1C9F, 0x1E9F, 0x0226, 0x0294),
        (0x4100, 0x3AAB, 0xBE00, 0x2800),
    ],
)
def test_fma_in_dlfloat16(a, b, c, result):
    formats = DLFLOAT16, a, DLFLOAT16, b, DLFLOAT16, c
    assert lib.ref_fma(*formats, AWAY, SPECIAL, 0, 0, ffi.NULL) == result


# ---- the specification's examples ---------------------------------------------------------------


def test_stochastic_quarter():
    """nu = 1/4 + 2^-10 of the way from 1 to 1.125, three random bits: up for how many R."""
    x = 1 + 0.125 * (0.25 + 2.0**-10)
    for mode in (STOCHASTIC_A, STOCHASTIC_B, STOCHASTIC_C):
        codes = [convert(x, E4M3FN, mode, SPECIAL, 3, R)[0] for R in range(8)]
        assert codes == [0x38] * 6 + [0x39] * 2
    x = 1 + 0.125 * (0.25 + 2.0**-4)  # nu * 8 = 2.5: A drops the half, C rounds it to even
    for mode, ups in ((STOCHASTIC_A, 2), (STOCHASTIC_B, 3), (STOCHASTIC_C, 2)):
        codes = [convert(x, E4M3FN, mode, SPECIAL, 3, R)[0] for R in range(8)]
        assert codes == [0x38] * (8 - ups) + [0x39] * ups


@pytest.mark.parametrize("fmt", [HFP8_143, HFP8_152, E4M3FN], ids=["143", "152", "e4m3fn"])
@pytest.mark.parametrize("part", [1 / 256, 0.25, 0.4375, 0.75, 255 / 256])
def test_stochastic_mean(fmt, part):
    """|X| = part * min: of 2^8 random integers exactly part * 2^8 give min."""
    smallest = value(fmt, 1)
    for sign in (1, -1):
        results = [convert(sign * part * smallest, fmt, STOCHASTIC_A, 0, 8, R) for R in range(256)]
        zero, least = (0x00, 0x01) if sign > 0 else (0x80, 0x81)
        assert sorted({code for code, _ in results}) == [zero, least]
        assert sum(code == least for code, _ in results) == round(part * 256)
        assert all(flags & INEXACT for _, flags in results)


def test_directed_modes_in_lowest_binade():
    tiny = 2.0**-60
    assert convert(tiny, DLFLOAT16, TO_ZERO) == (0x0000, INEXACT | UNDERFLOW)
    assert convert(tiny, DLFLOAT16, UP) == (0x0001, INEXACT)
    assert convert(-tiny, DLFLOAT16, UP) == (0x8000, INEXACT | UNDERFLOW)
    assert convert(-tiny, DLFLOAT16, DOWN) == (0x8001, INEXACT)
    assert convert(tiny, DLFLOAT16, TO_ODD) == (0x0001, INEXACT)


def test_overflow_policies():
    assert convert(1e9, E5M2, EVEN, SATURATE) == (0x7B, INEXACT | OVERFLOW)
    assert convert(1e9, E5M2, EVEN, SPECIAL) == (0x7C, INEXACT | OVERFLOW)
    assert convert(1e9, E5M2, DOWN, SPECIAL) == (0x7B, INEXACT | OVERFLOW)
    assert convert(-1e9, E5M2, DOWN, SPECIAL) == (0xFC, INEXACT | OVERFLOW)
    assert convert(np.inf, E5M2, TO_ZERO, SPECIAL) == (0x7C, 0)
    assert convert(np.inf, E4M3FN, TO_ZERO, SPECIAL) == (0x7F, INEXACT | OVERFLOW)
    assert convert(np.nan, HFP8_143)[1] == INVALID | NO_CODE
    assert lib.ref_is_error(OVERFLOW | INEXACT, ERROR)
    assert not lib.ref_is_error(OVERFLOW | INEXACT, SPECIAL)
    assert lib.ref_is_error(INVALID | NO_CODE, SATURATE)


@pytest.mark.parametrize(
    ("facts", "word"),
    [
        ({"exponent_bits": 12, "fraction_bits": 3, "bias": 7}, "exponent_bits"),
        ({"exponent_bits": 4, "fraction_bits": 3, "bias": 5000}, "bias"),
        ({"exponent_bits": 4, "fraction_bits": 0, "bias": 7, "special": 1}, "ieee"),
        ({"exponent_bits": 4, "fraction_bits": 3, "bias": 7, "special": 3}, "fnuz"),
        ({"exponent_bits": 4, "fraction_bits": 3, "bias": 7, "zero": 2}, "without zero"),
    ],
)
def test_format_problems(facts, word):
    assert word in ffi.string(lib.ref_format_problem(record(**facts))).decode()


def test_profile_problems():
    assert lib.ref_profile_problem(profile()) == ffi.NULL
    for changes, word in (
        ({"accumulator": HFP8_143}, "special"),
        ({"accumulator": E8M0}, "zero"),
        ({"sum_order": CHAIN}, "two products"),
        ({"rounding": STOCHASTIC_A, "random_bits": 25}, "random_bits"),
    ):
        assert word in ffi.string(lib.ref_profile_problem(profile(**changes))).decode()


# ---- random words -------------------------------------------------------------------------------

MASK = (1 << 64) - 1
G = 0x9E3779B97F4A7C15


def mix64(z: int) -> int:
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
    return z ^ z >> 31


def mix32(x: int) -> int:
    x = (x ^ x >> 16) * 0x7FEB352D & 0xFFFFFFFF
    x = (x ^ x >> 15) * 0x846CA68B & 0xFFFFFFFF
    return x ^ x >> 16


def key(seed: int, stream: int, site: int) -> int:
    h = 0
    for part in (seed, stream, site):
        h = mix64(((h ^ part) + G) & MASK)
    return h


def word(k: int, i: int, j: int) -> int:
    return mix64((k + G * (i * 2**32 + j + 1)) & MASK) >> 32


def test_random_words():
    rng = np.random.default_rng(2)
    for _ in range(200):
        seed, stream = (int(x) for x in rng.integers(0, 1 << 63, 2))
        i, j, x = (int(x) for x in rng.integers(0, 1 << 32, 3))
        assert lib.ref_mix32(x) == mix32(x)
        for site in range(6):
            k = lib.ref_key(seed, stream, site)
            assert k == key(seed, stream, site)
            assert lib.ref_word(k, i, j) == word(k, i, j)
        m, n = i >> 12, j >> 12
        lane = m % 8 * 64 + n % 64
        start = word(key(seed, stream, 0), m // 8 * 2**16 + n // 64, lane) or 1
        assert lib.ref_lfsr_start(seed, stream, m, n) == start
        assert lib.ref_lfsr_step(x) == x >> 1 ^ (0x80200003 if x & 1 else 0)


# ---- sums ---------------------------------------------------------------------------------------


def test_sum_of_ones():
    """At 2048 the spacing of DLFloat16 is 4, so that adding 1 is no longer half of it."""
    ones = codes_of(np.ones((1, 4096)), DLFLOAT16)
    code, events, _ = gemm(profile(), ones, ones.T)
    assert value(DLFLOAT16, int(code[0, 0])) == 2048
    # 1 .. 1024 one by one, then each tie at an odd number away: 512 steps to 2048
    assert events.swamped == 4096 - 1024 - 512
    code, events, _ = gemm(profile(chunk_length=64), ones, ones.T)
    assert value(DLFLOAT16, int(code[0, 0])) == 4096
    assert (events.swamped, events.draws, events.overflowed, events.nan) == (0, 0, 0, 0)


def test_sum_orders():
    """1 + 2^-10 + 2^-10, toward zero: 1 + 2^-9 only where the small ones meet first."""
    a = codes_of([[1, 2.0**-10, 2.0**-10]], DLFLOAT16)
    b = codes_of([[1], [1], [1]], DLFLOAT16)
    more, less = 0x3E01, 0x3E00
    random = ffi.new("uint32_t[2]")
    products = ffi.new("uint32_t[2]", [int(a[0, 1])] * 2), ffi.new("uint32_t[2]", [0x3E00] * 2)
    for order, guard, result in (
        (FUSED, 0, more),
        (PAIR_FIRST, 0, more),
        (CHAIN, 0, less),
        (ALIGNED, 10, more),
        (ALIGNED, 9, less),
    ):
        p = profile(products_per_step=2, sum_order=order, guard_bits=guard, rounding=TO_ZERO)
        assert lib.ref_step(p, 0x3E00, *products, 2, random, ffi.NULL) == result
    assert gemm(profile(products_per_step=0, rounding=TO_ZERO), a, b)[0][0, 0] == more
    assert gemm(profile(rounding=TO_ZERO), a, b)[0][0, 0] == less


def test_aligned_product_exponent():
    """1.75 * 1.75 = 3.0625 has exponent 0 here, not 1: one guard bit keeps 0.5 beside it."""
    p = profile(products_per_step=2, sum_order=ALIGNED, guard_bits=1, rounding=TO_ZERO)
    a = codes_of([[1.75, 0.5]], DLFLOAT16)
    b = codes_of([[1.75], [1]], DLFLOAT16)
    assert value(DLFLOAT16, int(gemm(p, a, b)[0][0, 0])) == 3.5


def test_zero_sums_are_positive():
    a, b = codes_of([[1, -1]], DLFLOAT16), codes_of([[1], [1]], DLFLOAT16)
    tiny = codes_of([[-(2.0**-30)]], DLFLOAT16), codes_of([[2.0**-30]], DLFLOAT16)
    for mode, length in itertools.product(range(9), (0, 64)):
        p = profile(rounding=mode, between_rounding=mode, chunk_length=length)
        assert gemm(p, a, b)[0][0, 0] == 0
        if mode not in (DOWN, TO_ODD):
            assert gemm(p, *tiny)[0][0, 0] == 0
        empty = np.zeros((1, 0), np.uint32)
        assert gemm(p, empty, empty.T)[0][0, 0] == 0


def test_exceptional_terms():
    nan, inf, one, minus_inf = 0x7E, 0x7C, 0x3C, 0xFC

    def dot(a, b):
        p = profile(a=E5M2, b=E5M2, accumulator=BINARY32, rounding=EVEN)
        code, events, flags = gemm(p, [a], [[x] for x in b])
        return int(code[0, 0]), events.nan, int(flags[0, 0])

    assert dot([inf, one], [one, one]) == (0x7F800000, 0, 0)
    assert dot([inf, minus_inf], [one, one]) == (0x7FC00000, 1, INVALID)
    assert dot([inf, one], [0, one]) == (0x7FC00000, 1, INVALID)
    assert dot([nan, one], [0, one]) == (0x7FC00000, 1, INVALID)


def test_gemm_random_words():
    """One stochastic step from zero: the rounding bits of every output can be recomputed."""
    rng = np.random.default_rng(3)
    a = rng.integers(0x3000, 0x4000, (5, 1), dtype=np.uint32)
    b = rng.integers(0x3000, 0x4000, (1, 6), dtype=np.uint32)
    for source in (ROW_COLUMN, COUNTER, LFSR):
        p = profile(rounding=STOCHASTIC_A, random_source=source, random_bits=7)
        codes, events, _ = gemm(p, a, b, seed=11, stream=22)
        assert events.draws == 30
        for m in range(5):
            for n in range(6):
                w = word(key(11, 22, 0), m, 0) ^ word(key(11, 22, 1), n, 0)
                if source == COUNTER:
                    w = mix32(w)
                if source == LFSR:
                    w = lib.ref_lfsr_step(lib.ref_lfsr_start(11, 22, m, n))
                operands = DLFLOAT16, int(a[m, 0]), DLFLOAT16, int(b[0, n]), DLFLOAT16, 0
                assert codes[m, n] == lib.ref_fma(
                    *operands, STOCHASTIC_A, SPECIAL, 7, w >> 25, ffi.NULL
                )
