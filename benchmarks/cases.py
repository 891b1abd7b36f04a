"""What is measured: every row of `make bench`, prepared but not timed."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import hfp8sim as hs
from hfp8sim import kernels
from hfp8sim.lowering import lower_layer
from hfp8sim.machine import execute
from hfp8sim.network import PHASES, Conv, Layer
from hfp8sim.ops import Operand, batched, convert, gemm, round_values
from hfp8sim.ops.products import explain
from hfp8sim.ops.updates import update
from hfp8sim.units.profile import Profile
from hfp8sim.units.update import RULES, Constants, Update
from hfp8sim.workloads import operands

Run = Callable[[], object]
KEYS = np.uint64(1), np.uint64(2)
HFP8 = hs.get_profile("hfp8")
HFP8_143 = hs.get_format("hfp8-143")
#: Fast stochastic roundings take 8 to 13 random bits.
STOCHASTIC = HFP8.replace(rounding="stochastic", random_bits=13)
BLAS = "NumPy float32"


@dataclasses.dataclass(frozen=True)
class Case:
    """One row: `prepare` gives the operation to time, operands ready."""

    group: str
    name: str
    work: float  #: of one call, in the unit
    unit: str
    prepare: Callable[[], Run]
    baseline: str = ""  #: the row of the group that its speed is divided by
    target: float | None = None  #: the least ratio that the project aims at
    note: Callable[[], str] = lambda: ""
    #: Seconds; CPU time for rows of one thread that are compared with another library's.
    clock: Callable[[], float] = time.perf_counter


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def matrices(
    profile: Profile, size: int, scales: tuple[float, float] = (1.0, 0.05)
) -> tuple[Any, Any]:
    """Square operands of normal numbers, as codes of the profile's forward formats."""
    rng = _rng()
    a, b = (
        fmt.encode(scale * rng.standard_normal((size, size)), profile.operand_rounding)
        for fmt, scale in zip(profile.operand_formats("fwd"), scales)
    )
    return a, b


def blas(size: int) -> Run:
    x = _rng().standard_normal((size, size)).astype(np.float32)
    return lambda: x @ x


def kernel(profile: Profile, size: int, scales: tuple[float, float] = (1.0, 0.05)) -> Run:
    """The kernel alone: operands are panels already."""
    formats = profile.operand_formats("fwd")
    a, b = (Operand(x, fmt) for x, fmt in zip(matrices(profile, size, scales), formats))
    return _packed(profile, a, b)


def product(profile: Profile, size: int, **how: Any) -> Run:
    """`hs.gemm`, codes in and codes out."""
    a, b = matrices(profile, size)
    return lambda: gemm(a, b, profile, **how)


def _packed(profile: Profile, a: Operand, b: Operand) -> Run:
    """The kernel alone for a product of operands."""
    plan = explain(a, b, profile)
    assert plan.kernel is not None, plan
    left = kernels.pack_operand(plan, a.codes, a.format, KEYS, of_a=True)
    right = kernels.pack_operand(plan, b.codes.T, b.format, KEYS, of_a=False)
    state = kernels.allocate_accumulators(plan, a.shape[0], b.shape[1], whole=True)
    return lambda: kernels.accumulate(plan, left, right, state, last=True)


