"""The process that a command runs in: its standard streams, and its signals."""

from __future__ import annotations

import codecs
import os
import signal
import sys

#: Characters of tables and messages, and what replaces them where an encoding lacks them.
_PLAIN = str.maketrans(
    {
        "×": "x",
        "·": ".",
        "→": "->",
        "…": "...",
        "µ": "u",
        "–": "-",
        "≤": "<=",
        "≥": ">=",
        "²": "^2",
        "↑": "^",
        "↓": "v",
    }
)


def prepare() -> None:
    """Open the standard streams that are closed, let them take any character, and make SIGTERM Ctrl-C."""
    _open_closed_streams()
    codecs.register_error("hfp8sim.escape", _escape)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="hfp8sim.escape")
    try:
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, signal.default_int_handler)
    except ValueError:  # not the main thread
        pass


def _open_closed_streams() -> None:
    """Open the null device for each closed one, so that no file that is opened later takes its place."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def _escape(error: UnicodeError) -> tuple[str, int]:
    r"""Replace characters that an encoding lacks by JSON's escapes, such as `\u00d7`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", errors="surrogatepass")
    escapes = (units[i : i + 2].hex() for i in range(0, len(units), 2))
    return "".join(f"\\u{code}" for code in escapes), error.end


def encodable(text: str) -> str:
    """A text for people, with plain characters where the output's encoding lacks others."""
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return text.translate(_PLAIN)
    return text


def drop_output() -> None:
    """Send buffered output to nowhere: flushing it at the exit would fail a second time."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(descriptor, sys.stdout.fileno())
    except (OSError, ValueError):  # no file behind it
        pass
    finally:
        os.close(descriptor)
