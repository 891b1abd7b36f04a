"""The watch: what it records is what the network multiplied, and it changes no bit."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from torch import nn  # noqa: E402

from hfp8sim import InputError, training  # noqa: E402
from hfp8sim.network import PHASES  # noqa: E402
from hfp8sim.recipes import get_recipe  # noqa: E402
from hfp8sim.report.training import TrainingLog  # noqa: E402
from hfp8sim.training.recording import Recorder  # noqa: E402
from hfp8sim.training.runs import Run, Settings  # noqa: E402
from hfp8sim.workloads.operands import operand_matrices  # noqa: E402

SMALL = Settings("tests.training.test_runs:small", steps=5, batch=16)


def watched(settings=SMALL, every=2):
    run = Run(settings, threads=1)
    watch = training.Watch(run.model, run.optimiser, every=every, name="small", threads=1)
    run.train(lambda record: watch.after_step(record.loss))
    return run, watch


def test_watch_reports_every_nth_step_and_changes_no_bit():
    run, watch = watched()
    plain = Run(SMALL, threads=1)
    plain.train()
    for a, b in zip(run.model.parameters(), plain.model.parameters()):
        assert torch.equal(a, b)
    assert [step.step for step in watch.log.steps] == [1, 2, 3, 4, 5]
    assert [report.step for report in watch.log.reports] == [1, 2, 4]
    assert [step.loss for step in watch.log.steps] == [record.loss for record in run.history]
    assert {step.scale for step in watch.log.steps} == {1024.0}
    rows = watch.log.reports[-1].rows
    # The first layer's input needs no gradient.
    keys = [
        (layer, phase)
        for layer in ("0", "3", "5")
        for phase in PHASES
        if (layer, phase) != ("0", "dgrad")
    ]
    assert sorted((row["layer"], row["phase"]) for row in rows) == sorted(keys)
    assert {row["layer"]: row["profile"] for row in rows} == {"0": "fp16", "3": "hfp8", "5": "fp16"}
    assert all(row["cycles"] > 0 and math.isfinite(row["sqnr_db"]) for row in rows)
    assert set(watch.log.reports[-1].stuck) == {"0", "3", "5"}


LAYERS = {
    "linear": (lambda: nn.Linear(6, 5), (4, 6)),
    "linear-3d": (lambda: nn.Linear(6, 5), (2, 4, 6)),
    "conv-2d": (lambda: nn.Conv2d(4, 6, 3, 2, (1, 0), groups=2), (2, 4, 7, 8)),
    "depthwise": (lambda: nn.Conv2d(4, 4, 3, padding="same", dilation=2, groups=4), (2, 4, 7, 8)),
    "conv-1d": (lambda: nn.Conv1d(4, 6, 3, 2, 1), (2, 4, 9)),
    "transposed-2d": (lambda: nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=1, groups=2), (2, 4, 5, 4)),
    "transposed-1d": (lambda: nn.ConvTranspose1d(4, 6, 3, 2, 1), (2, 4, 5)),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_recorded_operands_give_the_products_of_pytorch(name):
    """The matrices of the recorded layer, multiplied in float64, are the result and both gradients."""
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    layer = make()
    x = torch.randn(*shape, requires_grad=True)
    bias = layer.bias.detach().clone()
    wanted = layer(x)
    error = torch.randn_like(wanted)
    gradients = torch.autograd.grad(wanted, (x, layer.weight), error)
    axis = -1 if isinstance(layer, nn.Linear) else 1
    wanted = wanted.detach() - bias.reshape(
        [-1 if i == axis % wanted.ndim else 1 for i in range(wanted.ndim)]
    )

    model = training.convert(nn.Sequential(layer), "hfp8")
    emulation = layer.products.emulation
    emulation.recorder = recorder = Recorder()
    model(x).backward(error)
    workload, rules = recorder.workload("w")
    (recorded,) = workload
    assert [rule for rule, _ in rules] == ["0"]
    assert recorded.phases == PHASES
    for phase, result in zip(PHASES, (wanted, *gradients)):
        a, b = operand_matrices(recorded, phase, recorded.tensors)
        products = a.astype(np.float64) @ b.astype(np.float64)
        assert sorted(np.abs(products).ravel()) == pytest.approx(
            sorted(np.abs(result.detach().numpy()).ravel()), rel=1e-5, abs=1e-5
        )


def test_scales_of_operands_are_those_that_were_used():
    recipe = get_recipe("hfp8").replace(**{"error.scaling": "tracked", "policy": ""})
    model = training.convert(nn.Linear(4, 4), recipe)
    x, optimiser = torch.randn(8, 4), torch.optim.SGD(model.parameters(), 0.0)
    for _ in range(2):  # the first step sees the magnitudes, the second one uses them
        model.products.emulation.recorder = recorder = Recorder()
        (model(x).sum() * 2.0**-20).backward()
        optimiser.step()
    ((_, profile),) = recorder.workload("w")[1]
    assert profile.error_scale > 10
    assert (profile.a_scale, profile.b_scale) == (0, 0)


def test_products_that_no_report_has_are_named():
    model = training.convert(nn.Sequential(nn.Linear(4, 4), nn.Conv3d(1, 1, 1)), "hfp8", policy="")
    model[0].products.emulation.recorder = recorder = Recorder()
    model(torch.randn(2, 1, 3, 3, 4)).sum().backward()
    workload, _ = recorder.workload("w")
    assert [layer.name for layer in workload] == ["0"]
    assert workload.missing == ("1: reports know no volumes",)
    model = training.convert(nn.Linear(4, 4), "int4-2020", policy="")
    model.products.emulation.recorder = recorder = Recorder()
    model(torch.rand(2, 4)).sum().backward()
    assert recorder.uses == [] and len(recorder.missing) == 1


def test_time_steps_are_one_layer_and_attention_is_two_products():
    model = training.convert(nn.LSTM(3, 4, batch_first=True), "hfp8", policy="")
    emulation = model.products.emulation
    emulation.recorder = recorder = Recorder()
    model(torch.randn(2, 5, 3))[0].sum().backward()
    workload, _ = recorder.workload("w")
    assert [(layer.kind, layer.groups) for layer in workload] == [("linear", 1), ("recurrent", 5)]
    model = training.convert(nn.MultiheadAttention(8, 2, batch_first=True), "hfp8", policy="")
    model.products.emulation.recorder = recorder = Recorder()
    x = torch.randn(2, 5, 8)
    model(x, x, x)[0].sum().backward()
    kinds = [layer.kind for layer in recorder.workload("w")[0]]
    assert kinds.count("matmul") == 2
    assert kinds.count("linear") == 4


def test_checkpointed_products_are_recorded_once():
    from torch.utils.checkpoint import checkpoint

    model = training.convert(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), "hfp8", policy="")
    model[0].products.emulation.recorder = recorder = Recorder()
    checkpoint(model, torch.randn(3, 4, requires_grad=True), use_reentrant=False).sum().backward()
    assert len(recorder.uses) == 2
    (layer,) = recorder.workload("w")[0]
    assert (layer.groups, layer.phases) == (1, PHASES)


def test_log_is_read_back_and_resumed():
    _, watch = watched()
    log = TrainingLog.from_json(watch.log.to_json())
    assert log.steps == watch.log.steps
    assert [r.step for r in log.reports] == [1, 2, 4]
    assert log.to_csv() == watch.log.to_csv()
    again = training.Watch(nn.Linear(2, 2), every=2, name="small")
    again.resume(3, log)
    assert [r.step for r in again.log.reports] == [1, 2]
    again.after_step(1.0)
    assert [step.step for step in again.log.steps] == [1, 2, 3, 4]


def test_watch_of_a_network_that_is_not_converted_has_losses_only():
    _, watch = watched(Settings("tests.training.test_runs:small", recipe="fp32", steps=3, batch=8))
    assert len(watch.log.steps) == 3
    assert watch.log.reports == []


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"version": 7}', '{"version": 1}'])
def test_other_files_are_no_log(content):
    with pytest.raises(InputError, match=r"x\.json: not a training log"):
        TrainingLog.from_json(content, "x.json")


def test_bad_settings_are_named():
    with pytest.raises(InputError, match="every"):
        training.Watch(nn.Linear(2, 2), every=0)
    with pytest.raises(InputError, match="nope"):
        training.Watch(nn.Linear(2, 2), machine="nope")
    with pytest.raises(InputError, match=r"model is NoneType; it must be a torch\.nn\.Module"):
        training.Watch(None)


class Scores(nn.Module):
    """A product in the model's own code, and no layer of torch.nn."""

    def forward(self, x):
        return x @ x.T


def test_watch_reports_products_of_a_model_without_layers():
    model = training.convert(Scores(), policy="")
    watch = training.Watch(model, every=1, threads=1)
    model(torch.rand(4, 6)).sum()
    report = watch.after_step(1.0)
    assert report is not None and [row["phase"] for row in report.layers] == ["fwd"]
