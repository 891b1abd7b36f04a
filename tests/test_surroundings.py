"""A small product in unusual surroundings: at the exit, in a child, uncompiled, with warnings as errors, without a disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PRODUCT = """
import atexit, os, sys
import numpy as np
import hfp8sim as hs

def product():
    a = np.arange(12, dtype=np.uint8).reshape(3, 4)
    return np.asarray(hs.gemm(a, np.ascontiguousarray(a.T))).tolist()

def child():
    process = os.fork()
    if not process:
        print(product(), flush=True)
        os._exit(0)
    os.waitpid(process, 0)
"""
DIRECT, AT_EXIT, CHILD, CHILD_AFTER = (
    PRODUCT + code
    for code in (
        "print(product())",
        "atexit.register(lambda: print(product(), flush=True))",
        "child()",
        "product(); child()",
    )
)


def output(code: str, prefix: str = "", **environment: str) -> tuple[str, str]:
    """What Python code prints, and its messages; a shell runs `prefix` before it."""
    command = f"{prefix} exec '{sys.executable}' -W error -c \"$CODE\""
    result = subprocess.run(
        ["bash", "-c", command],
        env=os.environ | {"PYTHONPATH": str(ROOT), "CODE": code} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout, result.stderr


@pytest.fixture(scope="module")
def expected() -> str:
    out, err = output(DIRECT)
    assert out.startswith("[[") and err == ""
    return out


@pytest.mark.parametrize("code", [AT_EXIT, CHILD, CHILD_AFTER], ids=["exit", "child", "both"])
def test_product_at_the_exit_and_in_a_child(code: str, expected: str) -> None:
    assert output(code) == (expected, "")


def test_uncompiled_product_warns_of_nothing(expected: str) -> None:
    assert output(DIRECT, NUMBA_DISABLE_JIT="1") == (expected, "")


@pytest.mark.exhaustive
@pytest.mark.parametrize("limit", [0, 8], ids=["nothing", "8 KiB"])
def test_full_disk(limit: int, tmp_path: Path, expected: str) -> None:
    """No file may grow beyond a limit: everything is compiled for this process, which takes a minute."""
    out, err = output(DIRECT, f"ulimit -f {limit};", HFP8SIM_CACHE_DIR=str(tmp_path))
    assert out == expected
    assert err.count("\n") == 1 and "compiled functions are not kept" in err
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".tmp", ".lock")]
