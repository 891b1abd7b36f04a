"""Optimisers whose every sum is rounded as a recipe says: SGD, Adam and AdamW; and hooks for any other.

docs/numerics.md, section 6, defines the sites, their order and their random words.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch

from hfp8sim.errors import InputError
from hfp8sim.ops import updates
from hfp8sim.recipes import LossScale, Recipe, ScaleState, get_recipe
from hfp8sim.training import steps
from hfp8sim.units.sites import Place, Site, Values
from hfp8sim.units.update import Constants, Counts, Slot, Update

Tensor = Any  #: PyTorch's
#: The name of each state tensor in an optimiser's state; those of PyTorch's optimisers where there are any.
_STATE = {
    Slot.RESIDUAL: ("residual", "residual"),
    Slot.MOMENTUM: ("momentum", "momentum_buffer"),
    Slot.SECOND: ("second", "exp_avg_sq"),
}


@dataclasses.dataclass
class StepCounts:
    """What one step of an optimiser did."""

    skipped: bool = False  #: a gradient held an infinity or a NaN
    weights: int = 0
    stuck: int = 0  #: weights that stayed, though binary32 would have moved them
    overflowed: dict[str, int] = dataclasses.field(default_factory=dict)  #: by site
    underflowed: dict[str, int] = dataclasses.field(default_factory=dict)  #: by site

    def add(self, weights: int, counts: Counts) -> None:
        """Add the counts of one tensor."""
        self.weights += weights
        self.stuck += counts.stuck
        for mine, theirs in (
            (self.overflowed, counts.overflowed),
            (self.underflowed, counts.underflowed),
        ):
            for site, number in theirs.items():
                mine[site] = mine.get(site, 0) + number

    @property
    def stuck_share(self) -> float:
        """Stuck weights among all."""
        return self.stuck / self.weights if self.weights else 0.0


class Optimiser(torch.optim.Optimizer):
    """What SGD and Adam share: the state, the loss scale, and one update of each tensor."""

    def __init__(
        self, params: Iterable[Any], defaults: dict[str, Any], update: Update, loss_scale: Any, seed: int,
        threads: int | None, count_stuck: bool,
    ) -> None:  # fmt: skip
        rate = defaults["lr"]
        try:
            usable = rate >= 0 and math.isfinite(rate)
        except TypeError:  # neither a number nor a tensor of one
            usable = False
        if not usable:
            raise InputError(f"lr is {rate!r:.60}; it must be at least 0 and finite")
        self.loss_scale = _loss_scale(loss_scale)
        self.scale = self.loss_scale.begin()
        self.seed, self.threads, self.count_stuck = seed, threads, count_stuck
        self.counts = StepCounts()
        self.stuck: dict[
            int, float
        ] = {}  # by number of the parameter: its stuck share in the last step
        self.steps_taken = 0
        super().__init__(params, {**defaults, "update": update})
        for number, (group, parameter) in enumerate(self._parameters()):
            self._start(parameter, group["update"], number)

    def _parameters(self) -> list[tuple[dict[str, Any], Any]]:
        """Every parameter with its group; its index is its tensor's number in the random words."""
        return [(group, p) for group in self.param_groups for p in group["params"]]

    @torch.no_grad()
    def _start(self, parameter: Any, update: Update, number: int) -> None:
        """Round a weight to its format, and keep what was lost as its residual."""
        weight, residual = updates.start(update, _array(parameter), seed=self.seed, tensor=number)
        parameter.copy_(torch.from_numpy(weight))
        if residual is not None:
            self.state[parameter]["residual"] = torch.from_numpy(residual)

    def backward(self, loss: Tensor) -> None:
        """The gradients of the loss, times the loss scale."""
        (loss * self.scale.scale).backward()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters, unless a gradient holds an infinity or a NaN; `counts` tells what it did.

        Gradients are those of the loss times the loss scale, which the update divides by. They are not changed.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        used = [(n, g, p) for n, (g, p) in enumerate(self._parameters()) if p.grad is not None]
        self.counts = StepCounts()
        if not all(bool(torch.isfinite(p.grad).all()) for _, _, p in used):
            self.counts.skipped = True
        else:
            self.steps_taken += 1
            for number, group, parameter in used:
                self._update(number, group, parameter)
        self.scale = self.loss_scale.advance(self.scale, self.counts.skipped)
        return loss

    def _update(self, number: int, group: dict[str, Any], parameter: Any) -> None:
        weight = _array(parameter)
        self._update_part(number, group, parameter, weight, _array(parameter.grad))
        if not np.shares_memory(weight, parameter.detach().numpy()):
            parameter.copy_(torch.from_numpy(weight))
        else:
            torch.autograd.graph.increment_version(parameter)

    def _update_part(
        self, number: int, group: dict[str, Any], parameter: Any, weight: Values, gradient: Values,
        part: slice | None = None,
    ) -> None:  # fmt: skip
        """Update a parameter's weights, or some of them, and their state; `counts` is added to."""
        update, constants = group["update"], self._constants(group)
        state, given = self.state[parameter], {}
        for slot in update.state(constants):
            argument, name = _STATE[slot]
            if name not in state:
                # Memory of a part that is never updated is never touched, so it takes no room.
                state[name] = torch.from_numpy(np.zeros(parameter.shape, np.float32))
            given[argument] = state[name].numpy()
        try:
            counts = updates.update(
                update, constants, weight, gradient, **given,
                seed=self.seed, step=self.steps_taken, tensor=number, part=part,
                stuck=self.count_stuck, threads=self.threads or torch.get_num_threads(),
            )  # fmt: skip
        except InputError as error:
            raise InputError(
                f"parameter {number} of shape {tuple(parameter.shape)}: {error}"
            ) from None
        size = parameter.numel() if part is None else part.stop - part.start
        self.counts.add(size, counts)
        share = counts.stuck / max(parameter.numel(), 1)
        self.stuck[number] = share if part is None else self.stuck.get(number, 0.0) + share

    @property
    def divisor(self) -> float:
        """What gradients are divided by before the update: the loss scale."""
        return self.scale.scale

    def _constants(self, group: dict[str, Any]) -> Constants:
        raise NotImplementedError

    # -- state ---------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """As PyTorch's, with the loss scale and the number of steps. `weights_only=True` loads it."""
        state: dict[str, Any] = super().state_dict()
        for group in state["param_groups"]:
            del group["update"]  # a setting, as the class of the optimiser is
        own = {"steps_taken": self.steps_taken, "scale": tuple(self.scale)}
        return {**state, "hfp8sim": own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume: the converted models of these parameters go on from the step that was saved, too.

        Raises:
            InputError: the state of another kind of optimiser.
        """
        own = state_dict.get("hfp8sim")
        if own is None:
            raise InputError("this state was not saved by an optimiser of hfp8sim.training")
        groups = [
            {**group, "update": mine["update"]}
            for group, mine in zip(state_dict["param_groups"], self.param_groups, strict=True)
        ]
        super().load_state_dict({"state": state_dict["state"], "param_groups": groups})
        self.steps_taken = own["steps_taken"]
        self.scale = ScaleState(*own["scale"])
        steps.resume(self, self.steps_taken + 1)


def _loss_scale(value: Any) -> LossScale:
    """A loss scale: a record, or a number that is used always."""
    return value if isinstance(value, LossScale) else LossScale("static", start=value)


def _array(parameter: Any) -> np.ndarray:
    """A parameter's memory; a copy where it is not contiguous."""
    values: np.ndarray = parameter.detach().contiguous().numpy()
    return values


class SGD(Optimiser):
    """Stochastic gradient descent with every sum a rounding site.

    Args:
        params, lr, momentum, dampening, weight_decay, nesterov: as `torch.optim.SGD`.
        update: the rule, by name or as a record; a parameter group may have its own under `update`.
        loss_scale: a number, or a `hfp8sim.recipes.LossScale`; use `optimiser.backward(loss)`. `optimiser.scale` is
            its state.
        seed: of the stochastic roundings.
        threads: None: as many as PyTorch uses. No result depends on it.
        count_stuck: count weights that stay though binary32 would move them (a third slower).

    Raises:
        InputError: settings that do not fit together.
    """

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, momentum: float = 0.0, dampening: float = 0.0,
        weight_decay: float = 0.0, nesterov: bool = False, *, update: str | Update = "residual-wide",
        loss_scale: Any = 1.0, seed: int = 0, threads: int | None = None, count_stuck: bool = False,
    ) -> None:  # fmt: skip
        if isinstance(update, str):
            update = Update(update, "sgd", nesterov=nesterov)
        defaults = {
            "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay,
        }  # fmt: skip
        super().__init__(params, defaults, update, loss_scale, seed, threads, count_stuck)

    def _constants(self, group: dict[str, Any]) -> Constants:
        return Constants.for_sgd(
            float(group["lr"]), momentum=group["momentum"], dampening=group["dampening"],
            decay=group["weight_decay"], scale=self.divisor,
        )  # fmt: skip


