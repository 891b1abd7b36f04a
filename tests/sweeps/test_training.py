"""Sweeps of trainings: recipes, their keys and their profiles, with the time of a step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import hfp8sim as hs
from hfp8sim.sweeps import Plan
from hfp8sim.sweeps.jobs import Resolver
from hfp8sim.systems import Link, System
from hfp8sim.training.runs import Run, Settings

SMALL = "tests.training.test_runs:small"


def plan(**axes: Any) -> Plan:
    return Plan(
        {"network": [SMALL], "recipe": ["fp32", "hfp8"], "steps": [4], "batch": [16]}
        | {key.replace("__", "."): values for key, values in axes.items()}
    )


def test_points_are_trainings() -> None:
    result = hs.sweep(plan(machine=["edge-8x8"]))
    fp32, hfp8 = result.rows
    run = Run(Settings(SMALL, recipe="hfp8", steps=4, batch=16))
    run.train()
    evaluation = run.evaluate()
    assert (hfp8["test_loss"], hfp8["accuracy"]) == (evaluation.loss, evaluation.accuracy)
    assert hfp8["loss"] == sum(step.loss for step in run.history) / 4
    assert result.records[result.points[1].key or ""]["history"] == [s.loss for s in run.history]
    assert hfp8["cycles"] > 0 and hfp8["accumulator_bits"] == 16
    assert fp32.get("cycles") is None and fp32["accumulator_bits"] == 32
    assert result.quality == "test_loss"
    step = [row for row in result.layers if row["point"] == 1]
    assert {row["phase"] for row in step} == {"fwd", "dgrad", "wgrad"}


def test_processes_give_the_same_trainings(tmp_path: Path) -> None:
    here = hs.sweep(plan(seed=[0, 1])).to_csv()
    assert hs.sweep(plan(seed=[0, 1]), n_jobs=2, out=tmp_path).to_csv() == here


def test_keys_of_recipes_and_profiles_are_varied() -> None:
    result = hs.sweep(
        plan(
            recipe=["hfp8"], profile__chunk_length=[4, 64],
            **{"recipe.rule": ["axpy", "master"], "system": [System("two", 2, Link(1.0))]},
        )
    )  # fmt: skip
    assert result.failed == 0 and len({row["loss"] for row in result.rows}) == 4
    for row in result.rows:
        assert row["step_us"] == pytest.approx(row["time_us"] + row["exposed_us"])
        assert row["exposed_us"] > 0
    assert sum(row.get("sent_bytes") or 0 for row in result.layers) == sum(
        row["sent_bytes"] for row in result.rows
    )


def test_profile_of_an_unemulated_recipe_fails_alone() -> None:
    result = hs.sweep(plan(profile__chunk_length=[16]))
    assert [row["status"] for row in result.rows] == ["failed", "done"]
    assert "emulates no product" in result.rows[0]["reason"]


def test_training_goes_on_from_weights_and_writes_its_network(tmp_path: Path) -> None:
    """A second start takes a point over only while its network is there."""
    first, second = str(tmp_path / "first.pt"), tmp_path / "second.pt"
    hs.sweep(plan(recipe=["hfp8"], checkpoint=[first]))
    more = plan(recipe=["hfp8"], weights=[first], checkpoint=[str(second)])
    (row,) = hs.sweep(more, out=tmp_path / "out").rows
    run = Run(Settings(SMALL, recipe="hfp8", steps=4, batch=16, weights=first))
    run.train()
    assert row["test_loss"] == run.evaluate().loss
    whole = second.read_bytes()
    second.write_bytes(b"mine")
    hs.sweep(more, out=tmp_path / "out")
    assert second.read_bytes() == b"mine"
    second.unlink()
    hs.sweep(more, out=tmp_path / "out")
    assert second.read_bytes() == whole
    keys = [Resolver().job({"network": SMALL, "recipe": "hfp8", "weights": first}).key]
    Path(first).write_bytes(whole)
    keys.append(Resolver().job({"network": SMALL, "recipe": "hfp8", "weights": first}).key)
    assert keys[0] != keys[1]
    (lost,) = hs.sweep(plan(recipe=["hfp8"], weights=[str(tmp_path / "no.pt")])).rows
    assert lost["status"] == "failed" and "no.pt: No such file" in lost["reason"]


def test_diverging_training_fails_alone() -> None:
    result = hs.sweep(plan(rate=[0.05, 1e30], recipe=["fp32"]))
    assert [row["status"] for row in result.rows] == ["done", "failed"]
    assert "the loss of step" in result.rows[1]["reason"]


def test_key_depends_on_the_source_of_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.syspath_prepend(tmp_path)
    keys = []
    for width in (3, 4):
        (tmp_path / "my_network.py").write_text(f"WIDTH = {width}\n")
        keys.append(Resolver().job({"network": "my_network:make", "recipe": "hfp8"}).key)
    assert keys[0] != keys[1]


@pytest.mark.parametrize(
    "changes", [{"seed": 1}, {"steps": 5}, {"recipe.rule": "axpy"}, {"data": "fashion-mnist"}]
)
def test_key_depends_on_settings(changes: dict[str, Any]) -> None:
    point = {"network": "cnn", "recipe": "hfp8"}
    assert Resolver().job(point).key != Resolver().job(point | changes).key


def test_command_trains_the_best_point_again(tmp_path: Path) -> None:
    """The recipe's file and the options of the command give the same run."""
    from hfp8sim.recipes import get_recipe
    from hfp8sim.sweeps.best import best

    result = hs.sweep(
        plan(
            recipe=["hfp8"], profile__chunk_length=[8, 64], machine=["edge-8x8"],
            **{"machine.memory.bytes_per_cycle": [2, 8], "recipe.rule": ["axpy"]},
        )
    )  # fmt: skip
    entry = best(result)[0]
    for name, text in entry.files.items():
        (tmp_path / name).write_text(text)
    recipe = get_recipe(next(tmp_path.glob("*.recipe.toml")))
    assert f"train {SMALL} --recipe best/" in entry.command and "--steps 4" in entry.command
    run = Run(Settings(SMALL, recipe=recipe, steps=4, batch=16))
    run.train()
    assert run.evaluate().loss == entry.row["test_loss"]
