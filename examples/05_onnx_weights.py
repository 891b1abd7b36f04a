"""Weights of an ONNX model as 8-bit codes, in a model that any runtime can run.

python examples/05_onnx_weights.py IN.onnx OUT.onnx [FORMAT]
"""

from __future__ import annotations

import sys

import hfp8sim as hs


def main(source: str, target: str, fmt: str = "e4m3fn") -> None:
    for name, weight in hs.quantise_onnx(source, target, fmt).items():
        print(
            f"{name}: {weight}, {weight.underflowed} of {weight.size} elements became zero or subnormal"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
