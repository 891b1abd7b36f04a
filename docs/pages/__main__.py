"""Write the generated pages and the examples in pages that are stale: `make pages`.

    python -m docs.pages [PAGE ...]      # python -m docs.pages cli.md proofs.md

Without arguments: all of them. A test fails while a page is stale.
"""

from __future__ import annotations

import sys
from pathlib import Path

from docs.pages import GENERATED, ROOT, current, with_examples


def main() -> int:
    """Write the pages that are stale, and print their names."""
    stale = False
    for path in _chosen(sys.argv[1:]):
        text = current(path)
        if not path.is_file() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
            stale = True
    if not stale:
        print("every page is current")
    return 0


def _chosen(names: list[str]) -> list[Path]:
    paths = [*GENERATED, *(path for path in with_examples() if path not in GENERATED)]
    if not names:
        return paths
    chosen = [path for path in paths if {path.name, str(path.relative_to(ROOT))} & set(names)]
    if len(chosen) < len(names):
        page_names = ", ".join(path.name for path in paths)
        raise SystemExit(f"not a page with generated parts or examples; these are: {page_names}")
    return chosen


if __name__ == "__main__":
    sys.exit(main())
