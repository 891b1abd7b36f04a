"""Every wrong argument is refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import hfp8sim as hs
from hfp8sim.errors import InputError
from hfp8sim.network import Layer
from hfp8sim.simulation import simulate
from hfp8sim.workloads import load_workload

A, B = np.arange(12, dtype=np.uint8).reshape(3, 4), np.arange(8, dtype=np.uint8).reshape(4, 2)
X = np.ones((3, 4), np.float32)
RAGGED: Any = [[1.0, 2.0], [3.0]]
FORMAT: Any = hs.get_format("hfp8-143")
any_: Any = None


def masked(array: np.ndarray) -> np.ndarray:
    return np.ma.masked_array(array, array > 0)


def encode(bits: Any) -> object:
    return FORMAT.encode(X, rounding="stochastic-c", random_bits=bits)


def timed(**arguments: Any) -> object:
    return simulate("digits-cnn", time_only=True, **arguments)


LAYER = Layer("f", "linear", 3, 2, 4)


def with_tensor(value: Any) -> object:
    return Layer("f", "linear", 3, 2, 4, tensors={"x": value})


#: What is called, and words of the message.
CALLS: list[tuple[Callable[[], object], str]] = [
    (lambda: hs.gemm(A, B, seed=-1), "seed is -1, must be 0"),
    (lambda: hs.gemm(A, B, seed=2**64), "seed is 18446744073709551616, must be 0"),
    (lambda: hs.gemm(A, B, seed=any_), "seed is None; it must be a whole number"),
    (lambda: hs.gemm(A, B, seed=1.5), "seed is 1.5; it must be a whole number"),  # type: ignore[arg-type]
    (lambda: hs.gemm(A, B, threads=-1), "threads is -1, must be at least 1"),
    (lambda: hs.gemm(A, B, threads=1.5), "threads is 1.5; it must be a whole number"),  # type: ignore[arg-type]
    (lambda: hs.gemm(RAGGED, B), "a is no array"),
    (lambda: hs.gemm(masked(A), B), "a is a masked array; give it values"),
    (lambda: hs.gemm([[2**64]], [[1]]), "a must hold hfp8-143 codes"),
    (lambda: hs.convert(X, "hfp8-143", "stochastic-c", seed=-1), "seed is -1, must be 0"),
    (lambda: hs.convert(X, "hfp8-143", "stochastic-c", seed=2**64), "seed is 1844"),
    (lambda: hs.convert(X, "hfp8-143", "stochastic-c", stream=2**64), "stream is 1844"),
    (lambda: hs.convert(RAGGED, "hfp8-143"), "x is no array"),
    (lambda: hs.convert(masked(X), "hfp8-143"), "x is a masked array"),
    (lambda: FORMAT.encode(RAGGED), "x is no array"),
    (lambda: FORMAT.encode(masked(X)), "x is a masked array"),
    (lambda: FORMAT.decode(RAGGED), "codes is no array"),
    (lambda: FORMAT.decode(masked(A)), "codes is a masked array"),
    (lambda: encode(np.zeros(5, int)), r"random_bits has shape \(5,\); it must be \(3, 4\)"),
    (lambda: encode(np.full((3, 4), 0.5)), "random_bits must be integers, not float64"),
    (lambda: encode(np.full((3, 4), 2**63, np.uint64)), r"random_bits must lie in 0\.\."),
    (lambda: encode(np.full((3, 4), -1)), r"random_bits must lie in 0\.\."),
    (lambda: encode(masked(A)), "random_bits is a masked array"),
    (lambda: timed(seed=-1), "seed is -1, must be 0"),
    (lambda: timed(seed=2**64), "seed is 1844"),
    (lambda: timed(seed="x"), "seed is 'x'; it must be a whole number"),
    (lambda: timed(seed=True), "seed is True; it must be a whole number"),
    (lambda: timed(max_macs=-1), "max_macs is -1, must be at least 1"),
    (lambda: timed(threads=1.5), "threads is 1.5; it must be a whole number"),
    (lambda: timed(policy=3), "policy is 3; it must be rules with profiles"),
    (lambda: timed(policy={3: "fp16"}), "policy 3: a rule must be a text"),
    (lambda: timed(phases=3), "phases is 3; it must be a list of fwd, dgrad, wgrad"),
    (lambda: timed(phases="fwd"), r"phases is 'fwd'; it must be a list, as in \['fwd'\]"),
    (lambda: simulate("digits-cnn", calibrate=3), "unknown calibration 3; known: none, max"),  # type: ignore[arg-type]
    (lambda: simulate(any_), "workload is None; it must be a name, a path or a Workload"),
    (lambda: simulate(Layer("f", "gemm", 3, 2, 4)), r"workload is Layer\(name='f'"),  # type: ignore[arg-type]
    (lambda: hs.calibrate(any_), "workload is None; it must be a name"),
    (lambda: hs.calibrate("digits-cnn", method="max", on=3), "workload is 3; it must be a name"),  # type: ignore[arg-type]
    (lambda: hs.predictions([]), r"workload is \[\]; it must be a name"),  # type: ignore[arg-type]
    (
        lambda: hs.Workload("w", "ab"),
        "workload 'w': its layers are 'ab'; they must be Layer records",
    ),  # type: ignore[arg-type]
    (
        lambda: hs.Workload("w", any_),
        "workload 'w': its layers are None; they must be Layer records",
    ),
    (
        lambda: hs.conv_fwd(
            A[None, :, :, None], B[None, :2, :2, None], padding=10**9, out_dtype="float64"
        ),
        "the result has shape",
    ),
    (lambda: hs.compare("ab"), "a comparison takes reports, not 'a'"),  # type: ignore[arg-type]
    (
        lambda: hs.FloatFormat("f", 4.0, 3, 7),
        "format f: exponent_bits is 4.0, must be a whole number",
    ),  # type: ignore[arg-type]
    (
        lambda: hs.FloatFormat("f", 4, True, 7),
        "format f: fraction_bits is True, must be a whole number",
    ),
    (lambda: hs.register_format(any_), "format None; it must be a FloatFormat"),
    (lambda: hs.register_profile("hfp8"), "profile 'hfp8'; it must be a Profile"),  # type: ignore[arg-type]
    (lambda: hs.p3109("8", 3), "K is '8'; it must be a whole number"),  # type: ignore[arg-type]
    (lambda: hs.p3109(8, 3.5), "P is 3.5; it must be a whole number"),  # type: ignore[arg-type]
    (lambda: hs.load_formats(any_), "None: it must be the path of a TOML file"),
    (lambda: hs.save_safetensors("x", any_), "tensors is None; it must be arrays by name"),
    (lambda: with_tensor(RAGGED), "layer 'f', tensor x is no array"),
    (lambda: with_tensor(masked(X)), "layer 'f', tensor x is a masked array"),
    (
        lambda: hs.save_safetensors("x", {"a": A}, any_ or 3),
        "metadata is 3; it must be texts by name",
    ),
    (lambda: hs.save_safetensors("x", {"a": A}, {"a": any_}), "metadata must be texts by name"),
    (lambda: hs.save_safetensors("x", {"__metadata__": A}), "is no name of a tensor"),
    (lambda: hs.save_safetensors("x", {"a": A.astype(complex)}), "a: a safetensors file holds no"),
    (lambda: hs.save_safetensors(any_, {"a": A}), "path is None; it must be the path of a file"),
    (lambda: hs.load_safetensors(any_), "path is None; it must be the path of a file"),
    (lambda: hs.gemm(A, B, status=any_ or 3), "status is 3; it must be an hs.Status"),
    (lambda: hs.batched(A, B, status=any_ or 3), "status is 3; it must be an hs.Status"),
    (
        lambda: hs.conv_fwd(A[None, :, :, None], B[None, :2, :2, None], status=any_ or 3),
        "status is 3; it must be an hs.Status",
    ),
    (lambda: timed(events_every=4), "events_every=4 needs values, and time_only computes none"),
    (lambda: hs.calibrate("digits-cnn", seed=-1), "seed is -1, must be 0"),
    (lambda: hs.calibrate("digits-cnn", "hfp9", "none"), "unknown profile 'hfp9'"),
    (lambda: hs.calibrate("digits-cnn", method="percentile=101"), "a P above 0 and at most 100"),
    (lambda: hs.predictions("digits-cnn", phases=["back"]), "unknown phase 'back'"),
    (lambda: hs.predictions("digits-cnn", policy="fc9=fp16"), "unknown policy rule 'fc9'"),
    (lambda: hs.Workload("w", ()), "workload 'w' has no layer; it needs at least one"),
    (lambda: hs.Workload("w", (any_,)), "its layers are .* they must be Layer records"),
    (lambda: hs.Workload("w", (LAYER, LAYER)), "workload 'w': two layers are named 'f'"),
    (
        lambda: hs.Workload("w", (LAYER,), notes="ab"),  # type: ignore[arg-type]
        "workload 'w': its notes are 'ab'; they must be a list of texts",
    ),
    (lambda: hs.Workload("w", (LAYER,), missing=(any_,)), "its missing are .* a list of texts"),
    (lambda: hs.Workload("w", (LAYER,)).macs("fwd"), r"it must be a list, as in \['fwd'\]"),
    (lambda: hs.Workload("w", (LAYER,)).macs(["back"]), "unknown phase 'back'"),
    (
        lambda: hs.register_profile(hs.get_profile("hfp8").replace(chunk_length=3)),
        "profile name 'hfp8' is taken by a different profile",
    ),
    (lambda: hs.p3109(2, 1), "binary2p1se: K must be 3..16"),
    (lambda: hs.p3109(16, 4), "binary16p4se: K must be 3..16 and P such that 1..11 exponent bits"),
    (lambda: hs.p3109(8, 8), "binary8p8se: K must be 3..16 and P such that"),
    (lambda: hs.p3109(8, 3, signed=any_), "signed is None; it must be True or False"),
    (lambda: hs.p3109(8, 3, extended=any_ or 1), "extended is 1; it must be True or False"),
    (lambda: hs.compare(any_), "a comparison takes a list of reports, not None"),
    (lambda: hs.profiles("analog"), "unknown multiplier 'analog'; known: exact"),
    (
        lambda: hs.get_profile("hfp8").replace(chunk_length=2**80),
        rf"chunk_length is {2**80}, must be 0\.\.{2**62}",
    ),
    (lambda: hs.get_profile("hfp8").replace(name=3), "profile name is 3; it must be a text"),
    (lambda: hs.get_profile("hfp8").replace(name=" "), "profile name is ' '; it must be a text"),
    (lambda: timed(system=3), "3: it must be the path of a TOML file"),
    (lambda: load_workload(3), "workload is 3; it must be a name, a path or a Workload"),  # type: ignore[arg-type]
    (lambda: load_workload("resnet18", batch=2**64), "18446744073709551616"),
    (lambda: hs.get_machine(3), "machine is 3; it must be a name, a path or a Machine"),  # type: ignore[arg-type]
    (lambda: hs.get_format(3), "3"),  # type: ignore[arg-type]
    (lambda: hs.get_profile(3), "3"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("number", range(len(CALLS)))
def test_wrong_arguments(number: int) -> None:
    call, says = CALLS[number]
    with pytest.raises(InputError, match=says) as refused:
        call()
    assert "\n" not in str(refused.value)
