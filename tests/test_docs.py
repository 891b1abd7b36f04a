"""The documentation is what the code says: generated pages, repeated examples, a site without dead links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.pages import build, examples, proofs, reference

DOCS = Path(reference.__file__).parents[1]


@pytest.mark.parametrize("name", reference.MADE)
def test_reference_pages_are_the_tables(name: str) -> None:
    made = reference.MADE[name]()
    assert (DOCS / name).read_text("utf-8") == made, "stale: run python -m docs.pages.reference"


@pytest.mark.parametrize("path", examples.pages(), ids=lambda path: path.stem)
def test_examples_give_what_the_page_shows(path: Path) -> None:
    text = path.read_text("utf-8")
    assert examples.refreshed(text) == text, "stale: run python -m docs.pages.examples"


def test_an_example_that_has_changed_is_noticed() -> None:
    true = "```pycon\n>>> 6 * 7\n42\n```\n"
    assert examples.refreshed(true) == true
    assert examples.refreshed(true.replace("42", "41")) == true
    page = '```toml\n# file: a.toml\nname = "x"\n```\n\n```console\n$ cat a.toml\n```\n'
    assert examples.refreshed(page).endswith('$ cat a.toml\nname = "x"\n```\n')


def test_left_out_lines_stay_left_out() -> None:
    page = "```text\n# file: a\n1\n2\n3\n4\n```\n```console\n$ cat a\n1\n…\nold\n```\n"
    assert examples.refreshed(page).endswith("$ cat a\n1\n…\n4\n```\n")


def test_planted_bugs_are_counted() -> None:
    page = (DOCS / "proofs.md").read_text("utf-8")
    assert proofs.page() == page, "stale: run python -m docs.pages"


def test_tutorials_for_three_kinds_of_user() -> None:
    pages = {path.stem: path.read_text("utf-8") for path in (DOCS / "tutorials").glob("*.md")}
    assert set(pages) == {"architect", "researcher", "ml-engineer"}
    for text in pages.values():
        assert text.count("$ hfp8sim ") >= 4


def test_the_site_builds_without_network_or_dead_links(tmp_path: Path) -> None:
    complaints = build.build(tmp_path)
    assert complaints == []
    pages = {path.relative_to(DOCS).with_suffix(".html") for path in DOCS.rglob("*.md")}
    assert all((tmp_path / page).is_file() for page in pages)
    for page in tmp_path.rglob("*.html"):
        text = page.read_text("utf-8")
        loaded = re.findall(r"<(?:script|img|link)[^>]+(?:src|href)=\"((?:https?:)?//[^\"]+)", text)
        assert loaded == [], page
