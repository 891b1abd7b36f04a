"""The examples in the pages are real: `python -m docs.pages.examples` runs them again and writes what came out.

A `console` block holds commands after `$` and their output; only `hfp8sim` and `cat` are known. A `pycon`
block holds Python after `>>>`. The blocks of a page run in order in one empty folder, its Python in one
session. A block whose first line is a comment `file: NAME` makes that file. A test compares every block
with what it gives.
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

HERE = Path(__file__).parents[1]

BLOCK = re.compile(r"^```(?P<kind>\w+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"\A\W+file: (?P<name>[\w.-]+)\W*\n")

#: Output that a page leaves out, as a line of its own.
LEFT_OUT = "…"


def pages() -> list[Path]:
    """Pages that have examples."""
    kinds = ("```console", "```pycon")
    paths = [HERE.parent / "README.md", *sorted(HERE.rglob("*.md"))]
    texts = {path: path.read_text("utf-8") for path in paths}
    return [path for path, text in texts.items() if any(kind in text for kind in kinds)]


def printed(call: Callable[[], object]) -> str:
    """What a call prints, to either stream, without trailing spaces."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
        call()
    return "".join(line.rstrip() + "\n" for line in shown.getvalue().splitlines())


def run(command: str) -> str:
    """What a command prints."""
    words = shlex.split(command)
    if words[0] == "cat":
        return Path(words[1]).read_text("utf-8")
    if words[0] != "hfp8sim":
        raise ValueError(f"an example runs {words[0]!r}; only hfp8sim and cat are known")
    from hfp8sim import cli

    def call() -> None:
        with mock.patch.object(sys, "argv", words), contextlib.suppress(SystemExit):
            cli.main()

    return printed(call)


def python(body: str, session: dict[str, object]) -> str:
    """A pycon block with what its statements print now."""
    made = []
    for example in doctest.DocTestParser().get_examples(body):
        first, *rest = example.source.splitlines()
        code = compile(example.source, "<example>", "single")
        made += [f">>> {first}", *(f"... {line}".rstrip() for line in rest)]
        made += printed(lambda code=code: exec(code, session)).splitlines()  # type: ignore[misc]
    return "\n".join(made) + "\n"


def answered(body: str) -> str:
    """A console block with what its commands print now. Lines that the block leaves out (`…`) are left
    out again: as many as stand there, counted from the start and from the end of the output."""
    parts = re.split(r"^(?=\$ )", body, flags=re.MULTILINE)
    made = [parts[0]]
    for part in parts[1:]:
        command, *old = part.splitlines()
        new = run(command[2:]).splitlines()
        if LEFT_OUT in old:
            before = old.index(LEFT_OUT)
            after = len(old) - before - 1
            if before + after < len(new):
                new = [*new[:before], LEFT_OUT, *new[len(new) - after :]]
        made.append("\n".join([command, *new]) + "\n")
    return "".join(made)


def refreshed(text: str) -> str:
    """A page's text with every example answered; its other blocks as they are."""
    before = os.getcwd()
    session: dict[str, object] = {"__name__": "__main__"}

    def block(found: re.Match[str]) -> str:
        body = found["body"]
        if found["kind"] == "console":
            return f"```console\n{answered(body)}```"
        if found["kind"] == "pycon":
            return f"```pycon\n{python(body, session)}```"
        named = FILE.match(body)
        if named:
            Path(named["name"]).write_text(body[named.end() :], "utf-8")
        return found[0]

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            return BLOCK.sub(block, text)
        finally:
            os.chdir(before)


def main() -> None:
    """Answer every page again."""
    for path in pages():
        text = path.read_text("utf-8")
        now = refreshed(text)
        if now != text:
            path.write_text(now, "utf-8")
            print(f"wrote {path.relative_to(HERE.parent)}")


if __name__ == "__main__":
    main()
