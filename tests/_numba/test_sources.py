"""Which sources a module can reach, found from the imports."""

from __future__ import annotations

import ast
import importlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hfp8sim._numba import imports, sources
from hfp8sim._numba.sources import Package, Stamp, this_package
from hfp8sim.errors import InputError

SOURCES = {
    "__init__": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p.top import f\n__version__ = '1'\n",
    "low/__init__": "from p.low import three\nfrom p.low.one import f\nfrom p.low.two import g\n",
    "low/one": "def f(): pass\n",
    "low/two": "from . import one\ndef g(): pass\n",
    "low/three": "from p.low import three as self\n",
    "kernel": "from p.low import f\n",
    "lazy": "def h():\n    from p.low.three import x\n",
    "typed": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p.kernel import f\nelse:\n    import p.lazy\n",
    "relative": "from .low import three\n",
    "extension": "from p import _c\n",
    "dynamic": "import importlib\nimportlib.import_module('p.low.one')\n",
    "anything": "import importlib\ndef load(name): return importlib.import_module(name)\n",
    "face": "import p\n",
    "version": "from p import __version__\n",
    "top": "from p.kernel import f\nimport p.typed as t\n",
}  # fmt: skip
REACHED = {
    "low": {"low", "low.one", "low.two", "low.three"},
    "low.one": {"low.one"},
    "low.two": {"low.two", "low.one"},
    "kernel": {"kernel", "low", "low.one"},
    "lazy": {"lazy", "low.three"},
    "typed": {"typed", "lazy", "low.three"},
    "relative": {"relative", "low.three"},
    "extension": {"extension", "_c"},
    "dynamic": {"dynamic", "low.one"},
    "version": {"version", ""},
    "top": {"top", "kernel", "low", "low.one", "typed", "lazy", "low.three"},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in SOURCES.items():
        path = tmp_path / "p" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "p/_c.abi3.so").write_bytes(b"machine code")
    return tmp_path / "p"


@pytest.mark.parametrize("module", REACHED)
def test_reachable_modules(module: str, folder: Path) -> None:
    expected = {f"p.{name}".rstrip(".") for name in REACHED[module]}
    assert Package(folder).reachable(f"p.{module}") == expected


@pytest.mark.parametrize("module", ["anything", "face"])
def test_computed_imports_reach_everything(module: str, folder: Path) -> None:
    assert Package(folder).reachable(f"p.{module}") >= {"p.top", "p.low.three", f"p.{module}"}


def digests(folder: Path, index: Path | None = None) -> set[str]:
    """Every module with its digest."""
    package = Package(folder, index)
    return {f"{name} {package.digest(f'p.{name}')}" for name in REACHED}


@pytest.mark.parametrize(
    ("name", "stale"),
    [
        ("low/one.py", {"low", "low.one", "low.two", "kernel", "dynamic", "top"}),
        ("low/two.py", {"low", "low.two"}),
        ("low/__init__.py", {"low", "kernel", "top"}),
        ("low/three.py", {"low", "lazy", "typed", "relative", "top"}),
        ("kernel.py", {"kernel", "top"}),
        ("_c.abi3.so", {"extension"}),
        ("face.py", set()),
        ("__init__.py", {"version"}),
    ],
)
@pytest.mark.parametrize("kept", [False, True])
def test_edit_changes_the_digest_of_what_reaches_it(
    name: str, stale: set[str], kept: bool, folder: Path, tmp_path: Path
) -> None:
    index = tmp_path / "index.json" if kept else None
    before = digests(folder, index)
    (folder / name).write_bytes((folder / name).read_bytes() + b"#")
    after = digests(folder, index)
    assert {entry.split()[0] for entry in after - before} == stale
    assert digests(folder, index) == after


def test_moved_module_is_found_without_a_list(folder: Path, tmp_path: Path) -> None:
    index = tmp_path / "index.json"
    digests(folder, index)
    (folder / "deep").mkdir()
    (folder / "deep/moved.py").write_text((folder / "low/one.py").read_text())
    (folder / "low/one.py").unlink()
    (folder / "low/__init__.py").write_text("from p.deep.moved import f\n")
    package = Package(folder, index)
    assert package.reachable("p.kernel") == {"p.kernel", "p.low", "p.deep.moved"}
    before = package.digest("p.kernel")
    (folder / "deep/moved.py").write_text("def f(): return 1\n")
    assert Package(folder, index).digest("p.kernel") != before


def test_index_spares_parsing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "_TIMESTAMP_RESOLUTION", -1.0)
    index = tmp_path / "index.json"
    first = Package(folder, index).digest("p.top")
    monkeypatch.setattr(imports, "read", lambda *_: pytest.fail("a source was parsed again"))
    (folder / "top.py").touch()
    assert Package(folder, index).digest("p.top") == first
    monkeypatch.setattr(Package, "_find_reaches", lambda *_: pytest.fail("sources were read again"))
    assert Package(folder, index).digest("p.top") == first


