"""`hfp8sim train --learners`: processes give the checkpoint of one process; a killed learner ends the run in one line."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from hfp8sim.training.runs import read_checkpoint  # noqa: E402

ROOT = Path(__file__).parents[2]
NETWORK = "tests.training.test_runs:small"
ENVIRONMENT = os.environ | {
    "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
}  # fmt: skip


def command(*options):
    return [
        sys.executable, "-m", "hfp8sim", "train", NETWORK, "--recipe", "hfp8", "--batch", "16", "--threads", "1",
        *options,
    ]  # fmt: skip


def run(*options):
    done = subprocess.run(
        command(*options), cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_processes_write_the_checkpoint_of_one_process(tmp_path):
    options = ("--learners", "2", "--steps", "4", "--out")
    table = run(*options, str(tmp_path / "one"))
    assert run(*options, str(tmp_path / "many"), "--processes") == table
    one, many = (next((tmp_path / name).glob("*.pt")).read_bytes() for name in ("one", "many"))
    assert one == many


def test_killed_learner_ends_the_run_in_one_line(tmp_path):
    """Learner 1 is killed after the first checkpoint, which stays whole; `--resume` goes on from it."""
    options = ("--learners", "2", "--steps", "100000", "--every", "3", "--out", str(tmp_path))
    with subprocess.Popen(
        command(*options, "--processes"),
        cwd=ROOT,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        end = time.monotonic() + 200
        while not [*tmp_path.glob("*.pt")] and time.monotonic() < end:
            time.sleep(0.1)
        os.kill(learner(process.pid, 1), signal.SIGKILL)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert errors.count("\n") == 1, errors
    assert "learner 1 was ended by SIGKILL" in errors
    assert f"{tmp_path} has the last checkpoint, --resume goes on from it" in errors
    saved = read_checkpoint(next(tmp_path.glob("*.pt")))
    assert len(saved["history"]) % 3 == 0
    assert len(saved["history"]) > 0


def learner(launcher: int, number: int) -> int:
    """The process of a learner that a launcher has started."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            environment = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if int(parent) == launcher and f"RANK={number}".encode() in environment:
            return int(folder.name)
    raise AssertionError(f"process {launcher} has no learner {number}")
