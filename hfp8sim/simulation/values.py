"""`emulate`: the tensors of one layer in one phase through the machine's arithmetic, codes out.

The machine (program and executor) and the direct product (`ops`) give the same bits.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfp8sim.errors import InputError
from hfp8sim.floating_point import standard_arithmetic
from hfp8sim.formats import FloatFormat
from hfp8sim.lowering import lower_layer
from hfp8sim.lowering.programs import unscaled
from hfp8sim.machine import Machine, execute, get_machine
from hfp8sim.network import Layer, phase_gemm
from hfp8sim.ops import Events, gemm
from hfp8sim.simulation.quantise import Quantised, quantise
from hfp8sim.units import Profile, get_profile
from hfp8sim.workloads.operands import operand_matrices

Codes = NDArray[np.unsignedinteger[Any]]

#: Rows of a block, where events are counted in a sample of the blocks.
EVENT_ROWS = 64


@dataclasses.dataclass(frozen=True, eq=False)
class Emulated:
    """The result of one layer in one phase.

    Attributes:
        codes: the result, in the shape of the output tensor (y, dx or dw).
        format: of the codes, the profile's `result_format`.
        quantised: the operand tensors in their formats, by name, operand A's first.
        events: what happened in the sums; None if it was not counted.
        gated: multiply-accumulates with a zero operand; None if they were not counted.
    """

    codes: Codes
    format: FloatFormat
    quantised: dict[str, Quantised]
    events: Events | None
    gated: int | None

    @property
    def operands(self) -> dict[str, Codes]:
        """The codes of the operand tensors, by name, operand A's first."""
        return {name: operand.codes for name, operand in self.quantised.items()}

    @property
    def saturated(self) -> int:
        """Operand elements that exceeded their format's largest number."""
        return sum(operand.saturated for operand in self.quantised.values())

    @property
    def underflowed(self) -> int:
        """Operand elements that fell below their format's smallest normal number, inexactly."""
        return sum(operand.underflowed for operand in self.quantised.values())

    @property
    def flushed(self) -> int:
        """Operand elements that were not zero and became zero."""
        return sum(operand.flushed for operand in self.quantised.values())

    @property
    def values(self) -> NDArray[np.float64]:
        """The result as numbers, exact."""
        return self.format.decode(self.codes)


@standard_arithmetic
def emulate(
    layer: Layer,
    phase: str,
    tensors: Mapping[str, NDArray[Any]],
    profile: str | Profile,
    *,
    seed: int = 0,
    stream: int = 0,
    machine: str | Machine | None = None,
    threads: int | None = None,
    count: bool = True,
) -> Emulated:
    """Quantise a layer's tensors, compute one phase, and return the result's codes.

    Args:
        layer: its geometry; tensors that it carries are not used.
        phase: fwd (Y = X·W), dgrad (dX = dY·Wᵀ) or wgrad (dW = Xᵀ·dY).
        tensors: float32 or float64 arrays of the shapes of `Layer.tensor_shape`: x and w for fwd, dy and w
            for dgrad, x and dy for wgrad. Others are ignored.
        profile: the arithmetic, a name or a record.
        seed, stream: of the random bits, 0 ≤ n < 2^64. Group g of the product draws from stream + g, the
            two operands' quantisation from stream and stream + 1. `network.phase_stream` gives a layer's.
        machine: run the layer's program on this machine; None computes the product directly. The codes
            do not depend on it.
        threads: worker threads; all cores by default. No result depends on it.
        count: also count events and gated multiply-accumulates.

    Returns:
        Codes of the profile's `result_format` in the shape of y, dx or dw, and what was counted.

    Raises:
        InputError: an unknown name, a missing tensor or one of another shape, a value that its format cannot
            take, or a layer that does not fit the machine.
    """
    profile, work = get_profile(profile), phase_gemm(layer, phase)
    names = work.a.tensor, work.b.tensor
    quantised = {
        name: quantise(
            _tensor(layer, name, tensors), fmt, profile, seed=seed, stream=stream + number
        )
        for number, (name, fmt) in enumerate(zip(names, profile.tensor_formats(phase)))
    }
    operands = {name: operand.codes for name, operand in quantised.items()}
    if machine is None:
        codes, events, gated = _direct(
            layer, phase, operands, profile, seed=seed, stream=stream, threads=threads, count=count
        )
    else:
        machine = get_machine(machine)
        program = lower_layer(layer, phase, machine, profile, seed=seed, stream=stream)
        inputs: dict[str, Any] = dict(operands)
        run = execute(program, inputs, machine, threads=threads, count=count)
        (codes,) = run.outputs.values()
        events, gated = run.events, run.gated
    return Emulated(codes, profile.result_format, quantised, events, gated)


