"""Which sources a module can reach, found from its imports, and a digest of their contents.

Compiled code and the results of `hfp8sim verify` are kept between runs. Each is kept under the digest of the
sources that it was made from, so that an edit of one of them makes it stale and an edit elsewhere does not.

Imports are read from the syntax tree: at module level, in functions and in classes, but not under
`if TYPE_CHECKING:`. A name that a package's `__init__.py` imports from one of its modules leads to that module
alone. A module that imports by a computed name (`importlib.import_module(variable)`), or the package itself
(`import hfp8sim`), is taken to reach the whole package.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from hfp8sim.files import cache_folder

#: Stands for "any module of the package" in the imports of a source.
EVERYTHING = "*"
#: Seconds after an edit in which a file may be edited again without a change of its time stamp.
_TIMESTAMP_RESOLUTION = 2.0


class Source(NamedTuple):
    """What is known of one source file; `stamp` tells whether it is still so."""

    stamp: tuple[int, int]  #: modification time in ns, size in bytes
    digest: str  #: of the contents
    imports: list[tuple[str, str]]  #: (module, name); an empty name: the module itself
    reexports: dict[str, tuple[str, str]]  #: names bound by an import at module level
    defined: list[str]  #: names bound at module level in another way


class Package:
    """The sources of one package.

    Args:
        folder: the package's folder; its name is the package's name.
        index: a file to keep what was read in, so that a later process need not parse again; None for no file.
            An index that cannot be read or written is ignored.
    """

    def __init__(self, folder: Path, index: Path | None = None) -> None:
        self.name = folder.name
        self._folder = folder
        # An editor's lock is a link to nowhere.
        files = (path for path in folder.rglob("*.py") if path.exists())
        self._paths = {self._module(path): path for path in files}
        self._sources = self._read(index)
        self._reached: dict[str, frozenset[str]] = {}
        self._digests: dict[str, str] = {}

    def _module(self, path: Path) -> str:
        parts = path.relative_to(self._folder.parent).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def _read(self, index: Path | None) -> dict[str, Source]:
        known = _load(index)
        sources = {}
        for module, path in self._paths.items():
            status = path.stat()
            stamp = status.st_mtime_ns, status.st_size
            source = known.get(module)
            if source is None or source.stamp != stamp:
                is_package = path.name == "__init__.py"
                source = read(path.read_bytes(), module, is_package, self.name)._replace(
                    stamp=stamp
                )
            sources[module] = source
        if index is not None and sources != known:
            _save(index, sources)
        return sources

    def reachable(self, module: str) -> frozenset[str]:
        """The modules whose sources can reach `module`: itself, and what it imports, directly or not.

        For a package other than the top one: what any of its modules can reach. An extension module that is
        imported is in the set, too.
        """
        found = self._reached.get(module)
        if found is None:
            found = self._reached[module] = frozenset(self._follow(self._members(module)))
        return found

    def digest(self, module: str) -> str:
        """A digest of the contents of all sources that `module` can reach."""
        found = self._digests.get(module)
        if found is None:
            names = sorted(self.reachable(module))
            text = "".join(f"{name}:{self._digest(name)};" for name in names)
            found = self._digests[module] = hashlib.sha256(text.encode()).hexdigest()
        return found

    def _members(self, module: str) -> list[str]:
        inside = [name for name in self._paths if name.startswith(f"{module}.")]
        return [module] if module == self.name or not inside else [module, *inside]

    def _digest(self, module: str) -> str:
        source = self._sources.get(module)
        if source is not None:
            return source.digest
        contents = [path.read_bytes() for path in self._extensions(module)]
        return hashlib.sha256(b"".join(contents)).hexdigest()

    def _extensions(self, module: str) -> list[Path]:
        folder = self._folder.parent.joinpath(*module.split("."))
        return sorted(
            p for p in folder.parent.glob(f"{folder.name}.*") if p.suffix in (".so", ".pyd")
        )

    def _follow(self, modules: Iterable[str]) -> set[str]:
        reached: set[str] = set()
        waiting = list(modules)
        while waiting:
            module = waiting.pop()
            if module in reached:
                continue
            reached.add(module)
            if module in self._sources:
                for imported, name in self._sources[module].imports:
                    waiting += self._targets(imported, name, reached)
        return reached

    def _targets(self, module: str, name: str, reached: set[str]) -> Iterator[str]:
        """The modules that an import of `name` from `module` leads to.

        A package's `__init__.py` that only passes the name on is added to `reached` itself: its contents
        count, its other imports do not.
        """
        if module == EVERYTHING or (module == self.name and not name):
            yield from self._paths
            return
        if not name or module not in self._sources or self._paths[module].name != "__init__.py":
            yield module
            return
        source = self._sources[module]
        if name in source.defined:
            if module == self.name:
                reached.add(module)
            else:
                yield module
        elif source.reexports.get(name, (module, name)) != (module, name):
            reached.add(module)
            yield from self._targets(*source.reexports[name], reached)
        elif f"{module}.{name}" in self._sources or self._extensions(f"{module}.{name}"):
            yield f"{module}.{name}"
        else:
            yield from self._paths


def read(contents: bytes, module: str, is_package: bool, package: str) -> Source:
    """Parse one source of the package named `package`.

    One that is no Python, half edited say, is taken to reach everything.
    """
    digest = hashlib.sha256(contents).hexdigest()
    try:
        tree = ast.parse(contents)
    except (SyntaxError, ValueError):  # ValueError: a null byte
        return Source((0, 0), digest, [(EVERYTHING, "")], {}, [])
    imports: list[tuple[str, str]] = []
    for node in _run_time_nodes(tree):
        imports += _imported(node, module, is_package, package)
    reexports, defined = {}, []
    for node in tree.body:
        if isinstance(node, ast.ImportFrom | ast.Import):
            for target, name, bound in _bindings(node, module, is_package, package):
                reexports[bound] = target, name
        else:
            defined += _names_bound(node)
    return Source((0, 0), digest, sorted(set(imports)), reexports, sorted(set(defined)))


def _run_time_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under `if TYPE_CHECKING:`."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for statement in child.orelse:
                yield statement
                yield from _run_time_nodes(statement)
            continue
        yield child
        yield from _run_time_nodes(child)


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
        if called in ("import_module", "__import__"):
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


def _load(index: Path | None) -> dict[str, Source]:
    if index is None:
        return {}
    try:
        rows = json.loads(index.read_bytes())
        return {
            module: Source(
                (stamp[0], stamp[1]),
                digest,
                [(target, name) for target, name in imports],
                {bound: (target, name) for bound, (target, name) in reexports.items()},
                defined,
            )
            for module, (stamp, digest, imports, reexports, defined) in rows.items()
        }
    except (OSError, ValueError, TypeError, AttributeError, IndexError):
        return {}


def _save(index: Path, sources: dict[str, Source]) -> None:
    newest = time.time_ns() - int(_TIMESTAMP_RESOLUTION * 1e9)
    rows = {
        module: source if source.stamp[0] < newest else source._replace(stamp=(0, 0))
        for module, source in sources.items()
    }
    temporary = index.with_name(f"{index.name}.{os.getpid()}")
    try:
        index.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(rows), encoding="utf-8")
        temporary.replace(index)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def index_name(folder: Path, reader: bytes) -> str:
    """The name of the index of a package's folder. What another `reader`, the source of this module, has read
    is not used: it may have found other imports."""
    digest = hashlib.sha256(str(folder).encode() + b"\0" + reader)
    return f"sources-{digest.hexdigest()[:16]}.json"


@functools.cache
def this_package() -> Package:
    """The sources of hfp8sim itself. What was read of them is kept in the cache folder."""
    folder = Path(__file__).parents[1]
    try:
        index: Path | None = cache_folder() / index_name(folder, Path(__file__).read_bytes())
    except RuntimeError:  # no home folder
        index = None
    return Package(folder, index)
