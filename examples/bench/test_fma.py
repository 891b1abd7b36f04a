"""A unit of your own, compared with libhfp8_ref in cocotb. Here it is hfp8_fma of rtl/: put yours in its place.

docs/rtl.md has the commands. They need libhfp8_ref, Icarus, and `pip install cocotb`.
"""

from __future__ import annotations

import ctypes
import random
from pathlib import Path

import cocotb
from cocotb.triggers import Timer
from cocotb_tools.runner import get_runner

RTL = Path(__file__).resolve().parents[2] / "rtl"
CASES = 5000
RANDOM_BITS = 13
SATURATE, SPECIAL = 0, 1

reference = ctypes.CDLL("libhfp8_ref.so")
reference.hfp8_format.restype = ctypes.c_uint32
reference.hfp8_fma.restype = ctypes.c_uint32
reference.hfp8_fma.argtypes = [
    *[ctypes.c_uint32] * 6, *[ctypes.c_int32] * 3, ctypes.c_uint32, ctypes.POINTER(ctypes.c_uint32),
]  # fmt: skip
reference.hfp8_defined_bits.restype = ctypes.c_uint32

#: Exponent bits, fraction bits, bias; signed, rules for zero, the lowest binade, special codes.
HFP8_143 = reference.hfp8_format(4, 3, 11, 1, 0, 1, 0)
DLFLOAT16 = reference.hfp8_format(6, 9, 31, 1, 0, 1, 4)


def expected(a: int, b: int, acc: int, mode: int, saturate: int, word: int) -> tuple[int, int]:
    """Result and flags of the reference."""
    flags = ctypes.c_uint32()
    policy = SATURATE if saturate else SPECIAL
    result = reference.hfp8_fma(
        HFP8_143, a, HFP8_143, b, DLFLOAT16, acc, mode, policy, RANDOM_BITS, word, flags
    )
    return result, flags.value


@cocotb.test()
async def fma_equals_reference(dut) -> None:
    """Random operands in every mode; half of the accumulators continue a sum."""
    draw = random.Random(1)
    acc = 0
    for _ in range(CASES):
        a, b = draw.getrandbits(8), draw.getrandbits(8)
        acc = acc if draw.getrandbits(1) else draw.getrandbits(16)
        mode, saturate, word = draw.randrange(9), draw.getrandbits(1), draw.getrandbits(RANDOM_BITS)
        dut.a.value, dut.b.value, dut.acc.value = a, b, acc
        dut.mode.value, dut.saturate.value, dut.random.value = mode, saturate, word
        await Timer(1, "ns")
        code, flags = expected(a, b, acc, mode, saturate, word)
        defined = reference.hfp8_defined_bits(DLFLOAT16, code)
        result = int(dut.result.value)
        assert (result ^ code) & defined == 0 and int(dut.flags.value) == flags, (
            f"{acc:04x} + {a:02x} * {b:02x}, mode {mode}: {result:04x} instead of {code:04x}"
        )
        acc = result


def main() -> None:
    """Build and run in Icarus. The exit status is 1 if the test fails; out/cocotb/results.xml is JUnit XML."""
    runner = get_runner("icarus")
    runner.build(
        sources=sorted(RTL.glob("*.v")), includes=[RTL], hdl_toplevel="hfp8_fma", build_dir="out/cocotb",
        parameters={"A_FORMAT": HFP8_143, "B_FORMAT": HFP8_143, "ACC_FORMAT": DLFLOAT16},
        timescale=("1ns", "1ns"),
    )  # fmt: skip
    runner.test(
        hdl_toplevel="hfp8_fma", test_module="test_fma", test_dir=Path(__file__).parent,
        results_xml=str(Path("out/cocotb/results.xml").resolve()),
    )  # fmt: skip


if __name__ == "__main__":
    main()
