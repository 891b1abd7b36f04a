"""The order of rooms, and which room may import what: every import of the package is checked.

An import counts wherever it is written: at module level, in a function, or under `if TYPE_CHECKING:`. All three
tie one module to another for a reader, so all three obey the same order.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "hfp8sim"

#: Rooms from low to high. A room imports itself and rooms that come before it, and no other.
#: `hfp8sim` is the public face, `hfp8sim/__init__.py`; the command line is its first user.
ROOMS = (
    "version", "errors", "arrays", "files", "collector", "floating_point", "registry",
    "_numba",
    "formats",
    "network",
    "units",
    "kernels",
    "ops",
    "interop",
    "recipes",
    "isa",
    "machine",
    "lowering",
    "timing",
    "systems",
    "workloads",
    "analysis",
    "report",
    "simulation",
    "training",
    "sweeps",
    "testing",
    "verify",
    "hfp8sim",
    "cli", "__main__",
)  # fmt: skip

#: Who may import a package that is not Python's own: rooms, or single modules.
THIRD_PARTY = {
    "numpy": set(ROOMS),
    "numba": {"_numba", "kernels"},
    "llvmlite": {"_numba"},
    "torch": {
        "ops.operand",
        "training",
        "sweeps.compute",
        "workloads.readers.torch_capture",
        "workloads.readers.torch_handlers",
    },
    "ml_dtypes": {"formats.dtypes"},
    "onnx": {"interop.onnx_weights", "workloads.readers.onnx_model"},
    "onnxruntime": {"workloads.readers.onnx_evaluate"},
    "sklearn": {"training.data"},
    "jinja2": {"report"},
    "joblib": {"sweeps.pools"},
    "distributed": {"cli.sweep"},
    "threadpoolctl": {"sweeps.compute"},
    "pandas": {"sweeps.record"},
    "polars": {"sweeps.record"},
    "pyarrow": {"sweeps.record"},
    "rich": {
        "cli",
        "report.names",
        "report.overview",
        "report.step",
        "report.table",
        "report.comparison_table",
        "report.theory",
        "sweeps.table",
    },
    "typer": {"cli"},
    "hypothesis": {"testing"},
    "pytest": {"testing"},
}


class Import(NamedTuple):
    """One imported name; modules without the leading `hfp8sim.`."""

    importer: str
    target: str  #: the module, or the third-party package
    name: str  #: what is imported from it; "" for the module itself
    own: bool  #: from hfp8sim

    def __str__(self) -> str:
        return f"{self.importer} -> {self.target}"


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by its name without the leading `hfp8sim.`."""
    result = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        result[name or "hfp8sim"] = path
    return result


def room(module: str) -> str:
    return module.split(".")[0]


def imported(module: str, node: ast.AST) -> Iterator[Import]:
    """What one statement imports."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            first, _, rest = alias.name.partition(".")
            own = first == "hfp8sim"
            yield Import(module, (rest or first) if own else first, "", own)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"{module}: a relative import, line {node.lineno}"
        first, _, rest = (node.module or "").partition(".")
        for alias in node.names:
            if first != "hfp8sim":
                yield Import(module, first, alias.name, False)
                continue
            inner = f"{rest}.{alias.name}" if rest else alias.name
            if inner in modules():
                yield Import(module, inner, "", True)
            elif not rest and alias.name == "_c_ref":
                yield Import(module, "_c_ref", "", False)
            else:
                yield Import(module, rest or "hfp8sim", alias.name, True)


@cache
def imports() -> tuple[Import, ...]:
    """Every import of every module, each once."""
    result: dict[Import, None] = {}
    for module, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            result.update(dict.fromkeys(imported(module, node)))
    return tuple(result)


def circles(graph: dict[str, set[str]]) -> set[frozenset[str]]:
    """Sets of nodes that reach each other."""

    def reached(start: str) -> set[str]:
        result: set[str] = set()
        waiting = list(graph[start])
        while waiting:
            node = waiting.pop()
            if node not in result:
                result.add(node)
                waiting += graph.get(node, ())
        return result

    reach = {node: reached(node) for node in graph}
    return {
        frozenset(other for other in graph if other in reach[node] and node in reach[other])
        for node in graph
        if node in reach[node]
    }


def test_every_room_is_in_the_order() -> None:
    assert {room(module) for module in modules()} == set(ROOMS)


def test_no_room_imports_one_above_it() -> None:
    upward = {
        str(i) for i in imports() if i.own and ROOMS.index(room(i.target)) > ROOMS.index(room(i.importer))
    }  # fmt: skip
    assert upward == set()


def test_no_import_cycle_between_modules() -> None:
    graph: dict[str, set[str]] = {module: set() for module in modules()}
    for i in imports():
        if i.own:
            graph[i.importer].add(i.target)
    graph["hfp8sim"] = set()  # the face imports a room when one of its names is used
    assert circles(graph) == set()


def test_third_party_packages_stay_in_their_rooms() -> None:
    foreign = {
        i for i in imports() if not i.own and i.target not in sys.stdlib_module_names | {"_c_ref"}
    }
    assert {i.target for i in foreign} <= set(THIRD_PARTY)
    outside = {
        str(i) for i in foreign if not {room(i.importer), i.importer} & THIRD_PARTY[i.target]
    }
    assert outside == set()


def test_one_module_imports_the_c_reference() -> None:
    assert {i.importer for i in imports() if i.target == "_c_ref"} == {"verify.c_reference"}


def test_private_names_stay_in_their_module() -> None:
    private = {
        f"{i.importer} -> {i.target}.{i.name}"
        for i in imports()
        if i.own and i.name.startswith("_") and i.name != "__version__"
    }
    assert private == set()


def test_modules_are_imported_by_name() -> None:
    """Only the face imports by a computed name; these tests could not see such an import elsewhere."""
    computed = set()
    for module, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
                ("import_module", "__import__")
            ):
                name = (
                    ast.literal_eval(node.args[0])
                    if isinstance(node.args[0], ast.Constant)
                    else "hfp8sim"
                )
                if name.startswith("hfp8sim"):
                    computed.add(module)
    assert computed == {"hfp8sim"}


def test_contributing_lists_the_rooms_in_order() -> None:
    """CONTRIBUTING's table has one line for each room, in the same order."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    table = re.findall(r"^\| (`.*?) \|", text, re.M)
    names = [name.strip("`/") for row in table for name in re.findall(r"`[^`]+`", row)]
    listed = [name.removeprefix("hfp8sim/") for name in names if name.startswith("hfp8sim/")]
    listed = [name.removesuffix(".py").replace("__init__", "hfp8sim") for name in listed]
    assert tuple(listed) == ROOMS


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": set()}, set()),
        ({"a": {"b"}, "b": {"c"}, "c": {"b"}}, {frozenset("bc")}),
        ({"a": {"a"}}, {frozenset("a")}),
    ],
)
def test_import_cycles_are_found(graph: dict[str, set[str]], expected: set[frozenset[str]]) -> None:
    assert circles(graph) == expected


@pytest.mark.parametrize(
    "text",
    ["import hfp8sim.cli", "def f():\n    from hfp8sim.cli import x", "if TYPE_CHECKING:\n    from hfp8sim import cli"],
)  # fmt: skip
def test_imports_are_found_in_any_scope(text: str) -> None:
    result = [i for node in ast.walk(ast.parse(text)) for i in imported("units.mac", node)]
    assert [i.target for i in result if i.own] == ["cli"]
