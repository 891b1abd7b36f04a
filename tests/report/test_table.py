"""The terminal's table: it fits, it ellipsises, it says what limits a layer."""

import io

import pytest
from rich.console import Console

from hfp8sim.report.columns import BY_NAME
from hfp8sim.report.report import Report
from hfp8sim.report.table import fields, legend, provenance, shortened, summary, table
from tests.report.samples import sample

DEEP = tuple(f"encoder.layer.{i}.attention.self.query.projection" for i in range(12))


def printed(report: Report, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(table(report, width))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined, no-any-return]


def large() -> Report:
    """A network with the widest figures that occur."""
    report = sample(DEEP)
    for number, row in enumerate(report.layers):
        row |= {
            "m": 3211264, "n": 4096, "k": 16384, "groups": 1, "cycles": 12_345_678_901,
            "bound_by": "weight_load", "rule": "encoder.*" if number % 2 else "", "macs": 10**13,
        }  # fmt: skip
    return report


@pytest.mark.parametrize("width", [80, 100, 120, 160])
@pytest.mark.parametrize("report", [sample(), sample(DEEP), large()], ids=["few", "deep", "large"])
def test_fits(report: Report, width: int) -> None:
    lines = printed(report, width)
    assert len(lines) == len(report.layers) + 2  # no line is broken
    assert max(map(len, lines)) <= width
    heading = lines[0].split()
    for needed in ("layer", "phase", "cycles", "util", "bound", "SQNR"):
        assert needed in heading
    assert lines[-1].startswith("total")
    for row, line in zip(report.layers, lines[1:]):
        assert row["bound_by"].replace("_", " ") in line
        assert f"{row['cycles']:,}" in line and f"{row['sqnr_db']:.1f}" in line


def test_a_hundred_columns_hold_shape_and_swamping() -> None:
    heading = printed(sample(), 100)[0]
    assert "M×N×K" in heading and "swamped" in heading
    assert "µs" not in heading and "µs" in printed(sample(), 160)[0]


def test_names_are_shortened_where_it_hurts_least() -> None:
    assert shortened("conv1", 10) == "conv1"
    assert shortened("layer1.0.downsample.conv", 16) == "l1.0.d.conv"
    assert shortened("layer12.0.downsample.conv", 22) == "l12.0.downsample.conv"
    assert shortened("averylongnameofalayer", 10) == "avery…ayer"
    assert shortened("a.b.averylongnameofalayer", 10) == "a.b.a…ayer"
    lines = printed(sample(DEEP), 100)
    assert len({line.split()[0] for line in lines[1:13]}) == 12  # still told apart


def test_the_rule_shows_where_one_fired() -> None:
    report = sample()
    assert "rule" not in printed(report, 100)[0].split()
    report.layers[0]["rule"] = "first"
    lines = printed(report, 100)
    assert "rule" in lines[0].split() and "first" in lines[1]
    assert "–" not in lines[2].split()


def test_summary_names_the_worst_layer() -> None:
    report = sample()
    worst = min(report.layers, key=lambda row: row["sqnr_db"])
    said = summary(report)
    assert f"lowest SQNR {worst['sqnr_db']:.1f} dB ({worst['layer']} {worst['phase']})" in said
    assert "of 6.55 TFLOPS" in said and "MB moved" in said and "compulsory" in said
    assert "11.1% of the MACs gated" in said
    assert all(len(line) <= 100 for line in said.splitlines())


def test_every_heading_is_a_column_or_the_shape() -> None:
    shorts = {column.short for column in BY_NAME.values()} | {"M×N×K"}
    assert {field[0] for field in fields(sample())} <= shorts
    assert all(len(line) <= 100 for line in legend(sample()).splitlines())


def test_nothing_is_said_of_values_where_there_are_none() -> None:
    report = sample()
    for row in report.layers:
        for column in BY_NAME.values():
            if column.group not in ("layer", "time"):
                row.pop(column.name)
    assert legend(report).startswith("util") and "SQNR" not in legend(report)
    assert "\n" not in summary(report) and "SQNR" in summary(sample())
    assert "SQNR" not in printed(report, 100)[0]


def test_provenance_is_one_line() -> None:
    report = sample(("a", "b"))
    assert provenance(report) == "activations captured; weights captured"
    drawn = "activations captured; weights drawn from N(0, {}²), seed 0"
    for row, width in zip(report.layers, ("0.1", "0.2", "0.1")):
        row["tensors"] = drawn.format(width)
    report.layers[0]["tensors"] += "; sampled 3 of 9 rows (evenly spaced, reduction whole)"
    assert provenance(report) == (
        "activations captured; weights drawn from N(0, σ²), seed 0; weights captured; "
        "1 of 6 rows sampled, their sums whole"
    )
    for row in report.layers:
        row["tensors"] = drawn.format("0.1")
    assert provenance(report) == "activations captured; weights drawn from N(0, 0.1²), seed 0"
