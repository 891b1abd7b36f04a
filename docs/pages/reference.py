"""Reference pages made from the code's own tables: `python -m docs.pages.reference` writes them.

A test fails when a page in the repository is not what this makes.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from pathlib import Path
from typing import Any

from docs.pages import formats as format_docs
from docs.pages import isa as isa_docs
from docs.pages import profiles as profile_docs
from hfp8sim.analysis.accuracy import HISTOGRAM_BINS
from hfp8sim.report import schema
from hfp8sim.report.columns import COLUMNS, GROUPS, PARTS, Column

HERE = Path(__file__).parents[1]


def table(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [headings, ("---",) * len(headings), *rows]
    return "".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in lines
    )


def columns() -> str:
    """docs/columns.md: the report's columns."""
    kinds = {str: "text", int: "integer", float: "number", list: "counts"}

    def described(c: Column) -> tuple[str, ...]:
        total = (
            "" if c.total == "none" else {"max": "largest", "min": "lowest"}.get(c.total, c.total)
        )
        return f"`{c.name}`", c.unit, kinds[c.kind], total, c.meaning

    parts = [
        "# Columns of a report\n\n"
        "Generated from `hfp8sim/report/columns.py` by `python -m docs.pages.reference`; do not edit.\n\n"
        "A report has one row for each layer and phase, and a total. Every form of it is made from this "
        "one table. *Total* says how rows combine in the total row; where it says nothing the total has "
        "a value of its own (rates follow from the sums) or none. In CSV and JSON a value that nothing "
        "can be said about is empty or `null`, and an infinite SQNR (an exact result) is `inf`.\n"
    ]
    for group, title in GROUPS.items():
        rows = [described(c) for c in COLUMNS if c.group == group]
        parts.append(
            f"\n## {title}\n\n" + table(("name", "unit", "kind", "total", "meaning"), rows)
        )
        if group == "time":
            names = ", ".join(f"`{part}`" for part in PARTS)
            parts.append(
                f"\nThe parts {names} add up to `cycles` exactly, in every row and every model.\n"
            )
        if group == "accuracy":
            parts.append(
                "\n*x* is the reference and *y* the result; [accuracy](accuracy.md) says more. "
                "Counts stand in JSON and in the plots only. Their bins, in ulp, are "
                + ", ".join(f"`{name}`" for name in HISTOGRAM_BINS)
                + ": `0` is no error, `2^k` is from 2^k to below 2^(k+1), and the last is open above.\n"
            )
    return "".join(parts)


def command_line() -> str:
    """docs/cli.md: every command with its arguments and options."""
    import typer

    from hfp8sim.cli import app

    group: Any = typer.main.get_command(app)
    parts = [
        "# Command line\n\n"
        "Generated from the commands themselves by `python -m docs.pages.reference`; do not edit.\n\n"
        "Exit status: 0 done, 1 a check failed, 2 bad input (one line that says what is wrong and what "
        "would be right), 130 interrupted. Output goes to standard output, everything else to standard "
        "error. Files are written whole or not at all.\n"
    ]
    before = [
        (f"`{', '.join(given.opts)}`", _values(given), given.help or "")
        for given in group.params
        if given.name != "help"
    ]
    parts.append(
        "\nBefore the command (`hfp8sim --formats mine.toml run digits-cnn --set a_format=mine-134`):\n\n"
        + table(("option", "value", "meaning"), before)
    )
    for name, command in group.commands.items():
        arguments, options = [], []
        words = [f"hfp8sim {name}"]
        for given in command.params:
            if given.name == "help":
                continue
            if type(given).__name__ == "TyperArgument":
                shown = given.name.upper() + ("…" if given.nargs == -1 else "")
                words.append(shown if given.required else f"[{shown}]")
                arguments.append((f"`{shown}`", given.help or ""))
            else:
                options.append(
                    (
                        f"`{', '.join(given.opts)}`",
                        _values(given),
                        _default(given),
                        given.help or "",
                    )
                )
        usage = " ".join(words) + (" [OPTION…]" if options else "")
        parts.append(f"\n## {name}\n\n{command.help}\n\n```text\n{usage}\n```\n")
        if arguments:
            parts.append("\n" + table(("argument", "meaning"), arguments))
        if options:
            parts.append("\n" + table(("option", "value", "default", "meaning"), options))
    return "".join(parts)


def _values(option: Any) -> str:
    """What an option takes."""
    kind = option.type_descriptor.annotation
    if option.is_flag or kind is bool:
        return ""
    if option.metavar:
        return f"`{option.metavar}`"
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return ", ".join(f"`{choice.value}`" for choice in kind)
    words = {int: "integer", float: "number", Path: "path"}
    return words.get(kind, "text")


def _default(option: Any) -> str:
    value = getattr(option.default, "value", option.default)
    blank = value is None or value is False or value in ("", ())
    return "" if blank or option.required else f"`{value}`"


#: Page (or file) and what makes it.
MADE: dict[str, Callable[[], str]] = {
    "columns.md": columns,
    "cli.md": command_line,
    "formats.md": format_docs.page,
    "profiles.md": profile_docs.page,
    "isa.md": isa_docs.page,
    "report.schema.json": schema.document,
}


def main() -> None:
    """Write every page that is not as it should be."""
    for name, make in MADE.items():
        path, text = HERE / name, make()
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
            print(f"wrote docs/{name}")


if __name__ == "__main__":
    main()
