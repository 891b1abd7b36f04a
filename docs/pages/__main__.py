"""Write every generated page, and every example in a page: `python -m docs.pages`, or `make pages`."""

from __future__ import annotations

from docs.pages import examples, proofs, reference


def main() -> None:
    """Write the pages that are stale, and name them."""
    reference.main()
    text = proofs.page()
    if text != proofs.PAGE.read_text("utf-8"):
        proofs.PAGE.write_text(text, "utf-8")
        print("wrote docs/proofs.md")
    examples.main()


if __name__ == "__main__":
    main()
