"""Worker threads: the parts of one piece of work, shared among the caller and a few helpers.

The caller and its helpers each take the next part until none is left (work stealing), so that no thread
waits for one that the system has suspended. `share` returns, or raises, only when no helper works on its
parts any more: they write into the caller's buffers.

The threads are daemons of this module. `concurrent.futures` does not survive an interrupt in the wrong
place: one between the start of a thread and its registration leaves a thread that is never woken at exit,
and the process hangs.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from hfp8sim.floating_point import standard_arithmetic

_T = TypeVar("_T")

#: Seconds after which the caller checks again whether its helpers have ended.
_JOIN_SECONDS = 0.1


class _Shared:
    """One piece of work and the threads that help with it."""

    def __init__(self, work: Callable[[Any], object], parts: Sequence[Any]) -> None:
        self.parts: SimpleQueue[Any] = SimpleQueue()
        for part in parts:
            self.parts.put(part)
        self.work: Callable[[Any], object] | None = work  # None: the work is over
        self.helpers = 0  # that were asked for
        self.active: list[object] = []  # one entry for each running helper
        self.ended: SimpleQueue[None] = SimpleQueue()  # an entry when a helper has ended
        self.errors: list[BaseException] = []

    def run(self) -> None:
        """Work on parts until none is left."""
        work = self.work
        with contextlib.suppress(Empty):
            while work is not None:
                work(self.parts.get_nowait())

    @standard_arithmetic
    def help(self) -> None:
        """`run` on a helper's thread.

        The helper enters `active` before it reads `work`, and `close` clears `work` before it reads `active`.
        Either the helper finds no work, or `close` waits for it.
        """
        entry = object()
        self.active.append(entry)
        try:
            self.run()
        except BaseException as error:
            self.errors.append(error)
        finally:
            self.active.remove(entry)
            self.ended.put(None)

    def close(self) -> None:
        """Drop the parts that are left and wait for the helpers. An interrupt meanwhile is raised at the end."""
        interrupt: BaseException | None = None
        while True:
            try:
                self.work = None
                with contextlib.suppress(Empty):
                    while True:
                        self.parts.get_nowait()
                while self.active:
                    with contextlib.suppress(Empty):
                        self.ended.get(timeout=_JOIN_SECONDS)
                break
            except BaseException as error:
                interrupt = error
        if interrupt is not None:
            raise interrupt


class _Workers:
    """Threads that help with one piece of work after another.

    Several callers may have work at the same time: cores of the machine, or threads of the user.
    """

    def __init__(self) -> None:
        self._waiting: SimpleQueue[_Shared] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._pieces: list[_Shared] = []  # all that are not over, and some that are

    def ask(self, shared: _Shared, helpers: int) -> None:
        """Let so many threads help, beside those that help with other pieces of work."""
        shared.helpers = helpers
        # Before the sum: of two callers at once, the later one counts both.
        self._pieces.append(shared)
        for piece in tuple(self._pieces):
            if piece.work is None:
                with contextlib.suppress(ValueError):  # another caller has removed it
                    self._pieces.remove(piece)
        needed = sum(piece.helpers for piece in tuple(self._pieces))
        while len(self._threads) < needed:
            name = f"hfp8sim_{len(self._threads)}"
            thread = threading.Thread(
                target=self._loop, args=(self._waiting,), name=name, daemon=True
            )
            thread.start()
            self._threads.append(thread)
        for _ in range(helpers):
            self._waiting.put(shared)

    @staticmethod
    def _loop(waiting: SimpleQueue[_Shared]) -> None:
        while True:
            waiting.get().help()  # no name for it: an idle thread keeps nothing alive


_workers = _Workers()


def _start_anew() -> None:
    global _workers
    _workers = _Workers()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)  # threads do not survive a fork


def share(work: Callable[[_T], object], parts: Sequence[_T], threads: int) -> None:
    """Call `work` on each part, on at most so many threads, the caller's among them.

    Raises:
        BaseException: what `work` raised first. No part is begun after that on the thread that raised, and
            none is being worked on when this returns.
    """
    if threads == 1 or len(parts) == 1:
        for part in parts:
            work(part)
        return
    shared = _Shared(work, parts)
    try:
        _workers.ask(shared, min(threads, len(parts)) - 1)
        shared.run()
    finally:
        shared.close()
    errors, shared.errors = shared.errors, []  # `_Workers` keeps `shared`, but no traceback
    if errors:
        raise errors[0]


def slices(count: int, step: int) -> list[slice]:
    """The range [0, count) in steps."""
    return [slice(i, min(i + step, count)) for i in range(0, count, max(step, 1))]
