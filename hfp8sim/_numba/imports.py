"""Which modules of a package a module can reach: imports, read from the syntax trees of its sources.

Imports count at module level, in functions and in classes, but not under `if TYPE_CHECKING:`. A name that a
package's `__init__.py` imports from one of its modules leads to that module alone. A module that imports by a
computed name (`importlib.import_module(variable)`), or the package itself (`import hfp8sim`), is taken to reach
the whole package.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

#: Stands for "any module of the package" in the imports of a source.
EVERYTHING = "*"
#: Functions that import a module.
_IMPORTING = ("import_module", "__import__")


class Source(NamedTuple):
    """What is read of one source file."""

    digest: str  #: of the contents
    imports: list[tuple[str, str]]  #: (module, name); an empty name: the module itself
    reexports: dict[
        str, tuple[str, str]
    ]  #: of an `__init__.py`: names bound by an import at module level
    defined: list[str]  #: of an `__init__.py`: names bound at module level in another way


class ImportGraph:
    """The imports of a package's modules.

    Args:
        package: its name.
        files: of its Python and extension modules, each with the name of the module.
        known: what was read of sources before, by module. It is used for each source whose contents are the same.
        contents: reads a file.
    """

    def __init__(
        self, package: str, files: Iterable[tuple[str, Path]], known: Mapping[str, Source],
        contents: Callable[[Path], bytes],
    ) -> None:  # fmt: skip
        self._package = package
        self._paths: dict[str, Path] = {}
        self._extensions: dict[str, list[Path]] = {}
        for module, path in files:
            if path.suffix == ".py":
                self._paths[module] = path
            else:
                self._extensions.setdefault(module, []).append(path)
        self._known, self._contents = known, contents
        self._sources: dict[str, Source] = {}
        self._edges: dict[str, tuple[set[str], set[str]]] = {}  #: by module, see `_find_edges`

    @property
    def sources(self) -> dict[str, Source]:
        """What is known of sources, by module, read now or before. A source is read when it is needed."""
        return {**self._known, **self._sources}

    def _source(self, module: str) -> Source:
        """What is read of one source."""
        if module not in self._sources:
            path = self._paths[module]
            contents, source = self._contents(path), self._known.get(module)
            if source is None or source.digest != hashlib.sha256(contents).hexdigest():
                source = read(contents, module, path.name == "__init__.py", self._package)
            self._sources[module] = source
        return self._sources[module]

    def reachable(self, module: str) -> frozenset[str]:
        """The modules whose sources can reach `module`: itself, and what it imports, directly or not.

        For a package other than the top one: what any of its modules can reach. An extension module that is
        imported is in the set, too.
        """
        return frozenset(self._follow(self._members(module)))

    def digest(self, module: str) -> str:
        """A digest of the contents of all sources that `module` can reach."""
        names = sorted(self.reachable(module))
        text = "".join(f"{name}:{self._digest(name)};" for name in names)
        return hashlib.sha256(text.encode()).hexdigest()

    def _members(self, module: str) -> list[str]:
        inside = [name for name in self._paths if name.startswith(f"{module}.")]
        return [module] if module == self._package or not inside else [module, *inside]

    def _digest(self, module: str) -> str:
        """A digest of the module's own contents."""
        if module in self._paths:
            return self._source(module).digest
        contents = [self._contents(path) for path in self._extensions.get(module, ())]
        return hashlib.sha256(b"".join(contents)).hexdigest()

    def _follow(self, modules: Iterable[str]) -> set[str]:
        followed: set[str] = set()
        passed: set[str] = set()
        waiting = list(modules)
        while waiting:
            module = waiting.pop()
            if module in followed:
                continue
            followed.add(module)
            if module in self._paths:
                if module not in self._edges:
                    self._edges[module] = self._find_edges(module)
                targets, through = self._edges[module]
                waiting += targets
                passed |= through
        return followed | passed

    def _find_edges(self, module: str) -> tuple[set[str], set[str]]:
        """The modules that a module's imports lead to, and the `__init__.py` that only pass names on.

        The contents of the latter count, their other imports do not.
        """
        through: set[str] = set()
        targets: set[str] = set()
        for imported, name in self._source(module).imports:
            targets.update(self._targets(imported, name, through))
        return targets, through

    def _targets(self, module: str, name: str, through: set[str]) -> Iterator[str]:
        """The modules that an import of `name` from `module` leads to; what passes it on is added to `through`."""
        if module == EVERYTHING or (module == self._package and not name):
            yield from self._paths
            return
        if not name or module not in self._paths or self._paths[module].name != "__init__.py":
            yield module
            return
        source = self._source(module)
        if name in source.defined:
            if module == self._package:
                through.add(module)
            else:
                yield module
        elif source.reexports.get(name, (module, name)) != (module, name):
            through.add(module)
            yield from self._targets(*source.reexports[name], through)
        elif f"{module}.{name}" in self._paths or f"{module}.{name}" in self._extensions:
            yield f"{module}.{name}"
        else:
            yield from self._paths


