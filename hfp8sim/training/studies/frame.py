"""What all studies share: a study's record, and its measurement over arms, seeds and a sweep."""

from __future__ import annotations

import dataclasses
import datetime
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hfp8sim.errors import InputError
from hfp8sim.report.study import Check, Metric, StudyRecord
from hfp8sim.version import __version__

_QUIETLY: dict[str, Any] = {"check": True, "capture_output": True, "text": True}
#: Values of one measurement, by metric.
Values = dict[str, float]


@dataclasses.dataclass(frozen=True)
class Case:
    """One measurement of a study."""

    arm: str
    seed: int
    at: Any  #: the point of the sweep; None without one
    quick: bool  #: whether seconds must do


@dataclasses.dataclass(frozen=True)
class Study:
    """A paper's claim, and how it is measured here.

    `measure` computes the metrics of one case. `judge` turns the measured record into statements that hold or do
    not; it sees numbers alone, so that a stored record can be judged again.
    """

    name: str
    title: str
    claim: str  #: what the source claims, in our words
    source: str
    setup: str  #: what is measured here
    arms: Mapping[str, str]  #: by name, what each is; the first is the control
    metrics: tuple[Metric, ...]  #: the first is plotted
    measure: Callable[[Case], Values]
    judge: Callable[[StudyRecord], list[Check]]
    sweep: Metric | None = None
    points: tuple[Any, ...] = (None,)  #: of the sweep
    quick_points: tuple[Any, ...] = ()  #: those of the quick size; all by default
    seeds: int = 5
    quick_seeds: int = 2

    def record(self, rows: list[dict[str, Any]], facts: dict[str, Any]) -> StudyRecord:
        """Rows as a record with its checks."""
        bare = StudyRecord(
            self.name, self.title, self.claim, self.source, self.setup, dict(self.arms),
            self.metrics, rows, self.sweep, (), facts,
        )  # fmt: skip
        return dataclasses.replace(bare, checks=tuple(self.judge(bare)))

    def run(
        self,
        *,
        quick: bool = False,
        seeds: int | None = None,
        budget: float = math.inf,
        command: str = "",
        progress: Callable[[int, int, str], object] | None = None,
    ) -> StudyRecord:
        """Measure every arm and point with every seed, and judge.

        Args:
            quick: a size of seconds, for tests.
            seeds: how many; by default as many as the study or its quick size has.
            budget: minutes. Seeds are measured one after the other; no further one begins that would probably
                exceed the budget.
            command: for the record.
            progress: called as (done, all, what) before each measurement.

        Raises:
            InputError: data that is not installed, or less than one seed.
        """
        if seeds is None:
            seeds = self.quick_seeds if quick else self.seeds
        if seeds < 1:
            raise InputError(f"seeds is {seeds}, must be at least 1")
        points = (self.quick_points or self.points) if quick else self.points
        cases = [
            Case(arm, seed, at, quick)
            for seed in range(seeds)
            for at in points
            for arm in self.arms
        ]
        wall, cpu, rows = time.monotonic(), time.process_time(), []
        a_seed = len(points) * len(self.arms)
        for number, case in enumerate(cases):
            spent = (time.monotonic() - wall) / 60
            if case.seed and number % a_seed == 0 and spent * (1 + 1 / case.seed) > budget:
                break
            if progress is not None:
                place = "" if self.sweep is None else f" at {case.at:g}"
                progress(number, len(cases), f"{case.arm}{place}, seed {case.seed}")
            rows.append(self._row(case))
        facts = {
            "command": command or f"hfp8sim study {self.name}" + (" --quick" if quick else ""),
            "quick": quick,
            "date": datetime.date.today().isoformat(),
            "processor": processor(),
            "cores": len(os.sched_getaffinity(0)),
            "cpu_seconds": round(time.process_time() - cpu, 1),
            "wall_seconds": round(time.monotonic() - wall, 1),
            "commit": commit(),
            "versions": {
                "hfp8sim": __version__, "python": platform.python_version(), "numpy": np.__version__,
                "numba": sys.modules["numba"].__version__, "torch": torch.__version__,
            },
        }  # fmt: skip
        return self.record(rows, facts)

    def _row(self, case: Case) -> dict[str, Any]:
        key = {} if self.sweep is None else {self.sweep.name: case.at}
        values = self.measure(case)
        unknown = set(values) - {metric.name for metric in self.metrics}
        if unknown:
            raise AssertionError(
                f"study {self.name} measures {unknown}, which are no metrics of it"
            )
        return {"arm": case.arm, "seed": case.seed, **key, **values}


def processor() -> str:
    """The processor: its name, or family and model where it has none."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8").split("\n\n")[0]
    except OSError:
        return platform.processor() or platform.machine()
    entries = [line.partition(":") for line in text.splitlines()]
    values = {key.strip(): value.strip() for key, _, value in entries}
    name = values.get("model name", "")
    family, model = values.get("cpu family", ""), values.get("model", "")
    details = f"family {family} model {model}" if family else ""
    return ", ".join(filter(None, (name or platform.machine(), details)))


def commit() -> str:
    """The Git commit of this package's sources, with `+` if they were changed since; "" outside of a Git checkout."""
    folder = Path(__file__).parents[2]
    git = ["git", "-C", str(folder)]
    try:
        subprocess.run([*git, "ls-files", "--error-unmatch", "version.py"], **_QUIETLY)
        found: str = subprocess.run(
            [*git, "rev-parse", "--short=12", "HEAD"], **_QUIETLY
        ).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain", "--", "."], **_QUIETLY).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
    return found + ("+" if changed else "")


def write(record: StudyRecord, folder: Path) -> list[Path]:
    """Write a study into a folder: all of it as JSON, its rows as CSV, its plot as SVG.

    Raises:
        InputError: a folder that cannot be written.
    """
    from hfp8sim.files import check_folder, write_text

    check_folder(folder)
    texts = {"json": record.to_json(), "csv": record.to_csv(), "svg": record.to_svg()}
    return [write_text(folder / f"{record.name}.{end}", text) for end, text in texts.items()]


__all__ = [
    "Case", "Check", "Metric", "Study", "StudyRecord", "Values", "commit", "processor", "write",
]  # fmt: skip
