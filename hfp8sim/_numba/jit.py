"""The only file that states Numba options.

Every kernel of hfp8sim is a plain function of integers and arrays under `@jit`: with
`NUMBA_DISABLE_JIT=1` the same text runs uncompiled.

Compiled code is kept on disk, so that a second process starts fast. Numba's cache notices an edit of
the file a function stands in, but not of the functions it calls; so the cache lies in a folder named
after the state of all kernel sources, and an edit anywhere starts a new one. A kernel must not call itself:
the cache loses a recursive function's address, and the process that loads it crashes.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core import event
from numba.core.caching import FunctionCache
from numba.core.runtime.nrt import rtsys

_KEPT_CACHES = 4

config: Any = numba.config

F = TypeVar("F", bound=Callable[..., Any])


def cache_root() -> Path:
    """The folder that hfp8sim keeps things in between runs (it may not exist)."""
    given = os.environ.get("HFP8SIM_CACHE_DIR")
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "hfp8sim"


def _source_state() -> str:
    package = Path(__file__).parents[1]
    digest = hashlib.sha256(numba.__version__.encode())
    for file in sorted(package.rglob("*.py")):
        stat = file.stat()
        digest.update(f"{file}:{stat.st_mtime_ns}:{stat.st_size};".encode())
    return digest.hexdigest()[:16]


def _prepare_cache() -> bool:
    """Point Numba at this source state's cache; False where no folder can be written."""
    if config.CACHE_DIR:  # the user's own NUMBA_CACHE_DIR
        return True
    try:
        root = cache_root()
        folder = root / _source_state()
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        folder.touch()
        for old in sorted(root.iterdir(), key=lambda p: -p.stat().st_mtime)[_KEPT_CACHES:]:
            shutil.rmtree(old, ignore_errors=True)
    except (OSError, RuntimeError):  # read-only, full, or no home at all: compile each time
        return False
    config.CACHE_DIR = str(folder)
    return True


_CACHE = _prepare_cache()


def jit(function: F) -> F:
    """Compile `function` with Numba: cached, releasing the GIL, IEEE division, no bounds checks."""
    return _compiled(function)


def jit_inlined(function: F) -> F:
    """`jit` for a function with one hot caller: always inlined there, as its records of format facts
    are dozens of words that would be pushed at every call."""
    return _compiled(function, forceinline=True)


def _compiled(function: F, **options: Any) -> F:
    compiled: Any = numba.njit(nogil=True, error_model="numpy", **options)(function)
    if _CACHE and compiled is not function:  # (which it is where Numba is switched off)
        compiled._cache = _Cache(function)
    return compiled  # type: ignore[no-any-return]


class _Cache(FunctionCache):  # type: ignore[misc]
    """The disk cache of one function: Numba's, but for two things.

    Compiled code is loaded without the compiler: Numba would first import all that it could need to compile
    anything, which takes longer than all else until a first result. Machine code needs the addresses of
    Numba's own runtime, and no more. (Were there a hash in a kernel, it would need Numba's secret, too.)

    And the files of a function's compiled forms have names that no other process takes. Numba numbers them by
    what it finds in the function's index. Two processes that compile different forms at the same time find the
    same number free; one's machine code then stands under the other's signature, and whoever loads it
    computes something else.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        # (Numba's own affair: where it is another, so is the danger.)
        pattern, number = getattr(self._cache_file, "_data_name_pattern", None), "{number:d}"
        if pattern is not None:
            self._cache_file._data_name_pattern = pattern.replace(
                number, f"{uuid.uuid4().hex[:16]}.{number}"
            )

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        rtsys.initialize(target_context)
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)


class _Compilations(event.Listener):
    """Tells of the first function that is compiled."""

    def __init__(self, tell: Callable[[], object]) -> None:
        self.tell: Callable[[], object] | None = tell

    def on_start(self, event: object) -> None:
        tell, self.tell = self.tell, None
        if tell:
            tell()

    def on_end(self, event: object) -> None:
        pass


@contextmanager
def telling_of_compilation(tell: Callable[[], object]) -> Iterator[None]:
    """Call `tell` once if anything is compiled inside, before it is; what the cache holds is not."""
    with event.install_listener("numba:compile", _Compilations(tell)):
        yield
