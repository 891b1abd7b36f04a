"""A whole training run: a network, data, a recipe; with checkpoints that resume to the bit."""

from __future__ import annotations

import dataclasses
import inspect
import io
import itertools
import math
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from hfp8sim.errors import InputError
from hfp8sim.files import write_whole
from hfp8sim.recipes import Recipe, get_recipe
from hfp8sim.recipes.defaults import IMAGES
from hfp8sim.training.conversion import convert, emulation_of
from hfp8sim.training.data import WINDOW, Data, load_data, windows_at
from hfp8sim.training.inference import Evaluation, evaluate
from hfp8sim.training.losses import cross_entropy
from hfp8sim.training.networks import NETWORKS, make_network
from hfp8sim.training.optimisers import StepCounts, make_optimiser
from hfp8sim.training.weights import load_weights, read_saved, read_weights
from hfp8sim.units.accumulator import check_source

Tensor = Any  #: PyTorch's
#: Examples of a batch in evaluation.
_TEST_BATCH = 500
#: Windows of a text that are evaluated.
_TEST_WINDOWS = 256


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a run does. All of it is in a checkpoint; equal settings give equal weights, to the bit."""

    network: str  #: a name of `NETWORKS`, or MODULE:FUNCTION of the user's, which returns a model
    data: str = IMAGES.data
    recipe: str | Recipe = "hfp8"
    optimiser: str = IMAGES.optimiser  #: or `adam`
    rate: float = IMAGES.rate  #: at the first step; it falls to 0 as a half cosine
    momentum: float = 0.9  #: of SGD
    decay: float = IMAGES.decay  #: weight decay
    batch: int = 64
    steps: int = 300
    seed: int = 0  #: of the first weights, the order of the data, and stochastic roundings
    learners: int = 1  #: that share each batch (docs/distributed.md)
    weights: str = (
        ""  #: a file of the first weights, as `load_weights` takes; the network's own if empty
    )

    def __post_init__(self) -> None:
        get_recipe(self.recipe)
        for name in ("batch", "steps", "learners"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}, must be at least 1")
        check_source(self.seed, 0)
        if not (self.rate > 0 and math.isfinite(self.rate)):
            raise InputError(f"rate is {self.rate}, must be positive")
        if self.batch % self.learners:
            raise InputError(
                f"batch is {self.batch}, must be a multiple of the {self.learners} learners"
            )
        if self.optimiser not in ("sgd", "adam"):
            raise InputError(f"optimiser is {self.optimiser!r}, must be sgd or adam")


@dataclasses.dataclass(frozen=True)
class StepRecord:
    """One training step."""

    step: int  #: from 1
    loss: float  #: of the batch, in nats
    scale: float  #: the loss scale it used
    counts: StepCounts


class Run:
    """A training run, step by step.

    Args:
        settings: what to do.
        threads: worker threads of products; as many as PyTorch uses by default. No bit depends on it.

    Raises:
        InputError: an unknown name, data that is not installed, weights of another network, a layer that cannot be
            emulated.
    """

    def __init__(self, settings: Settings, threads: int | None = None) -> None:
        self.settings, self.recipe = settings, get_recipe(settings.recipe)
        self.data = load_data(settings.data)
        torch.manual_seed(settings.seed)
        network = network_for(settings.network, self.data)
        if settings.weights:
            load_weights(network, settings.weights)
        self.model = convert(network, self.recipe, seed=settings.seed, threads=threads)
        self._emulation = emulation_of(self.model) if self.recipe.emulated else None
        more = {"momentum": settings.momentum} if settings.optimiser == "sgd" else {}
        self.optimiser: Any = self._make_optimiser(
            lr=settings.rate, weight_decay=settings.decay, seed=settings.seed, threads=threads,
            count_stuck=True, **more,
        )  # fmt: skip
        self.history: list[StepRecord] = []

    def _make_optimiser(self, **options: Any) -> Any:
        return make_optimiser(self.model, self.recipe, self.settings.optimiser, **options)

    @property
    def step(self) -> int:
        """Steps done."""
        return len(self.history)

    def train(self, on_step: Callable[[StepRecord], object] | None = None) -> None:
        """Train up to the last step of the settings.

        Args:
            on_step: called after each step. What it raises ends the training between two steps.

        Raises:
            InputError: a loss that is no number, with the number of the step. The run is as it was before this step and can be saved.
        """
        self.model.train()
        for x, y in itertools.islice(batches_of(self.data, self.settings), self.step, None):
            self.history.append(self._whole_step(x, y))
            if on_step is not None:
                on_step(self.history[-1])

    def _whole_step(self, x: Tensor, y: Tensor) -> StepRecord:
        """A step; after an error before its update everything is as it was before the step."""
        buffers = [(buffer, buffer.clone()) for buffer in self.model.buffers()]
        generator = torch.get_rng_state()
        try:
            return self._train_step(x, y)
        except InputError:
            with torch.no_grad():
                for buffer, value in buffers:
                    buffer.copy_(value)
            torch.set_rng_state(generator)
            raise

    def _train_step(self, x: Tensor, y: Tensor) -> StepRecord:
        scale = self.optimiser.scale.scale
        for group in self.optimiser.param_groups:
            done = self.step / self.settings.steps
            group["lr"] = self.settings.rate * (1 + math.cos(math.pi * done)) / 2
        loss = self._learn(x, y)
        return StepRecord(self.step + 1, loss, scale, self.optimiser.counts)

    def _learn(self, x: Tensor, y: Tensor) -> float:
        """Gradients and update of one batch; returns its loss."""
        self.optimiser.zero_grad()
        loss = cross_entropy(self.model, self.model(x), y)
        value: float = loss.item()
        self._check(value)
        self.optimiser.backward(loss)
        self.optimiser.step()
        return value

    def _check(self, loss: float) -> None:
        """InputError for a loss that is no number."""
        if not math.isfinite(loss):
            raise InputError(
                f"the loss of step {self.step + 1} is {loss}: lower --rate or the loss scale"
            )

    def evaluate(self, reference: nn.Module | None = None) -> Evaluation:
        """The network on the data's test set."""
        result: Evaluation = evaluate(self.model, batches_of_test_set(self.data), reference)
        return result

    # -- checkpoints ---------------------------------------------------------------------------------

    def save(self, path: str | Path) -> Path:
        """Write a checkpoint, whole or not at all.

        `torch.load(path, weights_only=True)["model"]` is the network's `state_dict`.
        """
        content = io.BytesIO()
        torch.save(
            {
                "model": self.model.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "emulation": self._emulation.state_dict() if self._emulation else None,
                "generator": torch.get_rng_state(),
                "settings": _settings_record(self.settings, self.recipe),
                "history": [
                    (r.step, r.loss, r.scale, dataclasses.asdict(r.counts)) for r in self.history
                ],
            },
            content,
        )
        return write_whole(path, lambda file: file.write(content.getvalue()), binary=True)

    def load(self, path: str | Path) -> None:
        """Go on from a checkpoint of the same settings.

        Raises:
            InputError: a file that is no checkpoint, or one of other settings; the text names the first.
        """
        saved = read_checkpoint(path)
        mine, theirs = _settings_record(self.settings, self.recipe), saved["settings"]
        for name, value in mine.items():
            if theirs.get(name) != value:
                raise InputError(
                    f"{path} is of a run with {name} {theirs.get(name)!r}, this one has {value!r}"
                )
        try:
            self.model.load_state_dict(saved["model"])
            self.optimiser.load_state_dict(saved["optimiser"])
            if self._emulation:
                self._emulation.load_state_dict(saved["emulation"])
            torch.set_rng_state(saved["generator"])
            self.history = [
                StepRecord(step, loss, scale, StepCounts(**counts))
                for step, loss, scale, counts in saved["history"]
            ]
        except (KeyError, TypeError, ValueError, RuntimeError, IndexError) as error:
            raise InputError(f"{path}: not a checkpoint of this network: {error}") from None


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint; no code in it runs.

    Raises:
        InputError: a file that cannot be read or is no checkpoint.
    """
    saved = read_saved(path, "a checkpoint")
    if not isinstance(saved, dict) or not isinstance(saved.get("settings"), dict):
        raise InputError(f"{path}: not a checkpoint of hfp8sim train")
    return saved


def _settings_record(settings: Settings, recipe: Recipe) -> dict[str, Any]:
    """The settings as plain values; the recipe as its full text, so that a changed one does not resume."""
    plain = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    return plain | {"recipe": repr(recipe)}


def batches_of(data: Data, settings: Settings) -> Iterator[tuple[Tensor, Tensor]]:
    """The training batches of a run in order: inputs and targets."""
    return data.training_batches(settings.batch, settings.seed, settings.steps)


def batches_of_test_set(data: Data) -> Iterator[tuple[Tensor, Tensor]]:
    """The test set in batches; of a text, windows one after the other."""
    if data.test.targets is not None:
        for start in range(0, len(data.test), _TEST_BATCH):
            chosen = slice(start, start + _TEST_BATCH)
            yield data.test.inputs[chosen], data.test.targets[chosen]
        return
    starts = torch.arange(0, len(data.test) - WINDOW - 1, WINDOW)[:_TEST_WINDOWS]
    yield windows_at(data.test.inputs, starts, WINDOW)


class Trained(NamedTuple):
    """A network with the weights of a file."""

    model: nn.Module
    data: Data
    emulation: dict[str, Any] | None  #: scales and PACT's α of the run that trained it, if known


def trained_network(path: str | Path, network: str = "", data: str = "") -> Trained:
    """A network with the weights of a file, and its data.

    Args:
        path: as `read_weights`. A checkpoint of `hfp8sim train` names its network and data.
        network, data: of a file that does not name them, or in place of those that it names.

    Raises:
        InputError: as `read_weights` and `load_weights`; an unknown name; a file that names no network.
    """
    weights = read_weights(path)
    settings = weights.settings or {}
    network, data = network or settings.get("network", ""), data or settings.get("data", "")
    if not network or not data:
        raise InputError(f"{path} does not name its network and data: give --network and --data")
    source = load_data(data)
    model = load_weights(network_for(network, source), path, weights)
    return Trained(model, source, weights.emulation)


def network_for(name: str, data: Data) -> nn.Module:
    """A network for some data: one of ours, or the user's own."""
    if ":" not in name:
        if name == "transformer":
            if data.train.targets is not None:
                raise InputError(f"network {name} takes a text, and {data.name} has images")
            return make_network(name, data.classes)
        if name in NETWORKS and data.train.targets is None:
            raise InputError(f"network {name} takes images, and {data.name} is a text")
        return make_network(
            name, data.train.inputs.shape[1] if name in NETWORKS else 1, data.classes
        )
    try:
        make = pkgutil.resolve_name(name)
        if not callable(make):
            raise InputError(f"it is a {type(make).__name__}; it must be a function or a class")
        if _needs_arguments(make):
            raise InputError("it needs arguments; it must be a function or a class without any")
        model = make()
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"network {name}: {error}") from None
    if not isinstance(model, nn.Module):
        raise InputError(
            f"network {name} returned {type(model).__name__}; it must return a torch.nn.Module"
        )
    if not any(True for _ in model.parameters()):
        raise InputError(f"network {name} has no parameter to train")
    return model


def _needs_arguments(make: Callable[..., Any]) -> bool:
    """Whether a function or a class cannot be called without arguments, as far as its signature says."""
    try:
        inspect.signature(make).bind()
    except TypeError:
        return True
    except ValueError:  # compiled code has no signature
        return False
    return False
