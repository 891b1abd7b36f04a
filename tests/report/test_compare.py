"""Comparisons: labels name the differences, tables fit, a missing value is a dash."""

import csv
import io
import math

import pytest
from rich.console import Console

from hfp8sim.errors import InputError
from hfp8sim.report.columns import BY_NAME, change_text
from hfp8sim.report.comparison import DEFAULT, check_columns, distinguish
from hfp8sim.report.comparison_table import layer_tables, overview
from hfp8sim.report.report import Comparison, Report, compare
from tests.report.samples import facts, row, sample


def printed(table: object, width: int = 100) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined, no-any-return]


def profile(name: str = "hfp8", **fields: object) -> dict[str, object]:
    return {"name": name, "chunk_length": 64, "rounding": "nearest-away", **fields}


def pair() -> Comparison:
    return compare([sample(), sample(scale=2.0, profile=profile(chunk_length=8))])


@pytest.mark.parametrize(
    ("first", "second", "labels"),
    [
        ({}, {}, ["the same run", "the same run"]),
        ({"seed": 1}, {"seed": 2}, ["seed=1", "seed=2"]),
        (
            {"profile": profile()},
            {"profile": profile(chunk_length=8)},
            ["chunk_length=64", "chunk_length=8"],
        ),
        (
            {"profile": profile()},
            {"profile": profile("fp16", chunk_length=1)},
            ["profile=hfp8", "profile=fp16"],
        ),
        (
            {"machine": facts()["machine"]},
            {"machine": facts()["machine"] | {"memory": {"bytes_per_cycle": 8}}},
            ["memory.bytes_per_cycle=64", "memory.bytes_per_cycle=8"],
        ),
        (
            {"policy": []},
            {"policy": [{"rule": "first", "profile": profile("fp16")}]},
            ["policy=none", "policy=first=fp16"],
        ),
        ({"phases": ["fwd"]}, {"phases": ["fwd", "dgrad"]}, ["phases=fwd", "phases=fwd,dgrad"]),
        ({"command": "a"}, {"command": "b"}, ["the same run", "the same run"]),
    ],
)
def test_labels_name_the_facts_that_differ(
    first: dict[str, object], second: dict[str, object], labels: list[str]
) -> None:
    assert distinguish([sample(**first), sample(**second)]) == labels


def test_layers_side_by_side() -> None:
    both = pair()
    assert both.letters == ["A", "B"]
    assert len(both.keys) == 9
    first, second = both.values(("fc", "fwd"), "cycles")
    assert (first, second) == (sample().layers[2]["cycles"], sample(scale=2.0).layers[2]["cycles"])
    assert both.values(None, "cycles")[0] == sample().total["cycles"]


def test_tables_fit_and_show_the_change() -> None:
    for count in (2, 3, 6):
        reports = [sample(seed=seed, scale=seed + 1.0) for seed in range(count)]
        tables = layer_tables(compare(reports), DEFAULT, 100)
        for table in tables:
            lines = printed(table)
            assert max(map(len, lines)) <= 100 and len(lines) == 11
        assert (len(tables) == 1) == (count < 6)
    lines = printed(layer_tables(pair())[0])
    assert lines[0].split()[-3:] == ["A", "B", "B/A"]
    assert "×2.00" in lines[-1] and "=" in lines[1]


def test_overview_has_a_line_for_each_run() -> None:
    lines = printed(overview(pair()))
    assert len(lines) == 3 and max(map(len, lines)) <= 100
    assert "chunk_length=64" in lines[1] and "chunk_length=8" in lines[2]


def test_row_of_one_run_only_is_a_dash() -> None:
    short = Report(sample().layers[:4], facts(seed=1), planned=9)
    both = compare([sample(), short])
    assert both.values(("fc", "wgrad"), "cycles")[1] is None
    assert "(partial)" in "\n".join(printed(overview(both)))
    lines = printed(layer_tables(both, ["cycles"])[0])
    missing = next(line for line in lines if line.startswith("fc") and "wgrad" in line)
    assert missing.split()[-2:] == ["–", "–"]


@pytest.mark.parametrize(
    ("name", "first", "other", "expected"),
    [
        ("cycles", 100, 150, "×1.50"),
        ("cycles", 100, 100, "×1.00"),
        ("cycles", 0, 100, "–"),
        ("sqnr_db", 30.0, 28.44, "-1.6"),
        ("sqnr_db", 30.0, 30.01, "0.0"),
        ("sqnr_db", 30.0, 29.99, "0.0"),
        ("sqnr_db", 30.0, math.inf, "+inf"),
        ("sqnr_db", math.inf, math.inf, "="),
        ("sqnr_db", 30.0, math.nan, "–"),
        ("utilisation", 0.5, 0.75, "+25.0"),
        ("flushed", 10, 3, "-7"),
    ],
)
def test_change_text(name: str, first: object, other: object, expected: str) -> None:
    assert change_text(BY_NAME[name], first, other) == expected


def test_csv_holds_every_row_of_every_run() -> None:
    read = list(csv.DictReader(io.StringIO(pair().to_csv())))
    assert [r["run"] for r in read] == ["chunk_length=64"] * 10 + ["chunk_length=8"] * 10
    assert read[10]["cycles"] == str(sample(scale=2.0).layers[0]["cycles"])


def test_compare_refuses_unfit_reports_and_columns() -> None:
    with pytest.raises(InputError, match="at least two"):
        compare([sample()])
    with pytest.raises(InputError, match="no layer and phase in common"):
        compare([sample(), Report([row("other", "fwd")], facts())])
    with pytest.raises(InputError, match="1 labels for 2"):
        compare([sample(), sample()], ["one"])
    with pytest.raises(InputError, match="unknown column 'sqnr'; did you mean"):
        check_columns(["sqnr"])
    with pytest.raises(InputError, match="unknown column 'layer'"):
        check_columns(["layer"])


def test_letters_after_z_are_pairs() -> None:
    letters = compare([sample(seed=seed) for seed in range(30)]).letters
    assert letters[:2] == ["A", "B"] and letters[25:28] == ["Z", "AA", "AB"]