def read(contents: bytes, module: str, is_package: bool, package: str) -> Source:
    """Parse one source of the package named `package`.

    A file that is not Python, such as one that is being edited, is taken to reach everything.
    """
    digest = hashlib.sha256(contents).hexdigest()
    try:
        tree = ast.parse(contents)
    except (SyntaxError, ValueError):  # ValueError: a null byte
        return Source(digest, [(EVERYTHING, "")], {}, [])
    imports: list[tuple[str, str]] = []
    has_calls = any(name.encode() in contents for name in _IMPORTING)
    for node in _run_time_nodes(tree, has_calls):
        imports += _imported(node, module, is_package, package)
    reexports, defined = {}, []
    for node in tree.body if is_package else ():  # no other module's are asked for
        if isinstance(node, ast.ImportFrom | ast.Import):
            for target, name, bound in _bindings(node, module, is_package, package):
                reexports[bound] = target, name
        else:
            defined += _names_bound(node)
    return Source(digest, sorted(set(imports)), reexports, sorted(set(defined)))


def _run_time_nodes(tree: ast.AST, expressions: bool) -> Iterator[ast.AST]:
    """All statements but those under `if TYPE_CHECKING:`, with or without the nodes of their expressions.

    Most nodes are in expressions, and most sources have no call there that imports.
    """
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.expr) and not expressions:
            continue
        if isinstance(child, ast.If) and _is_for_type_checkers(child.test):
            for statement in child.orelse:
                yield statement
                yield from _run_time_nodes(statement, expressions)
            continue
        yield child
        yield from _run_time_nodes(child, expressions)


def _is_for_type_checkers(test: ast.expr) -> bool:
    """Whether a condition is `TYPE_CHECKING` or has it in it."""
    names = (getattr(node, "id", getattr(node, "attr", "")) for node in ast.walk(test))
    return "TYPE_CHECKING" in names


def _imported(
    node: ast.AST, module: str, is_package: bool, package: str
) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        for target, name, _ in _bindings(node, module, is_package, package):
            yield target, name
    elif isinstance(node, ast.Call):
        called = (
            node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        )
        if called in _IMPORTING:
            first = node.args[0] if node.args else None
            if not isinstance(first, ast.Constant) or not isinstance(first.value, str):
                yield EVERYTHING, ""
            elif _inside(first.value, package):
                yield first.value, ""


def _bindings(
    node: ast.Import | ast.ImportFrom, module: str, is_package: bool, package: str
) -> Iterator[tuple[str, str, str]]:
    """(module, name, the name it is bound to) for what an import statement takes from the package."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            if _inside(alias.name, package):
                yield alias.name, "", alias.asname or alias.name.split(".")[0]
        return
    source = node.module or ""
    if node.level:
        parts = module.split(".")
        base = parts[: len(parts) - node.level + is_package]
        source = ".".join([*base, *([source] if source else [])])
    if _inside(source, package):
        for alias in node.names:
            name = "" if alias.name == "*" else alias.name
            yield source, name, alias.asname or alias.name


def _inside(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def _names_bound(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    names = [
        n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    ]
    return names
