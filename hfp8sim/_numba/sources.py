"""Digests of the sources that each module can reach, and the index that keeps them between processes.

Compiled code and the results of `hfp8sim verify` are kept between runs. Each is kept under the digest of the
sources that it was made from, so that an edit of one of them makes it stale and an edit elsewhere does not.
`imports.py` finds which sources a module can reach.

Most processes need digests when they start. The index holds those that were needed before, and stamps of all files.
While the stamps are the same, no source is read for them.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hfp8sim.collector import collector_off
from hfp8sim.files import cache_folder, write_cached

if TYPE_CHECKING:
    from hfp8sim._numba.imports import ImportGraph, Source

_SUFFIXES = (".py", ".so", ".pyd")
#: Seconds after an edit in which a file may be edited again without a change of its stamp.
_TIMESTAMP_RESOLUTION = 2.0


class Stamp(NamedTuple):
    """What the file system says of a file. An edit changes it."""

    modified: int  #: time of the last write, ns; programs may set it back
    changed: int  #: time of the last write or change of an attribute, ns; programs cannot set it
    size: int  #: bytes
    inode: int  #: number of the file; a file that replaces it has another one


class Reaches(NamedTuple):
    """What modules of a package can reach."""

    names: list[str]  #: of modules; bit i of a set of modules is the i-th name
    rows: dict[
        str, tuple[str, str]
    ]  #: by module: digest of what it can reach, and that set, in hexadecimal

    def add(self, module: str, digest: str, reachable: frozenset[str]) -> None:
        """Add a module."""
        self.names.extend(sorted(reachable.difference(self.names)))
        bits = sum(1 << i for i, name in enumerate(self.names) if name in reachable)
        self.rows[module] = digest, f"{bits:x}"


class Package:
    """The sources of one package.

    Args:
        folder: the package's folder; its name is the package's name.
        index: a file to keep what was found in, so that a later process need not read the sources; None for no
            file. An index that cannot be read or written is ignored.
    """

    def __init__(self, folder: Path, index: Path | None = None) -> None:
        self.name = folder.name
        self._folder, self._index = folder, index
        self._begin, self._edited = time.time_ns(), False
        self._stamps = dict(_stamps(str(folder)))
        self._reaches = _load_reaches(index, self._stamps) or Reaches([], {})
        #: Names of the modules whose sources are in the package.
        self.modules = frozenset(
            _module_name(path, str(folder)) for path in self._stamps if path.endswith(".py")
        )

    def reachable(self, module: str) -> frozenset[str]:
        """The modules whose sources `module` can reach: itself, and what it imports, directly or not.

        For a package other than the top one: what any of its modules can reach. An extension module that is
        imported is in the set, too.
        """
        bits = int(self._row(module)[1], 16)
        return frozenset(name for i, name in enumerate(self._reaches.names) if bits >> i & 1)

    def digest(self, module: str) -> str:
        """A digest of the contents of all sources that `module` can reach."""
        return self._row(module)[0]

    def _row(self, module: str) -> tuple[str, str]:
        """The row of a module in `Reaches`."""
        if module not in self._reaches.rows:
            self._find_reaches(module)
        return self._reaches.rows[module]

    def _find_reaches(self, module: str) -> None:
        """Find in the sources what a module can reach, and write the index."""
        with collector_off():
            graph = self._graph
            digest, reachable = graph.digest(module), graph.reachable(module)
        if (
            self._edited
        ):  # this process may have loaded a source that is not the one that was read now
            digest = f"edited {uuid.uuid4()}"
        self._reaches.add(module, digest, reachable)
        if self._index is not None and not self._edited:
            settled = self._begin - int(_TIMESTAMP_RESOLUTION * 1e9)
            _save(self._index, self._stamps, settled, self._reaches, graph.sources)

    def _contents(self, path: Path) -> bytes:
        """The contents of a source. A change since the process began is noted."""
        contents = path.read_bytes()
        self._edited |= _stamp(path.stat()) != self._stamps[str(path)]
        return contents

    @functools.cached_property
    def _graph(self) -> ImportGraph:
        from hfp8sim._numba.imports import ImportGraph

        folder = str(self._folder)
        files = [(_module_name(path, folder), Path(path)) for path in sorted(self._stamps)]
        return ImportGraph(self.name, files, _load_sources(self._index), self._contents)


def _module_name(path: str, folder: str) -> str:
    """The name of the module in a file of a package's folder."""
    *parts, file = path[len(os.path.dirname(folder)) :].strip(os.sep).split(os.sep)
    name = file.removesuffix(".py") if file.endswith(".py") else file.split(".")[0]
    return ".".join(parts if name == "__init__" else [*parts, name])


