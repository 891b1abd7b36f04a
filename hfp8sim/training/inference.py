"""Inference of trained networks on the emulator: quantise, calibrate, re-tune, evaluate."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import nn

from hfp8sim.errors import InputError, unknown
from hfp8sim.recipes import Recipe
from hfp8sim.training import findings
from hfp8sim.training.conversion import convert, emulation_of
from hfp8sim.training.findings import LayerFinding
from hfp8sim.units.policy import PolicyLike
from hfp8sim.units.profile import Profile

Tensor = Any  #: PyTorch's
#: Layers that `retune_batchnorm` re-tunes.
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

#: Ways to re-tune batch normalisations, with their meaning.
RETUNINGS = {
    "layers": "one after the other in forward order, each over all batches, behind the re-tuned ones before it",
    "one-pass": "all at once; every batch is normalised with its own statistics, which are averaged",
    "running": "PyTorch's running averages go on from where they are",
}


def quantise(
    model: nn.Module, recipe: str | Recipe | Profile = "hfp8", *, policy: PolicyLike | None = None,
    calibrate: Iterable[Tensor] | None = None, threads: int | None = None,
) -> nn.Module:  # fmt: skip
    """A converted copy of a trained model, ready for inference; the model itself stays as it is.

    Args:
        calibrate: batches of inputs; `hfp8sim.training.calibrate` sets the scales from them. None: the profile's scales.
        recipe, policy, threads: as `convert`.

    Raises:
        InputError: as `convert` and `calibrate`.
    """
    quantised = convert(copy.deepcopy(model), recipe, policy=policy, threads=threads).eval()
    if calibrate is not None:
        _calibrate(quantised, calibrate)
    return quantised


@torch.no_grad()
def calibrate(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set the scales of all operands of a converted model from the largest magnitudes that the layers see.

    Each scale is the largest power of two with which no activation or weight of these batches saturates. The batches run
    with binary32 operands and exact sums, in inference.

    Args:
        batches: of inputs.

    Raises:
        InputError: no batch, or a model that is not converted.
    """
    emulation = emulation_of(model)
    count = 0
    with _inference(model), emulation.observe():
        for x in batches:
            model(x)
            count += 1
    if not count:
        raise InputError("calibration needs at least one batch")


_calibrate = calibrate  # `quantise` has an argument of this name


@contextlib.contextmanager
def _inference(*models: nn.Module | None) -> Iterator[None]:
    """The models are in inference inside, and as they were afterwards."""
    modes = [(module, module.training) for model in models if model for module in model.modules()]
    for module, _ in modes:
        module.training = False
    try:
        yield
    finally:
        for module, was_training in modes:
            module.training = was_training


# -- batch normalisation -------------------------------------------------------------------------------


@torch.no_grad()
def retune_batchnorm(model: nn.Module, batches: Iterable[Tensor], how: str = "layers") -> None:
    """Recompute the means and variances of all batch normalisations, in place (Sun et al., NeurIPS 2019).

    Weights, γ and β stay, and every other layer is as in inference. The paper gives neither the number of batches nor the
    order: `layers` is a **choice**. The mean and the biased variance of `layers` are those of all elements of all batches.

    Args:
        batches: of inputs; `layers` keeps them in memory.
        how: a name of `RETUNINGS`.

    Raises:
        InputError: no batch, no batch normalisation with running statistics in the model, or an unknown `how`.
    """
    if how not in RETUNINGS:
        raise unknown("way to re-tune", how, list(RETUNINGS))
    norms = [m for m in model.modules() if isinstance(m, NORMS) and m.running_mean is not None]
    if not norms:
        raise InputError("the model has no batch normalisation to re-tune")
    inputs = iter(batches)
    first = next(inputs, None)
    if first is None:
        raise InputError("re-tuning needs at least one batch")
    with _inference(model):
        if how == "layers":
            _retune_in_order(model, norms, [first, *inputs])
        else:
            _retune_at_once(model, norms, first, inputs, average=how == "one-pass")


def _retune_at_once(
    model: nn.Module, norms: list[Any], first: Tensor, inputs: Iterator[Tensor], average: bool
) -> None:
    """PyTorch's own statistics: averages over all batches, or running averages."""
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        if average:
            norm.reset_running_stats()
            norm.momentum = None  # an average over all batches
        norm.training = True
    try:
        model(first)
        for x in inputs:
            model(x)
    finally:
        for norm, momentum in zip(norms, momenta):
            norm.momentum = momentum


