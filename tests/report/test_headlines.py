"""The worst findings of a report in words."""

from __future__ import annotations

from typing import Any

from hfp8sim.report.columns import PARTS
from hfp8sim.report.headlines import FAMILIES, PART_WORDS, headlines
from hfp8sim.report.report import Report
from hfp8sim.report.table import summary
from tests.report.samples import facts


def row(layer: str, operation: str, macs: int, cycles: int, **more: Any) -> dict[str, Any]:
    """A row of which all cycles are computing, unless `more` says otherwise."""
    parts = dict.fromkeys(PARTS, 0) | {"compute": cycles}
    return {
        "layer": layer, "phase": "fwd", "kind": "conv2d", "operation": operation, "groups": 1,
        "m": macs, "n": 1, "k": 1, "macs": macs, "cycles": cycles, "utilisation": macs / (100 * cycles),
        **parts, **more,
    }  # fmt: skip


def report(*rows: dict[str, Any]) -> Report:
    return Report(list(rows), facts())


def test_family_that_takes_more_time_than_work_is_named() -> None:
    found = headlines(
        report(
            row("a", "dw 3×3", 100, 300), row("b", "conv 1×1", 10_000, 200), row("c", "dw 3×3", 200, 500)
        )
    )  # fmt: skip
    assert found == [
        "depthwise convolutions take 80 % of the time for 2.9 % of the work, at 0.4 % utilisation"
    ]


def test_row_is_named_where_all_layers_are_alike() -> None:
    found = headlines(report(row("a", "linear", 1000, 100), row("b", "linear", 1000, 300)))
    assert found == ["b fwd takes 75 % of the time for 50 % of the work, at 3.3 % utilisation"]


def test_longest_wait_is_named() -> None:
    parts = {"compute": 60, "stall_in": 30, "post": 10}
    found = headlines(report(row("a", "linear", 1000, 100, **parts)))
    assert found == ["for 30 % of the time the array waits for operands"]


def test_balanced_report_has_no_finding() -> None:
    assert headlines(report(row("a", "linear", 1000, 100), row("b", "conv 3×3", 2000, 200))) == []


def test_accumulator_is_named_where_it_limits() -> None:
    values = {"sqnr_db": 12.0, "acc_sqnr_db": 13.0, "swamped_share": 0.25}
    found = headlines(report(row("a", "linear", 1, 1, **values)))
    assert found == [
        "lowest SQNR 12.0 dB (a fwd): the accumulator alone reaches 13.0 dB, 25 % of the additions swamped"
    ]
    values["acc_sqnr_db"] = 18.5
    assert headlines(report(row("a", "linear", 1, 1, **values))) == ["lowest SQNR 12.0 dB (a fwd)"]


def test_one_finding_of_accuracy_and_one_of_time() -> None:
    slow = row("b", "dw 3×3", 10, 900, sqnr_db=20.0, acc_sqnr_db=50.0, stall_in=400, compute=500)
    found = headlines(report(row("a", "conv 3×3", 1000, 100), slow))
    assert [line.split(" ")[0] for line in found] == ["lowest", "depthwise"]
    assert summary(report(row("a", "conv 3×3", 1000, 100), slow)).splitlines()[1:] == found


def test_every_part_and_operation_has_words() -> None:
    from hfp8sim.network import KINDS

    assert set(PART_WORDS) == set(PARTS) - {"compute"}
    assert set(FAMILIES) == set(KINDS) - {"conv2d"} | {"conv", "dw", "grouped"}
