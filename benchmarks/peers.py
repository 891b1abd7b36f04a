"""Matrix products rounded after every multiply-accumulate, as one writes them with other packages.

Each computes C (M, N) = A·B with the sum rounded to a 16-bit float after every product, as a loop over k of array
operations (what these packages are made for). Operands are numbers of 1-4-3. Sums are nearest-even 1-6-9, but
for ml_dtypes, which has bfloat16, and QPyTorch, whose ties go away from zero. Packages that are not there are
left out, and said so.
"""

from __future__ import annotations

import dataclasses
import importlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import hfp8sim as hs
from hfp8sim.ops import gemm

GROUP = "peers, rounding after every multiply-accumulate"
SILICON = "peers, FP8 products of a GPU"
SIZE = 128

Product = Callable[[np.ndarray, np.ndarray], object]


def _ours(a: np.ndarray, b: np.ndarray) -> Product:
    profile = hs.get_profile("hfp8").replace(rounding="nearest-even", accumulator="ieee-169")
    profile = profile.replace(between_chunks="ieee-169", chunk_length=0)
    fmt = hs.get_format("hfp8-143")
    codes = fmt.encode(a), fmt.encode(b)
    return lambda *_: gemm(*codes, profile, threads=1)


def _ml_dtypes(a: np.ndarray, b: np.ndarray) -> Product:
    """bfloat16 sums (1-6-9 is not on offer)."""
    import ml_dtypes

    bfloat16 = ml_dtypes.bfloat16

    def run(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        total = np.zeros((a.shape[0], b.shape[1]), bfloat16)
        for k in range(a.shape[1]):
            total = (total.astype(np.float32) + a[:, k, None] * b[k]).astype(bfloat16)
        return total

    return run


def _gfloat(a: np.ndarray, b: np.ndarray) -> Product:
    """Any format, float64 arrays."""
    import gfloat
    from gfloat.formats import format_info_ocp_e5m2

    info = dataclasses.replace(format_info_ocp_e5m2, name="ieee-169", k=16, precision=10, bias=31)

    def run(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        total = np.zeros((a.shape[0], b.shape[1]))
        for k in range(a.shape[1]):
            total = gfloat.round_ndarray(info, total + np.multiply.outer(a[:, k], b[k]))
        return total

    return run


def _apytypes(a: np.ndarray, b: np.ndarray) -> Product:
    """Its own matrix product, with accumulation in 1-6-9."""
    import apytypes

    arrays = [apytypes.APyFloatArray.from_float(x.astype(float), 6, 9) for x in (a, b)]

    def run(*_: np.ndarray) -> object:
        with apytypes.APyFloatAccumulatorContext(exp_bits=6, man_bits=9):
            return arrays[0] @ arrays[1]

    return run


def _qtorch(a: np.ndarray, b: np.ndarray) -> Product:
    """QPyTorch: float_quantize after every product."""
    import torch
    from qtorch.quant import float_quantize

    x, y = torch.from_numpy(a), torch.from_numpy(b)

    def run(*_: np.ndarray) -> object:
        total = torch.zeros(x.shape[0], y.shape[1])
        for k in range(x.shape[1]):
            total = float_quantize(total + torch.outer(x[:, k], y[k]), 6, 9, "nearest")
        return total

    return run


PEERS: dict[str, tuple[str, Callable[[np.ndarray, np.ndarray], Product]]] = {
    "hfp8sim": ("hfp8sim", _ours),
    "ml_dtypes, a loop over k": ("ml_dtypes", _ml_dtypes),
    "gfloat, a loop over k": ("gfloat", _gfloat),
    "APyTypes, its own matrix product": ("apytypes", _apytypes),
    "QPyTorch, a loop over k": ("qtorch", _qtorch),
}


def rows(blas: float | None) -> list[dict[str, Any]]:
    """Rows of `make bench`; `blas`: GMAC/s of float32, that ratios are to."""
    rng = np.random.default_rng(0)
    fmt = hs.get_format("hfp8-143")
    a, b = (
        fmt.decode(fmt.encode(rng.standard_normal((SIZE, SIZE)))).astype(np.float32)
        for _ in range(2)
    )
    found = []
    for name, (module, make) in PEERS.items():
        row = {"group": GROUP, "name": name, "unit": "GMAC/s", "target": None, "note": ""}
        try:
            importlib.import_module(module)
        except ImportError:
            print(f"{name}: not installed")
            continue
        run = make(a, b)
        run(a, b)
        best = min(_timed(run, a, b) for _ in range(5))
        speed = SIZE**3 / best / 1e9
        ratio = speed / blas if blas else None
        found.append(row | {"speed": speed, "ratio": ratio, "baseline": "NumPy float32" if ratio else ""})  # fmt: skip
    return found


def silicon_rows() -> list[dict[str, Any]]:
    """Rows of `make bench`: FP8 products as mmaemu computes them, beside ours, one thread each, CPU time.

    Medians of five, in turns. Where mmaemu is not installed there are none.
    """
    try:
        import mmaemu
        import torch
    except ImportError:
        print("mmaemu: not installed")
        return []
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    size, k = 256, 1024
    fmt = hs.get_format("e4m3fn")
    a, w = (fmt.encode(rng.standard_normal((size, k)), rounding="nearest-even") for _ in range(2))
    b = np.ascontiguousarray(w.T)
    x, y = (torch.from_numpy(codes).view(torch.float8_e4m3fn) for codes in (a, w))
    found = []
    for profile, gpu, fast in (
        ("hopper-fp8", "hopper", False), ("hopper-fp8-fast", "hopper", True),
        ("ada-fp8", "ada", False), ("ada-fp8-fast", "ada", True),
    ):  # fmt: skip
        runs: dict[str, Callable[[], object]] = {
            profile: lambda p=profile: gemm(a, b, p, threads=1),  # type: ignore[misc]
            f"mmaemu, {gpu}{', fast' * fast}": lambda g=gpu, f=fast: mmaemu.accumulate(  # type: ignore[misc]
                x, y, use_fast_accum=f, splitk=1, profile=g
            ),
        }
        times: dict[str, list[float]] = {name: [] for name in runs}
        for turn in range(6):
            for name, run in runs.items():
                start = time.process_time()
                run()
                if turn:  # the first one compiles
                    times[name].append(time.process_time() - start)
        speeds = {name: size * size * k / np.median(t) / 1e9 for name, t in times.items()}
        base = speeds[profile]
        for name, speed in speeds.items():
            ratio = None if name == profile else speed / base
            found.append({
                "group": SILICON, "name": name, "unit": "GMAC/s", "target": None, "note": "",
                "speed": speed, "ratio": ratio, "baseline": profile if ratio else "",
            })  # fmt: skip
    return found


def _timed(run: Product, a: np.ndarray, b: np.ndarray) -> float:
    start = time.perf_counter()
    run(a, b)
    return time.perf_counter() - start
