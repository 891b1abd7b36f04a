"""The command line. Bad input is one line on stderr and exit status 2, never a traceback."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from hfp8sim import collector
from hfp8sim.cli import (
    compare,
    doctor,
    formats,
    process,
    programs,
    proofs,
    recipes,
    run,
    study,
    sweep,
    train,
    workloads,
)
from hfp8sim.cli.common import BAD_INPUT, INTERRUPTED, app, nothing_written, say
from hfp8sim.errors import InputError

__all__ = [
    "app",
    "compare",
    "doctor",
    "formats",
    "main",
    "programs",
    "proofs",
    "recipes",
    "run",
    "study",
    "sweep",
    "train",
    "workloads",
]

#: The first commands in the help; the others follow by subject.
_FIRST = ("run", "show", "compare", "sweep", "theory")


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
    collector.switch_on()  # `hfp8sim.__main__` switches it off
    for path in own or []:
        from hfp8sim.formats import load_formats

        load_formats(path)


def main() -> None:
    """The console script `hfp8sim`."""
    process.prepare()
    sys.exit(_status())


def _status() -> int:
    """Run the command; print what went wrong in one line; return the exit status."""
    try:
        status = _run()
        sys.stdout.flush()
        if status == INTERRUPTED:  # typer turns Ctrl-C into this status
            nothing_written()
        return status
    except InputError as error:
        say(str(error))
    except typer.TyperException as error:
        if message := error.format_message():  # empty: without arguments the help was printed
            bare = message.startswith("No such command") and message.endswith("'.")
            say(f"{message} `hfp8sim --help` lists the commands" if bare else message)
    except BrokenPipeError:
        process.drop_output()
        return 0
    except OSError as error:  # of the standard output, such as a full disk
        process.drop_output()
        say(f"cannot write: {error.strerror or error}")
    except MemoryError:
        say("out of memory; --max-macs lowers what is emulated at once")
    except KeyboardInterrupt:
        nothing_written()
        return INTERRUPTED
    except typer.Abort as abort:
        if not isinstance(abort.__cause__, EOFError):
            nothing_written()
            return INTERRUPTED
        say(f"a file ends too early: {abort.__cause__}")
    return BAD_INPUT


def _run() -> int:
    """Run the command and return its status; raises BrokenPipeError if a reader has closed a pipe."""
    if "--version" in sys.argv[1:2]:
        import hfp8sim

        print(f"hfp8sim {hfp8sim.__version__}")
        return 0
    try:
        status = app(standalone_mode=False)
    except SystemExit as left:  # what typer and rich make of it
        if isinstance(left.__context__, BrokenPipeError):
            raise left.__context__ from None
        raise
    return status if isinstance(status, int) else 0


if __name__ == "__main__":
    main()
