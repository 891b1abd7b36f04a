"""The table of columns: consistent in itself, and the texts of its values."""

import subprocess
import sys

import pytest

from hfp8sim.report.columns import (
    BY_NAME,
    COLUMNS,
    FLAT,
    GROUPS,
    PARTS,
    Change,
    Reduction,
    cell_text,
    shape_text,
    total_row,
)
from tests.report.samples import sample


def test_names_are_unique_and_groups_in_order() -> None:
    assert len(BY_NAME) == len(COLUMNS)
    order = list(GROUPS)
    positions = [order.index(column.group) for column in COLUMNS]
    assert positions == sorted(positions)


def test_every_column_has_a_meaning_and_a_heading_if_ranked() -> None:
    for column in COLUMNS:
        assert column.meaning and not column.meaning.endswith(".")
        assert column.kind in (str, int, float, list)
        assert isinstance(column.change, Change)
        assert column.short or column.rank == 0


def test_totals_are_sums_extremes_or_derived() -> None:
    """Texts and ratios have no plain reduction; the derived totals are those of the rates."""
    reductions = {c.name: c.total for c in COLUMNS if isinstance(c.total, Reduction)}
    assert {total.word for total in reductions.values()} == {"sum", "largest", "lowest"}
    assert all(BY_NAME[name].kind in (int, float, list) for name in reductions)
    derived = {c.name for c in COLUMNS if c.total is not None and c.name not in reductions}
    assert derived == {"utilisation", "tflops", "bound_by", "swamped_share", "gated_share"}


def test_flat_columns_are_all_but_the_histograms() -> None:
    assert set(BY_NAME) - set(FLAT) == {"error_ulps", "acc_error_ulps"}
    assert set(PARTS) < set(FLAT)
    assert [name for name in FLAT if name in PARTS] == list(PARTS)


def test_samples_have_every_column() -> None:
    assert set(sample().layers[0]) == set(BY_NAME)


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("cycles", 1234567, "1,234,567"),
        ("macs", 294912, "0.295"),
        ("macs", 4_089_184_256, "4,089.184"),
        ("macs", 320, "<0.001"),
        ("macs", 500, "0.001"),
        ("utilisation", 0.4567, "45.7%"),
        ("swamped_share", 0.0, "0"),
        ("swamped_share", 3e-5, "<0.01%"),
        ("swamped_share", 0.0123, "1.23%"),
        ("sampled", 1.0, "all"),
        ("sampled", 0.0312, "3.1%"),
        ("bound_by", "stall_in", "stall in"),
        ("sqnr_db", float("inf"), "exact"),
        ("sqnr_db", float("-inf"), "−∞"),
        ("sqnr_db", float("nan"), "–"),
        ("sqnr_db", 23.456, "23.5"),
        ("relative_error", 3e-7, "3.0e-07"),
        ("max_error", 2.5e9, "2.5e+09"),
        ("bits_normal", None, "–"),
        ("layer", "", "–"),
    ],
)
def test_cell_text(name: str, value: object, shown: str) -> None:
    assert cell_text(BY_NAME[name], value) == shown


def test_shape_text() -> None:
    assert shape_text({"m": 2, "n": 3, "k": 4, "groups": 1}) == "2×3×4"
    assert shape_text({"m": 2, "n": 3, "k": 4, "groups": 32}) == "32·2×3×4"
    assert shape_text({"layer": "total"}) == ""


#: A program that adds a column before anything else reads the table.
ADD_COLUMN = """
import hfp8sim.report.columns as columns

column = columns.Column(
    "time", "energy_uj", "µJ", "energy of the array and the memory", total=columns.SUM, short="energy"
)
columns.COLUMNS += (column,)
columns.BY_NAME["energy_uj"] = column
columns.FLAT += ("energy_uj",)

from docs.pages import columns as page
from hfp8sim.report import schema
from hfp8sim.report.comparison import check_columns
from hfp8sim.report.report import Report, compare
from tests.report.samples import facts, row

rows = [row(name, "fwd") | {"energy_uj": 1.5} for name in ("a", "b")]
report = Report(rows, facts())
assert report.total["energy_uj"] == 3.0
assert report.to_csv().splitlines()[0].endswith("energy_uj")
assert Report.from_json(report.to_json()).layers == rows
assert "energy of the array" in report.to_html()
assert "energy_uj" in schema.document() and "`energy_uj`" in page.page()
assert "energy A" in compare([report, report]).to_text(check_columns(["energy_uj"]))
"""


def test_new_column_reaches_every_form() -> None:
    subprocess.run([sys.executable, "-c", ADD_COLUMN], check=True)


def test_total_of_floats_is_the_exact_sum_rounded() -> None:
    """Python 3.12 and 3.11 disagree on `sum` of floats: one gives 1.0 here, the other 0.9999999999999999."""
    assert total_row([{"time_us": 0.1}] * 10)["time_us"] == 1.0
