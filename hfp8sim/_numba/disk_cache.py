"""The disk cache of compiled functions: Numba's own, with other keys, other contents and checked files.

- Numba's cache becomes stale when the file of a function is edited, but not when a function that it calls is.
  Here the key of a function is the digest of all sources that its module can reach.
- Numba refreshes its registries of all implementations before it loads machine code, which imports most of
  Numba. Only a compilation needs them, so here loading does without. `saved_code.py` has more of the kind.
- Numba numbers the files of a function's signatures by what it reads in the function's index. Two processes
  that compile different signatures at the same time choose the same number, and one's machine code is found
  under the other's signature. Here each process has file names of its own.
- A file that is truncated or changed fails its checksum, and the function is compiled again.
- Processes that start together compile each function once: the others wait for the one that does.
- If nothing can be kept, as on a full disk, every process compiles for itself, and says so once.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import contextlib
import functools
import hashlib
import pickle
import shutil
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import llvmlite
import numba
import numpy as np
from numba.core import types
from numba.core.caching import (
    CompileResultCacheImpl,
    FunctionCache,
    IndexDataCacheFile,
    NullCache,
    _CacheLocator,
)
from numba.core.dispatcher import Dispatcher

from hfp8sim._numba.saved_code import SavedCode, loaded, saved
from hfp8sim._numba.sources import this_package
from hfp8sim._numba.turns import Turn
from hfp8sim.files import cache_folder, write_cached

#: States of one module whose compiled functions are kept.
_STATES_KEPT = 8
_CHECKSUM_BYTES = 32
_VERSIONS = f"{numba.__version__} {llvmlite.__version__} {np.__version__}"


def root_folder() -> Path | None:
    """The folder of all compiled functions; None where no folder can be written."""
    config: Any = numba.config
    try:
        root = Path(config.CACHE_DIR) if config.CACHE_DIR else cache_folder() / "compiled"
        root.mkdir(parents=True, exist_ok=True)
        write_cached(root / ".writable", b"")
    except (OSError, RuntimeError):  # read-only, full, or no home folder
        return None
    return root


#: The reason why compiled functions are not kept, once it is said.
_REPORTED: list[str] = []


def report_uncached(reason: str) -> None:
    """Say on standard error, once a process, that compiled functions are not kept."""
    if not _REPORTED:
        _REPORTED.append(reason)
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or there is none
            print(
                f"hfp8sim: compiled functions are not kept ({reason}), so that every process compiles them; "
                "HFP8SIM_CACHE_DIR names a folder for them",
                file=sys.stderr,
            )


class _Key(NamedTuple):
    """What the compiled functions of one module are kept under."""

    stamp: (
        str  #: digest of the sources that the module can reach, and of the versions of the compiler
    )
    folder: str  #: below the root folder


@functools.cache
def _key(root: Path, module: str, file: str) -> _Key:
    """The key of the functions of a module, whose source is `file`."""
    package = this_package()
    if module in package.modules:
        digest = package.digest(module)
    else:  # outside the package: its own file, and all of the package
        digest = package.digest(package.name) + hashlib.sha256(Path(file).read_bytes()).hexdigest()
    stamp = hashlib.sha256(f"{_VERSIONS} {digest}".encode()).hexdigest()
    return _Key(stamp, str(root / f"{module}-{stamp[:16]}"))


def kept_functions(root: Path, start: str = "") -> int:
    """Compiled functions of the present sources and versions that `root` holds, of modules whose names begin so."""
    names = (module for module in this_package().modules if module.startswith(start))
    folders = (Path(_key(root, module, "").folder) for module in names)
    return sum(len(list(folder.glob("*.nbi"))) for folder in folders)


@functools.cache
def _sources(module: str) -> frozenset[str]:
    """The modules whose sources the key of a module covers."""
    package = this_package()
    if module in package.modules:
        return package.reachable(module)
    return package.reachable(package.name) | {module}


class _Locator(_CacheLocator):  # type: ignore[misc]
    """Folder and key of a function: its module and the digest of the sources that the module can reach."""

    def __init__(self, root: Path, function: Callable[..., Any]) -> None:
        self._module = function.__module__
        self._key = _key(root, self._module, function.__code__.co_filename)
        self._line = function.__code__.co_firstlineno

    def get_cache_path(self) -> str:
        return self._key.folder

    def get_source_stamp(self) -> str:
        return self._key.stamp

    def get_disambiguator(self) -> str:
        return str(self._line)

    def ensure_cache_path(self) -> None:
        """Make the folder; a new one takes the place of the module's oldest."""
        folder = Path(self._key.folder)
        if folder.is_dir():
            return
        folder.mkdir(parents=True, exist_ok=True)
        states = [p for p in folder.parent.iterdir() if p.name.startswith(f"{self._module}-")]
        for state in sorted(states, key=_modified, reverse=True)[_STATES_KEPT:]:
            shutil.rmtree(state, ignore_errors=True)


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # another process has removed it
        return 0.0


