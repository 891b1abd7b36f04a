"""Sweeps: the same table in one process, in several, with an executor, after interrupts and after kills."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hfp8sim as hs
from hfp8sim.errors import InputError
from hfp8sim.files import lock
from hfp8sim.network import Layer, Workload
from hfp8sim.sweeps import Plan, pools, run
from hfp8sim.sweeps import compute as compute_module
from hfp8sim.sweeps import store as store_module
from hfp8sim.sweeps.fork_server import ForkServer
from hfp8sim.sweeps.jobs import Resolver
from hfp8sim.sweeps.store import Store
from tests.sweeps.plans import GEMMS, WIDE, small_plan


@pytest.fixture(scope="module")
def table() -> str:
    """The table of the small plan, computed in this process."""
    return hs.sweep(small_plan()).to_csv()


def files(folder: Path) -> dict[str, bytes]:
    """The points' files by name."""
    return {path.name: path.read_bytes() for path in (folder / "points").glob("*.json")}


# -- what is computed --------------------------------------------------------------------------------


def test_points_are_runs() -> None:
    """A row has the totals of the report that `simulate` gives for the same settings."""
    result = hs.sweep(small_plan())
    row = result.rows[5]
    assert (row["profile.chunk_length"], row["machine.memory.bytes_per_cycle"], row["seed"]) == (
        16,
        4,
        1,
    )
    report = hs.simulate(
        GEMMS, hs.get_machine("edge-8x8").replace(**{"memory.bytes_per_cycle": 4}),
        hs.get_profile("hfp8").replace(chunk_length=16), seed=1, phases=["fwd"],
    )  # fmt: skip
    for name in ("cycles", "bytes", "sqnr_db", "acc_sqnr_db", "swamped", "macs", "bound_by"):
        assert row[name] == report.total[name]
    own = [r for r in result.layers if r["point"] == 5]
    assert [(r["layer"], r["sqnr_db"]) for r in own] == [
        (r["layer"], r["sqnr_db"]) for r in report.layers
    ]
    assert row["accumulator_bits"] == 16 and row["operand_bits"] == 8


def test_arguments_make_the_plan() -> None:
    result = hs.sweep(
        [GEMMS, WIDE], profiles="rapid", seeds=range(2), fixed={"phases": "fwd"},
        vary={"profile.chunk_length": [8, 16]}, where="seed + chunk_length != 8",
    )  # fmt: skip
    shown = [
        (r["workload"], r["profile"], r["profile.chunk_length"], r["seed"]) for r in result.rows
    ]
    assert shown == [
        (name, "rapid", length, seed)
        for name in ("gemms", "wide")
        for length, seed in ((8, 1), (16, 0), (16, 1))
    ]


def test_numbers_of_numpy_and_lists_of_phases_are_values() -> None:
    result = hs.sweep(
        WIDE, fixed={"phases": ("fwd", "dgrad"), "time_only": True},
        vary={"profile.chunk_length": np.array([8, 16]), "machine.array.rows": [np.int64(4)]},
        where="phases == 'fwd,dgrad'",
    )  # fmt: skip
    assert [(r["status"], r["profile.chunk_length"]) for r in result.rows] == [
        ("done", 8),
        ("done", 16),
    ]
    assert {row["phase"] for row in result.layers} == {"fwd", "dgrad"}


def test_plan_and_arguments_are_not_mixed() -> None:
    with pytest.raises(InputError, match="seeds is given beside a plan"):
        hs.sweep(small_plan(), seeds=[1])


def test_own_arrays_are_swept() -> None:
    rng = np.random.default_rng(0)
    x, w = (rng.normal(size=s).astype(np.float32) for s in ((8, 64), (64, 4)))
    mine = Workload("mine", (Layer("mine", "gemm", 8, 4, 64, tensors={"x": x, "w": w}),))
    result = hs.sweep(mine, fixed={"phases": "fwd"}, vary={"profile.accumulator": ["dlfloat16", "fp9-153"]})  # fmt: skip
    wide, narrow = (row["acc_sqnr_db"] for row in result.rows)
    assert wide > narrow + 20


