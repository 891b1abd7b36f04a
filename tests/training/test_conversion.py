"""`training.convert`: ordinary PyTorch before and after, reproducible bits, and refusals in one line."""

import copy
import io
import pickle
import re

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

import hfp8sim as hs  # noqa: E402
from hfp8sim import training  # noqa: E402
from hfp8sim.recipes import get_recipe  # noqa: E402

STOCHASTIC = hs.get_profile("hfp8").replace(rounding="stochastic", operand_rounding="stochastic")


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Residual(nn.Module):
    """A block with a product of its own, which runs under activation checkpointing if asked."""

    def __init__(self, again=False):
        super().__init__()
        self.conv, self.norm, self.again = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), again

    def inside(self, x):
        mixed = x.flatten(2) @ x.flatten(2).transpose(1, 2) / 64
        return torch.relu(self.norm(self.conv(x))) + (mixed @ x.flatten(2)).reshape(x.shape)

    def forward(self, x):
        return checkpoint(self.inner, x, use_reentrant=False) if self.again else self.inside(x)

    def inner(self, x):
        return self.block(x)

    @property
    def block(self):
        return _Call(self)


class _Call:
    """The block's own code, called as a module is, without its checkpointing."""

    def __init__(self, module):
        self.module = module

    def __call__(self, x):
        again, self.module.again = self.module.again, False
        try:
            return self.module(x)
        finally:
            self.module.again = again


def network(again=False):
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), Residual(again), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(128, 10)
    )  # fmt: skip


def train(model, steps, optimiser=None, start=0):
    """Some steps of SGD on fixed batches; the optimiser, which goes on from step `start`."""
    optimiser = optimiser or torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    for step in range(start, start + steps):
        x, y = randn(16, 1, 8, 8, seed=step), torch.arange(16) % 10
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimiser.step()
    return optimiser


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.fixture(autouse=True)
def _two_threads_of_torch():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# -- reproducible --------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", ["hfp8", STOCHASTIC], ids=["hfp8", "stochastic"])
def test_weights_after_fifty_steps_do_not_depend_on_threads_or_checkpointing(profile):
    trained = []
    for threads, again in ((1, False), (2, False), (2, True)):
        model = training.convert(
            network(again), profile, policy="last=fp16", seed=7, threads=threads
        )
        train(model, 50)
        trained.append(weights(model))
    assert torch.equal(trained[0], trained[1]) and torch.equal(trained[0], trained[2])


def test_random_words_change_with_seed_and_step():
    model, x = training.convert(network(), STOCHASTIC, seed=1), randn(16, 1, 8, 8)
    first = model(x)
    assert torch.equal(model(x), first)
    other = training.convert(copy.deepcopy(model), STOCHASTIC, seed=2)
    assert not torch.equal(other(x), first)
    optimiser = torch.optim.SGD(model.parameters(), 0.0)
    optimiser.step()
    assert model[0].products.emulation.step == 2 and other[0].products.emulation.step == 1
    assert not torch.equal(model(x), first)


def test_products_of_one_call_draw_words_of_their_own():
    class Twice(nn.Module):
        def forward(self, x):
            return x @ x.T, x @ x.T

    first, second = training.convert(Twice(), STOCHASTIC, seed=3)(randn(20, 100))
    assert not torch.equal(first, second)


def test_saved_and_resumed_training_equals_training_in_one_go():
    whole = training.convert(network(), STOCHASTIC, seed=5)
    train(whole, 6)
    part = training.convert(network(), STOCHASTIC, seed=5)
    optimiser, file = train(part, 3), io.BytesIO()
    torch.save({"model": part.state_dict(), "optimiser": optimiser.state_dict()}, file)
    saved = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    again = network()
    again.load_state_dict(saved["model"], strict=True)
    training.convert(again, STOCHASTIC, seed=5, first_step=4)
    optimiser = torch.optim.SGD(again.parameters(), 0.05, momentum=0.9)
    optimiser.load_state_dict(saved["optimiser"])
    train(again, 3, optimiser, start=3)
    assert torch.equal(weights(again), weights(whole))


# -- ordinary PyTorch ----------------------------------------------------------------------------------


