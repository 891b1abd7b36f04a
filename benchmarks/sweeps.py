"""What a sweep costs beside its points, and what a second core gains: 200 points of digits-cnn.

    python -m benchmarks.sweeps [--points N] [--blocks N] [--jobs N]

Three ways take turns, block by block: bare calls of `hs.simulate`, `hs.sweep` in one process, and `hs.sweep` in
several, each with a folder of its own. All run on one thread a process. Wall time is what a user waits; on a
machine with other work CPU time is what can be compared.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

import hfp8sim as hs
from hfp8sim.sweeps import Plan
from hfp8sim.sweeps.jobs import Resolver


class Cost(NamedTuple):
    """Seconds of wall time, of this process's CPU, and of its children's."""

    wall: float
    own: float
    children: float

    def __add__(self, other: object) -> Cost:
        assert isinstance(other, Cost)
        return Cost(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def cpu(self) -> float:
        """All CPU seconds."""
        return self.own + self.children


def measured(call: Callable[[], object]) -> Cost:
    """The cost of a call; its child processes must have ended."""

    def now() -> Cost:
        own, children = (
            resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        )
        return Cost(
            time.perf_counter(), own.ru_utime + own.ru_stime, children.ru_utime + children.ru_stime
        )

    before = now()
    call()
    after = now()
    return Cost(*(b - a for a, b in zip(before, after, strict=True)))


def plan(seeds: range) -> Plan:
    """20 points of digits-cnn for each seed."""
    return Plan(
        {
            "workload": ["digits-cnn"],
            "profile.chunk_length": [16, 32, 64, 128, 256],
            "profile.rounding": ["nearest-away", "nearest-even"],
            "machine.memory.bytes_per_cycle": [32, 128],
            "seed": list(seeds),
        }
    )


def bare(points: Plan) -> None:
    """The points' reports, computed one by one and dropped."""
    workload = hs.load_workload("digits-cnn")
    resolver = Resolver()
    for values in points.values(resolver.lookup):
        hs.simulate(
            workload, resolver.machine(values), resolver.profile(values), values["seed"], threads=1
        )


def show(costs: dict[str, Cost], count: int, jobs: int) -> None:
    """Print the costs of so many points, and the ratios."""
    print(f"{count} points of digits-cnn, load of the machine {os.getloadavg()[0]:.1f}")
    for name, cost in costs.items():
        a_point = f"{cost.cpu / count:7.4f} s CPU a point"
        print(f"{name:12} {cost.wall:8.1f} s wall {cost.cpu:8.1f} s CPU {a_point}")
    one, many = costs["one process"], costs["processes"]
    busiest = many.own + many.children / jobs
    print(f"one process / bare, CPU           {one.cpu / costs['bare'].cpu:.3f}")
    print(f"{jobs} processes / bare, CPU           {many.cpu / costs['bare'].cpu:.3f}")
    print(f"{jobs} processes, gain by wall time    {one.wall / many.wall:.2f}")
    print(
        f"{jobs} processes, gain by CPU time     {one.cpu / busiest:.2f}, if none waits", flush=True
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    seeds = max(1, options.points // (20 * options.blocks))
    bare(plan(range(1)))  # compiles the kernels
    costs = dict.fromkeys(("bare", "one process", "processes"), Cost(0, 0, 0))
    with tempfile.TemporaryDirectory() as folder:
        for block in range(options.blocks):
            points = plan(range(block * seeds, (block + 1) * seeds))
            ways: dict[str, Callable[[], object]] = {
                "bare": lambda points=points: bare(points),
                "one process": lambda points=points, block=block: hs.sweep(
                    points, threads=1, out=Path(folder) / f"one-{block}"
                ),
                "processes": lambda points=points, block=block: hs.sweep(
                    points, n_jobs=options.jobs, threads=1, out=Path(folder) / f"many-{block}"
                ),
            }
            for name, call in ways.items():
                costs[name] += measured(call)
            print(f"block {block + 1} of {options.blocks}")
            show(costs, 20 * seeds * (block + 1), options.jobs)
        same = all(
            (Path(folder) / f"one-{block}/points" / path.name).read_bytes() == path.read_bytes()
            for block in range(options.blocks)
            for path in (Path(folder) / f"many-{block}/points").glob("*.json")
        )
    print(f"files of both are {'equal' if same else 'NOT EQUAL'}")


if __name__ == "__main__":
    main()
