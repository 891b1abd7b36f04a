"""What a sweep costs beside its points, and what a second core gains: 200 points of digits-cnn.

    python -m benchmarks.sweeps [--points N] [--rounds N] [--jobs N]

Four ways take turns, each in new processes, with their start-up: bare calls of `hs.simulate`, `hs.sweep` in one
process, `hs.sweep` in several, and the bare calls shared among as many independent processes. The last is what the
machine allows. All run on one thread a process. Wall time is what a user waits for; it needs a machine without other
work. CPU time can be compared on any.
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

#: Points of each seed.
A_SEED = 20


class Cost(NamedTuple):
    """Seconds of wall time, and of CPU in all processes."""

    wall: float
    cpu: float

    def least(self, other: Cost) -> Cost:
        """The lower of each."""
        return Cost(min(self.wall, other.wall), min(self.cpu, other.cpu))


def measured(modules: str, *commands: list[str]) -> Cost:
    """The cost of commands that run at once. `modules` is a folder for compiled modules, as an installed package has."""

    def now() -> Cost:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return Cost(time.perf_counter(), usage.ru_utime + usage.ru_stime)

    environment = os.environ | {"PYTHONPYCACHEPREFIX": modules}
    before = now()
    processes = [
        subprocess.Popen([sys.executable, "-m", __spec__.name, *command], env=environment)
        for command in commands
    ]
    statuses = [process.wait() for process in processes]
    if any(statuses):
        raise SystemExit("a sweep has failed")
    after = now()
    return Cost(*(b - a for a, b in zip(before, after, strict=True)))


def compute(way: str, first: int, stop: int, jobs: int, folder: str) -> None:
    """Compute the points of some seeds, in this process or from it."""
    import hfp8sim as hs

    axes = {
        "profile.chunk_length": [16, 32, 64, 128, 256],
        "profile.rounding": ["nearest-away", "nearest-even"],
        "machine.memory.bytes_per_cycle": [32, 128],
    }
    seeds = list(range(first, stop))
    if way == "sweep":
        result = hs.sweep("digits-cnn", seeds=seeds, vary=axes, n_jobs=jobs, threads=1, out=folder)
        if result.failed or len(result) != A_SEED * (stop - first):
            raise SystemExit(result.summary)
        return
    from hfp8sim.sweeps import Plan
    from hfp8sim.sweeps.jobs import Resolver

    plan = Plan({"workload": ["digits-cnn"], "seed": seeds} | axes)
    workload = hs.load_workload("digits-cnn")
    resolver = Resolver()
    for values in plan.values(resolver.lookup):
        hs.simulate(
            workload, resolver.machine(values), resolver.profile(values), values["seed"], threads=1
        )


def show(costs: dict[str, Cost], count: int, jobs: int) -> None:
    """Print the costs of so many points, and the ratios."""
    print(f"{count} points of digits-cnn")
    for name, cost in costs.items():
        a_point = f"{1000 * cost.cpu / count:6.1f} ms CPU a point"
        print(f"{name:26} {cost.wall:7.1f} s wall {cost.cpu:7.1f} s CPU {a_point}")
    bare, one, many, apart = costs.values()
    ratios = {
        "one process / bare, wall": (one.wall / bare.wall, "at most 1.15"),
        "one process / bare, CPU": (one.cpu / bare.cpu, "at most 1.15"),
        f"{jobs} processes, gain by wall time": (one.wall / many.wall, "at least 1.8 for two"),
        f"{jobs} processes / one, CPU": (many.cpu / one.cpu, ""),
        f"{jobs} independent processes, gain": (bare.wall / apart.wall, "what the machine allows"),
    }
    for name, (ratio, remark) in ratios.items():
        print(f"{name:36} {ratio:5.2f}  {remark}", flush=True)


def same_files(one: Path, other: Path, count: int) -> bool:
    """Whether two sweeps have the same files of so many points, to the byte."""
    ours, theirs = (
        {path.name: path.read_bytes() for path in (folder / "points").glob("*.json")}
        for folder in (one, other)
    )
    return len(ours) == count and ours == theirs


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--way", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        way, first, stop, jobs, folder = options.way
        compute(way, int(first), int(stop), int(jobs), folder)
        return
    from benchmarks.run import machine

    seeds, jobs = max(1, options.points // A_SEED), options.jobs
    bounds = [seeds * part // jobs for part in range(jobs + 1)]
    parts = [["--way", "bare", str(a), str(b), "1", ""] for a, b in itertools.pairwise(bounds)]
    whole = ["0", str(seeds)]
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    costs: dict[str, Cost] = {}
    with tempfile.TemporaryDirectory() as scratch:
        measured(scratch, ["--way", "sweep", "0", "1", str(jobs), f"{scratch}/first"])  # compiles
        for number in range(options.rounds):
            print(f"load of the machine before the round: {os.getloadavg()[0]:.2f}", flush=True)
            one, many = (Path(scratch) / f"{way}-{number}" for way in ("one", "many"))
            ways = {
                "bare": [["--way", "bare", *whole, "1", ""]],
                "sweep, one process": [["--way", "sweep", *whole, "1", str(one)]],
                f"sweep, {jobs} processes": [["--way", "sweep", *whole, str(jobs), str(many)]],
                f"bare, {jobs} independent": parts,
            }
            for name, commands in ways.items():
                cost = measured(scratch, *commands)
                costs[name] = cost.least(costs.get(name, cost))
            if not same_files(one, many, A_SEED * seeds):
                raise SystemExit("the files of one process and of several are NOT EQUAL")
            show(costs, A_SEED * seeds, jobs)
    print("files of one process and of several: equal to the byte")


if __name__ == "__main__":
    main()
