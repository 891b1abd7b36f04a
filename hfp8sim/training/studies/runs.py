"""Short training runs for studies: networks, and one run as its metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from hfp8sim.recipes import Recipe, get_recipe
from hfp8sim.training.conversion import convert, is_emulated
from hfp8sim.training.runs import Run, Settings
from hfp8sim.training.studies.frame import Values
from hfp8sim.units.policy import PolicyLike

#: Steps at the end of a run whose mean loss is its training loss.
_LAST = 20
_HERE = "hfp8sim.training.studies.runs"


def mlp() -> nn.Module:
    """Four linear layers with ReLU for 8×8 images, 64 wide."""
    layers: list[nn.Module] = [nn.Flatten()]
    for _ in range(3):
        layers += [nn.Linear(64, 64), nn.ReLU()]
    return started(nn.Sequential(*layers, nn.Linear(64, 10)))


def deep_mlp() -> nn.Module:
    """Ten linear layers with ReLU for 8×8 images, 32 wide: errors shrink from layer to layer."""
    layers: list[nn.Module] = [nn.Flatten(), nn.Linear(64, 32), nn.ReLU()]
    for _ in range(8):
        layers += [nn.Linear(32, 32), nn.ReLU()]
    return started(nn.Sequential(*layers, nn.Linear(32, 10)))


def started(network: nn.Sequential) -> nn.Sequential:
    """First weights for layers followed by a ReLU (He et al., ICCV 2015), biases of zero."""
    for layer in network:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return network


MLP, DEEP_MLP = f"{_HERE}:mlp", f"{_HERE}:deep_mlp"


def changed(changes: Mapping[str, Any], base: str = "hfp8") -> Recipe:
    """A recipe with some of its keys changed."""
    return get_recipe(base).replace(**changes)


def train(
    network: str, recipe: str | Recipe, seed: int, policy: PolicyLike | None = None, **settings: Any
) -> Run:
    """A whole run in one thread.

    Args:
        network: a name, or MODULE:FUNCTION.
        policy: in place of the recipe's, with profiles as records.
        settings: those of `Settings`.
    """
    torch.set_num_threads(1)
    run = Run(Settings(network, recipe=recipe, seed=seed, **settings), threads=1)
    if policy is not None:
        convert(run.model, run.recipe, policy=policy, seed=seed, threads=1)
    run.train()
    return run


def metrics(run: Run) -> Values:
    """Training loss (mean of the last steps, nats), test loss, accuracy in %, stuck weights in %."""
    last = run.history[-_LAST:]
    result = run.evaluate()
    return {
        "training loss": sum(record.loss for record in last) / len(last),
        "test loss": result.loss,
        "accuracy": 100 * result.accuracy,
        "stuck": 100 * sum(record.counts.stuck_share for record in last) / len(last),
    }


def without_gradient(model: nn.Module) -> float:
    """The share of weights whose gradient in the last step was exactly 0, in %."""
    weights = [p for p in model.parameters() if p.ndim > 1 and p.grad is not None]
    zeros = sum(int((p.grad == 0).sum()) for p in weights)
    return 100 * zeros / sum(int(p.numel()) for p in weights)


def saturated(model: nn.Module) -> float:
    """The share of the last step's errors that their format clamped, in %."""
    operands = [m.products.shares for m in model.modules() if is_emulated(m)]  # type: ignore[union-attr]
    shares = [of["error"] for of in operands if "error" in of]
    size = sum(share.size for share in shares)
    return 100 * sum(share.saturated for share in shares) / size if size else 0.0


def chosen(values: Values, *names: str) -> Values:
    """Some of the values."""
    return {name: values[name] for name in names}
