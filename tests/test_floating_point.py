"""The caller's floating-point environment changes no bit of a result, and is the same after each call."""

from __future__ import annotations

import ctypes
import functools
import pickle
import platform
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import hfp8sim as hs
from hfp8sim.analysis import sums
from hfp8sim.analysis.accuracy import accuracy
from hfp8sim.analysis.variance import chunked_retention, needed_bits
from hfp8sim.errors import InputError
from hfp8sim.formats import FixedPoint, get_format, mx
from hfp8sim.formats.fixed import FIXED_MODES
from hfp8sim.ops import updates as ops_updates
from hfp8sim.ops.quantisers import luq, pact, radix4, sawb
from hfp8sim.units.sites import STOCHASTIC, Site
from hfp8sim.units.update import RULES, Constants, Update
from hfp8sim.verify import c_reference

pytestmark = pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64"),
    reason="states are set through MXCSR (x86-64)",
)

_LIBRARY = ctypes.PyDLL(None)
for _name in ("fegetenv", "fesetenv"):
    getattr(_LIBRARY, _name).argtypes = [ctypes.c_void_p]

DAZ, FTZ, DOWN, UP, ZERO = 0x0040, 0x8000, 0x2000, 0x4000, 0x6000
STATES = {
    "downward": DOWN, "upward": UP, "toward-zero": ZERO, "ftz": FTZ, "daz": DAZ,
    "ftz+daz": FTZ | DAZ, "ftz+daz+upward": FTZ | DAZ | UP,
}  # fmt: skip


def environment() -> bytearray:
    saved = ctypes.create_string_buffer(64)
    _LIBRARY.fegetenv(saved)
    return bytearray(saved.raw)


def control_bits() -> int:
    """MXCSR without its exception flags."""
    return int.from_bytes(environment()[28:32], "little") & ~0x3F


class State:
    """A context: control bits of MXCSR, and the x87 rounding direction, in this thread."""

    def __init__(self, bits: int) -> None:
        self.bits = bits

    def __enter__(self) -> None:
        self.before = bytes(environment())
        changed = bytearray(self.before)
        changed[28:32] = (0x1F80 | self.bits).to_bytes(4, "little")
        x87 = 0x037F | (self.bits & ZERO) >> 3
        changed[0:2] = x87.to_bytes(2, "little")
        _LIBRARY.fesetenv(bytes(changed))

    def __exit__(self, *_: object) -> None:
        _LIBRARY.fesetenv(self.before)


