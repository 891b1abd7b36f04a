"""Results of a sweep as plain data: one tidy table of points, one of layers, configurations and fronts."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hfp8sim.errors import InputError, unknown
from hfp8sim.files import write_whole
from hfp8sim.report.columns import BY_NAME, COLUMNS, Reduction, Row, missing, plain_value, total_row
from hfp8sim.report.csv import csv_text
from hfp8sim.sweeps.keys import CASES, NETWORKS, cell
from hfp8sim.sweeps.plan import Plan, Values
from hfp8sim.sweeps.store import DONE, FAILED, Record

#: Columns of the widths of a point's formats.
BITS = {
    "operand_bits": "bits of the widest operand format",
    "accumulator_bits": "bits of the accumulator inside a chunk",
    "between_bits": "bits of the running total of chunks",
}

#: Measures of trainings, with their meaning.
TRAINING = {
    "loss": "mean training loss of the last 20 steps, in nats",
    "test_loss": "cross entropy on the test set, in nats",
    "accuracy": "share of the test set whose class is right",
    "stuck_share": "share of the weights that a step left as they were, mean of the last 20 steps",
    "skipped_steps": "steps without an update, because a gradient was not finite",
    "loss_scale": "the loss scale after the last step",
}

#: Measures of a training step on a system, with their meaning.
SYSTEMS = {
    "step_us": "time of a training step on the system: computation, and `exposed_us` of exchange",
    "efficiency": "computation as a share of the step",
}

#: The measures that no report of a run has.
OWN_MEASURES = BITS | TRAINING | SYSTEMS

#: Measures of which more is better; of all others less is better.
MORE_IS_BETTER = (
    "sqnr_db", "acc_sqnr_db", "utilisation", "tflops", "accuracy", "cosine", "efficiency",
)  # fmt: skip

#: How configurations combine a measure over their workloads and seeds, where the total row's way is another one.
_COMBINED = {
    "loss": "mean", "test_loss": "mean", "accuracy": "mean", "stuck_share": "mean",
    "loss_scale": "mean", "skipped_steps": "sum",
    "step_us": "sum", "efficiency": "mean", **dict.fromkeys(BITS, "largest"),
}  # fmt: skip

#: Statuses of a point beside those of a record.
UNFINISHED = "unfinished"


class Point(NamedTuple):
    """A point of the plan.

    Attributes:
        number: its place in the plan, from 0.
        values: by key.
        key: of its content; None if its values do not fit together.
        reason: why they do not; else empty.
        bits: the widths of its formats.
    """

    number: int
    values: Values
    key: str | None
    reason: str
    bits: dict[str, int]


@dataclasses.dataclass(frozen=True)
class Front:
    """The configurations that no other one dominates in a quality and a cost, the cheapest first."""

    quality: str
    cost: str
    rows: tuple[Row, ...]


@dataclasses.dataclass(frozen=True, repr=False)
class SweepRecord:
    """What a sweep has computed, in the order of its plan.

    Attributes:
        plan: the sweep.
        points: of the plan.
        records: of the finished points, by key.
    """

    plan: Plan
    points: Sequence[Point]
    records: Mapping[str, Record]

    def __repr__(self) -> str:
        return f"<SweepResult {self.plan.name}: {self.summary}>"

    def __len__(self) -> int:
        return len(self.points)

    @property
    def failed(self) -> int:
        """The number of points that failed."""
        return sum(row["status"] == FAILED for row in self.rows)

    @property
    def unfinished(self) -> int:
        """The number of points that an interrupt left."""
        return sum(row["status"] == UNFINISHED for row in self.rows)

    @property
    def summary(self) -> str:
        """The number of points by status, as in `12 points, 1 failed`."""
        rows = self.rows
        parts = [f"{len(rows)} point{'s' if len(rows) != 1 else ''}"]
        for status, count in ((FAILED, self.failed), (UNFINISHED, self.unfinished)):
            parts += [f"{count} {status}"] if count else []
        return ", ".join(parts)

    # -- tables --------------------------------------------------------------------------------------

    @functools.cached_property
    def rows(self) -> list[Row]:
        """One row for each point: number, status, reason, values by key, widths of formats, measures.

        A run's measures are those of its report's total: sums, and the worst of all layers.
        """
        return [self._row(point) for point in self.points]

    def _row(self, point: Point) -> Row:
        record = self.records.get(point.key or "")
        status, reason = UNFINISHED, ""
        measures: Row = {}
        if point.key is None:
            status, reason = FAILED, point.reason
        elif record is not None:
            status, reason = record["status"], record["reason"]
            measures = {k: _revived(v) for k, v in record["measures"].items()}
            if record["rows"]:
                measures |= {
                    k: v for k, v in total_row(_layer_rows(record)).items() if k != "layer"
                }
        row: Row = {"point": point.number, "status": status, "reason": reason}
        row |= {key: cell(point.values.get(key)) for key in self.plan.keys}
        return row | dict(point.bits) | {name: measures.get(name) for name in measures}

    @functools.cached_property
    def columns(self) -> list[str]:
        """The columns of `rows`: those that any point has."""
        measures = [
            name
            for name in (*OWN_MEASURES, *(c.name for c in COLUMNS if c.kind is not list))
            if any(name in row for row in self.rows)
        ]
        return ["point", "status", "reason", *self.plan.keys, *measures]

    @property
    def layers(self) -> list[Row]:
        """One row for each layer and phase of each finished point, after its number and values by key."""
        rows = []
        for point in self.points:
            record = self.records.get(point.key or "")
            if record is None or not record["rows"]:
                continue
            first = {"point": point.number} | {k: cell(point.values.get(k)) for k in self.plan.keys}
            for row in _layer_rows(record):
                own = {("arithmetic" if k in first else k): v for k, v in row.items()}
                rows.append(first | own)
        return rows

    @property
    def layer_columns(self) -> list[str]:
        """The columns of `layers`. `arithmetic` is the profile's name where `profile` is a key of the sweep."""
        names = dict.fromkeys(name for row in self.layers for name in row)
        return list(names) or ["point", *self.plan.keys]

    def to_csv(self, table: str = "points") -> str:
        """The table `points` or `layers` as comma-separated rows; floats round-trip, missing values are empty."""
        rows, columns = self._table(table)
        return csv_text(
            [columns, *([plain_value(row.get(c), "") for c in columns] for row in rows)]
        )

    def to_frame(self, library: str = "", table: str = "points") -> Any:
        """The table `points` or `layers` as a data frame.

        Args:
            library: `pandas` or `polars`; by default the one that is installed, pandas first.

        Raises:
            InputError: the library is not installed.
        """
        rows, columns = self._table(table)
        data = {c: [_plain(row.get(c)) for row in rows] for c in columns}
        if library not in ("", "pandas", "polars"):
            raise unknown("library", library, ["pandas", "polars"])
        for name in [library] if library else ["pandas", "polars"]:
            try:
                return _frame(name, data)
            except ImportError:
                continue
        wanted = library or "pandas or polars"
        raise InputError(f"to_frame needs {wanted}: pip install {library or 'pandas'}")

    def to_parquet(self, path: str | Path, table: str = "points") -> Path:
        """Write the table `points` or `layers` as a Parquet file, whole or not at all; returns its path.

        Raises:
            InputError: neither pyarrow nor polars is installed, or the file cannot be written.
        """
        rows, columns = self._table(table)
        data = {c: [_plain(row.get(c)) for row in rows] for c in columns}
        return write_whole(path, _parquet_writer(data), binary=True)

    def _table(self, table: str) -> tuple[list[Row], list[str]]:
        if table == "points":
            return self.rows, self.columns
        if table == "layers":
            return self.layers, self.layer_columns
        raise unknown("table", table, ["points", "layers"])

    # -- configurations ------------------------------------------------------------------------------

    @functools.cached_property
    def varied(self) -> list[str]:
        """The keys that have more than one value, cases left out."""
        return [
            key
            for key in self.plan.keys
            if key not in CASES and len({_cell_key(row.get(key)) for row in self.rows}) > 1
        ]

    @functools.cached_property
    def short_keys(self) -> dict[str, str]:
        """The last part of each varied key where no other one has the same; else the whole key."""
        last = {key: key.rpartition(".")[2] for key in self.varied}
        parts = list(last.values())
        return {key: part if parts.count(part) == 1 else key for key, part in last.items()}

    @functools.cached_property
    def quality(self) -> str:
        """The measure that fronts compare with costs; empty for a sweep that computes times alone."""
        if self.plan.quality:
            return self._measure(self.plan.quality)
        candidates = ("test_loss",) if self.plan.training else ("sqnr_db",)
        return next((name for name in candidates if name in self.columns), "")

    @functools.cached_property
    def costs(self) -> list[str]:
        """The measures that fronts compare the quality with."""
        if self.plan.costs:
            return [self._measure(name) for name in self.plan.costs]
        candidates = ("step_us", "cycles", "bytes", "accumulator_bits")
        return [
            name
            for name in candidates
            if len({row.get(name) for row in self.configurations} - {None}) > 1
        ]

    def _measure(self, name: str) -> str:
        numeric = [c for c in self.columns if c in OWN_MEASURES or c in BY_NAME]
        if name not in numeric:
            raise unknown("measure", name, numeric)
        return name

    @functools.cached_property
    def configurations(self) -> list[Row]:
        """One row for each combination of settings: its measures over all workloads and seeds.

        Over seeds, measures are means. Over workloads, cycles, times and bytes are sums, losses and accuracies means.
        SQNRs are the lowest of all. A configuration that lacks a workload, or of which a point has failed or is not
        finished, has no measures.
        """
        keys = [key for key in self.plan.keys if key not in CASES]
        networks = {self._network(row) for row in self.rows}
        return [
            self._configuration(keys, rows, networks) for rows in _grouped(self.rows, keys).values()
        ]

    def _network(self, row: Row) -> tuple[Any, ...]:
        """What a point computes, apart from its seed."""
        return tuple(row.get(key) for key in NETWORKS)

    def _configuration(
        self, keys: list[str], rows: list[Row], networks: set[tuple[Any, ...]]
    ) -> Row:
        whole = all(row["status"] == DONE for row in rows)
        whole &= {self._network(row) for row in rows} == networks
        result: Row = {"configuration": rows[0]["point"], "points": len(rows), "complete": whole}
        result |= {key: rows[0][key] for key in keys}
        if not whole:
            return result
        groups = _grouped(rows, [key for key in NETWORKS if key in rows[0]]).values()
        for name in self.columns:
            if any(missing(row.get(name)) or isinstance(row[name], str) for row in rows):
                continue
            over_seeds = [_combine(name, [row[name] for row in own], seeds=True) for own in groups]
            if None not in over_seeds:
                result[name] = _combine(name, over_seeds)
        return result

    def front(self, cost: str, quality: str = "") -> Front:
        """The configurations that no other one beats in both measures."""
        quality = quality or self.quality
        rows = [
            r
            for r in self.configurations
            if not missing(r.get(quality)) and not missing(r.get(cost))
        ]
        rows.sort(key=lambda row: (oriented(cost, row[cost]), oriented(quality, row[quality])))
        front: list[Row] = []
        for row in rows:
            if not front or oriented(quality, row[quality]) < oriented(quality, front[-1][quality]):
                front.append(row)
        return Front(quality, cost, tuple(front))


