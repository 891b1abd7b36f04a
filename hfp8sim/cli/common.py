"""The command line's commands, by subject; `hfp8sim.cli` puts them together.

Heavy modules are imported inside the commands, so that `hfp8sim --help` is immediate.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hfp8sim.errors import InputError

if TYPE_CHECKING:
    from hfp8sim.network import Workload

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="A bit-accurate, cycle-approximate emulator of an HFP8 accelerator: what every number would "
    "be, how far off it is, and how long it would take.",
)

#: Characters of a line of a list where output goes to a file or a pipe.
LIST_WIDTH = 140


def console(stderr: bool = False) -> Any:
    """A rich console, `LIST_WIDTH` wide where it is no terminal."""
    from rich.console import Console

    made = Console(stderr=stderr, highlight=False, soft_wrap=False)
    if not stderr and not made.is_terminal:
        made.width = LIST_WIDTH
    return made


@contextmanager
def compiling_said() -> Iterator[None]:
    """A line on stderr, where that is a terminal, when kernels are compiled: it takes a while."""
    from hfp8sim._numba.jit import on_compile

    def tell() -> None:
        if sys.stderr.isatty():
            say("compiling kernels for this processor; up to a minute, the first time only")

    with on_compile(tell):
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

    shown = console(stderr=True)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(),
        TimeRemainingColumn(), TextColumn("left · {task.fields[what]}"),
        console=shown, transient=True, disable=not shown.is_terminal,
    ) as bar, compiling_said():  # fmt: skip
        task = bar.add_task(label, total=None, what="")
        yield lambda done, total, what: bar.update(task, completed=done, total=total, what=what)


def say(line: str) -> None:
    """A line for the user on stderr, apart from the output proper."""
    print(f"hfp8sim: {line}", file=sys.stderr)


WorkloadArgument = Annotated[str, typer.Argument(help="a shipped workload's name, or a file")]
BatchOption = Annotated[
    int | None, typer.Option("--batch", help="the mini-batch of a shipped network or an ONNX model")
]
DimOption = Annotated[
    list[str] | None,
    typer.Option("--dim", metavar="NAME=SIZE", help="the size of an ONNX model's free dimension"),
]


def load(workload: str, batch: int | None, dims: list[str] | None) -> Workload:
    """The workload that the argument and the two options name."""
    from hfp8sim.workloads import load_workload

    return load_workload(workload, batch, sizes(dims))


def sizes(dims: list[str] | None) -> dict[str, int]:
    """`name=size` texts as a dict."""
    made = {}
    for text in dims or ():
        name, equals, size = text.rpartition("=")
        if not equals or not size.isdecimal():
            raise InputError(f"--dim {text!r}: write it as name=size, as in sequence=128")
        made[name] = int(size)
    return made
