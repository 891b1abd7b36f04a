"""Small networks and batches that the tests of many learners share, also those in other processes."""

import torch
from torch import nn

from hfp8sim import training
from hfp8sim.recipes import get_recipe

#: Products, operands, update and sums over learners draw random words.
STOCHASTIC = get_recipe("hfp8").replace(
    **{"name": "hfp8-sr", "error.rounding": "stochastic", "reduce.rounding": "stochastic"}
)
#: The same, nearest: what `hfp8` does.
NEAREST = get_recipe("hfp8")


def small():
    """Two 16-bit layers around an 8-bit one, normalisation with buffers, dropout."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.ReLU(),
        nn.Dropout(0.25), nn.Flatten(), nn.Linear(6, 10),
    )  # fmt: skip


def batches(count, size=16):
    generator = torch.Generator().manual_seed(7)
    for _ in range(count):
        yield (
            torch.randn(size, 1, 8, 8, generator=generator),
            torch.randint(10, (size,), generator=generator),
        )


def converted(recipe, seed=3):
    torch.manual_seed(11)
    return training.convert(small(), recipe, seed=seed, threads=1)


def train(model, optimiser, steps=4):
    """Losses of some steps of many learners."""
    losses = []
    for x, y in batches(steps):
        for xs, ys in optimiser.parts(x, y):
            optimiser.backward(nn.functional.cross_entropy(model(xs), ys))
        optimiser.step()
        losses.append(optimiser.loss)
    return losses


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def state(optimiser):
    """All state tensors, one after the other."""
    optimiser.gather_state()
    tensors = [
        value.flatten()
        for group in optimiser.param_groups
        for p in group["params"]
        for _, value in sorted(optimiser.state[p].items())
    ]
    return torch.cat(tensors)


def plain():
    """Two convolutions and a linear layer without dropout, for gradients in binary32."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6, 10),
    )  # fmt: skip