class Adam(Optimiser):
    """Adam, or with `decoupled` AdamW, with every sum a rounding site.

    Args:
        params, lr, betas, eps, weight_decay: as `torch.optim.Adam`.
        decoupled: weight decay as AdamW's.
        update, loss_scale, seed, threads, count_stuck: as `SGD`.

    Raises:
        InputError: settings that do not fit together.
    """

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8, weight_decay: float = 0.0, *, decoupled: bool = False,
        update: str | Update = "residual-wide", loss_scale: Any = 1.0, seed: int = 0,
        threads: int | None = None, count_stuck: bool = False,
    ) -> None:  # fmt: skip
        if isinstance(update, str):
            update = Update(update, "adam")
        defaults = {
            "lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay,
            "decoupled": decoupled,
        }  # fmt: skip
        super().__init__(params, defaults, update, loss_scale, seed, threads, count_stuck)

    def _constants(self, group: dict[str, Any]) -> Constants:
        return Constants.for_adam(
            float(group["lr"]), self.steps_taken, betas=group["betas"], epsilon=group["eps"],
            decay=group["weight_decay"], decoupled=group["decoupled"], scale=self.divisor,
        )  # fmt: skip


def make_optimiser(
    model: Any, recipe: str | Recipe, kind: str = "sgd", *, lr: float, **settings: Any
) -> Optimiser:
    """The optimiser of a converted model as a recipe says: its rule, its sites and its loss scale.

    Weights of emulated layers follow the recipe's rule, in the wider of the rule's format and the layer's own; biases,
    normalisations and other layers follow its `other_rule`.

    Args:
        recipe: name, TOML file or record.
        kind: `sgd` or `adam`.
        lr, settings: as those of `SGD` or `Adam`.

    Raises:
        InputError: an unknown recipe or kind.
    """
    classes: dict[str, Any] = {"sgd": SGD, "adam": Adam}
    settings = settings_of_recipe(model, get_recipe(recipe), kind, **settings)
    optimiser: Optimiser = classes[kind](lr=lr, **settings)
    return optimiser


