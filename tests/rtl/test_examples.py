"""The commands of docs/rtl.md, "Your own bench", and the bench of docs/vectors.md, as they are written: `make rtl`.

Each bench passes, and reports a unit that is wrong.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rtl.tools import ICARUS, ROOT, RTL, VERILATOR, need

pytestmark = pytest.mark.rtl


def commands(name: str, page: str = "rtl.md") -> str:
    """A block of a page, between its marks."""
    text = (ROOT / "docs" / page).read_text("utf-8")
    found = re.search(rf"<!-- {name} -->\n```\w+\n(.*?)```\n<!-- /{name} -->", text, re.S)
    assert found, name
    return found[1]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the commands need, with the library built."""
    folder = tmp_path_factory.mktemp("bench")
    for name in ("c_ref", "rtl", "examples"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("build", "out"))
    shutil.copy(ROOT / "Makefile", folder)
    shell(folder, "")
    return folder


def shell(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run commands in the copy, after those that build the library."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    script = f"set -e\nmkdir -p out\n{commands('bench-setup')}{script}"
    return subprocess.run(
        ["bash", "-c", script], cwd=folder, env={**os.environ, "PATH": path},
        capture_output=True, text=True,
    )  # fmt: skip


def wrong(process: subprocess.CompletedProcess[str]) -> list[tuple[int, int]]:
    """(wrong, tried) of each bench."""
    assert "libhfp8_ref" in process.stdout, process.stdout + process.stderr
    return [
        (int(a), int(b)) for a, b in re.findall(r"^(\d+) of (\d+) wrong$", process.stdout, re.M)
    ]


def planted(folder: Path, file: str, old: str, new: str) -> None:
    """Change a text in the copy."""
    path = folder / file
    text = path.read_text("utf-8")
    assert text.count(old) == 1, (file, old)
    path.write_text(text.replace(old, new), "utf-8")


def test_c_and_cpp_benches(copy: Path) -> None:
    good = shell(copy, commands("bench-c") + commands("bench-cpp"))
    assert [count for count, _ in wrong(good)] == [0, 0]


@need(VERILATOR)
def test_systemverilog_benches(copy: Path) -> None:
    good = shell(copy, commands("bench-sv"))
    assert wrong(good) == [(0, 200_000), (0, 400)] and not good.returncode
    assert "%Warning" not in good.stderr
    planted(copy, "examples/bench/fma_tb.sv", ".saturate(", ".saturate(1'b1 ^ ")
    planted(
        copy,
        "examples/bench/mac_tb.sv",
        " .mode(4'(REF_NEAREST_AWAY))",
        " .mode(4'(REF_NEAREST_EVEN))",
    )
    bad = shell(
        copy, commands("bench-sv").replace("out/$bench/V$bench", "out/$bench/V$bench || true")
    )
    assert all(0 < count < tried for count, tried in wrong(bad)) and len(wrong(bad)) == 2
    assert "instead of" in bad.stdout


@need(ICARUS)
@pytest.mark.skipif(not importlib.util.find_spec("cocotb"), reason="no cocotb: make extras")
def test_cocotb_bench(copy: Path) -> None:
    good = shell(copy, commands("bench-cocotb"))
    assert good.returncode == 0 and "FAIL=0" in good.stdout, good.stdout + good.stderr
    planted(copy, "rtl/hfp8_fma.v", "acc, c_nan,", "{acc[15:1], acc[0] & ~a[0]}, c_nan,")
    bad = shell(copy, commands("bench-cocotb"))
    assert bad.returncode == 1 and "FAIL=1" in bad.stdout and "instead of" in bad.stdout
    assert "<failure" in (copy / "out/cocotb/results.xml").read_text("utf-8")


@need(ICARUS)
@pytest.mark.parametrize(("settings", "expected"), [("", "0 of 4096 wrong"), ("~", "[1-9][0-9]* of 4096 wrong")])  # fmt: skip
def test_bench_of_vectors(tmp_path: Path, settings: str, expected: str) -> None:
    """The Verilog of docs/vectors.md reads a file of vectors, for a unit with the ports that it names."""
    from hfp8sim.verify.vectors import vectors, write_set

    write_set(vectors("fma"), tmp_path / "vectors", ["hex"])
    ports = "input [3:0] mode, input [12:0] random, input [7:0] a, b, input [15:0] acc, output [15:0] result, output [3:0] flags"  # fmt: skip
    unit = f"module my_fma ({ports});\n  hfp8_fma dut (a, b, acc, mode, 1'b0, {settings}random, result, flags);\nendmodule\n"
    (tmp_path / "bench.v").write_text(commands("bench", "vectors.md") + unit, "utf-8")
    built = ["iverilog", "-g2005", f"-I{RTL}", "-s", "bench", "-o", "bench", "bench.v"]
    subprocess.run([*built, *map(str, RTL.glob("*.v"))], cwd=tmp_path, check=True)
    ran = subprocess.run(["vvp", "-n", "bench"], cwd=tmp_path, capture_output=True, text=True)
    assert re.search(f"^{expected}$", ran.stdout, re.M), ran.stdout[-2000:]
