"""`convert`: the layers of a PyTorch model become emulated ones, in place."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from hfp8sim.errors import InputError, located, unknown
from hfp8sim.recipes import Recipe, get_recipe, recipes
from hfp8sim.training import attention, layers, recurrent, steps
from hfp8sim.training.emulation import NUMBERS_PER_MODULE, Arithmetic, Emulation, Products
from hfp8sim.training.encoding import learns_alpha
from hfp8sim.training.interception import NormalisedResult, Scope, not_emulated
from hfp8sim.units.policy import PolicyLike, rule_pairs
from hfp8sim.units.profile import Profile, get_profile, profiles
from hfp8sim.units.sites import BINARY32

#: What a policy gives to a layer that PyTorch computes in binary32.
KEEP = "keep"

#: The emulated class of each class of torch.nn.
EMULATED: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: layers.Linear,
    nn.Conv1d: layers.Conv1d,
    nn.Conv2d: layers.Conv2d,
    nn.Conv3d: layers.Conv3d,
    nn.ConvTranspose1d: layers.ConvTranspose1d,
    nn.ConvTranspose2d: layers.ConvTranspose2d,
    nn.ConvTranspose3d: layers.ConvTranspose3d,
    nn.MultiheadAttention: attention.MultiheadAttention,
    nn.RNN: recurrent.RNN,
    nn.LSTM: recurrent.LSTM,
    nn.GRU: recurrent.GRU,
    nn.RNNCell: recurrent.RNNCell,
    nn.LSTMCell: recurrent.LSTMCell,
    nn.GRUCell: recurrent.GRUCell,
}
_PLAIN = {emulated: plain for plain, emulated in EMULATED.items()}

#: Normalisations whose results a recipe may round.
_NORMALISATIONS = (
    nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm, nn.RMSNorm,
)  # fmt: skip

#: Layers whose input PACT clips at a trained α.
_CLIPPED = (nn.Linear, nn.modules.conv._ConvNd)

#: Classes whose parameters a layer of torch.nn uses itself: their own forward pass never runs.
_PARTS_OF_LAYERS = (nn.modules.linear.NonDynamicallyQuantizableLinear,)

#: Classes with products that are not emulated.
UNSUPPORTED = (nn.Bilinear, nn.modules.lazy.LazyModuleMixin)

#: What a layer gets: a profile, KEEP, or None: the recipe's own arithmetic.
Value = Profile | str | None
Rule = tuple[str, Value]


def convert(
    model: nn.Module,
    recipe: str | Recipe | Profile = "hfp8",
    *,
    policy: PolicyLike | None = None,
    seed: int = 0,
    threads: int | None = None,
    first_step: int = 1,
) -> nn.Module:
    """Let the emulator compute every matrix product of a model, forward and backward.

    Parameters, buffers, names and `state_dict` stay as they are; `restore` undoes it. A converted model may be
    converted again, with other settings.

    Args:
        model: changed in place. Linear and convolution layers become emulated ones; matmul, einsum, linear and
            attention in the code of its modules are emulated too.
        recipe: what is rounded where, by name, TOML file or record. Or a profile, by a name that is no recipe's or
            as a record: then only the products and their operands are rounded, and there is no policy.
        policy: exceptions in place of the recipe's, as `first=fp16,last=fp16,depthwise=fp16,head.*=keep`: `first` and `last` are the
            first and last layer with weights, in the order of `model.modules()`; `depthwise` are convolutions
            with one channel a group; anything else is a pattern of module names. `keep` leaves a layer to
            PyTorch. The first rule that fits a layer holds.
        seed: of all random words, 0 ≤ seed < 2^64.
        threads: worker threads of a product; as many as PyTorch uses by default. No result depends on it.
        first_step: number of the first training step; it enters the random words.

    Returns:
        The model.

    Raises:
        InputError: a layer that cannot be emulated and that the policy does not keep, an unknown profile, a
            rule that fits no module.
    """
    check_module(model)
    recipe = recipe_of(recipe)
    restore(model)
    if not recipe.emulated:
        return model
    rules = _parse(recipe.policy if policy is None else policy)
    named = [(name or type(model).__name__, module) for name, module in model.named_modules()]
    chosen = _assign(named, rules)
    for (name, module), fitting in zip(named, chosen):
        _require_supported(name, module, fitting)
    emulation = Emulation(seed, threads, first_step)
    for number, ((name, module), fitting) in enumerate(zip(named, chosen)):
        emulated = EMULATED.get(type(module))
        arithmetic = None if isinstance(fitting, str) else Arithmetic.of(recipe, fitting)
        if emulated is not None and arithmetic is not None:
            module.__class__ = emulated
            module.products = Products(name, arithmetic, number * NUMBERS_PER_MODULE, emulation)  # type: ignore[assignment]
            if learns_alpha(arithmetic.quantisers.get("x")) and isinstance(module, _CLIPPED):
                emulation.scales.add_alpha(name)
        elif _computes(module):
            _intercept(module, Scope(name, number, arithmetic, emulation))
        if isinstance(module, _NORMALISATIONS) and arithmetic is not None and arithmetic.norm:
            products = Products(name, arithmetic, number * NUMBERS_PER_MODULE, emulation)
            module.register_forward_hook(NormalisedResult(products).round)
    steps.count(model, emulation)
    return model


def check_module(model: Any) -> None:
    """`InputError` unless the argument `model` is a module of PyTorch."""
    if not isinstance(model, nn.Module):
        raise InputError(f"model is {type(model).__name__}; it must be a torch.nn.Module")


def recipe_of(recipe: str | Recipe | Profile) -> Recipe:
    """A recipe by name, file or record; or the recipe of a profile alone."""
    if isinstance(recipe, str) and recipe not in recipes() and recipe in profiles():
        recipe = get_profile(recipe)
    if isinstance(recipe, Profile):
        return Recipe(recipe.name, profile=recipe, policy="", sites={"softmax": BINARY32})
    return get_recipe(recipe)


def restore(model: nn.Module) -> nn.Module:
    """Undo `convert`: PyTorch computes everything again. A model that is not converted stays as it is."""
    check_module(model)
    for module in model.modules():
        plain = _PLAIN.get(type(module))
        if plain is not None:
            module.__class__ = plain
            del module.products
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            for number in [
                n
                for n, hook in hooks.items()
                if isinstance(getattr(hook, "__self__", None), Scope | NormalisedResult)
            ]:
                del hooks[number]
                module._forward_hooks_always_called.pop(number, None)
    steps.forget(model)
    return model


def describe(model: nn.Module) -> list[dict[str, str]]:
    """For each emulated layer of a model its `name`, `kind` and `profile`, in the order of `model.modules()`."""
    check_module(model)
    return [
        {"name": name, "kind": type(module).__name__, "profile": module.products.profile.name}
        for name, module in model.named_modules()
        if type(module) in _PLAIN
    ]


def emulation_of(model: nn.Module) -> Emulation:
    """What the layers of a converted model share: seed, step, scales.

    Raises:
        InputError: a model without emulated products.
    """
    emulation = find_emulation(model)
    if emulation is None:
        raise InputError("the model is not converted: hfp8sim.training.convert(model)")
    return emulation


def find_emulation(model: nn.Module) -> Emulation | None:
    """What the layers and the functions of a converted model share; None of a model that is not converted.

    Raises:
        InputError: no module of PyTorch.
    """
    check_module(model)
    for module in model.modules():
        if is_emulated(module):
            emulation: Emulation = module.products.emulation
            return emulation
        for hook in module._forward_pre_hooks.values():
            scope = getattr(hook, "__self__", None)
            if isinstance(scope, Scope):
                return scope.emulation
    return None


def quantiser_parameters(model: nn.Module) -> list[Any]:
    """The trained parameters of a converted model's quantisers, PACT's α, which are not in `model.parameters()`.

    `make_optimiser` has them; give them to any other optimiser.
    """
    check_module(model)
    found: dict[int, Any] = {}
    for module in model.modules():
        if is_emulated(module):
            emulation = module.products.emulation
            found |= {id(alpha): alpha for alpha in emulation.scales.alphas.values()}
    return list(found.values())


def last_layer(model: nn.Module) -> Any:
    """The last layer with weights, in the order of `model.modules()`, if it is emulated."""
    kinds = (*EMULATED, *EMULATED.values())
    weighted = [module for module in model.modules() if type(module) in kinds]
    return weighted[-1] if weighted and is_emulated(weighted[-1]) else None


def weight_parts(module: nn.Module) -> dict[str, list[tuple[Products, Any]]]:
    """For each weight parameter of an emulated layer, the products that it enters, each with its rows of the parameter."""
    products: Products = module.products
    if isinstance(module, nn.MultiheadAttention):
        return attention.weight_parts(module, products)
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return recurrent.weight_parts(module, products)
    return {"weight": [(products, module.weight)]}


def plain_forward(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """What PyTorch computes in place of an emulated layer."""
    plain = _PLAIN[type(module)]
    with not_emulated():
        return plain.forward(module, *args, **kwargs)


def is_emulated(module: nn.Module) -> bool:
    """Whether `convert` has made a layer an emulated one."""
    return type(module) in _PLAIN


def _computes(module: nn.Module) -> bool:
    """Whether a module's own code may compute products: not if it is a simple one of torch.nn."""
    simple = type(module).__module__.startswith("torch.nn.modules") and not [*module.children()]
    return not simple or isinstance(module, (*EMULATED, *UNSUPPORTED))


