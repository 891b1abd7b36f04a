"""Biases and normalisations that a recipe rounds, against the functions of `ops` on the same tensors."""

import copy
import io
import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import hfp8sim as hs  # noqa: E402
from hfp8sim import InputError, training  # noqa: E402
from hfp8sim.ops import updates  # noqa: E402
from hfp8sim.recipes import get_recipe  # noqa: E402
from hfp8sim.training.emulation import NUMBERS_PER_MODULE  # noqa: E402
from hfp8sim.units.sites import Place  # noqa: E402

NEAREST = get_recipe("hfp8").replace(
    policy="", **{"bias.rounding": "nearest-away", "norm.rounding": "nearest-away"}
)
STOCHASTIC = NEAREST.replace(**{"bias.rounding": "stochastic", "norm.rounding": "stochastic"})


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def expected(place, recipe, number, *terms):
    """The rounded sum of terms, with the words of the forward result of module `number` in step 1."""
    site = recipe.site(place.name.lower())
    arrays = [(1.0, np.ascontiguousarray(x.detach().numpy())) for x in terms]
    tensor = 6 * number * NUMBERS_PER_MODULE + 3
    return torch.from_numpy(updates.rounded_sum(place, site, arrays, seed=7, step=1, tensor=tensor))


LAYERS = {
    "linear": (lambda: nn.Linear(24, 10), (5, 24), -1),
    "convolution": (lambda: nn.Conv2d(3, 4, 3, padding=1), (2, 3, 6, 6), 1),
    "transposed": (lambda: nn.ConvTranspose1d(3, 4, 3), (2, 3, 6), 1),
}


@pytest.mark.parametrize("recipe", [NEAREST, STOCHASTIC], ids=["nearest", "stochastic"])
@pytest.mark.parametrize("name", LAYERS)
def test_bias_is_added_and_rounded_once(name, recipe):
    make, shape, axis = LAYERS[name]
    torch.manual_seed(1)
    layer, x = make(), randn(*shape)
    bare = copy.deepcopy(layer)
    bare.bias = None
    training.convert(bare, recipe, seed=7), training.convert(layer, recipe, seed=7)
    z, y = bare(x), layer(x)
    column = layer.bias.reshape([-1 if i == axis % z.ndim else 1 for i in range(z.ndim)])
    assert torch.equal(y, expected(Place.BIAS, recipe, 0, z, column.expand(z.shape)))
    assert not torch.equal(y, z + column)
    y.backward(dy := randn(*y.shape, seed=2))
    assert torch.equal(layer.bias.grad, dy.sum([i for i in range(dy.ndim) if i != axis % dy.ndim]))


@pytest.mark.parametrize("recipe", [NEAREST, STOCHASTIC], ids=["nearest", "stochastic"])
@pytest.mark.parametrize(
    "norm", [nn.BatchNorm1d(6), nn.LayerNorm(6), nn.GroupNorm(2, 6)], ids=lambda n: type(n).__name__
)
def test_result_of_a_normalisation_is_rounded_once(norm, recipe):
    model, x = nn.Sequential(nn.Identity(), copy.deepcopy(norm)), randn(8, 6).requires_grad_()
    plain = copy.deepcopy(norm)
    training.convert(model, recipe, seed=7)
    y, wanted = model(x), plain(x)
    assert torch.equal(y, expected(Place.NORM, recipe, 2, wanted)) and not torch.equal(y, wanted)
    dy = randn(8, 6, seed=3)
    (got,) = torch.autograd.grad(y, x, dy)
    (straight,) = torch.autograd.grad(wanted, x, dy)
    assert torch.equal(got, straight)
    again = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    again[1].load_state_dict(norm.state_dict(), strict=True)
    assert torch.equal(again(x), y)
    assert torch.equal(training.restore(model)[1].eval()(x), plain.eval()(x))


def test_policy_keeps_a_normalisation_in_binary32():
    model, x = nn.Sequential(nn.LayerNorm(6), nn.LayerNorm(6)), randn(4, 6)
    wanted = model(x)
    assert torch.equal(training.convert(model, NEAREST, policy="*=keep")(x), wanted)
    assert torch.equal(training.convert(model, "hfp8", policy="")(x), wanted)
    assert not torch.equal(training.convert(model, NEAREST)(x), wanted)


def trained(recipe, steps=3):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3))
    training.convert(model, recipe)
    optimiser = training.make_optimiser(model, recipe, lr=0.1, momentum=0.9)
    for step in range(steps):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(randn(8, 1, 4, 4, seed=step)), torch.arange(8) % 3)
        optimiser.backward(loss)
        optimiser.step()
    return model, optimiser


def holds(fmt, values):
    fmt, array = hs.get_format(fmt), values.detach().numpy()
    return bool((fmt.decode(fmt.encode(array)) == array).all())


def test_biases_and_normalisations_follow_their_own_rule():
    model, _ = trained("hfp8")
    assert not holds("dlfloat16", model[3].bias) and not holds("dlfloat16", model[1].weight)
    model, optimiser = trained(get_recipe("hfp8").replace(other_rule="axpy", policy=""))
    for parameter in (model[0].bias, model[1].weight, model[1].bias, model[3].bias):
        assert holds("dlfloat16", parameter) and not holds("hfp8-143", parameter)
    assert holds("hfp8-143", model[3].weight)
    state = io.BytesIO()
    torch.save(optimiser.state_dict(), state)
    state.seek(0)
    optimiser.load_state_dict(torch.load(state, weights_only=True))


def test_rule_of_biases_has_the_formats_of_an_axpy_recipe():
    recipe = get_recipe("fixed-2015").replace(other_rule="axpy")
    assert recipe.other_update().sites["update"].format == "fixed8.8"
    assert (
        get_recipe("hfp8").replace(other_rule="axpy").other_update().sites["update"].format
        == "dlfloat16"
    )
    with pytest.raises(InputError, match="unknown other_rule 'residual-wide'"):
        get_recipe("hfp8").replace(other_rule="residual-wide")


def test_alpha_stays_binary32():
    recipe = get_recipe("int4-2020").replace(policy="", other_rule="axpy")
    model, _ = trained(recipe)
    alphas = training.quantiser_parameters(model)
    assert len(alphas) == 2 and not all(holds("dlfloat16", alpha) for alpha in alphas)
    assert holds("dlfloat16", model[3].bias)
