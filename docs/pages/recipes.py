"""docs/recipes.md: the shipped recipes, their sites and the keys of a recipe file, from `hfp8sim/recipes/`."""

from __future__ import annotations

from docs.pages.markdown import table
from hfp8sim.recipes import describe, get_recipe, recipes
from hfp8sim.recipes.record import MEANINGS, QUANTISERS, SITES
from hfp8sim.recipes.scale import KINDS, LossScale
from hfp8sim.units.update import RULES

_HEAD = """# Recipes

Generated from `hfp8sim/recipes/`; do not edit.

A [profile](profiles.md) says how one product is computed. A recipe says what is rounded where in a whole training step: with
which profile each layer's products are computed, the sites around them, the loss scale, and the update of weights. What each
site does to the bits is in [numerics](numerics.md#6-sites-of-a-training-step). `hfp8sim recipes` lists
them, and `hfp8sim recipes NAME` shows one.
"""

_OWN = """## A recipe of your own

From Python: `get_recipe("hfp8").replace(**{"update.random_bits": 16, "rule": "residual-small"})`. On the command line:
`--set update.random_bits=16,rule=residual-small`. In TOML, a file changes the recipe that `base` names (`fp32` by default), and
its path is its name on the command line:

```toml
base = "hfp8"
summary = "weights as 8 + 8 bits"
policy = "first=fp16,last=fp16,depthwise=fp16"

[site.residual]
format = "hfp8-152"
overflow = "saturate"

[loss_scale]
start = 4096
floors = [[0, 1], [10000, 1024]]
```
"""


def page() -> str:
    """The whole page."""
    parts = [_HEAD, "## The recipes\n", table(describe.OVERVIEW_HEADINGS, describe.overview_rows())]
    parts += ["A dash: not rounded, or not emulated.\n", *map(_details, recipes()), _OWN]
    parts += ["## Keys\n", _keys()]
    return "\n".join(parts)


def _details(name: str) -> str:
    recipe = get_recipe(name)
    lines = [
        f"### {name}\n",
        f"{recipe.summary}. Rule `{recipe.rule}`, policy `{recipe.policy or 'none'}`.\n",
    ]
    rows = [row[:-1] for row in describe.site_rows(recipe) if row[1] != "–"]
    lines.append(table(describe.SITE_HEADINGS[:-1], rows))
    if recipe.choices:
        lines.append(
            "**Choice**, as the source does not say it: " + "; ".join(recipe.choices) + ".\n"
        )
    return "\n".join(lines)


def _keys() -> str:
    rows = [
        (f"`{key}`", text)
        for key, text in MEANINGS.items()
        if key not in ("sites", "quantisers", "loss_scale")
    ]
    rows += [(f"`loss_scale.{field}`", text) for field, text in _loss_fields().items()]
    rows += [(f"`{site}.…`", text) for site, text in SITES.items()]
    parts = [table(("key", "meaning"), rows)]
    parts.append(
        "After a site: `format`, `rounding`, `overflow`, `random_bits`; after an operand also `quantiser`.\n"
    )
    parts.append(
        table(("update rule", "meaning"), [(f"`{n}`", r.meaning) for n, r in RULES.items()])
    )
    parts.append(
        table(("quantiser", "meaning"), [(f"`{n}`", text) for n, text in QUANTISERS.items()])
    )
    parts.append(
        table(("kind of loss scale", "meaning"), [(f"`{n}`", text) for n, text in KINDS.items()])
    )
    return "\n".join(parts)


def _loss_fields() -> dict[str, str]:
    return {
        name: field.metadata["meaning"] for name, field in LossScale.__dataclass_fields__.items()
    }