def _intercept(module: nn.Module, scope: Scope) -> None:
    """Let a scope know when the code of a module runs."""
    module.register_forward_pre_hook(scope.enter, prepend=True)
    module.register_forward_hook(scope.leave, always_call=True)


def _require_supported(name: str, module: nn.Module, value: Value) -> None:
    """Raises InputError for a layer that is to be emulated and cannot be."""
    if value == KEEP or isinstance(module, _PARTS_OF_LAYERS):
        return
    if isinstance(module, torch.jit.ScriptModule):
        raise InputError(f"module {name} is scripted: convert the model before torch.jit.script")
    weighted = tuple(EMULATED)
    foreign = (
        isinstance(module, weighted)
        and type(module) not in EMULATED
        and type(module).forward in [plain.forward for plain in EMULATED]
    )
    if isinstance(module, nn.MultiheadAttention) and (
        module.bias_k is not None or module.add_zero_attn
    ):
        raise InputError(
            f"layer {name}: add_bias_kv and add_zero_attn are not emulated: policy {name}={KEEP} leaves it to PyTorch"
        )
    if foreign or isinstance(module, UNSUPPORTED):
        raise InputError(
            f"layer {name} is {type(module).__name__}, which is not emulated: policy {name}={KEEP} leaves it to PyTorch"
        )