def _tensor(layer: Layer, name: str, tensors: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """A tensor of the right shape, or `InputError`."""
    if name not in tensors:
        raise InputError(f"layer {layer.name!r}: tensor {name!r} is missing")
    array, expected = np.asarray(tensors[name]), layer.tensor_shape(name)
    if array.shape != expected:
        raise InputError(
            f"layer {layer.name!r}, tensor {name}: shape is {array.shape}; it must be {expected}"
        )
    return array


def _direct(
    layer: Layer,
    phase: str,
    operands: dict[str, Codes],
    profile: Profile,
    *,
    seed: int,
    stream: int,
    threads: int | None,
    count: bool,
) -> tuple[Codes, Events | None, int | None]:
    """The product of the operand matrices, group by group: codes, events, gated multiply-accumulates."""
    a, b = operand_matrices(layer, phase, operands)
    products, events, gated = _products(
        a, b, phase, profile, seed=seed, stream=stream, threads=threads, count=count
    )
    codes = _unscaled(result_tensor(layer, phase, products), profile, phase)
    return codes, events if count else None, gated if count else None


def sample_events(
    layer: Layer,
    phase: str,
    operands: dict[str, Codes],
    profile: Profile,
    every: int,
    *,
    seed: int = 0,
    stream: int = 0,
    threads: int | None = None,
) -> tuple[Events, int, float]:
    """Events and gated multiply-accumulates of one of `every` blocks of rows, and the share of such rows.

    The blocks have `EVENT_ROWS` rows. Stochastic sums draw the random words of a product of these rows alone.
    """
    a, b = operand_matrices(layer, phase, operands)
    rows = np.arange(a.shape[1])
    counted = rows[rows // EVENT_ROWS % every == 0]
    _, events, gated = _products(
        a[:, counted], b, phase, profile, seed=seed, stream=stream, threads=threads, count=True
    )
    return events, gated, len(counted) / len(rows)


def _products(
    a: Codes, b: Codes, phase: str, profile: Profile, *,
    seed: int, stream: int, threads: int | None, count: bool,
) -> tuple[Codes, Events, int]:  # fmt: skip
    """Products of A (G, M, K) and B (G, K, N): codes, events, gated multiply-accumulates."""
    a_format, b_format = profile.operand_formats(phase)
    multiply: Any = functools.partial(
        gemm, profile=profile, a_format=a_format, b_format=b_format, seed=seed, threads=threads
    )
    products, events, gated = [], Events(), 0
    for group, (rows, columns) in enumerate(zip(a, b)):
        if count:
            product, own = multiply(rows, columns, stream=stream + group, events=True)
            events += own
            gated += count_gated(rows, columns, a_format, b_format)
        else:
            product = multiply(rows, columns, stream=stream + group)
        products.append(product)
    return np.stack(products), events, gated


def _unscaled(codes: Codes, profile: Profile, phase: str) -> Codes:
    """Sums with the scales of the operands divided out, as POST does it."""
    finish, fmt = unscaled(None, profile, phase), profile.result_format
    if finish.scale == 0:
        return codes
    values = np.ldexp(fmt.decode(codes), finish.scale)
    return fmt.encode(values, finish.rounding, finish.overflow)


def count_gated(a: Codes, b: Codes, a_format: FloatFormat, b_format: FloatFormat) -> int:
    """Multiply-accumulates of an (M, K) by (K, N) product with a zero operand."""
    nonzero_a = np.count_nonzero(a_format.decode(a), axis=0)
    nonzero_b = np.count_nonzero(b_format.decode(b), axis=1)
    macs: int = a.shape[0] * a.shape[1] * b.shape[1]
    return macs - int(np.dot(nonzero_a, nonzero_b))


def result_matrices(layer: Layer, phase: str, tensor: NDArray[Any]) -> NDArray[Any]:
    """A result tensor (y, dx or dw) as matrices, (G, M, N)."""
    groups, m, n, _ = layer.shape(phase)
    if layer.conv is None:
        return tensor.reshape(groups, m, n)
    return tensor.reshape(m, groups, n).transpose(1, 0, 2)


def result_tensor(layer: Layer, phase: str, matrices: NDArray[Any]) -> NDArray[Any]:
    """Result matrices, (G, M, N), as the tensor y, dx or dw."""
    shape = phase_gemm(layer, phase).c.shape
    if layer.conv is None:
        return matrices.reshape(shape)
    return matrices.transpose(1, 0, 2).reshape(shape)
