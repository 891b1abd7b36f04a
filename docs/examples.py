"""The examples in the pages are real: `python -m docs.examples` runs them again and writes what came out.

A `console` block holds commands after `$` and their output; only `hfp8sim`, `cat` and `head` are known.
The blocks of a page run in order in one empty folder. A block that starts with `# file: NAME` (a comment
in any language) makes that file there first. A test compares every block with what it gives.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

HERE = Path(__file__).parent

BLOCK = re.compile(r"^```(?P<kind>\w+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"\A\W+file: (?P<name>[\w.-]+)\W*\n")

#: Output that a page leaves out, as a line of its own.
LEFT_OUT = "…"


def pages() -> list[Path]:
    """Pages that have examples."""
    return [path for path in sorted(HERE.rglob("*.md")) if "```console" in path.read_text("utf-8")]


def run(command: str) -> str:
    """What a command prints, to either stream."""
    words = shlex.split(command)
    if words[0] in ("cat", "head"):
        count = int(words[1].lstrip("-n")) if words[0] == "head" else None
        lines = Path(words[-1]).read_text("utf-8").splitlines()
        return "\n".join(lines[:count]) + "\n"
    if words[0] != "hfp8sim":
        raise ValueError(f"an example runs {words[0]!r}; only hfp8sim, cat and head are known")
    from hfp8sim import cli

    shown = io.StringIO()
    with (
        mock.patch.object(sys, "argv", words),
        contextlib.redirect_stdout(shown),
        contextlib.redirect_stderr(shown),
        contextlib.suppress(SystemExit),
    ):
        cli.main()
    return "\n".join(line.rstrip() for line in shown.getvalue().splitlines()) + "\n"


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
    """A page's text with every console block answered; its other blocks as they are."""
    before = os.getcwd()

    def block(found: re.Match[str]) -> str:
        body = found["body"]
        if found["kind"] == "console":
            return f"```console\n{answered(body)}```"
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


def snippets(text: str) -> Iterator[str]:
    """The page's `pycon` blocks, for doctest."""
    for found in BLOCK.finditer(text):
        if found["kind"] == "pycon":
            yield found["body"]


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
