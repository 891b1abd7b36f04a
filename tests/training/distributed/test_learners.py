"""Many learners: the bits of the protocol in one process and in several, counted bytes, skipped steps."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from hfp8sim import InputError, training  # noqa: E402
from hfp8sim.ops.updates import reduce  # noqa: E402
from hfp8sim.recipes import get_recipe  # noqa: E402
from hfp8sim.systems import wire  # noqa: E402
from hfp8sim.training import distributed, steps  # noqa: E402
from hfp8sim.training.distributed.protocol import Bundle, Seat, all_gather, encode, reduce_scatter  # noqa: E402
from hfp8sim.training.distributed.runs import ManyLearners  # noqa: E402
from hfp8sim.training.runs import Settings  # noqa: E402
from hfp8sim.units.sites import BINARY32, Site  # noqa: E402
from tests import oracle  # noqa: E402
from tests.training.distributed import networks  # noqa: E402
from tests.training.distributed.networks import NEAREST, STOCHASTIC  # noqa: E402

ROOT = Path(__file__).parents[3]
SETTINGS = {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4, "seed": 3}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def by_hand(model, recipe, learners, count=4):
    """The protocol written out: gradients of each learner, `ops.reduce`, and the optimiser of one learner."""
    optimiser = training.make_optimiser(model, recipe, **SETTINGS)
    optimiser.scale = optimiser.scale._replace(scale=optimiser.scale.scale * learners)
    (emulation,) = steps.emulations(optimiser)
    numbered = [p for group in optimiser.param_groups for p in group["params"]]
    rules = [group["update"].rule for group in optimiser.param_groups for _ in group["params"]]
    losses = []
    for number, (x, y) in enumerate(networks.batches(count), start=1):
        size = len(x) // learners
        gradients, of_step = [], []
        buffers = [b.clone() for b in model.buffers()]
        for k in range(learners):
            emulation.seed = distributed.learner_seed(3, k)
            torch.manual_seed(distributed.generator_seed(3, number, k))
            optimiser.zero_grad()
            part = slice(k * size, (k + 1) * size)
            loss = nn.functional.cross_entropy(model(x[part].clone()), y[part].clone())
            (loss * (optimiser.scale.scale / learners)).backward()
            of_step.append(loss.item())
            gradients.append([p.grad.numpy().copy() for p in numbered])
            if k == 0:
                kept = [b.clone() for b in model.buffers()]
            for buffer, start in zip(model.buffers(), buffers):
                buffer.copy_(start)
        for buffer, new in zip(model.buffers(), kept):
            buffer.copy_(new)
        for index, parameter in enumerate(numbered):
            site = BINARY32 if rules[index] == "master" else recipe.site("reduce")
            total = reduce(
                [own[index] for own in gradients],
                site,
                seed=3,
                step=number,
                tensor=index,
                encoded=True,
            )
            parameter.grad = torch.from_numpy(total)
        optimiser.step()
        losses.append(sum(of_step) / learners)
    return losses, optimiser


def state(optimiser):
    return torch.cat([
        value.flatten()
        for group in optimiser.param_groups for p in group["params"]
        for _, value in sorted(optimiser.state[p].items())
    ])  # fmt: skip


def test_learners_draw_words_of_their_own():
    """The seeds that docs/distributed.md names."""
    assert distributed.learner_seed(3, 0) == 3
    for k in range(1, 8):
        assert distributed.learner_seed(3, k) == oracle.absorb(oracle.absorb(0, 3), k)


@pytest.mark.parametrize("learners", [1, 2, 4])
@pytest.mark.parametrize("recipe", [NEAREST, STOCHASTIC], ids=["nearest", "stochastic"])
def test_learners_compute_the_protocol_written_out(recipe, learners):
    """With one learner this is `training.make_optimiser`, without a sum."""
    model = networks.converted(recipe)
    optimiser = distributed.make_optimiser(model, recipe, learners=learners, **SETTINGS)
    losses = networks.train(model, optimiser)
    other = networks.converted(recipe)
    expected, reference = by_hand(other, recipe, learners)
    assert losses == expected
    assert torch.equal(networks.weights(model), networks.weights(other))
    assert torch.equal(networks.state(optimiser), state(reference))
    for one, two in zip(model.buffers(), other.buffers()):
        assert torch.equal(one, two)


@pytest.mark.parametrize(
    ("processes", "name", "launcher"),
    [(2, "STOCHASTIC", "torchrun"), (4, "NEAREST", "torchrun")],
)
def test_processes_give_the_same_bits(tmp_path, processes, name, launcher):
    command = [
        sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--standalone",
        "-m", "tests.training.distributed.worker", str(tmp_path), name,
    ]  # fmt: skip
    environment = os.environ | {
        "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
    }  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    recipe = getattr(networks, name)
    model = networks.converted(recipe)
    optimiser = distributed.make_optimiser(model, recipe, learners=processes, **SETTINGS)
    losses = networks.train(model, optimiser)
    for k in range(processes):
        result = np.load(tmp_path / f"{k}.npz")
        np.testing.assert_array_equal(result["weights"], networks.weights(model).numpy())
        np.testing.assert_array_equal(result["state"], networks.state(optimiser).numpy())
        assert result["losses"].tolist() == losses
        traffic = optimiser.traffic[k]
        for collective, sent, messages in zip(result["names"], result["sent"], result["messages"]):
            if collective != "checkpoint":
                assert (sent, messages) == (traffic.total(collective), traffic.messages[collective])
    buffers = torch.cat([b.flatten().double() for b in model.buffers()]).numpy()
    np.testing.assert_array_equal(np.load(tmp_path / "0.npz")["buffers"], buffers)


def ring_sum(gradients, site, fmt):
    """The sums of a reduce-scatter, and the traffic."""
    ring = distributed.LocalRing(len(gradients))
    bundle = Bundle((5,), (gradients[0].size,), site, fmt)
    parts = [reduce_scatter(bundle, [g], s, 1, 2) for g, s in zip(gradients, ring.seats)]
    return np.concatenate(ring.run(parts)), ring


@pytest.mark.parametrize("learners", [2, 3, 5, 8])
@pytest.mark.parametrize(
    "site", [Site(), Site("dlfloat16", "stochastic"), Site("hfp8-152", "stochastic", "saturate"), BINARY32],
    ids=lambda site: site.text,
)  # fmt: skip
def test_reduce_scatter_is_the_ring_sum(learners, site):
    rng = np.random.default_rng(learners)
    gradients = list(rng.standard_normal((learners, 103)).astype(np.float32))
    sums, ring = ring_sum(gradients, site, site.record)
    expected = reduce(gradients, site, seed=1, step=2, tensor=5, encoded=True)
    np.testing.assert_array_equal(sums, expected)
    width = -(-site.record.bits // 8)
    for seat, traffic in zip(ring.seats, ring.traffic):
        expected = wire.reduce_scatter_bytes(103, width, learners, seat.learner)
        assert traffic.total("reduce-scatter") == expected
        assert traffic.messages["reduce-scatter"] == learners - 1


def test_equal_terms_swamp_in_a_long_ring():
    """A sum over learners has no chunks: in 1-4-3 a term of half a unit is lost, as in 1-6-9 from 1024 learners on."""
    gradients = [np.ones(20, np.float32) for _ in range(20)]
    sums, _ = ring_sum(gradients, Site("hfp8-143", "nearest-even", "saturate"), BINARY32.record)
    assert sums.tolist() == [16] * 20
    exact, _ = ring_sum(gradients, Site(), BINARY32.record)
    assert exact.tolist() == [20] * 20


@pytest.mark.parametrize(("name", "width"), [("hfp8-143", 1), ("dlfloat16", 2), ("binary32", 4)])
def test_all_gather_brings_every_chunk_as_codes(name, width):
    fmt = Site(name, "nearest-even", "saturate").record
    rng = np.random.default_rng(0)
    values = fmt.decode(fmt.encode(rng.standard_normal(50)), dtype=np.float32)
    values[:3] = 0, -0.0, fmt.max if name != "binary32" else 1
    ring = distributed.LocalRing(4)
    arrays = []
    for seat in ring.seats:
        arrays.append(np.full(50, 9, np.float32))
        arrays[-1][seat.chunk(50)] = values[seat.chunk(50)]
    bundle = Bundle((0,), (50,), BINARY32, fmt)
    ring.run([all_gather(bundle, [a], s, fmt) for a, s in zip(arrays, ring.seats)])
    for array in arrays:
        np.testing.assert_array_equal(array, values)
    for seat, traffic in zip(ring.seats, ring.traffic):
        assert traffic.total("all-gather") == wire.all_gather_bytes(50, width, 4, seat.learner)
    assert encode(values, fmt).size == width * 50


def test_tensors_cost_the_bytes_of_their_formats():
    """16-bit layers gather two bytes, 8-bit layers one, biases four."""
    model = networks.converted(NEAREST)
    optimiser = distributed.make_optimiser(model, NEAREST, learners=2, **SETTINGS)
    networks.train(model, optimiser, steps=1)
    sizes = [p.numel() for group in optimiser.param_groups for p in group["params"]]
    widths = [1, 2, 2] + [4] * 5
    for number, (size, width) in enumerate(zip(sizes, widths, strict=True)):
        sent = optimiser.traffic[1].bytes
        assert sent["reduce-scatter", number] == (2 if width < 4 else 4) * (size // 2)
        assert sent["all-gather", number] == width * (size - size // 2)


@pytest.mark.parametrize("learners", [2, 4])
def test_learners_send_what_the_account_says(learners):
    """By layer and collective, all learners together; 16-bit layers gather two bytes, biases four."""
    model = networks.converted(NEAREST)
    optimiser = distributed.make_optimiser(model, NEAREST, learners=learners, **SETTINGS)
    networks.train(model, optimiser, steps=1)
    numbered = [p for group in optimiser.param_groups for p in group["params"]]
    narrow = [p.ndim > 1 for p in numbered]
    layers = [
        wire.Weights(str(n), p.numel(), (1, 2, 2)[n] if n < 3 else 4)
        for n, p in enumerate(numbered)
    ]
    assert narrow == [True] * 3 + [False] * 5
    rows = wire.hfp8(layers[:3], learners) + wire.hfp8(layers[3:], learners, gradient=4)
    counted = {}
    for traffic in optimiser.traffic:
        for (collective, number), sent in traffic.bytes.items():
            if number >= 0:
                counted[str(number), collective] = counted.get((str(number), collective), 0) + sent
    assert counted == {(row.layer, row.collective): learners * row.bytes for row in rows}


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_overflow_at_one_learner_skips_the_step_of_all(bad):
    model = networks.converted(NEAREST)
    optimiser = distributed.make_optimiser(model, NEAREST, learners=4, **SETTINGS)
    networks.train(model, optimiser, steps=1)
    before, scale = networks.weights(model), optimiser.scale.scale
    sent = [traffic.total("reduce-scatter") for traffic in optimiser.traffic]
    (x, y), *_ = networks.batches(1)
    for k, (xs, ys) in enumerate(optimiser.parts(x, y)):
        optimiser.backward(nn.functional.cross_entropy(model(xs), ys))
        if k == 2:
            model[3].weight.grad[0, 0, 0, 0] = bad
    optimiser.step()
    assert optimiser.counts.skipped
    assert optimiser.scale.scale == scale / 2
    assert torch.equal(networks.weights(model), before)
    assert [traffic.total("reduce-scatter") for traffic in optimiser.traffic] == sent


def test_sum_that_overflows_skips_the_step():
    model = networks.converted(NEAREST)
    optimiser = distributed.make_optimiser(model, NEAREST, learners=2, **SETTINGS)
    (x, y), *_ = networks.batches(1)
    for xs, ys in optimiser.parts(x, y):
        optimiser.backward(nn.functional.cross_entropy(model(xs), ys))
        model[3].weight.grad[0, 0, 0, 0] = 2.0**32  # 1-6-9 ends below 2^33
    optimiser.step()
    assert optimiser.counts.skipped
    assert optimiser.steps_taken == 0


def test_counts_are_those_of_all_learners():
    counted = []
    for learners in (1, 4):
        model = networks.converted(get_recipe("hfp8"))
        optimiser = distributed.make_optimiser(
            model, "hfp8", learners=learners, count_stuck=True, **SETTINGS
        )
        networks.train(model, optimiser, steps=1)
        counted.append(optimiser.counts)
    assert counted[0].weights == counted[1].weights == networks.weights(model).numel()
    assert counted[1].overflowed.keys() == counted[0].overflowed.keys()


def test_state_loads_with_another_number_of_learners():
    """A checkpoint has the state of all learners; from there on, bits are those of the new number."""
    model = networks.converted(NEAREST)
    optimiser = distributed.make_optimiser(model, NEAREST, learners=4, **SETTINGS)
    networks.train(model, optimiser)
    other = networks.converted(NEAREST)
    other.load_state_dict(model.state_dict())
    two = distributed.make_optimiser(other, NEAREST, learners=2, **SETTINGS)
    two.load_state_dict(optimiser.state_dict())
    assert torch.equal(networks.state(two), networks.state(optimiser))
    networks.train(other, two, steps=1)


def test_misuse_is_refused_in_one_line():
    model = networks.converted(NEAREST)
    with pytest.raises(InputError, match="either learners= or ring="):
        distributed.make_optimiser(model, NEAREST, lr=0.1)
    optimiser = distributed.make_optimiser(model, NEAREST, learners=3, lr=0.1)
    (x, y), *_ = networks.batches(1)
    with pytest.raises(InputError, match="16 examples does not divide among 3 learners"):
        next(optimiser.parts(x, y))
    with pytest.raises(InputError, match="once for each part"):
        optimiser.step()
    with pytest.raises(InputError, match="takes no closure"):
        optimiser.step(lambda: 0)
    for number, (xs, ys) in enumerate(optimiser.parts(x[:15], y[:15])):
        optimiser.backward(nn.functional.cross_entropy(model(xs), ys))
        if number == 1:
            model[3].weight.grad = None
    with pytest.raises(InputError, match="gradients of different parameters"):
        optimiser.step()
    with pytest.raises(InputError, match="use torchrun"):
        distributed.connect()
    with pytest.raises(InputError, match="unknown optimiser 'lamb'"):
        distributed.make_optimiser(model, NEAREST, "lamb", learners=2, lr=0.1)
    assert training.restore(model) is model


def test_learners_that_do_not_find_each_other_say_so(monkeypatch):
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=r"^learners do not find each other: [^\n]*$"):
        distributed.connect(timeout=0.5)


@pytest.mark.parametrize(
    ("recipe", "learners", "message"),
    [
        ("hfp8", 2, "^3 processes run 2 learners; the numbers must be equal$"),
        ("int4-2020", 3, "^recipe int4-2020: its scales and quantisers follow all learners"),
    ],
)
def test_processes_of_a_launcher_refuse_in_one_line(recipe, learners, message):
    """As `torchrun` starts them, which knows nothing of the recipe and of `--learners`."""
    settings = Settings("cnn", recipe=recipe, batch=12, learners=learners)
    with pytest.raises(InputError, match=message):
        ManyLearners(settings, ring=distributed.LocalRing(3))


def test_seats_cover_a_tensor_once():
    for size in (0, 1, 5, 64, 103):
        for learners in (1, 2, 3, 7):
            spans = [Seat(k, learners).chunk(size) for k in range(learners)]
            assert [span.start for span in spans[1:]] == [span.stop for span in spans[:-1]]
            assert (spans[0].start, spans[-1].stop) == (0, size)
