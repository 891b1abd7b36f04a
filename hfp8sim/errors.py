"""The one exception a user can provoke."""


class InputError(ValueError):
    """Bad input: one clear line that says what is wrong and what would be right."""


#: So many known names stand in a message; it stays one readable line.
SHOWN = 24


def unknown(
    what: str, name: object, known: list[str] | tuple[str, ...], of: str = ""
) -> InputError:
    """An `InputError` for a name that is not in a table (`of` something), with the nearest names that are."""
    import difflib

    near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
    shown = ", ".join(known[:SHOWN]) + (f", … ({len(known)} in all)" if len(known) > SHOWN else "")
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {shown}"
    return InputError(f"unknown {what} {name!r}{of and f' of {of}'}; {hint}")
