"""Recipes: shipped ones, changes by key, TOML files."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from hfp8sim.errors import InputError
from hfp8sim.recipes import Recipe, describe, get_recipe, load_recipe, recipes, register_recipe
from hfp8sim.recipes.defaults import training_defaults
from hfp8sim.recipes.record import MEANINGS, OPERANDS, SITES, changed_recipe, keys
from hfp8sim.units.sites import BINARY32, STOCHASTIC, Site
from hfp8sim.units.update import RULES

SHIPPED = (
    "hfp8", "rapid", "fp8-2018", "mixed-fp8-2019", "fixed-2015", "int4-2020", "fp32",
)  # fmt: skip


def test_shipped_recipes() -> None:
    assert tuple(recipes()) == SHIPPED
    for name in SHIPPED:
        recipe = get_recipe(name)
        assert recipe.summary and recipe.warnings == ()
        assert recipe.choices or name == "fp32"
        for site in SITES:
            assert recipe.site(site) is None or isinstance(recipe.site(site), Site)
        assert recipe.update("adam").rule == recipe.rule


@pytest.mark.parametrize(
    "name, formats",
    [
        ("hfp8", ("hfp8-143", "hfp8-143", "hfp8-152", "hfp8-143", "dlfloat16")),
        ("rapid", ("hfp8-143-hw", "hfp8-143-hw", "hfp8-152-hw", "hfp8-143-hw", "dlfloat16")),
        ("fp8-2018", ("hfp8-152", "hfp8-152", "hfp8-152", "ieee-169", None)),
        ("mixed-fp8-2019", ("e5m2", "e5m2", "e5m2", "binary16", None)),
        ("fixed-2015", ("fixed8.8", "fixed8.8", "fixed8.8", "fixed8.8", None)),
        ("int4-2020", ("fixed4.0", "fixed4.0", "powers-of-2", "binary32", None)),
        ("fp32", (None, None, None, "binary32", None)),
    ],
)
def test_formats_of_shipped_recipes(name: str, formats: tuple[str | None, ...]) -> None:
    recipe = get_recipe(name)
    sites = [recipe.site(site) for site in ("x", "w", "error", "update", "residual")]
    assert tuple(site.record.name if site else None for site in sites) == formats


def test_update_of_a_recipe_has_its_sites() -> None:
    update = get_recipe("fp8-2018").update(nesterov=True)
    assert update.sites["update"] == Site("ieee-169", "stochastic")
    assert update.sites["unscale"] == Site("ieee-169", "nearest-even") and update.nesterov
    assert get_recipe("hfp8").update("adam").sites["second-moment"] == BINARY32
    assert get_recipe("fp32").update().sites["momentum"] == BINARY32


def test_replace() -> None:
    base = get_recipe("hfp8")
    other = base.replace(
        **{"update.random_bits": 16, "update.rounding": "stochastic", "loss_scale.start": 2048,
           "policy": "last=fp16", "wgrad-result.format": "e5m2", "x.quantiser": "pact",
           "x.format": "fixed4.0", "w.scaling": "tracked"}
    )  # fmt: skip
    assert other.site("update") == Site("hfp8-143", "stochastic", "saturate", 16)
    assert other.site("residual") == base.site("residual")
    assert other.site("wgrad-result") == Site("e5m2")
    assert other.loss_scale == dataclasses.replace(base.loss_scale, start=2048)
    assert other.policy == "last=fp16" and other.quantisers == {"x": "pact"}
    assert base.site("update") == Site("hfp8-143", "nearest-away", "saturate")
    assert other.replace(**{"x.quantiser": ""}).quantisers == {}
    assert [other.scaling(name) for name in OPERANDS] == ["fixed", "tracked", "fixed"]
    assert other.replace(**{"w.scaling": ""}).scaling("w") == "fixed"
    assert get_recipe("int4-2020").scaling("error") == "layer"


def test_a_rule_brings_its_sites() -> None:
    changed = get_recipe("hfp8").replace(rule="axpy")
    assert changed.site("update") == STOCHASTIC and changed.site("residual") is None
    changed = get_recipe("hfp8").replace(rule="master", **{"update.random_bits": 20})
    assert changed.site("update") == dataclasses.replace(BINARY32, random_bits=20)


def test_profile_brings_operands() -> None:
    changed = get_recipe("hfp8").replace(profile="e5m2-fp32")
    assert changed.site("x") == Site("e5m2", "nearest-even", "saturate", 13)


def test_few_random_bits_warn() -> None:
    recipe = get_recipe("fp8-2018").replace(**{"update.random_bits": 15})
    assert len(recipe.warnings) == 1 and "15 random bits at update" in recipe.warnings[0]
    assert recipe.replace(**{"update.random_bits": 16}).warnings == ()
    assert recipe.replace(**{"update.rounding": "nearest-even"}).warnings == ()


def test_settings_as_text() -> None:
    recipe = changed_recipe("hfp8", ["update.random_bits=16,loss_scale.start=64", "rule=axpy"])
    assert recipe.site("update") == dataclasses.replace(STOCHASTIC, random_bits=16)
    assert recipe.loss_scale.start == 64.0 and recipe.rule == "axpy"
    assert changed_recipe("hfp8", []) is get_recipe("hfp8")


@pytest.mark.parametrize(
    "text, error",
    [
        ("update", r"--set 'update': write it as key=value"),
        ("update.bits=3", "unknown recipe key 'update.bits'; did you mean update"),
        ("updat.format=e5m2", "did you mean update.format"),
        ("update.random_bits=x", "update.random_bits must be an integer"),
        ("loss_scale.start=x", "loss_scale.start must be a number"),
        ("loss_scale.floors=1", "write floors into a TOML file"),
        ("x.quantiser=pakt", "unknown quantiser 'pakt'; did you mean pact"),
        ("update.quantiser=pact", "unknown recipe key"),
        ("x.quantiser=pact", r"quantiser pact of x needs bits, one of 2, .*: x.quantiser=pact:4"),
        ("x.quantiser=pact:9", "quantiser pact:9 of x needs bits, one of 2, 3"),
        ("x.quantiser=pact,x.format=fixed4.4", "quantiser pact of x needs bits"),
        ("w.quantiser=sawb:6", "one of 2, 3, 4, 5, 7, 8"),
        ("w.quantiser=pact:4", "quantiser pact:4 is of x, not of w"),
        ("x.quantiser=radix4", "quantiser radix4 is of error, not of x"),
        ("error.quantiser=luq:4", "quantiser luq has no choice of bits: error.quantiser=luq"),
        ("x.scaling=layers", "unknown scaling 'layers'; did you mean layer"),
        (
            "x.quantiser=pact:4,x.scaling=layer",
            "quantiser pact:4 of x sets its own scale",
        ),
        ("reduce.scaling=layer", "unknown recipe key"),
        ("rule=axpi", "unknown update rule 'axpi'; did you mean axpy"),
        ("profile=hfp9", "unknown profile 'hfp9'"),
        ("policy=first", "write it as rule=profile"),
        ("update.format=e8m0", "neither infinity|needs a sign"),
    ],
)
def test_bad_settings_are_named(text: str, error: str) -> None:
    with pytest.raises(InputError, match=error):
        changed_recipe("hfp8", [text])


def test_every_key_can_be_replaced() -> None:
    assert set(MEANINGS) - {"loss_scale", "sites", "quantisers", "scalings"} <= set(keys())
    for key in keys():
        base = get_recipe("hfp8")
        owner, dot, field = key.rpartition(".")
        if not dot:
            value = getattr(base, field)
        elif owner == "loss_scale":
            value = getattr(base.loss_scale, field)
        elif field == "quantiser":
            value = {"x": "pact", "w": "sawb-even", "error": "radix4"}[owner]
            base = get_recipe("int4-2020")
        elif field == "scaling":
            value = "tracked"
        else:
            value = getattr(base.site(owner) or Site(), field)
        assert isinstance(base.replace(**{key: value}), Recipe), key


TOML = """
base = "hfp8"
summary = "weights as 8 + 8 bits"
policy = "first=fp16"
[site.residual]
format = "hfp8-152"
overflow = "saturate"
[site.x]
format = "fixed4.0"
quantiser = "pact"
[site.error]
scaling = "layer"
[loss_scale]
start = 4096
floors = [[0, 1], [10000, 1024]]
"""


def test_toml_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TOML)
    recipe = get_recipe(str(path))
    assert recipe.name == "mine" and recipe.summary == "weights as 8 + 8 bits"
    assert recipe.site("residual") == Site("hfp8-152", "nearest-away", "saturate")
    assert recipe.loss_scale.floors == ((0, 1.0), (10000, 1024.0))
    assert (
        recipe.loss_scale.start == 4096
        and recipe.quantisers == {"x": "pact"}
        and recipe.scalings == {"error": "layer"}
    )
    path.write_text('rule = "axpy"')
    assert load_recipe(path).emulated is False


@pytest.mark.parametrize(
    "text, error",
    [
        ("x = [", "not a TOML file"),
        ('base = "hfp9"', "unknown recipe 'hfp9'"),
        ("base = 3", "base and summary must be texts"),
        ("site = 3", r"\[site\] must be a table"),
        ("[site]\nupdate = 3", r"\[site.update\] must be a table"),
        ("[site.updat]\nformat = 'e5m2'", "did you mean update.format"),
        ("[site.update]\nrandom_bits = 1.5", "update.random_bits must be of type int"),
        ("[site.update]\nrandom_bits = true", "update.random_bits must be of type int"),
        ("[site.update]\nformat = 3", "update.format must be of type str"),
        ("[loss_scale]\nstart = 'a'", "loss_scale.start must be of type int or float"),
        ("[loss_scale]\nfloors = [1]", "pairs of a step and a floor"),
        ("[loss_scale]\nkind = 'dynamic'\nfloor = 2048", "floor ≤ start ≤ cap"),
        ("colour = 'red'", "unknown recipe key 'colour'"),
        ("policy = 3", "policy must be of type str"),
    ],
)
def test_bad_toml_is_named(tmp_path: Path, text: str, error: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=error) as caught:
        load_recipe(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no\.toml: No such file"):
        get_recipe(tmp_path / "no.toml")


def test_registered_recipe() -> None:
    mine = register_recipe(get_recipe("hfp8").replace(name="mine"))
    assert get_recipe("mine") is mine
    with pytest.raises(InputError, match="is taken by a different recipe"):
        register_recipe(get_recipe("fp8-2018").replace(name="mine"))


def test_defaults_depend_on_the_kind_of_network() -> None:
    """A language model learns characters with Adam; all other networks classify digits with SGD."""
    text, images = training_defaults("transformer"), training_defaults("cnn")
    assert (text.data, text.optimiser, text.decay) == ("help-text", "adam", 0.0)
    assert (images.data, images.optimiser, images.decay) == ("digits", "sgd", 5e-4)
    assert training_defaults("module:network") == images


def test_json_values_are_complete() -> None:
    for name in SHIPPED:
        values = json.loads(json.dumps(describe.values(get_recipe(name))))
        assert set(values["sites"]) == set(SITES)
        assert values["rule"] in RULES
        assert len(describe.site_rows(get_recipe(name))) == len(SITES)


def test_recipes_need_no_torch() -> None:
    script = (
        "import sys, hfp8sim.recipes as r; r.get_recipe('hfp8'); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
