"""Forked worker processes: what they compute, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import hfp8sim as hs
from hfp8sim.sweeps import run
from hfp8sim.sweeps.fork_server import THREAD_VARIABLES, ForkServer, can_fork
from tests.sweeps.plans import small_plan

pytestmark = pytest.mark.skipif(not can_fork(), reason="workers are forked on Linux")


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    with closing(ForkServer()) as made:
        yield made


class Unpicklable:
    """A value that cannot be pickled."""

    def __reduce__(self) -> Any:
        raise TypeError("it cannot be pickled")


class UnfitError(Exception):
    """An exception that can be pickled but not unpickled."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first + second)


def fail() -> None:
    raise UnfitError("a", "b")


def is_running(pid: int) -> bool:
    """Whether a process runs; one that has ended and that its parent has not looked at does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def wait_until_ended(pid: int) -> None:
    deadline = time.monotonic() + 30
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(pid)


def parents_threads(_: int) -> tuple[int, int]:
    """The server's process and the number of its threads, as a worker finds them."""
    return os.getppid(), len(os.listdir(f"/proc/{os.getppid()}/task"))


def test_calls_give_results_and_exceptions(server: ForkServer) -> None:
    executor = server.executor()
    quotients = [executor.submit(divmod, 7, divisor) for divisor in (2, 0, 3)]
    assert quotients[0].result() == (3, 1) and quotients[2].result() == (2, 1)
    with pytest.raises(ZeroDivisionError):
        quotients[1].result()
    executor.shutdown()


def test_what_cannot_be_pickled_is_an_exception(server: ForkServer) -> None:
    executor = server.executor()
    with pytest.raises(TypeError, match="it cannot be pickled"):
        executor.submit(str, Unpicklable()).result()
    with pytest.raises(TypeError, match="it cannot be pickled"):
        executor.submit(Unpicklable).result()
    with pytest.raises(TypeError, match="second"):
        executor.submit(fail).result(30)
    assert executor.submit(abs, -1).result() == 1
    executor.shutdown()


def test_large_call_does_not_block(server: ForkServer) -> None:
    """The worker reads its next call when its present one is done."""
    executor = server.executor()
    executor.submit(int).result()
    os.kill(pid := executor.submit(os.getpid).result(), signal.SIGSTOP)
    goes_on = threading.Timer(5, os.kill, (pid, signal.SIGCONT))
    goes_on.start()
    start, future = time.monotonic(), executor.submit(len, bytes(1 << 25))
    assert time.monotonic() - start < 4
    goes_on.join()
    assert future.result() == 1 << 25
    executor.shutdown()


def test_server_has_one_thread(server: ForkServer) -> None:
    """Only then a fork is safe."""
    executors = [server.executor() for _ in range(2)]
    answers = [executor.submit(parents_threads, 0).result() for executor in executors]
    assert answers[0] == answers[1] and answers[0][1] == 1 and answers[0][0] != os.getpid()
    for executor in executors:
        executor.shutdown()


def test_workers_use_one_thread_unless_the_caller_says_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "3")
    with closing(ForkServer()) as own:
        executor = own.executor()
        for name in THREAD_VARIABLES:
            expected = "3" if name == "MKL_NUM_THREADS" else "1"
            assert executor.submit(os.getenv, name).result() == expected
        executor.shutdown()


def test_ended_worker_breaks_its_executor_alone(server: ForkServer) -> None:
    first, second = server.executor(), server.executor()
    pid = first.submit(os.getpid).result()
    os.kill(pid, signal.SIGSTOP)
    futures = [first.submit(int), first.submit(int)]
    os.kill(pid, signal.SIGKILL)
    for future in futures:
        with pytest.raises(BrokenExecutor):
            future.result(30)
    with pytest.raises(BrokenExecutor):
        first.submit(int)
    assert second.submit(int).result() == 0
    for executor in (first, second):
        executor.shutdown()


def test_killed_server_is_started_again() -> None:
    with closing(ForkServer()) as own:
        executor = own.executor()
        killed, worker = executor.submit(os.getppid).result(), executor.submit(os.getpid).result()
        os.kill(killed, signal.SIGKILL)
        wait_until_ended(worker)
        with pytest.raises(BrokenExecutor):
            while True:
                executor.submit(int).result()
        other = own.executor()
        assert other.submit(os.getppid).result() != killed
        for ended in (executor, other):
            ended.shutdown()


def test_interrupt_is_left_to_the_caller(server: ForkServer) -> None:
    """A terminal sends Ctrl-C to all processes."""
    executor = server.executor()
    for process in (os.getppid, os.getpid):
        os.kill(executor.submit(process).result(), signal.SIGINT)
    assert executor.submit(abs, -2).result() == 2
    executor.shutdown()
    other = server.executor()
    assert other.submit(abs, -3).result() == 3
    other.shutdown()


def test_close_ends_workers_that_compute() -> None:
    own = ForkServer()
    executor = own.executor()
    pids = [executor.submit(process).result() for process in (os.getpid, os.getppid)]
    future = executor.submit(time.sleep, 30)
    limit = threading.Timer(15, os.kill, (pids[0], signal.SIGKILL))
    limit.start()
    own.close()
    assert limit.is_alive()
    limit.cancel()
    assert not any(map(is_running, pids))
    with pytest.raises(BrokenExecutor):
        future.result()
    executor.shutdown()
    own.close()


def sweep_in_worker(n_jobs: int) -> str:
    """What a module without a guard does when a worker imports it."""
    return hs.sweep(small_plan(seed=[0]), n_jobs=n_jobs).summary


def test_worker_starts_no_workers(server: ForkServer) -> None:
    """Else each of them would start others without end."""
    executor = server.executor()
    assert executor.submit(sweep_in_worker, 1).result() == "8 points"
    with pytest.raises(hs.InputError, match="a worker process cannot sweep with n_jobs > 1"):
        executor.submit(sweep_in_worker, 2).result()
    executor.shutdown()


def test_shutdown_ends_the_worker(server: ForkServer) -> None:
    executor = server.executor()
    pid = executor.submit(os.getpid).result()
    executor.shutdown()
    wait_until_ended(pid)


def test_server_starts_before_anything_is_loaded(tmp_path: Path) -> None:
    code = """
import sys
import hfp8sim as hs
from hfp8sim.sweeps.fork_server import ForkServer
original = ForkServer.start
def start(self):
    if not starts:
        assert not {"numpy", "numba", "hfp8sim.sweeps.plan"} & set(sys.modules)
    starts.append(1)
    original(self)
starts = []
ForkServer.start = start
arguments = {"vary": {"profile.chunk_length": [32, 64]}, "fixed": {"time_only": True}, "out": sys.argv[1]}
for _ in range(2):
    print(hs.sweep("digits-cnn", n_jobs=2, **arguments).summary, len(starts))
"""
    command = [sys.executable, "-c", code, str(tmp_path / "out")]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    # One start at once and one for each worker; a folder in which nothing is missing needs none.
    assert done.stdout.splitlines() == ["2 points 3", "2 points 3"]


def test_bad_plan_ends_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[ForkServer] = []
    monkeypatch.setattr(run, "ForkServer", lambda: made.append(ForkServer()) or made[-1])
    with pytest.raises(hs.InputError, match="there is no"):
        hs.sweep("there is no such network", n_jobs=2)
    assert len(made) == 1 and made[0]._process is None
    assert len(hs.sweep(small_plan(), n_jobs=2)) == 16 and made[1]._process is None
