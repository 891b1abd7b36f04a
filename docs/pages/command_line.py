"""docs/cli.md: every command with its arguments and options, from the commands themselves."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Any

from docs.pages.markdown import table


def page() -> str:
    """docs/cli.md: every command with its arguments and options."""
    import typer

    from hfp8sim.cli import app

    group: Any = typer.main.get_command(app)
    parts = [
        "# Command line\n\n"
        "Generated from the commands themselves by `make pages`; do not edit.\n\n"
        "Exit status: 0 done, 1 a check failed, 2 bad input (one line that says what is wrong and what "
        "would be right), 130 interrupted. Output goes to standard output, everything else to standard "
        "error. Files are written whole or not at all.\n"
    ]
    before = [
        (f"`{', '.join(parameter.opts)}`", _values(parameter), parameter.help or "")
        for parameter in group.params
        if parameter.name != "help"
    ]
    parts.append(
        "\nBefore the command (`hfp8sim --formats mine.toml run digits-cnn --set a_format=mine-134`):\n\n"
        + table(("option", "value", "meaning"), before)
    )
    for name, command in group.commands.items():
        arguments, options = [], []
        words = [f"hfp8sim {name}"]
        for parameter in command.params:
            if parameter.name == "help":
                continue
            if type(parameter).__name__ == "TyperArgument":
                metavar = parameter.name.upper() + ("…" if parameter.nargs == -1 else "")
                words.append(metavar if parameter.required else f"[{metavar}]")
                arguments.append((f"`{metavar}`", parameter.help or ""))
            else:
                options.append(
                    (
                        f"`{', '.join(parameter.opts)}`",
                        _values(parameter),
                        _default(parameter),
                        parameter.help or "",
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
