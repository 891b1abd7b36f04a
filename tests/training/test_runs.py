"""Whole training runs: HFP8 beside binary32, checkpoints that resume to the bit, refusals."""

import dataclasses

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from hfp8sim import InputError  # noqa: E402
from hfp8sim.recipes import get_recipe  # noqa: E402
from hfp8sim.training.runs import Run, Settings, read_checkpoint  # noqa: E402

STOCHASTIC = get_recipe("hfp8").replace(**{"name": "hfp8-sr", "error.rounding": "stochastic"})
SHORT = Settings("tests.training.test_runs:small", recipe=STOCHASTIC, steps=6, batch=16)


def small():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, 2),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3),
        nn.Flatten(),
        nn.Linear(4, 10),
    )


def scalar():
    return "no model"


def weights(run):
    return torch.cat([p.detach().flatten() for p in run.model.parameters()])


class Stop(Exception):
    pass


def stopped_after(run, step):
    def on_step(record):
        if record.step == step:
            raise Stop

    with pytest.raises(Stop):
        run.train(on_step)


def test_run_resumes_to_the_bit_with_another_number_of_threads(tmp_path):
    whole = Run(SHORT, threads=1)
    whole.train()
    part = Run(SHORT, threads=2)
    stopped_after(part, 2)
    path = part.save(tmp_path / "run.pt")
    again = Run(SHORT, threads=1)
    again.load(path)
    assert again.step == 2
    again.train()
    assert torch.equal(weights(again), weights(whole))
    assert [r.loss for r in again.history] == [r.loss for r in whole.history]
    assert again.evaluate() == whole.evaluate()


def test_checkpoint_loads_into_the_plain_network_and_names_other_settings(tmp_path):
    run = Run(dataclasses.replace(SHORT, steps=1))
    run.train()
    path = run.save(tmp_path / "run.pt")
    small().load_state_dict(read_checkpoint(path)["model"], strict=True)
    with pytest.raises(InputError, match="is of a run with steps 1, this one has 6"):
        Run(SHORT).load(path)
    with pytest.raises(InputError, match="is of a run with recipe"):
        Run(dataclasses.replace(SHORT, steps=1, recipe="hfp8")).load(path)


def test_run_starts_from_the_weights_of_a_file(tmp_path):
    """Of a checkpoint only the network is taken: history, momentum and seed are the run's own."""
    run = Run(SHORT)
    run.train()
    path = str(run.save(tmp_path / "a.pt"))
    other = Run(dataclasses.replace(SHORT, seed=9, weights=path))
    assert torch.equal(weights(other), weights(run))
    assert other.step == 0
    with pytest.raises(InputError, match=r"a\.pt: not weights of this network: \S[^\n]*$"):
        Run(dataclasses.replace(SHORT, network="cnn", weights=path))


def test_damaged_checkpoints_are_refused_in_one_line(tmp_path):
    path = tmp_path / "run.pt"
    with pytest.raises(InputError, match="No such file"):
        read_checkpoint(path)
    for content in (b"", b"no checkpoint", b"PK\x03\x04" + bytes(100)):
        path.write_bytes(content)
        with pytest.raises(InputError, match="not a checkpoint") as error:
            read_checkpoint(path)
        assert "\n" not in str(error.value)
    torch.save([1, 2], path)
    with pytest.raises(InputError, match="not a checkpoint of hfp8sim train"):
        read_checkpoint(path)


def test_failed_write_keeps_the_old_checkpoint(tmp_path, monkeypatch):
    run = Run(dataclasses.replace(SHORT, steps=1))
    path = run.save(tmp_path / "run.pt")
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", _full_disk)
    monkeypatch.setattr("os.rename", _full_disk)
    with pytest.raises(InputError, match="No space left"):
        run.save(path)
    assert path.read_bytes() == before


def _full_disk(*args, **kwargs):
    raise OSError(28, "No space left on device")


def test_loss_that_is_no_number_ends_the_run_in_one_line():
    run = Run(SHORT)
    with torch.no_grad():
        run.model[5].bias.fill_(torch.nan)
    with pytest.raises(InputError, match="the loss of step 1 is nan"):
        run.train()


