"""Why chunks: the sum of many numbers of mean 1 in 1-6-9, as Figure 3 of Wang et al. (NeurIPS 2018).

    python examples/02_swamping.py docs/img/swamping.svg

Without chunks the running sum stops growing at 4096, where a term is less than half an ulp. Chunks of
64 keep it within 1 % of the exact sum at any length. Stochastic rounding helps too, and leaves noise.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import hfp8sim as hs

LENGTHS = 2 ** np.arange(6, 17)


def draw_terms(length: int, seed: int) -> NDArray[np.uint16]:
    """1-6-9 codes of uniform numbers of mean 1 and deviation 1."""
    half_width = np.sqrt(3.0)
    x = np.random.default_rng(seed).uniform(1 - half_width, 1 + half_width, length)
    return hs.get_format("dlfloat16").encode(x, "nearest-away").astype(np.uint16)


def running_sum(codes: NDArray[np.uint16], profile: hs.Profile) -> float:
    """The sum of the codes as the accumulator computes it: a dot product with ones."""
    fmt = hs.get_format("dlfloat16")
    ones = np.full((codes.size, 1), fmt.encode(1.0), np.uint16)
    result = hs.gemm(codes[None, :], ones, profile, a_format=fmt, b_format=fmt)
    return float(profile.result_format.decode(result)[0, 0])


def curves() -> dict[str, list[float]]:
    """Sums of the first n terms, for every n in `LENGTHS`, by the method of summing."""
    base = hs.get_profile("fp16")
    methods = {
        "no chunks, nearest-away": base.replace(chunk_length=0),
        "no chunks, stochastic": base.replace(chunk_length=0, rounding="stochastic"),
        "chunks of 64, nearest-away": base,
    }
    codes = draw_terms(int(LENGTHS[-1]), seed=0)
    exact = hs.get_format("dlfloat16").decode(codes)
    sums = {"exact": [float(exact[:n].sum()) for n in LENGTHS]}
    return sums | {
        name: [running_sum(codes[:n], profile) for n in LENGTHS]
        for name, profile in methods.items()
    }


def draw(path: Path) -> None:
    """Write the plot; the ending of `path` chooses the kind of file."""
    import matplotlib

    matplotlib.use("agg")
    matplotlib.rcParams["svg.hashsalt"] = "hfp8sim"  # the same file every time
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
    styles = ({"color": "0.7", "lw": 6}, {"marker": "o"}, {"marker": "^"}, {"marker": "s"})
    for (name, sums), style in zip(curves().items(), styles):
        axes.plot(LENGTHS, sums, label=name, ms=4, **{"lw": 1.2} | style)
    axes.axhline(4096, color="0.5", lw=0.8, ls=":")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xlabel("terms (mean 1, deviation 1)")
    axes.set_ylabel("sum in 1-6-9")
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


if __name__ == "__main__":
    draw(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/img/swamping.svg"))
