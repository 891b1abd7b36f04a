"""Files are written whole or not at all; and the folder for what is kept between runs."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from hfp8sim.errors import InputError


def write_whole(path: str | Path, write: Callable[[IO[Any]], object], binary: bool = False) -> Path:
    """Let `write` fill a temporary file beside `path`, then put it in its place at once.

    After any failure (a full disk, Ctrl-C) the old file is as it was. `InputError` for what the
    system refuses.
    """
    path = Path(path)
    temporary: str | None = None
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            mode, encoding = ("wb", None) if binary else ("w", "utf-8")
            with os.fdopen(handle, mode, encoding=encoding, newline=None if binary else "") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
            temporary = None
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
    return path


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: str | Path, content: str) -> Path:
    """`write_whole` for a string."""
    return write_whole(path, lambda file: file.write(content))


def check_folder(path: str | Path) -> None:
    """Make a folder and see that files can be written there, before hours of work depend on it."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        raise InputError(f"cannot write into {path}: {error.strerror or error}") from None


def cache_folder() -> Path:
    """The folder for what is kept between runs: `HFP8SIM_CACHE_DIR`, or `hfp8sim` in the user's cache folder.

    It need not exist. Raises RuntimeError where the user has no home folder.
    """
    given = os.environ.get("HFP8SIM_CACHE_DIR")
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "hfp8sim"
