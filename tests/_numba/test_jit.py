"""What every compiled function of the package must keep to."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import numba
import pytest

import hfp8sim
from hfp8sim._numba.jit import jit, telling_of_compilation
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


def forms_in_the_index(first, second) -> dict[str, str]:  # type: ignore[no-untyped-def]
    """Two caches of one function, in two processes, that read the index before either writes it: what a
    third finds under each signature."""
    index = first._load_index()
    for file, key in ((first, "float"), (second, "integer")):
        file._load_index = lambda: dict(index)
        file.save(key, f"machine code for {key}")
        del file._load_index
    first._save_data(first._data_name(1), "machine code for float")  # the first one was slow
    return {key: second.load(key) for key in ("float", "integer")}


def test_processes_that_compile_at_once_do_not_exchange_kernels(tmp_path: Path) -> None:
    """Numba's own caches do: the next process gets machine code for other types, and other results."""

    def cache(compiled):  # type: ignore[no-untyped-def]
        file = compiled._cache._cache_file
        file._cache_path, file._index_path = str(tmp_path), str(tmp_path / file._index_name)
        return file

    def form(x):  # type: ignore[no-untyped-def]
        return x

    plain = [cache(numba.njit(cache=True)(form)) for _ in range(2)]
    assert forms_in_the_index(*plain)["integer"] == "machine code for float"
    ours = [cache(jit(form)) for _ in range(2)]
    found = forms_in_the_index(*ours)
    assert found["integer"] == "machine code for integer"
    assert found["float"] in (None, "machine code for float")


def test_compilation_is_told_once() -> None:
    told: list[str] = []
    twice = numba.njit(lambda x: 2 * x)
    with telling_of_compilation(lambda: told.append("first")):
        assert (twice(2), twice(2.0)) == (4, 4.0)
    with telling_of_compilation(lambda: told.append("second")):
        assert (twice(3), twice(3.0)) == (6, 6.0)  # compiled already
    assert twice(True) == 2
    assert told == ["first"]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_line_says_what_takes_so_long(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    with progress_bar("x"):
        numba.njit(lambda x: x + 1)(1)
        numba.njit(lambda x: x + 2)(1)
    assert capsys.readouterr().err.count("compiling kernels") == terminal
