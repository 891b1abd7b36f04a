"""Autograd functions of the emulated products: linear, convolution, transposed convolution, matrix product.

Each encodes an operand once: x for fwd and wgrad, w for fwd and dgrad, the error for dgrad and wgrad.
A bias is added in binary32 or rounded at its site, and its gradient is a binary32 sum.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from hfp8sim.errors import InputError
from hfp8sim.ops.quantisers import pact_gradient
from hfp8sim.training.emulation import Products, Values
from hfp8sim.training.encoding import Encoded, has_negative
from hfp8sim.training.recording import Form

Tensor = Any  #: PyTorch's, which need not be installed where types are checked


def array(tensor: Tensor) -> Values:
    """A tensor's memory as float32; other dtypes are converted."""
    values: Values = tensor.detach().to("cpu", torch.float32).numpy()
    return values


def tensor(values: Values, like: Tensor) -> Tensor:
    """An array as a tensor of the dtype and device of another one."""
    return torch.from_numpy(values).to(like.device, like.dtype)


def error_operands(ctx: Any, dy: Tensor) -> tuple[Encoded, Encoded] | None:
    """The operands of an error for dgrad and wgrad; None if it holds an infinity or a NaN.

    The gradients of such an error are NaN, as on a machine whose sums overflow; a loss scaler skips the step.

    Raises:
        InputError: a second derivative is wanted.
    """
    products: Products = ctx.products
    if torch.is_grad_enabled():
        raise InputError(
            f"layer {products.name} has no second derivative: create_graph must be False"
        )
    values = array(dy)
    if not np.isfinite(values).all():
        return None
    errors = products.encode_error(values)
    if ctx.use is not None:
        wanted = zip(("dgrad", "wgrad"), ctx.needs_input_grad)
        phases = [phase for phase, needed in wanted if needed]
        ctx.use.end(values, -errors[0].operand.exponent, phases)
    return errors


def _gradients(
    ctx: Any,
    errors: tuple[Encoded, Encoded] | None,
    makers: tuple[Callable[[Encoded], Values], Callable[[Encoded], Values]],
) -> list[Tensor | None]:
    """The gradients of the first two inputs that are wanted, in the inputs' shapes and dtypes."""
    results: list[Tensor | None] = []
    for phase, (wanted, (shape, dtype, device), make) in enumerate(
        zip(ctx.needs_input_grad, ctx.inputs, makers)
    ):
        if not wanted:
            results.append(None)
        elif errors is None:
            results.append(torch.full(shape, torch.nan, dtype=dtype, device=device))
        else:
            values = torch.from_numpy(make(errors[phase]))
            results.append(values.reshape(shape).to(device, dtype))
    if errors is not None:
        ctx.products.end_backward(*ctx.operands, errors[0])
    return results


def _save(
    ctx: Any, products: Products, x: Tensor, w: Tensor, form: Form, **geometry: Any
) -> tuple[Encoded, Encoded]:
    """Encode both operands and keep them for the backward pass; record them if a step is recorded."""
    for operand in (x, w):
        if not operand.is_floating_point():
            raise InputError(
                f"layer {products.name}: an operand is {operand.dtype}; it must be a floating-point tensor"
            )
    values = array(x), array(w)
    a, b = products.encode(values[0], "x"), products.encode(values[1], "w")
    recorder = products.emulation.recorder
    ctx.use = None
    if recorder is not None:
        reason = _not_reported(products, x)
        if reason:
            recorder.leave_out(f"{products.name}: {reason}")
        else:
            scales = {"a_scale": -a.operand.exponent, "b_scale": -b.operand.exponent}
            profile = products.arithmetic.reported.replace(**scales)
            ctx.use = recorder.begin(products.name, profile, form, *values, geometry)
    ctx.products, ctx.operands = products, (a, b)
    ctx.inputs = tuple((t.shape, t.dtype, t.device) for t in (x, w))
    return a, b


def _not_reported(products: Products, x: Tensor) -> str:
    """Why a report cannot have a product; "" if it can."""
    if x.ndim > 4:
        return "reports know no volumes"
    return "its operands are quantised" if products.arithmetic.quantisers else ""


def _with_bias(products: Products, y: Tensor, bias: Tensor | None, axis: int) -> Tensor:
    """y + bias: in y's dtype, or rounded at the site `bias`."""
    if bias is None:
        return y
    shape = [1] * y.ndim
    shape[axis] = -1
    column = bias.detach().reshape(shape)
    rounded = products.add_bias(array(y), array(column))
    return y.add_(column.to(y.dtype)) if rounded is None else tensor(rounded, y)


def _bias_gradient(ctx: Any, dy: Tensor, axis: int) -> Tensor | None:
    if not ctx.needs_input_grad[2]:
        return None
    axis %= dy.ndim
    return dy.sum([other for other in range(dy.ndim) if other != axis])


