"""Benches in plain Verilog, run by Icarus: the files of `hfp8sim vectors`, and the LFSR."""

from __future__ import annotations

import re
import sys

import pytest

from tests.rtl.tools import BENCHES, ICARUS, RTL, need, run

pytestmark = [pytest.mark.rtl, need(ICARUS)]

#: Vectors of a unit; a vector of `dot` takes 130 cycles.
COUNTS = {"convert": 500, "fma": 500, "fmma": 500, "add": 500, "dot": 50}


def simulate(folder, bench: str, *options: str) -> list[str]:
    """Compile a bench of one module with Icarus and run it. Returns the lines that it prints."""
    program = folder / "bench.vvp"
    run(
        ICARUS, "-g2005", f"-I{RTL}", "-s", bench, *options, "-o", program,
        BENCHES / f"{bench}.v", *sorted(RTL.glob("*.v")),
    )  # fmt: skip
    return run("vvp", "-n", program).stdout.splitlines()


@pytest.mark.parametrize(("unit", "count"), COUNTS.items())
def test_files_of_vectors(unit, count, tmp_path):
    """The units have the formats of the profile hfp8 as defaults."""
    command = (sys.executable, "-m", "hfp8sim", "vectors", unit, "--count", count, "--forms", "hex")
    run(*map(str, command), "--out", tmp_path)
    file = tmp_path / f"{unit}.hex"
    comments = [line for line in file.read_text("utf-8").splitlines() if line.startswith("//")]
    (width,) = (
        int(m[1]) + 1 for m in map(re.compile(r"// reg \[(\d+):0\] v").match, comments) if m
    )
    fields = {
        match[2].upper(): match[1]
        for match in map(re.compile(r"// \[(\d+:\d+)\] (\w+)").match, comments)
        if match
    }
    macros = {**fields, "FILE": f'"{file}"', "WIDTH": width, "COUNT": count, unit.upper(): 1}
    if unit == "dot":  # the lowest bit of the first a and b
        for name in ("A", "B"):
            macros[f"{name}_FIRST"] = int(fields[name].split(":")[0]) - 7
    lines = simulate(tmp_path, "vectors", *(f"-D{name}={value}" for name, value in macros.items()))
    assert lines[-1] == f"{count} cases, 0 wrong", "\n".join(lines[:10])


def test_lfsr_steps(tmp_path):
    x, expected = 1, []
    for _ in range(16):
        x = x >> 1 ^ (0x80200003 if x & 1 else 0)
        expected.append(f"{x:08x}")
    assert simulate(tmp_path, "lfsr") == expected
