"""The documentation as a site, with an example report in it: `make docs`. It needs no network.

    python -m docs.pages.site [FOLDER]

The build is strict: a dead link, a page that the navigation leaves out, or a page that is missing is an error.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from docs.pages import ROOT


class _Warnings(logging.Handler):
    """Collects what mkdocs warns of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage().strip())


def build(folder: Path) -> list[str]:
    """Build the site into a folder. Returns the warnings of mkdocs, one line each."""
    from mkdocs.commands.build import build as mkdocs_build
    from mkdocs.config import load_config

    warnings = _Warnings()
    logger = logging.getLogger("mkdocs")
    logger.addHandler(warnings)
    try:
        mkdocs_build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder)))
    finally:
        logger.removeHandler(warnings)
    return warnings.lines


def example(folder: Path) -> Path:
    """Write the report that the pages link to."""
    import hfp8sim as hs
    from hfp8sim.files import write_text

    report = hs.simulate("digits-cnn", policy="first=fp16,last=fp16")
    return write_text(folder / "example.html", report.to_html())


def main() -> int:
    """The command; 1 where mkdocs had a warning."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "site"
    warnings = build(folder.resolve())
    for line in warnings:
        print(f"docs: {line}", file=sys.stderr)
    example(folder)
    print(folder / "index.html")
    return 1 if warnings else 0


if __name__ == "__main__":
    sys.exit(main())
