"""Quantisers, scales and softmax inputs inside layers, against the functions of `ops` on the same tensors."""

import copy
import dataclasses
import io
import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import hfp8sim as hs  # noqa: E402
from hfp8sim import ops, training  # noqa: E402
from hfp8sim.ops import Operand, quantisers, updates  # noqa: E402
from hfp8sim.recipes import get_recipe, recipes  # noqa: E402
from hfp8sim.training.runs import Run, Settings, batches_of, trained_network  # noqa: E402
from hfp8sim.units.sites import STOCHASTIC, Draw, Place  # noqa: E402

INT4 = get_recipe("int4-2020").replace(policy="")


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def operand(numbers, fmt):
    """Numbers that a format holds."""
    result = Operand.encode(np.asarray(numbers, np.float32), fmt)
    np.testing.assert_array_equal(result.values(), numbers)
    return result


def product(a, b, factor=1.0):
    """A product in the recipe's accumulator, times the binary32 factor."""
    values = ops.gemm(a, b, get_recipe("int4-2020").profile, out_dtype="float32")
    return torch.from_numpy(values * np.float32(factor))


def layer_of(recipe, seed=1, bias=False):
    torch.manual_seed(seed)
    return training.convert(nn.Linear(40, 12, bias=bias), recipe)


@pytest.mark.parametrize("signed", [False, True])
def test_products_of_a_four_bit_layer(signed):
    layer, x, dy = layer_of(INT4), randn(30, 40), randn(30, 12, seed=2) * 1e-3
    x = (x if signed else x.relu()).requires_grad_()
    layer(x * 0.7)  # the first tensor starts α
    y = layer(x)
    y.backward(dy)
    [alpha] = training.quantiser_parameters(layer)
    top = float((x.detach() * 0.7).abs().max())
    assert float(alpha.detach()) == top
    a = quantisers.pact(x.detach(), top, 4, signed=signed)
    w = quantisers.sawb(layer.weight.detach(), "4z")
    assert (a.codes.min(), a.codes.max()) == ((-7, 7) if signed else (0, 15))
    xq, wq = operand(a.codes, "fixed4.0" if signed else "fixed5.0"), operand(w.codes, "fixed4.0")
    assert torch.equal(y, product(xq, wq.T, a.step * w.step))
    powers = get_recipe("int4-2020").site("error").record
    scaled = dy.double().numpy() * 1024
    even, odd = (operand(quantisers.radix4(scaled, phase), powers) for phase in ("even", "odd"))
    dx = product(even, wq, w.step / 1024)
    inside = (x > -top if signed else x >= 0) & (x < top)
    assert torch.equal(x.grad, dx.where(inside, torch.zeros(())))
    assert torch.equal(layer.weight.grad, product(xq.T, odd, a.step / 1024).T)
    expected = dx[x >= top].double().sum() - (dx[x <= -top].double().sum() if signed else 0)
    assert float(alpha.grad) == pytest.approx(float(expected), rel=1e-6) and expected != 0


@pytest.mark.parametrize("bits, quantiser, grid", [(2, "sawb", "2z"), (2, "sawb-even", "2"), (3, "sawb", "3"),
                                                   (4, "sawb-even", "4"), (5, "sawb", "5"), (8, "sawb", "8z")])  # fmt: skip
def test_grids_of_weights(bits, quantiser, grid):
    recipe = INT4.replace(**{"w.quantiser": f"{quantiser}:{bits}", "profile": "exact"})
    layer, x = layer_of(recipe), randn(6, 40).relu()
    values = quantisers.sawb(layer.weight.detach(), grid).values
    encoded = layer.products.encode(layer.weight.detach().numpy(), "w")
    np.testing.assert_allclose(
        encoded.operand.values() * encoded.step, values, rtol=1e-7, atol=1e-12 * abs(values).max()
    )
    a = quantisers.pact(x, float(x.max()), 4).values
    torch.testing.assert_close(
        layer(x).double(), torch.from_numpy(a @ values.T), rtol=1e-6, atol=1e-6
    )


