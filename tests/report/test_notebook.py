"""What notebooks show: well-formed HTML without scripts, with the figures of the text forms."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

import hfp8sim as hs
from hfp8sim.report.report import compare
from hfp8sim.report.step import training_step
from hfp8sim.systems import Link, System
from hfp8sim.units.profile import MEANINGS
from tests.report.samples import sample


def parsed(html: str) -> ElementTree.Element:
    """The tree of a fragment; it must be well-formed, and run nothing."""
    assert "<script" not in html and "http" not in html
    return ElementTree.fromstring(f"<div>{html.replace('<br>', '<br/>')}</div>")


def texts(element: ElementTree.Element, tag: str) -> list[str]:
    return ["".join(each.itertext()) for each in element.iter(tag)]


@pytest.mark.parametrize("name", hs.formats())
def test_formats_show_their_facts(name: str) -> None:
    fmt = hs.get_format(name)
    tree = parsed(fmt._repr_html_())
    assert texts(tree, "caption") == [name]
    assert f"{fmt.max:.6g}" in texts(tree, "td")
    values = {x for x in fmt.table() if 0 < x < float("inf")} if fmt.bits <= 8 else set()
    assert len(list(tree.iter("line"))) == len(values)


def test_report_shows_its_training_step() -> None:
    system = System("pair", 2, Link(0.5, 2), machine="edge-8x8")
    report = hs.simulate("digits-cnn", time_only=True, system=system)
    step = training_step(report)
    assert step is not None
    shown = re.sub(r"<[^>]+>", " ", report._repr_html_())
    assert f"a step takes {1e3 * step.seconds:,.3f} ms: {1e3 * step.compute:,.3f} ms" in shown
    assert f"and {1e3 * step.exposed:,.3f} ms exposed" in shown


def test_profile_shows_every_field_with_its_meaning() -> None:
    tree = parsed(hs.get_profile("hopper-fp8")._repr_html_())
    assert texts(tree, "th")[3:] == [name for name in MEANINGS if name != "name"]
    assert {"e4m3fn", "aligned", "128"} <= set(texts(tree, "td"))


def test_report_shows_the_rows_of_the_table() -> None:
    report = sample()
    report.layers[0]["layer"] = "<b>&\x1b"
    tree = parsed(report._repr_html_())
    rows = [[("".join(c.itertext())) for c in row] for row in tree.iter("tr")]
    assert len(rows) == len(report.layers) + 2 and rows[-1][0] == "total"
    assert rows[1][0] == "<b>&\\x1b"
    assert "lowest SQNR" in "".join(tree.itertext())
    figures = re.findall(r"[\d,.]+", report.to_text(500).splitlines()[2])
    assert set(figures) <= set(re.findall(r"[\d,.]+", " ".join(rows[1])))


def test_partial_report_says_so() -> None:
    whole = sample()
    part = hs.Report(whole.layers[:2], whole.facts, ("missing: node 'a'",), 9)
    text = "".join(parsed(part._repr_html_()).itertext())
    assert "partial: 2 of 9 rows" in text and "missing: node 'a'" in text


def test_comparison_is_its_text() -> None:
    both = compare([sample(), sample(seed=1)], ["<a>", "b"])
    assert "".join(parsed(both._repr_html_()).itertext()) == both.to_text()
