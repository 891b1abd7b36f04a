"""Whole training runs of many learners, in one process or in many, with the same bits and the same checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from hfp8sim.errors import InputError
from hfp8sim.recipes import Recipe, get_recipe
from hfp8sim.training.distributed.optimisers import make_optimiser
from hfp8sim.training.distributed.rings import ProcessRing, Ring, connect, in_processes
from hfp8sim.training.losses import cross_entropy
from hfp8sim.training.runs import Run, Settings, Tensor


class ManyLearners(Run):
    """A training run of `settings.learners` learners.

    A checkpoint holds the state of all learners, so it is the same file for both kinds of ring.

    Args:
        settings: what to do.
        threads: worker threads of products at each learner; no bit depends on it.
        ring: of the learners; all in this process for None.

    Raises:
        InputError: as `Run`; a ring of another number of learners.
    """

    def __init__(
        self, settings: Settings, threads: int | None = None, ring: Ring | None = None
    ) -> None:
        if ring is not None and ring.learners != settings.learners:
            raise InputError(
                f"{ring.learners} processes run {settings.learners} learners; the numbers must be equal"
            )
        if ring is not None:
            check_processes(get_recipe(settings.recipe))
        self.ring = ring
        threads = threads or (torch.get_num_threads() if ring is None else 1)
        torch.set_num_threads(
            1
        )  # PyTorch's own sums depend on it, and it must not depend on the ring
        super().__init__(settings, threads)

    def _make_optimiser(self, **options: Any) -> Any:
        where = {"learners": self.settings.learners} if self.ring is None else {"ring": self.ring}
        return make_optimiser(self.model, self.recipe, self.settings.optimiser, **where, **options)

    def _learn(self, x: Tensor, y: Tensor) -> float:
        for xs, ys in self.optimiser.parts(x, y):
            self.optimiser.backward(cross_entropy(self.model, self.model(xs), ys))
        self.optimiser.step()
        loss: float = self.optimiser.loss
        self._check(loss)
        return loss

    @property
    def leads(self) -> bool:
        """Whether this process has learner 0, which reports and writes."""
        return not isinstance(self.ring, ProcessRing) or self.ring.seats[0].learner == 0

    def stops(self, requested: bool) -> bool:
        """Whether any learner was asked to stop; all learners must call it after each step."""
        stop: bool = self.optimiser.any_learner(requested)
        return stop

    def save(self, path: str | Path) -> Path:
        """Write a checkpoint, whole or not at all; all learners must call it, and learner 0 writes."""
        self.optimiser.gather_state()
        return super().save(path) if self.leads else Path(path)


def check_processes(recipe: Recipe) -> None:
    """`InputError` for a recipe that learners in processes of their own cannot follow."""
    if recipe.quantisers or recipe.scalings:
        raise InputError(
            f"recipe {recipe.name}: its scales and quantisers follow all learners' tensors, which many processes do not share;"
            " run the learners in one process"
        )


def make_run(settings: Settings, threads: int | None = None) -> Run:
    """The run of some settings: of one learner, of many in this process, or of this process among those of a launcher.

    Raises:
        InputError: as `ManyLearners`.
    """
    if in_processes():
        return ManyLearners(settings, threads, connect())
    return ManyLearners(settings, threads) if settings.learners > 1 else Run(settings, threads)
