"""The rows of `make bench`, in this checkout and in another one, in turns: is anything slower than before?

    python -m benchmarks.against PATH_OR_COMMIT [--only TEXT] [--seconds S] [--limit 0.03]

Each checkout runs in a process of its own, with this interpreter and its packages. The two take turns, row by
row: A B B A A B B A …. A turn's time is the best of a few runs, and a row's ratio is the median over pairs of
neighbouring turns, so that a slow minute of the machine slows both. The spread is from the first to the third
quartile. Exit status 1 where a ratio is below 1 - limit.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import processes
from hfp8sim.files import cache_folder

ROOT = Path(__file__).parents[1]
WORKER = Path(__file__).parent / "worker.py"
#: Pairs of turns of a row.
PAIRS = 15

#: Runs one turn and returns its time, s.
Turn = Callable[[], float]


class Row(NamedTuple):
    """A row's times, s, and its ratio: above 1, this checkout is faster."""

    name: str
    other: float
    here: float
    ratio: float
    low: float
    high: float


class Checkout:
    """A checkout and the process that runs its rows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        caches = cache_folder() / "against" / folder.as_posix().replace("/", "_")
        self.environment = os.environ | {
            "PYTHONPATH": str(folder), "HFP8SIM_CACHE_DIR": str(caches), "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER), str(folder)], cwd=folder, env=self.environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ask(self, *request: object) -> Any:
        """Send a request to the process and wait for its reply."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        reply = self.process.stdout.readline()
        if not reply:
            raise SystemExit(f"{self.folder}: its process has ended")
        return json.loads(reply)

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def checkout_of(argument: str) -> Path:
    """The folder of a checkout, or of a commit of this repository, which is unpacked in the cache folder."""
    if Path(argument).is_dir():
        return Path(argument).resolve()
    git = ["git", "-C", str(ROOT)]
    revision = subprocess.run([*git, "rev-parse", "--verify", f"{argument}^{{commit}}"], capture_output=True, text=True)  # fmt: skip
    if revision.returncode:
        raise SystemExit(f"{argument} is neither a folder nor a commit of this repository")
    commit = revision.stdout.strip()
    folder = cache_folder() / "checkouts" / commit
    if not folder.is_dir():
        archive = subprocess.run([*git, "archive", commit], capture_output=True, check=True).stdout
        with tarfile.open(fileobj=BytesIO(archive)) as files:
            files.extractall(folder, filter="data")
    return folder


def pairs(first: Turn, second: Turn) -> Iterator[tuple[float, float]]:
    """Times of pairs of neighbouring turns. Which of the two is first changes from pair to pair."""
    for count in range(PAIRS):
        if count % 2:
            b, a = second(), first()
        else:
            a, b = first(), second()
        yield a, b


def row(name: str, other: Turn, here: Turn) -> Row:
    """Compare the turns of the other checkout with those of this one."""
    times = list(pairs(other, here))
    low, middle, high = statistics.quantiles([a / b for a, b in times], n=4)
    return Row(name, min(a for a, _ in times), min(b for _, b in times), middle, low, high)


def case_row(name: str, other: Checkout, here: Checkout, seconds: float) -> Row:
    """A row of `benchmarks.cases`; each side runs for about so many seconds."""
    for side in (other, here):
        side.ask("prepare", name)
    turn = seconds / PAIRS
    return row(name, lambda: other.ask("turn", name, turn), lambda: here.ask("turn", name, turn))


def process_row(name: str, command: Sequence[str], other: Checkout, here: Checkout) -> Row:
    """A row of `benchmarks.processes`: how long a whole process takes."""

    def turn(side: Checkout) -> float:
        return processes.seconds(command, times=1, cwd=side.folder, env=side.environment)

    return row(f"{processes.GROUP}: {name}", lambda: turn(other), lambda: turn(here))


def compare(other: Checkout, here: Checkout, only: str, seconds: float) -> Iterator[Row]:
    """All rows that both checkouts have and whose group or name contains `only`."""
    names = [name for name in here.ask("names") if only in name]
    other_names = set(other.ask("names"))
    for name in names:
        if name in other_names:
            yield case_row(name, other, here, seconds)
        else:
            print(f"only in this checkout: {name}")
    for name, (command, _) in processes.COMMANDS.items():
        if only in f"{processes.GROUP}: {name}":
            yield process_row(name, command, other, here)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.against")
    parser.add_argument("other", help="folder of another checkout, or a commit of this repository")
    parser.add_argument("--only", default="", help="rows whose group or name contains this")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each row and checkout (3)")
    parser.add_argument(
        "--limit", type=float, default=0.03, help="how much slower is allowed (0.03)"
    )
    options = parser.parse_args(arguments)
    other, here = Checkout(checkout_of(options.other)), Checkout(ROOT)
    slower = 0
    print(f"{'other':>10} {'here':>10}  ratio  quartiles     row", flush=True)
    try:
        for r in compare(other, here, options.only, options.seconds):
            mark = " " if r.ratio >= 1 - options.limit else "<"
            slower += mark == "<"
            times = f"{1e3 * r.other:7.3f} ms {1e3 * r.here:7.3f} ms"
            print(f"{times}  {r.ratio:.3f}{mark} {r.low:.3f}..{r.high:.3f}  {r.name}", flush=True)
    finally:
        other.close()
        here.close()
    print(f"{slower} rows are more than {100 * options.limit:g} % slower than in {options.other}")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
