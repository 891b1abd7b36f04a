"""Examples in pages: run again, with their present output.

A `console` block holds commands after `$` and their output; the commands are `hfp8sim` and `cat`. A `pycon`
block holds Python after `>>>`. The blocks of a page run in order in one empty folder, its Python in one
session. A block whose first line is a comment `file: NAME` makes that file.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest import mock

BLOCK = re.compile(r"^```(?P<kind>\w+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"\A\W+file: (?P<name>[\w.-]+)\W*\n")

#: A line of its own in an example: output that the page leaves out.
ELLIPSIS = "…"


def has_examples(text: str) -> bool:
    """Whether a page has a block that is run."""
    return "```console" in text or "```pycon" in text


def refreshed(text: str) -> str:
    """A page with the present output of every example; other blocks stay as they are."""
    before = os.getcwd()
    session: dict[str, object] = {"__name__": "__main__"}

    def replacement(block: re.Match[str]) -> str:
        body = block["body"]
        if block["kind"] == "console":
            return f"```console\n{_console(body)}```"
        if block["kind"] == "pycon":
            return f"```pycon\n{_pycon(body, session)}```"
        file = FILE.match(body)
        if file:
            Path(file["name"]).write_text(body[file.end() :], "utf-8")
        return block[0]

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            return BLOCK.sub(replacement, text)
        finally:
            os.chdir(before)


def _console(body: str) -> str:
    """A console block with the present output of its commands.

    Lines that the block leaves out (`…`) are left out again: as many lines are shown before and after the
    mark as the block shows.
    """
    parts = re.split(r"^(?=\$ )", body, flags=re.MULTILINE)
    blocks = [parts[0]]
    for part in parts[1:]:
        command, *old = part.splitlines()
        new = _output(command[2:]).splitlines()
        if ELLIPSIS in old:
            before = old.index(ELLIPSIS)
            after = len(old) - before - 1
            if before + after < len(new):
                new = [*new[:before], ELLIPSIS, *new[len(new) - after :]]
        blocks.append("\n".join([command, *new]) + "\n")
    return "".join(blocks)


def _output(command: str) -> str:
    """What a command prints. Raises ValueError for a command that examples may not run."""
    words = shlex.split(command)
    if words[0] == "cat":
        return Path(words[1]).read_text("utf-8")
    if words[0] != "hfp8sim":
        raise ValueError(f"an example runs {words[0]!r}; only hfp8sim and cat are allowed")
    from hfp8sim import cli

    def call() -> None:
        with mock.patch.object(sys, "argv", words), contextlib.suppress(SystemExit):
            cli.main()

    return _printed(call)


def _pycon(body: str, session: dict[str, object]) -> str:
    """A pycon block with what its statements print now."""
    lines = []
    for example in doctest.DocTestParser().get_examples(body):
        first, *more = example.source.splitlines()
        code = compile(example.source, "<example>", "single")
        lines += [f">>> {first}", *(f"... {line}".rstrip() for line in more)]
        lines += _printed(lambda code=code: exec(code, session)).splitlines()  # type: ignore[misc]
    return "\n".join(lines) + "\n"


def _printed(call: Callable[[], object]) -> str:
    """What a call prints, to either stream, without trailing spaces."""
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        call()
    return "".join(line.rstrip() + "\n" for line in stream.getvalue().splitlines())
