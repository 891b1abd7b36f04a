"""Parts of one piece of work, shared among threads."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from hfp8sim.kernels import workers


def test_each_part_is_done_once() -> None:
    for threads in (1, 2, 5):
        done: list[slice] = []
        workers.share(done.append, workers.slices(40, 3), threads)
        assert sorted(done, key=lambda part: part.start) == workers.slices(40, 3)


def test_failure_of_a_helper_is_raised() -> None:
    failed = threading.Event()

    def work(part: slice) -> None:
        if threading.current_thread() is threading.main_thread():
            assert failed.wait(300)
        else:
            failed.set()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        workers.share(work, workers.slices(2, 1), 2)


@pytest.mark.parametrize("interrupts", [1, 2])
def test_interrupt_joins_workers(interrupts: int) -> None:
    """Else a helper might write this product's codes into the next one's panels. A second interrupt while the
    caller waits for its helpers does not end the wait."""
    begun, free, done = threading.Event(), threading.Event(), []

    def release() -> None:
        if interrupts == 2:
            signal.raise_signal(signal.SIGINT)
            time.sleep(0.2)
        free.set()

    def work(part: slice) -> None:
        if threading.current_thread() is threading.main_thread():
            assert begun.wait(300)
            threading.Timer(0.2, release).start()
            raise KeyboardInterrupt
        begun.set()
        assert free.wait(300)
        done.append(part)

    with pytest.raises(KeyboardInterrupt):
        workers.share(work, workers.slices(9, 1), 2)
    assert len(done) == 1


def test_concurrent_callers_have_own_helpers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two callers with a helper each need four threads; one after the other, no more than two."""
    monkeypatch.setattr(workers, "_workers", pool := workers._Workers())
    for _ in range(3):
        workers.share(lambda part: None, [1, 2], 2)
    assert len(pool._threads) == 1
    met = threading.Barrier(4, timeout=300)
    done: list[int] = []

    def work(part: int) -> None:
        met.wait()
        done.append(part)

    def call() -> None:
        workers.share(work, [1, 2], 2)

    callers = [threading.Thread(target=call) for _ in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert sorted(done) == [1, 1, 2, 2]


def test_late_helper_repeats_no_part() -> None:
    """Parts that the caller has done alone are not begun again."""
    parts: list[int] = []
    shared = workers._Shared(parts.append, [1, 2])
    shared.run()
    shared.close()
    shared.help()
    assert parts == [1, 2]
    assert shared.work is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_helpers_after_a_fork() -> None:
    """A child process has none of its parent's threads, and starts its own."""
    workers.share(lambda part: None, [1, 2, 3], 2)
    child = os.fork()
    if child == 0:
        met = threading.Barrier(2, timeout=300)
        try:
            workers.share(lambda part: met.wait(), [1, 2], 2)
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
