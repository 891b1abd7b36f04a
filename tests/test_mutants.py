"""Every planted bug fits the sources, and every test of the arithmetic has found one (`make mutants` plants them)."""

from __future__ import annotations

import ast
import dataclasses
import re
from pathlib import Path

import pytest

from tests.mutants.bugs import (
    FOLDER,
    ROOT,
    Bug,
    PlaceError,
    dump,
    load,
    load_file,
    place,
    plant,
    renamed,
)

#: Rooms in which every test must be named by a planted bug …
ROOMS = ("formats", "units", "kernels", "ops", "verify", "testing", "c_ref")
#: … except tests that compare pages and lists with the code, or that plant their own bugs.
BOOKKEEPING = (
    "test_bad_source_fails", "test_every_field_has_a_meaning", "test_every_gemm_law_has_a_bug",
    "test_every_law_has_a_bug", "test_golden_tables_cover_registry", "test_the_page_is_current",
    "test_page_lists_laws", "test_readme_lists_functions",
    "test_statistics_are_at_most_as_many_as_declared",
)  # fmt: skip
BUGS = load()
EXAMPLE = Bug("a", "a/b.py", "C.f", "x = n", "x = 2", ("tests/a/test_b.py::test_f[1]",))


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.what)
def test_place_exists_once(bug: Bug) -> None:
    place(ROOT, bug)
    assert bug.new != bug.old


def test_descriptions_are_unique() -> None:
    assert len({bug.what for bug in BUGS}) == len(BUGS)


def test_each_bug_is_in_the_file_of_its_room() -> None:
    for path in FOLDER.glob("*.toml"):
        assert {bug.room for bug in load_file(path)} == {path.stem}


def test_every_arithmetic_test_has_found_a_bug() -> None:
    named = {test.split("[")[0] for bug in BUGS for test in bug.tests}
    written = {
        f"{path.relative_to(ROOT).as_posix()}::{name}"
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:def )?(test_\w+)(?:\(| = )", path.read_text("utf-8"), re.M)
    }
    proved = {
        test
        for test in written
        if test.split("/")[1] in ROOMS and test.split("::")[1] not in BOOKKEEPING
    }
    assert proved <= named, sorted(proved - named)
    assert named <= written, sorted(named - written)


def test_bugs_of_compiled_code_are_planted_in_compiled_code() -> None:
    """A test that is skipped without the compiler finds nothing in an uncompiled copy."""
    need_compiler = {
        f"{path.relative_to(ROOT).as_posix()}::{function}"
        for path in (ROOT / "tests").rglob("test_*.py")
        for function in functions_skipped_without_compiler(path.read_text("utf-8"))
    }
    assert need_compiler
    uncompiled = {test.split("[")[0] for bug in BUGS if not bug.compiled for test in bug.tests}
    assert not need_compiler & uncompiled


def functions_skipped_without_compiler(source: str) -> list[str]:
    """The test functions with `@needs_compiler`, or with a `skipif` of Numba's DISABLE_JIT."""
    return [
        node.name
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef)
        and any(
            re.search("needs_compiler|DISABLE_JIT", ast.unparse(decorator))
            for decorator in node.decorator_list
        )
    ]


def test_place_is_sought_in_the_named_function(tmp_path: Path) -> None:
    source = "def f():\n    x = n\n\n\nclass C:\n    @property\n    def f(self):\n        x = n\n"
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b.py").write_text(source)
    plant(tmp_path, EXAMPLE)
    assert (tmp_path / "a/b.py").read_text() == source[:-2] + "2\n"
    (tmp_path / "a/b.py").write_text(source)
    with pytest.raises(PlaceError, match=r"'x = n' is 2 times in a/b.py, the whole file, not once"):
        place(tmp_path, dataclasses.replace(EXAMPLE, function=""))
    with pytest.raises(PlaceError, match="has no function g"):
        place(tmp_path, dataclasses.replace(EXAMPLE, function="g"))


def test_place_is_sought_in_the_named_c_function(tmp_path: Path) -> None:
    source = "static int f(int n)\n{\n    return n;\n}\n\nint g(\n    int n) {\n    return n;\n}\n"
    (tmp_path / "a.c").write_text(source)
    plant(tmp_path, Bug("a", "a.c", "g", "return n", "return 2", ("t.py::t",)))
    assert (tmp_path / "a.c").read_text() == source[:-5] + "2;\n}\n"


def test_toml_keeps_any_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["a", "\na\n", "'", '"', "'\"", "a'''\nb", "\\n", "\t'\"\\", "− ∞"]
    bugs = [dataclasses.replace(EXAMPLE, file="tests/b/c.py", old=x, new=x + "x") for x in texts]
    bugs[1] = dataclasses.replace(bugs[1], tests=("t.py::a", "t.py::b"), compiled=True)
    monkeypatch.setattr("tests.mutants.bugs.FOLDER", tmp_path)
    dump(bugs)
    assert load_file(tmp_path / "b.toml") == bugs
    (tmp_path / "b.toml").write_text("# my own\n" + (tmp_path / "b.toml").read_text())
    dump(load_file(tmp_path / "b.toml"))
    assert (tmp_path / "b.toml").read_text().startswith("# my own\n")
    dump([])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("a/b.py", "c/d.py", {"file": "c/d.py"}),
        ("a", "a/..", None),
        ("tests/a/", "tests/c/", {}),
        ("tests/a", "tests/c", {"tests": ("tests/c/test_b.py::test_f[1]",)}),
        ("a/b.py::C.f", "a/c.py::g", {"file": "a/c.py", "function": "g"}),
        ("a/b.py::C.f", "a/c.py::C.f", {"file": "a/c.py"}),
        ("a/b.py::C", "a/b.py::D", {"function": "D.f"}),
        ("tests/a/test_b.py::test_f", "tests/a/test_c.py::test_g", {"tests": ("tests/a/test_c.py::test_g[1]",)}),
        ("n", "count", {"old": "x = count"}),
        ("f", "g", {"function": "C.g"}),
        ("test_f", "test_g", {"tests": ("tests/a/test_b.py::test_g[1]",)}),
    ],
)  # fmt: skip
def test_rename(old: str, new: str, expected: dict[str, object] | None) -> None:
    if expected is None:
        with pytest.raises(ValueError, match="two paths, two path::name, or two identifiers"):
            renamed([EXAMPLE], old, new)
        return
    assert renamed([EXAMPLE], old, new) == [dataclasses.replace(EXAMPLE, **expected)]  # type: ignore[arg-type]
    assert renamed([EXAMPLE], old, new, "elsewhere.py") == [EXAMPLE]
