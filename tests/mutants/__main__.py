"""Plant each bug in a copy of the repository, and run the tests that must fail there: `make mutants`.

    python -m tests.mutants [--only TEXT ...] [--jobs N]
    python -m tests.mutants --list [--only TEXT ...]
    python -m tests.mutants --rename OLD NEW [--within FILE]

Before any bug is planted, the same tests must pass in a copy without a change. Kernels run uncompiled unless
the bug says `compiled = true`: the source is the same, and compiling each copy would take hours.

`--rename` rewrites the TOML files after a rename in the sources. OLD and NEW are two paths, two `path::name`
(functions or tests), or two identifiers.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutants.bugs import ROOT, Bug, PlaceError, dump, load, place, plant, renamed

COPIED = ("hfp8sim", "tests", "docs", "benchmarks", "examples", "c_ref", "rtl", "pyproject.toml", "setup.py")  # fmt: skip
#: Seconds for the tests of one bug. A test that runs longer has found it: the bug made an endless loop.
TIME_LIMIT = 600
OUT_OF_TIME = "out of time"
#: The copy's conftest.py: hypothesis stops at the first failure and does not look for the smallest case.
CONFTEST = """
from hypothesis import Phase, settings
settings.register_profile("first", phases=[Phase.explicit, Phase.generate])
settings.load_profile("first")
"""


def copy_to(folder: Path) -> Path:
    """Copy what the tests need into a folder."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(
                source, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".out*")
            )
        else:
            shutil.copy(source, folder / name)
    (folder / "tests" / "conftest.py").write_text(CONFTEST, encoding="utf-8")
    return folder


def pytest(
    folder: Path,
    tests: Iterable[str],
    compiled: bool,
    cache: Path | None = None,
    limit: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run tests in a copy, in one process, exhaustive ones too."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(folder),
        "HFP8SIM_CACHE_DIR": str(cache or folder / "cache"),
        "NUMBA_DISABLE_JIT": "0" if compiled else "1",
        "HYPOTHESIS_STORAGE_DIRECTORY": str(folder / "hypothesis"),
    }
    command = [sys.executable, "-m", "pytest", "-o", "addopts=", "-q", "-rfE", "--tb=line"]
    command += ["-p", "no:cacheprovider", "--no-header", "-W", "ignore::RuntimeWarning", *tests]
    try:
        return subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=limit
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, OUT_OF_TIME, "")


def run_one(bug: Bug, cache: Path | None = None) -> tuple[Bug, bool, str, float]:
    """(bug, whether all its tests failed, the end of their output, seconds).

    Compiled code is keyed by the sources that can reach it, so that copies share a cache: only what a bug can
    change is compiled anew. Bugs in the cache itself have one of their own.
    """
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutant-") as name:
        folder = copy_to(Path(name))
        plant(folder, bug)
        if bug.c:
            built = subprocess.run(
                [sys.executable, "c_ref/build.py"], cwd=folder, capture_output=True, text=True
            )
            if built.returncode:
                return bug, False, built.stderr, time.monotonic() - begun
        shared = None if bug.room == "_numba" else cache
        process = pytest(folder, bug.tests, bug.compiled, shared, TIME_LIMIT)
    # pytest returns 1 where tests failed, a negative number is the signal that ended it: the bug crashed the process.
    # Any other code is a mistake in the TOML file.
    passed = [test for test in bug.tests if not failed(test, process.stdout)]
    output = "".join(f"passed: {test}\n" for test in passed)
    output += process.stdout[-2000:] + process.stderr[-500:]
    found = process.returncode < 0 or (process.returncode == 1 and not passed)
    return bug, found, output, time.monotonic() - begun


def failed(test: str, output: str) -> bool:
    """Whether pytest's summary names the test, or one of its parameter sets."""
    return output == OUT_OF_TIME or any(
        line.startswith((f"FAILED {test} ", f"FAILED {test}[", f"ERROR {test.split('::')[0]} "))
        or line == f"FAILED {test}"
        for line in output.splitlines()
    )


def baseline(bugs: Iterable[Bug], cache: Path) -> None:
    """Run the tests of all bugs without a bug. Raises SystemExit where one fails."""
    for compiled in (False, True):
        tests = sorted({test for bug in bugs if bug.compiled == compiled for test in bug.tests})
        if not tests:
            continue
        with tempfile.TemporaryDirectory(prefix="mutant-") as name:
            process = pytest(copy_to(Path(name)), tests, compiled, cache)
        if process.returncode:
            raise SystemExit(
                f"the tests fail without a planted bug:\n{process.stdout[-3000:]}{process.stderr[-1000:]}"
            )


def run(bugs: list[Bug], jobs: int) -> int:
    """Plant every bug and report; the number of bugs that no test found."""
    begun = time.monotonic()
    survived = 0
    with (
        tempfile.TemporaryDirectory(prefix="mutants-cache-") as name,
        ThreadPoolExecutor(jobs) as pool,
    ):
        cache = Path(name)
        baseline(bugs, cache)
        seconds = time.monotonic() - begun
        print(f"{len(bugs)} bugs; their tests pass without them ({seconds:.0f} s)", flush=True)
        for bug, found, output, seconds in pool.map(lambda bug: run_one(bug, cache), bugs):
            verdict = "found   " if found else "SURVIVED"
            print(f"{verdict} {seconds:5.1f} s  {bug.what}", flush=True)
            if not found:
                survived += 1
                print(output)
    seconds = time.monotonic() - begun
    print(f"{len(bugs) - survived} of {len(bugs)} found in {seconds:.0f} s")
    return survived


def rename(old: str, new: str, within: str) -> int:
    """Rewrite the TOML files; the number of bugs that changed."""
    before = load()
    try:
        after = renamed(before, old, new, within)
    except ValueError as error:
        raise SystemExit(f"--rename: {error}") from None
    if after != before:
        dump(after)
    for bug in after:
        try:
            place(ROOT, bug)
        except PlaceError as error:
            print(error, file=sys.stderr)
    return sum(a != b for a, b in zip(after, before, strict=True))


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants",
        description="planted bugs, and the tests that must find each",
    )
    parser.add_argument(
        "--only", action="append", help="bugs whose description or file contains this; repeatable"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--list", action="store_true", help="list the bugs, and run nothing")
    parser.add_argument(
        "--rename", nargs=2, metavar=("OLD", "NEW"), help="follow a rename in the sources"
    )
    parser.add_argument("--within", default="", help="rename only in bugs whose file contains this")
    arguments = parser.parse_args()
    if arguments.rename:
        print(f"{rename(*arguments.rename, arguments.within)} bugs changed")
        return 0
    only = arguments.only or [""]
    chosen = [bug for bug in load() if any(text in bug.what or text in bug.file for text in only)]
    if not chosen:
        raise SystemExit("no planted bug has that text in its description or file")
    if arguments.list:
        for bug in chosen:
            print(f"{bug.file}::{bug.function}  {bug.what}")
            print("".join(f"    {test}\n" for test in bug.tests), end="")
        return 0
    return 1 if run(chosen, arguments.jobs) else 0


if __name__ == "__main__":
    sys.exit(main())
