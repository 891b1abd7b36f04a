"""The generated parts of the documentation. `python -m docs.pages` writes them, and a test compares them.

Reference pages are made from the tables in the code. Examples in any page are run again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from docs.pages import (
    api,
    architecture,
    c_library,
    columns,
    command_line,
    examples,
    formats,
    isa,
    machine,
    profiles,
    proofs,
    recipes,
    rtl,
    studies,
    workloads,
)
from hfp8sim.report import schema

DOCS = Path(__file__).parents[1]
ROOT = DOCS.parent

#: Pages that are generated, wholly or between markers.
GENERATED: dict[Path, Callable[[], str]] = {
    DOCS / "api.md": api.page,
    DOCS / "architecture.md": architecture.page,
    DOCS / "cli.md": command_line.page,
    DOCS / "columns.md": columns.page,
    DOCS / "formats.md": formats.page,
    DOCS / "isa.md": isa.page,
    DOCS / "machine.md": machine.page,
    DOCS / "profiles.md": profiles.page,
    DOCS / "proofs.md": proofs.page,
    DOCS / "recipes.md": recipes.page,
    DOCS / "rtl.md": rtl.page,
    DOCS / "studies.md": studies.page,
    DOCS / "workloads.md": workloads.page,
    DOCS / "report.schema.json": schema.document,
    **{DOCS / f"studies/{name}.svg": partial(studies.plot, name) for name in studies.names()},
    **{DOCS / f"studies/{name}.csv": partial(studies.csv, name) for name in studies.names()},
    c_library.NAMES: c_library.names,
    c_library.PACKAGE: c_library.package,
}


def with_examples() -> list[Path]:
    """Pages that have examples, README.md among them."""
    paths = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
    return [path for path in paths if examples.has_examples(path.read_text("utf-8"))]


def current(path: Path) -> str:
    """What a page must be: generated from the code, with the present output of its examples."""
    text = GENERATED[path]() if path in GENERATED else path.read_text("utf-8")
    return examples.refreshed(text) if examples.has_examples(text) else text
