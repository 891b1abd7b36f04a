"""What is measured from outside: how long a process takes to its first result, and how much memory."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

GROUP = "processes"

_GEMM = """
import numpy as np
import hfp8sim as hs
fmt = hs.get_format("hfp8-143")
a = fmt.encode(np.linspace(-1, 1, 32 * 64).reshape(32, 64))
hs.gemm(a, a.T)
"""

#: A convolution by the executor, and what the process holds at most.
_MEMORY = """
import resource
import numpy as np
import hfp8sim as hs
from hfp8sim.lowering import lower_layer
from hfp8sim.machine import execute
from hfp8sim.workloads import Conv, Layer
layer = Layer.from_conv("c", Conv({batch}, 56, 56, 64, 64, (3, 3), padding=(1, 1, 1, 1)))
program = lower_layer(layer, "fwd", "rapid-core", "hfp8")
codes = {{name: np.full(layer.tensor_shape(name), 0x58, np.uint8) for name in ("x", "w")}}
execute(program, codes, "rapid-core", threads=1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


#: The timed command of each row, and its target time, s.
COMMANDS: dict[str, tuple[list[str], float]] = {
    "a second process to its first small GEMM": ([sys.executable, "-c", _GEMM], 0.5),
    "hfp8sim --help": ([sys.executable, "-m", "hfp8sim", "--help"], 0.25),
}


def seconds(command: Sequence[str], times: int = 5, **options: Any) -> float:
    """The best time of a process, s. One more run comes before those that count, because it may compile.

    Options are those of `subprocess.run`.
    """
    best = float("inf")
    for i in range(times + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **options)
        if i:
            best = min(best, time.perf_counter() - start)
    return best


def _megabytes(batch: int) -> float:
    process = subprocess.run(
        [sys.executable, "-c", _MEMORY.format(batch=batch)], check=True, capture_output=True, text=True,
    )  # fmt: skip
    return float(process.stdout)


def rows() -> list[dict[str, Any]]:
    """Rows of `make bench`. A ratio is the target time over the measured one."""
    table_rows = []
    for name, (command, target_seconds) in COMMANDS.items():
        best = seconds(command)
        table_rows.append(_row(name, best, "s", target_seconds / best, f"{target_seconds} s"))
    _megabytes(2)  # the first may compile, which takes more
    added = max(_megabytes(32) - _megabytes(2), 1.0)
    unfolded = (32 - 2) * 56 * 56 * 64 * 9 / 2**20
    name = "30 more images through a 3×3 convolution: memory"
    table_rows.append(_row(name, added, "MB", unfolded / added, f"{unfolded:.0f} MB unfolded"))  # fmt: skip
    return table_rows


def _row(name: str, value: float, unit: str, ratio: float, baseline: str) -> dict[str, Any]:
    return {
        "group": GROUP, "name": name, "speed": value, "unit": unit, "ratio": ratio,
        "baseline": baseline, "target": 1, "note": "",
    }  # fmt: skip
