"""What every command uses: the application, consoles, progress, and output.

Heavy modules are imported inside the commands, so that `hfp8sim --help` is immediate.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from hfp8sim.cli.process import encodable
from hfp8sim.errors import InputError, printable

#: Exit statuses: implementations differ; bad input; interrupted, as shells have it (128 + SIGINT).
DIFFERED, BAD_INPUT, INTERRUPTED = 1, 2, 130

#: Characters of a line of a list where output goes to a file or a pipe.
LIST_WIDTH = 140

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["--help", "-h"]},
    help="A bit-accurate, cycle-approximate emulator of an HFP8 accelerator: what every number would "
    "be, how far off it is, and how long it would take.",
)


def say(line: str) -> None:
    """A line for the user on stderr, apart from the output proper."""
    with contextlib.suppress(OSError, ValueError):  # nobody reads it
        print("hfp8sim: " + "\n".join(map(printable, line.split("\n"))), file=sys.stderr)


def nothing_written() -> None:
    """The message of an interrupt that leaves nothing."""
    say("interrupted; nothing was written")


def command_line() -> str:
    """The command that runs, as a shell takes it."""
    return shlex.join(["hfp8sim", *sys.argv[1:]])


# -- files -------------------------------------------------------------------------------------------


def read_text(path: Path) -> str:
    """The text of a file; `InputError` if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file (UTF-8)") from None


def check_not_source(out: Path | None, *sources: object) -> None:
    """`InputError` if a command would write its result over a file that it reads."""
    for source in sources:
        if out is not None and source is not None and _same_file(out, Path(str(source))):
            raise InputError(f"{out} is the input itself; give the result another name")


def _same_file(one: Path, other: Path) -> bool:
    """Whether two paths lead to one file that exists."""
    try:
        return one.samefile(other)
    except (OSError, ValueError):
        return False


def read_arrays(path: Path) -> dict[str, Any]:
    """The arrays of an .npz file; `InputError` if it cannot be read."""
    from hfp8sim.workloads.readers.npz import load_arrays

    if path.suffix.lower() == ".npy":
        raise InputError(f"{path}: a single array; it must be an .npz with named arrays")
    return load_arrays(path)


def write_arrays(path: Path, arrays: dict[str, Any]) -> None:
    """Write arrays into an .npz file, whole or not at all."""
    import numpy as np

    from hfp8sim.files import write_whole

    write_whole(path, lambda file: np.savez(file, **arrays), binary=True)


# -- output ------------------------------------------------------------------------------------------


def console(stderr: bool = False) -> Any:
    """A rich console, `LIST_WIDTH` wide where it is no terminal."""
    from rich.console import Console

    terminal = Console(stderr=stderr, highlight=False, soft_wrap=False)
    if not stderr and not terminal.is_terminal:
        terminal.width = LIST_WIDTH
    return terminal


def list_table(headings: tuple[str, ...], numbers: tuple[str, ...] = (), wrap: bool = True) -> Any:
    """An empty table of a list; columns in `numbers` are aligned right."""
    from hfp8sim.cli.lists import ListTable

    table = ListTable()
    for heading in headings:
        table.add_column(
            heading, justify="right" if heading in numbers else "left", no_wrap=not wrap,
            overflow="fold",
        )  # fmt: skip
    return table


def print_out(show: Callable[[Any], object]) -> None:
    """Show on the standard output: as wide as a terminal is, elsewhere as `plain_text`."""
    from hfp8sim.report.table import plain_text

    terminal = console()
    if terminal.is_terminal:
        show(terminal)
    else:
        sys.stdout.write(encodable(plain_text(show)))


def write_out(content: str, path: Path | None) -> None:
    """Write to the standard output, or to a file whose path is printed."""
    from hfp8sim.files import write_text

    if path is None:
        sys.stdout.write(content)
    else:
        print(write_text(path, content))


# -- progress ----------------------------------------------------------------------------------------


@contextmanager
def compile_notice() -> Iterator[None]:
    """Say on stderr, where that is a terminal, when kernels are compiled: it takes a while."""
    from hfp8sim._numba.jit import on_compile

    def notify() -> None:
        if sys.stderr.isatty():
            say("compiling kernels for this processor; up to a minute, the first time only")

    with on_compile(notify):
        yield


@contextmanager
def progress_bar(label: str) -> Iterator[Any]:
    """A progress bar with the time left on stderr, as a callback (done, all, what); silent where stderr
    is no terminal."""
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    terminal = console(stderr=True)
    with Progress(
        TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(),
        TimeRemainingColumn(), TextColumn("left · {task.fields[what]}", markup=False),
        console=terminal, transient=True, disable=not terminal.is_terminal,
    ) as bar, compile_notice():  # fmt: skip
        task = bar.add_task(printable(label), total=None, what="")
        yield lambda done, total, what: bar.update(
            task, completed=done, total=total, what=printable(what)
        )


@contextmanager
def stoppable(on_abort: Callable[[], object]) -> Iterator[Any]:
    """Ctrl-C and SIGTERM end a run between two rows; a second one ends the process after `on_abort`."""
    from hfp8sim.simulation import checkpoint

    def notify() -> None:
        say("stopping after this layer; once more stops at once")

    with checkpoint.stoppable(notify, on_abort) as stop:
        yield stop
