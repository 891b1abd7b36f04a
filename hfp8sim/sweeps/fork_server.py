"""A fork server: a process with all modules and one thread, from which the worker processes of a sweep are forked.

A fork copies only the thread that calls it: in a process with other threads, which may hold locks, it is not safe.
The caller's process may have any threads. It starts the server as a new program, and the server forks the workers.
They need not load anything, and share its memory. Python's own fork server, of `multiprocessing`, would run the
caller's script again.

This module imports nothing but Python's own, so that a sweep can start its server before it loads anything else.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future
from queue import SimpleQueue
from typing import IO, Any

#: Variables that bound the threads of the libraries below NumPy.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS",
)  # fmt: skip

#: Of a worker: the process with which it ends.
_parent: int | None = None

#: Seconds between two looks of a worker whether its parent lives.
_PARENT_INTERVAL = 1.0

#: Bytes of a message's length.
_LENGTH = 8

#: The program of the server.
_PROGRAM = "import sys; sys.path[:] = {path!r}; from hfp8sim.sweeps.fork_server import serve; serve({descriptor})"


def worker_environment() -> dict[str, str]:
    """The environment of a worker: its libraries use one thread unless the caller's environment says else."""
    return {**dict.fromkeys(THREAD_VARIABLES, "1"), **os.environ}


def is_worker() -> bool:
    """Whether this process is a worker of a sweep."""
    return _parent is not None


def can_fork() -> bool:
    """Whether workers can be forked. On macOS, libraries of the system do not work after a fork."""
    return sys.platform == "linux"


# -- the caller's process ----------------------------------------------------------------------------


class ForkServer:
    """The server and its workers. It starts at the first call of `start` or `executor`."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None  #: takes requests for workers, and ends them
        self._has_workers = False

    def start(self) -> None:
        """Start the process if it does not run, without waiting for it."""
        if self._process is not None and self._process.poll() is None:
            return
        self.close()
        self._control, theirs = socket.socketpair()
        program = _PROGRAM.format(path=sys.path, descriptor=theirs.fileno())
        with theirs, _without_interrupt():
            self._process = subprocess.Popen(
                [sys.executable, "-c", program], stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()], env=worker_environment(),
            )  # fmt: skip

    def executor(self) -> ForkedExecutor:
        """An executor with one new worker, without waiting for it."""
        self.start()
        assert self._control is not None
        ours, theirs = socket.socketpair()
        # A server that has ended closes the worker's socket: the executor is broken.
        with theirs, contextlib.suppress(OSError):
            socket.send_fds(self._control, [b"w"], [theirs.fileno()])
        self._has_workers = True
        return ForkedExecutor(ours)

    def close(self) -> None:
        """End the process and all of its workers."""
        if self._process is None or self._control is None:
            return
        self._control.shutdown(socket.SHUT_RDWR)
        self._control.close()
        if not self._has_workers:
            self._process.kill()  # it may still load modules
        self._process.wait()
        self._process, self._control, self._has_workers = None, None, False


@contextlib.contextmanager
def _without_interrupt() -> Iterator[None]:
    """Block Ctrl-C for processes that are started inside. A terminal sends it to all processes."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