class _Implementation(CompileResultCacheImpl):  # type: ignore[misc]
    def __init__(self, locator: _Locator, function: Callable[..., Any]) -> None:
        self._lineno = function.__code__.co_firstlineno
        self._locator = locator
        name = function.__qualname__
        self._filename_base = self.get_filename_base(name, getattr(sys, "abiflags", ""))

    def reduce(self, cres: Any) -> SavedCode:
        """What is saved of a compiled function."""
        return saved(cres)

    def rebuild(self, target_context: Any, reduced_data: SavedCode) -> Any:
        """The compiled function of what was saved."""
        return loaded(reduced_data, target_context)


class _Files(IndexDataCacheFile):  # type: ignore[misc]
    """The index of a function and the files of its signatures, each with a checksum before its contents."""

    def __init__(self, cache_path: str, filename_base: str, source_stamp: str) -> None:
        super().__init__(cache_path, filename_base, source_stamp)
        self._data_name_pattern = f"{filename_base}.{uuid.uuid4().hex[:16]}.{{number:d}}.nbc"

    def _load_index(self) -> dict[Any, str]:
        try:
            stamp, index = self._read(self._index_path)
        except (OSError, TypeError, ValueError):
            return {}
        return index if stamp == self._source_stamp else {}

    def _save_index(self, overloads: dict[Any, str]) -> None:
        self._write(self._index_path, (self._source_stamp, overloads))

    def _load_data(self, name: str) -> Any:
        return self._read(self._data_path(name))

    def _save_data(self, name: str, data: Any) -> None:
        self._write(self._data_path(name), data)

    def _read(self, path: str) -> Any:
        """Raises OSError for a file that is missing or damaged."""
        contents = Path(path).read_bytes()
        checksum, data = contents[:_CHECKSUM_BYTES], contents[_CHECKSUM_BYTES:]
        if hashlib.sha256(data).digest() != checksum:
            raise OSError(f"{path} is damaged")
        try:
            return pickle.loads(data)
        except Exception as error:  # of any type: the text decides what is called
            raise OSError(f"{path} is damaged") from error

    def _write(self, path: str, value: Any) -> None:
        data = self._dump(value)
        write_cached(path, hashlib.sha256(data).digest() + data)


class DiskCache(FunctionCache):  # type: ignore[misc]
    """The disk cache of one function."""

    def __init__(self, root: Path, function: Callable[..., Any]) -> None:
        self._name = repr(function)
        self._py_func = function
        self._locator = _Locator(root, function)
        self._cache_path = self._locator.get_cache_path()
        self._turns: dict[Any, Turn] = {}  #: this process's, by signature
        self.enable()

    # Of the functions of a module few are loaded or kept: the others need none of these.

    @functools.cached_property
    def _impl(self) -> _Implementation:
        return _Implementation(self._locator, self._py_func)

    @functools.cached_property
    def _cache_file(self) -> _Files:  # type: ignore[override]
        stamp = self._locator.get_source_stamp()
        return _Files(self._cache_path, self._impl.filename_base, stamp)

    def holds(self, sig: Any, target_context: Any) -> bool:
        """Whether there is a file for a signature. It may be damaged."""
        key = self._index_key(sig, target_context.codegen())
        return key in self._cache_file._load_index()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function, or None. Waits for a process that compiles it, and so does the next one."""
        if self._calls_unreached(sig) or not self._enabled:
            return None
        found = self._loaded(sig, target_context)
        if found is not None or sig in self._turns:
            return found
        # The key tells functions apart that one factory has made.
        key = self._index_key(sig, target_context.codegen())
        turn = Turn(f"{self._cache_path}/{self._impl.filename_base}", key)
        if turn.take(self._impl.locator.ensure_cache_path):
            found = self._loaded(sig, target_context)
        if found is None:
            self._turns[sig] = turn
        else:
            turn.end()
        return found

    def _loaded(self, sig: Any, target_context: Any) -> Any:
        """What is kept, or None; that is also the answer for what cannot be loaded."""
        try:
            return self._load_overload(sig, target_context)
        except Exception:  # of any type: LLVM's among them
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled function. A folder that cannot be written is no error."""
        if self._calls_unreached(sig) or not self._enabled:
            return
        try:
            super().save_overload(sig, data)
        except OSError as error:
            self.disable()
            report_uncached(f"{self._cache_path}: {error.strerror or error}")
        finally:
            self.end_turn(sig)

    def end_turn(self, sig: Any) -> None:
        """Let the processes go on that wait for the compilation of a signature."""
        if sig in self._turns:
            self._turns.pop(sig).end()

    def _calls_unreached(self, sig: Any) -> bool:
        """Whether the function is handed another one whose source the key does not cover."""
        cells = self._py_func.__closure__ or ()
        handed = [cell.cell_contents for cell in cells]
        handed += [kind.dispatcher for kind in sig if isinstance(kind, types.Dispatcher)]
        return any(
            function.py_func.__module__ not in _sources(self._py_func.__module__)
            for function in handed
            if isinstance(function, Dispatcher)
        )


class NoCache(NullCache):  # type: ignore[misc]
    """The cache of a function where no folder can be written."""

    def save_overload(self, sig: Any, data: Any) -> None:
        """Say that the function is not kept."""
        report_uncached("no folder can be written")

    def end_turn(self, sig: Any) -> None:
        """No process waits."""