def bare_kernels(size: int = 512) -> list[Case]:
    """Bare kernels beside BLAS."""
    work = size**3 / 1e9
    wide = HFP8.replace(a_format="hfp8-152", b_format="hfp8-152")
    rows: list[tuple[str, Profile, float | None, tuple[float, float]]] = [
        ("nearest-away", HFP8, 0.65, (1.0, 0.05)),
        ("nearest-even", HFP8.replace(rounding="nearest-even"), 0.55, (1.0, 0.05)),
        ("toward-zero", HFP8.replace(rounding="toward-zero"), 0.90, (1.0, 0.05)),
        ("stochastic, row ⊕ column words", STOCHASTIC, 0.50, (1.0, 0.05)),
        ("stochastic, hash per step", STOCHASTIC.replace(random_source="counter"), 0.17, (1.0, 0.05)),
        ("two products, nearest-away (rapid)", hs.get_profile("rapid"), 0.35, (1.0, 0.05)),
        ("fused(32, 13) (hopper-fp8)", hs.get_profile("hopper-fp8"), 0.10, (1.0, 0.05)),
        ("aiu", hs.get_profile("aiu"), 0.10, (1.0, 0.05)),
        ("16-bit operands (fp16)", hs.get_profile("fp16"), 0.10, (1.0, 0.05)),
        ("binary32 sums: nothing to round (e5m2-fp32)", hs.get_profile("e5m2-fp32"), None, (1.0, 0.05)),
        ("exact", hs.get_profile("exact"), None, (1.0, 0.05)),
        ("1-5-2, sums may saturate", wide.replace(overflow="saturate"), 0.40, (1e4, 1e4)),
        ("1-5-2, sums may overflow to NaN", wide, 0.40, (1e4, 1e4)),
        ("1-5-2, sums may underflow", wide, 0.40, (1e-4, 1e-4)),
    ]  # fmt: skip
    cases = [Case("kernels", BLAS, work, "GMAC/s", lambda: blas(size))]
    for name, profile, target, scales in rows:
        cases.append(Case(
            "kernels", name, work, "GMAC/s", functools.partial(kernel, profile, size, scales), BLAS,
            target, functools.partial(_kernel_note, profile, size, scales),
        ))  # fmt: skip
    return cases


def _kernel_note(profile: Profile, size: int, scales: tuple[float, float]) -> str:
    return explain(*matrices(profile, size, scales), profile).name


def products() -> list[Case]:
    """`hs.gemm` beside the bare kernel; with threads; with events."""
    cases = []
    for size in (256, 512, 1024):
        work = size**3 / 1e9
        bare = f"kernel, {size}³"
        cases.append(Case("hs.gemm", bare, work, "GMAC/s", functools.partial(kernel, HFP8, size)))
        cases.append(Case(
            "hs.gemm", f"hs.gemm, {size}³", work, "GMAC/s",
            functools.partial(product, HFP8, size, threads=1), bare, 0.85,
        ))  # fmt: skip
    work = 1024**3 / 1e9
    cases.append(Case(
        "hs.gemm", "two threads, 1024³", work, "GMAC/s",
        functools.partial(product, HFP8, 1024, threads=2), "hs.gemm, 1024³", 1.9,
    ))  # fmt: skip
    for name, profile in (("nearest-away", HFP8), ("two products", hs.get_profile("rapid"))):
        plain = f"{name}, no events, 512³"
        work = 512**3 / 1e9
        cases.append(Case(
            "events", plain, work, "GMAC/s", functools.partial(product, profile, 512, threads=1)
        ))  # fmt: skip
        cases.append(Case(
            "events", f"{name}, events counted", work, "GMAC/s",
            functools.partial(product, profile, 512, threads=1, events=True), plain, 0.6,
        ))  # fmt: skip
    return cases


