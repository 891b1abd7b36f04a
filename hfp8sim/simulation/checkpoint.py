"""Partial reports: resuming them, keeping them on disk during a run, and stopping a run between two rows."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hfp8sim.errors import InputError
from hfp8sim.files import check_folder, write_text
from hfp8sim.report.columns import Row
from hfp8sim.report.record import file_name
from hfp8sim.report.report import Report
from hfp8sim.simulation.tasks import Task

#: Seconds between two writings of the report so far.
CHECKPOINT_SECONDS = 10.0

#: Exit status after an interrupt, as shells have it: 128 + SIGINT.
INTERRUPTED = 130

#: Called as (units done, all units, description) before each row.
Progress = Callable[[int, int, str], None]


# -- resuming ----------------------------------------------------------------------------------------


def resumed_rows(report: Report, facts: dict[str, Any], tasks: Sequence[Task]) -> list[Row]:
    """The rows of a partial report of this run.

    Args:
        facts: of this run.
        tasks: of this run.

    Raises:
        InputError: the report is of another run; the message names the first difference.
    """
    for key in (*facts, *(k for k in report.facts if k not in facts)):
        if key == "command":
            continue
        in_report, in_run = report.facts.get(key), facts.get(key)
        if key == "versions":  # Python's and NumPy's change no bit
            in_report, in_run = (v and {"hfp8sim": v.get("hfp8sim")} for v in (in_report, in_run))
        if in_report != in_run:
            raise InputError(f"cannot resume: {_difference(key, in_report, in_run)}")
    for row, task in zip(report.layers, tasks):
        if (row["layer"], row["phase"]) != (task.layer.name, task.phase):
            raise InputError(
                f"cannot resume: the report has {row['layer']} {row['phase']} "
                f"where this run has {task.name}"
            )
    if len(report.layers) > len(tasks):
        raise InputError(f"cannot resume: {len(report.layers)} rows where there are {len(tasks)}")
    return list(report.layers)


def _difference(key: str, in_report: Any, in_run: Any) -> str:
    """The first difference between two values of a fact, in words."""
    if isinstance(in_report, dict) and isinstance(in_run, dict):
        for name in (*in_run, *in_report):
            if in_report.get(name) != in_run.get(name):
                return _difference(f"{key}.{name}", in_report.get(name), in_run.get(name))
    if key == "digest":
        return "the workload has changed since"
    return f"{key} is {in_report!r} in the partial report and {in_run!r} in this run"


# -- on disk -----------------------------------------------------------------------------------------


def with_command(report: Report, command: str) -> Report:
    """The report with the command line among its facts."""
    return dataclasses.replace(report, facts={**report.facts, "command": command})


class PartialReport:
    """The report so far, kept as FOLDER/WORKLOAD.partial.json; without a folder only in memory.

    Attributes:
        path: the file; None without a folder.
        workload: the workload's name.
        latest: the report so far; None before the first row.
        command: the command line, which is written among the facts.
    """

    def __init__(self, folder: Path | None, workload: str, command: str) -> None:
        if folder is not None:
            check_folder(folder)
        self.path = None if folder is None else folder / f"{file_name(workload)}.partial.json"
        self.workload = workload
        self.latest: Report | None = None
        self.command = command
        self._written = time.monotonic()

    def read(self) -> Report | None:
        """The report in the file; None without a folder or a file."""
        if self.path is None or not self.path.exists():
            return None
        return Report.load(self.path)

    def write(self, report: Report) -> None:
        """Write the report so far, if there is a folder."""
        if self.path is not None:
            write_text(self.path, with_command(report, self.command).to_json())
        self._written = time.monotonic()

    def maybe_checkpoint(self, report: Report) -> None:
        """Remember the report so far; write it if the last writing is `CHECKPOINT_SECONDS` ago."""
        self.latest = report
        if time.monotonic() - self._written >= CHECKPOINT_SECONDS:
            self.write(report)

    def remove(self) -> None:
        """Delete the file, once the whole report is written."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


# -- signals -----------------------------------------------------------------------------------------


class StopRequest:
    """Handler of SIGINT and SIGTERM. The first signal ends the run after the row that is being computed,
    the second one ends the process at once.

    No exception is raised in the middle of a row: inside Numba's compiler it could get lost in a callback,
    or leave a lock held that worker threads wait for.
    """

    def __init__(self, on_first: Callable[[], object], on_abort: Callable[[], object]) -> None:
        self.requested = False
        self._on_first, self._on_abort = on_first, on_abort

    def __call__(self, number: int, frame: object) -> None:
        if not self.requested:
            self.requested = True
            self._on_first()
            return
        self._on_abort()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(INTERRUPTED)

    def interruptible(self, progress: Progress) -> Progress:
        """A progress callback that raises KeyboardInterrupt between two rows, once a stop is requested."""

        def report(done: int, total: int, what: str) -> None:
            if self.requested and done < total:
                raise KeyboardInterrupt
            progress(done, total, what)

        return report


@contextmanager
def stoppable(
    on_first: Callable[[], object], on_abort: Callable[[], object]
) -> Iterator[StopRequest]:
    """Handle SIGINT and SIGTERM inside. After a first signal, further ones stay ignored at the exit: the
    process is about to write what it has, and to end. Outside the main thread no signal is handled.

    Args:
        on_first: called at the first signal.
        on_abort: called at the second one, right before the process ends.
    """
    stop, numbers = StopRequest(on_first, on_abort), (signal.SIGINT, signal.SIGTERM)
    try:
        before = [signal.signal(number, stop) for number in numbers]
    except ValueError:  # not the main thread
        yield stop
        return
    try:
        yield stop
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, signal.SIG_IGN if stop.requested else handler)