def test_failing_point_is_a_row_with_its_reason() -> None:
    result = hs.sweep(
        WIDE, fixed={"phases": "fwd"}, vary={"profile.products_per_step": [1, 2, 3], "policy": ["", "d=fp16"]}
    )  # fmt: skip
    assert [row["status"] for row in result.rows] == ["done", "failed"] * 2 + ["failed"] * 2
    reasons = [row["reason"] for row in result.rows if row["status"] == "failed"]
    assert "unknown policy rule" in reasons[0] and "fused steps take 1 or 2 products" in reasons[2]
    assert result.summary == "6 points, 4 failed" and result.failed == 4


def test_unknown_names_are_refused_before_the_start() -> None:
    with pytest.raises(InputError, match="unknown profile 'hfp9'"):
        hs.sweep(WIDE, profiles=["hfp8", "hfp9"])
    with pytest.raises(InputError, match="unknown workload 'digits'"):
        hs.sweep(["digits"])


@pytest.mark.parametrize("n_jobs", [0, -2, True, "2"])
def test_bad_n_jobs_is_refused(n_jobs: Any) -> None:
    with pytest.raises(InputError, match="n_jobs is"):
        hs.sweep(WIDE, n_jobs=n_jobs)


def test_unexpected_error_is_a_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is not kept: a second start tries the point again."""

    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("a fault\nof two lines")

    with monkeypatch.context() as patch:
        patch.setattr(compute_module, "simulate", broken)
        result = hs.sweep(WIDE, out=tmp_path)
    assert result.rows[0]["reason"] == "RuntimeError: a fault of two lines"
    assert files(tmp_path) == {}
    assert hs.sweep(WIDE, out=tmp_path).failed == 0


# -- the folder --------------------------------------------------------------------------------------


def test_second_start_computes_nothing(tmp_path: Path, table: str, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    first = hs.sweep(small_plan(), out=tmp_path)
    before = files(tmp_path)
    assert first.to_csv() == table and len(before) == 16
    monkeypatch.setattr(compute_module, "simulate", None)
    assert hs.sweep(small_plan(), out=tmp_path).to_csv() == table
    assert files(tmp_path) == before
    assert not list((tmp_path / "points").glob("*.lock"))


def test_damaged_file_is_computed_again(tmp_path: Path, table: str) -> None:
    hs.sweep(small_plan(), out=tmp_path)
    before = files(tmp_path)
    names = sorted(before)
    (tmp_path / "points" / names[0]).write_bytes(before[names[0]][:100])
    (tmp_path / "points" / names[1]).write_bytes(before[names[2]])  # of another point
    (tmp_path / "points" / names[3]).unlink()
    assert hs.sweep(small_plan(), out=tmp_path).to_csv() == table
    assert files(tmp_path) == before


def test_failed_points_are_repeated_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    plan = Plan({"workload": [WIDE], "phases": ["fwd"], "policy": ["", "d=fp16"]})
    hs.sweep(plan, out=tmp_path)
    calls = []
    monkeypatch.setattr(compute_module, "simulate", lambda *a, **k: calls.append(1))
    hs.sweep(plan, out=tmp_path)
    assert calls == []
    hs.sweep(plan, out=tmp_path, repeat_failed=True)
    assert calls == [1]


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": [1]},
        {"profile.chunk_length": [32]},
        {"profile.between_rounding": ["nearest-even"]},
        {"machine.memory.latency": [3]},
        {"workload": [WIDE]},
        {"phases": ["dgrad"]},
        {"time_model": ["scalesim-os"]},
        {"max_macs": [100]},
        {"events_every": [2]},
        {"calibrate": ["max"]},
        {"policy": ["first=fp16"]},
        {"time_only": [True]},
    ],
)
def test_key_depends_on_every_setting(changes: dict[str, Any]) -> None:
    point = {"workload": GEMMS, "phases": "fwd"}
    other = point | {key: values[0] for key, values in changes.items()}
    resolver = Resolver()
    assert resolver.job(point).key != resolver.job(other).key


def test_one_change_of_different_records_gives_different_keys() -> None:
    """Changed records are made once in a sweep."""
    resolver = Resolver()
    keys = [
        resolver.job(
            {
                "workload": GEMMS, "profile": profile, "machine": machine,
                "profile.chunk_length": 8, "machine.memory.latency": 3,
            }
        ).key
        for profile in ("hfp8", "fp16")
        for machine in ("edge-8x8", "rapid-core")
        for _ in range(2)
    ]  # fmt: skip
    assert keys[::2] == keys[1::2] and len(set(keys)) == 4


def test_key_ignores_names_and_threads() -> None:
    point = {"workload": GEMMS, "machine": hs.get_machine("edge-8x8"), "phases": "fwd"}
    other = point | {
        "workload": Workload("renamed", GEMMS.layers),
        "machine": hs.get_machine("edge-8x8").replace(name="mine", summary="other"),
    }
    assert Resolver(1).job(point).key == Resolver(2).job(other).key


def test_format_of_the_callers_reaches_other_processes() -> None:
    fmt = hs.FloatFormat("sweep-test-169", 6, 9, 31, lowest="normal", special="nan-inf")
    hs.register_format(fmt)
    arguments = {"fixed": {"phases": "fwd"}, "vary": {"profile.accumulator": [fmt, "dlfloat16"]}}
    here, there = (hs.sweep(WIDE, n_jobs=n, **arguments) for n in (1, 2))  # type: ignore[arg-type]
    assert here.failed == 0 and here.to_csv() == there.to_csv()


def test_format_without_a_name_reaches_other_processes() -> None:
    fmt = hs.FloatFormat("sweep-test-159", 5, 9, 15, lowest="normal", special="nan-inf")
    plan = Plan({"workload": [WIDE], "phases": ["fwd"], "profile.accumulator": [fmt, "dlfloat16"]})
    here, there = (hs.sweep(plan, n_jobs=n) for n in (1, 2))
    assert here.failed == 0 and here.to_csv() == there.to_csv()
    assert fmt.name not in hs.formats()


def test_two_processes_share_a_folder(tmp_path: Path, table: str) -> None:
    """Each point is computed by one of the two sweeps, and both have the whole table."""
    counts: list[int] = []
    lock = threading.Lock()
    original = compute_module.simulate

    def counted(*args: Any, **kwargs: Any) -> Any:
        with lock:
            counts.append(1)
        time.sleep(0.01)
        return original(*args, **kwargs)

    compute_module.simulate = counted
    try:
        with ThreadPoolExecutor(2) as executor:
            both = list(executor.map(lambda _: hs.sweep(small_plan(), out=tmp_path).to_csv(), "ab"))
    finally:
        compute_module.simulate = original
    assert both == [table, table]
    assert len(counts) == 16


def test_claim_ends_with_its_process(tmp_path: Path) -> None:
    store = Store.make(tmp_path)
    code = (
        "import sys, time; from hfp8sim.sweeps.store import Store\n"
        "with Store(sys.argv[1]).claim('k') as claim: print(claim is not None, flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None and process.stdout.readline() == b"True\n"
        with store.claim("k") as claim:
            assert claim is None
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    with store.claim("k") as claim:
        assert claim is not None


def test_file_of_a_killed_process_is_filled_anew(tmp_path: Path) -> None:
    """A process was killed while it wrote a point."""
    whole = _serial_files(tmp_path / "whole")
    name = sorted(whole)[0]
    left = Store.make(tmp_path / "killed").folder / "points" / name.replace(".json", ".lock")
    left.write_bytes(2 * whole[name])
    hs.sweep(small_plan(), out=tmp_path / "killed")
    assert files(tmp_path / "killed") == whole
    assert len(list((tmp_path / "killed/points").iterdir())) == 16


def test_point_that_another_process_finishes_is_not_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It finishes between opening the file and locking it. The file is the point's then."""
    store = Store.make(tmp_path)

    def finish_and_lock(descriptor: int) -> bool | None:
        os.replace(tmp_path / "points/k.lock", store.path("k"))
        return lock(descriptor)

    monkeypatch.setattr(store_module, "lock", finish_and_lock)
    with store.claim("k") as claim:
        assert claim is None
    assert store.path("k").exists()


