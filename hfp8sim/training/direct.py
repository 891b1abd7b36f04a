"""Direct quantisation: a trained network on the emulator without retraining, beside its controls."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

from torch import nn

from hfp8sim.errors import InputError
from hfp8sim.recipes import Recipe, get_recipe
from hfp8sim.training.conversion import emulation_of
from hfp8sim.training.inference import (
    NORMS,
    Evaluation,
    evaluate,
    quantise,
    retune_batchnorm,
)
from hfp8sim.units.policy import PolicyLike

Tensor = Any  #: PyTorch's


@dataclasses.dataclass(frozen=True)
class Row:
    """A form of the network and how well it does."""

    form: str  #: `fp32`, a recipe's name, or one of these and `, re-tuned`
    model: nn.Module
    evaluation: Evaluation


def quantise_directly(
    model: nn.Module,
    recipe: str | Recipe,
    test: Sequence[tuple[Tensor, Tensor]],
    tuning: Sequence[Tensor] = (),
    *,
    policy: PolicyLike | None = None,
    calibrate: bool = False,
    retune: str | None = "layers",
    emulation: dict[str, Any] | None = None,
    threads: int | None = None,
) -> list[Row]:
    """Quantise a trained network, re-tune its batch normalisations, and evaluate before and after.

    Re-tuning moves an unquantised network too. So there is a row with it: without this control, what the quantised network
    gains means nothing.

    Args:
        model: trained; it stays as it is.
        test: batches of inputs and targets.
        tuning: batches of inputs, of the training data, for calibration and re-tuning.
        calibrate: set the scales of operands from `tuning`; else they are the profile's.
        retune: a name of `RETUNINGS`, or None. Networks without batch normalisation are not re-tuned.
        emulation: the state of the emulation of the run that trained the network. If that run had PACT in the same layers, its α are used.
        recipe, policy, threads: as `hfp8sim.training.convert`.

    Returns:
        The network in binary32, re-tuned, quantised, quantised and re-tuned; SQNRs are against the first. Quantised ones have
        findings of their layers.

    Raises:
        InputError: as `quantise`, `retune_batchnorm` and `evaluate`.
    """
    record = get_recipe(recipe)
    if (calibrate or retune) and not len(tuning):
        raise InputError("calibration and re-tuning need batches of training inputs")
    plain = quantise(model, "fp32")
    quantised = quantise(
        model, record, policy=policy, calibrate=tuning if calibrate else None, threads=threads
    )
    if emulation is not None and record.emulated and not calibrate:
        emulation_of(quantised).scales.load_alphas(emulation["scales"]["alphas"])
    forms = [("fp32", plain), (record.name, quantised)]
    if retune and any(isinstance(module, NORMS) for module in model.modules()):
        forms = [
            form
            for name, form in forms
            for form in ((name, form), _retuned(name, form, tuning, retune))
        ]
    return [
        Row(name, form, evaluate(form, test, None if form is plain else plain, layers=True))
        for name, form in forms
    ]


def _retuned(
    name: str, model: nn.Module, tuning: Sequence[Tensor], how: str
) -> tuple[str, nn.Module]:
    """A copy with re-tuned batch normalisations."""
    model = copy.deepcopy(model)
    retune_batchnorm(model, tuning, how)
    return f"{name}, re-tuned", model
