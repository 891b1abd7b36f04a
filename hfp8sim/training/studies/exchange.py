"""Learners in PyTorch's binary32 for studies of what they exchange: their gradients, and one update for all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from hfp8sim.training.data import load_data
from hfp8sim.training.studies.runs import mlp
from hfp8sim.units.sites import Values

Tensor = Any  #: PyTorch's
#: Images of a learner's part of a batch.
PART = 16
#: Steps whose mean loss is a run's training loss.
LAST = 20


def network(seed: int) -> nn.Module:
    """The study's network: four linear layers, started by the seed."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    return mlp()


def parts(learners: int, steps: int, seed: int) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """For each step the images and classes of every learner."""
    for x, y in load_data("digits").batches(PART * learners, seed, steps):
        yield list(zip(x.chunk(learners), y.chunk(learners), strict=True))


def gradients(model: nn.Module, x: Tensor, y: Tensor) -> tuple[float, list[Values]]:
    """The loss of a learner's part, and the gradient of each parameter."""
    model.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.item(), [p.grad.numpy().copy() for p in model.parameters() if p.grad is not None]


class Momentum:
    """SGD with momentum 0.9 in binary32, the rate falling to 0 as a half cosine."""

    def __init__(self, model: nn.Module, rate: float, steps: int) -> None:
        self.parameters = list(model.parameters())
        self.optimiser = torch.optim.SGD(self.parameters, rate, momentum=0.9)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimiser, steps)

    def step(self, mean: list[Values]) -> None:
        """Update by the mean gradient of all learners."""
        for parameter, gradient in zip(self.parameters, mean, strict=True):
            parameter.grad = torch.from_numpy(np.ascontiguousarray(gradient))
        self.optimiser.step()
        self.schedule.step()


def accuracy(model: nn.Module) -> float:
    """On the test set, in %."""
    test = load_data("digits").test
    with torch.no_grad():
        return 100 * float((model(test.inputs).argmax(1) == test.targets).float().mean())
