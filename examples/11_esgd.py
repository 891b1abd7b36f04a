"""A population of learners whose species are recipes: evolutionary gradient descent over a sweep.

    python examples/11_esgd.py

Each generation of ESGD (Cui et al., NeurIPS 2018) has two steps, which docs/distributed.md defines. In the gradient step
every individual, a set of weights, draws a species: here a recipe and a learning rate. One sweep trains all individuals,
each from its own weights. An individual that got worse goes back to the weights before. In the evolution step offspring
are means of parents plus noise, and the best of parents and offspring survive.

Fitness is the loss on fixed images in binary32, whatever the species, so that individuals compare. It is exact: equal
weights have equal fitness. So the mean fitness of the best individuals never degrades.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

import hfp8sim as hs
from hfp8sim.training.data import Data, load_data
from hfp8sim.training.networks import make_network

Weights = dict[str, np.ndarray]  #: by name, as in a `state_dict`

RECIPES = ["fp32", "hfp8", "fp8-2018"]
RATES = [0.02, 0.05, 0.1]
#: What batch normalisation has measured: no weight, so that offspring get no noise there.
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclasses.dataclass(frozen=True)
class Individual:
    """Weights, the loss that they give, and the species that last improved them."""

    weights: Weights
    fitness: float
    species: str = "none"


#: Every individual after the gradient step of generation k.
Learn = Callable[[Sequence[Individual], int], Sequence[Individual]]


@dataclasses.dataclass(frozen=True)
class Evolution:
    """The (μ/ρ + λ) evolution with an elite, and a gradient step with back-off.

    μ is the number of individuals that a generation begins with.
    """

    fitness: Callable[[Weights], float]  #: less is better
    learn: Learn
    offspring: int = 8  #: λ
    parents: int = 2  #: ρ of each offspring
    elite: int = 3  #: m, the best that survive; the others are drawn from the rest
    noise: float = 0.01  #: σ of the first generation; that of generation k is σ/k

    def generation(
        self, population: Sequence[Individual], k: int, rng: np.random.Generator
    ) -> list[Individual]:
        """The population after generation k = 1, 2, …"""
        learned = [
            better(old, new) for old, new in zip(population, self.learn(population, k), strict=True)
        ]
        children = [self._child(learned, k, rng) for _ in range(self.offspring)]
        pool = sorted([*learned, *children], key=lambda x: x.fitness)
        best, rest = pool[: self.elite], pool[self.elite :]
        drawn = rng.choice(len(rest), len(population) - len(best), replace=False)
        return [*best, *(rest[i] for i in sorted(drawn))]

    def _child(
        self, population: Sequence[Individual], k: int, rng: np.random.Generator
    ) -> Individual:
        """The mean of ρ parents plus normal noise; of the first parent's species."""
        chosen = rng.choice(len(population), self.parents, replace=False)
        parents = [population[i] for i in chosen]
        weights = {}
        for name, first in parents[0].weights.items():
            mean = sum(p.weights[name].astype(np.float64) for p in parents) / len(parents)
            if not name.endswith(STATISTICS):
                mean = mean + rng.normal(0, self.noise / k, first.shape)
            weights[name] = np.asarray(mean).astype(first.dtype)
        return Individual(weights, self.fitness(weights), parents[0].species)

    def elite_fitness(self, population: Sequence[Individual]) -> float:
        """The mean fitness of the elite: what never degrades."""
        best = sorted(x.fitness for x in population)[: self.elite]
        return sum(best) / len(best)


def better(old: Individual, new: Individual) -> Individual:
    """Back-off: the new individual only if it is no worse."""
    return new if new.fitness <= old.fitness else old


# -- on digits -------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Digits:
    """The gradient step and the fitness of a small network on scanned digits."""

    folder: Path  #: for weights
    steps: int = 10  #: of a gradient step
    images: int = 500  #: that fitness is measured on
    n_jobs: int = 1  #: processes of the sweep
    data: Data = dataclasses.field(default_factory=lambda: load_data("digits"))

    def first(self, count: int) -> list[Individual]:
        """Individuals with the first weights of as many seeds."""
        population = []
        for seed in range(count):
            torch.manual_seed(seed)
            weights = arrays(make_network("cnn", 1, self.data.classes).state_dict())
            population.append(Individual(weights, self.fitness(weights)))
        return population

    def learn(self, population: Sequence[Individual], k: int) -> list[Individual]:
        """Each individual trained for some steps from its own weights, by a species that it draws."""
        rng = np.random.default_rng(k)
        points = []
        for i, individual in enumerate(population):
            first, last = self.folder / f"{k}.{i}.first.pt", self.folder / f"{k}.{i}.last.pt"
            torch.save({name: torch.from_numpy(x) for name, x in individual.weights.items()}, first)
            points.append({
                "network": "cnn", "recipe": str(rng.choice(RECIPES)), "rate": float(rng.choice(RATES)),
                "steps": self.steps, "seed": k * len(population) + i,
                "weights": str(first), "checkpoint": str(last),
            })  # fmt: skip
        result = hs.sweep(points=points, n_jobs=self.n_jobs)
        return [
            self._trained(point) if row["status"] == "done" else old
            for old, point, row in zip(population, points, result.rows, strict=True)
        ]

    def _trained(self, point: dict[str, object]) -> Individual:
        """What a point of the sweep has written."""
        state = torch.load(str(point["checkpoint"]), weights_only=True)["model"]
        weights = arrays(state)
        return Individual(weights, self.fitness(weights), f"{point['recipe']} at {point['rate']}")

    def fitness(self, weights: Weights) -> float:
        """Cross entropy on the first training images, in binary32; infinite if it is no number."""
        x, y = self.data.train.inputs[: self.images], self.data.train.targets[: self.images]
        loss = float(torch.nn.functional.cross_entropy(self._logits(weights, x), y))
        return loss if np.isfinite(loss) else float("inf")

    def accuracy(self, weights: Weights) -> float:
        """The share of the test images that are recognised."""
        guesses = self._logits(weights, self.data.test.inputs).argmax(1)
        return float((guesses == self.data.test.targets).float().mean())

    @torch.no_grad()
    def _logits(self, weights: Weights, x: torch.Tensor) -> torch.Tensor:
        model = make_network("cnn", 1, self.data.classes)
        model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
        logits: torch.Tensor = model.eval()(x)
        return logits


def arrays(state: dict[str, torch.Tensor]) -> Weights:
    """Tensors as arrays of their own."""
    return {name: x.detach().numpy().copy() for name, x in state.items()}


def run(digits: Digits, individuals: int = 6, generations: int = 6) -> list[list[Individual]]:
    """The populations of all generations, the first included."""
    evolution, rng = Evolution(digits.fitness, digits.learn), np.random.default_rng(0)
    populations = [digits.first(individuals)]
    for k in range(1, generations + 1):
        populations.append(evolution.generation(populations[-1], k, rng))
        print(f"generation {k}: elite {evolution.elite_fitness(populations[-1]):.4f}; " + ", ".join(
            f"{count} {name}"
            for name, count in Counter(x.species for x in populations[-1]).most_common()
        ))  # fmt: skip
    return populations


def main() -> None:
    torch.set_num_threads(1)  # the number of threads decides the order of PyTorch's sums
    with tempfile.TemporaryDirectory() as folder:
        digits = Digits(Path(folder))
        best = min(run(digits)[-1], key=lambda x: x.fitness)
    print(f"the best, {best.species}: {digits.accuracy(best.weights):.1%} of the test images")


if __name__ == "__main__":
    main()
