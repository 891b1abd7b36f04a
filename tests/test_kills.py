"""Processes that are killed at random moments leave no half-written file, and no wrong bit in the run after."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

KILLS = 50
GEMMS = "Layer, M, N, K,\nfirst, 40, 50, 60,\nmiddle, 30, 80, 700,\nlast, 20, 30, 40,\n"


def command(folder: Path) -> list[str]:
    """A run with values, whose report goes to a folder."""
    return [
        sys.executable, "-m", "hfp8sim", "run", str(folder / "gemms.csv"),
        "--format", "csv", "--out", str(folder / "out"),
    ]  # fmt: skip


def report(folder: Path) -> bytes | None:
    path = folder / "out" / "gemms.csv"
    return path.read_bytes() if path.exists() else None


@pytest.mark.exhaustive
def test_fifty_kills_leave_whole_files_and_right_bits(tmp_path: Path) -> None:
    """The cache of compiled kernels is empty at first, so early kills meet compilers, later ones runs."""
    (tmp_path / "gemms.csv").write_text(GEMMS)
    subprocess.run(command(tmp_path), check=True, capture_output=True)
    expected = report(tmp_path)
    assert expected is not None
    (tmp_path / "out" / "gemms.csv").unlink()

    environment = os.environ | {"HFP8SIM_CACHE_DIR": str(tmp_path / "cache")}
    moments, killed = random.Random(7), 0
    for number in range(KILLS):
        process = subprocess.Popen(
            command(tmp_path), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        time.sleep(moments.uniform(0.1, 4.0) if number % 2 else moments.uniform(0.1, 1.5))
        process.kill()
        _, error = process.communicate()
        killed += process.returncode < 0
        assert b"Traceback" not in error
        assert report(tmp_path) in (None, expected)
    assert killed > KILLS // 4

    after = subprocess.run(command(tmp_path), env=environment, capture_output=True, text=True)
    assert (after.returncode, after.stderr) == (0, "")
    assert report(tmp_path) == expected
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["gemms.csv"]
