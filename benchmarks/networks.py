"""How much of `simulate` is its products: whole networks, against bare `hs.gemm` on the same operands.

`simulate` draws and encodes the operands, runs the machine's program with all events counted, computes two
float64 references, and measures the result against both. The products alone take codes and give codes.

    python -m benchmarks.networks                   # the rows of `make bench`
    python -m benchmarks.networks --parts resnet50  # CPU time of the parts of a run
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections import Counter
from collections.abc import Callable
from typing import Any
from unittest import mock

import hfp8sim as hs
from hfp8sim.analysis import sums
from hfp8sim.simulation import measure, values
from hfp8sim.simulation.run import DEFAULT_MAX_MACS
from hfp8sim.workloads import load_workload, operands

GROUP = "run"
PROFILE = "hfp8"
#: Parts of a run: what each does, and the function that does it.
PARTS = (
    ("draw and unfold operands", measure, "operands"),
    ("reference of the tensors", measure, "product"),
    ("reference of the quantised operands", measure, "product_of_codes"),
    ("round operands to codes", values, "quantise"),
    ("lower the programs", values, "lower_layer"),
    ("execute the programs, events counted", values, "execute"),
    ("measure the result against both references", sums, "add"),
)
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


def parts(network: str, threads: int = 1, turns: int = 5) -> dict[str, float]:
    """CPU seconds of each of `PARTS`, of what is left, and of the whole, in the fastest of some runs."""
    runs = []
    for _ in range(turns + 1):
        spent: Counter[str] = Counter()
        with contextlib.ExitStack() as stack:
            for what, module, name in PARTS:
                stack.enter_context(
                    mock.patch.object(module, name, _timed(getattr(module, name), what, spent))
                )
            _timed(hs.simulate, "all", spent)(
                network, profile=PROFILE, phases=("fwd",), threads=threads
            )
        runs.append(spent)
    best = min(runs, key=lambda spent: spent["all"])
    rest = 2 * best["all"] - best.total()
    return {what: best[what] for what, *_ in PARTS} | {"all else": rest, "all": best["all"]}


def _timed(function: Callable[..., Any], what: str, spent: Counter[str]) -> Callable[..., Any]:
    """A function that adds its CPU time to an entry of `spent`."""

    def timed(*arguments: Any, **named: Any) -> Any:
        start = time.process_time()
        try:
            return function(*arguments, **named)
        finally:
            spent[what] += time.process_time() - start  # type: ignore[assignment]

    return timed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--parts", metavar="NETWORK", help="the CPU time of the parts of a run")
    network = parser.parse_args().parts
    if network:
        for what, seconds in parts(network).items():
            print(f"{what:45} {seconds:.3f} s")
    for row in [] if network else rows():
        print(
            f"{row['name']:45} {row['speed']:.2f} {row['unit']}, share {row['ratio']:.3f}, {row['note']}"
        )