def test_luq_draws_words_of_the_error():
    recipe = INT4.replace(**{"error.quantiser": "luq", "x.quantiser": "luq"})
    layer = training.convert(nn.Sequential(nn.Linear(40, 12, bias=False)), recipe, seed=5)[0]
    x, dy = randn(30, 40).requires_grad_(), randn(30, 12, seed=2) * 1e-3
    y = layer(x)
    y.backward(dy)
    w = quantisers.sawb(layer.weight.detach(), "4z")
    powers, wq = get_recipe("int4-2020").site("error").record, operand(w.codes, "fixed4.0")
    a = quantisers.luq(x.detach(), None)
    assert torch.equal(y, product(operand(a.codes, powers), wq.T, a.step * w.step))
    tensor = 6 * layer.products.number + 2
    random = Draw(5, 1, tensor).words(Place.OPERAND, STOCHASTIC, dy.numel()).reshape(dy.shape)
    e = quantisers.luq(dy, random)
    assert torch.equal(x.grad, product(operand(e.codes, powers), wq, e.step * w.step))
    assert torch.equal(
        layer.weight.grad,
        product(operand(a.codes, powers).T, operand(e.codes, powers), a.step * e.step).T,
    )


def test_clipping_of_kinds_without_alpha_ends_at_the_largest():
    """Attention and recurrence have no α of their own."""
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(8, 2, 16, dropout=0, batch_first=True)
    training.convert(model, INT4)
    assert len(training.quantiser_parameters(model)) == 2  # the two linear layers
    training.convert(lstm := nn.LSTM(8, 8), INT4)
    y = lstm(model(randn(2, 5, 8)))[0]
    y.sum().backward()
    assert torch.isfinite(lstm.weight_hh_l0.grad).all() and lstm.weight_hh_l0.grad.abs().sum() > 0


# -- scales --------------------------------------------------------------------------------------------


def stepped(layer, x, error):
    """One step of SGD whose rate is 0."""
    optimiser = torch.optim.SGD(layer.parameters(), 0.0)
    layer(x).backward(torch.full((x.shape[0], 12), error))
    optimiser.step()


def test_scale_of_a_layer_follows_its_errors():
    """Scaled errors settle in [32, 64]: doubled below 32, halved above 64, one step later."""
    layer, x = layer_of(INT4), randn(4, 40).relu()
    scales = training.emulation_of(layer).scales.layer_scales
    seen = []
    for _ in range(4):
        stepped(layer, x, 0.25 / 32)
        seen.append(scales["Linear", "error"])
    assert seen == [2048, 4096, 4096, 4096]  # 8, 16, then 32 is in the band
    stepped(layer, x, 1.0)
    assert scales["Linear", "error"] == 2048
    with torch.no_grad():
        layer(x)
    training.emulation_of(layer).end_step()
    assert scales["Linear", "error"] == 2048  # nothing has passed backwards
    layer(x).backward(torch.full((4, 12), torch.inf))
    training.emulation_of(layer).end_step()
    assert scales["Linear", "error"] == 2048


def test_tracked_scale_is_that_of_the_last_steps():
    recipe = get_recipe("hfp8").replace(
        policy="", **{"x.scaling": "tracked", "error.scaling": "tracked"}
    )
    layer = layer_of(recipe)
    stepped(layer, torch.full((2, 40), 100.0), 1.0)
    assert layer.products.shares["x"].saturated == 80  # the profile's scale at the first step
    shares = []
    for _ in range(17):
        stepped(layer, torch.full((2, 40), 29.0), 1.0)
        shares.append(
            layer.products._encode(np.full((1, 1), 1.0, np.float32), "x", 1)[0].operand.exponent
        )
    # 100 · 2^−2 = 25 ≤ 30; 29 · 2^0: after sixteen steps the first one is forgotten.
    assert shares == [2] * 15 + [0] * 2
    assert training.emulation_of(layer).scales.histories["Linear", "error"] == [1.0] * 16


