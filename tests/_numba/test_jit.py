"""What every compiled function of the package must keep to."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import numba
import pytest

import hfp8sim
from hfp8sim._numba.jit import on_compile
from hfp8sim.cli.common import progress_bar

PACKAGE = Path(hfp8sim.__file__).parent


def test_no_kernel_calls_itself() -> None:
    """Numba's disk cache loses a recursive function's address: the process that loads it crashes."""
    kernels = 0
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.FunctionDef):
                continue
            names = {d.id for d in node.decorator_list if isinstance(d, ast.Name)}
            if not names & {"jit", "jit_inlined"}:
                continue
            kernels += 1
            called = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
            assert node.name not in called, f"{path.name}: {node.name} calls itself"
    assert kernels > 50


def test_on_compile_calls_once() -> None:
    told: list[str] = []
    twice = numba.njit(lambda x: 2 * x)
    with on_compile(lambda: told.append("first")):
        assert (twice(2), twice(2.0)) == (4, 4.0)
    with on_compile(lambda: told.append("second")):
        assert (twice(3), twice(3.0)) == (6, 6.0)  # compiled already
    assert twice(True) == 2
    assert told == ["first"]


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_bar_says_that_kernels_are_compiled(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    with progress_bar("x"):
        numba.njit(lambda x: x + 1)(1)
        numba.njit(lambda x: x + 2)(1)
    assert capsys.readouterr().err.count("compiling kernels") == terminal
