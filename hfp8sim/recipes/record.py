"""The recipe: one record of everything that a training step rounds.

A profile says how one product is computed. A recipe says with which profile each layer's products are computed,
what is rounded before and after them, how the loss is scaled and how weights are updated.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hfp8sim.errors import InputError, located, unknown
from hfp8sim.files import read_toml
from hfp8sim.formats import FloatFormat
from hfp8sim.recipes.scale import LossScale
from hfp8sim.registry import Registry
from hfp8sim.units import Profile, get_profile
from hfp8sim.units.policy import parse
from hfp8sim.units.sites import Site
from hfp8sim.units.update import RULES, Update

#: Sites around the products, with their meaning. The first three default to the profile's operand formats.
OPERANDS = {
    "x": "activations, operands of fwd and wgrad",
    "w": "weights, operands of fwd and dgrad",
    "error": "errors, operands of dgrad and wgrad",
}
RESULTS = {
    "fwd-result": "results of fwd, if not kept in the accumulator's format",
    "dgrad-result": "results of dgrad, likewise",
    "wgrad-result": "results of wgrad, likewise",
}
#: In layers, beside the products. Binary32 unless a recipe sets them.
VECTORS = {
    "bias": "results of fwd plus the bias, if not binary32",
    "norm": "results of normalisation layers, likewise",
}
OTHERS = {
    "softmax": "a softmax's input less its maximum",
    "reduce": "a hop of a gradient's sum over learners",
}
#: Sites of the update, with their meaning.
UPDATES = {
    "unscale": "the gradient, divided by the loss scale",
    "decay": "the gradient plus weight decay",
    "momentum": "the first moment",
    "second-moment": "Adam's second moment",
    "update": "the weight",
    "residual": "what the weight's rounding lost",
}
SITES = {**OPERANDS, **RESULTS, **VECTORS, **OTHERS, **UPDATES}

#: Quantisers that an operand can have in place of a plain rounding (`hfp8sim.ops.quantisers`). Uniform ones take their bits from the
#: operand's format `fixedk.0`, or are written with them: `pact:4`.
QUANTISERS = {
    "pact": "clipped at a learnt α, uniform levels (Choi et al., 2018)",
    "sawb": "scaled by two moments, uniform levels (Choi et al., 2019)",
    "sawb-even": "the same without a level at zero",
    "radix4": "powers of 4, even grid for dgrad and odd grid for wgrad (Sun et al., NeurIPS 2020)",
    "luq": "powers of 2, unbiased (Chmiel et al., 2021)",
}
#: The operands that a quantiser can have.
_QUANTISED = {
    "pact": ("x",), "sawb": ("x", "w"), "sawb-even": ("x", "w"), "radix4": ("error",),
    "luq": ("x", "w", "error"),
}  # fmt: skip
#: The bits that a quantiser can have; the others have no choice of bits.
_BITS = {
    "pact": tuple(range(2, 9)), "sawb": (2, 3, 4, 5, 7, 8), "sawb-even": (2, 3, 4, 5, 8)
}  # fmt: skip
#: Holds the numbers of radix 4 and LUQ: 2^−7 … 2^8.
POWERS_OF_TWO = FloatFormat(
    "powers-of-2", 4, 0, 7, lowest="normal", special="none",
    source="container of radix-4 FP4 (choice)",
)  # fmt: skip

#: How the power-of-two scale of an operand is chosen.
SCALINGS = {
    "fixed": "the profile's, or what calibration has set",
    "tracked": "from the largest magnitude in the last steps",
    "layer": "doubled and halved from step to step (Sun et al., NeurIPS 2020)",
}

#: Fewer random bits than this at `update` shrink weights (docs/numerics.md, section 6).
_FEW_BITS = 16


def _means(text: str) -> dict[str, str]:
    return {"meaning": text}


class Quantiser(NamedTuple):
    """How an operand is quantised."""

    kind: str  #: a name of `QUANTISERS`
    bits: int = 0  #: of uniform levels; 0 for powers of two


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a training step rounds. The constructor raises `InputError` for what does not fit together.

    `sites` and `quantisers` name those that differ from the defaults; `site(name)` gives any.
    """

    name: str = dataclasses.field(metadata=_means("its name"))
    summary: str = dataclasses.field(default="", compare=False)
    profile: str | Profile = dataclasses.field(
        default="hfp8", metadata=_means("arithmetic of products; empty: binary32, not emulated")
    )
    policy: str = dataclasses.field(
        default="first=fp16,last=fp16", metadata=_means("layers with another profile, by rule")
    )
    rule: str = dataclasses.field(
        default="residual-wide", metadata=_means("update rule: " + ", ".join(RULES))
    )
    other_rule: str = dataclasses.field(
        default="master",
        metadata=_means(
            "update rule of biases and normalisations: master, or axpy, in the recipe's formats if its own rule is axpy, else in 1-6-9"
        ),
    )
    momentum_roundings: int = dataclasses.field(
        default=1, metadata=_means("1: μ·v + g in one; 2: μ·v first")
    )
    loss_scale: LossScale = dataclasses.field(
        default_factory=LossScale, metadata=_means("how the loss is scaled")
    )
    sites: Mapping[str, Site] = dataclasses.field(
        default_factory=dict, metadata=_means("sites that differ from the defaults")
    )
    quantisers: Mapping[str, str] = dataclasses.field(
        default_factory=dict, metadata=_means("quantisers of operands: " + ", ".join(QUANTISERS))
    )
    scalings: Mapping[str, str] = dataclasses.field(
        default_factory=dict, metadata=_means("scales of operands: " + ", ".join(SCALINGS))
    )
    choices: tuple[str, ...] = dataclasses.field(default=(), compare=False)  #: not in the paper

    def __post_init__(self) -> None:
        with located(f"recipe {self.name}"):
            if self.emulated:
                get_profile(self.profile)
                parse(self.policy)
            for name in self.sites:
                if name not in SITES:
                    raise unknown("site", name, list(SITES))
            for name, quantiser in self.quantisers.items():
                if name not in OPERANDS:
                    raise unknown("operand", name, list(OPERANDS))
                if name not in _QUANTISED[self._quantiser(name).kind]:
                    wanted = " or ".join(_QUANTISED[self._quantiser(name).kind])
                    raise InputError(f"quantiser {quantiser} is of {wanted}, not of {name}")
            for name, scaling in self.scalings.items():
                if name not in OPERANDS:
                    raise unknown("operand", name, list(OPERANDS))
                if scaling not in SCALINGS:
                    raise unknown("scaling", scaling, list(SCALINGS))
                if self.quantisers.get(name, "radix4") != "radix4":
                    raise InputError(
                        f"quantiser {self.quantisers[name]} of {name} sets its own scale"
                    )
            if self.other_rule not in ("master", "axpy"):
                raise unknown("other_rule", self.other_rule, ["master", "axpy"])
            self.update()

    def quantiser(self, operand: str) -> Quantiser | None:
        """The quantiser of an operand; None if it is rounded as its site says."""
        return self._quantiser(operand) if operand in self.quantisers else None

    def _quantiser(self, operand: str) -> Quantiser:
        text = self.quantisers[operand]
        kind, colon, bits = text.partition(":")
        if kind not in QUANTISERS:
            raise unknown("quantiser", kind, list(QUANTISERS))
        if kind not in _BITS:
            if colon:
                raise InputError(
                    f"quantiser {kind} has no choice of bits: {operand}.quantiser={kind}"
                )
            return Quantiser(kind)
        known = ", ".join(map(str, _BITS[kind]))
        site = self.site(operand)
        if not colon and site is not None and site.record.name == f"fixed{site.record.bits}.0":
            bits = str(site.record.bits)
        if bits not in [str(number) for number in _BITS[kind]]:
            raise InputError(
                f"quantiser {text} of {operand} needs bits, one of {known}: {operand}.quantiser={kind}:4"
            )
        return Quantiser(kind, int(bits))

    def scaling(self, operand: str) -> str:
        """How an operand's scale is chosen, a name of `SCALINGS`."""
        default = "layer" if self.quantisers.get(operand) == "radix4" else "fixed"
        return self.scalings.get(operand, default)

    @property
    def emulated(self) -> bool:
        """Whether products are emulated."""
        return self.profile != ""

    def site(self, name: str) -> Site | None:
        """How a site rounds; None if it does not.

        Raises:
            InputError: an unknown name.
        """
        if name not in SITES:
            raise unknown("site", name, list(SITES))
        if name in self.sites:
            return self.sites[name]
        if name in UPDATES:
            return RULES[self.rule].sites.get(name)
        if not self.emulated or name in RESULTS or name in VECTORS:
            return None
        return self._operand(name) if name in OPERANDS else Site()

    def _operand(self, name: str) -> Site:
        """An operand's site by the profile."""
        profile = get_profile(self.profile)
        formats = {"x": profile.a_format, "w": profile.b_format, "error": profile.error_format}
        return Site(
            formats[name], profile.operand_rounding, profile.operand_overflow, profile.random_bits
        )

    def update(self, optimiser: str = "sgd", *, nesterov: bool = False) -> Update:
        """How weights are updated by an optimiser, `sgd` or `adam`."""
        known = RULES[self.rule].sites if self.rule in RULES else {}
        return Update(
            self.rule,
            optimiser,
            {name: site for name, site in self.sites.items() if name in known},
            momentum_roundings=self.momentum_roundings if optimiser == "sgd" else 1,
            nesterov=nesterov,
        )

    def other_update(self, optimiser: str = "sgd", *, nesterov: bool = False) -> Update:
        """How biases, normalisations and layers that are kept are updated."""
        if self.other_rule == self.rule == "axpy":
            return self.update(optimiser, nesterov=nesterov)
        return Update(self.other_rule, optimiser, nesterov=nesterov)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Settings that are allowed and seldom wanted, a line each."""
        site = self.site("update")
        if site is not None and site.stochastic and site.random_bits < _FEW_BITS:
            return (
                f"recipe {self.name}: {site.random_bits} random bits at update shrink small weights and never"
                f" let them grow; {_FEW_BITS} or more do not",
            )
        return ()

    def replace(self, **changes: Any) -> Recipe:
        """Another recipe with some values changed, by dotted key; `InputError` for an unknown key.

        Keys are the fields of `MEANINGS`, `SITE.format`, `SITE.rounding`, `SITE.overflow`, `SITE.random_bits`,
        `SITE.quantiser`, `SITE.scaling`, and `loss_scale.FIELD`: `replace(**{"update.random_bits": 16, "rule": "axpy"})`. A site that was not
        rounded starts from the record `Site()`.
        """
        top: dict[str, Any] = {}
        parts: dict[str, dict[str, Any]] = {}  # changes of records, by their owner
        for key, value in changes.items():
            owner, dot, field = key.rpartition(".")
            if not (key in MEANINGS if not dot else field in _fields_of(owner)):
                raise unknown("recipe key", key, keys())
            if dot:
                parts.setdefault(owner, {})[field] = value
            else:
                top[key] = value
        base = dataclasses.replace(
            self, **{k: v for k, v in top.items() if k in ("rule", "profile")}
        )
        sites, quantisers, scalings = (
            dict(self.sites), dict(self.quantisers), dict(self.scalings),
        )  # fmt: skip
        for owner, fields in parts.items():
            if owner == "loss_scale":
                top[owner] = dataclasses.replace(self.loss_scale, **fields)
                continue
            if "quantiser" in fields:
                quantisers[owner] = fields.pop("quantiser")
            if "scaling" in fields:
                scalings[owner] = fields.pop("scaling")
            if fields:
                site = sites.get(owner) or base.site(owner) or Site()
                sites[owner] = dataclasses.replace(site, **fields)
        top.setdefault("sites", sites)
        top.setdefault("quantisers", {k: v for k, v in quantisers.items() if v})
        top.setdefault("scalings", {k: v for k, v in scalings.items() if v})
        return dataclasses.replace(self, **top)


#: The meaning of each field that `replace` and a TOML file take.
MEANINGS: dict[str, str] = {
    field.name: field.metadata["meaning"] for field in dataclasses.fields(Recipe) if field.metadata
}
_SITE_FIELDS = tuple(field.name for field in dataclasses.fields(Site))
_LOSS_FIELDS = tuple(field.name for field in dataclasses.fields(LossScale))


def _fields_of(owner: str) -> tuple[str, ...]:
    """The fields of a dotted key's owner."""
    if owner == "loss_scale":
        return _LOSS_FIELDS
    if owner in SITES:
        return (*_SITE_FIELDS, "quantiser", "scaling") if owner in OPERANDS else _SITE_FIELDS
    return ()


