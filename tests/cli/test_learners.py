"""`hfp8sim train --learners`: processes give the checkpoint of one process; a killed learner ends the run in one line."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from hfp8sim import cli  # noqa: E402
from hfp8sim.training.runs import read_checkpoint  # noqa: E402
from tests.training.test_runs import small  # noqa: E402

ROOT = Path(__file__).parents[2]
NETWORK = "tests.training.test_runs:small"
HELD = "tests.cli.test_learners:held"
ENVIRONMENT = os.environ | {
    "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
}  # fmt: skip


def command(*options, network=NETWORK):
    return [
        sys.executable, "-m", "hfp8sim", "train", network, "--recipe", "hfp8", "--batch", "16", "--threads", "1",
        *options,
    ]  # fmt: skip


def run(*options, network=NETWORK):
    done = subprocess.run(
        command(*options, network=network),
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def one_thread():
    """Runs of many learners set PyTorch's threads to one."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("processes", [[], ["--processes"]], ids=["one process", "processes"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--learners", "0"], "learners is 0, must be at least 1"),
        (["--learners", "3"], "batch is 16, must be a multiple of the 3 learners"),
        (["--learners", "2", "--resume"], "--resume needs --out"),
        (["--learners", "2", "--watch", "1"], "--watch needs --out"),
        (["--learners", "2", "--optimiser", "lamb"], "optimiser is 'lamb', must be sgd or adam"),
        (["--learners", "2", "--recipe", "hfp9"], "unknown recipe 'hfp9'"),
    ],
)
def test_impossible_run_is_refused_in_one_line(monkeypatch, capsys, options, processes, message):
    assert_refused(monkeypatch, capsys, [*options, *processes], message)


@pytest.mark.parametrize(
    "change", ["int4-2020", "hfp8,w.scaling=tracked", "hfp8,w.quantiser=sawb:4"]
)
def test_scales_of_all_learners_need_one_process(monkeypatch, capsys, change):
    recipe, *changes = change.split(",")
    options = ["--learners", "2", "--processes", "--recipe", recipe]
    options += [word for text in changes for word in ("--set", text)]
    message = "its scales and quantisers follow all learners' tensors, which many processes do not share; run"
    assert_refused(monkeypatch, capsys, options, message)


def assert_refused(monkeypatch, capsys, options, message):
    """The command ends before a learner starts, with one line."""
    monkeypatch.setattr(sys, "argv", command(*options)[2:])
    monkeypatch.setattr(subprocess, "Popen", None)
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.count("\n") == 1, errors
    assert message in errors


def content(saved):
    """A checkpoint with the bytes of its tensors. Files differ in how objects are shared."""
    if isinstance(saved, torch.Tensor):
        return saved.dtype, tuple(saved.shape), saved.contiguous().numpy().tobytes()
    if isinstance(saved, dict):
        return {key: content(value) for key, value in saved.items()}
    return [content(value) for value in saved] if isinstance(saved, list | tuple) else saved


class Hold(nn.Module):
    """Waits in the first forward pass after `HOLD_AFTER` of them, if the environment has it."""

    def __init__(self):
        super().__init__()
        self.passes = 0

    def forward(self, x):
        self.passes += 1
        if self.passes > int(os.environ.get("HOLD_AFTER", sys.maxsize)):
            time.sleep(300)
        return x


def held():
    return nn.Sequential(Hold(), small())


def test_killed_learner_ends_the_run_and_resume_gives_its_bits(
    tmp_path, monkeypatch, capsys, one_thread
):
    """Learner 1 is killed in step 5. The checkpoint of step 3 stays whole. From it one process and several go on to the
    bits of a run that was not interrupted, and print and write the same."""
    options = ("--learners", "2", "--steps", "8", "--every", "3", "--out")
    folders = [tmp_path / name for name in ("whole", "killed", "resumed")]
    whole, killed, resumed = map(str, folders)
    kept = "tests.cli.test_learners.held.hfp8.pt"
    with subprocess.Popen(
        command(*options, killed, "--processes", network=HELD),
        cwd=ROOT, env=ENVIRONMENT | {"HOLD_AFTER": "4"}, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        end = time.monotonic() + 300
        while not (folders[1] / kept).exists() and process.poll() is None:
            assert time.monotonic() < end
            time.sleep(0.1)
        os.kill(learner(process.pid, 1), signal.SIGKILL)
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 2
    assert errors.count("\n") == 1, errors
    assert "learner 1 was ended by SIGKILL" in errors
    assert f"{killed} has the last checkpoint, --resume goes on from it" in errors
    assert len(read_checkpoint(folders[1] / kept)["history"]) == 3
    shutil.copytree(killed, resumed)

    printed = [run(*options, killed, "--resume", "--processes", network=HELD)]
    for arguments in ((*options, resumed, "--resume"), (*options, whole)):
        monkeypatch.setattr(sys, "argv", command(*arguments, network=HELD)[2:])
        with pytest.raises(SystemExit) as left:
            cli.main()
        assert not left.value.code
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    files = [folder / kept for folder in folders]
    assert files[1].read_bytes() == files[2].read_bytes()
    one, *others = (content(read_checkpoint(file)) for file in files)
    assert others == [one, one]
    assert len(one["history"]) == 8


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