def training_products() -> list[Case]:
    """What a training step multiplies: values out of `hs.gemm`, and stacks of small matrices."""
    m, k, n = 512, 64, 512
    a, b = (Operand.encode(_rng().standard_normal(s), "hfp8-143") for s in ((m, k), (k, n)))
    values, work = np.empty((m, n), np.float32), m * k * n / 1e9
    bare, group = "kernel, 512×64×512", "values out"
    cases = [Case(group, bare, work, "GMAC/s", lambda: _packed(HFP8, a, b))]
    for name, how in (
        ("codes", {}), ("float32", {"out_dtype": "float32"}),
        ("float32 into out=", {"out_dtype": "float32", "out": values}),
        ("float64", {"out_dtype": "float64"}),
    ):  # fmt: skip
        cases.append(Case(
            group, f"hs.gemm, {name}", work, "GMAC/s",
            lambda how=how: lambda: gemm(a, b, HFP8, threads=1, **how),  # type: ignore[misc]
            bare, 0.87,
        ))  # fmt: skip
    count, one, group = 64, "hs.gemm, 64×16×64, codes", "stacks"
    left = Operand.encode(_rng().standard_normal((count, 64, 16)), "hfp8-143")
    right = Operand.encode(_rng().standard_normal((count, 16, 64)), "hfp8-143")
    unit = "products/ms"
    cases.append(
        Case(group, one, 1e-3, unit, lambda: lambda: gemm(left[0], right[0], HFP8, threads=1))
    )
    for name, how in (("codes", {}), ("float32", {"out_dtype": "float32"})):
        cases.append(Case(
            group, f"hs.batched, 64 × 64×16×64, {name}", count * 1e-3, unit,
            lambda how=how: lambda: batched(left, right, HFP8, threads=1, **how),  # type: ignore[misc]
            one, 5,
        ))  # fmt: skip
    return cases


def conversions(n: int = 1 << 18) -> list[Case]:
    """float32 into 8-bit formats, beside ml_dtypes."""
    import ml_dtypes

    x = _rng().standard_normal(n).astype(np.float32)
    cases = []
    for name in ("e4m3fn", "e5m2"):
        dtype = np.dtype(getattr(ml_dtypes, "float8_" + name))
        peer = f"ml_dtypes, {name}"
        cases.append(Case(
            "conversion", peer, n / 1e6, "Melem/s",
            lambda dtype=dtype: lambda: x.astype(dtype),  # type: ignore[misc]
        ))  # fmt: skip
        for mode in ("nearest-even", "stochastic"):
            cases.append(Case(
                "conversion", f"{name}, {mode}", n / 1e6, "Melem/s",
                lambda name=name, mode=mode: lambda: convert(x, name, mode, threads=1),  # type: ignore[misc]
                peer, 10,
            ))  # fmt: skip
    for mode in ("nearest-away", "stochastic"):
        cases.append(Case(
            "conversion", f"hfp8-143, {mode}", n / 1e6, "Melem/s",
            lambda mode=mode: lambda: convert(x, "hfp8-143", mode, threads=1),  # type: ignore[misc]
        ))  # fmt: skip
    double, image = x.astype(np.float64), x.reshape(16, -1, 32).transpose(2, 0, 1)
    codes, values = convert(x, "hfp8-143")[0], np.empty(n, np.float32)
    usual = "hfp8-143, nearest-away"
    rows: list[tuple[str, Run]] = [
        ("hfp8-143 of float64", lambda: convert(double, "hfp8-143", "nearest-away", threads=1)),
        ("hfp8-143, channels last", lambda: convert(image, "hfp8-143", "nearest-away", threads=1)),
        ("hfp8-143, every other row", lambda: convert(image[:, ::2], "hfp8-143", "nearest-away", threads=1)),
        ("rounded in place to dlfloat16", lambda: round_values(values, "dlfloat16", out=values, threads=1)),
        ("hfp8-143 decoded to float32", lambda: HFP8_143.decode(codes, dtype=np.float32, out=values)),
    ]  # fmt: skip
    for name, run in rows:
        work = n / (2e6 if "other row" in name else 1e6)
        cases.append(Case("conversion", name, work, "Melem/s", lambda run=run: run, usual))  # type: ignore[misc]
    return cases


#: Layers of ResNet-50 at batch 4: the kinds of convolution it has, and its linear layer.
RESNET50 = {
    "1×1, 56×56×64 → 256": Conv(4, 56, 56, 64, 256, (1, 1)),
    "3×3, 28×28×128 → 128": Conv(4, 28, 28, 128, 128, (3, 3), padding=(1, 1, 1, 1)),
    "3×3, 14×14×256 → 256": Conv(4, 14, 14, 256, 256, (3, 3), padding=(1, 1, 1, 1)),
    "1×1, 7×7×2048 → 512": Conv(4, 7, 7, 2048, 512, (1, 1)),
    "7×7/2, 224×224×3 → 64": Conv(4, 224, 224, 3, 64, (7, 7), stride=(2, 2), padding=(3, 3, 3, 3)),
}