def test_parameters_and_classes_stay():
    plain, model = network(), training.convert(network())
    assert list(model.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(model.state_dict(), strict=True)
    model.load_state_dict(plain.state_dict(), strict=True)
    assert isinstance(model[4], nn.Linear) and type(training.restore(model)[4]) is nn.Linear
    assert not model[1]._forward_pre_hooks and not model[1]._forward_hooks


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))],
    ids=["deepcopy", "pickle"],
)
def test_copies_are_models_of_their_own(copied):
    model, x = training.convert(network(), STOCHASTIC), randn(16, 1, 8, 8)
    other = copied(model)
    assert torch.equal(other(x), model(x))
    train(other, 1)
    assert other[0].products.emulation.step == 2 and model[0].products.emulation.step == 1
    assert other[0].products.emulation is other[4].products.emulation


def test_script_with_adam_scheduler_and_grad_scaler_runs_unmodified():
    model = training.convert(network(), policy="first=fp16,last=fp16")
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, total_steps=30)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    x, y, losses = randn(16, 1, 8, 8), torch.arange(16) % 10, []
    for _ in range(30):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimiser)
        scaler.update()
        schedule.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 < 2 < losses[0]


def test_wrapper_of_learners_and_data_loader_change_no_bit():
    distributed = torch.distributed
    data = torch.utils.data.TensorDataset(randn(32, 1, 8, 8), torch.arange(32) % 10)
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        after = []
        for wrap in (lambda model: model, nn.parallel.DistributedDataParallel):
            model = training.convert(network(), policy="first=fp16,last=fp16")
            wrapped = wrap(model)
            optimiser = training.make_optimiser(model, "hfp8", lr=0.05, momentum=0.9)
            for x, y in torch.utils.data.DataLoader(data, 8):
                optimiser.zero_grad()
                optimiser.backward(nn.functional.cross_entropy(wrapped(x), y))
                optimiser.step()
            after.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    finally:
        distributed.destroy_process_group()
    assert torch.equal(*after)


def test_overflowing_errors_make_the_scaler_skip_the_step():
    model = training.convert(nn.Linear(4, 3, bias=False), policy="")
    optimiser = torch.optim.SGD(model.parameters(), 0.1)
    scaler, before = torch.amp.GradScaler("cpu", init_scale=2.0**120), weights(model)
    scaler.scale(model(randn(2, 4)).sum() * 1e30).backward()
    scaler.step(optimiser)
    scaler.update()
    assert torch.equal(weights(model), before) and scaler.get_scale() == 2.0**119


def test_autocast_and_half_inputs():
    model = training.convert(nn.Linear(8, 3))
    y = model(randn(2, 8).to(torch.bfloat16))
    assert y.dtype == torch.bfloat16


def test_products_of_kept_modules_are_those_of_pytorch():
    model, plain, x = network(), network(), randn(4, 1, 8, 8)
    training.convert(model, policy={"*": "keep"})
    assert torch.equal(model(x), plain(x)) and training.describe(model) == []
    training.convert(model, policy="0=fp16,1=keep")
    assert [row["profile"] for row in training.describe(model)] == ["fp16", "hfp8", "hfp8"]


# -- refusals ------------------------------------------------------------------------------------------


class Bilinear(nn.Module):
    def forward(self, x):
        return torch.tensordot(x, x, 1)


@pytest.mark.parametrize(
    ("model", "policy", "text"),
    [
        (
            nn.Sequential(nn.Bilinear(1, 1, 1)),
            "",
            "layer 0 is Bilinear, which is not emulated: policy 0=keep",
        ),
        (
            nn.Sequential(nn.MultiheadAttention(2, 1, add_bias_kv=True)),
            "",
            "layer 0: add_bias_kv and add_zero_attn are not emulated: policy 0=keep",
        ),
        (nn.Sequential(nn.LazyLinear(2)), "", "layer 0 is LazyLinear, which is not emulated"),
        (
            nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))),
            "",
            "layer 0 is ParametrizedLinear, which is not emulated",
        ),
        (nn.Sequential(nn.Linear(2, 2)), "1=fp16", "unknown policy rule '1'"),
        (nn.Sequential(nn.Linear(2, 2)), "0=fp17", "unknown profile 'fp17'"),
        (nn.Sequential(nn.Linear(2, 2)), "first", "write it as rule=profile"),
        ("resnet", "", "model is str; it must be a torch.nn.Module"),
    ],
)
def test_bad_models_and_policies_are_refused_before_the_first_step(model, policy, text):
    with pytest.raises(hs.InputError, match=re.escape(text)):
        training.convert(model, policy=policy)


