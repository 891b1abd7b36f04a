"""`sweep`: the points of a plan, computed wherever there are workers, into one table.

Worker processes start at once, and load what they need while this process loads the rest of this room.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfp8sim.collector import collector_off
from hfp8sim.errors import InputError
from hfp8sim.sweeps.fork_server import ForkServer, can_fork, is_worker
from hfp8sim.sweeps.store import Store

if TYPE_CHECKING:
    from hfp8sim.sweeps.plan import Range, Values
    from hfp8sim.sweeps.result import SweepResult


def sweep(
    workloads: Any = (),
    *,
    networks: Any = (),
    recipes: Any = (),
    profiles: Any = (),
    machines: Any = (),
    systems: Any = (),
    seeds: Any = (),
    vary: Mapping[str, Sequence[Any] | Range] | None = None,
    fixed: Values | None = None,
    points: Sequence[Values] = (),
    samples: int | None = None,
    sample_seed: int = 0,
    where: Any = (),
    name: str = "sweep",
    quality: str | None = None,
    costs: Sequence[str] = (),
    n_jobs: int = 1,
    executor: Any = None,
    threads: int | None = None,
    out: str | Path | None = None,
    repeat_failed: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> SweepResult:
    """Run workloads, or train networks, over every combination of settings, a list of them or a random sample.

    Args:
        workloads: names, files or records; one of them needs no list. The path of a sweep's TOML file, or a
            `Plan`, has all of the settings, and then none of those up to `costs` may be given.
        networks: networks to train, in place of workloads.
        recipes: of the trainings.
        profiles, machines: names, TOML files or records; `hfp8` and `rapid-core` by default.
        systems: chips and links: TOML files or records; adds the time of a training step of which each chip runs
            the workload.
        seeds: of drawn tensors, first weights and stochastic roundings; 0 by default.
        vary: values, or a `Range`, of any other key (docs/sweeps.md): `{"profile.chunk_length": [16, 64]}`.
        fixed: one value of other keys: `{"phases": "fwd"}`.
        points: a list of points instead of a grid: a dict of values by key for each.
        samples: so many random points instead of the grid.
        sample_seed: of the random points.
        where: constraints, all of which a point must satisfy: texts as in `"chunk_length <= 64"`, or functions
            of a mapping of values by key.
        name: of the sweep, in its report.
        quality, costs: the measures of the report's fronts; `sqnr_db` or `test_loss` against `cycles`, `bytes` and
            `accumulator_bits` by default.
        n_jobs: processes of this machine; −1 for as many as there are cores.
        executor: in their place, anything with `submit`: a Dask client, an executor of `concurrent.futures`.
        threads: worker threads of each process; by default the cores are divided among the processes.
        out: a folder that keeps a file for each point. A later start takes over what is there, and several
            machines can share it.
        repeat_failed: compute those points again that are there as failed.
        progress: called as (done, all, what) in units of work.
        stop: asked several times a second; True ends the sweep as Ctrl-C does.

    Returns the points in the order of the plan; none of them depends on `n_jobs`, `executor` or `threads`. A point
    that fails is in it with its reason.

    Raises:
        InputError: an unknown name or key, no point, a folder that cannot be written.
        SweepInterrupted: Ctrl-C; it carries the points so far.
    """
    settings = {
        "networks": networks, "recipes": recipes, "profiles": profiles, "machines": machines, "systems": systems,
        "seeds": seeds, "vary": vary, "fixed": fixed, "points": points, "samples": samples,
        "sample_seed": sample_seed, "where": where, "quality": quality, "costs": costs,
    }  # fmt: skip
    with workers(n_jobs, executor, out) as server:
        with collector_off():
            from hfp8sim.sweeps.arguments import plan_of
            from hfp8sim.sweeps.drive import run_plan

        plan = plan_of(workloads, settings, name)
        return run_plan(
            plan, server, n_jobs=n_jobs, executor=executor, threads=threads, out=out,
            repeat_failed=repeat_failed, progress=progress, stop=stop,
        )  # fmt: skip


@contextlib.contextmanager
def workers(n_jobs: int, executor: Any, out: str | Path | None) -> Iterator[ForkServer | None]:
    """The fork server of a sweep; None where it has no processes, or where they are not forked.

    It starts now. In a folder with points, which may need no process, it starts with its first worker.

    Raises:
        InputError: `n_jobs` is no number of processes, or this process is a worker itself.
    """
    if isinstance(n_jobs, bool) or not isinstance(n_jobs, int) or (n_jobs < 1 and n_jobs != -1):
        raise InputError(
            f"n_jobs is {n_jobs!r}, must be a number of processes, or -1 for all cores"
        )
    if n_jobs != 1 and executor is None and is_worker():  # else each worker would start others
        raise InputError(
            "a worker process cannot sweep with n_jobs > 1; a module that workers import needs"
            ' `if __name__ == "__main__":` before its own call'
        )
    if n_jobs == 1 or executor is not None or not can_fork():
        yield None
        return
    with contextlib.closing(ForkServer()) as server:
        if out is None or Store(out).is_empty():
            server.start()
        yield server