# -- where it is computed ----------------------------------------------------------------------------


@pytest.mark.parametrize("fork", [True, False])
def test_processes_give_the_same_table(
    fork: bool, tmp_path: Path, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "can_fork", lambda: fork)
    result = hs.sweep(small_plan(), n_jobs=2, out=tmp_path)
    assert result.to_csv() == table
    assert files(tmp_path) == _serial_files(tmp_path / "serial")


def _serial_files(folder: Path) -> dict[str, bytes]:
    hs.sweep(small_plan(), out=folder)
    return files(folder)


class Slow:
    """An executor of which futures have no callbacks, as submitit's."""

    class Job:
        def __init__(self, call: Callable[[], Any]) -> None:
            self._call, self._looks = call, 0

        def done(self) -> bool:
            self._looks += 1
            return self._looks > 2

        def result(self) -> Any:
            return self._call()

        def cancel(self) -> None:
            pass

    def submit(self, function: Callable[..., Any], *args: Any) -> Slow.Job:
        return Slow.Job(lambda: function(*args))


def test_any_executor_gives_the_same_table(table: str) -> None:
    with ThreadPoolExecutor(2) as executor:
        assert hs.sweep(small_plan(), executor=executor).to_csv() == table
        executor.submit(int).result()  # it is still open
    assert hs.sweep(small_plan(), executor=Slow()).to_csv() == table
    with pytest.raises(InputError, match="executor is int, which has no submit"):
        hs.sweep(WIDE, executor=3)


