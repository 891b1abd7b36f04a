"""Every input of the converters and of the adder: `make rtl-long`. Codes and flags are those of the C reference.

The units are netlists that Yosys synthesises, so that 512 cases are computed at once.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from hfp8sim.formats import formats, get_format
from hfp8sim.formats.vocabulary import MODES
from tests.rtl.netlist import build_netlist
from tests.rtl.tools import YOSYS, need, run, word

pytestmark = need(YOSYS)

RANDOM_BITS = 13
TARGETS = [name for name in formats() if get_format(name).bits == 8]
#: The modes that `make rtl-long` tries.
LONG_MODES = ["nearest-even", "nearest-away", "stochastic-a"]


def compare(program: Path, first: int, count: int, mode: str) -> tuple[int, int]:
    """Run a bench. Returns the numbers of cases and of differences, of which it stops after ten."""
    output = run(
        program, str(first), str(count), str(MODES.index(mode)), check=False
    ).stdout.splitlines()
    print("\n".join(output))
    cases, _, wrong = output[-1].split()[:3]
    return int(cases), int(wrong)


def converter(target: str, x: str = "x") -> Path:
    """A bench of a converter from binary32. `x` is an expression of its operand."""
    bits = get_format(target).bits
    text = f"""
module unit (
    input [31:0] x, input [3:0] mode, input saturate, input [{RANDOM_BITS - 1}:0] random,
    output [{bits - 1}:0] result, output [3:0] flags
);
    hfp8_convert #(.TARGET(32'h{word(target)[2:]}), .RANDOM_BITS({RANDOM_BITS})) convert (
        {x}, mode, saturate, random, result, flags
    );
endmodule
"""
    return build_netlist(
        "every_binary32", text, (f"TARGET={word(target)}", f"RANDOM_BITS={RANDOM_BITS}")
    )


def adder() -> Path:
    """A bench of the adder of 1-6-9."""
    text = f"""
module unit (
    input [15:0] total, addend, input [3:0] mode, input saturate, input [{RANDOM_BITS - 1}:0] random,
    output [15:0] result, output [3:0] flags
);
    hfp8_add #(.RANDOM_BITS({RANDOM_BITS})) add (
        total, addend, mode, saturate, random, result, flags
    );
endmodule
"""
    return build_netlist("every_pair", text, (f"RANDOM_BITS={RANDOM_BITS}",))


@pytest.mark.rtl
@pytest.mark.parametrize("mode", MODES)
def test_convert_around_one(mode):
    """Binary32 numbers from 0.5 to 2 into 1-4-3."""
    assert compare(converter("hfp8-143"), 0x3F000000, 2 << 23, mode) == (2 << 23, 0)


@pytest.mark.rtl
@pytest.mark.parametrize("mode", MODES)
def test_add_around_one(mode):
    """256 totals around 1.0 with every addend."""
    assert compare(adder(), 0x3DC0, 256, mode) == (256 << 16, 0)


@pytest.mark.rtl
def test_netlist_bench_finds_one_wrong_case():
    """A converter whose operand is changed in one case of 2^24."""
    program = converter("hfp8-143", "x ^ {31'b0, x[24:0] == 25'h1080001} << 20")
    assert compare(program, 0x3F000000, 2 << 23, "nearest-even") == (2 << 23, 1)


@pytest.mark.rtl_long
@pytest.mark.parametrize("mode", LONG_MODES)
@pytest.mark.parametrize("target", TARGETS)
def test_convert_every_binary32(target, mode):
    """All 2^32 codes. A stochastic mode has another random word for each 65536 of them."""
    assert compare(converter(target), 0, 1 << 32, mode) == (1 << 32, 0)


@pytest.mark.rtl_long
@pytest.mark.parametrize("mode", LONG_MODES)
def test_add_every_pair(mode):
    """All 2^32 pairs of a total and an addend in 1-6-9. A stochastic mode has another random word for each total."""
    assert compare(adder(), 0, 1 << 16, mode) == (1 << 32, 0)
