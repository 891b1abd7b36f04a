"""Recipes in words: rows of the table, of a recipe's details, and the same as JSON's values."""

from __future__ import annotations

from typing import Any

from hfp8sim.recipes.record import OPERANDS, SITES, Recipe, get_recipe, recipes
from hfp8sim.units import get_profile

#: Headings of the overview.
OVERVIEW_HEADINGS = (
    "recipe", "profile", "x", "w", "error", "update", "weight", "loss scale", "what it is",
)  # fmt: skip
_NONE = "–"


def overview_rows() -> list[tuple[str, ...]]:
    """A row of texts for each recipe."""
    return [_row(get_recipe(name)) for name in recipes()]


def _row(recipe: Recipe) -> tuple[str, ...]:
    sites = [recipe.site(name) for name in (*OPERANDS, "update")]
    formats = [site.record.name if site else _NONE for site in sites]
    return (
        recipe.name, _profile(recipe), *formats[:3], recipe.rule, formats[3], recipe.loss_scale.text,
        recipe.summary,
    )  # fmt: skip


def _profile(recipe: Recipe) -> str:
    return get_profile(recipe.profile).name if recipe.emulated else _NONE


def fields(recipe: Recipe) -> list[tuple[str, str]]:
    """What a recipe sets beside its sites: names and texts."""
    scale = recipe.loss_scale
    rows = [
        ("summary", recipe.summary), ("profile", _profile(recipe)),
        ("policy", recipe.policy or _NONE), ("rule", recipe.rule),
        ("other_rule", recipe.other_rule),
        ("momentum_roundings", str(recipe.momentum_roundings)), ("loss scale", scale.text),
    ]  # fmt: skip
    if scale.kind == "dynamic":
        steps = f"×{scale.growth:g} after {scale.interval} clean steps, ÷{scale.backoff:g} at an overflow"
        rows.append(("", f"{steps}, from {scale.floor:,.12g} to {scale.cap:,.12g}"))
    return rows


SITE_HEADINGS = ("site", "format", "rounding", "overflow", "random bits", "rounds")


def site_rows(recipe: Recipe) -> list[tuple[str, ...]]:
    """A row of texts for each site."""
    rows: list[tuple[str, ...]] = []
    for name, meaning in SITES.items():
        site = recipe.site(name)
        quantiser = recipe.quantisers.get(name, "")
        if site is None:
            rows.append((name, _NONE, _NONE, _NONE, _NONE, meaning))
            continue
        rounding = f"{quantiser}, {site.rounding}" if quantiser else site.rounding
        if name in OPERANDS and recipe.scaling(name) != "fixed":
            rounding += f", scale {recipe.scaling(name)}"
        r = str(site.random_bits) if site.stochastic else _NONE
        rows.append((name, site.record.name, rounding, site.overflow, r, meaning))
    return rows


def values(recipe: Recipe) -> dict[str, Any]:
    """A recipe as values of JSON."""
    sites = {name: recipe.site(name) for name in SITES}
    scale = recipe.loss_scale
    return {
        "name": recipe.name,
        "summary": recipe.summary,
        "profile": get_profile(recipe.profile).name if recipe.emulated else None,
        "policy": recipe.policy,
        "rule": recipe.rule,
        "other_rule": recipe.other_rule,
        "momentum_roundings": recipe.momentum_roundings,
        "loss_scale": {
            **{k: getattr(scale, k) for k in ("kind", "start", "growth", "backoff", "interval")},
            **{k: getattr(scale, k) for k in ("floor", "cap")},
            "floors": [list(pair) for pair in scale.floors],
        },
        "sites": {
            name: site
            and {
                "format": site.record.name,
                "rounding": site.rounding,
                "overflow": site.overflow,
                "random_bits": site.random_bits if site.stochastic else None,
                "quantiser": recipe.quantisers.get(name),
                **({"scaling": recipe.scaling(name)} if name in OPERANDS else {}),
            }
            for name, site in sites.items()
        },
        "choices": list(recipe.choices),
        "warnings": list(recipe.warnings),
    }
