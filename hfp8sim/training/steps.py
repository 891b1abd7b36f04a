"""The number of the training step, which enters the random words: every step of an optimiser adds one.

A hook that PyTorch calls after each step of any optimiser looks for the emulations whose parameters it updates.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.weak import WeakIdKeyDictionary

from hfp8sim.training.emulation import Emulation

#: For a parameter of a converted model, its emulation.
_emulations: Any = WeakIdKeyDictionary()
_hook: Any = None


def count(model: nn.Module, emulation: Emulation) -> None:
    """Count the steps of every optimiser of a model's parameters."""
    for parameter in model.parameters():
        follow(parameter, emulation)


def follow(parameter: nn.Parameter, emulation: Emulation) -> None:
    """Count the steps of every optimiser of a parameter. Layers call it too, as copies of a model do not
    pass through `count`."""
    global _hook
    if _hook is None:
        _hook = register_optimizer_step_post_hook(_after_step)
    _emulations[parameter] = emulation


def forget(model: nn.Module) -> None:
    """Count no more steps of a model."""
    for parameter in model.parameters():
        _emulations.pop(parameter, None)


def resume(optimiser: Any, step: int) -> None:
    """The models of an optimiser's parameters are in this step."""
    for emulation in emulations(optimiser):
        emulation.step = step


def emulations(optimiser: Any) -> list[Emulation]:
    """The emulations whose parameters an optimiser updates."""
    found: dict[int, Emulation] = {}
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            emulation = _emulations.get(parameter)
            if emulation is not None:
                found[id(emulation)] = emulation
    return list(found.values())


def _after_step(optimiser: Any, args: Any, kwargs: Any) -> None:
    for emulation in emulations(optimiser):
        emulation.end_step()