RECIPES: Registry[Recipe] = Registry("recipe")


def keys() -> list[str]:
    """Every key that `Recipe.replace` takes."""
    plain = [
        key for key in MEANINGS if key not in ("loss_scale", "sites", "quantisers", "scalings")
    ]
    sites = [f"{site}.{field}" for site in SITES for field in _SITE_FIELDS]
    return [
        *plain, *sites, *(f"{name}.quantiser" for name in OPERANDS),
        *(f"{name}.scaling" for name in OPERANDS),
        *(f"loss_scale.{field}" for field in _LOSS_FIELDS),
    ]  # fmt: skip


def register_recipe(recipe: Recipe) -> Recipe:
    """Make a recipe known by its name, and return it; `InputError` if another one has that name."""
    return RECIPES.register(recipe)


def recipes() -> list[str]:
    """Names of all recipes, in order of registration."""
    return RECIPES.names()


def get_recipe(name: str | Path | Recipe) -> Recipe:
    """The recipe with that name, or of that TOML file; a record is returned as it is."""
    if isinstance(name, Recipe):
        return name
    if str(name).endswith(".toml"):
        return load_recipe(name)
    return RECIPES.find(str(name))


def load_recipe(path: str | Path) -> Recipe:
    """The recipe of a TOML file.

    Top-level keys: `name`, `summary`, `base` (a recipe that it changes; fp32 by default), `profile` (a name, or a TOML
    file by its path from this one's folder), `policy`, `rule`, `other_rule`, `momentum_roundings`. Tables: `[site.NAME]` with `format`,
    `rounding`, `overflow`, `random_bits`, `quantiser`, `scaling`, and `[loss_scale]`.

    Raises:
        InputError: the file cannot be read, is not TOML, has an unknown key, or makes no recipe.
    """
    tables = read_toml(path)
    with located(path):
        return _from_tables(tables, Path(path).stem, Path(path).parent)


