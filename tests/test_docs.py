"""The documentation agrees with the code: generated pages, examples, names of files, links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import hfp8sim as hs
from docs.pages import DOCS, GENERATED, ROOT, current, examples, site, with_examples
from docs.pages.markdown import filled, table

PAGES = sorted({*GENERATED, *with_examples()})


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_page_is_current(path: Path) -> None:
    page = path.relative_to(ROOT)
    assert path.read_text("utf-8") == current(path), f"stale: run python -m docs.pages {page}"


def test_table_escapes_bars() -> None:
    assert table(("a", "b"), [("x|y", "z")]) == "| a | b |\n| --- | --- |\n| x\\|y | z |\n"


def test_filled_replaces_the_marked_place() -> None:
    page = "1\n<!-- a -->\nold\n<!-- /a -->\n2\n"
    assert filled(page, a="new \\1\n") == page.replace("old", "new \\1")
    with pytest.raises(ValueError, match="the page has 0 places for b, not one"):
        filled(page, b="")


def test_changed_output_is_written() -> None:
    true = "```pycon\n>>> 6 * 7\n42\n```\n"
    assert examples.refreshed(true) == true
    assert examples.refreshed(true.replace("42", "41")) == true
    page = '```toml\n# file: a.toml\nname = "x"\n```\n\n```console\n$ cat a.toml\n```\n'
    assert examples.refreshed(page).endswith('$ cat a.toml\nname = "x"\n```\n')


def test_omitted_lines_stay_omitted() -> None:
    page = "```text\n# file: a\n1\n2\n3\n4\n```\n```console\n$ cat a\n1\n…\nold\n```\n"
    assert examples.refreshed(page).endswith("$ cat a\n1\n…\n4\n```\n")


def test_named_files_exist() -> None:
    """Files and folders that a page names in backquotes; `kernels/form.py` is relative to the package."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")]
    folders = ("hfp8sim", "c_ref", "tests", "docs", "benchmarks", "examples")
    names = {path.name for folder in folders for path in (ROOT / folder).rglob("*")}
    missing = [
        f"{page.name}: {name}"
        for page in pages
        for name in re.findall(r"`([\w./-]+(?:\.(?:py|c|h)|/))`", page.read_text("utf-8"))
        if not any((root / name).exists() for root in (ROOT, ROOT / "hfp8sim"))
        and ("/" in name or name not in names)
    ]
    assert missing == []


def test_tutorials() -> None:
    pages = {path.stem: path.read_text("utf-8") for path in (DOCS / "tutorials").glob("*.md")}
    training = {"own-network", "sun-2019"}  # run by tests/training/test_tutorials.py
    assert set(pages) == {"architect", "researcher", "ml-engineer", "sweeps"} | training
    for name in set(pages) - training:
        assert pages[name].count("$ hfp8sim ") + pages[name].count(">>> ") >= 4


def test_site_builds(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="the site's theme is not installed: make setup")
    pytest.importorskip("mkdocstrings", reason="mkdocstrings is not installed: make setup")
    warnings = site.build(tmp_path)
    assert warnings == []
    pages = {path.relative_to(DOCS).with_suffix(".html") for path in DOCS.rglob("*.md")}
    assert all((tmp_path / page).is_file() for page in pages)
    assert (
        tmp_path / "search" / "search_index.js"
    ).is_file()  # search in pages opened from the disk
    api = (tmp_path / "api.html").read_text("utf-8")
    assert all(f">{name}<" in api for name in hs.__all__ if name != "__version__")
    for page in tmp_path.rglob("*.html"):
        text = page.read_text("utf-8")
        loaded = re.findall(r"<(?:script|img|link)[^>]+(?:src|href)=\"((?:https?:)?//[^\"]+)", text)
        assert loaded == [], page