def test_progress_reaches_the_end() -> None:
    seen: list[tuple[int, int, str]] = []
    hs.sweep(small_plan(), progress=lambda *event: seen.append(event))
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)
    assert seen[0][0] == 0 and seen[-1][0] == seen[-1][1] and seen[-1][2] == "16 of 16 points"


# -- interrupts and kills ----------------------------------------------------------------------------


def interrupted_table(folder: Path, times: int, seed: int) -> str:
    """The table after so many interrupts, each after a random number of points."""
    generator = random.Random(seed)
    for _ in range(times):
        left = [generator.randrange(3)]

        def stop(left: list[int] = left) -> bool:
            left[0] -= 1
            return left[0] < 0

        with contextlib.suppress(hs.SweepInterrupted):
            hs.sweep(small_plan(), out=folder, stop=stop)
    return hs.sweep(small_plan(), out=folder).to_csv()


def test_interrupted_sweep_gives_the_same_table(tmp_path: Path, table: str) -> None:
    for seed in range(3):
        assert interrupted_table(tmp_path / str(seed), 20, seed) == table


def test_interrupt_carries_what_is_finished(table: str) -> None:
    calls = iter([False] * 5 + [True])
    with pytest.raises(hs.SweepInterrupted) as caught:
        hs.sweep(small_plan(), stop=lambda: next(calls))
    result = caught.value.result
    assert result.unfinished == 11 and result.summary == "16 points, 11 unfinished"
    assert result.to_csv().splitlines()[1:6] == table.splitlines()[1:6]


