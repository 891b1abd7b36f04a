"""What every compiled function of the package must keep to."""

from __future__ import annotations

import ast
from pathlib import Path

import hfp8sim

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
