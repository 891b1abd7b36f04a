"""The command line. Bad input is one line on stderr and exit status 2, never a traceback."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from hfp8sim.cli import compare, formats, programs, proofs, run, workloads
from hfp8sim.cli.common import BAD_INPUT, INTERRUPTED, app, nothing_written, say
from hfp8sim.errors import InputError

__all__ = ["app", "compare", "formats", "main", "programs", "proofs", "run", "workloads"]

#: The first commands in the help; the others follow by subject.
_FIRST = ("run", "show", "compare", "theory")


def _position(command: typer.models.CommandInfo) -> int:
    name = command.name or getattr(command.callback, "__name__", "")
    return _FIRST.index(name) if name in _FIRST else len(_FIRST)


app.registered_commands.sort(key=_position)


@app.callback()
def _main(
    version: Annotated[bool, typer.Option("--version", help="print the version and stop")] = False,
    own: Annotated[
        list[Path] | None,
        typer.Option("--formats", metavar="FILE", help="TOML with formats of your own; repeatable"),
    ] = None,
) -> None:
    for path in own or []:
        from hfp8sim.formats import load_formats

        load_formats(path)


def main() -> None:
    """The console script `hfp8sim`."""
    if "--version" in sys.argv[1:2]:
        import hfp8sim

        print(f"hfp8sim {hfp8sim.__version__}")
        return
    sys.exit(_status())


def _status() -> int:
    """Run the command; print what went wrong in one line; return the exit status."""
    try:
        status = app(standalone_mode=False)
        sys.stdout.flush()
        if status == INTERRUPTED:  # typer turns Ctrl-C into this status
            nothing_written()
        return status if isinstance(status, int) else 0
    except InputError as error:
        say(str(error))
    except typer.TyperException as error:
        if message := error.format_message():  # empty: without arguments the help was printed
            say(message)
    except BrokenPipeError:
        _drop_output()
        return 0
    except OSError as error:  # of the standard output, such as a full disk
        _drop_output()
        say(f"cannot write: {error.strerror or error}")
    except MemoryError:
        say("out of memory; --max-macs lowers what is emulated at once")
    except (typer.Abort, KeyboardInterrupt):
        nothing_written()
        return INTERRUPTED
    return BAD_INPUT


def _drop_output() -> None:
    """Send buffered output to nowhere: flushing it at the exit would fail a second time."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
