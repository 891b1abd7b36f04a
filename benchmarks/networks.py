"""How much of `simulate` is its products: whole networks, against bare `hs.gemm` on the same operands.

`simulate` draws and encodes the operands, runs the machine's program with all events counted, computes two
float64 references, and measures the result against both. The products alone take codes and give codes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import hfp8sim as hs
from hfp8sim.simulation.run import DEFAULT_MAX_MACS
from hfp8sim.workloads import load_workload, operands

GROUP = "run"
PROFILE = "hfp8"
NETWORKS = ("resnet50", "mobilenet-v2", "transformer-base")
#: `simulate` should take at most so many times its products.
_TARGET = 5


def products(network: str, threads: int) -> Callable[[], None]:
    """A run of all forward products of a network, codes in and codes out."""
    profile = hs.get_profile(PROFILE)
    a_format, b_format = profile.operand_formats("fwd")
    how = {"rounding": profile.operand_rounding, "overflow": profile.operand_overflow}
    pairs = []
    for layer in load_workload(network):
        a, b, _ = operands(layer, "fwd", max_macs=DEFAULT_MAX_MACS)
        pairs += [(a_format.encode(x, **how), b_format.encode(y, **how)) for x, y in zip(a, b)]

    def run() -> None:
        for a, b in pairs:
            hs.gemm(a, b, profile=PROFILE, a_format=a_format, b_format=b_format, threads=threads)

    return run


def rows(threads: int = 1, turns: int = 5) -> list[dict[str, Any]]:
    """Rows of `make bench`: CPU seconds of `simulate`, and the share that its products alone take."""
    return [_row(network, threads, turns) for network in NETWORKS]


def _row(network: str, threads: int, turns: int) -> dict[str, Any]:
    def simulate() -> None:
        hs.simulate(network, profile=PROFILE, phases=("fwd",), threads=threads)

    alone = products(network, threads)
    best = [float("inf"), float("inf")]
    for _ in range(turns + 1):  # in turns; what the first one compiles costs the best time nothing
        for i, work in enumerate((simulate, alone)):
            start = time.process_time()
            work()
            best[i] = min(best[i], time.process_time() - start)
    return {
        "group": GROUP, "name": f"{network}, fwd: products in `simulate`", "speed": best[0],
        "unit": "s of CPU", "ratio": best[1] / best[0], "baseline": "bare `hs.gemm`",
        "target": 1 / _TARGET, "note": f"{best[0] / best[1]:.1f} × the products",
    }  # fmt: skip


if __name__ == "__main__":
    for row in rows():
        print(
            f"{row['name']:45} {row['speed']:.2f} {row['unit']}, share {row['ratio']:.3f}, {row['note']}"
        )
