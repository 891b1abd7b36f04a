"""Verilator, Icarus and Yosys read every unit of rtl/ as Verilog-2005, without a warning: `make rtl`."""

from __future__ import annotations

import re

import pytest

from tests.rtl.tools import ICARUS, RTL, STANDARD, UNITS, VERILATOR, YOSYS, need, parameters, run

pytestmark = pytest.mark.rtl

SOURCES = sorted(RTL.glob("*.v"))


@need(VERILATOR)
@pytest.mark.parametrize("unit", UNITS)
def test_verilator_has_no_warning(unit):
    lint = (VERILATOR, "--lint-only", "-Wall", "--default-language", STANDARD, f"-I{RTL}")
    result = run(*lint, "--top-module", unit, RTL / f"{unit}.v")
    assert result.stdout + result.stderr == ""


#: Formats with other rules, other widths, and the smallest and odd sizes.
OTHERS = [
    *(("hfp8_convert", {"TARGET": name}) for name in ("e8m0", "binary8p1uf", "e5m2", "e4m3fnuz", "e2m1")),
    ("hfp8_convert", {"SOURCE": "e8m0", "TARGET": "binary32"}),
    ("hfp8_fma", {"ACC_FORMAT": "binary32", "RANDOM_BITS": 24}),
    ("hfp8_fma", {"A_FORMAT": "e5m2", "B_FORMAT": "e4m3fnuz", "ACC_FORMAT": "bfloat16"}),
    ("hfp8_fmma", {"A_FORMAT": "fp9-153", "B_FORMAT": "fp9-153", "RANDOM_BITS": 1}),
    ("hfp8_mac", {"BETWEEN_FORMAT": "binary32", "PRODUCTS": 2}),
    ("hfp8_array", {"ROWS": 1, "COLUMNS": 1}),
    ("hfp8_matrix", {"ROWS": 5, "COLUMNS": 3, "PRODUCTS": 2}),
]  # fmt: skip


@need(VERILATOR)
@pytest.mark.parametrize(("unit", "values"), OTHERS)
def test_other_parameters_have_no_warning(unit, values):
    lint = (VERILATOR, "--lint-only", "-Wall", "--default-language", STANDARD, f"-I{RTL}")
    settings = (f"-G{key}={value}" for key, value in parameters(**values).items())
    result = run(*lint, "--top-module", unit, *settings, RTL / f"{unit}.v")
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
