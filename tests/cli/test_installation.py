"""`hfp8sim doctor` and `hfp8sim warm-up`: each finding under the condition that it is about."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hfp8sim.cli import installation
from hfp8sim.cli.installation import EXTRAS, Finding, State, cpu_quota, findings, measured_speed
from hfp8sim.kernels.target import host_target

Patch = pytest.MonkeyPatch


def found(subject: str) -> Finding:
    (finding,) = [each for each in findings() if each.subject == subject]
    return finding


def test_every_finding_that_is_not_good_has_a_remedy() -> None:
    for finding in findings():
        assert finding.fact and (finding.state is State.GOOD or finding.remedy)


def test_missing_package_names_the_extra_that_installs_it(monkeypatch: Patch) -> None:
    def version(name: str) -> str:
        if name == "onnx":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.2.3"

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert found("onnx")[1:] == (
        State.ABSENT,
        "not installed: ONNX models",
        'pip install "hfp8sim[onnx]"',
    )
    assert found("torch")[1:3] == (State.GOOD, "1.2.3: training, and capture of PyTorch models")


def test_extras_are_those_of_the_package() -> None:
    declared = set(importlib.metadata.metadata("hfp8sim").get_all("Provides-Extra") or ())
    if "dtypes" not in declared:
        pytest.skip("the installed metadata are older than the sources: make setup")
    assert {extra.extra for extra in EXTRAS} <= declared


@pytest.mark.parametrize("name", ["model", "generic"])
def test_portable_kernels_are_slow(monkeypatch: Patch, name: str) -> None:
    monkeypatch.setenv("HFP8SIM_TARGET", name)
    host_target.cache_clear()
    try:
        finding = found("processor")
    finally:
        host_target.cache_clear()
    assert finding.state is State.SLOW and finding.remedy == "unset HFP8SIM_TARGET"


def test_unknown_target_is_broken(monkeypatch: Patch) -> None:
    monkeypatch.setenv("HFP8SIM_TARGET", "abacus")
    host_target.cache_clear()
    try:
        finding = found("processor")
    finally:
        host_target.cache_clear()
    assert finding.state is State.BROKEN and "must be generic or model" in finding.fact


def test_interpreted_kernels_are_slow(monkeypatch: Patch) -> None:
    monkeypatch.setattr(installation.config, "DISABLE_JIT", 1)
    assert found("compiler").state is State.SLOW


@pytest.mark.parametrize(
    ("root", "kept", "state", "remedy"),
    [
        (None, 0, State.SLOW, "set HFP8SIM_CACHE_DIR to a folder that can be written"),
        (Path("/c"), 0, State.SLOW, "hfp8sim warm-up"),
        (Path("/c"), 7, State.GOOD, ""),
    ],
)
def test_cache_without_kernels_is_slow(
    monkeypatch: Patch, root: Any, kept: int, state: State, remedy: str
) -> None:
    monkeypatch.setattr(installation, "root_folder", lambda: root)
    monkeypatch.setattr(installation, "kept_functions", lambda *_: kept)
    assert (found("kernel cache").state, found("kernel cache").remedy) == (state, remedy)


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "broken"}, None),
        ({"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2.0),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
    ],
)
def test_quota_of_a_control_group(tmp_path: Path, files: dict[str, str], quota: Any) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cpu_quota(tmp_path) == quota


def test_more_threads_than_the_quota_are_slow(monkeypatch: Patch) -> None:
    monkeypatch.setattr(installation, "thread_count", lambda _: 8)
    monkeypatch.setattr(installation, "cpu_quota", lambda: 2.5)
    assert found("threads")[1:] == (
        State.SLOW, "8 by default, but the container may use 2.5 cores: threads wait for each other", "--threads 2",
    )  # fmt: skip


def test_missing_reference_is_named(monkeypatch: Patch) -> None:
    monkeypatch.setattr(installation, "available", lambda: False)
    assert found("C reference").state is State.ABSENT


def test_speed_is_that_of_the_fastest_product() -> None:
    """Of a clock whose differences are known: 3 s to the first product, then 2, 1, 4, 2 and 2 s."""
    times = iter([0, 3, 10, 12, 20, 21, 30, 34, 40, 42, 50, 52])
    clock: Callable[[], float] = lambda: float(next(times))  # noqa: E731
    assert measured_speed(clock) == (3, 512**3 / 1e9)


def test_doctor_shows_every_subject(capsys: Any, monkeypatch: Patch) -> None:
    status, out = doctor(capsys, monkeypatch)
    assert status == 0
    for finding in findings():
        assert finding.subject in out
    assert out.count("hfp8sim[") == sum(finding.remedy.count("hfp8sim[") for finding in findings())


def test_doctor_fails_where_something_is_broken(capsys: Any, monkeypatch: Patch) -> None:
    broken = Finding("processor", State.BROKEN, "gone", "find it")
    monkeypatch.setattr(installation, "findings", lambda: iter([broken]))
    status, out = doctor(capsys, monkeypatch, "--measure")
    assert status == 1 and "find it" in out and "GMAC/s" not in out


def doctor(capsys: Any, monkeypatch: Patch, *options: str) -> tuple[int, str]:
    """Exit status and output of `hfp8sim doctor`."""
    from hfp8sim import cli

    monkeypatch.setattr(sys, "argv", ["hfp8sim", "doctor", *options])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return int(left.value.code or 0), capsys.readouterr().out


def test_warm_up_compiles_what_a_run_needs(tmp_path: Path) -> None:
    """After it a run of another process compiles nothing."""
    code = (
        "import sys\nfrom numba.core import event\nfrom hfp8sim.__main__ import main\n"
        "sys.argv = ['hfp8sim', *sys.argv[1:]]\n"
        "with event.install_recorder('numba:compile') as recorder:\n"
        "    try: main()\n"
        "    except SystemExit: pass\n"
        "print('compiled', sum(e.is_start for _, e in recorder.buffer))\n"
    )

    def run(*arguments: str) -> str:
        command = [sys.executable, "-c", code, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert " compiled functions, " in run("warm-up")
    assert run("run", "digits-cnn").endswith("compiled 0\n")