# -- policy ------------------------------------------------------------------------------------------


def _parse(policy: PolicyLike) -> list[Rule]:
    """The rules of a policy in order."""
    rules: list[Rule] = []
    for rule, value in rule_pairs(policy):
        with located(f"policy {rule}"):
            rules.append((rule, KEEP if value == KEEP else get_profile(value)))
    return rules


def _assign(named: list[tuple[str, nn.Module]], rules: list[Rule]) -> list[Value]:
    """What the first rule that fits gives to every module."""
    weighted = [module for _, module in named if type(module) in EMULATED]
    words: dict[str, Callable[[nn.Module], bool]] = {
        "first": lambda module: bool(weighted) and module is weighted[0],
        "last": lambda module: bool(weighted) and module is weighted[-1],
        "depthwise": _is_depthwise,
    }
    for rule, _ in rules:
        if rule not in words and not any(fnmatch.fnmatchcase(name, rule) for name, _ in named):
            raise unknown("policy rule", rule, [*words, *(name for name, _ in named)])
    chosen: list[Value] = []
    for name, module in named:
        fitting = [
            value
            for rule, value in rules
            if (words[rule](module) if rule in words else fnmatch.fnmatchcase(name, rule))
        ]
        chosen.append(fitting[0] if fitting else None)
    return chosen


def _is_depthwise(module: Any) -> bool:
    convolution = isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    return convolution and module.groups == module.in_channels and module.groups > 1
