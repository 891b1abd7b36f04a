"""Build the package, install it into empty environments, and run the main job there: `make wheel`.

    python -m tests.wheel [--python INTERPRETER ...] [--out FOLDER]

The sdist must hold all of the C reference, of rtl/ and of the example benches. The wheel, built from the sdist, must be one for
every Python from 3.11 on. It is installed with its requirements into a new environment of each interpreter. `hfp8sim run` must print the same
figures there as it does here.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from hfp8sim.version import __version__

ROOT = Path(__file__).parents[1]
#: The main job: values, time and a report. Every figure must be the same wherever it runs.
JOB = ("run", "digits-cnn", "--phase", "fwd", "--format", "csv")
#: Files that the package needs at run time, of every kind.
NEEDED = (
    "hfp8sim/_c_ref.abi3.so", "hfp8sim/py.typed", "hfp8sim/machine/presets/rapid-core.toml",
    "hfp8sim/report/page.html", "hfp8sim/workloads/data/digits-cnn.npz",
)  # fmt: skip


def main() -> int:
    """Build, check, install and run; 1 with a line for each problem."""
    options = argparse.ArgumentParser(
        description="build the package and try it where nothing else is"
    )
    options.add_argument("--python", action="append", help="an interpreter; this one by default")
    options.add_argument("--out", type=Path, default=ROOT / "dist")
    given = options.parse_args()
    sdist, wheel = build(given.out)
    problems = check_sdist(sdist) + check_wheel(wheel)
    expected = run([sys.executable, "-m", "hfp8sim", *JOB], ROOT)
    for interpreter in given.python or [sys.executable]:
        problems += try_wheel(wheel, interpreter, expected)
    for problem in problems:
        print(f"FAILED: {problem}", file=sys.stderr)
    return 1 if problems else 0


def build(folder: Path) -> tuple[Path, Path]:
    """The sdist, and the wheel that is built from it."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("hfp8sim-*"):
        old.unlink()
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder)], ROOT)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    print(
        f"{sdist.name} {sdist.stat().st_size // 1024} KiB, {wheel.name} {wheel.stat().st_size // 1024} KiB"
    )
    return sdist, wheel


def check_sdist(sdist: Path) -> list[str]:
    """Files of the C reference, of rtl/ and of the benches that git tracks and the sdist lacks."""
    tracked = run(["git", "ls-files", "c_ref", "rtl", "examples/bench", "Makefile"], ROOT).split()
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    return [f"{sdist.name} lacks {name}" for name in tracked if name not in held]


def check_wheel(wheel: Path) -> list[str]:
    """What is wrong with the wheel's name and contents."""
    problems = []
    if not wheel.name.startswith(f"hfp8sim-{__version__}-cp311-abi3-"):
        problems.append(f"{wheel.name} is not tagged cp311-abi3")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    problems += [f"{wheel.name} lacks {name}" for name in NEEDED if name not in names]
    foreign = {name.split("/")[0] for name in names} - {
        "hfp8sim",
        f"hfp8sim-{__version__}.dist-info",
    }
    return problems + [f"{wheel.name} installs {name}" for name in sorted(foreign)]


def try_wheel(wheel: Path, interpreter: str, expected: str) -> list[str]:
    """What goes wrong with the wheel in an empty environment of an interpreter."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        run([interpreter, "-m", "venv", str(folder / "venv")], folder)
        commands = folder / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
        python = str(commands / "python")
        run(
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(wheel)],
            folder,
        )
        version = run(
            [python, "-c", "import platform; print(platform.python_version())"], folder
        ).strip()
        cache = {"HFP8SIM_CACHE_DIR": str(folder / "cache")}
        printed = run([str(commands / "hfp8sim"), *JOB], folder, cache)
        doctor = run([str(commands / "hfp8sim"), "doctor"], folder, cache)
    problems = []
    if printed != expected:
        problems.append(
            f"Python {version}: `hfp8sim {' '.join(JOB)}` prints other figures than here"
        )
    if not any(line.split()[:3] == ["C", "reference", "ok"] for line in doctor.splitlines()):
        problems.append(f"Python {version}: the wheel has no C reference that loads")
    if not problems:
        print(f"Python {version}: the same {len(expected.splitlines()) - 1} rows")
    return problems


def run(command: list[str], folder: Path, more: dict[str, str] | None = None) -> str:
    """What a command prints. Its environment leads to no source tree."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    process = subprocess.run(
        command, cwd=folder, env=environment | (more or {}), stdout=subprocess.PIPE, text=True
    )
    if process.returncode:
        raise SystemExit(f"FAILED: {' '.join(command)}")
    return process.stdout


if __name__ == "__main__":
    sys.exit(main())