def settings_of_recipe(model: Any, recipe: Recipe, kind: str, **settings: Any) -> dict[str, Any]:
    """Arguments of an optimiser as a recipe says: parameter groups with their rules, and the loss scale; and `settings`."""
    nesterov = settings.get("nesterov", False)
    update = recipe.update(kind, nesterov=nesterov)
    groups = parameter_groups(model, update, recipe.other_update(kind, nesterov=nesterov))
    return dict(params=groups, update=update, loss_scale=recipe.loss_scale, **settings)


def parameter_groups(
    model: Any, update: Update, other: Update | None = None
) -> list[dict[str, Any]]:
    """Parameter groups: the weights of emulated layers by one rule, all other parameters by another.

    If the weights among a layer's operands have more bits than the rule's site `update`, the layer's stored weights
    have this wider format: docs/numerics.md, section 6.

    Args:
        update: of every parameter with two or more axes that belongs to an emulated layer.
        other: of biases, normalisations and layers that are kept; `master` by default. PACT's α always follow `master`.
    """
    from hfp8sim.training.conversion import check_module, is_emulated, quantiser_parameters

    check_module(model)
    master = Update("master", update.optimiser, nesterov=update.nesterov)
    other = master if other is None else other
    weights: list[Any] = []
    wide: dict[str, tuple[Update, list[Any]]] = {}
    rest: list[Any] = []
    seen: set[int] = set()
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            if id(parameter) in seen:
                continue
            seen.add(id(parameter))
            if not (is_emulated(module) and parameter.ndim > 1):
                rest.append(parameter)
                continue
            own = module.products.arithmetic.operands["w"].record
            if own.bits > update.sites["update"].record.bits:
                site = dataclasses.replace(update.sites["update"], format=own)
                rule = dataclasses.replace(update, sites={**update.sites, "update": site})
                wide.setdefault(own.name, (rule, []))[1].append(parameter)
            else:
                weights.append(parameter)
    groups = [
        {"params": weights, "update": update},
        *({"params": some, "update": rule} for rule, some in wide.values()),
        {"params": rest, "update": other},
        {"params": quantiser_parameters(model), "update": master},
    ]
    return [group for group in groups if group["params"]]


def round_updates(
    optimiser: Any,
    weight: Site | None = None,
    state: dict[str, Site] | None = None,
    *,
    seed: int = 0,
) -> Any:
    """Round the weights of any optimiser of PyTorch after each of its steps.

    The step itself is computed in binary32 by PyTorch; then each weight is rounded at site `update`, and each
    state tensor that is named at `momentum`.

    Args:
        weight: of all parameters; 1-6-9, stochastic by default.
        state: by name in the optimiser's state, as `exp_avg`; none by default.
        seed: of the stochastic roundings.

    Returns:
        A handle; its `remove()` ends the rounding.
    """
    rule = Update("axpy", "sgd", {"update": weight} if weight else {})
    count = 0

    @torch.no_grad()
    def after(stepped: Any, args: Any, kwargs: Any) -> None:
        nonlocal count
        count += 1
        number = 0
        for group in stepped.param_groups:
            for parameter in group["params"]:
                rounded = updates.round_at(
                    Place.UPDATE,
                    _array(parameter),
                    rule.sites["update"],
                    seed=seed,
                    step=count,
                    tensor=number,
                )
                parameter.copy_(torch.from_numpy(rounded))
                for name, site in (state or {}).items():
                    held = stepped.state[parameter].get(name)
                    if held is not None:
                        values = updates.round_at(
                            Place.MOMENTUM, _array(held), site, seed=seed, step=count, tensor=number
                        )
                        held.copy_(torch.from_numpy(values))
                number += 1

    return optimiser.register_step_post_hook(after)
