"""A launcher for learners in processes of this machine: `torchrun` without its reports.

Each process has the environment that `torchrun` gives, so `connect()` works in both.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from typing import IO

from hfp8sim.errors import InputError, one_line

#: In the environment of launched processes: the launcher says that a learner is lost.
LAUNCHED = "HFP8SIM_LAUNCHED"
#: Exit status of a launched learner that has lost another.
LOST = 3
#: Exit status after Ctrl-C.
INTERRUPTED = 130
_POLL = 0.05  #: seconds
_GRACE = 5.0  #: seconds for the other learners to end by themselves


def launch(command: Sequence[str], learners: int) -> int:
    """Run a command once for each learner, and wait.

    Learner 0 has this process's output; what others print is shown only if one of them fails.

    Returns:
        The exit status of learner 0.

    Raises:
        InputError: a learner was killed, or failed; the text names it. The others are ended.
    """
    with contextlib.ExitStack() as files:
        outputs = [files.enter_context(tempfile.TemporaryFile()) for _ in range(learners)]
        port = _free_port()
        processes = [_start(command, k, learners, port, output) for k, output in enumerate(outputs)]
        try:
            number = _first_failure(processes)
        except KeyboardInterrupt:
            # Learner 0 has this terminal's signals, and tells the others to stop after the step.
            _wait_all(processes, None)
            return processes[0].returncode
        finally:
            for process in processes:
                if process.poll() is None:
                    process.kill()
            for process in processes:
                process.wait()
        if number is None:
            return 0
        status = processes[number].returncode
        if status == INTERRUPTED or (number == 0 and 0 < status != LOST):
            return status  # learner 0 has said why
        raise InputError(_failure(number, status, outputs[number]))


def _start(
    command: Sequence[str], learner: int, learners: int, port: int, output: IO[bytes]
) -> subprocess.Popen[bytes]:
    """One learner's process."""
    environment = os.environ | {
        "RANK": str(learner), "LOCAL_RANK": str(learner), "WORLD_SIZE": str(learners),
        "LOCAL_WORLD_SIZE": str(learners), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        LAUNCHED: "1",
    }  # fmt: skip
    if learner == 0:
        return subprocess.Popen(command, env=environment)
    return subprocess.Popen(
        command, env=environment, stdout=output, stderr=output, start_new_session=True
    )


def _first_failure(processes: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """The learner that failed first: one that was killed before one that lost it. None if all have ended well."""
    while True:
        ended = [k for k, p in enumerate(processes) if p.poll() is not None]
        failed = [k for k in ended if processes[k].returncode != 0]
        if failed:
            # A learner that lost another may end before it. Input that one refuses, learner 0 refuses too, and says so.
            if all(processes[k].returncode > 0 for k in failed):
                _wait_all(processes, _GRACE)
                failed = [k for k, p in enumerate(processes) if p.returncode] or failed
            return next((k for k in failed if processes[k].returncode != LOST), failed[0])
        if len(ended) == len(processes):
            return None
        time.sleep(_POLL)


def _wait_all(processes: Sequence[subprocess.Popen[bytes]], seconds: float | None) -> None:
    """Wait until all have ended, or for so many seconds."""
    end = None if seconds is None else time.monotonic() + seconds
    while any(p.poll() is None for p in processes) and (end is None or time.monotonic() < end):
        time.sleep(_POLL)


def _failure(learner: int, status: int, output: IO[bytes]) -> str:
    """Why a learner ended."""
    if status < 0:
        return f"learner {learner} was ended by {signal.Signals(-status).name}"
    output.seek(0)
    lines = output.read().decode("utf-8", "replace").strip().split("\n")
    return f"learner {learner} failed: {one_line(lines[-1] or f'status {status}')}"


def _free_port() -> int:
    """A free TCP port of this machine."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