def resnet_layers() -> dict[str, Layer]:
    """The layers, by what they are."""
    layers = {name: Layer.from_conv("conv", conv) for name, conv in RESNET50.items()}
    return layers | {"linear, 256×2048×1000": Layer("fc", "linear", 256, 1000, 2048)}


def _layer_codes(layer: Layer) -> dict[str, Any]:
    formats = HFP8.operand_formats("fwd")
    scales = (1.0, 0.05)
    return {
        name: fmt.encode(scale * _rng().standard_normal(layer.tensor_shape(name)), "nearest-away")
        for name, fmt, scale in zip(("x", "w"), formats, scales)
    }


def executed(layer: Layer) -> Run:
    """A layer's program on the executor: convolutions are unfolded tile by tile."""
    program, codes = lower_layer(layer, "fwd", "rapid-core", HFP8), _layer_codes(layer)
    return lambda: execute(program, codes, "rapid-core", threads=1)


def unfolded(layer: Layer) -> Run:
    """`hs.gemm` of a layer that is unfolded beforehand."""
    codes = _layer_codes(layer)
    floats = {name: array.astype(np.float32) for name, array in codes.items()}
    found = operands(layer.replace(tensors=floats), "fwd", max_elements=1 << 62)
    a, b = (np.ascontiguousarray(x[0].astype(np.uint8)) for x in (found.a, found.b))
    return lambda: gemm(a, b, HFP8, threads=1)


def programs() -> list[Case]:
    """Programs beside `hs.gemm`."""
    cases = []
    for name, layer in resnet_layers().items():
        work, plain = layer.macs / 1e9, f"hs.gemm, {name}"
        cases.append(Case("programs", plain, work, "GMAC/s", functools.partial(unfolded, layer)))
        cases.append(Case(
            "programs", f"executor, {name}", work, "GMAC/s", functools.partial(executed, layer),
            plain, 0.8,
        ))  # fmt: skip
    return cases


#: Convolutions of training: of ResNet-20 and MobileNetV2, at batch 32.
TRAINED = {
    "3×3, 32×32×16 → 16": Conv(32, 32, 32, 16, 16, (3, 3), padding=(1, 1, 1, 1)),
    "3×3, 32×32×64 → 64": Conv(32, 32, 32, 64, 64, (3, 3), padding=(1, 1, 1, 1)),
    "3×3/2, 32×32×32 → 64": Conv(32, 32, 32, 32, 64, (3, 3), (2, 2), (1, 1, 1, 1)),
    "depthwise 3×3, 28×28×96": Conv(32, 28, 28, 96, 96, (3, 3), padding=(1, 1, 1, 1), groups=96),
    "depthwise 3×3/2, 28×28×96": Conv(32, 28, 28, 96, 96, (3, 3), (2, 2), (1, 1, 1, 1), groups=96),
}


def convolution(conv: Conv, phase: str) -> Run:
    """A phase of a convolution as a call, codes in and codes out."""
    layer, rng = Layer.from_conv("conv", conv), _rng()
    a_format, b_format = HFP8.operand_formats(phase)
    formats = {
        "fwd": {"x": a_format, "w": b_format}, "dgrad": {"dy": a_format, "w": b_format},
        "wgrad": {"x": a_format, "dy": b_format},
    }[phase]  # fmt: skip
    codes = {
        name: fmt.encode(rng.standard_normal(layer.tensor_shape(name)), "nearest-away")
        for name, fmt in formats.items()
    }
    how: dict[str, Any] = {
        "stride": conv.stride, "padding": conv.padding, "groups": conv.groups, "threads": 1
    }  # fmt: skip
    if "w" in codes:
        codes["w"] = np.ascontiguousarray(codes["w"].transpose(3, 0, 1, 2))
    if phase == "fwd":
        return lambda: hs.conv_fwd(codes["x"], codes["w"], **how)
    if phase == "dgrad":
        size = conv.height, conv.width
        return lambda: hs.conv_dgrad(codes["dy"], codes["w"], size, **how)
    return lambda: hs.conv_wgrad(codes["x"], codes["dy"], conv.kernel, **how)


