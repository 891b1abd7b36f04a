"""A sweep of arrays of one's own: the error of their product by chunk length and rounding, as a plot.

    python examples/07_sweep_arrays.py docs/img/sweep-arrays.svg

The operands are positive, as activations after a ReLU are. Sums of such products grow, so that a long chunk loses
small terms. Nearest-away rounds every tie up; stochastic rounding has no bias.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import hfp8sim as hs

CHUNKS = [8, 16, 32, 64, 128, 256, 512, 1024]
ROUNDINGS = ["nearest-even", "nearest-away", "stochastic"]


def operands() -> tuple[np.ndarray, np.ndarray]:
    """Your arrays: x (M, K) and w (K, N), float32."""
    rng = np.random.default_rng(0)
    x = np.abs(rng.normal(size=(64, 4096))).astype(np.float32)
    w = np.abs(rng.normal(size=(4096, 16))).astype(np.float32) / 64
    return x, w


def run(n_jobs: int = 1, chunks: list[int] = CHUNKS) -> hs.SweepResult:
    """Every chunk length with every rounding, over three seeds of the stochastic one."""
    x, w = operands()
    (m, k), n = x.shape, w.shape[1]
    layer = hs.Layer("product", "gemm", m, n, k, tensors={"x": x, "w": w})
    return hs.sweep(
        hs.Workload("mine", (layer,)),
        fixed={"phases": "fwd", "profile.random_bits": 13},
        vary={"profile.rounding": ROUNDINGS, "profile.chunk_length": chunks},
        seeds=[0, 1, 2],
        where="profile.rounding == 'stochastic' or seed == 0",
        n_jobs=n_jobs,
    )


def draw(result: hs.SweepResult, path: Path) -> None:
    """Write the plot; the ending of `path` chooses the kind of file."""
    import matplotlib

    matplotlib.use("agg")
    matplotlib.rcParams["svg.hashsalt"] = "hfp8sim"  # the same file every time
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
    for rounding in ROUNDINGS:
        rows = [r for r in result.configurations if r["profile.rounding"] == rounding]
        lengths = [r["profile.chunk_length"] for r in rows]
        axes.plot(lengths, [r["acc_sqnr_db"] for r in rows], marker="o", label=rounding)
    axes.set_xscale("log", base=2)
    axes.set_xlabel("products in a chunk")
    axes.set_ylabel("SQNR of the sums, dB")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


if __name__ == "__main__":
    draw(run(n_jobs=-1), Path(sys.argv[1] if len(sys.argv) > 1 else "sweep-arrays.svg"))
