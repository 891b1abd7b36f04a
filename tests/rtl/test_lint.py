"""Verilator, Icarus and Yosys read every unit of rtl/ as Verilog-2005, without a warning: `make rtl`."""

from __future__ import annotations

import re

import pytest

from tests.rtl.tools import ICARUS, RTL, STANDARD, UNITS, VERILATOR, YOSYS, need, run

pytestmark = pytest.mark.rtl

SOURCES = sorted(RTL.glob("*.v"))


@need(VERILATOR)
@pytest.mark.parametrize("unit", UNITS)
def test_verilator_has_no_warning(unit):
    lint = (VERILATOR, "--lint-only", "-Wall", "--default-language", STANDARD, f"-I{RTL}")
    result = run(*lint, "--top-module", unit, RTL / f"{unit}.v")
    assert result.stdout + result.stderr == ""


@need(ICARUS)
@pytest.mark.parametrize("unit", UNITS)
def test_icarus_has_no_warning(unit):
    result = run(ICARUS, "-g2005", "-Wall", "-tnull", f"-I{RTL}", "-s", unit, *SOURCES)
    assert result.stdout + result.stderr == ""


@need(YOSYS)
@pytest.mark.parametrize("unit", UNITS)
def test_yosys_synthesises_without_warning(unit):
    """Neither a latch, nor a loop, nor a wire with two drivers or none."""
    names = " ".join(str(path) for path in SOURCES)
    script = f"read_verilog -I{RTL} {names}; hierarchy -check -top {unit}; proc; check -assert"
    result = run(YOSYS, "-q", "-p", script)
    assert result.stdout + result.stderr == ""
    assert not re.search(r"\$(dlatch|_DLATCH)", run(YOSYS, "-p", script + "; stat").stdout)
