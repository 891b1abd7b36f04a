"""`make docs`: the reference pages anew, then the site, then an example report in it. No network.

    python -m docs.pages.build [SITE]

The build is strict: a dead link, a page that the navigation leaves out or a page that is missing is an
error, in one line each.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from docs.pages import reference

ROOT = Path(__file__).parents[2]


class Complaints(logging.Handler):
    """Keeps what mkdocs warns of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage().strip())


def build(site: Path) -> list[str]:
    """Build the site into a folder; the complaints."""
    from mkdocs.commands.build import build as make
    from mkdocs.config import load_config

    complaints = Complaints()
    logger = logging.getLogger("mkdocs")
    logger.addHandler(complaints)
    try:
        make(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(site)))
    finally:
        logger.removeHandler(complaints)
    return complaints.lines


def example(site: Path) -> Path:
    """A real report, as the pages link it."""
    import hfp8sim as hs
    from hfp8sim.files import write_text

    report = hs.simulate("digits-cnn", policy="first=fp16,last=fp16")
    return write_text(site / "example.html", report.to_html())


def main() -> int:
    """Build; 1 where something was wrong."""
    site = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "site"
    reference.main()
    complaints = build(site.resolve())
    for line in complaints:
        print(f"docs: {line}", file=sys.stderr)
    example(site)
    print(site / "index.html")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
