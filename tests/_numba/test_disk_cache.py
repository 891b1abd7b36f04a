"""The disk cache of compiled functions: what makes it stale, and files that are damaged or written at once."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numba
import pytest

from hfp8sim._numba import disk_cache
from hfp8sim._numba import jit as jit_module
from hfp8sim._numba.jit import jit
from hfp8sim._numba.turns import Turn

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


@pytest.mark.parametrize(
    "contents", [b"", b"x", b"x" * 32, bytes(10_000), b"checksum" + b"garbage" * 100]
)
@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
def test_contents_that_cannot_be_loaded_are_compiled_again(
    contents: bytes, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with a checksum that fits, as another version's contents have."""
    monkeypatch.setattr(jit_module, "_ROOT", tmp_path)
    assert cast(Any, jit(form))(1) == 2
    (path,) = tmp_path.rglob(f"*{suffix}")
    for damaged in (contents, hashlib.sha256(contents).digest() + contents):
        path.write_bytes(damaged)
        function: Any = jit(form)
        assert function(1) == 2 and sum(function.stats.cache_misses.values()) == 1
    function = jit(form)
    assert function(1) == 2 and sum(function.stats.cache_misses.values()) == 0


@pytest.mark.parametrize("failing", ["the first write", "every write"])
def test_full_disk_is_reported_once(
    failing: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    calls = []

    def full(path: object, data: bytes) -> None:
        calls.append(path)
        if failing == "every write" or len(calls) == 1:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(jit_module, "_ROOT", tmp_path)
    monkeypatch.setattr(disk_cache, "write_cached", full)
    monkeypatch.setattr(disk_cache, "_REPORTED", [])
    for _ in range(2):
        assert cast(Any, jit(form))(1) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "No space left on device), so that every process" in said
    assert not list(tmp_path.rglob("*.lock"))


def test_missing_folder_is_reported_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(jit_module, "_ROOT", None)
    monkeypatch.setattr(disk_cache, "_REPORTED", [])
    functions: list[Any] = [jit(form) for _ in range(2)]
    assert capsys.readouterr().err == ""  # nothing was compiled yet
    assert [function(1) for function in functions] == [2, 2]
    assert capsys.readouterr().err.count("no folder can be written") == 1


def test_turns_follow_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Turn(f"{tmp_path}/f", "int"), Turn(f"{tmp_path}/f", "int")
    other = Turn(f"{tmp_path}/f", "float")
    assert not first.take(lambda: None) and not other.take(lambda: None)
    monkeypatch.setattr("hfp8sim._numba.turns.time.sleep", lambda _: first.end())
    assert second.take(lambda: None)  # once the first one's turn has ended
    second.end()
    other.end()
    assert list(tmp_path.iterdir()) == []


def adding(n):  # type: ignore[no-untyped-def]
    def add(x):  # type: ignore[no-untyped-def]
        return x + n

    return cast(Any, jit(add))


def test_functions_of_one_factory_have_their_own_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process compiles one of them; the other one does not wait for it."""
    monkeypatch.setattr(jit_module, "_ROOT", tmp_path)
    monkeypatch.setattr("hfp8sim._numba.turns._LONGEST_WAIT", 0.1)
    one, same, other = adding(1), adding(1), adding(2)
    signature = (numba.int64,)
    waited: list[float] = []
    monkeypatch.setattr("hfp8sim._numba.turns.time.sleep", waited.append)
    for function, waits in ((one, False), (other, False), (same, True)):
        assert function._cache.load_overload(signature, one.targetctx) is None
        assert bool(waited) == waits
    for function in (one, other, same):
        function._cache.end_turn(signature)


def test_wait_for_a_turn_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that stands still stops no other one for good."""
    monkeypatch.setattr("hfp8sim._numba.turns._LONGEST_WAIT", 0.1)
    first, second = Turn(f"{tmp_path}/f", "int"), Turn(f"{tmp_path}/f", "int")
    first.take(lambda: None)
    assert second.take(lambda: None)
    second.end()
    assert len(list(tmp_path.iterdir())) == 1
    first.end()


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


def test_processes_that_start_together_share_a_compilation(tmp_path: Path) -> None:
    environment = os.environ | {
        "PYTHONPATH": str(ROOT), "HFP8SIM_CACHE_DIR": str(tmp_path), "NUMBA_CACHE_DIR": "",
    }  # fmt: skip
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT], env=environment, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    assert sorted(int(process.communicate()[0]) for process in processes) == [0, 0, 1]
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".lock", ".tmp")]


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
from hfp8sim._numba.turns import Turn

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
