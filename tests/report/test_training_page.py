"""The page of a training run: complete, self-contained, and without console messages in a real browser."""

import re

import pytest

from hfp8sim.network import PHASES
from hfp8sim.report.training import StepReport, StepRow, TrainingLog
from tests.report.samples import row
from tests.report.test_html import CHROMIUM, Page, opened

LAYERS = ("stem", "block.<1>", "head")


def log(layers=LAYERS) -> TrainingLog:
    """20 steps, of which three were reported."""
    steps = [
        StepRow(i, 2.0 / i, 1024.0 if i < 10 else 512.0, i == 10, 0.01 * i) for i in range(1, 21)
    ]
    reports = [
        StepReport(
            step,
            [row(n, p) | {"sqnr_db": 20.0 + step} for n in layers for p in PHASES],
            dict.fromkeys(layers, 0.25),
        )
        for step in (1, 10, 20)
    ]
    return TrainingLog(
        "net", {"recipe": "hfp8", "machine": "rapid-core", "command": "<x>"}, steps, reports
    )


def test_page_has_a_figure_for_each_column_and_phase() -> None:
    text = log().to_html()
    page = Page(text)
    columns = [
        f"{c}_{p}"
        for c in ("sqnr_db", "flushed_share", "saturated_share", "swamped_share")
        for p in PHASES
    ]
    assert set(page.plots) == {"loss", "scale", "stuck", *columns}
    assert page.rows["table-last"] == len(LAYERS) * len(PHASES) + 2  # heading and total
    assert len(page.ids) == len(set(page.ids))
    assert "block.&lt;1&gt;" in text and "block.<1>" not in text
    assert page.links == ["data:,"]
    assert not re.search(r"https?://|@import|url\(", text)


def test_figures_without_a_value_are_left_out() -> None:
    whole = log()
    whole.reports = [
        StepReport(r.step, [x | {"saturated_share": 0.0} for x in r.rows], {})
        for r in whole.reports
    ]
    whole.steps = [StepRow(s.step, s.loss, s.scale) for s in whole.steps]
    plots = Page(whole.to_html()).plots
    assert not any(plot.startswith(("saturated", "stuck")) for plot in plots)
    assert Page(TrainingLog("empty").to_html()).rows.get("table-last") is None


def test_notes_are_kept_and_shown() -> None:
    noted = log()
    noted.note(["missing: <layer>"])
    noted.note(["missing: <layer>", "another"])
    again = TrainingLog.from_json(noted.to_json())
    assert again.notes == ["missing: <layer>", "another"]
    assert again.to_html().count("missing: &lt;layer&gt;") == 1


def test_many_layers_share_the_colours_of_the_worst() -> None:
    layers = tuple(f"layer{i}" for i in range(12))
    many = log(layers)
    curves = many._layers_over_steps("sqnr_db", "fwd")
    assert len(curves) == len({curve.series for curve in curves}) == 8


def test_change_is_that_since_the_first_report() -> None:
    text = log().to_html()
    assert text.count(">+19.0<") == len(LAYERS) * len(PHASES)


@pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium to open the page in; install one to run this"
)
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (500, True)])
def test_in_a_browser(tmp_path, width, dark) -> None:
    state, console = opened(log().to_html(), tmp_path, width, dark)
    assert state["errors"] == [] and "CONSOLE" not in console
    for name, (wide, high, _, _, black) in state["plots"].items():
        assert wide > 150 and high > 50 and not black, name
    assert state["wide"] <= state["window"]
    up, down = state["sorted"]
    assert up == sorted(up) and down == up[::-1] != up