class Linear(torch.autograd.Function):
    """y = x · wᵀ + b; x (…, K), w (N, K)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, bias: Tensor | None, products: Products) -> Tensor:
        """The result (…, N)."""
        rows = x.reshape(-1, x.shape[-1])
        a, b = _save(ctx, products, rows, w, Form.LINEAR)
        ctx.inputs = ((x.shape, x.dtype, x.device), ctx.inputs[1])
        y = tensor(products.multiply(a, b.T, "fwd"), x)
        return _with_bias(products, y.reshape(*x.shape[:-1], w.shape[0]), bias, -1)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:  # type: ignore[override]
        """Gradients of x, w and bias."""
        products, (a, b) = ctx.products, ctx.operands
        gradients = _gradients(
            ctx,
            error_operands(ctx, dy.reshape(-1, dy.shape[-1])),
            (
                lambda e: products.multiply(e, b, "dgrad"),
                lambda e: products.multiply(a.T, e, "wgrad").T,
            ),
        )
        return *gradients, _bias_gradient(ctx, dy, -1), None


class Convolution(torch.autograd.Function):
    """A convolution; x (N, C, …), w (O, C/groups, …)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, w: Tensor, bias: Tensor | None, geometry: dict[str, Any], products: Products
    ) -> Tensor:  # fmt: skip
        """The result (N, O, …), in the memory order of channels last."""
        a, b = _save(ctx, products, x, w, Form.CONVOLUTION, **geometry)
        ctx.geometry = geometry
        return _with_bias(products, tensor(products.convolve(a, b, **geometry), x), bias, 1)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:  # type: ignore[override]
        """Gradients of x, w and bias."""
        products, (a, b), geometry = ctx.products, ctx.operands, ctx.geometry
        gradients = _gradients(
            ctx,
            error_operands(ctx, dy),
            (
                lambda e: products.convolve_gradient(e, b, a.shape[2:], **geometry),
                lambda e: products.correlate(a, e, b.shape[2:], **geometry),
            ),
        )
        return *gradients, _bias_gradient(ctx, dy, 1), None, None


class TransposedConvolution(torch.autograd.Function):
    """A transposed convolution: what a convolution's input gradient is; x (N, C, …), w (C, O/groups, …)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, w: Tensor, bias: Tensor | None, size: tuple[int, ...],
        geometry: dict[str, Any], products: Products,
    ) -> Tensor:  # fmt: skip
        """The result (N, O, …) of the given size."""
        a, b = _save(ctx, products, x, w, Form.TRANSPOSED, **geometry, size=size)
        ctx.geometry = geometry
        values = products.convolve_gradient(a, b, size, "fwd", **geometry)
        return _with_bias(products, tensor(values, x), bias, 1)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:  # type: ignore[override]
        """Gradients of x, w and bias."""
        products, (a, b), geometry = ctx.products, ctx.operands, ctx.geometry
        gradients = _gradients(
            ctx,
            error_operands(ctx, dy),
            (
                lambda e: products.convolve(e, b, "dgrad", **geometry),
                lambda e: products.correlate(e, a, b.shape[2:], **geometry),
            ),
        )
        return *gradients, _bias_gradient(ctx, dy, 1), None, None, None


class MatrixProduct(torch.autograd.Function):
    """a · b of two activations, (M, K) × (K, N) or (G, M, K) × (G, K, N); `w` is the role of b."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, products: Products) -> Tensor:
        """The result (M, N) or (G, M, N)."""
        x, w = _save(ctx, products, a, b, Form.MATRIX)
        return tensor(products.multiply(x, w, "fwd"), a)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:  # type: ignore[override]
        """Gradients of a and b."""
        products, (x, w) = ctx.products, ctx.operands
        axes = (1, 0) if x.ndim == 2 else (0, 2, 1)
        gradients = _gradients(
            ctx,
            error_operands(ctx, dy),
            (
                lambda e: products.multiply(e, w.transpose(*axes), "dgrad"),
                lambda e: products.multiply(x.transpose(*axes), e, "wgrad"),
            ),
        )
        return *gradients, None


class Normalised(torch.autograd.Function):
    """The result of a normalisation, rounded; its gradient passes unchanged (straight-through)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, products: Products) -> Tensor:
        """The rounded values, in x's shape."""
        return tensor(products.round_norm(array(x)), x)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:  # type: ignore[override]
        """The gradient of x."""
        return dy, None


class Clip(torch.autograd.Function):
    """PACT's clipping of activations at α, with its gradient (docs/numerics.md, section 7)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor) -> Tensor:
        """x in [0, α], or in [−α, α] if it has negative numbers."""
        ctx.save_for_backward(x, alpha)
        ctx.signed, top = has_negative(array(x)), float(alpha)
        return x.clamp(-top if ctx.signed else 0.0, top)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:  # type: ignore[override]
        """Gradients of x and α; NaN where an error is not finite."""
        x, alpha = ctx.saved_tensors
        errors = array(dy)
        if not np.isfinite(errors).all():
            return torch.full_like(x, torch.nan), torch.full_like(alpha, torch.nan)
        gradient = pact_gradient(array(x), float(alpha), errors, signed=ctx.signed)
        return tensor(gradient.x.astype(np.float32), x), torch.full_like(alpha, gradient.alpha)


class SoftmaxInput(torch.autograd.Function):
    """The roundings before a softmax; gradients pass unchanged."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, axis: int, products: Products) -> Tensor:
        """z less its maximum, rounded."""
        return tensor(products.softmax_input(array(z), axis), z)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:  # type: ignore[override]
        """The gradient of z."""
        return dy, None, None
