"""The quantisers of `hfp8sim.ops.quantisers` and fixed point, on tensors of PyTorch, for networks of one's own.

Values are those of the functions on arrays, in the tensor's dtype. Gradients are straight-through; `pact` has that of its α, too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hfp8sim.formats import FixedPoint
from hfp8sim.ops import quantisers
from hfp8sim.training.functions import array, tensor
from hfp8sim.units.sites import STOCHASTIC, Draw, Place

Tensor = Any  #: PyTorch's


class _StraightThrough(torch.autograd.Function):
    """Values that were computed elsewhere, with the gradient of the identity."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, values: NDArray[Any]) -> Tensor:
        """The values."""
        return tensor(np.asarray(values, np.float32), x)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:  # type: ignore[override]
        """The gradient of x."""
        return dy, None


class _Pact(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor, bits: int, signed: bool) -> Tensor:
        """The quantised activations."""
        ctx.save_for_backward(x, alpha)
        ctx.signed = signed
        values = quantisers.pact(array(x), float(alpha), bits, signed=signed).values
        return tensor(values.astype(np.float32), x)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:  # type: ignore[override]
        """Gradients of x and α."""
        x, alpha = ctx.saved_tensors
        gradient = quantisers.pact_gradient(array(x), float(alpha), array(dy), signed=ctx.signed)
        dx = tensor(gradient.x.astype(np.float32), x)
        return dx, torch.full_like(alpha, gradient.alpha), None, None


def _straight(x: Tensor, values: NDArray[Any]) -> Tensor:
    result: Tensor = _StraightThrough.apply(x, values)
    return result


def pact(x: Tensor, alpha: Tensor, bits: int, *, signed: bool = False) -> Tensor:
    """Activations clipped at α, in 2^bits levels (Choi et al., 2018); with the gradients of x and of α.

    Args:
        x: any shape.
        alpha: one positive number, which may be a parameter.
        bits, signed: as `hfp8sim.ops.quantisers.pact`.

    Raises:
        InputError: as `hfp8sim.ops.quantisers.pact`.
    """
    result: Tensor = _Pact.apply(x, alpha, bits, signed)
    return result


def sawb(w: Tensor, grid: str = "4z") -> Tensor:
    """Weights on uniform levels that their statistics scale (Choi et al., 2019); straight-through."""
    return _straight(w, quantisers.sawb(array(w), grid).values)


def radix4(x: Tensor, phase: str = "even") -> Tensor:
    """The nearest powers of 4, or twice them in phase `odd` (Sun et al., NeurIPS 2020); straight-through."""
    return _straight(x, quantisers.radix4(array(x), phase))


def luq(x: Tensor, *, seed: int = 0, step: int = 1, number: int = 0) -> Tensor:
    """Powers of two, unbiased (Chmiel et al., 2021); straight-through.

    Args:
        x: any shape.
        seed, step, number: of the random words, those of the site `operand`; `number` is the tensor's.
    """
    values = array(x)
    random = _words(values, seed, step, number)
    return _straight(x, quantisers.luq(values, random, STOCHASTIC.random_bits).values)


def fixed_point(
    x: Tensor, integer_bits: int, fraction_bits: int, rounding: str = "stochastic", *, seed: int = 0,
    step: int = 1, number: int = 0,
) -> Tensor:  # fmt: skip
    """⟨IL, FL⟩ in two's complement, saturating (Gupta et al., ICML 2015); straight-through.

    Args:
        x: any shape.
        integer_bits, fraction_bits: IL, with the sign, and FL.
        rounding: a mode of `FixedPoint`. The paper's are `nearest-down` and `stochastic`, which has 24 random bits.
        seed, step, number: as `luq`.

    Raises:
        InputError: as `FixedPoint` and its `encode`.
    """
    values, fmt = array(x), FixedPoint(integer_bits, fraction_bits)
    settings: dict[str, Any] = {}
    if rounding == "stochastic":
        settings = {
            "random_bits": _words(values, seed, step, number),
            "bits": STOCHASTIC.random_bits,
        }
    return _straight(x, fmt.decode(fmt.encode(values, rounding, **settings)))


def _words(values: NDArray[Any], seed: int, step: int, number: int) -> NDArray[np.int64]:
    words = Draw(seed, step, number).words(Place.OPERAND, STOCHASTIC, values.size)
    return words.reshape(values.shape)
