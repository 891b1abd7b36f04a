"""A network of your own tensors: layers, a workload, a report as a table and as a page.

python examples/04_network.py [OUT.html]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import hfp8sim as hs
from hfp8sim.network import Conv


def main() -> None:
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    image = Conv(
        batch=4, height=16, width=16, channels=8, filters=16, kernel=(3, 3), padding=(1, 1, 1, 1)
    )
    conv = hs.Layer.from_conv(
        "conv", image, tensors={"x": normal(4, 16, 16, 8), "w": normal(3, 3, 8, 16)}
    )
    fc = hs.Layer(
        "fc", "linear", m=4, n=10, k=256, tensors={"x": normal(4, 256), "w": normal(256, 10)}
    )
    report = hs.simulate(hs.Workload("mine", (conv, fc)), machine="edge-8x8", phases=["fwd"])
    print(report)
    for path in sys.argv[1:]:
        Path(path).write_text(report.to_html(), "utf-8")


if __name__ == "__main__":
    main()
