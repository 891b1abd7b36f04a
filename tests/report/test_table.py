"""The terminal's table: it fits the width, shortens names, and names what limits a layer."""

import dataclasses
import io

import pytest
from rich.console import Console
from rich.table import Table

from hfp8sim.report.columns import BY_NAME, lost_text
from hfp8sim.report.names import shortened
from hfp8sim.report.report import Report
from hfp8sim.report.table import (
    LEGEND,
    fields,
    footer,
    provenance,
    scaled,
    summary,
    table,
)
from tests.report.samples import alone, sample

DEEP = tuple(f"encoder.layer.{i}.attention.self.query.projection" for i in range(12))


def printed_by(width: int, made: Table) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(made)
    lines: list[str] = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    return [line.rstrip() for line in lines]


def printed(report: Report, width: int) -> list[str]:
    return printed_by(width, table(report, width))


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
def test_table_fits_the_width(report: Report, width: int) -> None:
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


def test_width_100_holds_shape_and_swamping() -> None:
    heading = printed(alone(sample()), 100)[0]
    assert "M×N×K" in heading and "swamped" in heading
    assert "µs" not in heading and "µs" in printed(alone(sample()), 160)[0]


def test_exchange_stands_beside_the_cycles() -> None:
    """In 100 columns without values, in 140 with them."""
    report = sample()
    assert "kB sent  exposed µs" in printed(report, 140)[0]
    for row in report.layers:
        for name in [column for column in row if BY_NAME[column].group in ("accuracy", "events")]:
            del row[name]
    assert "kB sent  exposed µs" in printed(report, 100)[0]


def test_lost_is_the_larger_share_and_says_which() -> None:
    def text(saturated: float | None, flushed: float) -> str:
        return lost_text({"saturated_share": saturated, "flushed_share": flushed})

    assert [text(0.63, 0.1), text(0.02, 0.4), text(0.0, 0.0951), text(0.0996, 0.0)] == [
        "63%↑", "40%↓", "9.5%↓", "10%↑",
    ]  # fmt: skip
    assert [text(0.0, 0.0), text(1.0, 1.0), text(0.0, 1e-5), text(None, 0)] == [
        "0", "100%↑", "0.0%↓", "",
    ]  # fmt: skip
    lines = printed(sample(), 80)
    assert "lost" in lines[0].split() and all("2.0%↓" in line for line in lines[1:])


def test_names_are_shortened_from_the_left() -> None:
    assert shortened("conv1", 10) == "conv1"
    assert shortened("layer1.0.downsample.conv", 16) == "l1.0.d.conv"
    assert shortened("layer12.0.downsample.conv", 22) == "l12.0.downsample.conv"
    assert shortened("averylongnameofalayer", 10) == "avery…ayer"
    assert shortened("a.b.averylongnameofalayer", 10) == "a.b.a…ayer"
    lines = printed(sample(DEEP), 100)
    assert len({line.split()[0] for line in lines[1:13]}) == 12  # still told apart


def test_rule_column_is_shown_if_a_rule_applied() -> None:
    report = alone(sample())
    assert "rule" not in printed(report, 100)[0].split()
    report.layers[0]["rule"] = "first"
    lines = printed(report, 100)
    assert "rule" in lines[0].split() and "first" in lines[1]
    assert "–" not in lines[2].split()


def test_summary_names_the_worst_layer() -> None:
    report = sample()
    worst = min(report.layers, key=lambda row: row["sqnr_db"])
    summary_text = summary(report)
    assert (
        f"lowest SQNR {worst['sqnr_db']:.1f} dB ({worst['layer']} {worst['phase']})" in summary_text
    )
    assert (
        "of 6.55 TFLOPS" in summary_text
        and "MB moved" in summary_text
        and "compulsory" in summary_text
    )
    assert "in 11 % of the MACs an operand is zero" in summary_text
    assert all(len(line) <= 100 for line in summary_text.splitlines())


@pytest.mark.parametrize(
    ("value", "summary_text"),
    [
        (320, "0.3 kMAC"),
        (999_999, "1,000.0 kMAC"),
        (1_000_000, "1.0 MMAC"),
        (4_089_184_256, "4,089.2 MMAC"),
    ],
)
def test_counts_small_and_large(value: int, summary_text: str) -> None:
    assert " ".join(scaled(value, "MAC", 1)) == summary_text


def test_every_heading_is_a_column_or_the_shape() -> None:
    shorts = {column.short for column in BY_NAME.values()} | {"M×N×K", "lost"}
    assert {field[0] for field in fields(sample())} <= shorts
    assert set(LEGEND) <= shorts | {"total"}


def test_time_only_report_shows_no_accuracy() -> None:
    report = sample()
    for row in report.layers:
        for column in BY_NAME.values():
            if column.group not in ("layer", "time"):
                row.pop(column.name)
    assert "\n" not in summary(report) and "SQNR" in summary(sample())
    assert "SQNR" not in printed(report, 100)[0]


def test_provenance_names_each_origin_once() -> None:
    report = sample(("a", "b"))
    assert provenance(report) == ["activations and weights captured"]
    for row in report.layers:
        row["tensors"] = "activations captured; weights drawn from N(0, 1), seed 0"
    report.layers[0]["tensors"] += "; sampled 3 of 9 rows (evenly spaced, reduction whole)"
    report.layers[1]["tensors"] = "weights captured; errors drawn from N(0, 1), seed 0"
    assert provenance(report) == [
        "activations and weights captured",
        "weights and errors drawn from N(0, 1), seed 0",
        f"1 of {len(report.layers)} rows sampled, their sums whole",
    ]
    report.layers[0]["tensors"] = "made up"
    assert "made up" in provenance(report)
    report = sample(("a", "b"))
    report.layers[-1]["tensors"] = "activations captured; errors captured"
    assert provenance(report) == ["activations, weights and errors captured"]


@pytest.mark.parametrize("width", [60, 80, 100])
def test_footer_explains_shown_columns_only(width: int) -> None:
    report = dataclasses.replace(sample(), notes=("a note " * 20, "another"))
    text = printed_by(width, footer(report, ("layer", "SQNR")))
    starts = [line.split()[0] for line in text if not line.startswith(" ")]
    assert starts == ["operands", "SQNR", "total", "notes"]
    assert all(len(line) <= width for line in text) and "swamped" not in " ".join(text)
    assert text[-1].strip() == "another"
    indent = len(text[-1]) - len("another")
    assert all(line[:indent].strip() in ("", *starts) for line in text)


def test_report_prints_as_on_the_command_line() -> None:
    report = sample()
    lines = str(report).splitlines()
    assert (
        lines[0].startswith("made-up on rapid-core (2048 MAC/cycle") and max(map(len, lines)) <= 100
    )
    assert lines[2].split()[:2] == ["conv1", "fwd"] and "\x1b" not in str(report)
    assert max(map(len, report.to_text(80).splitlines())) <= 80
    assert repr(report) == f"<Report on made-up: {len(report.layers)} rows>"
    partial = dataclasses.replace(report, planned=20)
    assert repr(partial) == f"<Report on made-up: {len(report.layers)} of 20 rows>"
