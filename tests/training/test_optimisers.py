"""Optimisers: each step is `ops.updates.update`, resumes to the bit, and skips what overflowed."""

import io

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import hfp8sim as hs  # noqa: E402
from hfp8sim import InputError, training  # noqa: E402
from hfp8sim.ops import updates  # noqa: E402
from hfp8sim.recipes import LossScale, get_recipe  # noqa: E402
from hfp8sim.units.sites import Site  # noqa: E402
from hfp8sim.units.update import RULES, Constants, Update  # noqa: E402


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def gradients(model, step, scale=1.0):
    """Gradients of every parameter, times the scale."""
    for number, parameter in enumerate(model.parameters()):
        parameter.grad = randn(*parameter.shape, seed=100 * step + number) * 0.1 * scale


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(40, 30), nn.Linear(30, 20))


@pytest.mark.parametrize("rule", RULES)
def test_sgd_is_a_sequence_of_updates(rule):
    """Tensor numbers are those of the parameters; steps count from 1; 0 is the start."""
    net, update = model(), Update(rule)
    tensors = [[p.detach().numpy().copy()] for p in net.parameters()]
    optimiser = training.SGD(
        net.parameters(), 0.1, momentum=0.9, weight_decay=1e-3, update=rule, loss_scale=256, seed=4, threads=2
    )  # fmt: skip
    for number, held in enumerate(tensors):
        weight, residual = updates.start(update, held[0], seed=4, tensor=number)
        held[:] = [weight, residual, np.zeros_like(weight)]
    constants = Constants.for_sgd(0.1, momentum=0.9, decay=1e-3, scale=256)
    for step in (1, 2, 3):
        gradients(net, step, 256)
        given = [p.grad.numpy().copy() for p in net.parameters()]
        optimiser.step()
        for number, (weight, residual, momentum) in enumerate(tensors):
            updates.update(update, constants, weight, given[number], residual=residual, momentum=momentum,
                           seed=4, step=step, tensor=number, threads=1)  # fmt: skip
    for parameter, (weight, *_) in zip(net.parameters(), tensors):
        np.testing.assert_array_equal(parameter.detach().numpy(), weight)


@pytest.mark.parametrize("make", [
    lambda ps: (training.SGD(ps, 0.1, 0.9, weight_decay=1e-2, update="master"),
                torch.optim.SGD(ps, 0.1, 0.9, weight_decay=1e-2)),
    lambda ps: (training.SGD(ps, 0.1, 0.9, nesterov=True, update="master"),
                torch.optim.SGD(ps, 0.1, 0.9, nesterov=True)),
    lambda ps: (training.Adam(ps, 0.01, weight_decay=1e-2, update="master"),
                torch.optim.Adam(ps, 0.01, weight_decay=1e-2)),
    lambda ps: (training.Adam(ps, 0.01, weight_decay=1e-1, decoupled=True, update="master"),
                torch.optim.AdamW(ps, 0.01, weight_decay=1e-1)),
], ids=["sgd", "nesterov", "adam", "adamw"])  # fmt: skip
def test_binary32_updates_are_those_of_pytorch(make):
    """PyTorch orders and fuses some operations otherwise, so to a few units in the last place."""
    ours, theirs = model(), model()
    mine, torchs = make(list(ours.parameters()))[0], make(list(theirs.parameters()))[1]
    for step in range(1, 6):
        for net, optimiser in ((ours, mine), (theirs, torchs)):
            gradients(net, step)
            optimiser.step()
    assert torch.allclose(weights(ours), weights(theirs), rtol=2e-6, atol=1e-6)


def test_weights_of_emulated_layers_have_eight_bits_and_norms_binary32():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3))
    training.convert(net, policy="")
    groups = training.parameter_groups(net, Update("residual-wide"))
    optimiser = training.SGD(groups, 0.1)
    x = randn(8, 1, 4, 4)
    for _ in range(3):
        optimiser.zero_grad()
        optimiser.backward(nn.functional.cross_entropy(net(x), torch.arange(8) % 3))
        optimiser.step()
    fmt = hs.get_format("hfp8-143")
    for weight in (net[0].weight, net[3].weight):
        array = weight.detach().numpy()
        np.testing.assert_array_equal(fmt.decode(fmt.encode(array)).astype(np.float32), array)
        assert "residual" in optimiser.state[weight]
    assert "residual" not in optimiser.state[net[1].weight]
    assert net[0].products.emulation.step == 4


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ["dlfloat16", "hfp8-143", "dlfloat16"]),
        ({"policy": ""}, ["hfp8-143"] * 3),
        ({"policy": "first=fp16"}, ["dlfloat16", "hfp8-143", "hfp8-143"]),
        ({"rule": "axpy", "update.format": "hfp8-143", "update.overflow": "saturate"}, ["dlfloat16", "hfp8-143", "dlfloat16"]),
        ({"rule": "axpy"}, ["dlfloat16"] * 3),
        ({"rule": "master"}, ["binary32"] * 3),
    ],
    ids=str,
)  # fmt: skip
def test_stored_weights_have_the_wider_of_rule_and_layer(changes, expected):
    """The rule's format; in a layer whose operands have more bits, the layer's."""
    recipe = get_recipe("hfp8").replace(**changes)
    net = training.convert(nn.Sequential(*(nn.Linear(20, 20) for _ in range(3))), recipe)
    optimiser = training.make_optimiser(net, recipe, lr=0.1)
    for _ in range(3):
        gradients(net, 1, optimiser.scale.scale)
        optimiser.step()
    for layer, name in zip(net, expected):
        assert narrowest(layer.weight) == name
        assert ("residual" in optimiser.state[layer.weight]) == recipe.rule.startswith("residual")


