"""A study's record: verdict, tables, and files that are read back; its plot is XML that holds every dot."""

import math
import xml.etree.ElementTree as ET

import pytest

from hfp8sim.errors import InputError
from hfp8sim.report.curves import Axis, Curve, curves, file, series
from hfp8sim.report.study import Check, Metric, StudyRecord

LOSS, RATE = Metric("loss", "nats", 3, log=True), Metric("rate", log=True)


def record(**changes) -> StudyRecord:
    rows = [
        {"arm": arm, "seed": seed, "rate": rate, "loss": rate * (seed + 1) + shift}
        for seed in (1, 0)
        for rate in (0.1, 0.01)
        for arm, shift in (("a", 0.0), ("b", 0.5))
    ]
    values = {
        "name": "x", "title": "A < B", "claim": "c", "source": "s", "setup": "here", "arms": {"a": "one", "b": "two"},
        "metrics": (LOSS,), "rows": rows, "sweep": RATE, "checks": (Check("yes", True), Check("no", False)),
        "facts": {"quick": True},
    }  # fmt: skip
    return StudyRecord(**(values | changes))


def test_values_are_seed_by_seed_and_differences_paired() -> None:
    study = record()
    assert study.points == [0.01, 0.1]
    assert study.seeds == [0, 1]
    assert study.values("loss", "a", 0.1) == [0.1, 0.2]
    difference = study.difference("loss", "b", "a", 0.1)
    assert difference.mean == pytest.approx(0.5)
    assert difference.deviation == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("held", "verdict"),
    [((True, True), "shown"), ((True, False), "partly shown"), ((False, False), "not shown")],
)
def test_verdict_follows_from_the_checks(held, verdict) -> None:
    assert record(checks=tuple(Check("t", h) for h in held)).verdict == verdict


def test_json_is_read_back() -> None:
    study = record()
    assert StudyRecord.from_json(study.to_json()) == study
    plain = record(sweep=None, rows=[{"arm": "a", "seed": 0, "loss": 1.0}])
    assert StudyRecord.from_json(plain.to_json()) == plain


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"version": 2}', '{"version": 1, "verdict": ""}']
)
def test_other_files_are_refused(content) -> None:
    with pytest.raises(InputError, match=r"x\.json: not a study"):
        StudyRecord.from_json(content, "x.json")


def test_table_has_mean_and_deviation() -> None:
    headings, rows = record(metrics=(LOSS, Metric("stuck"))).table()
    assert headings == ["rate", "arm", "loss (nats)", "stuck"]
    assert rows[0] == ["0.01", "a", "0.015 ± 0.007", ""]
    assert len(rows) == 4
    lost = record(
        sweep=None, rows=[{"arm": "a", "seed": s, "loss": v} for s, v in enumerate((1.0, math.inf))]
    )
    assert lost.table()[1] == [["a", "1.000, ∞"]]


def test_sweep_of_one_metric_has_a_column_for_each_arm() -> None:
    headings, rows = record().table()
    assert headings == ["rate: loss (nats)", "a", "b"]
    assert rows == [
        ["0.01", "0.015 ± 0.007", "0.515 ± 0.007"],
        ["0.1", "0.150 ± 0.071", "0.650 ± 0.071"],
    ]


def test_text_says_what_holds() -> None:
    text = str(record())
    assert "  yes  yes" in text
    assert "   NO  no" in text
    assert text.endswith("verdict at this scale (quick size): partly shown\n")


def test_csv_has_every_row() -> None:
    lines = record().to_csv().splitlines()
    assert lines[0] == "arm,seed,rate,loss"
    assert len(lines) == 9


def elements(picture: str, name: str) -> list[ET.Element]:
    return ET.fromstring(picture).findall(f".//{{http://www.w3.org/2000/svg}}{name}")


def test_plot_has_a_dot_for_each_seed_and_a_line_for_each_arm() -> None:
    picture = record().to_svg()
    assert len(elements(picture, "circle")) == 8
    assert len(elements(picture, "polyline")) == 2
    arms = record(
        sweep=None, rows=[{"arm": a, "seed": s, "loss": s + 1.0} for a in "ab" for s in range(3)]
    ).to_svg()
    assert len(elements(arms, "circle")) == 6
    assert len(elements(arms, "polyline")) == 2


def test_points_that_are_not_finite_interrupt_a_line() -> None:
    points = ((0.0, 1.0), (1.0, 2.0), (2.0, math.nan), (3.0, 1.0), (4.0, 3.0))
    picture = file("x", "x", [Curve("a", points, points, series(0))], Axis("x"), Axis("y"))
    assert len(elements(picture, "polyline")) == 2
    assert len(elements(picture, "circle")) == 4


def test_axes_place_values_where_their_ticks_are() -> None:
    points = ((1.0, 10.0), (100.0, 1000.0))
    picture = curves(
        "x", "x", [Curve("a", points, points)], Axis("x", log=True), Axis("y", log=True)
    )
    root = ET.fromstring(picture)
    circles = [(c.get("cx"), float(c.get("cy") or 0)) for c in root.iter("circle")]
    ticks = {t.text: t.get("x") for t in root.iter("text") if t.get("class") == "tick"}
    labels = {
        t.text: float(t.get("y") or 0) - 4 for t in root.iter("text") if t.get("class") == "label"
    }
    assert circles[0][0] == ticks["1"]
    assert circles[1][0] == ticks["100"]
    assert circles[0][1] == pytest.approx(labels["10"], abs=0.02)
    assert circles[0][1] > circles[1][1]  # larger is higher
