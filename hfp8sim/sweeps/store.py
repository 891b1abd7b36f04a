"""The folder of a sweep: one file for each point, named by its key and written whole.

Any number of processes and machines can share a folder. A process that computes a point holds a lock on a file
beside it. The lock ends with the process, however it ends, so that another one can compute the point.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hfp8sim.errors import InputError
from hfp8sim.files import check_folder, lock, write_cached

#: Version of the layout of a point's file.
LAYOUT = 1

#: What a point's file holds: `settings`, `status`, `reason`, `measures`, `columns`, `rows`, `history`.
Record = dict[str, Any]

DONE, FAILED = "done", "failed"

#: The folder of the points' files within that of the sweep.
POINTS = "points"


class Store:
    """The points' files in a folder."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).absolute()

    @classmethod
    def make(cls, folder: str | Path) -> Store:
        """The store of a folder, which is made if it is not there.

        Raises:
            InputError: a folder that cannot be written.
        """
        store = cls(folder)
        check_folder(store.folder / POINTS)
        return store

    def is_empty(self) -> bool:
        """Whether there is no point's file."""
        try:
            with os.scandir(self.folder / POINTS) as entries:
                return not any(entry.name.endswith(".json") for entry in entries)
        except OSError:
            return True

    def path(self, key: str) -> Path:
        """The file of a point."""
        return self.folder / POINTS / f"{key}.json"

    def read(self, key: str) -> Record | None:
        """The record of a point; None if there is no file, or one that is no record of this key."""
        try:
            record = json.loads(self.path(key).read_bytes())
        except (OSError, ValueError):
            return None
        whole = (
            isinstance(record, dict)
            and record.get("key") == key
            and record.get("layout") == LAYOUT
            and record.get("status") in (DONE, FAILED)
        )
        return record if whole else None

    def write(self, key: str, record: Record) -> None:
        """Write the record of a point that no other process writes, whole or not at all."""
        with self.claim(key) as claim:
            if claim is not None:
                claim.write(record)

    @contextlib.contextmanager
    def claim(self, key: str) -> Iterator[Claim | None]:
        """The right to compute a point; None if another process has it. It ends with the `with` block.

        Where there are no locks, any number of processes have it: a point may then be computed twice, with one result.

        Raises:
            InputError: a folder that cannot be written.
        """
        path = self.path(key)
        own = path.with_suffix(".lock")
        try:
            descriptor = os.open(own, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise InputError(f"cannot write {own}: {error.strerror or error}") from None
        claim = None
        try:
            locked = lock(descriptor)
            # Another process may just have finished the point: the file is renamed or removed.
            if locked is not False and _is_at(descriptor, own):
                claim = Claim(path, own, descriptor if locked else None)
            yield claim
        finally:
            if claim is not None and not claim.written:
                with contextlib.suppress(OSError):
                    os.unlink(own)
            os.close(descriptor)


@dataclasses.dataclass
class Claim:
    """The right to compute a point, and to write its file.

    The file that is locked becomes the point's file: it is filled, then renamed.
    """

    path: Path  #: the point's file
    own: Path  #: the file that is locked
    descriptor: int | None  #: of `own`; None where there are no locks
    written: bool = False  #: whether `own` has become the point's file

    def write(self, record: Record) -> None:
        """Write the record of the point, whole or not at all, once.

        It does not wait for the disk: `Store.read` refuses what a loss of power leaves, and the point is computed again.

        Raises:
            InputError: a folder that cannot be written, a full disk.
        """
        text = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        data = f"{text}\n".encode(errors="backslashreplace")
        try:
            if self.descriptor is None:
                write_cached(self.path, data)
                return
            os.ftruncate(self.descriptor, 0)  # what a process left that was killed
            with open(self.descriptor, "wb", closefd=False) as file:
                file.write(data)
            os.replace(self.own, self.path)
            self.written = True
        except OSError as error:
            reason = error.strerror or error
            raise InputError(f"cannot write {self.path}: {reason}") from None


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file has this path still."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except OSError:
        return False


def open_existing(folder: str | None) -> Store | None:
    """The store of a folder that a worker can see; None where the parent has none, or on a machine without it."""
    if folder is None or not (Path(folder) / POINTS).is_dir():
        return None
    return Store(folder)
