"""docs/api.md: the public names, by the module that each is loaded from. The site fills in their docstrings."""

from __future__ import annotations

import hfp8sim as hs

_HEAD = """# Python

Generated from `hfp8sim/__init__.py`; do not edit.

These are the names of `import hfp8sim as hs`. They are loaded when they are first used, so that the import costs nothing.
Each docstring gives shapes, dtypes, units and errors, and the site shows the source below it. Bad input raises
`hs.InputError` with one line. `hs.formats()`, `hs.profiles()` and `hs.machines()` list what is shipped.
"""

#: Titles, by the room that a name is loaded from; rooms in the page's order.
TITLES = {
    "formats": "Formats", "ops": "Products and conversions", "units": "Profiles", "interop": "Files of other tools",
    "network": "Layers and workloads", "workloads": "Layers and workloads", "simulation": "Runs",
    "report": "Reports", "sweeps": "Sweeps", "machine": "Machines", "systems": "Systems", "errors": "Errors",
}  # fmt: skip

#: Packages whose names are not in `hs`, with what they are for. Each lists its names in `__all__`.
PACKAGES = {
    "hfp8sim.training": "PyTorch networks whose products, operands and updates are emulated; needs the extra `torch`",
    "hfp8sim.testing": "laws and strategies for tests of your own",
}


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    by_title: dict[str, list[str]] = {}
    for home, names in hs._HOMES.items():
        title = title_of(home)
        by_title.setdefault(title, []).extend(f"{home}.{name}" for name in names)
    for title in dict.fromkeys((*TITLES.values(), *by_title)):
        if title in by_title:
            parts.append(f"## {title}\n")
            parts += [f"::: {path}\n" for path in by_title[title]]
    parts.append("## Packages\n")
    parts += [f"- `{package}`: {purpose}." for package, purpose in PACKAGES.items()]
    return "\n".join(parts) + "\n"


def title_of(home: str) -> str:
    """The title under which the names of a module stand; the room's name where it has none."""
    room = home.split(".")[1]
    return TITLES.get(room, room.capitalize())
