"""The folder of a sweep: one file for each point, named by its key and written whole.

Any number of processes and machines can share a folder. A process that computes a point holds a lock on a file
beside it. The lock ends with the process, however it ends, so that another one can compute the point.
"""

from __future__ import annotations

import contextlib
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
        """Write the record of a point, whole or not at all.

        It does not wait for the disk: `read` refuses what a loss of power leaves, and the point is computed again.
        """
        text = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        data = f"{text}\n".encode(errors="backslashreplace")
        try:
            write_cached(self.path(key), data)
        except OSError as error:
            reason = error.strerror or error
            raise InputError(f"cannot write {self.path(key)}: {reason}") from None

    @contextlib.contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """Whether no other process computes the point; if so, none does until the end of the `with` block.

        Where there are no locks, the answer is True: a point may then be computed twice, with one result.
        """
        path = self.path(key).with_suffix(".lock")
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror or error}") from None
        try:
            mine = lock(descriptor) is not False
            if mine and not os.fstat(descriptor).st_nlink:
                mine = False  # another process has just finished the point and removed the file
            yield mine
            if mine:
                with contextlib.suppress(OSError):
                    os.unlink(path)
        finally:
            os.close(descriptor)


def open_existing(folder: str | None) -> Store | None:
    """The store of a folder that a worker can see; None where the parent has none, or on a machine without it."""
    if folder is None or not (Path(folder) / POINTS).is_dir():
        return None
    return Store(folder)
