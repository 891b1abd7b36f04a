"""Studies: each runs in its quick size, judges itself, and agrees with the data that the docs show."""

import dataclasses
import math
import subprocess
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from hfp8sim import InputError  # noqa: E402
from hfp8sim.ops.quantisers import radix4  # noqa: E402
from hfp8sim.report.study import StudyRecord  # noqa: E402
from hfp8sim.training.studies import bits, frame, quantised  # noqa: E402
from hfp8sim.training.studies.registry import get_study, studies  # noqa: E402

DATA = Path(__file__).parents[2] / "docs" / "studies"


@pytest.mark.parametrize("name", studies())
def test_quick_size_measures_every_arm(name) -> None:
    study = get_study(name)
    record = study.run(quick=True)
    assert study.name == name
    assert {row["arm"] for row in record.rows} == set(study.arms)
    assert record.seeds == list(range(study.quick_seeds))
    assert {key for row in record.rows for key in row} >= {metric.name for metric in study.metrics}
    assert record.checks
    assert StudyRecord.from_json(record.to_json()) == record
    record.to_svg()


@pytest.mark.parametrize("name", sorted(path.stem for path in DATA.glob("*.json")))
def test_stored_data_is_that_of_the_study_as_it_is(name) -> None:
    """Also says that `make studies` was run again after a study changed."""
    study = get_study(name)
    stored = StudyRecord.from_json((DATA / f"{name}.json").read_text("utf-8"), name)
    assert study.record(stored.rows, stored.facts) == stored
    assert not stored.facts["quick"]
    assert len(stored.seeds) == study.seeds >= 3
    assert stored.points == (sorted(study.points) if study.sweep else [None])
    assert stored.facts["cpu_seconds"] < 600


def products_of(scheme):
    """x, error, and the gradients of a quantised layer."""
    torch.manual_seed(0)
    layer = quantised.Quantised(6, 5, scheme, seed=0)
    x = torch.rand(4, 6, requires_grad=True)
    error = torch.randn(4, 5) / 8
    (layer(x) * error).sum().backward()
    return layer, x, error, x.grad.numpy(), layer.weight.grad.numpy()


def test_layer_that_is_not_quantised_is_linear():
    layer, x, error, dx, dw = products_of(quantised.Scheme())
    torch.testing.assert_close(layer(x), torch.nn.functional.linear(x, layer.weight, layer.bias))
    np.testing.assert_allclose(dx, (error @ layer.weight).detach().numpy(), rtol=1e-5)
    np.testing.assert_allclose(dw, (error.T @ x).detach().numpy(), rtol=1e-5)


def test_errors_have_one_phase_for_each_gradient():
    layer, x, error, dx, dw = products_of(quantised.Scheme(error="radix4", scale=64.0))
    even, odd = (radix4(64.0 * error.numpy(), phase) / 64.0 for phase in ("even", "odd"))
    np.testing.assert_allclose(dx, even @ layer.weight.detach().numpy(), rtol=1e-5)
    np.testing.assert_allclose(dw, odd.T @ x.detach().numpy(), rtol=1e-5)
    assert layer.error_scale == 64.0


def test_scale_of_a_layer_follows_its_errors():
    layer, _, error, _, _ = products_of(quantised.Scheme(error="radix4"))
    largest = float(error.abs().max())
    assert 1024 * largest > 64 and layer.error_scale == 512


def test_clipped_activations_train_their_level():
    layer, x, _, dx, _ = products_of(quantised.Scheme(activation=4))
    assert layer.alpha.grad == 0 and (dx != 0).all()  # nothing reaches α = 8
    layer.alpha.data.fill_(0.5)
    layer.alpha.grad = x.grad = None
    layer(x).sum().backward()
    assert layer.alpha.grad != 0
    assert ((x.grad == 0) == (x >= 0.5)).all()


def test_profiles_of_predicted_bits():
    """Theorem 1 of Sakr et al. for sums of 8192 products with 5 fraction bits."""
    assert bits.predicted_bits(8192, 0, 0) == 9
    assert bits.predicted_bits(8192, -2, 0) == 7
    assert bits.predicted_bits(8192, 0, 64) == 5
    profile = bits.profile(7, 64)
    assert (profile.result_format.fraction_bits, profile.chunk_length) == (7, 64)
    names = [
        name
        for name, module in bits.network().named_modules()
        if hasattr(module, "weight") and module.weight.ndim > 1
    ]
    assert set(names) == set(bits.LENGTHS)


def test_budget_takes_fewer_seeds() -> None:
    study = dataclasses.replace(get_study("last-layer"), points=(10,), seeds=4)
    assert study.run(budget=math.inf).seeds == [0, 1, 2, 3]
    assert study.run(budget=1e-9).seeds == [0]


def test_seeds_can_be_set() -> None:
    study = dataclasses.replace(get_study("last-layer"), points=(10,))
    assert study.run(quick=True, seeds=3).seeds == study.run(seeds=3).seeds == [0, 1, 2]
    with pytest.raises(InputError, match="seeds is 0, must be at least 1"):
        study.run(seeds=0)


def test_commit_of_the_sources(tmp_path, monkeypatch) -> None:
    """The commit of a checkout, marked if its sources were changed; none elsewhere."""
    package = tmp_path / "hfp8sim"
    monkeypatch.setattr(frame, "__file__", str(package / "training" / "studies" / "frame.py"))
    package.mkdir()
    (package / "version.py").write_text("")
    assert frame.commit() == ""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@example.org"]
    for arguments in (["init"], ["add", "."], ["commit", "-m", "one"]):
        subprocess.run([*git, *arguments], check=True, capture_output=True)
    found = frame.commit()
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    assert len(found) == 12 and head.stdout.startswith(found)
    (tmp_path / "results.json").write_text("{}")
    assert frame.commit() == found
    (package / "version.py").write_text("changed")
    assert frame.commit() == found + "+"


def test_run_that_diverges_is_named() -> None:
    scheme = quantised.Scheme(4, "4z", largest=True)
    values = quantised.train(scheme, 0, 12, rate=1e20)
    assert values == {"training loss": math.inf, "test loss": math.inf, "accuracy": 10.0}
    study = get_study("clipping")
    stored = StudyRecord.from_json((DATA / "clipping.json").read_text("utf-8"))
    assert study.record(stored.rows, {}).checks[0].holds
    rows = [dict(row) for row in stored.rows]
    rows[4] |= values
    record = study.record(rows, {})
    place = f"{rows[4]['arm']} at {rows[4]['bits']} bits, seed {rows[4]['seed']}"
    assert not record.checks[0].holds and place in record.checks[0].text
    assert record.verdict != "shown"
    record.to_svg(), str(record)


def test_plain_network_starts_as_the_quantised_one() -> None:
    def weights(make):
        torch.manual_seed(3)
        return [p for p in make().parameters() if p.ndim]

    def layer(_):
        return quantised.Quantised(64, 64, quantised.Scheme(), 0)

    pairs = zip(
        weights(quantised.plain_network), weights(lambda: quantised.network(layer)), strict=True
    )
    assert all(torch.equal(a, b) for a, b in pairs)


def test_unknown_study_is_named() -> None:
    with pytest.raises(InputError, match="unknown study 'update'"):
        get_study("update")