class _Reached(Exception):
    """The normalisation whose statistics are wanted has seen its input."""


def _retune_in_order(model: nn.Module, norms: list[Any], batches: list[Tensor]) -> None:
    """Each normalisation in forward order, behind those that are re-tuned already."""
    for norm, calls in _calls_in_order(model, norms, batches[0]):
        statistics = _Statistics(calls)
        with _before(norm, statistics.add):
            for x in batches:
                statistics.calls_left = calls
                with contextlib.suppress(_Reached):
                    model(x)
        norm.running_mean.copy_(statistics.mean)
        norm.running_var.copy_(statistics.variance)


def _calls_in_order(model: nn.Module, norms: list[Any], x: Tensor) -> list[tuple[Any, int]]:
    """The normalisations in the order of their first call, and how often each is called."""
    calls: dict[Any, int] = {}

    def count(module: Any, args: Any) -> None:
        calls[module] = calls.get(module, 0) + 1

    with contextlib.ExitStack() as hooks:
        for norm in norms:
            hooks.enter_context(_before(norm, count))
        model(x)
    return list(calls.items())


@contextlib.contextmanager
def _before(module: nn.Module, hook: Callable[[Any, Any], None]) -> Iterator[None]:
    """A hook before each forward pass of a module, inside."""
    handle = module.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


class _Statistics:
    """Mean and biased variance of each channel, over all calls, in binary64."""

    def __init__(self, calls: int) -> None:
        self.calls_left = calls  #: of this batch
        self.count = 0
        self.total: Any = 0.0
        self.squares: Any = 0.0

    def add(self, module: Any, args: Any) -> None:
        """Add the input of a call, (N, C, …); ends the forward pass after the last call."""
        x = args[0].double()
        axes = [axis for axis in range(x.ndim) if axis != 1]
        self.count += x.numel() // x.shape[1]
        self.total = self.total + x.sum(axes)
        self.squares = self.squares + x.square().sum(axes)
        self.calls_left -= 1
        if not self.calls_left:
            raise _Reached

    @property
    def mean(self) -> Tensor:
        """Σx / n."""
        return self.total / self.count

    @property
    def variance(self) -> Tensor:
        """Σ(x − mean)² / n."""
        return (self.squares / self.count - self.mean.square()).clamp_min(0.0)


# -- evaluation ----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """How well a network does."""

    loss: float  #: cross entropy, in nats
    accuracy: float  #: share of examples whose class is right, 0 … 1
    logit_sqnr: float | None  #: dB, against the reference's logits; None without a reference
    layers: tuple[
        LayerFinding, ...
    ] = ()  #: of emulated layers in the order of the model, if wanted

    @property
    def worst_layer(self) -> LayerFinding | None:
        """The layer whose own roundings cost most: that of the lowest SQNR."""
        return min(self.layers, key=lambda layer: layer.sqnr, default=None)

    def __str__(self) -> str:
        sqnr = "" if self.logit_sqnr is None else f", logit SQNR {self.logit_sqnr:.1f} dB"
        worst = self.worst_layer
        layer = "" if worst is None else f", worst layer {worst.name} ({worst.sqnr:.1f} dB)"
        return f"accuracy {100 * self.accuracy:.2f} %, loss {self.loss:.4f}{sqnr}{layer}"


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    reference: nn.Module | None = None,
    *,
    layers: bool = False,
) -> Evaluation:
    """Loss and accuracy of a classifier or language model in inference.

    Args:
        batches: inputs, and targets of shape logits.shape[:-1].
        reference: a model of the same task; its logits are the signal of the SQNR.
        layers: also measure each emulated layer by itself (`LayerFinding`). PyTorch computes each once more.

    Raises:
        InputError: no batch.
    """
    loss = right = count = signal = noise = 0.0
    with _inference(model, reference), findings.watch(model, reference, layers) as found:
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
    if not count:
        raise InputError("evaluation needs at least one batch")
    sqnr = None if reference is None else findings.decibels(signal, noise)
    return Evaluation(loss / count, right / count, sqnr, found.results())
