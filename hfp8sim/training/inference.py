"""Inference of trained networks on the emulator: quantise, re-tune, evaluate."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from hfp8sim.errors import InputError
from hfp8sim.recipes import Recipe
from hfp8sim.training.conversion import PolicyLike, convert
from hfp8sim.units.profile import Profile

Tensor = Any  #: PyTorch's
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def quantise(
    model: nn.Module, recipe: str | Recipe | Profile = "hfp8", *, policy: PolicyLike | None = None, threads: int | None = None
) -> nn.Module:  # fmt: skip
    """A converted copy of a trained model, ready for inference; the model itself stays as it is.

    Arguments and errors are those of `convert`.
    """
    return convert(copy.deepcopy(model), recipe, policy=policy, threads=threads).eval()


@torch.no_grad()
def retune_batchnorm(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Recompute the means and variances of all batch normalisations, in place (Sun et al., NeurIPS 2019).

    Every other layer stays as in inference. The statistics are averages over the batches.

    Args:
        batches: of inputs.

    Raises:
        InputError: no batch, or no batch normalisation in the model.
    """
    norms = [module for module in model.modules() if isinstance(module, _NORMS)]
    if not norms:
        raise InputError("the model has no batch normalisation to re-tune")
    was_training, momenta = model.training, [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # an average over all batches
        norm.train()
    count = 0
    for x in batches:
        model(x)
        count += 1
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
    model.train(was_training)
    if not count:
        raise InputError("re-tuning needs at least one batch")


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """How well a network does."""

    loss: float  #: cross entropy, in nats
    accuracy: float  #: share of examples whose class is right, 0 … 1
    logit_sqnr: float | None  #: dB, against the reference's logits; None without a reference

    def __str__(self) -> str:
        sqnr = "" if self.logit_sqnr is None else f", logit SQNR {self.logit_sqnr:.1f} dB"
        return f"accuracy {100 * self.accuracy:.2f} %, loss {self.loss:.4f}{sqnr}"


@torch.no_grad()
def evaluate(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], reference: nn.Module | None = None
) -> Evaluation:
    """Loss and accuracy of a classifier or language model in inference.

    Args:
        batches: inputs, and targets of shape logits.shape[:-1].
        reference: a model of the same task; its logits are the signal of the SQNR.

    Raises:
        InputError: no batch.
    """
    modes = [(m, m.training) for m in (model, reference) if m is not None]
    for module, _ in modes:
        module.eval()
    loss = right = count = signal = noise = 0.0
    for x, y in batches:
        logits = model(x)
        logits, y = logits.reshape(-1, logits.shape[-1]), y.reshape(-1)
        loss += nn.functional.cross_entropy(logits, y, reduction="sum").item()
        right += (logits.argmax(-1) == y).sum().item()
        count += len(y)
        if reference is not None:
            wanted = reference(x).reshape(logits.shape).double()
            signal += wanted.square().sum().item()
            noise += (logits.double() - wanted).square().sum().item()
    for module, was_training in modes:
        module.train(was_training)
    if not count:
        raise InputError("evaluation needs at least one batch")
    sqnr = None
    if reference is not None:
        sqnr = 10 * math.log10(signal / noise) if noise else math.inf
    return Evaluation(loss / count, right / count, sqnr)
