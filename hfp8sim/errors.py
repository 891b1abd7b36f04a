"""The one exception that bad input raises, and helpers for its text."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class InputError(ValueError):
    """Bad input: one clear line that says what is wrong and what would be right."""


#: Known names that an error text lists at most, so that it stays one readable line.
MAX_LISTED = 24


def unknown(
    what: str, name: object, known: list[str] | tuple[str, ...], of: str = ""
) -> InputError:
    """An `InputError` for a name that is not among `known`. The text gives the nearest known names.

    `of` names the owner of the table: "unknown layer 'x' of 'resnet18'".
    """
    import difflib

    near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
    shown = ", ".join(known[:MAX_LISTED]) + (
        f", … ({len(known)} in all)" if len(known) > MAX_LISTED else ""
    )
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {shown}"
    return InputError(f"unknown {what} {name!r}{of and f' of {of}'}; {hint}")


@contextlib.contextmanager
def located(place: object) -> Iterator[None]:
    """Put `place: ` before the text of an `InputError` that is raised inside the `with` block."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{place}: {error}") from None


def one_line(error: object, limit: int = 200) -> str:
    """The text of another library's error, or any text, in one printable line of at most `limit` characters."""
    text = printable(" ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."


def printable(text: str) -> str:
    """The text with an escape such as `\\n` or `\\x1b` for each character that a terminal does not show."""
    if text.isprintable():
        return text
    import unicodedata

    shown = (c.isprintable() or unicodedata.category(c) == "Zs" for c in text)
    return "".join(
        c if show else c.encode("unicode_escape").decode()
        for c, show in zip(text, shown, strict=True)
    )


# -- arguments ---------------------------------------------------------------------------------------


def check_whole_number(value: object, what: str, low: int, high: int | None = None) -> int:
    """The value if it is an integer in low..high; `InputError` otherwise. None is no bound."""
    import operator

    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise InputError(f"{what} is {value!r:.60}; it must be a whole number") from None
    if isinstance(value, bool):
        raise InputError(f"{what} is {value!r}; it must be a whole number")
    if number < low or (high is not None and number > high):
        bound = f"at least {low}" if high is None else f"{low}..{high}"
        raise InputError(f"{what} is {number}, must be {bound}")
    return number
