"""The loss with its softmax's input rounded as the recipe says."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from hfp8sim.training.conversion import last_layer
from hfp8sim.training.functions import SoftmaxInput

Tensor = Any  #: PyTorch's


@torch.compiler.disable
def cross_entropy(model: nn.Module, logits: Tensor, targets: Tensor, **settings: Any) -> Tensor:
    """Cross entropy in nats; the softmax's input is rounded at the site `softmax` (docs/numerics.md, section 6).

    The last layer's arithmetic holds: with `last=fp16` the input has 16 bits. If PyTorch computes the last layer, nothing is rounded.

    Args:
        model: that gave the logits.
        logits: (…, classes).
        targets: classes, of shape logits.shape[:-1].
        settings: as `torch.nn.functional.cross_entropy`.
    """
    z, layer = logits.reshape(-1, logits.shape[-1]), last_layer(model)
    if layer is not None:
        z = SoftmaxInput.apply(z, -1, layer.products.softmax_of_loss)
    return F.cross_entropy(z, targets.reshape(-1), **settings)
