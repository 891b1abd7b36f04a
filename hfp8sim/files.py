"""Files are written whole or not at all; TOML files are read; and the folder for what is kept between runs.

A file is filled under a temporary name in the folder of its target, then renamed. The writer holds a lock on it.
A temporary file without a lock is of a process that was killed: the next write into the folder removes it.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

from hfp8sim.errors import InputError

#: Temporary files and folders are named `.hfp8sim-RANDOM.tmp`.
_PREFIX, _SUFFIX = ".hfp8sim-", ".tmp"
#: Folders whose entries are streams, even where they lead to a regular file, as /dev/stdout does.
_STREAMS = ("/dev", "/proc")


def write_whole(path: str | Path, write: Callable[[IO[Any]], object], binary: bool = False) -> Path:
    """Let `write` fill a temporary file beside `path`, then put it in its place at once.

    After any failure (a full disk, Ctrl-C) the old file is as it was. The new one has its permissions. Through
    a link, the file that it leads to is written. A pipe or a character device is written to as it is. Texts
    are in UTF-8. `InputError` for what the system refuses, and for a folder, a socket or a block device.
    """
    check_path(path)
    path = Path(path)
    if "\0" in str(path):
        raise InputError(f"cannot write {str(path)!r}: no file name holds a null character")
    try:
        if _is_stream(path):
            with _opened(path, binary) as file:
                write(file)
        else:
            _write_file(_target(path), write, binary)
    except BrokenPipeError:
        raise  # the reader of a pipe has enough
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None
    return path


def check_path(path: object) -> None:
    """`InputError` unless an argument can be the path of a file."""
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"path is {path!r:.60}; it must be the path of a file")


def read_toml(path: str | Path) -> dict[str, Any]:
    """The tables of a TOML file; `InputError` if it cannot be read or is not TOML."""
    import tomllib

    if not isinstance(path, str | os.PathLike):
        raise InputError(f"{path!r:.60}: it must be the path of a TOML file")
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a TOML file: {error}") from None


def write_text(path: str | Path, content: str) -> Path:
    """`write_whole` for a string."""
    return write_whole(path, lambda file: file.write(content))


def write_cached(path: str | Path, data: bytes) -> None:
    """`write_whole` for what can be made again: it does not wait for the disk. Raises OSError."""
    _write_file(_target(Path(path)), lambda file: file.write(data), binary=True, durable=False)


def write_folder(path: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write a folder of files whole or not at all; an old folder of this path is replaced.

    Raises OSError.
    """
    target = _target(path)
    temporary, descriptor = _temporary(target.parent, folder=True)
    try:
        for name, data in files:
            (temporary / name).write_bytes(data)
        if target.exists():
            _exchange(temporary, target)
        else:
            os.rename(temporary, target)
    finally:
        _remove_folder(temporary)
        os.close(descriptor)


# -- targets -----------------------------------------------------------------------------------------


def _is_stream(path: Path) -> bool:
    """Whether the path is written to as it is; raises OSError for what cannot be written."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(0, "it is a folder")
    if stat.S_ISBLK(mode) or stat.S_ISSOCK(mode):
        raise OSError(0, "it is a block device or a socket")
    if not stat.S_ISREG(mode):
        return True
    folder = os.path.realpath(path.parent)
    return folder == _STREAMS[0] or folder.startswith(f"{_STREAMS[1]}/")


def _target(path: Path) -> Path:
    """The path without links, whose folder exists; raises OSError for a chain of links without an end."""
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OSError(0, "its links lead in a circle")
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _opened(file: int | Path, binary: bool) -> IO[Any]:
    """A file to write into. Half a surrogate pair, as of a file's name in another encoding, is escaped."""
    if binary:
        return open(file, "wb")
    return open(file, "w", encoding="utf-8", errors="backslashreplace", newline="")


def _write_file(
    target: Path, write: Callable[[IO[Any]], object], binary: bool, durable: bool = True
) -> None:
    """Fill a temporary file and rename it."""
    mode = _permissions(target)
    temporary, descriptor = _temporary(target.parent)
    try:
        with _opened(descriptor, binary) as file:
            if mode is not None:
                os.fchmod(descriptor, mode)
            write(file)
            file.flush()
            if durable:
                os.fsync(descriptor)
            os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _permissions(target: Path) -> int | None:
    """The permissions of an old file, or None without one; raises OSError if it must not be written."""
    try:
        mode = stat.S_IMODE(os.stat(target).st_mode)
    except FileNotFoundError:
        return None
    if not os.access(target, os.W_OK):
        raise PermissionError(0, "the file is read-only")
    return mode


# -- temporary files ---------------------------------------------------------------------------------


def _temporary(parent: Path, folder: bool = False) -> tuple[Path, int]:
    """A new temporary file or folder in `parent`, and its descriptor, which holds a lock while it is open.

    Those of killed processes are removed first.
    """
    _remove_abandoned(parent)
    while True:
        path = parent / f"{_PREFIX}{os.urandom(8).hex()}{_SUFFIX}"
        if folder:
            path.mkdir()
            descriptor = os.open(path, os.O_RDONLY)
        else:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        if lock(descriptor) is not False and path.exists():
            return path, descriptor
        os.close(descriptor)  # another process has taken it for an abandoned one


def _remove_abandoned(parent: Path) -> None:
    """Remove temporary files of processes that were killed."""
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX) and entry.name.endswith(_SUFFIX):
                with contextlib.suppress(OSError):
                    _remove_if_abandoned(entry.path)


def _remove_if_abandoned(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if lock(descriptor):
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                _remove_folder(path)
            else:
                os.unlink(path)
    finally:
        os.close(descriptor)


def _remove_folder(path: str | Path) -> None:
    import shutil

    shutil.rmtree(path, ignore_errors=True)


def lock(descriptor: int) -> bool | None:
    """Lock an open file until it is closed: whether that succeeded, or None where there are no locks."""
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):  # another system, or a file system without locks
        return None
    return True


def _exchange(new: Path, old: Path) -> None:
    """Exchange two folders: at once where the system can, else the old one is away for a moment."""
    import ctypes

    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        rename = None
    if rename and not rename(here, os.fsencode(new), here, os.fsencode(old), exchange):
        return
    aside = old.with_name(f".{old.name[:100]}.old")  # not a temporary name: it must outlive a kill
    os.rename(old, aside)
    try:
        os.rename(new, old)
    except BaseException:
        os.rename(aside, old)
        raise
    os.rename(aside, new)


# -- folders -----------------------------------------------------------------------------------------


def check_folder(path: str | Path) -> None:
    """Make a folder and see that files can be written there, before hours of work depend on it."""
    import tempfile

    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        raise InputError(f"cannot write into {path}: {error.strerror or error}") from None


def check_target(path: str | Path) -> None:
    """`check_folder` for the folder of a file that is written after hours of work; it must be no folder itself."""
    check_folder(Path(path).parent)
    if Path(path).is_dir():
        raise InputError(f"cannot write {path}: it is a folder")


def cache_folder() -> Path:
    """The folder for what is kept between runs: `HFP8SIM_CACHE_DIR`, or `hfp8sim` in the user's cache folder.

    It need not exist. Raises RuntimeError where the user has no home folder.
    """
    given = os.environ.get("HFP8SIM_CACHE_DIR")
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "hfp8sim"