@pytest.mark.parametrize(
    "call",
    [
        training.convert, training.restore, training.describe, training.emulation_of,
        training.quantiser_parameters,
    ],
)  # fmt: skip
def test_calls_refuse_what_is_no_module(call):
    with pytest.raises(hs.InputError, match=r"model is NoneType; it must be a torch\.nn\.Module"):
        call(None)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"threads": 0}, "threads is 0, must be at least 1"),
        ({"seed": -1}, "seed is -1, must be 0"),
        ({"first_step": 1.5}, "first_step is 1.5; it must be a whole number"),
        ({"policy": 3}, "policy is 3; it must be rules with profiles"),
        ({"policy": {3: "fp16"}}, "policy 3: a rule must be a text"),
    ],
)
def test_bad_options_are_refused_before_the_first_step(options, text):
    with pytest.raises(hs.InputError, match=text):
        training.convert(nn.Linear(2, 2), **options)


def test_product_that_is_not_emulated_names_its_module():
    model = training.convert(nn.Sequential(Bilinear()))
    with pytest.raises(hs.InputError, match="module 0 calls a product that is not emulated"):
        model(torch.ones(2, 2))
    assert torch.equal(torch.ones(2, 2) @ torch.ones(2, 2), torch.full((2, 2), 2.0))


def test_nan_names_layer_and_operand():
    model = training.convert(nn.Sequential(nn.Linear(2, 2)), policy="")
    with pytest.raises(hs.InputError, match=r"layer 0, operand x: .*NaN"):
        model(torch.full((1, 2), torch.nan))


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_layers_refuse_what_is_not_floating_point(dtype):
    model = training.convert(nn.Sequential(nn.Linear(2, 2)), policy="")
    with pytest.raises(
        hs.InputError, match=f"layer 0: an operand is {dtype}; it must be a floating"
    ):
        model(torch.ones(1, 2).to(dtype))


class Counting(nn.Module):
    """Products of integers, which PyTorch computes."""

    def forward(self, x):
        return x @ x, torch.einsum("ij,jk->ik", x, x), nn.functional.linear(x, x.T)


def test_products_of_integers_stay_exact():
    model, x = training.convert(Counting()), torch.tensor([[1001, 3], [7, 1]])
    for product in model(x):
        assert torch.equal(product, torch.tensor([[1002022, 3006], [7014, 22]]))


class Products(nn.Module):
    """Layers, a normalisation, and products and a softmax in a module's own code."""

    def __init__(self):
        super().__init__()
        self.layer, self.norm = nn.Linear(8, 8), nn.LayerNorm(8)

    def forward(self, x):
        y = self.norm(self.layer(x))
        return torch.softmax(y @ y.T, -1) @ torch.einsum("ij,kj->ik", x, x)


def test_compiled_models_give_the_same_bits():
    """`torch.compile` leaves emulated products to the emulator."""
    torch.manual_seed(0)
    recipe = get_recipe("hfp8").replace(policy="", **{"norm.rounding": "nearest-away"})
    model = training.convert(Products(), recipe)
    x, targets = torch.randn(5, 8), torch.arange(5)
    results = []
    for called in (model, torch.compile(model, backend="eager")):
        model.zero_grad()
        y = called(x)
        training.cross_entropy(model, y, targets).backward()
        results.append([y.detach(), *(p.grad.clone() for p in model.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_second_derivatives_are_refused():
    model, x = (
        training.convert(nn.Sequential(nn.Linear(2, 2))),
        torch.ones(1, 2, requires_grad=True),
    )
    with pytest.raises(hs.InputError, match="layer 0 has no second derivative"):
        torch.autograd.grad(model(x).sum(), x, create_graph=True)