@functools.cache
def numbers(seed: int, *shape: int) -> np.ndarray:
    """Normal numbers of many sizes, with subnormal float32 numbers among them."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape) * 2.0 ** rng.integers(-12, 6, shape)
    x.reshape(-1)[::7] = rng.integers(1, 1 << 22, x.reshape(-1)[::7].size) * 2.0**-149
    return x.astype(np.float32)


@functools.cache
def operand(seed: int, fmt: str, *shape: int) -> np.ndarray:
    """Codes; made before any state is set."""
    largest = get_format(fmt).max
    return get_format(fmt).encode(np.clip(numbers(seed, *shape), -largest, largest))


def products() -> Iterator[tuple[str, bytes]]:
    hfp8 = hs.get_profile("hfp8")
    variants = [hs.get_profile(name) for name in hs.profiles()]
    for rounding in ("nearest-even", "toward-zero", "stochastic"):
        variants.append(hfp8.replace(rounding=rounding, between_rounding=rounding))
    for p in variants:
        x, y = operand(1, p.a_format, 17, 70), operand(2, p.b_format, 70, 19)
        events = p.name == "hfp8"
        result = hs.gemm(x, y, p, seed=3, threads=2, events=events)
        codes, counts = result if events else (result, None)
        yield f"gemm {p.name} {p.rounding}", codes.tobytes() + repr(counts).encode()
        yield f"explain {p.name} {p.rounding}", str(hs.explain(x, y, p)).encode()


def large_product() -> Iterator[tuple[str, bytes]]:
    """Large enough for several threads."""
    x, y = operand(5, "hfp8-143", 256, 256), operand(6, "hfp8-143", 256, 256)
    how = {"a_format": "hfp8-143", "b_format": "hfp8-143", "threads": 2}
    for name in ("hfp8", "exact"):
        yield f"large {name}", hs.gemm(x, y, name, **how).tobytes()


@functools.cache
def wide_numbers() -> np.ndarray:
    """float64 numbers, subnormal ones among them."""
    return np.concatenate(
        [numbers(7, 400).astype(np.float64), np.ldexp(1.0, np.arange(-1074, -1000))]
    )


def conversions() -> Iterator[tuple[str, bytes]]:
    x = numbers(7, 400)
    wide = wide_numbers()
    for name in hs.formats():
        fmt = get_format(name)
        for rounding in ("nearest-even", "nearest-away", "toward-zero"):
            yield f"encode {name} {rounding}", fmt.encode(x, rounding).tobytes()
            yield f"encode64 {name} {rounding}", fmt.encode(wide, rounding).tobytes()
            yield f"convert {name} {rounding}", hs.convert(x, fmt, rounding)[0].tobytes()
        codes, counts = hs.convert(x, fmt, "stochastic", seed=9)
        yield f"convert {name} stochastic", codes.tobytes() + repr(counts).encode()
        yield f"decode {name}", fmt.decode(codes).tobytes()
        if c_reference.available():
            yield f"C encode {name}", np.asarray(c_reference.encode(wide, fmt)[0]).tobytes()
            yield f"C decode {name}", c_reference.decode(codes, fmt).tobytes()


def blocks() -> Iterator[tuple[str, bytes]]:
    x = numbers(8, 3, 70)
    for name in mx.ELEMENTS:
        q = mx.quantise(x, name)
        yield f"mx {name}", q.codes.tobytes() + q.scales.tobytes() + q.dequantise().tobytes()
    fixed = FixedPoint(3, 5)
    random = np.arange(x.size).reshape(x.shape) % 8192
    for mode in FIXED_MODES:
        codes = fixed.encode(x, mode, random_bits=random if mode == "stochastic" else None)
        yield f"fixed {mode}", codes.tobytes() + fixed.decode(codes).tobytes()


def metrics() -> Iterator[tuple[str, bytes]]:
    x, y = wide_numbers()[:200], wide_numbers()[200:400]
    total = sums.add(x[None], get_format("dlfloat16"), [y[None]])
    yield "sums", total.tobytes()
    yield "accuracy", pickle.dumps(accuracy(total))
    yield "retention", pickle.dumps(chunked_retention(9, 5, 4000, 64))
    yield "bits", pickle.dumps(needed_bits(5, 4000, 64))


def runs() -> Iterator[tuple[str, bytes]]:
    layers = (hs.Layer("fc", "linear", m=20, n=12, k=33), hs.Layer("fc2", "linear", m=9, n=5, k=12))
    report = hs.simulate(hs.Workload("small", layers), profile="hfp8", seed=4, threads=2)
    yield "report", (report.to_json() + report.to_csv() + str(report)).encode()
    yield "simulate", pickle.dumps([list(row.items()) for row in report.layers])


def updates() -> Iterator[tuple[str, bytes]]:
    shape = 70, 1000  # for two threads
    for rule in RULES:
        for optimiser in ("sgd", "adam"):
            update = Update(rule, optimiser)
            constants = Constants.for_sgd(0.1, momentum=0.9, decay=0.3, scale=3)
            if optimiser == "adam":
                constants = Constants.for_adam(0.1, 7, decay=0.3, scale=3)
            w, r = (x.copy() for x in weights(rule))
            state = {"residual": r} if update.residual else {}
            state["momentum"] = numbers(11, *shape).copy()
            if optimiser == "adam":
                state["second"] = np.abs(numbers(12, *shape))
            counts = ops_updates.update(
                update, constants, w, numbers(10, *shape), **state, step=3, threads=2, stuck=True
            )
            result = b"".join(x.tobytes() for x in (w, *state.values()))
            yield f"update {rule} {optimiser}", result + repr(counts).encode()
    sums = ops_updates.reduce([numbers(13, 50), numbers(14, 50)], STOCHASTIC, step=1)
    yield "reduce", sums.tobytes() + ops_updates.softmax_input(sums, Site(), step=1).tobytes()
    yield "sawb", sawb(numbers(15, 60)).values.tobytes()
    yield "pact", pact(numbers(16, 60), 0.3, 4).values.tobytes()
    yield "luq", luq(numbers(17, 60), np.arange(60)).values.tobytes()
    yield "radix4", radix4(numbers(18, 60), "odd").tobytes()


@functools.cache
def weights(rule: str) -> tuple[np.ndarray, np.ndarray]:
    """W and r; made before any state is set."""
    w, r = ops_updates.start(Update(rule), numbers(9, 70, 1000))
    return w, np.zeros_like(w) if r is None else r


KINDS: dict[str, Callable[[], Iterator[tuple[str, bytes]]]] = {
    "products": products, "large product": large_product, "conversions": conversions,
    "blocks": blocks, "metrics": metrics, "runs": runs, "updates": updates,
}  # fmt: skip


@pytest.fixture(scope="module")
def expected() -> dict[str, dict[str, bytes]]:
    assert control_bits() == 0x1F80
    return {kind: dict(compute()) for kind, compute in KINDS.items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("state", STATES)
def test_environment_changes_no_bit(state: str, kind: str, expected: Any) -> None:
    with State(STATES[state]):
        actual = dict(KINDS[kind]())
        after = control_bits()
    assert after == 0x1F80 | STATES[state]
    differing = [name for name, value in actual.items() if value != expected[kind][name]]
    assert not differing


def test_thread_with_its_own_environment(expected: Any) -> None:
    actual: dict[str, bytes] = {}
    after: list[int] = []

    def work() -> None:
        with State(UP | DAZ):
            actual.update(large_product())
            after.append(control_bits())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert actual == expected["large product"]
    assert after == [0x1F80 | UP | DAZ]


def test_environment_is_restored_after_an_error() -> None:
    with State(ZERO | FTZ):
        with pytest.raises(InputError):
            hs.gemm(np.zeros((2, 3), np.uint8), np.zeros((2, 3), np.uint8))
        with pytest.raises(InputError):
            get_format("hfp8-143").encode([1.0], "no such rounding")
        assert control_bits() == 0x1F80 | ZERO | FTZ
