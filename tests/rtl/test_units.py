"""The units of rtl/ give the codes and flags of the C reference: `make rtl`.

Verilator compiles each unit with a C++ main program that has the C reference linked in.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from hfp8sim.formats import formats, get_format
from tests.rtl.tools import VERILATOR, build, need, parameters, run, word

pytestmark = [pytest.mark.rtl, need(VERILATOR)]

EVEN, AWAY, ZERO = range(3)
STOCHASTIC_A = 6
ALL_MODES = range(9)
RANDOM_BITS = 13

HFP8_PAIRS = [("hfp8-143", "hfp8-143"), ("hfp8-143", "hfp8-152"), ("hfp8-152", "hfp8-152")]
#: Operands and accumulators whose rules differ from HFP8's: NaN-Infinity, infinities, subnormals, FNUZ, P3109.
OTHERS = [
    ("hfp8-143-hw", "hfp8-152-hw", "dlfloat16"),
    ("hfp8-152", "hfp8-152", "ieee-169"),
    ("e4m3fn", "e5m2", "binary16"),
    ("e4m3fnuz", "binary8p3se", "bfloat16"),
    ("fp9-153", "fp9-153", "dlfloat16"),
]
#: Formats of at most 8 bits that are shipped.
TARGETS = [name for name in formats() if get_format(name).bits <= 8]


def compare(program: Path, *arguments: object) -> int:
    """Run a bench that must find no difference. Returns the number of cases."""
    output = run(program, *map(str, arguments)).stdout
    cases, _, wrong = output.splitlines()[-1].split()[:3]
    assert wrong == "0", output
    return int(cases)


def fma(a: str, b: str, acc: str = "dlfloat16") -> Path:
    values = parameters(A_FORMAT=a, B_FORMAT=b, ACC_FORMAT=acc, RANDOM_BITS=RANDOM_BITS)
    return build("hfp8_fma", "fma", values)


@pytest.mark.parametrize(("a", "b"), HFP8_PAIRS)
def test_fma_of_every_product_and_accumulator(a, b):
    """Each stochastic rounding takes another of the 2^13 words."""
    pair = word(a), word(b), word("dlfloat16"), RANDOM_BITS, 0
    cases = compare(fma(a, b), *pair, 2, 0, 1, EVEN, AWAY, ZERO, STOCHASTIC_A)
    assert cases % (5 << 16) == 0 and cases > 5 << 25


@pytest.mark.parametrize(("a", "b"), HFP8_PAIRS)
@pytest.mark.parametrize("saturate", [0, 1])
def test_fma_in_every_mode(a, b, saturate):
    """Every 61st product, with every accumulator."""
    pair = word(a), word(b), word("dlfloat16"), RANDOM_BITS, saturate
    assert compare(fma(a, b), *pair, 2, 7, 61, *ALL_MODES) > 1 << 22


@pytest.mark.parametrize(("a", "b", "acc"), OTHERS)
def test_fma_of_other_formats(a, b, acc):
    cases = word(a), word(b), word(acc), RANDOM_BITS
    for saturate in (0, 1):
        assert compare(fma(a, b, acc), *cases, saturate, 1, 3, 151, *ALL_MODES) > 1 << 21


@pytest.mark.parametrize(("bits", "acc"), [(1, "dlfloat16"), (24, "dlfloat16"), (13, "binary32")])
def test_fma_with_other_widths(bits, acc):
    """One random bit and 24, and an accumulator of 32 bits."""
    values = parameters(A_FORMAT="e5m2", B_FORMAT="hfp8-143", ACC_FORMAT=acc, RANDOM_BITS=bits)
    program = build("hfp8_fma", "step", values, definitions=["PRODUCTS=1"])
    compare(program, word("e5m2"), word("hfp8-143"), word(acc), bits, 2_000_000, 1, *ALL_MODES)


@pytest.mark.parametrize(
    ("a", "b", "acc"),
    [*((a, b, "dlfloat16") for a, b in HFP8_PAIRS), OTHERS[0], OTHERS[2], ("e4m3fn", "e4m3fn", "binary32")],
)  # fmt: skip
def test_fmma(a, b, acc):
    """Products that cancel each other or the accumulator, in part or wholly, and any others."""
    values = parameters(A_FORMAT=a, B_FORMAT=b, ACC_FORMAT=acc, RANDOM_BITS=RANDOM_BITS)
    program = build("hfp8_fmma", "step", values, definitions=["PRODUCTS=2"])
    compare(program, word(a), word(b), word(acc), RANDOM_BITS, 2_000_000, 2, *ALL_MODES)


@pytest.mark.parametrize("acc", ["e5m2"])
def test_fmma_of_every_pair_of_small_products(acc):
    """Products of 1-2-1 and 1-3-2: every two of them, every accumulator, every mode, every word of two bits."""
    values = parameters(A_FORMAT="e2m1", B_FORMAT="e3m2", ACC_FORMAT=acc, RANDOM_BITS=2)
    program = build("hfp8_fmma", "pairs", values)
    cases = compare(program, word("e2m1"), word("e3m2"), word(acc), 2)
    assert cases % (256 * 18) == 0 and cases > 1 << 24


@pytest.mark.parametrize(("total", "addend"), [("dlfloat16", "dlfloat16"), ("ieee-169", "ieee-169"), ("bfloat16", "dlfloat16")])  # fmt: skip
def test_add(total, addend):
    """Every 499th total, with every addend."""
    values = parameters(TOTAL_FORMAT=total, ADDEND_FORMAT=addend, RANDOM_BITS=RANDOM_BITS)
    program = build("hfp8_add", "add", values)
    for saturate in (0, 1):
        compare(program, word(total), word(addend), RANDOM_BITS, saturate, 11, 499, *ALL_MODES)


@pytest.mark.parametrize("random_source", ["ports", "lfsr"])
@pytest.mark.parametrize("products", [1, 2])
@pytest.mark.parametrize("between", ["dlfloat16", "binary32"])
def test_mac(random_source, products, between):
    """Sums of 1 to 400 products, with chunks and without, as output (0, 0) of a GEMM of the C reference.

    The registers of `hfp8_mac` are tested by sums that follow each other directly, and by idle cycles.
    """
    formats = ("hfp8-143", "hfp8-152", "dlfloat16", between)
    names = ("A_FORMAT", "B_FORMAT", "ACC_FORMAT", "BETWEEN_FORMAT")
    values = parameters(**dict(zip(names, formats)), PRODUCTS=products, RANDOM_BITS=RANDOM_BITS)
    lfsr = random_source == "lfsr"
    definitions = [f"PRODUCTS={products}", *(["LFSR"] if lfsr else [])]
    program = build("hfp8_mac_lfsr" if lfsr else "hfp8_mac", "mac", values, "", definitions)
    for chunk in (0, 1, 3, 64):
        for modes in ((AWAY, AWAY), (STOCHASTIC_A, STOCHASTIC_A), (STOCHASTIC_A, EVEN), (ZERO, 8)):
            compare(program, *map(word, formats), RANDOM_BITS, 1000, chunk, chunk, *modes)


def converter(source: str, targets: list[str]) -> Path:
    """A bench with a converter into each of some formats."""
    lanes = "".join(
        f"""
    hfp8_convert #(
        .SOURCE(32'h{word(source)[2:]}), .TARGET(32'h{word(target)[2:]}), .RANDOM_BITS({RANDOM_BITS})
    ) convert_{i} (
        .x(x), .mode(mode), .saturate(saturate), .random(random),
        .result(results[{16 * i} +: {get_format(target).bits}]), .flags(results[{16 * i + 8} +: 4])
    );"""
        for i, target in enumerate(targets)
    )
    ports = f"""
    input [{get_format(source).bits - 1}:0] x;
    input [3:0] mode;
    input saturate;
    input [{RANDOM_BITS - 1}:0] random;
    output [{16 * len(targets) - 1}:0] results;"""
    text = f"module converters (x, mode, saturate, random, results);{ports}{lanes}\nendmodule\n"
    return build("converters", "convert", {}, text)


@pytest.mark.parametrize("source", ["binary32", "dlfloat16"])
def test_convert(source):
    """Binary32 at the edges of the upper 20 bits; every code of 1-6-9 in every mode and policy."""
    program = converter(source, TARGETS)
    step = 3 if source == "binary32" else 1
    cases = compare(program, word(source), RANDOM_BITS, step, *map(word, TARGETS))
    assert cases > 1 << 24