def test_scales_and_alphas_are_in_the_state():
    layer, x = layer_of(INT4), randn(4, 40).relu()
    stepped(layer, x, 1e-6)
    file = io.BytesIO()
    torch.save(training.emulation_of(layer).state_dict(), file)
    state = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    other = layer_of(INT4)
    training.emulation_of(other).load_state_dict(state)
    assert training.emulation_of(other).state_dict() == training.emulation_of(layer).state_dict()
    assert training.emulation_of(other).step == 2
    for copied in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert training.emulation_of(copied).state_dict() == state
        training.emulation_of(copied).end_step()
    assert training.emulation_of(layer).step == 2
    assert [name for name, _ in layer.named_parameters()] == ["weight"]
    with pytest.raises(ValueError, match="trained clipping"):
        training.emulation_of(layer_of(get_recipe("hfp8"))).load_state_dict(state)


def test_calibration_starts_alpha():
    x = randn(30, 40).relu()
    layer = training.quantise(layer_of("fp32"), INT4, calibrate=[x, 3 * x])
    assert float(training.quantiser_parameters(layer)[0].detach()) == float(3 * x.max())
    assert training.emulation_of(layer).scales.exponents == {}


# -- softmax -------------------------------------------------------------------------------------------


class Attend(nn.Module):
    def forward(self, x):
        return torch.softmax(x, -1)


def test_softmax_input_is_rounded_twice():
    recipe = get_recipe("hfp8")
    model, z = training.convert(Attend(), recipe.replace(policy="")), randn(5, 9).mul(4)
    z[1, 3:] = -torch.inf
    z.requires_grad_()
    y = model(z)
    subtracted = updates.softmax_input(z.detach().numpy(), recipe.site("softmax"), step=1)
    masked = np.isneginf(subtracted)
    fmt = hs.get_format("hfp8-143")
    values = fmt.decode(fmt.encode(np.where(masked, 0, subtracted), "nearest-away"))
    wanted = torch.from_numpy(np.where(masked, -np.inf, values).astype(np.float32)).requires_grad_()
    expected = wanted.softmax(-1)
    assert torch.equal(y, expected) and not torch.equal(y, z.softmax(-1))
    assert (y[1, 3:] == 0).all()
    dy = randn(5, 9, seed=3)
    y.backward(dy)
    expected.backward(dy)
    assert torch.equal(z.grad, wanted.grad)


def test_softmax_is_left_alone_in_binary32_and_for_profiles():
    z = randn(5, 9)
    for recipe in (get_recipe("mixed-fp8-2019"), "fp32", hs.get_profile("hfp8")):
        assert torch.equal(training.convert(Attend(), recipe)(z), z.softmax(-1))


def test_multihead_attention_rounds_its_softmax():
    torch.manual_seed(0)
    attention, x = nn.MultiheadAttention(16, 1, batch_first=True), randn(2, 6, 16).mul(3)
    profile = hs.get_profile("exact").replace(
        a_format="binary32", b_format="binary32", error_format="binary32"
    )
    recipe = get_recipe("hfp8").replace(profile=profile, policy="")
    weights = training.convert(copy.deepcopy(attention), recipe)(x, x, x)[1]
    w, b = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
    with torch.no_grad():
        q, k = x @ w[0].T + b[0], x @ w[1].T + b[1]
        scores = (q @ k.transpose(1, 2) / 4).numpy()
    z = updates.softmax_input(scores, recipe.site("softmax"), step=1)
    torch.testing.assert_close(weights, torch.from_numpy(z).softmax(-1), atol=3e-3, rtol=3e-2)
    steps = np.log(weights.detach().numpy() / weights.detach().numpy().max(-1, keepdims=True))
    dl = hs.get_format("dlfloat16")
    np.testing.assert_allclose(dl.decode(dl.encode(steps)), steps, atol=1e-5)