def test_recently_edited_files_are_read_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An edit just after the index was written may leave times and size as they were, if times are coarse."""

    def coarse(modified: int, changed: int, size: int, inode: int) -> Stamp:
        return Stamp(modified, modified, size, inode)

    monkeypatch.setattr(sources, "Stamp", coarse)
    index = tmp_path / "index.json"
    path = folder / "low/one.py"
    status = path.stat()
    first = Package(folder, index).digest("p.kernel")
    path.write_text("def h(): pass\n")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    assert Package(folder, index).digest("p.kernel") != first


def test_only_what_is_reached_is_read(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "_TIMESTAMP_RESOLUTION", -1.0)
    index, modules, read = tmp_path / "index.json", [], imports.read
    monkeypatch.setattr(imports, "read", lambda *source: modules.append(source[1]) or read(*source))
    first = Package(folder, index).digest("p.low.two")
    assert modules == ["p.low.two", "p.low", "p.low.one"]
    monkeypatch.setattr(imports, "read", read)
    digests(folder, index)
    monkeypatch.setattr(Package, "_find_reaches", lambda *_: pytest.fail("sources were read again"))
    assert Package(folder, index).digest("p.low.two") == first
    digests(folder, index)


def test_edit_after_the_process_began_keeps_no_digest(folder: Path, tmp_path: Path) -> None:
    """The process may have loaded the source before."""
    package = Package(folder, tmp_path / "index.json")
    kept = package.digest("p.low.three")
    path = folder / "low/one.py"
    path.write_text(path.read_text() + "#")
    digest = package.digest("p.kernel")
    assert package.digest("p.kernel") == digest and package.digest("p.low.three") == kept
    assert digest not in (package.digest("p.low.one"), Package(folder).digest("p.kernel"))
    path.write_text(SOURCES["low/one"])
    assert Package(folder, tmp_path / "index.json").digest("p.kernel") != digest


def written_in_place(path: Path, text: str) -> None:
    path.write_text(text)


def replaced(path: Path, text: str) -> None:
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").replace(path)


@pytest.mark.parametrize("edit", [written_in_place, replaced])
def test_edit_that_keeps_time_and_size(
    edit: Callable[[Path, str], None], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`rsync -t`, `cp -p` and `touch -r` set the time of a file that they write."""
    monkeypatch.setattr(sources, "_TIMESTAMP_RESOLUTION", -1.0)
    index = tmp_path / "index.json"
    path = folder / "low/one.py"
    status = path.stat()
    first = Package(folder, index).digest("p.kernel")
    time.sleep(0.05)  # longer than a tick of a file system's clock
    edit(path, "def h(): pass\n")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (path.stat().st_mtime_ns, path.stat().st_size) == (status.st_mtime_ns, status.st_size)
    assert Package(folder, index).digest("p.kernel") != first


@pytest.mark.parametrize("contents", [b"def f(:\n", b"\xff", b"x = 1\0\n"])
def test_source_that_is_no_python_reaches_everything(contents: bytes, folder: Path) -> None:
    """Else no other module could be imported while one is being edited."""
    before = Package(folder).digest("p.kernel")
    (folder / "face.py").write_bytes(contents)
    package = Package(folder)
    assert package.reachable("p.face") >= {"p.top", "p.low.three", "p.face"}
    assert package.digest("p.kernel") == before


def test_link_to_nowhere_is_no_source(folder: Path, tmp_path: Path) -> None:
    """Editors lock a file by such a link beside it."""
    before = digests(folder)
    try:
        (folder / ".#kernel.py").symlink_to("user@host.1")
    except OSError:
        pytest.skip("no symbolic links")
    assert digests(folder, tmp_path / "index.json") == before
    assert digests(folder, tmp_path / "index.json") == before


def test_index_is_of_one_folder_and_one_reader(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An edit of `read` may find other imports in sources that have not changed."""
    names = {
        sources.index_name(each, reader)
        for each in (folder, folder / "low")
        for reader in (b"1", b"2")
    }
    assert len(names) == 4
    used: list[Path | None] = []
    monkeypatch.setattr(sources, "Package", lambda folder, index: used.append(index))
    sources.this_package.__wrapped__()
    home = Path(sources.__file__).parents[1]
    reader = b"".join(Path(module.__file__).read_bytes() for module in (sources, imports))
    assert [index and index.name for index in used] == [sources.index_name(home, reader)]


@pytest.mark.parametrize(
    "damage",
    ["", "[", "[]\n[]", '{"p.top": 1}\n{"p.top": 1}', '["x", [], 1]\n{"p.top": [[1, 2], "x"]}'],
)
def test_damaged_index_is_written_again(
    damage: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "_TIMESTAMP_RESOLUTION", -1.0)
    index = tmp_path / "index.json"
    first = Package(folder, index).digest("p.top")
    whole = index.read_text()
    index.write_text(damage)
    assert Package(folder, index).digest("p.top") == first
    assert index.read_text() == whole


def test_index_that_cannot_be_written(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    first = Package(folder, tmp_path / "file" / "index.json").digest("p.top")
    assert Package(folder).digest("p.top") == first


def test_imported_objects_are_reached() -> None:
    """Every function and class that a module of hfp8sim holds comes from a module that it reaches."""
    package = this_package()
    for name in package.modules:
        if name.endswith("__main__") or name == "hfp8sim":
            continue
        try:
            module = importlib.import_module(name)
        except (ImportError, InputError):  # an optional package is not installed
            continue
        assert module.__file__ is not None
        guarded = {
            alias.asname or alias.name
            for node in ast.walk(ast.parse(Path(module.__file__).read_text("utf-8")))
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            for inner in ast.walk(node)
            if isinstance(inner, ast.ImportFrom)
            for alias in inner.names
        }
        reached = package.reachable(name)
        for attribute, value in vars(module).items():
            home = getattr(value, "__module__", None)
            if attribute not in guarded and isinstance(home, str) and home in sys.modules:
                assert not home.startswith("hfp8sim.") or home in reached, (name, attribute, home)
