"""Emulated products of tensors that belong to no layer: matmul, bmm, linear, attention.

Each takes the `Products` that compute it. Inside a converted model the same calls of `torch` need no change:
`interception` passes them on to these functions.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F

from hfp8sim.errors import InputError
from hfp8sim.training import functions
from hfp8sim.training.emulation import Products

Tensor = Any  #: PyTorch's, which need not be installed where types are checked
_eager = torch.compiler.disable  # compiled code would trace into NumPy


@_eager
def linear(x: Tensor, w: Tensor, bias: Tensor | None = None, *, products: Products) -> Tensor:
    """`torch.nn.functional.linear`: x (…, K), w (N, K), bias (N,)."""
    result: Tensor = functions.Linear.apply(x, w, bias, products)
    return result


@_eager
def bmm(a: Tensor, b: Tensor, *, products: Products) -> Tensor:
    """`torch.bmm`: a (G, M, K), b (G, K, N)."""
    if a.ndim != 3 or b.ndim != 3:
        raise InputError(f"bmm takes two tensors of three axes, not {a.ndim} and {b.ndim}")
    result: Tensor = functions.MatrixProduct.apply(a, b, products)
    return result


@_eager
def matmul(a: Tensor, b: Tensor, *, products: Products) -> Tensor:
    """`torch.matmul`: vectors, matrices, and batches that are broadcast against each other.

    A batch of matrices times one matrix is one product: all rows of the batch times the matrix.
    """
    if a.ndim == 0 or b.ndim == 0:
        raise InputError("matmul takes tensors of at least one axis")
    rows = a.unsqueeze(0) if a.ndim == 1 else a
    columns = b.unsqueeze(1) if b.ndim == 1 else b
    y = _matrices(rows, columns, products)
    if b.ndim == 1:
        y = y.squeeze(-1)
    if a.ndim == 1:
        y = y.squeeze(-1 if b.ndim == 1 else -2)
    return y


def _matrices(a: Tensor, b: Tensor, products: Products) -> Tensor:
    """`matmul` of tensors with at least two axes."""
    if b.ndim == 2:
        flat: Tensor = functions.MatrixProduct.apply(a.reshape(-1, a.shape[-1]), b, products)
        return flat.reshape(*a.shape[:-1], b.shape[-1])
    batch = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    groups = math.prod(batch)
    a, b = (t.expand(*batch, *t.shape[-2:]).reshape(groups, *t.shape[-2:]) for t in (a, b))
    y: Tensor = functions.MatrixProduct.apply(a, b, products)
    return y.reshape(*batch, *y.shape[-2:])


@_eager
def softmax(z: Tensor, dim: int, *, products: Products) -> Tensor:
    """`torch.softmax` with its input rounded (docs/numerics.md, section 6); the softmax itself is binary32."""
    return torch.ops.aten._softmax(functions.SoftmaxInput.apply(z, dim, products), dim, False)


@_eager
def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
    *, products: tuple[Products, Products, Products],
) -> Tensor:  # fmt: skip
    """`torch.nn.functional.scaled_dot_product_attention` with two emulated products.

    Scale, mask and dropout are binary32.

    Args:
        query: (…, L, E); key: (…, S, E); value: (…, S, Ev).
        products: of query · keyᵀ, of weights · value, and of the softmax.
    """
    if enable_gqa:
        repeats = query.shape[-3] // key.shape[-3]
        key, value = (t.repeat_interleave(repeats, -3) for t in (key, value))
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = matmul(query, key.transpose(-2, -1), products=products[0]) * factor
    if is_causal:
        if attn_mask is not None:
            raise InputError("attention takes attn_mask or is_causal, not both")
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None:
        masked = attn_mask.dtype == torch.bool
        scores = scores.masked_fill(~attn_mask, -torch.inf) if masked else scores + attn_mask
    weights = F.dropout(softmax(scores, -1, products=products[2]), dropout_p)
    return matmul(weights, value, products=products[1])


@_eager
def einsum(equation: str, a: Tensor, b: Tensor, *, products: Products) -> Tensor:
    """`torch.einsum` of two operands without repeated or ellipsis axes.

    Axes of both operands and the result are the batch; axes of both operands alone are summed over.

    Raises:
        InputError: another equation.
    """
    sides, _, result = equation.replace(" ", "").partition("->")
    left, _, right = sides.partition(",")
    names = left + right
    if "->" not in equation:
        result = "".join(sorted(name for name in set(names) if names.count(name) == 1))
    valid = len(set(left)) == len(left) and len(set(right)) == len(right) and "." not in equation
    if not valid or not set(result) <= set(names) or len(set(result)) != len(result):
        raise InputError(f"einsum {equation!r} is not emulated: write it as a product of matrices")
    batch = [n for n in left if n in right and n in result]
    summed = [n for n in left if n in right and n not in result]
    rows, columns = (
        [n for n in side if n not in other] for side, other in ((left, right), (right, left))
    )
    if set(rows + columns) - set(result):
        raise InputError(f"einsum {equation!r} sums over an axis of one operand: sum it before")
    sizes: dict[str, Any] = dict(zip(left, a.shape)) | dict(zip(right, b.shape))

    def matrix(x: Tensor, axes: str, *parts: list[str]) -> Tensor:
        ordered = x.permute([axes.index(name) for part in parts for name in part])
        return ordered.reshape([math.prod(sizes[name] for name in part) for part in parts])

    a3, b3 = matrix(a, left, batch, rows, summed), matrix(b, right, batch, summed, columns)
    y = matmul(a3, b3, products=products)
    order = batch + rows + columns
    return y.reshape([sizes[name] for name in order]).permute(
        [order.index(name) for name in result]
    )