def _stamps(folder: str) -> Iterator[tuple[str, Stamp]]:
    """Paths of all sources and extension modules below a folder, with their stamps."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                if entry.name == "__pycache__":
                    continue
                yield from _stamps(entry.path)
            elif entry.name.endswith(_SUFFIXES):
                with contextlib.suppress(FileNotFoundError):  # a link to nowhere: an editor's lock
                    yield entry.path, _stamp(entry.stat())


def _stamp(status: os.stat_result) -> Stamp:
    return Stamp(status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)


def _state(stamps: dict[str, Stamp]) -> str:
    """A digest of all stamps."""
    return hashlib.sha256(repr(sorted(stamps.items())).encode()).hexdigest()


# The index has two lines of JSON. The first holds the state of the stamps and the Reaches under it. The second
# holds what was read of sources, so that an edit costs the parsing of one source.


def _load_reaches(index: Path | None, stamps: dict[str, Stamp]) -> Reaches | None:
    """What the modules can reach; None if the index does not hold it for these stamps."""
    if index is None:
        return None
    try:
        with index.open("rb") as file:
            state, names, rows = json.loads(file.readline())
        same = state == _state(stamps) and all(int(bits, 16) >= 0 for _, bits in rows.values())
        return Reaches(names, rows) if same else None
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def _load_sources(index: Path | None) -> dict[str, Source]:
    """What was read of the sources before."""
    from hfp8sim._numba.imports import Source

    if index is None:
        return {}
    try:
        rows = json.loads(index.read_bytes().splitlines()[1])
        return {
            module: Source(
                digest,
                [(target, name) for target, name in imports],
                {bound: (target, name) for bound, (target, name) in reexports.items()},
                defined,
            )
            for module, (digest, imports, reexports, defined) in rows.items()
        }
    except (OSError, ValueError, TypeError, AttributeError, IndexError):
        return {}


def _save(
    index: Path, stamps: dict[str, Stamp], settled: int, reaches: Reaches, sources: dict[str, Source]
) -> None:  # fmt: skip
    """Write the index. A file that was edited after the time `settled` may be edited again without a new stamp."""
    newest = max(max(stamp.modified, stamp.changed) for stamp in stamps.values())
    state = _state(stamps) if newest < settled else "recently edited"
    lines = json.dumps([state, *reaches]), json.dumps(sources)
    with contextlib.suppress(OSError):  # a folder that cannot be written, or a full disk
        write_cached(index, ("\n".join(lines) + "\n").encode())


def index_name(folder: Path, reader: bytes) -> str:
    """The name of the index of a package's folder. An index that another `reader`, the sources of this module
    and of `imports.py`, has written is not used: it may have found other imports."""
    digest = hashlib.sha256(str(folder).encode() + b"\0" + reader)
    return f"sources-{digest.hexdigest()[:16]}.json"


@functools.cache
def this_package() -> Package:
    """The sources of hfp8sim itself. What was found of them is kept in the cache folder."""
    own = Path(__file__)
    folder = own.parents[1]
    reader = own.read_bytes() + own.with_name("imports.py").read_bytes()
    try:
        index: Path | None = cache_folder() / index_name(folder, reader)
    except RuntimeError:  # no home folder
        index = None
    return Package(folder, index)
