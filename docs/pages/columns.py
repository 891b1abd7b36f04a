"""docs/columns.md: the columns of a report, from `hfp8sim/report/columns.py`."""

from __future__ import annotations

from docs.pages.markdown import table
from hfp8sim.analysis.accuracy import HISTOGRAM_BINS
from hfp8sim.report.columns import COLUMNS, GROUPS, PARTS, Column, Reduction


def page() -> str:
    """docs/columns.md: the report's columns."""
    kinds = {str: "text", int: "integer", float: "number", list: "counts"}

    def described(c: Column) -> tuple[str, ...]:
        total = c.total.word if isinstance(c.total, Reduction) else ""
        return f"`{c.name}`", c.unit, kinds[c.kind], total, c.meaning

    parts = [
        "# Columns of a report\n\n"
        "Generated from `hfp8sim/report/columns.py` by `make pages`; do not edit.\n\n"
        "A report has one row for each layer and phase, and a total. Every form of it is made from this "
        "one table. *Total* says how rows combine in the total row; where it says nothing the total has "
        "a value of its own (rates follow from the sums) or none. In CSV and JSON a value that nothing "
        "can be said about is empty or `null`, and an infinite SQNR (an exact result) is `inf`.\n"
    ]
    for group, title in GROUPS.items():
        rows = [described(c) for c in COLUMNS if c.group == group]
        parts.append(
            f"\n## {title}\n\n" + table(("name", "unit", "kind", "total", "meaning"), rows)
        )
        if group == "time":
            names = ", ".join(f"`{part}`" for part in PARTS)
            parts.append(
                f"\nThe parts {names} add up to `cycles` exactly, in every row and every model.\n"
            )
        if group == "accuracy":
            parts.append(
                "\n*x* is the reference and *y* the result; [accuracy](accuracy.md) says more. "
                "Counts stand in JSON and in the plots only. Their bins, in ulp, are "
                + ", ".join(f"`{name}`" for name in HISTOGRAM_BINS)
                + ": `0` is no error, `2^k` is from 2^k to below 2^(k+1), and the last is open above.\n"
            )
    return "".join(parts)
