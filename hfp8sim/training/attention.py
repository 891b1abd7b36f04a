"""Multi-head attention whose products are emulated."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from hfp8sim.training import functional, steps
from hfp8sim.training.emulation import Products

Tensor = Any  #: PyTorch's, which need not be installed where types are checked
#: Products of the layer, by what they compute; a product's index is its number within the layer.
PARTS = ("query", "key", "value", "scores", "context", "output", "softmax")


class MultiheadAttention(nn.MultiheadAttention):
    """`torch.nn.MultiheadAttention`, emulated: four projections and the two products of attention.

    The three input projections are three products, also where their weights are one parameter.
    """

    products: Products

    @torch.compiler.disable
    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, key_padding_mask: Tensor | None = None,
        need_weights: bool = True, attn_mask: Tensor | None = None, average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """As `torch.nn.MultiheadAttention`."""
        steps.follow(self.out_proj.weight, self.products.emulation)
        part = {name: self.products.part(number, name) for number, name in enumerate(PARTS)}
        single = query.ndim == 2
        if single:
            query, key, value = (t.unsqueeze(0) for t in (query, key, value))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            query, key, value = (t.transpose(0, 1) for t in (query, key, value))
        q, k, v = (
            self._heads(functional.linear(x, w, b, products=part[name]))
            for x, (w, b), name in zip((query, key, value), self._projections(), PARTS)
        )
        scores = functional.matmul(q, k.transpose(-2, -1), products=part["scores"])
        scores = scores * (q.shape[-1] ** -0.5)
        masked = self._mask(scores, key_padding_mask, attn_mask)
        weights = functional.softmax(masked, -1, products=part["softmax"])
        dropped = F.dropout(weights, self.dropout, self.training)
        context = functional.matmul(dropped, v, products=part["context"])
        merged = context.transpose(1, 2).flatten(2)
        y = functional.linear(
            merged, self.out_proj.weight, self.out_proj.bias, products=part["output"]
        )
        if single:
            y = y.squeeze(0)
        elif not self.batch_first:
            y = y.transpose(0, 1)
        if not need_weights:
            return y, None
        shown = weights.mean(1) if average_attn_weights else weights
        return y, shown.squeeze(0) if single else shown

    def _projections(self) -> list[tuple[Tensor, Tensor | None]]:
        """Weights and bias of the query, key and value projections."""
        weights: Any = (
            self.in_proj_weight.chunk(3)
            if self._qkv_same_embed_dim
            else (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        )
        biases: Any = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        return list(zip(weights, biases))

    def _heads(self, x: Tensor) -> Tensor:
        """(batch, length, E) as (batch, heads, length, E / heads)."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def _mask(self, scores: Tensor, padding: Tensor | None, mask: Tensor | None) -> Tensor:
        """Scores (batch, heads, L, S) with both masks; true in a boolean mask is left out, as in PyTorch."""
        if padding is not None:
            scores = _masked(scores, padding[:, None, None, :])
        if mask is not None:
            if mask.ndim == 3:
                mask = mask.unflatten(0, (-1, self.num_heads))
            scores = _masked(scores, mask)
        return scores


def weight_parts(layer: Any, products: Products) -> dict[str, list[tuple[Products, Tensor]]]:
    """For each weight parameter, the products that it enters, each with its rows of the parameter."""
    part = {name: products.part(number, name) for number, name in enumerate(PARTS)}
    inputs = [(part[name], w) for name, (w, _) in zip(PARTS, layer._projections())]
    output = {"out_proj.weight": [(part["output"], layer.out_proj.weight)]}
    if layer._qkv_same_embed_dim:
        return {"in_proj_weight": inputs, **output}
    return {f"{name[0]}_proj_weight": [pair] for name, pair in zip(PARTS, inputs)} | output


def _masked(scores: Tensor, mask: Tensor) -> Tensor:
    return scores.masked_fill(mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