def oriented(name: str, value: float) -> float:
    """A measure as a number of which less is better."""
    return -value if name in MORE_IS_BETTER else value


def meaning(name: str) -> str:
    """What a measure is, with its unit."""
    if name in OWN_MEASURES:
        return OWN_MEASURES[name]
    column = BY_NAME[name]
    return f"{column.meaning} ({column.unit})" if column.unit else column.meaning


def _grouped(rows: Sequence[Row], keys: Sequence[str]) -> dict[tuple[Any, ...], list[Row]]:
    """The rows by their values of some keys."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(_cell_key(row[key]) for key in keys), []).append(row)
    return groups


def _combine(name: str, values: list[Any], *, seeds: bool = False) -> Any:
    """A measure over several points, of workloads or of seeds; None for one that cannot be combined."""
    way = _COMBINED.get(name, "")
    if name in BY_NAME:
        total = BY_NAME[name].total
        if total is None:
            return None
        way = total.word if isinstance(total, Reduction) else "mean"
    if way == "mean" or (way == "sum" and seeds):
        return values[0] if len(set(values)) == 1 else sum(values) / len(values)
    combine: dict[str, Callable[[list[Any]], Any]] = {"sum": sum, "largest": max, "lowest": min}
    return combine[way](values) if way else None


def _layer_rows(record: Record) -> list[Row]:
    """The rows of a record as a report has them."""
    return [
        {name: _revived(value) for name, value in zip(record["columns"], values, strict=True)}
        for values in record["rows"]
    ]


def _revived(value: Any) -> Any:
    """A value of a record, in which infinities are words."""
    return float(value) if value in ("inf", "-inf") else value


def _plain(value: Any) -> Any:
    """A value of a data frame: missing ones are None."""
    return None if missing(value) else value


def _cell_key(value: Any) -> tuple[str, Any]:
    return type(value).__name__, value


def _frame(library: str, data: dict[str, list[Any]]) -> Any:
    """A data frame of a library; raises ImportError without it."""
    if library == "pandas":
        import pandas

        return pandas.DataFrame(data)
    import polars

    return polars.DataFrame(data, strict=False)


def _parquet_writer(data: dict[str, list[Any]]) -> Any:
    """A function that writes columns into a file as Parquet."""
    try:
        import pyarrow
        from pyarrow import parquet

        return lambda file: parquet.write_table(pyarrow.table(data), file)
    except ImportError:
        pass
    try:
        import polars
    except ImportError:
        raise InputError("Parquet needs pyarrow or polars: pip install pyarrow") from None
    return lambda file: polars.DataFrame(data, strict=False).write_parquet(file)