def _from_tables(tables: dict[str, Any], stem: str, folder: Path) -> Recipe:
    base, summary = tables.pop("base", "fp32"), tables.pop("summary", "")
    if not isinstance(base, str) or not isinstance(summary, str):
        raise InputError("base and summary must be texts")
    changes: dict[str, Any] = {"name": stem}
    for section, prefix in (("site", ""), ("loss_scale", "loss_scale.")):
        table = tables.pop(section, {})
        if not isinstance(table, dict):
            raise InputError(f"[{section}] must be a table")
        for key, value in table.items():
            if section == "loss_scale":
                changes[prefix + key] = value
                continue
            if not isinstance(value, dict):
                raise InputError(f"[site.{key}] must be a table")
            changes |= {f"{key}.{field}": x for field, x in value.items()}
    checked = _typed(changes | tables)
    if str(checked.get("profile", "")).endswith(".toml"):  # a path from the recipe's own folder
        checked["profile"] = get_profile(folder / checked["profile"])
    recipe = get_recipe(base).replace(**checked)
    return dataclasses.replace(recipe, summary=summary, choices=())


def _typed(changes: dict[str, Any]) -> dict[str, Any]:
    """The changes; `InputError` for a value of another type than the key's."""
    for key, value in changes.items():
        field = key.rpartition(".")[2]
        wanted: tuple[type, ...] = (str,)
        if field in ("random_bits", "momentum_roundings", "interval"):
            wanted = (int,)
        elif field == "floors":
            wanted = (list, tuple)
        elif key.startswith("loss_scale.") and field != "kind":
            wanted = (int, float)
        if type(value) not in wanted and key in keys():
            names = " or ".join(kind.__name__ for kind in wanted)
            raise InputError(f"{key} must be of type {names}")
    return changes


def changed_recipe(recipe: str | Path | Recipe, assignments: list[str]) -> Recipe:
    """A recipe with values replaced by texts `key=value`, one or more with commas between.

    Raises:
        InputError: an unknown recipe or key, or a value that the key cannot take.
    """
    base = get_recipe(recipe)
    changes: dict[str, Any] = {}
    for text in ",".join(assignments).split(","):
        if not text.strip():
            continue
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals:
            raise InputError(f"--set {text!r}: write it as key=value")
        changes[key] = _value(key, value)
    return base.replace(**changes) if changes else base


def _value(key: str, text: str) -> Any:
    """The value of a text, typed as the key is."""
    field = key.rpartition(".")[2]
    kind: type = str
    if field in ("random_bits", "momentum_roundings", "interval"):
        kind = int
    elif key.startswith("loss_scale.") and field not in ("kind", "floors"):
        kind = float
    elif field == "floors":
        raise InputError("--set loss_scale.floors: write floors into a TOML file")
    try:
        return kind(text)
    except ValueError:
        what = "an integer" if kind is int else "a number"
        raise InputError(f"--set {key}={text}: {key} must be {what}") from None
