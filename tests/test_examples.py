"""The examples run, and the page on them lists each with its first sentence."""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(path for path in (ROOT / "examples").iterdir() if path.suffix in (".py", ".ipynb"))


@functools.cache
def load(name: str) -> Any:
    """An example as a module."""
    (path,) = (ROOT / "examples").glob(f"{name}_*.py")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_examples_are_numbered() -> None:
    numbers = [path.name.split("_")[0] for path in FILES]
    assert numbers == [f"{n:02}" for n in range(1, len(FILES) + 1)]


def test_page_lists_every_example_with_its_first_sentence() -> None:
    page = (ROOT / "docs" / "examples.md").read_text("utf-8")
    listed = dict(re.findall(r"^\| `examples/(\S+?)` \| (.+?) \|$", page, re.M))
    assert set(listed) == {path.name for path in FILES}
    for path in FILES:
        if path.suffix == ".py":
            sentence = (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").split("\n")[0]
            assert listed[path.name] == sentence


@pytest.mark.parametrize(
    ("name", "words"), [("01", "sum SQNR"), ("03", "mine  lowest SQNR"), ("04", "mine on edge-8x8")]
)
def test_example_runs(capsys: Any, monkeypatch: Any, name: str, words: str) -> None:
    monkeypatch.setattr("sys.argv", ["example"])
    load(name).main()
    assert words in capsys.readouterr().out


def test_example_of_onnx_weights(tmp_path: Path, capsys: Any) -> None:
    from tests.interop.test_onnx_weights import save

    load("05").main(str(save(tmp_path / "a.onnx")), str(tmp_path / "b.onnx"), "hfp8-143")
    assert "k: Operand(hfp8-143" in capsys.readouterr().out and (tmp_path / "b.onnx").exists()


def test_example_of_torch_tensors(capsys: Any) -> None:
    pytest.importorskip("torch")
    load("06").main()
    assert capsys.readouterr().out.splitlines() == [
        "(2, 4, 4, 4) True", "Operand(e4m3fn, shape=(2, 8, 6, 6)) True", "uint8 bfloat16",
    ]  # fmt: skip


# -- evolution of a population of learners -----------------------------------------------------------


def evolution(**options: Any) -> tuple[Any, Any]:
    """The example, and an evolution on an exact fitness: a quadratic whose gradient step is noisy and often too long."""
    pytest.importorskip("torch")
    example = load("11")
    scales = np.array([1.0, 3.0, 10.0])

    def fitness(weights: dict[str, np.ndarray]) -> float:
        return float((scales * weights["w"] ** 2).sum())

    def learn(population: list[Any], k: int) -> list[Any]:
        noise = np.random.default_rng(k).normal(size=(len(population), 3))
        weights = [
            {"w": x.weights["w"] - 0.12 * (2 * scales * x.weights["w"] + own)}
            for x, own in zip(population, noise, strict=True)
        ]
        return [example.Individual(w, fitness(w), "sgd") for w in weights]

    return example, example.Evolution(fitness, learn, **options)


def population_of(example: Any, evolution: Any, size: int, seed: int) -> list[Any]:
    starts = np.random.default_rng(seed).normal(size=(size, 3))
    return [example.Individual({"w": w}, evolution.fitness({"w": w})) for w in starts]


def test_exact_fitness_never_degrades() -> None:
    """The mean of the elite, for populations of any size and elite; gradient steps alone degrade it."""
    worse = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        elite = int(rng.integers(1, 6))
        options = {"offspring": int(rng.integers(1, 9)), "elite": elite, "noise": 0.5}
        example, evolved = evolution(**options)
        population = population_of(example, evolved, elite + int(rng.integers(1, 4)), seed)
        for k in range(1, 8):
            learned = evolved.learn(population, k)
            worse += evolved.elite_fitness(learned) > evolved.elite_fitness(population)
            after = evolved.generation(population, k, rng)
            assert len(after) == len(population)
            assert evolved.elite_fitness(after) <= evolved.elite_fitness(population)
            assert all(x.fitness == evolved.fitness(x.weights) for x in after)
            population = after
    assert worse > 100


def test_one_individual_without_noise_is_descent_with_back_off() -> None:
    example, evolved = evolution(offspring=1, parents=1, elite=1, noise=0.0)
    population = population_of(example, evolved, 1, 0)
    for k in range(1, 20):
        (expected,) = population
        (new,) = evolved.learn(population, k)
        if new.fitness <= expected.fitness:
            expected = new
        population = evolved.generation(population, k, np.random.default_rng(k))
        np.testing.assert_array_equal(population[0].weights["w"], expected.weights["w"])


def test_offspring_are_means_with_falling_noise_and_no_noise_in_statistics() -> None:
    example, _ = evolution()
    names = {
        "w": np.zeros(4000),
        "bn.running_var": np.ones(4),
        "bn.num_batches_tracked": np.array(3),
    }
    parents = [
        example.Individual(names, 1.0, "a"),
        example.Individual({**names, "w": names["w"] + 2}, 1.0, "b"),
    ]
    evolved = example.Evolution(lambda weights: 0.0, lambda population, k: population, noise=0.4)
    for k in (1, 4):
        child = evolved._child(parents, k, np.random.default_rng(0))
        assert abs(child.weights["w"].mean() - 1) < 0.05
        assert child.weights["w"].std() == pytest.approx(0.4 / k, rel=0.05)
        assert child.weights["bn.running_var"].tolist() == [1] * 4
        assert child.weights["bn.num_batches_tracked"] == 3
        assert child.species in ("a", "b")


def test_example_of_a_population(tmp_path: Path, capsys: Any) -> None:
    """Two generations on digits: recipes as species, trained by a sweep; fitness never degrades."""
    torch = pytest.importorskip("torch")
    example = load("11")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        digits = example.Digits(tmp_path, steps=2, images=100)
        populations = example.run(digits, individuals=4, generations=2)
        evolved = example.Evolution(digits.fitness, digits.learn)
        means = [evolved.elite_fitness(x) for x in populations]
        assert means == sorted(means, reverse=True) and means[-1] < means[0]
        assert all(x.fitness == digits.fitness(x.weights) for x in populations[-1])
    finally:
        torch.set_num_threads(threads)
    assert capsys.readouterr().out.count("generation") == 2
    assert len([*tmp_path.glob("*.last.pt")]) == 8
