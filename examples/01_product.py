"""A product in the machine's arithmetic: encode, multiply, decode, and see what the rounding cost.

python examples/01_product.py
"""

from __future__ import annotations

import numpy as np

import hfp8sim as hs


def main() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(64, 512)), rng.normal(size=(512, 32)) / 16
    a = hs.Operand.encode(x, "hfp8-143", rounding="nearest-away")
    b = hs.Operand.encode(w, "hfp8-143", rounding="nearest-away")
    y, events = hs.gemm(a, b, profile="hfp8", events=True, out_dtype="float64")
    exact, quantised = x @ w, a.values(np.float64) @ b.values(np.float64)
    print(f"SQNR     {sqnr(y, exact):5.1f} dB against the tensors as they were")
    print(
        f"sum SQNR {sqnr(y, quantised):5.1f} dB against their 8-bit codes: what the accumulator did"
    )
    print(f"{events.swamped} of {y.size * 512} additions left the sum as it was")


def sqnr(y: np.ndarray, reference: np.ndarray) -> float:
    """Signal to error in dB."""
    return float(10 * np.log10((reference**2).sum() / ((y - reference) ** 2).sum()))


if __name__ == "__main__":
    main()
