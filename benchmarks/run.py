"""`make bench`: every row of `benchmarks.cases` and every peer, as ratios in one run, on one thread.

    python -m benchmarks.run [--seconds S] [--only TEXT] [--json FILE]
    python -m benchmarks.run --page docs/speed.md        # the tables between its two markers, from the JSON

Machines are noisy: rows take turns, round after round, and the best time of each counts. So do not read the
speeds, read the ratios.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
# PyTorch's idle threads would take the cores from the rows beside them.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

import argparse
import datetime
import json
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numba
import numpy as np
import threadpoolctl
from rich.console import Console
from rich.progress import track
from rich.table import Table

import hfp8sim as hs
from benchmarks import networks, peers, processes, silicon
from benchmarks.cases import BLAS, Case, Run, all_cases
from benchmarks.steps import training_steps
from hfp8sim.files import write_text
from hfp8sim.kernels import host_target

#: No row has more turns than this, of so many runs.
ROUNDS, RUNS = 200, 3
Clock = Callable[[], float]
MARKERS = "<!-- bench -->", "<!-- /bench -->"


def machine() -> dict[str, str]:
    """What the numbers are worth: processor, versions, and what NumPy multiplies with."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text("utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "cpu family", "model"):
                name += f", {key.strip()} {value.strip()}"
            if not line:
                break
    (library, *_) = threadpoolctl.threadpool_info() or [{}]
    return {
        "processor": name,
        "cores": str(os.cpu_count()),
        "lanes of float32": str(host_target().lanes),
        "BLAS": "{internal_api} {version}, kernels for {architecture}".format_map(
            {"internal_api": "?", "version": "?", "architecture": "?"} | library
        ),
        "NumPy": np.__version__,
        "Numba": numba.__version__,
        "Python": platform.python_version(),
        "hfp8sim": hs.__version__,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def best_times(cases: Sequence[Case], seconds: float, progress: bool = True) -> dict[str, float]:
    """The best of many turns of every row, s. Each row gets about `seconds` of them.

    A turn is a few runs, so that a row finds its data where it left them, not where another row's threw
    them out to.
    """
    runs: dict[str, tuple[Run, Clock]] = {}
    for case in track(cases, "preparing", transient=True, disable=not progress):
        runs[case.name] = case.prepare(), case.clock
        runs[case.name][0]()
    best = {name: _once(*run) for name, run in runs.items()}
    rounds = max(3, min(ROUNDS, int(seconds * len(runs) / sum(best.values()) / RUNS)))
    for _ in track(range(rounds), "measuring", transient=True, disable=not progress):
        for name, run in runs.items():
            best[name] = min(best[name], *(_once(*run) for _ in range(RUNS)))
    return best


def _once(run: Run, clock: Clock) -> float:
    start = clock()
    run()
    return clock() - start


def measure(cases: Sequence[Case], seconds: float) -> list[dict[str, Any]]:
    """The rows of a group, which take turns."""
    times = best_times(cases, seconds, sys.stderr.isatty())
    speeds = {case.name: case.work / times[case.name] for case in cases}
    return [
        {
            "group": case.group, "name": case.name, "speed": speeds[case.name], "unit": case.unit,
            "baseline": case.baseline, "target": case.target, "note": case.note(),
            "ratio": speeds[case.name] / speeds[case.baseline] if case.baseline else None,
        }
        for case in cases
    ]  # fmt: skip


def show(rows: list[dict[str, Any]], console: Console) -> None:
    """A table for each group."""
    for group in dict.fromkeys(row["group"] for row in rows):
        table = Table(title=group, title_justify="left", box=None, header_style="bold", pad_edge=False)  # fmt: skip
        for heading in ("", "speed", "", "ratio", "target", "baseline"):
            table.add_column(heading, justify="right" if heading in ("speed", "ratio", "target") else "left")  # fmt: skip
        table.add_column("kernel", overflow="fold")
        for row in rows:
            if row["group"] != group:
                continue
            ratio, target = row["ratio"], row["target"]
            missed = ratio is not None and target is not None and ratio < target
            table.add_row(
                row["name"], f"{row['speed']:.4g}", row["unit"],
                "" if ratio is None else f"{'[red]' if missed else ''}{ratio:.2f}",
                "" if target is None else f"{target:g}", row["baseline"], row["note"],
            )  # fmt: skip
        console.print(table)
        console.print()


def page(document: dict[str, Any]) -> str:
    """The tables as Markdown, without those of times on silicon: docs/silicon.md has them."""
    about = document["machine"]
    rows = [row for row in document["rows"] if row["group"] != silicon.GROUP]
    lines = ["; ".join(f"{key}: {value}" for key, value in about.items())]
    for group in dict.fromkeys(row["group"] for row in rows):
        lines += ["", f"| {group} | speed | ratio | target | baseline |", "|---|--:|--:|--:|---|"]
        for row in rows:
            if row["group"] == group:
                ratio, target = row["ratio"], row["target"]
                figures = (
                    "" if ratio is None else f"{ratio:.2g}",
                    "" if target is None else f"{target:.3g}",
                )
                speed = f"{row['speed']:.3g} {row['unit']}"
                lines.append(f"| {row['name']} | {speed} | {figures[0]} | {figures[1]} | {row['baseline']} |")  # fmt: skip
    return "\n".join(lines)


def write_page(path: Path, document: dict[str, Any]) -> None:
    """Put the tables between the page's markers."""
    before, rest = path.read_text("utf-8").split(MARKERS[0])
    after = rest.split(MARKERS[1])[1]
    write_text(path, f"{before}{MARKERS[0]}\n{page(document)}\n{MARKERS[1]}{after}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write what was printed as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run")
    parser.add_argument("--seconds", type=float, default=0.5, help="for each row (0.5)")
    parser.add_argument("--only", default="", help="rows whose group or name contains this")
    parser.add_argument("--json", type=Path, default=Path("out/bench.json"), help="where to write")
    parser.add_argument("--page", type=Path, help="measure nothing: write the JSON into this page")
    options = parser.parse_args(arguments)
    if options.page:
        if not options.json.exists():
            parser.error(f"no {options.json}: run without --page first")
        write_page(options.page, json.loads(options.json.read_text("utf-8")))
        return 0

    def is_selected(group: str, name: str) -> bool:
        return options.only in f"{group}: {name}"

    every = [*all_cases(), *training_steps()]
    cases = [case for case in every if is_selected(case.group, case.name)]
    names = {case.name for case in cases}
    # Baselines of the selected rows are measured, too.
    while baselines := {case.baseline for case in cases if case.baseline} - names:
        names |= baselines
        cases = [case for case in every if case.name in names]
    console = Console(width=None if sys.stdout.isatty() else 150)
    about = machine()
    console.print("\n".join(f"{key}: {value}" for key, value in about.items()), highlight=False)
    if os.environ.get("OPENBLAS_CORETYPE"):
        console.print("[red]OPENBLAS_CORETYPE restricts BLAS: ratios look better than they are")
    console.print()
    rows: list[dict[str, Any]] = []

    def add(some: list[dict[str, Any]]) -> None:
        show(some, console)
        rows.extend(some)

    for group in dict.fromkeys(case.group for case in cases):
        add(measure([case for case in cases if case.group == group], options.seconds))
    if is_selected(peers.GROUP, ""):
        add(peers.rows(next((r["speed"] for r in rows if r["name"] == BLAS), None)))
    if is_selected(peers.SILICON, ""):
        add(peers.silicon_rows())
    if is_selected(silicon.GROUP, ""):
        add(silicon.rows())
    if is_selected(networks.GROUP, ""):
        add(networks.rows())
    if is_selected(processes.GROUP, ""):
        add(processes.rows())
    write_text(options.json, json.dumps({"machine": about, "rows": rows}, indent=1) + "\n")
    console.print(f"written to {options.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
