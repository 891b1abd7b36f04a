"""The command line: thin. Bad input is one line on stderr and exit status 2, never a traceback."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from hfp8sim.cli import (
    formats,
    programs,
    proofs,
    workloads,
)
from hfp8sim.cli import (
    run as reports,
)
from hfp8sim.cli.common import app, console, say
from hfp8sim.errors import InputError

#: Commands that make reports come first in the help.
app.registered_commands.sort(
    key=lambda command: getattr(command.callback, "__module__", "") != reports.__name__
)

__all__ = ["app", "formats", "main", "programs", "proofs", "reports", "workloads"]


@app.command()
def profiles() -> None:
    """List the arithmetic profiles."""
    from rich.table import Table

    from hfp8sim.formats import get_format
    from hfp8sim.units import get_profile
    from hfp8sim.units import profiles as names

    made = Table(box=None, header_style="bold", pad_edge=False)
    for heading in (
        "profile",
        "operands",
        "errors",
        "sum",
        "chunk",
        "step",
        "rounding",
        "what it is",
    ):
        made.add_column(heading)
    for name in names():
        p = get_profile(name)
        made.add_row(
            name, get_format(p.a_format).name, get_format(p.error_format).name,
            get_format(p.accumulator).name, str(p.chunk_length or "–"),
            str(p.products_per_step or "chunk"), p.rounding, p.summary,
        )  # fmt: skip
    console().print(made)


@app.command()
def machines() -> None:
    """List the machine presets."""
    from rich.table import Table

    import hfp8sim as hs

    made = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("machine", "MAC/cycle", "clock", "peak", "what it is"):
        made.add_column(heading)
    for name in hs.machines():
        m = hs.get_machine(name)
        made.add_row(
            name,
            str(m.macs_per_cycle()),
            f"{m.clock_mhz} MHz",
            f"{m.peak_tflops():.1f} TFLOPS",
            m.summary,
        )
    console().print(made)


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
    """Run the command; what went wrong in one line, and the exit status."""
    try:
        status = app(standalone_mode=False)
        sys.stdout.flush()
        if status == reports.INTERRUPTED:  # Ctrl-C, as typer hands it on
            reports.nothing_written()
        return status if isinstance(status, int) else 0
    except InputError as error:
        say(str(error))
    except typer.TyperException as error:
        if message := error.format_message():  # none: without arguments the help has been shown
            say(message)
    except BrokenPipeError:
        _drop_output()
        return 0
    except OSError as error:  # the disk behind the standard output is full, say
        _drop_output()
        say(f"cannot write: {error.strerror or error}")
    except MemoryError:
        say("out of memory; --max-macs lowers what is emulated at once")
    except (typer.Abort, KeyboardInterrupt):
        reports.nothing_written()
        return reports.INTERRUPTED
    return 2


def _drop_output() -> None:
    """Nothing more can be written: what is buffered must not fail a second time at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
