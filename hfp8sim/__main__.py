"""The console script `hfp8sim`; `python -m hfp8sim` is the same."""

import gc
import signal


def main() -> None:
    """Load the command line and run it."""
    # What modules and their declarations create is kept. The collector is on again when a command starts.
    gc.disable()
    from hfp8sim.cli import main as command_line

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