def test_loss_rounds_with_the_last_layer():
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4))
    logits, targets = randn(6, 4).mul(5), torch.arange(6) % 4
    exact = nn.functional.cross_entropy(logits, targets)
    assert torch.equal(training.cross_entropy(model, logits, targets), exact)
    site = get_recipe("hfp8").site("softmax")
    z = torch.from_numpy(updates.softmax_input(logits.numpy(), site, step=1))
    sixteen = training.cross_entropy(training.convert(model, "hfp8"), logits, targets)
    assert torch.equal(sixteen, nn.functional.cross_entropy(z, targets))
    fmt = hs.get_format("hfp8-143")
    eight = training.cross_entropy(
        training.convert(model, "hfp8", policy="first=fp16"), logits, targets
    )
    z = torch.from_numpy(fmt.decode(fmt.encode(z.numpy(), "nearest-away")).astype(np.float32))
    assert torch.equal(eight, nn.functional.cross_entropy(z, targets))
    kept = training.convert(model, "hfp8", policy="last=keep")
    assert torch.equal(training.cross_entropy(kept, logits, targets), exact)
    smooth = training.cross_entropy(
        kept, logits.reshape(2, 3, 4), targets.reshape(2, 3), label_smoothing=0.1
    )
    assert torch.equal(smooth, nn.functional.cross_entropy(logits, targets, label_smoothing=0.1))


# -- whole runs ----------------------------------------------------------------------------------------


def net():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8),
        nn.ReLU(), nn.Flatten(), nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 10),
    )  # fmt: skip


SHORT = Settings("tests.training.test_quantisers:net", recipe="int4-2020", steps=6, batch=16)


@pytest.mark.parametrize("recipe", recipes())
def test_every_shipped_recipe_trains(recipe):
    run = Run(dataclasses.replace(SHORT, recipe=recipe, steps=25, batch=64))
    run.train()
    assert run.history[-1].loss < run.history[0].loss
    assert not any(record.counts.skipped for record in run.history)


def test_four_bit_run_resumes_to_the_bit(tmp_path):
    def state(run):
        values = [*run.model.state_dict().values(), *training.quantiser_parameters(run.model)]
        return [v.detach().clone() for v in values], training.emulation_of(run.model).state_dict()

    whole = Run(SHORT, threads=1)
    whole.train()
    part = Run(dataclasses.replace(SHORT), threads=2)
    records = []

    class Stop(Exception):
        pass

    def stop(record):
        records.append(record)
        if len(records) == 3:
            raise Stop

    with pytest.raises(Stop):
        part.train(stop)
    path = part.save(tmp_path / "run.pt")
    again = Run(SHORT, threads=2)
    again.load(path)
    again.train()
    (ours, emulation), (theirs, expected) = state(again), state(whole)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert emulation == expected and len(emulation["scales"]["alphas"]) == 2
    assert [r.loss for r in again.history] == [r.loss for r in whole.history]


def test_alpha_is_trained_and_decays():
    run = Run(dataclasses.replace(SHORT, decay=0.5, steps=3))
    run.train()
    starts = Run(dataclasses.replace(SHORT, decay=0.5, steps=3))
    starts.model(next(batches_of(starts.data, starts.settings))[0])
    before, after = (
        [float(p.detach()) for p in training.quantiser_parameters(r.model)] for r in (starts, run)
    )
    assert all(0 < b < a for a, b in zip(before, after)) and len(after) == 2


def test_trained_alphas_are_those_of_direct_quantisation(tmp_path):
    run = Run(dataclasses.replace(SHORT, steps=3))
    run.train()
    trained = trained_network(run.save(tmp_path / "run.pt"))
    batches = [run.data.test.inputs[:50]], [(run.data.test.inputs[:50], run.data.test.targets[:50])]
    rows = training.quantise_directly(
        trained.model, "int4-2020", batches[1], batches[0], retune=None, emulation=trained.emulation
    )
    assert torch.equal(rows[-1].model(batches[0][0]), run.model.eval()(batches[0][0]))
