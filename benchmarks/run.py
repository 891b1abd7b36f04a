"""`make bench`: emulated matrix products beside NumPy's float32 product, as ratios in one run.

One thread, 512 × 512 × 512, codes in and codes out, the best of several runs each.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import platform
import time
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.table import Table

import hfp8sim as hs
from hfp8sim.units.gemm import explain

SIZE, REPEATS = 512, 5

HFP8 = hs.get_profile("hfp8")
MODES = {
    "nearest-away": HFP8,
    "nearest-even": HFP8.replace(rounding="nearest-even"),
    "toward-zero": HFP8.replace(rounding="toward-zero"),
    "stochastic, row-column": HFP8.replace(rounding="stochastic"),
    "stochastic, counter": HFP8.replace(rounding="stochastic", random_source="counter"),
    **{name: hs.get_profile(name) for name in hs.profiles() if name != "hfp8"},
}


def rate(product: Callable[[], object]) -> float:
    """Multiply-accumulates per second, in units of 10^9."""
    product()
    best = float("inf")
    for _ in range(REPEATS):
        start = time.perf_counter()
        product()
        best = min(best, time.perf_counter() - start)
    return SIZE**3 / best / 1e9


def main() -> None:
    """Print the table."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((SIZE, SIZE)).astype(np.float32)
    blas = rate(lambda: x @ x)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("arithmetic", "GMAC/s", "of float32", "kernel"):
        table.add_column(heading)
    table.add_row("NumPy float32", f"{blas:.1f}", "1.00", "")
    for name, profile in MODES.items():
        formats = profile.operand_formats("fwd")
        scales = (1.0, 0.05)
        a, b = (
            f.encode(s * rng.standard_normal((SIZE, SIZE)), profile.operand_rounding)
            for f, s in zip(formats, scales)
        )
        speed = rate(lambda a=a, b=b, p=profile: hs.gemm(a, b, p, threads=1))
        plan = str(explain(a, b, profile))
        table.add_row(name, f"{speed:.2f}", f"{speed / blas:.2f}", plan)
    console = Console(width=160)
    console.print(
        f"{platform.processor() or platform.machine()}, NumPy {np.__version__}, one thread"
    )
    console.print(table)


if __name__ == "__main__":
    main()
