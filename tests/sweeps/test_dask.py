"""Sweeps on Dask: a cluster of this machine's processes, one of which is killed midway."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

distributed = pytest.importorskip("distributed", reason="the extra `dask` is not installed")

import hfp8sim as hs  # noqa: E402
from tests.cli.test_cli import Run, run  # noqa: E402, F401
from tests.sweeps.plans import small_plan  # noqa: E402


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """A cluster of two worker processes with one thread each."""
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def test_cluster_gives_the_table_of_one_process(client: Any, tmp_path: Path) -> None:
    plan = small_plan()
    expected = hs.sweep(plan).to_csv()
    assert hs.sweep(plan, executor=client).to_csv() == expected
    assert hs.sweep(plan, executor=client.get_executor()).to_csv() == expected
    assert hs.sweep(plan, executor=client, out=tmp_path).to_csv() == expected
    assert len(list((tmp_path / "points").glob("*.json"))) == 16


def test_killed_worker_loses_its_point_alone(client: Any, tmp_path: Path) -> None:
    """Its points are computed by other workers, and the table is the same."""
    plan = small_plan(seed=list(range(6)))
    expected = hs.sweep(plan).to_csv()
    killed: list[int] = []

    def kill(done: int, total: int, what: str) -> None:
        if done and not killed:
            workers = client.scheduler_info(n_workers=-1)["workers"]
            pids = client.run(os.getpid)
            busy = [pids[w] for w in workers if w in pids]
            killed.append(busy[0])
            os.kill(busy[0], signal.SIGKILL)

    result = hs.sweep(plan, executor=client, out=tmp_path, progress=kill)
    assert killed and result.failed == 0
    assert result.to_csv() == expected


def test_command_runs_on_a_scheduler(client: Any, run: Run, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "gemms.csv").write_text("Layer, M, N, K,\nfirst, 4, 5, 6,\n")
    plan = tmp_path / "plan.toml"
    plan.write_text(
        f'workloads = ["{tmp_path}/gemms.csv"]\nseeds = [0, 1]\n[fixed]\nphases = "fwd"\n'
    )
    status, out, err = run("sweep", plan, "--dask", client.scheduler.address, "--format", "csv")
    assert (status, err) == (0, "")
    assert out == run("sweep", plan, "-j", "1", "--format", "csv")[1]
    assert len(out.splitlines()) == 3