class ForkedExecutor:
    """One worker process. It takes calls as an executor of `concurrent.futures` does, and computes them in order."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._calls: SimpleQueue[bytes | None] = SimpleQueue()
        self._futures: deque[Future[Any]] = deque()  #: in the order of their calls
        self._lock = threading.Lock()
        self._broken = False
        self._threads = [
            threading.Thread(target=target, daemon=True) for target in (self._send, self._receive)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """As `Executor.submit`. A call that cannot be pickled fails.

        Raises:
            BrokenExecutor: the process has ended.
        """
        future: Future[Any] = Future()
        try:
            call = _packed((function, arguments))
        except Exception as error:
            future.set_exception(error)
            return future
        with self._lock:
            if self._broken:
                raise BrokenExecutor("its process has ended")
            self._futures.append(future)
            self._calls.put(call)
        return future

    def _send(self) -> None:
        """Send the calls. A large one waits until the worker has read it."""
        with contextlib.suppress(OSError):
            while (call := self._calls.get()) is not None:
                self._connection.sendall(call)

    def _receive(self) -> None:
        """Set the results of the futures, until the process has ended."""
        with self._connection.makefile("rb") as results, contextlib.suppress(OSError, EOFError):
            while True:
                error, result = _unpacked(_read(results))
                future = self._futures.popleft()
                if error is None:
                    future.set_result(result)
                else:
                    future.set_exception(error)
        with self._lock:
            self._broken = True
        for future in self._futures:
            future.set_exception(BrokenExecutor("its process has ended"))

    def shutdown(self, **options: bool) -> None:
        """End the process; a call that it computes ends with it, if the server has ended, and else when it is done."""
        self._calls.put(None)
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._connection.close()


# -- the server and its workers ----------------------------------------------------------------------


def serve(descriptor: int) -> None:
    """Load what a worker needs, and fork a worker for each request, until the caller's end of the socket is closed.

    Args:
        descriptor: of a socket. A request is a byte with the descriptor of the worker's socket.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    gc.disable()
    from hfp8sim.sweeps import compute as compute

    gc.freeze()  # what is there stays, and its memory is shared
    workers: set[int] = set()
    with socket.socket(fileno=descriptor) as control:
        while True:
            request, descriptors, _, _ = socket.recv_fds(control, 1, 1)
            if not request:
                break
            server, worker = os.getpid(), os.fork()
            if not worker:
                control.close()
                _work_until_end(descriptors[0], server)
            os.close(descriptors[0])
            workers = {worker} | {pid for pid in workers if not os.waitpid(pid, os.WNOHANG)[0]}
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    for pid in workers:
        os.waitpid(pid, 0)
    os._exit(0)  # nothing is left to do for Python


def _work_until_end(descriptor: int, server: int) -> None:
    """`_work` in a forked process, which ends here whatever happens."""
    status = 1
    try:
        gc.enable()
        end_with_parent(server)
        _work(descriptor)
        status = 0
    except Exception:
        sys.excepthook(*sys.exc_info())
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(status)


def _work(descriptor: int) -> None:
    """Compute the calls that come through a socket, until its other end is closed."""
    connection = socket.socket(fileno=descriptor)
    with connection.makefile("rb") as calls, contextlib.suppress(EOFError, OSError):
        while True:
            connection.sendall(_answer(_read(calls)))


def _answer(call: bytes) -> bytes:
    """The packed exception and result of a call. Whatever ends no process is an exception."""
    try:
        function, arguments = pickle.loads(call)
        return _packed((None, function(*arguments)))
    except Exception as error:
        return _packed((error, None))


def end_with_parent(parent: int) -> None:
    """Leave Ctrl-C to the process that started the sweep, and end when the parent has ended.

    A terminal sends Ctrl-C to all processes. A parent that is killed ends no child: each looks for itself.
    """
    global _parent
    _parent = parent

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_INTERVAL)
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=watch, daemon=True).start()


# -- messages ----------------------------------------------------------------------------------------


def _packed(value: Any) -> bytes:
    """A message: the length of a pickled value in eight bytes, and the value."""
    data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    return len(data).to_bytes(_LENGTH, "little") + data


def _unpacked(answer: bytes) -> tuple[Exception | None, Any]:
    """The exception and the result of an answer; what cannot be unpickled is an exception too."""
    try:
        error, result = pickle.loads(answer)
        return error, result
    except Exception as failure:
        return failure, None


def _read(stream: IO[bytes]) -> bytes:
    """The pickled value of the next message; EOFError if the stream ends before its end."""
    length = int.from_bytes(_read_bytes(stream, _LENGTH), "little")
    return _read_bytes(stream, length)


def _read_bytes(stream: IO[bytes], count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise EOFError
    return data
