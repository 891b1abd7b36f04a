"""Turns of processes at what one of them does for all: a lock on a file, which ends with its process."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from hfp8sim.files import lock

#: Seconds that a process waits for another one before it does the work itself, and between two looks.
_LONGEST_WAIT, _INTERVAL = 120.0, 0.02


class Turn:
    """A turn at the work called `name`, which is the path of a file without its ending, and `part`."""

    def __init__(self, name: str, part: object) -> None:
        digest = hashlib.sha256(str(part).encode()).hexdigest()[:16]
        self._path = Path(f"{name}.{digest}.lock")
        self._descriptor: int | None = None

    def take(self, prepare: Callable[[], object]) -> bool:
        """Wait until no other process has the turn, and take it.

        Args:
            prepare: makes the folder of the file.

        Returns whether another process had it in between, so that the work may be done. Where there are no
        locks, the answer is False at once.
        """
        waited, deadline = False, time.monotonic() + _LONGEST_WAIT
        try:
            prepare()
            while time.monotonic() < deadline:
                descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
                answer = lock(descriptor)
                if answer and os.fstat(descriptor).st_nlink:
                    self._descriptor = descriptor
                    return waited
                os.close(descriptor)
                if answer is None:
                    return False
                waited = True
                if not answer:
                    time.sleep(_INTERVAL)
        except OSError:  # a full disk, or a folder that cannot be written
            return False
        return waited

    def end(self) -> None:
        """End the turn; the file is removed."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._path)
            os.close(self._descriptor)
            self._descriptor = None