def spoiled():
    """The third call in training gives a NaN, after its normalisation has seen the batch."""
    return Spoiled()


class Spoiled(nn.Module):
    def __init__(self):
        super().__init__()
        self.inside, self.calls = small(), 0

    def forward(self, x):
        self.calls += self.training
        return self.inside(x) * (torch.nan if self.calls == 3 else 1)


def test_loss_that_is_no_number_loses_nothing(tmp_path):
    settings = dataclasses.replace(SHORT, network="tests.training.test_runs:spoiled")
    run = Run(settings)
    with pytest.raises(InputError, match="the loss of step 3 is nan"):
        run.train()
    assert run.step == 2 and torch.isfinite(run.model.inside[1].running_mean).all()
    again, whole = Run(settings), Run(settings)
    again.load(run.save(tmp_path / "run.pt"))
    for other in (again, whole):
        other.model.calls = 3
        other.train()
    assert whole.step == 6
    for ours, theirs in zip(again.model.state_dict().values(), whole.model.state_dict().values()):
        assert torch.equal(ours, theirs)  # running statistics too


class Parts(nn.Module):
    """The small network in parts; its middle under activation checkpointing if `again`."""

    def __init__(self, again=False):
        super().__init__()
        self.inside, self.again = small(), again

    def forward(self, x):
        y = self.inside[:3](x)
        middle = self.inside[3]
        if self.again:
            y = torch.utils.checkpoint.checkpoint(middle, y, use_reentrant=False)
        else:
            y = middle(y)
        return self.inside[4:](y)


def recomputed():
    return Parts(again=True)


def test_fifty_steps_give_the_same_weights_in_every_way(tmp_path):
    """Threads, activation checkpointing, save and resume: with 8-bit weights and stochastic errors."""
    plain = dataclasses.replace(SHORT, network="tests.training.test_runs:Parts", steps=50)
    again = dataclasses.replace(plain, network="tests.training.test_runs:recomputed")
    runs = [Run(plain, threads=1), Run(plain, threads=2), Run(again, threads=2)]
    for run in runs:
        run.train()
    part = Run(again, threads=2)
    stopped_after(part, 20)
    runs.append(Run(again, threads=1))
    runs[-1].load(part.save(tmp_path / "run.pt"))
    runs[-1].train()
    for run in runs[1:]:
        assert torch.equal(weights(run), weights(runs[0]))
        assert [r.loss for r in run.history] == [r.loss for r in runs[0].history]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"network": "resnet"}, "unknown network 'resnet'"),
        (
            {"network": "os:path"},
            "network os:path: it is a module; it must be a function or a class",
        ),
        ({"network": "no.module:f"}, "network no.module:f: No module named 'no'"),
        ({"network": "tests.training.test_runs:scalar"}, "must return a torch.nn.Module"),
        ({"network": "cnn", "data": "help-text"}, "network cnn takes images"),
        ({"network": "transformer"}, "network transformer takes a text, and digits has images"),
        ({"network": "torch.nn:Identity"}, "network torch.nn:Identity has no parameter to train"),
        ({"data": "mnist"}, "unknown data set 'mnist'"),
        ({"recipe": "hfp9"}, "unknown recipe 'hfp9'"),
        ({"steps": 0}, "steps is 0"),
        ({"seed": 2**64}, "seed is 18446744073709551616, must be 0"),
        ({"rate": float("nan")}, "rate is nan"),
        ({"optimiser": "lamb"}, "must be sgd or adam"),
    ],
)
def test_bad_settings_are_refused(changes, text):
    with pytest.raises(InputError, match=text):
        Run(dataclasses.replace(SHORT, **changes))


def test_transformer_of_characters_learns():
    settings = Settings(
        "transformer", "help-text", "hfp8", "adam", 2e-3, decay=0.0, batch=4, steps=8
    )
    run = Run(settings)
    run.train()
    assert run.history[-1].loss < run.history[0].loss - 0.5
    assert not any(record.counts.skipped for record in run.history)
