"""The public names `hs.*`: declared for the interpreter and for type checkers, and loaded on first use."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import hfp8sim as hs

ROOT = Path(__file__).parents[1]
DECLARED = {name: module for module, names in hs._HOMES.items() for name in names}


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse((ROOT / "hfp8sim/__init__.py").read_text("utf-8"))
    (block,) = (
        n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"
    )
    declared_for_type_checkers = {
        alias.asname: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert declared_for_type_checkers == DECLARED


@pytest.mark.parametrize("name", DECLARED)
def test_name_equals_module_attribute(name: str) -> None:
    assert getattr(hs, name) is vars(sys.modules[DECLARED[name]])[name]
    assert name in dir(hs)
    assert name in hs.__all__


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="module 'hfp8sim' has no attribute 'nothing'"):
        hs.nothing  # noqa: B018


def test_import_loads_nothing_else() -> None:
    script = (
        "import sys, hfp8sim; print(*(m for m in sys.modules if m.startswith(('hfp8sim', 'num'))))"
    )
    out = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    assert set(out.split()) <= {"hfp8sim", "hfp8sim.version", "hfp8sim.collector", "numbers"}


def test_version_is_declared_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert "version" not in project["project"]
    attribute = project["tool"]["setuptools"]["dynamic"]["version"]["attr"]
    assert attribute == "hfp8sim.version.__version__"
    assert hs.__version__.count(".") == 2
