"""A report: rows of values under the columns of `columns`, and what is needed to reproduce them."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from typing import Any

from hfp8sim.report.columns import BY_NAME, COLUMNS, Row

#: Version of the JSON layout; docs/report.schema.json describes it.
SCHEMA_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Report:
    """What a run measured.

    `layers` holds one row (a dict by column name) for every layer and phase, in order; `total` one row of
    sums. `facts` says what was run: versions, workload, machine, profile, seed, command.
    """

    layers: list[Row]
    facts: dict[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> Row:
        """Sums and maxima over all rows; the rates follow from the sums."""
        row: Row = {"layer": "total"}
        for column in COLUMNS:
            values = [r[column.name] for r in self.layers if r.get(column.name) is not None]
            if column.total == "sum" and values:
                row[column.name] = sum(values)
        peak = self.facts.get("peak_macs_per_cycle")
        macs, cycles = row.get("macs"), row.get("cycles")
        if macs and cycles:
            seconds = row["time_us"] / 1e6
            row["tflops"] = 2 * macs / seconds / 1e12
            if peak:
                ideal = sum(
                    r["utilisation"] * r["cycles"] for r in self.layers if r.get("utilisation")
                )
                row["utilisation"] = ideal / cycles
        steps = sum(r["steps"] for r in self.layers if r.get("steps"))
        if steps:
            row["swamped_share"] = row["swamped"] / steps
        return row

    def rows(self) -> list[Row]:
        """Every layer and phase, then the total."""
        return [*self.layers, self.total]

    def to_csv(self, names: list[str] | None = None) -> str:
        """Comma-separated rows with a header; floats as short as they round-trip, missing values empty."""
        chosen = names or [column.name for column in COLUMNS]
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(chosen)
        for row in self.rows():
            writer.writerow([_plain(row.get(name), none="") for name in chosen])
        return out.getvalue()

    def to_json(self) -> str:
        """The whole report as JSON (docs/report.schema.json); NaN and missing values are null."""
        document = {
            "schema": SCHEMA_VERSION,
            **self.facts,
            "notes": list(self.notes),
            "columns": [{"name": c.name, "unit": c.unit, "meaning": c.meaning} for c in COLUMNS],
            "layers": [_json_row(row) for row in self.layers],
            "total": _json_row(self.total),
        }
        return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def to_html(self) -> str:
        """One self-contained page (needs the extra `report`)."""
        from hfp8sim.report.html import render

        return render(self)

    def to_timeline(self) -> str:
        """A Chrome/Perfetto trace of the run, as JSON text."""
        from hfp8sim.report.timeline import render

        return render(self)


def _plain(value: Any, none: Any) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return none
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return value


def _json_row(row: Row) -> Row:
    return {name: _plain(row.get(name), none=None) for name in BY_NAME if name in row}
