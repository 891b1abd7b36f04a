"""`hfp8sim sweep`: its table and files, going on, and refusals of one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from hfp8sim.cli.sweep import _Lines
from tests.cli.test_cli import Run, run  # noqa: F401

PLAN = """
workloads = ["gemms.csv"]
[fixed]
phases = "fwd"
[vary]
profile.chunk_length = [4, 64]
machine.memory.bytes_per_cycle = [4, 64]
"""


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gemms.csv").write_text("Layer, M, N, K,\nfirst, 4, 5, 6,\nlast, 3, 8, 70,\n")
    (tmp_path / "plan.toml").write_text(PLAN)
    return tmp_path / "plan.toml"


def test_sweep_writes_tables_page_and_commands(run: Run, plan: Path) -> None:  # noqa: F811
    status, out, err = run("sweep", plan, "-j", "1", "--out", "runs")
    assert (status, err) == (0, "") and out.startswith("plan: 4 points\n")
    assert out.splitlines()[-3:] == ["runs/points.csv", "runs/layers.csv", "runs/report.html"]
    assert len(Path("runs/points.csv").read_text().splitlines()) == 5
    assert len(Path("runs/layers.csv").read_text().splitlines()) == 9
    for command in Path("runs/best/commands.txt").read_text().splitlines():
        words = command.split()
        assert words[0] == "hfp8sim"
        words = [f"runs/{word}" if word.startswith("best/") else word for word in words[1:]]
        assert run(*words)[0] == 0
    again = run("sweep", plan, "-j", "1", "--out", "runs")
    assert again == (status, out, err)


def test_dry_run_lists_the_points(run: Run, plan: Path) -> None:  # noqa: F811
    status, out, _ = run("sweep", plan, "--dry-run")
    assert status == 0
    assert out.splitlines()[:2] == [
        "point,workload,profile.chunk_length,machine.memory.bytes_per_cycle,phases",
        "0,gemms.csv,4,4,fwd",
    ]
    assert len(out.splitlines()) == 5


def test_csv_goes_to_the_output(run: Run, plan: Path) -> None:  # noqa: F811
    status, out, _ = run("sweep", plan, "-j", "1", "--format", "csv")
    assert status == 0 and out.splitlines()[1].startswith("0,done,,gemms.csv,4,4,fwd,8,16,16,")


def test_sweep_of_failing_points_alone_is_bad_input(run: Run, plan: Path) -> None:  # noqa: F811
    plan.write_text(PLAN + 'policy = ["nowhere=fp16"]\n')
    status, out, err = run("sweep", plan, "-j", "1")
    assert status == 2 and "4 points, 4 failed" in out
    assert err.startswith("hfp8sim: every point failed: ") and "nowhere" in err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nothing.toml"], "nothing.toml: No such file"),
        (["plan.toml", "-j", "0"], "n_jobs is 0"),
        (["plan.toml", "--format", "xml"], "--format is xml, must be table or csv"),
    ],
)
def test_bad_arguments_are_one_line(run: Run, plan: Path, arguments, text) -> None:  # noqa: F811
    status, out, err = run("sweep", *arguments)
    assert (status, out) == (2, "") and text in err and err.count("\n") == 1


def test_log_has_a_line_each_minute(monkeypatch: pytest.MonkeyPatch, capsys) -> None:  # type: ignore[no-untyped-def]
    clock = [0.0]
    monkeypatch.setattr("hfp8sim.cli.sweep.time.monotonic", lambda: clock[0])
    lines = _Lines("mine")
    for second, done in ((0, 100), (30, 150), (61, 200), (70, 210), (130, 300)):
        clock[0] = second
        lines(done, 1000, f"{done} of 1000 points")
    assert capsys.readouterr().err.splitlines() == [
        "hfp8sim: mine: 200 of 1000 points, about 8 min left",
        "hfp8sim: mine: 300 of 1000 points, about 8 min left",
    ]