def child_processes(parent: int, program: bytes) -> list[int]:
    """The children of a process with a text in their command line."""
    found = []
    for children in Path(f"/proc/{parent}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for pid in map(int, children.read_text().split()):
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
                found += [pid] * (program in command)
    return found


def server_processes() -> list[int]:
    """The fork servers below this process."""
    return child_processes(os.getpid(), b"sweeps.fork_server")


def worker_processes() -> list[int]:
    """The worker processes of this one: below its fork servers, or loky's."""
    forked = [
        pid
        for server in server_processes()
        for pid in child_processes(server, b"sweeps.fork_server")
    ]
    return forked + child_processes(os.getpid(), b"popen_loky")


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds processes in /proc")
def test_killed_workers_lose_their_point_alone(tmp_path: Path, table: str) -> None:
    generator, kills = random.Random(3), []

    def kill(done: int, total: int, what: str) -> None:
        pids = worker_processes()
        if pids and len(kills) < 4 and generator.random() < 0.5:
            kills.append(generator.choice(pids))
            os.kill(kills[-1], signal.SIGKILL)

    result = hs.sweep(small_plan(), n_jobs=2, out=tmp_path, progress=kill)
    assert kills and result.to_csv() == table


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds processes in /proc")
@pytest.mark.parametrize("server", [ForkServer(), None], ids=["forked", "loky"])
def test_worker_that_ends_between_points_is_replaced(server: ForkServer | None) -> None:
    job = Resolver(1).job({"workload": WIDE, "phases": "fwd"})
    pool = pools.ProcessPool(pools.Task(None, False), 1, server)
    try:
        for _ in range(2):
            pool.submit([job])
            answer = None
            while answer is None:
                answer = pool.answer(1.0)
            assert not isinstance(answer.result, pools.Lost) and answer.result["status"] == "done"
            (pid,) = worker_processes()
            os.kill(pid, signal.SIGKILL)
            while pid in worker_processes():
                time.sleep(0.05)
            time.sleep(0.2)
    finally:
        pool.close()


def compute_unless_deadly(job: Any, *rest: Any) -> Any:
    """`compute_in_worker`, but one point of the small plan ends the process."""
    settings = job.arguments
    bandwidth = settings["machine"]["memory.bytes_per_cycle"]
    if (settings["profile"].chunk_length, bandwidth, settings["seed"]) == (8, 8, 1):
        os._exit(9)
    return compute_module.compute_in_worker(job, *rest)


def test_point_that_ends_its_worker_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a point is tried a few times; the others have their results."""
    monkeypatch.setattr(pools, "compute_in_worker", compute_unless_deadly)
    result = hs.sweep(small_plan(), n_jobs=2)
    assert [row["point"] for row in result.rows if row["status"] == "failed"] == [3]
    assert "its worker ended 3 times" in result.rows[3]["reason"]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds processes in /proc")
@pytest.mark.parametrize("server", ["fork_server.ForkServer()", "None"], ids=["forked", "loky"])
def test_workers_end_with_their_parent(server: str) -> None:
    code = (
        "from hfp8sim.sweeps import fork_server, pools\n"
        f"server = {server}\n"
        "pool = pools.ProcessPool(pools.Task(None, False), 1, server)\n"
        "print(pool._workers[0].executor.submit(__import__('os').getpid).result(), flush=True)\n"
        "__import__('time').sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env=_environment()
    )
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    process.stdout.close()
    process.kill()
    process.wait()
    deadline = time.monotonic() + 300
    while Path(f"/proc/{worker}").is_dir() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{worker}").is_dir()


PLAN = """
workloads = ["gemms.csv"]
[fixed]
phases = "fwd"
[vary]
profile.chunk_length = [8, 16, 32, 64]
seed = [0, 1, 2, 3, 4]
"""


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.exhaustive)])
def test_killed_command_goes_on(kills: int, tmp_path: Path) -> None:
    """The whole process is killed at random moments, its workers with it."""
    (tmp_path / "gemms.csv").write_text("Layer, M, N, K,\nfirst, 40, 50, 60,\nlast, 20, 30, 400,\n")
    (tmp_path / "plan.toml").write_text(PLAN)
    command = [sys.executable, "-m", "hfp8sim", "sweep", "plan.toml", "-j", "2"]
    generator = random.Random(kills)
    for _ in range(kills):
        process = subprocess.Popen(
            [*command, "--out", "killed"], cwd=tmp_path, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True, env=_environment(),
        )  # fmt: skip
        before = len(list((tmp_path / "killed/points").glob("*.json")))
        deadline = time.monotonic() + 300
        while process.poll() is None and time.monotonic() < deadline:
            if len(list((tmp_path / "killed/points").glob("*.json"))) > before:
                break
            time.sleep(0.02)
        time.sleep(generator.random() * 0.05)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for folder in ("killed", "whole"):
        subprocess.run(
            [*command, "--out", folder], cwd=tmp_path, check=True, capture_output=True,
            env=_environment(),
        )  # fmt: skip
    for name in ("points.csv", "layers.csv"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert files(tmp_path / "killed") == files(tmp_path / "whole")
    assert len(files(tmp_path / "whole")) == 20
    for text in files(tmp_path / "killed").values():
        assert json.loads(text)["status"] == "done"


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": f"{Path(__file__).parents[2]}:{os.environ.get('PYTHONPATH', '')}"}  # fmt: skip