def narrowest(weight):
    """The narrowest of three formats that has all of the weights."""
    array = weight.detach().numpy()
    for name in ("hfp8-143", "dlfloat16", "binary32"):
        fmt = hs.get_format(name)
        if np.array_equal(fmt.decode(fmt.encode(array)).astype(np.float32), array):
            return name
    return None


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_saved_state_resumes_to_the_bit(kind):
    def optimiser_of(net):
        scale = LossScale("dynamic", interval=2)
        if kind == "sgd":
            return training.SGD(
                net.parameters(), 0.05, 0.9, update="axpy", loss_scale=scale, seed=3
            )
        return training.Adam(
            net.parameters(), 0.01, update="residual-wide", loss_scale=scale, seed=3
        )

    def steps(net, optimiser, numbers):
        for number in numbers:
            gradients(net, number, optimiser.scale.scale)
            optimiser.step()

    whole, part = model(), training.convert(model())
    steps(whole, optimiser_of(whole), range(1, 7))
    optimiser = optimiser_of(part)
    steps(part, optimiser, range(1, 4))
    file = io.BytesIO()
    torch.save((part.state_dict(), optimiser.state_dict()), file)
    saved = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    again = training.convert(model())
    optimiser = optimiser_of(again)
    again.load_state_dict(saved[0])
    optimiser.load_state_dict(saved[1])
    assert again[0].products.emulation.step == 4
    steps(again, optimiser, range(4, 7))
    assert torch.equal(weights(again), weights(whole)) and optimiser.scale.scale == 8192


def test_overflow_skips_the_step_and_halves_the_scale():
    net = model()
    optimiser = training.SGD(
        net.parameters(),
        0.1,
        update="residual-naive",
        loss_scale=LossScale("dynamic", start=64),
        count_stuck=True,
    )
    before = weights(net)
    gradients(net, 1)
    net[0].weight.grad[1, 2] = torch.inf
    optimiser.step()
    assert optimiser.counts.skipped and torch.equal(weights(net), before)
    assert optimiser.scale.scale == 32 and optimiser.steps_taken == 0
    for _ in range(
        2
    ):  # The first step rounds the weights to the grid on which the second one is stuck.
        gradients(net, 1, 32e-3)
        optimiser.step()
    assert optimiser.counts.weights == 1850 and 0.5 < optimiser.counts.stuck_share <= 1


def test_closures_and_schedules():
    net, x = model(), randn(4, 40)
    optimiser = training.Adam(net.parameters(), 0.01, update="axpy")
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, 1, 0.5)

    def closure():
        optimiser.zero_grad()
        loss = net(x).square().mean()
        optimiser.backward(loss)
        return loss

    losses = []
    for _ in range(20):
        losses.append(optimiser.step(closure).item())
        schedule.step()
    assert losses[-1] < losses[0] and optimiser.param_groups[0]["lr"] == 0.01 * 0.5**20


def test_rounding_hook_of_any_optimiser():
    net = model()
    optimiser = torch.optim.Adam(net.parameters(), 0.01)
    handle = training.round_updates(optimiser, state={"exp_avg": Site("dlfloat16")}, seed=1)
    gradients(net, 1)
    optimiser.step()
    fmt = hs.get_format("dlfloat16")
    for array in (
        net[0].weight.detach().numpy(),
        optimiser.state[net[0].weight]["exp_avg"].numpy(),
    ):
        np.testing.assert_array_equal(fmt.decode(fmt.encode(array)).astype(np.float32), array)
    handle.remove()
    optimiser.step()
    array = net[0].weight.detach().numpy()
    assert not np.array_equal(fmt.decode(fmt.encode(array)).astype(np.float32), array)


def test_bad_settings_and_states_are_refused():
    net = model()
    with pytest.raises(InputError, match="unknown update rule 'residual'"):
        training.SGD(net.parameters(), 0.1, update="residual")
    for rate in (-1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match=f"lr is {rate}; it must be at least 0 and finite"):
            training.make_optimiser(net, "hfp8", "adam", lr=rate)
    with pytest.raises(InputError, match="lr is 'fast'; it must be at least 0 and finite"):
        training.SGD(net.parameters(), "fast")
    with pytest.raises(InputError, match=r"model is NoneType; it must be a torch\.nn\.Module"):
        training.make_optimiser(None, "hfp8", lr=0.1)
    optimiser = training.SGD(net.parameters(), 0.1)
    with pytest.raises(InputError, match="not saved by an optimiser of hfp8sim"):
        optimiser.load_state_dict(torch.optim.SGD(net.parameters(), 0.1).state_dict())


@pytest.mark.parametrize("rule", ["master", "residual-wide"])
def test_scalar_parameters_are_updated(rule):
    scalar = nn.Parameter(torch.tensor(0.7))
    optimiser = training.SGD([scalar], 0.5, update=rule)
    (scalar * 2).backward()
    optimiser.step()
    assert scalar.shape == () and optimiser.counts.weights == 1
    effective = scalar - optimiser.state[scalar].get("residual", torch.zeros(()))
    assert float(effective.detach()) == pytest.approx(0.7 - 1, abs=1e-3)
