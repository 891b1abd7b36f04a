"""Recipes: what is rounded where in a whole training step, as records and TOML files."""

import hfp8sim.recipes.shipped as _shipped  # registers the recipes
from hfp8sim.recipes.record import Recipe, get_recipe, load_recipe, recipes, register_recipe
from hfp8sim.recipes.scale import LayerScale, LossScale, ScaleState, TrackedScale

del _shipped

__all__ = [
    "LayerScale",
    "LossScale",
    "Recipe",
    "ScaleState",
    "TrackedScale",
    "get_recipe",
    "load_recipe",
    "recipes",
    "register_recipe",
]
