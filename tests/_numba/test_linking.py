"""Callees are linked into roots: which functions become machine code, and that roots still have all they call."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from numba.core import entrypoints

from hfp8sim._numba import jit as jit_module
from hfp8sim._numba.calls import address
from hfp8sim._numba.jit import jit

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(jit_module, "_ROOT", tmp_path)
    return tmp_path


def test_callee_has_no_machine_code(cache: Path) -> None:
    """Two callers share the LLVM code of what they call; one of them calls it through another callee."""
    compiled: list[object] = []

    @jit
    def innermost(x, y=2):  # type: ignore[no-untyped-def]
        return x * y

    @jit
    def inner(x):  # type: ignore[no-untyped-def]
        return innermost(x, y=5) + 1

    @jit
    def outer(x):  # type: ignore[no-untyped-def]
        return inner(x) - innermost(x)

    @jit
    def other(x):  # type: ignore[no-untyped-def]
        return innermost(x)

    functions: list[Any] = [innermost, inner, outer, other]
    for function in functions:
        callees = function._callee_compiler
        compile_callee = callees.compile
        callees.compile = lambda args, kind, f=function, c=compile_callee: (
            compiled.append(f.__name__) or c(args, kind)
        )
    assert outer(10) == 31 and other(10) == 20
    assert [len(function.overloads) for function in functions] == [0, 0, 1, 1]
    # a call with a default value and one with a value of another kind are two signatures
    assert sorted(map(str, compiled)) == ["inner", "innermost", "innermost"]
    assert len(list(cache.rglob("*.nbc"))) == 2


def test_callee_that_python_calls_is_a_root_too() -> None:
    @jit
    def callee(x):  # type: ignore[no-untyped-def]
        return x + 1

    @jit
    def root(x):  # type: ignore[no-untyped-def]
        return 2 * callee(x)

    assert (root(3), callee(3), root(4)) == (8, 4, 10)
    assert callee(np.float32(1.5)) == 2.5


def test_callee_has_an_address() -> None:
    @jit
    def callee(x):  # type: ignore[no-untyped-def]
        return x + 1

    @jit
    def root(x):  # type: ignore[no-untyped-def]
        return callee(x)

    assert root(np.int64(3)) == 4
    assert address(callee) != 0


def test_plain_numba_calls_a_callee() -> None:
    """Its functions link what is finished: the callee, and what that calls."""

    @jit
    def innermost(x):  # type: ignore[no-untyped-def]
        return 3 * x

    @jit
    def callee(x):  # type: ignore[no-untyped-def]
        return innermost(x) + 1

    assert numba.njit(lambda x: callee(x))(2) == 7
    assert callee(3) == 10  # also after that


def test_failed_compilation_lets_others_go_on(cache: Path) -> None:
    @jit
    def wrong(x):  # type: ignore[no-untyped-def]
        return x.no_such_attribute

    with pytest.raises(numba.TypingError):
        wrong(1)
    assert list(cache.rglob("*.lock")) == []


CONSTANTS = """
from hfp8sim._numba.jit import jit

@jit
def say(x):
    print("a constant", x)
    if x > 2:
        raise ValueError("too large")

@jit
def relay(x):
    say(x)
    return x

@jit
def first(x):
    return relay(x)

@jit
def second(x):
    print("second")
    return relay(x)

print(first(1) + second(2))
try:
    second(3)
except ValueError as error:
    print(error, flush=True)
print([sum(f.stats.cache_hits.values()) for f in (say, relay, first, second)])
"""


def test_constants_of_callees_reach_their_callers(tmp_path: Path) -> None:
    """What compiled code prints is kept by Python and found by an address that each root is given."""
    script = tmp_path / "script.py"
    script.write_text(CONSTANTS)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    said = ["a constant 1", "second", "a constant 2", "3", "second", "a constant 3", "too large"]
    for hits in ("[0, 0, 0, 0]", "[0, 0, 1, 1]"):
        out = subprocess.run(
            [sys.executable, "-u", str(script)], env=environment, capture_output=True, text=True,
            check=True, timeout=300,
        ).stdout  # fmt: skip
        assert out.splitlines() == [*said, hits]


def test_loading_looks_for_no_extensions_of_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    """They add types that no function here takes, and the search reads the metadata of all installed packages."""

    def twice(x):  # type: ignore[no-untyped-def]
        return 2 * x

    assert jit(twice)(3) == 6  # compiles

    def search() -> None:
        raise AssertionError("Numba searches the installed packages")

    monkeypatch.setattr(entrypoints, "init_all", search)
    assert jit(twice)(4) == 8


ALLOCATING = """
import numpy as np
from hfp8sim._numba.jit import jit

@jit
def multiples(values, n):
    chosen = np.zeros(len(values), np.bool_)
    for i in range(len(values)):
        chosen[i] = values[i] % n == 0
    return values[chosen]

@jit
def count(values, n):
    if n > 1:
        values = multiples(values, n)
    counts = np.zeros(n, np.int64)
    for value in values:
        counts[value % n] += 1
    return counts.sum()

@jit
def root(values):
    counts = np.zeros(3, np.int64)
    for i in range(3):
        counts[i] = count(values[:8], i + 1) + count(values[1:], 2)
    return counts.sum()

print(root(np.arange(9)), *root.stats.cache_hits.values())
"""


def test_loaded_code_allocates_where_only_a_callee_does(tmp_path: Path) -> None:
    """The machine code holds Numba's functions for that, whichever of its parts calls them."""
    script = tmp_path / "script.py"
    script.write_text(ALLOCATING)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HFP8SIM_CACHE_DIR": str(tmp_path)}
    outputs = [
        subprocess.run(
            [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=300
        )
        for _ in range(2)
    ]  # fmt: skip
    assert [(output.returncode, output.stdout.split()) for output in outputs] == [
        (0, ["27"]), (0, ["27", "1"]),
    ]  # fmt: skip


@jit
def _plus(x, y):
    return x + y


@jit
def _plus_constants(x):
    return _plus(_plus(x, 1), 2)


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
def test_callee_is_compiled_once_for_all_constants() -> None:
    assert _plus_constants.py_func(4) == 7
    _plus_constants._callee((numba.int64,))
    assert len(_plus._callees) == 1
