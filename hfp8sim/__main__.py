"""The console script `hfp8sim`; `python -m hfp8sim` is the same."""

import contextlib
import gc
import os
import signal
from typing import Any

#: Exit status after Ctrl-C: 128 + SIGINT, as shells have it.
_INTERRUPTED = 130


def _end(*signal_and_frame: Any) -> None:
    """End at once: modules that load make errors of their own of a KeyboardInterrupt."""
    with contextlib.suppress(OSError):  # the standard error is closed
        os.write(2, b"hfp8sim: interrupted; nothing was written\n")
    os._exit(_INTERRUPTED)


def main() -> None:
    """Load the command line and run it."""
    # What modules and their declarations create is kept. The collector is on again when a command starts.
    gc.disable()
    handles_interrupts = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if handles_interrupts:  # else a parent process, such as nohup, has Ctrl-C ignored
        signal.signal(signal.SIGINT, _end)
    from hfp8sim.cli import main as command_line

    if handles_interrupts:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        command_line()
    finally:
        # The command has its exit status. While Python ends, it handles no signals: Ctrl-C would change the status.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        # CPython notes that a KeyboardInterrupt has left code in a string, such as a dataclass's methods, and under
        # `python -m` ends by SIGINT, though it was caught. The next code in a string takes the note back.
        exec("")


if __name__ == "__main__":
    main()
