"""Comparison of a machine's times with measured ones.

Three times stand beside the device's: that of the closed form `multicast`, which knows every split; that of the
lowered program under `pipelined`, for splits that leave K whole; and a bare roofline, which knows no split.
"""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

import numpy as np

from hfp8sim.errors import InputError
from hfp8sim.lowering.programs import lower_layer
from hfp8sim.lowering.splits import RESULT_BYTES, Split, best_split
from hfp8sim.machine.config import Machine
from hfp8sim.network import GemmShape, Layer
from hfp8sim.timing import multicast
from hfp8sim.timing.models import time_program

#: Columns of a file of measured times. `device_us`: microseconds.
COLUMNS = ("format", "m", "n", "k", "split_m", "split_n", "split_k", "device_us")
#: Bits of an operand by the name in the column `format`.
BITS = {"fp16": 16, "fp8": 8}


@dataclasses.dataclass(frozen=True)
class Measurement:
    """A product that a device computed with a given split. Times are in microseconds."""

    bits: int  #: of an operand
    shape: GemmShape
    split: Split
    device: float
    model: float

    @property
    def ratio(self) -> float:
        """Model over device."""
        return self.model / self.device

    @property
    def product(self) -> tuple[int, GemmShape]:
        """What is computed, whatever the split."""
        return self.bits, self.shape


def read_measurements(path: str | Path, machine: Machine) -> list[Measurement]:
    """The rows of a CSV file with `COLUMNS`, each with the time of the model `multicast` on a machine.

    Raises `InputError` for a file that cannot be read, with the line.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            absent = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if absent:
                raise InputError(
                    f"{path}: column {absent[0]!r} is missing; it needs {', '.join(COLUMNS)}"
                )
            rows = [_measurement(f"{path}:{reader.line_num}", row, machine) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    if not rows:
        raise InputError(f"{path}: it has no row; it needs at least one measured product")
    return rows


def _measurement(where: str, row: dict[str, str], machine: Machine) -> Measurement:
    if row["format"] not in BITS:
        raise InputError(
            f"{where}: format is {row['format']!r}; it must be one of {', '.join(BITS)}"
        )
    try:
        m, n, k, *split = (int(row[name]) for name in COLUMNS[1:7])
        device = float(row["device_us"])
    except (TypeError, ValueError):
        raise InputError(
            f"{where}: {list(row.values())} must be numbers after the format"
        ) from None
    if min(m, n, k) < 1 or not 0 < device < math.inf or not (min(split) >= 1 or not any(split)):
        raise InputError(f"{where}: sizes and times must be positive, splits too or all 0")
    shape, bits = GemmShape(1, m, n, k), BITS[row["format"]]
    chosen = Split(1, *split) if any(split) else best_split(shape, machine, bits)
    cycles = multicast.time_split(shape, machine, bits, 0, chosen).total
    return Measurement(bits, shape, chosen, device, cycles / machine.clock_mhz)


#: A profile whose operands have so many bits; its program has the time of any other such profile.
_PROFILES = {16: "fp16", 8: "hfp8"}


def with_program(row: Measurement, machine: Machine) -> Measurement:
    """The measurement with the time of the lowered program under the model `pipelined`.

    Raises:
        InputError: a split that no program has.
    """
    _, m, n, k = row.shape
    layer = Layer("product", "linear", m, n, k)
    program = lower_layer(layer, "fwd", machine, _PROFILES[row.bits], split=row.split)
    cycles = time_program(program, machine, "pipelined").cycles
    return dataclasses.replace(row, model=cycles / machine.clock_mhz)


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How well the times of a model and of a device agree."""

    rows: int
    median_log: float  #: median of |ln(model / device)|
    within_30: float  #: share of rows within 30 per cent
    lowest: float  #: model / device
    highest: float

    @classmethod
    def of(cls, ratios: Sequence[float]) -> Agreement:
        """The agreement of some times: each the model's over the device's."""
        within = sum(abs(ratio - 1) <= 0.3 for ratio in ratios)
        errors = (abs(math.log(ratio)) for ratio in ratios)
        return cls(len(ratios), median(errors), within / len(ratios), min(ratios), max(ratios))


def products(rows: Iterable[Measurement]) -> dict[tuple[int, GemmShape], list[Measurement]]:
    """The rows of each product, the fastest on the device first."""
    found: dict[tuple[int, GemmShape], list[Measurement]] = {}
    for row in sorted(rows, key=lambda row: row.device):
        found.setdefault(row.product, []).append(row)
    return found


def best_rows(rows: Iterable[Measurement]) -> list[Measurement]:
    """The split of each product that is fastest on the device."""
    return [measured[0] for measured in products(rows).values()]


def rank_correlation(rows: Sequence[Measurement]) -> float:
    """Spearman's correlation of the times of model and device; NaN of fewer than three rows."""
    if len(rows) < 3:
        return math.nan
    ours, theirs = _ranks([row.model for row in rows]), _ranks([row.device for row in rows])
    return float(np.corrcoef(ours, theirs)[0, 1])


def _ranks(values: Sequence[float]) -> np.ndarray:
    """Ranks from 0; equal values have the mean of theirs."""
    array = np.array(values)
    return np.array([(array < v).sum() + ((array == v).sum() - 1) / 2 for v in values])


def regret(rows: Sequence[Measurement]) -> float:
    """Device time of the split that the model prefers, over that of the fastest split measured."""
    return min(rows, key=lambda row: row.model).device / min(row.device for row in rows)


def program_rows(rows: Iterable[Measurement], machine: Machine) -> list[Measurement]:
    """The measurements whose split leaves K whole, each with the time of its program."""
    return [with_program(row, machine) for row in rows if row.split.k == 1]


def roofline_row(row: Measurement, machine: Machine) -> Measurement:
    """The measurement with the time of a bare roofline."""
    return dataclasses.replace(row, model=roofline(row, machine))


def agreements(
    rows: Sequence[Measurement], machine: Machine, programs: Sequence[Measurement] = ()
) -> dict[str, Agreement]:
    """How well the times agree, by what is compared: the fastest splits, then all rows.

    Args:
        programs: what `program_rows` gives, or nothing.
    """
    found = {}
    for name, kept in (("best splits", best_rows(rows)), ("all rows", rows)):
        found[name] = Agreement.of([row.ratio for row in kept])
        bare = [roofline_row(row, machine).ratio for row in kept]
        found[f"{name}, roofline"] = Agreement.of(bare)
    if programs:
        found["best splits, programs"] = Agreement.of([row.ratio for row in best_rows(programs)])
        found["rows without a split of K, programs"] = Agreement.of([row.ratio for row in programs])
    return found


def roofline(row: Measurement, machine: Machine) -> float:
    """Microseconds of the longer of computing at peak and of moving every matrix once."""
    _, m, n, k = row.shape
    size = (m * k + k * n) * row.bits // 8 + m * n * RESULT_BYTES
    compute = row.shape.macs / machine.macs_per_cycle(row.bits)
    return max(compute, size / machine.transfer_bytes_per_cycle) / machine.clock_mhz