def torch_convolution(conv: Conv, phase: str) -> Run:
    """The same by PyTorch in float32, one thread, channels last."""
    import torch

    torch.set_num_threads(1)
    last = torch.channels_last

    def tensor(*shape: int) -> Any:
        return torch.randn(*shape).to(memory_format=last)

    x = tensor(conv.batch, conv.channels, conv.height, conv.width)
    w = tensor(conv.filters, conv.channels // conv.groups, *conv.kernel)
    dy = tensor(conv.batch, conv.filters, *conv.output)
    how = conv.stride, (conv.padding[0], conv.padding[2]), conv.dilation
    if phase == "fwd":
        return lambda: torch.nn.functional.conv2d(x, w, None, *how, conv.groups)
    mask = [phase == "dgrad", phase == "wgrad", False]
    return lambda: torch.ops.aten.convolution_backward(
        dy, x, w, None, *how, False, (0, 0), conv.groups, mask
    )


def convolutions() -> list[Case]:
    """The three phases as calls, beside PyTorch's float32 if that is installed."""
    peer = importlib.util.find_spec("torch") is not None
    if not peer:
        print("convolutions: PyTorch is not installed, so there is no baseline", file=sys.stderr)
    cases = []
    for name, conv in TRAINED.items():
        for phase in PHASES:
            work = Layer.from_conv("conv", conv).macs / 1e9
            row, baseline = f"{phase}, {name}", f"torch float32, {phase}, {name}"
            if peer:
                cases.append(Case(
                    "convolutions", baseline, work, "GMAC/s",
                    functools.partial(torch_convolution, conv, phase), clock=time.process_time,
                ))  # fmt: skip
            cases.append(Case(
                "convolutions", row, work, "GMAC/s", functools.partial(convolution, conv, phase),
                baseline if peer else "", 1 / 3 if peer and conv.depthwise else None, clock=time.process_time,
            ))  # fmt: skip
    return cases


def updates(n: int = 1 << 20) -> list[Case]:
    """Updates of weights with momentum and decay by every rule, beside the same in NumPy's float32."""
    w, v, g = (_rng().standard_normal(n).astype(np.float32) for _ in range(3))
    constants = Constants.for_sgd(0.01, momentum=0.9, decay=1e-4, scale=1024)

    def plain() -> None:
        step = g * np.float32(1 / 1024) + np.float32(1e-4) * w
        np.multiply(v, np.float32(0.9), out=v)
        np.add(v, step, out=v)
        np.subtract(w, np.float32(0.01) * v, out=w)

    def emulated(rule: str) -> Run:
        record = Update(rule)
        state = {"momentum": v, **({"residual": np.zeros_like(w)} if record.residual else {})}
        return lambda: update(record, constants, w, g, **state, step=1, threads=1)

    peer = "NumPy float32, SGD with momentum"
    cpu: Any = time.process_time
    cases = [Case("update", peer, n / 1e6, "Melem/s", lambda: plain, clock=cpu)]
    for rule in RULES:
        cases.append(Case(
            "update", rule, n / 1e6, "Melem/s", functools.partial(emulated, rule), peer,
            clock=cpu,
        ))  # fmt: skip
    return cases


def all_cases() -> list[Case]:
    """Every row that is timed inside this process."""
    return [
        *bare_kernels(), *products(), *training_products(), *conversions(), *convolutions(), *programs(),
        *updates(),
    ]  # fmt: skip
