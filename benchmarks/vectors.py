"""Test vectors a second, by unit: made by the C reference, and made and written as text.

    python -m benchmarks.vectors [--count 2000000] [--threads 1] [unit ...]

The times are of this process: wall-clock seconds, and CPU seconds of all threads. Text is written on one thread.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hfp8sim.ops import thread_count
from hfp8sim.verify.vectors import DOT_LENGTH, UNITS, vectors


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """The result of a call, its wall-clock seconds and its CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    """Measure the units that the command names, or all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("units", nargs="*", metavar="unit", help=", ".join(UNITS))
    parser.add_argument("--count", type=int, default=2_000_000, help="vectors; of dot, a twentieth")
    parser.add_argument("--threads", type=int, default=None, help="all cores by default")
    arguments = parser.parse_args()
    threads = thread_count(arguments.threads)
    print(f"million vectors a second, {threads} thread(s): of wall-clock time (of CPU time)")
    for unit in arguments.units or UNITS:
        count = arguments.count // (20 if unit == "dot" else 1)
        vectors(unit, count=1)  # loads the library
        made, wall, cpu = timed(lambda u=unit, n=count: vectors(u, count=n, threads=threads))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "vectors.hex"
            _, write_wall, write_cpu = timed(lambda s=made, p=path: s.write_text(p))
        rates = [count / 1e6 / t for t in (wall, cpu, wall + write_wall, cpu + write_cpu)]
        line = "made {:.2f} ({:.2f}), made and written {:.2f} ({:.2f})".format(*rates)
        products = f"; {rates[0] * DOT_LENGTH:.1f} million products" if unit == "dot" else ""
        print(f"{unit:8s} {line}{products}", flush=True)


if __name__ == "__main__":
    main()
