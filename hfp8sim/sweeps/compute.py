"""A point of a sweep, computed in whatever process it is sent to."""

from __future__ import annotations

import contextlib
import functools
import gc
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hfp8sim.errors import InputError, one_line
from hfp8sim.formats import formats, register_format
from hfp8sim.network import Workload
from hfp8sim.report.columns import COLUMNS, Row, plain_value
from hfp8sim.report.record import ReportRecord
from hfp8sim.report.step import training_step
from hfp8sim.simulation import simulate
from hfp8sim.sweeps.jobs import Job
from hfp8sim.sweeps.store import DONE, FAILED, LAYOUT, Record, Store, open_existing
from hfp8sim.systems import System
from hfp8sim.workloads import load_workload

#: Steps whose mean loss is a training's loss.
_LAST_STEPS = 20

#: Answer for a point that another process computes.
TAKEN: Record = {"status": "taken"}


def compute_point(job: Job, folder: str | None, repeat_failed: bool = False) -> Record:
    """The record of a point, computed or read; `TAKEN` while another process computes it.

    A point that refuses its input is a record with the reason. Any other failure is one too, but is not written:
    a later start tries it again.

    Args:
        folder: of the sweep; None keeps nothing.
        repeat_failed: compute a point again that has failed.
    """
    store = open_existing(folder)
    if store is None:
        return _computed(job)[0]
    with store.claim(job.key) as claim:
        record = finished(store, job, repeat_failed)
        if record is not None:
            return record
        if claim is None:
            return TAKEN
        record, keep = _computed(job)
        if keep:
            claim.write(record)
        return record


def compute_in_worker(job: Job, folder: str | None, repeat_failed: bool = False) -> Record:
    """`compute_point` in a worker process. After its first point the collector leaves out what is there."""
    record = compute_point(job, folder, repeat_failed)
    _freeze()
    return record


@functools.cache
def _freeze() -> None:
    """Leave the modules, kernels and workloads that are there out of garbage collection, once in a process."""
    gc.freeze()


def finished(store: Store, job: Job, repeat_failed: bool) -> Record | None:
    """The record of a point that is not computed again; None without one.

    Args:
        repeat_failed: whether a point that has failed is computed again.
    """
    record = store.read(job.key)
    if record is None or (repeat_failed and record["status"] == FAILED):
        return None
    written = record["status"] == FAILED or not job.checkpoint or Path(job.checkpoint).exists()
    return record if written else None


def failure(job: Job, reason: str) -> Record:
    """The record of a point that has failed."""
    return _record(job, FAILED, reason, {}, [], [])


def _computed(job: Job) -> tuple[Record, bool]:
    """The record of a point, and whether the same input always gives it."""
    try:
        for record in job.formats:
            if record.name not in formats():
                register_format(record)
        with one_blas_thread():
            return (_training(job) if job.training else _run(job)), True
    except InputError as error:
        return failure(job, one_line(error)), True
    except MemoryError:
        return failure(job, "out of memory"), False
    except Exception as error:  # a row with its reason, whatever it is
        return failure(job, one_line(f"{type(error).__name__}: {error}")), False


def _run(job: Job) -> Record:
    """A run of a workload on a machine."""
    arguments = dict(job.arguments)
    source, system = arguments.pop("workload"), _chips(arguments.pop("system"))
    if isinstance(source, str):
        source = _workload(source, not arguments["time_only"], job.settings["workload"])
    report = simulate(source, threads=job.threads, system=system, **arguments)
    return _record(job, DONE, "", _step(report), report.layers, [])


def _chips(system: System | None) -> System | None:
    """The system of a point, whose machine is the point's."""
    return None if system is None else system.replace(machine="")


def _step(report: ReportRecord) -> dict[str, Any]:
    """The measures of a training step on a system that no column of the report has; empty without one."""
    step = training_step(report)
    if step is None:
        return {}
    return {"step_us": 1e6 * step.seconds, "efficiency": step.efficiency}


@functools.lru_cache(maxsize=4)
def _workload(source: str, weights: bool, digest: str) -> Workload:
    """A workload, read once in a process. `digest` is that of the process that planned the sweep."""
    from hfp8sim.simulation.provenance import digest as digest_of

    workload = load_workload(source, weights=weights)
    if digest_of(workload) != digest:
        raise InputError(f"{source} is not what it was when the sweep started")
    return workload


def _training(job: Job) -> Record:
    """A training, and the time of one of its steps on the machine."""
    try:
        import torch

        from hfp8sim.training.runs import Run, Settings
        from hfp8sim.training.workload import step_workload
    except ImportError:
        raise InputError('trainings need an extra: pip install "hfp8sim[torch]"') from None
    if job.threads is not None:
        torch.set_num_threads(job.threads)
    recipe = job.arguments["recipe"]
    settings = Settings(recipe=recipe, **job.arguments["settings"])
    run = Run(settings, job.threads)
    run.train()
    if job.checkpoint:
        run.save(job.checkpoint)
    result = run.evaluate()
    last = run.history[-_LAST_STEPS:]
    measures = {
        "loss": sum(step.loss for step in last) / len(last),
        "test_loss": result.loss,
        "accuracy": result.accuracy,
        "stuck_share": sum(step.counts.stuck_share for step in last) / len(last),
        "skipped_steps": sum(step.counts.skipped for step in run.history),
        "loss_scale": run.optimiser.scale.scale,
    }
    rows: list[Row] = []
    if recipe.emulated:
        workload = step_workload(settings)
        report = simulate(
            workload, job.arguments["machine"], recipe.profile, policy=recipe.policy,
            time_model=job.arguments["time_model"], time_only=True,
            system=_chips(job.arguments["system"]),
        )  # fmt: skip
        rows = report.layers
        measures |= _step(report)
    return _record(job, DONE, "", measures, rows, [step.loss for step in run.history])


def _record(
    job: Job, status: str, reason: str, measures: dict[str, Any], rows: list[Row],
    history: list[float],
) -> Record:  # fmt: skip
    """A point's record: rows under their columns, histograms left out, infinities as words."""
    columns = [c.name for c in COLUMNS if c.kind is not list and any(c.name in row for row in rows)]
    return {
        "layout": LAYOUT, "key": job.key, "settings": job.settings, "status": status, "reason": reason,
        "measures": {name: plain_value(value, None) for name, value in measures.items()},
        "columns": columns,
        "rows": [[plain_value(row.get(name), None) for name in columns] for row in rows],
        "history": [plain_value(loss, None) for loss in history],
    }  # fmt: skip


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let NumPy's matrix products run on one thread: with more, the last bits of a float64 sum may differ."""
    controller = _controller("torch" in sys.modules)
    if controller is None:
        yield
        return
    with controller.limit(limits=1, user_api="blas"):
        yield


@functools.cache
def _controller(with_torch: bool) -> Any:
    """The libraries whose threads are limited; None without threadpoolctl. `with_torch` finds them anew."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    return ThreadpoolController()
