"""The disk cache of compiled functions: what makes it stale, and files that are damaged or written at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import pytest

from hfp8sim._numba import jit as jit_module
from hfp8sim._numba.jit import jit

ROOT = Path(__file__).parents[2]


def form(x):  # type: ignore[no-untyped-def]
    return x + 1


def signatures_found(first: Any, second: Any) -> dict[str, str]:
    """Save two signatures of one function from two processes that both read the index before either writes it.

    Returns what a third process finds under each.
    """
    index = first._load_index()
    for file, key in ((first, "float"), (second, "integer")):
        file._load_index = lambda: dict(index)
        file.save(key, f"machine code for {key}")
        del file._load_index
    first._save_data(first._data_name(1), "machine code for float")  # the first one was slow
    return {key: second.load(key) for key in ("float", "integer")}


def test_processes_that_compile_at_once_do_not_exchange_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numba's own caches do: the next process gets machine code for other types, and other results."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    theirs = [numba.njit(cache=True)(form)._cache._cache_file for _ in range(2)]
    assert signatures_found(*theirs)["integer"] == "machine code for float"
    monkeypatch.setattr(jit_module, "_ROOT", tmp_path)
    ours: list[Any] = [jit(form) for _ in range(2)]
    ours[0]._cache._impl.locator.ensure_cache_path()
    result = signatures_found(*(function._cache._cache_file for function in ours))
    assert result["integer"] == "machine code for integer"
    assert result["float"] in (None, "machine code for float")


def truncated(contents: bytes) -> bytes:
    return contents[: len(contents) // 2]


def flipped(contents: bytes) -> bytes:
    middle = len(contents) // 2
    return contents[:middle] + bytes([contents[middle] ^ 1]) + contents[middle + 1 :]


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
@pytest.mark.parametrize("damage", [truncated, flipped, lambda contents: b""])
def test_damaged_files_are_compiled_again(
    damage: Callable[[bytes], bytes], suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jit_module, "_ROOT", tmp_path)

    def run() -> tuple[int, int]:
        function: Any = jit(form)
        assert function(1) == 2
        return sum(function.stats.cache_hits.values()), sum(function.stats.cache_misses.values())

    assert run() == (0, 1)
    assert run() == (1, 0)
    (path,) = tmp_path.rglob(f"*{suffix}")
    path.write_bytes(damage(path.read_bytes()))
    assert run() == (0, 1)
    assert run() == (1, 0)


def test_folder_that_cannot_be_written_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jit_module, "_ROOT", tmp_path / "a file")
    (tmp_path / "a file").write_text("")
    function: Any = jit(form)
    assert function(1) == 2


def test_function_that_calls_an_argument_is_not_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key of a function covers what its own module imports; a function that it is handed may be elsewhere."""
    monkeypatch.setattr(jit_module, "_ROOT", tmp_path)
    handed = numba.njit(eval("lambda x: x + 1", {"__name__": "elsewhere"}))

    def apply(function, x):  # type: ignore[no-untyped-def]
        return function(x)

    assert jit(apply)(handed, 1) == 2
    assert list(tmp_path.rglob("*.nb?")) == []


SCRIPT = """
import numpy as np
from hfp8sim.units.random import mix32
mix32(np.uint64(1))
print(sum(mix32.stats.cache_misses.values()))
"""


def test_edits_of_what_a_function_can_reach_compile_it_again(tmp_path: Path) -> None:
    shutil.copytree(
        ROOT / "hfp8sim", tmp_path / "hfp8sim", ignore=shutil.ignore_patterns("__pycache__")
    )
    paths = {"PYTHONPATH": str(tmp_path), "HFP8SIM_CACHE_DIR": str(tmp_path / "cache")}

    def misses() -> int:
        out = subprocess.run(
            [sys.executable, "-c", SCRIPT], cwd=tmp_path, env=os.environ | paths,
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        return int(out)

    def edit(name: str) -> None:
        path = tmp_path / "hfp8sim" / name
        path.write_text(path.read_text() + "\n# edited\n")

    assert misses() == 1
    assert misses() == 0
    edit("report/table.py")
    edit("units/mac.py")
    assert misses() == 0
    edit("units/random.py")
    assert misses() == 1
    edit("_numba/jit.py")
    assert misses() == 1
    (tmp_path / "hfp8sim/units/random.py").touch()
    assert misses() == 0


LOADING = """
import sys
import numpy as np
from hfp8sim._numba.jit import jit

@jit
def squares(n):
    if n < 0:
        raise ValueError("negative")
    result = np.empty(n, np.int64)
    for i in range(n):
        result[i] = i * i
    return result

@jit
def total(n):
    return squares(n).sum()

try:
    squares(-1)
except ValueError as error:
    print(error, squares(3), end=" ")
print(sum(squares.stats.cache_hits.values()), end=" ")
print(total(3) if "total" in sys.argv else "")
"""


def test_code_that_allocates_is_loaded(tmp_path: Path) -> None:
    """The second process registers the addresses that allocations need. It compiles a caller of what it loaded."""
    script = tmp_path / "script.py"
    script.write_text(LOADING)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def run(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, str(script), *arguments], env=environment, capture_output=True,
            text=True, check=True,
        ).stdout.strip()  # fmt: skip

    assert run() == "negative [0 1 4] 0"
    assert run("total") == "negative [0 1 4] 1 5"
    assert run("total") == "negative [0 1 4] 1 5"
